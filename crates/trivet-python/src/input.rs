//! `wsgi.input`: a request's body, wherever the edge has put it.
#![allow(unsafe_code, reason = "bytes objects are filled where they lie")]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::{PyConnectionResetError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice};
use trivet_wire::frame::{FrameHeader, HEADER_BYTES, Kind, UNKNOWN};

use crate::link::{Attachment, Sent};
use crate::process;

/// What is read from a file at once for lines and small reads.
const BUFFER_BYTES: usize = 64 * 1024;
/// From this size on another thread may run Python while a file is read.
const DETACHED_BYTES: usize = 128 * 1024;
/// How much of a streamed body is asked for ahead.
const AHEAD_BYTES: u64 = 256 * 1024;
/// A read of a streamed body of known length is filled in place up to this size.
const IN_PLACE_BYTES_MAX: usize = 1024 * 1024;

/// Where the bytes are that have not been taken into the buffer.
#[derive(Debug)]
enum Source {
    /// All of it is in the buffer.
    Nothing,
    File {
        file: Arc<OwnedFd>,
        at: u64,
        end: u64,
    },
    Stream(Stream),
}

#[derive(Debug)]
struct Stream {
    attachment: Arc<Attachment>,
    /// Ticket and generation name the request.
    header: FrameHeader,
    /// Bytes that the edge has not sent yet; [`UNKNOWN`] if nobody knows.
    left: u64,
    /// Asked for and not come yet.
    asked: u64,
    end: bool,
    /// The client broke off: every further read fails in the same way.
    broken: bool,
}

#[derive(Debug)]
struct Body {
    source: Source,
    buffer: Vec<u8>,
    at: usize,
}

/// The body of one request. After its end every use is a `ValueError`.
#[pyclass(frozen, module = "trivet.worker", name = "Input")]
#[derive(Debug)]
pub(crate) struct Input {
    /// The shared empty one outlives all requests.
    closed: AtomicBool,
    body: Mutex<Body>,
}

impl Input {
    pub(crate) fn empty() -> Self {
        Self::of(Source::Nothing, Vec::new())
    }

    pub(crate) fn inline(bytes: &[u8]) -> Self {
        Self::of(Source::Nothing, bytes.to_vec())
    }

    pub(crate) fn file(file: Arc<OwnedFd>, len: u64) -> Self {
        let len = if len == UNKNOWN { 0 } else { len };
        Self::of(Source::File { file, at: 0, end: len }, Vec::new())
    }

    /// `beginning` is what came with the request, of `len` bytes in all.
    pub(crate) fn stream(
        attachment: Arc<Attachment>,
        header: FrameHeader,
        beginning: &[u8],
        len: u64,
    ) -> Self {
        let left = if len == UNKNOWN { UNKNOWN } else { len.saturating_sub(beginning.len() as u64) };
        let stream = Stream { attachment, header, left, asked: 0, end: left == 0, broken: false };
        Self::of(Source::Stream(stream), beginning.to_vec())
    }

    fn of(source: Source, buffer: Vec<u8>) -> Self {
        Self { closed: AtomicBool::new(false), body: Mutex::new(Body { source, buffer, at: 0 }) }
    }

    /// The request has ended.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        // A thread of the app may be reading still; it finds the flag at its next call.
        if let Ok(mut body) = self.body.try_lock() {
            *body = Body { source: Source::Nothing, buffer: Vec::new(), at: 0 };
        }
    }

    /// Whether a read has failed because the client broke off.
    pub(crate) fn broken(&self) -> bool {
        self.body.try_lock().is_ok_and(|body| matches!(&body.source, Source::Stream(s) if s.broken))
    }

    fn open(&self) -> PyResult<MutexGuard<'_, Body>> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(PyValueError::new_err("the request has ended, its body cannot be read"));
        }
        if process::forked() {
            return Err(PyOSError::new_err("a forked child cannot read the body of its parent's request"));
        }
        self.body.try_lock().map_err(|_| PyRuntimeError::new_err("another thread is reading this body"))
    }
}

fn client_gone() -> PyErr {
    PyConnectionResetError::new_err("the client disconnected before the end of the request body")
}

impl Body {
    fn buffered(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Bytes that are there or known to come.
    fn remaining(&self) -> u64 {
        let outside = match &self.source {
            Source::File { at, end, .. } => end - at,
            _ => 0,
        };
        self.buffered().len() as u64 + outside
    }

    /// Takes more into the buffer. `false`: there is no more.
    fn fill(&mut self, py: Python<'_>) -> PyResult<bool> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        match &mut self.source {
            Source::Nothing => Ok(false),
            Source::File { file, at, end } => {
                let want = (*end - *at).min(BUFFER_BYTES as u64) as usize;
                if want == 0 {
                    return Ok(false);
                }
                let before = self.buffer.len();
                self.buffer.resize(before + want, 0);
                let got = pread(file, &mut self.buffer[before..], *at);
                self.buffer.truncate(before + *got.as_ref().unwrap_or(&0));
                *at += got? as u64;
                Ok(true)
            }
            Source::Stream(stream) => stream.fill(py, &mut self.buffer),
        }
    }

    /// Up to `limit` bytes, fewer only at the end.
    fn read<'py>(&mut self, py: Python<'py>, limit: Option<usize>) -> PyResult<Bound<'py, PyBytes>> {
        let buffered = self.buffered().len();
        if let Source::Stream(stream) = &mut self.source {
            let there = stream.left.saturating_add(buffered as u64);
            let len = limit.unwrap_or(usize::MAX).min(usize::try_from(there).unwrap_or(usize::MAX));
            if stream.left != UNKNOWN && len > buffered && len <= IN_PLACE_BYTES_MAX {
                let out = new_bytes(py, len)?;
                // SAFETY: nobody else has seen the new object yet; it has `len` bytes.
                let space = unsafe {
                    std::slice::from_raw_parts_mut(ffi::PyBytes_AsString(out.as_ptr()).cast::<u8>(), len)
                };
                space[..buffered].copy_from_slice(&self.buffer[self.at..]);
                stream.fill_whole(py, &mut space[buffered..])?;
                self.buffer.clear();
                self.at = 0;
                return Ok(out);
            }
            while limit.is_none_or(|limit| self.buffered().len() < limit) && self.fill(py)? {}
        }
        let len = self.remaining().min(limit.unwrap_or(usize::MAX) as u64) as usize;
        let buffered = self.buffered().len().min(len);
        if buffered == len {
            let bytes = PyBytes::new(py, &self.buffered()[..len]);
            self.at += len;
            return Ok(bytes);
        }
        let Source::File { file, at, .. } = &self.source else { unreachable_body(len)? };
        let (file, at) = (file.clone(), *at);
        let out = new_bytes(py, len)?;
        // SAFETY: nobody else has seen the new object yet; it has `len` bytes.
        let space =
            unsafe { std::slice::from_raw_parts_mut(ffi::PyBytes_AsString(out.as_ptr()).cast::<u8>(), len) };
        space[..buffered].copy_from_slice(&self.buffered()[..buffered]);
        let rest = &mut space[buffered..];
        if rest.len() >= DETACHED_BYTES {
            py.detach(|| pread(&file, rest, at))?;
        } else {
            pread(&file, rest, at)?;
        }
        self.at += buffered;
        if let Source::File { at, .. } = &mut self.source {
            *at += (len - buffered) as u64;
        }
        Ok(out)
    }

    /// One line with its end, at most `limit` bytes.
    fn line<'py>(&mut self, py: Python<'py>, limit: Option<usize>) -> PyResult<Bound<'py, PyBytes>> {
        let mut searched = 0;
        let len = loop {
            let buffered = self.buffered();
            if let Some(at) = buffered[searched..].iter().position(|&b| b == b'\n') {
                break searched + at + 1;
            }
            searched = buffered.len();
            if limit.is_some_and(|limit| searched >= limit) || !self.fill(py)? {
                break searched;
            }
        };
        let len = len.min(limit.unwrap_or(usize::MAX));
        let line = PyBytes::new(py, &self.buffered()[..len]);
        self.at += len;
        Ok(line)
    }
}

fn unreachable_body<T>(len: usize) -> PyResult<T> {
    Err(PyOSError::new_err(format!("{len} bytes of the request body are missing")))
}

/// Fills all of `out`.
fn pread(file: &OwnedFd, out: &mut [u8], mut at: u64) -> PyResult<usize> {
    let mut got = 0;
    while got < out.len() {
        match rustix::io::pread(file.as_fd(), &mut out[got..], at) {
            Ok(0) => return Err(PyOSError::new_err("the spooled request body is shorter than announced")),
            Ok(n) => {
                got += n;
                at += n as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(std::io::Error::from(e).into()),
        }
    }
    Ok(got)
}

/// A bytes object whose content is not written yet.
fn new_bytes(py: Python<'_>, len: usize) -> PyResult<Bound<'_, PyBytes>> {
    // SAFETY: Python's lock is held; null data means "uninitialised", the caller fills all of it.
    unsafe {
        let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), len as ffi::Py_ssize_t);
        Ok(Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked())
    }
}

impl Stream {
    /// Waits for more and puts it behind what is in `buffer`. `false`: there is no more.
    fn fill(&mut self, py: Python<'_>, buffer: &mut Vec<u8>) -> PyResult<bool> {
        let before = buffer.len();
        buffer.resize(before + BUFFER_BYTES, 0);
        let got = self.receive(py, &mut buffer[before..]);
        buffer.truncate(before + *got.as_ref().unwrap_or(&0));
        Ok(got? > 0 || !self.end)
    }

    /// Fills all of `space`, which is at most what is left.
    fn fill_whole(&mut self, py: Python<'_>, space: &mut [u8]) -> PyResult<()> {
        let mut got = 0;
        while got < space.len() {
            if self.end {
                return unreachable_body(space.len() - got);
            }
            got += self.receive(py, &mut space[got..])?;
        }
        Ok(())
    }

    /// Takes what there is, waiting for some; asks for more where little is under way.
    fn receive(&mut self, py: Python<'_>, space: &mut [u8]) -> PyResult<usize> {
        if self.broken {
            return Err(client_gone());
        }
        if self.end {
            return Ok(0);
        }
        let links = &process::get().links;
        let serial = self.attachment.serial();
        let part = (|| {
            let more = AHEAD_BYTES.min(self.left).saturating_sub(self.asked);
            if more > 0 && self.asked <= AHEAD_BYTES / 2 {
                let want = FrameHeader {
                    len: HEADER_BYTES as u32,
                    kind: Kind::WantBody,
                    flags: 0,
                    ticket: self.header.ticket,
                    generation: self.header.generation,
                    aux: more as u32,
                };
                match links.try_send(serial, want, &[]) {
                    Ok(Sent::Whole) => {}
                    Ok(sent) => py.detach(|| links.send(serial, want, &[], sent == Sent::Partly))?,
                    Err(gone) => return Err(gone),
                }
                self.asked += more;
            }
            let part = links.take_body(serial, self.header, space, false)?;
            if part.bytes > 0 || part.end || part.lost {
                return Ok(part);
            }
            // Waiting for the client is not the app's time.
            let ticket = self.attachment.segment().and_then(|segment| segment.ticket(self.header.ticket));
            if let Some(ticket) = ticket {
                ticket.busy_since.store(0, Ordering::Relaxed);
            }
            let part = py.detach(|| links.take_body(serial, self.header, space, true));
            if let Some(ticket) = ticket {
                ticket.busy_since.store(trivet_wire::monotonic_ns(), Ordering::Relaxed);
            }
            part
        })();
        match part {
            Ok(part) if part.end || !part.lost => {
                self.asked = self.asked.saturating_sub(part.bytes as u64);
                if self.left != UNKNOWN {
                    self.left = self.left.saturating_sub(part.bytes as u64);
                }
                self.end = part.end;
                Ok(part.bytes)
            }
            _ => {
                self.broken = true;
                Err(client_gone())
            }
        }
    }
}

/// A size argument: absent, None and negative mean "all".
fn limit(size: Option<isize>) -> Option<usize> {
    size.and_then(|size| usize::try_from(size).ok())
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.open()?.read(py, limit(size))
    }

    /// What is there, at most `size` bytes; waits only where nothing is.
    #[pyo3(signature = (size = None, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let mut body = self.open()?;
        let limit = limit(size).unwrap_or(BUFFER_BYTES);
        if body.buffered().is_empty() && limit > 0 {
            body.fill(py)?;
        }
        let len = body.buffered().len().min(limit);
        body.read(py, Some(len))
    }

    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.open()?.line(py, limit(size))
    }

    /// Stops after the line with which `hint` bytes are reached.
    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let mut body = self.open()?;
        let hint = limit(hint).filter(|&hint| hint > 0);
        let lines = PyList::empty(py);
        let mut total = 0;
        loop {
            let line = body.line(py, None)?;
            let len = line.as_bytes().len();
            if len == 0 {
                return Ok(lines);
            }
            lines.append(line)?;
            total += len;
            if hint.is_some_and(|hint| total >= hint) {
                return Ok(lines);
            }
        }
    }

    fn readinto(&self, py: Python<'_>, target: &Bound<'_, PyAny>) -> PyResult<usize> {
        let view = PyMemoryView::from(target)?.call_method1("cast", ("B",))?;
        let bytes = self.open()?.read(py, Some(view.len()?))?;
        let len = bytes.as_bytes().len();
        view.set_item(PySlice::new(py, 0, len as isize, 1), bytes)?;
        Ok(len)
    }

    #[staticmethod]
    fn readable() -> bool {
        true
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.open()?.line(py, None)?;
        Ok((!line.as_bytes().is_empty()).then_some(line))
    }
}
