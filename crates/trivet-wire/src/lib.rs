//! The contract between the processes: frames, the shared-memory ring, channels, control messages.
//!
//! `frame` and `ring` know neither I/O nor clocks. `segment` is the only code that maps shared memory;
//! `channel` is the only code that passes descriptors.

#[cfg(not(loom))]
pub mod channel;
#[cfg(not(loom))]
pub mod control;
pub mod frame;
#[cfg(not(loom))]
pub mod log;
pub mod ring;
#[cfg(not(loom))]
pub mod segment;
#[cfg(not(loom))]
pub mod stream;

/// Changes with every change of frames, segment layout or channel messages; both sides compare it.
pub const VERSION: u32 = 1;

/// What an edge and a worker compare at the handshake: a binary and an extension of different builds never talk.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "/wire-", "1");

/// Nanoseconds of the system's monotonic clock, the one clock that edge and worker share.
#[cfg(not(loom))]
pub fn monotonic_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
