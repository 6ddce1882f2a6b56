//! `Range` (RFC 9110 §14.2) against a representation of known size.

/// More ranges than this in one request is nobody's honest wish: the field is ignored.
pub const RANGES_MAX: usize = 16;

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// All of it: there is no range, none that can be understood, or more than anybody needs.
    Whole,
    /// 206 with this part: where it begins, how long it is.
    One(u64, u64),
    /// 206 as `multipart/byteranges`, in the order asked for. None overlap.
    Several(Vec<(u64, u64)>),
    /// 416.
    Unsatisfiable,
}

/// Reads a `Range` field for a representation of `size` bytes.
///
/// Ranges that overlap, or more than [`RANGES_MAX`] of them, ask for more than there is: §14.2 lets a server ignore
/// them, and so the answer is never larger than the whole.
pub fn parse(value: &[u8], size: u64) -> Ranges {
    let Some((unit, set)) = value.split_at_checked(6) else { return Ranges::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Ranges::Whole;
    }
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut specs = 0;
    for spec in crate::field::list(set) {
        specs += 1;
        let Some(range) = one(spec, size) else { return Ranges::Whole };
        if specs > RANGES_MAX {
            return Ranges::Whole;
        }
        if let Some((start, length)) = range {
            if found.iter().any(|&(s, l)| start < s + l && s < start + length) {
                return Ranges::Whole;
            }
            found.push((start, length));
        }
    }
    match found.as_slice() {
        _ if specs == 0 => Ranges::Whole,
        [] => Ranges::Unsatisfiable,
        &[(start, length)] => Ranges::One(start, length),
        _ => Ranges::Several(found),
    }
}

/// One `first-last`, `first-` or `-suffix`. Outer `None`: not a range; inner `None`: beyond the end.
#[allow(clippy::option_option, reason = "two kinds of nothing, told apart here only")]
fn one(spec: &[u8], size: u64) -> Option<Option<(u64, u64)>> {
    let dash = memchr::memchr(b'-', spec)?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        let suffix = number(last)?.min(size);
        return Some((suffix > 0).then(|| (size - suffix, suffix)));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some((first < size).then(|| (first, last.min(size - 1) - first + 1)))
}

/// Digits only; what is too large for a number is as good as the largest.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_there_is() {
        for (value, ranges) in [
            ("bytes=0-0", Ranges::One(0, 1)),
            ("bytes=0-99", Ranges::One(0, 10)),
            ("bytes=5-", Ranges::One(5, 5)),
            ("bytes=-3", Ranges::One(7, 3)),
            ("bytes=-99", Ranges::One(0, 10)),
            ("BYTES=2-3", Ranges::One(2, 2)),
            ("bytes= 0-1 , ,4-5", Ranges::Several(vec![(0, 2), (4, 2)])),
            ("bytes=8-9,0-1", Ranges::Several(vec![(8, 2), (0, 2)])),
            ("bytes=0-1,99-", Ranges::One(0, 2)),
            ("bytes=10-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
            ("bytes=99999999999999999999-", Ranges::Unsatisfiable),
            ("bytes=9-99999999999999999999", Ranges::One(9, 1)),
        ] {
            assert_eq!(parse(value.as_bytes(), 10), ranges, "{value}");
        }
        assert_eq!(parse(b"bytes=0-", 0), Ranges::Unsatisfiable);
        assert_eq!(parse(b"bytes=-5", 0), Ranges::Unsatisfiable);
    }

    #[test]
    fn what_is_no_range_or_too_many_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "lines=0-1",
            "bytes=a-b",
            "bytes=3-2",
            "bytes=1",
            "bytes=+1-2",
            "bytes=0-1-2",
        ] {
            assert_eq!(parse(value.as_bytes(), 10), Ranges::Whole, "{value}");
        }
        assert_eq!(parse(b"bytes=0-5,3-9", 10), Ranges::Whole, "overlapping");
        assert_eq!(parse(b"bytes=0-,0-,0-", 10), Ranges::Whole);
        let many = (0..17).map(|n| format!("{}-{}", n * 10, n * 10)).collect::<Vec<_>>().join(",");
        assert_eq!(parse(format!("bytes={many}").as_bytes(), 1000), Ranges::Whole);
    }
}
