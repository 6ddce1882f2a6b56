//! Field names and what they become in an environ: the path for requests whose fields are not known as a shape.

use std::collections::HashMap;

use pyo3::exceptions::PyMemoryError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::template::put;
use crate::text::latin1;

/// Field names kept with their environ keys. Beyond it all are forgotten and learned again.
const NAMES_MAX: usize = 512;
/// A longer name is not kept.
const NAME_BYTES_MAX: usize = 64;
/// A longer value is not kept for the next request.
const VALUE_BYTES_MAX: usize = 512;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
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

/// Names that were seen, each with the last value under it.
#[derive(Debug, Default)]
pub(crate) struct Names<'py> {
    keys: Vec<Key<'py>>,
    by_key: HashMap<Box<[u8]>, usize>,
    spelled: Vec<Name<'py>>,
    by_spelling: HashMap<Box<[u8]>, usize>,
    /// Which name stood at this place last: clients keep their order.
    places: Vec<usize>,
    /// Counts the requests.
    count: u64,
}

impl<'py> Names<'py> {
    /// Before the fields of a request.
    pub(crate) fn begin(&mut self) {
        if self.spelled.len() > NAMES_MAX {
            *self = Self::default();
        }
        self.count += 1;
    }

    /// The environ key of a name.
    pub(crate) fn key(&mut self, py: Python<'py>, spelling: &[u8]) -> (Bound<'py, PyString>, Use) {
        let at = self.by_spelling.get(spelling).copied().unwrap_or_else(|| self.learn(py, spelling));
        let key = &self.keys[self.spelled[at].key];
        (key.object.clone(), key.what)
    }

    /// Enters one field.
    #[inline]
    pub(crate) fn set(
        &mut self,
        environ: &Bound<'py, PyDict>,
        place: usize,
        spelling: &[u8],
        value: &[u8],
    ) -> PyResult<()> {
        let py = environ.py();
        let at = match self.places.get(place) {
            Some(&at) if self.spelled.get(at).is_some_and(|name| *name.spelling == *spelling) => at,
            _ => self.find(py, place, spelling),
        };
        let name = &mut self.spelled[at];
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
        if key.seen == self.count {
            return join(environ, key, object);
        }
        key.seen = self.count;
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
        let key = if let Some(&key) = self.by_key.get(&*key_bytes) {
            key
        } else {
            // Not all are interned in the interpreter: names come from the network.
            let text = String::from_utf8_lossy(&key_bytes);
            let known = WELL_KNOWN.contains(&&*text);
            let object = if known { PyString::intern(py, &text) } else { PyString::new(py, &text) };
            self.keys.push(Key { object, what, seen: 0 });
            self.by_key.insert(key_bytes, self.keys.len() - 1);
            self.keys.len() - 1
        };
        self.spelled.push(Name { spelling: spelling.into(), key, value: Vec::new(), object: None });
        let at = self.spelled.len() - 1;
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
        // From the edge, about the connection: no field of HTTP can have such a name.
        [b':', key @ ..] if what != Use::Never => key.to_vec(),
        b"CONTENT_TYPE" | b"CONTENT_LENGTH" if what != Use::Never => upper,
        _ => [b"HTTP_", &*upper].concat(),
    };
    // A dropped spelling must not share a key with an allowed one.
    let key = if what == Use::Never { [b"!", name].concat() } else { key };
    (key.into_boxed_slice(), what)
}

/// A field that comes more than once is one value.
#[cold]
fn join<'py>(environ: &Bound<'py, PyDict>, key: &Key<'py>, value: &Bound<'py, PyString>) -> PyResult<()> {
    let py = environ.py();
    let before = environ.get_item(&key.object)?.ok_or_else(|| PyMemoryError::new_err(()))?;
    let separator = if key.what == Use::Cookie { intern!(py, "; ") } else { intern!(py, ",") };
    environ.set_item(&key.object, before.add(separator)?.add(value)?)
}
