//! Certificates of sites: whether they can be used, for these hosts and today.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use trivet_edge::tls::{Authorities, Identity as EdgeIdentity};

use super::document::Span;
use super::section::{Reading, Section};
use super::{Identity, edge};

const FILE_BYTES_MAX: u64 = 1 << 20;
const DAY_SECONDS: i64 = 86_400;

/// The place of a site's certificate among all.
pub(crate) fn read(
    section: Section<'_>,
    hosts: &[String],
    all: &mut Vec<Identity>,
    reading: &mut Reading,
) -> Option<usize> {
    let ((cert, cert_span), (key, key_span)) = (section.text("cert")?, section.text("key")?);
    let (chain, key) = (reading.absolute(cert), reading.absolute(key));
    if let Some(at) = all.iter().position(|i| i.chain == chain && i.key == key) {
        judge(&std::fs::read(&chain).unwrap_or_default(), hosts, cert_span, reading);
        all[at].hosts.extend_from_slice(hosts);
        return Some(at);
    }
    let texts = (
        reading.read(cert_span, "the certificate", &chain, FILE_BYTES_MAX),
        reading.read(key_span, "the key", &key, FILE_BYTES_MAX),
    );
    let (chain_text, key_text) = (texts.0?, texts.1?);
    if let Err(error) = EdgeIdentity::new(&chain_text, &key_text) {
        let hint = "`cert` names the server's certificate and those that lead to its issuer, `key` its key, both as PEM";
        let span = if error.to_string().contains("key file") { key_span } else { cert_span };
        reading.error(span, error.to_string(), hint);
        return None;
    }
    judge(&chain_text, hosts, cert_span, reading);
    all.push(Identity { chain, key, hosts: hosts.to_vec() });
    Some(all.len() - 1)
}

/// Which certificates the site asks clients for.
pub(crate) fn client(
    section: Section<'_>,
    all: &mut Vec<PathBuf>,
    reading: &mut Reading,
) -> Option<edge::ClientRule> {
    let Some((text, span)) = section.text("client-ca") else {
        if let Some(entry) = section.entry("client") {
            let hint =
                "add `client-ca`, the certificates of those who issue the clients' ones, or leave it out";
            reading.error(&entry.name_span, "`client` has no effect without `client-ca`", hint);
        }
        return None;
    };
    let path = reading.absolute(text);
    let pem = reading.read(span, "the certificates", &path, FILE_BYTES_MAX)?;
    if let Err(error) = Authorities::new(&pem) {
        let hint = "`client-ca` names the certificates of those who issue the clients' ones, as PEM";
        reading.error(span, error.to_string(), hint);
        return None;
    }
    let place = all.iter().position(|known| *known == path).unwrap_or(all.len());
    if place == all.len() {
        all.push(path.clone());
    }
    let required = section.word("client") != "optional";
    Some(edge::ClientRule { authorities: path.display().to_string(), place, required })
}

/// Warns of what browsers will refuse.
fn judge(chain: &[u8], hosts: &[String], span: &Span, reading: &mut Reading) {
    let Some(Ok(first)) = CertificateDer::pem_slice_iter(chain).next() else { return };
    if let Ok(parsed) = ParsedCertificate::try_from(&first) {
        let missing = hosts.iter().find(|host| {
            // Some name beneath a wildcard stands for all of them.
            let name = host.strip_prefix("*.").map_or_else(|| (*host).clone(), |rest| format!("x.{rest}"));
            let name = name.trim_matches(['[', ']']).to_owned();
            ServerName::try_from(name).is_ok_and(|name| verify_server_name(&parsed, &name).is_err())
        });
        if let Some(host) = missing {
            let message = format!("the certificate is not for `{host}`");
            reading.warn(span, message, "browsers will refuse it: use one whose names include it");
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    if let Some((from, until)) = validity(&first) {
        if until.seconds < now {
            reading.warn(span, format!("the certificate expired on {}", until.day), "renew it");
        } else if from.seconds > now + DAY_SECONDS {
            let message = format!("the certificate is not valid before {}", from.day);
            reading.warn(span, message, "look at this machine's clock");
        }
    }
}

/// When a certificate runs out, since 1970.
pub(crate) fn expiry_seconds(certificate: &[u8]) -> Option<i64> {
    validity(certificate).map(|(_, until)| until.seconds)
}

#[derive(Debug, PartialEq, Eq)]
struct Time {
    /// Since 1970.
    seconds: i64,
    /// `2026-11-21`.
    day: String,
}

/// From when until when (RFC 5280 §4.1).
fn validity(certificate: &[u8]) -> Option<(Time, Time)> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let mut outer = certificate;
    let mut tbs = take(&mut outer)?.1;
    let mut tbs = take(&mut tbs)?.1;
    if tbs.first() == Some(&VERSION) {
        take(&mut tbs)?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        take(&mut tbs)?;
    }
    let (tag, mut times) = take(&mut tbs)?;
    if tag != SEQUENCE {
        return None;
    }
    Some((time(take(&mut times)?)?, time(take(&mut times)?)?))
}

/// The first DER element: its tag and content.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let count = usize::from(length & 0x7f);
        if count > 4 || rest.len() < count {
            return None;
        }
        let (digits, rest) = rest.split_at(count);
        (digits.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)), rest)
    };
    if rest.len() < length {
        return None;
    }
    let (content, after) = rest.split_at(length);
    *bytes = after;
    Some((tag, content))
}

/// `UTCTime` or `GeneralizedTime`.
fn time((tag, text): (u8, &[u8])) -> Option<Time> {
    const UTC: u8 = 0x17;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = if tag == UTC {
        let two: i64 = text.get(..2)?.parse().ok()?;
        (if two < 50 { 2000 + two } else { 1900 + two }, text.get(2..)?)
    } else {
        (text.get(..4)?.parse().ok()?, text.get(4..)?)
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    // Days since 1970 by the civil calendar: a year is counted from March on.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
        - 1
        - 719_468;
    let seconds = days * DAY_SECONDS + part(4)? * 3_600 + part(6)? * 60 + part(8)?;
    Some(Time { seconds, day: format!("{year}-{month:02}-{day:02}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_certificates_are_read() {
        let at = |tag, text: &str| time((tag, text.as_bytes())).map(|t| (t.seconds, t.day));
        assert_eq!(at(0x17, "700101000000Z"), Some((0, "1970-01-01".into())));
        assert_eq!(at(0x17, "261121130000Z"), Some((1_795_266_000, "2026-11-21".into())));
        assert_eq!(at(0x18, "20520301000000Z"), Some((2_592_864_000, "2052-03-01".into())));
        assert_eq!(time((0x17, b"x")), None);
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        for bytes in [&b""[..], b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\x02\x30\x00"] {
            assert_eq!(validity(bytes), None);
        }
    }
}
