//! Python's objects as the engine's values and back.
//!
//! What is a text, a number, a truth value or nothing is copied; everything else is wrapped and asked when the template
//! asks. The interpreter's lock is held throughout: [`Python::attach`] is a look at a thread-local then.
#![allow(unsafe_code, reason = "a look at a type's slot, where asking by name would make an exception")]

use std::cell::RefCell;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{DynObject, Enumerator, Kwargs, Object, ObjectRepr, ValueKind};
use minijinja::{AutoEscape, Error, ErrorKind, Output, State, Value, escape_formatter};
use pyo3::exceptions::{PyAttributeError, PyLookupError, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyInt, PyIterator, PyList, PyMapping, PySequence, PyString, PyTuple,
};

thread_local! {
    /// What a conversion to text raised where the engine has no place for an error.
    static FAILURE: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

pub(super) fn forget_failure() {
    FAILURE.with(|failure| failure.borrow_mut().take());
}

pub(super) fn take_failure() -> Option<PyErr> {
    FAILURE.with(|failure| failure.borrow_mut().take())
}

/// An exception in the engine's words, with itself as the source.
pub(super) fn failure(raised: PyErr) -> Error {
    let text = Python::attach(|py| {
        let kind =
            raised.get_type(py).name().map_or_else(|_| "exception".to_owned(), |name| name.to_string());
        format!("{kind}: {}", raised.value(py))
    });
    Error::new(ErrorKind::InvalidOperation, text).with_source(raised)
}

/// A value that fails when it is used.
fn failing(raised: PyErr) -> Value {
    Value::from(failure(raised))
}

/// Names that lead into the interpreter rather than to data.
fn is_private(name: &str) -> bool {
    name.starts_with("__")
}

pub(super) fn from_python(object: &Bound<'_, PyAny>) -> Value {
    if object.is_none() {
        return Value::from(());
    }
    if let Ok(text) = object.cast::<PyString>() {
        return from_text(text);
    }
    if let Ok(truth) = object.cast_exact::<PyBool>() {
        return Value::from(truth.is_true());
    }
    if object.is_instance_of::<PyInt>() {
        if let Ok(number) = object.extract::<i64>() {
            return Value::from(number);
        }
        if let Ok(number) = object.extract::<i128>() {
            return Value::from(number);
        }
    } else if let Ok(number) = object.cast::<PyFloat>() {
        return Value::from(number.value());
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Value::from_bytes(bytes.as_bytes().to_vec());
    }
    Value::from_object(PyObject { repr: repr_of(object), object: object.clone().unbind() })
}

fn from_text(text: &Bound<'_, PyString>) -> Value {
    let py = text.py();
    if !text.is_exact_instance_of::<PyString>() && text.hasattr(intern!(py, "__html__")).unwrap_or(false) {
        let html = text.call_method0(intern!(py, "__html__")).and_then(|html| html.extract::<String>());
        return html.map_or_else(failing, Value::from_safe_string);
    }
    match text.to_cow() {
        Ok(text) => Value::from(text.as_ref()),
        Err(raised) => failing(raised),
    }
}

fn repr_of(object: &Bound<'_, PyAny>) -> ObjectRepr {
    let py = object.py();
    if object.is_instance_of::<PyDict>() {
        ObjectRepr::Map
    } else if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        ObjectRepr::Seq
    } else if !is_iterable(object) {
        ObjectRepr::Plain
    } else if has(object, intern!(py, "__getitem__")) && has(object, intern!(py, "keys"))
        || object.cast::<PyMapping>().is_ok()
    {
        ObjectRepr::Map
    } else if object.cast::<PySequence>().is_ok() {
        ObjectRepr::Seq
    } else {
        ObjectRepr::Iterable
    }
}

/// Whether its class has `__iter__`. Most objects have not, and being told so by `hasattr` is an exception that is made
/// and dropped: 3,900 of 11,300 instructions for each object of a loop.
fn is_iterable(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the type lives as long as its object, and since Python 3.10 types of every kind may be asked.
    unsafe { !ffi::PyType_GetSlot(object.get_type_ptr(), ffi::Py_tp_iter).is_null() }
}

/// Special methods are those of the class: a class itself is no container of what its instances contain.
fn has(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> bool {
    object.get_type().hasattr(name).unwrap_or(false)
}

pub(super) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    if let Some(wrapped) = value.downcast_object_ref::<PyObject>() {
        return Ok(wrapped.object.bind(py).clone());
    }
    if let Some(context) = value.downcast_object_ref::<Context>() {
        return Ok(context.0.bind(py).clone().into_any());
    }
    let items = |value: &Value| -> PyResult<Vec<Bound<'py, PyAny>>> {
        let iter = value.try_iter().map_err(|error| PyTypeError::new_err(error.to_string()))?;
        iter.map(|item| to_python(py, &item)).collect()
    };
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => py.None().into_bound(py),
        ValueKind::Bool => PyBool::new(py, value.is_true()).to_owned().into_any(),
        ValueKind::Number => number(py, value)?,
        ValueKind::String => {
            let text = PyString::new(py, value.as_str().unwrap_or_default());
            if value.is_safe() {
                let module = py.import(intern!(py, "trivet.templates"))?;
                module.getattr(intern!(py, "Markup"))?.call1((text,))?
            } else {
                text.into_any()
            }
        }
        ValueKind::Bytes => PyBytes::new(py, value.as_bytes().unwrap_or_default()).into_any(),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = items(value)?;
            if value.is_tuple() {
                PyTuple::new(py, items)?.into_any()
            } else {
                PyList::new(py, items)?.into_any()
            }
        }
        ValueKind::Map => {
            let dict = PyDict::new(py);
            let keys = value.try_iter().map_err(|error| PyTypeError::new_err(error.to_string()))?;
            for key in keys {
                let item = value.get_item(&key).unwrap_or_default();
                dict.set_item(to_python(py, &key)?, to_python(py, &item)?)?;
            }
            dict.into_any()
        }
        ValueKind::Invalid => return Err(PyTypeError::new_err(value.to_string())),
        _ => PyString::new(py, &value.to_string()).into_any(),
    })
}

fn number<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    if !value.is_integer() {
        let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
        return Ok(PyFloat::new(py, number).into_any());
    }
    if let Some(number) = value.as_i64() {
        return Ok(number.into_pyobject(py)?.into_any());
    }
    match i128::try_from(value.clone()) {
        Ok(number) => Ok(number.into_pyobject(py)?.into_any()),
        Err(_) => py.get_type::<PyInt>().call1((value.to_string(),)),
    }
}

/// Calls a Python callable with the engine's arguments, those by name included.
pub(super) fn call(callable: &Bound<'_, PyAny>, args: &[Value]) -> Result<Value, Error> {
    let py = callable.py();
    let called = || -> PyResult<Value> {
        let (positional, named) = match args.split_last() {
            Some((last, others)) if last.is_kwargs() => (others, Kwargs::try_from(last.clone()).ok()),
            _ => (args, None),
        };
        let positional = positional.iter().map(|arg| to_python(py, arg)).collect::<PyResult<Vec<_>>>()?;
        let positional = PyTuple::new(py, positional)?;
        let result = match named {
            None => callable.call1(positional)?,
            Some(named) => {
                let kwargs = PyDict::new(py);
                for name in named.args() {
                    let value = named.peek::<Value>(name).unwrap_or_default();
                    kwargs.set_item(name, to_python(py, &value)?)?;
                }
                callable.call(positional, Some(&kwargs))?
            }
        };
        Ok(from_python(&result))
    };
    called().map_err(failure)
}

/// A method that the engine's own value does not have: Python's value of that kind may.
pub(super) fn call_method_of(value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if is_private(name)
        || value.is_undefined()
        || matches!(value.kind(), ValueKind::Plain | ValueKind::Invalid)
    {
        return Err(Error::from(ErrorKind::UnknownMethod));
    }
    Python::attach(|py| {
        let object = to_python(py, value).map_err(failure)?;
        match object.getattr(name) {
            Ok(method) => call(&method, args),
            Err(raised) if raised.is_instance_of::<PyAttributeError>(py) => {
                Err(Error::from(ErrorKind::UnknownMethod))
            }
            Err(raised) => Err(failure(raised)),
        }
    })
}

/// Writes a value as Python would: `None`, `True`, `1e+16`; objects by `__html__` or `str`.
pub(super) fn write(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        return put(out, state, text, value.is_safe());
    }
    match value.kind() {
        ValueKind::None => return put(out, state, "None", true),
        ValueKind::Bool => return put(out, state, if value.is_true() { "True" } else { "False" }, true),
        ValueKind::Number if !value.is_integer() => {
            let text =
                Python::attach(|py| number(py, value).and_then(|number| Ok(number.str()?.to_string())));
            return put(out, state, &text.map_err(failure)?, true);
        }
        // Undefined ones may be errors, and the engine knows what its own containers look like.
        ValueKind::Undefined | ValueKind::Invalid | ValueKind::Number => {
            return escape_formatter(out, state, value);
        }
        _ => {}
    }
    let Some(wrapped) = value.downcast_object_ref::<PyObject>() else {
        return put(out, state, &value.to_string(), false);
    };
    let (text, safe) = Python::attach(|py| -> PyResult<(String, bool)> {
        let object = wrapped.object.bind(py);
        if has(object, intern!(py, "__html__")) {
            return Ok((object.call_method0(intern!(py, "__html__"))?.extract()?, true));
        }
        Ok((object.str()?.to_cow()?.into_owned(), false))
    })
    .map_err(failure)?;
    put(out, state, &text, safe)
}

/// Writes text, escaped where the template's output is HTML: five characters, so that paths stay readable.
fn put(out: &mut Output, state: &State, text: &str, safe: bool) -> Result<(), Error> {
    if safe || !matches!(state.auto_escape(), AutoEscape::Html) {
        return out.write_str(text).map_err(Error::from);
    }
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        let escaped = match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&#34;",
            _ => "&#39;",
        };
        out.write_str(&rest[..at]).and_then(|()| out.write_str(escaped)).map_err(Error::from)?;
        rest = &rest[at + 1..];
    }
    out.write_str(rest).map_err(Error::from)
}

/// The variables of a template: a dict, read as names are asked for.
pub(super) struct Context(Py<PyDict>);

impl Context {
    pub(super) fn new(variables: &Bound<'_, PyDict>) -> Self {
        Self(variables.clone().unbind())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context")
    }
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        Python::attach(|py| match self.0.bind(py).get_item(key) {
            Ok(found) => found.map(|object| from_python(&object)),
            Err(raised) => Some(failing(raised)),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Python::attach(|py| {
            Enumerator::Values(self.0.bind(py).keys().iter().map(|key| from_python(&key)).collect())
        })
    }
}

/// Any other object.
pub(super) struct PyObject {
    object: Py<PyAny>,
    repr: ObjectRepr,
}

impl fmt::Debug for PyObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Python::attach(|py| match self.object.bind(py).repr() {
            Ok(text) => f.write_str(&text.to_string_lossy()),
            Err(_) => f.write_str("<an object whose repr fails>"),
        })
    }
}

impl PyObject {
    fn attribute(object: &Bound<'_, PyAny>, name: &str) -> Option<Value> {
        if is_private(name) {
            return None;
        }
        match object.getattr(name) {
            Ok(found) => Some(from_python(&found)),
            Err(raised) if raised.is_instance_of::<PyAttributeError>(object.py()) => None,
            Err(raised) => Some(failing(raised)),
        }
    }

    fn item(object: &Bound<'_, PyAny>, key: &Value) -> Option<Value> {
        let py = object.py();
        let found = to_python(py, key).and_then(|key| object.get_item(key));
        match found {
            Ok(found) => Some(from_python(&found)),
            // Not there, or nothing that has items of this kind.
            Err(raised)
                if raised.is_instance_of::<PyLookupError>(py) || raised.is_instance_of::<PyTypeError>(py) =>
            {
                None
            }
            Err(raised) => Some(failing(raised)),
        }
    }
}

impl Object for PyObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        self.repr
    }

    /// `a["b"]`: the item, else the attribute.
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Python::attach(|py| {
            let object = self.object.bind(py);
            Self::item(object, key).or_else(|| Self::attribute(object, key.as_str()?))
        })
    }

    /// `a.b`: the attribute, else the item; for mappings the item first, which is what they are for.
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        Python::attach(|py| {
            let object = self.object.bind(py);
            let item = || match self.repr {
                ObjectRepr::Seq | ObjectRepr::Iterable => None,
                _ => Self::item(object, &Value::from(key)),
            };
            if self.repr == ObjectRepr::Map {
                item().or_else(|| Self::attribute(object, key))
            } else {
                Self::attribute(object, key).or_else(item)
            }
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Python::attach(|py| {
            let object = self.object.bind(py);
            match self.repr {
                ObjectRepr::Seq => match object.len() {
                    Ok(length) => Enumerator::Seq(length),
                    Err(raised) => Enumerator::Values(vec![failing(raised)]),
                },
                ObjectRepr::Map => {
                    // Rows of a database have `keys`, and give their values when they are iterated over.
                    let keys = object.call_method0(intern!(py, "keys")).and_then(|keys| keys.try_iter());
                    match keys.and_then(Iterator::collect::<PyResult<Vec<_>>>) {
                        Ok(keys) => Enumerator::Values(keys.iter().map(from_python).collect()),
                        Err(raised) => Enumerator::Values(vec![failing(raised)]),
                    }
                }
                ObjectRepr::Iterable => match object.try_iter() {
                    Ok(iterator) => Enumerator::Iter(Box::new(Items(Some(iterator.unbind())))),
                    Err(raised) => Enumerator::Values(vec![failing(raised)]),
                },
                _ => Enumerator::NonEnumerable,
            }
        })
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        if self.repr == ObjectRepr::Plain {
            return None;
        }
        // Asking an iterator for its length must not use it up.
        Python::attach(|py| self.object.bind(py).len().ok())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        Python::attach(|py| {
            self.object.bind(py).is_truthy().unwrap_or_else(|raised| {
                FAILURE.with(|failure| failure.borrow_mut().get_or_insert(raised).clone_ref(py));
                false
            })
        })
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        Python::attach(|py| call(self.object.bind(py), args))
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        if is_private(method) {
            return Err(Error::from(ErrorKind::UnknownMethod));
        }
        Python::attach(|py| {
            let object = self.object.bind(py);
            match object.getattr(method) {
                Ok(found) => call(&found, args),
                Err(raised) if raised.is_instance_of::<PyAttributeError>(py) => {
                    match object.get_item(method) {
                        Ok(found) if self.repr == ObjectRepr::Map => call(&found, args),
                        _ => Err(Error::new(ErrorKind::UnknownMethod, raised.value(py).to_string())),
                    }
                }
                Err(raised) => Err(failure(raised)),
            }
        })
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        Python::attach(|py| {
            let (one, two) = (self.object.bind(py), other.object.bind(py));
            if one.eq(two).unwrap_or(false) {
                return Some(Ordering::Equal);
            }
            let less = one.lt(two).or_else(|_| two.gt(one));
            // What has no order still needs one that is not `Equal`: that of their places in memory.
            Some(match less {
                Ok(true) => Ordering::Less,
                Ok(false) => Ordering::Greater,
                Err(_) => (one.as_ptr() as usize).cmp(&(two.as_ptr() as usize)),
            })
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Python::attach(|py| match self.object.bind(py).str() {
            Ok(text) => f.write_str(&text.to_string_lossy()),
            Err(raised) => {
                // An error here would be a panic of whoever asks for the text.
                FAILURE.with(|failure| *failure.borrow_mut() = Some(raised));
                Ok(())
            }
        })
    }
}

/// What a Python iterator gives, one at a time; what it raises ends it.
struct Items(Option<Py<PyIterator>>);

impl Iterator for Items {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        Python::attach(|py| {
            let item = self.0.as_ref()?.bind(py).clone().next();
            match item {
                Some(Ok(item)) => Some(from_python(&item)),
                Some(Err(raised)) => {
                    self.0 = None;
                    Some(failing(raised))
                }
                None => {
                    self.0 = None;
                    None
                }
            }
        })
    }
}
