//! Drives the codec over a stream of requests as a connection would, and writes down what it decided.

use trivet_http::field::Name;
use trivet_http::h1::{BodyLength, Chunked, Head, Limits, Parsed, Reject, Step, Version};

/// The verdict on a stream that arrives at once.
pub(crate) fn verdict(stream: &[u8]) -> String {
    verdict_in_pieces(stream, [stream.len()])
}

/// The verdict on a stream that arrives in pieces of these sizes; what they leave over comes last.
pub(crate) fn verdict_in_pieces(stream: &[u8], sizes: impl IntoIterator<Item = usize>) -> String {
    let mut connection = Connection::default();
    let mut rest = stream;
    for size in sizes {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at(size.min(rest.len()));
        connection.feed(piece);
        rest = later;
    }
    connection.feed(rest);
    connection.verdict()
}

/// A field's name and value.
pub(crate) type OwnedField = (Vec<u8>, Vec<u8>);

/// The fields of a head that is accepted and whole, and its length; a Host replaced by an absolute target's
/// authority leaves the case out.
pub(crate) fn head_fields(stream: &[u8]) -> Option<(Vec<OwnedField>, usize)> {
    let mut head = Head::default();
    if head.parse(stream, &Limits::default(), &mut 0) != Ok(Parsed::Complete) {
        return None;
    }
    let fields: Vec<_> =
        head.fields.iter().map(|f| (f.name.of(stream).to_vec(), f.value.of(stream).to_vec())).collect();
    let replaced =
        head.fields.iter().any(|field| field.known == Name::Host && field.value.start < field.name.start);
    (!replaced).then_some((fields, head.bytes as usize))
}

enum Expecting {
    Head,
    Length(u64),
    Chunks(Box<Chunked>),
    /// The connection is to be closed: nothing is read any more.
    Nothing,
}

struct Connection {
    expecting: Expecting,
    buffer: Vec<u8>,
    resume: usize,
    head: Head,
    close: bool,
    messages: Vec<String>,
    body: Vec<u8>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            expecting: Expecting::Head,
            buffer: Vec::new(),
            resume: 0,
            head: Head::default(),
            close: false,
            messages: Vec::new(),
            body: Vec::new(),
        }
    }
}

impl Connection {
    fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        while self.advance() {}
    }

    /// Takes what it can from the buffer; false when it waits for more.
    fn advance(&mut self) -> bool {
        match &mut self.expecting {
            Expecting::Nothing => false,
            Expecting::Head => {
                if self.buffer.is_empty() {
                    return false;
                }
                match self.head.parse(&self.buffer, &Limits::default(), &mut self.resume) {
                    Ok(Parsed::Partial) => false,
                    Ok(Parsed::Complete) => {
                        self.take_head();
                        true
                    }
                    Err(reject) => {
                        self.messages.push(refusal(reject));
                        self.expecting = Expecting::Nothing;
                        false
                    }
                }
            }
            Expecting::Length(left) => {
                let taken = (*left).min(self.buffer.len() as u64);
                self.body.extend(self.buffer.drain(..taken as usize));
                *left -= taken;
                if *left > 0 {
                    return false;
                }
                self.end_body("");
                true
            }
            Expecting::Chunks(decoder) => match decoder.step(&self.buffer) {
                Ok(Step::Data { consumed, data }) => {
                    assert!(!data.is_empty() && data.end <= consumed && consumed <= self.buffer.len());
                    self.body.extend_from_slice(&self.buffer[data]);
                    self.buffer.drain(..consumed);
                    true
                }
                Ok(Step::NeedMore { consumed }) => {
                    assert_eq!(consumed, self.buffer.len());
                    self.buffer.clear();
                    false
                }
                Ok(Step::End { consumed }) => {
                    self.buffer.drain(..consumed);
                    self.end_body("");
                    true
                }
                Err(reject) => {
                    self.end_body(&format!(" {}", refusal(reject)));
                    self.expecting = Expecting::Nothing;
                    false
                }
            },
        }
    }

    fn take_head(&mut self) {
        let head = &self.head;
        let buffer = &self.buffer[..];
        let text = |span: trivet_http::h1::Span| String::from_utf8_lossy(span.of(buffer)).into_owned();
        let mut words = format!(
            "{} {}{} {} @{} {}",
            text(head.method),
            if head.empty_path { "[/]" } else { "" },
            text(head.path_and_query),
            if head.version == Version::Http11 { "1.1" } else { "1.0" },
            text(head.authority),
            if head.keep_alive { "keep" } else { "close" },
        );
        for (set, word) in
            [(head.is_head, " head"), (head.upgrade, " upgrade"), (head.expect_continue, " expect")]
        {
            if set {
                words.push_str(word);
            }
        }
        self.close = !head.keep_alive;
        self.expecting = match head.body {
            BodyLength::None if self.close => Expecting::Nothing,
            BodyLength::None => Expecting::Head,
            BodyLength::Length(length) => {
                words = format!("{words} length={length}");
                Expecting::Length(length)
            }
            BodyLength::Chunked => {
                words.push_str(" chunked");
                Expecting::Chunks(Box::default())
            }
        };
        self.messages.push(words);
        self.buffer.drain(..head.bytes as usize);
    }

    fn end_body(&mut self, what: &str) {
        let body = String::from_utf8_lossy(&self.body).into_owned();
        self.body.clear();
        let message = self.messages.last_mut().expect("a body follows a head");
        *message = format!("{message} '{body}'{what}");
        self.expecting = if self.close { Expecting::Nothing } else { Expecting::Head };
    }

    fn verdict(mut self) -> String {
        match self.expecting {
            Expecting::Length(_) | Expecting::Chunks(_) => self.end_body(" more"),
            Expecting::Head if !self.buffer.is_empty() || self.messages.is_empty() => {
                self.messages.push("more".to_owned());
            }
            _ => {}
        }
        self.messages.join("; ")
    }
}

fn refusal(reject: Reject) -> String {
    format!("{} {}", reject.status, reject.reason)
}
