//! `Router`: the table of routes by itself, for those who build a framework of their own.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use trivet_web::router::{self, Found, Method, MethodSet, Template};
use trivet_web::segments::Segments;

use super::call::served;
use super::hooks::{hooks, refusal, refusal_with};
use super::raw;
use super::table::Converters;
use crate::text::bytes_of;

/// Routes and what stands behind them, whatever that is.
#[pyclass(frozen, module = "trivet")]
#[derive(Debug)]
pub(crate) struct Router {
    converters: Converters,
    /// Copied by the first `find`.
    open: Mutex<router::Router>,
    frozen: OnceLock<router::Router>,
    /// By the routes' numbers.
    values: Mutex<Vec<Py<PyAny>>>,
}

impl Router {
    /// A lock that nobody holds while Python code runs: it is free, whatever happened.
    fn values(&self) -> MutexGuard<'_, Vec<Py<PyAny>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Router {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Self {
            converters: Converters::new(py, Vec::new())?,
            open: Mutex::new(router::Router::new()),
            frozen: OnceLock::new(),
            values: Mutex::new(Vec::new()),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Where another thread looks something up, it is in use.
        match self.values.try_lock() {
            Ok(values) => values.iter().try_for_each(|value| visit.call(value)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let values = std::mem::take(&mut *self.values());
        drop(values);
    }

    /// Adds what `find` will give for paths of the template and these methods.
    #[pyo3(signature = (template, value, methods=None))]
    fn add(&self, template: &str, value: Py<PyAny>, methods: Option<Vec<String>>) -> PyResult<()> {
        let wrong = |e: &dyn std::fmt::Display| PyValueError::new_err(e.to_string());
        let late =
            || PyRuntimeError::new_err("the router is in use: add every route before the first `find`");
        if self.frozen.get().is_some() {
            return Err(late());
        }
        let template = Template::parse(template, &|_| None).map_err(|e| wrong(&e))?;
        let methods = methods.unwrap_or_else(|| vec!["GET".to_owned()]);
        let methods = MethodSet::of(methods.iter().map(String::as_str)).map_err(|e| wrong(&e))?;
        let mut open = self.open.lock().map_err(|_| late())?;
        let id = open.routes().len() as u32;
        open.insert(template, methods, id).map_err(|e| wrong(&e))?;
        self.values().push(value);
        Ok(())
    }

    /// What stands behind the route of a request, and the path's parameters, converted. Raises `NotFound` or, with
    /// the methods that there are, `MethodNotAllowed`. GET serves HEAD.
    fn find<'py>(&self, environ: &Bound<'py, PyDict>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyDict>)> {
        let py = environ.py();
        let keys = &hooks(py)?.keys;
        let router = self.frozen.get_or_init(|| {
            let mut router = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
            router.freeze();
            router
        });
        let item = |key| raw::item(environ, key).and_then(|value| value.cast_into::<PyString>().ok());
        let (method, path, script) = (item(&keys.method), item(&keys.path), item(&keys.script));
        let raw = item(&keys.raw_uri).or_else(|| item(&keys.request_uri));
        let mut scratch = [const { Vec::new() }; 4];
        let [of_method, of_path, of_script, of_raw] = &mut scratch;
        let method = method.as_ref().and_then(|m| bytes_of(m, of_method).ok()).unwrap_or(b"GET");
        let path = path.as_ref().map_or(&b""[..], |path| bytes_of(path, of_path).unwrap_or(b"//"));
        let script = script.as_ref().and_then(|s| bytes_of(s, of_script).ok()).unwrap_or_default();
        let raw = raw.as_ref().and_then(|raw| bytes_of(raw, of_raw).ok());
        let segments = Segments::split(path, script, raw.map(|raw| trivet_http::uri::split_query(raw).0));
        match router.find(Method::of(method), &segments) {
            Found::Route { id, params } => {
                let found = PyDict::new(py);
                let route = router.route(id).expect("the router found it");
                for (span, parameter) in params.iter().zip(route.template.parameters()) {
                    let value = self.converters.value(py, &parameter.converter, segments.bytes(span))?;
                    found.set_item(&parameter.name, value)?;
                }
                let value = self.values().get(id as usize).map(|value| value.bind(py).clone());
                Ok((value.ok_or_else(|| PyRuntimeError::new_err("the router is gone"))?, found))
            }
            Found::Method { allow, .. } => {
                Err(refusal_with(py, 405, "", Some(vec![("Allow", served(&allow).join(", "))])))
            }
            Found::Slash { .. } | Found::None => Err(refusal(py, 404, "")),
        }
    }
}
