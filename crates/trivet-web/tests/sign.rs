//! Signatures of the real itsdangerous and Flask are read, and where nothing is compressed written, byte for byte.

use trivet_web::sign::{self, Derivation, Digest, SignError, Signer};

/// Made by `vectors/signed.py`, which names the columns.
const VECTORS: &str = include_str!("vectors/signed.tsv");

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

#[test]
fn what_itsdangerous_signed_is_read_and_written_alike() {
    let mut compressed = 0;
    for line in VECTORS.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, digest, derivation, keys, salt, time, payload, token] = columns[..] else {
            panic!("a line without eight columns: {line}")
        };
        let digest = match digest {
            "sha1" => Digest::Sha1,
            "sha256" => Digest::Sha256,
            "sha512" => Digest::Sha512,
            other => panic!("digest {other}"),
        };
        let derivation = match derivation {
            "django-concat" => Derivation::DjangoConcat,
            "hmac" => Derivation::Hmac,
            "concat" => Derivation::Concat,
            "none" => Derivation::None,
            other => panic!("derivation {other}"),
        };
        let keys: Vec<&str> = keys.split(',').collect();
        let signer = Signer::new(&keys, salt.as_bytes(), digest, derivation).expect("keys");
        let oldest =
            Signer::new(&keys[keys.len() - 1..], salt.as_bytes(), digest, derivation).expect("a key");
        let payload = unhex(payload);
        let text = || String::from_utf8(payload.clone()).expect("text");
        let now = time.parse().unwrap_or(0);
        let again = match kind {
            "signer" => {
                assert_eq!(signer.unsign(token), Ok(text().as_str()), "{line}");
                assert_eq!(oldest.unsign(token).is_ok(), keys.len() == 1, "the newest key signs: {line}");
                signer.sign(&text())
            }
            "timestamp" => {
                assert_eq!(
                    signer.unsign_timed(token, Some(5), now + 5),
                    Ok((text().as_str(), now)),
                    "{line}"
                );
                assert!(signer.unsign_timed(token, Some(5), now + 6).is_err());
                signer.sign_timed(&text(), now)
            }
            "serializer" => {
                assert_eq!(signer.load(token), Ok(payload.clone()), "{line}");
                signer.dump(&payload)
            }
            "timed" => {
                assert_eq!(signer.load_timed(token, None, now), Ok((payload.clone(), now)), "{line}");
                signer.dump_timed(&payload, now)
            }
            other => panic!("kind {other}"),
        };
        if kind != "signer" && kind != "timestamp" && token.starts_with('.') {
            // two versions of zlib may find different ways to say the same
            compressed += 1;
        } else {
            assert_eq!(again, token, "{line}");
        }
        assert_eq!(signer.unsign(&token.replace('.', "-.")), Err(SignError::Mismatch), "{line}");
    }
    assert!(compressed > 10, "compressed payloads are among them");
}

#[test]
fn flask_sessions_have_their_own_constructor() {
    let line = VECTORS.lines().rfind(|line| line.contains("cookie-session")).expect("there are sessions");
    let token = line.rsplit('\t').next().expect("a token");
    let signer = Signer::flask_session(&["flask secret"]).expect("a key");
    let (payload, time) = signer.load_timed(token, None, 1_700_000_000).expect("signed by Flask");
    assert_eq!(time, 1_700_000_000);
    assert!(
        payload.starts_with(br#"{"cart":[{"count":0,"sku":"item-0"}"#) || payload.starts_with(br#"{"cart":"#)
    );
    assert_eq!(sign::decode_payload(&sign::encode_payload(&payload), payload.len()), Ok(payload));
}
