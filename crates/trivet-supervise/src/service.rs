//! The supervisor's loop: it waits for signals, messages and deaths, asks the machine, and does what it says.

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

use crate::identity::{Identity, IdentityError, IdentityFiles};
use crate::link::Link;
use crate::listen::Listener;
use crate::log::{Level, Log, append};
use crate::machine::{Action, Announce, EXIT_SOFTWARE, End, Event, Machine, Millis, Policy};
use crate::notify::notify;
use crate::pidfile::{PidFile, PidFileError};
use crate::plain;
use crate::process::account::Account;
use crate::process::signals::Signals;
use crate::process::{self, Launch};
use crate::status::{Control, EdgeStatus, Status, WorkerStatus};

/// What a start that no process came of stands for.
const SPAWN_FAILED: End = End::Exited(71);

#[derive(Clone, Debug)]
pub enum LogTarget {
    Stdout,
    File(PathBuf),
}

#[derive(Debug)]
pub struct EdgeSettings {
    /// Its configuration; the generation is filled in for each edge.
    pub config: Value,
    pub account: Option<Account>,
    pub access_log: Option<LogTarget>,
    /// Certificate and key of the listeners that the configuration says speak TLS.
    pub identity: Option<IdentityFiles>,
    /// Lines for the start about what the edge serves besides the app.
    pub serves: Vec<String>,
}

#[derive(Debug)]
pub struct WorkerSettings {
    pub python: PathBuf,
    pub boot: PathBuf,
    pub env: Vec<(OsString, OsString)>,
    pub account: Option<Account>,
    pub umask: Option<u32>,
    /// All but the worker's number.
    pub start: WorkerStart,
}

#[derive(Debug)]
pub struct Settings {
    pub version: &'static str,
    pub policy: Policy,
    pub listeners: Vec<Listener>,
    pub edge: EdgeSettings,
    pub worker: WorkerSettings,
    pub log: Log,
    /// What the app prints goes to the log file too, if there is one.
    pub capture_output: bool,
    pub pid_file: Option<PathBuf>,
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
            Self::AccessLog { .. } => "look at the folder given by `--access-logfile` and its permissions",
            Self::Identity(IdentityError::Bad { .. }) => {
                "the certificate file holds the server's certificate and those that lead to its issuer, the key file its key, both as PEM"
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
    pid: u32,
    link: Option<Link>,
    since: Millis,
}

#[derive(Debug)]
struct Service {
    settings: Settings,
    machine: Machine,
    events: VecDeque<Event>,
    started: Millis,
    names: Vec<String>,
    descriptors: Option<Rlimit>,
    edge: Option<EdgeChild>,
    workers: BTreeMap<u32, WorkerChild>,
    python: Option<String>,
    /// Why the app could not be imported, until it could or somebody asks anew.
    known_failure: Option<String>,
    /// Where the children's lines arrive when there is a log file.
    lines: Option<(std::fs::File, OwnedFd)>,
    access_log: Option<OwnedFd>,
    identity: Option<Identity>,
    control: Option<Control>,
    status_asked: bool,
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
    let access_log = open_access_log(settings.edge.access_log.as_ref())?;
    let identity = settings.edge.identity.clone().map(|files| Identity::load(files, now())).transpose()?;
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
    let names = settings.listeners.iter().map(|l| l.name.clone()).collect();
    let started = now();
    let (machine, actions) = Machine::start(settings.policy, started);
    let mut service = Service {
        machine,
        events: VecDeque::new(),
        started,
        names,
        descriptors,
        edge: None,
        workers: BTreeMap::new(),
        python: None,
        known_failure: None,
        lines,
        access_log,
        identity,
        control,
        status_asked: false,
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

fn open_access_log(target: Option<&LogTarget>) -> Result<Option<OwnedFd>, ServiceError> {
    Ok(match target {
        None => None,
        Some(LogTarget::Stdout) => Some(io::stdout().as_fd().try_clone_to_owned()?),
        Some(LogTarget::File(path)) => {
            let failed = |source| ServiceError::AccessLog { path: path.clone(), source };
            Some(append(path).map_err(failed)?.into())
        }
    })
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
            self.wait(signals);
            self.read_signals(signals);
            self.read_children();
            self.read_lines();
            self.read_control();
            self.look_at_identity(false);
            if self.events.is_empty() {
                self.events.push_back(Event::Tick);
            }
        }
    }

    fn wait(&self, signals: &Signals) {
        let at = now();
        let control = self.control.as_ref().and_then(Control::deadline);
        let identity = self.identity.as_ref().map(Identity::next_check);
        let deadline = self.machine.deadline(at).into_iter().chain(control).chain(identity).min();
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
        if let Some((read, _)) = &self.lines {
            fds.push(PollFd::new(read, PollFlags::IN));
        }
        if let Some(control) = &self.control {
            fds.push(PollFd::from_borrowed_fd(control.fd(), PollFlags::IN));
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
                    self.known_failure = None;
                    self.look_at_identity(true);
                    self.events.push_back(Event::Reload);
                }
                libc::SIGTTIN => self.events.push_back(Event::Add),
                libc::SIGTTOU => self.events.push_back(Event::Remove),
                libc::SIGUSR1 => self.reopen_logs(),
                libc::SIGUSR2 => {
                    self.log(Level::Warn, "SIGUSR2 does nothing; SIGHUP replaces the workers", &[]);
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
                FromEdge::Status(report) => {
                    self.answer_status(report);
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
            self.events.push_back(match message {
                FromWorker::Ready { python, app } => {
                    let fields = [("worker", worker.to_string()), ("pid", pid.to_string()), ("app", app)];
                    self.log(Level::Debug, "worker has imported the app", &fields);
                    self.python = Some(python);
                    self.known_failure = None;
                    Event::WorkerReady { worker }
                }
                FromWorker::ImportFailed { summary } => {
                    // A failure that was known is not printed by the worker.
                    let known = self.known_failure.replace(summary);
                    let why = known.filter(|known| Some(known) == self.known_failure.as_ref());
                    Event::WorkerFailed { worker, why }
                }
                FromWorker::Unfit { why } => Event::WorkerFailed { worker, why: Some(why) },
                FromWorker::Changed { path } => {
                    self.known_failure = None;
                    Event::WorkerChanged { worker, path }
                }
            });
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
        let asked = control.accept(at);
        let late = control.deadline().is_some_and(|d| at >= d);
        if asked && !self.status_asked {
            self.status_asked = self.tell_edge(&ToEdge::Status, Vec::new());
        }
        if late || asked && !self.status_asked {
            self.answer_status(Value::Null);
        }
    }

    fn answer_status(&mut self, report: Value) {
        self.status_asked = false;
        let at = now();
        let seconds = |since: Millis| (at - since) / 1000;
        let workers = self.machine.workers().filter_map(|view| {
            let child = self.workers.get(&view.worker)?;
            Some(WorkerStatus {
                worker: view.worker,
                pid: child.pid,
                state: view.state.to_owned(),
                epoch: view.epoch,
                uptime_seconds: seconds(child.since),
            })
        });
        let status = Status {
            version: self.settings.version.to_owned(),
            app: self.settings.worker.start.app.clone(),
            python: self.python.clone(),
            pid: std::process::id(),
            uptime_seconds: seconds(self.started),
            listeners: self.names.clone(),
            workers_wanted: self.machine.target(),
            threads: self.settings.worker.start.threads,
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

    fn look_at_identity(&mut self, at_once: bool) {
        let Some(identity) = &mut self.identity else { return };
        match identity.look(now(), at_once) {
            None => {}
            Some(Ok(())) => match identity.descriptors() {
                Ok(fds) => {
                    self.tell_edge(&ToEdge::Identity, fds.into());
                    self.log(Level::Info, "a new certificate is in use", &[]);
                }
                Err(error) => {
                    self.log(Level::Error, "cannot pass a new certificate on", &[("error", plain(&error))]);
                }
            },
            Some(Err(error)) => {
                let fields = [("error", error.to_string())];
                self.log(
                    Level::Error,
                    "the new certificate is not taken; going on with the old one",
                    &fields,
                );
            }
        }
    }

    fn reopen_logs(&mut self) {
        self.settings.log.reopen();
        if let Some(target @ LogTarget::File(_)) = &self.settings.edge.access_log {
            match open_access_log(Some(target)) {
                Ok(log) => self.access_log = log,
                Err(error) => {
                    let fields = [("error", error.to_string())];
                    self.log(Level::Error, "log not opened anew; going on with the old file", &fields);
                    return;
                }
            }
            if let Some(Ok(fd)) = self.access_log.as_ref().map(OwnedFd::try_clone) {
                self.tell_edge(&ToEdge::ReopenLog, vec![fd]);
            }
        }
        self.log(Level::Info, "logs are opened anew", &[]);
    }

    // --- what goes out ---

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::StartEdge { generation } => self.start_edge(generation),
                Action::StartWorker { worker } => self.start_worker(worker),
                Action::Connect { worker } => self.connect(worker),
                Action::Retire { worker } => drop(self.tell_edge(&ToEdge::Retire { worker }, Vec::new())),
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
            title: Some(format!("trivet: edge [{}]", self.settings.worker.start.title)),
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
        let mut config = self.settings.edge.config.clone();
        config["generation"] = generation.into();
        let fds: Result<Vec<OwnedFd>, io::Error> = self
            .settings
            .listeners
            .iter()
            .map(|l| l.fd().try_clone_to_owned())
            .chain(self.access_log.iter().map(OwnedFd::try_clone))
            .collect();
        let identity = self.identity.as_ref().map(Identity::descriptors).transpose();
        let fds = fds.and_then(|mut fds| {
            fds.extend(identity?.into_iter().flatten());
            Ok(fds)
        });
        let sent = fds.and_then(|fds| link.send(&ToEdge::Configure(config), fds));
        if let Err(error) = sent {
            // It ends when it finds its channel closed; its death is told in the usual way.
            self.log(Level::Error, "cannot configure the edge", &[("error", plain(&error))]);
            return Ok(EdgeChild { generation, pid, link: None });
        }
        Ok(EdgeChild { generation, pid, link: Some(link) })
    }

    fn start_worker(&mut self, worker: u32) {
        match spawn_worker(&self.settings, self.lines_end(), self.descriptors) {
            Ok((pid, mut link)) => {
                let fields = [("worker", worker.to_string()), ("pid", pid.to_string())];
                self.log(Level::Debug, "worker started", &fields);
                let mut start = self.settings.worker.start.clone();
                start.worker = worker;
                start.known_failure.clone_from(&self.known_failure);
                start.multiprocess |= self.machine.target() > 1;
                let link = link.send(&ToWorker::Start(start), Vec::new()).is_ok().then_some(link);
                self.workers.insert(worker, WorkerChild { pid, link, since: now() });
            }
            Err(error) => {
                let why =
                    format!("cannot start `{}`: {}", self.settings.worker.python.display(), plain(&error));
                self.events.push_back(Event::WorkerFailed { worker, why: Some(why) });
                self.events.push_back(Event::WorkerDied { worker, pid: 0, end: SPAWN_FAILED });
            }
        }
    }

    fn lines_end(&self) -> Option<BorrowedFd<'_>> {
        self.lines.as_ref().map(|(_, write)| write.as_fd())
    }

    fn connect(&mut self, worker: u32) {
        let Some(pid) = self.workers.get(&worker).map(|w| w.pid) else { return };
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
        let slots = self.settings.worker.start.threads;
        self.tell_worker(worker, &ToWorker::Edge { generation }, vec![worker_end.into_fd()]);
        self.tell_edge(&ToEdge::Worker { worker, pid, slots }, vec![edge_end.into_fd()]);
    }

    fn announce(&self, what: Announce) {
        match what {
            Announce::Serving => {
                let start = &self.settings.worker.start;
                let at = self.names.join(" and ");
                let (workers, threads) = (self.machine.target(), start.threads);
                let noun =
                    |n: u32, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
                self.log(
                    Level::Info,
                    &format!("trivet {} serves `{}` at {at}", self.settings.version, start.app),
                    &[],
                );
                let python = self.python.as_deref().unwrap_or("unknown");
                self.log(Level::Info, &format!("python {python}"), &[]);
                let each = if workers == 1 { "" } else { " each" };
                self.log(
                    Level::Info,
                    &format!("{} with {}{each}", noun(workers, "worker"), noun(threads.into(), "thread")),
                    &[],
                );
                for line in &self.settings.edge.serves {
                    self.log(Level::Info, line, &[]);
                }
                notify(&format!("READY=1\nSTATUS=serving {} at {at}", start.app));
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
    settings: &Settings,
    lines: Option<BorrowedFd<'_>>,
    descriptors: Option<Rlimit>,
) -> io::Result<(u32, Link)> {
    let (ours, theirs) = Channel::pair()?;
    let pid = Launch {
        program: settings.worker.python.as_os_str(),
        // Python finds its venv by this name: it stays the path.
        title: None,
        args: vec![settings.worker.boot.clone().into_os_string()],
        env: settings.worker.env.clone(),
        channel: theirs.into_fd(),
        death_signal: process::worker_death_signal(),
        account: settings.worker.account.as_ref(),
        umask: settings.worker.umask,
        confined: false,
        descriptors,
        stdout: lines.filter(|_| settings.capture_output),
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

/// Imports the app in a worker that serves nothing.
pub fn check(settings: &Settings) -> Result<Checked, ServiceError> {
    settings.edge.identity.clone().map(|files| Identity::load(files, now())).transpose()?;
    let (pid, mut link) = spawn_worker(settings, None, None)?;
    let start = WorkerStart { check_only: true, reload: false, ..settings.worker.start.clone() };
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
