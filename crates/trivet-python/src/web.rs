//! The framework's Rust half: the module `trivet._web`, in the same library as the worker's gateway.
//!
//! [`call`] is the life of a request. Python registers and decides (`python/trivet/app.py`); what happens for every
//! request happens here, and what is rare is handed back to Python through [`hooks`].

pub(crate) mod answer;
pub(crate) mod app;
mod body;
mod call;
mod headers;
pub(crate) mod hooks;
mod json;
mod origin;
mod plan;
mod raw;
mod request;
mod routes;
mod table;
mod tools;

use pyo3::prelude::*;

/// `trivet._web`.
#[pymodule]
#[pyo3(name = "_web")]
pub(crate) fn web(module: &Bound<'_, PyModule>) -> PyResult<()> {
    crate::panics::end_the_process();
    module.add("BUILD", trivet_wire::BUILD)?;
    module.add_class::<app::App>()?;
    module.add_class::<app::Flight>()?;
    module.add_class::<headers::Headers>()?;
    module.add_class::<request::Request>()?;
    module.add_class::<body::BodyStream>()?;
    module.add_class::<routes::Router>()?;
    module.add_class::<tools::Signer>()?;
    module.add_function(wrap_pyfunction!(hooks::install, module)?)?;
    module.add_function(wrap_pyfunction!(json::json_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(headers::response_headers, module)?)?;
    module.add_function(wrap_pyfunction!(headers::is_hop_by_hop, module)?)?;
    module.add_function(wrap_pyfunction!(answer::send_response, module)?)?;
    module.add_function(wrap_pyfunction!(answer::response_head, module)?)?;
    module.add_function(wrap_pyfunction!(table::template_parameters, module)?)?;
    module.add_function(wrap_pyfunction!(table::pattern_captures, module)?)?;
    module.add_function(wrap_pyfunction!(table::check_expression, module)?)?;
    module.add_function(wrap_pyfunction!(table::build_path, module)?)?;
    tools::add(module)
}
