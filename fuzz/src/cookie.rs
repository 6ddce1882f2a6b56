//! Cookies: what is read has a name and no separator in it, and whatever is given to be set is refused or read back
//! as it was.

use trivet_web::cookie::{self, SameSite, SetCookie};

use crate::outcome;

/// Starting points: a field as sent; with flags at the front, name, value, path and domain of a cookie to be set.
pub const SEEDS: &[&[u8]] = &[
    b"\0a=1; b=\"x\\073\\\"\"; c; =d;e=",
    b"\x01id\0value\0/\0example.org",
    b"\x3f__Host-id\0some text, and \xc3\xa9\0/\0",
    b"\x35__secure-a\0\0\0.a.b",
];

/// Pieces of syntax for the mutating driver.
pub const WORDS: &[&[u8]] = &[
    b";",
    b"; ",
    b"=",
    b"\"",
    b"\\",
    b"\\073",
    b"\\\"",
    b"\\400",
    b"\0",
    b"\r\n",
    b"\xc3\xa9",
    b"\xff",
    b" ",
    b"\t",
    b",",
    b"__Host-",
    b"__Secure-",
    b"__Http-",
    b"__Host-Http-",
    b"Path=/",
];

fn read(header: &[u8]) -> u64 {
    let pairs: Vec<_> = cookie::pairs(header).collect();
    for (name, value) in &pairs {
        assert!(!name.is_empty() && !name.contains([';', '=']));
        assert!(value.len() <= header.len());
        let first = pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_ref());
        assert_eq!(cookie::find(header, name).as_deref(), first, "the first of a name is the one");
    }
    let decoded = pairs.iter().any(|(_, value)| matches!(value, std::borrow::Cow::Owned(_)));
    outcome(("read", pairs.len().min(8), decoded))
}

fn set(flags: u8, text: &str) -> u64 {
    let mut fields = text.splitn(4, '\0');
    let (name, text) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let given = |field: Option<_>| field.filter(|text: &&str| !text.is_empty());
    let value = cookie::quoted(text);
    let cookie = SetCookie {
        path: given(fields.next()),
        domain: given(fields.next()),
        max_age: (flags & 2 != 0).then_some(i64::from(flags) - 128),
        expires: (flags & 2 != 0).then_some(u64::from(flags) << 33),
        secure: flags & 4 != 0,
        http_only: flags & 8 != 0,
        same_site: [None, Some(SameSite::Strict), Some(SameSite::Lax), Some(SameSite::None)]
            [usize::from(flags >> 4 & 3)],
        partitioned: flags & 64 != 0,
        ..SetCookie::new(name, &value)
    };
    // a raw value is refused or stands in the field as it is
    if let Ok(header) = (SetCookie { value: text, ..cookie.clone() }).header() {
        assert!(header.bytes().all(|b| (b' '..=b'~').contains(&b)));
        assert_eq!(header.split(';').next(), Some(format!("{name}={text}").as_str()));
    }
    match cookie.header() {
        Ok(header) => {
            assert!(header.bytes().all(|b| (b' '..=b'~').contains(&b)));
            assert_eq!(cookie::find(header.as_bytes(), name).as_deref(), Some(text), "it is read as another");
            outcome(("set", header.matches(';').count()))
        }
        Err(error) => outcome(("refused", std::mem::discriminant(&error))),
    }
}

pub fn run(data: &[u8]) -> u64 {
    match data {
        [] => 0,
        [flags, text @ ..] if flags & 1 == 1 => std::str::from_utf8(text).map_or(0, |text| set(*flags, text)),
        [_, header @ ..] => read(header),
    }
}
