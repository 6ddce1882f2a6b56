//! Percent-encoding of the parts of a URL (RFC 3986 §2), and which hosts, targets of redirects and `Location`s are safe.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::query::push_escaped;

/// Bits of [`KEPT`]: where a byte stands as it is.
const SEGMENT: u8 = 1;
const PATH: u8 = 2;
const COMPONENT: u8 = 4;
const REFERENCE: u8 = 8;

static KEPT: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            // unreserved, RFC 3986 §2.3
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                SEGMENT | PATH | COMPONENT | REFERENCE
            }
            // pchar, RFC 3986 §3.3
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => {
                SEGMENT | PATH | REFERENCE
            }
            b':' | b'@' => SEGMENT | PATH | COMPONENT | REFERENCE,
            b'/' => PATH | COMPONENT | REFERENCE,
            b'?' | b'#' | b'[' | b']' | b'%' => REFERENCE,
            _ => 0,
        };
        byte += 1;
    }
    table
};

fn encode(text: &str, kept: u8) -> Cow<'_, str> {
    let keeps = |byte: u8| KEPT[usize::from(byte)] & kept != 0;
    let Some(first) = text.bytes().position(|b| !keeps(b)) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for byte in text.as_bytes()[first..].iter().copied() {
        if keeps(byte) {
            out.push(byte as char);
        } else {
            push_escaped(byte, &mut out);
        }
    }
    Cow::Owned(out)
}

/// Text as one segment of a path: `/` is encoded, so it stays one (RFC 3986 §3.3). `.` and `..` stay as they are and
/// mean what they mean: escaping would not help, as a reader must decode them first.
pub fn segment(text: &str) -> Cow<'_, str> {
    encode(text, SEGMENT)
}

/// A decoded path: each segment encoded, the slashes kept (RFC 3986 §3.3).
pub fn path(text: &str) -> Cow<'_, str> {
    encode(text, PATH)
}

/// Text as a name or value in a query (RFC 3986 §3.4): a space is `%20`, which forms and everything else read alike;
/// `/`, `:` and `@` stay.
pub fn query_component(text: &str) -> Cow<'_, str> {
    encode(text, COMPONENT)
}

/// A URL or reference that is encoded already, as far as its writer did: what may not stand in one (spaces, controls,
/// quotes, backslashes, text that is not ASCII) is encoded, the rest and each `%` kept. For fields like `Location`.
pub fn reference(text: &str) -> Cow<'_, str> {
    encode(text, REFERENCE)
}

/// A `Location` within this site: `path`, perhaps with a query, encoded as by [`reference`], and with exactly one slash
/// at its front, because browsers read `//host` and `/\host` as another host (WHATWG URL §4.4).
///
/// For a path that is decoded text give the result of [`path`](fn@path).
pub fn location(path: &str) -> String {
    let path = path.trim_start_matches(['/', '\\']);
    let encoded = reference(path);
    let mut out = String::with_capacity(encoded.len() + 1);
    out.push('/');
    out.push_str(&encoded);
    out
}

/// Whether a redirect to `target`, which may come from a stranger (`?next=`), stays on this site: it begins with one
/// slash that neither a second nor a backslash follows, and has no control characters, which browsers take out
/// before they read (WHATWG URL §4.4). A scheme cannot stand in such a target.
pub fn is_safe_next(target: &str) -> bool {
    let local = match target.as_bytes() {
        [b'/', rest @ ..] => !matches!(rest.first(), Some(b'/' | b'\\')),
        _ => false,
    };
    local && !target.chars().any(char::is_control)
}

/// Whether `host` may be used to build URLs: a name, an IPv4 address or an IPv6 address in brackets, perhaps with a
/// port (RFC 9110 §7.2, RFC 3986 §3.2.2). ASCII only: names in other letters arrive as `xn--`.
///
/// Names have labels of letters, digits, `-` and `_`, 63 bytes each and 253 together (RFC 1035 §2.3.4); one dot at the
/// end is allowed. What ends in a number must be an IPv4 address, as browsers read it (WHATWG URL §3.5).
pub fn valid_host(host: &str) -> bool {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        if address.parse::<Ipv6Addr>().is_err() {
            return false;
        }
        match port.strip_prefix(':') {
            Some(port) => return valid_port(port),
            None => return port.is_empty(),
        }
    } else {
        match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        }
    };
    port.is_none_or(valid_port) && valid_name(name)
}

fn valid_port(port: &str) -> bool {
    port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

fn valid_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(fits) {
        return false;
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_hex = last.get(..2).is_some_and(|x| x.eq_ignore_ascii_case("0x"))
        && last[2..].bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || is_hex;
    !is_number || name.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_part_keeps_what_may_stand_in_it() {
        let all = "aZ09-._~!$&'()*+,;=:@/?#[]% \"<>\\^`{|}\u{7f}é";
        let rest = "%20%22%3C%3E%5C%5E%60%7B%7C%7D%7F%C3%A9";
        assert_eq!(segment(all), format!("aZ09-._~!$&'()*+,;=:@%2F%3F%23%5B%5D%25{rest}"));
        assert_eq!(path(all), format!("aZ09-._~!$&'()*+,;=:@/%3F%23%5B%5D%25{rest}"));
        assert_eq!(
            query_component(all),
            format!("aZ09-._~%21%24%26%27%28%29%2A%2B%2C%3B%3D:@/%3F%23%5B%5D%25{rest}")
        );
        assert_eq!(reference(all), format!("aZ09-._~!$&'()*+,;=:@/?#[]%{rest}"));
        assert_eq!(segment("\0\r\n\t"), "%00%0D%0A%09");
        assert!(matches!(path("/users/42"), Cow::Borrowed("/users/42")));
        assert_eq!(segment(""), "");
    }

    #[test]
    fn a_location_stays_on_this_site() {
        for (path, expected) in [
            ("/a", "/a"),
            ("a", "/a"),
            ("", "/"),
            ("/", "/"),
            ("//evil.example/x", "/evil.example/x"),
            ("///", "/"),
            ("/\\evil.example", "/evil.example"),
            ("\\/\\/evil.example", "/evil.example"),
            ("/\t/evil.example", "/%09/evil.example"),
            ("\t//evil.example", "/%09//evil.example"),
            ("https://evil.example", "/https://evil.example"),
            ("/a b?q=%20\r\nX: y", "/a%20b?q=%20%0D%0AX:%20y"),
            ("/é", "/%C3%A9"),
        ] {
            assert_eq!(location(path), expected, "{path:?}");
        }
    }

    #[test]
    fn only_local_targets_are_safe() {
        for safe in ["/", "/a", "/a/b?next=//x", "/a//b", "/é", "/a#b", "/:80", "/@evil"] {
            assert!(is_safe_next(safe), "{safe:?}");
        }
        for unsafe_ in [
            "",
            "a",
            "//",
            "//evil",
            "///evil",
            "/\\evil",
            "\\evil",
            "\\/evil",
            "/\t/evil",
            "/\n/evil",
            "/a\r\nSet-Cookie: x",
            "/\0",
            "/a\u{7f}",
            "/\u{85}",
            " /a",
            "\t/a",
            "https://evil",
            "javascript:alert(1)",
            "?a",
            "#a",
            ".",
        ] {
            assert!(!is_safe_next(unsafe_), "{unsafe_:?}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        for good in [
            "a",
            "localhost:8000",
            "Example.org",
            "example.org.",
            "example.org.:443",
            "my_service",
            "xn--bcher-kva.example",
            "127.0.0.1",
            "127.0.0.1:0",
            "[::1]",
            "[::1]:65535",
            "[::ffff:127.0.0.1]",
            "1a",
            "0x.org",
            &longest,
        ] {
            assert!(valid_host(good), "{good:?}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            "a b",
            "a/b",
            "a@b",
            "user@a:80",
            "bücher.example",
            "a:",
            "a:+1",
            "a:65536",
            "a:000080",
            "a:80:80",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[fe80::1%25eth0]",
            "[a]",
            "[]",
            "1.2.3",
            "127.1",
            "256.0.0.1",
            "0x7f000001",
            "a.0X1",
            "a.1",
            "a\n",
            "a\0",
            "a,b",
            "a#",
            &"a".repeat(64),
            &format!("{longest}a"),
        ] {
            assert!(!valid_host(bad), "{bad:?}");
        }
    }

    fn decoded(text: &str) -> String {
        // `+` is a space to forms only
        let text = text.replace('+', "%2B");
        crate::query::decode(text.as_bytes()).expect("it was text").into_owned()
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(text in any::<String>()) {
            for encoded in [segment(&text), path(&text), query_component(&text)] {
                prop_assert_eq!(decoded(&encoded), text.as_str());
                prop_assert!(encoded.bytes().all(|b| (0x21..0x7f).contains(&b)));
            }
            prop_assert!(!segment(&text).contains(['/', '?', '#']));
            prop_assert!(!path(&text).contains(['?', '#', '\\']));
            prop_assert!(!query_component(&text).contains(['&', '=', '+', '#', '?', ';', '\'']));
        }

        #[test]
        fn every_location_is_safe(text in "[/\\\\a\t\n:?.é]{0,12}") {
            let location = location(&text);
            prop_assert!(is_safe_next(&location), "{location:?}");
            prop_assert!(location.bytes().all(|b| (0x21..0x7f).contains(&b)));
        }

        #[test]
        fn hosts_need_no_escape(text in "[a-c0-9.:_\\[\\]%é-]{0,12}") {
            if valid_host(&text) {
                prop_assert!(matches!(reference(&text), Cow::Borrowed(_)));
            }
        }
    }
}
