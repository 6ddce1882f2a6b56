//! What a handler gives, made into an answer, and an answer made into what a WSGI server gets.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};
use trivet_http::field;
use trivet_http::h1::response::{ResponseName, response_name, valid_name, valid_value};

use super::call::Life;
use super::hooks::{Hooks, hooks};
use super::json::{self, Writer};
use super::raw;
use super::table::Table;
use crate::text::bytes_of;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Html,
    Json,
    Binary,
}

/// An answer on its way back.
#[derive(Debug)]
pub(crate) enum Answer<'py> {
    /// All of it in memory and nothing said about it: no `Response` is made unless somebody wants to see it.
    Plain { status: u16, kind: Kind, body: Bound<'py, PyBytes> },
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
            return Ok(Self::Plain { status: 200, kind: Kind::Html, body });
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
            return Ok(Self::Plain { status: 200, kind: Kind::Binary, body: body.clone() });
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

    fn json(py: Python<'py>, table: &Table, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut writer = Writer::new(py, table.encoder.as_ref())?;
        writer.write(value, 0)?;
        Ok(Self::Plain { status: 200, kind: Kind::Json, body: raw::bytes(py, &writer.out) })
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
            && !fields.is_instance(hooks(py)?.headers.bind(py))?
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
                response.getattr("headers")?.call_method1("update", (fields,))?;
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
                    answer = Self::Plain { status, kind: Kind::Html, body: raw::bytes(py, b"") };
                }
                Self::Full(response) => response.setattr(&hooks(py)?.keys.status, status)?,
            }
        }
        if let Some(fields) = fields {
            let response = answer.full(py)?;
            response.getattr("headers")?.call_method1("update", (fields,))?;
            answer = Self::Full(response);
        }
        Ok(answer)
    }

    /// As a `Response`.
    pub(crate) fn full(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let hooks = hooks(py)?;
        match self {
            Self::Full(response) => Ok(response),
            Self::Nothing => hooks.response.bind(py).call1((raw::bytes(py, b""), 204)),
            Self::Plain { status, kind, body } => {
                let fields = PyList::new(py, [kind.field(hooks).bind(py)])?;
                hooks.response.bind(py).call1((body, status, fields))
            }
        }
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

impl Kind {
    /// As `Content-Type` says it.
    pub(crate) const fn media(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Binary => "application/octet-stream",
        }
    }

    fn field(self, hooks: &Hooks) -> &Py<PyTuple> {
        match self {
            Self::Html => &hooks.heads.html,
            Self::Json => &hooks.heads.json,
            Self::Binary => &hooks.heads.binary,
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
    let (status, kind, body) = match answer {
        Answer::Plain { status, kind, body } if status != 204 && status != 304 => (status, kind, body),
        Answer::Full(response) => return send_full(py, hooks, app, is_head, &response, start),
        Answer::Plain { status, .. } => return send_nothing(py, hooks, status, start),
        Answer::Nothing => return send_nothing(py, hooks, 204, start),
    };
    let length = hooks.heads.length(py, body.as_bytes().len())?;
    let fields = raw::list2(py, kind.field(hooks), &length)?;
    raw::call(
        py,
        start,
        &[hooks.heads.status(status).ok_or_else(bad_status)?.bind(py).clone().into_any(), fields],
    )?;
    if is_head { Ok(hooks.heads.nothing.bind(py).clone().into_any()) } else { raw::tuple1(&body) }
}

#[cold]
fn bad_status() -> PyErr {
    PyValueError::new_err("a status is a number from 200 to 999")
}

fn send_nothing<'py>(
    py: Python<'py>,
    hooks: &Hooks,
    status: u16,
    start: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let status = hooks.heads.status(status).ok_or_else(bad_status)?.bind(py).clone().into_any();
    raw::call(py, start, &[status, PyList::empty(py).into_any()])?;
    Ok(hooks.heads.nothing.bind(py).clone().into_any())
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

/// The head of a `Response`, with its fields checked: here is where header injection ends.
fn head_of<'py>(
    py: Python<'py>,
    hooks: &Hooks,
    response: &Bound<'py, PyAny>,
    is_head: bool,
) -> PyResult<Head<'py>> {
    let status = response.getattr(&hooks.keys.status)?.extract::<u16>().ok().filter(|s| *s >= 200);
    let status = status.ok_or_else(bad_status)?;
    let bodiless = status == 204 || status == 304;
    let body = response.getattr(&hooks.keys.body)?;
    let whole = body.cast_exact::<PyBytes>().ok().map(|body| body.as_bytes().len());
    let given = response.getattr("headers")?.getattr(&hooks.keys.fields)?.cast_into::<PyList>()?;
    let fields = PyList::empty(py);
    let mut has_type = false;
    let mut has_length = false;
    for pair in given.iter() {
        let name = pair.get_item(0)?;
        let value = pair.get_item(1)?;
        let known = check(&name, &value)?;
        match known {
            Known::Type | Known::Length if bodiless => continue,
            // What we count ourselves is right; only HEAD may speak of a body that is not made.
            Known::Length if whole.is_some_and(|bytes| bytes > 0 || !is_head) => continue,
            Known::Type => has_type = true,
            Known::Length => has_length = true,
            Known::Other => {}
        }
        fields.append(if pair.is_exact_instance_of::<PyTuple>() {
            pair
        } else {
            (name, value).into_pyobject(py)?.into_any()
        })?;
    }
    if !bodiless {
        if !has_type {
            fields.insert(0, &hooks.heads.binary)?;
        }
        if let Some(bytes) = whole
            && !has_length
        {
            fields.append(hooks.heads.length(py, bytes)?)?;
        }
    }
    let status = hooks.heads.status(status).ok_or_else(bad_status)?.bind(py).clone().into_any();
    Ok(Head { status, fields, body, bodiless })
}

/// Names that `send` looks after itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Type,
    Length,
    Other,
}

fn check(name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Known> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let wrong = |what: &str| {
        PyValueError::new_err(format!("a header field's {what} has characters that HTTP forbids"))
    };
    let bytes = bytes_of(name, &mut a).map_err(|_| wrong("name"))?;
    if !valid_name(bytes) {
        return Err(wrong("name"));
    }
    let text = bytes_of(value, &mut b).map_err(|_| {
        PyValueError::new_err(format!(
            "the header field `{}` has a value that is no latin-1 text",
            String::from_utf8_lossy(bytes)
        ))
    })?;
    if !valid_value(text) || field::trim(text).len() != text.len() {
        return Err(PyValueError::new_err(format!(
            "the header field `{}` has a line break, control character or space at an end in its value",
            String::from_utf8_lossy(bytes)
        )));
    }
    if bytes.eq_ignore_ascii_case(b"content-type") {
        return Ok(Known::Type);
    }
    match response_name(bytes) {
        ResponseName::ContentLength => Ok(Known::Length),
        special if special.is_hop_by_hop() => Err(PyValueError::new_err(format!(
            "the header field `{}` belongs to the server (PEP 3333)",
            String::from_utf8_lossy(bytes)
        ))),
        _ => Ok(Known::Other),
    }
}

/// Raises `ValueError` where a name or value of a header field cannot be sent.
#[pyfunction]
pub(crate) fn check_field(name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    check(name, value).map(drop)
}

/// Whether a field of an answer is about the connection, which is the server's (PEP 3333).
#[pyfunction]
pub(crate) fn is_hop_by_hop(name: &Bound<'_, PyAny>) -> bool {
    bytes_of(name, &mut Vec::new()).is_ok_and(|name| response_name(name).is_hop_by_hop())
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
