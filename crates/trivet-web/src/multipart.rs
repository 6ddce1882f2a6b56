//! `multipart/form-data` (RFC 7578) as it comes: bytes in, in pieces of any size, events out.
//!
//! However the bytes are cut, the events are the same (but for where `Data` is cut) and so is the error. Nothing is
//! kept but a delimiter that may have begun and the head of a part; a search for the delimiter with
//! `memmem` is the one pass over the content.
//!
//! Strict, so that nobody in front reads something else: line ends are CRLF (RFC 2046 §4.1.1), what begins with the
//! delimiter is one (§5.1.1), the last one must be there, parts do not nest (RFC 7578 §4.3) and have no transfer
//! encoding (§4.7).

mod head;

use memchr::{memchr, memmem, memrchr};

pub use head::{Head, boundary, safe_filename};

/// How much of a form is read; the size of the whole body is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub parts_max: usize,
    /// The header fields of one part, with the empty line behind them.
    pub head_bytes_max: usize,
    /// What has to be in memory: values of all fields, names of all parts. Content of files is not counted.
    pub memory_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { parts_max: 1000, head_bytes_max: 16 << 10, memory_bytes_max: 512 << 10 }
    }
}

/// Why a form cannot be read. Once it happened, it is the answer to everything that follows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("content type is not `multipart/form-data`")]
    NotMultipart,
    #[error("`multipart/form-data` without a valid boundary")]
    BadBoundary,
    #[error("form has more than {max} parts (`parts_max`)")]
    TooManyParts { max: usize },
    #[error("head of part {part} is larger than {max} bytes (`head_bytes_max`)")]
    HeadTooLarge { part: usize, max: usize },
    #[error("fields of the form need more than {max} bytes of memory (`memory_bytes_max`)")]
    TooMuchMemory { max: usize },
    #[error("form ends before its final boundary")]
    Truncated,
    #[error("line of the form does not end in CR LF")]
    LineEnd,
    #[error("boundary in the form is followed by something else than a line's end")]
    BadDelimiter,
    #[error("head of part {part}: {why}")]
    BadHead { part: usize, why: &'static str },
    #[error("part {part} contains parts\nhint: several files are sent as several parts of one name")]
    Nested { part: usize },
    #[error("part {part} has `Content-Transfer-Encoding: {encoding}`\nhint: forms are sent as they are")]
    Encoded { part: usize, encoding: String },
}

impl Error {
    /// The status code of the answer: 413 for a limit, 415 for another type, 400 for what is wrong in itself.
    pub const fn status(&self) -> u16 {
        match self {
            Self::TooManyParts { .. } | Self::HeadTooLarge { .. } | Self::TooMuchMemory { .. } => 413,
            Self::NotMultipart => 415,
            _ => 400,
        }
    }
}

/// What a piece of a form's body contains, in order: for each part `Begin`, any number of `Data`, `End`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Begin(Head),
    /// Some of the part's content, never empty.
    Data(&'a [u8]),
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter; what stands there is nobody's (RFC 2046 §5.1.1).
    Preamble,
    /// Behind a delimiter: padding and CRLF, or `--`.
    Delimiter(AtDelimiter),
    Head,
    Content,
    /// Behind the last delimiter; what stands there is nobody's.
    Epilogue,
    Failed(Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtDelimiter {
    Begun,
    Dash,
    Padding { is_last: bool },
    Return { is_last: bool },
}

/// A parser of one form's body.
#[derive(Clone, Debug)]
pub struct Multipart {
    /// For CR, LF, two dashes and the boundary.
    delimiter: memmem::Finder<'static>,
    limits: Limits,
    state: State,
    /// How much of a delimiter the bytes so far ended with. A CR stands only at its front, so what turns out to be
    /// none is content in full and hides no other beginning.
    matched: usize,
    /// How many of them are not content should no delimiter follow: the line's end before, where content begins.
    lent: usize,
    /// The part's head as far as it has come, if it came in pieces.
    head: Vec<u8>,
    /// The part now read, from 1.
    part: usize,
    is_file: bool,
    memory_bytes: usize,
}

impl Multipart {
    /// For a body with this boundary, which [`boundary`] finds in a `Content-Type`.
    pub fn new(boundary: &[u8], limits: Limits) -> Result<Self, Error> {
        if !head::is_boundary(boundary) {
            return Err(Error::BadBoundary);
        }
        let delimiter = [b"\r\n--", boundary].concat();
        Ok(Self {
            delimiter: memmem::Finder::new(&delimiter).into_owned(),
            limits,
            state: State::Preamble,
            // the first delimiter may stand at the very front: as if a line had ended before
            matched: 2,
            lent: 2,
            head: Vec::new(),
            part: 0,
            is_file: false,
            memory_bytes: 0,
        })
    }

    /// Takes the next piece of the body. After an error, every call gives it again.
    pub fn feed(&mut self, bytes: &[u8], event: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = match &self.state {
                State::Preamble | State::Content => self.content(rest, event),
                State::Delimiter(at) => self.at_delimiter(*at, rest[0]).map(|()| 1),
                State::Head => self.head(rest, event),
                State::Epilogue => Ok(rest.len()),
                State::Failed(error) => return Err(error.clone()),
            };
            match taken {
                Ok(taken) => rest = &rest[taken..],
                Err(error) => {
                    self.state = State::Failed(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// After the last piece: whether the form was whole.
    pub fn finish(&self) -> Result<(), Error> {
        match &self.state {
            // RFC 2046 §5.1.1: the last line needs no end
            State::Epilogue | State::Delimiter(AtDelimiter::Padding { is_last: true }) => Ok(()),
            State::Failed(error) => Err(error.clone()),
            _ => Err(Error::Truncated),
        }
    }

    /// Reads to the next delimiter or to the end of what there is; gives how much was taken.
    fn content(&mut self, bytes: &[u8], event: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error> {
        if self.matched > 0 {
            let missing = &self.delimiter.needle()[self.matched..];
            let compared = missing.len().min(bytes.len());
            if missing[..compared] == bytes[..compared] {
                self.matched += compared;
                if compared == missing.len() {
                    self.delimited(event);
                }
                return Ok(compared);
            }
            let held = self.lent..self.matched;
            (self.matched, self.lent) = (0, 0);
            self.count(held.len())?;
            if self.state == State::Content && !held.is_empty() {
                event(Event::Data(&self.delimiter.needle()[held]));
            }
        }
        let delimiter = self.delimiter.needle();
        let found = self.delimiter.find(bytes);
        let (content, taken) = if let Some(at) = found {
            (at, at + delimiter.len())
        } else {
            self.matched = begun(bytes, delimiter);
            (bytes.len() - self.matched, bytes.len())
        };
        self.count(content)?;
        if self.state == State::Content && content > 0 {
            event(Event::Data(&bytes[..content]));
        }
        if found.is_some() {
            self.delimited(event);
        }
        Ok(taken)
    }

    fn delimited(&mut self, event: &mut dyn FnMut(Event<'_>)) {
        if self.state == State::Content {
            event(Event::End);
        }
        (self.matched, self.lent) = (0, 0);
        self.state = State::Delimiter(AtDelimiter::Begun);
    }

    /// Counts content of a field; that of a file is the caller's to spool, and that of a preamble is dropped.
    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        if self.is_file || self.state != State::Content { Ok(()) } else { self.remember(bytes) }
    }

    fn remember(&mut self, bytes: usize) -> Result<(), Error> {
        self.memory_bytes = self.memory_bytes.saturating_add(bytes);
        let max = self.limits.memory_bytes_max;
        if self.memory_bytes > max { Err(Error::TooMuchMemory { max }) } else { Ok(()) }
    }

    fn at_delimiter(&mut self, at: AtDelimiter, byte: u8) -> Result<(), Error> {
        use AtDelimiter::{Begun, Dash, Padding, Return};
        let next = match (at, byte) {
            (Begun, b'-') => Dash,
            (Begun, b' ' | b'\t') => Padding { is_last: false },
            (Begun, b'\r') => Return { is_last: false },
            (Dash, b'-') => Padding { is_last: true },
            (Padding { .. }, b' ' | b'\t') => at,
            (Padding { is_last }, b'\r') => Return { is_last },
            (Return { is_last: true }, b'\n') => {
                self.state = State::Epilogue;
                return Ok(());
            }
            (Return { is_last: false }, b'\n') => {
                let max = self.limits.parts_max;
                if self.part == max {
                    return Err(Error::TooManyParts { max });
                }
                self.part += 1;
                self.state = State::Head;
                return Ok(());
            }
            (Begun | Padding { .. }, b'\n') | (Return { .. }, _) => return Err(Error::LineEnd),
            _ => return Err(Error::BadDelimiter),
        };
        self.state = State::Delimiter(next);
        Ok(())
    }

    /// Reads a part's head to its empty line, or keeps what there is of it; gives how much was taken.
    fn head(&mut self, bytes: &[u8], event: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error> {
        let max = self.limits.head_bytes_max;
        let kept = self.head.len();
        // one more than allowed shows that it is too many
        let offered = bytes.len().min(max.saturating_add(1).saturating_sub(kept));
        let end = if kept == 0 {
            head_end(&bytes[..offered], 0)
        } else {
            self.head.extend_from_slice(&bytes[..offered]);
            head_end(&self.head, kept)
        }?;
        match end {
            Some(end) if end <= max => {
                let taken = end - kept;
                let head = if kept == 0 { &bytes[..end] } else { &self.head[..end] };
                let head = head::parse(head, self.part)?;
                self.head.clear();
                self.is_file = head.filename.is_some();
                self.remember(head.name.len() + head.filename.as_ref().map_or(0, String::len))?;
                event(Event::Begin(head));
                self.state = State::Content;
                // without content the head's last line end is the delimiter's (RFC 2046 §5.1.1)
                (self.matched, self.lent) = (2, 2);
                Ok(taken)
            }
            None if kept + offered <= max => {
                if kept == 0 {
                    self.head.extend_from_slice(bytes);
                }
                Ok(offered)
            }
            _ => Err(Error::HeadTooLarge { part: self.part, max }),
        }
    }
}

/// How many bytes at the end are the beginning of a delimiter. It has a CR at its front only, so the last CR decides.
fn begun(bytes: &[u8], delimiter: &[u8]) -> usize {
    let tail = &bytes[bytes.len() - bytes.len().min(delimiter.len() - 1)..];
    match memrchr(b'\r', tail) {
        Some(at) if delimiter.starts_with(&tail[at..]) => tail.len() - at,
        _ => 0,
    }
}

/// Where a head ends, behind its empty line, if it does; the first `seen` bytes were looked at before. A line that
/// ends without CR is told as soon as it comes.
fn head_end(head: &[u8], seen: usize) -> Result<Option<usize>, Error> {
    let mut at = seen;
    while let Some(found) = memchr(b'\n', &head[at..]) {
        let line_end = at + found + 1;
        match &head[..line_end] {
            b"\r\n" | [.., b'\r', b'\n', b'\r', b'\n'] => return Ok(Some(line_end)),
            [.., b'\r', b'\n'] => at = line_end,
            _ => return Err(Error::LineEnd),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A part as it is given: its head, and its content in one piece.
    type Part = (Head, Vec<u8>);

    /// What is read of `body` cut at `step` bytes, and the error if there is one; a part without its end is left out.
    fn read(body: &[u8], limits: Limits, step: usize) -> (Vec<Part>, Result<(), Error>) {
        let (mut parts, mut open) = (Vec::new(), None::<Part>);
        let mut parser = Multipart::new(b"XYZ", limits).expect("a boundary");
        let mut take = |event: Event<'_>| match event {
            Event::Begin(head) => assert!(open.replace((head, Vec::new())).is_none(), "parts do not nest"),
            Event::Data(data) => {
                assert!(!data.is_empty());
                open.as_mut().expect("data is in a part").1.extend_from_slice(data);
            }
            Event::End => parts.push(open.take().expect("a part ends once")),
        };
        let fed = body.chunks(step).try_for_each(|piece| parser.feed(piece, &mut take));
        if let Err(error) = &fed {
            assert_eq!(parser.feed(b"x", &mut take).as_ref(), Err(error), "an error stays");
            assert_eq!(parser.finish().as_ref(), Err(error), "an error stays");
        }
        let finished = parser.finish();
        (parts, fed.and(finished))
    }

    fn all(body: &[u8]) -> Result<Vec<(String, Option<String>, String)>, Error> {
        let whole = read(body, Limits::default(), body.len().max(1));
        for step in [1, 2, 3, 7] {
            assert_eq!(read(body, Limits::default(), step), whole, "in pieces of {step}");
        }
        whole.1?;
        let text = |(head, data): Part| (head.name, head.filename, String::from_utf8(data).expect("text"));
        Ok(whole.0.into_iter().map(text).collect())
    }

    const HEAD: &str = "Content-Disposition: form-data; name=\"a\"\r\n\r\n";

    fn field(name: &str, value: &str) -> (String, Option<String>, String) {
        (name.to_owned(), None, value.to_owned())
    }

    #[test]
    fn fields_and_files_are_read() {
        let body = format!(
            "--XYZ\r\n{HEAD}1\r\n--XYZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\n\
             Content-Type: text/plain\r\n\r\n\r\nline\r\n\r\n--XYZ--\r\n"
        );
        let file = ("f".to_owned(), Some("x.txt".to_owned()), "\r\nline\r\n".to_owned());
        assert_eq!(all(body.as_bytes()), Ok(vec![field("a", "1"), file]));
        let (parts, _) = read(body.as_bytes(), Limits::default(), 1);
        assert_eq!(parts[1].0.content_type.as_deref(), Some("text/plain"));
        assert_eq!(parts[1].0.headers[1], ("Content-Type".to_owned(), "text/plain".to_owned()));
    }

    #[test]
    fn what_stands_around_the_parts_is_dropped() {
        let parts = Ok(vec![field("a", "1")]);
        for (preamble, epilogue) in [
            ("", ""),
            ("", "\r\n"),
            ("\r\n", " \t"),
            ("some text\n--XY\r\n--XY\r\n", " \r\nmore\r\n--XYZ\r\n"),
            ("--XY-XYZ\r\n\r\n", "\r\n--XYZ--"),
        ] {
            let body = format!("{preamble}--XYZ\r\n{HEAD}1\r\n--XYZ--{epilogue}");
            assert_eq!(all(body.as_bytes()), parts, "{body:?}");
        }
        assert_eq!(all(b"--XYZ--\r\n"), Ok(vec![]));
        assert_eq!(all(format!("--XYZ \t\r\n{HEAD}1\r\n--XYZ--").as_bytes()), parts);
    }

    #[test]
    fn content_is_all_bytes_but_the_delimiter() {
        for content in [
            "",
            "\r",
            "\n",
            "\r\n",
            "\r\n-",
            "\r\n--",
            "\r\n--X",
            "\r\n--XY",
            "\r\r\n\r\n--XY\r",
            "--XY",
            "-",
            "\n--XYZ",
        ] {
            let body = format!("--XYZ\r\n{HEAD}{content}\r\n--XYZ--");
            assert_eq!(all(body.as_bytes()), Ok(vec![field("a", content)]), "{body:?}");
        }
        // without content the head's empty line is the delimiter's
        let body = format!("--XYZ\r\n{HEAD}--XYZ\r\n{HEAD}--XYZ--");
        assert_eq!(all(body.as_bytes()), Ok(vec![field("a", ""), field("a", "")]));
    }

    #[test]
    fn a_form_that_stops_early_is_refused() {
        let body = format!("--XYZ\r\n{HEAD}1\r\n--XYZ--");
        for end in 0..body.len() {
            assert_eq!(all(&body.as_bytes()[..end]), Err(Error::Truncated), "{:?}", &body[..end]);
        }
        assert_eq!(Error::Truncated.to_string(), "form ends before its final boundary");
        assert_eq!(all(format!("{body}\r").as_bytes()), Err(Error::Truncated));
    }

    #[test]
    fn lines_end_in_cr_lf_only() {
        for body in [
            "--XYZ\n",
            "--XYZ \n",
            "--XYZ\rx",
            "--XYZ--\n",
            "--XYZ--\rx",
            "--XYZ\r\n\n",
            "--XYZ\r\nA: b\nC: d\r\n\r\n",
            "--XYZ\r\nA: b\r\n\n",
        ] {
            assert_eq!(all(body.as_bytes()), Err(Error::LineEnd), "{body:?}");
        }
        let body = format!("--XYZ\n{HEAD}1\n--XYZ--\n").replace("\r\n", "\n");
        assert_eq!(all(body.as_bytes()), Err(Error::LineEnd));
        let body = format!("--XYZ\r\n{HEAD}1\n--XYZ--\n");
        assert_eq!(all(body.as_bytes()), Err(Error::Truncated), "within content a line feed is content");
    }

    #[test]
    fn what_begins_with_the_delimiter_is_one() {
        for rest in ["A\r\n", "-\r\n", "-A", "--A", " A", "-- A", "--XYZ"] {
            let body = format!("--XYZ\r\n{HEAD}1\r\n--XYZ{rest}");
            assert_eq!(all(body.as_bytes()), Err(Error::BadDelimiter), "{body:?}");
        }
    }

    #[test]
    fn limits_are_exact_and_named() {
        let part = format!("--XYZ\r\n{HEAD}1234\r\n");
        let body = format!("{part}{part}--XYZ--");
        let exact = Limits { parts_max: 2, head_bytes_max: HEAD.len(), memory_bytes_max: 10 };
        for (limits, error) in [
            (exact, None),
            (
                Limits { parts_max: 1, ..exact },
                Some((Error::TooManyParts { max: 1 }, "form has more than 1 parts (`parts_max`)")),
            ),
            (
                Limits { head_bytes_max: HEAD.len() - 1, ..exact },
                Some((
                    Error::HeadTooLarge { part: 1, max: HEAD.len() - 1 },
                    "head of part 1 is larger than 43 bytes (`head_bytes_max`)",
                )),
            ),
            (
                Limits { memory_bytes_max: 9, ..exact },
                Some((
                    Error::TooMuchMemory { max: 9 },
                    "fields of the form need more than 9 bytes of memory (`memory_bytes_max`)",
                )),
            ),
        ] {
            for step in [1, 2, 5, 13, body.len()] {
                let result = read(body.as_bytes(), limits, step).1;
                assert_eq!(result.as_ref().err(), error.as_ref().map(|e| &e.0), "in pieces of {step}");
                if let (Err(found), Some((_, text))) = (result, &error) {
                    assert_eq!((found.to_string().as_str(), found.status()), (*text, 413));
                }
            }
        }
    }

    #[test]
    fn content_of_files_needs_no_memory_but_their_names_do() {
        let head = "Content-Disposition: form-data; name=\"a\"; filename=\"bcd\"\r\n\r\n";
        let body = format!("--XYZ\r\n{head}{}\r\n--XYZ--", "x".repeat(1000));
        let limits = Limits { memory_bytes_max: 4, ..Limits::default() };
        assert_eq!(read(body.as_bytes(), limits, 100).1, Ok(()));
        let limits = Limits { memory_bytes_max: 3, ..limits };
        assert_eq!(read(body.as_bytes(), limits, 100).1, Err(Error::TooMuchMemory { max: 3 }));
    }

    #[test]
    fn a_boundary_is_checked() {
        let longest = [b'a'; 70];
        for good in [&b"a"[..], b"a b", b"'()+_,-./:=?", &longest] {
            assert!(Multipart::new(good, Limits::default()).is_ok());
        }
        for bad in [&b""[..], b"a ", b"a\r", b"a\"", b"\xff", b"a;b", &[b'a'; 71]] {
            assert_eq!(Multipart::new(bad, Limits::default()).err(), Some(Error::BadBoundary));
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            pieces in prop::collection::vec(prop::sample::select(&[
                "--XYZ", "\r\n--XYZ\r\n", "\r\n--XYZ--", HEAD, "\r\n", "\r", "\n", "--", "-", "--XY", "x", " ", "é",
                "Content-Disposition: form-data; name=b; filename=c\r\n\r\n", "Content-Type: a/b\r\n",
            ][..]), 0..14),
            is_begun in any::<bool>(),
            step in 1..40usize,
            memory_bytes_max in 0..40usize,
        ) {
            let body = [if is_begun { &["--XYZ\r\n", HEAD][..] } else { &[] }, &pieces].concat().concat();
            let limits = Limits { parts_max: 3, head_bytes_max: 70, memory_bytes_max };
            let whole = read(body.as_bytes(), limits, body.len().max(1));
            prop_assert_eq!(read(body.as_bytes(), limits, step), whole);
        }

        #[test]
        fn any_content_comes_back(
            contents in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'X'), any::<u8>()], 0..60), 0..4),
            step in 1..30usize,
        ) {
            prop_assume!(!contents.iter().any(|c| memmem::find(c, b"--XYZ").is_some()));
            let mut body = Vec::new();
            for content in &contents {
                body.extend_from_slice(format!("--XYZ\r\n{HEAD}").as_bytes());
                body.extend_from_slice(content);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--XYZ--\r\n");
            let (parts, result) = read(&body, Limits::default(), step);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(parts.into_iter().map(|part| part.1).collect::<Vec<_>>(), contents);
        }
    }
}
