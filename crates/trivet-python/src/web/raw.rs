//! The few C calls of the framework's hot path, each with its ownership said once.
#![allow(
    unsafe_code,
    reason = "PyO3's own calls build argument tuples and look types up; here that is a third of a request's cost"
)]

use std::cell::UnsafeCell;
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use super::hooks::NotUtf8;

/// The value of an interned key, or nothing.
#[inline]
pub(crate) fn item<'py>(dict: &Bound<'py, PyDict>, key: &Py<PyString>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: two live references and Python's lock; the result is borrowed, and a reference is taken at once.
    unsafe {
        let found = ffi::PyDict_GetItemWithError(dict.as_ptr(), key.as_ptr());
        if found.is_null() {
            // Only a key whose `__hash__` or `__eq__` raises sets an exception, which a str never does.
            return None;
        }
        Some(Bound::from_borrowed_ptr(dict.py(), found))
    }
}

/// Whether nobody else has a reference to the object.
#[inline]
pub(crate) fn is_only(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live reference and Python's lock.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) == 1 }
}

/// The UTF-8 form of a str, as long as the str lives.
#[inline]
pub(crate) fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Result<&'a str, NotUtf8> {
    let mut len = 0;
    // SAFETY: a str and Python's lock; the UTF-8 form is kept in the object, which `'a` borrows.
    unsafe {
        let start = ffi::PyUnicode_AsUTF8AndSize(text.as_ptr(), &raw mut len);
        if start.is_null() {
            ffi::PyErr_Clear();
            return Err(NotUtf8);
        }
        Ok(std::str::from_utf8_unchecked(std::slice::from_raw_parts(start.cast::<u8>(), len as usize)))
    }
}

/// Calls with positional arguments.
#[inline]
pub(crate) fn call<'py>(
    py: Python<'py>,
    function: &Bound<'py, PyAny>,
    args: &[Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    const END: *mut ffi::PyObject = std::ptr::null_mut();
    let f = function.as_ptr();
    // SAFETY: live references and a null that ends them; the result is a new reference or null with an exception
    // set. The interpreter puts so few arguments on the stack, without a tuple.
    unsafe {
        let result = match args {
            [] => ffi::PyObject_CallNoArgs(f),
            [a0] => ffi::PyObject_CallFunctionObjArgs(f, a0.as_ptr(), END),
            [a0, a1] => ffi::PyObject_CallFunctionObjArgs(f, a0.as_ptr(), a1.as_ptr(), END),
            [a0, a1, a2] => ffi::PyObject_CallFunctionObjArgs(f, a0.as_ptr(), a1.as_ptr(), a2.as_ptr(), END),
            [a0, a1, a2, a3] => {
                ffi::PyObject_CallFunctionObjArgs(f, a0.as_ptr(), a1.as_ptr(), a2.as_ptr(), a3.as_ptr(), END)
            }
            many => ffi::PyObject_Call(f, PyTuple::new(py, many)?.as_ptr(), END),
        };
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// Calls with positional and named arguments.
pub(crate) fn call_named<'py>(
    function: &Bound<'py, PyAny>,
    args: &[Bound<'py, PyAny>],
    named: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    function.call(PyTuple::new(function.py(), args)?, Some(named))
}

/// A tuple of one object.
#[inline]
pub(crate) fn tuple1<'py>(value: &Bound<'py, impl Sized>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a live reference; the result is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(value.py(), ffi::PyTuple_Pack(1, value.as_ptr())) }
}

/// A fresh list.
#[inline]
pub(crate) fn list<'py, const N: usize>(
    py: Python<'py>,
    items: [Bound<'py, PyTuple>; N],
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a new list has N empty places; each gets a reference of its own, which `PyList_SetItem` takes.
    unsafe {
        let list = Bound::from_owned_ptr_or_err(py, ffi::PyList_New(N as ffi::Py_ssize_t))?;
        for (at, item) in items.into_iter().enumerate() {
            ffi::PyList_SetItem(list.as_ptr(), at as ffi::Py_ssize_t, item.into_ptr());
        }
        Ok(list)
    }
}

#[inline]
pub(crate) fn bytes<'py>(py: Python<'py>, data: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, data)
}

/// The entry of a list, if the list is still so long: it may shrink while we look at it.
#[inline]
pub(crate) fn list_item<'py>(list: &Bound<'py, PyList>, at: usize) -> Option<Bound<'py, PyAny>> {
    (at < list.len()).then(|| list.get_item(at).ok()).flatten()
}

/// The next entry of a dict after `position`. The dict may change in between; entries are then missed or repeated,
/// but nothing worse happens.
#[inline]
pub(crate) fn dict_next<'py>(
    dict: &Bound<'py, PyDict>,
    position: &mut isize,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: a live dict and Python's lock; key and value are borrowed, and references are taken at once.
    unsafe {
        if ffi::PyDict_Next(dict.as_ptr(), position, &raw mut key, &raw mut value) == 0 {
            return None;
        }
        Some((Bound::from_borrowed_ptr(dict.py(), key), Bound::from_borrowed_ptr(dict.py(), value)))
    }
}

/// What a generator did with what it was sent.
#[derive(Debug)]
pub(crate) enum Sent<'py> {
    Yielded(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
}

/// `generator.send(value)`.
pub(crate) fn send<'py>(generator: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
    let py = generator.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: two live references; `result` is a new reference unless the answer is an error with an exception set.
    unsafe {
        match ffi::PyIter_Send(generator.as_ptr(), value.as_ptr(), &raw mut result) {
            ffi::PySendResult::PYGEN_NEXT => Ok(Sent::Yielded(Bound::from_owned_ptr_or_err(py, result)?)),
            ffi::PySendResult::PYGEN_RETURN => Ok(Sent::Returned(Bound::from_owned_ptr_or_err(py, result)?)),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

/// Whether the object is of exactly this type.
#[inline]
pub(crate) fn is_exactly(value: &Bound<'_, PyAny>, class: &Py<PyAny>) -> bool {
    value.get_type_ptr().cast() == class.as_ptr()
}

/// What a frozen class holds until the collector of cycles empties it. Guarded by Python's lock alone, so that looking
/// costs a request no more than reading a field: the library is of the stable ABI, which no Python without that lock
/// loads.
pub(crate) struct Slot<T>(UnsafeCell<Option<Arc<T>>>);

// SAFETY: every method but `seen` has the token of Python's lock, and `seen` is called under it; none of them runs
// Python code, which alone could give the lock away, while it has a reference into the cell.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

impl<T> Slot<T> {
    pub(crate) const fn new(content: Option<Arc<T>>) -> Self {
        Self(UnsafeCell::new(content))
    }

    #[inline]
    pub(crate) fn get(&self, _py: Python<'_>) -> Option<Arc<T>> {
        // SAFETY: Python's lock; counting a reference runs no Python code.
        unsafe { (*self.0.get()).clone() }
    }

    /// Whether it was empty, and is filled now.
    pub(crate) fn set(&self, _py: Python<'_>, content: Arc<T>) -> bool {
        // SAFETY: Python's lock; nothing is dropped, as there was nothing.
        unsafe {
            let place = &mut *self.0.get();
            let was_empty = place.is_none();
            if was_empty {
                *place = Some(content);
            }
            was_empty
        }
    }

    /// Empties it. What is taken is dropped by the caller, when nobody looks here any more.
    pub(crate) fn take(&self, _py: Python<'_>) -> Option<Arc<T>> {
        // SAFETY: Python's lock; a move runs no code.
        unsafe { (*self.0.get()).take() }
    }

    /// For `__traverse__`: what it holds, if nobody else does. References of what a request uses just now are not this
    /// object's alone, and must not be told to the collector as if they were.
    pub(crate) fn seen(&self) -> Option<&T> {
        // SAFETY: the collector runs under Python's lock and calls nothing that could write here.
        let content = unsafe { (*self.0.get()).as_ref()? };
        (Arc::strong_count(content) == 1).then_some(&**content)
    }
}

impl<T> std::fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}
