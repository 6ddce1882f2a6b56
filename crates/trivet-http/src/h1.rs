//! The HTTP/1.1 codec, server side: request heads, chunked bodies, response heads (RFC 9112).

pub mod chunked;
pub mod request;
pub mod response;
mod tokenize;

pub use chunked::{Chunked, Step};
pub use request::{BodyLength, Field, Form, Head, Limits, Name, Parsed, Span, Version};

/// Why a message is refused: the status to answer with and one word for the log.
///
/// After a refusal nothing that follows on the connection can be trusted: answer and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (status {status})")]
pub struct Reject {
    /// The status of the answer: 400, 414, 417, 431, 501 or 505.
    pub status: u16,
    /// One word, `group.detail`, stable enough to count by.
    pub reason: &'static str,
}

impl Reject {
    pub(crate) const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }

    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self::new(400, reason)
    }
}
