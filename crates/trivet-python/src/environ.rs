//! The environ of a request: a template dict whose constant part is copied whole, and caches that make strings
//! only of what changed since the last request of this slot.
//!
//! A dict copied from one that is full enough keeps its size and is one block copy; setting an interned key is
//! about 15 ns. What repeats from request to request (protocol, server, a client's own fields) is the same string
//! object again: strings are immutable, so nothing of one request can reach another.
#![allow(unsafe_code, reason = "the hot path: PyO3's own dict calls take and drop references that are not needed")]

use std::collections::HashMap;

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use trivet_http::uri::{self, BadEscape};
use trivet_wire::frame::{Request, UNKNOWN, flag, traits};

use crate::text::latin1;

/// Field names kept with their environ keys. Beyond it all are forgotten and learned again.
const NAMES_MAX: usize = 512;
/// A longer name is not kept.
const NAME_BYTES_MAX: usize = 64;
/// A longer value is not kept for the next request.
const VALUE_BYTES_MAX: usize = 512;

/// An environ entry that is set in the template only when it changes.
#[derive(Debug)]
struct Memo<'py> {
    key: Bound<'py, PyString>,
    last: Vec<u8>,
}

impl<'py> Memo<'py> {
    fn new(template: &Bound<'py, PyDict>, key: &str, value: &str) -> PyResult<Self> {
        let key = PyString::intern(template.py(), key);
        template.set_item(&key, value)?;
        Ok(Self { key, last: value.as_bytes().to_vec() })
    }

    #[inline]
    fn set(&mut self, template: &Bound<'py, PyDict>, value: &[u8]) -> PyResult<()> {
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
fn put<'py>(
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

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Joined by `,` where it comes twice.
    List,
    /// Joined by `; `.
    Cookie,
    /// Never reaches the app: names with `_` (they collide with `-`), `Proxy`, and what frames the message.
    Never,
}

#[derive(Debug)]
struct Key<'py> {
    object: Bound<'py, PyString>,
    what: Use,
    /// The request that last had it.
    seen: u64,
}

/// One spelling of a name, with the last value under it.
#[derive(Debug)]
struct Name<'py> {
    spelling: Box<[u8]>,
    key: usize,
    value: Vec<u8>,
    object: Option<Bound<'py, PyString>>,
}

#[derive(Debug, Default)]
struct Names<'py> {
    keys: Vec<Key<'py>>,
    by_key: HashMap<Box<[u8]>, usize>,
    names: Vec<Name<'py>>,
    by_spelling: HashMap<Box<[u8]>, usize>,
    /// Which name stood at this place last: clients keep their order.
    places: Vec<usize>,
}

/// Makes environs, for one slot.
#[derive(Debug)]
pub(crate) struct Environ<'py> {
    template: Bound<'py, PyDict>,
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
    request_id: Bound<'py, PyString>,
    content_length: Bound<'py, PyString>,
    input: Bound<'py, PyString>,
    /// The target that the template's path and query were made of.
    target: Vec<u8>,
    ports: (u16, u16),
    names: Names<'py>,
    count: u64,
    scratch: Vec<u8>,
}

/// Values that are the same for the whole life of the worker.
#[derive(Debug)]
pub(crate) struct Constants<'a, 'py> {
    pub(crate) errors: &'a Bound<'py, PyAny>,
    pub(crate) file_wrapper: &'a Bound<'py, PyAny>,
    pub(crate) empty_input: &'a Bound<'py, PyAny>,
    pub(crate) early_hints: &'a Bound<'py, PyAny>,
    pub(crate) multithread: bool,
    pub(crate) multiprocess: bool,
}

impl<'py> Environ<'py> {
    pub(crate) fn new(py: Python<'py>, constants: &Constants<'_, 'py>) -> PyResult<Self> {
        let template = PyDict::new(py);
        let t = &template;
        for (key, value) in [
            ("wsgi.version", (1, 0).into_pyobject(py)?.into_any()),
            ("wsgi.errors", constants.errors.clone()),
            ("wsgi.multithread", constants.multithread.into_pyobject(py)?.to_owned().into_any()),
            ("wsgi.multiprocess", constants.multiprocess.into_pyobject(py)?.to_owned().into_any()),
            ("wsgi.run_once", false.into_pyobject(py)?.to_owned().into_any()),
            ("wsgi.file_wrapper", constants.file_wrapper.clone()),
            ("wsgi.input_terminated", true.into_pyobject(py)?.to_owned().into_any()),
            ("wsgi.early_hints", constants.early_hints.clone()),
            ("wsgi.input", constants.empty_input.clone()),
            (
                "SERVER_SOFTWARE",
                PyString::new(py, concat!("trivet/", env!("CARGO_PKG_VERSION"))).into_any(),
            ),
            ("trivet.request_id", PyString::new(py, "").into_any()),
        ] {
            t.set_item(PyString::intern(py, key), value)?;
        }
        let environ = Self {
            method: Memo::new(t, "REQUEST_METHOD", "GET")?,
            protocol: Memo::new(t, "SERVER_PROTOCOL", "HTTP/1.1")?,
            scheme: Memo::new(t, "wsgi.url_scheme", "http")?,
            server_name: Memo::new(t, "SERVER_NAME", "")?,
            server_port: Memo::new(t, "SERVER_PORT", "0")?,
            remote_addr: Memo::new(t, "REMOTE_ADDR", "")?,
            remote_port: Memo::new(t, "REMOTE_PORT", "0")?,
            script: Memo::new(t, "SCRIPT_NAME", "")?,
            path_info: Memo::new(t, "PATH_INFO", "")?,
            query: Memo::new(t, "QUERY_STRING", "")?,
            raw_uri: Memo::new(t, "RAW_URI", "")?,
            request_uri: PyString::intern(py, "REQUEST_URI"),
            request_id: PyString::intern(py, "trivet.request_id"),
            content_length: PyString::intern(py, "CONTENT_LENGTH"),
            input: PyString::intern(py, "wsgi.input"),
            target: Vec::new(),
            ports: (0, 0),
            names: Names::default(),
            count: 0,
            scratch: Vec::new(),
            template,
        };
        environ.template.set_item(intern!(py, "REQUEST_URI"), "")?;
        Ok(environ)
    }

    /// A fresh dict. `body`: the request's own `wsgi.input`, where it has a body.
    #[inline]
    pub(crate) fn build(
        &mut self,
        request: &Request<'_>,
        body_flags: u8,
        body: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let py = self.template.py();
        self.fill_template(request)?;
        // SAFETY: the template is a dict; the result is a new reference or null with an exception set.
        let environ: Bound<'py, PyDict> = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyDict_Copy(self.template.as_ptr()))?.cast_into_unchecked()
        };
        put(&environ, &self.request_id, &latin1(py, request.head.request_id)?)?;
        self.count += 1;
        if self.names.names.len() > NAMES_MAX {
            self.names = Names::default();
        }
        for (place, (name, value)) in request.fields().enumerate() {
            self.names.set(&environ, place, name, value, self.count)?;
        }
        if let Some(body) = body {
            put(&environ, &self.input, body)?;
        }
        if body_flags & (flag::BODY_INLINE | flag::BODY_SPOOLED | flag::BODY_STREAMED) != 0
            && request.meta.body_bytes != UNKNOWN
        {
            let digits = decimal(request.meta.body_bytes, &mut self.scratch);
            put(&environ, &self.content_length, &latin1(py, digits)?)?;
        }
        Ok(environ)
    }

    #[inline]
    fn fill_template(&mut self, request: &Request<'_>) -> PyResult<()> {
        let (t, head) = (&self.template, &request.head);
        self.method.set(t, head.method)?;
        let old = head.traits & traits::HTTP_1_0 != 0;
        self.protocol.set(t, if old { b"HTTP/1.0" } else { b"HTTP/1.1" })?;
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
            if memchr(b'%', path) {
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

fn memchr(byte: u8, bytes: &[u8]) -> bool {
    bytes.contains(&byte)
}

/// PATH_INFO below SCRIPT_NAME, which ends only where a segment ends.
fn below_mount<'a>(path: &'a [u8], script: &[u8]) -> &'a [u8] {
    match path.strip_prefix(script) {
        Some(rest) if rest.is_empty() || rest[0] == b'/' => rest,
        _ => path,
    }
}

fn decimal(mut number: u64, out: &mut Vec<u8>) -> &[u8] {
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

impl<'py> Names<'py> {
    #[inline]
    fn set(
        &mut self,
        environ: &Bound<'py, PyDict>,
        place: usize,
        spelling: &[u8],
        value: &[u8],
        count: u64,
    ) -> PyResult<()> {
        let py = environ.py();
        let at = match self.places.get(place) {
            Some(&at) if self.names.get(at).is_some_and(|name| *name.spelling == *spelling) => at,
            _ => self.find(py, place, spelling),
        };
        let name = &mut self.names[at];
        let key = &mut self.keys[name.key];
        if key.what == Use::Never {
            return Ok(());
        }
        let fresh;
        let object = match &name.object {
            Some(object) if name.value == value => object,
            _ => {
                let object = latin1(py, value)?;
                if value.len() <= VALUE_BYTES_MAX {
                    name.value.clear();
                    name.value.extend_from_slice(value);
                    name.object.insert(object)
                } else {
                    fresh = object;
                    &fresh
                }
            }
        };
        if key.seen == count {
            return join(environ, key, object);
        }
        key.seen = count;
        put(environ, &key.object, object)
    }

    /// The index of a name that did not stand where it stood last time.
    fn find(&mut self, py: Python<'py>, place: usize, spelling: &[u8]) -> usize {
        let at = self.by_spelling.get(spelling).copied().unwrap_or_else(|| self.learn(py, spelling));
        if self.places.len() <= place {
            self.places.resize(place + 1, 0);
        }
        self.places[place] = at;
        at
    }

    fn learn(&mut self, py: Python<'py>, spelling: &[u8]) -> usize {
        let (key_bytes, what) = environ_key(spelling);
        let key = match self.by_key.get(&*key_bytes) {
            Some(&key) => key,
            None => {
                // Not interned for ever in the interpreter: names come from the network.
                let text = String::from_utf8_lossy(&key_bytes);
                let object =
                    if WELL_KNOWN.contains(&&*text) { PyString::intern(py, &text) } else { PyString::new(py, &text) };
                self.keys.push(Key { object, what, seen: 0 });
                self.by_key.insert(key_bytes, self.keys.len() - 1);
                self.keys.len() - 1
            }
        };
        self.names.push(Name { spelling: spelling.into(), key, value: Vec::new(), object: None });
        let at = self.names.len() - 1;
        if spelling.len() <= NAME_BYTES_MAX {
            self.by_spelling.insert(spelling.into(), at);
        }
        at
    }
}

/// Keys that code looks up by a literal, which Python interns: then the lookup is one comparison of addresses.
const WELL_KNOWN: [&str; 24] = [
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "HTTP_HOST",
    "HTTP_ACCEPT",
    "HTTP_ACCEPT_ENCODING",
    "HTTP_ACCEPT_LANGUAGE",
    "HTTP_ACCEPT_CHARSET",
    "HTTP_AUTHORIZATION",
    "HTTP_CACHE_CONTROL",
    "HTTP_CONNECTION",
    "HTTP_COOKIE",
    "HTTP_EXPECT",
    "HTTP_IF_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_NONE_MATCH",
    "HTTP_ORIGIN",
    "HTTP_RANGE",
    "HTTP_REFERER",
    "HTTP_USER_AGENT",
    "HTTP_X_CSRFTOKEN",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_REQUESTED_WITH",
];

/// The environ key of a field, and what it is for.
fn environ_key(name: &[u8]) -> (Box<[u8]>, Use) {
    let upper: Vec<u8> =
        name.iter().map(|b| if *b == b'-' { b'_' } else { b.to_ascii_uppercase() }).collect();
    let what = match &*upper {
        _ if name.contains(&b'_') => Use::Never,
        b"PROXY" | b"TRANSFER_ENCODING" => Use::Never,
        b"COOKIE" => Use::Cookie,
        _ => Use::List,
    };
    let key = match &*upper {
        b"CONTENT_TYPE" | b"CONTENT_LENGTH" if what != Use::Never => upper,
        _ => [b"HTTP_", &*upper].concat(),
    };
    // A dropped spelling must not share a key with an allowed one.
    let key = if what == Use::Never { [b"!", name].concat() } else { key };
    (key.into_boxed_slice(), what)
}

/// A field that comes more than once is one value.
#[cold]
fn join<'py>(
    environ: &Bound<'py, PyDict>,
    key: &Key<'py>,
    value: &Bound<'py, PyString>,
) -> PyResult<()> {
    let py = environ.py();
    let before = environ.get_item(&key.object)?.ok_or_else(|| PyMemoryError::new_err(()))?;
    let separator = if key.what == Use::Cookie { intern!(py, "; ") } else { intern!(py, ",") };
    environ.set_item(&key.object, before.add(separator)?.add(value)?)
}
