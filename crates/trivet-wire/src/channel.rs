//! Channels between the processes: unix sockets of kept message boundaries that carry descriptors too.
//!
//! Rare messages are JSON ([`crate::control`]); the two that go with a request are 8 bytes ([`Notice`]).
//! The end of file of a channel is how each side learns that the other has died.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Serialize, de::DeserializeOwned};

/// No message is longer.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// No message carries more descriptors.
pub const DESCRIPTORS_MAX: usize = 250;

/// One end of a channel.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What came: `bytes` of the message and its descriptors (close-on-exec).
#[derive(Debug, Default)]
pub struct Message {
    pub bytes: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Message {
    pub fn json<T: DeserializeOwned>(&self) -> io::Result<T> {
        serde_json::from_slice(&self.bytes).map_err(io::Error::from)
    }
}

impl Channel {
    /// Two connected ends; close-on-exec, blocking.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Sends one message whole. Blocks only while the other side's buffer is full.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(bytes, fds, SendFlags::NOSIGNAL)
    }

    /// As [`send`](Self::send), but an error of kind `WouldBlock` where it would wait.
    pub fn try_send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(bytes, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_with(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
        }
        loop {
            match rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, flags) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(drop).map_err(io::Error::from),
            }
        }
    }

    pub fn send_json<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send(&serde_json::to_vec(message)?, fds)
    }

    /// The next message. `None`: the other side is gone. Blocks.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        self.receive_with(RecvFlags::empty())
    }

    /// As [`receive`](Self::receive), but an error of kind `WouldBlock` where nothing is there.
    pub fn try_receive(&self) -> io::Result<Option<Message>> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with(&self, flags: RecvFlags) -> io::Result<Option<Message>> {
        // The length first: messages are rare or tiny, and a buffer of the largest size would stay touched.
        let len = loop {
            match rustix::net::recv(&self.0, &mut [0u8; 0][..], flags | RecvFlags::PEEK | RecvFlags::TRUNC) {
                Ok((_, len)) => break len,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        if len > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
        }
        let mut message = Message { bytes: vec![0; len], fds: Vec::new() };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            match rustix::net::recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut message.bytes)],
                &mut ancillary,
                flags | RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                message.fds.extend(fds);
            }
        }
        if got.bytes == 0 && message.fds.is_empty() {
            return Ok(None);
        }
        message.bytes.truncate(got.bytes);
        Ok(Some(message))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A message that goes with a frame and carries one descriptor. It is sent before the frame is published,
/// so a reader of the frame finds it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Edge to worker: from now on, the spool file of this number.
    Spool(u32),
    /// Worker to edge: the file of the next [`crate::frame::Kind::File`] frame of this ticket.
    File(u32),
}

impl Notice {
    pub fn to_bytes(self) -> [u8; 8] {
        let (tag, value) = match self {
            Self::Spool(id) => (b'S', id),
            Self::File(ticket) => (b'F', ticket),
        };
        let v = value.to_le_bytes();
        [tag, 0, 0, 0, v[0], v[1], v[2], v[3]]
    }

    /// `None`: some other message (JSON begins with a brace or a quote).
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let b: &[u8; 8] = bytes.try_into().ok()?;
        let value = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
        match b[0] {
            b'S' => Some(Self::Spool(value)),
            b'F' => Some(Self::File(value)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptor() {
        let (a, b) = Channel::pair().unwrap();
        let (r, w) = rustix::pipe::pipe().unwrap();
        a.send(&Notice::Spool(7).to_bytes(), &[w.as_fd()]).unwrap();
        a.send_json(&"second", &[]).unwrap();
        drop(w);
        let first = b.receive().unwrap().unwrap();
        assert_eq!(Notice::parse(&first.bytes), Some(Notice::Spool(7)));
        rustix::io::write(&first.fds[0], b"x").unwrap();
        assert_eq!(rustix::io::read(&r, &mut [0u8; 4][..]).unwrap(), 1);
        assert_eq!(b.receive().unwrap().unwrap().json::<String>().unwrap(), "second");
        assert_eq!(b.try_receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert!(b.receive().unwrap().is_none());
    }
}
