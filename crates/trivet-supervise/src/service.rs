//! The supervisor's loop: it waits for signals, messages and deaths, asks the machine, and does what it says.

mod reload;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::PipeFlags;
use rustix::process::Rlimit;
use serde_json::Value;
use trivet_wire::channel::Channel;
use trivet_wire::control::{FromEdge, FromWorker, ToEdge, ToWorker, WorkerStart};

use self::reload::{Pending, Trying, Waiting};
use crate::access_logs::{AccessLogs, LogTarget, NotOpened};
use crate::identity::{AuthorityFile, Identities, IdentityError, IdentityFiles, TicketKeys};
use crate::link::Link;
use crate::listen::{Bind, Listener};
use crate::log::{Level, Log};
use crate::machine::{Action, Announce, App, EXIT_SOFTWARE, End, Event, Machine, Millis, Policy};
use crate::notify::notify;
use crate::pidfile::{PidFile, PidFileError};
use crate::plain;
use crate::process::account::Account;
use crate::process::signals::Signals;
use crate::process::{self, Launch};
use crate::status::{AppStatus, Ask, Control, EdgeStatus, Status, WorkerStatus};

/// What a start that no process came of stands for.
const SPAWN_FAILED: End = End::Exited(71);

#[derive(Debug)]
pub struct EdgeSettings {
    /// Its configuration; generation and the numbers of the apps are filled in here.
    pub config: Value,
    pub account: Option<Account>,
    /// In the order of the configuration's logs.
    pub logs: Vec<LogTarget>,
    /// The certificates that its sites name by their place.
    pub identities: Vec<IdentityFiles>,
    /// The files that its sites' rules on clients' certificates name by their place.
    pub authorities: Vec<AuthorityFile>,
    /// 48 random bytes; else the keys of session tickets are made here, and change.
    pub ticket_key: Option<PathBuf>,
    /// Lines for the start about what the edge serves besides the apps.
    pub serves: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WorkerSettings {
    pub python: PathBuf,
    pub boot: PathBuf,
    pub env: Vec<(OsString, OsString)>,
    pub account: Option<Account>,
    pub umask: Option<u32>,
    /// All but the worker's number.
    pub start: WorkerStart,
}

/// An app, in the order of the edge's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct AppSettings {
    pub name: String,
    pub policy: Policy,
    pub worker: WorkerSettings,
}

/// Reads the configuration anew, given the sockets that are there. An error is for the operator to read.
pub struct Reread(pub Box<Rereader>);

type Rereader = dyn FnMut(&[Listener]) -> Result<Next, String>;

impl std::fmt::Debug for Reread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reread")
    }
}

/// What a changed configuration asks for.
#[derive(Debug)]
pub struct Next {
    /// In the order of the edge's configuration, each with its name from now on.
    pub listeners: Vec<(Bind, String)>,
    /// Those of them that were not there before.
    pub new: Vec<Listener>,
    pub edge: EdgeSettings,
    pub apps: Vec<AppSettings>,
    /// What an operator should know of it.
    pub warnings: Vec<String>,
}

#[derive(Debug)]
pub struct Settings {
    pub version: &'static str,
    /// What is served, in a word or two: the app, or the configuration file.
    pub title: String,
    pub listeners: Vec<Listener>,
    pub edge: EdgeSettings,
    pub apps: Vec<AppSettings>,
    pub log: Log,
    /// What the apps print goes to the log file too, if there is one.
    pub capture_output: bool,
    pub pid_file: Option<PathBuf>,
    /// `None`: there is no configuration to read; a reload replaces the workers.
    pub reread: Option<Reread>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error("cannot open the access log `{}`: {}", path.display(), plain(source))]
    AccessLog { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the system refuses what a supervisor needs: {}", plain(.0))]
    System(#[from] io::Error),
}

impl ServiceError {
    pub fn hint(&self) -> &'static str {
        match self {
            Self::PidFile(error) => error.hint(),
            Self::AccessLog { .. } => {
                "look at the file or address of the access log: its folder, permissions, or name"
            }
            Self::Identity(IdentityError::Bad { .. }) => {
                "the certificate file holds the server's certificate and those that lead to its issuer, the key file its key, both as PEM"
            }
            Self::Identity(IdentityError::BadAuthority { .. }) => {
                "the file holds the certificates of those who issue clients' certificates, as PEM"
            }
            Self::Identity(_) => "look at the paths of `--tls-cert` and `--tls-key` and their permissions",
            Self::System(_) => "look at the limits of this container or user (processes, open files)",
        }
    }
}

#[derive(Debug)]
struct EdgeChild {
    generation: u32,
    pid: u32,
    link: Option<Link>,
}

#[derive(Debug)]
struct WorkerChild {
    app: u32,
    pid: u32,
    link: Option<Link>,
    since: Millis,
}

/// An app that is served.
#[derive(Debug)]
struct Served {
    id: u32,
    settings: AppSettings,
    /// As they were before the last change, until workers have come up with it.
    before: Option<WorkerSettings>,
    python: Option<String>,
    /// Why it could not be imported, until it could or somebody asks anew.
    known_failure: Option<String>,
}

#[derive(Debug)]
struct Service {
    settings: Settings,
    machine: Machine,
    events: VecDeque<Event>,
    started: Millis,
    descriptors: Option<Rlimit>,
    edge: Option<EdgeChild>,
    apps: Vec<Served>,
    app_last: u32,
    workers: BTreeMap<u32, WorkerChild>,
    /// Where the children's lines arrive when there is a log file.
    lines: Option<(std::fs::File, OwnedFd)>,
    access_logs: AccessLogs,
    identities: Identities,
    tickets: TicketKeys,
    control: Option<Control>,
    status_asked: bool,
    revision: u32,
    trying: Option<Trying>,
    pending: Option<Pending>,
    waiting: Vec<Waiting>,
    /// Somebody asked for the configuration while it was being taken up; a signal waits for no answer.
    reload_again: Option<Vec<u64>>,
    /// The logs are to be opened anew once it has been.
    reopen_after: bool,
    exit: Option<u8>,
}

fn now() -> Millis {
    trivet_wire::monotonic_ns() / 1_000_000
}

/// Serves until told to stop; the exit code.
pub fn run(settings: Settings) -> Result<u8, ServiceError> {
    let signals = Signals::watch()?;
    process::adopt_orphans();
    let descriptors = process::raise_descriptor_limit();
    let access_logs = open_access_logs(&settings.edge.logs)?;
    let identities =
        Identities::load(settings.edge.identities.clone(), settings.edge.authorities.clone(), now())?;
    let tickets = TicketKeys::new(settings.edge.ticket_key.clone(), now())?;
    let pid_file = settings.pid_file.as_deref().map(PidFile::create).transpose()?;
    let lines = match settings.log.file() {
        Some(_) => {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
            rustix::io::ioctl_fionbio(&read, true).map_err(io::Error::from)?;
            Some((std::fs::File::from(read), write))
        }
        None => None,
    };
    let control = match Control::open() {
        Ok(control) => Some(control),
        Err(error) => {
            let fields = [("error", plain(&error))];
            settings.log.write(
                Level::Warn,
                "no control socket; `trivet status` will not find this server",
                &fields,
            );
            None
        }
    };
    let started = now();
    let mut settings = settings;
    let apps: Vec<Served> = std::mem::take(&mut settings.apps)
        .into_iter()
        .zip(1..)
        .map(|(settings, id)| Served { id, settings, before: None, python: None, known_failure: None })
        .collect();
    let known = |a: &Served| App { id: a.id, name: a.settings.name.clone(), policy: a.settings.policy };
    let (machine, actions) = Machine::start(apps.iter().map(known).collect(), started);
    let mut service = Service {
        machine,
        events: VecDeque::new(),
        started,
        descriptors,
        edge: None,
        app_last: apps.len() as u32,
        apps,
        workers: BTreeMap::new(),
        lines,
        access_logs,
        identities,
        tickets,
        control,
        status_asked: false,
        revision: 0,
        trying: None,
        pending: None,
        waiting: Vec::new(),
        reload_again: None,
        reopen_after: false,
        exit: None,
        settings,
    };
    service.perform(actions);
    let code = service.serve(&signals);
    service.finish();
    if let Some(file) = pid_file {
        file.remove();
    }
    Ok(code)
}

fn open_access_logs(targets: &[LogTarget]) -> Result<AccessLogs, ServiceError> {
    AccessLogs::open(targets).map_err(|(path, source): NotOpened| ServiceError::AccessLog { path, source })
}

impl Service {
    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        self.settings.log.write(level, message, fields);
    }

    fn serve(&mut self, signals: &Signals) -> u8 {
        loop {
            while let Some(event) = self.events.pop_front() {
                let actions = self.machine.handle(event, now());
                self.perform(actions);
            }
            if let Some(code) = self.exit {
                return code;
            }
            self.answer_reloads();
            self.wait(signals);
            self.read_signals(signals);
            self.read_children();
            self.read_lines();
            self.read_control();
            self.look_at_identities(false);
            self.look_at_logs();
            if self.events.is_empty() {
                self.events.push_back(Event::Tick);
            }
        }
    }

    fn wait(&self, signals: &Signals) {
        let at = now();
        let control = self.control.as_ref().and_then(Control::deadline);
        let identities = self.identities.next_check();
        let tickets = identities.map(|_| self.tickets.next_change());
        let deadlines = self.machine.deadline(at).into_iter().chain(control).chain(identities).chain(tickets);
        let logs = self.access_logs.deadline(trivet_wire::log::now_ms()).filter(|_| self.pending.is_none());
        let deadline = deadlines.chain(logs).min();
        let timeout = deadline.map(|d| {
            // Rounded up: a tick just before the deadline would find nothing to do.
            let ms = d.saturating_sub(at) + 1;
            Timespec { tv_sec: (ms / 1000) as i64, tv_nsec: ((ms % 1000) * 1_000_000) as i64 }
        });
        let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        let edge = self.edge.as_ref().and_then(|e| e.link.as_ref());
        for link in edge.into_iter().chain(self.workers.values().filter_map(|w| w.link.as_ref())) {
            let out = if link.is_waiting() { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::from_borrowed_fd(link.fd(), PollFlags::IN | out));
        }
        for trial in self.trying.iter().flat_map(|t| &t.trials) {
            fds.push(PollFd::from_borrowed_fd(trial.link.fd(), PollFlags::IN));
        }
        if let Some((read, _)) = &self.lines {
            fds.push(PollFd::new(read, PollFlags::IN));
        }
        if let Some(control) = &self.control {
            fds.extend(control.fds().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        }
        // Interrupted or refused for a moment: the loop looks at everything again.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    // --- what comes in ---

    fn read_signals(&mut self, signals: &Signals) {
        while let Some(signal) = signals.next() {
            match signal {
                libc::SIGTERM | libc::SIGINT => self.events.push_back(Event::Stop),
                libc::SIGQUIT => self.events.push_back(Event::Halt),
                libc::SIGHUP => {
                    self.look_at_identities(true);
                    self.reload(None, None);
                }
                libc::SIGTTIN => self.events.push_back(Event::Add),
                libc::SIGTTOU => self.events.push_back(Event::Remove),
                libc::SIGUSR1 => self.reopen_logs(),
                libc::SIGUSR2 => {
                    self.log(Level::Warn, "SIGUSR2 does nothing; SIGHUP reloads", &[]);
                }
                _ => self.reap(),
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let known: Vec<u32> =
                self.workers.values().map(|w| w.pid).chain(self.edge.iter().map(|e| e.pid)).collect();
            // The app's own children go with the worker.
            let ended = process::reap(|pid| {
                if known.contains(&pid) {
                    process::kill_group(pid);
                }
            });
            let Some((pid, end)) = ended else { return };
            if self.edge.as_ref().is_some_and(|e| e.pid == pid) {
                self.read_edge();
                if let Some(edge) = self.edge.take() {
                    if let Some(pending) = self.pending.take() {
                        self.drop_pending(pending, "the edge died while it took it up; try again");
                        self.catch_up();
                    }
                    self.events.push_back(Event::EdgeDied { generation: edge.generation, pid, end });
                }
            } else if let Some(worker) = self.workers.iter().find(|(_, w)| w.pid == pid).map(|(&id, _)| id) {
                // Its last words first.
                self.read_worker(worker);
                self.workers.remove(&worker);
                self.events.push_back(Event::WorkerDied { worker, pid, end });
            }
        }
    }

    fn read_children(&mut self) {
        self.read_edge();
        self.read_trials();
        for worker in self.workers.keys().copied().collect::<Vec<_>>() {
            self.read_worker(worker);
        }
    }

    fn read_edge(&mut self) {
        loop {
            let Some(edge) = &mut self.edge else { return };
            let Some(link) = &mut edge.link else { return };
            let (generation, pid) = (edge.generation, edge.pid);
            let received = link.flush().and_then(|()| link.receive());
            let message = match received.and_then(|m| m.map(|m| m.json::<FromEdge>()).transpose()) {
                Ok(None) => return,
                Ok(Some(message)) => message,
                Err(error) => {
                    edge.link = None;
                    self.channel_failed("edge", pid, &error);
                    return;
                }
            };
            self.events.push_back(match message {
                FromEdge::Ready => Event::EdgeReady { generation },
                FromEdge::Idle { worker } => Event::WorkerIdle { worker },
                FromEdge::Stuck { worker, request_id, request_line, seconds } => {
                    Event::WorkerStuck { worker, request_id, request_line, seconds }
                }
                FromEdge::Broken { worker, why } => Event::WorkerBroken { worker, why },
                FromEdge::Drained => Event::EdgeDrained { generation },
                FromEdge::LogGone => {
                    self.access_logs.look_for_sockets();
                    continue;
                }
                FromEdge::Status(report) => {
                    self.answer_status(report);
                    continue;
                }
                FromEdge::Configured { revision, refused } => {
                    self.configured(revision, refused);
                    continue;
                }
            });
        }
    }

    fn read_worker(&mut self, worker: u32) {
        loop {
            let Some(child) = self.workers.get_mut(&worker) else { return };
            let Some(link) = &mut child.link else { return };
            let pid = child.pid;
            let received = link.flush().and_then(|()| link.receive());
            let message = match received.and_then(|m| m.map(|m| m.json::<FromWorker>()).transpose()) {
                Ok(None) => return,
                Ok(Some(message)) => message,
                Err(error) => {
                    child.link = None;
                    self.channel_failed("worker", pid, &error);
                    return;
                }
            };
            let event = match message {
                FromWorker::Ready { python, app } => {
                    let fields = [("worker", worker.to_string()), ("pid", pid.to_string()), ("app", app)];
                    self.log(Level::Debug, "worker has imported the app", &fields);
                    if let Some(served) = self.served_by(worker) {
                        served.python = Some(python);
                        served.known_failure = None;
                    }
                    Event::WorkerReady { worker }
                }
                FromWorker::ImportFailed { summary } => {
                    // A failure that was known is not printed by the worker.
                    let known = self.served_by(worker).and_then(|a| a.known_failure.replace(summary.clone()));
                    let why = known.filter(|known| *known == summary);
                    Event::WorkerFailed { worker, why }
                }
                FromWorker::Unfit { why } => Event::WorkerFailed { worker, why: Some(why) },
                FromWorker::Changed { path } => {
                    if let Some(served) = self.served_by(worker) {
                        served.known_failure = None;
                    }
                    Event::WorkerChanged { worker, path }
                }
            };
            self.events.push_back(event);
        }
    }

    /// A child whose lifeline is gone is ending, or must end.
    fn channel_failed(&self, who: &str, pid: u32, error: &io::Error) {
        let ended = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        );
        if !ended {
            let fields = [("process", who.to_owned()), ("pid", pid.to_string()), ("error", plain(error))];
            self.log(Level::Error, "channel is broken; killing the process", &fields);
            process::kill_group(pid);
        }
    }

    fn read_lines(&mut self) {
        const TURN_BYTES_MAX: usize = 1 << 20;
        let Some((read, _)) = &self.lines else { return };
        let mut buffer = vec![0; 64 * 1024];
        let mut taken = 0;
        while taken < TURN_BYTES_MAX {
            match (&*read).read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(got) => {
                    self.settings.log.raw(&buffer[..got]);
                    taken += got;
                }
            }
        }
    }

    fn read_control(&mut self) {
        let at = now();
        let Some(control) = &mut self.control else { return };
        let asked = control.read(at);
        let late = control.is_late(at);
        for (asker, ask) in asked {
            match ask {
                Ask::Reload(app) => self.reload(app.as_deref(), Some(asker)),
                Ask::Status if !self.status_asked => {
                    self.status_asked = self.tell_edge(&ToEdge::Status, Vec::new());
                    if !self.status_asked {
                        self.answer_status(Value::Null);
                    }
                }
                Ask::Status => {}
            }
        }
        if late {
            self.answer_status(Value::Null);
        }
    }

    fn answer_status(&mut self, report: Value) {
        self.status_asked = false;
        let at = now();
        let seconds = |since: Millis| (at - since) / 1000;
        let name_of = |id: u32| {
            let app = self.apps.iter().find(|a| a.id == id);
            app.map_or_else(|| "(removed)".to_owned(), |a| a.settings.name.clone())
        };
        let workers = self.machine.workers().filter_map(|view| {
            let child = self.workers.get(&view.worker)?;
            Some(WorkerStatus {
                app: name_of(view.app),
                worker: view.worker,
                pid: child.pid,
                state: view.state.to_owned(),
                epoch: view.epoch,
                uptime_seconds: seconds(child.since),
            })
        });
        let apps = self.apps.iter().map(|a| AppStatus {
            name: a.settings.name.clone(),
            app: a.settings.worker.start.app.clone(),
            python: a.python.clone(),
            workers_wanted: self.machine.target(a.id),
            threads: a.settings.worker.start.threads,
        });
        let status = Status {
            version: self.settings.version.to_owned(),
            serves: self.settings.title.clone(),
            pid: std::process::id(),
            uptime_seconds: seconds(self.started),
            listeners: self.names(),
            apps: apps.collect(),
            restarts: self.machine.restarts(),
            edge: EdgeStatus {
                pid: self.edge.as_ref().map(|e| e.pid),
                generation: self.machine.edge_generation(),
                report,
            },
            workers: workers.collect(),
        };
        if let Some(control) = &mut self.control {
            control.answer(&status);
        }
    }

    fn names(&self) -> Vec<String> {
        self.settings.listeners.iter().map(|l| l.name.clone()).collect()
    }

    fn served_by(&mut self, worker: u32) -> Option<&mut Served> {
        let id = self.workers.get(&worker)?.app;
        self.apps.iter_mut().find(|a| a.id == id)
    }

    fn look_at_identities(&mut self, at_once: bool) {
        if self.pending.is_some() {
            return;
        }
        let looked = self.identities.look(now(), at_once);
        let some = looked.iter().any(Result::is_ok);
        let tickets = self.tickets.look(now());
        for error in looked.into_iter().filter_map(Result::err) {
            let fields = [("error", error.to_string())];
            self.log(Level::Error, "the new certificate is not taken; going on with the old one", &fields);
        }
        if some || tickets {
            match self.identities.file(&self.tickets) {
                Ok(fd) => drop(self.tell_edge(&ToEdge::Secrets, vec![fd])),
                Err(error) => {
                    self.log(Level::Error, "cannot pass a new certificate on", &[("error", plain(&error))]);
                    return;
                }
            }
        }
        if some {
            self.log(Level::Info, "a new certificate is in use", &[]);
        }
    }

    fn reopen_logs(&mut self) {
        if self.pending.is_some() {
            // Which logs there are is just being decided.
            self.reopen_after = true;
            return;
        }
        self.settings.log.reopen();
        if self.access_logs.can_change() {
            match open_access_logs(&self.settings.edge.logs) {
                Ok(logs) => self.access_logs = logs,
                Err(error) => {
                    let fields = [("error", error.to_string())];
                    self.log(Level::Error, "log not opened anew; going on with the old file", &fields);
                    return;
                }
            }
            self.pass_logs_on();
        }
        self.log(Level::Info, "logs are opened anew", &[]);
    }

    /// Has the edge write to the logs as they are now.
    fn pass_logs_on(&mut self) {
        match self.access_logs.descriptors() {
            Ok(fds) => drop(self.tell_edge(&ToEdge::ReopenLogs, fds)),
            Err(error) => {
                self.log(Level::Error, "cannot pass the access logs on", &[("error", plain(&error))]);
            }
        }
    }

    /// Rotates what is due.
    fn look_at_logs(&mut self) {
        if self.pending.is_some() {
            // Which logs there are is just being decided.
            return;
        }
        let (changed, told) = self.access_logs.look(now(), trivet_wire::log::now_ms());
        if changed {
            self.pass_logs_on();
        }
        for told in told {
            self.log(told.0, told.1, &told.2);
        }
    }

    // --- what goes out ---

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::StartEdge { generation } => self.start_edge(generation),
                Action::StartWorker { app, worker } => self.start_worker(app, worker),
                Action::ReloadFailed { app } => self.reload_failed(app),
                Action::Connect { worker } => self.connect(worker),
                Action::Retire { worker } => drop(self.tell_edge(&ToEdge::Retire { worker }, Vec::new())),
                Action::Hope { app, hope } => drop(self.tell_edge(&ToEdge::Hope { app, hope }, Vec::new())),
                Action::Gone { worker } => drop(self.tell_edge(&ToEdge::Gone { worker }, Vec::new())),
                Action::Dump { worker } => {
                    if let Some(child) = self.workers.get(&worker) {
                        process::send_signal(child.pid, process::dump_signal());
                    }
                }
                Action::Quit { worker } => self.tell_worker(worker, &ToWorker::Quit, Vec::new()),
                Action::Kill { worker } => {
                    if let Some(child) = self.workers.get(&worker) {
                        process::kill_group(child.pid);
                    }
                }
                Action::DrainEdge { within_ms } => {
                    self.tell_edge(&ToEdge::Drain { within_ms }, Vec::new());
                    // The edge has the last descriptors now: what it closes is refused from then on.
                    self.settings.listeners.drain(..).for_each(Listener::close);
                }
                Action::EndEdge => {
                    if let Some(edge) = &mut self.edge {
                        edge.link = None;
                    }
                }
                Action::KillEdge => {
                    if let Some(edge) = &self.edge {
                        process::kill_group(edge.pid);
                    }
                }
                Action::Announce(what) => self.announce(what),
                Action::Log { level, message, fields } => self.log(level, message, &fields),
                Action::Exit { code } => self.exit = Some(code),
            }
        }
    }

    fn tell_edge(&mut self, message: &ToEdge, fds: Vec<OwnedFd>) -> bool {
        let Some(edge) = &mut self.edge else { return false };
        let Some(link) = &mut edge.link else { return false };
        let pid = edge.pid;
        match link.send(message, fds) {
            Ok(()) => true,
            Err(error) => {
                edge.link = None;
                self.channel_failed("edge", pid, &error);
                false
            }
        }
    }

    fn tell_worker(&mut self, worker: u32, message: &ToWorker, fds: Vec<OwnedFd>) {
        let Some(child) = self.workers.get_mut(&worker) else { return };
        let Some(link) = &mut child.link else { return };
        let pid = child.pid;
        if let Err(error) = link.send(message, fds) {
            child.link = None;
            self.channel_failed("worker", pid, &error);
        }
    }

    fn start_edge(&mut self, generation: u32) {
        let mut spawned = self.spawn_edge(generation);
        if let Err(error) = &spawned
            && self.settings.edge.account.is_some()
            && matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
        {
            // In a user namespace the first user may be the only one.
            let fields = [("error", plain(error))];
            self.log(Level::Warn, "the edge cannot change to its own account and keeps ours", &fields);
            self.settings.edge.account = None;
            spawned = self.spawn_edge(generation);
        }
        match spawned {
            Ok(edge) => {
                let fields = [("pid", edge.pid.to_string()), ("generation", generation.to_string())];
                self.log(Level::Debug, "edge started", &fields);
                self.edge = Some(edge);
            }
            Err(error) => {
                self.log(Level::Error, "cannot start the edge", &[("error", plain(&error))]);
                self.events.push_back(Event::EdgeDied { generation, pid: 0, end: SPAWN_FAILED });
            }
        }
    }

    fn spawn_edge(&self, generation: u32) -> io::Result<EdgeChild> {
        let (ours, theirs) = Channel::pair()?;
        let pid = Launch {
            // This very binary, even if another lies at its path by now.
            program: "/proc/self/exe".as_ref(),
            title: Some(format!("trivet: edge [{}]", self.settings.title)),
            args: vec!["edge".into()],
            env: Vec::new(),
            channel: theirs.into_fd(),
            death_signal: process::edge_death_signal(),
            account: self.settings.edge.account.as_ref(),
            umask: None,
            confined: true,
            descriptors: None,
            stdout: None,
            stderr: self.lines_end(),
        }
        .spawn()?;
        let mut link = Link::new(ours);
        let sockets: io::Result<Vec<OwnedFd>> =
            self.settings.listeners.iter().map(|l| l.fd().try_clone_to_owned()).collect();
        let ids: Vec<u32> = self.apps.iter().map(|a| a.id).collect();
        let mut config = self.settings.edge.config.clone();
        config["server"]["generation"] = generation.into();
        let sent = sockets
            .and_then(|sockets| {
                reload::edge_fds(
                    &config,
                    &ids,
                    self.identities.file(&self.tickets),
                    sockets,
                    self.access_logs.descriptors()?,
                )
            })
            .and_then(|fds| link.send(&ToEdge::Configure { revision: 0 }, fds));
        if let Err(error) = sent {
            // It ends when it finds its channel closed; its death is told in the usual way.
            self.log(Level::Error, "cannot configure the edge", &[("error", plain(&error))]);
            return Ok(EdgeChild { generation, pid, link: None });
        }
        Ok(EdgeChild { generation, pid, link: Some(link) })
    }

    fn start_worker(&mut self, app: u32, worker: u32) {
        let Some(served) = self.apps.iter().find(|a| a.id == app) else {
            let why = Some("its app has been removed".to_owned());
            self.events.push_back(Event::WorkerFailed { worker, why });
            self.events.push_back(Event::WorkerDied { worker, pid: 0, end: SPAWN_FAILED });
            return;
        };
        let wanted = &served.settings.worker;
        let (capture, lines) = (self.settings.capture_output, self.lines_end());
        match spawn_worker(wanted, capture, lines, self.descriptors) {
            Ok((pid, mut link)) => {
                let fields = [("worker", worker.to_string()), ("pid", pid.to_string())];
                self.log(Level::Debug, "worker started", &fields);
                let mut start = wanted.start.clone();
                start.worker = worker;
                start.known_failure.clone_from(&served.known_failure);
                start.multiprocess |= self.machine.target(app) > 1;
                let link = link.send(&ToWorker::Start(start), Vec::new()).is_ok().then_some(link);
                self.workers.insert(worker, WorkerChild { app, pid, link, since: now() });
            }
            Err(error) => {
                let why = format!("cannot start `{}`: {}", wanted.python.display(), plain(&error));
                self.events.push_back(Event::WorkerFailed { worker, why: Some(why) });
                self.events.push_back(Event::WorkerDied { worker, pid: 0, end: SPAWN_FAILED });
            }
        }
    }

    fn lines_end(&self) -> Option<BorrowedFd<'_>> {
        self.lines.as_ref().map(|(_, write)| write.as_fd())
    }

    fn connect(&mut self, worker: u32) {
        let Some((pid, app)) = self.workers.get(&worker).map(|w| (w.pid, w.app)) else { return };
        let Some(generation) = self.edge.as_ref().map(|e| e.generation) else { return };
        let (edge_end, worker_end) = match Channel::pair() {
            Ok(pair) => pair,
            Err(error) => {
                // Without a channel it is of no use; its successor gets another try.
                self.log(Level::Error, "cannot connect a worker", &[("error", plain(&error))]);
                process::kill_group(pid);
                return;
            }
        };
        let Some(served) = self.apps.iter().find(|a| a.id == app) else { return };
        let slots = served.settings.worker.start.threads;
        self.tell_worker(worker, &ToWorker::Edge { generation }, vec![worker_end.into_fd()]);
        self.tell_edge(&ToEdge::Worker { app, worker, pid, slots }, vec![edge_end.into_fd()]);
    }

    fn announce(&self, what: Announce) {
        match what {
            Announce::Serving => {
                let at = self.names().join(" and ");
                let title = &self.settings.title;
                let noun =
                    |n: u32, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
                self.log(
                    Level::Info,
                    &format!("trivet {} serves `{title}` at {at}", self.settings.version),
                    &[],
                );
                for served in &self.apps {
                    let start = &served.settings.worker.start;
                    let python = served.python.as_deref().unwrap_or("unknown");
                    let workers = self.machine.target(served.id);
                    let each = if workers == 1 { "" } else { " each" };
                    let has = format!(
                        "{} with {}{each}",
                        noun(workers, "worker"),
                        noun(start.threads.into(), "thread")
                    );
                    if self.settings.reread.is_some() {
                        let line = format!("app `{}`: python {python}, {has}", served.settings.name);
                        self.log(Level::Info, &line, &[]);
                    } else {
                        self.log(Level::Info, &format!("python {python}"), &[]);
                        self.log(Level::Info, &has, &[]);
                    }
                }
                for line in &self.settings.edge.serves {
                    self.log(Level::Info, line, &[]);
                }
                notify(&format!("READY=1\nSTATUS=serving {title} at {at}"));
            }
            Announce::Reloading => {
                let us = trivet_wire::monotonic_ns() / 1000;
                notify(&format!("RELOADING=1\nMONOTONIC_USEC={us}\nSTATUS=replacing the workers"));
            }
            Announce::Reloaded => notify("READY=1\nSTATUS=serving"),
            Announce::Stopping => notify("STOPPING=1\nSTATUS=stopping"),
        }
    }

    /// Leaves nothing behind: no process, no socket file, no unwritten line.
    fn finish(&mut self) {
        const ROUNDS_MAX: u32 = 20;
        for _ in 0..ROUNDS_MAX {
            let left = process::descendants();
            if left.is_empty() {
                break;
            }
            for pid in left {
                process::send_signal(pid, libc::SIGKILL);
            }
            while process::reap(|_| {}).is_some() {}
            // Each round finds those whose parents the last one ended.
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        while process::reap(|_| {}).is_some() {}
        self.read_lines();
        self.settings.listeners.drain(..).for_each(Listener::close);
        if let Some(control) = self.control.take() {
            control.close();
        }
        self.log(Level::Info, "stopped", &[]);
    }
}

fn spawn_worker(
    worker: &WorkerSettings,
    capture_output: bool,
    lines: Option<BorrowedFd<'_>>,
    descriptors: Option<Rlimit>,
) -> io::Result<(u32, Link)> {
    let (ours, theirs) = Channel::pair()?;
    let pid = Launch {
        program: worker.python.as_os_str(),
        // Python finds its venv by this name: it stays the path.
        title: None,
        args: vec![worker.boot.clone().into_os_string()],
        env: worker.env.clone(),
        channel: theirs.into_fd(),
        death_signal: process::worker_death_signal(),
        account: worker.account.as_ref(),
        umask: worker.umask,
        confined: false,
        descriptors,
        stdout: lines.filter(|_| capture_output),
        stderr: lines,
    }
    .spawn()?;
    Ok((pid, Link::new(ours)))
}

/// What `--check-config` finds.
#[derive(Debug)]
pub enum Checked {
    Good { python: String, app: String },
    Bad { why: String },
}

/// Loads the certificates, as a start would.
pub fn check_identities(files: Vec<IdentityFiles>) -> Result<(), ServiceError> {
    Ok(Identities::load(files, Vec::new(), now()).map(drop)?)
}

/// Imports an app in a worker that serves nothing.
pub fn check(worker: &WorkerSettings) -> Result<Checked, ServiceError> {
    let (pid, mut link) = spawn_worker(worker, false, None, None)?;
    let start = WorkerStart { check_only: true, reload: false, ..worker.start.clone() };
    let sent = link.send(&ToWorker::Start(start), Vec::new());
    let checked = loop {
        let mut fds = [PollFd::from_borrowed_fd(link.fd(), PollFlags::IN)];
        // Interrupted: the look at the channel comes to the same.
        let _ = poll(&mut fds, None);
        match link.receive().and_then(|m| m.map(|m| m.json::<FromWorker>()).transpose()) {
            Ok(None | Some(FromWorker::Changed { .. })) => {}
            Ok(Some(FromWorker::Ready { python, app })) => break Checked::Good { python, app },
            Ok(Some(FromWorker::ImportFailed { summary: why } | FromWorker::Unfit { why })) => {
                break Checked::Bad { why };
            }
            Err(_) => {
                break Checked::Bad { why: "the worker ended before it had imported the app".to_owned() };
            }
        }
    };
    process::kill_group(pid);
    process::wait_for(pid);
    sent?;
    Ok(checked)
}

/// The exit code where the app cannot be loaded.
pub const EXIT_APP: u8 = EXIT_SOFTWARE;
