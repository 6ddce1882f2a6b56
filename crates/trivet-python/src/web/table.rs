//! An app's decided tables: routes, interceptors, providers. Made once, then only read.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDate, PyDict, PyFloat, PyList, PyString, PyTuple};
use trivet_web::intercept::{self, Pattern, Rule};
use trivet_web::router::{Converter, MethodSet, Re, Router, Template, int};

use super::hooks::refusal;
use super::plan::Plan;

/// How much of a request is read.
#[expect(clippy::struct_field_names, reason = "they are called so in Python")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) body_bytes_max: u64,
    /// Of a form, without its files.
    pub(crate) form_bytes_max: usize,
    pub(crate) parts_max: usize,
    pub(crate) parameters_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 16 << 20, form_bytes_max: 512 << 10, parts_max: 1000, parameters_max: 1000 }
    }
}

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) handler: Py<PyAny>,
    pub(crate) plan: Plan,
    /// `async def`: what it returns is waited for.
    pub(crate) is_async: bool,
    /// `req.route`.
    pub(crate) object: Py<PyAny>,
    /// Of the path's parameters.
    pub(crate) names: Py<PyTuple>,
    pub(crate) csrf: bool,
    pub(crate) cors: Option<Py<PyAny>>,
    /// A guard decides who gets in: caches may not keep what it let through.
    pub(crate) is_private: bool,
    /// A foreign WSGI app: `handler` is not planned but gets the request and what lies below.
    pub(crate) foreign: bool,
}

#[derive(Debug)]
pub(crate) struct Interceptor {
    pub(crate) function: Py<PyAny>,
    pub(crate) plan: Plan,
    pub(crate) is_generator: bool,
    /// It decides who gets in.
    pub(crate) is_guard: bool,
    /// In lower case; one that begins with a dot means all names below.
    pub(crate) hosts: Vec<String>,
    pub(crate) methods: Option<MethodSet>,
}

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) function: Py<PyAny>,
    pub(crate) plan: Plan,
    pub(crate) is_generator: bool,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) router: Router,
    pub(crate) bound: intercept::Plan,
    pub(crate) routes: Vec<Route>,
    pub(crate) interceptors: Vec<Interceptor>,
    pub(crate) providers: Vec<Provider>,
    pub(crate) limits: Limits,
    pub(crate) encoder: Option<Py<PyAny>>,
    /// Origins besides the app's own that may send what changes something.
    pub(crate) trusted_origins: Vec<String>,
    pub(crate) converters: Converters,
    /// The outermost middleware that the app was wrapped in.
    pub(crate) outer: Option<Py<PyAny>>,
}

/// What makes values of a path's texts.
#[derive(Debug)]
pub(crate) struct Converters {
    uuid: Py<PyAny>,
    custom: Vec<Py<PyAny>>,
}

type ToldRoute<'py> = (
    String,
    Vec<String>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    bool,
    Bound<'py, PyAny>,
    bool,
    Option<Bound<'py, PyAny>>,
    bool,
    bool,
);
type ToldInterceptor<'py> =
    (String, Vec<String>, Bound<'py, PyAny>, Bound<'py, PyAny>, bool, Vec<String>, Option<Vec<String>>, bool);

fn wrong(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// The converters of an app: name → (place, expression).
fn customs(told: &Bound<'_, PyDict>) -> PyResult<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (name, pair) in told.iter() {
        found.push((name.extract()?, pair.get_item(0)?.extract()?));
    }
    Ok(found)
}

fn parse(text: &str, mount: bool, opaque: bool, customs: &[(String, String)]) -> PyResult<Template> {
    let known = |name: &str| {
        let place = customs.iter().position(|(custom, _)| custom == name)?;
        Re::custom(name, &customs[place].1, place as u32).ok().map(Converter::Re)
    };
    if mount { Template::mount(text, opaque, &known) } else { Template::parse(text, &known) }.map_err(wrong)
}

/// Names and converters of a template's parameters. `converters`: name → (expression, function).
#[pyfunction]
#[pyo3(signature = (template, converters, mount=false))]
pub(crate) fn template_parameters(
    template: &str,
    converters: &Bound<'_, PyDict>,
    mount: bool,
) -> PyResult<Vec<(String, String)>> {
    let template = parse(template, mount, false, &customs(converters)?)?;
    Ok(template.parameters().iter().map(|p| (p.name.clone(), p.converter.name().to_owned())).collect())
}

/// Names of a pattern's captured segments.
#[pyfunction]
pub(crate) fn pattern_captures(pattern: &str) -> PyResult<Vec<String>> {
    let pattern = Pattern::parse(pattern).map_err(wrong)?;
    Ok(pattern.captures().map(|(name, _)| name.to_owned()).collect())
}

/// Whether an expression can be a converter's.
#[pyfunction]
pub(crate) fn check_expression(name: &str, expression: &str) -> PyResult<()> {
    Re::custom(name, expression, 0).map(drop).map_err(wrong)
}

/// The path of a template with these values, percent-encoded.
#[pyfunction]
pub(crate) fn build_path(
    template: &str,
    converters: &Bound<'_, PyDict>,
    values: Vec<(String, String)>,
) -> PyResult<String> {
    let template = parse(template, false, false, &customs(converters)?)?;
    let values: Vec<_> = values.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    template.build(&values).map_err(wrong)
}

impl Table {
    /// From `app.py`, which has already looked at every signature.
    pub(crate) fn new(told: &Bound<'_, PyDict>) -> PyResult<Self> {
        let py = told.py();
        let of = |name: &str| {
            told.get_item(name)?.ok_or_else(|| PyRuntimeError::new_err(format!("the app told no `{name}`")))
        };
        let converters = of("converters")?.cast_into::<PyDict>()?;
        let customs = customs(&converters)?;
        let mut functions = Vec::new();
        for (_, pair) in converters.iter() {
            functions.push(pair.get_item(1)?.unbind());
        }
        let mut router = Router::new();
        let mut routes = Vec::new();
        let mut templates = Vec::new();
        for (id, route) in of("routes")?.try_iter()?.enumerate() {
            let (text, methods, handler, plan, is_async, object, csrf, cors, mount, foreign) =
                route?.extract::<ToldRoute<'_>>()?;
            let template = parse(&text, mount, foreign, &customs)?;
            let methods = if mount {
                MethodSet::any()
            } else {
                MethodSet::of(methods.iter().map(String::as_str)).map_err(wrong)?
            };
            let names: Vec<_> = template.parameters().iter().map(|p| PyString::intern(py, &p.name)).collect();
            routes.push(Route {
                handler: handler.unbind(),
                plan: Plan::new(&plan)?,
                is_async,
                object: object.unbind(),
                names: PyTuple::new(py, names)?.unbind(),
                csrf,
                cors: cors.map(Bound::unbind),
                is_private: false,
                foreign,
            });
            templates.push(template.clone());
            router.insert(template, methods, id as u32).map_err(wrong)?;
        }
        router.freeze();
        let mut rules = Vec::new();
        let mut interceptors: Vec<Interceptor> = Vec::new();
        for interceptor in of("interceptors")?.try_iter()? {
            let (pattern, except, function, plan, is_generator, hosts, methods, is_guard) =
                interceptor?.extract::<ToldInterceptor<'_>>()?;
            rules.push(Rule { pattern: Pattern::parse(&pattern).map_err(wrong)?, except });
            let methods = match methods {
                Some(names) => Some(MethodSet::of(names.iter().map(String::as_str)).map_err(wrong)?),
                None => None,
            };
            interceptors.push(Interceptor {
                function: function.unbind(),
                plan: Plan::new(&plan)?,
                is_generator,
                is_guard,
                hosts,
                methods,
            });
        }
        let bound = intercept::bind(&rules, &templates.iter().collect::<Vec<_>>()).map_err(wrong)?;
        for (route, chain) in routes.iter_mut().zip(bound.chains()) {
            route.is_private = chain.iter().any(|link| interceptors[link.interceptor as usize].is_guard);
        }
        let mut providers = Vec::new();
        for provider in of("providers")?.try_iter()? {
            let (function, plan, is_generator) =
                provider?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>, bool)>()?;
            providers.push(Provider { function: function.unbind(), plan: Plan::new(&plan)?, is_generator });
        }
        let (body_bytes_max, form_bytes_max, parts_max, parameters_max) = of("limits")?.extract()?;
        Ok(Self {
            router,
            bound,
            routes,
            interceptors,
            providers,
            limits: Limits { body_bytes_max, form_bytes_max, parts_max, parameters_max },
            encoder: of("encoder")?.extract::<Option<Py<PyAny>>>()?,
            trusted_origins: of("trusted_origins")?.extract()?,
            converters: Converters::new(py, functions)?,
            outer: None,
        })
    }

    /// Every reference that it holds, for the collector of cycles.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Self { routes, interceptors, providers, encoder, converters, outer, .. } = self;
        for route in routes {
            let Route { handler, plan, object, names, cors, .. } = route;
            visit.call(handler)?;
            plan.traverse(visit)?;
            visit.call(object)?;
            visit.call(names)?;
            visit.call(cors)?;
        }
        for Interceptor { function, plan, .. } in interceptors {
            visit.call(function)?;
            plan.traverse(visit)?;
        }
        for Provider { function, plan, .. } in providers {
            visit.call(function)?;
            plan.traverse(visit)?;
        }
        visit.call(encoder)?;
        visit.call(outer)?;
        converters.traverse(visit)
    }

    /// For each route its chain: (interceptor, whether it runs for every request of the route).
    pub(crate) fn chains<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let chains = PyList::empty(py);
        for chain in self.bound.chains() {
            let chain: Vec<_> =
                chain.iter().map(|b| (b.interceptor, b.reach == intercept::Reach::Always)).collect();
            chains.append(chain)?;
        }
        Ok(chains)
    }
}

impl Converters {
    /// `custom`: the functions of an app's own converters.
    pub(crate) fn new(py: Python<'_>, custom: Vec<Py<PyAny>>) -> PyResult<Self> {
        Ok(Self { uuid: py.import("uuid")?.getattr("UUID")?.unbind(), custom })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.uuid)?;
        self.custom.iter().try_for_each(|function| visit.call(function))
    }

    /// The value of a path's parameter. An error that is an `HTTPError` says why there is none.
    #[inline]
    pub(crate) fn value<'py>(
        &self,
        py: Python<'py>,
        converter: &Converter,
        bytes: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        if matches!(converter, Converter::Int)
            && let Some(number) = int(bytes)
        {
            return Ok(number.into_pyobject(py)?.into_any());
        }
        let text = text(py, bytes)?;
        let missing = || refusal(py, 404, "");
        match converter {
            Converter::Str | Converter::Path => Ok(PyString::new(py, text).into_any()),
            Converter::Int => Err(missing()),
            Converter::Float => {
                text.parse().map(|number| PyFloat::new(py, number).into_any()).map_err(|_| missing())
            }
            Converter::Uuid => self.uuid.bind(py).call1((text,)).map_err(|_| missing()),
            Converter::Date => {
                let mut parts = text.split('-');
                let year = parts.next().and_then(|y| y.parse().ok()).ok_or_else(missing)?;
                let month = parts.next().and_then(|m| m.parse().ok()).ok_or_else(missing)?;
                let day = parts.next().and_then(|d| d.parse().ok()).ok_or_else(missing)?;
                PyDate::new(py, year, month, day).map(Bound::into_any).map_err(|_| missing())
            }
            Converter::Re(re) => {
                let Some(function) = re.id().and_then(|id| self.custom.get(id as usize)) else {
                    return Ok(PyString::new(py, text).into_any());
                };
                function
                    .bind(py)
                    .call1((text,))
                    .map_err(|e| if e.is_instance_of::<PyValueError>(py) { missing() } else { e })
            }
        }
    }
}

/// Bytes of a path as text; 400 where they are not UTF-8.
#[inline]
pub(crate) fn text<'a>(py: Python<'_>, bytes: &'a [u8]) -> PyResult<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| refusal(py, 400, "the path is not UTF-8"))
}
