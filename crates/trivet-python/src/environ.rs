//! The environ of a request, made of what is known already: strings are made only of what changed.
//!
//! Clients repeat themselves: the same names in the same order (a *shape*), mostly with the same values. A shape that
//! comes a second time gets a template of its own, in which all its fields stand; a request of that shape is one
//! compare, perhaps some entries set anew, and one block copy of the dict. Other requests take a template without
//! fields and enter each: an insert of a new key is about 220 instructions, a copied one about 25.
//! Strings are immutable and every request gets its own dict, so nothing of one request reaches another.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use trivet_wire::frame::{Request, UNKNOWN, flag};

use crate::names::{Names, Use};
use crate::template::{Memo, Template, decimal, put};
use crate::text::latin1;

/// Shapes with a template; a new one takes the place of the oldest.
const SHAPES_MAX: usize = 32;
/// A request with more fields is never a shape.
const SHAPE_FIELDS_MAX: usize = 48;
/// Hashes of shapes seen once are remembered in this many places.
const SUSPECTS: usize = 64;

#[derive(Debug)]
struct ShapeField<'py> {
    spelling: Box<[u8]>,
    /// None: it does not reach the app.
    memo: Option<Memo<'py>>,
}

/// Names in an order, with the environ that the last request with them had.
#[derive(Debug)]
struct Shape<'py> {
    hash: u64,
    template: Template<'py>,
    fields: Vec<ShapeField<'py>>,
    /// The fields' bytes of the last request.
    block: Vec<u8>,
}

/// Makes environs, for one slot.
#[derive(Debug)]
pub(crate) struct Environ<'py> {
    constants: Bound<'py, PyDict>,
    plain: Template<'py>,
    names: Names<'py>,
    shapes: Vec<Shape<'py>>,
    /// The shape of the last request that had one.
    last: usize,
    oldest: usize,
    suspects: [u64; SUSPECTS],
    request_id: Bound<'py, PyString>,
    content_length: Bound<'py, PyString>,
    input: Bound<'py, PyString>,
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
    pub(crate) fn new(py: Python<'py>, told: &Constants<'_, 'py>) -> PyResult<Self> {
        let constants = PyDict::new(py);
        let flag = |value: bool| Ok::<_, PyErr>(value.into_pyobject(py)?.to_owned().into_any());
        for (key, value) in [
            ("wsgi.version", (1, 0).into_pyobject(py)?.into_any()),
            ("wsgi.errors", told.errors.clone()),
            ("wsgi.multithread", flag(told.multithread)?),
            ("wsgi.multiprocess", flag(told.multiprocess)?),
            ("wsgi.run_once", flag(false)?),
            ("wsgi.file_wrapper", told.file_wrapper.clone()),
            ("wsgi.input_terminated", flag(true)?),
            ("wsgi.early_hints", told.early_hints.clone()),
            ("wsgi.input", told.empty_input.clone()),
            ("SERVER_SOFTWARE", PyString::new(py, concat!("trivet/", env!("CARGO_PKG_VERSION"))).into_any()),
            ("trivet.request_id", PyString::new(py, "").into_any()),
        ] {
            constants.set_item(PyString::intern(py, key), value)?;
        }
        Ok(Self {
            plain: Template::new(&constants)?,
            constants,
            names: Names::default(),
            shapes: Vec::new(),
            last: 0,
            oldest: 0,
            suspects: [0; SUSPECTS],
            request_id: PyString::intern(py, "trivet.request_id"),
            content_length: PyString::intern(py, "CONTENT_LENGTH"),
            input: PyString::intern(py, "wsgi.input"),
            scratch: Vec::new(),
        })
    }

    /// A fresh dict. `body`: the request's own `wsgi.input`, where it has a body.
    #[inline]
    pub(crate) fn build(
        &mut self,
        request: &Request<'_>,
        body_flags: u8,
        body: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let py = self.constants.py();
        let environ = if let Some(at) = self.shape_of(request)? {
            self.last = at;
            let shape = &mut self.shapes[at];
            shape.template.fill(request)?;
            shape.fill(request)?;
            shape.template.copy()?
        } else {
            self.plain.fill(request)?;
            let environ = self.plain.copy()?;
            self.names.begin();
            for (place, (name, value)) in request.fields().enumerate() {
                self.names.set(&environ, place, name, value)?;
            }
            environ
        };
        put(&environ, &self.request_id, &latin1(py, request.head.request_id)?)?;
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

    /// Which shape the request is of, if it is of one.
    #[inline]
    fn shape_of(&mut self, request: &Request<'_>) -> PyResult<Option<usize>> {
        if self.shapes.get(self.last).is_some_and(|shape| shape.fits(request)) {
            return Ok(Some(self.last));
        }
        self.find_shape(request)
    }

    fn find_shape(&mut self, request: &Request<'_>) -> PyResult<Option<usize>> {
        let count = usize::from(request.meta.fields);
        if count == 0 || count > SHAPE_FIELDS_MAX {
            return Ok(None);
        }
        let hash = hash_of(request);
        if let Some(at) = self.shapes.iter().position(|shape| shape.hash == hash && shape.fits(request)) {
            return Ok(Some(at));
        }
        // Once is no habit: a client that sends new names each time must not make us build templates.
        let suspect = &mut self.suspects[hash as usize % SUSPECTS];
        if std::mem::replace(suspect, hash) != hash {
            return Ok(None);
        }
        let Some(shape) = Shape::new(&self.constants, &mut self.names, request, hash)? else {
            return Ok(None);
        };
        if self.shapes.len() < SHAPES_MAX {
            self.shapes.push(shape);
            return Ok(Some(self.shapes.len() - 1));
        }
        let at = self.oldest;
        self.oldest = (at + 1) % SHAPES_MAX;
        self.shapes[at] = shape;
        Ok(Some(at))
    }
}

/// Of the names and their order.
fn hash_of(request: &Request<'_>) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mut hash = u64::from(request.meta.fields);
    let mut mix = |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    for (name, _) in request.fields() {
        mix(name.len() as u64);
        for chunk in name.chunks(8) {
            mix(chunk.iter().fold(0, |word, &b| word << 8 | u64::from(b)));
        }
    }
    hash ^ hash >> 32
}

impl<'py> Shape<'py> {
    /// `None` where a name comes twice: such values are joined.
    fn new(
        constants: &Bound<'py, PyDict>,
        names: &mut Names<'py>,
        request: &Request<'_>,
        hash: u64,
    ) -> PyResult<Option<Self>> {
        let template = Template::new(constants)?;
        let mut fields = Vec::new();
        names.begin();
        for (spelling, _) in request.fields() {
            let (key, what) = names.key(constants.py(), spelling);
            let memo = if what == Use::Never {
                None
            } else {
                if template.dict.contains(&key)? {
                    return Ok(None);
                }
                Some(Memo::of(&template.dict, key)?)
            };
            fields.push(ShapeField { spelling: spelling.into(), memo });
        }
        Ok(Some(Self { hash, template, fields, block: Vec::new() }))
    }

    #[inline]
    fn fits(&self, request: &Request<'_>) -> bool {
        self.fields.len() == usize::from(request.meta.fields)
            && (self.block == request.fields_bytes()
                || self.fields.iter().zip(request.fields()).all(|(ours, (name, _))| *ours.spelling == *name))
    }

    /// Brings the template up to the request, which fits.
    #[inline]
    fn fill(&mut self, request: &Request<'_>) -> PyResult<()> {
        if self.block == request.fields_bytes() {
            return Ok(());
        }
        // Should an entry fail, no later request may take the rest for its own.
        self.block.clear();
        for (ours, (_, value)) in self.fields.iter_mut().zip(request.fields()) {
            if let Some(memo) = &mut ours.memo {
                memo.set(&self.template.dict, value)?;
            }
        }
        self.block.extend_from_slice(request.fields_bytes());
        Ok(())
    }
}
