//! A real worker process with a real Python, against a supervisor and an edge that are played.
#![allow(clippy::unwrap_used, reason = "a helper that fails is the test that fails")]

mod cost;
mod harness;
mod import;
mod life;
mod requests;
mod responses;
