//! The host side of the application server: one queue for each app, and the edge's ends of its workers.
//!
//! [`Pool`] decides which request goes to which worker and when; [`Link`] carries frames. Neither knows HTTP.

mod link;
mod pool;
mod service;
#[cfg(test)]
mod simulation;

pub use link::{Link, LinkError};
pub use pool::{
    Entry, Incoming, Limits, Lost, Outgoing, Pool, Requests, Spool, Submitted, Turn, Verdict, Worker,
};
pub use service::ServiceTimes;

/// Names a request of the edge.
pub type Key = u32;
