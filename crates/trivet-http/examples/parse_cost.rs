//! What parsing a head costs, for a counter of instructions: `parse_cost bare|browser ROUNDS`.
//!
//! Run under `valgrind --tool=callgrind` with two numbers of rounds; the difference divided by the rounds between
//! them is the cost of one head.

use std::hint::black_box;

use trivet_http::h1::{Head, Limits, Parsed};

const BARE: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";
const BROWSER: &[u8] = b"GET / HTTP/1.1\r\n\
    Host: 127.0.0.1:8000\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9,de;q=0.8\r\n\
    Cookie: sessionid=7b1f0c5de2a94a1c8f3e9d2b6a5c4e10; csrftoken=Zx81mQvJtR0uWcB5yLhN2dKsPfEaGo7i; theme=dark\r\n\
    Referer: http://127.0.0.1:8000/articles/2024/a-page-before\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\r\n";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let input = match arguments.next().as_deref() {
        Some("bare") => BARE,
        _ => BROWSER,
    };
    let rounds: u32 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let mut head = Head::default();
    let limits = Limits::default();
    for _ in 0..rounds {
        let mut resume = 0;
        let parsed = head.parse(black_box(input), black_box(&limits), &mut resume);
        assert_eq!(parsed, Ok(Parsed::Complete));
        black_box(&head);
    }
}
