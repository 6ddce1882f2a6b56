//! A real worker process with a real Python, against a supervisor and an edge that are played.

mod harness;
mod import;
mod life;
mod requests;
mod responses;
