//! Connections for a process: opened when needed, at most so many, looked at before use, left alone after a fork.

use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql::{Opts, OptsBuilder, Value};

use super::link::{Answer, Failure, Link, Traits};

/// What a pool is made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) opts: Opts,
    /// For messages.
    pub(crate) host: String,
    pub(crate) size: usize,
    /// How long a statement waits for a connection.
    pub(crate) wait: Duration,
    /// How long an answer is waited for. None: for ever.
    pub(crate) answer: Option<Duration>,
}

#[derive(Debug, Default)]
struct Links {
    idle: Vec<Link>,
    /// Idle ones, those in use, and those being opened.
    open: usize,
}

/// The connections of one process.
#[derive(Debug)]
pub(crate) struct Pool {
    settings: Settings,
    pub(crate) pid: u32,
    links: Mutex<Links>,
    freed: Condvar,
}

impl Pool {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, pid: std::process::id(), links: Mutex::default(), freed: Condvar::new() }
    }

    /// The same for another process.
    pub(crate) fn renewed(&self) -> Self {
        Self::new(self.settings.clone())
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        // Nothing is done under the lock that can leave it half done.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) -> usize {
        self.links().open
    }

    /// A connection that is there, as far as one can know. Waits for one, at most for the time that was set.
    pub(crate) fn take(&self) -> Result<Link, Failure> {
        let deadline = Instant::now() + self.settings.wait;
        let mut links = self.links();
        loop {
            if let Some(mut link) = links.idle.pop() {
                drop(links);
                if link.is_alive() {
                    return Ok(link);
                }
                drop(link);
                links = self.links();
                links.open -= 1;
                continue;
            }
            if links.open < self.settings.size {
                links.open += 1;
                drop(links);
                return self.connect().map_err(|failure| {
                    self.forget_one();
                    match failure {
                        Failure::Unreachable { why, code } => {
                            Failure::Unreachable { why: format!("`{}`: {why}", self.settings.host), code }
                        }
                        other => other,
                    }
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::NoneFree {
                    seconds: self.settings.wait.as_secs_f64(),
                    size: self.settings.size,
                });
            }
            links = self.freed.wait_timeout(links, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// To the first of the host's addresses that accepts. The client library tries one only; a name that TLS has to
    /// verify it must have as it is.
    fn connect(&self) -> Result<Link, Failure> {
        let opts = &self.settings.opts;
        let host = opts.get_ip_or_hostname();
        if opts.get_ssl_opts().is_some() || opts.get_socket().is_some() || host.parse::<IpAddr>().is_ok() {
            return Link::open(opts.clone(), self.settings.answer);
        }
        let addresses = (&*host, opts.get_tcp_port())
            .to_socket_addrs()
            .map_err(|e| Failure::Unreachable { why: e.to_string(), code: None })?;
        let mut last = Failure::Unreachable { why: "the name has no address".into(), code: None };
        for address in addresses {
            let ip = match address.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            let opts = OptsBuilder::from_opts(opts.clone()).ip_or_hostname(Some(ip)).into();
            match Link::open(opts, self.settings.answer) {
                // A server that answers is the one that was meant.
                Err(failure @ Failure::Unreachable { code: None, .. }) => last = failure,
                other => return other,
            }
        }
        Err(last)
    }

    /// Takes a connection back, as new or not at all.
    pub(crate) fn give(&self, mut link: Link) {
        if link.clean() {
            self.links().idle.push(link);
            self.freed.notify_one();
        } else {
            drop(link);
            self.forget_one();
        }
    }

    fn forget_one(&self) {
        self.links().open -= 1;
        self.freed.notify_one();
    }

    /// Closes the idle ones.
    pub(crate) fn close_idle(&self) {
        let idle = {
            let mut links = self.links();
            links.open -= links.idle.len();
            std::mem::take(&mut links.idle)
        };
        drop(idle);
        self.freed.notify_all();
    }

    /// A statement by itself. If the connection turns out to be gone before the statement is sent, on another one.
    pub(crate) fn run(&self, sql: &str, values: &[Value], traits: Traits) -> Result<Answer, Failure> {
        self.on_a_link(|link| link.run(sql, values, traits)).map(|(link, answer)| {
            self.give(link);
            answer
        })
    }

    /// A connection in a transaction.
    pub(crate) fn begin(&self) -> Result<Link, Failure> {
        // A `START TRANSACTION` whose answer is lost has begun nothing that could stay.
        self.on_a_link(|link| {
            link.run_text("START TRANSACTION").map_err(|failure| match failure {
                Failure::Lost { why, .. } => Failure::Lost { why, sent: false },
                other => other,
            })
        })
        .map(|(link, _)| link)
    }

    fn on_a_link<T>(
        &self,
        mut work: impl FnMut(&mut Link) -> Result<T, Failure>,
    ) -> Result<(Link, T), Failure> {
        let mut again = true;
        loop {
            let mut link = self.take()?;
            match work(&mut link) {
                Ok(done) => return Ok((link, done)),
                Err(failure) => {
                    self.give(link);
                    if !(again && matches!(failure, Failure::Lost { sent: false, .. })) {
                        return Err(failure);
                    }
                    again = false;
                }
            }
        }
    }
}

/// Leaves to the parent process what is the parent's. Closing a connection properly would say goodbye to the server in
/// the parent's name, so only the descriptors are closed.
pub(crate) fn abandon(pool: Arc<Pool>) {
    // Another thread of the parent may have had the lock: then the descriptors stay open, which harms nobody.
    if let Ok(mut links) = pool.links.try_lock() {
        for link in std::mem::take(&mut links.idle) {
            abandon_link(link);
        }
    }
    std::mem::forget(pool);
}

pub(crate) fn abandon_link(link: Link) {
    let fd: RawFd = link.fd();
    std::mem::forget(link);
    // SAFETY: the only owner of the descriptor has just been forgotten.
    unsafe { rustix::io::close(fd) };
}
