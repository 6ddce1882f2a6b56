//! Header fields of an answer: checked when they are set, so that sending them is no more than handing them over.

use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyMapping, PyString, PyTuple};
use trivet_http::field;
use trivet_http::h1::response::{ResponseName, response_name, valid_name, valid_value};

use super::hooks::hooks;
use super::raw;
use crate::text::bytes_of;

/// Header fields in order, by names in any case. A line break in a name or value is refused (`ValueError`).
#[pyclass(module = "trivet", subclass, mapping)]
#[derive(Debug)]
pub(crate) struct Headers {
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    /// (name, value), both exactly `str`: as WSGI hands it over.
    pair: Py<PyTuple>,
    known: Known,
}

/// Names that sending looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Type,
    Length,
    Other,
}

/// Which of them a list has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Has {
    pub(crate) media: bool,
    pub(crate) length: bool,
}

impl Field {
    fn new(name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = name.py();
        let value = exact(value)?;
        let known = check(name, value.as_any())?;
        let name = exact(name)?;
        Ok(Self { pair: PyTuple::new(py, [name, value])?.unbind(), known })
    }

    /// A field that we wrote ourselves.
    fn made(pair: &Py<PyTuple>, py: Python<'_>, known: Known) -> Self {
        Self { pair: pair.clone_ref(py), known }
    }

    fn is(&self, py: Python<'_>, name: &[u8]) -> bool {
        self.pair
            .bind(py)
            .get_borrowed_item(0)
            .is_ok_and(|own| bytes_of(&own, &mut Vec::new()).is_ok_and(|own| own.eq_ignore_ascii_case(name)))
    }

    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(self.pair.bind(py).get_item(1)?.cast_into::<PyString>()?)
    }

    fn name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(self.pair.bind(py).get_item(0)?.cast_into::<PyString>()?)
    }
}

/// A value as exactly a `str`.
fn exact<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    if let Ok(text) = value.cast_exact::<PyString>() {
        return Ok(text.clone());
    }
    let text = value.str()?;
    // `str()` of a class that derives from it may be one of its own.
    match text.cast_exact::<PyString>() {
        Ok(text) => Ok(text.clone()),
        Err(_) => Ok(PyString::new(value.py(), raw::utf8(&text)?)),
    }
}

impl Headers {
    /// The fields for a new `Response`; a text is HTML unless somebody says otherwise.
    fn of(
        py: Python<'_>,
        fields: Option<&Bound<'_, PyAny>>,
        media: Option<&Bound<'_, PyAny>>,
        is_text: bool,
    ) -> PyResult<Self> {
        let mut made = match fields {
            None => Self { fields: Vec::with_capacity(2) },
            Some(fields) => Self::read(fields)?,
        };
        if let Some(media) = media {
            let field = Field::new(hooks(py)?.heads.content_type.bind(py), media)?;
            made.fields.retain(|field| field.known != Known::Type);
            made.fields.push(field);
        } else if is_text && !made.has().media {
            made.fields.push(Field::made(&hooks(py)?.heads.html, py, Known::Type));
        }
        Ok(made)
    }

    /// What is handed over as fields: `Headers`, a mapping (lists and tuples are several fields), or pairs.
    pub(crate) fn read(fields: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = fields.py();
        if let Ok(other) = fields.cast::<Self>() {
            return Ok(other.try_borrow()?.clone_in(py));
        }
        let mut made = Vec::new();
        if let Ok(dict) = fields.cast_exact::<PyDict>() {
            for (name, value) in dict {
                add_all(&mut made, &name, &value)?;
            }
        } else if let Ok(mapping) = fields.cast::<PyMapping>() {
            for pair in mapping.items()?.iter() {
                let (name, value) = two(&pair)?;
                add_all(&mut made, &name, &value)?;
            }
        } else {
            for pair in fields.try_iter()? {
                let (name, value) = two(&pair?)?;
                made.push(Field::new(&name, &value)?);
            }
        }
        Ok(Self { fields: made })
    }

    /// With one field, the media type, which we wrote ourselves.
    pub(crate) fn with(py: Python<'_>, media: &Py<PyTuple>) -> Self {
        Self { fields: vec![Field::made(media, py, Known::Type)] }
    }

    fn clone_in(&self, py: Python<'_>) -> Self {
        let fields =
            self.fields.iter().map(|field| Field { pair: field.pair.clone_ref(py), known: field.known });
        Self { fields: fields.collect() }
    }

    /// Adds our field that keeps an answer out of caches, unless it speaks of them itself.
    pub(crate) fn keep_private(&mut self, py: Python<'_>, pair: &Py<PyTuple>) {
        if !self.fields.iter().any(|field| field.is(py, b"cache-control") || field.is(py, b"expires")) {
            self.fields.push(Field::made(pair, py, Known::Other));
        }
    }

    /// Each of the given fields replaces those of its name.
    pub(crate) fn take(&mut self, py: Python<'_>, given: Self) -> PyResult<()> {
        for field in &given.fields {
            match field.known {
                Known::Other => self.drop_all(py, raw::utf8(&field.name(py)?)?.as_bytes()),
                known => self.fields.retain(|own| own.known != known),
            }
        }
        self.fields.extend(given.fields);
        Ok(())
    }

    /// The list for `start_response`: those that `wanted` keeps.
    pub(crate) fn list<'py>(
        &self,
        py: Python<'py>,
        wanted: impl Fn(Known) -> bool,
    ) -> PyResult<(Bound<'py, PyList>, Has)> {
        let list = PyList::empty(py);
        let mut has = Has::default();
        for field in self.fields.iter().filter(|field| wanted(field.known)) {
            has.add(field.known);
            list.append(&field.pair)?;
        }
        Ok((list, has))
    }

    fn has(&self) -> Has {
        let mut has = Has::default();
        self.fields.iter().for_each(|field| has.add(field.known));
        has
    }

    fn first<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        let Ok(name) = raw::utf8(name) else { return Ok(None) };
        self.fields
            .iter()
            .find(|field| field.is(py, name.as_bytes()))
            .map(|field| field.value(py))
            .transpose()
    }

    fn drop_all(&mut self, py: Python<'_>, name: &[u8]) {
        self.fields.retain(|field| !field.is(py, name));
    }
}

impl Has {
    const fn add(&mut self, known: Known) {
        match known {
            Known::Type => self.media = true,
            Known::Length => self.length = true,
            Known::Other => {}
        }
    }
}

/// A name and a value, as a tuple or a list.
fn two<'py>(pair: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if (pair.is_instance_of::<PyTuple>() || pair.is_instance_of::<PyList>()) && pair.len()? == 2 {
        return Ok((pair.get_item(0)?, pair.get_item(1)?));
    }
    Err(PyTypeError::new_err("header fields are a mapping, or pairs of a name and a value"))
}

/// A field of a mapping: each of several values is a field.
fn add_all(fields: &mut Vec<Field>, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        for value in value.try_iter()? {
            fields.push(Field::new(name, &value?)?);
        }
        return Ok(());
    }
    fields.push(Field::new(name, value)?);
    Ok(())
}

// What runs code of others (a value's `__str__`, an iterator) comes before the fields are borrowed.
#[pymethods]
impl Headers {
    #[new]
    #[pyo3(signature = (fields = None))]
    pub(crate) fn new(py: Python<'_>, fields: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Self::of(py, fields, None, false)
    }

    /// One more field, whether there is one of that name or not.
    fn add(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let field = Field::new(name, value)?;
        slf.try_borrow_mut()?.fields.push(field);
        Ok(())
    }

    /// The first value of that name.
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyString>> {
        self.first(py, name)?.ok_or_else(|| PyKeyError::new_err(name.clone().unbind()))
    }

    /// The only field of that name from now on.
    fn __setitem__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let field = Field::new(name, value)?;
        slf.try_borrow_mut()?.take(slf.py(), Self { fields: vec![field] })
    }

    fn __delitem__(&mut self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<()> {
        let before = self.fields.len();
        self.drop_all(py, raw::utf8(name)?.as_bytes());
        if self.fields.len() == before {
            return Err(PyKeyError::new_err(name.clone().unbind()));
        }
        Ok(())
    }

    fn __contains__(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> bool {
        let Ok(name) = name.cast::<PyString>() else { return false };
        raw::utf8(name).is_ok_and(|name| self.fields.iter().any(|field| field.is(py, name.as_bytes())))
    }

    /// The names, each once, as they were first written.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.keys(py)?.try_iter()
    }

    fn __len__(&self) -> usize {
        self.fields.len()
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let Ok(other) = other.cast::<Self>() else { return Ok(py.NotImplemented()) };
        let other = other.try_borrow()?;
        let mut same = self.fields.len() == other.fields.len();
        for (a, b) in self.fields.iter().zip(&other.fields) {
            let name = a.name(py)?;
            same = same && b.is(py, raw::utf8(&name)?.as_bytes()) && a.value(py)?.as_any().eq(b.value(py)?)?;
        }
        Ok(same.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    #[classattr]
    const __hash__: Option<Py<PyAny>> = None;

    /// The first value of that name.
    #[pyo3(signature = (name, default = None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.first(py, name)?.map(Bound::into_any).or(default))
    }

    /// Every value of that name.
    fn all<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Vec<Bound<'py, PyString>>> {
        let name = raw::utf8(name)?.as_bytes();
        self.fields.iter().filter(|field| field.is(py, name)).map(|field| field.value(py)).collect()
    }

    /// Adds the field unless there is one of that name; gives the value that is there.
    fn setdefault<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyString>> {
        if let Some(found) = slf.try_borrow()?.first(slf.py(), name)? {
            return Ok(found);
        }
        let field = Field::new(name, value)?;
        // The value's own code may have set it.
        if let Some(found) = slf.try_borrow()?.first(slf.py(), name)? {
            return Ok(found);
        }
        let value = field.value(slf.py());
        slf.try_borrow_mut()?.fields.push(field);
        value
    }

    /// Takes every field of that name out and gives the first value.
    #[pyo3(signature = (name, default = None))]
    fn pop<'py>(
        &mut self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = self.first(py, name)?;
        if found.is_some() {
            self.drop_all(py, raw::utf8(name)?.as_bytes());
        }
        Ok(found.map(Bound::into_any).or(default))
    }

    /// All fields in order.
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.fields.iter().map(|field| field.pair.bind(py)))
    }

    /// The names, each once, as they were first written: makes `dict(headers)` work.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let names = PyList::empty(py);
        for (at, field) in self.fields.iter().enumerate() {
            let name = field.name(py)?;
            let text = raw::utf8(&name)?.as_bytes();
            if !self.fields[..at].iter().any(|before| before.is(py, text)) {
                names.append(name)?;
            }
        }
        Ok(names)
    }

    /// Each given field replaces those of its name; several given ones of one name all stay.
    fn update(slf: &Bound<'_, Self>, fields: &Bound<'_, PyAny>) -> PyResult<()> {
        let given = Self::read(fields)?;
        slf.try_borrow_mut()?.take(slf.py(), given)
    }

    /// Adds names to `Vary` that are not in it.
    #[pyo3(signature = (*names))]
    fn vary(slf: &Bound<'_, Self>, names: Vec<String>) -> PyResult<()> {
        let py = slf.py();
        let mut words = Vec::new();
        for field in slf.try_borrow()?.fields.iter().filter(|field| field.is(py, b"vary")) {
            let value = field.value(py)?;
            let given = raw::utf8(&value)?.split(',').map(str::trim).filter(|word| !word.is_empty());
            words.extend(given.map(str::to_owned));
        }
        if words.iter().any(|word| word == "*") {
            return Ok(());
        }
        let before = words.len();
        for name in names {
            if !words.iter().any(|word| word.eq_ignore_ascii_case(&name)) {
                words.push(name);
            }
        }
        if words.len() == before {
            return Ok(());
        }
        let value = PyString::new(py, &words.join(", "));
        let field = Field::new(PyString::intern(py, "Vary").as_any(), value.as_any())?;
        slf.try_borrow_mut()?.take(py, Self { fields: vec![field] })
    }

    /// Another one with the same fields.
    fn copy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get_type().call1((slf,))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyList>,))> {
        Ok((slf.get_type().into_any(), (slf.try_borrow()?.items(slf.py())?,)))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Headers({})", self.items(py)?.repr()?))
    }
}

/// The `Headers` of a new `Response`.
#[pyfunction]
#[pyo3(signature = (fields, content_type, is_text, /))]
pub(crate) fn response_headers(
    py: Python<'_>,
    fields: Option<&Bound<'_, PyAny>>,
    content_type: Option<&Bound<'_, PyAny>>,
    is_text: bool,
) -> PyResult<Headers> {
    Headers::of(py, fields, content_type, is_text)
}

/// Whether a field can be sent: here is where header injection ends. Which of the names it is that sending looks after.
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

/// Whether a field of an answer is about the connection, which is the server's (PEP 3333).
#[pyfunction]
pub(crate) fn is_hop_by_hop(name: &Bound<'_, PyAny>) -> bool {
    bytes_of(name, &mut Vec::new()).is_ok_and(|name| response_name(name).is_hop_by_hop())
}
