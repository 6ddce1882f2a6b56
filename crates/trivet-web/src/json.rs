//! Writing of JSON's strings and numbers (RFC 8259 §6, §7) to the end of a buffer; what holds them is the caller's.

/// Which characters a string is written without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `"`, `\` and control characters, as JSON demands; the rest is UTF-8 as it is.
    #[default]
    Json,
    /// Also `<`, `>`, `&`, U+2028 and U+2029, so that the text can stand in a `<script>` or an attribute's value and
    /// neither ends it nor begins a comment. It is the same string to a JSON parser.
    Html,
}

/// A number that JSON has no way to write: infinite or not a number (RFC 8259 §6).
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("`{0}` cannot be written as JSON")]
pub struct NotFinite(pub f64);

/// Appends `text` in quotes.
#[inline]
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    write_escaped::<false>(text.as_bytes(), out);
}

/// Appends `text` in quotes, without the characters that `escape` names.
#[inline]
pub fn write_str_with(text: &str, escape: Escape, out: &mut Vec<u8>) {
    match escape {
        Escape::Json => write_escaped::<false>(text.as_bytes(), out),
        Escape::Html => write_escaped::<true>(text.as_bytes(), out),
    }
}

/// Appends the shortest decimal that reads back as `value`, with a fraction or an exponent so that it stays a float.
#[inline]
pub fn write_f64(value: f64, out: &mut Vec<u8>) -> Result<(), NotFinite> {
    if !value.is_finite() {
        return Err(NotFinite(value));
    }
    out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    Ok(())
}

/// Appends `value` in decimal.
#[inline]
pub fn write_i64(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `value` in decimal.
#[inline]
pub fn write_u64(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Written as it is.
const PLAIN: u8 = 0;
/// Written as `\u00XX`.
const CODE: u8 = b'u';
/// Perhaps the first byte of U+2028 or U+2029.
const LINE: u8 = b'L';

/// For each byte: [`PLAIN`], [`CODE`], [`LINE`], or the letter behind the backslash.
const fn table(html: bool) -> [u8; 256] {
    let mut table = [PLAIN; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = CODE;
        byte += 1;
    }
    table[0x08] = b'b';
    table[b'\t' as usize] = b't';
    table[b'\n' as usize] = b'n';
    table[0x0c] = b'f';
    table[b'\r' as usize] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    if html {
        table[b'<' as usize] = CODE;
        table[b'>' as usize] = CODE;
        table[b'&' as usize] = CODE;
        table[0xe2] = LINE;
    }
    table
}

static JSON: [u8; 256] = table(false);
static HTML: [u8; 256] = table(true);

fn write_escaped<const IN_HTML: bool>(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    loop {
        let at = special::<IN_HTML>(rest);
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let Some(&byte) = rest.first() else { break };
        let table = if IN_HTML { &HTML } else { &JSON };
        let taken = match table[usize::from(byte)] {
            CODE => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
                1
            }
            LINE => {
                if let [0xe2, 0x80, third @ (0xa8 | 0xa9), ..] = rest {
                    out.extend_from_slice(if *third == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                    3
                } else {
                    out.push(byte);
                    1
                }
            }
            letter => {
                out.extend_from_slice(&[b'\\', letter]);
                1
            }
        };
        rest = &rest[taken..];
    }
    out.push(b'"');
}

/// Where the first byte stands that is perhaps not written as it is, or the length: eight bytes at a time.
#[inline]
fn special<const IN_HTML: bool>(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    // sets the high bit of each byte below `limit` (of bytes below 0x80), exact up to the first one that is
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGHS;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);

    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let mut found = below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if IN_HTML {
            found |= equal(word, b'<') | equal(word, b'>') | equal(word, b'&') | equal(word, 0xe2);
        }
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let table = if IN_HTML { &HTML } else { &JSON };
    bytes[at..].iter().position(|b| table[usize::from(*b)] != PLAIN).map_or(bytes.len(), |more| at + more)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str, escape: Escape) -> String {
        let mut out = b"x".to_vec();
        write_str_with(text, escape, &mut out);
        let out = String::from_utf8(out).expect("text stays text");
        out.strip_prefix('x').expect("it is appended").to_owned()
    }

    fn number(value: f64) -> String {
        let mut out = Vec::new();
        write_f64(value, &mut out).expect("it is finite");
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn only_what_must_be_is_escaped() {
        for (text, expected) in [
            ("", r#""""#),
            ("hello", r#""hello""#),
            ("hello, world: this is longer", r#""hello, world: this is longer""#),
            ("\"", r#""\"""#),
            ("1234567\"", r#""1234567\"""#),
            ("12345678\\9", r#""12345678\\9""#),
            ("\u{8}\t\n\u{c}\r", r#""\b\t\n\f\r""#),
            ("\0\u{1f}\u{20}\u{7f}", "\"\\u0000\\u001f \u{7f}\""),
            ("/<>&'", r#""/<>&'""#),
            ("é 字 🦀 \u{2028}\u{fffd}", "\"é 字 🦀 \u{2028}\u{fffd}\""),
        ] {
            assert_eq!(written(text, Escape::Json), expected);
            let mut out = Vec::new();
            write_str(text, &mut out);
            assert_eq!(out, expected.as_bytes());
        }
    }

    #[test]
    fn in_html_nothing_can_end_the_script() {
        assert_eq!(
            written("</script><!-- & \u{2028}\u{2029}\u{2027}字\u{20ac}", Escape::Html),
            "\"\\u003c/script\\u003e\\u003c!-- \\u0026 \\u2028\\u2029\u{2027}字\u{20ac}\""
        );
    }

    #[test]
    fn numbers_are_shortest_and_floats_stay_floats() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1.0 / 3.0, "0.3333333333333333"),
            (123456789.0, "123456789.0"),
        ] {
            assert_eq!(number(value), expected);
        }
        assert_eq!(number(f64::MAX).parse(), Ok(f64::MAX));
        assert_eq!(number(5e-324).parse(), Ok(5e-324));
        let mut out = Vec::new();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(write_f64(value, &mut out).is_err());
        }
        assert!(out.is_empty());
        assert_eq!(NotFinite(f64::INFINITY).to_string(), "`inf` cannot be written as JSON");
        write_i64(i64::MIN, &mut out);
        write_u64(u64::MAX, &mut out);
        assert_eq!(out, b"-922337203685477580818446744073709551615");
    }

    #[test]
    fn every_byte_at_every_place_of_a_word_is_seen() {
        for code in 0..0x80u8 {
            for place in 0..19 {
                let text = format!("{}{}éabéabéabé", "x".repeat(place), code as char);
                let json: String = serde_json::from_str(&written(&text, Escape::Json)).expect("it is JSON");
                assert_eq!(json, text);
                let html = written(&text, Escape::Html);
                assert!(!html.contains(['<', '>', '&']));
                assert_eq!(serde_json::from_str::<String>(&html).expect("it is JSON"), text);
            }
        }
    }

    proptest! {
        #[test]
        fn strings_read_back(text in any::<String>()) {
            let json = written(&text, Escape::Json);
            // serde_json writes the same, but for the case of no difference in meaning
            prop_assert_eq!(&json, &serde_json::to_string(&text).expect("text"));
            let html = written(&text, Escape::Html);
            let is_clean = !html.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
            prop_assert!(is_clean);
            prop_assert_eq!(serde_json::from_str::<String>(&html).expect("it is JSON"), text);
        }

        #[test]
        fn numbers_read_back(value in any::<f64>().prop_filter("JSON has no others", |v| v.is_finite())) {
            let text = number(value);
            prop_assert!(text.contains(['.', 'e']));
            prop_assert_eq!(text.parse::<f64>().expect("a number").to_bits(), value.to_bits());
        }
    }
}
