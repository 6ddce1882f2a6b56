//! Response heads: status lines, numbers and the field names of an application's answer that the server owns.

use super::Version;
use crate::field::{is_token, is_value_byte};

/// One entry for each registered status: the reason phrase and the whole line, made at compile time.
macro_rules! statuses {
    ($($status:literal $reason:literal)*) => {
        /// The registered reason phrase (RFC 9110 §15 and the registry); empty for a status that has none.
        pub fn reason(status: u16) -> &'static str {
            match status {
                $($status => $reason,)*
                _ => "",
            }
        }

        fn cached_line(status: u16) -> Option<&'static [u8]> {
            match status {
                $($status => Some(concat!("HTTP/1.1 ", $status, " ", $reason, "\r\n").as_bytes()),)*
                _ => None,
            }
        }

        #[cfg(test)]
        const REGISTERED: &[u16] = &[$($status),*];
    };
}

statuses! {
    100 "Continue"
    101 "Switching Protocols"
    102 "Processing"
    103 "Early Hints"
    200 "OK"
    201 "Created"
    202 "Accepted"
    203 "Non-Authoritative Information"
    204 "No Content"
    205 "Reset Content"
    206 "Partial Content"
    207 "Multi-Status"
    208 "Already Reported"
    226 "IM Used"
    300 "Multiple Choices"
    301 "Moved Permanently"
    302 "Found"
    303 "See Other"
    304 "Not Modified"
    305 "Use Proxy"
    307 "Temporary Redirect"
    308 "Permanent Redirect"
    400 "Bad Request"
    401 "Unauthorized"
    402 "Payment Required"
    403 "Forbidden"
    404 "Not Found"
    405 "Method Not Allowed"
    406 "Not Acceptable"
    407 "Proxy Authentication Required"
    408 "Request Timeout"
    409 "Conflict"
    410 "Gone"
    411 "Length Required"
    412 "Precondition Failed"
    413 "Content Too Large"
    414 "URI Too Long"
    415 "Unsupported Media Type"
    416 "Range Not Satisfiable"
    417 "Expectation Failed"
    418 "I'm a teapot"
    421 "Misdirected Request"
    422 "Unprocessable Content"
    423 "Locked"
    424 "Failed Dependency"
    425 "Too Early"
    426 "Upgrade Required"
    428 "Precondition Required"
    429 "Too Many Requests"
    431 "Request Header Fields Too Large"
    451 "Unavailable For Legal Reasons"
    500 "Internal Server Error"
    501 "Not Implemented"
    502 "Bad Gateway"
    503 "Service Unavailable"
    504 "Gateway Timeout"
    505 "HTTP Version Not Supported"
    506 "Variant Also Negotiates"
    507 "Insufficient Storage"
    508 "Loop Detected"
    510 "Not Extended"
    511 "Network Authentication Required"
}

/// The length of `HTTP/1.1 200 `, after which the reason phrase stands.
const REASON_AT: usize = 13;

/// Writes a status line with its CRLF.
///
/// It says HTTP/1.1 whatever version the request spoke: RFC 9112 §2.3 has a server send its own highest version;
/// what a 1.0 client must not get (chunks, 1xx) is the caller's to leave out. `reason` is the application's phrase
/// (W17); one with control bytes gives way to the registered one. `status` is 100 to 999.
#[inline]
pub fn status_line(out: &mut Vec<u8>, _version: Version, status: u16, reason: Option<&[u8]>) {
    debug_assert!((100..=999).contains(&status), "a status has three digits");
    let cached = cached_line(status);
    if let Some(line) = cached
        && reason.is_none_or(|reason| reason == &line[REASON_AT..line.len() - 2])
    {
        out.extend_from_slice(line);
        return;
    }
    let reason = match reason {
        Some(reason) if valid_value(reason) => reason,
        _ => self::reason(status).as_bytes(),
    };
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(decimal(status.into(), &mut [0; 20]));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// `value` in decimal digits, at the end of `buf`.
#[inline]
pub fn decimal(mut value: u64, buf: &mut [u8; 20]) -> &[u8] {
    let mut at = buf.len();
    loop {
        at -= 1;
        buf[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &buf[at..];
        }
    }
}

/// The size line of a chunk of `len` bytes: hexadecimal digits and CRLF, at the end of `buf`. `len` 0 would end
/// the body: that is [`LAST_CHUNK`].
#[inline]
pub fn chunk_header(mut len: usize, buf: &mut [u8; 18]) -> &[u8] {
    let mut at = buf.len() - 2;
    buf[at] = b'\r';
    buf[at + 1] = b'\n';
    loop {
        at -= 1;
        buf[at] = b"0123456789abcdef"[len & 15];
        len >>= 4;
        if len == 0 {
            return &buf[at..];
        }
    }
}

/// What ends a chunked body without trailers, after the CRLF of the last chunk.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Whether `name` may be a field name: a token.
#[inline]
pub fn valid_name(name: &[u8]) -> bool {
    is_token(name)
}

/// Whether `value` may be a field value: no control bytes but tab; obs-text is allowed (W18).
#[inline]
pub fn valid_value(value: &[u8]) -> bool {
    // without an early exit the compiler checks 16 bytes at a time
    value.iter().fold(true, |valid, &byte| valid & is_value_byte(byte))
}

/// The fields of an application's answer that the server does not just pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseName {
    Other,
    ContentLength,
    TransferEncoding,
    Connection,
    /// The other connection-specific fields: Keep-Alive, Proxy-Connection, TE, Trailer, Upgrade, and
    /// Proxy-Authenticate and Proxy-Authorization, which PEP 3333 counts among them (W16).
    HopByHop,
    Date,
    Server,
}

impl ResponseName {
    /// Whether it is about the connection, which is the server's (PEP 3333).
    #[inline]
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(self, Self::Connection | Self::TransferEncoding | Self::HopByHop)
    }
}

/// Classifies a response field name, letters in any case; by length first, so that most cost one jump.
#[inline]
pub fn response_name(name: &[u8]) -> ResponseName {
    use ResponseName as R;
    let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
    match name.len() {
        2 if is(b"te") => R::HopByHop,
        4 if is(b"date") => R::Date,
        6 if is(b"server") => R::Server,
        7 if is(b"upgrade") || is(b"trailer") => R::HopByHop,
        10 if is(b"connection") => R::Connection,
        10 if is(b"keep-alive") => R::HopByHop,
        14 if is(b"content-length") => R::ContentLength,
        16 if is(b"proxy-connection") => R::HopByHop,
        17 if is(b"transfer-encoding") => R::TransferEncoding,
        18 if is(b"proxy-authenticate") => R::HopByHop,
        19 if is(b"proxy-authorization") => R::HopByHop,
        _ => R::Other,
    }
}

/// Whether an answer with this status never has a body, whatever its fields say (RFC 9110 §6.4.1; H12). An
/// answer to HEAD has none either.
#[inline]
pub const fn is_bodiless(status: u16) -> bool {
    status < 200 || status == 204 || status == 304
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: u16, reason: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        status_line(&mut out, Version::Http10, status, reason);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cached_lines_carry_their_own_status_and_reason() {
        for &status in REGISTERED {
            assert_eq!(line(status, None), format!("HTTP/1.1 {status} {}\r\n", reason(status)));
        }
    }

    #[test]
    fn an_applications_reason_is_kept() {
        assert_eq!(line(200, Some(b"OK")), "HTTP/1.1 200 OK\r\n");
        assert_eq!(line(200, Some(b"Fine")), "HTTP/1.1 200 Fine\r\n");
        assert_eq!(line(200, Some(b"")), "HTTP/1.1 200 \r\n");
        assert_eq!(line(299, None), "HTTP/1.1 299 \r\n");
        assert_eq!(line(799, Some(b"Odd")), "HTTP/1.1 799 Odd\r\n");
        assert_eq!(line(404, Some(b"x\r\nSet-Cookie: a")), "HTTP/1.1 404 Not Found\r\n");
    }

    #[test]
    fn numbers_are_written_whole() {
        for value in [0, 9, 10, 123, 65_536, u64::MAX] {
            assert_eq!(decimal(value, &mut [0; 20]), value.to_string().as_bytes());
        }
        for len in [1, 15, 16, 0x1f, 4096, usize::MAX] {
            assert_eq!(chunk_header(len, &mut [0; 18]), format!("{len:x}\r\n").as_bytes());
        }
    }

    #[test]
    fn w18_names_are_tokens_and_values_hold_no_control_bytes() {
        assert!(valid_name(b"X-Ok") && !valid_name(b"") && !valid_name(b"a b") && !valid_name(b"a:"));
        for byte in 0..=255u8 {
            let expected = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
            let mut value = *b"a value longer than one vector of bytes";
            value[20] = byte;
            assert_eq!(valid_value(&value), expected, "byte {byte:#x}");
        }
        assert!(valid_value(b""));
    }

    #[test]
    fn h12_fields_that_the_server_owns_are_known_in_any_case() {
        use ResponseName as R;
        for (name, known) in [
            ("Content-Length", R::ContentLength),
            ("TRANSFER-ENCODING", R::TransferEncoding),
            ("connection", R::Connection),
            ("Keep-Alive", R::HopByHop),
            ("proxy-connection", R::HopByHop),
            ("TE", R::HopByHop),
            ("Trailer", R::HopByHop),
            ("Upgrade", R::HopByHop),
            ("Proxy-Authenticate", R::HopByHop),
            ("Proxy-Authorization", R::HopByHop),
            ("Date", R::Date),
            ("sErver", R::Server),
            ("Set-Cookie", R::Other),
            ("Content-Type", R::Other),
            ("Age", R::Other),
        ] {
            assert_eq!(response_name(name.as_bytes()), known, "{name}");
            let about_connection = [R::Connection, R::TransferEncoding, R::HopByHop].contains(&known);
            assert_eq!(known.is_hop_by_hop(), about_connection, "{name}");
        }
        assert!([100, 103, 199, 204, 304].into_iter().all(is_bodiless));
        assert!(![200, 205, 404].into_iter().any(is_bodiless));
    }
}
