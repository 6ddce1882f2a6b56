//! HTTP meaning without I/O: the HTTP/1.1 codec, dates, field rules, canonical paths, conditions, ranges, media types.
//!
//! Nothing here opens a socket, reads a clock or knows an async runtime: bytes go in, facts come out. Rule ids
//! (`H1` … `H13`) in comments and test names are those of the project's list of what correct means.

pub mod coding;
pub mod conditional;
pub mod date;
pub mod field;
pub mod h1;
pub mod media;
pub mod path;
pub mod range;
pub mod rule;
pub mod template;
pub mod uri;
