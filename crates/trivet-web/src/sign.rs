//! Signed values in itsdangerous's wire format, which Flask's sessions have: `value.signature`, `value.time.signature`.
//!
//! A signature is an HMAC (RFC 2104) over everything before the last dot, in base64url without padding (RFC 4648 §5).
//! Each value has one spelling only: what Python would read in spite of stray bits or padding is refused here.
//! Time is a parameter: seconds since 1970.

use std::fmt;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::{Compression, Decompress, FlushDecompress, Status};
use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest as _, Sha1};
use sha2::{Sha256, Sha512};

/// How far into the future a value may be signed, in seconds: clocks of two servers differ a little.
pub const AHEAD_SECONDS_MAX: u64 = 60;
/// What a compressed payload may grow to. It is signed, so it is ours; but keys leak, and then it must not fill memory.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Payloads below it are not worth compressing: the zlib frame and its tables take what they save.
const COMPRESS_BYTES_MIN: usize = 256;

/// The hash function of keys and signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// What itsdangerous and Flask use unless told; HMAC needs no collision resistance, so it is safe here.
    Sha1,
    Sha256,
    Sha512,
}

/// How the key of a salt is made from a secret: itsdangerous's `key_derivation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derivation {
    /// digest(salt + "signer" + secret), itsdangerous's default.
    DjangoConcat,
    /// HMAC(secret, salt), as in Flask's sessions.
    Hmac,
    /// digest(salt + secret).
    Concat,
    /// The secret itself.
    None,
}

/// Why a signer cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("no secret key was given")]
    Missing,
    #[error("a secret key is empty\nhint: anybody could sign with it")]
    Empty,
}

/// Why a signed value is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("no signature in the value")]
    Missing,
    #[error("signature does not match")]
    Mismatch,
    #[error("signed value has no time that can be read")]
    BadTime,
    #[error("signed {age} seconds ago, {age_max} are allowed")]
    Expired { age: u64, age_max: u64 },
    #[error("signed {ahead} seconds in the future, {AHEAD_SECONDS_MAX} are allowed")]
    Future { ahead: u64 },
    #[error("signed payload cannot be decoded")]
    BadPayload,
    #[error("signed payload is larger than {max} bytes")]
    TooLarge { max: usize },
}

/// An HMAC that has taken in its key: it is cloned for each value, which saves two of four blocks.
#[derive(Clone)]
enum Keyed {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

/// Signs with the newest key and believes all of them.
#[derive(Clone)]
pub struct Signer {
    /// Newest first, never empty.
    keys: Vec<Keyed>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // keys never reach a log
        f.debug_struct("Signer").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

macro_rules! with_digest {
    ($digest:expr, $D:ident, $variant:ident => $body:expr) => {
        match $digest {
            Digest::Sha1 => {
                type $D = Sha1;
                use Keyed::Sha1 as $variant;
                $body
            }
            Digest::Sha256 => {
                type $D = Sha256;
                use Keyed::Sha256 as $variant;
                $body
            }
            Digest::Sha512 => {
                type $D = Sha512;
                use Keyed::Sha512 as $variant;
                $body
            }
        }
    };
}

impl Keyed {
    fn derive(secret: &[u8], salt: &[u8], digest: Digest, derivation: Derivation) -> Self {
        with_digest!(digest, D, variant => {
            let keyed = |key: &[u8]| Hmac::<D>::new_from_slice(key).expect("HMAC takes keys of any length");
            let key = match derivation {
                Derivation::DjangoConcat => D::new().chain_update(salt).chain_update(b"signer").chain_update(secret).finalize(),
                Derivation::Concat => D::new().chain_update(salt).chain_update(secret).finalize(),
                Derivation::Hmac => keyed(secret).chain_update(salt).finalize().into_bytes(),
                Derivation::None => return variant(keyed(secret)),
            };
            variant(keyed(&key))
        })
    }

    fn push_signature(&self, value: &[u8], out: &mut String) {
        match self {
            Self::Sha1(mac) => push_base64(&mac.clone().chain_update(value).finalize().into_bytes(), out),
            Self::Sha256(mac) => push_base64(&mac.clone().chain_update(value).finalize().into_bytes(), out),
            Self::Sha512(mac) => push_base64(&mac.clone().chain_update(value).finalize().into_bytes(), out),
        }
    }

    /// In a time that does not depend on where the signatures differ.
    fn verify(&self, value: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Sha1(mac) => mac.clone().chain_update(value).verify_slice(signature).is_ok(),
            Self::Sha256(mac) => mac.clone().chain_update(value).verify_slice(signature).is_ok(),
            Self::Sha512(mac) => mac.clone().chain_update(value).verify_slice(signature).is_ok(),
        }
    }
}

fn push_base64(bytes: &[u8], out: &mut String) {
    URL_SAFE_NO_PAD.encode_string(bytes, out);
}

impl Signer {
    /// A signer for one purpose, which `salt` names. `keys` are secrets, the newest first (itsdangerous has it last):
    /// it signs, the others are still believed.
    pub fn new<K: AsRef<[u8]>>(
        keys: &[K],
        salt: &[u8],
        digest: Digest,
        derivation: Derivation,
    ) -> Result<Self, KeyError> {
        if keys.is_empty() {
            return Err(KeyError::Missing);
        }
        if keys.iter().any(|key| key.as_ref().is_empty()) {
            return Err(KeyError::Empty);
        }
        let keys = keys.iter().map(|key| Keyed::derive(key.as_ref(), salt, digest, derivation)).collect();
        Ok(Self { keys })
    }

    /// A signer that reads and writes Flask's session cookies, with [`dump_timed`](Self::dump_timed) and
    /// [`load_timed`](Self::load_timed); their payload is Flask's tagged JSON.
    pub fn flask_session<K: AsRef<[u8]>>(keys: &[K]) -> Result<Self, KeyError> {
        Self::new(keys, b"cookie-session", Digest::Sha1, Derivation::Hmac)
    }

    /// `value.signature`.
    pub fn sign(&self, value: &str) -> String {
        let mut out = String::with_capacity(value.len() + 96);
        out.push_str(value);
        self.seal(&mut out);
        out
    }

    /// Appends a dot and the signature of what stands in `out`.
    fn seal(&self, out: &mut String) {
        let mut signature = String::with_capacity(96);
        self.keys[0].push_signature(out.as_bytes(), &mut signature);
        out.push('.');
        out.push_str(&signature);
    }

    /// The value in `value.signature`, if a key of ours signed it.
    pub fn unsign<'a>(&self, signed: &'a str) -> Result<&'a str, SignError> {
        let (value, signature) = signed.rsplit_once('.').ok_or(SignError::Missing)?;
        // the longest is 64 bytes of SHA-512
        let mut buffer = [0; 66];
        let bytes = URL_SAFE_NO_PAD.decode_slice(signature, &mut buffer).map_err(|_| SignError::Mismatch)?;
        let signature = &buffer[..bytes];
        if self.keys.iter().any(|key| key.verify(value.as_bytes(), signature)) {
            Ok(value)
        } else {
            Err(SignError::Mismatch)
        }
    }

    /// `value.time.signature`, signed at `now` (itsdangerous's `TimestampSigner`).
    pub fn sign_timed(&self, value: &str, now: u64) -> String {
        let mut out = String::with_capacity(value.len() + 108);
        out.push_str(value);
        out.push('.');
        // big-endian without leading zeros; the time 0 is empty
        let time = now.to_be_bytes();
        push_base64(&time[now.leading_zeros() as usize / 8..], &mut out);
        self.seal(&mut out);
        out
    }

    /// The value in `value.time.signature` and when it was signed. `age_max` in seconds; an age equal to it is
    /// allowed. A time more than [`AHEAD_SECONDS_MAX`] after `now` is refused in any case.
    pub fn unsign_timed<'a>(
        &self,
        signed: &'a str,
        age_max: Option<u64>,
        now: u64,
    ) -> Result<(&'a str, u64), SignError> {
        let (value, time) = self.unsign(signed)?.rsplit_once('.').ok_or(SignError::BadTime)?;
        let mut buffer = [0; 9];
        let bytes = URL_SAFE_NO_PAD.decode_slice(time, &mut buffer).map_err(|_| SignError::BadTime)?;
        if bytes > 8 {
            return Err(SignError::BadTime);
        }
        let time = buffer[..bytes].iter().fold(0, |time, byte| time << 8 | u64::from(*byte));
        if time > now.saturating_add(AHEAD_SECONDS_MAX) {
            return Err(SignError::Future { ahead: time - now });
        }
        let age = now.saturating_sub(time);
        match age_max {
            Some(age_max) if age > age_max => Err(SignError::Expired { age, age_max }),
            _ => Ok((value, time)),
        }
    }

    /// A payload, mostly JSON, as a signed token for URLs and cookies (`URLSafeSerializer`).
    pub fn dump(&self, payload: &[u8]) -> String {
        self.sign(&encode_payload(payload))
    }

    /// The payload of a token made by [`dump`](Self::dump), at most [`PAYLOAD_BYTES_MAX`].
    pub fn load(&self, token: &str) -> Result<Vec<u8>, SignError> {
        decode_payload(self.unsign(token)?, PAYLOAD_BYTES_MAX)
    }

    /// As [`dump`](Self::dump), with the time of signing (`URLSafeTimedSerializer`).
    pub fn dump_timed(&self, payload: &[u8], now: u64) -> String {
        self.sign_timed(&encode_payload(payload), now)
    }

    /// The payload of a token made by [`dump_timed`](Self::dump_timed), and when; limits as in
    /// [`unsign_timed`](Self::unsign_timed) and [`load`](Self::load).
    pub fn load_timed(
        &self,
        token: &str,
        age_max: Option<u64>,
        now: u64,
    ) -> Result<(Vec<u8>, u64), SignError> {
        let (text, time) = self.unsign_timed(token, age_max, now)?;
        Ok((decode_payload(text, PAYLOAD_BYTES_MAX)?, time))
    }
}

/// A payload in base64url; compressed, with a dot in front, where that makes a longer one shorter. No signature.
pub fn encode_payload(payload: &[u8]) -> String {
    let mut out = String::with_capacity(payload.len() * 4 / 3 + 112);
    if payload.len() >= COMPRESS_BYTES_MIN {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
        let compressed =
            encoder.write_all(payload).and_then(|()| encoder.finish()).expect("memory takes everything");
        // the dot costs one
        if compressed.len() + 1 < payload.len() {
            out.push('.');
            push_base64(&compressed, &mut out);
            return out;
        }
    }
    push_base64(payload, &mut out);
    out
}

/// The inverse of [`encode_payload`], at most `bytes_max`; for text whose signature was checked.
pub fn decode_payload(text: &str, bytes_max: usize) -> Result<Vec<u8>, SignError> {
    let (text, is_compressed) = match text.strip_prefix('.') {
        Some(text) => (text, true),
        None => (text, false),
    };
    if text.len() / 4 * 3 > bytes_max.saturating_add(3) {
        return Err(SignError::TooLarge { max: bytes_max });
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SignError::BadPayload)?;
    if !is_compressed {
        return if bytes.len() > bytes_max { Err(SignError::TooLarge { max: bytes_max }) } else { Ok(bytes) };
    }
    let mut inflate = Decompress::new(true);
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(4).min(bytes_max) + 1);
    loop {
        let rest = &bytes[inflate.total_in() as usize..];
        let status = inflate.decompress_vec(rest, &mut out, FlushDecompress::Finish);
        if out.len() > bytes_max {
            return Err(SignError::TooLarge { max: bytes_max });
        }
        match status {
            Ok(Status::StreamEnd) => break,
            // one byte of room beyond the limit shows that there is more
            Ok(_) if out.len() == out.capacity() => {
                out.reserve_exact(out.len().max(1024).min(bytes_max + 1 - out.len()));
            }
            _ => return Err(SignError::BadPayload),
        }
    }
    // one payload, one text: nothing may follow the stream
    if inflate.total_in() == bytes.len() as u64 { Ok(out) } else { Err(SignError::BadPayload) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn signer(keys: &[&str]) -> Signer {
        Signer::new(keys, b"salt", Digest::Sha256, Derivation::DjangoConcat).expect("keys")
    }

    #[test]
    fn a_signer_needs_keys_and_hides_them() {
        let new = |keys: &[&str]| Signer::new(keys, b"", Digest::Sha1, Derivation::Hmac);
        assert_eq!(new(&[]).err(), Some(KeyError::Missing));
        assert_eq!(new(&["a", ""]).err(), Some(KeyError::Empty));
        assert_eq!(format!("{:?}", new(&["topsecret", "b"]).expect("keys")), "Signer { keys: 2, .. }");
    }

    #[test]
    fn only_what_was_signed_is_believed() {
        let signer = signer(&["key"]);
        let signed = signer.sign("a.b");
        assert_eq!(signer.unsign(&signed), Ok("a.b"));
        for at in 0..signed.len() {
            let mut changed = signed.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(signer.unsign(&changed).is_err(), "{changed}");
            assert!(signer.unsign(&signed[..at]).is_err());
        }
        assert_eq!(signer.unsign(""), Err(SignError::Missing));
        assert_eq!(signer.unsign("a"), Err(SignError::Missing));
        for bad in [
            "a.",
            ".",
            "a.é",
            "a.=",
            &format!("{signed}="),
            &format!("{signed}A"),
            &format!("a.{}", "A".repeat(400)),
        ] {
            assert_eq!(signer.unsign(bad), Err(SignError::Mismatch), "{bad}");
        }
    }

    #[test]
    fn a_signature_has_one_spelling() {
        // 32 bytes leave two bits of the last letter unused: Python reads all four spellings, we one
        let signer = signer(&["key"]);
        let signed = signer.sign("a");
        let (front, last) = signed.split_at(signed.len() - 1);
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let accepted: Vec<_> = letters
            .chars()
            .filter(|c| signer.unsign(&format!("{front}{c}")).is_ok())
            .map(String::from)
            .collect();
        assert_eq!(accepted, [last]);
    }

    #[test]
    fn keys_rotate() {
        let (old, new) = (signer(&["old"]), signer(&["new"]));
        let both = signer(&["new", "old"]);
        assert_eq!(both.sign("a"), new.sign("a"));
        assert_eq!(both.unsign(&old.sign("a")), Ok("a"));
        assert_eq!(new.unsign(&old.sign("a")), Err(SignError::Mismatch));
        let other = Signer::new(&["new"], b"other", Digest::Sha256, Derivation::DjangoConcat).expect("a key");
        assert_eq!(other.unsign(&new.sign("a")), Err(SignError::Mismatch));
    }

    #[test]
    fn values_expire_and_do_not_come_from_the_future() {
        let signer = signer(&["key"]);
        let signed = signer.sign_timed("a", NOW);
        assert_eq!(signer.unsign_timed(&signed, None, NOW + 1_000_000), Ok(("a", NOW)));
        assert_eq!(signer.unsign_timed(&signed, Some(10), NOW + 10), Ok(("a", NOW)));
        assert_eq!(
            signer.unsign_timed(&signed, Some(10), NOW + 11),
            Err(SignError::Expired { age: 11, age_max: 10 })
        );
        assert_eq!(signer.unsign_timed(&signed, Some(0), NOW - 60), Ok(("a", NOW)));
        for age_max in [None, Some(10)] {
            assert_eq!(signer.unsign_timed(&signed, age_max, NOW - 61), Err(SignError::Future { ahead: 61 }));
        }
        assert_eq!(
            SignError::Expired { age: 11, age_max: 10 }.to_string(),
            "signed 11 seconds ago, 10 are allowed"
        );
        for time in [0, 1, 255, 256, u64::from(u32::MAX), u64::MAX] {
            let signed = signer.sign_timed("a", time);
            assert_eq!(signer.unsign_timed(&signed, Some(0), time), Ok(("a", time)));
        }
        for bad in ["a", "a.é", "a.A", "a.AAAAAAAAAAAA", "a.AAAAAAAAAAAAAAAA", "a.ZVPxAA="] {
            assert_eq!(signer.unsign_timed(&signer.sign(bad), None, NOW), Err(SignError::BadTime), "{bad}");
        }
    }

    #[test]
    fn payloads_are_compressed_where_it_helps() {
        assert_eq!(encode_payload(b"{}"), "e30");
        let long = b"0123456789".repeat(100);
        let text = encode_payload(&long);
        assert!(text.starts_with('.') && text.len() < 80);
        assert_eq!(decode_payload(&text, 1000), Ok(long.clone()));
        assert_eq!(decode_payload(&text, 999), Err(SignError::TooLarge { max: 999 }));
        let plain = URL_SAFE_NO_PAD.encode(&long);
        assert_eq!(decode_payload(&plain, 1000), Ok(long));
        assert_eq!(decode_payload(&plain, 999), Err(SignError::TooLarge { max: 999 }));
        assert_eq!(decode_payload("", 0), Ok(Vec::new()));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = encode_payload(&vec![0; 2 * PAYLOAD_BYTES_MAX]);
        assert!(bomb.len() < 5_000);
        assert_eq!(
            decode_payload(&bomb, PAYLOAD_BYTES_MAX),
            Err(SignError::TooLarge { max: PAYLOAD_BYTES_MAX })
        );
        let signer = signer(&["key"]);
        assert_eq!(signer.load(&signer.sign(&bomb)), Err(SignError::TooLarge { max: PAYLOAD_BYTES_MAX }));
    }

    #[test]
    fn what_is_no_payload_is_refused() {
        let mut zlib = Vec::new();
        flate2::write::ZlibEncoder::new(&mut zlib, Compression::default())
            .write_all(b"hello hello hello")
            .expect("memory takes everything");
        let text = |bytes: &[u8]| format!(".{}", URL_SAFE_NO_PAD.encode(bytes));
        assert_eq!(decode_payload(&text(&zlib), 100), Ok(b"hello hello hello".to_vec()));
        for cut in 0..zlib.len() {
            assert_eq!(decode_payload(&text(&zlib[..cut]), 100), Err(SignError::BadPayload), "{cut}");
        }
        zlib.push(0);
        assert_eq!(decode_payload(&text(&zlib), 100), Err(SignError::BadPayload));
        // the last has bits to spare that are not 0
        for bad in [".", "A", "é", "e30=", "..", ".e30", "e31"] {
            assert_eq!(decode_payload(bad, 100), Err(SignError::BadPayload), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_dumped_loads(payload in prop::collection::vec(any::<u8>(), 0..600), now in any::<u32>()) {
            let (signer, now) = (signer(&["key"]), u64::from(now));
            prop_assert_eq!(signer.load(&signer.dump(&payload)), Ok(payload.clone()));
            let timed = signer.dump_timed(&payload, now);
            prop_assert_eq!(signer.load_timed(&timed, Some(0), now), Ok((payload, now)));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[.A-Za-z0-9é=_-]{0,80}") {
            let _ = signer(&["key"]).load_timed(&text, Some(1), NOW);
            let _ = decode_payload(&text, 1000);
        }
    }
}
