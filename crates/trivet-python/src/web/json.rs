//! Python objects written as JSON (RFC 8259), without an object in between.
#![allow(unsafe_code, reason = "types are told apart by their addresses")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use trivet_web::json::{write_f64, write_str};

use super::hooks::{Hooks, hooks};
use super::raw;

/// Deeper nesting is an error: it is what a cycle looks like.
const DEPTH_MAX: u32 = 200;
/// Classes whose shape is kept.
const SHAPES_MAX: usize = 1024;

/// How an object of a class is written.
#[derive(Debug)]
enum Shape {
    /// As an object of these attributes.
    Attributes(Py<PyTuple>),
    /// As what this method gives.
    Method(Py<PyString>),
    /// As its `str()`.
    Text,
    /// As its `value`.
    Value,
    /// Ask `jsonable`.
    Ask,
}

/// A class and its shape.
type Kept = (Py<PyAny>, Rc<Shape>);

thread_local! {
    /// By the class's address; the class is kept, so no other can come to stand there.
    static SHAPES: RefCell<HashMap<usize, Kept>> = RefCell::default();
}

/// Writes for one answer. `encoder`: the app's own function for what is not known here.
pub(crate) struct Writer<'a, 'py> {
    py: Python<'py>,
    hooks: &'static Hooks,
    encoder: Option<&'a Py<PyAny>>,
    pub(crate) out: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Str,
    Int,
    Float,
    Bool,
    None,
    Dict,
    List,
    Tuple,
    Other,
}

#[inline]
fn class_of(value: &Bound<'_, PyAny>) -> Class {
    let class = value.get_type_ptr();
    if class == &raw mut ffi::PyUnicode_Type {
        Class::Str
    } else if class == &raw mut ffi::PyLong_Type {
        Class::Int
    } else if class == &raw mut ffi::PyDict_Type {
        Class::Dict
    } else if class == &raw mut ffi::PyList_Type {
        Class::List
    } else if class == &raw mut ffi::PyFloat_Type {
        Class::Float
    } else if class == &raw mut ffi::PyBool_Type {
        Class::Bool
    } else if class == &raw mut ffi::PyTuple_Type {
        Class::Tuple
    } else if value.is_none() {
        Class::None
    } else {
        Class::Other
    }
}

impl<'a, 'py> Writer<'a, 'py> {
    pub(crate) fn new(py: Python<'py>, encoder: Option<&'a Py<PyAny>>) -> PyResult<Self> {
        Ok(Self { py, hooks: hooks(py)?, encoder, out: Vec::with_capacity(512) })
    }

    pub(crate) fn write(&mut self, value: &Bound<'py, PyAny>, depth: u32) -> PyResult<()> {
        if depth > DEPTH_MAX {
            return Err(PyValueError::new_err(format!(
                "JSON nested deeper than {DEPTH_MAX} levels: does the value contain itself?"
            )));
        }
        match class_of(value) {
            Class::Str => {
                // SAFETY: its type has just been compared.
                let text = unsafe { value.cast_unchecked::<PyString>() };
                write_str(raw::utf8(text)?, &mut self.out);
                Ok(())
            }
            Class::Int => self.int(value),
            Class::Float => self.float(value.extract()?),
            Class::Bool => {
                let word: &[u8] = if value.is_truthy()? { b"true" } else { b"false" };
                self.out.extend_from_slice(word);
                Ok(())
            }
            Class::None => {
                self.out.extend_from_slice(b"null");
                Ok(())
            }
            Class::Dict => self.dict(value.cast::<PyDict>()?, depth),
            Class::List => self.list(value.cast::<PyList>()?, depth),
            Class::Tuple => self.tuple(value.cast::<PyTuple>()?, depth),
            Class::Other => self.other(value, depth),
        }
    }

    fn int(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let mut overflow = 0;
        // SAFETY: an int or an object of a subclass; where the value does not fit, `overflow` says so.
        let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &raw mut overflow) };
        if overflow == 0 {
            self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            return Ok(());
        }
        // `int.__repr__`, whatever a subclass says of itself.
        let text = self.py.get_type::<PyInt>().call_method1("__repr__", (value,))?;
        self.out.extend_from_slice(raw::utf8(text.cast::<PyString>()?)?.as_bytes());
        Ok(())
    }

    fn float(&mut self, number: f64) -> PyResult<()> {
        write_f64(number, &mut self.out)
            .map_err(|_| PyValueError::new_err("JSON has no infinity and no NaN: send null or a text"))
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>, depth: u32) -> PyResult<()> {
        self.out.push(b'{');
        let mut position = 0;
        let mut first = true;
        while let Some((key, value)) = raw::dict_next(dict, &mut position) {
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            self.key(&key)?;
            self.out.push(b':');
            self.write(&value, depth + 1)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn key(&mut self, key: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Ok(text) = key.cast::<PyString>() {
            write_str(raw::utf8(text)?, &mut self.out);
            return Ok(());
        }
        // Numbers and the like become texts, as JSON's keys must be.
        let start = self.out.len();
        self.write(key, DEPTH_MAX)?;
        match self.out.get(start) {
            Some(b'"') => Ok(()),
            Some(b'[' | b'{') | None => {
                Err(PyTypeError::new_err(format!("a JSON key cannot be of `{}`", key.get_type().name()?)))
            }
            Some(_) => {
                self.out.insert(start, b'"');
                self.out.push(b'"');
                Ok(())
            }
        }
    }

    fn list(&mut self, list: &Bound<'py, PyList>, depth: u32) -> PyResult<()> {
        self.out.push(b'[');
        let mut at = 0;
        while let Some(value) = raw::list_item(list, at) {
            if at > 0 {
                self.out.push(b',');
            }
            at += 1;
            self.write(&value, depth + 1)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn tuple(&mut self, tuple: &Bound<'py, PyTuple>, depth: u32) -> PyResult<()> {
        self.out.push(b'[');
        for (at, value) in tuple.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.write(&value, depth + 1)?;
        }
        self.out.push(b']');
        Ok(())
    }

    #[cold]
    fn other(&mut self, value: &Bound<'py, PyAny>, depth: u32) -> PyResult<()> {
        if let Some(encoder) = self.encoder {
            let simple = encoder.bind(self.py).call1((value,))?;
            if !simple.is(value) {
                return self.write(&simple, depth + 1);
            }
        }
        let shape = shape_of(self.hooks, value)?;
        match &*shape {
            Shape::Attributes(names) => {
                self.out.push(b'{');
                for (at, name) in names.bind(self.py).iter().enumerate() {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    let name = name.cast_into::<PyString>()?;
                    write_str(raw::utf8(&name)?, &mut self.out);
                    self.out.push(b':');
                    self.write(&value.getattr(&name)?, depth + 1)?;
                }
                self.out.push(b'}');
                Ok(())
            }
            Shape::Method(name) => {
                let simple = value.call_method0(name.bind(self.py))?;
                self.write(&simple, depth + 1)
            }
            Shape::Text => {
                let text = value.str()?;
                write_str(raw::utf8(&text)?, &mut self.out);
                Ok(())
            }
            Shape::Value => self.write(&value.getattr(&self.hooks.keys.value)?, depth + 1),
            Shape::Ask => self.ask(value, depth),
        }
    }

    /// Subclasses of what JSON knows, mappings, sequences; all else is an error.
    fn ask(&mut self, value: &Bound<'py, PyAny>, depth: u32) -> PyResult<()> {
        if let Ok(text) = value.cast::<PyString>() {
            write_str(raw::utf8(text)?, &mut self.out);
            Ok(())
        } else if value.is_instance_of::<PyBool>() {
            self.write(value, depth + 1)
        } else if value.is_instance_of::<PyInt>() {
            self.int(value)
        } else if let Ok(number) = value.cast::<PyFloat>() {
            self.float(number.extract()?)
        } else if let Ok(dict) = value.cast::<PyDict>() {
            self.dict(dict, depth)
        } else if let Ok(list) = value.cast::<PyList>() {
            self.list(list, depth)
        } else {
            let simple = self.hooks.jsonable.bind(self.py).call1((value,))?;
            self.write(&simple, depth + 1)
        }
    }
}

/// Whether an object of this class is an answer in JSON by itself: a dataclass or the like.
pub(crate) fn is_record(hooks: &'static Hooks, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(matches!(*shape_of(hooks, value)?, Shape::Attributes(_)))
}

fn shape_of(hooks: &'static Hooks, value: &Bound<'_, PyAny>) -> PyResult<Rc<Shape>> {
    let place = value.get_type_ptr() as usize;
    if let Some(shape) = SHAPES.with_borrow(|shapes| shapes.get(&place).map(|(_, shape)| shape.clone())) {
        return Ok(shape);
    }
    let py = value.py();
    let class = value.get_type();
    let told = hooks.shape.bind(py).call1((&class,))?;
    let shape = Rc::new(if let Ok(names) = told.cast::<PyTuple>() {
        Shape::Attributes(names.clone().unbind())
    } else if let Ok(text) = told.cast::<PyString>() {
        match raw::utf8(text)? {
            "str" => Shape::Text,
            "value" => Shape::Value,
            _ => Shape::Method(text.clone().unbind()),
        }
    } else {
        Shape::Ask
    });
    SHAPES.with_borrow_mut(|shapes| {
        if shapes.len() < SHAPES_MAX {
            shapes.insert(place, (class.into_any().unbind(), shape.clone()));
        }
    });
    Ok(shape)
}

/// The JSON text of a value, as UTF-8 bytes. `encoder(value)` gives something simpler for what is unknown.
#[pyfunction]
#[pyo3(signature = (value, encoder=None))]
pub(crate) fn json_bytes<'py>(
    value: &Bound<'py, PyAny>,
    encoder: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, pyo3::types::PyBytes>> {
    let py = value.py();
    let mut writer = Writer::new(py, encoder.as_ref())?;
    writer.write(value, 0)?;
    Ok(raw::bytes(py, &writer.out))
}
