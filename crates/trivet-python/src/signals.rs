//! The signal mask of a thread of ours.
#![allow(unsafe_code, reason = "signal masks are C's")]

use std::io;

/// Blocks every signal for this thread (and those it starts) and gives the mask that was.
pub(crate) fn block_all() -> io::Result<libc::sigset_t> {
    // SAFETY: both sets are plain memory that the calls fill.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) {
            0 => Ok(before),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

pub(crate) fn restore(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the mask came from `block_all`.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
