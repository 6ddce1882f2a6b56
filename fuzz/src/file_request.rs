//! What a request for a file says: its path has one form, its ranges lie within the file and never make an answer
//! larger than it, its conditions and codings are judged whatever they look like.

use trivet_http::coding::{Accepted, Coding};
use trivet_http::conditional::{Conditions, Validators};
use trivet_http::range::{self, RANGES_MAX, Ranges};
use trivet_http::{media, path};

use crate::outcome;

/// Starting points: two bytes for the file's size, then by lines: path, Range, If-Match, If-None-Match, dates,
/// If-Range, Accept-Encoding.
pub const SEEDS: &[&[u8]] = &[
    b"\x01\x00/static/%73ite.css\nbytes=0-9\n\n\"abc\"\nSun, 06 Nov 1994 08:49:37 GMT\n\"abc\"\nbr, gzip;q=0.5",
    b"\x00\x10/a//./b/../c/\nbytes=0-1,4-5,-3\n*\nW/\"abc\", \"x\"\n\nSun, 06 Nov 1994 08:49:37 GMT\n*;q=0.1",
    b"\x00\x00/..%2f\nbytes=-0\n\n\n\n\n",
];

/// Pieces of syntax for the mutating driver.
pub const WORDS: &[&[u8]] = &[
    b"/",
    b"//",
    b".",
    b"..",
    b"%2e",
    b"%2F",
    b"%5c",
    b"%00",
    b"%C3%A9",
    b"%",
    b"\\",
    b"\xff",
    b"bytes=",
    b"-",
    b",",
    b"0-0",
    b"5-",
    b"-5",
    b"18446744073709551615",
    b"99999999999999999999",
    b"\"",
    b"W/",
    b"\"abc\"",
    b"*",
    b"\n",
    b"gzip",
    b"br",
    b"zstd",
    b";q=",
    b"0.001",
    b"1.000",
    b" ",
    b"\t",
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sunday, 06-Nov-94 08:49:37 GMT",
    b"Sun Nov  6 08:49:37 1994",
    b"a.55e7cbb9ba48.css",
];

fn one_form(raw: &[u8]) -> Option<String> {
    let mut text = String::new();
    let canonical = path::canonical(raw, &mut text).is_ok().then_some(text);
    if let Some(text) = &canonical {
        assert!(text.starts_with('/') && !text.contains("//") && !text.contains(['\\', '\0']));
        assert!(text.split('/').all(|s| s != "." && s != ".."), "a dot segment is left");
        let mut encoded = Vec::new();
        path::encode(text, &mut encoded);
        assert!(encoded.iter().all(u8::is_ascii_graphic), "this goes into a field");
        let mut again = String::new();
        path::canonical(&encoded, &mut again).expect("what was written is read");
        assert_eq!(again, *text);
        let _ = (media::of(text), media::is_hashed(text));
    }
    if path::is_canonical(raw) {
        assert_eq!(canonical.as_deref().map(str::as_bytes), Some(raw), "a path that needs no work");
    }
    canonical
}

fn within(ranges: &Ranges, size: u64) {
    let parts = match ranges {
        Ranges::One(start, length) => vec![(*start, *length)],
        Ranges::Several(parts) => parts.clone(),
        Ranges::Whole | Ranges::Unsatisfiable => return,
    };
    assert!(parts.len() <= RANGES_MAX);
    assert!(
        parts
            .iter()
            .all(|(start, length)| *length > 0 && start.checked_add(*length).is_some_and(|end| end <= size))
    );
    assert!(parts.iter().map(|(_, length)| length).sum::<u64>() <= size, "more than the whole");
}

pub fn run(data: &[u8]) -> u64 {
    let [high, low, rest @ ..] = data else { return 0 };
    let size = u64::from(*high) << 8 | u64::from(*low);
    let mut lines = rest.split(|b| *b == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let canonical = one_form(line());
    let ranges = range::parse(line(), size);
    within(&ranges, size);
    let (if_match, if_none_match, date, if_range) = (line(), line(), line(), line());
    let list = |value| if <[u8]>::is_empty(value) { Vec::new() } else { vec![value] };
    let some = |value| (!<[u8]>::is_empty(value)).then_some(value);
    let verdict = Conditions {
        if_match: list(if_match),
        if_none_match: list(if_none_match),
        if_modified_since: some(date),
        if_unmodified_since: some(date),
        if_range: some(if_range),
    }
    .judge(Validators { etag: b"\"abc\"", modified: 784_111_777 }, 1_700_000_000);
    let mut accepted = Accepted::default();
    accepted.add(line());
    let coding = accepted.best(|c| c != Coding::Zstd);
    assert_ne!(coding, Some(Coding::Zstd), "it is not there");
    let kind = match &ranges {
        Ranges::Whole => 0,
        Ranges::One(..) => 1,
        Ranges::Several(parts) => 1 + parts.len(),
        Ranges::Unsatisfiable => 100,
    };
    outcome((canonical.map(|c| c.len().min(4)), kind, verdict as u8, coding.map(|c| c as u8)))
}
