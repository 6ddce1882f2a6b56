//! Between Python's native strings and the bytes of HTTP: latin-1 both ways, as PEP 3333 says.
#![allow(unsafe_code, reason = "PyO3 has no latin-1 decoder and checks UTF-8 where it is not needed")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A native string of these bytes, each one character.
#[inline]
pub(crate) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: Python's lock is held (`py`), pointer and length are of one slice; the result is a new reference to
    // a str or null with an exception set.
    unsafe {
        let object = ffi::PyUnicode_DecodeLatin1(
            bytes.as_ptr().cast(),
            bytes.len() as ffi::Py_ssize_t,
            std::ptr::null(),
        );
        Ok(Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked())
    }
}

/// Why a string of the app cannot be sent. The string itself is never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotText {
    NotStr,
    NotLatin1,
}

/// The latin-1 bytes of a str. `scratch` is used where they are not ASCII.
#[inline]
pub(crate) fn bytes_of<'a>(
    object: &'a Bound<'_, PyAny>,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], NotText> {
    let Ok(text) = object.cast::<PyString>() else { return Err(NotText::NotStr) };
    let mut len = 0;
    // SAFETY: a str, with Python's lock held; the UTF-8 form lives as long as the object, which `'a` borrows.
    let utf8 = unsafe {
        let start = ffi::PyUnicode_AsUTF8AndSize(text.as_ptr(), &raw mut len);
        if start.is_null() {
            ffi::PyErr_Clear();
            return Err(NotText::NotLatin1);
        }
        std::slice::from_raw_parts(start.cast::<u8>(), len as usize)
    };
    if utf8.is_ascii() {
        return Ok(utf8);
    }
    scratch.clear();
    let mut rest = utf8.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            0..0x80 => scratch.push(byte),
            // U+0080 … U+00FF are two bytes that begin with C2 or C3.
            0xc2 | 0xc3 => scratch.push(byte << 6 | rest.next().copied().unwrap_or_default() & 0x3f),
            _ => return Err(NotText::NotLatin1),
        }
    }
    Ok(scratch)
}
