//! The HTTP/1.1 codec from outside: what it makes of streams, and its rules.

mod cases;
mod rules;
mod stream;
