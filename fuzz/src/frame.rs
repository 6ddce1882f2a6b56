//! Frames between edge and worker: whatever a broken peer writes is refused or read within its bounds, and what was
//! read means the same when it is written out again.

use trivet_wire::frame::{
    FrameHeader, HEADER_BYTES, Malformed, Request, RequestWriter, Response, ResponseWriter, seal,
};

use crate::outcome;

/// Starting points: a header alone, a request and a response; the first byte chooses the decoder.
pub const SEEDS: &[&[u8]] = &[
    b"\x00\x10\0\0\0\x17\x02\x03\0\x09\0\0\0\xff\0\0\0",
    b"\x01\x04\0\x02\0\x06\0\0\0\0\0\0\0\x09\0\x03\0\x67\x12\x40\x1f\0\0\x02\0\x01\0\0\0\0\0\x10\0\x05\0\0\0\0\0\0\0\
      \0\0\0\0\0\0\0\0POST01/a?b=127.0.0.1::1\x04\0\x09\0\0\0Hostlocalhost\x01\0\0\0\0\0Xhello",
    b"\x02\xc8\0\x02\0\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xffOK\x04\0\x02\0\0\0Etag\"\"body",
];

/// Lengths at the edges of their fields, for the mutating driver.
pub const WORDS: &[&[u8]] = &[
    b"\0",
    b"\0\0",
    b"\x01\0",
    b"\x06\0",
    b"\xff\xff",
    b"\0\0\0\0",
    b"\x01\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x04\0\x02\0\0\0Nameva",
    b"\0\0\0\0\0\0",
    b"\xc8\0",
];

fn header(input: &[u8]) -> u64 {
    let Some(bytes) = input.first_chunk::<HEADER_BYTES>() else { return 0 };
    match FrameHeader::parse(bytes) {
        Ok(header) => {
            assert_eq!(&header.to_bytes(), bytes, "a header is read losslessly");
            outcome(("header", header.kind as u8))
        }
        Err(Malformed(why)) => outcome(("header", why)),
    }
}

fn request(payload: &[u8]) -> u64 {
    let request = match Request::parse(payload) {
        Ok(request) => request,
        Err(Malformed(why)) => return outcome(("request", why)),
    };
    let fields: Vec<_> = request.fields().collect();
    assert_eq!(fields.len(), usize::from(request.meta.fields), "a field that was counted is not given");

    let mut frame = Vec::new();
    let mut writer = RequestWriter::begin(&mut frame, &request.head);
    for (name, value) in &fields {
        writer.field(name, value);
    }
    writer.finish_head();
    frame.extend_from_slice(request.body);
    seal(&mut frame, 0, 0, 0, request.meta.body_bytes, request.meta.spool, request.meta.window);
    assert_eq!(frame.len(), HEADER_BYTES + payload.len(), "no byte is read twice or left out");
    let again = Request::parse(&frame[HEADER_BYTES..]).expect("accepted before");
    assert_eq!((again.meta, again.head, again.body), (request.meta, request.head, request.body));
    assert!(again.fields().eq(fields));
    outcome((
        "request",
        request.meta.fields.min(8),
        request.body.is_empty(),
        request.head.method.len().min(4),
    ))
}

fn response(payload: &[u8]) -> u64 {
    let response = match Response::parse(payload) {
        Ok(response) => response,
        Err(Malformed(why)) => return outcome(("response", why)),
    };
    let fields: Vec<_> = response.fields().collect();
    let mut again = Vec::new();
    let mut writer = ResponseWriter::begin(&mut again, response.status, response.reason);
    for (name, value) in &fields {
        writer.field(name, value);
    }
    writer.finish(response.body_bytes);
    again.extend_from_slice(response.body);
    assert_eq!(again.len(), payload.len(), "no byte is read twice or left out");
    let again = Response::parse(&again).expect("accepted before");
    assert_eq!(
        (again.status, again.reason, again.body_bytes, again.body),
        (response.status, response.reason, response.body_bytes, response.body)
    );
    assert!(again.fields().eq(fields.iter().copied()));
    outcome(("response", fields.len().min(8), response.body.is_empty(), response.reason.len().min(4)))
}

pub fn run(data: &[u8]) -> u64 {
    match data {
        [] => 0,
        [which, input @ ..] => match which % 3 {
            0 => header(input),
            1 => request(input),
            _ => response(input),
        },
    }
}
