//! Request heads: the same verdict however the bytes are cut, spans inside the head, agreement with `httparse`,
//! and the same meaning when an accepted head is written out again.

use trivet_http::field::{self, Name};
use trivet_http::h1::{BodyLength, Head, Limits, Parsed, Reject, Span, Version};

use crate::outcome;

/// Starting points: the first byte chooses the limits, the second how the rest is cut.
pub const SEEDS: &[&[u8]] = &[
    b"\0\0GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n",
    b"\0\x01POST /a?b HTTP/1.1\r\nhost:a\r\nContent-Length: 5\r\nConnection: keep-alive, X-A\r\nX-A: 1\r\n\r\nhello",
    b"\0\x03POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
    b"\x01\x07GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\nX_Y: z\r\nX-Forwarded-For: ::1\r\n\r\n",
    b"\x01\x02GET https://[::1]?q HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"\0\x05\r\nOPTIONS * HTTP/1.1\r\nHost: a:\r\nA:\t b\tc \r\nB:\r\n\r\nGET /2 HTTP/1.1\r\n",
    b"\0\0HEAD /\x7f HTTP/1.1\r\nHost : a\r\n\r\n",
    b"\0\0PRI * HTTP/2.0\r\n\r\n",
];

/// Pieces of syntax for the mutating driver.
pub const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b": ",
    b",",
    b"_",
    b"#",
    b"%00",
    b"\x7f",
    b"\x80",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"Host: a\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length",
    b"18446744073709551616",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: ",
    b"Expect: 100-continue\r\n",
    b"Upgrade: x\r\n",
    b"upgrade",
    b"http://",
    b"https://a",
    b"[::1]",
    b"GET ",
    b"CONNECT ",
    b"TRACE ",
    b"*",
    b"@",
];

const SMALL: Limits =
    Limits { request_line_bytes_max: 48, head_bytes_max: 160, fields_max: 4, field_bytes_max: 40 };

/// What a head means, apart from where it stands in the buffer.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    method: Vec<u8>,
    target: Vec<u8>,
    path_and_query: Vec<u8>,
    authority: Vec<u8>,
    version: Version,
    body: BodyLength,
    flags: [bool; 6],
    fields: Vec<(Vec<u8>, Vec<u8>, Name, bool)>,
}

impl Meaning {
    fn of(head: &Head, buf: &[u8]) -> Self {
        let bytes = |span: Span| {
            assert!(span.start <= span.end && span.end <= head.bytes, "a span leaves the head");
            span.of(buf).to_vec()
        };
        Self {
            method: bytes(head.method),
            target: bytes(head.target),
            path_and_query: bytes(head.path_and_query),
            authority: bytes(head.authority),
            version: head.version,
            body: head.body,
            flags: [
                head.empty_path,
                head.keep_alive,
                head.expect_continue,
                head.is_head,
                head.upgrade,
                head.connection_options,
            ],
            fields: (0..head.fields.len())
                .map(|index| {
                    let field = head.fields[index];
                    (bytes(field.name), bytes(field.value), field.known, head.hop(index))
                })
                .collect(),
        }
    }

    fn write(&self) -> Vec<u8> {
        let version: &[u8] = if self.version == Version::Http11 { b"1.1" } else { b"1.0" };
        let mut out = [&self.method[..], b" ", &self.target, b" HTTP/", version, b"\r\n"].concat();
        for (name, value, _, _) in &self.fields {
            out.extend_from_slice(&[&name[..], b": ", value, b"\r\n"].concat());
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

type Verdict = Result<Option<(Meaning, u32)>, Reject>;

/// Parses `buf` as it grows through `lengths`, the last of which is the whole.
fn parse(buf: &[u8], limits: &Limits, lengths: impl Iterator<Item = usize>) -> Verdict {
    let (mut head, mut resume) = (Head::default(), 0);
    for length in lengths {
        match head.parse(&buf[..length], limits, &mut resume) {
            Ok(Parsed::Partial) => {}
            Ok(Parsed::Complete) => {
                assert!(head.bytes as usize <= length, "more consumed than there is");
                assert_eq!(resume, 0);
                return Ok(Some((Meaning::of(&head, buf), head.bytes)));
            }
            Err(reject) => return Err(reject),
        }
    }
    Ok(None)
}

pub fn run(data: &[u8]) -> u64 {
    let [limits, step, buf @ ..] = data else { return 0 };
    let limits = match limits % 3 {
        0 => Limits::default(),
        1 => SMALL,
        _ => Limits::LARGEST,
    };
    let whole = parse(buf, &limits, std::iter::once(buf.len()));

    let step = usize::from(*step % 32) + 1;
    let lengths = (0..buf.len()).step_by(step).chain(std::iter::once(buf.len()));
    assert_eq!(parse(buf, &limits, lengths), whole, "the verdict depends on how the bytes are cut");
    if buf.len() > 2 {
        let cut = step * 7 % buf.len();
        let lengths = [cut, buf.len()].into_iter();
        assert_eq!(parse(buf, &limits, lengths), whole, "the verdict depends on where the bytes are cut");
    }

    match &whole {
        Err(reject) => {
            assert!([400, 414, 417, 431, 501, 505].contains(&reject.status));
            outcome((reject.status, reject.reason))
        }
        Ok(None) => outcome("partial"),
        Ok(Some((meaning, bytes))) => {
            judge(meaning, &buf[..*bytes as usize]);
            let known = meaning.fields.iter().fold(0u32, |seen, field| seen | 1 << field.2 as u32);
            let body = matches!(meaning.body, BodyLength::Length(_));
            outcome((meaning.flags, known, body, meaning.target.first()))
        }
    }
}

/// What must hold for an accepted head.
fn judge(meaning: &Meaning, head: &[u8]) {
    assert!(field::is_token(&meaning.method));
    assert!(meaning.target.iter().all(|b| (0x21..0x7f).contains(b) && *b != b'#'));
    for (name, value, known, _) in &meaning.fields {
        assert!(field::is_token(name));
        assert!(value.iter().all(|&b| field::is_value_byte(b)));
        assert_eq!(field::trim(value), value);
        assert_eq!(*known, Name::of(name));
    }
    let count = |known: Name| meaning.fields.iter().filter(|field| field.2 == known).count();
    assert!(count(Name::Host) <= 1 && count(Name::ContentLength) <= 1 && count(Name::TransferEncoding) <= 1);
    assert!(count(Name::ContentLength) + count(Name::TransferEncoding) <= 1);
    assert!(meaning.version == Version::Http10 || count(Name::Host) == 1);
    assert_eq!(meaning.body == BodyLength::Chunked, count(Name::TransferEncoding) == 1);
    assert_eq!(matches!(meaning.body, BodyLength::Length(_)), count(Name::ContentLength) == 1);

    let mut table = vec![httparse::EMPTY_HEADER; Limits::LARGEST.fields_max as usize];
    let mut request = httparse::Request::new(&mut table);
    assert_eq!(request.parse(head), Ok(httparse::Status::Complete(head.len())), "httparse refuses it");
    assert_eq!(request.method.map(str::as_bytes), Some(&meaning.method[..]));
    assert_eq!(request.path.map(str::as_bytes), Some(&meaning.target[..]));
    assert_eq!(request.headers.len(), meaning.fields.len());
    for (theirs, (name, value, known, _)) in request.headers.iter().zip(&meaning.fields) {
        assert_eq!(theirs.name.as_bytes(), name);
        // an absolute-form target's authority stands in the place of Host
        let replaced = *known == Name::Host && meaning.target[0] != b'/';
        assert!(replaced || theirs.value == value, "httparse reads another value");
    }

    let again = meaning.write();
    let reparsed = parse(&again, &Limits::LARGEST, std::iter::once(again.len()));
    let (reparsed, bytes) = reparsed.expect("accepted before").expect("it is whole");
    assert_eq!(&reparsed, meaning, "written out it means something else");
    assert_eq!(bytes as usize, again.len());
}
