//! Request targets after the codec: where the query begins, and percent decoding (RFC 3986 §2.1; H7).

/// Path and query of an origin-form target, the query without its `?`; `None` when there is no `?` at all.
#[inline]
pub fn split_query(path_and_query: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', path_and_query) {
        Some(at) => (&path_and_query[..at], Some(&path_and_query[at + 1..])),
        None => (path_and_query, None),
    }
}

/// What to do with a `%` that two hexadecimal digits do not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadEscape {
    Refuse,
    /// It stands for itself, as PEP 3333 servers have always had it.
    Keep,
}

/// Why a path cannot be decoded; both are answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EscapeError {
    #[error("percent sign without two hexadecimal digits")]
    Syntax,
    /// Refused always: what is behind a NUL is invisible to much that the path is given to.
    #[error("percent escape of NUL")]
    Nul,
}

/// Appends `raw` to `out`, each percent escape decoded once.
pub fn percent_decode(raw: &[u8], bad: BadEscape, out: &mut Vec<u8>) -> Result<(), EscapeError> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let byte = match rest {
            [_, high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match byte {
            Some(0) => return Err(EscapeError::Nul),
            Some(byte) => {
                out.push(byte);
                rest = &rest[3..];
            }
            None if bad == BadEscape::Refuse => return Err(EscapeError::Syntax),
            None => {
                out.push(b'%');
                rest = &rest[1..];
            }
        }
    }
    out.extend_from_slice(rest);
    Ok(())
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(raw: &[u8], bad: BadEscape) -> Result<Vec<u8>, EscapeError> {
        let mut out = Vec::new();
        percent_decode(raw, bad, &mut out).map(|()| out)
    }

    #[test]
    fn w22_escapes_are_decoded_once_and_slashes_kept() {
        for (raw, plain) in [
            (&b"/a//b"[..], &b"/a//b"[..]),
            (b"/caf%C3%a9", b"/caf\xc3\xa9"),
            (b"/%252e", b"/%2e"),
            (b"/a%2Fb%20", b"/a/b "),
            (b"", b""),
        ] {
            assert_eq!(decode(raw, BadEscape::Refuse).as_deref(), Ok(plain));
        }
    }

    #[test]
    fn h7_bad_escapes_are_refused_or_kept_and_nul_is_always_refused() {
        for raw in [&b"/%"[..], b"/%4", b"/%zz", b"/%4g/", b"/%%41"] {
            assert_eq!(decode(raw, BadEscape::Refuse), Err(EscapeError::Syntax));
        }
        assert_eq!(decode(b"/%zz%41%%41%4", BadEscape::Keep).as_deref(), Ok(&b"/%zzA%A%4"[..]));
        assert_eq!(decode(b"/a%00", BadEscape::Keep), Err(EscapeError::Nul));
        assert_eq!(decode(b"/a%00", BadEscape::Refuse), Err(EscapeError::Nul));
    }

    #[test]
    fn w24_the_query_begins_at_the_first_question_mark() {
        assert_eq!(split_query(b"/a?b?c"), (&b"/a"[..], Some(&b"b?c"[..])));
        assert_eq!(split_query(b"/a?"), (&b"/a"[..], Some(&b""[..])));
        assert_eq!(split_query(b"/a"), (&b"/a"[..], None));
    }
}
