//! The same frames over a unix stream socket: the portable path, and the oracle that the ring is tested against.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::frame::{FrameHeader, HEADER_BYTES, Malformed};

const READ_BYTES: usize = 64 * 1024;

/// Two connected ends; close-on-exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    Some,
    /// Nothing is there now.
    Empty,
    /// The other side has closed.
    Closed,
}

/// The reading end: bytes in, whole frames out.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// Bytes that were read lie from `start` to `end`; what is behind is only space, zeroed once.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl FrameReader {
    /// Reads once. `wait`: sleeps until something is there.
    pub fn fill(&mut self, socket: BorrowedFd<'_>, wait: bool) -> io::Result<Filled> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + READ_BYTES {
            self.buffer.resize(self.end + READ_BYTES, 0);
        }
        let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        match rustix::net::recv(socket, &mut self.buffer[self.end..], flags).map(|(n, _)| n) {
            Ok(0) | Err(Errno::CONNRESET) => Ok(Filled::Closed),
            Ok(n) => {
                self.end += n;
                Ok(Filled::Some)
            }
            Err(Errno::AGAIN) => Ok(Filled::Empty),
            Err(error) => Err(error.into()),
        }
    }

    /// The next whole frame, without stepping over it.
    pub fn peek(&self) -> Result<Option<(FrameHeader, &[u8])>, Malformed> {
        let rest = &self.buffer[self.start..self.end];
        let Some(header) = rest.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = FrameHeader::parse(header)?;
        Ok(rest.get(HEADER_BYTES..header.len as usize).map(|payload| (header, payload)))
    }

    /// Steps over the frame that [`peek`](Self::peek) showed.
    pub fn next(&mut self, header: FrameHeader) {
        self.start += header.len as usize;
    }
}

/// The writing end: what the socket does not take now is kept.
#[derive(Debug, Default)]
pub struct FrameWriter {
    pending: Vec<u8>,
}

impl FrameWriter {
    pub fn push(&mut self, header: FrameHeader, parts: &[&[u8]]) {
        self.pending.extend_from_slice(&header.to_bytes());
        for part in parts {
            self.pending.extend_from_slice(part);
        }
    }

    pub fn push_whole(&mut self, frame: &[u8]) {
        self.pending.extend_from_slice(frame);
    }

    /// Bytes that the socket has not taken yet.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// `true`: all is sent; `false`: the socket takes no more now. `wait`: sleeps instead.
    pub fn flush(&mut self, socket: BorrowedFd<'_>, wait: bool) -> io::Result<bool> {
        let flags = SendFlags::NOSIGNAL | if wait { SendFlags::empty() } else { SendFlags::DONTWAIT };
        let mut sent = 0;
        let done = loop {
            if sent == self.pending.len() {
                break Ok(true);
            }
            match rustix::net::send(socket, &self.pending[sent..], flags) {
                Ok(n) => sent += n,
                Err(Errno::AGAIN) => break Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => break Err(error.into()),
            }
        };
        self.pending.drain(..sent);
        done
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::frame::Kind;

    #[test]
    fn frames_arrive_whole_however_the_socket_cuts_them() {
        let (a, b) = pair().unwrap();
        let (mut tx, mut rx) = (FrameWriter::default(), FrameReader::default());
        let body: Vec<u8> = (0..250_000u32).map(|n| n as u8).collect();
        let mut got = 0;
        for len in [0usize, 1, 17, 65_536, 250_000] {
            let header = FrameHeader {
                len: (HEADER_BYTES + len) as u32,
                kind: Kind::Data,
                flags: 0,
                ticket: 0,
                generation: 0,
                aux: 0,
            };
            tx.push(header, &[&body[..len]]);
            loop {
                let flushed = tx.flush(a.as_fd(), false).unwrap();
                while rx.fill(b.as_fd(), false).unwrap() == Filled::Some {}
                if flushed {
                    break;
                }
            }
            while let Some((header, payload)) = rx.peek().unwrap() {
                assert_eq!(payload, &body[..len]);
                rx.next(header);
                got += 1;
            }
        }
        assert_eq!(got, 5);
        drop(a);
        assert_eq!(rx.fill(b.as_fd(), true).unwrap(), Filled::Closed);
    }
}
