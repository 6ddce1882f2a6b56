//! What must hold for any input, one module for each decoder, and a driver for machines without a nightly compiler.
//!
//! A harness takes bytes, panics when something does not hold, and gives a number for what happened: the driver on
//! stable keeps inputs that made something new happen, as libFuzzer on nightly keeps those that reach new code.

pub mod chunked;
pub mod cookie;
pub mod file_request;
pub mod frame;
pub mod h1_head;
pub mod multipart;
pub mod mutate;
pub mod query;
pub mod router;
pub mod token;

/// A number for an outcome, from whatever describes it.
pub fn outcome(of: impl std::hash::Hash) -> u64 {
    use std::hash::Hasher;
    // `DefaultHasher::new` has fixed keys: the same outcome has the same number in every run
    let mut hasher = std::hash::DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
