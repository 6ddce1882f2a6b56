//! A template dict of an environ: all that is the same for many requests, kept up to date and copied whole.
#![allow(
    unsafe_code,
    reason = "the hot path: PyO3's own dict calls take and drop references that are not needed"
)]

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use trivet_http::uri::{self, BadEscape};
use trivet_wire::frame::{Request, traits};

use crate::text::latin1;

/// An environ entry that is set in the template only when it changes.
#[derive(Debug)]
pub(crate) struct Memo<'py> {
    key: Bound<'py, PyString>,
    last: Vec<u8>,
}

impl<'py> Memo<'py> {
    pub(crate) fn new(template: &Bound<'py, PyDict>, key: &str, value: &str) -> PyResult<Self> {
        let key = PyString::intern(template.py(), key);
        template.set_item(&key, value)?;
        Ok(Self { key, last: value.as_bytes().to_vec() })
    }

    /// A key that is not in the template yet, with an empty value.
    pub(crate) fn of(template: &Bound<'py, PyDict>, key: Bound<'py, PyString>) -> PyResult<Self> {
        template.set_item(&key, "")?;
        Ok(Self { key, last: Vec::new() })
    }

    #[inline]
    pub(crate) fn set(&mut self, template: &Bound<'py, PyDict>, value: &[u8]) -> PyResult<()> {
        if self.last != value {
            let object = latin1(template.py(), value)?;
            put(template, &self.key, &object)?;
            self.last.clear();
            self.last.extend_from_slice(value);
        }
        Ok(())
    }
}

/// `PyDict_SetItem` without PyO3's conversions.
#[inline]
pub(crate) fn put<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
    value: &Bound<'py, impl Sized>,
) -> PyResult<()> {
    // SAFETY: three live references, with Python's lock held as `Bound` proves.
    if unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) } == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(dict.py()))
    }
}

/// A dict with the entries that a request line and a connection give, each set only when it changes.
#[derive(Debug)]
pub(crate) struct Template<'py> {
    pub(crate) dict: Bound<'py, PyDict>,
    method: Memo<'py>,
    protocol: Memo<'py>,
    scheme: Memo<'py>,
    server_name: Memo<'py>,
    server_port: Memo<'py>,
    remote_addr: Memo<'py>,
    remote_port: Memo<'py>,
    script: Memo<'py>,
    path_info: Memo<'py>,
    query: Memo<'py>,
    raw_uri: Memo<'py>,
    request_uri: Bound<'py, PyString>,
    /// The target that path and query were made of.
    target: Vec<u8>,
    ports: (u16, u16),
    scratch: Vec<u8>,
}

impl<'py> Template<'py> {
    /// On a copy of `constants`.
    pub(crate) fn new(constants: &Bound<'py, PyDict>) -> PyResult<Self> {
        let dict = constants.copy()?;
        let request_uri = PyString::intern(dict.py(), "REQUEST_URI");
        dict.set_item(&request_uri, "")?;
        let memo = |key, value| Memo::new(&dict, key, value);
        Ok(Self {
            method: memo("REQUEST_METHOD", "GET")?,
            protocol: memo("SERVER_PROTOCOL", "HTTP/1.1")?,
            scheme: memo("wsgi.url_scheme", "http")?,
            server_name: memo("SERVER_NAME", "")?,
            server_port: memo("SERVER_PORT", "0")?,
            remote_addr: memo("REMOTE_ADDR", "")?,
            remote_port: memo("REMOTE_PORT", "0")?,
            script: memo("SCRIPT_NAME", "")?,
            path_info: memo("PATH_INFO", "")?,
            query: memo("QUERY_STRING", "")?,
            raw_uri: memo("RAW_URI", "")?,
            request_uri,
            target: Vec::new(),
            ports: (0, 0),
            scratch: Vec::new(),
            dict,
        })
    }

    /// A new dict with everything that is in the template.
    #[inline]
    pub(crate) fn copy(&self) -> PyResult<Bound<'py, PyDict>> {
        // SAFETY: a live dict; the result is a new reference to one or null with an exception set.
        unsafe {
            let copy = ffi::PyDict_Copy(self.dict.as_ptr());
            Ok(Bound::from_owned_ptr_or_err(self.dict.py(), copy)?.cast_into_unchecked())
        }
    }

    #[inline]
    pub(crate) fn fill(&mut self, request: &Request<'_>) -> PyResult<()> {
        let (t, head) = (&self.dict, &request.head);
        self.method.set(t, head.method)?;
        self.protocol.set(t, protocol(head.traits))?;
        self.scheme.set(t, if head.traits & traits::HTTPS == 0 { b"http" } else { b"https" })?;
        self.server_name.set(t, head.server)?;
        self.remote_addr.set(t, head.peer)?;
        if self.ports != (head.server_port, head.peer_port) {
            self.ports = (head.server_port, head.peer_port);
            self.server_port.set(t, decimal(head.server_port.into(), &mut self.scratch))?;
            self.remote_port.set(t, decimal(head.peer_port.into(), &mut self.scratch))?;
        }
        if self.target != head.target || self.script.last != head.script {
            self.script.set(t, head.script)?;
            let (path, query) = uri::split_query(head.target);
            self.query.set(t, query.unwrap_or_default())?;
            let mut decoded = path;
            if path.contains(&b'%') {
                self.scratch.clear();
                // The edge refuses what cannot be decoded; should it come here, it is passed as it is.
                if uri::percent_decode(path, BadEscape::Keep, &mut self.scratch).is_ok() {
                    decoded = &self.scratch;
                }
            }
            self.path_info.set(t, below_mount(decoded, head.script))?;
            self.target.clear();
            self.target.extend_from_slice(head.target);
        }
        let raw = if head.raw_target.is_empty() { head.target } else { head.raw_target };
        if self.raw_uri.last != raw {
            self.raw_uri.set(t, raw)?;
            let text = t.get_item(&self.raw_uri.key)?.ok_or_else(|| PyMemoryError::new_err(()))?;
            put(t, &self.request_uri, &text)?;
        }
        Ok(())
    }
}

/// What SERVER_PROTOCOL says.
pub(crate) fn protocol(bits: u8) -> &'static [u8] {
    if bits & traits::HTTP_2 != 0 {
        b"HTTP/2"
    } else if bits & traits::HTTP_1_0 != 0 {
        b"HTTP/1.0"
    } else {
        b"HTTP/1.1"
    }
}

/// PATH_INFO below SCRIPT_NAME, which ends only where a segment ends.
fn below_mount<'a>(path: &'a [u8], script: &[u8]) -> &'a [u8] {
    match path.strip_prefix(script) {
        Some(rest) if rest.is_empty() || rest[0] == b'/' => rest,
        _ => path,
    }
}

pub(crate) fn decimal(mut number: u64, out: &mut Vec<u8>) -> &[u8] {
    out.clear();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.reverse();
    out
}
