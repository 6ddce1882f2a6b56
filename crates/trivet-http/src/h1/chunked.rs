//! Chunked bodies: an incremental decoder that says which bytes of the input are data (RFC 9112 §7.1; H6).
//!
//! It copies nothing, holds no input back and keeps a fixed 80 bytes or so of state, so the caller may give it the
//! bytes as they come, cut anywhere. Trailers are checked and dropped: an application gets its fields before the
//! body, and what comes after it must not change them.

use std::ops::Range;

use super::Reject;
use crate::field::{Name, is_token_byte, is_value_byte};

/// Bytes of the extensions of one chunk; more is 400.
pub const CHUNK_EXTENSION_BYTES_MAX: u32 = 1024;
/// Bytes of all extensions of a body; more is 400.
pub const BODY_EXTENSION_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of the trailer section, line ends included; more is 431.
pub const TRAILER_BYTES_MAX: u32 = 8 * 1024;
/// Hexadecimal digits of a chunk size: what fits 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
/// No trailer field that is refused by name has a longer one.
const NAME_BYTES_KEPT: usize = 32;

/// What a piece of input was. `consumed` counts from the beginning of the input given, and the next call wants
/// what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// All of the input was framing; more is needed.
    NeedMore { consumed: usize },
    /// `data` is a range of the input, never empty, and belongs to the body. What else was consumed was framing.
    Data { consumed: usize, data: Range<usize> },
    /// The body has ended; the bytes after `consumed` belong to the next message.
    End { consumed: usize },
}

/// The decoder's state for one body.
///
/// ```
/// use trivet_http::h1::{Chunked, Step};
///
/// let input = b"5\r\nhello\r\n0\r\n\r\nGET /next";
/// let (mut decoder, mut at, mut body) = (Chunked::default(), 0, Vec::new());
/// loop {
///     match decoder.step(&input[at..])? {
///         Step::Data { consumed, data } => {
///             body.extend_from_slice(&input[at..][data]);
///             at += consumed;
///         }
///         Step::NeedMore { .. } => unreachable!("the whole body is there"),
///         Step::End { consumed } => {
///             at += consumed;
///             break;
///         }
///     }
/// }
/// assert_eq!((&body[..], &input[at..]), (&b"hello"[..], &b"GET /next"[..]));
/// # Ok::<(), trivet_http::h1::Reject>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    state: State,
    /// The size being read, then what is left of the chunk.
    left: u64,
    digits: u8,
    chunk_extension_bytes: u32,
    body_extension_bytes: u32,
    trailer_bytes: u32,
    name: TrailerName,
}

#[derive(Clone, Debug, Default)]
struct TrailerName {
    bytes: [u8; NAME_BYTES_KEPT],
    length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// Whitespace after the size: only an extension may follow (`BWS` of RFC 9112 §7.1.1).
    SizeBlank,
    ExtensionNameStart,
    ExtensionName,
    ExtensionNameBlank,
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionEscape,
    ExtensionQuotedEnd,
    ExtensionValueBlank,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

impl Chunked {
    /// Takes the next bytes of the body.
    ///
    /// A large chunk is given out in pieces as large as the input; the framing between two pieces of data is taken
    /// in the call that gives out the second.
    #[inline]
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Reject> {
        let mut at = 0;
        while self.state != State::Data {
            if self.state == State::End {
                return Ok(Step::End { consumed: at });
            }
            let Some(&byte) = input.get(at) else { return Ok(Step::NeedMore { consumed: at }) };
            self.framing(byte)?;
            at += 1;
        }
        let length = self.left.min((input.len() - at) as u64);
        if length == 0 {
            return Ok(Step::NeedMore { consumed: at });
        }
        self.left -= length;
        if self.left == 0 {
            self.state = State::DataCr;
        }
        let end = at + length as usize;
        Ok(Step::Data { consumed: end, data: at..end })
    }

    /// Whether the body has ended.
    pub fn is_complete(&self) -> bool {
        self.state == State::End
    }

    /// Takes one byte that is not data.
    fn framing(&mut self, byte: u8) -> Result<(), Reject> {
        use State as S;
        self.state = match self.state {
            S::Size => {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    b'A'..=b'F' => byte - b'A' + 10,
                    _ => return self.size_end(byte),
                };
                if self.digits == SIZE_DIGITS_MAX {
                    return Err(Reject::bad("chunk.size_overflow"));
                }
                self.digits += 1;
                self.left = self.left << 4 | u64::from(digit);
                S::Size
            }
            S::SizeLf if byte != b'\n' => return Err(Reject::bad("line.bare_cr")),
            S::SizeLf if self.left == 0 => S::TrailerStart,
            S::SizeLf => {
                self.digits = 0;
                self.chunk_extension_bytes = 0;
                S::Data
            }
            S::DataCr if byte != b'\r' => return Err(Reject::bad("chunk.data_end")),
            S::DataCr => S::DataLf,
            S::DataLf if byte != b'\n' => return Err(Reject::bad("chunk.data_end")),
            S::DataLf => S::Size,
            S::TrailerStart | S::TrailerName | S::TrailerValue | S::TrailerLf | S::EndLf => {
                return self.trailer(byte);
            }
            S::Data | S::End => unreachable!("`step` looks at these itself"),
            _ => return self.extension(byte),
        };
        Ok(())
    }

    fn size_end(&mut self, byte: u8) -> Result<(), Reject> {
        if self.digits == 0 {
            return Err(Reject::bad("chunk.size"));
        }
        self.state = match byte {
            b'\r' => State::SizeLf,
            b';' => State::ExtensionNameStart,
            b' ' | b'\t' => State::SizeBlank,
            b'\n' => return Err(Reject::bad("line.bare_lf")),
            _ => return Err(Reject::bad("chunk.size")),
        };
        if self.state == State::SizeLf { Ok(()) } else { self.count_extension() }
    }

    fn count_extension(&mut self) -> Result<(), Reject> {
        self.chunk_extension_bytes += 1;
        self.body_extension_bytes += 1;
        if self.chunk_extension_bytes > CHUNK_EXTENSION_BYTES_MAX
            || self.body_extension_bytes > BODY_EXTENSION_BYTES_MAX
        {
            return Err(Reject::bad("limit.chunk_extension"));
        }
        Ok(())
    }

    /// `chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`
    fn extension(&mut self, byte: u8) -> Result<(), Reject> {
        use State as S;
        let token = is_token_byte(byte);
        let next = match self.state {
            S::SizeBlank => match byte {
                b';' => Some(S::ExtensionNameStart),
                b' ' | b'\t' => Some(S::SizeBlank),
                _ => None,
            },
            S::ExtensionNameStart => match byte {
                b' ' | b'\t' => Some(S::ExtensionNameStart),
                _ => token.then_some(S::ExtensionName),
            },
            S::ExtensionName | S::ExtensionNameBlank => match byte {
                b'=' => Some(S::ExtensionValueStart),
                b';' => Some(S::ExtensionNameStart),
                b' ' | b'\t' => Some(S::ExtensionNameBlank),
                b'\r' if self.state == S::ExtensionName => Some(S::SizeLf),
                _ => (token && self.state == S::ExtensionName).then_some(S::ExtensionName),
            },
            S::ExtensionValueStart => match byte {
                b'"' => Some(S::ExtensionQuoted),
                b' ' | b'\t' => Some(S::ExtensionValueStart),
                _ => token.then_some(S::ExtensionToken),
            },
            S::ExtensionQuoted => match byte {
                b'"' => Some(S::ExtensionQuotedEnd),
                b'\\' => Some(S::ExtensionEscape),
                _ => is_value_byte(byte).then_some(S::ExtensionQuoted),
            },
            S::ExtensionEscape => is_value_byte(byte).then_some(S::ExtensionQuoted),
            // after a value: a token that may go on, the end of a quoted string, or blanks
            state => match byte {
                b';' => Some(S::ExtensionNameStart),
                b' ' | b'\t' => Some(S::ExtensionValueBlank),
                b'\r' if state != S::ExtensionValueBlank => Some(S::SizeLf),
                _ => (token && state == S::ExtensionToken).then_some(S::ExtensionToken),
            },
        };
        self.state = next.ok_or(match byte {
            b'\n' => Reject::bad("line.bare_lf"),
            _ => Reject::bad("chunk.extension"),
        })?;
        if self.state == S::SizeLf { Ok(()) } else { self.count_extension() }
    }

    fn trailer(&mut self, byte: u8) -> Result<(), Reject> {
        use State as S;
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Reject::new(431, "limit.trailers"));
        }
        self.state = match (self.state, byte) {
            (S::TrailerStart, b'\r') => S::EndLf,
            (S::TrailerStart, _) if is_token_byte(byte) => {
                self.name.length = 0;
                self.name.push(byte);
                S::TrailerName
            }
            (S::TrailerName, b':') => {
                if self.name.is_refused() {
                    return Err(Reject::bad("trailer.refused"));
                }
                S::TrailerValue
            }
            (S::TrailerName, _) if is_token_byte(byte) => {
                self.name.push(byte);
                S::TrailerName
            }
            (S::TrailerValue, b'\r') => S::TrailerLf,
            (S::TrailerValue, _) if is_value_byte(byte) => S::TrailerValue,
            (S::TrailerLf, b'\n') => S::TrailerStart,
            (S::EndLf, b'\n') => S::End,
            (S::TrailerLf | S::EndLf, _) => return Err(Reject::bad("line.bare_cr")),
            (_, b'\n') => return Err(Reject::bad("line.bare_lf")),
            _ => return Err(Reject::bad("trailer.syntax")),
        };
        Ok(())
    }
}

impl TrailerName {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
    }

    /// Fields that frame, route, authenticate or describe the message may not come after it (RFC 9110 §6.5.1).
    fn is_refused(&self) -> bool {
        let Some(name) = self.bytes.get(..self.length) else { return false };
        let known = Name::of(name);
        let others: [&[u8]; 13] = [
            b"content-encoding",
            b"content-range",
            b"proxy-authorization",
            b"set-cookie",
            b"cache-control",
            b"max-forwards",
            b"pragma",
            b"range",
            b"if-match",
            b"if-none-match",
            b"if-modified-since",
            b"if-unmodified-since",
            b"if-range",
        ];
        let harmless = [Name::Other, Name::Underscore, Name::Referer, Name::UserAgent, Name::XRequestId]
            .contains(&known);
        !harmless || others.iter().any(|other| name.eq_ignore_ascii_case(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` given in pieces of `size` bytes; the body, and whether it ended, and what was left over.
    fn decode(input: &[u8], size: usize) -> Result<(Vec<u8>, bool, usize), Reject> {
        let mut decoder = Chunked::default();
        let mut body = Vec::new();
        let mut taken = 0;
        for piece in input.chunks(size) {
            let mut at = 0;
            loop {
                match decoder.step(&piece[at..])? {
                    Step::Data { consumed, data } => {
                        assert!(!data.is_empty());
                        body.extend_from_slice(&piece[at..][data]);
                        at += consumed;
                    }
                    Step::NeedMore { consumed } => {
                        assert_eq!(at + consumed, piece.len(), "nothing is held back");
                        break;
                    }
                    Step::End { consumed } => {
                        let rest = input.len() - (taken + at + consumed);
                        return Ok((body, true, rest));
                    }
                }
            }
            taken += piece.len();
        }
        Ok((body, false, 0))
    }

    #[test]
    fn h6_a_large_chunk_is_given_out_in_pieces_as_large_as_the_input() {
        let mut decoder = Chunked::default();
        assert_eq!(decoder.step(b"100000\r\n").unwrap(), Step::NeedMore { consumed: 8 });
        let piece = vec![b'x'; 0x8_0000];
        for _ in 0..2 {
            assert_eq!(decoder.step(&piece).unwrap(), Step::Data { consumed: 0x8_0000, data: 0..0x8_0000 });
        }
        assert_eq!(decoder.step(b"\r\n2\r\nab\r\n").unwrap(), Step::Data { consumed: 7, data: 5..7 });
        assert_eq!(decoder.step(b"\r\n0\r\n\r\n").unwrap(), Step::End { consumed: 7 });
        assert!(decoder.is_complete());
        assert_eq!(decoder.step(b"GET").unwrap(), Step::End { consumed: 0 });
    }

    #[test]
    fn h6_sizes_up_to_64_bits_and_no_further() {
        assert!(!decode(b"ffffffffffffffff\r\nx", 64).unwrap().1);
        assert_eq!(decode(b"10000000000000000\r\nx", 64), Err(Reject::bad("chunk.size_overflow")));
        assert_eq!(decode(b"00000000000000001\r\nx", 64), Err(Reject::bad("chunk.size_overflow")));
    }

    #[test]
    fn h6_extensions_are_bounded_for_a_chunk_and_for_a_body() {
        let chunk = |bytes: usize| format!("1;{}\r\nx\r\n", "e".repeat(bytes - 1));
        let most = CHUNK_EXTENSION_BYTES_MAX as usize;
        let whole = format!("{}0\r\n\r\n", chunk(most));
        assert_eq!(decode(whole.as_bytes(), 7), Ok((b"x".to_vec(), true, 0)));
        let refused = Err(Reject::bad("limit.chunk_extension"));
        assert_eq!(decode(chunk(most + 1).as_bytes(), 7), refused);
        let many = chunk(most).repeat(BODY_EXTENSION_BYTES_MAX as usize / most);
        assert_eq!(decode(format!("{many}0\r\n\r\n").as_bytes(), 999).map(|r| r.1), Ok(true));
        assert_eq!(decode(format!("{many}1;e\r\n").as_bytes(), 999), refused);
    }

    #[test]
    fn h6_trailers_are_bounded_checked_and_dropped() {
        let line = |bytes: usize| format!("X-A: {}\r\n", "v".repeat(bytes - 7));
        let most = TRAILER_BYTES_MAX as usize - 2;
        let body = |bytes: usize| format!("0\r\n{}\r\nrest", line(bytes));
        assert_eq!(decode(body(most).as_bytes(), 4096), Ok((vec![], true, 4)));
        assert_eq!(decode(body(most + 1).as_bytes(), 4096), Err(Reject::new(431, "limit.trailers")));
        let long_name = format!("0\r\n{}: v\r\n\r\n", "n".repeat(NAME_BYTES_KEPT + 1));
        assert_eq!(decode(long_name.as_bytes(), 5), Ok((vec![], true, 0)));
    }
}
