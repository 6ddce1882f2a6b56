//! One connection: its prepared statements, what it may have left behind in the server, and what is lost with it.

use std::collections::HashMap;
use std::io::{Error as IoError, ErrorKind};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql::prelude::{Protocol, Queryable};
use mysql::{Column, Conn, Opts, QueryResult, Row, Statement, Value};
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::panics;

/// Prepared statements kept by a connection. Beyond it all are closed and prepared again when they come.
const STATEMENTS_MAX: usize = 256;
/// After so long without use a connection is asked whether it is still there: what dropped it may not have said so.
const PING_AFTER: Duration = Duration::from_secs(30);
/// "This command is not supported in the prepared statement protocol yet".
const NOT_PREPARABLE: u16 = 1295;

/// Why a statement has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server says no.
    Server { code: u16, state: String, message: String },
    /// The connection is gone. `sent`: the server may have got the statement.
    Lost { why: String, sent: bool },
    /// Every connection was in use for the whole time.
    NoneFree { seconds: f64, size: usize },
    /// There is no connection to be had.
    Unreachable { why: String, code: Option<u16> },
    /// The statement cannot be what it is.
    Wrong(String),
}

impl Failure {
    /// What the client library says, and whether the statement may have been sent by then.
    fn of(error: mysql::Error, sent: bool) -> Self {
        match error {
            // The server's last words: shutdown, killed, and that it waited too long for us, which it said before.
            mysql::Error::MySqlError(e) if matches!(e.code, 1053 | 1927 | 4031) => {
                Self::Lost { why: e.message, sent: sent && e.code != 4031 }
            }
            mysql::Error::MySqlError(e) => Self::Server { code: e.code, state: e.state, message: e.message },
            mysql::Error::DriverError(e @ mysql::DriverError::MixedParams) => Self::Wrong(e.to_string()),
            other => Self::Lost { why: reason(&other), sent },
        }
    }

    /// A transaction in which this happened is no more: deadlock, a changed snapshot, a rollback during the commit.
    pub(crate) fn ends_transaction(&self) -> bool {
        match self {
            Self::Server { code, .. } => matches!(code, 1020 | 1213 | 1180 | 3101),
            Self::Lost { .. } => true,
            _ => false,
        }
    }
}

/// What the client library says, without its names for it.
fn reason(error: &mysql::Error) -> String {
    use std::error::Error;
    use std::io::{self, ErrorKind};
    let of_io = |e: &io::Error| match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".into(),
        _ => e.to_string(),
    };
    match error {
        mysql::Error::IoError(e) => of_io(e),
        // What went wrong on the way is inside.
        mysql::Error::CodecError(e) => {
            e.source().and_then(|inner| inner.downcast_ref()).map_or_else(|| e.to_string(), of_io)
        }
        mysql::Error::DriverError(e) => e.to_string(),
        mysql::Error::TlsError(e) => e.to_string(),
        other => other.to_string(),
    }
}

/// What the server answered.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) columns: Option<Arc<[Column]>>,
    pub(crate) rows: Vec<Row>,
    pub(crate) affected: u64,
    pub(crate) last_id: u64,
}

/// What is known of a statement before it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    /// It changes nothing.
    pub(crate) reads: bool,
    /// It may leave something behind in its connection, so the connection is reset; and it is not kept prepared.
    pub(crate) stays: bool,
}

/// What the client library does with bytes of the server. It panics where a packet is shorter than it must be.
fn heard<T>(work: impl FnOnce() -> mysql::Result<T>) -> mysql::Result<T> {
    panics::caught(work).unwrap_or_else(|| {
        Err(IoError::new(ErrorKind::InvalidData, "the server's answer cannot be understood").into())
    })
}

#[derive(Debug)]
pub(crate) struct Link {
    conn: Conn,
    statements: HashMap<Box<str>, Statement>,
    dirty: bool,
    lost: bool,
    /// How long is waited for an answer that takes no time: to the handshake, a ping, a reset.
    greeting: Option<Duration>,
    /// How long is waited for any other.
    answer: Option<Duration>,
    used: Instant,
}

impl Link {
    /// `answer` is how long it will wait for answers, if not for ever.
    pub(crate) fn open(opts: Opts, answer: Option<Duration>) -> Result<Self, Failure> {
        let greeting = opts.get_read_timeout().copied();
        match heard(|| Conn::new(opts)) {
            Ok(conn) => {
                let statements = HashMap::new();
                let used = Instant::now();
                let link = Self { conn, statements, dirty: false, lost: false, greeting, answer, used };
                link.wait_at_most(answer);
                Ok(link)
            }
            Err(mysql::Error::MySqlError(e)) => {
                Err(Failure::Unreachable { why: e.message, code: Some(e.code) })
            }
            Err(e) => Err(Failure::Unreachable { why: reason(&e), code: None }),
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.conn.as_raw_fd()
    }

    fn wait_at_most(&self, time: Option<Duration>) {
        // SAFETY: the descriptor is open as long as `conn` is, which outlives the borrow.
        let socket = unsafe { BorrowedFd::borrow_raw(self.fd()) };
        // What the kernel accepted when the connection was opened, it accepts again.
        let _ = set_socket_timeout(socket, Timeout::Recv, time);
    }

    /// Something to which the server answers at once.
    fn greet(&mut self, work: impl FnOnce(&mut Conn) -> mysql::Result<()>) -> bool {
        self.wait_at_most(self.greeting);
        let conn = &mut self.conn;
        let done = heard(|| work(conn)).is_ok();
        self.wait_at_most(self.answer);
        done
    }

    /// Whether the other end is still there, as far as one can know without sending: a server that has gone, or has had
    /// enough of waiting, has left something to be read.
    pub(crate) fn is_quiet(&self) -> bool {
        if self.lost {
            return false;
        }
        // SAFETY: the descriptor is open as long as `conn` is, which outlives the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd()) };
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&now)), Ok(0))
    }

    /// Whether it can be used after it lay idle. Nothing of a statement has been sent by then.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.is_quiet() && (self.used.elapsed() < PING_AFTER || self.greet(Conn::ping))
    }

    /// Makes it as new if a statement may have left something. False: it cannot be used any more.
    pub(crate) fn clean(&mut self) -> bool {
        if self.lost {
            return false;
        }
        if self.dirty {
            // The server forgets the prepared statements too.
            self.statements.clear();
            if !self.greet(Conn::reset) {
                return false;
            }
            self.dirty = false;
        }
        self.used = Instant::now();
        true
    }

    pub(crate) fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// A statement with its values. Preparing does nothing yet: until then nothing is `sent`.
    pub(crate) fn run(&mut self, sql: &str, values: &[Value], traits: Traits) -> Result<Answer, Failure> {
        self.still_there()?;
        self.dirty |= traits.stays;
        let statement = match self.statements.get(sql) {
            Some(statement) => statement.clone(),
            None => match heard(|| self.conn.prep(sql)) {
                Ok(statement) => statement,
                Err(mysql::Error::MySqlError(e)) if e.code == NOT_PREPARABLE && values.is_empty() => {
                    return self.run_text(sql);
                }
                Err(e) => return Err(self.failed(e, false)),
            },
        };
        if usize::from(statement.num_params()) != values.len() {
            let wanted = statement.num_params();
            let _ = self.conn.close(statement);
            self.statements.remove(sql);
            return Err(Failure::Wrong(format!(
                "the statement has {wanted} placeholders, {} values were given",
                values.len()
            )));
        }
        // The client library takes the values by itself; they are gone with the call, for a second try there are others.
        let answer = heard(|| collect(self.conn.exec_iter(&statement, values.to_vec())?));
        match answer {
            Ok(answer) => {
                self.keep(sql, statement, traits);
                Ok(answer)
            }
            Err(e) => {
                let failure = self.failed(e, true);
                if !self.lost {
                    self.keep(sql, statement, traits);
                }
                Err(failure)
            }
        }
    }

    /// A statement as text, without values.
    pub(crate) fn run_text(&mut self, sql: &str) -> Result<Answer, Failure> {
        self.still_there()?;
        let answer = heard(|| collect(self.conn.query_iter(sql)?));
        answer.map_err(|e| self.failed(e, true))
    }

    /// An answer that comes late is not the next statement's.
    fn still_there(&self) -> Result<(), Failure> {
        if self.lost {
            return Err(Failure::Lost { why: "the connection was lost before".into(), sent: false });
        }
        Ok(())
    }

    fn keep(&mut self, sql: &str, statement: Statement, traits: Traits) {
        if self.statements.contains_key(sql) {
            return;
        }
        if traits.stays {
            // Seldom seen again; the server keeps a limited number for all.
            self.lost |= self.conn.close(statement).is_err();
            return;
        }
        if self.statements.len() >= STATEMENTS_MAX {
            for (_, old) in self.statements.drain() {
                self.lost |= self.conn.close(old).is_err();
            }
        }
        self.statements.insert(sql.into(), statement);
    }

    fn failed(&mut self, error: mysql::Error, sent: bool) -> Failure {
        let failure = Failure::of(error, sent);
        self.lost |= matches!(failure, Failure::Lost { .. });
        failure
    }
}

/// Reads the whole answer. Of several results (a procedure's) the first with rows is given.
///
/// When it fails, the rest is not read: by dropping the result one would, from a server that may say anything by then.
fn collect<T: Protocol>(result: QueryResult<'_, '_, '_, T>) -> mysql::Result<Answer> {
    let mut result = ManuallyDrop::new(result);
    let mut answer = Answer::default();
    while let Some(set) = result.iter() {
        let mut set = ManuallyDrop::new(set);
        answer.affected = set.affected_rows();
        answer.last_id = set.last_insert_id().unwrap_or(0);
        let columns: Arc<[Column]> = Arc::from(set.columns().as_ref());
        let wanted = answer.columns.is_none() && !columns.is_empty();
        for row in &mut *set {
            let row = row?;
            if wanted {
                answer.rows.push(row);
            }
        }
        if wanted {
            answer.columns = Some(columns);
        }
        ManuallyDrop::into_inner(set);
    }
    ManuallyDrop::into_inner(result);
    Ok(answer)
}
