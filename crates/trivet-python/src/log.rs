//! Our own lines on the standard error, in the form that all processes share.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-01-31T08:09:10.123Z level worker[pid] message`; one write, so that lines of several processes never mix.
pub(crate) fn line(level: &str, message: &str) {
    let text = format!("{} {level} worker[{}] {message}\n", timestamp(), std::process::id());
    // Nobody is left to tell when the standard error fails.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What stands before the message.
pub(crate) fn prefix(level: &str) -> String {
    format!("{} {level} worker[{}]", timestamp(), std::process::id())
}

fn timestamp() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let mut out = String::with_capacity(24);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    );
    out
}

/// The date of a day counted from 1970-01-01, in years that begin with March so that leap days come last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}
