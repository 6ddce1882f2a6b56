//! Cookies (RFC 6265bis): the pairs of a `Cookie` field, and `Set-Cookie` with everything checked that browsers check.

use std::borrow::Cow;
use std::fmt::Write;

use trivet_http::{date, field};

use crate::quote;

/// Name and value together, beyond which browsers drop a cookie (RFC 6265bis §5.7).
pub const PAIR_BYTES_MAX: usize = 4096;
/// An attribute's value, beyond which browsers ignore it (RFC 6265bis §5.6).
pub const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// The pairs of a `Cookie` field's value, or of several joined by `; ` (RFC 9113 §8.2.3), in the order sent.
///
/// Browsers send the cookie with the longest path first, so of equal names the first is the one meant. Values in
/// quotes are given without them, their backslash escapes undone (`\073`, `\"`: what `http.cookies` and Werkzeug
/// write). A pair is left out when it has no name, no `=` or is not UTF-8: a neighbour's application on the same domain may
/// have set it, and it must not lock a visitor out of this one.
#[inline]
pub fn pairs(header: &[u8]) -> Pairs<'_> {
    Pairs { rest: Some(header) }
}

/// The value of the first cookie of this name.
pub fn find<'a>(header: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    pairs(header).find_map(|(n, value)| (n == name).then_some(value))
}

/// The iterator behind [`pairs`].
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, Cow<'a, str>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while let Some(rest) = self.rest {
            let (pair, rest) = match memchr::memchr(b';', rest) {
                Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                None => (rest, None),
            };
            self.rest = rest;
            let Some(equals) = pair.iter().position(|b| *b == b'=') else { continue };
            let name = std::str::from_utf8(field::trim(&pair[..equals])).unwrap_or_default();
            if name.is_empty() {
                continue;
            }
            if let Some(value) = unquote(field::trim(&pair[equals + 1..])) {
                return Some((name, value));
            }
        }
        None
    }
}

impl std::iter::FusedIterator for Pairs<'_> {}

/// A value without its quotes and escapes; `None` if it is not UTF-8.
fn unquote(raw: &[u8]) -> Option<Cow<'_, str>> {
    let [b'"', inner @ .., b'"'] = raw else {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    };
    if !inner.contains(&b'\\') {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    loop {
        rest = match rest {
            [b'\\', high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', rest @ ..] => {
                out.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                rest
            }
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
            [] => break,
        };
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// `cookie-octet` of RFC 6265bis §4.1.1: visible ASCII without `"`, `,`, `;` and `\`.
const fn is_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

/// Any text as a value that may stand in a cookie: as it is where it may, else in quotes with octal escapes, as
/// `http.cookies` and Werkzeug write it and [`pairs`] reads it.
pub fn quoted(text: &str) -> Cow<'_, str> {
    if text.bytes().all(is_octet) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    out.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', byte as char]),
            // a space may not stand in a value by the grammar, but every browser takes it within quotes
            b' ' => out.push(' '),
            byte if is_octet(byte) => out.push(byte as char),
            _ => write!(out, "\\{byte:03o}").expect("a string takes everything"),
        }
    }
    out.push('"');
    Cow::Owned(out)
}

/// When a cookie is sent with requests that other sites cause (RFC 6265bis §4.1.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

impl SameSite {
    /// As it stands in the field.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }

    /// By its name, letters in any case.
    pub fn of(token: &str) -> Option<Self> {
        [Self::Strict, Self::Lax, Self::None].into_iter().find(|s| s.token().eq_ignore_ascii_case(token))
    }
}

/// A cookie to be set: fill in what it needs and ask for its [`header`](SetCookie::header).
///
/// ```
/// use trivet_web::cookie::{SameSite, SetCookie};
/// let cookie = SetCookie {
///     path: Some("/"),
///     secure: true,
///     same_site: Some(SameSite::Lax),
///     ..SetCookie::new("id", "42")
/// };
/// assert_eq!(cookie.header().unwrap(), "id=42; Path=/; Secure; SameSite=Lax");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie<'a> {
    pub name: &'a str,
    /// Written as it is, so of cookie octets only, perhaps in quotes: see [`quoted`] for other text.
    pub value: &'a str,
    pub path: Option<&'a str>,
    /// A host name; a dot in front is dropped, as browsers do.
    pub domain: Option<&'a str>,
    /// Seconds; zero or less removes the cookie.
    pub max_age: Option<i64>,
    /// Seconds since 1970.
    pub expires: Option<u64>,
    pub secure: bool,
    pub http_only: bool,
    pub same_site: Option<SameSite>,
    pub partitioned: bool,
}

/// Why a cookie cannot be set; browsers would drop it or read something else, and mostly say nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    #[error(
        "cookie name `{0}` is not a token\nhint: letters, digits and !#$%&'*+-.^_`|~ may stand in a name"
    )]
    Name(String),
    #[error(
        "value of cookie `{name}` contains {found:?}\nhint: spaces, quotes, commas, semicolons, backslashes and \
         non-ASCII text must be encoded"
    )]
    Value { name: String, found: char },
    #[error(
        "path of cookie `{name}` is `{path}`\nhint: it begins with `/` and has no `;` or control characters"
    )]
    Path { name: String, path: String },
    #[error("domain of cookie `{name}` is `{domain}`\nhint: a host name without port, in ASCII")]
    Domain { name: String, domain: String },
    #[error("cookie `{name}` must be `Secure`: {because}")]
    NotSecure { name: String, because: &'static str },
    #[error("cookie `{name}` must be `HttpOnly`: its prefix promises it")]
    NotHttpOnly { name: String },
    #[error("cookie `{name}` must have the path `/` and no domain: `__Host-` promises it")]
    NotHost { name: String },
    #[error("cookie `{name}` has {bytes} bytes of name and value, browsers take {PAIR_BYTES_MAX}")]
    TooLong { name: String, bytes: usize },
}

impl<'a> SetCookie<'a> {
    /// A cookie for the browser's session, without attributes.
    pub const fn new(name: &'a str, value: &'a str) -> Self {
        Self {
            name,
            value,
            path: None,
            domain: None,
            max_age: None,
            expires: None,
            secure: false,
            http_only: false,
            same_site: None,
            partitioned: false,
        }
    }

    /// The value of a `Set-Cookie` field (RFC 6265bis §4.1).
    pub fn header(&self) -> Result<String, CookieError> {
        self.check()?;
        let mut out = String::with_capacity(self.name.len() + self.value.len() + 96);
        out.extend([self.name, "=", self.value]);
        if let Some(path) = self.path {
            out.extend(["; Path=", path]);
        }
        if let Some(domain) = self.domain {
            out.extend(["; Domain=", domain.strip_prefix('.').unwrap_or(domain)]);
        }
        if let Some(seconds) = self.max_age {
            out.extend(["; Max-Age=", itoa::Buffer::new().format(seconds)]);
        }
        if let Some(seconds) = self.expires {
            let date = date::format(seconds);
            out.extend(["; Expires=", std::str::from_utf8(&date).expect("a date is ASCII")]);
        }
        if self.secure {
            out.push_str("; Secure");
        }
        if self.http_only {
            out.push_str("; HttpOnly");
        }
        if let Some(same_site) = self.same_site {
            out.extend(["; SameSite=", same_site.token()]);
        }
        if self.partitioned {
            out.push_str("; Partitioned");
        }
        Ok(out)
    }

    fn check(&self) -> Result<(), CookieError> {
        if !field::is_token(self.name.as_bytes()) {
            return Err(CookieError::Name(self.name.to_owned()));
        }
        let name = || self.name.to_owned();
        if let Some(found) = bad_octet(self.value) {
            return Err(CookieError::Value { name: name(), found });
        }
        let bytes = self.name.len() + self.value.len();
        if bytes > PAIR_BYTES_MAX {
            return Err(CookieError::TooLong { name: name(), bytes });
        }
        if let Some(path) = self.path {
            // RFC 6265bis §4.1.1: any character but controls and `;`; what is not ASCII could not be sent as text
            let fits = path.bytes().all(|b| matches!(b, b' '..=b'~') && b != b';');
            if !path.starts_with('/') || path.ends_with(' ') || path.len() > ATTRIBUTE_BYTES_MAX || !fits {
                return Err(CookieError::Path { name: name(), path: path.to_owned() });
            }
        }
        if let Some(domain) = self.domain {
            let host = domain.strip_prefix('.').unwrap_or(domain);
            if host.contains([':', '[']) || !quote::valid_host(host) {
                return Err(CookieError::Domain { name: name(), domain: domain.to_owned() });
            }
        }
        self.check_promises()
    }

    /// What prefixes and attributes demand of the others.
    fn check_promises(&self) -> Result<(), CookieError> {
        let name = || self.name.to_owned();
        // browsers compare prefixes in any case (RFC 6265bis §5.7)
        let prefixed = |prefix: &str| {
            self.name
                .as_bytes()
                .get(..prefix.len())
                .is_some_and(|b| b.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let host = prefixed("__Host-");
        let http = prefixed("__Http-") || prefixed("__Host-Http-");
        if !self.secure {
            let because = if host || http || prefixed("__Secure-") {
                Some("its prefix promises it")
            } else if self.same_site == Some(SameSite::None) {
                Some("browsers drop `SameSite=None` without it")
            } else if self.partitioned {
                Some("browsers drop `Partitioned` without it")
            } else {
                None
            };
            if let Some(because) = because {
                return Err(CookieError::NotSecure { name: name(), because });
            }
        }
        if http && !self.http_only {
            return Err(CookieError::NotHttpOnly { name: name() });
        }
        if host && (self.path != Some("/") || self.domain.is_some()) {
            return Err(CookieError::NotHost { name: name() });
        }
        Ok(())
    }
}

/// The first character that may not stand in a value (RFC 6265bis §4.1.1). In quotes, spaces and backslash escapes
/// may: that is how [`quoted`] writes.
fn bad_octet(value: &str) -> Option<char> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.chars().find(|c| !u8::try_from(*c).is_ok_and(is_octet));
    };
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' => {}
            // what is escaped must be there, and be of a kind that does not end the value
            '\\' => match chars.next() {
                Some('"' | '\\' | '0'..='7') => {}
                _ => return Some('\\'),
            },
            c if u8::try_from(c).is_ok_and(is_octet) => {}
            c => return Some(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(header: &str) -> Vec<(String, String)> {
        pairs(header.as_bytes()).map(|(name, value)| (name.to_owned(), value.into_owned())).collect()
    }

    fn is(header: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(read(header), expected, "{header:?}");
    }

    #[test]
    fn pairs_are_split_and_trimmed() {
        is("", &[]);
        is("a=1", &[("a", "1")]);
        is("a=1; b=2", &[("a", "1"), ("b", "2")]);
        is("a=1;b=2;;c=3; ", &[("a", "1"), ("b", "2"), ("c", "3")]);
        is(" a\t = 1 ", &[("a", "1")]);
        is("a=b=c", &[("a", "b=c")]);
        is("a=", &[("a", "")]);
        is("a=1; a=2", &[("a", "1"), ("a", "2")]);
        is("a=1,2 3", &[("a", "1,2 3")]);
        is("é=ü", &[("é", "ü")]);
        assert_eq!(find(b"b=0; a=1; a=2", "a").as_deref(), Some("1"));
        assert_eq!(find(b"A=1", "a"), None);
    }

    #[test]
    fn a_pair_without_a_name_or_text_harms_no_other() {
        is("lonely; =nameless; a=1", &[("a", "1")]);
        let bytes = pairs(b"x=\xff; \xff=y; q=\"\\377\"; a=1");
        assert_eq!(bytes.map(|pair| pair.0).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn quotes_are_taken_off_and_escapes_undone() {
        is(r#"a="1 2""#, &[("a", "1 2")]);
        is(r#"a="""#, &[("a", "")]);
        is(r#"a=""#, &[("a", "\"")]);
        is(r#"a="x"#, &[("a", "\"x")]);
        is(r#"a="x\073\054\"\\y\q""#, &[("a", "x;,\"\\yq")]);
        is(r#"a="\303\251\400\08""#, &[("a", "é40008")]);
        is(r#"a="x\""#, &[("a", "x\\")]);
        // outside quotes a backslash is a letter, and `;` ends a value within them too
        is(r"a=\073", &[("a", "\\073")]);
        is(r#"a="1;2""#, &[("a", "\"1")]);
    }

    #[test]
    fn a_cookie_is_written_in_full() {
        let cookie = SetCookie {
            path: Some("/app"),
            domain: Some(".example.org"),
            max_age: Some(-1),
            expires: Some(784_111_777),
            secure: true,
            http_only: true,
            same_site: Some(SameSite::None),
            partitioned: true,
            ..SetCookie::new("id", "a/b==")
        };
        assert_eq!(
            cookie.header().as_deref(),
            Ok(
                "id=a/b==; Path=/app; Domain=example.org; Max-Age=-1; Expires=Sun, 06 Nov 1994 08:49:37 GMT; \
                Secure; HttpOnly; SameSite=None; Partitioned"
            )
        );
        assert_eq!(SetCookie::new("a", "").header().as_deref(), Ok("a="));
        assert_eq!(SameSite::of("lAx"), Some(SameSite::Lax));
        assert_eq!(SameSite::of("no"), None);
    }

    fn refusal(cookie: SetCookie<'_>) -> String {
        cookie.header().expect_err("a browser would drop it").to_string()
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_its_reason() {
        for name in ["", "a b", "a;b", "a=b", "é", "a\n", "(a)"] {
            let error = refusal(SetCookie::new(name, ""));
            assert!(error.starts_with(&format!("cookie name `{name}` is not a token\nhint: ")), "{error}");
        }
        for (value, found) in [
            ("a b", ' '),
            ("a;b", ';'),
            ("a,b", ','),
            ("a\r\nSet-Cookie: b", '\r'),
            ("\"", '"'),
            ("\"a\"b\"", '"'),
            ("\"a\\\"", '\\'),
            ("\"a;b\"", ';'),
            ("a\\", '\\'),
            ("é", 'é'),
            ("\"\u{7f}\"", '\u{7f}'),
        ] {
            let error = SetCookie::new("a", value).header().expect_err("no octets");
            assert_eq!(error, CookieError::Value { name: "a".to_owned(), found }, "{value:?}");
        }
        for path in ["", "a", "/;", "/\n", "/é", "/ "] {
            assert!(
                refusal(SetCookie { path: Some(path), ..SetCookie::new("a", "") })
                    .contains("hint: it begins")
            );
        }
        for domain in ["", ".", "..a", "a:80", "[::1]", "a b", "a;b", "é.org", "a_b c"] {
            assert!(
                refusal(SetCookie { domain: Some(domain), ..SetCookie::new("a", "") }).contains("host name")
            );
        }
        let long = "x".repeat(PAIR_BYTES_MAX);
        assert!(SetCookie::new("a", &long[1..]).header().is_ok());
        assert_eq!(
            refusal(SetCookie::new("a", &long)),
            "cookie `a` has 4097 bytes of name and value, browsers take 4096"
        );
    }

    #[test]
    fn prefixes_and_attributes_keep_their_promises() {
        let plain = SetCookie::new("__Host-a", "");
        assert_eq!(refusal(plain.clone()), "cookie `__Host-a` must be `Secure`: its prefix promises it");
        let secure = SetCookie { secure: true, ..plain };
        assert!(refusal(secure.clone()).contains("path `/` and no domain"));
        let rooted = SetCookie { path: Some("/"), ..secure.clone() };
        assert!(rooted.header().is_ok());
        assert!(SetCookie { domain: Some("a.org"), ..rooted.clone() }.header().is_err());
        assert!(SetCookie { path: Some("/x"), ..rooted.clone() }.header().is_err());
        assert!(SetCookie { name: "__hOST-a", path: None, ..rooted.clone() }.header().is_err());
        assert!(SetCookie::new("__Secure-a", "").header().is_err());
        assert!(SetCookie { secure: true, ..SetCookie::new("__Secure-a", "") }.header().is_ok());
        for name in ["__Http-a", "__Host-Http-a"] {
            let http = SetCookie { name, ..rooted.clone() };
            assert!(refusal(http.clone()).contains("`HttpOnly`"));
            assert!(SetCookie { http_only: true, ..http }.header().is_ok());
        }
        let none = SetCookie { same_site: Some(SameSite::None), ..SetCookie::new("a", "") };
        assert!(refusal(none).contains("`SameSite=None`"));
        assert!(
            refusal(SetCookie { partitioned: true, ..SetCookie::new("a", "") }).contains("`Partitioned`")
        );
    }

    proptest! {
        #[test]
        fn any_text_survives_quoting(text in any::<String>()) {
            let value = quoted(&text);
            let header = SetCookie::new("a", &value).header();
            prop_assume!(value.len() < PAIR_BYTES_MAX);
            let header = header.expect("what is quoted may be set");
            prop_assert!(header.is_ascii() && !header.contains(';'));
            let sent = format!("z=0; {header}; b=1");
            let found = find(sent.as_bytes(), "a");
            prop_assert_eq!(found.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn no_bytes_make_it_panic(header in prop::collection::vec(any::<u8>(), 0..200)) {
            for (name, _) in pairs(&header) {
                prop_assert!(!name.is_empty() && !name.contains([';', '=']));
            }
        }
    }
}
