//! What a request costs the worker. Measurements, run by hand:
//! `cargo test --release -p trivet-python -- --ignored --nocapture cost`.

use trivet_wire::control::Transport;

use crate::harness::{Options, Req, Worker, get};

const REQUESTS: u64 = 300_000;
const BATCH: u64 = 32;

fn browser(n: u64) -> Req<'static> {
    // The request id is new each time, as it is from an edge.
    let id: &'static str = format!("{n:032x}").leak();
    let mut request = get("/index.html?q=1");
    request.head.request_id = id.as_bytes();
    for (name, value) in [
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Connection", "keep-alive"),
        ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
        ("Upgrade-Insecure-Requests", "1"),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", "none"),
        ("Priority", "u=0, i"),
    ] {
        request = request.field(name, value);
    }
    request
}

fn cpu_ns(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        })
        .sum()
}

fn measure(name: &str, transport: Transport, request: impl Fn(u64) -> Req<'static>) {
    let requests = std::env::var("REQUESTS").map_or(REQUESTS, |n| n.parse().unwrap());
    let mut worker = Worker::ready("hello:app", Options::default());
    let mut edge = worker.attach(transport);
    let mut run = |from: u64, to: u64| {
        for start in (from..to).step_by(BATCH as usize) {
            let ids: Vec<_> = (start..start + BATCH).map(|n| edge.send(&request(n))).collect();
            for id in ids {
                assert!(edge.answer(id).complete);
            }
        }
    };
    run(0, 1000);
    let before = cpu_ns(worker.child.id());
    run(1000, 1000 + requests);
    let spent = cpu_ns(worker.child.id()) - before;
    assert!(worker.quit().0.success());
    eprintln!("{name}: {} ns of worker CPU for each request", spent / requests);
}

#[test]
#[ignore = "a measurement"]
fn cost_of_hello() {
    for _ in 0..3 {
        measure("ring, 1 field", Transport::Ring, |_| get("/"));
        measure("ring, 12 fields", Transport::Ring, browser);
        measure("socket, 12 fields", Transport::Socket, browser);
    }
}

#[test]
#[ignore = "for an instruction counter around the interpreter"]
fn cost_of_hello_with_a_browsers_fields() {
    measure("ring, 12 fields", Transport::Ring, browser);
}
