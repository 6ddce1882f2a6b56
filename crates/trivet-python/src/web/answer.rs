//! What a handler gives, made into an answer, and an answer made into what a WSGI server gets.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

use super::call::Life;
use super::headers::{Headers, Known};
use super::hooks::{Hooks, hooks};
use super::json::{self, Writer};
use super::raw;
use super::table::Table;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Html,
    Json,
    Binary,
}

/// The fields of an answer that is all in memory.
#[derive(Debug)]
pub(crate) enum Fields {
    Media(Kind),
    /// And not for caches.
    Private(Kind),
    /// Those that the handler named, with the media type.
    Given(Headers),
}

/// An answer on its way back.
#[derive(Debug)]
pub(crate) enum Answer<'py> {
    /// All of it in memory: no `Response` is made unless somebody wants to see it.
    Plain { status: u16, fields: Fields, body: Bound<'py, PyBytes> },
    /// 204.
    Nothing,
    /// A `Response`.
    Full(Bound<'py, PyAny>),
}

impl<'py> Answer<'py> {
    /// Of what a handler returned.
    #[inline]
    pub(crate) fn of(
        py: Python<'py>,
        table: &Table,
        life: &mut Life,
        value: Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        let hooks = hooks(py)?;
        if let Ok(text) = value.cast_exact::<PyString>() {
            let body = raw::bytes(py, raw::utf8(text)?.as_bytes());
            return Ok(Self::plain(Kind::Html, body));
        }
        if value.is_exact_instance_of::<PyDict>() || value.is_exact_instance_of::<PyList>() {
            return Self::json(py, table, &value);
        }
        if value.is_none() {
            return Ok(Self::Nothing);
        }
        if raw::is_exactly(&value, &hooks.response) {
            return own(value).map(Self::Full);
        }
        if let Ok(body) = value.cast_exact::<PyBytes>() {
            return Ok(Self::plain(Kind::Binary, body.clone()));
        }
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            return Self::of_tuple(py, table, life, tuple);
        }
        if value.is_instance(hooks.response.bind(py))? {
            // A file, say: what is sent depends on the request.
            let request = life.request(py, table)?;
            return own(value)?.call_method1("_prepare", (request,)).map(Self::Full);
        }
        if json::is_record(hooks, &value)? {
            return Self::json(py, table, &value);
        }
        let request = life.request(py, table)?;
        let made = hooks.convert.bind(py).call1((&life.app, request, value))?;
        if made.is_instance(hooks.response.bind(py))? {
            Ok(Self::Full(made))
        } else {
            Self::json(py, table, &made)
        }
    }

    const fn plain(kind: Kind, body: Bound<'py, PyBytes>) -> Self {
        Self::Plain { status: 200, fields: Fields::Media(kind), body }
    }

    fn json(py: Python<'py>, table: &Table, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut writer = Writer::new(py, table.encoder.as_ref())?;
        writer.write(value, 0)?;
        Ok(Self::plain(Kind::Json, raw::bytes(py, &writer.out)))
    }

    /// (body, status), (body, headers) or (body, status, headers).
    fn of_tuple(
        py: Python<'py>,
        table: &Table,
        life: &mut Life,
        tuple: &Bound<'py, PyTuple>,
    ) -> PyResult<Self> {
        let wrong = || {
            PyTypeError::new_err(
                "a tuple is an answer as `(body, status)` or `(body, status, headers)`\n\
                 hint: for JSON, return a list",
            )
        };
        let parts: Vec<_> = tuple.iter().collect();
        let (body, status, fields) = match parts.as_slice() {
            [body, status] if status.is_instance_of::<PyInt>() => (body, Some(status), None),
            [body, fields] => (body, None, Some(fields)),
            [body, status, fields] if status.is_instance_of::<PyInt>() => (body, Some(status), Some(fields)),
            _ => return Err(wrong()),
        };
        if body.is_exact_instance_of::<PyTuple>() {
            return Err(wrong());
        }
        if let Some(fields) = fields
            && !fields.is_instance_of::<PyDict>()
            && !fields.is_instance_of::<PyList>()
            && !fields.is_instance_of::<Headers>()
        {
            return Err(wrong());
        }
        let status = match status {
            Some(status) => Some(
                status
                    .extract::<u16>()
                    .ok()
                    .filter(|status| (200..1000).contains(status))
                    .ok_or_else(|| PyValueError::new_err("a status is a number from 200 to 999"))?,
            ),
            None => None,
        };
        if body.is_instance(hooks(py)?.response.bind(py))? {
            // Before it is made for the request: what a condition or a range makes of it is not to be undone.
            let response = own(body.clone())?;
            if let Some(status) = status {
                response.setattr(&hooks(py)?.keys.status, status)?;
            }
            if let Some(fields) = fields {
                let given = Headers::read(fields)?;
                headers_of(py, &response)?.try_borrow_mut()?.take(py, given)?;
            }
            let request = life.request(py, table)?;
            return response.call_method1("_prepare", (request,)).map(Self::Full);
        }
        let mut answer = Self::of(py, table, life, body.clone())?;
        if let Some(status) = status {
            match &mut answer {
                Self::Plain { status: place, .. } => *place = status,
                Self::Nothing if status == 204 => {}
                Self::Nothing => {
                    let body = raw::bytes(py, b"");
                    answer = Self::Plain { status, fields: Fields::Media(Kind::Html), body };
                }
                Self::Full(response) => response.setattr(&hooks(py)?.keys.status, status)?,
            }
        }
        match (fields, &mut answer) {
            (None, _) => {}
            (Some(given), Self::Plain { fields, .. }) => {
                let mut made = std::mem::replace(fields, Fields::Media(Kind::Html)).headers(py, hooks(py)?);
                made.take(py, Headers::read(given)?)?;
                *fields = Fields::Given(made);
            }
            (Some(given), _) => {
                let response = answer.full(py)?;
                let given = Headers::read(given)?;
                headers_of(py, &response)?.try_borrow_mut()?.take(py, given)?;
                answer = Self::Full(response);
            }
        }
        Ok(answer)
    }

    /// As a `Response`.
    pub(crate) fn full(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let hooks = hooks(py)?;
        match self {
            Self::Full(response) => Ok(response),
            Self::Nothing => hooks.response.bind(py).call1((raw::bytes(py, b""), 204)),
            Self::Plain { status, fields, body } => {
                hooks.response.bind(py).call1((body, status, fields.headers(py, hooks)))
            }
        }
    }

    /// What somebody's guard let through is not for caches, unless the answer speaks of them itself.
    #[inline]
    pub(crate) fn private(self, py: Python<'py>) -> PyResult<Self> {
        if let Self::Plain { status, fields, body } = self {
            let fields = match fields {
                Fields::Media(kind) | Fields::Private(kind) => Fields::Private(kind),
                Fields::Given(mut headers) => {
                    headers.keep_private(py, &hooks(py)?.heads.private);
                    Fields::Given(headers)
                }
            };
            return Ok(Self::Plain { status, fields, body });
        }
        let response = self.full(py)?;
        headers_of(py, &response)?.try_borrow_mut()?.keep_private(py, &hooks(py)?.heads.private);
        Ok(Self::Full(response))
    }

    /// Whether nothing is left to be made while it is sent.
    pub(crate) fn is_whole(&self, py: Python<'py>) -> PyResult<bool> {
        match self {
            Self::Full(response) => {
                Ok(response.getattr(&hooks(py)?.keys.body)?.is_exact_instance_of::<PyBytes>())
            }
            _ => Ok(true),
        }
    }
}

/// The `Response` where nobody else has it, else one like it: what is written into it for this client is not for the
/// next one, who may get the same object of a module.
#[inline]
pub(crate) fn own(response: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    if raw::is_only(&response) { Ok(response) } else { response.call_method0("_copy") }
}

/// What keeps an answer out of caches.
pub(crate) const PRIVATE: &str = "private, no-store";

impl Kind {
    /// As `Content-Type` says it.
    pub(crate) const fn media(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Binary => "application/octet-stream",
        }
    }

    fn pair(self, hooks: &Hooks) -> &Py<PyTuple> {
        match self {
            Self::Html => &hooks.heads.html,
            Self::Json => &hooks.heads.json,
            Self::Binary => &hooks.heads.binary,
        }
    }
}

impl Fields {
    fn headers(self, py: Python<'_>, hooks: &Hooks) -> Headers {
        match self {
            Self::Media(kind) => Headers::with(py, kind.pair(hooks)),
            Self::Private(kind) => {
                let mut headers = Headers::with(py, kind.pair(hooks));
                headers.keep_private(py, &hooks.heads.private);
                headers
            }
            Self::Given(headers) => headers,
        }
    }
}

/// Calls `start_response` and gives the iterable.
#[inline]
pub(crate) fn send<'py>(
    py: Python<'py>,
    app: &Bound<'py, PyAny>,
    is_head: bool,
    answer: Answer<'py>,
    start: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let hooks = hooks(py)?;
    let (status, fields, body) = match answer {
        Answer::Plain { status, fields, body } => (status, fields, body),
        Answer::Full(response) => return send_full(py, hooks, app, is_head, &response, start),
        Answer::Nothing => (204, Fields::Media(Kind::Html), hooks.heads.empty.bind(py).clone()),
    };
    let bodiless = is_bodiless(status);
    let length = || hooks.heads.length(py, body.as_bytes().len());
    let list = match fields {
        Fields::Media(_) if bodiless => PyList::empty(py).into_any(),
        Fields::Media(kind) => raw::list(py, [kind.pair(hooks).bind(py).clone(), length()?])?,
        Fields::Private(kind) if !bodiless => {
            let private = hooks.heads.private.bind(py).clone();
            raw::list(py, [kind.pair(hooks).bind(py).clone(), private, length()?])?
        }
        fields => {
            let whole = Some(body.as_bytes().len());
            let headers = fields.headers(py, hooks);
            head_fields(py, hooks, &headers, whole, bodiless, is_head)?.into_any()
        }
    };
    let status = hooks.heads.status(status).ok_or_else(bad_status)?.bind(py).clone().into_any();
    raw::call(py, start, &[status, list])?;
    if is_head || bodiless { Ok(hooks.heads.nothing.bind(py).clone().into_any()) } else { raw::tuple1(&body) }
}

/// 204 (RFC 9110 §15.3.5) and 304 (§15.4.5) have no content.
pub(crate) const fn is_bodiless(status: u16) -> bool {
    matches!(status, 204 | 304)
}

#[cold]
fn bad_status() -> PyErr {
    PyValueError::new_err("a status is a number from 200 to 999")
}

fn send_full<'py>(
    py: Python<'py>,
    hooks: &Hooks,
    app: &Bound<'py, PyAny>,
    is_head: bool,
    response: &Bound<'py, PyAny>,
    start: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let head = head_of(py, hooks, response, is_head);
    let closers = response.getattr(&hooks.keys.closers)?;
    let streams = match &head {
        Ok(head) => !is_head && !head.body.is_exact_instance_of::<PyBytes>() && !head.bodiless,
        Err(_) => false,
    };
    let waits = closers.is_truthy()?;
    let give_up = |error: PyErr| {
        // Whatever waits for the end of the answer must not wait for ever.
        if let Err(second) = response.call_method0("close") {
            second.write_unraisable(py, Some(response));
        }
        error
    };
    let head = head.map_err(give_up)?;
    raw::call(py, start, &[head.status, head.fields.into_any()]).map_err(give_up)?;
    if streams || waits {
        if !streams && (is_head || head.bodiless) {
            response.call_method0("close")?;
            return Ok(hooks.heads.nothing.bind(py).clone().into_any());
        }
        return hooks.stream.bind(py).call1((response, app));
    }
    if is_head || head.bodiless {
        if !head.body.is_exact_instance_of::<PyBytes>() {
            response.call_method0("close")?;
        }
        return Ok(hooks.heads.nothing.bind(py).clone().into_any());
    }
    raw::tuple1(&head.body)
}

struct Head<'py> {
    status: Bound<'py, PyAny>,
    fields: Bound<'py, PyList>,
    body: Bound<'py, PyAny>,
    bodiless: bool,
}

/// The `Headers` of a `Response`. A handler may have put something else in their place.
fn headers_of<'py>(py: Python<'py>, response: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Headers>> {
    let name = &hooks(py)?.keys.headers;
    match response.getattr(name)?.cast_into::<Headers>() {
        Ok(headers) => Ok(headers),
        Err(error) => {
            let headers = Bound::new(py, Headers::new(py, Some(&error.into_inner()))?)?;
            response.setattr(name, &headers)?;
            Ok(headers)
        }
    }
}

/// The list for `start_response`. `whole`: the body's bytes, where it is all there.
fn head_fields<'py>(
    py: Python<'py>,
    hooks: &Hooks,
    headers: &Headers,
    whole: Option<usize>,
    bodiless: bool,
    is_head: bool,
) -> PyResult<Bound<'py, PyList>> {
    let (fields, has) = headers.list(py, |known| match known {
        Known::Type => !bodiless,
        // What we count ourselves is right; only HEAD may speak of a body that is not made.
        Known::Length => !bodiless && !whole.is_some_and(|bytes| bytes > 0 || !is_head),
        Known::Other => true,
    })?;
    if !bodiless {
        if !has.media {
            fields.insert(0, &hooks.heads.binary)?;
        }
        if let Some(bytes) = whole
            && !has.length
        {
            fields.append(hooks.heads.length(py, bytes)?)?;
        }
    }
    Ok(fields)
}

/// The head of a `Response`.
fn head_of<'py>(
    py: Python<'py>,
    hooks: &Hooks,
    response: &Bound<'py, PyAny>,
    is_head: bool,
) -> PyResult<Head<'py>> {
    let status = response.getattr(&hooks.keys.status)?.extract::<u16>().ok().filter(|s| *s >= 200);
    let status = status.ok_or_else(bad_status)?;
    let bodiless = is_bodiless(status);
    let body = response.getattr(&hooks.keys.body)?;
    let whole = body.cast_exact::<PyBytes>().ok().map(|body| body.as_bytes().len());
    let headers = headers_of(py, response)?;
    let fields = head_fields(py, hooks, &*headers.try_borrow()?, whole, bodiless, is_head)?;
    let status = hooks.heads.status(status).ok_or_else(bad_status)?.bind(py).clone().into_any();
    Ok(Head { status, fields, body, bodiless })
}

/// Calls `start_response` for a `Response` and gives the iterable; `app` is for streams of async generators.
#[pyfunction]
pub(crate) fn send_response<'py>(
    response: &Bound<'py, PyAny>,
    app: &Bound<'py, PyAny>,
    is_head: bool,
    start: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    send(response.py(), app, is_head, Answer::Full(response.clone()), start)
}

/// Status and checked fields of a `Response`, for a server that is not WSGI.
#[pyfunction]
pub(crate) fn response_head<'py>(
    response: &Bound<'py, PyAny>,
    is_head: bool,
) -> PyResult<(u16, Bound<'py, PyList>, bool)> {
    let py = response.py();
    let head = head_of(py, hooks(py)?, response, is_head)?;
    let status = response.getattr("status")?.extract()?;
    Ok((status, head.fields, head.bodiless || is_head))
}
