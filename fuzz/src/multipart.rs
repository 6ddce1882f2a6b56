//! Forms in parts: the same events and the same error however the bytes are cut, limits kept, and parts that mean the
//! same when they are written out again.

use trivet_web::multipart::{self, Event, Head, Limits, Multipart};

use crate::outcome;

const BOUNDARY: &[u8] = b"XYZ";

/// Starting points: the first byte chooses limits, the second how the rest is cut.
pub const SEEDS: &[&[u8]] = &[
    b"\0\x01--XYZ\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--XYZ--\r\n",
    b"\x01\x05pre\r\n--XYZ \r\nContent-Disposition: form-data; name=a; filename=\"x%22\\\".txt\"\r\n\
      Content-Type: text/plain\r\n\r\n\r\n--XY\r\r\n--XYZ\r\nContent-Disposition: form-data; name=b\r\n\r\n--XYZ--\r\nend",
    b"\x02\0multipart/form-data; boundary=\"a b\"; charset=utf-8",
];

/// Pieces of syntax for the mutating driver.
pub const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"--",
    b"--XYZ",
    b"\r\n--XYZ",
    b"\r\n--XYZ\r\n",
    b"\r\n--XYZ--",
    b"\r\n--XY",
    b"Content-Disposition: form-data; name=\"b\"\r\n",
    b"Content-Disposition: form-data; name=b; filename=c\r\n\r\n",
    b"Content-Type: multipart/mixed\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"; filename*=utf-8''x",
    b"; name=",
    b"; boundary=",
    b"\\\"",
    b"\"",
    b"%22",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
];

type Part = (Head, Vec<u8>);

/// Parts (the last perhaps without its end) and how it ended.
fn read(body: &[u8], limits: Limits, step: usize) -> (Vec<Part>, Result<(), multipart::Error>) {
    let (mut parts, mut is_open) = (Vec::<Part>::new(), false);
    let mut parser = Multipart::new(BOUNDARY, limits).expect("a boundary");
    let fed = body.chunks(step).try_for_each(|piece| {
        parser.feed(piece, &mut |event| match event {
            Event::Begin(head) => {
                assert!(!is_open, "parts do not nest");
                is_open = true;
                parts.push((head, Vec::new()));
            }
            Event::Data(data) => {
                assert!(is_open && !data.is_empty());
                parts.last_mut().expect("it is open").1.extend_from_slice(data);
            }
            Event::End => {
                assert!(is_open, "a part ends once");
                is_open = false;
            }
        })
    });
    let ended = parser.finish();
    if let Err(error) = &fed {
        assert_eq!(ended.as_ref(), Err(error), "an error stays");
    }
    assert!(ended.is_err() || !is_open, "a whole form has whole parts");
    if is_open {
        // how much of its content was given depends on the cuts
        parts.last_mut().expect("it is open").1.clear();
    }
    (parts, ended)
}

fn write(parts: &[Part]) -> Vec<u8> {
    let mut out = Vec::new();
    for (head, content) in parts {
        out.extend_from_slice(b"--XYZ\r\n");
        for (name, value) in &head.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(&[b"\r\n", &content[..], b"\r\n"].concat());
    }
    out.extend_from_slice(b"--XYZ--");
    out
}

pub fn run(data: &[u8]) -> u64 {
    let [limits, step, body @ ..] = data else { return 0 };
    let limits = match limits % 3 {
        0 => Limits::default(),
        1 => Limits { parts_max: 3, head_bytes_max: 120, memory_bytes_max: 40 },
        _ => {
            return match multipart::boundary(body) {
                Ok(boundary) => {
                    assert!(Multipart::new(boundary, Limits::default()).is_ok());
                    outcome(("boundary", boundary.contains(&b' ')))
                }
                Err(error) => outcome(error.status()),
            };
        }
    };
    let whole = read(body, limits, body.len().max(1));
    for step in [usize::from(*step) + 1, 1] {
        assert_eq!(read(body, limits, step), whole, "what is read depends on how the bytes are cut");
    }
    let (parts, ended) = whole;
    assert!(parts.len() <= limits.parts_max);
    let fields = parts.iter().filter(|(head, _)| head.filename.is_none());
    assert!(
        fields.map(|(head, data)| head.name.len() + data.len()).sum::<usize>() <= limits.memory_bytes_max
    );
    for (head, _) in &parts {
        let safe = multipart::safe_filename(head.filename.as_deref().unwrap_or_default());
        assert!(
            !safe.is_empty()
                && safe.len() <= 255
                && !safe.contains(['/', '\\', '\0'])
                && !safe.starts_with('.')
        );
    }
    if ended.is_ok() {
        let again = read(&write(&parts), Limits::default(), 64);
        assert_eq!(again, (parts.clone(), Ok(())), "written out it means something else");
    }
    let files = parts.iter().filter(|(head, _)| head.filename.is_some()).count();
    outcome((ended.map_err(|error| error.to_string()), parts.len().min(8), files.min(4)))
}
