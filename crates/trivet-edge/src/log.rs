//! The edge's own log lines, on the standard error.

use std::fmt::Display;
use std::io::Write;

/// What cannot be written is lost: a full disk must not stop a server.
fn write(level: &str, message: &str, fields: &[(&str, &dyn Display)]) {
    let line = trivet_wire::log::line("edge", level, message, fields);
    let _ = std::io::stderr().write_all(line.as_bytes());
}

pub(crate) fn debug(message: &str, fields: &[(&str, &dyn Display)]) {
    write("debug", message, fields);
}

pub(crate) fn warn(message: &str, fields: &[(&str, &dyn Display)]) {
    write("warn", message, fields);
}

pub(crate) fn error(message: &str, fields: &[(&str, &dyn Display)]) {
    write("error", message, fields);
}
