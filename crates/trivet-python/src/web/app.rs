//! `App` as a server sees it, and the halves of a request for servers that are not WSGI.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::answer::{self, Answer, Fields, is_bodiless};
use super::call::{self, Life, Step};
use super::raw;
use super::table::Table;

/// The base of `trivet.App`: registration is there, serving here.
#[pyclass(frozen, subclass, module = "trivet._web")]
#[derive(Debug)]
pub(crate) struct App {
    table: raw::Slot<Table>,
}

impl App {
    /// The decided tables; the first request makes them.
    #[inline]
    fn table(slf: &Bound<'_, Self>) -> PyResult<Arc<Table>> {
        match slf.get().table.get(slf.py()) {
            Some(table) => Ok(table),
            None => Self::decide(slf),
        }
    }

    #[inline]
    fn serve<'py>(
        slf: &Bound<'py, Self>,
        table: &Table,
        environ: &Bound<'py, PyAny>,
        start_response: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let environ = environ
            .cast::<PyDict>()
            .map_err(|_| PyTypeError::new_err("the environ is not a dict (PEP 3333)"))?;
        let (is_head, answer) = Self::live(slf, table, environ)?;
        answer::send(slf.py(), slf.as_any(), is_head, answer, start_response)
    }

    /// A whole life. The first is whether the answer's head is all that was asked for.
    #[inline]
    fn live<'py>(
        slf: &Bound<'py, Self>,
        table: &Table,
        environ: &Bound<'py, PyDict>,
    ) -> PyResult<(bool, Answer<'py>)> {
        let py = slf.py();
        let mut life = Life::new(slf, environ);
        let outcome = call::open(py, table, &mut life).and_then(|step| call::run(py, table, &life, step));
        let answer = call::finish(py, table, &mut life, outcome)?;
        Ok((life.is_head, answer))
    }

    /// The app itself, where our own worker may call it without WSGI in between: nothing of a subclass is passed by.
    pub(crate) fn direct<'py>(app: &Bound<'py, PyAny>) -> Option<Bound<'py, Self>> {
        let called = |class: &Bound<'py, PyAny>| class.getattr(intern!(class.py(), "__call__")).ok();
        let own = called(app.py().get_type::<Self>().as_any())?;
        let app = app.cast::<Self>().ok()?;
        called(app.get_type().as_any())?.is(&own).then(|| app.clone())
    }

    /// For our own worker: the short way for what is all in memory, WSGI for everything else.
    #[inline]
    pub(crate) fn answer<'py>(
        slf: &Bound<'py, Self>,
        environ: &Bound<'py, PyDict>,
        start_response: &Bound<'py, PyAny>,
    ) -> PyResult<Given<'py>> {
        let py = slf.py();
        let table = Self::table(slf)?;
        if let Some(outer) = &table.outer {
            return raw::call(py, outer.bind(py), &[environ.clone().into_any(), start_response.clone()])
                .map(Given::Iterable);
        }
        match Self::live(slf, &table, environ)? {
            (false, Answer::Plain { status, fields: Fields::Media(kind), body }) if !is_bodiless(status) => {
                Ok(Given::Whole { status, media: kind.media(), body, is_private: false })
            }
            (false, Answer::Plain { status, fields: Fields::Private(kind), body })
                if !is_bodiless(status) =>
            {
                Ok(Given::Whole { status, media: kind.media(), body, is_private: true })
            }
            (is_head, answer) => {
                answer::send(py, slf.as_any(), is_head, answer, start_response).map(Given::Iterable)
            }
        }
    }

    #[cold]
    fn decide(slf: &Bound<'_, Self>) -> PyResult<Arc<Table>> {
        slf.call_method0("freeze")?;
        slf.get().table.get(slf.py()).ok_or_else(|| PyRuntimeError::new_err("`freeze` decided nothing"))
    }
}

/// What our own worker sends.
#[derive(Debug)]
pub(crate) enum Given<'py> {
    /// `start_response` was not called.
    Whole { status: u16, media: &'static str, body: Bound<'py, PyBytes>, is_private: bool },
    /// As by WSGI.
    Iterable(Bound<'py, PyAny>),
}

#[pymethods]
impl App {
    #[new]
    #[pyo3(signature = (*_args, **_named))]
    fn new(_args: &Bound<'_, PyTuple>, _named: Option<&Bound<'_, PyDict>>) -> Self {
        Self { table: raw::Slot::new(None) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.table.seen().map_or(Ok(()), |table| table.traverse(&visit))
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.table.take(py));
    }

    /// WSGI (PEP 3333).
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        environ: &Bound<'py, PyAny>,
        start_response: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let table = Self::table(slf)?;
        match &table.outer {
            None => Self::serve(slf, &table, environ, start_response),
            Some(outer) => {
                raw::call(slf.py(), outer.bind(slf.py()), &[environ.clone(), start_response.clone()])
            }
        }
    }

    /// The app within its middlewares.
    fn _serve<'py>(
        slf: &Bound<'py, Self>,
        environ: &Bound<'py, PyAny>,
        start_response: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let table = Self::table(slf)?;
        Self::serve(slf, &table, environ, start_response)
    }

    /// Takes the decided tables, unless `check(chains)` raises, and the app wrapped in its middlewares.
    fn _load<'py>(
        &self,
        told: &Bound<'py, PyDict>,
        check: &Bound<'py, PyAny>,
        outer: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let mut table = Table::new(told)?;
        check.call1((table.chains(told.py())?,))?;
        table.outer = outer;
        if self.table.set(told.py(), Arc::new(table)) {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("the app's tables have been decided already"))
    }

    /// Goes as far as the handler's call.
    fn _open(slf: &Bound<'_, Self>, environ: &Bound<'_, PyDict>) -> PyResult<Flight> {
        let py = slf.py();
        let table = Self::table(slf)?;
        let mut life = Life::new(slf, environ);
        let step = call::open(py, &table, &mut life);
        let route = life.route;
        let next = match step {
            Ok(Step::Call { route, args }) => Next::Call {
                function: table.routes[route].handler.clone_ref(py),
                args: PyTuple::new(py, args.list())?.unbind(),
                named: args.named().map(|named| named.clone().unbind()),
            },
            Ok(Step::Value(value)) => Next::Done(Ok(value.unbind())),
            Err(error) => Next::Done(Err(error)),
        };
        let is_async = route.is_some_and(|route| table.routes[route].is_async);
        Ok(Flight { is_async, state: Mutex::new(Some((table, life, next))) })
    }
}

#[derive(Debug)]
enum Next {
    Call { function: Py<PyAny>, args: Py<PyTuple>, named: Option<Py<PyDict>> },
    Done(PyResult<Py<PyAny>>),
}

/// A request between its two halves. The collector of cycles does not see into it: what it holds it gives up when it
/// lands or its caller ends, whichever comes first, and each of them would cost more if it did.
#[pyclass(frozen, module = "trivet._web")]
#[derive(Debug)]
pub(crate) struct Flight {
    is_async: bool,
    state: Mutex<Option<(Arc<Table>, Life, Next)>>,
}

fn landed() -> PyErr {
    PyRuntimeError::new_err("the request has been finished, or another thread finishes it")
}

impl Flight {
    fn take(&self) -> PyResult<(Arc<Table>, Life, Next)> {
        self.state.try_lock().ok().and_then(|mut state| state.take()).ok_or_else(landed)
    }

    fn end<'py>(
        py: Python<'py>,
        table: &Table,
        mut life: Life,
        outcome: PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call::finish(py, table, &mut life, outcome)?.full(py)
    }
}

#[pymethods]
impl Flight {
    /// Whether the handler is an `async def` that is still to be called.
    #[getter]
    fn is_async(&self) -> bool {
        self.is_async
            && self.state.try_lock().is_ok_and(|state| matches!(&*state, Some((_, _, Next::Call { .. }))))
    }

    /// The request, if the handler or an interceptor asked for one.
    #[getter]
    fn request<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (table, mut life, next) = self.take()?;
        let request = life.request(py, &table);
        *self.state.try_lock().map_err(|_| landed())? = Some((table, life, next));
        Ok(request?.into_any())
    }

    /// Calls the handler and gives its value, a coroutine for an `async def`.
    fn call<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (table, life, next) = self.take()?;
        let Next::Call { function, args, named } = next else { return Err(landed()) };
        let nothing = py.None();
        *self.state.try_lock().map_err(|_| landed())? = Some((table, life, Next::Done(Ok(nothing))));
        function.bind(py).call(args.bind(py), named.as_ref().map(|named| named.bind(py)))
    }

    /// Calls a handler that is not async, if there is one to call, and gives the `Response`.
    fn run<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (table, life, next) = self.take()?;
        let outcome = match next {
            Next::Call { function, args, named } => {
                function.bind(py).call(args.bind(py), named.as_ref().map(|named| named.bind(py)))
            }
            Next::Done(outcome) => outcome.map(|value| value.into_bound(py)),
        };
        Self::end(py, &table, life, outcome)
    }

    /// The `Response` for what the handler gave.
    fn finish<'py>(&self, py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (table, life, _) = self.take()?;
        Self::end(py, &table, life, Ok(value))
    }

    /// The `Response` for what the handler raised.
    fn fail<'py>(&self, py: Python<'py>, error: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (table, life, _) = self.take()?;
        Self::end(py, &table, life, Err(PyErr::from_value(error)))
    }
}
