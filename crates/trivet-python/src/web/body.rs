//! The request's body: read within its limits, as bytes, JSON or a form.

use std::sync::Mutex;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use trivet_web::multipart::{self, Event, Multipart};

use super::hooks::{Hooks, hooks, refusal};
use super::plan;
use super::raw;
use super::request::Request;
use crate::text::bytes_of;

/// What one `read` asks for.
const READ_BYTES: u64 = 256 * 1024;
/// Files of a form beyond this lie in a temporary file.
const FILE_MEMORY_BYTES_MAX: usize = 1024 * 1024;

/// What a form holds, in its order.
#[derive(Debug, Default)]
pub(crate) struct Form {
    pub(crate) fields: Vec<(Box<str>, Box<str>)>,
    pub(crate) files: Vec<(Box<str>, Py<PyAny>)>,
    /// It was read from the stream: there are no bytes to give any more.
    pub(crate) streamed: bool,
    /// A file of it lies in a temporary file.
    pub(crate) spooled: bool,
}

/// Reads `wsgi.input` and no further than the body.
#[derive(Debug)]
pub(crate) struct Reader {
    input: Option<Py<PyAny>>,
    /// What is yet to come; beyond the limit by one where the length is not known.
    left: u64,
    is_known: bool,
    limit: u64,
    /// It ended too early: another read might wait for ever.
    is_short: bool,
}

impl Reader {
    fn new(py: Python<'_>, request: &Request) -> PyResult<Self> {
        let keys = &hooks(py)?.keys;
        let environ = request.environ.bind(py);
        let limit = request.limits.body_bytes_max;
        let declared = declared(py, request)?;
        if declared.is_some_and(|bytes| bytes > limit) {
            return Err(too_large(py, limit));
        }
        let input = raw::item(environ, &keys.input);
        let ends = match raw::item(environ, &keys.input_terminated) {
            Some(flag) => flag.is_truthy()?,
            None => false,
        };
        // Without a length, only a server that marks the end can be read from: others would wait for ever.
        let left = declared.unwrap_or(if ends { limit + 1 } else { 0 });
        Ok(Self {
            input: input.map(Bound::unbind),
            left,
            is_known: declared.is_some(),
            limit,
            is_short: false,
        })
    }

    /// The next piece; `None` at the end.
    fn next<'py>(&mut self, py: Python<'py>, bytes_max: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let short = || refusal(py, 400, "the body is shorter than its Content-Length says");
        if self.is_short {
            return Err(short());
        }
        let Some(input) = self.input.as_ref().filter(|_| self.left > 0) else { return Ok(None) };
        let size = self.left.min(bytes_max);
        let piece = input.bind(py).call_method1(&hooks(py)?.keys.read, (size,))?;
        let piece = piece
            .cast_into::<PyBytes>()
            .map_err(|_| PyTypeError::new_err("`wsgi.input.read()` gave something else than bytes"))?;
        let length = piece.as_bytes().len() as u64;
        if length == 0 {
            if self.is_known {
                self.is_short = true;
                return Err(short());
            }
            self.left = 0;
            return Ok(None);
        }
        self.left = self.left.saturating_sub(length);
        if !self.is_known && self.left == 0 {
            return Err(too_large(py, self.limit));
        }
        Ok(Some(piece))
    }

    /// Of bytes that have been read already.
    fn of(body: &Bound<'_, PyBytes>) -> PyResult<Self> {
        let left = body.as_bytes().len() as u64;
        let input = body.py().import("io")?.getattr("BytesIO")?.call1((body,))?;
        Ok(Self { input: Some(input.unbind()), left, is_known: true, limit: left, is_short: false })
    }

    /// Of which nothing is left.
    const fn ended() -> Self {
        Self { input: None, left: 0, is_known: true, limit: 0, is_short: false }
    }
}

/// Gives the request's reader, which is the one of `req.stream` if anybody has taken that.
fn reading<T>(
    py: Python<'_>,
    request: &Request,
    read: impl FnOnce(&mut Reader) -> PyResult<T>,
) -> PyResult<T> {
    unbroken(py, request)?;
    let done = match request.stream.get() {
        None => Reader::new(py, request).and_then(|mut reader| read(&mut reader)),
        Some(stream) => read(&mut *stream.get().0.try_lock().map_err(|_| busy())?),
    };
    if let Err(error) = &done {
        let _ = request.broken.set(error.value(py).clone().into_any().unbind());
    }
    done
}

/// Raises again what reading the body ended with.
fn unbroken(py: Python<'_>, request: &Request) -> PyResult<()> {
    match request.broken.get() {
        None => Ok(()),
        Some(error) => Err(PyErr::from_value(error.bind(py).clone())),
    }
}

#[cold]
fn busy() -> PyErr {
    PyRuntimeError::new_err("another thread reads the body")
}

#[cold]
fn too_large(py: Python<'_>, limit: u64) -> PyErr {
    refusal(py, 413, &format!("the body is larger than {limit} bytes (`body_bytes_max`)"))
}

/// What `CONTENT_LENGTH` says.
pub(crate) fn declared(py: Python<'_>, request: &Request) -> PyResult<Option<u64>> {
    let Some(text) = request.text(py, &hooks(py)?.keys.content_length) else { return Ok(None) };
    let digits = raw::utf8(&text)?;
    if digits.is_empty() {
        return Ok(None);
    }
    match digits.parse() {
        Ok(bytes) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(bytes)),
        _ => Err(refusal(py, 400, "Content-Length is not a number")),
    }
}

/// All of it.
pub(crate) fn whole<'py>(request: &Bound<'py, Request>) -> PyResult<Bound<'py, PyBytes>> {
    let py = request.py();
    let this = request.get();
    if let Some(body) = this.body.get() {
        return Ok(body.bind(py).clone());
    }
    if this.form_data().streamed {
        return Err(PyRuntimeError::new_err(
            "the body has been read as a form: its bytes are not kept\nhint: take `req.body` before `req.form`",
        ));
    }
    let body = reading(py, this, |reader| {
        let Some(first) = reader.next(py, u64::MAX)? else { return Ok(raw::bytes(py, b"")) };
        let Some(second) = reader.next(py, READ_BYTES)? else { return Ok(first) };
        let mut all = [first.as_bytes(), second.as_bytes()].concat();
        while let Some(piece) = reader.next(py, READ_BYTES)? {
            all.extend_from_slice(piece.as_bytes());
        }
        Ok(raw::bytes(py, &all))
    })?;
    let _ = this.body.set(body.clone().unbind());
    Ok(body)
}

/// `application/json`, `application/problem+json; charset=utf-8`, or nothing said.
fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.is_empty()
        || media == "application/json"
        || media.starts_with("application/") && media.ends_with("+json")
}

pub(crate) fn json<'py>(request: &Bound<'py, Request>) -> PyResult<Bound<'py, PyAny>> {
    let py = request.py();
    let hooks = hooks(py)?;
    let kind = request.get().text(py, &hooks.keys.content_type);
    if let Some(kind) = &kind
        && !is_json(raw::utf8(kind)?)
    {
        return Err(refusal(py, 415, "the body is not JSON: its Content-Type should be `application/json`"));
    }
    let body = whole(request)?;
    hooks.loads.bind(py).call1((body,)).map_err(|e| {
        if e.is_instance_of::<PyValueError>(py) {
            refusal(py, 400, &format!("the body is not JSON: {}", e.value(py)))
        } else if e.is_instance_of::<pyo3::exceptions::PyRecursionError>(py) {
            refusal(py, 400, "the body is nested too deeply")
        } else {
            e
        }
    })
}

/// Reads the form, if the body is one and has not been read yet.
pub(crate) fn parse_form(request: &Bound<'_, Request>) -> PyResult<()> {
    let py = request.py();
    let this = request.get();
    if this.form.get().is_some() {
        return Ok(());
    }
    let hooks = hooks(py)?;
    let text = this.text(py, &hooks.keys.content_type);
    let mut scratch = Vec::new();
    let content_type = text.as_ref().and_then(|text| bytes_of(text, &mut scratch).ok()).unwrap_or_default();
    let media = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let form = if media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        urlencoded(request)?
    } else if media.eq_ignore_ascii_case(b"multipart/form-data") {
        parts(request, hooks, content_type)?
    } else {
        Form::default()
    };
    let _ = this.form.set(form);
    Ok(())
}

fn urlencoded(request: &Bound<'_, Request>) -> PyResult<Form> {
    let py = request.py();
    let limits = request.get().limits;
    if declared(py, request.get())?.is_some_and(|bytes| bytes > limits.form_bytes_max as u64) {
        return Err(form_too_large(py, limits.form_bytes_max));
    }
    let body = whole(request)?;
    if body.as_bytes().len() > limits.form_bytes_max {
        return Err(form_too_large(py, limits.form_bytes_max));
    }
    let fields = plan::pairs(py, body.as_bytes(), limits.parameters_max)?;
    let fields = fields.into_iter().map(|(k, v)| (k.into_owned().into(), v.into_owned().into())).collect();
    Ok(Form { fields, ..Form::default() })
}

#[cold]
fn form_too_large(py: Python<'_>, limit: usize) -> PyErr {
    refusal(py, 413, &format!("the form is larger than {limit} bytes (`form_bytes_max`)"))
}

/// A form is read by pieces of this: a file that stays in memory mostly comes in one, and is copied once.
const FORM_READ_BYTES: u64 = FILE_MEMORY_BYTES_MAX as u64 + 64 * 1024;

/// The part that is being read.
struct Part {
    name: String,
    /// For a file: its name and content type.
    file: Option<(String, String)>,
    /// All of a file, as long as it has come in one piece.
    piece: Option<Py<PyBytes>>,
    memory: Vec<u8>,
    spool: Option<Py<PyAny>>,
    size: u64,
}

impl Part {
    /// More follows: what has come goes where it can grow.
    fn gather(&mut self, py: Python<'_>) {
        if let Some(piece) = self.piece.take() {
            self.memory.extend_from_slice(piece.bind(py).as_bytes());
        }
    }
}

fn parts(request: &Bound<'_, Request>, hooks: &'static Hooks, content_type: &[u8]) -> PyResult<Form> {
    let py = request.py();
    let this = request.get();
    let refuse = |e: multipart::Error| refusal(py, e.status(), &e.to_string());
    let limits = multipart::Limits {
        parts_max: this.limits.parts_max,
        memory_bytes_max: this.limits.form_bytes_max,
        ..multipart::Limits::default()
    };
    let boundary = multipart::boundary(content_type).map_err(refuse)?;
    let mut parser = Multipart::new(boundary, limits).map_err(refuse)?;
    // Whoever has taken the bytes already has them: else they come as they come.
    let kept = this.body.get().map(|body| body.bind(py).clone());
    let mut form = Form { streamed: kept.is_none(), ..Form::default() };
    let mut part: Option<Part> = None;
    let mut failed: PyResult<()> = Ok(());
    let mut on_event = |event: Event<'_>| {
        if failed.is_ok() {
            failed = take(py, hooks, &mut form, &mut part, event);
        }
    };
    let fed = match kept {
        Some(body) => parser.feed(body.as_bytes(), &mut on_event).map_err(refuse),
        None => reading(py, this, |reader| {
            while let Some(piece) = reader.next(py, FORM_READ_BYTES)? {
                parser.feed(piece.as_bytes(), &mut on_event).map_err(refuse)?;
            }
            Ok(())
        }),
    };
    let whole = failed.and(fed).and_then(|()| parser.finish().map_err(refuse));
    if let (Err(error), true) = (&whole, form.streamed) {
        let _ = this.broken.set(error.value(py).clone().into_any().unbind());
    }
    if let Some(spool) = part.and_then(|part| part.spool) {
        // Of a part that never came to its end.
        spool.bind(py).call_method0("close")?;
    }
    whole.map(|()| form)
}

fn take(
    py: Python<'_>,
    hooks: &'static Hooks,
    form: &mut Form,
    part: &mut Option<Part>,
    event: Event<'_>,
) -> PyResult<()> {
    match event {
        Event::Begin(head) => {
            let file = head.filename.map(|name| {
                (name, head.content_type.unwrap_or_else(|| "application/octet-stream".to_owned()))
            });
            *part =
                Some(Part { name: head.name, file, piece: None, memory: Vec::new(), spool: None, size: 0 });
        }
        Event::Data(data) => {
            let Some(part) = part else { return Ok(()) };
            let is_first = part.size == 0;
            part.size += data.len() as u64;
            if part.file.is_some() && part.spool.is_none() && part.size > FILE_MEMORY_BYTES_MAX as u64 {
                part.gather(py);
                let spool = hooks.spool.bind(py).call0()?;
                spool.call_method1("write", (raw::bytes(py, &part.memory),))?;
                part.memory = Vec::new();
                part.spool = Some(spool.unbind());
                form.spooled = true;
            }
            match &part.spool {
                Some(spool) => {
                    spool.bind(py).call_method1("write", (raw::bytes(py, data),))?;
                }
                None if is_first && part.file.is_some() => part.piece = Some(raw::bytes(py, data).unbind()),
                None => {
                    part.gather(py);
                    part.memory.extend_from_slice(data);
                }
            }
        }
        Event::End => {
            let Some(part) = part.take() else { return Ok(()) };
            let Some((filename, content_type)) = part.file else {
                let text = String::from_utf8(part.memory)
                    .map_err(|_| refusal(py, 400, &format!("the form field `{}` is not UTF-8", part.name)))?;
                form.fields.push((part.name.into(), text.into()));
                return Ok(());
            };
            // What a browser sends for a file field in which no file was chosen.
            if filename.is_empty() && part.size == 0 {
                return Ok(());
            }
            let content = match (part.spool, part.piece) {
                (Some(spool), _) => {
                    spool.bind(py).call_method1("seek", (0,))?;
                    spool
                }
                (None, Some(piece)) => piece.into_any(),
                (None, None) => raw::bytes(py, &part.memory).into_any().unbind(),
            };
            let safe = multipart::safe_filename(&filename);
            let upload = hooks.upload.bind(py).call1((
                &part.name,
                PyString::new(py, &safe),
                &filename,
                content_type,
                content,
                part.size,
            ))?;
            form.files.push((part.name.into(), upload.unbind()));
        }
    }
    Ok(())
}

/// The body as it comes.
#[pyclass(frozen, module = "trivet")]
#[derive(Debug)]
pub(crate) struct BodyStream(Mutex<Reader>);

#[pymethods]
impl BodyStream {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Where it is being read from, it is in use.
        self.0.try_lock().map_or(Ok(()), |reader| visit.call(&reader.input))
    }

    /// At most `size` bytes, all that is left if it is negative; empty at the end.
    #[pyo3(signature = (size=-1))]
    fn read<'py>(&self, py: Python<'py>, size: i64) -> PyResult<Bound<'py, PyBytes>> {
        let mut reader = self.0.try_lock().map_err(|_| busy())?;
        if let Ok(size) = u64::try_from(size) {
            if size == 0 {
                return Ok(raw::bytes(py, b""));
            }
            return Ok(reader.next(py, size)?.unwrap_or_else(|| raw::bytes(py, b"")));
        }
        let mut all = Vec::new();
        while let Some(piece) = reader.next(py, READ_BYTES)? {
            all.extend_from_slice(piece.as_bytes());
        }
        Ok(raw::bytes(py, &all))
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let piece = self.read(py, 64 * 1024)?;
        Ok((!piece.as_bytes().is_empty()).then_some(piece))
    }
}

/// The one stream of a request. Whoever has read the body or the form before gets what is left of it: the bytes that
/// are kept, or nothing.
pub(crate) fn stream<'py>(py: Python<'py>, request: &Request) -> PyResult<Bound<'py, BodyStream>> {
    if let Some(stream) = request.stream.get() {
        return Ok(stream.bind(py).clone());
    }
    unbroken(py, request)?;
    let reader = match request.body.get() {
        Some(body) => Reader::of(body.bind(py))?,
        None if request.form_data().streamed => Reader::ended(),
        None => Reader::new(py, request)?,
    };
    let made = Bound::new(py, BodyStream(Mutex::new(reader)))?;
    let _ = request.stream.set(made.unbind());
    Ok(request.stream.get().expect("set just now").bind(py).clone())
}
