//! MySQL and MariaDB for `trivet.db`: the module `trivet._mysql`. Whoever waits for the server has released the GIL.
#![allow(
    unsafe_code,
    reason = "a look at a descriptor, what a fork leaves, and rows without `type.__call__`"
)]

mod errors;
mod link;
mod pool;
mod values;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mysql::consts::CapabilityFlags;
use mysql::{ClientIdentity, Column, Opts, OptsBuilder, SslOpts};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

use errors::{At, raise};
use link::{Answer, Failure, Link, Traits};
use pool::{Pool, Settings};

/// Classes of rows kept by their statement. Beyond it all are forgotten and found again.
const CLASSES_MAX: usize = 2048;
/// The largest packet of the protocol with one header, less what MySQL and MariaDB allow by default: the server decides.
const PACKET_BYTES_MAX: usize = 1 << 30;
const KEEPALIVE_MILLISECONDS: u32 = 60_000;
/// What was sent and is not acknowledged by the other end's kernel for so long, is lost.
const UNACKNOWLEDGED_MILLISECONDS: u32 = 30_000;

/// A connection that a transaction has for itself.
#[pyclass(frozen, module = "trivet._mysql")]
#[derive(Debug)]
struct Connection {
    pool: Arc<Pool>,
    link: Mutex<Option<Link>>,
    broken: Mutex<Option<String>>,
    #[pyo3(get)]
    pid: u32,
}

#[pymethods]
impl Connection {
    /// Why the transaction is no more; None while it is.
    #[getter]
    fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Connection {
    fn new(pool: Arc<Pool>, link: Link) -> Self {
        Self { pool, link: Mutex::new(Some(link)), broken: Mutex::default(), pid: std::process::id() }
    }

    fn take(&self) -> Option<Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Link) -> Result<T, Failure>) -> Result<T, Failure> {
        if self.pid != std::process::id() {
            return Err(Failure::Wrong("the connection belongs to another process".into()));
        }
        let mut slot = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let link = slot.as_mut().ok_or_else(|| Failure::Wrong("the transaction has ended".into()))?;
        let done = work(link);
        if let Err(failure) = &done
            && failure.ends_transaction()
        {
            let why = match failure {
                Failure::Server { message, .. } => message.clone(),
                Failure::Lost { why, .. } => format!("the connection was lost: {why}"),
                _ => "it failed".into(),
            };
            *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        }
        done
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut link) = self.take() else { return };
        if self.pid == std::process::id() {
            // Nobody ended it: something came between its begin and the block around it.
            link.mark_dirty();
            self.pool.give(link);
        } else {
            pool::abandon_link(link);
        }
    }
}

#[derive(Debug)]
struct RowClass {
    columns: Arc<[Column]>,
    class: Py<PyType>,
}

/// The connections of a database; of each process its own.
#[pyclass(frozen, module = "trivet._mysql")]
#[derive(Debug)]
struct Database {
    /// Locked only by who has the GIL, as `fork` has: it is never found locked in a child.
    pool: Mutex<Arc<Pool>>,
    classes: Mutex<HashMap<Box<str>, RowClass>>,
}

#[pymethods]
impl Database {
    /// Times are in seconds, 0 for no limit. Connects to nothing yet.
    #[new]
    #[pyo3(signature = (*, host, port, socket, user, password, database, pool, pool_timeout, connect_timeout,
                        read_timeout, write_timeout, tls, tls_ca, tls_cert, tls_key))]
    #[expect(clippy::too_many_arguments, reason = "keywords, all of them, from one place")]
    fn new(
        host: String,
        port: u16,
        socket: Option<String>,
        user: String,
        password: String,
        database: String,
        pool: usize,
        pool_timeout: f64,
        connect_timeout: f64,
        read_timeout: f64,
        write_timeout: f64,
        tls: &str,
        tls_ca: Option<String>,
        tls_cert: Option<String>,
        tls_key: Option<String>,
    ) -> PyResult<Self> {
        let encrypted = match tls {
            "off" => None,
            "on" | "unverified" => {
                let mut wanted = SslOpts::default();
                if tls == "unverified" {
                    wanted = wanted.with_danger_accept_invalid_certs(true);
                }
                if let Some(ca) = tls_ca {
                    wanted = wanted.with_root_cert_path(Some(std::path::PathBuf::from(ca)));
                }
                if let (Some(cert), Some(key)) = (tls_cert, tls_key) {
                    let identity =
                        ClientIdentity::new(std::path::PathBuf::from(cert), std::path::PathBuf::from(key));
                    wanted = wanted.with_client_identity(Some(identity));
                }
                Some(wanted)
            }
            other => {
                return Err(PyValueError::new_err(format!("`tls` is off, on or unverified, not `{other}`")));
            }
        };
        let limit = |seconds: f64| (seconds > 0.0).then(|| Duration::from_secs_f64(seconds));
        let answer = limit(read_timeout);
        let named = socket.clone().unwrap_or_else(|| format!("{host}:{port}"));
        let opts = OptsBuilder::new()
            .ip_or_hostname(Some(host))
            .tcp_port(port)
            .socket(socket)
            .prefer_socket(false)
            .user(Some(user))
            .pass(Some(password))
            .db_name(Some(database))
            .max_allowed_packet(Some(PACKET_BYTES_MAX))
            .tcp_connect_timeout(limit(connect_timeout))
            // Of the handshake; afterwards it is `answer`.
            .read_timeout(limit(connect_timeout).or(answer))
            .write_timeout(limit(write_timeout))
            .tcp_keepalive_time_ms(Some(KEEPALIVE_MILLISECONDS))
            .tcp_user_timeout_ms(Some(UNACKNOWLEDGED_MILLISECONDS))
            .stmt_cache_size(0)
            // An update counts the rows that it found, as in other databases, not only those that it changed.
            .additional_capabilities(CapabilityFlags::CLIENT_FOUND_ROWS)
            .ssl_opts(encrypted);
        let settings = Settings {
            opts: Opts::from(opts),
            host: named,
            size: pool,
            wait: Duration::from_secs_f64(pool_timeout),
            answer,
        };
        Ok(Self { pool: Mutex::new(Arc::new(Pool::new(settings))), classes: Mutex::default() })
    }

    /// The rows of a statement's answer.
    fn query<'py>(
        &self,
        py: Python<'py>,
        held: Option<&Bound<'py, Connection>>,
        sql: &str,
        values: &Bound<'py, PyAny>,
        reads: bool,
        stays: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let answer = self.run(py, held, sql, values, Traits { reads, stays })?;
        self.rows(py, sql, answer)
    }

    /// How many rows a statement found or changed, and the number it gave to the last inserted one, or 0.
    fn execute(
        &self,
        py: Python<'_>,
        held: Option<&Bound<'_, Connection>>,
        sql: &str,
        values: &Bound<'_, PyAny>,
        reads: bool,
        stays: bool,
    ) -> PyResult<(u64, u64)> {
        let answer = self.run(py, held, sql, values, Traits { reads, stays })?;
        let affected =
            if answer.affected == 0 && !reads { answer.rows.len() as u64 } else { answer.affected };
        Ok((affected, answer.last_id))
    }

    /// A statement as text, on a connection that somebody has.
    fn run_text<'py>(
        &self,
        py: Python<'py>,
        held: &Bound<'py, Connection>,
        sql: &str,
    ) -> PyResult<Bound<'py, PyList>> {
        let held = held.get();
        let answer = py
            .detach(|| held.with(|link| link.run_text(sql)))
            .map_err(|f| raise(py, f, At::Transaction, Some(sql)))?;
        self.rows(py, sql, answer)
    }

    /// A connection with a transaction.
    fn begin(&self, py: Python<'_>) -> PyResult<Connection> {
        let pool = self.pool();
        let link = py.detach(|| pool.begin()).map_err(|f| raise(py, f, At::Read, None))?;
        Ok(Connection::new(pool, link))
    }

    /// A connection for other purposes; it is reset when it comes back.
    fn alone(&self, py: Python<'_>) -> PyResult<Connection> {
        let pool = self.pool();
        let mut link = py.detach(|| pool.take()).map_err(|f| raise(py, f, At::Read, None))?;
        link.mark_dirty();
        Ok(Connection::new(pool, link))
    }

    /// Commits and takes the connection back, also when it raises.
    fn commit(&self, py: Python<'_>, held: &Bound<'_, Connection>) -> PyResult<()> {
        let (pool, held) = (self.pool(), held.get());
        py.detach(|| {
            let done = held.with(|link| {
                if !link.is_quiet() {
                    let why = "the server has closed it".into();
                    return Err(Failure::Lost { why, sent: false });
                }
                match link.run_text("COMMIT") {
                    // It may roll back, or find that it cannot.
                    Err(refused @ Failure::Server { .. }) => {
                        let _ = link.run_text("ROLLBACK");
                        Err(refused)
                    }
                    other => other,
                }
            });
            if let Some(link) = held.take() {
                pool.give(link);
            }
            done
        })
        .map(drop)
        .map_err(|f| raise(py, f, At::Commit, None))
    }

    /// Rolls back and takes the connection back. A connection that is lost has taken its transaction along.
    fn rollback(&self, py: Python<'_>, held: &Bound<'_, Connection>) {
        let (pool, held) = (self.pool(), held.get());
        py.detach(|| {
            if let Some(mut link) = held.take() {
                if link.run_text("ROLLBACK").is_err() {
                    // Whatever state it is in, the server undoes it when it is reset or closed.
                    link.mark_dirty();
                }
                pool.give(link);
            }
        });
    }

    /// Takes a connection back.
    fn give(&self, py: Python<'_>, held: &Bound<'_, Connection>) {
        let (pool, held) = (self.pool(), held.get());
        py.detach(|| {
            if let Some(link) = held.take() {
                pool.give(link);
            }
        });
    }

    /// Closes the connections that are idle.
    fn close(&self, py: Python<'_>) {
        let pool = self.pool();
        py.detach(|| pool.close_idle());
    }

    /// How many connections this process has open.
    #[getter]
    fn open(&self) -> usize {
        self.pool().open()
    }
}

impl Database {
    fn pool(&self) -> Arc<Pool> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.pid != std::process::id() {
            let renewed = Arc::new(pool.renewed());
            pool::abandon(std::mem::replace(&mut *pool, renewed));
        }
        Arc::clone(&pool)
    }

    fn run(
        &self,
        py: Python<'_>,
        held: Option<&Bound<'_, Connection>>,
        sql: &str,
        values: &Bound<'_, PyAny>,
        traits: Traits,
    ) -> PyResult<Answer> {
        let values = values::from_python(values)?;
        let (done, at) = if let Some(held) = held {
            let held = held.get();
            (py.detach(|| held.with(|link| link.run(sql, &values, traits))), At::Transaction)
        } else {
            let pool = self.pool();
            let at = if traits.reads { At::Read } else { At::Change };
            (py.detach(|| pool.run(sql, &values, traits)), at)
        };
        done.map_err(|failure| raise(py, failure, at, Some(sql)))
    }

    fn rows<'py>(&self, py: Python<'py>, sql: &str, answer: Answer) -> PyResult<Bound<'py, PyList>> {
        let Some(columns) = answer.columns else {
            return Ok(PyList::empty(py));
        };
        let class = self.class(py, sql, &columns)?;
        values::rows_to_python(&class, &columns, answer.rows)
    }

    /// The class of a statement's rows. It changes when its table does.
    fn class<'py>(
        &self,
        py: Python<'py>,
        sql: &str,
        columns: &Arc<[Column]>,
    ) -> PyResult<Bound<'py, PyType>> {
        if let Some(found) = self.classes.lock().unwrap_or_else(PoisonError::into_inner).get(sql)
            && found.columns.len() == columns.len()
            && found.columns.iter().zip(columns.iter()).all(|(a, b)| a.name_ref() == b.name_ref())
        {
            return Ok(found.class.bind(py).clone());
        }
        let class = values::class_for(py, columns)?;
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        if classes.len() >= CLASSES_MAX {
            classes.clear();
        }
        classes.insert(sql.into(), RowClass { columns: Arc::clone(columns), class: class.clone().unbind() });
        Ok(class)
    }
}

#[pymodule]
#[pyo3(name = "_mysql")]
fn python_module(module: &Bound<'_, PyModule>) -> PyResult<()> {
    crate::panics::end_the_process();
    module.add_class::<Database>()?;
    module.add_class::<Connection>()?;
    Ok(())
}
