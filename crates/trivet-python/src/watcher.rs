//! The native thread that listens to the supervisor and to the edge's channel, whatever Python is doing.
//!
//! It never touches Python: it must work while a C extension keeps Python's lock, since it is what ends this
//! process, and all that the app has started, when the supervisor dies.

use std::io;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use trivet_wire::channel::Channel;
use trivet_wire::control::ToWorker;

use crate::link::Attachment;
use crate::process::{self, Process};
use crate::{log, signals};

const STACK_BYTES: usize = 256 * 1024;

/// Starts the thread, which never ends.
pub(crate) fn spawn(process: &'static Process) -> io::Result<()> {
    // The app's signals are for Python's threads.
    let masked = signals::block_all()?;
    let spawned = std::thread::Builder::new()
        .name("trivet-watcher".into())
        .stack_size(STACK_BYTES)
        .spawn(move || watch(process));
    signals::restore(&masked)?;
    spawned.map(drop)
}

fn watch(process: &'static Process) -> ! {
    let mut edge: Option<Arc<Attachment>> = None;
    // A channel to an edge that has not said `Attach` yet.
    let mut candidate: Option<Channel> = None;
    loop {
        let (mut supervisor_spoke, mut woken, mut signalled) = (false, false, false);
        let (mut edge_spoke, mut candidate_spoke) = (false, false);
        {
            let mut fds = vec![
                PollFd::new(&process.supervisor, PollFlags::IN),
                PollFd::new(&process.wake, PollFlags::IN),
                PollFd::new(&process.signals.0, PollFlags::IN),
            ];
            let edge_at = edge.as_ref().map(|edge| {
                fds.push(PollFd::new(edge.channel(), PollFlags::IN));
                fds.len() - 1
            });
            let candidate_at = candidate.as_ref().map(|channel| {
                fds.push(PollFd::new(channel, PollFlags::IN));
                fds.len() - 1
            });
            if rustix::event::poll(&mut fds, None).is_ok() {
                let spoke = |at: usize| !fds[at].revents().is_empty();
                supervisor_spoke = spoke(0);
                woken = spoke(1);
                signalled = spoke(2);
                edge_spoke = edge_at.is_some_and(spoke);
                candidate_spoke = candidate_at.is_some_and(spoke);
            }
        }
        if woken {
            let mut value = [0; 8];
            let _ = rustix::io::read(&process.wake, &mut value[..]);
            if process::orphaned(u64::from_ne_bytes(value)) {
                process::die();
            }
        }
        if signalled {
            // A signal that came just before the main thread fell asleep has interrupted nothing: wake it.
            while rustix::io::read(&process.signals.0, &mut [0; 64][..]).is_ok_and(|n| n > 0) {}
            let _ = rustix::io::write(&process.attention, &1u64.to_ne_bytes());
            process.links.signalled();
        }
        if supervisor_spoke {
            match process.supervisor.try_receive() {
                Ok(Some(mut message)) => match message.json() {
                    Ok(ToWorker::Edge { .. }) => {
                        candidate = message.fds.pop().map(Channel::from_fd);
                    }
                    Ok(ToWorker::Quit) => {
                        let _ = rustix::io::write(&process.attention, &process::QUIT.to_ne_bytes());
                        process.links.quit();
                    }
                    Ok(ToWorker::Start(_)) | Err(_) => {
                        log::line("error", "a message of the supervisor cannot be read");
                    }
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Ok(None) | Err(_) => process::die(),
            }
        }
        if edge_spoke && let Some(attachment) = edge.take_if(|edge| !edge.drain_channel()) {
            process.links.detach(attachment.serial());
        }
        if candidate_spoke && let Some(channel) = candidate.take() {
            match channel.try_receive() {
                Ok(Some(message)) => match process.links.attach(channel, message) {
                    Ok(attachment) => edge = Some(attachment),
                    Err(e) => log::line("error", &format!("the edge could not be taken on error=\"{e}\"")),
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => candidate = Some(channel),
                Ok(None) | Err(_) => {}
            }
        }
    }
}
