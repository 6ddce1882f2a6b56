//! The parent: holds the sockets; starts, watches and replaces the other processes; parses no byte of the network.
//!
//! `machine` decides, `service` does. Only `process` calls the system without a safe wrapper.

pub mod access_logs;
mod crew;
pub mod identity;
mod link;
pub mod listen;
pub mod log;
pub mod machine;
mod notify;
pub mod pidfile;
pub mod process;
pub mod service;
pub mod status;

/// The system's words for an error, without its number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
