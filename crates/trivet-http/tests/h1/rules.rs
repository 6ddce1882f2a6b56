//! The rules for request heads that a table of streams cannot show: limits, marks on fields, reuse of the table.

use trivet_http::field::Name;
use trivet_http::h1::{BodyLength, Form, Head, Limits, Parsed, Reject};

use crate::stream::{verdict, verdict_in_pieces};

fn parse(input: &[u8], limits: &Limits) -> (Head, Result<Parsed, Reject>) {
    let mut head = Head::default();
    let result = head.parse(input, limits, &mut 0);
    (head, result)
}

/// As [`parse`], one byte at a time; also says how many bytes it had when it decided.
fn parse_bytewise(input: &[u8], limits: &Limits) -> (Result<Parsed, Reject>, usize) {
    let (mut head, mut resume) = (Head::default(), 0);
    for length in 0..=input.len() {
        let result = head.parse(&input[..length], limits, &mut resume);
        if result != Ok(Parsed::Partial) {
            return (result, length);
        }
    }
    (Ok(Parsed::Partial), input.len())
}

fn refused(status: u16, reason: &str, result: Result<Parsed, Reject>) {
    let reject = result.expect_err("it is refused");
    assert_eq!((reject.status, reject.reason), (status, reason));
}

const SMALL: Limits =
    Limits { request_line_bytes_max: 40, head_bytes_max: 200, fields_max: 3, field_bytes_max: 30 };

#[test]
fn h8_a_request_line_may_have_its_limit_and_no_byte_more() {
    let line = |bytes: usize| format!("GET /{} HTTP/1.1", "x".repeat(bytes - 14));
    let head = |bytes: usize| format!("{}\r\nHost: a\r\n\r\n", line(bytes));
    assert_eq!(parse(head(40).as_bytes(), &SMALL).1, Ok(Parsed::Complete));
    assert_eq!(parse_bytewise(head(40).as_bytes(), &SMALL).0, Ok(Parsed::Complete));
    // a leading CRLF does not count
    assert_eq!(parse(format!("\r\n{}", head(40)).as_bytes(), &SMALL).1, Ok(Parsed::Complete));

    refused(414, "limit.request_line", parse(head(41).as_bytes(), &SMALL).1);
    let (result, bytes) = parse_bytewise(head(41).as_bytes(), &SMALL);
    refused(414, "limit.request_line", result);
    assert_eq!(bytes, 42, "as soon as no line end can come in time");
    refused(414, "limit.request_line", parse(&[b"GET /", [b'x'; 100].as_slice()].concat(), &SMALL).1);
    refused(501, "method.too_long", parse(&[b'G'; 100], &SMALL).1);
}

#[test]
fn h8_a_head_may_have_its_limit_and_no_byte_more() {
    let limits = Limits { field_bytes_max: 200, ..SMALL };
    let head = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(bytes - 32));
    assert_eq!(head(200).len(), 200);
    assert_eq!(parse(head(200).as_bytes(), &limits).1, Ok(Parsed::Complete));
    assert_eq!(parse_bytewise(head(200).as_bytes(), &limits).0, Ok(Parsed::Complete));
    refused(431, "limit.head", parse(head(201).as_bytes(), &limits).1);
    let (result, bytes) = parse_bytewise(head(201).as_bytes(), &limits);
    refused(431, "limit.head", result);
    assert_eq!(bytes, 200);
}

#[test]
fn h8_a_field_may_have_its_limit_and_no_byte_more() {
    let head = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(bytes - 3));
    assert_eq!(parse(head(30).as_bytes(), &SMALL).1, Ok(Parsed::Complete));
    assert_eq!(parse_bytewise(head(30).as_bytes(), &SMALL).0, Ok(Parsed::Complete));
    refused(431, "limit.field", parse(head(31).as_bytes(), &SMALL).1);
    refused(431, "limit.field", parse_bytewise(head(31).as_bytes(), &SMALL).0);
    let long_name = format!("GET / HTTP/1.1\r\n{}", "n".repeat(40));
    refused(431, "limit.field", parse(long_name.as_bytes(), &SMALL).1);
    refused(431, "limit.field", parse_bytewise(long_name.as_bytes(), &SMALL).0);
}

#[test]
fn h8_as_many_fields_as_the_limit_and_not_one_more() {
    let head = |fields: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(fields - 1));
    assert_eq!(parse(head(3).as_bytes(), &SMALL).1, Ok(Parsed::Complete));
    assert_eq!(parse_bytewise(head(3).as_bytes(), &SMALL).0, Ok(Parsed::Complete));
    refused(431, "limit.fields", parse(head(4).as_bytes(), &SMALL).1);
    refused(431, "limit.fields", parse_bytewise(head(4).as_bytes(), &SMALL).0);
}

#[test]
fn h8_the_largest_limits_are_the_largest() {
    let endless = Limits {
        request_line_bytes_max: u32::MAX,
        head_bytes_max: u32::MAX,
        fields_max: u32::MAX,
        field_bytes_max: u32::MAX,
    };
    let line = format!("GET /{}", "x".repeat(64 * 1024));
    refused(414, "limit.request_line", parse(line.as_bytes(), &endless).1);
    let head = format!("GET / HTTP/1.1\r\nX: {}", "v".repeat(256 * 1024));
    refused(431, "limit.head", parse(head.as_bytes(), &endless).1);
    let fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(1000));
    refused(431, "limit.fields", parse(fields.as_bytes(), &endless).1);
    let most = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(999));
    assert_eq!(parse(most.as_bytes(), &endless).1, Ok(Parsed::Complete));
    assert_eq!(parse_bytewise(most.as_bytes(), &endless).0, Ok(Parsed::Complete));
}

#[test]
fn h1_length_and_encoding_together_are_refused_in_either_order() {
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\nX: y\r\ncontent-length: 0\r\n",
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(verdict(head.as_bytes()), "400 smuggling.length_and_encoding");
    }
}

#[test]
fn h2_only_chunked_alone_on_http_1_1_is_a_transfer_encoding() {
    for (value, accepted) in [
        ("chunked", true),
        ("CHUNKED", true),
        ("chunked, identity", false),
        ("identity, chunked", false),
        ("chunke", false),
        ("chunkedd", false),
        ("'chunked'", false),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {value}\r\n\r\n");
        let (head, result) = parse(head.as_bytes(), &Limits::default());
        assert_eq!(result.is_ok(), accepted, "{value}");
        assert_eq!(head.body == BodyLength::Chunked, accepted, "{value}");
    }
}

#[test]
fn h3_the_authority_of_an_absolute_target_takes_the_place_of_host() {
    let input = b"GET https://Real.example:444?q HTTP/1.1\r\nX: y\r\nHost: other\r\n\r\n";
    let (head, result) = parse(input, &Limits::default());
    assert_eq!(result, Ok(Parsed::Complete));
    assert_eq!(head.form, Form::AbsoluteHttps);
    assert_eq!(head.authority.of(input), b"Real.example:444");
    assert_eq!(head.fields[1].value.of(input), b"Real.example:444");
    assert_eq!(head.path_and_query.of(input), b"?q");
    assert!(head.empty_path);
    assert_eq!(head.target.of(input), b"https://Real.example:444?q");
}

#[test]
fn h4_every_byte_that_may_not_stand_in_a_name_or_value_is_refused() {
    for byte in 0..=255u8 {
        let name = [b"GET / HTTP/1.1\r\nHost: a\r\nX", &[byte][..], b"Y: z\r\n\r\n"].concat();
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        // a colon ends the name, the rest is value
        assert_eq!(parse(&name, &Limits::default()).1.is_ok(), token || byte == b':', "name byte {byte:#x}");
        let value = [b"GET / HTTP/1.1\r\nHost: a\r\nX: a", &[byte][..], b"b\r\n\r\n"].concat();
        let text = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
        assert_eq!(parse(&value, &Limits::default()).1.is_ok(), text, "value byte {byte:#x}");
    }
}

#[test]
fn h5_h7_every_byte_that_may_not_stand_in_the_request_line_is_refused() {
    for byte in 0..=255u8 {
        let target = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let visible = (0x21..0x7f).contains(&byte) && byte != b'#';
        assert_eq!(parse(&target, &Limits::default()).1.is_ok(), visible, "target byte {byte:#x}");
        let method = [b"G", &[byte][..], b"T / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert_eq!(parse(&method, &Limits::default()).1.is_ok(), token, "method byte {byte:#x}");
    }
}

#[test]
fn h9_fields_that_need_care_are_marked() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nX_Real_IP: 1\r\nPROXY: 2\r\nX-Forwarded-For: 3\r\n\
        Forwarded: for=4\r\nx-forwarded-anything: 5\r\nTransfer_Encoding: 6\r\nX-Real-IP: 7\r\nAccept: 8\r\n\r\n";
    let (head, result) = parse(input, &Limits::default());
    assert_eq!(result, Ok(Parsed::Complete));
    let known: Vec<_> = head.fields.iter().map(|field| field.known).collect();
    assert_eq!(
        known,
        [
            Name::Host,
            Name::Underscore,
            Name::Proxy,
            Name::XForwardedFor,
            Name::Forwarded,
            Name::XForwardedOther,
            Name::Underscore,
            Name::XForwardedOther,
            Name::Other,
        ]
    );
    assert_eq!(head.body, BodyLength::None);
}

#[test]
fn h12_fields_are_hop_by_hop_by_name_or_because_connection_names_them() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One, close,TE\r\nx-one: 1\r\nX-Two: 2\r\nTE: trailers\r\n\
        Connection: x-two\r\nKeep-Alive: 3\r\nProxy-Connection: 4\r\nTrailer: 5\r\nUpgrade: 6\r\nX-One: 7\r\n\
        X-Three: 8\r\n\r\n";
    let (head, result) = parse(input, &Limits::default());
    assert_eq!(result, Ok(Parsed::Complete));
    let passing: Vec<_> = (0..head.fields.len())
        .filter(|&index| !head.hop(index))
        .map(|index| head.fields[index].name.of(input))
        .collect();
    assert_eq!(passing, [&b"Host"[..], b"X-Three"]);
    assert!(head.connection_options && !head.keep_alive && !head.upgrade);

    let (head, _) =
        parse(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, TE\r\n\r\n", &Limits::default());
    assert!(!head.connection_options);
}

#[test]
fn h12_connection_options_are_counted() {
    let head = |options: usize| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}x\r\n\r\n", "x,".repeat(options - 1))
    };
    assert_eq!(parse(head(32).as_bytes(), &Limits::default()).1, Ok(Parsed::Complete));
    refused(400, "connection.options", parse(head(33).as_bytes(), &Limits::default()).1);
}

#[test]
fn one_head_serves_many_connections_at_once() {
    let inputs: [&[u8]; 3] = [
        b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"\r\nPOST /two HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\nX-Long-Name: with a value\r\n\r\n",
        b"OPTIONS * HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
    ];
    let targets: [&[u8]; 3] = [b"/one", b"/two", b"*"];
    let mut head = Head::default();
    let mut resumes = [0; 3];
    let mut complete = [false; 3];
    for length in 1..=inputs.iter().map(|input| input.len()).max().expect("there are some") {
        for (index, input) in inputs.iter().enumerate().filter(|(_, input)| length <= input.len()) {
            let parsed =
                head.parse(&input[..length], &Limits::default(), &mut resumes[index]).expect("valid");
            assert_eq!(parsed == Parsed::Complete, length == input.len());
            if parsed == Parsed::Complete {
                assert_eq!(head.target.of(input), targets[index]);
                assert_eq!(head.bytes as usize, input.len());
                assert_eq!(resumes[index], 0);
                complete[index] = true;
            }
        }
    }
    assert_eq!(complete, [true; 3]);
}

#[test]
fn the_field_table_is_reused() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n";
    let mut head = Head::default();
    head.parse(input, &Limits::default(), &mut 0).expect("valid");
    let (place, capacity) = (head.fields.as_ptr(), head.fields.capacity());
    for _ in 0..3 {
        head.parse(b"GET / HTTP/1.0\r\n\r\n", &Limits::default(), &mut 0).expect("valid");
        assert!(head.fields.is_empty() && head.authority.is_empty() && !head.keep_alive);
        head.parse(input, &Limits::default(), &mut 0).expect("valid");
        assert_eq!((head.fields.as_ptr(), head.fields.capacity()), (place, capacity));
        assert_eq!(head.fields.len(), 5);
    }
}

#[test]
fn an_error_in_a_line_wins_over_one_of_the_whole_head_however_the_bytes_come() {
    let input = b"POST / HTTP/1.1\r\nContent-Length: x\r\nBad Name: y\r\n\r\n";
    assert_eq!(verdict(input), "400 field.space_before_colon");
    assert_eq!(verdict_in_pieces(input, std::iter::repeat(1)), "400 field.space_before_colon");
}
