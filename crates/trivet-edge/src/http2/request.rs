//! A request of HTTP/2 in the words of HTTP/1.1, so that one parser judges both and its limits hold for both.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE};
use http::request::Parts;

/// Writes the head. `false`: its pseudo-fields are not what they must be (RFC 9113 §8.3.1).
///
/// Nothing in it can break out of its line: the machine has checked that names are tokens and values hold no
/// control bytes, and that fields are not those of a connection.
pub(super) fn write_head(parts: &Parts, body_follows: bool, out: &mut Vec<u8>) -> bool {
    out.clear();
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    match parts.uri.path_and_query() {
        // To HTTP/1.1 another form would name another host.
        Some(target) if !matches!(target.as_str().as_bytes(), [b'/', ..] | b"*") => return false,
        Some(target) => out.extend_from_slice(target.as_str().as_bytes()),
        // CONNECT has none, and is refused for what it is.
        None => out.push(b'/'),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let authority = parts.uri.authority();
    if let Some(authority) = authority {
        line(out, b"host", authority.as_str().as_bytes());
    }
    let mut sized = false;
    for (name, value) in &parts.headers {
        let value = value.as_bytes();
        if *name == COOKIE || *name == TE {
            continue;
        }
        if *name == HOST
            && let Some(authority) = authority
        {
            if !authority.as_str().as_bytes().eq_ignore_ascii_case(value) {
                return false;
            }
            continue;
        }
        sized |= *name == CONTENT_LENGTH;
        line(out, name.as_str().as_bytes(), value);
    }
    // RFC 9113 §8.2.3: what was one field is one again.
    let mut crumbs = parts.headers.get_all(COOKIE).iter();
    if let Some(first) = crumbs.next() {
        out.extend_from_slice(b"cookie: ");
        out.extend_from_slice(first.as_bytes());
        for crumb in crumbs {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(crumb.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    if body_follows && !sized {
        // What HTTP/1.1 calls a body of unknown length.
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    true
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(request: http::request::Builder, body_follows: bool) -> Option<String> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        write_head(&parts, body_follows, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn h14_cookie_crumbs_are_joined_and_authority_becomes_host() {
        let request = http::Request::builder()
            .uri("http://a.example:81/x?y")
            .header("cookie", "a=1")
            .header("accept", "*/*")
            .header("te", "trailers")
            .header("cookie", "b=2");
        assert_eq!(
            told(request, false).unwrap(),
            "GET /x?y HTTP/1.1\r\nhost: a.example:81\r\naccept: */*\r\ncookie: a=1; b=2\r\n\r\n"
        );
    }

    #[test]
    fn host_beside_authority_must_say_the_same() {
        let request = |host| http::Request::builder().uri("http://a.example/").header("host", host);
        assert_eq!(told(request("A.example"), false).unwrap(), "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
        assert_eq!(told(request("b.example"), false), None);
        let alone = http::Request::builder().uri("/").header("host", "b.example");
        assert_eq!(told(alone, false).unwrap(), "GET / HTTP/1.1\r\nhost: b.example\r\n\r\n");
    }

    #[test]
    fn the_path_is_a_path() {
        for path in ["http://b.example/", "?q", "a"] {
            let Ok(path) = path.parse::<http::uri::PathAndQuery>() else { continue };
            let mut parts = http::uri::Parts::default();
            parts.path_and_query = Some(path);
            let Ok(uri) = http::Uri::from_parts(parts) else { continue };
            assert_eq!(told(http::Request::builder().uri(uri).header("host", "a"), false), None);
        }
        let all = http::Request::builder().method("OPTIONS").uri("*").header("host", "a");
        assert!(told(all, false).unwrap().starts_with("OPTIONS * HTTP/1.1\r\n"));
    }

    #[test]
    fn a_body_without_length_is_told_as_chunked() {
        let post = || http::Request::builder().method("POST").uri("/").header("host", "a");
        assert!(told(post(), true).unwrap().ends_with("transfer-encoding: chunked\r\n\r\n"));
        let sized = told(post().header("content-length", "3"), true).unwrap();
        assert!(sized.ends_with("content-length: 3\r\n\r\n"));
    }
}
