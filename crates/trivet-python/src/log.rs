//! Our own lines on the standard error, in the form that all processes share.

use std::io::Write as _;

use trivet_wire::log::{now_ms, timestamp};

/// `2026-01-31T08:09:10.123Z level worker[pid] message`; one write, so that lines of several processes never mix.
pub(crate) fn line(level: &str, message: &str) {
    let text = format!("{} {level} worker[{}] {message}\n", timestamp(now_ms()), std::process::id());
    // Nobody is left to tell when the standard error fails.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What stands before the message.
pub(crate) fn prefix(level: &str) -> String {
    format!("{} {level} worker[{}]", timestamp(now_ms()), std::process::id())
}
