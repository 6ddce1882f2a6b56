//! The canonical form of a request's path: the one that routes, access rules and files are looked up by.
//!
//! Split on raw `/`, each segment decoded once, dot segments resolved (RFC 3986 §5.2.4), empty segments merged.
//! Whatever would let two spellings mean different things to two readers is refused.

use crate::uri::{self, BadEscape, EscapeError};

/// Why a path has no canonical form; where a file or a rule depends on it, it is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error(transparent)]
    Escape(#[from] EscapeError),
    /// `%2F`, `%5C` or a backslash: a separator to some and a letter to others.
    #[error("an encoded slash or a backslash")]
    Separator,
    #[error("not UTF-8")]
    Encoding,
}

/// Whether a raw path is canonical as it stands, which nearly all are.
#[inline]
pub fn is_canonical(raw: &[u8]) -> bool {
    let mut before = b'/';
    for (at, &byte) in raw.iter().enumerate() {
        match byte {
            0 | b'%' | b'\\' | 0x80.. => return false,
            b'/' | b'.' if before == b'/' && at > 0 => return false,
            b'/' if at == 0 => {}
            _ if at == 0 => return false,
            _ => {}
        }
        before = byte;
    }
    !raw.is_empty()
}

/// Appends the canonical form of `raw` (a path without its query) to `out`. It begins with `/`, and ends with `/`
/// where `raw` names a folder: by a slash or a dot segment at its end.
pub fn canonical(raw: &[u8], out: &mut String) -> Result<(), BadPath> {
    let base = out.len();
    let mut bytes = std::mem::take(out).into_bytes();
    let result = resolve(raw, &mut bytes, base);
    if result.is_err() {
        bytes.truncate(base);
    }
    match String::from_utf8(bytes) {
        Ok(text) => {
            *out = text;
            result
        }
        Err(e) => {
            // What stood there before was text.
            let mut bytes = e.into_bytes();
            bytes.truncate(base);
            *out = String::from_utf8(bytes).unwrap_or_default();
            Err(BadPath::Encoding)
        }
    }
}

/// Whether some reader may find a dot segment in a raw path, by whatever separators.
pub fn is_dotted(raw: &[u8]) -> bool {
    if memchr::memchr2(b'.', b'%', raw).is_none() {
        return false;
    }
    let mut decoded = Vec::new();
    let _ = uri::percent_decode(raw, BadEscape::Keep, &mut decoded);
    decoded.split(|b| matches!(b, b'/' | b'\\')).any(|part| matches!(part, b"." | b".."))
}

/// A form of a path that has no canonical one, to tell which rules it could be meant for: what is no text is replaced,
/// a bad escape stands for itself, and encoded slashes and backslashes are slashes, or letters like others.
pub fn loose(raw: &[u8], slashes: bool) -> String {
    const LETTER: u8 = 0x1a;
    let separates = |b: &u8| matches!(b, b'/' | b'\\');
    let mut path: Vec<Vec<u8>> = Vec::new();
    let mut folder = true;
    for raw_segment in raw.split(|b| *b == b'/') {
        let mut decoded = Vec::new();
        // A NUL ends it here; it is refused elsewhere, and always.
        let _ = uri::percent_decode(raw_segment, BadEscape::Keep, &mut decoded);
        if !slashes {
            decoded.iter_mut().filter(|b| separates(b)).for_each(|b| *b = LETTER);
        }
        for segment in decoded.split(separates) {
            folder = matches!(segment, b"" | b"." | b"..");
            if segment == b".." {
                path.pop();
            } else if !folder {
                path.push(segment.to_vec());
            }
        }
    }
    if folder {
        path.push(Vec::new());
    }
    path.iter().fold(String::new(), |text, segment| text + "/" + &String::from_utf8_lossy(segment))
}

fn resolve(raw: &[u8], out: &mut Vec<u8>, base: usize) -> Result<(), BadPath> {
    let mut folder = true;
    for raw_segment in raw.split(|b| *b == b'/') {
        let start = out.len();
        out.push(b'/');
        uri::percent_decode(raw_segment, BadEscape::Refuse, out)?;
        let segment = &out[start + 1..];
        if segment.contains(&0) {
            return Err(BadPath::Escape(EscapeError::Nul));
        }
        if segment.iter().any(|b| matches!(b, b'/' | b'\\')) {
            return Err(BadPath::Separator);
        }
        folder = matches!(segment, b"" | b"." | b"..");
        if segment == b".." {
            out.truncate(start);
            let parent = out[base..].iter().rposition(|b| *b == b'/').unwrap_or(0);
            out.truncate(base + parent);
        } else if folder {
            out.truncate(start);
        }
    }
    if folder {
        out.push(b'/');
    }
    Ok(())
}

/// Appends `path` with every byte encoded that may not stand in a path, for use in a `Location`.
pub fn encode(path: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in path.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(raw: &[u8]) -> Result<String, BadPath> {
        let mut out = String::from("x");
        canonical(raw, &mut out)?;
        Ok(out.split_off(1))
    }

    #[test]
    fn spellings_of_one_path_have_one_form() {
        for (raw, path) in [
            ("/", "/"),
            ("", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("//a///b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61%20b", "/a b"),
            ("/caf%C3%A9", "/café"),
            ("/caf\u{e9}", "/café"),
            ("/a;b=c", "/a;b=c"),
            ("/a/..;/b", "/a/..;/b"),
            ("/%2561", "/%61"),
            ("/...", "/..."),
        ] {
            assert_eq!(of(raw.as_bytes()).as_deref(), Ok(path), "{raw}");
        }
    }

    #[test]
    fn what_two_readers_may_read_differently_is_refused() {
        for (raw, why) in [
            (&b"/a%2Fb"[..], BadPath::Separator),
            (b"/a%5cb", BadPath::Separator),
            (b"/a\\b", BadPath::Separator),
            (b"/a%00", BadPath::Escape(EscapeError::Nul)),
            (b"/a%zz", BadPath::Escape(EscapeError::Syntax)),
            (b"/a%", BadPath::Escape(EscapeError::Syntax)),
            (b"/%ff", BadPath::Encoding),
            (b"/%c0%ae%c0%ae/", BadPath::Encoding),
        ] {
            assert_eq!(of(raw), Err(why), "{}", raw.escape_ascii());
        }
        let mut kept = "kept".to_owned();
        assert!(canonical(b"/%ff", &mut kept).is_err());
        assert_eq!(kept, "kept", "nothing half done stays");
    }

    #[test]
    fn dot_segments_are_found_by_all_separators() {
        for raw in ["/a/../b", "/.", "/a%2f..%2fb", "/a%5C%2e%2E%5cb", "/a\\.", "/%2e/x"] {
            assert!(is_dotted(raw.as_bytes()), "{raw}");
        }
        for raw in ["/a/b", "/a..b/.c", "/...", "/a%2fb", "/..;/x"] {
            assert!(!is_dotted(raw.as_bytes()), "{raw}");
        }
    }

    #[test]
    fn a_path_without_a_canonical_form_has_a_loose_one() {
        for (raw, letters, slashes) in [
            ("/a%2Fb", "/a\u{1a}b", "/a/b"),
            ("/static/..%2fadmin", "/static/..\u{1a}admin", "/admin"),
            ("/a\\..\\b/", "/a\u{1a}..\u{1a}b/", "/b/"),
            ("/%zz/./%61", "/%zz/a", "/%zz/a"),
            ("/%ff", "/\u{fffd}", "/\u{fffd}"),
            ("/x/..", "/", "/"),
        ] {
            assert_eq!(
                (loose(raw.as_bytes(), false), loose(raw.as_bytes(), true)),
                (letters.to_owned(), slashes.to_owned()),
                "{raw}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_canonical_path_is_its_own_loose_form(raw in "[/.%a2eEfF5cC;é]{0,24}") {
            if let Ok(path) = of(raw.as_bytes()) {
                prop_assert_eq!(loose(raw.as_bytes(), false), path.clone());
                prop_assert_eq!(loose(raw.as_bytes(), true), path);
            }
        }

        #[test]
        fn a_canonical_path_is_its_own_form_and_has_no_dots(raw in "[/.%a2eEfF5cC;\\\\é]{0,24}") {
            if let Ok(path) = of(raw.as_bytes()) {
                prop_assert!(path.starts_with('/') && !path.contains("//"));
                prop_assert!(path.split('/').all(|s| s != "." && s != ".."));
                let mut encoded = Vec::new();
                encode(&path, &mut encoded);
                prop_assert_eq!(of(&encoded), Ok(path));
            }
            if is_canonical(raw.as_bytes()) {
                prop_assert_eq!(of(raw.as_bytes()), Ok(raw));
            }
        }
    }
}
