//! The toolkit's functions over `trivet-web` and `trivet-http`: what works without an app.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use trivet_http::conditional::{Conditions, Validators, Verdict};
use trivet_http::range::{self, Ranges};
use trivet_http::{date, media};
use trivet_web::cookie::{self, SameSite, SetCookie};
use trivet_web::sign::{self, Derivation, Digest};
use trivet_web::{multipart, query, quote};

fn wrong(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Signs texts and payloads in itsdangerous' wire format. The first key signs, all are believed.
#[pyclass(frozen, module = "trivet")]
#[derive(Debug)]
pub(crate) struct Signer(sign::Signer);

#[pymethods]
impl Signer {
    #[new]
    #[pyo3(signature = (keys, salt, digest="sha256", derivation="hmac"))]
    fn new(keys: Vec<Vec<u8>>, salt: &str, digest: &str, derivation: &str) -> PyResult<Self> {
        let digest = match digest {
            "sha1" => Digest::Sha1,
            "sha256" => Digest::Sha256,
            "sha512" => Digest::Sha512,
            _ => return Err(PyValueError::new_err("`digest` is `sha1`, `sha256` or `sha512`")),
        };
        let derivation = match derivation {
            "django-concat" => Derivation::DjangoConcat,
            "hmac" => Derivation::Hmac,
            "concat" => Derivation::Concat,
            "none" => Derivation::None,
            _ => {
                return Err(PyValueError::new_err(
                    "`derivation` is `hmac`, `django-concat`, `concat` or `none`",
                ));
            }
        };
        sign::Signer::new(&keys, salt.as_bytes(), digest, derivation).map(Self).map_err(wrong)
    }

    /// `value.signature`.
    fn sign(&self, value: &str) -> String {
        self.0.sign(value)
    }

    /// The value of `value.signature`; ValueError if no key of ours signed it.
    fn unsign<'a>(&self, signed: &'a str) -> PyResult<&'a str> {
        self.0.unsign(signed).map_err(wrong)
    }

    /// A payload as a token with the time of signing, `now` in seconds since 1970.
    fn dump(&self, payload: &[u8], now: u64) -> String {
        self.0.dump_timed(payload, now)
    }

    /// Payload and time of signing; ValueError if it is not ours or older than `age_max` seconds.
    #[pyo3(signature = (token, now, age_max=None))]
    fn load<'py>(
        &self,
        py: Python<'py>,
        token: &str,
        now: u64,
        age_max: Option<u64>,
    ) -> PyResult<(Bound<'py, PyBytes>, u64)> {
        let (payload, signed_at) = self.0.load_timed(token, age_max, now).map_err(wrong)?;
        Ok((PyBytes::new(py, &payload), signed_at))
    }
}

/// The value of a `Set-Cookie` field (RFC 6265bis). `expires`: seconds since 1970.
#[pyfunction]
#[pyo3(signature = (
    name, value, *, path=None, domain=None, max_age=None, expires=None, secure=false, http_only=false,
    same_site=None, partitioned=false
))]
#[expect(clippy::too_many_arguments, reason = "a cookie has so many attributes")]
fn set_cookie(
    name: &str,
    value: &str,
    path: Option<&str>,
    domain: Option<&str>,
    max_age: Option<i64>,
    expires: Option<u64>,
    secure: bool,
    http_only: bool,
    same_site: Option<&str>,
    partitioned: bool,
) -> PyResult<String> {
    let same_site = match same_site {
        None => None,
        Some(word) => {
            let known = SameSite::of(word);
            Some(known.ok_or_else(|| PyValueError::new_err("`same_site` is `Lax`, `Strict` or `None`"))?)
        }
    };
    let value = cookie::quoted(value);
    let cookie = SetCookie {
        path,
        domain,
        max_age,
        expires,
        secure,
        http_only,
        same_site,
        partitioned,
        ..SetCookie::new(name, &value)
    };
    cookie.header().map_err(wrong)
}

/// Text as one segment of a path, percent-encoded.
#[pyfunction]
fn quote_segment(text: &str) -> String {
    quote::segment(text).into_owned()
}

/// A decoded path, percent-encoded, its slashes kept.
#[pyfunction]
fn quote_path(text: &str) -> String {
    quote::path(text).into_owned()
}

/// A reference for a field like `Location`: what may not stand there is encoded.
#[pyfunction]
fn quote_reference(text: &str) -> String {
    quote::reference(text).into_owned()
}

/// Whether a target stays on this site: one slash at its front, no control characters.
#[pyfunction]
fn is_safe_next(target: &str) -> bool {
    quote::is_safe_next(target)
}

/// Pairs as `application/x-www-form-urlencoded`.
#[pyfunction]
fn encode_query(pairs: Vec<(String, String)>) -> String {
    query::encode(pairs)
}

/// The pairs of a query or a form; ValueError where they are not UTF-8 or too many.
#[pyfunction]
#[pyo3(signature = (data, parameters_max=1000))]
fn parse_query(data: &[u8], parameters_max: usize) -> PyResult<Vec<(String, String)>> {
    query::pairs(data, query::Limits { parameters_max })
        .map(|pair| pair.map(|(k, v)| (k.into_owned(), v.into_owned())))
        .collect::<Result<_, _>>()
        .map_err(wrong)
}

/// A client's name for a file, made safe as a file name of ours.
#[pyfunction]
fn safe_filename(name: &str) -> String {
    multipart::safe_filename(name)
}

/// Seconds since 1970 as an HTTP date.
#[pyfunction]
fn http_date(seconds: u64) -> String {
    String::from_utf8_lossy(&date::format(seconds)).into_owned()
}

/// The media type of a file's name.
#[pyfunction]
fn media_type(name: &str) -> &'static str {
    media::of(name).text
}

/// What to send of a file: (status, [(start, length), …]); status 200, 206, 304, 412 or 416.
///
/// `fields`: If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, If-Range, Range, each or None. `etag`
/// with its quotes; times in seconds since 1970.
#[pyfunction]
#[expect(clippy::type_complexity, reason = "the six fields in order")]
fn judge_file(
    fields: (Option<String>, Option<String>, Option<String>, Option<String>, Option<String>, Option<String>),
    etag: &str,
    modified: i64,
    size: u64,
    now: u64,
) -> (u16, Vec<(u64, u64)>) {
    let (if_match, if_none_match, if_modified, if_unmodified, if_range, range) = &fields;
    let bytes = |field: &'_ Option<String>| field.as_ref().map(|text| text.as_bytes().to_vec());
    let (match_list, none_list) = (bytes(if_match), bytes(if_none_match));
    let conditions = Conditions {
        if_match: match_list.iter().map(Vec::as_slice).collect(),
        if_none_match: none_list.iter().map(Vec::as_slice).collect(),
        if_modified_since: if_modified.as_deref().map(str::as_bytes),
        if_unmodified_since: if_unmodified.as_deref().map(str::as_bytes),
        if_range: if_range.as_deref().map(str::as_bytes),
    };
    match conditions.judge(Validators { etag: etag.as_bytes(), modified }, now) {
        Verdict::NotModified => (304, Vec::new()),
        Verdict::PreconditionFailed => (412, Vec::new()),
        Verdict::SendWhole => (200, vec![(0, size)]),
        Verdict::Send => match range.as_ref().map(|range| range::parse(range.as_bytes(), size)) {
            None | Some(Ranges::Whole) => (200, vec![(0, size)]),
            Some(Ranges::One(start, length)) => (206, vec![(start, length)]),
            Some(Ranges::Several(parts)) => (206, parts),
            Some(Ranges::Unsatisfiable) => (416, Vec::new()),
        },
    }
}

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(set_cookie, module)?)?;
    module.add_function(wrap_pyfunction!(quote_segment, module)?)?;
    module.add_function(wrap_pyfunction!(quote_path, module)?)?;
    module.add_function(wrap_pyfunction!(quote_reference, module)?)?;
    module.add_function(wrap_pyfunction!(is_safe_next, module)?)?;
    module.add_function(wrap_pyfunction!(encode_query, module)?)?;
    module.add_function(wrap_pyfunction!(parse_query, module)?)?;
    module.add_function(wrap_pyfunction!(safe_filename, module)?)?;
    module.add_function(wrap_pyfunction!(http_date, module)?)?;
    module.add_function(wrap_pyfunction!(media_type, module)?)?;
    module.add_function(wrap_pyfunction!(judge_file, module)?)?;
    Ok(())
}
