//! HTTP dates (RFC 9110 §5.6.7): IMF-fixdate from unix seconds, the three forms back, and a line kept for a second.

const SECONDS_A_DAY: i64 = 86_400;
const DAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const LONG_DAYS: [&[u8]; 7] =
    [b"Sunday", b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
/// 9999-12-31T23:59:59Z: years have four digits.
const LATEST: u64 = 253_402_300_799;

/// `seconds` since 1970 as `Sun, 06 Nov 1994 08:49:37 GMT`. Beyond the year 9999 it stays at its last second.
pub fn format(seconds: u64) -> [u8; 29] {
    let seconds = seconds.min(LATEST) as i64;
    let (days, second) = (seconds / SECONDS_A_DAY, seconds % SECONDS_A_DAY);
    let (year, month, day) = civil_from_days(days);
    let mut out = *b"Sun, 06 Nov 1994 08:49:37 GMT";
    out[0..3].copy_from_slice(DAYS[weekday(days)]);
    two_digits(&mut out[5..7], day);
    out[8..11].copy_from_slice(MONTHS[month as usize - 1]);
    two_digits(&mut out[12..14], year / 100);
    two_digits(&mut out[14..16], year % 100);
    two_digits(&mut out[17..19], second / 3600);
    two_digits(&mut out[20..22], second / 60 % 60);
    two_digits(&mut out[23..25], second % 60);
    out
}

fn two_digits(out: &mut [u8], value: i64) {
    out[0] = b'0' + (value / 10) as u8;
    out[1] = b'0' + (value % 10) as u8;
}

/// Seconds since 1970 (negative before) of a date in one of the three forms that RFC 9110 §5.6.7 wants read:
/// IMF-fixdate, RFC 850 and asctime. `None` for anything else, a wrong day of the month or a wrong weekday.
///
/// `now` gives the two-digit year of RFC 850 its century: more than 50 years ahead means the past.
pub fn parse(value: &[u8], now: u64) -> Option<i64> {
    let mut text = Text(value);
    let name = text.letters();
    if text.literal(b", ").is_some() {
        let day = text.digits(2)?;
        if let Some(weekday) = DAYS.iter().position(|n| n[..] == *name) {
            text.literal(b" ")?;
            let month = text.month()?;
            text.literal(b" ")?;
            let year = text.digits(4)?;
            text.literal(b" ")?;
            let second = text.time()?;
            text.literal(b" GMT")?;
            return text.end(year, month, day, second, weekday);
        }
        let weekday = LONG_DAYS.iter().position(|n| *n == name)?;
        text.literal(b"-")?;
        let month = text.month()?;
        text.literal(b"-")?;
        let short_year = text.digits(2)?;
        text.literal(b" ")?;
        let second = text.time()?;
        text.literal(b" GMT")?;
        return text.end(whole_year(short_year, now), month, day, second, weekday);
    }
    // asctime: `Sun Nov  6 08:49:37 1994`
    let weekday = DAYS.iter().position(|n| n[..] == *name)?;
    text.literal(b" ")?;
    let month = text.month()?;
    text.literal(b" ")?;
    let day = if text.literal(b" ").is_some() { text.digits(1)? } else { text.digits(2)? };
    text.literal(b" ")?;
    let second = text.time()?;
    text.literal(b" ")?;
    let year = text.digits(4)?;
    text.end(year, month, day, second, weekday)
}

/// The latest year with these two last digits that is at most 50 years ahead.
fn whole_year(short_year: i64, now: u64) -> i64 {
    let (this_year, _, _) = civil_from_days(now.min(LATEST) as i64 / SECONDS_A_DAY);
    let latest = this_year + 50;
    latest - (latest - short_year).rem_euclid(100)
}

/// What is left to read of a date.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(())
    }

    fn letters(&mut self) -> &'a [u8] {
        let length = self.0.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(self.0.len());
        self.take(length).unwrap_or_default()
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        self.take(count)?
            .iter()
            .try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
    }

    fn month(&mut self) -> Option<i64> {
        let name = self.take(3)?;
        MONTHS.iter().position(|n| n[..] == *name).map(|index| index as i64 + 1)
    }

    /// `08:49:37` as the second of the day; 60 for a leap second is read as the next minute's first.
    fn time(&mut self) -> Option<i64> {
        let hour = self.digits(2)?;
        self.literal(b":")?;
        let minute = self.digits(2)?;
        self.literal(b":")?;
        let second = self.digits(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
    }

    fn end(&self, year: i64, month: i64, day: i64, second: i64, weekday_sent: usize) -> Option<i64> {
        let days = days_from_civil(year, month, day);
        let exists = civil_from_days(days) == (year, month, day);
        (self.0.is_empty() && exists && weekday(days) == weekday_sent)
            .then_some(days * SECONDS_A_DAY + second)
    }
}

/// 0 is Sunday; day 0, the first of January 1970, was a Thursday.
fn weekday(days: i64) -> usize {
    (days + 4).rem_euclid(7) as usize
}

/// Days since 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the day which comes
/// and goes is the last; 400 years are 146,097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    // 719,468 days lie between 0000-03-01 and 1970-01-01
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`]: year, month from 1, day from 1.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + i64::from(month >= 10);
    (year, (month + 2) % 12 + 1, day)
}

/// The current date as a field value, formatted once a second.
#[derive(Clone, Debug)]
pub struct Clock {
    seconds: u64,
    line: [u8; 29],
}

impl Default for Clock {
    fn default() -> Self {
        Self { seconds: 0, line: format(0) }
    }
}

impl Clock {
    /// The date at `seconds` since 1970; the caller has read the clock.
    #[inline]
    pub fn at(&mut self, seconds: u64) -> &[u8; 29] {
        if seconds != self.seconds {
            self.seconds = seconds;
            self.line = format(seconds);
        }
        &self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: i64 = 784_111_777;
    const NOW: u64 = 1_700_000_000;

    #[test]
    fn the_three_forms_of_rfc_9110_mean_the_same_second() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse(text.as_bytes(), NOW), Some(EXAMPLE), "{text}");
        }
        assert_eq!(&format(EXAMPLE as u64), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse(b"Wed Nov 16 08:49:37 1994", NOW), Some(EXAMPLE + 10 * SECONDS_A_DAY));
    }

    #[test]
    fn every_day_of_400_years_comes_back() {
        let mut previous = i64::MIN;
        for day in 0..146_097i64 {
            let second = day * SECONDS_A_DAY + day % SECONDS_A_DAY;
            let text = format(second as u64);
            assert_eq!(parse(&text, NOW), Some(second), "{}", String::from_utf8_lossy(&text));
            assert!(second > previous);
            previous = second;
        }
        assert_eq!(&format(u64::MAX), b"Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(parse(b"Wed, 31 Dec 1969 23:59:59 GMT", NOW), Some(-1));
    }

    #[test]
    fn a_two_digit_year_is_at_most_fifty_years_ahead() {
        // NOW lies in 2023
        assert_eq!(parse(b"Sunday, 01-Jan-73 00:00:00 GMT", NOW), Some(3_250_454_400));
        assert_eq!(parse(b"Tuesday, 01-Jan-74 00:00:00 GMT", NOW), Some(126_230_400));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "Sun",
            "Sun,",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sun Nov 06 08:49:37 1994 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(parse(text.as_bytes(), NOW), None, "{text:?}");
        }
    }

    #[test]
    fn the_clock_follows_in_both_directions() {
        let mut clock = Clock::default();
        assert_eq!(clock.at(0), &format(0));
        assert_eq!(clock.at(NOW), &format(NOW));
        assert_eq!(clock.at(NOW), &format(NOW));
        assert_eq!(clock.at(NOW - 5), &format(NOW - 5));
    }
}
