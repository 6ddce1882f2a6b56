//! The access log: a line for each request, in the format that is asked for.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;

use trivet_wire::frame::{Fields, Request};

use crate::config::{self, LogFormat};
use crate::exchange::Exchange;
use crate::log_writer::LogWriter;

/// One step of a parsed format.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// One of Gunicorn's one-letter atoms.
    Atom(char),
    Request(String),
    /// Index of [`AccessLog::wanted`].
    Answer(usize),
    /// Why it ended.
    Ended,
    Nothing,
}

#[derive(Debug)]
enum Style {
    Parts(Vec<Part>),
    Json,
}

pub(crate) struct AccessLog {
    style: Style,
    /// Names of answer fields that the format shows, in lower case.
    wanted: Vec<String>,
    writer: LogWriter,
    line: String,
    /// `[21/Nov/2026:13:00:00 +0000]` of the second last used.
    stamp: (u64, String),
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("style", &self.style).finish_non_exhaustive()
    }
}

impl AccessLog {
    /// `control`: see [`LogWriter::start`].
    pub(crate) fn new(log: &config::AccessLog, sink: OwnedFd, control: OwnedFd) -> io::Result<Self> {
        let mut wanted = Vec::new();
        let style = match &log.format {
            LogFormat::Common => {
                Style::Parts(parse(r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s"#, &mut wanted))
            }
            LogFormat::Combined => Style::Parts(parse(
                r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#,
                &mut wanted,
            )),
            LogFormat::Atoms(text) => Style::Parts(parse(text, &mut wanted)),
            LogFormat::Json => Style::Json,
        };
        let writer = LogWriter::start(log, sink, control)?;
        Ok(Self { style, wanted, writer, line: String::new(), stamp: (0, String::new()) })
    }

    /// Lines that could not be kept.
    pub(crate) fn lost(&self) -> u64 {
        self.writer.lost()
    }

    /// From the next line on, another file.
    pub(crate) fn reopen(&self, sink: OwnedFd) {
        self.writer.reopen(sink);
    }

    /// Waits (for two seconds at most) until all lines are written.
    pub(crate) fn finish(&self) {
        self.writer.finish();
    }

    /// Keeps the answer's fields that the format shows.
    pub(crate) fn capture(&self, x: &mut Exchange, fields: Fields<'_>) {
        if self.wanted.is_empty() {
            return;
        }
        x.logged_fields = vec![Vec::new(); self.wanted.len()];
        for (name, value) in fields {
            for (slot, wanted) in x.logged_fields.iter_mut().zip(&self.wanted) {
                if name.eq_ignore_ascii_case(wanted.as_bytes()) {
                    value.clone_into(slot);
                }
            }
        }
    }

    /// Writes the line of a completed exchange.
    pub(crate) fn record(&mut self, x: &Exchange, now_ns: u64, seconds: u64) {
        self.line.clear();
        if self.stamp.0 != seconds {
            self.stamp = (seconds, stamp(seconds));
        }
        let request = x.request();
        let micros = now_ns.saturating_sub(x.began_ns) / 1000;
        match &self.style {
            Style::Json => json(&mut self.line, x, request.as_ref(), micros, seconds),
            Style::Parts(parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => self.line.push_str(text),
                        Part::Atom(atom) => {
                            push_atom(&mut self.line, *atom, x, request.as_ref(), micros, &self.stamp.1);
                        }
                        Part::Request(name) => push_field(&mut self.line, request.as_ref(), name),
                        Part::Answer(i) => {
                            let value = match x.logged_fields.get(*i).map(Vec::as_slice).unwrap_or_default() {
                                // Where the app gives none, the edge adds its own.
                                b"" if self.wanted[*i] == "x-request-id" => x.request_id(),
                                value => value,
                            };
                            push_escaped(&mut self.line, value);
                        }
                        Part::Ended => self.line.push_str(x.ending.word()),
                        Part::Nothing => self.line.push('-'),
                    }
                }
            }
        }
        self.line.push('\n');
        self.writer.put(self.line.as_bytes());
    }
}

/// Reads a format of Gunicorn's: `%(atom)s`, `%({name}i)s`, `%%`.
fn parse(format: &str, wanted: &mut Vec<String>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        if at > 0 {
            parts.push(Part::Text(rest[..at].to_owned()));
        }
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("%%") {
            parts.push(Part::Text("%".to_owned()));
            rest = after;
            continue;
        }
        let atom = rest.strip_prefix("%(").and_then(|r| r.split_once(")s"));
        let Some((atom, after)) = atom else {
            parts.push(Part::Text(rest[..1].to_owned()));
            rest = &rest[1..];
            continue;
        };
        rest = after;
        let mut letters = atom.chars();
        parts.push(match (letters.next(), letters.next()) {
            (Some(letter), None) => Part::Atom(letter),
            (Some('{'), _) => match atom[1..].split_once('}') {
                Some((name, "i")) => Part::Request(name.to_ascii_lowercase()),
                Some((name, "o")) => {
                    wanted.push(name.to_ascii_lowercase());
                    Part::Answer(wanted.len() - 1)
                }
                _ => Part::Nothing,
            },
            _ if atom == "ended" => Part::Ended,
            _ => Part::Nothing,
        });
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    parts
}

fn push_atom(
    line: &mut String,
    atom: char,
    x: &Exchange,
    request: Option<&Request<'_>>,
    micros: u64,
    stamp: &str,
) {
    let target =
        request.map(|r| if r.head.raw_target.is_empty() { r.head.target } else { r.head.raw_target });
    let (path, query) = split_target(target.unwrap_or_default());
    let version = x.version();
    let _ = match atom {
        'h' => return push_escaped(line, request.map_or(&[][..], |r| r.head.peer)),
        'u' => return push_escaped(line, &user(request)),
        't' => {
            line.push_str(stamp);
            Ok(())
        }
        'r' => {
            let Some(r) = request else { return line.push('-') };
            push_escaped(line, r.head.method);
            line.push(' ');
            push_escaped(line, target.unwrap_or_default());
            write!(line, " {version}")
        }
        'm' => return push_escaped(line, request.map_or(&[][..], |r| r.head.method)),
        'U' => return push_escaped(line, path),
        'q' => {
            if !query.is_empty() {
                push_escaped(line, query);
            }
            Ok(())
        }
        'H' => write!(line, "{version}"),
        's' => write!(line, "{}", x.status),
        // Not one of Gunicorn's: the status in the colour of its class, for the terminal of `trivet dev`.
        'S' => {
            let color = match x.status / 100 {
                2 => 32,
                3 => 36,
                4 => 33,
                5 => 31,
                _ => 0,
            };
            write!(line, "\x1b[{color}m{}\x1b[0m", x.status)
        }
        'b' if x.body_sent == 0 => return line.push('-'),
        'b' | 'B' => write!(line, "{}", x.body_sent),
        'f' => return push_field(line, request, "referer"),
        'a' => return push_field(line, request, "user-agent"),
        'T' => write!(line, "{}", micros / 1_000_000),
        'M' => write!(line, "{}", micros / 1000),
        'D' => write!(line, "{micros}"),
        'L' => write!(line, "{}.{:06}", micros / 1_000_000, micros % 1_000_000),
        'p' => write!(line, "<{}>", std::process::id()),
        _ => return line.push('-'),
    };
}

fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    match target.iter().position(|b| *b == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, b""),
    }
}

/// The user of HTTP basic authentication, as the client claims it.
fn user(request: Option<&Request<'_>>) -> Vec<u8> {
    let value = request.and_then(|r| {
        r.fields().find(|(name, _)| name.eq_ignore_ascii_case(b"authorization")).map(|(_, value)| value)
    });
    let Some(value) = value else { return Vec::new() };
    let Some((scheme, rest)) = value.split_at_checked(6) else { return Vec::new() };
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return Vec::new();
    }
    let decoded = base64(rest);
    decoded.split(|b| *b == b':').next().unwrap_or_default().to_vec()
}

fn base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for b in text {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

fn push_field(line: &mut String, request: Option<&Request<'_>>, name: &str) {
    let value = request
        .and_then(|r| r.fields().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v));
    push_escaped(line, value.unwrap_or_default());
}

/// What a client sent, so that it cannot forge a line or a quoted value.
fn push_escaped(line: &mut String, bytes: &[u8]) {
    if bytes.is_empty() {
        line.push('-');
        return;
    }
    for b in bytes {
        match b {
            b'"' => line.push_str("\\\""),
            b'\\' => line.push_str("\\\\"),
            b' '..=b'~' => line.push(char::from(*b)),
            _ => {
                let _ = write!(line, "\\x{b:02x}");
            }
        }
    }
}

fn json(line: &mut String, x: &Exchange, request: Option<&Request<'_>>, micros: u64, seconds: u64) {
    let text = |bytes: &[u8]| serde_json::Value::from(String::from_utf8_lossy(bytes).into_owned());
    let field = |name: &str| {
        request
            .and_then(|r| r.fields().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())))
            .map_or(serde_json::Value::Null, |(_, v)| text(v))
    };
    let target = request
        .map_or(&[][..], |r| if r.head.raw_target.is_empty() { r.head.target } else { r.head.raw_target });
    let value = serde_json::json!({
        "time": trivet_wire::log::timestamp(seconds * 1000),
        "remote_addr": text(request.map_or(&[][..], |r| r.head.peer)),
        "method": text(request.map_or(&[][..], |r| r.head.method)),
        "target": text(target),
        "protocol": x.version(),
        "status": x.status,
        "ended": x.ending.word(),
        "body_bytes": x.body_sent,
        "duration_us": micros,
        "host": field("host"),
        "referer": field("referer"),
        "user_agent": field("user-agent"),
        "request_id": text(x.request_id()),
    });
    line.push_str(&value.to_string());
}

/// `[21/Nov/2026:13:00:00 +0000]`: the log's times are UTC, as the servers are that keep them.
fn stamp(seconds: u64) -> String {
    let iso = trivet_wire::log::timestamp(seconds * 1000);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = iso[5..7].parse::<usize>().map_or("Jan", |m| months[(m - 1) % 12]);
    format!("[{}/{month}/{}:{} +0000]", &iso[8..10], &iso[..4], &iso[11..19])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_into_parts() {
        let mut wanted = Vec::new();
        let parts = parse(
            r#"%(h)s "%(r)s" 100%% %({X-Request-Id}o)s %({user-agent}i)s %(ended)s %(zz)s"#,
            &mut wanted,
        );
        assert_eq!(wanted, ["x-request-id"]);
        assert_eq!(parts[0], Part::Atom('h'));
        assert!(parts.contains(&Part::Answer(0)) && parts.contains(&Part::Request("user-agent".into())));
        assert_eq!(parts.last(), Some(&Part::Nothing));
        assert_eq!(parts[parts.len() - 3], Part::Ended);
    }

    #[test]
    fn a_client_cannot_forge_a_line() {
        let mut line = String::new();
        push_escaped(&mut line, b"a\"b\\\n\xff");
        assert_eq!(line, "a\\\"b\\\\\\x0a\\xff");
    }

    #[test]
    fn stamps_are_those_of_the_common_format() {
        assert_eq!(stamp(951_782_400), "[29/Feb/2000:00:00:00 +0000]");
    }

    #[test]
    fn base64_gives_the_user_back() {
        assert_eq!(base64(b"QWxhZGRpbjpvcGVu"), b"Aladdin:open");
    }
}
