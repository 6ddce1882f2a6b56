//! One client's connection: its socket, what was read ahead, what waits to be sent.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use trivet_http::h1::Chunked;

use crate::client_certificate::Shown;
use crate::http2::{Session, Stream};
use crate::tls::Tls;

/// What the connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between requests, or in the middle of a head.
    Head,
    /// Reading a request body that is taken whole before the app gets it.
    Body,
    /// The app has the request (or will have); a streamed body may still be coming.
    App,
    /// The answer is complete; what is left of it waits for the client.
    Flush,
    /// The answer is complete, the rest of the request is read and thrown away.
    Drain,
    /// Closed for writing; what still comes is thrown away so that the answer is not lost to a reset.
    Linger,
    /// It speaks HTTP/2: its streams have phases, itself has none.
    Frames,
}

/// The rest of a request body.
#[derive(Debug)]
pub(crate) enum BodyRest {
    None,
    Length(u64),
    Chunked(Box<Chunked>),
    /// Of unknown length, as DATA frames. When the last one is in hand it becomes a `Length`.
    Data,
}

impl BodyRest {
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// A file that is being sent.
#[derive(Debug)]
pub(crate) struct FileOut {
    pub(crate) file: Rc<OwnedFd>,
    pub(crate) offset: u64,
    pub(crate) left: u64,
    /// What follows it (the end of a chunk).
    pub(crate) after: &'static [u8],
}

/// An address as text, without allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressText {
    bytes: [u8; 46],
    len: u8,
}

impl AddressText {
    pub(crate) fn of(ip: Option<IpAddr>) -> Self {
        let mut text = Self { bytes: [0; 46], len: 0 };
        if let Some(ip) = ip {
            let mut rest = &mut text.bytes[..];
            let _ = std::io::Write::write_fmt(&mut rest, format_args!("{}", ip.to_canonical()));
            text.len = 46 - rest.len() as u8;
        }
        text
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    /// `None` for a stream of HTTP/2.
    pub(crate) socket: Option<OwnedFd>,
    /// What it is instead, if it is one.
    pub(crate) stream: Option<Box<Stream>>,
    /// The connection speaks HTTP/2.
    pub(crate) session: Option<Box<Session>>,
    pub(crate) listener: usize,
    /// `None` on unix sockets.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) ip_text: AddressText,
    pub(crate) port: u16,
    /// Where the client reached us, where the listener's own address does not tell.
    pub(crate) local: Option<(AddressText, u16)>,
    pub(crate) trusted: bool,
    pub(crate) tls: Option<Box<Tls>>,
    /// Where the site that was asked for has a rule on certificates of clients.
    pub(crate) shown: Option<Rc<Shown>>,

    pub(crate) phase: Phase,
    /// Read but not yet used: a partial head, or what was sent ahead of its turn.
    pub(crate) input: Vec<u8>,
    pub(crate) resume: usize,
    pub(crate) body: BodyRest,
    /// Bytes of the body read so far, and at the begin of the current rate window.
    pub(crate) body_bytes: u64,
    pub(crate) body_bytes_then: u64,
    pub(crate) exchange: Option<u32>,
    /// One that is complete but for what is still to be sent of it.
    pub(crate) leaving: Option<u32>,

    pub(crate) output: Vec<u8>,
    pub(crate) output_at: usize,
    pub(crate) file: Option<FileOut>,
    /// The socket took no more; it will say when it does.
    pub(crate) blocked: bool,
    /// In the list of those to be flushed at the end of the turn.
    pub(crate) corked: bool,

    /// Something may be there to read that has not been read (edge-triggered).
    pub(crate) readable: bool,
    /// It has had its share of this turn for reading, for sending; it goes on in the next.
    pub(crate) unread: bool,
    /// In the list of those whose body found no space in a ring.
    pub(crate) stuffed: bool,
    pub(crate) yielded: bool,
    /// The client has closed its sending side.
    pub(crate) peer_closed: bool,
    /// No further request after this one.
    pub(crate) close: bool,
    /// The next write is the last one, and the connection is closed behind it: both go in one segment.
    pub(crate) last: bool,
    pub(crate) registered: bool,
    pub(crate) served: bool,

    /// When the client's time is up; looked at about once a second. `u64::MAX`: never.
    pub(crate) deadline_ms: u64,
}

impl Connection {
    /// Whether it ends with this answer and nothing of what the client sent is unread: a plain close loses nothing.
    pub(crate) fn close_is_plain(&self) -> bool {
        self.close && self.body.is_none() && self.input.is_empty() && !self.readable
    }

    /// Whether the socket has nothing to read at this moment, whatever was last heard of it. A close with something
    /// unread is a reset, which takes along what has not been sent.
    pub(crate) fn nothing_came(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut byte = [0];
        matches!(rustix::net::recv(socket, &mut byte[..], RecvFlags::PEEK), Err(Errno::AGAIN))
    }

    pub(crate) fn new(socket: OwnedFd, listener: usize, ip: Option<IpAddr>, port: u16) -> Self {
        Self {
            socket: Some(socket),
            ip_text: AddressText::of(ip),
            ..Self::without_socket(listener, ip, port)
        }
    }

    fn without_socket(listener: usize, ip: Option<IpAddr>, port: u16) -> Self {
        Self {
            socket: None,
            stream: None,
            session: None,
            listener,
            ip,
            ip_text: AddressText::of(None),
            port,
            local: None,
            trusted: false,
            tls: None,
            shown: None,
            phase: Phase::Head,
            input: Vec::new(),
            resume: 0,
            body: BodyRest::None,
            body_bytes: 0,
            body_bytes_then: 0,
            exchange: None,
            leaving: None,
            output: Vec::new(),
            output_at: 0,
            file: None,
            blocked: false,
            corked: false,
            readable: false,
            unread: false,
            stuffed: false,
            yielded: false,
            peer_closed: false,
            close: false,
            last: false,
            registered: false,
            served: false,
            deadline_ms: u64::MAX,
        }
    }

    /// A stream of `parent`: from the same client, by the same listener.
    pub(crate) fn of_stream(parent: &Self, stream: Box<Stream>) -> Self {
        Self {
            socket: None,
            stream: Some(stream),
            ip_text: parent.ip_text,
            local: parent.local,
            trusted: parent.trusted,
            shown: parent.shown.clone(),
            registered: true,
            ..Self::without_socket(parent.listener, parent.ip, parent.port)
        }
    }

    /// What is said to it and by it is encrypted on its way.
    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some() || self.stream.as_ref().is_some_and(|s| s.secure)
    }

    /// Bytes that wait for the client.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.output.len() - self.output_at
    }

    /// What is left to be sent, as well as it is known (of what is encrypted, with the encryption's own).
    pub(crate) fn unsent_bytes(&self) -> u64 {
        let kept = self.stream.as_ref().map_or(0, |s| s.kept_bytes());
        (self.pending_bytes() + kept) as u64 + self.file.as_ref().map_or(0, |f| f.left)
    }

    pub(crate) fn has_output(&self) -> bool {
        self.pending_bytes() > 0 || self.file.is_some() || self.stream.as_ref().is_some_and(|s| s.has_kept())
    }
}
