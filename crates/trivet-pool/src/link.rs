//! The edge's end of one worker: the ring, or the socket that carries the same frames.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use trivet_wire::channel::Channel;
use trivet_wire::control::{Attach, Transport};
use trivet_wire::frame::{FRAME_BYTES_MAX, FrameHeader, Malformed};
use trivet_wire::ring::Broken;
use trivet_wire::segment::{Bell, Layout, Receiver, RingError, Segment, Sender};
use trivet_wire::stream::{self, Filled, FrameReader, FrameWriter};

/// Bytes of the request and of the response ring. Small enough to stay in a core's cache.
const RING_BYTES: u32 = 512 * 1024;
/// On the socket path the kernel's buffer is the ring; what it does not take is bounded by this.
const SOCKET_PENDING_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("the worker's socket failed")]
    Socket(#[from] io::Error),
}

impl From<Broken> for LinkError {
    fn from(e: Broken) -> Self {
        Self::Ring(e.into())
    }
}

impl From<Malformed> for LinkError {
    fn from(e: Malformed) -> Self {
        Self::Ring(e.into())
    }
}

/// Carries frames to and from one worker.
#[derive(Debug)]
pub enum Link {
    Ring { tx: Sender, rx: Receiver, segment: Arc<Segment>, theirs: Bell, ours: Bell },
    Socket { socket: OwnedFd, reader: FrameReader, writer: FrameWriter, closed: bool },
}

impl Link {
    /// Makes the means of transport and passes them to the worker over `channel`. Where shared memory is refused,
    /// the socket is taken; [`transport`](Self::transport) tells.
    pub fn attach(channel: &Channel, wanted: Transport, generation: u32, tickets: u16) -> io::Result<Self> {
        let layout = Layout { tickets, request_bytes: RING_BYTES, response_bytes: RING_BYTES };
        let mut attach = Attach {
            version: trivet_wire::VERSION,
            transport: wanted,
            generation,
            tickets,
            request_bytes: layout.request_bytes,
            response_bytes: layout.response_bytes,
        };
        if wanted == Transport::Ring {
            if let Ok((segment, memory)) = Segment::create(layout) {
                let (theirs, ours) = (Bell::new()?, Bell::new()?);
                channel.send_json(&attach, &[memory.as_fd(), theirs.as_fd(), ours.as_fd()])?;
                let (tx, rx) = segment.edge_ends();
                return Ok(Self::Ring { tx, rx, segment, theirs, ours });
            }
            attach.transport = Transport::Socket;
        }
        let (socket, other) = stream::pair()?;
        channel.send_json(&attach, &[other.as_fd()])?;
        Ok(Self::Socket {
            socket,
            reader: FrameReader::default(),
            writer: FrameWriter::default(),
            closed: false,
        })
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Ring { .. } => Transport::Ring,
            Self::Socket { .. } => Transport::Socket,
        }
    }

    /// What to watch for reading (edge-triggered): our bell, or the socket (for writing too).
    pub fn watched(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ring { ours, .. } => ours.as_fd(),
            Self::Socket { socket, .. } => socket.as_fd(),
        }
    }

    /// Puts a frame in line; [`flush`](Self::flush) sends it. `false`: no space now.
    pub fn push(&mut self, header: FrameHeader, parts: &[&[u8]]) -> Result<bool, LinkError> {
        match self {
            Self::Ring { tx, .. } => Ok(tx.push(header, parts)?),
            Self::Socket { writer, .. } => {
                let space = writer.pending_bytes() < SOCKET_PENDING_BYTES_MAX;
                if space {
                    writer.push(header, parts);
                }
                Ok(space)
            }
        }
    }

    /// As [`push`](Self::push), for a frame that begins with its header.
    #[inline]
    pub fn push_whole(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        debug_assert!(frame.len() <= FRAME_BYTES_MAX, "the edge bounds what it puts into a request");
        match self {
            Self::Ring { tx, .. } => Ok(tx.push_whole(frame)?),
            Self::Socket { writer, .. } => {
                let space = writer.pending_bytes() < SOCKET_PENDING_BYTES_MAX;
                if space {
                    writer.push_whole(frame);
                }
                Ok(space)
            }
        }
    }

    /// Shows the worker what was pushed, waking it if it sleeps.
    #[inline]
    pub fn flush(&mut self) -> Result<(), LinkError> {
        match self {
            Self::Ring { tx, theirs, .. } => {
                if tx.dirty() && tx.publish() {
                    theirs.ring();
                }
                Ok(())
            }
            Self::Socket { socket, writer, closed, .. } => {
                if writer.pending_bytes() > 0 && !*closed {
                    match writer.flush(socket.as_fd(), false) {
                        Ok(_) => {}
                        Err(e)
                            if matches!(
                                e.kind(),
                                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                            ) =>
                        {
                            *closed = true;
                        }
                        Err(e) => return Err(e.into()),
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether a frame of `len` bytes finds space; if not, we are woken when it may.
    pub fn fits(&mut self, len: usize) -> Result<bool, LinkError> {
        match self {
            Self::Ring { tx, .. } => Ok(tx.fits(len)? || tx.starve(len)?),
            Self::Socket { writer, .. } => Ok(writer.pending_bytes() < SOCKET_PENDING_BYTES_MAX),
        }
    }

    /// Asks to be woken when the worker has made space.
    pub fn starve(&mut self, len: usize) -> Result<(), LinkError> {
        if let Self::Ring { tx, .. } = self {
            tx.starve(len)?;
        }
        Ok(())
    }

    /// Looks for what the socket holds; the ring needs no such step.
    pub fn fill(&mut self) -> Result<(), LinkError> {
        if let Self::Socket { socket, reader, closed, .. } = self {
            loop {
                match reader.fill(socket.as_fd(), false)? {
                    Filled::Some => {}
                    Filled::Empty => break,
                    Filled::Closed => {
                        *closed = true;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The next frame in place; see [`Receiver::peek`] for what may be done with the payload.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<(FrameHeader, &[u8])>, LinkError> {
        match self {
            Self::Ring { rx, .. } => Ok(rx.peek()?),
            Self::Socket { reader, .. } => Ok(reader.peek()?),
        }
    }

    #[inline]
    pub fn next(&mut self, header: FrameHeader) {
        match self {
            Self::Ring { rx, .. } => rx.next(header),
            Self::Socket { reader, .. } => reader.next(header),
        }
    }

    /// Gives the space of what was read back.
    #[inline]
    pub fn release(&mut self) {
        if let Self::Ring { rx, theirs, .. } = self
            && rx.release()
        {
            theirs.ring();
        }
    }

    /// Before the edge sleeps. `false`: something has come, look again.
    #[inline]
    pub fn arm(&mut self) -> Result<bool, LinkError> {
        match self {
            Self::Ring { rx, .. } => Ok(rx.arm()?),
            Self::Socket { reader, .. } => Ok(reader.peek()?.is_none()),
        }
    }

    #[inline]
    pub fn disarm(&self) {
        if let Self::Ring { rx, .. } = self {
            rx.disarm();
        }
    }

    /// Whether the worker sleeps (a hint).
    #[inline]
    pub fn asleep(&self) -> bool {
        match self {
            Self::Ring { tx, .. } => tx.reader_asleep(),
            Self::Socket { .. } => false,
        }
    }
}
