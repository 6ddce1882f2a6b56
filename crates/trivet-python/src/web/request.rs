//! `Request`: what the app sees of a request. Made only for those who ask for it; each part is read when it is looked at.

use std::sync::OnceLock;

use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use trivet_web::cookie;

use super::app::App;
use super::body::{self, BodyStream, Form};
use super::headers::Headers;
use super::hooks::{hooks, refusal};
use super::plan;
use super::raw;
use super::table::{Limits, Table};
use crate::text::bytes_of;

/// Something that is made once and then kept.
type Kept = OnceLock<Py<PyAny>>;

/// A request: what the client sent. A handler or interceptor gets it as the argument `req` or by the annotation
/// `Request`; `Request(environ)` makes one of any WSGI environ.
///
/// Each part is read when it is looked at. Texts are UTF-8, decoded once; what is not raises `BadRequest`.
#[pyclass(frozen, module = "trivet")]
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) environ: Py<PyDict>,
    pub(crate) app: Option<Py<App>>,
    /// Of the table that answers, for the ways back.
    pub(crate) route: Option<Py<PyAny>>,
    names: Option<Py<PyTuple>>,
    values: Vec<Py<PyAny>>,
    pub(crate) limits: Limits,
    pub(crate) form: OnceLock<Form>,
    pub(crate) body: OnceLock<Py<PyBytes>>,
    pub(crate) stream: OnceLock<Py<BodyStream>>,
    /// What reading the body ended with: nobody asks the server for the rest.
    pub(crate) broken: Kept,
    query: Kept,
    form_values: Kept,
    file_values: Kept,
    cookies: Kept,
    fields: Kept,
    ctx: Kept,
    pub(crate) session: Kept,
    pub(crate) reply_fields: Kept,
    pub(crate) after: OnceLock<Py<PyList>>,
}

impl Request {
    pub(crate) fn of(py: Python<'_>, environ: &Py<PyDict>, app: Option<&Py<App>>, limits: Limits) -> Self {
        Self {
            environ: environ.clone_ref(py),
            app: app.map(|app| app.clone_ref(py)),
            route: None,
            names: None,
            values: Vec::new(),
            limits,
            form: OnceLock::new(),
            body: OnceLock::new(),
            stream: OnceLock::new(),
            broken: OnceLock::new(),
            query: OnceLock::new(),
            form_values: OnceLock::new(),
            file_values: OnceLock::new(),
            cookies: OnceLock::new(),
            fields: OnceLock::new(),
            ctx: OnceLock::new(),
            session: OnceLock::new(),
            reply_fields: OnceLock::new(),
            after: OnceLock::new(),
        }
    }

    /// With the route that was found, and its parameters.
    pub(crate) fn routed(
        mut self,
        py: Python<'_>,
        route: &Py<PyAny>,
        names: &Py<PyTuple>,
        values: &[Py<PyAny>],
    ) -> Self {
        self.route = Some(route.clone_ref(py));
        self.names = Some(names.clone_ref(py));
        self.values = values.iter().map(|value| value.clone_ref(py)).collect();
        self
    }

    /// The form; nothing before `parse_form`.
    pub(crate) fn form_data(&self) -> &Form {
        static NOTHING: OnceLock<Form> = OnceLock::new();
        self.form.get().unwrap_or_else(|| NOTHING.get_or_init(Form::default))
    }

    /// Whether the answer has to wait for `decorate`.
    pub(crate) fn is_touched(&self) -> bool {
        self.session.get().is_some() || self.reply_fields.get().is_some() || self.after.get().is_some()
    }

    /// Whether files of the form lie in temporary files.
    pub(crate) fn has_spools(&self) -> bool {
        self.form.get().is_some_and(|form| form.spooled)
    }

    pub(crate) fn close_files(&self, py: Python<'_>) -> PyResult<()> {
        for (_, upload) in &self.form_data().files {
            upload.bind(py).call_method0("close")?;
        }
        Ok(())
    }

    pub(crate) fn text<'py>(&self, py: Python<'py>, key: &Py<PyString>) -> Option<Bound<'py, PyString>> {
        raw::item(self.environ.bind(py), key).and_then(|value| value.cast_into().ok())
    }

    /// A latin-1 text of the environ as the UTF-8 that it holds.
    fn utf8(&self, py: Python<'_>, key: &Py<PyString>, what: &str) -> PyResult<String> {
        let Some(text) = self.text(py, key) else { return Ok(String::new()) };
        let mut scratch = Vec::new();
        let bytes = bytes_of(&text, &mut scratch).unwrap_or(b"\xff");
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(refusal(py, 400, &format!("{what} is not UTF-8"))),
        }
    }

    fn string(&self, py: Python<'_>, key: &Py<PyString>) -> String {
        self.text(py, key).and_then(|text| raw::utf8(&text).ok().map(str::to_owned)).unwrap_or_default()
    }
}

/// Gives what is kept, or makes it. The making may come back here: the first to finish wins.
fn keep<'py>(
    py: Python<'py>,
    place: &Kept,
    make: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(kept) = place.get() {
        return Ok(kept.bind(py).clone());
    }
    let made = make()?;
    let _ = place.set(made.unbind());
    Ok(place.get().expect("set just now").bind(py).clone())
}

/// The session of the request.
pub(crate) fn session<'py>(request: &Bound<'py, Request>) -> PyResult<Bound<'py, PyAny>> {
    let py = request.py();
    keep(py, &request.get().session, || hooks(py)?.session.bind(py).call1((request,)))
}

#[pymethods]
impl Request {
    #[new]
    fn new(py: Python<'_>, environ: &Bound<'_, PyDict>) -> Self {
        Self::of(py, environ.as_unbound(), None, Limits::default())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.environ)?;
        visit.call(&self.app)?;
        visit.call(&self.route)?;
        visit.call(&self.names)?;
        visit.call(self.stream.get())?;
        for (_, upload) in &self.form_data().files {
            visit.call(upload)?;
        }
        for value in &self.values {
            visit.call(value)?;
        }
        for kept in [
            &self.query,
            &self.form_values,
            &self.file_values,
            &self.cookies,
            &self.fields,
            &self.ctx,
            &self.session,
            &self.reply_fields,
            &self.broken,
        ] {
            visit.call(kept.get())?;
        }
        visit.call(self.after.get())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let keys = &hooks(py)?.keys;
        Ok(format!("<Request {} {:?}>", self.string(py, &keys.method), self.string(py, &keys.path)))
    }

    /// The WSGI environ (PEP 3333).
    #[getter]
    fn environ(&self, py: Python<'_>) -> Py<PyDict> {
        self.environ.clone_ref(py)
    }

    /// The app that serves this request.
    #[getter]
    fn app(&self, py: Python<'_>) -> PyResult<Py<App>> {
        let missing = || PyAttributeError::new_err("the request was made without an app");
        self.app.as_ref().map(|app| app.clone_ref(py)).ok_or_else(missing)
    }

    /// The route that was found, or None where nothing or no method fits.
    #[getter]
    fn route(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.route.as_ref().map(|route| route.clone_ref(py))
    }

    /// The path's parameters by name, converted.
    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let params = PyDict::new(py);
        if let Some(names) = &self.names {
            for (name, value) in names.bind(py).iter().zip(&self.values) {
                params.set_item(name, value)?;
            }
        }
        Ok(params)
    }

    /// The body, if somebody has taken it; an error where it went into a form or a stream.
    #[getter]
    fn _kept_body(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        if self.form_data().streamed || self.stream.get().is_some() {
            return Err(PyRuntimeError::new_err(
                "the body was read before it came to the mounted app\n\
                 hint: in an interceptor above a mounted app, take `req.body`: those bytes are kept",
            ));
        }
        Ok(self.body.get().map(|body| body.clone_ref(py)))
    }

    /// `GET`, say: as the client sent it.
    #[getter]
    fn method(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.string(py, &hooks(py)?.keys.method))
    }

    /// Decoded, below the mount; begins with `/`.
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<String> {
        let path = self.utf8(py, &hooks(py)?.keys.path, "the path")?;
        Ok(if path.is_empty() { "/".to_owned() } else { path })
    }

    /// Where the app is mounted: empty, or a path without a slash at its end.
    #[getter]
    fn script_name(&self, py: Python<'_>) -> PyResult<String> {
        self.utf8(py, &hooks(py)?.keys.script, "the path")
    }

    /// As it came, without its `?`.
    #[getter]
    fn query_string(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.string(py, &hooks(py)?.keys.query))
    }

    /// `http` or `https`.
    #[getter]
    fn scheme(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.string(py, &hooks(py)?.keys.scheme))
    }

    /// Host and port as the client named them, else the server's own.
    #[getter]
    fn host(&self, py: Python<'_>) -> PyResult<String> {
        let keys = &hooks(py)?.keys;
        let host = self.string(py, &keys.host);
        if !host.is_empty() {
            return Ok(host);
        }
        let (name, port) = (self.string(py, &keys.server_name), self.string(py, &keys.server_port));
        let default = if self.string(py, &keys.scheme) == "https" { "443" } else { "80" };
        Ok(if port.is_empty() || port == default { name } else { format!("{name}:{port}") })
    }

    /// The client's address as the server gives it, without a port; empty where there is none.
    #[getter]
    fn client(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.string(py, &hooks(py)?.keys.remote_addr))
    }

    /// `https://example.com/app`, without a slash at its end.
    #[getter]
    fn base_url(&self, py: Python<'_>) -> PyResult<String> {
        let mut path = Vec::new();
        trivet_http::path::encode(&self.script_name(py)?, &mut path);
        Ok(format!("{}://{}{}", self.scheme(py)?, self.host(py)?, String::from_utf8_lossy(&path)))
    }

    /// The whole URL, with its query.
    #[getter]
    fn url(&self, py: Python<'_>) -> PyResult<String> {
        let mut path = Vec::new();
        trivet_http::path::encode(&self.path(py)?, &mut path);
        let query = self.query_string(py)?;
        let mark = if query.is_empty() { "" } else { "?" };
        Ok(format!("{}{}{mark}{query}", self.base_url(py)?, String::from_utf8_lossy(&path)))
    }

    /// `text/html; charset=utf-8`, or empty.
    #[getter]
    fn content_type(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.string(py, &hooks(py)?.keys.content_type))
    }

    /// Bytes of the body, or None where it is not known.
    #[getter]
    fn content_length(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        body::declared(py, self)
    }

    /// The query's parameters.
    #[getter]
    fn query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        keep(py, &self.query, || {
            let hooks = hooks(py)?;
            let mut scratch = Vec::new();
            let text = self.text(py, &hooks.keys.query);
            let bytes = match &text {
                Some(text) => {
                    bytes_of(text, &mut scratch).map_err(|_| refusal(py, 400, "the query is not text"))?
                }
                None => b"",
            };
            hooks.values.bind(py).call1((plan::pairs(py, bytes, self.limits.parameters_max)?,))
        })
    }

    /// The form's fields; files are in `files`. Empty for any other body.
    #[getter]
    fn form<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        body::parse_form(slf)?;
        let this = slf.get();
        keep(py, &this.form_values, || {
            let pairs: Vec<_> = this.form_data().fields.iter().map(|(k, v)| (&**k, &**v)).collect();
            hooks(py)?.values.bind(py).call1((pairs,))
        })
    }

    /// The form's files, as `Upload`s.
    #[getter]
    fn files<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        body::parse_form(slf)?;
        let this = slf.get();
        keep(py, &this.file_values, || {
            let pairs: Vec<_> = this.form_data().files.iter().map(|(k, v)| (&**k, v.bind(py))).collect();
            hooks(py)?.values.bind(py).call1((pairs,))
        })
    }

    /// Cookies by name; of equal names the first, which is the most specific one.
    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        keep(py, &self.cookies, || {
            let cookies = PyDict::new(py);
            if let Some(text) = self.text(py, &hooks(py)?.keys.cookie) {
                let mut scratch = Vec::new();
                let header = bytes_of(&text, &mut scratch).unwrap_or_default();
                for (name, value) in cookie::pairs(header) {
                    if !cookies.contains(name)? {
                        cookies.set_item(name, &*value)?;
                    }
                }
            }
            Ok(cookies.into_any())
        })
    }

    /// The fields of the request's head: a mapping that knows no case.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        keep(py, &self.fields, || hooks(py)?.fields.bind(py).call1((&self.environ,)))
    }

    /// The whole body.
    #[getter]
    fn body<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyBytes>> {
        body::whole(slf)
    }

    /// The body as it comes: `read(size)`, one stream for the request. What was read so is not in `body` or `form`.
    #[getter]
    fn stream<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, BodyStream>> {
        body::stream(py, self)
    }

    /// What the body says as JSON; 400 where it is none, 415 for another content type.
    fn json<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        body::json(slf)
    }

    /// The session.
    #[getter]
    fn session<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        session(slf)
    }

    /// A place for whatever the app wants to keep with the request.
    #[getter]
    fn ctx<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        keep(py, &self.ctx, || py.import("types")?.getattr("SimpleNamespace")?.call0())
    }

    /// Fields that whatever answers will carry.
    #[getter]
    fn reply_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        keep(py, &self.reply_fields, || Ok(Bound::new(py, Headers::new(py, None)?)?.into_any()))
    }

    /// The path of the route of that name for this client: with what the app is served below (`SCRIPT_NAME`) and where
    /// it is mounted. What is no parameter becomes the query.
    ///
    /// Names are looked for in the app of this request's route, then in those around it. Raises `LookupError` where
    /// no route has the name, `ValueError` where a value does not fit.
    #[pyo3(signature = (name, /, **values))]
    fn url_for<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
        values: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        hooks(slf.py())?.url_for.bind(slf.py()).call1((slf, name, values))
    }

    /// Has `function()` called once the answer has gone.
    fn after<'py>(&self, py: Python<'py>, function: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if self.after.get().is_none() {
            let _ = self.after.set(PyList::empty(py).unbind());
        }
        self.after.get().expect("set just now").bind(py).append(&function)?;
        Ok(function)
    }

    /// Closes the temporary files of the form: the request has ended.
    fn _close_files(&self, py: Python<'_>) -> PyResult<()> {
        self.close_files(py)
    }

    /// What `after` was given, the list itself or None.
    #[getter]
    fn _after(&self, py: Python<'_>) -> Option<Py<PyList>> {
        self.after.get().map(|list| list.clone_ref(py))
    }

    /// The session if anybody looked at it.
    #[getter]
    fn _session(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.session.get().map(|session| session.clone_ref(py))
    }

    /// `reply_headers` if anybody looked at them.
    #[getter]
    fn _reply_headers(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.reply_fields.get().map(|fields| fields.clone_ref(py))
    }
}

/// Makes the request of a life.
pub(crate) fn make<'py>(
    py: Python<'py>,
    table: &Table,
    life: &super::call::Life,
) -> PyResult<Bound<'py, Request>> {
    let mut request = Request::of(py, &life.environ, Some(&life.app), table.limits);
    if let Some(route) = life.route {
        let route = &table.routes[route];
        request = request.routed(py, &route.object, &route.names, &life.values);
    }
    Bound::new(py, request)
}
