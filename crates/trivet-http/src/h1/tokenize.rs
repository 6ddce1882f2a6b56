//! The lines of a request head: where each ends, and whether every byte may stand where it stands.
//!
//! The tokenizer is our own rather than `httparse`, which takes a bare LF for a line end, skips any number of
//! empty lines and does not say that a name holds `_`, so every line would have to be looked at again (H4, H9).
//! Here each byte is looked at once, values eight at a time, and nothing is allocated once the table has grown.
//! `httparse` serves the tests as an oracle: what is accepted here it accepts too, with the same fields.

use super::Reject;
use super::request::{Limits, Span, Version};
use crate::field::{target_end, token_end, value_end};

/// What the tokenizer tells about each line. Its spans are right only in a scan from the first byte on.
pub(super) trait Sink {
    fn request_line(&mut self, method: Span, target: Span, version: Version);
    fn field(&mut self, name: Span, value: Span, underscore: bool);
}

/// For the scans between the first read of a head and the last: checks, keeps nothing.
pub(super) struct Unrecorded;

impl Sink for Unrecorded {
    fn request_line(&mut self, _: Span, _: Span, _: Version) {}
    fn field(&mut self, _: Span, _: Span, _: bool) {}
}

/// Where a scan stands when the bytes run out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Method,
    Target,
    Version,
    Line,
    Name,
    Value,
}

#[derive(Clone, Copy)]
pub(super) struct Scan {
    phase: Phase,
    /// First byte of the line.
    line: usize,
    /// First byte not looked at, within the phase.
    at: usize,
    /// Field lines begun.
    fields: u32,
}

impl Default for Scan {
    fn default() -> Self {
        Self { phase: Phase::Start, line: 0, at: 0, fields: 0 }
    }
}

// A scan fits the caller's one word because heads are at most 256 KiB and 1,000 fields.
const OFFSET_BITS: u32 = 20;
const _: () = assert!(usize::BITS == 64);
const _: () = assert!(Limits::LARGEST.head_bytes_max < 1 << OFFSET_BITS);
const _: () = assert!(Limits::LARGEST.fields_max < 1 << 16);

impl Scan {
    #[inline]
    pub(super) fn is_start(&self) -> bool {
        self.phase == Phase::Start
    }

    pub(super) fn pack(self) -> usize {
        self.phase as usize
            | self.line << 4
            | self.at << (4 + OFFSET_BITS)
            | (self.fields as usize) << (4 + 2 * OFFSET_BITS)
    }

    #[inline]
    pub(super) fn unpack(word: usize) -> Self {
        let mask = (1 << OFFSET_BITS) - 1;
        let phase = match word & 15 {
            1 => Phase::Method,
            2 => Phase::Target,
            3 => Phase::Version,
            4 => Phase::Line,
            5 => Phase::Name,
            6 => Phase::Value,
            _ => return Self::default(),
        };
        Self {
            phase,
            line: (word >> 4) & mask,
            at: (word >> (4 + OFFSET_BITS)) & mask,
            fields: (word >> (4 + 2 * OFFSET_BITS)) as u32,
        }
    }
}

/// Goes over the lines of a head from where `scan` stands; gives the length of the head, or `None` (and where it
/// stopped, in `scan`) when the bytes run out.
///
/// A limit is a cut: nothing beyond it is looked at, so an error before it wins and one behind it does not,
/// however the bytes arrive.
#[inline]
pub(super) fn tokenize<S: Sink>(
    buf: &[u8],
    limits: &Limits,
    scan: &mut Scan,
    sink: &mut S,
) -> Result<Option<usize>, Reject> {
    let head_bytes_max = limits.head_bytes_max.min(Limits::LARGEST.head_bytes_max) as usize;
    let buf = &buf[..buf.len().min(head_bytes_max)];

    if matches!(scan.phase, Phase::Start | Phase::Method | Phase::Target | Phase::Version)
        && !tokenize_request_line(buf, limits, scan, sink)?
    {
        return if buf.len() == head_bytes_max { Err(Reject::new(431, "limit.head")) } else { Ok(None) };
    }

    let field_bytes_max = limits.field_bytes_max.min(Limits::LARGEST.field_bytes_max) as usize + 2;
    let fields_max = limits.fields_max.min(Limits::LARGEST.fields_max);
    let Scan { mut phase, mut line, mut at, mut fields } = *scan;
    loop {
        if phase == Phase::Line {
            line = at;
            match buf.get(line) {
                None => break,
                Some(b'\r') => match buf.get(line + 1) {
                    None => break,
                    Some(b'\n') => return Ok(Some(line + 2)),
                    Some(_) => return Err(Reject::bad("line.bare_cr")),
                },
                Some(_) => {}
            }
            if fields == fields_max {
                return Err(Reject::new(431, "limit.fields"));
            }
            fields += 1;
            phase = Phase::Name;
        }

        let cut = buf.len().min(line + field_bytes_max);
        let bytes = &buf[..cut];
        let mut name = Span::default();
        let mut underscore = false;
        if phase == Phase::Name {
            at = token_end(bytes, at, &mut underscore);
            match bytes.get(at) {
                None => break,
                Some(b':') if at > line => {}
                Some(&byte) => return Err(refuse_name(byte, at == line, fields == 1)),
            }
            name = Span::new(line, at);
            at += 1;
            phase = Phase::Value;
        }

        let value_start = at;
        loop {
            at = value_end(bytes, at);
            match bytes.get(at) {
                Some(b'\t') => at += 1,
                _ => break,
            }
        }
        match bytes.get(at) {
            None => break,
            Some(b'\r') => match bytes.get(at + 1) {
                None => break,
                Some(b'\n') => {}
                Some(_) => return Err(Reject::bad("line.bare_cr")),
            },
            Some(b'\n') => return Err(Reject::bad("line.bare_lf")),
            Some(_) => return Err(Reject::bad("field.value_control")),
        }
        sink.field(name, Span::new(value_start, at), underscore);
        at += 2;
        phase = Phase::Line;
    }
    if phase != Phase::Line && buf.len() >= line + field_bytes_max {
        return Err(Reject::new(431, "limit.field"));
    }
    if buf.len() == head_bytes_max {
        return Err(Reject::new(431, "limit.head"));
    }
    *scan = Scan { phase, line, at, fields };
    Ok(None)
}

#[cold]
fn refuse_name(byte: u8, at_line_start: bool, first_field: bool) -> Reject {
    Reject::bad(match (byte, at_line_start) {
        (b':', true) => "field.name_empty",
        (b' ' | b'\t', true) if first_field => "field.leading_space",
        (b' ' | b'\t', true) => "field.folded",
        (b' ' | b'\t', false) => "field.space_before_colon",
        (b'\r', _) => "field.no_colon",
        (b'\n', _) => "line.bare_lf",
        _ => "field.name",
    })
}

/// Goes over the request line; true when it is whole and `scan` stands at the first field line.
#[inline]
fn tokenize_request_line<S: Sink>(
    buf: &[u8],
    limits: &Limits,
    scan: &mut Scan,
    sink: &mut S,
) -> Result<bool, Reject> {
    if scan.phase == Phase::Start {
        // RFC 9112 §2.2: one empty line before the request line is forgiven
        let start = match buf {
            [] | [b'\r'] => return Ok(false),
            [b'\r', b'\n', ..] => 2,
            [b'\r', ..] => return Err(Reject::bad("line.bare_cr")),
            _ => 0,
        };
        *scan = Scan { phase: Phase::Method, line: start, at: start, fields: 0 };
    }
    let line = scan.line;
    let line_bytes_max =
        limits.request_line_bytes_max.min(Limits::LARGEST.request_line_bytes_max) as usize + 2;
    let bytes = &buf[..buf.len().min(line + line_bytes_max)];
    let too_long = bytes.len() == line + line_bytes_max;

    let mut at = scan.at;
    let mut method = Span::default();
    if scan.phase == Phase::Method {
        at = token_end(bytes, at, &mut false);
        match bytes.get(at) {
            Some(b' ') if at > line => {}
            None if too_long => return Err(Reject::new(501, "method.too_long")),
            None => {
                scan.at = at;
                return Ok(false);
            }
            Some(&byte) => return Err(refuse_method(byte, at == line)),
        }
        method = Span::new(line, at);
        at += 1;
        scan.phase = Phase::Target;
    }

    let mut target = Span::default();
    if scan.phase == Phase::Target {
        let start = at;
        at = target_end(bytes, at);
        match bytes.get(at) {
            // no space is part of a target: one just before means that nothing stands between the two
            Some(b' ') if bytes[at - 1] != b' ' => {}
            None if too_long => return Err(Reject::new(414, "limit.request_line")),
            None => {
                scan.at = at;
                return Ok(false);
            }
            Some(&byte) => return Err(refuse_target(byte)),
        }
        target = Span::new(start, at);
        at += 1;
        scan.phase = Phase::Version;
        scan.at = at;
    }

    let rest = &bytes[at..];
    let version = match rest.split_first_chunk::<8>() {
        Some((b"HTTP/1.1", [b'\r', b'\n', ..])) => Version::Http11,
        Some((b"HTTP/1.0", [b'\r', b'\n', ..])) => Version::Http10,
        _ => {
            refuse_version(rest)?;
            return if too_long { Err(Reject::new(414, "limit.request_line")) } else { Ok(false) };
        }
    };
    sink.request_line(method, target, version);
    at += 10;
    *scan = Scan { phase: Phase::Line, line: at, at, fields: 0 };
    Ok(true)
}

#[cold]
fn refuse_method(byte: u8, at_line_start: bool) -> Reject {
    Reject::bad(match (byte, at_line_start) {
        (b'\r', true) => "request_line.empty",
        (b' ', true) => "request_line.leading_space",
        (b'\n', _) => "line.bare_lf",
        (b'\r', false) => "request_line.target_missing",
        _ => "method.syntax",
    })
}

#[cold]
fn refuse_target(byte: u8) -> Reject {
    Reject::bad(match byte {
        b' ' => "request_line.spaces",
        b'\r' => "request_line.version_missing",
        b'\n' => "line.bare_lf",
        b'#' => "target.fragment",
        0x80.. => "target.non_ascii",
        _ => "target.control",
    })
}

/// What is wrong with a version that is not one of ours; `Ok` when it only is not whole yet.
#[cold]
fn refuse_version(rest: &[u8]) -> Result<(), Reject> {
    for (index, &byte) in rest.iter().take(10).enumerate() {
        let fits = match index {
            5 | 7 => byte.is_ascii_digit(),
            _ => byte == b"HTTP/0.0\r\n"[index],
        };
        if !fits {
            return Err(Reject::bad(match (index, byte) {
                (0, b' ') => "request_line.spaces",
                (0, b'\r') => "request_line.version_missing",
                (8, b'\n') => "line.bare_lf",
                (8, b' ' | b'\t') => "request_line.trailing_space",
                (9, _) => "line.bare_cr",
                _ => "version.syntax",
            }));
        }
    }
    if rest.len() < 10 { Ok(()) } else { Err(Reject::new(505, "version.unsupported")) }
}
