//! `trivet._templates`: templates in the language of Jinja, by `minijinja`, over Python's objects.
//!
//! An [`Environment`] never changes once it is made: what is to change (a filter, a file) makes another one in Python,
//! so that rendering takes no lock and a template may render another. Values are looked at when a template asks for
//! them ([`values`]), never copied beforehand.

mod values;

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{AutoEscape, Environment as Engine, Error, ErrorKind, UndefinedBehavior, Value};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use values::Context;

/// Templates in templates, counted in includes, macros and blocks.
const DEPTH_MAX: usize = 200;

/// Compiled templates with their filters, tests and globals.
#[pyclass(frozen, module = "trivet._templates")]
struct Environment {
    engine: Engine<'static>,
    failed: Py<PyAny>,
}

#[pymethods]
impl Environment {
    /// `load(name)` gives the text of a template, or None. `failed(message, kind, places, cause)` makes the exception
    /// for a failure; `places` are pairs of a template's name and a line, the outermost first, `cause` is what Python
    /// code raised. `escaped(name)` decides whether a template's output is HTML.
    #[new]
    #[allow(clippy::too_many_arguments, reason = "most are given by name")]
    #[pyo3(signature = (load, failed, escaped, *, filters, tests, globals, strict=false, debug=false))]
    fn new(
        load: Py<PyAny>,
        failed: Py<PyAny>,
        escaped: Py<PyAny>,
        filters: &Bound<'_, PyDict>,
        tests: &Bound<'_, PyDict>,
        globals: &Bound<'_, PyDict>,
        strict: bool,
        debug: bool,
    ) -> PyResult<Self> {
        let mut engine = Engine::new();
        engine.set_debug(debug);
        engine.set_auto_reload(false);
        engine.set_recursion_limit(DEPTH_MAX);
        if strict {
            engine.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        }
        engine.set_loader(move |name| {
            Python::attach(|py| {
                let text: Option<String> =
                    load.call1(py, (name,)).and_then(|text| text.extract(py)).map_err(values::failure)?;
                Ok(text)
            })
        });
        engine.set_auto_escape_callback(move |name| {
            let html = Python::attach(|py| {
                // Whoever cannot say gets the safe answer.
                escaped.call1(py, (name,)).and_then(|html| html.is_truthy(py)).unwrap_or(true)
            });
            if html { AutoEscape::Html } else { AutoEscape::None }
        });
        engine.set_formatter(values::write);
        engine.set_unknown_method_callback(|_, value, name, args| values::call_method_of(value, name, args));
        for (name, filter) in filters {
            let filter = filter.unbind();
            engine.add_filter(name.extract::<String>()?, move |args: Rest<ValueOrKwargs>| {
                Python::attach(|py| values::call(filter.bind(py), &args.into_values()))
            });
        }
        for (name, test) in tests {
            let test = test.unbind();
            let run = move |args: Rest<ValueOrKwargs>| -> Result<bool, Error> {
                let value = Python::attach(|py| values::call(test.bind(py), &args.into_values()))?;
                Ok(value.is_true())
            };
            engine.add_test(name.extract::<String>()?, run);
        }
        for (name, value) in globals {
            engine.add_global(name.extract::<String>()?, values::from_python(&value));
        }
        Ok(Self { engine, failed })
    }

    /// The text of a named template, with `context` as its variables.
    fn render(&self, py: Python<'_>, name: &str, context: &Bound<'_, PyDict>) -> PyResult<String> {
        values::forget_failure();
        let rendered = self
            .engine
            .get_template(name)
            .and_then(|template| template.render(Value::from_object(Context::new(context))));
        self.told(py, rendered)
    }

    /// The text of a template given as text; `name` is what messages call it, and decides about escaping.
    fn render_string(
        &self,
        py: Python<'_>,
        name: &str,
        source: &str,
        context: &Bound<'_, PyDict>,
    ) -> PyResult<String> {
        values::forget_failure();
        let context = Value::from_object(Context::new(context));
        let rendered = self.engine.render_named_str(name, source, context);
        self.told(py, rendered)
    }

    /// One block of a named template, with what it inherits.
    fn render_block(
        &self,
        py: Python<'_>,
        name: &str,
        block: &str,
        context: &Bound<'_, PyDict>,
    ) -> PyResult<String> {
        values::forget_failure();
        let rendered = self.engine.get_template(name).and_then(|template| {
            let mut captured = template.render_captured(Value::from_object(Context::new(context)))?;
            captured.with_state_mut(|state| state.render_block(block))
        });
        self.told(py, rendered)
    }
}

impl Environment {
    fn told(&self, py: Python<'_>, rendered: Result<String, Error>) -> PyResult<String> {
        // A value whose `__str__` failed has left its exception behind, whatever became of the text.
        let raised = values::take_failure();
        match (rendered, raised) {
            (Ok(text), None) => Ok(text),
            (Err(error), raised) => Err(self.exception(py, &error, raised)),
            (Ok(_), Some(raised)) => Err(raised),
        }
    }

    fn exception(&self, py: Python<'_>, error: &Error, raised: Option<PyErr>) -> PyErr {
        let mut places = Vec::new();
        let mut cause = raised;
        let mut innermost = error;
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(at) = next {
            if let Some(error) = at.downcast_ref::<Error>() {
                innermost = error;
                if let (Some(name), Some(line)) = (error.name(), error.line()) {
                    places.push((name.to_owned(), line));
                }
            } else if let Some(error) = at.downcast_ref::<PyErr>() {
                cause = Some(error.clone_ref(py));
            }
            next = at.source();
        }
        let kind = match innermost.kind() {
            ErrorKind::TemplateNotFound => "missing",
            ErrorKind::SyntaxError => "syntax",
            ErrorKind::UndefinedError => "undefined",
            _ => "other",
        };
        let description = innermost.kind().to_string();
        let message = match innermost.detail() {
            Some(detail) if innermost.kind() == ErrorKind::SyntaxError => detail.to_owned(),
            Some(detail) => format!("{description}: {detail}"),
            None => description,
        };
        let cause = cause.map(|error| error.into_value(py));
        match self.failed.call1(py, (message, kind, places, cause)) {
            Ok(exception) => PyErr::from_value(exception.into_bound(py)),
            Err(error) => error,
        }
    }
}

#[pymodule]
#[pyo3(name = "_templates")]
pub(crate) fn templates(module: &Bound<'_, PyModule>) -> PyResult<()> {
    crate::panics::end_the_process();
    module.add_class::<Environment>()
}
