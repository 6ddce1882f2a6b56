//! Who sends a request: other origins (CORS, CSRF) and the host that it names.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use trivet_web::router::{Found, Method};

use super::hooks::{hooks, refusal};
use super::raw;
use super::table::Table;

/// The CORS rule of the path.
#[inline]
pub(crate) fn rule(py: Python<'_>, table: &Table, found: &Found) -> Option<Py<PyAny>> {
    let id = match found {
        Found::Route { id, .. } | Found::Slash { id } => Some(id),
        Found::Method { ids, .. } => ids.first(),
        Found::None => None,
    };
    table.routes[*id? as usize].cors.as_ref().map(|cors| cors.clone_ref(py))
}

/// The answer to a browser that asks before it sends.
#[inline]
pub(crate) fn preflight<'py>(
    py: Python<'py>,
    cors: Option<&Py<PyAny>>,
    method: Method<'_>,
    environ: &Bound<'py, PyDict>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(cors) = cors.filter(|_| method == Method::Options) else { return Ok(None) };
    let hooks = hooks(py)?;
    if raw::item(environ, &hooks.keys.preflight_method).is_none()
        || raw::item(environ, &hooks.keys.origin).is_none()
    {
        return Ok(None);
    }
    hooks.preflight.bind(py).call1((cors, environ)).map(Some)
}

/// Refuses what another site's page sends (Fetch Metadata; where that is missing, RFC 6454's `Origin`).
pub(crate) fn check(
    py: Python<'_>,
    table: &Table,
    asks: bool,
    cors: Option<&Py<PyAny>>,
    environ: &Bound<'_, PyDict>,
) -> PyResult<()> {
    if !asks {
        return Ok(());
    }
    let hooks = hooks(py)?;
    let site = raw::item(environ, &hooks.keys.fetch_site);
    let site = site.as_ref().and_then(|site| site.cast::<PyString>().ok());
    if let Some(site) = site
        && matches!(raw::utf8(site)?, "same-origin" | "none")
    {
        return Ok(());
    }
    let origin = raw::item(environ, &hooks.keys.origin);
    let origin = origin.as_ref().and_then(|origin| origin.cast::<PyString>().ok());
    match origin {
        // Neither: no browser of our time sent it.
        None if site.is_none() => Ok(()),
        None => Err(foreign(py)),
        Some(origin) => {
            let origin = raw::utf8(origin)?;
            let own = site.is_none() && is_own(py, environ, origin)?;
            if own || table.trusted_origins.iter().any(|trusted| trusted == origin) {
                return Ok(());
            }
            if let Some(cors) = cors
                && hooks.trusts.bind(py).call1((cors, origin))?.is_truthy()?
            {
                return Ok(());
            }
            Err(foreign(py))
        }
    }
}

#[cold]
fn foreign(py: Python<'_>) -> PyErr {
    refusal(py, 403, "the request comes from another site")
}

/// Whether the origin is the scheme and host that the request itself names.
fn is_own(py: Python<'_>, environ: &Bound<'_, PyDict>, origin: &str) -> PyResult<bool> {
    let keys = &hooks(py)?.keys;
    let Some((scheme, authority)) = origin.split_once("://") else { return Ok(false) };
    let text = |key| raw::item(environ, key).and_then(|value| value.cast_into::<PyString>().ok());
    let (Some(own), Some(host)) = (text(&keys.scheme), text(&keys.host)) else { return Ok(false) };
    let own = raw::utf8(&own)?;
    let default = if own == "https" { ":443" } else { ":80" };
    let bare = |host: &str| host.strip_suffix(default).unwrap_or(host).to_ascii_lowercase();
    Ok(scheme == own && bare(authority) == bare(raw::utf8(&host)?))
}

/// Whether the request names one of these hosts, whatever its port.
pub(crate) fn is_host(py: Python<'_>, environ: &Py<PyDict>, hosts: &[String]) -> bool {
    let Ok(hooks) = hooks(py) else { return true };
    let Some(host) = raw::item(environ.bind(py), &hooks.keys.host) else { return false };
    let Ok(host) = host.cast::<PyString>() else { return false };
    let Ok(text) = raw::utf8(host) else { return false };
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => text,
    };
    // `example.com.` is the same host.
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    hosts.iter().any(
        |wanted| {
            if wanted.starts_with('.') { name.ends_with(wanted.as_str()) } else { name == *wanted }
        },
    )
}
