//! One response on its way out: `start_response`, `write`, early hints, and what a body chunk becomes.
//!
//! [`Call`] is shared by the slot's loop and the callables that the app holds; a `RefCell` guards it. While a send
//! waits without Python's lock the cell stays borrowed, so another thread that calls meanwhile gets an error
//! instead of a torn frame.
#![allow(
    unsafe_code,
    reason = "bound C functions: the only callables of the stable ABI without argument tuples"
)]

use std::cell::RefCell;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use trivet_http::field::{self, Name};
use trivet_wire::channel::Notice;
use trivet_wire::frame::{
    DATA_BYTES_MAX, FrameHeader, HEADER_BYTES, Kind, ResponseWriter, UNKNOWN, flag, set_body_bytes,
};
use trivet_wire::monotonic_ns;

use crate::link::{Attachment, Gone, Sent};
use crate::text::{NotText, bytes_of};
use crate::web::answer::PRIVATE;
use crate::{log, process};

/// How many checked header names are kept.
const KNOWN_NAMES: usize = 64;
/// A longer one is not kept.
const KNOWN_NAME_BYTES_MAX: usize = 64;
/// What a response head may have of names and values; the frame must hold it with an inline body.
const HEAD_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No request is being served.
    Idle,
    /// `start_response` has not been called.
    Open,
    /// The head is made but not sent: it can be replaced yet.
    Made,
    Sent,
}

/// Header names of the app that were checked, by the place of their objects in memory. An object that is kept here
/// cannot have been replaced by another, and strings do not change.
type KnownNames = [Option<(Py<PyString>, Name)>; KNOWN_NAMES];

/// Whether the app's iterable is asked for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    More,
    Stop,
}

/// The response of the request that a slot serves now.
#[derive(Debug)]
pub(crate) struct Call {
    attachment: Option<Arc<Attachment>>,
    serial: u64,
    /// Of the request's frame: names it in every frame of ours.
    request: FrameHeader,
    stage: Stage,
    old_protocol: bool,
    head_request: bool,
    status: u16,
    /// Payload of the head's frame.
    head: Vec<u8>,
    /// The head under construction, so that a failing `start_response` leaves the old one alone.
    draft: Vec<u8>,
    scratch: (Vec<u8>, Vec<u8>),
    known: Box<KnownNames>,
    /// Content-Length of the app.
    declared: Option<u64>,
    sent: u64,
    /// Bytes that may be sent before more credit comes.
    window: u64,
    ended: bool,
    /// The slot has been given back.
    done: bool,
    /// An error was handed to `start_response` after the head had gone.
    failed: bool,
    /// Client or edge are gone: nobody listens.
    gone: bool,
    too_long: bool,
    started_at: u64,
}

/// What a response says of an app that does what it should not; the log line names the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    TooShort { declared: u64, sent: u64 },
    TooLong { declared: u64 },
}

static HOP_BY_HOP_WARNED: AtomicBool = AtomicBool::new(false);

impl Call {
    pub(crate) fn new() -> Self {
        Self {
            attachment: None,
            serial: 0,
            request: FrameHeader { len: 0, kind: Kind::Request, flags: 0, ticket: 0, generation: 0, aux: 0 },
            stage: Stage::Idle,
            old_protocol: false,
            head_request: false,
            status: 0,
            head: Vec::new(),
            draft: Vec::new(),
            scratch: Default::default(),
            known: Box::new([const { None }; KNOWN_NAMES]),
            declared: None,
            sent: 0,
            window: 0,
            ended: false,
            done: false,
            failed: false,
            gone: false,
            too_long: false,
            started_at: 0,
        }
    }

    #[inline]
    pub(crate) fn begin(
        &mut self,
        attachment: &Arc<Attachment>,
        request: FrameHeader,
        (old_protocol, head_request): (bool, bool),
        window: u32,
        started_at: u64,
    ) {
        if self.serial != attachment.serial() {
            self.serial = attachment.serial();
            self.attachment = Some(attachment.clone());
        }
        self.request = request;
        self.stage = Stage::Open;
        self.old_protocol = old_protocol;
        self.head_request = head_request;
        self.declared = None;
        self.sent = 0;
        self.window = window.into();
        self.ended = false;
        self.done = false;
        self.failed = false;
        self.gone = false;
        self.too_long = false;
        self.started_at = started_at;
    }

    pub(crate) fn mark_gone(&mut self) {
        self.gone = true;
    }

    /// Neither HEAD nor a status without a body.
    fn has_body(&self) -> bool {
        !self.head_request && self.status != 204 && self.status != 304
    }

    fn frame(&self, kind: Kind, flags: u8, payload: usize, aux: u32) -> FrameHeader {
        FrameHeader {
            len: (HEADER_BYTES + payload) as u32,
            kind,
            flags,
            ticket: self.request.ticket,
            generation: self.request.generation,
            aux,
        }
    }

    fn service_ns(&self) -> u32 {
        u32::try_from(monotonic_ns() - self.started_at).unwrap_or(u32::MAX)
    }

    /// Tells the scoreboard that the app computes from now on (or that somebody else is waited for).
    pub(crate) fn clock(&self, busy: bool) {
        if let Some(segment) = self.attachment.as_ref().and_then(|a| a.segment())
            && let Some(ticket) = segment.ticket(self.request.ticket)
        {
            ticket.busy_since.store(if busy { monotonic_ns() } else { 0 }, Ordering::Relaxed);
        }
    }

    /// The app is called next.
    #[inline]
    pub(crate) fn enter(&self) {
        if let Some(segment) = self.attachment.as_ref().and_then(|a| a.segment())
            && let Some(ticket) = segment.ticket(self.request.ticket)
        {
            ticket.enter(self.request.generation);
        }
    }

    /// Whether nobody waits for this response any more.
    pub(crate) fn cancelled(&mut self) -> bool {
        if self.gone {
            return true;
        }
        let links = &process::get().links;
        self.gone = if !links.is_current(self.serial) {
            true
        } else if let Some(segment) = self.attachment.as_ref().and_then(|a| a.segment()) {
            segment
                .ticket(self.request.ticket)
                .is_none_or(|ticket| ticket.is_cancelled(self.request.generation))
        } else {
            let mut cancelled = false;
            let looked = links.look_at(self.serial, self.request, |ticket| cancelled = ticket.cancelled);
            looked.is_err() || cancelled
        };
        self.gone
    }

    /// Sends one frame; waits for space without Python's lock.
    #[inline]
    fn transmit(&mut self, py: Python<'_>, frame: FrameHeader, parts: &[&[u8]]) {
        if transmit(py, self.serial, frame, parts).is_err() {
            self.gone = true;
        }
    }

    /// On a socket the edge cannot see the claim.
    pub(crate) fn announce(&mut self, py: Python<'_>) {
        if self.attachment.as_ref().is_some_and(|a| a.segment().is_none()) {
            self.transmit(py, self.frame(Kind::Started, 0, 0, 0), &[]);
        }
    }

    /// Sends the head with the first `body` bytes, which are within the window of one frame.
    fn send_head(&mut self, py: Python<'_>, flags: u8, body: &[u8]) {
        let aux = if flags & flag::DONE == 0 { 0 } else { self.service_ns() };
        let frame = self.frame(Kind::Head, flags, self.head.len() + body.len(), aux);
        if transmit(py, self.serial, frame, &[&self.head, body]).is_err() {
            self.gone = true;
        }
        self.stage = Stage::Sent;
        self.sent += body.len() as u64;
        self.ended |= flags & flag::END != 0;
        self.done |= flags & flag::DONE != 0;
    }

    /// The whole response in one frame, where the app gave its body at once and there is nothing to close.
    /// `false`: it does not fit, send it the general way.
    #[inline]
    pub(crate) fn send_whole(&mut self, py: Python<'_>, body: &[u8]) -> bool {
        if self.stage != Stage::Made || body.len() > DATA_BYTES_MAX || self.failed {
            return false;
        }
        let body = if self.has_body() {
            if self.declared.is_some_and(|declared| declared != body.len() as u64) {
                return false;
            }
            body
        } else {
            &[]
        };
        self.send_head(py, flag::END | flag::DONE, body);
        true
    }

    /// A chunk of the body, with the head before the first that is not empty.
    pub(crate) fn send_body(&mut self, py: Python<'_>, chunk: &[u8]) -> PyResult<Flow> {
        if chunk.is_empty() {
            return Ok(if self.gone { Flow::Stop } else { Flow::More });
        }
        match self.stage {
            Stage::Open => {
                return Err(PyAssertionError::new_err(
                    "start_response() must be called before the first bytes of the body",
                ));
            }
            Stage::Idle => return Err(PyRuntimeError::new_err("the request has ended")),
            Stage::Made | Stage::Sent => {}
        }
        if self.gone || self.failed || (self.stage == Stage::Sent && self.cancelled()) {
            return Ok(Flow::Stop);
        }
        if !self.has_body() {
            if self.stage == Stage::Made {
                self.send_head(py, flag::END, &[]);
            }
            return Ok(Flow::Stop);
        }
        let left = self.declared.map_or(u64::MAX, |declared| declared - self.sent);
        self.too_long |= chunk.len() as u64 > left;
        let chunk = &chunk[..(chunk.len() as u64).min(left) as usize];
        let last = |sent: usize| if sent as u64 == left { flag::END } else { 0 };
        let mut at = 0;
        if self.stage == Stage::Made {
            at = chunk.len().min(DATA_BYTES_MAX);
            self.send_head(py, last(at), &chunk[..at]);
        }
        while at < chunk.len() && !self.gone {
            if self.window == 0 {
                self.wait_for_credit(py);
                continue;
            }
            if at > 0 && self.cancelled() {
                break;
            }
            let len = (chunk.len() - at).min(DATA_BYTES_MAX).min(self.window as usize);
            let part = &chunk[at..at + len];
            at += len;
            self.window -= len as u64;
            self.sent += len as u64;
            let end = last(at);
            self.ended |= end != 0;
            self.transmit(py, self.frame(Kind::Data, end, len, 0), &[part]);
        }
        Ok(if self.gone || self.too_long { Flow::Stop } else { Flow::More })
    }

    fn wait_for_credit(&mut self, py: Python<'_>) {
        self.clock(false);
        let (serial, request) = (self.serial, self.request);
        let mut credit = 0;
        let mut cancelled = false;
        let waited = py.detach(|| {
            process::get().links.wait_for(serial, request, |ticket| {
                credit = std::mem::take(&mut ticket.credit);
                cancelled = ticket.cancelled;
                credit > 0 || cancelled
            })
        });
        self.window += credit;
        self.gone |= waited.is_err() || cancelled;
        self.clock(true);
    }

    /// The rest of the body is a file, sent by the edge. `length`: bytes from `offset` to its end.
    pub(crate) fn send_file(
        &mut self,
        py: Python<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        length: u64,
    ) -> PyResult<()> {
        if self.stage == Stage::Open {
            return Err(PyAssertionError::new_err("start_response() must be called before the body"));
        }
        if self.gone || self.failed {
            return Ok(());
        }
        if !self.has_body() {
            if self.stage == Stage::Made {
                self.send_head(py, flag::END, &[]);
            }
            return Ok(());
        }
        let left = self.declared.map_or(length, |declared| declared - self.sent);
        let length = length.min(left);
        if self.stage == Stage::Made {
            if self.declared.is_none() {
                self.declared = Some(length);
                set_body_bytes(&mut self.head, length);
            }
            let end = if length == 0 && left == 0 { flag::END } else { 0 };
            self.send_head(py, end, &[]);
        }
        if length == 0 || self.gone {
            return Ok(());
        }
        let Some(attachment) = self.attachment.clone() else { return Ok(()) };
        let notice = Notice::File(u32::from(self.request.ticket)).to_bytes();
        // The channel's buffer is full only while the edge is very busy: wait for it without Python's lock.
        if py.detach(|| attachment.channel().send(&notice, &[file])).is_err() {
            self.gone = true;
            return Ok(());
        }
        let end = if length == left { flag::END } else { 0 };
        self.sent += length;
        self.ended |= end != 0;
        let frame = self.frame(Kind::File, end, 16, 0);
        self.transmit(py, frame, &[&offset.to_le_bytes(), &length.to_le_bytes()]);
        Ok(())
    }

    /// The app's body is over. Sends what is missing; `finish` must follow.
    pub(crate) fn end(&mut self, py: Python<'_>, nothing_to_close: bool) -> PyResult<Option<Complaint>> {
        if self.gone {
            return Ok(None);
        }
        if self.stage == Stage::Open {
            return Err(PyAssertionError::new_err("the application did not call start_response()"));
        }
        let complaint = match self.declared {
            Some(declared) if self.too_long => Some(Complaint::TooLong { declared }),
            Some(declared) if self.has_body() && self.sent < declared => {
                Some(Complaint::TooShort { declared, sent: self.sent })
            }
            _ => None,
        };
        let short = matches!(complaint, Some(Complaint::TooShort { .. }));
        if self.stage == Stage::Made {
            // Nothing has been sent: an empty body, or none at all.
            let done = if nothing_to_close && !short { flag::DONE } else { 0 };
            let end = if short { 0 } else { flag::END };
            self.send_head(py, end | done, &[]);
        }
        if short || self.failed {
            self.abort(py, if short { flag::SHORT } else { 0 });
        } else if !self.ended {
            self.ended = true;
            self.done = nothing_to_close;
            let (flags, aux) = if nothing_to_close { (flag::DONE, self.service_ns()) } else { (0, 0) };
            self.transmit(py, self.frame(Kind::End, flags, 0, aux), &[]);
        }
        Ok(complaint)
    }

    fn abort(&mut self, py: Python<'_>, flags: u8) {
        if !self.ended {
            self.ended = true;
            self.transmit(py, self.frame(Kind::Abort, flags, 0, 0), &[]);
        }
    }

    /// The app failed: an error page of the edge if nothing has been sent, else the connection is cut.
    pub(crate) fn fail(&mut self, py: Python<'_>, status: u16) {
        if self.gone || self.ended {
            return;
        }
        if self.stage == Stage::Sent {
            return self.abort(py, 0);
        }
        self.head.clear();
        ResponseWriter::begin(&mut self.head, status, b"").finish(UNKNOWN);
        self.send_head(py, flag::END, &[]);
    }

    /// The slot is free: everything is closed. The edge hears it even where the client is gone.
    #[inline]
    pub(crate) fn finish(&mut self, py: Python<'_>) {
        self.stage = Stage::Idle;
        if !self.done && process::get().links.is_current(self.serial) {
            self.done = true;
            let aux = self.service_ns();
            self.transmit(py, self.frame(Kind::Done, 0, 0, aux), &[]);
        }
    }

    /// Makes the head of what the app gave to `start_response`.
    fn make_head(&mut self, status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let (code, reason) = {
            let line = bytes_of(status, &mut self.scratch.0).map_err(|e| not_text("the status", e))?;
            parse_status(line)?
        };
        self.draft.clear();
        let mut writer = ResponseWriter::begin(&mut self.draft, code, reason);
        let mut declared = None;
        let list;
        let headers = if let Ok(headers) = headers.cast::<PyList>() {
            headers
        } else {
            list = PyList::new(headers.py(), headers.try_iter()?.collect::<PyResult<Vec<_>>>()?)?;
            &list
        };
        let mut bytes = 0;
        for item in headers.iter() {
            let (name_object, value) = pair(&item)?;
            let name =
                bytes_of(&name_object, &mut self.scratch.0).map_err(|e| not_text("a header name", e))?;
            let known = &mut self.known[name_object.as_ptr() as usize / 16 % KNOWN_NAMES];
            let special = match known {
                Some((object, special)) if object.as_ptr() == name_object.as_ptr() => *special,
                _ => {
                    if !field::is_token(name) {
                        return Err(PyValueError::new_err("a header name is not a token (RFC 9110 §5.6.2)"));
                    }
                    let special = Name::of(name);
                    if name.len() <= KNOWN_NAME_BYTES_MAX
                        && let Ok(object) = name_object.cast_exact::<PyString>()
                    {
                        *known = Some((object.clone().unbind(), special));
                    }
                    special
                }
            };
            let shown = || String::from_utf8_lossy(name).into_owned();
            let value = bytes_of(&value, &mut self.scratch.1)
                .map_err(|e| not_text(&format!("the value of header `{}`", shown()), e))?;
            if !is_value(value) {
                return Err(PyValueError::new_err(format!(
                    "the value of header `{}` has a control character (CR, LF, NUL or the like)",
                    shown()
                )));
            }
            bytes += name.len() + value.len() + 6;
            if bytes > HEAD_BYTES_MAX || name.len() > usize::from(u16::MAX) {
                return Err(PyValueError::new_err(format!(
                    "the headers are longer than {HEAD_BYTES_MAX} bytes"
                )));
            }
            match special {
                Name::ContentLength => {
                    let length = parse_length(value).ok_or_else(|| {
                        PyValueError::new_err("the application's Content-Length is not a number of bytes")
                    })?;
                    if declared.is_some_and(|before| before != length) {
                        return Err(PyValueError::new_err(
                            "the application sent two different Content-Length",
                        ));
                    }
                    declared = Some(length);
                }
                Name::TransferEncoding => {
                    return Err(PyValueError::new_err(
                        "an application must not send Transfer-Encoding: the server frames the response",
                    ));
                }
                special if special.is_hop_by_hop() => warn_hop_by_hop(name),
                _ => writer.field(name, value),
            }
        }
        writer.finish(declared.unwrap_or(UNKNOWN));
        std::mem::swap(&mut self.head, &mut self.draft);
        self.status = code;
        self.declared = declared;
        self.stage = Stage::Made;
        Ok(())
    }

    /// The head of a body that is all there; `line` is status and reason.
    #[inline]
    pub(crate) fn make_plain_head(
        &mut self,
        line: &Bound<'_, PyAny>,
        media: &str,
        is_private: bool,
        bytes: usize,
    ) -> PyResult<()> {
        let line = bytes_of(line, &mut self.scratch.0).map_err(|e| not_text("the status", e))?;
        let (code, reason) = parse_status(line)?;
        self.draft.clear();
        let mut writer = ResponseWriter::begin(&mut self.draft, code, reason);
        writer.field(b"Content-Type", media.as_bytes());
        if is_private {
            writer.field(b"Cache-Control", PRIVATE.as_bytes());
        }
        writer.finish(bytes as u64);
        std::mem::swap(&mut self.head, &mut self.draft);
        self.status = code;
        self.declared = Some(bytes as u64);
        self.stage = Stage::Made;
        Ok(())
    }

    fn start(
        &mut self,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match (self.stage, exc_info) {
            (Stage::Idle, _) => Err(PyRuntimeError::new_err("start_response() after the request's end")),
            (Stage::Sent, Some(exc_info)) => {
                // The client has part of a response: only its connection's end can tell it (PEP 3333).
                self.failed = true;
                let error = exc_info.get_item(1)?;
                if let Ok(traceback) = exc_info.get_item(2)
                    && !traceback.is_none()
                {
                    let _ = error.setattr("__traceback__", traceback);
                }
                Err(PyErr::from_value(error))
            }
            (Stage::Made | Stage::Sent, None) => {
                Err(PyAssertionError::new_err("start_response() was called a second time without exc_info"))
            }
            _ => self.make_head(status, headers),
        }
    }

    /// 103 (RFC 8297) with these fields, at once.
    fn early_hints(&mut self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.stage {
            Stage::Idle => return Err(PyRuntimeError::new_err("early hints after the request's end")),
            Stage::Sent => return Err(PyRuntimeError::new_err("early hints after the response has begun")),
            Stage::Open | Stage::Made => {}
        }
        self.draft.clear();
        let mut writer = ResponseWriter::begin(&mut self.draft, 103, b"Early Hints");
        let mut bytes = 0;
        for item in headers.try_iter()? {
            let (name, value) = pair(&item?)?;
            let name = bytes_of(&name, &mut self.scratch.0).map_err(|e| not_text("a header name", e))?;
            let value = bytes_of(&value, &mut self.scratch.1).map_err(|e| not_text("a header value", e))?;
            if !field::is_token(name) || !value.iter().all(|&b| field::is_value_byte(b)) {
                return Err(PyValueError::new_err("a header of the early hints is not valid"));
            }
            bytes += name.len() + value.len() + 6;
            let special = Name::of(name);
            if bytes > HEAD_BYTES_MAX || special == Name::ContentLength || special.is_hop_by_hop() {
                return Err(PyValueError::new_err("a header that early hints cannot have"));
            }
            writer.field(name, value);
        }
        writer.finish(UNKNOWN);
        // HTTP/1.0 knows no informational responses (RFC 9110 §15.2).
        if !self.old_protocol {
            let frame = self.frame(Kind::Informational, 0, self.draft.len(), 0);
            if transmit(py, self.serial, frame, &[&self.draft]).is_err() {
                self.gone = true;
            }
        }
        Ok(())
    }
}

#[inline]
fn transmit(py: Python<'_>, serial: u64, frame: FrameHeader, parts: &[&[u8]]) -> Result<(), Gone> {
    let links = &process::get().links;
    match links.try_send(serial, frame, parts)? {
        Sent::Whole => Ok(()),
        sent => py.detach(|| links.send(serial, frame, parts, sent == Sent::Partly)),
    }
}

fn pair<'py>(item: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if let Ok(tuple) = item.cast::<PyTuple>()
        && tuple.len() == 2
    {
        return Ok((tuple.get_item(0)?, tuple.get_item(1)?));
    }
    // PEP 3333 wants tuples; a list of two is what some applications give.
    match item.cast::<PyList>() {
        Ok(list) if list.len() == 2 => Ok((list.get_item(0)?, list.get_item(1)?)),
        _ => Err(PyTypeError::new_err("a header must be a tuple (name, value)")),
    }
}

/// `200 OK`, or the number alone. 1xx are no answers (RFC 9110 §15.2).
fn parse_status(line: &[u8]) -> PyResult<(u16, &[u8])> {
    let wrong =
        || PyValueError::new_err("the status must be three digits (200 to 999), a space and a reason");
    let (digits, rest) = line.split_first_chunk::<3>().ok_or_else(wrong)?;
    if !digits.iter().all(u8::is_ascii_digit) || digits[0] < b'2' {
        return Err(wrong());
    }
    let code = digits.iter().fold(0u16, |code, b| code * 10 + u16::from(b - b'0'));
    let reason = match rest {
        [] => &[][..],
        [b' ', reason @ ..] => reason,
        _ => return Err(wrong()),
    };
    if !reason.iter().all(|&b| field::is_value_byte(b)) || reason.len() > 4096 {
        return Err(PyValueError::new_err("the reason of the status has a control character or is too long"));
    }
    Ok((code, reason))
}

/// Without an early exit, so that it is done for many bytes at once.
#[inline]
fn is_value(value: &[u8]) -> bool {
    value.iter().fold(true, |valid, &b| valid & field::is_value_byte(b))
}

fn parse_length(value: &[u8]) -> Option<u64> {
    let value = field::trim(value);
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn not_text(what: &str, why: NotText) -> PyErr {
    match why {
        NotText::NotStr => PyTypeError::new_err(format!("{what} must be a str")),
        NotText::NotLatin1 => {
            PyValueError::new_err(format!("{what} has characters outside latin-1 (ISO 8859-1)"))
        }
    }
}

#[cold]
fn warn_hop_by_hop(name: &[u8]) {
    if !HOP_BY_HOP_WARNED.swap(true, Ordering::Relaxed) {
        log::line(
            "warn",
            &format!(
                "the application sends a hop-by-hop header, which is dropped; said once header={}",
                String::from_utf8_lossy(name)
            ),
        );
    }
}

/// The callables of a slot, made once.
#[derive(Debug)]
pub(crate) struct Callables<'py> {
    pub(crate) start_response: Bound<'py, PyAny>,
    pub(crate) early_hints: Bound<'py, PyAny>,
}

/// What the callables' capsule points to; lives as long as the process.
struct Shared {
    call: &'static RefCell<Call>,
    write: *mut ffi::PyObject,
}

impl<'py> Callables<'py> {
    pub(crate) fn new(py: Python<'py>, call: &'static RefCell<Call>) -> PyResult<Self> {
        let shared = Box::into_raw(Box::new(Shared { call, write: std::ptr::null_mut() }));
        // SAFETY: Python's lock is held; the capsule's pointer and the method tables are leaked, as the functions
        // may be kept by the app for ever; results are new references or null with an exception set.
        unsafe {
            let capsule: Bound<'py, PyAny> =
                Bound::from_owned_ptr_or_err(py, ffi::PyCapsule_New(shared.cast(), std::ptr::null(), None))?;
            let function = |name: &'static CStr, meth, flags| {
                let table = Box::leak(Box::new(ffi::PyMethodDef {
                    ml_name: name.as_ptr(),
                    ml_meth: meth,
                    ml_flags: flags,
                    ml_doc: std::ptr::null(),
                }));
                Bound::from_owned_ptr_or_err(
                    py,
                    ffi::PyCFunction_NewEx(table, capsule.as_ptr(), std::ptr::null_mut()),
                )
            };
            let write = function(c"write", ffi::PyMethodDefPointer { PyCFunction: write }, ffi::METH_O)?;
            (*shared).write = write.into_ptr();
            Ok(Self {
                start_response: function(
                    c"start_response",
                    ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: start_response },
                    ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
                )?,
                early_hints: function(
                    c"early_hints",
                    ffi::PyMethodDefPointer { PyCFunction: early_hints },
                    ffi::METH_O,
                )?,
            })
        }
    }
}

fn busy<E>(_: E) -> PyErr {
    PyRuntimeError::new_err("another thread is sending this response")
}

fn not_here() -> PyErr {
    PyRuntimeError::new_err("a forked child cannot answer its parent's request")
}

/// Turns a result into what a C function returns.
fn returned(py: Python<'_>, result: PyResult<*mut ffi::PyObject>) -> *mut ffi::PyObject {
    match result {
        Ok(object) => object,
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

fn none(py: Python<'_>) -> *mut ffi::PyObject {
    py.None().into_ptr()
}

/// # Safety
/// Called by Python with a capsule of [`Callables::new`] as `slf`.
#[inline]
unsafe fn shared<'a>(slf: *mut ffi::PyObject) -> &'a Shared {
    // SAFETY: the capsule has no name and points to a leaked `Shared`.
    unsafe { &*ffi::PyCapsule_GetPointer(slf, std::ptr::null()).cast::<Shared>() }
}

unsafe extern "C" fn start_response(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: Python calls this with its lock held, `slf` as we bound it, and `nargs` arguments followed by one
    // for each name in `kwnames`.
    unsafe {
        let py = Python::assume_attached();
        let shared = shared(slf);
        let names = if kwnames.is_null() { 0 } else { ffi::PyTuple_Size(kwnames) };
        let all = std::slice::from_raw_parts(args, (nargs + names) as usize);
        let mut given: [Option<Bound<'_, PyAny>>; 3] = [None, None, None];
        let wrong = || PyTypeError::new_err("start_response(status, headers, exc_info=None)");
        let result = (|| {
            if nargs > 3 {
                return Err(wrong());
            }
            for (place, &argument) in all.iter().enumerate() {
                let place = if place < nargs as usize {
                    place
                } else {
                    let name = ffi::PyTuple_GetItem(kwnames, (place - nargs as usize) as ffi::Py_ssize_t);
                    let name = Bound::from_borrowed_ptr(py, name).extract::<String>()?;
                    match &*name {
                        "status" => 0,
                        "headers" | "response_headers" => 1,
                        "exc_info" => 2,
                        _ => return Err(wrong()),
                    }
                };
                given[place] = Some(Bound::from_borrowed_ptr(py, argument));
            }
            let (Some(status), Some(headers)) = (&given[0], &given[1]) else { return Err(wrong()) };
            if process::forked() {
                return Err(not_here());
            }
            let exc_info = given[2].as_ref().filter(|e| !e.is_none());
            shared.call.try_borrow_mut().map_err(busy)?.start(status, headers, exc_info)?;
            ffi::Py_INCREF(shared.write);
            Ok(shared.write)
        })();
        returned(py, result)
    }
}

unsafe extern "C" fn write(slf: *mut ffi::PyObject, data: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: Python calls this with its lock held, `slf` as we bound it and one borrowed argument.
    unsafe {
        let py = Python::assume_attached();
        let shared = shared(slf);
        let data = Bound::from_borrowed_ptr(py, data);
        let result = (|| {
            if process::forked() {
                return Err(not_here());
            }
            let bytes = body_bytes(&data)?;
            let mut call = shared.call.try_borrow_mut().map_err(busy)?;
            call.send_body(py, bytes)?;
            call.clock(true);
            Ok(none(py))
        })();
        returned(py, result)
    }
}

unsafe extern "C" fn early_hints(slf: *mut ffi::PyObject, headers: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: Python calls this with its lock held, `slf` as we bound it and one borrowed argument.
    unsafe {
        let py = Python::assume_attached();
        let shared = shared(slf);
        let headers = Bound::from_borrowed_ptr(py, headers);
        let result = if process::forked() {
            Err(not_here())
        } else {
            shared
                .call
                .try_borrow_mut()
                .map_err(busy)
                .and_then(|mut call| call.early_hints(py, &headers))
                .map(|()| none(py))
        };
        returned(py, result)
    }
}

/// The bytes of a body chunk (PEP 3333: bytes, nothing else).
#[inline]
pub(crate) fn body_bytes<'a>(chunk: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    match chunk.cast::<pyo3::types::PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "the body of a response must be bytes, not {}",
            chunk.get_type().name()?
        ))),
    }
}
