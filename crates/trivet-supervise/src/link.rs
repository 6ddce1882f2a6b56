//! The supervisor's end of a child's channel: it never waits for the child.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use trivet_wire::channel::{Channel, Message};

/// A child that leaves so many messages unread does not live any more.
const WAITING_MAX: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Link {
    channel: Channel,
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

impl Link {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel, waiting: VecDeque::new() }
    }

    /// Sends it now or as soon as the child reads. An error: the child is dead or as good as that.
    pub(crate) fn send<T: Serialize>(&mut self, message: &T, fds: Vec<OwnedFd>) -> io::Result<()> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.waiting.push_back((serde_json::to_vec(message)?, fds));
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some((bytes, fds)) = self.waiting.front() {
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match self.channel.try_send(bytes, &borrowed) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next message that is there; `Ok(None)`: none now. An error: closed or unreadable.
    pub(crate) fn receive(&self) -> io::Result<Option<Message>> {
        match self.channel.try_receive() {
            Ok(Some(message)) => Ok(Some(message)),
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_does_not_read_holds_nobody_up() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut link = Link::new(ours);
        let text = "x".repeat(10_000);
        for _ in 0..WAITING_MAX {
            link.send(&text, vec![]).unwrap();
        }
        assert!(link.is_waiting());
        let mut read = 0;
        while read < WAITING_MAX {
            assert_eq!(theirs.receive().unwrap().unwrap().json::<String>().unwrap(), text);
            read += 1;
            link.flush().unwrap();
        }
        assert!(!link.is_waiting());
        drop(theirs);
        assert!(link.send(&text, vec![]).is_err());
        assert_eq!(link.receive().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
