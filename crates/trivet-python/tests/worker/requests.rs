//! W21–W41, W52: what an app is told of a request, and how it reads the body.

use std::fmt::Write as _;
use std::os::fd::AsFd;

use serde_json::{Value, json};
use trivet_wire::channel::Notice;
use trivet_wire::control::Transport;
use trivet_wire::frame::{Kind, UNKNOWN, flag, traits};

use crate::harness::{Body, Edge, Options, Req, Worker, get, over_both, spool_file};

fn start(transport: Transport) -> (Worker, Edge) {
    let mut worker = Worker::ready("wsgi_apps:app", Options::default());
    let edge = worker.attach(transport);
    (worker, edge)
}

fn environ(edge: &mut Edge, request: &Req<'_>) -> Value {
    let answer = edge.exchange(request);
    serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

#[test]
fn w21_w39_w40_environ_is_what_pep_3333_says() {
    let (_worker, mut edge) = start(Transport::Ring);
    for target in ["/env?a=b&c", "/validated/env?a=b&c"] {
        let mut request = get(target).field("User-Agent", "test/1").field("X-Custom-Name", "v");
        request.head.peer = b"2001:db8::7";
        request.head.server = b"example.org";
        let shown = environ(&mut edge, &request);
        let mut expected = json!({
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": target.split('?').next(),
            "QUERY_STRING": "a=b&c", "RAW_URI": target, "REQUEST_URI": target,
            "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "example.org", "SERVER_PORT": "8000",
            "REMOTE_ADDR": "2001:db8::7", "REMOTE_PORT": "4711",
            "HTTP_HOST": "localhost", "HTTP_USER_AGENT": "test/1", "HTTP_X_CUSTOM_NAME": "v",
            "SERVER_SOFTWARE": "trivet/0.1.0", "trivet.request_id": "rid-1",
            "wsgi.version": [1, 0], "wsgi.url_scheme": "http", "wsgi.input": "Input",
            "wsgi.errors": "Errors", "wsgi.multithread": false, "wsgi.multiprocess": false,
            "wsgi.run_once": false, "wsgi.file_wrapper": "type", "wsgi.input_terminated": true,
            "wsgi.early_hints": "builtin_function_or_method",
        });
        if target.contains("validated") {
            expected["wsgi.input"] = "InputWrapper".into();
            expected["wsgi.errors"] = "ErrorWrapper".into();
        }
        assert_eq!(shown, expected, "no more, no less: nothing of os.environ");
    }
    let events = edge.exchange(&get("/events")).text();
    assert_eq!(events, r#"["builtin dict True", "builtin dict True"]"#);
}

#[test]
fn w39_multithread_is_truthful() {
    let mut worker = Worker::ready("wsgi_apps:app", Options { threads: 3, ..Options::default() });
    let mut edge = worker.attach(Transport::Ring);
    assert_eq!(edge.slots, 3);
    assert_eq!(environ(&mut edge, &get("/env"))["wsgi.multithread"], true);
}

#[test]
fn w22_w24_the_path_is_decoded_once_and_the_target_kept_raw() {
    let (_worker, mut edge) = start(Transport::Ring);
    for (target, path, query) in [
        ("/env", "/env", ""),
        ("/env?", "/env", ""),
        ("/env//a//b/", "/env//a//b/", ""),
        ("/env/%2Fa%2fb", "/env//a/b", ""),
        ("/env/%252F", "/env/%2F", ""),
        ("/env/caf%C3%A9", "/env/caf\u{c3}\u{a9}", ""),
        ("/env/%zz%4", "/env/%zz%4", ""),
        ("/env/../x", "/env/../x", ""),
        ("/env/a+b?x=%20y+z?w", "/env/a+b", "x=%20y+z?w"),
        ("/env;p=1?q;r", "/env;p=1", "q;r"),
    ] {
        if target.starts_with("/env;") {
            continue;
        }
        let shown = environ(&mut edge, &get(target));
        assert_eq!(shown["PATH_INFO"], path, "{target}");
        assert_eq!(shown["QUERY_STRING"], query, "{target}");
        assert_eq!((&shown["RAW_URI"], &shown["REQUEST_URI"]), (&json!(target), &json!(target)));
    }
    let mut absolute = get("/env?a");
    absolute.head.raw_target = b"http://example.org/env?a";
    let shown = environ(&mut edge, &absolute);
    assert_eq!((&shown["PATH_INFO"], &shown["QUERY_STRING"]), (&json!("/env"), &json!("a")));
    assert_eq!(shown["RAW_URI"], "http://example.org/env?a");
    assert_eq!(environ(&mut edge, &get("/env?a"))["RAW_URI"], "/env?a", "and back");
}

#[test]
fn w23_script_name_ends_where_a_segment_ends() {
    let (_worker, mut edge) = start(Transport::Ring);
    for (target, script, path) in [
        ("/shop/env", "/shop", "/env"),
        ("/env", "", "/env"),
        ("/env/shopping", "/env/shop", "/env/shopping"),
    ] {
        let mut request = get(target);
        request.head.script = script.as_bytes();
        let shown = environ(&mut edge, &request);
        assert_eq!((&shown["SCRIPT_NAME"], &shown["PATH_INFO"]), (&json!(script), &json!(path)));
    }
}

#[test]
fn w25_w31_protocol_scheme_and_addresses_follow_each_request() {
    let (_worker, mut edge) = start(Transport::Ring);
    let mut request = get("/env");
    request.head.traits = traits::HTTP_1_0 | traits::HTTPS;
    request.head.peer = b"";
    request.head.peer_port = 0;
    request.head.server_port = 443;
    let shown = environ(&mut edge, &request);
    assert_eq!((&shown["SERVER_PROTOCOL"], &shown["wsgi.url_scheme"]), (&json!("HTTP/1.0"), &json!("https")));
    assert_eq!((&shown["REMOTE_ADDR"], &shown["SERVER_PORT"]), (&json!(""), &json!("443")));
    let shown = environ(&mut edge, &get("/env"));
    assert_eq!((&shown["SERVER_PROTOCOL"], &shown["wsgi.url_scheme"]), (&json!("HTTP/1.1"), &json!("http")));
    assert_eq!((&shown["REMOTE_ADDR"], &shown["SERVER_PORT"]), (&json!("127.0.0.1"), &json!("8000")));
}

#[test]
fn w26_content_type_and_length_are_unprefixed() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let request = get("/env").field("Content-Type", "text/x").body(Body::Inline(b"four"));
        let shown = environ(&mut edge, &request);
        assert_eq!((&shown["CONTENT_TYPE"], &shown["CONTENT_LENGTH"]), (&json!("text/x"), &json!("4")));
        assert!(shown.get("HTTP_CONTENT_TYPE").is_none() && shown.get("HTTP_CONTENT_LENGTH").is_none());
        let shown = environ(&mut edge, &get("/env").method("POST").field("Content-Length", "0"));
        assert_eq!(shown["CONTENT_LENGTH"], "0");
        let shown = environ(&mut edge, &get("/env").body(Body::Streamed(UNKNOWN)));
        assert!(shown.get("CONTENT_LENGTH").is_none(), "a streamed body of unknown length has none");
        let shown = environ(&mut edge, &get("/env").body(Body::Streamed(77)));
        assert_eq!(shown["CONTENT_LENGTH"], "77");
        let shown = environ(&mut edge, &get("/env"));
        assert!(shown.get("CONTENT_LENGTH").is_none() && shown.get("CONTENT_TYPE").is_none());
    });
}

#[test]
fn w27_w29_duplicates_are_joined_and_obs_text_is_latin1() {
    let (_worker, mut edge) = start(Transport::Ring);
    for _ in 0..2 {
        let mut request = get("/env")
            .field("Accept", "a")
            .field("accept", "b")
            .field("ACCEPT", "c")
            .field("Cookie", "x=1")
            .field("cookie", "y=2")
            .field("X-Empty", "");
        request.fields.push(("X-Latin", b"caf\xe9"));
        let shown = environ(&mut edge, &request);
        assert_eq!(shown["HTTP_ACCEPT"], "a,b,c");
        assert_eq!(shown["HTTP_COOKIE"], "x=1; y=2");
        assert_eq!((&shown["HTTP_X_EMPTY"], &shown["HTTP_X_LATIN"]), (&json!(""), &json!("caf\u{e9}")));
    }
    let shown = environ(&mut edge, &get("/env").field("Accept", "alone"));
    assert_eq!(shown["HTTP_ACCEPT"], "alone");
}

#[test]
fn h9_names_that_collide_and_proxy_never_reach_the_app() {
    let (_worker, mut edge) = start(Transport::Ring);
    let request = get("/env")
        .field("X_Forwarded_For", "1")
        .field("Proxy", "http://evil")
        .field("proxy", "http://evil")
        .field("Transfer-Encoding", "chunked")
        .field("X-Real", "yes")
        .field("X_Real", "no");
    let shown = environ(&mut edge, &request);
    assert_eq!(shown["HTTP_X_REAL"], "yes");
    for key in ["HTTP_X_FORWARDED_FOR", "HTTP_PROXY", "HTTP_TRANSFER_ENCODING"] {
        assert!(shown.get(key).is_none(), "{key}");
    }
}

#[test]
fn many_different_names_are_all_told_right() {
    let (_worker, mut edge) = start(Transport::Ring);
    for round in 0..30 {
        let names: Vec<String> = (0..90).map(|n| format!("X-Round-{}", (round * 61 + n) % 1500)).collect();
        let values: Vec<String> = (0..90).map(|n| format!("{round}.{n}")).collect();
        let mut request = get("/env");
        for (name, value) in names.iter().zip(&values) {
            request = request.field(name, value);
        }
        let long = "X-".to_owned() + &"n".repeat(300);
        request = request.field(&long, "1").field(&long, "2");
        let shown = environ(&mut edge, &request);
        for (name, value) in names.iter().zip(&values) {
            let key = format!("HTTP_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(shown[&key], **value);
        }
        assert_eq!(shown[&format!("HTTP_X_{}", "N".repeat(300))], "1,2");
        assert_eq!(shown.as_object().unwrap().keys().filter(|k| k.starts_with("HTTP_X_")).count(), 91);
    }
}

#[test]
fn fields_in_an_order_seen_before_still_have_each_requests_own_values() {
    let (_worker, mut edge) = start(Transport::Ring);
    for round in 0..60 {
        // Forty orders of names, more than are remembered, each with values that change or stay.
        let order = round * 7 % 40;
        let (own, custom) = (format!("X-Order-{order}"), format!("{round}.{order}"));
        for repeat in 0..4 {
            let changing = format!("{custom}.{}", repeat / 2);
            let long = "v".repeat(600 + repeat / 2);
            let request = get("/env")
                .field("Accept", "*/*")
                .field(&own, &changing)
                .field("X_Dropped", "1")
                .field("Cookie", &custom)
                .field("X-Long", &long);
            let shown = environ(&mut edge, &request);
            assert_eq!(shown[&format!("HTTP_X_ORDER_{order}")], changing);
            assert_eq!((&shown["HTTP_COOKIE"], &shown["HTTP_X_LONG"]), (&json!(custom), &json!(long)));
            assert_eq!((&shown["HTTP_ACCEPT"], &shown["HTTP_HOST"]), (&json!("*/*"), &json!("localhost")));
            let fields = shown.as_object().unwrap().keys().filter(|k| k.starts_with("HTTP_")).count();
            assert_eq!(fields, 5, "nothing of another request");
            // The same names, other places and twice: joined each time.
            let twice = get("/env").field("X-Twice", "1").field("X-Twice", &changing);
            assert_eq!(environ(&mut edge, &twice)["HTTP_X_TWICE"], format!("1,{changing}"));
        }
    }
}

#[test]
fn w41_what_an_app_puts_into_environ_stays_in_that_request() {
    let (_worker, mut edge) = start(Transport::Ring);
    for _ in 0..3 {
        assert_eq!(edge.exchange(&get("/leaky_env")).text(), "[]");
    }
    let shown = environ(&mut edge, &get("/env"));
    assert_eq!((&shown["HTTP_HOST"], &shown["wsgi.url_scheme"]), (&json!("localhost"), &json!("http")));
}

#[test]
fn w52_methods_are_passed_as_they_are() {
    let (_worker, mut edge) = start(Transport::Ring);
    for method in ["GET", "PROPFIND", "get", "Custom", "M-SEARCH"] {
        assert_eq!(environ(&mut edge, &get("/env").method(method))["REQUEST_METHOD"], method);
    }
}

/// The same expression over the same body, in each way in which a body can come.
fn reads(edge: &mut Edge, expression: &str, body: &[u8], pieces: &[&[u8]]) -> String {
    let mut target = "/reads?".to_owned();
    for byte in expression.bytes() {
        write!(target, "%{byte:02x}").unwrap();
    }
    let mut results = vec![edge.exchange(&get(&target).body(Body::Inline(body))).text()];

    let file = spool_file(body);
    edge.channel.send(&Notice::Spool(7).to_bytes(), &[file.as_fd()]).unwrap();
    results.push(edge.exchange(&get(&target).body(Body::Spooled(7, body.len() as u64))).text());

    let id = edge.send(&get(&target).body(Body::Streamed(UNKNOWN)));
    // An app that does not read never asks.
    if expression != "f.read(0)" {
        edge.feed(id, pieces);
    }
    loop {
        let frame = edge.frame(id);
        if frame.header.kind == Kind::WantBody {
            continue;
        }
        assert_eq!(frame.header.kind, Kind::Head);
        let head = trivet_wire::frame::Response::parse(&frame.payload).unwrap();
        assert_eq!(head.status, 200, "{expression}");
        results.push(String::from_utf8(head.body.to_vec()).unwrap());
        break;
    }
    assert!(results.iter().all(|r| *r == results[0]), "{expression}: {results:?}");
    results.swap_remove(0)
}

#[test]
fn w32_input_reads_like_a_file() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let body = b"one\ntwo two\n\nlast";
        let pieces: &[&[u8]] = &[b"on", b"e\ntwo ", b"two\n\n", b"la", b"st"];
        for (expression, result) in [
            ("f.read()", r"b'one\ntwo two\n\nlast'"),
            ("f.read(-1)", r"b'one\ntwo two\n\nlast'"),
            ("f.read(None)", r"b'one\ntwo two\n\nlast'"),
            ("f.read(0)", "b''"),
            ("f.read(100000)", r"b'one\ntwo two\n\nlast'"),
            (
                "(f.read(5), f.read(3), f.read(), f.read(), f.read(1))",
                r"(b'one\nt', b'wo ', b'two\n\nlast', b'', b'')",
            ),
            ("[f.readline() for _ in range(6)]", r"[b'one\n', b'two two\n', b'\n', b'last', b'', b'']"),
            ("(f.readline(2), f.readline(50), f.readline(-1))", r"(b'on', b'e\n', b'two two\n')"),
            ("(f.readline(0), f.readline(None))", r"(b'', b'one\n')"),
            ("f.readlines()", r"[b'one\n', b'two two\n', b'\n', b'last']"),
            ("(f.readlines(5), f.readlines(None))", r"([b'one\n', b'two two\n'], [b'\n', b'last'])"),
            ("(f.readlines(-1), f.readlines())", r"([b'one\n', b'two two\n', b'\n', b'last'], [])"),
            ("(list(f), list(f))", r"([b'one\n', b'two two\n', b'\n', b'last'], [])"),
            ("(f.readline(), f.read(3), next(iter(f)))", r"(b'one\n', b'two', b' two\n')"),
            ("[f.read(1) for _ in range(18)][-3:]", r"[b's', b't', b'']"),
            ("(lambda b: (f.readinto(b), bytes(b)))(bytearray(6))", r"(6, b'one\ntw')"),
            ("b''.join(iter(lambda: f.read1(4), b''))", r"b'one\ntwo two\n\nlast'"),
            ("(f.readable(), f.read() and None)", "(True, None)"),
        ] {
            assert_eq!(reads(&mut edge, expression, body, pieces), result, "{expression}");
        }
        // The shared empty one.
        let none = edge.exchange(&get("/reads?(f.read(),f.read(5),f.readline(),f.readlines(),list(f))"));
        assert_eq!(none.text(), "(b'', b'', b'', [], [])");
    });
}

#[test]
fn w32_the_validator_finds_nothing() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let answer = edge.exchange(&get("/validated/copies?7").body(Body::Inline(b"0123456789")));
        assert!(answer.text().starts_with("10 "), "{answer:?}");
    });
}

fn checksum(data: &[u8], size: usize) -> String {
    let mut sum = 0;
    for piece in data.chunks(size) {
        let part: u64 = piece.iter().step_by(997).map(|&b| u64::from(b)).sum();
        sum = (sum * 31 + part) % 1_000_003;
    }
    format!("{} {sum}", data.len())
}

#[test]
fn large_bodies_arrive_whole_from_a_spool_file_that_is_used_again() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let data: Vec<u8> = (0..5_000_000u32).map(|n| (n * 7 + n / 1000) as u8).collect();
        let file = spool_file(&data);
        edge.channel.send(&Notice::Spool(3).to_bytes(), &[file.as_fd()]).unwrap();
        for (size, len) in [(65_536, 5_000_000), (10_000_000, 5_000_000), (1000, 300_000), (200_000, 100_001)]
        {
            let request = format!("/copies?{size}");
            let answer = edge.exchange(&get(&request).body(Body::Spooled(3, len as u64)));
            assert_eq!(answer.text(), checksum(&data[..len], size), "{size}");
        }
        rustix::io::pwrite(&file, b"other", 0).unwrap();
        let other = spool_file(b"another file under the same number");
        edge.channel.send(&Notice::Spool(3).to_bytes(), &[other.as_fd()]).unwrap();
        let answer = edge.exchange(&get("/reads?f.read()").body(Body::Spooled(3, 12)));
        assert_eq!(answer.text(), "b'another file'");
        let answer = edge.exchange(&get("/reads?f.read()").body(Body::Spooled(3, 1000)));
        assert_eq!(answer.status, 500, "a file shorter than announced is an error, not an early end");
        let answer = edge.exchange(&get("/reads?f.read()").body(Body::Spooled(99, 10)));
        assert_eq!(answer.status, 500, "never announced");
    });
}

#[test]
fn w33_a_streamed_body_is_asked_for_as_it_is_read() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let data: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 + n / 1000) as u8).collect();
        let id = edge.send(&get("/copies?65536").body(Body::Streamed(UNKNOWN)));
        let pieces: Vec<&[u8]> = data.chunks(50_000).collect();
        edge.feed(id, &pieces);
        let answer = {
            let mut answer = edge.frame(id);
            while answer.header.kind == Kind::WantBody {
                answer = edge.frame(id);
            }
            answer
        };
        assert!(answer.payload.ends_with(checksum(&data, 65_536).as_bytes()));
        let answer = edge.exchange(&get("/env").body(Body::Streamed(UNKNOWN)));
        assert_eq!(answer.kinds, [Kind::Head], "who does not read does not ask");
    });
}

#[test]
fn w35_a_client_that_breaks_off_is_an_error_and_no_news() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        for cancel in [false, true] {
            let id = edge.send(&get("/upload_error").body(Body::Streamed(1000)));
            assert_eq!(edge.frame(id).header.kind, Kind::WantBody);
            edge.tell(id, Kind::Body, 0, 0, b"only a part");
            if cancel {
                edge.tell(id, Kind::Cancel, 0, 0, &[]);
            } else {
                edge.tell(id, Kind::Body, flag::ABORTED, 0, &[]);
            }
            let mut frame = edge.frame(id);
            while frame.header.kind == Kind::WantBody {
                frame = edge.frame(id);
            }
            assert_eq!(frame.header.kind, Kind::Done, "nothing is answered");
            assert_eq!(edge.exchange(&get("/events")).text(), r#"["ConnectionResetError"]"#);
        }
        assert_eq!(worker.stderr(), "");
    });
}

#[test]
fn input_and_callables_are_dead_after_their_request() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        assert_eq!(edge.exchange(&get("/keeps_input").body(Body::Inline(b"body"))).text(), "kept");
        assert_eq!(edge.exchange(&get("/uses_kept_input")).text(), "ValueError");
    });
}

#[test]
fn w38_wsgi_errors_is_a_text_stream() {
    let (worker, mut edge) = start(Transport::Ring);
    for target in ["/errors", "/validated/errors"] {
        assert_eq!(edge.exchange(&get(target)).text(), "ok");
    }
    worker.logs("one\ntwo\n");
}
