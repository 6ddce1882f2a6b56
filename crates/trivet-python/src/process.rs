//! What this worker process has once: its channel to the supervisor, its links to the edge, its end.
#![allow(unsafe_code, reason = "signal handlers, fork handlers and descriptor 3 are C's")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::event::EventfdFlags;
use rustix::pipe::PipeFlags;
use trivet_wire::channel::Channel;
use trivet_wire::control::{CHANNEL_FD, ToWorker, WorkerStart};

use crate::link::Links;

/// Added to [`Process::wake`] by the signal that says that the supervisor is dead.
const ORPHANED: u64 = 1 << 32;

/// Added to [`Process::attention`] when the supervisor says `Quit`.
pub(crate) const QUIT: u64 = 1 << 32;

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) start: WorkerStart,
    pub(crate) supervisor: Channel,
    pub(crate) links: Links,
    /// Wakes the watcher: an eventfd, so that a signal handler may write to it.
    pub(crate) wake: OwnedFd,
    /// An eventfd for a main thread that runs no slot: [`QUIT`] when no request will come any more, less when one
    /// of Python's signals waits.
    pub(crate) attention: OwnedFd,
    /// Python's own signal handler writes a byte here (`signal.set_wakeup_fd`); the watcher reads.
    pub(crate) signals: (OwnedFd, OwnedFd),
}

static PROCESS: OnceLock<Process> = OnceLock::new();
static FORKED: AtomicBool = AtomicBool::new(false);
static WAKE_FD: AtomicI32 = AtomicI32::new(-1);
/// What a forked child of the app must not keep open: else our death would not be seen on these descriptors.
static PRIVATE_FDS: [AtomicI32; 8] = [const { AtomicI32::new(-1) }; 8];

/// The process after [`init`].
pub(crate) fn get() -> &'static Process {
    PROCESS.get().expect("the process is set up before anything is served")
}

/// Whether this is a child that the app forked, in which nothing of ours works.
#[inline]
pub(crate) fn forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Takes descriptor 3, waits for `Start` and installs the handlers. Once.
pub(crate) fn init() -> io::Result<&'static Process> {
    if PROCESS.get().is_some() {
        return Err(io::Error::other("the worker has been started already"));
    }
    // SAFETY: only asked what it is; a number that is not open is an error of the call.
    let kind = rustix::net::sockopt::socket_type(unsafe { BorrowedFd::borrow_raw(CHANNEL_FD) });
    if kind != Ok(rustix::net::SocketType::SEQPACKET) {
        return Err(io::Error::other("descriptor 3 is no channel to a supervisor"));
    }
    // SAFETY: `boot.py` is started with its channel at this number and leaves it to us.
    let supervisor = Channel::from_fd(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) });
    rustix::io::fcntl_setfd(&supervisor, rustix::io::FdFlags::CLOEXEC)?;
    let message =
        supervisor.receive()?.ok_or_else(|| io::Error::other("the supervisor went away before the start"))?;
    let ToWorker::Start(start) = message.json()? else {
        return Err(io::Error::other("the supervisor's first message is not `Start`"));
    };
    let eventfd = || rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let (wake, attention) = (eventfd()?, eventfd()?);
    let signals = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    WAKE_FD.store(wake.as_raw_fd(), Ordering::Release);
    keep_from_children(CHANNEL_FD);
    let links = Links::new(start.threads);
    let process = PROCESS.get_or_init(|| Process { start, supervisor, links, wake, attention, signals });
    install_handlers()?;
    Ok(process)
}

/// Closed in a child that the app forks, until [`forget`] is called with it.
pub(crate) fn keep_from_children(fd: RawFd) {
    for slot in &PRIVATE_FDS {
        if slot.compare_exchange(-1, fd, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// Before `fd` is closed.
pub(crate) fn forget(fd: RawFd) {
    for slot in &PRIVATE_FDS {
        let _ = slot.compare_exchange(fd, -1, Ordering::AcqRel, Ordering::Relaxed);
    }
}

extern "C" fn in_forked_child() {
    FORKED.store(true, Ordering::Relaxed);
    for slot in &PRIVATE_FDS {
        let fd = slot.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            // SAFETY: close is async-signal-safe; the child uses none of these again, every way to them asks
            // `forked` first, and it ends by `_exit` where it would return to us.
            unsafe { libc::close(fd) };
        }
    }
}

extern "C" fn on_orphaned(_signal: libc::c_int) {
    let value = ORPHANED.to_ne_bytes();
    // SAFETY: write is async-signal-safe; the descriptor is an eventfd that lives as long as the process.
    unsafe { libc::write(WAKE_FD.load(Ordering::Acquire), value.as_ptr().cast(), value.len()) };
}

fn install_handlers() -> io::Result<()> {
    // SAFETY: the handler lives for ever and does only what is allowed after a fork.
    if unsafe { libc::pthread_atfork(None, None, Some(in_forked_child)) } != 0 {
        return Err(io::Error::other("no fork handler could be installed"));
    }
    // SAFETY: a zeroed sigaction is valid; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_orphaned as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        if libc::sigaction(libc::SIGRTMAX() - 1, &raw const action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Whether what was read from [`Process::wake`] says that the supervisor is dead.
pub(crate) fn orphaned(wake: u64) -> bool {
    wake >= ORPHANED
}

/// Leaves a forked child that came back from the app into our loop.
pub(crate) fn leave_forked_child() -> ! {
    // SAFETY: `_exit` does not return and runs nothing of the parent's.
    unsafe { libc::_exit(0) }
}

/// What the edge sent cannot be believed: a new worker must begin anew with it, and waits for nobody here.
pub(crate) fn give_up() -> ! {
    // SAFETY: `_exit` does not return; the app's threads may be anywhere, so nothing else is run.
    unsafe { libc::_exit(70) }
}

/// The supervisor is gone: this process, everything it started and its process group die now.
pub(crate) fn die() -> ! {
    let me = std::process::id() as i32;
    // SAFETY: plain system calls on process numbers.
    unsafe {
        // Children whose parent dies here come to us instead of leaving the tree.
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        for _ in 0..50 {
            let found = descendants(me);
            if found.is_empty() {
                break;
            }
            for pid in found {
                libc::kill(pid, libc::SIGKILL);
            }
            // Reaps what came to us, so that the next look does not find it again.
            while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {}
        }
        if libc::getpgrp() == me {
            libc::kill(-me, libc::SIGKILL);
        }
        libc::kill(me, libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}

/// All living processes below `root`, by one look at `/proc`.
fn descendants(root: i32) -> Vec<i32> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    let all: Vec<(i32, i32)> = folder
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            // The name in parentheses may hold anything; state and parent follow the last one.
            let after = &stat[stat.iter().rposition(|&b| b == b')')? + 1..];
            let mut words = std::str::from_utf8(after).ok()?.split_ascii_whitespace();
            let state = words.next()?;
            let parent: i32 = words.next()?.parse().ok()?;
            (state != "Z").then_some((pid, parent))
        })
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}
