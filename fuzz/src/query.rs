//! Queries and simple forms: the pairs are text, as many as there are places, and mean the same written out again.

use trivet_web::query::{self, Limits, QueryError};

use crate::outcome;

/// Starting points: the first byte is the most parameters.
pub const SEEDS: &[&[u8]] = &[
    b"\x09a=1&b=2",
    b"\x02a=%41+%2B%zz%&&=%c3%a9&",
    b"\x04a_name_longer_than_sixteen=a+value+longer+than+that+as+well",
    b"\x09\xc3%a9=\xff",
];

/// Pieces of syntax for the mutating driver.
pub const WORDS: &[&[u8]] =
    &[b"&", b"=", b"+", b"%", b"%41", b"%c3%a9", b"%ff", b"%00", b"%2", b"\xc3", b"aaaaaaaaaaaaaaaa"];

pub fn run(data: &[u8]) -> u64 {
    let [max, input @ ..] = data else { return 0 };
    let limits = Limits { parameters_max: usize::from(*max) };
    let places = input.split(|b| *b == b'&').filter(|place| !place.is_empty()).count();
    match query::pairs(input, limits).collect::<Result<Vec<_>, _>>() {
        Ok(pairs) => {
            assert_eq!(pairs.len(), places);
            assert!(places <= limits.parameters_max);
            let again = query::encode(pairs.iter().map(|(name, value)| (name, value)));
            assert!(again.is_ascii());
            let reread = query::pairs(again.as_bytes(), limits).collect::<Result<Vec<_>, _>>();
            assert_eq!(
                reread.expect("it is written by the book"),
                pairs,
                "written out it means something else"
            );
            outcome(("pairs", pairs.len().min(8), again.len() == input.len()))
        }
        Err(QueryError::TooMany { max }) => {
            assert!(places > max && max == limits.parameters_max);
            outcome("too many")
        }
        Err(QueryError::NotUtf8 { parameter }) => {
            assert!((1..=places).contains(&parameter) && parameter <= limits.parameters_max);
            assert!(input.iter().any(|b| *b == b'%' || !b.is_ascii()), "ASCII without escapes is text");
            outcome(("no text", parameter.min(8)))
        }
    }
}
