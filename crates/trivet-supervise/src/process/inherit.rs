//! Descriptors that the supervisor was started with.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::{Errno, FdFlags};
use trivet_wire::control::CHANNEL_FD;

/// Nothing that we inherited goes on to a child, and the number of the children's channel is never free in this
/// process. To be called once, before anything is opened.
pub fn seal() -> io::Result<()> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(fd) = entry?.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) {
            open.push(fd);
        }
    }
    for fd in open.into_iter().filter(|&fd| fd > 2) {
        // The listing's own descriptor is closed by now.
        match rustix::io::fcntl_setfd(borrow(fd), FdFlags::CLOEXEC) {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if rustix::io::fcntl_getfd(borrow(CHANNEL_FD)) == Err(Errno::BADF) {
        let null: OwnedFd = std::fs::File::open("/dev/null")?.into();
        // It stays open as long as we live, under that number.
        if null.as_raw_fd() == CHANNEL_FD {
            std::mem::forget(null);
        } else {
            std::mem::forget(rustix::io::fcntl_dupfd_cloexec(&null, CHANNEL_FD)?);
        }
    }
    Ok(())
}

/// A copy of an inherited descriptor, of our own.
pub fn take(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(Errno::BADF.into());
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(borrow(fd), CHANNEL_FD + 1)?)
}

fn borrow<'a>(fd: i32) -> BorrowedFd<'a> {
    // SAFETY: used for single system calls only, which answer EBADF where nothing is open; never -1, because the
    // numbers come from the list of open ones, a constant, or were tested by the caller.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// A child's end of its channel; an error where nothing, or no socket, is open there.
pub fn channel() -> io::Result<OwnedFd> {
    rustix::net::sockopt::socket_type(borrow(CHANNEL_FD))?;
    let channel = take(CHANNEL_FD)?;
    // From here on the copy is the only end, so that dropping it closes the channel.
    // SAFETY: the number is open, and nothing in this fresh process owns it.
    drop(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) });
    Ok(channel)
}
