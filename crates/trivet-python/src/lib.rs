//! The only crate that knows Python: the extension that a worker process loads, and its gateways.
//!
//! `boot.py` loads it by path under a private name. [`process`] is what a worker has once, [`watcher`] its lifeline,
//! [`link`] its ends of the edge, [`wsgi`] the loop of a slot. [`mysql`] is a module of its own in the same file.

mod environ;
mod input;
mod link;
mod log;
mod mysql;
mod names;
mod panics;
mod process;
mod response;
mod signals;
mod template;
mod templates;
mod text;
mod watcher;
mod web;
mod wsgi;

use std::os::fd::AsRawFd;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::event::{PollFd, PollFlags};
use trivet_wire::control::FromWorker;

/// Waits for `Start` and begins to listen to the supervisor. Gives what it said as a dict.
///
/// A binary of another build is told so (`Unfit`) and is an error here.
#[pyfunction]
fn start(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let process = py.detach(process::init)?;
    let told = &process.start;
    if told.build != trivet_wire::BUILD {
        let why = format!(
            "the extension is of build `{}`, the binary of build `{}`: install both from one wheel",
            trivet_wire::BUILD,
            told.build
        );
        tell(py, &FromWorker::Unfit { why: why.clone() })?;
        return Err(PyRuntimeError::new_err(why));
    }
    watcher::spawn(process)?;
    // What `ps` shows; the kernel keeps 15 bytes of it.
    if let Ok(title) = std::ffi::CString::new(told.title.as_str()) {
        let _ = rustix::thread::set_name(&title);
    }
    let start = PyDict::new(py);
    start.set_item("app", &told.app)?;
    start.set_item("chdir", &told.chdir)?;
    start.set_item("pythonpath", &told.pythonpath)?;
    start.set_item("fallback_path", &told.fallback_path)?;
    start.set_item("threads", told.threads)?;
    start.set_item("reload", told.reload)?;
    start.set_item("check_only", told.check_only)?;
    start.set_item("title", &told.title)?;
    start.set_item("known_failure", &told.known_failure)?;
    Ok(start)
}

/// The app is imported.
#[pyfunction]
fn ready(py: Python<'_>, python: String, app: String) -> PyResult<()> {
    tell(py, &FromWorker::Ready { python, app })
}

/// The app cannot be imported; the traceback has been printed.
#[pyfunction]
fn import_failed(py: Python<'_>, summary: String) -> PyResult<()> {
    tell(py, &FromWorker::ImportFailed { summary })
}

/// A loaded file changed.
#[pyfunction]
fn changed(py: Python<'_>, path: String) -> PyResult<()> {
    tell(py, &FromWorker::Changed { path })
}

fn tell(py: Python<'_>, message: &FromWorker) -> PyResult<()> {
    py.detach(|| process::get().supervisor.send_json(message, &[])).map_err(Into::into)
}

/// Runs one slot in this thread until the supervisor says `Quit`.
#[pyfunction]
fn serve<'py>(
    py: Python<'py>,
    app: Bound<'py, PyAny>,
    errors: Bound<'py, PyAny>,
    file_wrapper: Bound<'py, PyAny>,
    report: Bound<'py, PyAny>,
) -> PyResult<()> {
    wsgi::serve(py, wsgi::Hooks { app, errors, file_wrapper, report })
}

/// Waits for `Quit`, looking after Python's signals.
#[pyfunction]
fn wait_for_quit(py: Python<'_>) -> PyResult<()> {
    let attention = &process::get().attention;
    loop {
        let polled = py.detach(|| rustix::event::poll(&mut [PollFd::new(attention, PollFlags::IN)], None));
        let mut value = [0; 8];
        let _ = rustix::io::read(attention, &mut value[..]);
        if u64::from_ne_bytes(value) >= process::QUIT {
            return Ok(());
        }
        match polled {
            Ok(_) | Err(rustix::io::Errno::INTR) => py.check_signals()?,
            Err(e) => return Err(std::io::Error::from(e).into()),
        }
    }
}

/// The descriptor for `signal.set_wakeup_fd`.
#[pyfunction]
fn signal_fd() -> i32 {
    process::get().signals.1.as_raw_fd()
}

/// What stands before the message in a log line of ours.
#[pyfunction]
fn log_prefix(level: &str) -> String {
    log::prefix(level)
}

#[pymodule]
#[pyo3(name = "_trivet_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    panics::end_the_process();
    module.add("BUILD", trivet_wire::BUILD)?;
    module.add_class::<input::Input>()?;
    module.add_function(wrap_pyfunction!(start, module)?)?;
    module.add_function(wrap_pyfunction!(ready, module)?)?;
    module.add_function(wrap_pyfunction!(import_failed, module)?)?;
    module.add_function(wrap_pyfunction!(changed, module)?)?;
    module.add_function(wrap_pyfunction!(serve, module)?)?;
    module.add_function(wrap_pyfunction!(wait_for_quit, module)?)?;
    module.add_function(wrap_pyfunction!(signal_fd, module)?)?;
    module.add_function(wrap_pyfunction!(log_prefix, module)?)?;
    Ok(())
}
