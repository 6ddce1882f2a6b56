//! Chunked bodies: the same body and end however the bytes are cut, and the same body when written out again.

use trivet_http::h1::response::{LAST_CHUNK, chunk_header};
use trivet_http::h1::{Chunked, Reject, Step};

use crate::outcome;

/// Starting points: the first byte says how the rest is cut.
pub const SEEDS: &[&[u8]] = &[
    b"\x005\r\nhello\r\n0\r\n\r\nGET",
    b"\x03A;a=b\r\n0123456789\r\n1 ; c=\"d\\\"\"\r\nx\r\n0\r\nX-A: b\r\n\r\n",
    b"\x01ffffffffffffffff\r\nx",
    b"\x02000\r\nTrailer-Name:\tv\r\nB:\r\n\r\n",
    b"\x000\r\nContent-Length: 1\r\n\r\n",
];

/// Pieces of syntax for the mutating driver.
pub const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"0\r\n\r\n",
    b"0\r\n",
    b"1\r\nx\r\n",
    b"5\r\nhello\r\n",
    b";",
    b";a",
    b"=",
    b"=\"",
    b"\"",
    b"\\",
    b" ",
    b"\t",
    b"0x",
    b"+",
    b"-",
    b"_",
    b"\0",
    b"\x7f",
    b"\x80",
    b"Host: a\r\n",
    b"X: y\r\n",
    b"Te:",
    b":",
    b"00000000",
    b"10000000000000000",
];

/// Body, how many bytes belong to it when it has ended, or why it is refused.
type Verdict = (Vec<u8>, Result<Option<usize>, Reject>);

fn decode(input: &[u8], piece_bytes: usize) -> Verdict {
    let mut decoder = Chunked::default();
    let mut body = Vec::new();
    let mut before = 0;
    for piece in input.chunks(piece_bytes.max(1)) {
        let mut at = 0;
        loop {
            match decoder.step(&piece[at..]) {
                Ok(Step::Data { consumed, data }) => {
                    assert!(!data.is_empty() && data.end <= consumed && at + consumed <= piece.len());
                    body.extend_from_slice(&piece[at..][data]);
                    at += consumed;
                }
                Ok(Step::NeedMore { consumed }) => {
                    assert_eq!(at + consumed, piece.len(), "input is held back");
                    break;
                }
                Ok(Step::End { consumed }) => {
                    assert!(decoder.is_complete() && at + consumed <= piece.len());
                    return (body, Ok(Some(before + at + consumed)));
                }
                Err(reject) => return (body, Err(reject)),
            }
        }
        before += piece.len();
    }
    assert!(!decoder.is_complete());
    (body, Ok(None))
}

pub fn run(data: &[u8]) -> u64 {
    let [step, input @ ..] = data else { return 0 };
    let whole = decode(input, input.len());
    for piece_bytes in [1, usize::from(step % 64) + 1] {
        assert_eq!(decode(input, piece_bytes), whole, "the body depends on how the bytes are cut");
    }
    let (body, end) = whole;
    if let Ok(Some(end)) = end {
        let mut again = Vec::new();
        for chunk in body.chunks(usize::from(*step) + 1) {
            again.extend_from_slice(chunk_header(chunk.len(), &mut [0; 18]));
            again.extend_from_slice(chunk);
            again.extend_from_slice(b"\r\n");
        }
        again.extend_from_slice(LAST_CHUNK);
        let length = again.len();
        again.extend_from_slice(&input[end..]);
        assert_eq!(
            decode(&again, again.len()),
            (body.clone(), Ok(Some(length))),
            "written out it is another"
        );
    }
    outcome((end.map(|end| end.is_some()).map_err(|reject| reject.reason), body.len().min(3)))
}
