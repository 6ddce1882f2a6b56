//! The supervisor's decisions: `(event, now) → actions`. No I/O and no clock, so that a simulation can drive it.
//!
//! Invariants, checked by the simulation below: every missing worker is replaced; a reload never has fewer ready
//! workers than it started with, unless some die; a stop always ends.

pub use crate::crew::WorkerView;
use crate::crew::{Around, Crew, Mood};
use crate::log::Level;

/// Milliseconds of the monotonic clock.
pub type Millis = u64;

/// Who stays ready for this long has had a healthy run.
pub(crate) const HEALTHY_MS: Millis = 2_000;
const BACKOFF_FIRST_MS: Millis = 250;
const BACKOFF_MAX_MS: Millis = 30_000;
/// A further SIGHUP waits for a worker that is starting, but not for one that hangs in its import.
pub(crate) const RELOAD_PATIENCE_MS: Millis = 10_000;
/// What a process gets at least to end by itself after it was told to.
pub(crate) const END_MS: Millis = 1_000;
/// Starts that a signal ended (and not the app) are tried this often.
pub(crate) const START_DEATHS_MAX: u32 = 3;
pub const WORKERS_MAX: u32 = 1_000;

pub const EXIT_OK: u8 = 0;
pub const EXIT_SOFTWARE: u8 = 70;

/// How one app's workers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub workers: u32,
    pub graceful_ms: Millis,
    /// Workers watch their files, and one that cannot import its app stays and waits for a change.
    pub reload: bool,
}

/// An app; its number is never given to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    pub id: u32,
    pub name: String,
    pub policy: Policy,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Killed(i32),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    EdgeReady {
        generation: u32,
    },
    EdgeDrained {
        generation: u32,
    },
    EdgeDied {
        generation: u32,
        pid: u32,
        end: End,
    },
    WorkerReady {
        worker: u32,
    },
    /// It cannot serve. `why`: where it has not printed that itself.
    WorkerFailed {
        worker: u32,
        why: Option<String>,
    },
    WorkerDied {
        worker: u32,
        pid: u32,
        end: End,
    },
    /// A file that the worker has loaded changed.
    WorkerChanged {
        worker: u32,
        path: String,
    },
    /// The edge has nothing of this retired worker in hand.
    WorkerIdle {
        worker: u32,
    },
    WorkerStuck {
        worker: u32,
        request_id: String,
        request_line: String,
        seconds: f64,
    },
    WorkerBroken {
        worker: u32,
        why: String,
    },
    /// New workers for all apps.
    Reload,
    ReloadApp {
        app: u32,
    },
    /// Another policy for an app; with `restart` its workers are replaced.
    ChangeApp {
        app: u32,
        policy: Policy,
        restart: bool,
    },
    AddApp(App),
    /// Its workers finish what they have, and end.
    RemoveApp {
        app: u32,
    },
    Add,
    Remove,
    Stop,
    Halt,
    /// Time has passed.
    Tick,
}

/// What the service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    Serving,
    Reloading,
    Reloaded,
    Stopping,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    StartEdge {
        generation: u32,
    },
    StartWorker {
        app: u32,
        worker: u32,
    },
    /// The new workers cannot load the app, and the old ones stay.
    ReloadFailed {
        app: u32,
    },
    /// Makes a channel between the edge of now and this worker.
    Connect {
        worker: u32,
    },
    /// To the edge: no new request for it.
    Retire {
        worker: u32,
    },
    /// To the edge: it is dead.
    Gone {
        worker: u32,
    },
    /// To the edge: whether requests for this app may wait for a worker. While none starts they are refused.
    Hope {
        app: u32,
        hope: bool,
    },
    /// The worker shows the stacks of all its threads.
    Dump {
        worker: u32,
    },
    Quit {
        worker: u32,
    },
    /// SIGKILL to it and its process group.
    Kill {
        worker: u32,
    },
    DrainEdge {
        within_ms: Millis,
    },
    /// Its lifeline is closed.
    EndEdge,
    KillEdge,
    Announce(Announce),
    Log {
        level: Level,
        message: &'static str,
        fields: Vec<(&'static str, String)>,
    },
    Exit {
        code: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EdgeState {
    Absent { not_before: Millis },
    Starting,
    Ready { since: Millis },
    Ending { deadline: Millis },
    Dying,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// The edge finishes what it has.
    Draining {
        deadline: Millis,
    },
    /// Workers and edge were told to end.
    Ending {
        deadline: Millis,
    },
    Killing,
    Over,
}

#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    exit_code: u8,

    edge: EdgeState,
    edge_generation: u32,
    edge_failures: u32,
    edge_succeeded: bool,
    edge_restarts: u64,

    crews: Vec<Crew>,
    /// The crews of apps that are not wanted any more, as long as some worker is left.
    leaving: Vec<Crew>,
    worker_last: u32,
    /// Restarts of crews that are no more.
    past_restarts: u64,
    announced: bool,
    reloading: bool,

    actions: Vec<Action>,
}

pub(crate) fn backoff_ms(failures: u32) -> Millis {
    match failures {
        0 | 1 => 0,
        n => (BACKOFF_FIRST_MS << (n - 2).min(10)).min(BACKOFF_MAX_MS),
    }
}

impl Machine {
    /// The machine and its first actions.
    pub fn start(apps: Vec<App>, now: Millis) -> (Self, Vec<Action>) {
        let mut machine = Self {
            phase: Phase::Running,
            exit_code: EXIT_OK,
            edge: EdgeState::Absent { not_before: now },
            edge_generation: 0,
            edge_failures: 0,
            edge_succeeded: false,
            edge_restarts: 0,
            crews: apps.into_iter().map(|a| Crew::new(a.id, a.name, a.policy)).collect(),
            leaving: Vec::new(),
            worker_last: 0,
            past_restarts: 0,
            announced: false,
            reloading: false,
            actions: Vec::new(),
        };
        machine.settle(now);
        let actions = std::mem::take(&mut machine.actions);
        (machine, actions)
    }

    pub fn handle(&mut self, event: Event, now: Millis) -> Vec<Action> {
        self.take(event, now);
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Tick`] must come at the latest.
    pub fn deadline(&self, now: Millis) -> Option<Millis> {
        let edge = match self.edge {
            EdgeState::Absent { not_before } if self.phase == Phase::Running => Some(not_before),
            EdgeState::Ending { deadline } => Some(deadline),
            _ => None,
        };
        let phase = match self.phase {
            Phase::Draining { deadline } | Phase::Ending { deadline } => Some(deadline),
            _ => None,
        };
        self.all().flat_map(|crew| crew.deadlines(now)).chain(edge).chain(phase).min()
    }

    /// How many workers of an app are wanted.
    pub fn target(&self, app: u32) -> u32 {
        self.crews.iter().find(|c| c.app == app).map_or(0, |c| c.target)
    }

    /// Whether an app's workers are being replaced, or come up for the first time.
    pub fn is_changing(&self, app: u32) -> bool {
        self.crews
            .iter()
            .any(|c| c.app == app && (c.reloading || c.reload_pending || !c.succeeded && !c.failed))
    }

    /// Whether it serves and nobody has told it to stop.
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether an app has never come up.
    pub fn is_unloaded(&self, app: u32) -> bool {
        self.crews.iter().any(|c| c.app == app && c.failed && !c.succeeded)
    }

    pub fn restarts(&self) -> u64 {
        self.edge_restarts + self.past_restarts + self.all().map(|c| c.restarts).sum::<u64>()
    }

    pub fn edge_generation(&self) -> u32 {
        self.edge_generation
    }

    pub fn workers(&self) -> impl Iterator<Item = WorkerView> + '_ {
        self.all().flat_map(Crew::views)
    }

    fn all(&self) -> impl Iterator<Item = &Crew> {
        self.crews.iter().chain(&self.leaving)
    }

    fn log(&mut self, level: Level, message: &'static str, fields: Vec<(&'static str, String)>) {
        self.actions.push(Action::Log { level, message, fields });
    }

    /// Lets crews that pass the test do something.
    fn each(
        &mut self,
        now: Millis,
        test: impl Fn(&Crew) -> bool,
        mut act: impl FnMut(&mut Crew, &mut Around<'_>),
    ) {
        let several = self.crews.len() + self.leaving.len() > 1;
        let failed = self.crews.iter().filter(|c| c.failed && !c.succeeded).count();
        let mood = match self.phase {
            Phase::Running => Mood::Running,
            Phase::Draining { .. } => Mood::Draining,
            Phase::Ending { .. } | Phase::Killing | Phase::Over => Mood::Ending,
        };
        let crews = self.crews.len();
        for crew in self.crews.iter_mut().chain(&mut self.leaving).filter(|c| test(c)) {
            let mut around = Around {
                now,
                mood,
                edge: matches!(self.edge, EdgeState::Starting | EdgeState::Ready { .. }),
                last_hope: failed + usize::from(!crew.failed) >= crews && !self.announced,
                several,
                worker_last: &mut self.worker_last,
                actions: &mut self.actions,
            };
            act(crew, &mut around);
        }
        if self.crews.iter_mut().any(|c| std::mem::take(&mut c.gave_up)) {
            self.exit_code = EXIT_SOFTWARE;
            self.kill_all(now);
        }
    }

    /// Lets the crew of a worker do something.
    fn of(&mut self, worker: u32, now: Millis, act: impl FnMut(&mut Crew, &mut Around<'_>)) {
        self.each(now, |crew| crew.workers.contains_key(&worker), act);
    }

    fn take(&mut self, event: Event, now: Millis) {
        if self.phase == Phase::Over {
            return;
        }
        let running = self.phase == Phase::Running;
        match event {
            Event::EdgeReady { generation } if self.is_edge(generation) => self.edge_ready(now),
            Event::EdgeDrained { generation } if self.is_edge(generation) => {
                if matches!(self.phase, Phase::Draining { .. }) {
                    self.end_all(now);
                }
            }
            Event::EdgeDied { generation, pid, end } if self.is_edge(generation) => {
                self.edge_died(pid, end, now);
            }
            Event::WorkerReady { worker } => self.of(worker, now, |crew, a| crew.worker_ready(worker, a)),
            Event::WorkerFailed { worker, why } => {
                self.of(worker, now, |crew, a| crew.worker_failed(worker, why.clone(), a));
            }
            Event::WorkerDied { worker, pid, end } => {
                self.of(worker, now, |crew, a| crew.worker_died(worker, pid, end, a));
            }
            Event::WorkerChanged { worker, path } => {
                self.of(worker, now, |crew, a| crew.worker_changed(worker, path.clone(), a));
            }
            Event::WorkerIdle { worker } => self.of(worker, now, |crew, a| crew.worker_idle(worker, a)),
            Event::WorkerStuck { worker, request_id, request_line, seconds } => {
                self.of(worker, now, |crew, a| {
                    crew.worker_stuck(worker, request_id.clone(), request_line.clone(), seconds, a);
                });
            }
            Event::WorkerBroken { worker, why } => {
                self.of(worker, now, |crew, a| crew.worker_broken(worker, why.clone(), a));
            }
            Event::Reload if running => self.each(now, |crew| crew.target > 0, Crew::reload),
            Event::ReloadApp { app } if running => self.each(now, |crew| crew.app == app, Crew::reload),
            Event::ChangeApp { app, policy, restart } if running => {
                self.each(now, |crew| crew.app == app, |crew, a| crew.change(policy, restart, a));
            }
            Event::AddApp(app) if running => self.crews.push(Crew::new(app.id, app.name, app.policy)),
            Event::RemoveApp { app } if running => {
                self.each(now, |crew| crew.app == app, Crew::dissolve);
                let (gone, stay) =
                    std::mem::take(&mut self.crews).into_iter().partition(|crew: &Crew| crew.app == app);
                self.crews = stay;
                self.leaving.extend::<Vec<Crew>>(gone);
            }
            Event::Add | Event::Remove if running => match &self.crews[..] {
                [one] => {
                    let (app, more) = (one.app, event == Event::Add);
                    self.each(now, |crew| crew.app == app, |crew, a| crew.change_target(more, a));
                }
                _ => self.log(
                    Level::Warn,
                    "SIGTTIN and SIGTTOU are for a server of one app; change `workers` and reload",
                    vec![],
                ),
            },
            Event::Stop => match self.phase {
                Phase::Running => self.drain(now),
                Phase::Draining { .. } | Phase::Ending { .. } => self.halt("stopping at once", now),
                Phase::Killing | Phase::Over => {}
            },
            Event::Halt => self.halt("stopping at once", now),
            _ => {}
        }
    }

    // --- the edge ---

    /// Whether it is the edge of now.
    fn is_edge(&self, generation: u32) -> bool {
        generation == self.edge_generation
    }

    fn edge_ready(&mut self, now: Millis) {
        if self.edge != EdgeState::Starting {
            return;
        }
        self.edge = EdgeState::Ready { since: now };
        if std::mem::replace(&mut self.edge_succeeded, true) {
            let generation = self.edge_generation.to_string();
            self.log(Level::Info, "edge is back", vec![("generation", generation)]);
        }
    }

    fn edge_died(&mut self, pid: u32, end: End, now: Millis) {
        let state = std::mem::replace(&mut self.edge, EdgeState::Absent { not_before: now });
        if !matches!(self.phase, Phase::Running | Phase::Draining { .. }) {
            return;
        }
        let healthy = matches!(state, EdgeState::Ready { since } if now >= since + HEALTHY_MS);
        self.edge_failures = if healthy { 1 } else { self.edge_failures + 1 };
        let wait_ms = backoff_ms(self.edge_failures);
        self.edge = EdgeState::Absent { not_before: now + wait_ms };
        self.edge_restarts += 1;
        if self.edge_failures.is_power_of_two() {
            self.log(
                Level::Error,
                "edge died",
                vec![
                    ("pid", pid.to_string()),
                    ("by", crate::crew::describe(end)),
                    ("in_a_row", self.edge_failures.to_string()),
                    ("restart_in_ms", wait_ms.to_string()),
                ],
            );
        }
        self.each(now, |_| true, Crew::edge_died);
        if matches!(self.phase, Phase::Draining { .. }) {
            self.end_all(now);
        } else if !self.edge_succeeded && self.edge_failures >= START_DEATHS_MAX {
            self.log(Level::Error, "the edge does not start; giving up", vec![]);
            self.exit_code = EXIT_SOFTWARE;
            self.kill_all(now);
        }
    }

    // --- the end ---

    /// What the app with the most patience gives its requests.
    fn graceful_ms(&self) -> Millis {
        const WITHOUT_APPS_MS: Millis = 30_000;
        self.crews.iter().map(|c| c.policy.graceful_ms).max().unwrap_or(WITHOUT_APPS_MS)
    }

    fn drain(&mut self, now: Millis) {
        let within_ms = self.graceful_ms();
        self.log(Level::Info, "stopping", vec![("within_ms", within_ms.to_string())]);
        self.actions.push(Action::Announce(Announce::Stopping));
        self.each(now, |_| true, Crew::begin_draining);
        // The edge answers within that time; the moment on top is for its last word.
        self.phase = Phase::Draining { deadline: now + within_ms + END_MS / 2 };
        let served = self.crews.is_empty() || self.crews.iter().any(|c| c.succeeded);
        if matches!(self.edge, EdgeState::Ready { .. } | EdgeState::Starting) && served {
            self.actions.push(Action::DrainEdge { within_ms });
        } else {
            self.end_all(now);
        }
    }

    fn end_all(&mut self, now: Millis) {
        let deadline = match self.phase {
            Phase::Draining { deadline } => deadline.max(now + END_MS),
            _ => now + END_MS,
        };
        self.phase = Phase::Ending { deadline };
        self.each(now, |_| true, |crew, a| crew.end(deadline, a));
        if matches!(self.edge, EdgeState::Starting | EdgeState::Ready { .. }) {
            self.edge = EdgeState::Ending { deadline: now + END_MS };
            self.actions.push(Action::EndEdge);
        }
    }

    fn halt(&mut self, message: &'static str, now: Millis) {
        if matches!(self.phase, Phase::Killing | Phase::Over) {
            return;
        }
        self.log(Level::Warn, message, vec![]);
        if self.phase == Phase::Running {
            self.actions.push(Action::Announce(Announce::Stopping));
        }
        self.kill_all(now);
    }

    fn kill_all(&mut self, now: Millis) {
        self.phase = Phase::Killing;
        self.each(now, |_| true, Crew::kill_all);
        if !matches!(self.edge, EdgeState::Absent { .. } | EdgeState::Dying) {
            self.edge = EdgeState::Dying;
            self.actions.push(Action::KillEdge);
        }
    }

    // --- what follows from the state and the time ---

    fn settle(&mut self, now: Millis) {
        self.expire(now);
        let past = &mut self.past_restarts;
        self.leaving.retain(|crew| {
            *past += if crew.workers.is_empty() { crew.restarts } else { 0 };
            !crew.workers.is_empty()
        });
        match self.phase {
            Phase::Running => {
                self.settle_edge(now);
                self.each(now, |_| true, Crew::settle_workers);
                self.announce();
            }
            Phase::Draining { .. } => self.each(now, |_| true, Crew::settle_draining),
            Phase::Ending { .. } | Phase::Killing => {
                let nobody = self.all().all(|crew| crew.workers.is_empty());
                if nobody && matches!(self.edge, EdgeState::Absent { .. }) {
                    self.phase = Phase::Over;
                    self.actions.push(Action::Exit { code: self.exit_code });
                }
            }
            Phase::Over => {}
        }
    }

    fn expire(&mut self, now: Millis) {
        match self.phase {
            Phase::Draining { deadline } if now >= deadline => {
                self.log(Level::Warn, "not done within the graceful timeout; killing the rest", vec![]);
                self.kill_all(now);
            }
            Phase::Ending { deadline } if now >= deadline => self.kill_all(now),
            _ => {}
        }
        self.each(now, |_| true, Crew::expire);
        if let EdgeState::Ending { deadline } = self.edge
            && now >= deadline
        {
            self.edge = EdgeState::Dying;
            self.actions.push(Action::KillEdge);
        }
    }

    fn settle_edge(&mut self, now: Millis) {
        let EdgeState::Absent { not_before } = self.edge else { return };
        if now < not_before {
            return;
        }
        self.edge = EdgeState::Starting;
        self.edge_generation += 1;
        self.actions.push(Action::StartEdge { generation: self.edge_generation });
        self.each(now, |_| true, Crew::connect_all);
    }

    fn announce(&mut self) {
        let some = self.crews.is_empty() || self.crews.iter().any(|c| c.ready() > 0);
        let others_have_failed = self.crews.iter().all(|c| c.ready() > 0 || c.failed);
        if !self.announced && some && others_have_failed && matches!(self.edge, EdgeState::Ready { .. }) {
            self.announced = true;
            self.actions.push(Action::Announce(Announce::Serving));
        }
        let reloading = self.crews.iter().any(|c| c.reloading);
        if std::mem::replace(&mut self.reloading, reloading) != reloading {
            let what = if reloading { Announce::Reloading } else { Announce::Reloaded };
            self.actions.push(Action::Announce(what));
        }
    }
}
