//! W1–W20, W37, W42–W45: what an app's response becomes.

use std::time::Duration;

use trivet_wire::control::Transport;
use trivet_wire::frame::{Kind, flag};

use crate::harness::{Answer, Edge, Options, Req, Worker, get, over_both, until};

fn start(transport: Transport) -> (Worker, Edge) {
    let mut worker = Worker::ready("wsgi_apps:app", Options::default());
    let edge = worker.attach(transport);
    (worker, edge)
}

/// The app's notes since the last look.
fn events(edge: &mut Edge) -> Vec<String> {
    serde_json::from_slice(&edge.exchange(&get("/events")).body).unwrap()
}

fn ask(edge: &mut Edge, target: &str) -> Answer {
    edge.exchange(&get(target))
}

/// Whole and by the rules in both shapes: alone and under the standard library's validator.
fn validated(edge: &mut Edge, name: &str) -> Answer {
    let answer = ask(edge, &format!("/validated/{name}"));
    assert!(answer.complete && !answer.aborted, "{name}: {answer:?}");
    assert_ne!(answer.status, 500, "{name}");
    let alone = ask(edge, &format!("/{name}"));
    assert_eq!(alone.body, answer.body, "{name}");
    answer
}

fn is_error_page(answer: &Answer) -> bool {
    answer.status == 500 && answer.fields.is_empty() && answer.body.is_empty() && answer.complete
}

#[test]
fn hello_is_one_frame() {
    over_both(|transport| {
        let mut worker = Worker::ready("hello:app", Options::default());
        let mut edge = worker.attach(transport);
        assert_eq!(edge.slots, 1);
        for _ in 0..1000 {
            let answer = edge.exchange(&get("/"));
            assert_eq!((answer.status, &*answer.reason), (200, "OK"));
            assert_eq!(answer.fields, [("Content-Type".to_owned(), "text/plain".to_owned())]);
            assert_eq!((answer.body_bytes, &*answer.text()), (Some(13), "Hello, World!"));
            assert_eq!(answer.kinds, [Kind::Head]);
        }
        let (status, stderr) = worker.quit();
        assert!(status.success());
        assert_eq!(stderr, "");
    });
}

#[test]
fn w1_start_response_may_come_with_the_first_iteration() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let answer = validated(&mut edge, "late_start");
        assert_eq!((answer.status, &*answer.reason, &*answer.text()), (201, "Created", "late"));
        assert_eq!(ask(&mut edge, "/later_start").text(), "late");
    });
}

#[test]
fn w2_without_start_response_it_is_500() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        for target in ["/no_start", "/no_start_empty"] {
            assert!(is_error_page(&ask(&mut edge, target)), "{target}");
        }
        assert_eq!(events(&mut edge), ["iter body", "close body"]);
        worker.logs("start_response() must be called before");
        worker.logs("did not call start_response()");
    });
}

#[test]
fn w3_a_second_start_response_is_an_assertion_error() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        assert_eq!(ask(&mut edge, "/second_start").text(), "refused");
    });
}

#[test]
fn w4_exc_info_replaces_a_head_that_was_not_sent() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let answer = ask(&mut edge, "/replaced");
        assert_eq!((answer.status, &*answer.reason), (503, "Sorry"));
        assert_eq!(answer.fields, [("X-Second".to_owned(), "2".to_owned())]);
        let answer = validated(&mut edge, "replaced_after_empty");
        assert_eq!((answer.status, &*answer.text()), (503, "replaced"));
    });
}

#[test]
fn w5_exc_info_after_the_head_is_raised_again_and_aborts() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let answer = ask(&mut edge, "/reraised");
        assert_eq!((answer.status, &*answer.text()), (200, "sent"));
        assert!(answer.aborted && !answer.complete);
        assert_eq!(events(&mut edge), ["reraised the cause"]);
    });
}

#[test]
fn w6_written_data_comes_before_the_iterables() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        assert_eq!(validated(&mut edge, "writes").text(), "one two three");
        assert_eq!(ask(&mut edge, "/writes_only").text(), "all");
    });
}

#[test]
fn w7_close_is_called_once_whatever_happens() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        let answer = ask(&mut edge, "/closing");
        assert_eq!((answer.text(), answer.kinds.last()), ("ab".into(), Some(&Kind::Done)));
        assert_eq!(events(&mut edge), ["iter body", "close body"], "at the end");

        assert!(ask(&mut edge, "/closing_error").aborted);
        assert_eq!(events(&mut edge), ["iter body", "close body"], "on an error");

        assert!(edge.exchange(&get("/closing").method("HEAD")).complete);
        assert_eq!(events(&mut edge), ["iter body", "close body"], "for HEAD");

        let answer = ask(&mut edge, "/closing_raises");
        assert!(answer.complete && answer.text() == "x", "the response is whole before close fails");
        assert_eq!(events(&mut edge), ["iter body", "close body"], "close that raises");
        worker.logs("close failed");
    });
}

#[test]
fn w7_close_is_called_when_the_client_goes() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        edge.window = 100_000;
        let id = edge.send(&get("/big?10000&1000000"));
        let mut got = 0;
        while got < 100_000 {
            got += edge.frame(id).payload.len();
        }
        edge.tell(id, Kind::Cancel, 0, 0, &[]);
        assert!(edge.answer(id).kinds.contains(&Kind::Done), "the slot comes back");
        assert_eq!(events(&mut edge), ["generator closed"]);
        assert_eq!(worker.stderr(), "", "a client that goes is no news");
    });
}

#[test]
fn w8_empty_chunks_neither_end_nor_begin_a_response() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        assert_eq!(validated(&mut edge, "empties").text(), "ab");
        for name in ["nothing", "only_empties"] {
            let answer = validated(&mut edge, name);
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{name}");
        }
    });
}

#[test]
fn w9_a_body_is_bytes_or_an_error() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        for target in ["/text_body", "/bytearray_body", "/not_iterable", "/bytes_result"] {
            assert!(is_error_page(&ask(&mut edge, target)), "{target}");
        }
        worker.logs("must be bytes, not str");
        worker.logs("must be bytes, not bytearray");
        worker.logs("must be bytes, not int");
    });
}

#[test]
fn w10_an_error_in_mid_body_never_looks_like_an_end() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        let answer = ask(&mut edge, "/closing_error");
        assert_eq!(answer.text(), "first");
        assert!(answer.aborted && !answer.complete);
        let log = worker.logs("RuntimeError: in the middle");
        assert!(log.contains(r#"request="GET /closing_error HTTP/1.1" request_id=rid-1"#), "{log}");

        for target in ["/fails_before", "/fails_first"] {
            assert!(is_error_page(&ask(&mut edge, target)), "{target}: nothing was sent");
        }
        let log = worker.logs("RuntimeError: secret cause");
        assert!(!log.contains("gateway.py") && log.contains("in fails_before"), "{log}");
    });
}

#[test]
fn w11_lists_and_tuples_go_out_whole() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let answer = ask(&mut edge, "/many_parts");
        assert!(answer.text().starts_with("part0;part1;") && answer.text().ends_with("part49;"));
        assert_eq!(answer.kinds, [Kind::Head], "what fits goes in one frame");
        assert_eq!(answer.body_bytes, None, "the inline length is the length");
        assert_eq!(ask(&mut edge, "/tuple_body").text(), "of a tuple");
        let answer = ask(&mut edge, "/big_list?50000&10");
        assert_eq!((answer.body.len(), answer.body_bytes), (500_000, Some(500_000)));
        assert!((0..500_000).all(|n| answer.body[n] == (n % 50_000 % 251) as u8));
    });
}

#[test]
fn w12_a_body_shorter_than_declared_is_cut_and_a_longer_one_truncated() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        for kind in ["list", "iter"] {
            for (chunks, sent) in [("abc", "abc"), ("a,b", "ab"), (",", "")] {
                let answer = ask(&mut edge, &format!("/declared?{kind}&10&{chunks}"));
                assert_eq!((answer.status, answer.body_bytes), (200, Some(10)));
                assert_eq!(answer.text(), sent);
                assert!(answer.aborted && !answer.complete, "{kind} {chunks}: {answer:?}");
            }
            for chunks in ["abcdef", "ab,cdef", "a,b,c,d,e", "abc,d"] {
                let answer = ask(&mut edge, &format!("/declared?{kind}&3&{chunks}"));
                assert_eq!((&*answer.text(), answer.aborted), ("abc", false), "{kind} {chunks}");
                assert!(answer.complete);
            }
            let answer = ask(&mut edge, &format!("/declared?{kind}&3&a,b,c,"));
            assert_eq!((&*answer.text(), answer.complete), ("abc", true), "exactly as long");
        }
        // An iterable is iterated and closed once, cut or not.
        let noted = events(&mut edge);
        assert_eq!(noted.len(), 16);
        assert!(noted.chunks(2).all(|pair| pair == ["iter body", "close body"]));
        let (_, log) = worker.quit();
        assert!(log.contains("the connection is cut content_length=10 sent=3"), "{log}");
        assert_eq!(log.matches("sent more").count(), 8, "{log}");
        assert_eq!(log.matches("sent less").count(), 6, "{log}");
    });
}

#[test]
fn w13_an_invalid_content_length_is_500() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        for case in ["nolength", "negative", "plus", "twolengths"] {
            assert!(is_error_page(&ask(&mut edge, &format!("/headers?{case}"))), "{case}");
        }
        let log = worker.logs("two different Content-Length");
        assert!(!log.contains("abc-secret"), "{log}");
        assert_eq!(ask(&mut edge, "/headers?samelengths").body_bytes, Some(4));
    });
}

#[test]
fn w14_head_has_the_declared_length_and_no_body() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        for (target, length) in [
            ("/declared?list&3&abc", Some(3)),
            ("/declared?iter&3&abc", Some(3)),
            ("/many_parts", None),
            ("/late_start", None),
            ("/writes", None),
            ("/file?1000&&", None),
            ("/file?1000&&1000", Some(1000)),
        ] {
            let answer = edge.exchange(&get(target).method("HEAD"));
            assert_eq!((answer.body_bytes, answer.body.len()), (length, 0), "{target}");
            assert!(answer.complete && answer.status < 300, "{target}: {answer:?}");
            assert!(
                answer.kinds.iter().all(|k| matches!(k, Kind::Head | Kind::Done)),
                "{target}: {answer:?}"
            );
        }
    });
}

#[test]
fn w15_w17_statuses_are_checked_and_reasons_kept() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        let mut get_status = |n: usize| ask(&mut edge, &format!("/status?{n}"));
        for (n, code, reason, body) in [
            (0, 204, "No Content", ""),
            (1, 304, "Not Modified", ""),
            (2, 200, "", "body"),
            (3, 299, "A  reason, with (signs)", "body"),
            (4, 999, "Odd", "body"),
            (5, 404, "\u{e4}", "body"),
        ] {
            let answer = get_status(n);
            assert_eq!((answer.status, &*answer.reason, &*answer.text()), (code, reason, body));
            assert!(answer.complete);
        }
        for n in 6..15 {
            assert!(is_error_page(&get_status(n)), "status {n}");
        }
        assert!(is_error_page(&ask(&mut edge, "/bytes_status")));
        let log = worker.logs("the status must be a str");
        assert!(!log.contains("X: y"), "{log}");
    });
}

#[test]
fn w16_hop_by_hop_fields_are_dropped_with_one_warning() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        for _ in 0..3 {
            let answer = ask(&mut edge, "/headers?hop");
            assert_eq!(answer.fields, [("X-Stays".to_owned(), "1".to_owned())]);
        }
        assert!(is_error_page(&ask(&mut edge, "/headers?transfer")));
        let log = worker.logs("must not send Transfer-Encoding");
        assert_eq!(log.matches("hop-by-hop").count(), 1, "{log}");
    });
}

#[test]
fn w18_bad_fields_are_500_and_values_are_not_repeated() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        let cases = [
            "euro",
            "surrogate",
            "crlf",
            "nul",
            "badname",
            "colon",
            "emptyname",
            "bytesname",
            "intvalue",
            "triple",
            "huge",
        ];
        for case in cases {
            assert!(is_error_page(&ask(&mut edge, &format!("/headers?{case}"))), "{case}");
        }
        let log = worker.logs("headers are longer than");
        assert!(!log.contains("secret") && !log.contains("evil"), "{log}");
        assert_eq!(log.matches("the application failed").count(), cases.len(), "{log}");
        let answer = ask(&mut edge, "/headers?latin1");
        assert_eq!(answer.field("x-name"), Some("caf\u{e9} \u{ff}"));
        assert_eq!(ask(&mut edge, "/headers?listpair").field("x-list"), Some("pair"));
    });
}

#[test]
fn w19_w20_fields_keep_order_and_duplicates_and_are_copied() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let answer = ask(&mut edge, "/headers?duplicates");
        let names: Vec<_> = answer.fields.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(names, ["Set-Cookie=a=1", "X-Z=z", "Set-Cookie=b=2", "X-A=a", "set-cookie=c=3"]);
        let answer = ask(&mut edge, "/mutated_headers");
        assert_eq!(answer.fields, [("X-Kept".to_owned(), "1".to_owned())]);
        let answer = ask(&mut edge, "/headers?date");
        assert_eq!((answer.field("server"), answer.fields.len()), (Some("mine"), 2));
    });
}

/// What `make_file` of the apps writes.
fn file_content(size: usize) -> Vec<u8> {
    (0..size)
        .step_by(1000)
        .flat_map(|at| format!("{at:09}\n{}", "x".repeat(1000.min(size - at) - 10)).into_bytes())
        .collect()
}

#[test]
fn w37_a_wrapped_file_is_handed_over_unread() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let content = file_content(300_000);
        for (query, from, to, declared) in [
            ("300000&&", 0, 300_000, 300_000),
            ("300000&1234&", 1234, 300_000, 298_766),
            ("300000&1234&5000", 1234, 6234, 5000),
            ("300000&&300000", 0, 300_000, 300_000),
        ] {
            let answer = ask(&mut edge, &format!("/file?{query}"));
            assert_eq!(answer.body, content[from..to], "{query}");
            assert_eq!(answer.body_bytes, Some(declared), "{query}");
            assert!(answer.complete && !answer.aborted);
            assert_eq!(answer.kinds, [Kind::Head, Kind::File, Kind::Done]);
            assert_eq!(events(&mut edge), ["close file"], "{query}");
        }
        let answer = ask(&mut edge, "/file?1000&&5000");
        assert!(answer.aborted && !answer.complete && answer.body.len() == 1000, "too short a file");
        let answer = ask(&mut edge, "/file?1000&2000&");
        assert!(answer.complete && answer.body.is_empty(), "a position past the end");
        let answer = ask(&mut edge, "/file_after_write");
        assert_eq!(answer.body, [b"before ", &*file_content(20)].concat());
    });
}

#[test]
fn w37_what_is_no_real_file_is_iterated() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let answer = validated(&mut edge, "file_memory");
        assert_eq!(answer.text(), "from memory".repeat(1000));
        assert_eq!(ask(&mut edge, "/file_pipe").text(), "from a pipe");
        let expected: Vec<u8> = file_content(2000).to_ascii_uppercase();
        assert_eq!(ask(&mut edge, "/file_wrapped").body, expected);
    });
}

#[test]
fn w42_early_hints_go_out_before_the_head() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let answer = ask(&mut edge, "/early");
        assert_eq!(answer.kinds, [Kind::Informational, Kind::Head]);
        let links: Vec<_> = answer.informational[0].iter().map(|(_, v)| &**v).collect();
        assert_eq!(links, ["</a.css>; rel=preload", "</b.js>; rel=preload"]);
        let answer = ask(&mut edge, "/early_bad");
        assert_eq!(answer.text(), "ValueError ValueError ValueError TypeError");
        let mut old = get("/early");
        old.head.traits = trivet_wire::frame::traits::HTTP_1_0;
        assert_eq!(edge.exchange(&old).kinds, [Kind::Head], "HTTP/1.0 knows no 1xx");
    });
}

#[test]
fn w43_exits_in_a_request_are_500_and_the_worker_stays() {
    over_both(|transport| {
        let (worker, mut edge) = start(transport);
        for how in ["exit", "interrupt", "generator"] {
            assert!(is_error_page(&ask(&mut edge, &format!("/leaves?{how}"))), "{how}");
        }
        assert_eq!(ask(&mut edge, "/signals").text(), "alive");
        let log = worker.logs("GeneratorExit");
        assert!(log.contains("SystemExit: 3") && log.contains("KeyboardInterrupt"), "{log}");
        assert!(worker.quit().0.success());
    });
}

#[test]
fn w44_each_chunk_leaves_before_the_next_is_asked_for() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let folder = tempdir();
        let request = Req { ..get("/steps").field("X-Folder", folder.path()) };
        let id = edge.send(&request);
        let first = edge.frame(id);
        assert_eq!(first.header.kind, Kind::Head);
        assert!(first.payload.ends_with(b"chunk0"));
        for number in 1..3 {
            assert!(edge.frame_within(id, Duration::from_millis(20)).is_none(), "the app waits");
            folder.touch(&number.to_string());
            let frame = edge.frame(id);
            assert_eq!(
                (frame.header.kind, &*frame.payload),
                (Kind::Data, format!("chunk{number}").as_bytes())
            );
        }
        assert!(edge.answer(id).complete);
    });
}

#[test]
fn w45_a_slow_client_holds_neither_memory_nor_the_interpreter() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        edge.window = 200_000;
        let id = edge.send(&get("/counting"));
        let mut data = 0;
        while let Some(frame) = edge.frame_within(id, Duration::from_millis(300)) {
            data += usize::from(frame.header.kind == Kind::Data) * frame.payload.len();
        }
        assert_eq!(data, 200_000, "the window exactly, then it waits");
        if edge.is_ring() {
            assert_eq!(edge.busy_since(id), 0, "waiting for the client is not the app's time");
        }
        edge.tell(id, Kind::Credit, 0, 5000, &[]);
        assert_eq!(edge.frame(id).payload.len(), 5000);
        edge.tell(id, Kind::Cancel, 0, 0, &[]);
        edge.answer(id);
        assert_eq!(events(&mut edge), ["counted True"], "another thread ran meanwhile");
    });
}

#[test]
fn streams_longer_than_ring_and_window_arrive_whole() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        for (chunk, count) in [(1, 5000), (1000, 3000), (100_000, 60), (3_000_000, 2)] {
            edge.window = 300_000;
            let answer = ask(&mut edge, &format!("/big?{chunk}&{count}"));
            assert_eq!(answer.body.len(), chunk * count);
            assert!((0..chunk * count).step_by(97).all(|n| answer.body[n] == (n % chunk % 251) as u8));
            assert!(answer.complete && !answer.aborted);
        }
    });
}

#[test]
fn a_full_ring_makes_the_worker_wait_and_nothing_is_lost() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        // More window than the ring has space, and nobody reads for a while.
        edge.window = u32::MAX;
        let id = edge.send(&get("/big?50000&100"));
        let later = edge.send(&get("/late_start"));
        if edge.is_ring() {
            let mut last = 0;
            until(
                || {
                    let now = edge.busy_since(id);
                    std::mem::replace(&mut last, now) == now && now != 0
                },
                || "the app does not begin".into(),
            );
        }
        let answer = edge.answer_with(id, false);
        assert_eq!(answer.body.len(), 5_000_000);
        assert!((0..5_000_000).step_by(97).all(|n| answer.body[n] == (n % 50_000 % 251) as u8));
        assert_eq!(edge.answer(later).text(), "late");
    });
}

#[test]
fn another_thread_cannot_tear_a_response() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        edge.exchange(&get("/keeps_input"));
        edge.window = 50_000;
        let id = edge.send(&get("/from_thread"));
        let mut got = 0;
        while got < 50_000 {
            let frame = edge.frame(id);
            got += usize::from(frame.header.kind == Kind::Data) * frame.payload.len();
        }
        // The slot waits for credit now; the other thread is refused meanwhile, and only then it may go on.
        assert!(edge.frame_within(id, Duration::from_millis(100)).is_none());
        edge.tell(id, Kind::Credit, 0, 1 << 20, &[]);
        edge.answer(id);
        assert_eq!(events(&mut edge), ["another thread is sending this response"]);
    });
}

#[test]
fn objects_do_not_pile_up() {
    const ROUNDS: i64 = 300;
    let (_worker, mut edge) = start(Transport::Ring);
    let mut count = || ask(&mut edge, "/refcounts").text().parse::<i64>().unwrap();
    count();
    let before = count();
    for _ in 0..ROUNDS {
        for target in
            ["/many_parts", "/fails_before", "/closing", "/writes", "/file?1000&&", "/early", "/env?a"]
        {
            ask(&mut edge, target);
        }
        edge.exchange(&get("/copies?10").body(crate::harness::Body::Inline(b"some body")));
    }
    events(&mut edge);
    let after = ask(&mut edge, "/refcounts").text().parse::<i64>().unwrap();
    assert!(after - before < ROUNDS, "{before} objects became {after}");
}

#[test]
fn service_time_comes_with_the_end() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport);
        let folder = tempdir();
        folder.touch("go-1");
        let id = edge.send(&get("/slow?1").field("X-Folder", folder.path()));
        loop {
            let frame = edge.frame(id);
            if frame.header.kind == Kind::Done || frame.header.flags & flag::DONE != 0 {
                assert!((1000..5_000_000_000).contains(&u64::from(frame.header.aux)));
                break;
            }
        }
    });
}

/// A folder that goes with the test.
pub(crate) struct Folder(std::path::PathBuf);

pub(crate) fn tempdir() -> Folder {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("trivet-worker-test-{}-{number}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    Folder(path)
}

impl Folder {
    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub(crate) fn touch(&self, name: &str) {
        std::fs::write(self.0.join(name), "").unwrap();
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    pub(crate) fn waits_for(&self, name: &str) {
        until(|| self.0.join(name).exists(), || format!("`{name}` does not appear"));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
