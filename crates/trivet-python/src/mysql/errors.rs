//! Failures as the exceptions of `trivet.db.errors`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::link::Failure;

/// Where in its life a statement failed: it decides what a lost connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// By itself, and it changes nothing.
    Read,
    /// By itself: its commit is part of it.
    Change,
    /// Inside a transaction.
    Transaction,
    Commit,
}

pub(crate) fn raise(py: Python<'_>, failure: Failure, at: At, sql: Option<&str>) -> PyErr {
    exception(py, failure, at, sql).unwrap_or_else(|e| e)
}

fn exception(py: Python<'_>, failure: Failure, at: At, sql: Option<&str>) -> PyResult<PyErr> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("trivet.db.errors").map(Bound::unbind))?.bind(py);
    let details = PyDict::new(py);
    details.set_item("sql", sql)?;
    let (class, message) = match failure {
        Failure::Server { code, state, message } => {
            let class = if at == At::Commit { "OperationalError" } else { class_of(code, &state) };
            details.set_item("code", code)?;
            details.set_item("sqlstate", state)?;
            (class, message)
        }
        Failure::Unreachable { why, code } => {
            details.set_item("code", code)?;
            ("OperationalError", format!("cannot connect to {why}"))
        }
        Failure::NoneFree { seconds, size } => (
            "PoolTimeout",
            format!(
                "all {size} connections were in use for {seconds} s\n\
                 hint: `pool=` and `pool_timeout=` in the database URL; shorter transactions"
            ),
        ),
        Failure::Wrong(message) => ("ProgrammingError", message),
        Failure::Lost { why, sent } => match at {
            At::Commit if sent => (
                "CommitUnknown",
                format!(
                    "the connection was lost before the commit was acknowledged: {why}; it happened, or it did not"
                ),
            ),
            At::Change if sent => (
                "CommitUnknown",
                format!(
                    "the connection was lost before the statement was acknowledged: {why}; it happened, or it did not"
                ),
            ),
            At::Transaction | At::Commit => {
                ("OperationalError", format!("the connection was lost, and the transaction with it: {why}"))
            }
            At::Read | At::Change => ("OperationalError", format!("the connection was lost: {why}")),
        },
    };
    let error = module.getattr(class)?.call((message,), Some(&details))?;
    Ok(PyErr::from_value(error))
}

/// By the error's number, else by the class of its SQLSTATE (ISO 9075: 23 integrity, 42 syntax or access, 22 data).
fn class_of(code: u16, state: &str) -> &'static str {
    match code {
        // No default for a column; a CHECK of MySQL.
        1364 | 3819 => "IntegrityError",
        // A user has reached a limit; that is no matter of the statement.
        1226 => "OperationalError",
        // A text that does not fit its column or character set; wrong arguments.
        1210 | 1265 | 1366 => "ProgrammingError",
        _ => match state.get(..2) {
            Some("23") => "IntegrityError",
            Some("07" | "0A" | "21" | "22" | "42") => "ProgrammingError",
            _ => "OperationalError",
        },
    }
}
