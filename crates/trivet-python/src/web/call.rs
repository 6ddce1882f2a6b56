//! The life of a request: route → CORS → CSRF → interceptors → arguments → handler → interceptors back → errors → head.
//!
//! [`open`] goes to the handler's call, [`finish`] takes what came of it; in between, an ASGI server awaits a coroutine.
//! A `Request` is made when the first one asks for it, which may be nobody.

use pyo3::exceptions::{PyException, PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use trivet_http::path;
use trivet_web::intercept::{Bound as Link, Source};
use trivet_web::router::{Found, Method, MethodSet};
use trivet_web::segments::Segments;

use super::answer::{self, Answer};
use super::app::App;
use super::hooks::{Keys, hooks, refusal, refusal_with};
use super::origin;
use super::plan::Args;
use super::raw;
use super::request::{self, Request};
use super::table::{Interceptor, Table, text};
use crate::text::bytes_of;

/// One request, from its environ to its answer.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) app: Py<App>,
    pub(crate) environ: Py<PyDict>,
    pub(crate) route: Option<usize>,
    /// The path's parameters, converted.
    pub(crate) values: Vec<Py<PyAny>>,
    pub(crate) is_head: bool,
    /// The router's own 404 or 405: an answer like others for those who wait around it, nobody's exception.
    is_refused: bool,
    /// There is no route, and a guard's pattern covers the path: caches may not keep what it let through.
    is_private: bool,
    request: Option<Py<Request>>,
    /// Interceptors that wait at their `yield`, the outermost first.
    around: Vec<Py<PyAny>>,
    provided: Vec<(usize, Py<PyAny>)>,
    /// Providers that wait at their `yield`.
    lenders: Vec<Py<PyAny>>,
    /// The answer has what the session says.
    is_saved: bool,
    cors: Option<Py<PyAny>>,
}

/// What there is to do once everybody has let the request pass.
#[derive(Debug)]
pub(crate) enum Step<'py> {
    Call { route: usize, args: Args<'py> },
    Value(Bound<'py, PyAny>),
}

/// Where a path leads.
enum Way {
    Route(usize),
    /// The other form of the trailing slash is a route's.
    Slash(usize),
    Allow(MethodSet),
    /// The route's own converter does not take the value, or nothing is there.
    Refused(PyErr),
    Nothing,
}

impl Life {
    #[inline]
    pub(crate) fn new(app: &Bound<'_, App>, environ: &Bound<'_, PyDict>) -> Self {
        Self {
            app: app.clone().unbind(),
            environ: environ.clone().unbind(),
            route: None,
            values: Vec::new(),
            is_head: false,
            is_refused: false,
            is_private: false,
            request: None,
            around: Vec::new(),
            provided: Vec::new(),
            lenders: Vec::new(),
            is_saved: false,
            cors: None,
        }
    }

    /// The request; from now on there is one.
    pub(crate) fn request<'py>(&mut self, py: Python<'py>, table: &Table) -> PyResult<Bound<'py, Request>> {
        if let Some(request) = &self.request {
            return Ok(request.bind(py).clone());
        }
        let request = request::make(py, table, self)?;
        self.request = Some(request.clone().unbind());
        Ok(request)
    }

    pub(crate) fn query_string<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        let query = raw::item(self.environ.bind(py), &hooks(py)?.keys.query);
        Ok(query.and_then(|query| query.cast_into().ok()))
    }

    /// What a provider gives, the same object for the whole request.
    pub(crate) fn provided<'py>(
        &mut self,
        py: Python<'py>,
        table: &Table,
        place: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some((_, value)) = self.provided.iter().find(|(at, _)| *at == place) {
            return Ok(value.bind(py).clone());
        }
        let provider =
            table.providers.get(place).ok_or_else(|| PyRuntimeError::new_err("no such provider"))?;
        let args = provider.plan.args(py, table, self, Some(&[]))?;
        let mut value = args.call(provider.function.bind(py))?;
        if provider.is_generator {
            let generator = value;
            value = match raw::send(&generator, &py.None().into_bound(py))? {
                raw::Sent::Yielded(value) => value,
                raw::Sent::Returned(_) => {
                    return Err(PyRuntimeError::new_err("a provider ended without a `yield`"));
                }
            };
            self.lenders.push(generator.unbind());
        }
        self.provided.push((place, value.clone().unbind()));
        Ok(value)
    }
}

/// To the handler's call.
#[inline]
pub(crate) fn open<'py>(py: Python<'py>, table: &Table, life: &mut Life) -> PyResult<Step<'py>> {
    let keys = &hooks(py)?.keys;
    let environ = life.environ.bind(py).clone();
    let line = Line::of(&environ, keys)?;
    let (mut a, mut b, mut c, mut d) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let method = Method::of(bytes(&line.method, &mut a));
    let path = bytes(&line.path, &mut b);
    let script = line.script.as_ref().map_or(&b""[..], |script| bytes(script, &mut c));
    let raw = line.raw.as_ref().map(|raw| trivet_http::uri::split_query(bytes(raw, &mut d)).0);
    let segments = Segments::split(path, script, raw);
    life.is_head = method == Method::Head;

    let found = table.router.find(method, &segments);
    let way = life.way(py, table, &found, &segments);
    let lone = if life.route.is_none() { without_route(table, life, &found, &segments) } else { Vec::new() };
    life.cors = origin::rule(py, table, &found);
    if let Some(answer) = origin::preflight(py, life.cors.as_ref(), method, &environ)? {
        return Ok(Step::Value(answer));
    }
    if !matches!(method, Method::Get | Method::Head | Method::Options) {
        let asks = life.route.is_none_or(|route| table.routes[route].csrf);
        origin::check(py, table, asks, life.cors.as_ref(), &environ)?;
    }
    if let Some(answer) = intercept(py, table, life, &found, &lone, method, &segments)? {
        return Ok(Step::Value(answer));
    }
    match way {
        Way::Route(route) if table.routes[route].foreign => {
            let request = life.request(py, table)?;
            let depth = table.router.route(route as u32).map_or(0, |route| route.template.depth());
            let below = crate::text::latin1(py, segments.below(depth))?;
            let handler = table.routes[route].handler.bind(py);
            Ok(Step::Value(hooks(py)?.foreign.bind(py).call1((request, handler, below))?))
        }
        // Under its name no HTTP request may come in: only a handshake leads there.
        Way::Route(_)
            if method == Method::Other(b"WEBSOCKET") && !environ.contains("trivet.websocket")? =>
        {
            life.is_refused = true;
            Err(refusal(py, 405, ""))
        }
        Way::Route(route) => {
            let args = table.routes[route].plan.args(py, table, life, None)?;
            Ok(Step::Call { route, args })
        }
        Way::Slash(route) if matches!(method, Method::Get | Method::Head) => {
            let moved = moved(py, table, route, script, &segments, life.query_string(py)?.as_ref());
            life.is_refused = moved.is_err();
            moved
        }
        Way::Allow(methods) => {
            let answer = allowed(py, &methods, method);
            life.is_refused = answer.is_err();
            answer
        }
        Way::Refused(error) => {
            // What an app's own converter raised besides ValueError is its exception.
            life.is_refused = error.is_instance(py, hooks(py)?.http_error.bind(py));
            Err(error)
        }
        Way::Slash(_) | Way::Nothing => {
            life.is_refused = true;
            Err(refusal(py, 404, ""))
        }
    }
}

/// From the handler's value or exception to the answer. An error here is one that no error handler may see.
#[inline]
pub(crate) fn finish<'py>(
    py: Python<'py>,
    table: &Table,
    life: &mut Life,
    outcome: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Answer<'py>> {
    let answer = answered(py, table, life, outcome);
    match &life.request {
        Some(request) if request.get().has_spools() => until_sent(py, request.bind(py), answer),
        _ => answer,
    }
}

#[inline]
fn answered<'py>(
    py: Python<'py>,
    table: &Table,
    life: &mut Life,
    outcome: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Answer<'py>> {
    let mut outcome = match outcome {
        Ok(value) => Answer::of(py, table, life, value),
        Err(error) if life.is_refused => failed(py, table, life, error),
        Err(error) => Err(error),
    };
    while let Some(generator) = life.around.pop() {
        outcome = back(py, table, life, generator.bind(py), outcome);
    }
    if !life.lenders.is_empty() {
        outcome = saved(py, table, life, outcome);
        outcome = settle(py, life, outcome);
    }
    let mut answer = match outcome {
        Ok(answer) => answer,
        Err(error) => {
            life.is_saved = false;
            failed(py, table, life, error)?
        }
    };
    let touched = life.request.as_ref().is_some_and(|request| request.get().is_touched());
    if touched || life.cors.is_some() {
        answer = decorated(py, table, life, answer)?;
    }
    let is_private = match life.route {
        Some(route) => table.routes[route].is_private,
        None => life.is_private,
    };
    if is_private {
        answer = answer.private(py)?;
    }
    Ok(answer)
}

/// Runs what `open` found, in a thread without a loop.
#[inline]
pub(crate) fn run<'py>(
    py: Python<'py>,
    table: &Table,
    life: &Life,
    step: Step<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    match step {
        Step::Call { route, args } => {
            let route = &table.routes[route];
            let value = args.call(route.handler.bind(py))?;
            if route.is_async { hooks(py)?.wait.bind(py).call1((&life.app, value)) } else { Ok(value) }
        }
        Step::Value(value) => Ok(value),
    }
}

struct Line<'py> {
    method: Bound<'py, PyString>,
    path: Bound<'py, PyString>,
    script: Option<Bound<'py, PyString>>,
    raw: Option<Bound<'py, PyString>>,
}

impl<'py> Line<'py> {
    #[inline]
    fn of(environ: &Bound<'py, PyDict>, keys: &Keys) -> PyResult<Self> {
        let text = |key| raw::item(environ, key).and_then(|value| value.cast_into::<PyString>().ok());
        let missing = || PyTypeError::new_err("the environ has no REQUEST_METHOD");
        Ok(Self {
            method: text(&keys.method).ok_or_else(missing)?,
            path: text(&keys.path).unwrap_or_else(|| PyString::new(environ.py(), "")),
            script: text(&keys.script),
            raw: text(&keys.raw_uri).or_else(|| text(&keys.request_uri)),
        })
    }
}

/// Texts of an environ are latin-1 (PEP 3333); another one matches nothing.
#[inline]
fn bytes<'a>(text: &'a Bound<'_, PyString>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    bytes_of(text, scratch).unwrap_or(b"//")
}

impl Life {
    #[inline]
    fn way(&mut self, py: Python<'_>, table: &Table, found: &Found, segments: &Segments<'_>) -> Way {
        match found {
            Found::Route { id, params } => {
                let route = *id as usize;
                if !params.is_empty() {
                    let template = &table.router.route(*id).expect("the router found it").template;
                    self.values.reserve(params.len());
                    for (span, parameter) in params.iter().zip(template.parameters()) {
                        match table.converters.value(py, &parameter.converter, segments.bytes(span)) {
                            Ok(value) => self.values.push(value.unbind()),
                            Err(error) => {
                                self.values.clear();
                                return Way::Refused(error);
                            }
                        }
                    }
                }
                self.route = Some(route);
                Way::Route(route)
            }
            Found::Slash { id } => Way::Slash(*id as usize),
            Found::Method { allow, .. } => Way::Allow(allow.clone()),
            Found::None => Way::Nothing,
        }
    }
}

/// The numbers of the interceptors of a request that no route serves: 404, 405, OPTIONS, 308.
#[cold]
fn without_route(table: &Table, life: &mut Life, found: &Found, segments: &Segments<'_>) -> Vec<u32> {
    if table.interceptors.is_empty() {
        return Vec::new();
    }
    let numbers: Vec<u32> = match found {
        Found::None => table.bound.applicable(segments).collect(),
        Found::Route { id, .. } | Found::Slash { id } => {
            table.bound.applicable_to(&[*id], segments).collect()
        }
        Found::Method { ids, .. } => table.bound.applicable_to(ids, segments).collect(),
    };
    life.is_private = numbers.iter().any(|number| table.interceptors[*number as usize].is_guard);
    numbers
}

/// Runs the chain, `lone` where there is no route. What it gives stops the request.
#[inline]
fn intercept<'py>(
    py: Python<'py>,
    table: &Table,
    life: &mut Life,
    found: &Found,
    lone: &[u32],
    method: Method<'_>,
    segments: &Segments<'_>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if table.interceptors.is_empty() {
        return Ok(None);
    }
    if let (Some(_), Found::Route { id, .. }) = (life.route, found) {
        for link in table.bound.chain(*id) {
            if !link.holds(segments) {
                continue;
            }
            let interceptor = &table.interceptors[link.interceptor as usize];
            if !interceptor.applies(py, method, &life.environ) {
                continue;
            }
            let captures = life.captures(py, link, segments)?;
            if let Some(answer) = ask(py, table, life, interceptor, &captures)? {
                return Ok(Some(answer));
            }
        }
        return Ok(None);
    }
    for &number in lone {
        let interceptor = &table.interceptors[number as usize];
        if !interceptor.applies(py, method, &life.environ) {
            continue;
        }
        let pattern = table.bound.pattern(number).expect("its number was given");
        let mut captures = Vec::new();
        for (_, span) in pattern.spans(segments) {
            captures.push(PyString::new(py, text(py, segments.bytes(span))?).into_any());
        }
        if let Some(answer) = ask(py, table, life, interceptor, &captures)? {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

impl Life {
    fn captures<'py>(
        &self,
        py: Python<'py>,
        link: &Link,
        segments: &Segments<'_>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let value = |source: Source| match source {
            Source::Parameter(at) if at < self.values.len() => Ok(self.values[at].bind(py).clone()),
            Source::Parameter(_) => Err(PyRuntimeError::new_err("the route has no such parameter")),
            Source::Segment(at) => Ok(PyString::new(py, text(py, segments.get(at))?).into_any()),
        };
        link.captures.iter().map(|capture| value(capture.source)).collect()
    }
}

impl Interceptor {
    fn applies(&self, py: Python<'_>, method: Method<'_>, environ: &Py<PyDict>) -> bool {
        if let Some(methods) = &self.methods
            && !methods.contains(method)
            && !(method == Method::Head && methods.contains(Method::Get))
        {
            return false;
        }
        self.hosts.is_empty() || origin::is_host(py, environ, &self.hosts)
    }
}

/// Calls one interceptor.
fn ask<'py>(
    py: Python<'py>,
    table: &Table,
    life: &mut Life,
    interceptor: &Interceptor,
    captures: &[Bound<'py, PyAny>],
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let args = interceptor.plan.args(py, table, life, Some(captures))?;
    let mut value = args.call(interceptor.function.bind(py))?;
    if interceptor.is_generator {
        let generator = value;
        value = match raw::send(&generator, &py.None().into_bound(py))? {
            raw::Sent::Yielded(nothing) if nothing.is_none() => {
                life.around.push(generator.unbind());
                return Ok(None);
            }
            raw::Sent::Yielded(_) => {
                return Err(PyTypeError::new_err(
                    "an interceptor yielded a value\nhint: `return` a response to stop, `yield` nothing to go on",
                ));
            }
            raw::Sent::Returned(nothing) if nothing.is_none() => {
                // Whether it meant to let the request pass is not to be guessed.
                return Err(PyRuntimeError::new_err(format!(
                    "the interceptor {} ended before its `yield`\n\
                     hint: a generator yields once to let the request pass; `return` a Response to stop it",
                    named(interceptor.function.bind(py))
                )));
            }
            raw::Sent::Returned(value) => value,
        };
    }
    if value.is_none() {
        return Ok(None);
    }
    if value.is_instance(hooks(py)?.response.bind(py))? {
        return Ok(Some(value));
    }
    Err(PyTypeError::new_err(format!(
        "an interceptor returned `{}`: None lets the request pass, a Response stops it\n\
         hint: `return Response(…)`, or raise an HTTPError",
        value.get_type().name()?
    )))
}

/// How messages call a function.
#[cold]
fn named(function: &Bound<'_, PyAny>) -> String {
    let name = function.getattr("__qualname__").and_then(|name| name.extract::<String>());
    name.map_or_else(|_| "that has no name".to_owned(), |name| format!("`{name}`"))
}

/// Gives the answer or the exception to an interceptor that waits around the handler.
fn back<'py>(
    py: Python<'py>,
    table: &Table,
    life: &mut Life,
    generator: &Bound<'py, PyAny>,
    outcome: PyResult<Answer<'py>>,
) -> PyResult<Answer<'py>> {
    let response_class = hooks(py)?.response.bind(py);
    let replaced = |value: Bound<'py, PyAny>| {
        if value.is_instance(response_class)? {
            return Ok(Some(value));
        }
        if value.is_none() {
            return Ok(None);
        }
        Err(PyTypeError::new_err("an interceptor returned something else than a Response after its `yield`"))
    };
    match outcome {
        Ok(answer) => {
            let response = answer.full(py)?;
            let made = match raw::send(generator, &response) {
                Ok(raw::Sent::Returned(value)) => replaced(value),
                Ok(raw::Sent::Yielded(_)) => Err(twice(generator)),
                Err(error) => Err(error),
            };
            match made {
                // An interceptor may have kept it, for other requests even.
                Ok(None) => answer::own(response).map(Answer::Full),
                Ok(Some(other)) => {
                    if other.is(&response) {
                        drop(response);
                        return answer::own(other).map(Answer::Full);
                    }
                    release(py, &Answer::Full(response));
                    made_for(py, table, life, other)
                }
                Err(error) => {
                    release(py, &Answer::Full(response));
                    Err(error)
                }
            }
        }
        Err(error) => match generator.call_method1("throw", (error.into_value(py),)) {
            Ok(_) => Err(twice(generator)),
            Err(stop) if stop.is_instance_of::<PyStopIteration>(py) => {
                match replaced(stop.value(py).getattr("value")?)? {
                    Some(response) => made_for(py, table, life, response),
                    None => Err(PyRuntimeError::new_err(
                        "an interceptor caught an exception and gave no response in its place\n\
                         hint: `return` a Response, or `raise` again",
                    )),
                }
            }
            Err(error) => Err(error),
        },
    }
}

/// A response that an interceptor gave in the place of the handler's.
fn made_for<'py>(
    py: Python<'py>,
    table: &Table,
    life: &mut Life,
    response: Bound<'py, PyAny>,
) -> PyResult<Answer<'py>> {
    if raw::is_exactly(&response, &hooks(py)?.response) {
        return answer::own(response).map(Answer::Full);
    }
    let request = life.request(py, table)?;
    answer::own(response)?.call_method1("_prepare", (request,)).map(Answer::Full)
}

#[cold]
fn twice(generator: &Bound<'_, PyAny>) -> PyErr {
    let error = PyRuntimeError::new_err("a generator around a request yields exactly once");
    match generator.call_method0("close") {
        Ok(_) => error,
        Err(second) => second,
    }
}

/// Saves the session while the providers can still be told that it failed: what they commit is not to be answered by
/// a 500.
fn saved<'py>(
    py: Python<'py>,
    table: &Table,
    life: &mut Life,
    outcome: PyResult<Answer<'py>>,
) -> PyResult<Answer<'py>> {
    let Ok(answer) = outcome else { return outcome };
    if life.request.as_ref().is_none_or(|request| request.get().session.get().is_none()) {
        return Ok(answer);
    }
    let request = life.request(py, table)?;
    let response = answer.full(py)?;
    match hooks(py)?.save_session.bind(py).call1((&life.app, &request, &response)) {
        Ok(_) => {
            life.is_saved = true;
            Ok(Answer::Full(response))
        }
        Err(error) => {
            release(py, &Answer::Full(response));
            Err(error)
        }
    }
}

/// Resumes the providers: before the head where the body is whole, else when it has gone.
fn settle<'py>(py: Python<'py>, life: &mut Life, outcome: PyResult<Answer<'py>>) -> PyResult<Answer<'py>> {
    if let Ok(answer) = &outcome
        && !answer.is_whole(py)?
        && let Answer::Full(response) = answer
    {
        let lenders = std::mem::take(&mut life.lenders);
        response.call_method1("_lend", (lenders,))?;
        return outcome;
    }
    let mut outcome = outcome;
    while let Some(generator) = life.lenders.pop() {
        let generator = generator.bind(py);
        outcome = match outcome {
            Ok(answer) => match raw::send(generator, &py.None().into_bound(py)) {
                Ok(raw::Sent::Returned(_)) => Ok(answer),
                Ok(raw::Sent::Yielded(_)) => Err(twice(generator)),
                Err(error) => {
                    release(py, &answer);
                    Err(error)
                }
            },
            Err(error) => {
                let error = error.into_value(py);
                match generator.call_method1("throw", (&error,)) {
                    Ok(_) => Err(twice(generator)),
                    // It took the exception for its own business; the client's answer is the same.
                    Err(stop) if stop.is_instance_of::<PyStopIteration>(py) => {
                        Err(PyErr::from_value(error.into_bound(py).into_any()))
                    }
                    Err(error) => Err(error),
                }
            }
        };
    }
    outcome
}

/// Closes an answer that nobody will get.
fn release(py: Python<'_>, answer: &Answer<'_>) {
    if let Answer::Full(response) = answer
        && let Err(second) = response.call_method0("close")
    {
        second.write_unraisable(py, Some(response));
    }
}

/// The app's error handlers and the plain pages behind them.
#[cold]
fn failed<'py>(py: Python<'py>, table: &Table, life: &mut Life, error: PyErr) -> PyResult<Answer<'py>> {
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    let request = life.request(py, table)?;
    let response = hooks(py)?.fail.bind(py).call1((&life.app, request, error.into_value(py)))?;
    Ok(Answer::Full(response))
}

/// With what the request's own parts have to say about the answer.
fn decorated<'py>(
    py: Python<'py>,
    table: &Table,
    life: &mut Life,
    answer: Answer<'py>,
) -> PyResult<Answer<'py>> {
    let request = life.request(py, table)?;
    let response = answer.full(py)?;
    let decorate = hooks(py)?.decorate.bind(py);
    match decorate.call1((&life.app, &request, &response, &life.cors, life.is_saved)) {
        Ok(response) => Ok(Answer::Full(response)),
        Err(error) => {
            release(py, &Answer::Full(response));
            failed(py, table, life, error)
        }
    }
}

/// Closes the files that the request's form lies in, after everything else that waits for the answer's end.
#[cold]
fn until_sent<'py>(
    py: Python<'py>,
    request: &Bound<'py, Request>,
    answer: PyResult<Answer<'py>>,
) -> PyResult<Answer<'py>> {
    match answer {
        Ok(answer) => {
            let response = answer.full(py)?;
            let close = request.getattr("_close_files")?;
            response.getattr(&hooks(py)?.keys.closers)?.call_method1("append", (close,))?;
            Ok(Answer::Full(response))
        }
        Err(error) => {
            if let Err(second) = request.get().close_files(py) {
                second.write_unraisable(py, Some(request.as_any()));
            }
            Err(error)
        }
    }
}

/// 308 to the form of the path that the route was declared with.
fn moved<'py>(
    py: Python<'py>,
    table: &Table,
    route: usize,
    script: &[u8],
    segments: &Segments<'_>,
    query: Option<&Bound<'py, PyString>>,
) -> PyResult<Step<'py>> {
    let template = &table.router.route(route as u32).expect("the router found it").template;
    let mut location = Vec::new();
    path::encode(&String::from_utf8_lossy(script), &mut location);
    location.extend_from_slice(segments.encoded(template.trailing_slash()).as_bytes());
    if location.starts_with(b"//") {
        // It would name another host.
        return Err(refusal(py, 404, ""));
    }
    let mut location = String::from_utf8(location).map_err(|_| refusal(py, 404, ""))?;
    if let Some(query) = query {
        let query = raw::utf8(query)?;
        if !query.is_empty() {
            location.push('?');
            location.push_str(query);
        }
    }
    Ok(Step::Value(hooks(py)?.moved.bind(py).call1((location,))?))
}

/// The methods that a client may use: GET serves HEAD, and a handshake is none.
pub(crate) fn served(methods: &MethodSet) -> Vec<&str> {
    let mut names: Vec<&str> = methods.names();
    names.retain(|name| *name != "WEBSOCKET");
    if names.contains(&"GET") && !names.contains(&"HEAD") {
        names.push("HEAD");
    }
    names
}

/// The answer to OPTIONS, or 405.
fn allowed<'py>(py: Python<'py>, methods: &MethodSet, method: Method<'_>) -> PyResult<Step<'py>> {
    let mut names = served(methods);
    if !names.contains(&"OPTIONS") {
        names.push("OPTIONS");
    }
    let allow = names.join(", ");
    if method == Method::Options {
        return Ok(Step::Value(hooks(py)?.options.bind(py).call1((allow,))?));
    }
    Err(refusal_with(py, 405, "", Some(vec![("Allow", allow)])))
}
