//! Signed values: nothing but what we signed is believed, whatever payload a holder of the key signs is bounded, and
//! what is dumped is loaded.

use trivet_web::sign::{self, Derivation, Digest, SignError, Signer};

use crate::outcome;

const NOW: u64 = 1_700_000_000;
const PAYLOAD_BYTES_MAX: usize = 4096;

/// Starting points: the first byte chooses what is done with the rest.
pub const SEEDS: &[&[u8]] = &[
    b"\0e30.ZVPxAA.rOS2MIzCEl5_xV_BuuZQHQk02Dg",
    b"\x01{\"uid\":7}",
    b"\x02eyJ1aWQiOjd9",
    b"\x02.eJxLTEpOSU1Lz8jMys7JzcsvKCwqLiktK6-orAIAksQLjQ",
    b"\x03value.ZVPxAA",
];

/// Pieces of syntax for the mutating driver.
pub const WORDS: &[&[u8]] =
    &[b".", b"..", b"=", b"e30", b"ZVPxAA", b"_____w", b".eJw", b"-", b"A", b"\xc3\xa9"];

fn signer() -> Signer {
    Signer::new(&["new", "old"], b"fuzz", Digest::Sha256, Derivation::Hmac).expect("there are keys")
}

pub fn run(data: &[u8]) -> u64 {
    let [which, rest @ ..] = data else { return 0 };
    let signer = signer();
    if which % 4 == 1 {
        let token = signer.dump_timed(rest, NOW);
        assert_eq!(signer.load_timed(&token, Some(0), NOW), Ok((rest.to_vec(), NOW)));
        assert_eq!(
            signer.load_timed(&token, Some(0), NOW + 1),
            Err(SignError::Expired { age: 1, age_max: 0 })
        );
        // one changed letter and it is not believed
        let at = rest.len() % token.len();
        let mut changed = token.into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert!(signer.load_timed(&changed, None, NOW).is_err());
        return outcome(("dumped", changed.starts_with('.')));
    }
    let Ok(text) = std::str::from_utf8(rest) else { return 0 };
    match which % 4 {
        0 => {
            let error = signer.load_timed(text, None, NOW).expect_err("nobody has the key");
            outcome(("forged", std::mem::discriminant(&error)))
        }
        2 => match sign::decode_payload(text, PAYLOAD_BYTES_MAX) {
            Ok(payload) => {
                assert!(payload.len() <= PAYLOAD_BYTES_MAX);
                let again = sign::encode_payload(&payload);
                assert_eq!(sign::decode_payload(&again, PAYLOAD_BYTES_MAX), Ok(payload));
                outcome(("payload", text.starts_with('.'), again == text))
            }
            Err(error) => outcome(("no payload", std::mem::discriminant(&error))),
        },
        _ => match signer.unsign_timed(&signer.sign(text), Some(100), NOW) {
            Ok((value, time)) => {
                assert!(time <= NOW + sign::AHEAD_SECONDS_MAX && time + 100 >= NOW);
                assert!(text.starts_with(value));
                outcome("timed")
            }
            Err(error) => outcome(("not timed", std::mem::discriminant(&error))),
        },
    }
}
