//! `application/x-www-form-urlencoded`, as in queries and simple forms (WHATWG URL §5): pairs of text in, pairs of text out.
//!
//! Text is UTF-8: what is not is an error and never replaced or normalised. A `%` that two hexadecimal digits do not
//! follow stands for itself, as the standard says.

use std::borrow::Cow;

/// How much of a query or form is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub parameters_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { parameters_max: 1000 }
    }
}

/// Why a query or form cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("more than {max} parameters (`parameters_max`)")]
    TooMany { max: usize },
    /// `parameter` counts from 1, in the order sent.
    #[error("parameter {parameter} is not UTF-8")]
    NotUtf8 { parameter: usize },
}

impl QueryError {
    /// The status code of the answer: 413 for a limit, 400 for what is wrong in itself.
    pub const fn status(&self) -> u16 {
        match self {
            Self::TooMany { .. } => 413,
            Self::NotUtf8 { .. } => 400,
        }
    }
}

/// The pairs of a query (without its `?`) or of a form's body, in the order sent; nothing is allocated for names and
/// values without escapes. Ends after the first error.
///
/// Between two `&` a name reaches to the first `=`, `+` is a space, and empty places (`a=1&&b=2`) are no parameters
/// (WHATWG URL §5.1).
#[inline]
pub fn pairs(input: &[u8], limits: Limits) -> Pairs<'_> {
    Pairs { rest: input, parameter: 0, max: limits.parameters_max }
}

/// The iterator behind [`pairs`].
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: &'a [u8],
    /// How many were given out.
    parameter: usize,
    max: usize,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(Cow<'a, str>, Cow<'a, str>), QueryError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let sequence = loop {
            if self.rest.is_empty() {
                return None;
            }
            let (sequence, rest) = match find(b'&', self.rest) {
                Some(at) => (&self.rest[..at], &self.rest[at + 1..]),
                None => (self.rest, &[][..]),
            };
            self.rest = rest;
            if !sequence.is_empty() {
                break sequence;
            }
        };
        if self.parameter == self.max {
            self.rest = &[];
            return Some(Err(QueryError::TooMany { max: self.max }));
        }
        self.parameter += 1;
        let (name, value) = match find(b'=', sequence) {
            Some(at) => (&sequence[..at], &sequence[at + 1..]),
            None => (sequence, &[][..]),
        };
        let pair = decode(name).zip(decode(value));
        if pair.is_none() {
            self.rest = &[];
        }
        Some(pair.ok_or(QueryError::NotUtf8 { parameter: self.parameter }))
    }
}

impl std::iter::FusedIterator for Pairs<'_> {}

/// How far a plain loop looks before `memchr` is called: most names and values end within it, and there the call
/// costs more than it saves.
const NEAR: usize = 16;

#[inline]
fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    let near = &bytes[..bytes.len().min(NEAR)];
    match near.iter().position(|b| *b == byte) {
        None if bytes.len() > NEAR => memchr::memchr(byte, &bytes[NEAR..]).map(|at| NEAR + at),
        found => found,
    }
}

/// One name or value: `+` as space, percent escapes decoded once, bad ones as they stand (WHATWG URL §1.3, §5.1).
/// `None`: it is not UTF-8.
#[inline]
pub fn decode(raw: &[u8]) -> Option<Cow<'_, str>> {
    let first = if raw.len() <= NEAR {
        raw.iter().position(|b| matches!(b, b'%' | b'+'))
    } else {
        memchr::memchr2(b'%', b'+', raw)
    };
    match first {
        None => std::str::from_utf8(raw).ok().map(Cow::Borrowed),
        Some(first) => decode_from(raw, first).map(Cow::Owned),
    }
}

/// The slow way of [`decode`]: the first thing to decode stands at `first`.
fn decode_from(raw: &[u8], first: usize) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    out.extend_from_slice(&raw[..first]);
    let mut at = first;
    while let Some(&byte) = raw.get(at) {
        let escaped = if byte == b'%' { escape(&raw[at + 1..]) } else { None };
        out.push(escaped.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).ok()
}

/// The byte that two hexadecimal digits at the front of `digits` stand for.
#[inline]
pub(crate) fn escape(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    Some(hex(*high)? << 4 | hex(*low)?)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Pairs as a query or form (WHATWG URL §5.2): letters, digits, `*-._` as they are, a space as `+`, the rest escaped.
pub fn encode<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        push(name.as_ref(), &mut out);
        out.push('=');
        push(value.as_ref(), &mut out);
    }
    out
}

fn push(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(byte as char),
            b' ' => out.push('+'),
            _ => push_escaped(byte, out),
        }
    }
}

/// Appends `%XX`, in capitals as RFC 3986 §2.1 wishes.
pub(crate) fn push_escaped(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(DIGITS[usize::from(byte >> 4)] as char);
    out.push(DIGITS[usize::from(byte & 15)] as char);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(input: &[u8]) -> Result<Vec<(String, String)>, QueryError> {
        pairs(input, Limits::default())
            .map(|pair| pair.map(|(name, value)| (name.into_owned(), value.into_owned())))
            .collect()
    }

    fn is(input: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(read(input.as_bytes()), Ok(expected), "{input:?}");
    }

    #[test]
    fn pairs_are_split_as_the_standard_says() {
        is("", &[]);
        is("&&", &[]);
        is("a", &[("a", "")]);
        is("a=", &[("a", "")]);
        is("=a", &[("", "a")]);
        is("=", &[("", "")]);
        is("a=1&b=2", &[("a", "1"), ("b", "2")]);
        is("&a=1&&b=2&", &[("a", "1"), ("b", "2")]);
        is("a=b=c", &[("a", "b=c")]);
        is("a=1&a=2", &[("a", "1"), ("a", "2")]);
        is("a;b=1;2", &[("a;b", "1;2")]);
        is("%26=%3D&%3d=%26", &[("&", "="), ("=", "&")]);
        is(
            "a_name_of_some_length=a+value+of+some+more+length&b=2",
            &[("a_name_of_some_length", "a value of some more length"), ("b", "2")],
        );
    }

    #[test]
    fn escapes_are_decoded_once_and_bad_ones_stand_for_themselves() {
        is("a=%41+%2B%2b%20", &[("a", "A ++ ")]);
        is("a=%2541", &[("a", "%41")]);
        is("a=%", &[("a", "%")]);
        is("a=%4", &[("a", "%4")]);
        is("a=%4g%41", &[("a", "%4gA")]);
        is("a=%%41", &[("a", "%A")]);
        is("a=100%&b=%zz", &[("a", "100%"), ("b", "%zz")]);
        is("a=%00", &[("a", "\0")]);
    }

    #[test]
    fn text_is_utf8_and_never_changed() {
        is("a=%C3%A9", &[("a", "é")]);
        is("a=é", &[("a", "é")]);
        // a byte order mark is text, and two spellings of one letter stay two
        is("%EF%BB%BFa=e%CC%81", &[("\u{feff}a", "e\u{301}")]);
        for bad in ["a=1&b=%C3", "a=1&%FF", "a=1&b=%C3+%A9", "a=1&b=%ED%A0%80", "a=1&b=%C0%80"] {
            assert_eq!(read(bad.as_bytes()), Err(QueryError::NotUtf8 { parameter: 2 }), "{bad:?}");
        }
        assert_eq!(read(b"a=\xff&b"), Err(QueryError::NotUtf8 { parameter: 1 }));
        // raw and escaped bytes may make a letter together
        assert_eq!(read(b"a=\xc3%A9"), Ok(vec![("a".to_owned(), "é".to_owned())]));
    }

    #[test]
    fn nothing_is_allocated_where_nothing_is_escaped() {
        let input = "name=value&é=a_longer_value_than_the_near_loop_looks_at";
        for pair in pairs(input.as_bytes(), Limits::default()) {
            let (name, value) = pair.expect("it is text");
            assert!(matches!(name, Cow::Borrowed(_)) && matches!(value, Cow::Borrowed(_)));
        }
    }

    #[test]
    fn the_limit_is_exact_ends_the_pairs_and_is_named() {
        let limits = Limits { parameters_max: 2 };
        assert_eq!(pairs(b"&a&&b&", limits).flatten().count(), 2);
        let mut three = pairs(b"a&b&c&d", limits);
        assert!(
            three.next().is_some_and(|pair| pair.is_ok()) && three.next().is_some_and(|pair| pair.is_ok())
        );
        let error = three.next().expect("it is told").expect_err("one too many");
        assert_eq!(error.to_string(), "more than 2 parameters (`parameters_max`)");
        assert_eq!(error.status(), 413);
        assert_eq!(three.next(), None);
        let mut bad = pairs(b"%ff&b", limits);
        let error = bad.next().expect("it is told").expect_err("no text");
        assert_eq!((error.to_string().as_str(), error.status()), ("parameter 1 is not UTF-8", 400));
        assert_eq!(bad.next(), None);
    }

    #[test]
    fn pairs_are_written_as_browsers_write_them() {
        assert_eq!(encode([("a b", "1+2=3"), ("é", "~*-._"), ("", "")]), "a+b=1%2B2%3D3&%C3%A9=%7E*-._&=");
        assert_eq!(encode([] as [(&str, &str); 0]), "");
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(pairs in prop::collection::vec((".*", ".*"), 0..6)) {
            let written = encode(pairs.iter().map(|(n, v)| (n, v)));
            prop_assert!(written.is_ascii());
            prop_assert_eq!(read(written.as_bytes()), Ok(pairs));
        }

        #[test]
        fn every_place_between_ampersands_that_is_not_empty_is_a_pair(input in "[a=+%4&1é]{0,80}") {
            let places = input.split('&').filter(|place| !place.is_empty()).count();
            // one letter of more than a byte may be torn by an escape before it, never by the separators
            match read(input.as_bytes()) {
                Ok(pairs) => prop_assert_eq!(pairs.len(), places),
                Err(error) => prop_assert_eq!(error.status(), 400),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&input);
        }
    }
}
