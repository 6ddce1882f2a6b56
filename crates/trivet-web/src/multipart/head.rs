//! The head of a part, the boundary in a `Content-Type`, and file names that are safe to use.

use trivet_http::field;

use super::Error;

/// The header fields of a part (RFC 7578 §4.2, §4.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub name: String,
    /// As the client sent it, perhaps with folders: see [`safe_filename`]. Empty for a file input without a file.
    /// A part that has one is a file, any other a field.
    pub filename: Option<String>,
    pub content_type: Option<String>,
    /// All fields as they stand, in order, names as sent.
    pub headers: Vec<(String, String)>,
}

/// Reads a head with its empty line.
pub(super) fn parse(bytes: &[u8], part: usize) -> Result<Head, Error> {
    let bad = |why| Error::BadHead { part, why };
    let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))?;
    let (mut head, mut disposition, mut encoding) = (Head::default(), None, None);
    for line in text.split("\r\n").take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(bad("a line has no colon"))?;
        if !field::is_token(name.as_bytes()) {
            // also a line that goes on the one before (RFC 9112 §5.2)
            return Err(bad("a field's name is not a token"));
        }
        let value = value.trim_matches([' ', '\t']);
        if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
            return Err(bad("a field has a control character"));
        }
        let known = |expected: &str| name.eq_ignore_ascii_case(expected);
        let slot = if known("Content-Disposition") {
            Some(&mut disposition)
        } else if known("Content-Transfer-Encoding") {
            Some(&mut encoding)
        } else if known("Content-Type") {
            Some(&mut head.content_type)
        } else {
            None
        };
        if slot.is_some_and(|slot| slot.replace(value.to_owned()).is_some()) {
            return Err(bad("a field stands there twice"));
        }
        head.headers.push((name.to_owned(), value.to_owned()));
    }
    let disposition = disposition.ok_or(bad("`Content-Disposition` is missing"))?;
    (head.name, head.filename) = read_disposition(&disposition).map_err(bad)?;
    let is_multipart = |media: &String| {
        media.as_bytes().get(..10).is_some_and(|front| front.eq_ignore_ascii_case(b"multipart/"))
    };
    if head.content_type.as_ref().is_some_and(is_multipart) {
        return Err(Error::Nested { part });
    }
    match encoding {
        Some(encoding) if !["binary", "8bit", "7bit"].iter().any(|e| encoding.eq_ignore_ascii_case(e)) => {
            Err(Error::Encoded { part, encoding: encoding.chars().take(40).collect() })
        }
        _ => Ok(head),
    }
}

/// Name and file name of `form-data; name="…"; filename="…"`.
fn read_disposition(value: &str) -> Result<(String, Option<String>), &'static str> {
    let (kind, rest) = value.split_once(';').unwrap_or((value, ""));
    if !kind.trim_end_matches([' ', '\t']).eq_ignore_ascii_case("form-data") {
        return Err("`Content-Disposition` is not `form-data`");
    }
    let (mut name, mut filename, mut extended) = (None, None, false);
    for parameter in Parameters(rest) {
        let (key, value) = parameter.map_err(|Unreadable| "`Content-Disposition` cannot be read")?;
        let slot = if key.eq_ignore_ascii_case("name") {
            &mut name
        } else if key.eq_ignore_ascii_case("filename") {
            &mut filename
        } else {
            extended |= key.eq_ignore_ascii_case("filename*");
            continue;
        };
        let text = match value {
            Value::Quoted(inner) => unquote(inner),
            Value::Bare(token) if field::is_token(token.as_bytes()) => token.to_owned(),
            Value::Bare(_) => return Err("a name without quotes is not a token"),
        };
        if slot.replace(text).is_some() {
            return Err("it has two names");
        }
    }
    let name = name.ok_or("its `name` is missing")?;
    if extended && filename.is_none() {
        // RFC 7578 §4.2 forbids it; as a field it would be something else than was meant. Beside `filename` it is
        // ignored, so that nobody can hide a second name there.
        return Err("`filename*` is not for forms, `filename` in UTF-8 is");
    }
    Ok((name, filename))
}

/// A name in quotes as browsers and others write it: `%22`, `%0D` and `%0A` stand for a quote and line ends, and any
/// other `%` for itself (WHATWG HTML §4.10.21.8); `\"` and `\\` are what RFC 9110 §5.6.4 makes of them, and any other
/// `\` stands for itself, as browsers leave it in names from Windows.
fn unquote(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find(['%', '\\']) {
        out.push_str(&rest[..at]);
        let (text, taken) = match rest.as_bytes()[at..] {
            [b'%', b'2', b'2', ..] => ("\"", 3),
            [b'%', b'0', b'D', ..] => ("\r", 3),
            [b'%', b'0', b'A', ..] => ("\n", 3),
            [b'\\', b'"', ..] => ("\"", 2),
            [b'\\', b'\\', ..] => ("\\", 2),
            [b'%', ..] => ("%", 1),
            _ => ("\\", 1),
        };
        out.push_str(text);
        rest = &rest[at + taken..];
    }
    out.push_str(rest);
    out
}

enum Value<'a> {
    Bare(&'a str),
    /// Without its quotes, escapes as sent.
    Quoted(&'a str),
}

struct Unreadable;

/// Parameters behind the first `;` of a field (RFC 9110 §5.6.6); empty ones are left out.
struct Parameters<'a>(&'a str);

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<(&'a str, Value<'a>), Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return None;
        }
        let read = read_parameter(rest);
        self.0 = read.as_ref().map_or("", |(_, rest)| rest);
        Some(read.map(|(parameter, _)| parameter).ok_or(Unreadable))
    }
}

/// The parameter that `text` begins with, and what follows its `;`.
fn read_parameter(text: &str) -> Option<((&str, Value<'_>), &str)> {
    let (key, rest) = text.split_once('=')?;
    if !field::is_token(key.as_bytes()) {
        return None;
    }
    let Some(inner) = rest.strip_prefix('"') else {
        let (value, rest) = rest.split_once(';').unwrap_or((rest, ""));
        return Some(((key, Value::Bare(value.trim_end_matches([' ', '\t']))), rest));
    };
    let bytes = inner.as_bytes();
    let mut end = 0;
    loop {
        end += match bytes.get(end..)? {
            [b'"', ..] => break,
            [b'\\', b'"' | b'\\', ..] => 2,
            [_, ..] => 1,
            [] => return None,
        };
    }
    let rest = inner[end + 1..].trim_start_matches([' ', '\t']);
    if !rest.is_empty() && !rest.starts_with(';') {
        return None;
    }
    Some(((key, Value::Quoted(&inner[..end])), rest))
}

/// The boundary that a `Content-Type` of `multipart/form-data` names (RFC 2046 §5.1.1). Without quotes it may have
/// characters that no token has, as many clients send it.
pub fn boundary(content_type: &[u8]) -> Result<&[u8], Error> {
    let end = content_type.iter().position(|b| *b == b';').unwrap_or(content_type.len());
    if !field::trim(&content_type[..end]).eq_ignore_ascii_case(b"multipart/form-data") {
        return Err(Error::NotMultipart);
    }
    let rest = std::str::from_utf8(&content_type[end..]).map_err(|_| Error::BadBoundary)?;
    let mut found = None;
    for parameter in Parameters(rest) {
        let (key, value) = parameter.map_err(|Unreadable| Error::BadBoundary)?;
        if !key.eq_ignore_ascii_case("boundary") {
            continue;
        }
        let (Value::Bare(value) | Value::Quoted(value)) = value;
        if found.replace(value.as_bytes()).is_some() {
            return Err(Error::BadBoundary);
        }
    }
    found.filter(|boundary| is_boundary(boundary)).ok_or(Error::BadBoundary)
}

/// `boundary` of RFC 2046 §5.1.1: 1 to 70 characters of a small set, not ending in a space.
pub(super) fn is_boundary(boundary: &[u8]) -> bool {
    (1..=70).contains(&boundary.len())
        && !boundary.ends_with(b" ")
        && boundary.iter().all(|b| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(b))
}

/// The most bytes that a file's name has on the file systems in use.
const FILENAME_BYTES_MAX: usize = 255;

/// A client's file name as one under which a file may be kept in a folder: without folders before it, control
/// characters and marks that turn text around, without what Windows does not take, never hidden, at most 255 bytes,
/// never empty (`file` then). Letters of all scripts stay. It may name a file that is there already: that is the
/// caller's to see.
pub fn safe_filename(filename: &str) -> String {
    let base = filename.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = base
        .chars()
        .filter(|c| !c.is_control() && !is_invisible(*c))
        .map(|c| if matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*') { '_' } else { c })
        .collect();
    // ends first, so that nothing a later step takes away leaves a dot or a space at an end
    shorten(&mut name);
    let trimmed = name.trim_start_matches(|c: char| c == '.' || c.is_whitespace());
    let trimmed = trimmed.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    if trimmed.is_empty() {
        return "file".to_owned();
    }
    if is_device(trimmed) { format!("_{trimmed}") } else { trimmed.to_owned() }
}

/// Marks without width, and those that change the direction of what follows (UAX #9): `exe.txt` that is `txt.exe`.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

/// Cuts a long name before its extension, between two characters; one byte is left for a device's `_`.
fn shorten(name: &mut String) {
    if name.len() < FILENAME_BYTES_MAX {
        return;
    }
    let extension = match name.rfind('.') {
        Some(dot) if name.len() - dot <= 32 => name.split_off(dot),
        _ => String::new(),
    };
    let mut end = (FILENAME_BYTES_MAX - 1 - extension.len()).min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name.push_str(&extension);
}

/// Names that are devices on Windows, with any extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    if ["con", "prn", "aux", "nul", "conin$", "conout$"].iter().any(|d| stem.eq_ignore_ascii_case(d)) {
        return true;
    }
    let mut chars = stem.chars();
    let (Some(number), port) = (chars.next_back(), chars.as_str()) else { return false };
    matches!(number, '0'..='9' | '¹' | '²' | '³')
        && (port.eq_ignore_ascii_case("com") || port.eq_ignore_ascii_case("lpt"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn disposition(value: &str) -> Result<Head, Error> {
        parse(format!("content-disposition:{value}\r\n\r\n").as_bytes(), 3)
    }

    fn names(value: &str, name: &str, filename: Option<&str>) {
        let head = disposition(value).unwrap_or_else(|error| panic!("{value}: {error}"));
        assert_eq!((head.name.as_str(), head.filename.as_deref()), (name, filename), "{value}");
    }

    fn refusal(head: &str) -> String {
        parse(head.as_bytes(), 3).expect_err(head).to_string()
    }

    #[test]
    fn names_are_read_as_clients_write_them() {
        names(r#"form-data; name="a""#, "a", None);
        names(r"form-data;name=a", "a", None);
        names("  Form-Data ; NAME=\"a b\" \t; ;x=y; FileName=\"\" ; ", "a b", Some(""));
        names(r#"form-data; name=""; filename="é字.txt""#, "", Some("é字.txt"));
        // browsers
        names(
            r#"form-data; name="a%22b%0D%0Ac%20%41%0d"; filename="100%.txt""#,
            "a\"b\r\nc%20%41%0d",
            Some("100%.txt"),
        );
        // curl and others
        names(r#"form-data; name="a\"b\\c"; filename="x; y=\"z\".txt""#, "a\"b\\c", Some("x; y=\"z\".txt"));
        names(r#"form-data; name="a"; filename="C:\dir\x.txt""#, "a", Some("C:\\dir\\x.txt"));
        names(r#"form-data; name="a"; filename="x"; filename*=utf-8''y"#, "a", Some("x"));
        names(r#"form-data; name="_charset_""#, "_charset_", None);
    }

    #[test]
    fn a_bad_disposition_is_refused() {
        let bad = "head of part 3: `Content-Disposition` cannot be read";
        for (value, expected) in [
            ("form-data", "head of part 3: its `name` is missing"),
            ("form-data; filename=\"a\"", "head of part 3: its `name` is missing"),
            ("attachment; name=\"a\"", "head of part 3: `Content-Disposition` is not `form-data`"),
            ("", "head of part 3: `Content-Disposition` is not `form-data`"),
            ("form-data; name=a; name=b", "head of part 3: it has two names"),
            ("form-data; name=a; filename=\"b\"; FILENAME=c", "head of part 3: it has two names"),
            (
                "form-data; name=a; filename*=utf-8''b",
                "head of part 3: `filename*` is not for forms, `filename` in UTF-8 is",
            ),
            ("form-data; name=a b", "head of part 3: a name without quotes is not a token"),
            ("form-data; name=é", "head of part 3: a name without quotes is not a token"),
            ("form-data; name=", "head of part 3: a name without quotes is not a token"),
            ("form-data; name", bad),
            ("form-data; name =a", bad),
            ("form-data; name=\"a", bad),
            ("form-data; name=\"a\\\"", bad),
            ("form-data; name=\"a\"b", bad),
            ("form-data; name=\"a\" filename=\"b\"", bad),
        ] {
            assert_eq!(disposition(value).expect_err(value).to_string(), expected, "{value}");
        }
    }

    #[test]
    fn a_bad_head_is_refused() {
        const GOOD: &str = "Content-Disposition: form-data; name=a\r\n";
        let with = |line: &str| refusal(&format!("{GOOD}{line}\r\n\r\n"));
        assert_eq!(refusal("\r\n"), "head of part 3: `Content-Disposition` is missing");
        assert_eq!(with("lonely"), "head of part 3: a line has no colon");
        for line in [": x", "A b: x", "A : x", " folded: x", "\tfolded: x", "é: x"] {
            assert_eq!(with(line), "head of part 3: a field's name is not a token", "{line}");
        }
        for line in ["A: \0", "A: x\ry", "A: \u{7f}"] {
            assert_eq!(with(line), "head of part 3: a field has a control character", "{line:?}");
        }
        assert_eq!(with(GOOD.trim_end()), "head of part 3: a field stands there twice");
        let bytes = [GOOD.as_bytes(), b"A: \xff\r\n\r\n"].concat();
        assert_eq!(parse(&bytes, 3).expect_err("no text").to_string(), "head of part 3: it is not UTF-8");
        assert!(
            with("Content-Type: Multipart/Mixed; boundary=b").starts_with("part 3 contains parts\nhint: ")
        );
        assert_eq!(
            with("Content-Transfer-Encoding: base64"),
            "part 3 has `Content-Transfer-Encoding: base64`\nhint: forms are sent as they are"
        );
        for encoding in ["binary", "8BIT", "7bit"] {
            let head = format!("{GOOD}Content-Transfer-Encoding: {encoding}\r\nX-Y:\t z \r\n\r\n");
            let head = parse(head.as_bytes(), 3).expect("it changes nothing");
            assert_eq!(head.headers[2], ("X-Y".to_owned(), "z".to_owned()));
        }
    }

    #[test]
    fn the_boundary_is_found() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=abc", "abc"),
            ("Multipart/Form-Data ;BOUNDARY=\"a b\"; charset=utf-8", "a b"),
            ("multipart/form-data; charset=\"x;boundary=no\"; boundary=----=_Part/1:2", "----=_Part/1:2"),
            ("multipart/form-data; boundary=abc ;", "abc"),
        ] {
            assert_eq!(boundary(content_type.as_bytes()), Ok(expected.as_bytes()), "{content_type}");
        }
        for content_type in
            ["", "text/plain; boundary=a", "multipart/mixed; boundary=a", "multipart/form-datax"]
        {
            let error = boundary(content_type.as_bytes()).expect_err(content_type);
            assert_eq!((error.status(), &error), (415, &Error::NotMultipart));
        }
        for parameters in [
            "",
            "; boundary=",
            "; boundary=\"\"",
            "; boundary=\"a",
            "; boundary=a\"b",
            "; boundary=\"a\\\"b\"",
            "; boundary=\"a \"",
            "; boundary=a; boundary=a",
            "; boundary",
            "; boundary=é",
        ] {
            let content_type = format!("multipart/form-data{parameters}");
            assert_eq!(boundary(content_type.as_bytes()), Err(Error::BadBoundary), "{content_type}");
        }
        assert_eq!(boundary(b"multipart/form-data; boundary=\xff"), Err(Error::BadBoundary));
    }

    #[test]
    fn a_file_name_is_safe_to_use() {
        for (sent, safe) in [
            ("x.txt", "x.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\dir\\Ünïcode 字.TXT", "Ünïcode 字.TXT"),
            ("", "file"),
            ("..", "file"),
            ("/", "file"),
            ("dir/", "file"),
            (" . .hidden. ", "hidden"),
            (".htaccess", "htaccess"),
            ("a\0b\r\nc\u{85}", "abc"),
            ("x\u{202e}txt.exe", "xtxt.exe"),
            ("a<b>:\"|?*c", "a_b______c"),
            ("file.txt:stream", "file.txt_stream"),
            ("con", "_con"),
            ("NUL.tar.gz", "_NUL.tar.gz"),
            ("Lpt1 .x", "_Lpt1 .x"),
            ("COM¹", "_COM¹"),
            ("com", "com"),
            ("com10", "com10"),
            ("é1", "é1"),
        ] {
            assert_eq!(safe_filename(sent), safe, "{sent:?}");
        }
        let long = safe_filename(&format!("{}.tar.gz", "é".repeat(200)));
        assert!(long.len() <= 255 && long.ends_with("é.gz"), "{long}");
        assert!(safe_filename(&"x".repeat(300)).len() == 254);
        assert!(safe_filename(&format!("a.{}", "x".repeat(300))).starts_with("a.xx"));
    }

    proptest! {
        #[test]
        fn every_file_name_is_safe(sent in any::<String>(), dotted in "[./\\\\ a\u{202e}]{0,12}", times in 1..40usize) {
            for sent in [&sent, &dotted, &sent.repeat(times)] {
                let safe = safe_filename(sent);
                prop_assert!(!safe.is_empty() && safe.len() <= FILENAME_BYTES_MAX);
                prop_assert!(!safe.starts_with(['.', ' ']) && !safe.ends_with(['.', ' ']));
                prop_assert!(!safe.contains(['/', '\\']) && !safe.chars().any(char::is_control));
                prop_assert_eq!(safe_filename(&safe), safe.clone(), "it stays as it is");
            }
        }

        #[test]
        fn quoted_names_come_back(name in "[^\\p{Cc}]{0,30}") {
            let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
            let head = disposition(&format!("form-data; name=\"{quoted}\""));
            prop_assume!(!["%22", "%0D", "%0A"].iter().any(|e| name.contains(e)));
            prop_assert_eq!(head.expect("it is quoted").name, name);
        }
    }
}
