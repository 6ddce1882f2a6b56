//! What a client's certificate says, as the app is told it. The certificate has been verified; it is read with care all
//! the same, because any authority may have issued it.

use std::fmt::Write as _;

use aws_lc_rs::digest;

use crate::config::ClientRule;

/// A larger one is refused: what it becomes must fit into a request's frame beside the largest head and body.
pub(crate) const BYTES_MAX: usize = 8 * 1024;

/// The prefix of the frame's names for it: no field of HTTP can begin with a colon (RFC 9110 §5.6.2), so that nobody
/// but the edge has such names.
const VERIFY: &str = ":ssl-client-verify";
const SUBJECT: &str = ":ssl-client-s-dn";
const CERTIFICATE: &str = ":ssl-client-cert";
const SERIAL: &str = ":ssl-client-serial";
const FINGERPRINT: &str = ":ssl-client-fingerprint";

/// A connection's answer to the rule of the site that it asked for.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) rule: ClientRule,
    /// For the frames of its requests.
    pub(crate) fields: Vec<(&'static str, Vec<u8>)>,
}

impl Shown {
    /// `certificate`: DER; `None`: the client has shown none.
    pub(crate) fn new(rule: ClientRule, certificate: Option<&[u8]>) -> Self {
        let Some(der) = certificate else {
            return Self { rule, fields: vec![(VERIFY, b"NONE".to_vec())] };
        };
        let (serial, subject) = serial_and_subject(der).unwrap_or_default();
        let fields = vec![
            (VERIFY, b"SUCCESS".to_vec()),
            (SUBJECT, distinguished_name(subject).unwrap_or_default().into_bytes()),
            (CERTIFICATE, pem(der).into_bytes()),
            // A leading zero byte is its sign.
            (
                SERIAL,
                hex(if serial.len() > 1 && serial[0] == 0 { &serial[1..] } else { serial }).into_bytes(),
            ),
            (
                FINGERPRINT,
                hex(digest::digest(&digest::SHA256, der).as_ref()).to_ascii_lowercase().into_bytes(),
            ),
        ];
        Self { rule, fields }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02X}");
        text
    })
}

/// RFC 7468 §5.
fn pem(der: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const LINE_BYTES: usize = 48;
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(LINE_BYTES) {
        for three in line.chunks(3) {
            let bits =
                three.iter().fold(0_u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
            for n in 0..4 {
                let letter = LETTERS[(bits >> (18 - 6 * n) & 63) as usize];
                text.push(if n <= three.len() { char::from(letter) } else { '=' });
            }
        }
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const VERSION: u8 = 0xa0;

/// The first DER element: its tag, its content, and all of it.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8], &'a [u8])> {
    let whole = *bytes;
    let (&[tag, length], rest) = whole.split_first_chunk::<2>()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) =
            rest.split_at_checked(usize::from(length & 0x7f)).filter(|(d, _)| d.len() <= 4)?;
        (digits.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)), rest)
    };
    let (content, after) = rest.split_at_checked(length)?;
    *bytes = after;
    Some((tag, content, &whole[..whole.len() - after.len()]))
}

/// RFC 5280 §4.1: the number's bytes and the content of the name.
fn serial_and_subject(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = der;
    let mut certificate = take(&mut outer)?.1;
    let mut tbs = take(&mut certificate)?.1;
    if tbs.first() == Some(&VERSION) {
        take(&mut tbs)?;
    }
    let serial = take(&mut tbs)?.1;
    // Algorithm, issuer, validity.
    for _ in 0..3 {
        take(&mut tbs)?;
    }
    match take(&mut tbs)? {
        (SEQUENCE, subject, _) => Some((serial, subject)),
        _ => None,
    }
}

/// RFC 4514: the last part of the name first, `CN=shop,O=Example`. Letters beyond ASCII are escaped, so that nobody
/// has to ask for their encoding.
fn distinguished_name(mut name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !name.is_empty() {
        let (SET, mut several, _) = take(&mut name)? else { return None };
        let mut part = String::new();
        while !several.is_empty() {
            let (SEQUENCE, mut pair, _) = take(&mut several)? else { return None };
            let (OBJECT, kind, _) = take(&mut pair)? else { return None };
            let (tag, value, whole) = take(&mut pair)?;
            if !part.is_empty() {
                part.push('+');
            }
            match (keyword(kind), text(tag, value)) {
                (Some(word), Some(value)) => {
                    let _ = write!(part, "{word}=");
                    escape(&value, &mut part);
                }
                (word, _) => {
                    let _ =
                        write!(part, "{}=#{}", word.map_or_else(|| dotted(kind), str::to_owned), hex(whole));
                }
            }
        }
        parts.push(part);
    }
    parts.reverse();
    Some(parts.join(","))
}

/// RFC 4514 §3, and `emailAddress`, which everybody else writes so too.
fn keyword(kind: &[u8]) -> Option<&'static str> {
    Some(match kind {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x55, 4, 6] => "C",
        [0x55, 4, 9] => "STREET",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => "UID",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1] => "emailAddress",
        _ => return None,
    })
}

/// An object identifier in numbers.
fn dotted(kind: &[u8]) -> String {
    let mut all = String::new();
    let mut number = 0_u64;
    for b in kind {
        number = number.wrapping_shl(7) | u64::from(b & 0x7f);
        if b & 0x80 == 0 {
            if all.is_empty() {
                let first = (number / 40).min(2);
                let _ = write!(all, "{first}.{}", number - 40 * first);
            } else {
                let _ = write!(all, ".{number}");
            }
            number = 0;
        }
    }
    all
}

/// The strings of X.520 that have one reading.
fn text(tag: u8, value: &[u8]) -> Option<String> {
    const UTF8: u8 = 0x0c;
    const PRINTABLE: u8 = 0x13;
    const IA5: u8 = 0x16;
    const BMP: u8 = 0x1e;
    match tag {
        UTF8 => String::from_utf8(value.to_vec()).ok(),
        PRINTABLE | IA5 if value.is_ascii() => String::from_utf8(value.to_vec()).ok(),
        BMP if value.len().is_multiple_of(2) => {
            let units: Vec<u16> = value.chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// RFC 4514 §2.4.
fn escape(value: &str, out: &mut String) {
    let last = value.len().wrapping_sub(1);
    for (at, b) in value.bytes().enumerate() {
        match b {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => out.extend(['\\', char::from(b)]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            0x20..=0x7e => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "\\{b:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = match content.len() {
            n @ 0..=127 => vec![n as u8],
            n => vec![0x82, (n >> 8) as u8, n as u8],
        };
        [&[tag][..], &length, content].concat()
    }

    fn pair(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[element(OBJECT, kind), element(tag, value)].concat())
    }

    fn certificate(serial: &[u8], name: &[u8]) -> Vec<u8> {
        let other = element(SEQUENCE, b"");
        let tbs = [
            element(VERSION, &element(2, &[2])),
            element(2, serial),
            other.clone(),
            other.clone(),
            other,
            element(SEQUENCE, name),
        ]
        .concat();
        element(SEQUENCE, &element(SEQUENCE, &tbs))
    }

    #[test]
    fn a_name_is_written_from_its_end_and_escaped() {
        let name = [
            element(SET, &pair(&[0x55, 4, 6], 0x13, b"DE")),
            element(SET, &pair(&[0x55, 4, 10], 0x0c, " a,b=\"c\" é\n".as_bytes())),
            element(
                SET,
                &[pair(&[0x55, 4, 3], 0x0c, b"#x "), pair(&[0x2a, 3, 0x84, 1], 0x0c, b"y")].concat(),
            ),
            element(SET, &pair(&[0x55, 4, 11], 0x1e, &[0, b'o', 0, b'u'])),
        ]
        .concat();
        let told = distinguished_name(&name).unwrap();
        assert_eq!(told, "OU=ou,CN=\\#x\\ +1.2.3.513=#0C0179,O=\\ a\\,b=\\\"c\\\" \\C3\\A9\\0A,C=DE");
        for end in 1..name.len() {
            // Whole parts or nothing, and no panic.
            let _ = distinguished_name(&name[..end]);
        }
    }

    #[test]
    fn a_certificate_becomes_fields() {
        let rule = ClientRule { authorities: "ca.pem".into(), place: 0, required: false };
        let none = Shown::new(rule.clone(), None);
        assert_eq!(none.fields, [(VERIFY, b"NONE".to_vec())]);
        let der = certificate(&[0, 0xab, 1], &element(SET, &pair(&[0x55, 4, 3], 0x0c, b"me")));
        let shown = Shown::new(rule.clone(), Some(&der));
        let told = |wanted: &str| {
            let (_, value) = shown.fields.iter().find(|(name, _)| *name == wanted).unwrap();
            String::from_utf8(value.clone()).unwrap()
        };
        assert_eq!(
            (told(VERIFY), told(SUBJECT), told(SERIAL)),
            ("SUCCESS".into(), "CN=me".into(), "AB01".into())
        );
        assert_eq!(told(FINGERPRINT).len(), 64);
        for end in 0..der.len() {
            assert_eq!(Shown::new(rule.clone(), Some(&der[..end])).fields[1].1, b"", "{end} bytes");
        }
    }

    #[test]
    fn pem_is_base64_in_lines() {
        for (bytes, text) in
            [(&b"f"[..], "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foobar\xff", "Zm9vYmFy/w==")]
        {
            assert_eq!(
                pem(bytes),
                format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
            );
        }
        assert!(pem(&[0; 100]).lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn what_is_longest_fits_into_a_frame() {
        use trivet_http::h1::Limits;
        use trivet_wire::frame::{FRAME_BYTES_MAX, INLINE_BODY_BYTES_MAX};
        // Base64 and its line ends; each byte of the name at its worst; the rest.
        let fields = BYTES_MAX * 3 / 2 + BYTES_MAX * 3 + 1024;
        assert!(Limits::LARGEST.head_bytes_max as usize + INLINE_BODY_BYTES_MAX + fields < FRAME_BYTES_MAX);
    }
}
