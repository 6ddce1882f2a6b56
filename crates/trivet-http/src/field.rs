//! Field names, values and lists: byte classes, case-insensitive names, the names that mean something to us.

/// A byte of a field name or method (`tchar`, RFC 9110 §5.6.2) other than `_`.
const PLAIN: u8 = 1;
/// `_`: a token byte, set apart because names with it collide with `-` in CGI-style variables (H9).
const UNDERSCORE: u8 = 2;

static TOKEN: [u8; 256] = token_table();

const fn token_table() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let symbol = matches!(
            b,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'`' | b'|' | b'~'
        );
        if b.is_ascii_alphanumeric() || symbol {
            table[byte] = PLAIN;
        }
        byte += 1;
    }
    table[b'_' as usize] = UNDERSCORE;
    table
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
#[inline]
pub const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize] != 0
}

/// Whether `bytes` is a token: one or more `tchar`.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_byte(b))
}

/// Whether `byte` may stand inside a field value: visible ASCII, space, tab, obs-text (RFC 9110 §5.5).
#[inline]
pub const fn is_value_byte(byte: u8) -> bool {
    (byte >= 0x20 && byte != 0x7f) || byte == b'\t'
}

const ONES: u64 = 0x0101_0101_0101_0101;
const LOWS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks, in the high bit of each byte, those below `limit` (at most 0x80). The lowest mark is exact; above it a
/// borrow may leave false ones, so only the lowest counts.
#[inline]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & HIGHS
}

/// Marks the bytes equal to `byte`, exact for the lowest mark.
#[inline]
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

/// Marks exactly the bytes that are neither a letter nor `-`: what ends nearly every field name is the first.
#[inline]
const fn not_letter_or_dash(word: u64) -> u64 {
    // sums of seven-bit bytes never carry into the next byte
    let lower = (word | (ONES * 0x20)) & LOWS;
    let from_a = lower + ONES * (0x80 - b'a' as u64);
    let past_z = lower + ONES * (0x7f - b'z' as u64);
    let from_dash = (word ^ (ONES * b'-' as u64)) & LOWS;
    let not_dash = from_dash + LOWS;
    ((!from_a | past_z) & not_dash | word) & HIGHS
}

#[inline]
const fn first_mark(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// The index, from `at` on, of the first byte that is neither a token byte nor `_`, or the length of `bytes`;
/// sets `underscore` when a `_` was passed.
#[inline]
pub(crate) fn token_end(bytes: &[u8], at: usize, underscore: &mut bool) -> usize {
    let mut at = at;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let stop = not_letter_or_dash(u64::from_le_bytes(*chunk));
        if stop != 0 {
            at += first_mark(stop);
            break;
        }
        at += 8;
    }
    match bytes.get(at) {
        Some(b':' | b' ') => at,
        _ => token_end_by_byte(bytes, at, underscore),
    }
}

fn token_end_by_byte(bytes: &[u8], at: usize, underscore: &mut bool) -> usize {
    for (offset, &byte) in bytes[at..].iter().enumerate() {
        match TOKEN[byte as usize] {
            PLAIN => {}
            UNDERSCORE => *underscore = true,
            _ => return at + offset,
        }
    }
    bytes.len()
}

/// The index, from `at` on, of the first byte that is a control byte (tab and DEL included), or the length.
///
/// In a browser's head most bytes are in values: the compiler makes vector code of the first loop.
#[inline]
pub(crate) fn value_end(bytes: &[u8], at: usize) -> usize {
    let stops = |byte: u8| byte < 0x20 || byte == 0x7f;
    let mut rest = bytes.get(at..).unwrap_or_default();
    while let Some((chunk, tail)) = rest.split_first_chunk::<16>() {
        if chunk.iter().fold(false, |stop, &byte| stop | stops(byte)) {
            break;
        }
        rest = tail;
    }
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let del = (word ^ (ONES * 0x7f)).wrapping_sub(ONES);
        let stop = (word.wrapping_sub(ONES * 0x20) | del) & !word & HIGHS;
        if stop != 0 {
            return bytes.len() - rest.len() + first_mark(stop);
        }
        rest = tail;
    }
    let offset = rest.iter().position(|&byte| stops(byte)).unwrap_or(rest.len());
    bytes.len() - rest.len() + offset
}

/// The index, from `at` on, of the first byte that ends or spoils a request target (H7): space, control bytes,
/// DEL, non-ASCII and `#`; or the length.
#[inline]
pub(crate) fn target_end(bytes: &[u8], at: usize) -> usize {
    let mut rest = bytes.get(at..).unwrap_or_default();
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let stop = below(word, 0x21) | equal(word, 0x7f) | equal(word, b'#') | (word & HIGHS);
        if stop != 0 {
            return bytes.len() - rest.len() + first_mark(stop);
        }
        rest = tail;
    }
    let offset = rest.iter().position(|&b| !(0x21..0x7f).contains(&b) || b == b'#').unwrap_or(rest.len());
    bytes.len() - rest.len() + offset
}

/// Removes optional whitespace (space and tab) at both ends.
pub fn trim(value: &[u8]) -> &[u8] {
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let start = value.iter().position(|b| !blank(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// The members of a comma list of tokens, trimmed, empty members left out (RFC 9110 §5.6.1). Not for values that
/// may hold quoted strings.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|member| !member.is_empty())
}

/// Whether a token equals `lower`, which is written in lower-case letters and `-`.
///
/// Or-ing 0x20 is exact here: no token byte but the letter itself maps to a lower-case letter or to `-`.
#[inline]
fn same<const N: usize>(token: &[u8], lower: &[u8; N]) -> bool {
    let Ok(token) = <&[u8; N]>::try_from(token) else { return false };
    let mut difference = 0;
    for index in 0..N {
        difference |= (token[index] | 0x20) ^ lower[index];
    }
    difference == 0
}

/// The request fields that mean something to the server; every other one is [`Name::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Name {
    Other,
    Host,
    ContentLength,
    ContentType,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    Upgrade,
    Expect,
    Cookie,
    Proxy,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    XForwardedPrefix,
    /// Any other `X-Forwarded-…`, and the fields by which other proxies and CDNs tell the client's identity or
    /// scheme (`X-Real-IP`, `True-Client-IP`, `X-Url-Scheme` and so on).
    XForwardedOther,
    XRequestId,
    Referer,
    UserAgent,
    Authorization,
    /// Any name with `_`, whatever it looks like: dropped towards WSGI (H9).
    Underscore,
}

impl Name {
    /// Classifies a field name, which must be a token; letters in any case.
    pub fn of(name: &[u8]) -> Self {
        if memchr::memchr(b'_', name).is_some() { Self::Underscore } else { Self::of_plain(name) }
    }

    /// As [`Name::of`], for a name known to hold no `_`. By first letter, then length: most names are settled by
    /// one jump.
    #[inline]
    pub(crate) fn of_plain(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        match first | 0x20 {
            b'a' if same(name, b"authorization") => Self::Authorization,
            b'c' => match name.len() {
                6 if same(name, b"cookie") => Self::Cookie,
                10 if same(name, b"connection") => Self::Connection,
                12 if same(name, b"content-type") => Self::ContentType,
                14 if same(name, b"content-length") => Self::ContentLength,
                16 if same(name, b"cf-connecting-ip") => Self::XForwardedOther,
                _ => Self::Other,
            },
            b'e' if same(name, b"expect") => Self::Expect,
            b'f' => match name.len() {
                9 if same(name, b"forwarded") => Self::Forwarded,
                13 if same(name, b"forwarded-for") => Self::XForwardedOther,
                15 if same(name, b"front-end-https") => Self::XForwardedOther,
                16 if same(name, b"fastly-client-ip") => Self::XForwardedOther,
                _ => Self::Other,
            },
            b'h' if same(name, b"host") => Self::Host,
            b'k' if same(name, b"keep-alive") => Self::KeepAlive,
            b'p' => match name.len() {
                5 if same(name, b"proxy") => Self::Proxy,
                16 if same(name, b"proxy-connection") => Self::ProxyConnection,
                _ => Self::Other,
            },
            b'r' if same(name, b"referer") => Self::Referer,
            b't' => match name.len() {
                2 if same(name, b"te") => Self::Te,
                7 if same(name, b"trailer") => Self::Trailer,
                14 if same(name, b"true-client-ip") => Self::XForwardedOther,
                17 if same(name, b"transfer-encoding") => Self::TransferEncoding,
                _ => Self::Other,
            },
            b'u' => match name.len() {
                7 if same(name, b"upgrade") => Self::Upgrade,
                10 if same(name, b"user-agent") => Self::UserAgent,
                _ => Self::Other,
            },
            b'x' => Self::of_experimental(name),
            _ => Self::Other,
        }
    }

    fn of_experimental(name: &[u8]) -> Self {
        match name.len() {
            9 if same(name, b"x-real-ip") => Self::XForwardedOther,
            11 if same(name, b"x-forwarded") => Self::XForwardedOther,
            11 if same(name, b"x-client-ip") => Self::XForwardedOther,
            12 if same(name, b"x-request-id") => Self::XRequestId,
            12 if same(name, b"x-url-scheme") => Self::XForwardedOther,
            15 if same(name, b"x-forwarded-for") => Self::XForwardedFor,
            16 if same(name, b"x-forwarded-host") => Self::XForwardedHost,
            16 if same(name, b"x-forwarded-port") => Self::XForwardedPort,
            17 if same(name, b"x-forwarded-proto") => Self::XForwardedProto,
            18 if same(name, b"x-forwarded-prefix") => Self::XForwardedPrefix,
            19 if same(name, b"x-cluster-client-ip") => Self::XForwardedOther,
            24 if same(name, b"x-original-forwarded-for") => Self::XForwardedOther,
            12.. if same(&name[..12], b"x-forwarded-") => Self::XForwardedOther,
            _ => Self::Other,
        }
    }

    /// Hop-by-hop by its name alone (RFC 9110 §7.6.1, and the historical ones).
    #[inline]
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_bytes_are_those_of_rfc_9110() {
        let symbols = b"!#$%&'*+-.^_`|~";
        for byte in 0..=255u8 {
            let expected = byte.is_ascii_alphanumeric() || symbols.contains(&byte);
            assert_eq!(is_token_byte(byte), expected, "byte {byte:#x}");
        }
        assert!(!is_token(b""));
        assert!(is_token(b"a_b"));
    }

    #[test]
    fn scans_stop_at_the_same_byte_as_a_plain_loop_wherever_it_stands() {
        for length in 0..20usize {
            for place in 0..length {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    let value = if byte < 0x20 || byte == 0x7f { place } else { length };
                    assert_eq!(value_end(&bytes, 0), value, "value, byte {byte:#x} at {place} of {length}");
                    let target = if byte <= 0x20 || byte >= 0x7f || byte == b'#' { place } else { length };
                    assert_eq!(
                        target_end(&bytes, 0),
                        target,
                        "target, byte {byte:#x} at {place} of {length}"
                    );
                    let token = if is_token_byte(byte) { length } else { place };
                    let mut underscore = false;
                    assert_eq!(token_end(&bytes, 0, &mut underscore), token);
                    assert_eq!(underscore, byte == b'_');
                }
            }
        }
    }

    #[test]
    fn names_are_known_in_any_case_and_only_whole() {
        for (name, known) in [
            (&b"Host"[..], Name::Host),
            (b"HOST", Name::Host),
            (b"te", Name::Te),
            (b"Content-Length", Name::ContentLength),
            (b"CONTENT-TYPE", Name::ContentType),
            (b"transfer-encoding", Name::TransferEncoding),
            (b"Connection", Name::Connection),
            (b"keep-alive", Name::KeepAlive),
            (b"Proxy-Connection", Name::ProxyConnection),
            (b"Trailer", Name::Trailer),
            (b"Upgrade", Name::Upgrade),
            (b"Expect", Name::Expect),
            (b"Cookie", Name::Cookie),
            (b"pRoXy", Name::Proxy),
            (b"Forwarded", Name::Forwarded),
            (b"X-Forwarded-For", Name::XForwardedFor),
            (b"X-Forwarded-Proto", Name::XForwardedProto),
            (b"X-Forwarded-Host", Name::XForwardedHost),
            (b"X-Forwarded-Port", Name::XForwardedPort),
            (b"X-Forwarded-Prefix", Name::XForwardedPrefix),
            (b"X-Forwarded-Ssl", Name::XForwardedOther),
            (b"X-Forwarded-Protocol", Name::XForwardedOther),
            (b"X-Forwarded", Name::XForwardedOther),
            (b"X-Forwarded-", Name::XForwardedOther),
            (b"X-Forwarded-Anything-At-All-However-Long", Name::XForwardedOther),
            (b"X-Real-IP", Name::XForwardedOther),
            (b"X-Client-IP", Name::XForwardedOther),
            (b"True-Client-IP", Name::XForwardedOther),
            (b"CF-Connecting-IP", Name::XForwardedOther),
            (b"Fastly-Client-IP", Name::XForwardedOther),
            (b"X-Original-Forwarded-For", Name::XForwardedOther),
            (b"X-Cluster-Client-IP", Name::XForwardedOther),
            (b"Front-End-Https", Name::XForwardedOther),
            (b"X-Url-Scheme", Name::XForwardedOther),
            (b"Forwarded-For", Name::XForwardedOther),
            (b"X-Request-ID", Name::XRequestId),
            (b"Referer", Name::Referer),
            (b"User-Agent", Name::UserAgent),
            (b"Authorization", Name::Authorization),
            (b"Content_Length", Name::Underscore),
            (b"X_Forwarded_For", Name::Underscore),
            (b"_", Name::Underscore),
            (b"Accept", Name::Other),
            (b"Hos", Name::Other),
            (b"Hosts", Name::Other),
            (b"Content-Lengt", Name::Other),
            (b"Content.Length", Name::Other),
            (b"x", Name::Other),
            (b"~", Name::Other),
        ] {
            assert_eq!(Name::of(name), known, "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn lists_drop_empty_members_and_blanks() {
        let members: Vec<_> = list(b" a ,, b\t, ,c d ,").collect();
        assert_eq!(members, [&b"a"[..], b"b", b"c d"]);
        assert_eq!(list(b"").count(), 0);
        assert_eq!(trim(b" \t "), b"");
    }
}
