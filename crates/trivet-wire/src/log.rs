//! One form of a log line for all processes: `time level process[pid] message key=value …`.

use std::fmt::{Display, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 as `YYYY-mm-ddTHH:MM:SS.mmmZ`.
pub fn timestamp(since_epoch_ms: u64) -> String {
    let (seconds, ms) = (since_epoch_ms / 1000, since_epoch_ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date, by eras of 400 years that begin in March.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Milliseconds since 1970, now.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Appends ` key=value`; a value that needs it is quoted, and control characters never reach the log as such.
pub fn push_field(line: &mut String, key: &str, value: &dyn Display) {
    let value = value.to_string();
    let plain =
        !value.is_empty() && !value.contains(|c: char| c.is_control() || matches!(c, ' ' | '"' | '='));
    let _ = if plain { write!(line, " {key}={value}") } else { write!(line, " {key}={value:?}") };
}

/// One line, with its end.
pub fn line(process: &str, level: &str, message: &str, fields: &[(&str, &dyn Display)]) -> String {
    let mut line = format!("{} {level} {process}[{}] {message}", timestamp(now_ms()), std::process::id());
    for (key, value) in fields {
        push_field(&mut line, key, *value);
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_know_leap_years() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(timestamp(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_value_cannot_forge_a_line() {
        let text = line("edge", "info", "hello", &[("a", &1), ("b", &"x y\nz"), ("c", &"")]);
        assert!(text.ends_with("hello a=1 b=\"x y\\nz\" c=\"\"\n"), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
    }
}
