//! The WSGI gateway: a slot's loop from the request's frame to the app's callable and back (PEP 3333).
#![allow(unsafe_code, reason = "the hot path: the call itself and the walk over lists and iterators")]

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use trivet_wire::frame::{DATA_BYTES_MAX, FrameHeader, Request, flag, traits};

use crate::environ::{Constants, Environ};
use crate::input::Input;
use crate::link::{Next, Seat};
use crate::response::{Call, Callables, Complaint, Flow, body_bytes};
use crate::template::protocol;
use crate::web::app::{App, Given};
use crate::{log, process, web};

/// What the Python half gives to a slot.
#[derive(Debug)]
pub(crate) struct Hooks<'py> {
    pub(crate) app: Bound<'py, PyAny>,
    pub(crate) errors: Bound<'py, PyAny>,
    pub(crate) file_wrapper: Bound<'py, PyAny>,
    /// Called with an exception, the request line and the request id: writes the traceback.
    pub(crate) report: Bound<'py, PyAny>,
}

/// One slot: a thread that runs the app.
struct Slot<'py> {
    py: Python<'py>,
    hooks: Hooks<'py>,
    /// The app, where it is one of our own framework: it is called without `start_response`.
    own: Option<Bound<'py, App>>,
    environ: Environ<'py>,
    start_response: Bound<'py, PyAny>,
    call: &'static RefCell<Call>,
    /// A body in pieces that fits one frame is put together here.
    gather: Vec<u8>,
}

/// Serves requests until the supervisor says `Quit`.
pub(crate) fn serve(py: Python<'_>, hooks: Hooks<'_>) -> PyResult<()> {
    let process = process::get();
    // The app may keep `start_response` for ever, so what it leads to lives for ever.
    let call: &'static RefCell<Call> = Box::leak(Box::new(RefCell::new(Call::new())));
    let callables = Callables::new(py, call)?;
    let empty_input = Bound::new(py, Input::empty())?.into_any();
    let environ = Environ::new(
        py,
        &Constants {
            errors: &hooks.errors,
            file_wrapper: &hooks.file_wrapper,
            empty_input: &empty_input,
            early_hints: &callables.early_hints,
            multithread: process.start.threads > 1,
            multiprocess: process.start.multiprocess,
        },
    )?;
    let mut slot = Slot {
        py,
        own: App::direct(&hooks.app),
        hooks,
        environ,
        start_response: callables.start_response,
        call,
        gather: Vec::new(),
    };
    let mut seat = Seat::default();
    loop {
        let next = match process.links.try_next(&mut seat) {
            Some(next) => next,
            None => py.detach(|| process.links.wait_next(&mut seat)),
        };
        match next {
            Next::Request(header) => slot.serve(&seat, header),
            Next::Signal => py.check_signals()?,
            Next::Quit => return Ok(()),
        }
        if process::forked() {
            process::leave_forked_child();
        }
    }
}

impl<'py> Slot<'py> {
    fn serve(&mut self, seat: &Seat, header: FrameHeader) {
        let py = self.py;
        let Some(attachment) = &seat.attachment else { return };
        let request = Request::parse(&seat.frame);
        {
            let mut call = self.call.borrow_mut();
            let (traits, head_request, window) = match &request {
                Ok(r) => (r.head.traits, r.head.method == b"HEAD", r.meta.window),
                Err(_) => (0, false, 0),
            };
            let old = traits & traits::HTTP_1_0 != 0;
            call.begin(attachment, header, (old, head_request), window, seat.claimed_at);
            call.announce(py);
        }
        let request = match request {
            Ok(request) => request,
            Err(e) => {
                log::line("error", &format!("a request of the edge cannot be read error=\"{e}\""));
                let mut call = self.call.borrow_mut();
                call.fail(py, 500);
                return call.finish(py);
            }
        };
        let input = match self.input(seat, header, &request) {
            Ok(input) => input,
            Err(error) => return self.refuse(&request, error),
        };
        let body = input.as_ref().map(Bound::as_any);
        let environ = match self.environ.build(&request, header.flags, body) {
            Ok(environ) => environ,
            Err(error) => return self.refuse(&request, error),
        };
        self.run(&request, &environ, input.as_ref());
        let mut call = self.call.borrow_mut();
        call.finish(py);
        drop(call);
        if let Some(input) = &input {
            input.get().close();
        }
    }

    /// An error of ours before the app was called.
    fn refuse(&self, request: &Request<'_>, error: PyErr) {
        self.report(request, error);
        let mut call = self.call.borrow_mut();
        call.fail(self.py, 500);
        call.finish(self.py);
    }

    #[inline]
    fn input(
        &self,
        seat: &Seat,
        header: FrameHeader,
        request: &Request<'_>,
    ) -> PyResult<Option<Bound<'py, Input>>> {
        let flags = header.flags & (flag::BODY_INLINE | flag::BODY_SPOOLED | flag::BODY_STREAMED);
        if flags == 0 {
            return Ok(None);
        }
        let attachment = seat.attachment.as_ref().ok_or_else(|| PyOSError::new_err("no edge"))?;
        let input = if flags & flag::BODY_INLINE != 0 {
            Input::inline(request.body)
        } else if flags & flag::BODY_SPOOLED != 0 {
            let file = attachment
                .spool(request.meta.spool)
                .ok_or_else(|| PyOSError::new_err("the request's spool file was not announced"))?;
            Input::file(file, request.meta.body_bytes)
        } else {
            Input::stream(attachment.clone(), header, request.body, request.meta.body_bytes)
        };
        Bound::new(self.py, input).map(Some)
    }

    #[inline]
    fn run(
        &mut self,
        request: &Request<'_>,
        environ: &Bound<'py, PyDict>,
        input: Option<&Bound<'py, Input>>,
    ) {
        self.call.borrow().enter();
        let result = match &self.own {
            Some(app) => App::answer(app, environ, &self.start_response),
            None => self.call_app(environ).map(Given::Iterable),
        };
        if process::forked() {
            process::leave_forked_child();
        }
        let result = match result {
            Ok(Given::Iterable(result)) => result,
            Ok(Given::Whole { status, media, body, is_private }) => {
                match self.send_own(status, media, &body, is_private) {
                    Ok(true) => {}
                    Ok(false) => self.ended(request, input, true),
                    Err(error) => self.failed(request, input, error),
                }
                return;
            }
            Err(error) => return self.failed(request, input, error),
        };
        if let Some(items) = Items::of(&result) {
            // No `close` on either: nothing follows the body.
            match self.send_items(&items) {
                Ok(true) => {}
                Ok(false) => self.ended(request, input, true),
                Err(error) => self.failed(request, input, error),
            }
            return;
        }
        match self.send_iterable(&result) {
            Ok(()) => {
                let closable = closer(&result);
                let nothing_to_close = matches!(closable, Ok(None));
                self.ended(request, input, nothing_to_close);
                self.close(request, closable);
            }
            Err(error) => {
                self.failed(request, input, error);
                self.close(request, closer(&result));
            }
        }
    }

    #[inline]
    fn call_app(&self, environ: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: live references and a null that ends them; the result is a new reference or null with an
        // exception set.
        unsafe {
            Bound::from_owned_ptr_or_err(
                self.py,
                ffi::PyObject_CallFunctionObjArgs(
                    self.hooks.app.as_ptr(),
                    environ.as_ptr(),
                    self.start_response.as_ptr(),
                    std::ptr::null_mut::<ffi::PyObject>(),
                ),
            )
        }
    }

    /// An answer of our own framework that is all in memory. `true`: all has been sent in one frame.
    #[inline]
    fn send_own(
        &mut self,
        status: u16,
        media: &str,
        body: &Bound<'py, PyBytes>,
        is_private: bool,
    ) -> PyResult<bool> {
        let py = self.py;
        let line = web::hooks::hooks(py)?.heads.status(status);
        let line = line.ok_or_else(|| PyValueError::new_err("a status is a number from 200 to 999"))?;
        let body = body.as_bytes();
        let mut call = self.call.borrow_mut();
        call.make_plain_head(line.bind(py), media, is_private, body.len())?;
        if call.send_whole(py, body) {
            return Ok(true);
        }
        call.send_body(py, body).map(|_| false)
    }

    /// A list or tuple. `true`: all has been sent in one frame, the slot is free.
    #[inline]
    fn send_items(&mut self, items: &Items<'_, 'py>) -> PyResult<bool> {
        let py = self.py;
        let whole = match items.len() {
            1 => {
                let item = items.get(0)?;
                let bytes = body_bytes(&item)?;
                self.call.borrow_mut().send_whole(py, bytes)
            }
            _ => self.gathered(items)? && self.call.borrow_mut().send_whole(py, &self.gather),
        };
        if whole {
            return Ok(true);
        }
        // The length is asked for anew each time: the app may hold the list in another thread.
        let mut at = 0;
        while at < items.len() {
            let item = items.get(at)?;
            at += 1;
            if self.call.borrow_mut().send_body(py, body_bytes(&item)?)? == Flow::Stop {
                break;
            }
        }
        Ok(false)
    }

    /// Puts the pieces together if they fit one frame.
    fn gathered(&mut self, items: &Items<'_, 'py>) -> PyResult<bool> {
        self.gather.clear();
        for at in 0..items.len() {
            let item = items.get(at)?;
            let bytes = body_bytes(&item)?;
            if self.gather.len() + bytes.len() > DATA_BYTES_MAX {
                return Ok(false);
            }
            self.gather.extend_from_slice(bytes);
        }
        Ok(true)
    }

    fn send_iterable(&mut self, result: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = self.py;
        if result.get_type().is(&self.hooks.file_wrapper) && self.send_file(result)? {
            return Ok(());
        }
        // SAFETY: a live reference; the result is a new reference or null with an exception set.
        let iterator: Bound<'py, PyAny> =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyObject_GetIter(result.as_ptr()))? };
        loop {
            // SAFETY: an iterator; the result is a new reference, or null at the end or with an exception set.
            let item = unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyIter_Next(iterator.as_ptr())) };
            if process::forked() {
                process::leave_forked_child();
            }
            let Some(item) = item else {
                return PyErr::take(py).map_or(Ok(()), Err);
            };
            let mut call = self.call.borrow_mut();
            if call.send_body(py, body_bytes(&item)?)? == Flow::Stop {
                return Ok(());
            }
            call.clock(true);
        }
    }

    /// The app returned our own file wrapper, unchanged. `false`: it is not over a real file, iterate.
    fn send_file(&mut self, wrapper: &Bound<'py, PyAny>) -> PyResult<bool> {
        let py = self.py;
        let file = wrapper.getattr(intern!(py, "filelike"))?;
        // BytesIO has a `fileno` that raises, sockets and pipes have no position: all these are iterated.
        let number = file.call_method0(intern!(py, "fileno")).and_then(|n| n.extract::<i32>());
        let position = file.call_method0(intern!(py, "tell")).and_then(|n| n.extract::<u64>());
        let (Ok(number), Ok(offset)) = (number, position) else { return Ok(false) };
        if number < 0 {
            return Ok(false);
        }
        // SAFETY: the file object keeps its descriptor open while we hold the object and Python's lock; should the
        // app close it in another thread, the calls below fail or send nothing that this process could not read.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let Ok(stat) = rustix::fs::fstat(fd) else { return Ok(false) };
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Ok(false);
        }
        let length = (stat.st_size as u64).saturating_sub(offset);
        self.call.borrow_mut().send_file(py, fd, offset, length)?;
        Ok(true)
    }

    fn ended(&self, request: &Request<'_>, input: Option<&Bound<'py, Input>>, nothing_to_close: bool) {
        let ended = self.call.borrow_mut().end(self.py, nothing_to_close);
        match ended {
            Ok(None) => {}
            Ok(Some(complaint)) => complain(request, complaint),
            Err(error) => self.failed(request, input, error),
        }
    }

    /// The app raised, or what it gave cannot be sent.
    #[cold]
    fn failed(&self, request: &Request<'_>, input: Option<&Bound<'py, Input>>, error: PyErr) {
        let mut call = self.call.borrow_mut();
        if input.is_some_and(|input| input.get().broken()) {
            // The client broke off its upload: what the app makes of it is no fault of the app.
            call.mark_gone();
        }
        let quiet = call.cancelled();
        drop(call);
        if !quiet {
            self.report(request, error);
        }
        self.call.borrow_mut().fail(self.py, 500);
    }

    /// Calls `close()` if there is one. What it raises comes after the response: it is only logged.
    fn close(&self, request: &Request<'_>, closer: PyResult<Option<Bound<'py, PyAny>>>) {
        let closed = closer.and_then(|closer| match closer {
            Some(closer) => {
                // SAFETY: a live reference; the result is a new reference or null with an exception set.
                unsafe { Bound::from_owned_ptr_or_err(self.py, ffi::PyObject_CallNoArgs(closer.as_ptr())) }
                    .map(drop)
            }
            None => Ok(()),
        });
        if let Err(error) = closed {
            self.report(request, error);
        }
    }

    fn report(&self, request: &Request<'_>, error: PyErr) {
        let line = request_line(request);
        let id = String::from_utf8_lossy(request.head.request_id).into_owned();
        let value = error.into_value(self.py);
        if let Err(error) = self.hooks.report.call1((value, line, id)) {
            log::line("error", &format!("a traceback could not be written error=\"{error}\""));
        }
    }
}

/// `close` of the app's result.
fn closer<'py>(result: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    result.getattr_opt(intern!(result.py(), "close"))
}

/// `GET /path HTTP/1.1`, safe for a log line.
fn request_line(request: &Request<'_>) -> String {
    let version = protocol(request.head.traits).escape_ascii();
    format!("{} {} {version}", request.head.method.escape_ascii(), request.head.target.escape_ascii())
}

#[cold]
fn complain(request: &Request<'_>, complaint: Complaint) {
    let (what, numbers) = match complaint {
        Complaint::TooShort { declared, sent } => (
            "the application sent less than its Content-Length says, the connection is cut",
            format!("content_length={declared} sent={sent}"),
        ),
        Complaint::TooLong { declared } => (
            "the application sent more than its Content-Length says, the rest is dropped",
            format!("content_length={declared}"),
        ),
    };
    log::line(
        "error",
        &format!(
            "{what} {numbers} request=\"{}\" request_id={}",
            request_line(request),
            request.head.request_id.escape_ascii()
        ),
    );
}

/// A result that is exactly a list or a tuple.
enum Items<'a, 'py> {
    List(&'a Bound<'py, PyList>),
    Tuple(&'a Bound<'py, PyTuple>),
}

impl<'a, 'py> Items<'a, 'py> {
    #[inline]
    fn of(result: &'a Bound<'py, PyAny>) -> Option<Self> {
        if let Ok(list) = result.cast_exact::<PyList>() {
            return Some(Self::List(list));
        }
        result.cast_exact::<PyTuple>().ok().map(Self::Tuple)
    }

    #[inline]
    fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Tuple(tuple) => tuple.len(),
        }
    }

    #[inline]
    fn get(&self, at: usize) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::List(list) => list.get_item(at),
            Self::Tuple(tuple) => tuple.get_item(at),
        }
    }
}
