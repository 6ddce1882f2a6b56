//! Layer 1: everything that touches the network.

mod access_log;
mod address;
mod answer;
mod client_certificate;
mod compress;
pub mod config;
mod configure;
mod connection;
mod cors;
mod destination;
mod edge;
mod ending;
mod exchange;
mod files;
mod http2;
mod internal;
mod listen;
mod log;
mod log_writer;
mod net;
mod pipeline;
mod pools;
mod receive;
mod request_id;
mod route;
mod spool;
mod squeeze;
mod static_files;
mod syslog;
mod table;
mod tickets;
pub mod tls;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use trivet_wire::channel::Channel;

/// Serves until the supervisor says so or is gone. `channel`: the supervisor's.
pub fn run(channel: OwnedFd) -> ExitCode {
    match edge::serve(Channel::from_fd(channel)) {
        Ok(code) => code,
        Err(error) => {
            log::error("the edge cannot go on", &[("error", &error)]);
            ExitCode::from(70)
        }
    }
}
