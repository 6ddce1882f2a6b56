//! What the Python half of the framework gives to this one, once at import: its classes and the functions for
//! whatever is rare.

use std::sync::OnceLock;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use super::answer::{Kind, PRIVATE};

static HOOKS: PyOnceLock<Hooks> = PyOnceLock::new();

/// Lengths of bodies whose header is kept.
const LENGTHS: usize = 4096;

/// A str with lone surrogates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotUtf8;

impl From<NotUtf8> for PyErr {
    fn from(_: NotUtf8) -> Self {
        PyValueError::new_err("the text has lone surrogates: it cannot be written as UTF-8")
    }
}

macro_rules! hooks {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// See the module.
        #[derive(Debug)]
        pub(crate) struct Hooks {
            $($(#[$doc])* pub(crate) $name: Py<PyAny>,)*
            pub(crate) keys: Keys,
            pub(crate) heads: Heads,
        }

        impl Hooks {
            fn new(given: &Bound<'_, PyDict>) -> PyResult<Self> {
                let py = given.py();
                let of = |name: &str| {
                    given.get_item(name)?.map(Bound::unbind).ok_or_else(|| {
                        PyRuntimeError::new_err(format!("the package gave no `{name}`"))
                    })
                };
                Ok(Self {
                    $($name: of(stringify!($name))?,)*
                    keys: Keys::new(py),
                    heads: Heads::new(py, given)?,
                })
            }
        }
    };
}

hooks! {
    /// class Response
    response,
    /// (status, detail, headers or None) -> HTTPError
    error,
    /// class HTTPError
    http_error,
    /// (app, request, exception) -> Response
    fail,
    /// (app, request, value) -> Response; what no other rule knows
    convert,
    /// (app, request, response, cors, whether the session is saved) -> response with reply headers, session, CORS
    decorate,
    /// (app, request, response) -> None; what the session says into it
    save_session,
    /// (class) -> how it is written as JSON: a tuple of attribute names, a method's name, or None
    shape,
    /// (value) -> something JSON knows, or TypeError
    jsonable,
    /// class Values: (pairs) -> multi-dict
    values,
    /// class Upload: (name, filename, content type, data or file, size)
    upload,
    /// () -> temporary file
    spool,
    /// (environ) -> mapping of the request's fields
    fields,
    /// (request) -> Session
    session,
    /// (app, awaitable) -> its result, from a thread without a loop
    wait,
    /// (request, location) -> Response of 308
    moved,
    /// (methods) -> Response for OPTIONS
    options,
    /// (cors, environ) -> Response or None
    preflight,
    /// (cors, environ) -> whether its rule trusts the request's origin
    trusts,
    /// (request, mount) -> Response of a foreign WSGI app
    foreign,
    /// (response, app) -> the iterable a server gets, whose close() runs what waits for it
    stream,
    /// (request, name, values or None) -> path
    url_for,
    /// json.loads
    loads,
}

/// Interned keys of environ and attribute names.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) method: Py<PyString>,
    pub(crate) path: Py<PyString>,
    pub(crate) script: Py<PyString>,
    pub(crate) raw_uri: Py<PyString>,
    pub(crate) request_uri: Py<PyString>,
    pub(crate) query: Py<PyString>,
    pub(crate) scheme: Py<PyString>,
    pub(crate) host: Py<PyString>,
    pub(crate) server_name: Py<PyString>,
    pub(crate) server_port: Py<PyString>,
    pub(crate) origin: Py<PyString>,
    pub(crate) fetch_site: Py<PyString>,
    pub(crate) input: Py<PyString>,
    pub(crate) input_terminated: Py<PyString>,
    pub(crate) content_type: Py<PyString>,
    pub(crate) content_length: Py<PyString>,
    pub(crate) cookie: Py<PyString>,
    pub(crate) remote_addr: Py<PyString>,
    pub(crate) preflight_method: Py<PyString>,
    pub(crate) status: Py<PyString>,
    pub(crate) headers: Py<PyString>,
    pub(crate) body: Py<PyString>,
    pub(crate) closers: Py<PyString>,
    pub(crate) read: Py<PyString>,
    pub(crate) value: Py<PyString>,
}

impl Keys {
    fn new(py: Python<'_>) -> Self {
        let key = |text: &str| PyString::intern(py, text).unbind();
        Self {
            method: key("REQUEST_METHOD"),
            path: key("PATH_INFO"),
            script: key("SCRIPT_NAME"),
            raw_uri: key("RAW_URI"),
            request_uri: key("REQUEST_URI"),
            query: key("QUERY_STRING"),
            scheme: key("wsgi.url_scheme"),
            host: key("HTTP_HOST"),
            server_name: key("SERVER_NAME"),
            server_port: key("SERVER_PORT"),
            origin: key("HTTP_ORIGIN"),
            fetch_site: key("HTTP_SEC_FETCH_SITE"),
            input: key("wsgi.input"),
            input_terminated: key("wsgi.input_terminated"),
            content_type: key("CONTENT_TYPE"),
            content_length: key("CONTENT_LENGTH"),
            cookie: key("HTTP_COOKIE"),
            remote_addr: key("REMOTE_ADDR"),
            preflight_method: key("HTTP_ACCESS_CONTROL_REQUEST_METHOD"),
            status: key("status"),
            headers: key("headers"),
            body: key("body"),
            closers: key("_closers"),
            read: key("read"),
            value: key("value"),
        }
    }
}

/// Parts of response heads that come again and again.
#[derive(Debug)]
pub(crate) struct Heads {
    pub(crate) html: Py<PyTuple>,
    pub(crate) json: Py<PyTuple>,
    pub(crate) binary: Py<PyTuple>,
    /// `Cache-Control`: not for caches.
    pub(crate) private: Py<PyTuple>,
    pub(crate) content_type: Py<PyString>,
    content_length: Py<PyString>,
    /// From 100 on.
    statuses: Vec<Py<PyString>>,
    lengths: Vec<OnceLock<Py<PyTuple>>>,
    pub(crate) nothing: Py<PyTuple>,
    pub(crate) empty: Py<PyBytes>,
}

impl Heads {
    fn new(py: Python<'_>, given: &Bound<'_, PyDict>) -> PyResult<Self> {
        let phrases = given.get_item("phrases")?.unwrap_or_else(|| PyDict::new(py).into_any());
        let phrases = phrases.cast::<PyDict>()?;
        let content_type = PyString::intern(py, "Content-Type");
        let tuple = |value: &str| {
            Ok::<_, PyErr>(PyTuple::new(py, [content_type.clone(), PyString::intern(py, value)])?.unbind())
        };
        let mut statuses = Vec::with_capacity(900);
        for status in 100_u16..1000 {
            let phrase = match phrases.get_item(status)? {
                Some(phrase) => phrase.extract::<String>()?,
                None => "Unknown".to_owned(),
            };
            statuses.push(PyString::intern(py, &format!("{status} {phrase}")).unbind());
        }
        Ok(Self {
            html: tuple(Kind::Html.media())?,
            json: tuple(Kind::Json.media())?,
            binary: tuple(Kind::Binary.media())?,
            private: PyTuple::new(
                py,
                [PyString::intern(py, "Cache-Control"), PyString::intern(py, PRIVATE)],
            )?
            .unbind(),
            content_type: content_type.unbind(),
            content_length: PyString::intern(py, "Content-Length").unbind(),
            statuses,
            lengths: (0..LENGTHS).map(|_| OnceLock::new()).collect(),
            nothing: PyTuple::empty(py).unbind(),
            empty: PyBytes::new(py, b"").unbind(),
        })
    }

    /// `200 OK`. None: not a status.
    #[inline]
    pub(crate) fn status(&self, status: u16) -> Option<&Py<PyString>> {
        self.statuses.get(usize::from(status).checked_sub(100)?)
    }

    /// `("Content-Length", "12")`.
    #[inline]
    pub(crate) fn length<'py>(&self, py: Python<'py>, bytes: usize) -> PyResult<Bound<'py, PyTuple>> {
        let make = || {
            let digits = PyString::new(py, itoa::Buffer::new().format(bytes));
            PyTuple::new(py, [self.content_length.bind(py).clone(), digits])
        };
        let Some(place) = self.lengths.get(bytes) else { return make() };
        if let Some(kept) = place.get() {
            return Ok(kept.bind(py).clone());
        }
        let made = make()?;
        let _ = place.set(made.clone().unbind());
        Ok(made)
    }
}

/// Takes the package's classes and functions. Later calls change nothing.
#[pyfunction]
pub(crate) fn install(given: &Bound<'_, PyDict>) -> PyResult<()> {
    HOOKS.get_or_try_init(given.py(), || Hooks::new(given)).map(drop)
}

#[inline]
pub(crate) fn hooks(py: Python<'_>) -> PyResult<&'static Hooks> {
    HOOKS.get(py).ok_or_else(not_installed)
}

#[cold]
fn not_installed() -> PyErr {
    PyRuntimeError::new_err("`trivet._web` was loaded without the package: import `trivet`")
}

/// An `HTTPError` of this status, with what the client may read.
#[cold]
pub(crate) fn refusal(py: Python<'_>, status: u16, detail: &str) -> PyErr {
    refusal_with(py, status, detail, None)
}

/// The same with header fields.
#[cold]
pub(crate) fn refusal_with(
    py: Python<'_>,
    status: u16,
    detail: &str,
    fields: Option<Vec<(&str, String)>>,
) -> PyErr {
    match hooks(py).and_then(|hooks| hooks.error.bind(py).call1((status, detail, fields))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
