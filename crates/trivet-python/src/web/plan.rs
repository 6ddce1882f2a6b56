//! What a function of the app is called with: planned once by `plan.py`, evaluated here for each request.

use std::borrow::Cow;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyList, PyString};
use trivet_web::query;

use super::body;
use super::call::Life;
use super::hooks::refusal;
use super::raw;
use super::table::Table;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The path's parameter at this place, or a pattern's capture.
    Path(usize),
    Query,
    Form,
    Upload,
    /// The body as the given function decodes it.
    Body,
    Request,
    Session,
    /// What the provider at this place gives.
    Provided(usize),
    /// An entry of the environ.
    Environ,
}

/// What a text becomes.
#[derive(Debug)]
pub(crate) enum Kind {
    /// What there is, of whatever class.
    Same,
    Str,
    Int,
    Float,
    Bool,
    /// A function of a text that raises `ValueError` or `TypeError`.
    Call(Py<PyAny>),
}

#[derive(Debug)]
struct Param {
    source: Source,
    /// Its name in the request.
    key: Box<str>,
    kind: Kind,
    many: bool,
    /// An empty text is `None`.
    empty_is_none: bool,
    /// None: it is required.
    default: Option<Py<PyAny>>,
    /// Set where it can be given by name only.
    named: Option<Py<PyString>>,
}

/// The arguments of one function.
#[derive(Debug)]
pub(crate) struct Plan {
    params: Box<[Param]>,
    query: bool,
    form: bool,
    named: bool,
}

/// Decided arguments.
#[derive(Debug)]
pub(crate) struct Args<'py> {
    list: Positional<'py>,
    named: Option<Bound<'py, PyDict>>,
}

#[derive(Debug)]
enum Positional<'py> {
    None,
    One([Bound<'py, PyAny>; 1]),
    Many(Vec<Bound<'py, PyAny>>),
}

impl<'py> Args<'py> {
    #[inline]
    pub(crate) fn call(&self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match &self.named {
            None => raw::call(function.py(), function, self.list()),
            Some(named) => raw::call_named(function, self.list(), named),
        }
    }

    pub(crate) fn list(&self) -> &[Bound<'py, PyAny>] {
        match &self.list {
            Positional::None => &[],
            Positional::One(one) => one,
            Positional::Many(many) => many,
        }
    }

    pub(crate) fn named(&self) -> Option<&Bound<'py, PyDict>> {
        self.named.as_ref()
    }
}

type Told<'py> = (
    String,
    usize,
    String,
    Bound<'py, PyAny>,
    bool,
    bool,
    bool,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyString>>,
);

impl Plan {
    /// From `plan.py`: (source, place, key, kind, many, empty is None, required, default, name or None) for each.
    pub(crate) fn new(told: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut params = Vec::new();
        for param in told.try_iter()? {
            let (source, place, key, kind, many, empty_is_none, required, default, named) =
                param?.extract::<Told<'_>>()?;
            let source = match source.as_str() {
                "path" => Source::Path(place),
                "query" => Source::Query,
                "form" => Source::Form,
                "upload" => Source::Upload,
                "body" => Source::Body,
                "request" => Source::Request,
                "session" => Source::Session,
                "provided" => Source::Provided(place),
                "environ" => Source::Environ,
                _ => return Err(PyValueError::new_err(format!("`{source}` is no source of an argument"))),
            };
            params.push(Param {
                source,
                key: key.into(),
                kind: Kind::new(&kind)?,
                many,
                empty_is_none,
                default: (!required).then(|| default.unbind()),
                named: named.map(Bound::unbind),
            });
        }
        Ok(Self {
            query: params.iter().any(|p| p.source == Source::Query),
            form: params.iter().any(|p| p.source == Source::Form),
            named: params.iter().any(|p| p.named.is_some()),
            params: params.into(),
        })
    }

    /// Every reference that it holds, for the collector of cycles.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for Param { kind, default, named, .. } in &self.params {
            if let Kind::Call(function) = kind {
                visit.call(function)?;
            }
            visit.call(default)?;
            visit.call(named)?;
        }
        Ok(())
    }

    /// The arguments for this request. `path`: a pattern's captures, in its order; `None` for the route's parameters.
    #[inline]
    pub(crate) fn args<'py>(
        &self,
        py: Python<'py>,
        table: &Table,
        life: &mut Life,
        path: Option<&[Bound<'py, PyAny>]>,
    ) -> PyResult<Args<'py>> {
        if let ([param], false) = (&*self.params, self.named) {
            if let Source::Path(place) = param.source {
                let value = param.of_path(py, life, path, place)?;
                return Ok(Args { list: Positional::One([value]), named: None });
            }
        } else if self.params.is_empty() {
            return Ok(Args { list: Positional::None, named: None });
        }
        self.all(py, table, life, path)
    }

    fn all<'py>(
        &self,
        py: Python<'py>,
        table: &Table,
        life: &mut Life,
        path: Option<&[Bound<'py, PyAny>]>,
    ) -> PyResult<Args<'py>> {
        let query_text = if self.query { life.query_string(py)? } else { None };
        let mut query_bytes = Vec::new();
        let mut query: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
        if let Some(text) = &query_text {
            let bytes = crate::text::bytes_of(text, &mut query_bytes)
                .map_err(|_| refusal(py, 400, "the query is not text"))?;
            query = pairs(py, bytes, table.limits.parameters_max)?;
        }
        if self.form {
            let request = life.request(py, table)?;
            body::parse_form(&request)?;
        }
        let mut list = Vec::with_capacity(self.params.len());
        let mut named = None;
        for param in &self.params {
            let value = match param.source {
                Source::Path(place) => param.of_path(py, life, path, place)?,
                Source::Query => {
                    let texts = query.iter().filter(|(key, _)| *key == *param.key).map(|(_, v)| v.as_ref());
                    param.of_texts(py, "query parameter", texts)?
                }
                Source::Form => {
                    let request = life.request(py, table)?;
                    let form = request.get().form_data();
                    let texts = form.fields.iter().filter(|(k, _)| **k == *param.key).map(|(_, v)| &**v);
                    param.of_texts(py, "form field", texts)?
                }
                Source::Upload => param.of_upload(py, &life.request(py, table)?)?,
                Source::Body => {
                    let request = life.request(py, table)?;
                    let Kind::Call(decode) = &param.kind else {
                        return Err(PyTypeError::new_err("a body needs a decoder"));
                    };
                    decode.bind(py).call1((request,))?
                }
                Source::Request => life.request(py, table)?.into_any(),
                Source::Session => super::request::session(&life.request(py, table)?)?,
                Source::Provided(place) => life.provided(py, table, place)?,
                Source::Environ => life.environ.bind(py).as_any().get_item(&*param.key)?,
            };
            match &param.named {
                None => list.push(value),
                Some(name) => {
                    let named = named.get_or_insert_with(|| PyDict::new(py));
                    named.set_item(name, value)?;
                }
            }
        }
        Ok(Args { list: Positional::Many(list), named })
    }
}

impl Param {
    #[inline]
    fn of_path<'py>(
        &self,
        py: Python<'py>,
        life: &Life,
        path: Option<&[Bound<'py, PyAny>]>,
        place: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let value = match path {
            None => life.values.get(place).map(|value| value.bind(py)),
            Some(path) => path.get(place),
        };
        let value = value.ok_or_else(|| PyValueError::new_err("the path has fewer parameters"))?;
        if matches!(self.kind, Kind::Same) {
            return Ok(value.clone());
        }
        // The annotation asks for more than the path's converter gives. What does not fit is not there.
        let text = value.str()?;
        match self.kind.convert(py, raw::utf8(&text)?)? {
            Some(value) => Ok(value),
            None => Err(refusal(py, 404, "Not found")),
        }
    }

    fn of_texts<'py, 'a>(
        &self,
        py: Python<'py>,
        what: &str,
        mut texts: impl Iterator<Item = &'a str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.many {
            let list = PyList::empty(py);
            for text in texts {
                list.append(self.convert(py, what, text)?)?;
            }
            if list.is_empty()
                && let Some(default) = &self.default
                && !default.bind(py).is_instance_of::<PyList>()
            {
                return Ok(default.bind(py).clone());
            }
            if list.is_empty() {
                return match &self.default {
                    // A copy for each request: a list that is shared is a trap.
                    Some(default) => default.bind(py).call_method0("copy"),
                    None => Err(refusal(py, 400, &format!("the {what} `{}` is missing", self.key))),
                };
            }
            return Ok(list.into_any());
        }
        let Some(text) = texts.next() else {
            return match &self.default {
                Some(default) => Ok(default.bind(py).clone()),
                None => Err(refusal(py, 400, &format!("the {what} `{}` is missing", self.key))),
            };
        };
        if texts.next().is_some() {
            return Err(refusal(py, 400, &format!("the {what} `{}` comes more than once", self.key)));
        }
        self.convert(py, what, text)
    }

    fn convert<'py>(&self, py: Python<'py>, what: &str, text: &str) -> PyResult<Bound<'py, PyAny>> {
        if text.is_empty() && self.empty_is_none {
            return Ok(py.None().into_bound(py));
        }
        match self.kind.convert(py, text)? {
            Some(value) => Ok(value),
            None if matches!(self.kind, Kind::Int) && is_digits(text) => {
                Err(refusal(py, 400, &format!("the {what} `{}` is beyond 64 bits", self.key)))
            }
            None => {
                Err(refusal(py, 400, &format!("the {what} `{}` is not {}", self.key, self.kind.name(py))))
            }
        }
    }

    fn of_upload<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, super::request::Request>,
    ) -> PyResult<Bound<'py, PyAny>> {
        body::parse_form(request)?;
        let found: Vec<_> = {
            let form = request.get().form_data();
            form.files
                .iter()
                .filter(|(key, _)| **key == *self.key)
                .map(|(_, upload)| upload.bind(py).clone())
                .collect()
        };
        if self.many {
            return Ok(PyList::new(py, found)?.into_any());
        }
        match (found.as_slice(), &self.default) {
            ([upload], _) => Ok(upload.clone()),
            ([], Some(default)) => Ok(default.bind(py).clone()),
            ([], None) => Err(refusal(py, 400, &format!("the upload `{}` is missing", self.key))),
            _ => Err(refusal(py, 400, &format!("the upload `{}` comes more than once", self.key))),
        }
    }
}

impl Kind {
    fn new(told: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(name) = told.extract::<String>() {
            return match name.as_str() {
                "same" => Ok(Self::Same),
                "str" => Ok(Self::Str),
                "int" => Ok(Self::Int),
                "float" => Ok(Self::Float),
                "bool" => Ok(Self::Bool),
                _ => Err(PyValueError::new_err(format!("`{name}` is no kind of a value"))),
            };
        }
        Ok(Self::Call(told.clone().unbind()))
    }

    fn name(&self, py: Python<'_>) -> String {
        match self {
            Self::Same | Self::Str => "a text".to_owned(),
            Self::Int => "an integer".to_owned(),
            Self::Float => "a number".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Call(function) => function
                .bind(py)
                .getattr("expects")
                .and_then(|text| text.extract())
                .unwrap_or_else(|_| "of the right form".to_owned()),
        }
    }

    /// `None`: the text is not of this kind.
    pub(crate) fn convert<'py>(&self, py: Python<'py>, text: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(match self {
            Self::Same | Self::Str => Some(PyString::new(py, text).into_any()),
            Self::Int => match integer(text) {
                Some(number) => Some(number.into_pyobject(py)?.into_any()),
                None => None,
            },
            Self::Float => number(py, text),
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "on" | "yes" => Some(true),
                "0" | "false" | "off" | "no" | "" => Some(false),
                _ => None,
            }
            .map(|b| pyo3::types::PyBool::new(py, b).to_owned().into_any()),
            Self::Call(function) => match function.bind(py).call1((text,)) {
                Ok(value) => Some(value),
                Err(e) if e.is_instance_of::<PyValueError>(py) || e.is_instance_of::<PyTypeError>(py) => None,
                Err(e) if e.is_instance_of::<pyo3::exceptions::PyArithmeticError>(py) => None,
                Err(e) => return Err(e),
            },
        })
    }
}

/// ASCII digits with a sign before them: no spaces, underscores or other scripts' digits. Of 64 bits: a database would
/// answer a larger one with an exception, and that is not for a stranger to cause.
fn integer(text: &str) -> Option<i64> {
    if is_digits(text) { text.parse().ok() } else { None }
}

fn is_digits(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn number<'py>(py: Python<'py>, text: &str) -> Option<Bound<'py, PyAny>> {
    if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
        return None;
    }
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite())?;
    Some(PyFloat::new(py, number).into_any())
}

/// The pairs of a query or a form, or the refusal.
pub(crate) fn pairs<'a>(
    py: Python<'_>,
    bytes: &'a [u8],
    parameters_max: usize,
) -> PyResult<Vec<(Cow<'a, str>, Cow<'a, str>)>> {
    query::pairs(bytes, query::Limits { parameters_max })
        .collect::<Result<_, _>>()
        .map_err(|e| refusal(py, e.status(), &e.to_string()))
}
