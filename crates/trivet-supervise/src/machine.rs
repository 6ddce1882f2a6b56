//! The supervisor's decisions: `(event, now) → actions`. No I/O and no clock, so that a simulation can drive it.
//!
//! Invariants, checked by the simulation below: every missing worker is replaced; a reload never has fewer ready
//! workers than it started with, unless some die; a stop always ends.

use std::collections::BTreeMap;

use crate::log::Level;

/// Milliseconds of the monotonic clock.
pub type Millis = u64;

/// Who stays ready for this long has had a healthy run.
const HEALTHY_MS: Millis = 2_000;
const BACKOFF_FIRST_MS: Millis = 250;
const BACKOFF_MAX_MS: Millis = 30_000;
/// A further SIGHUP waits for a worker that is starting, but not for one that hangs in its import.
const RELOAD_PATIENCE_MS: Millis = 10_000;
/// What a process gets at least to end by itself after it was told to.
const END_MS: Millis = 1_000;
/// The stacks of one worker are shown no more often.
const DUMP_GAP_MS: Millis = 1_000;
/// Starts that a signal ended (and not the app) are tried this often.
const START_DEATHS_MAX: u32 = 3;
pub const WORKERS_MAX: u32 = 1_000;

pub const EXIT_OK: u8 = 0;
pub const EXIT_SOFTWARE: u8 = 70;

/// What the machine is set up with.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub workers: u32,
    pub graceful_ms: Millis,
    /// Workers watch their files, and one that cannot import its app stays and waits for a change.
    pub reload: bool,
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
    Reload,
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
        worker: u32,
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
enum State {
    Starting {
        since: Millis,
    },
    Ready {
        since: Millis,
    },
    /// Gets no new request; ends when the edge says idle, or at the deadline.
    Retiring {
        deadline: Millis,
        stuck: bool,
    },
    /// Told to end.
    Quitting {
        deadline: Millis,
    },
    /// Could not import the app, and watches its files.
    Waiting,
    /// Killed, or ending after it said that it failed.
    Dying {
        deadline: Millis,
    },
}

#[derive(Clone, Copy, Debug)]
struct Worker {
    /// Goes up with each reload.
    epoch: u32,
    state: State,
    /// Deaths in a row of the workers that this one stands for.
    failures: u32,
    /// When it last showed its stacks.
    dumped: Option<Millis>,
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

/// The place of a dead worker: its successor does not start before this.
#[derive(Clone, Copy, Debug)]
struct Vacancy {
    failures: u32,
    not_before: Millis,
}

#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    target: u32,
    phase: Phase,
    exit_code: u8,

    edge: EdgeState,
    edge_generation: u32,
    edge_failures: u32,
    edge_succeeded: bool,

    workers: BTreeMap<u32, Worker>,
    worker_last: u32,
    epoch: u32,
    vacancies: Vec<Vacancy>,
    /// Some worker became ready once.
    succeeded: bool,
    /// The last start failed: one at a time until one succeeds.
    cautious: bool,
    /// Nothing starts before a file changes or a SIGHUP comes.
    parked: bool,
    reloading: bool,
    reload_pending: bool,
    announced: bool,
    restarts: u64,
    last_death: Option<(bool, End)>,
    same_deaths: u32,

    actions: Vec<Action>,
}

/// A worker as `trivet status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerView {
    pub worker: u32,
    pub state: &'static str,
    pub epoch: u32,
}

fn backoff_ms(failures: u32) -> Millis {
    match failures {
        0 | 1 => 0,
        n => (BACKOFF_FIRST_MS << (n - 2).min(10)).min(BACKOFF_MAX_MS),
    }
}

fn describe(end: End) -> String {
    match end {
        End::Exited(code) => format!("exit code {code}"),
        End::Killed(signal) => crate::process::signal_name(signal),
    }
}

impl Machine {
    /// The machine and its first actions.
    pub fn start(policy: Policy, now: Millis) -> (Self, Vec<Action>) {
        let mut machine = Self {
            policy,
            target: policy.workers.clamp(1, WORKERS_MAX),
            phase: Phase::Running,
            exit_code: EXIT_OK,
            edge: EdgeState::Absent { not_before: now },
            edge_generation: 0,
            edge_failures: 0,
            edge_succeeded: false,
            workers: BTreeMap::new(),
            worker_last: 0,
            epoch: 1,
            vacancies: Vec::new(),
            succeeded: false,
            cautious: true,
            parked: false,
            reloading: false,
            reload_pending: false,
            announced: false,
            restarts: 0,
            last_death: None,
            same_deaths: 0,
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
        let workers = self.workers.values().filter_map(|w| match w.state {
            State::Retiring { deadline, .. } | State::Quitting { deadline } | State::Dying { deadline } => {
                Some(deadline)
            }
            State::Starting { .. } | State::Ready { .. } | State::Waiting => None,
        });
        let edge = match self.edge {
            EdgeState::Absent { not_before } if self.phase == Phase::Running => Some(not_before),
            EdgeState::Ending { deadline } => Some(deadline),
            _ => None,
        };
        let phase = match self.phase {
            Phase::Draining { deadline } | Phase::Ending { deadline } => Some(deadline),
            _ => None,
        };
        // One that is due already waits for another worker, not for time.
        let vacancies = self.vacancies.iter().map(|v| v.not_before).filter(|&at| !self.parked && at > now);
        workers.chain(edge).chain(phase).chain(vacancies).min()
    }

    pub fn target(&self) -> u32 {
        self.target
    }

    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    pub fn edge_generation(&self) -> u32 {
        self.edge_generation
    }

    pub fn workers(&self) -> impl Iterator<Item = WorkerView> + '_ {
        self.workers.iter().map(|(&worker, w)| WorkerView {
            worker,
            epoch: w.epoch,
            state: match w.state {
                State::Starting { .. } => "starting",
                State::Ready { .. } => "ready",
                State::Retiring { stuck: true, .. } => "stuck",
                State::Retiring { .. } => "retiring",
                State::Quitting { .. } => "quitting",
                State::Waiting => "waiting for a change",
                State::Dying { .. } => "dying",
            },
        })
    }

    fn log(&mut self, level: Level, message: &'static str, fields: Vec<(&'static str, String)>) {
        self.actions.push(Action::Log { level, message, fields });
    }

    fn set(&mut self, worker: u32, state: State) {
        if let Some(w) = self.workers.get_mut(&worker) {
            w.state = state;
        }
    }

    fn count(&self, test: impl Fn(&Worker) -> bool) -> u32 {
        self.workers.values().filter(|w| test(w)).count() as u32
    }

    fn ids(&self, test: impl Fn(&Worker) -> bool) -> Vec<u32> {
        self.workers.iter().filter(|(_, w)| test(w)).map(|(&id, _)| id).collect()
    }

    fn take(&mut self, event: Event, now: Millis) {
        if self.phase == Phase::Over {
            return;
        }
        match event {
            Event::EdgeReady { generation } => {
                if generation == self.edge_generation && self.edge == EdgeState::Starting {
                    self.edge = EdgeState::Ready { since: now };
                    if self.edge_succeeded {
                        self.log(Level::Info, "edge is back", vec![("generation", generation.to_string())]);
                    }
                    self.edge_succeeded = true;
                }
            }
            Event::EdgeDrained { generation } => {
                if generation == self.edge_generation && matches!(self.phase, Phase::Draining { .. }) {
                    self.end_all(now);
                }
            }
            Event::EdgeDied { generation, pid, end } => {
                if generation == self.edge_generation {
                    self.edge_died(pid, end, now);
                }
            }
            Event::WorkerReady { worker } => self.worker_ready(worker, now),
            Event::WorkerFailed { worker, why } => self.worker_failed(worker, why, now),
            Event::WorkerDied { worker, pid, end } => self.worker_died(worker, pid, end, now),
            Event::WorkerChanged { worker, path } => {
                // The others will tell of the same change.
                let known = self.workers.get(&worker).is_some_and(|w| w.epoch == self.epoch);
                if known && self.phase == Phase::Running {
                    self.log(Level::Info, "a file changed", vec![("path", path)]);
                    self.reload(now);
                }
            }
            Event::WorkerIdle { worker } => {
                if let Some(State::Retiring { deadline, .. }) = self.workers.get(&worker).map(|w| w.state) {
                    // One that is stuck will not hear it; a moment is left for its dump to be written.
                    let stuck = matches!(self.workers[&worker].state, State::Retiring { stuck: true, .. });
                    let deadline = if stuck { now + END_MS } else { deadline.max(now + END_MS) };
                    self.quit(worker, deadline);
                }
            }
            Event::WorkerStuck { worker, request_id, request_line, seconds } => {
                self.worker_stuck(worker, request_id, request_line, seconds, now);
            }
            Event::WorkerBroken { worker, why } => {
                let Some(w) = self.workers.get(&worker).copied() else { return };
                self.log(
                    Level::Error,
                    "worker broke the contract; replacing it",
                    vec![("worker", worker.to_string()), ("why", why)],
                );
                if matches!(w.state, State::Ready { .. }) {
                    self.vacate(w, now);
                }
                self.kill(worker, now);
            }
            Event::Reload => {
                if self.phase == Phase::Running {
                    self.reload(now);
                }
            }
            Event::Add => {
                if self.phase == Phase::Running && self.target < WORKERS_MAX {
                    self.target += 1;
                    self.log(Level::Info, "one worker more", vec![("workers", self.target.to_string())]);
                }
            }
            Event::Remove => {
                if self.phase != Phase::Running {
                } else if self.target > 1 {
                    self.target -= 1;
                    self.log(Level::Info, "one worker fewer", vec![("workers", self.target.to_string())]);
                } else {
                    self.log(Level::Warn, "the last worker stays", vec![]);
                }
            }
            Event::Stop => match self.phase {
                Phase::Running => self.drain(now),
                Phase::Draining { .. } | Phase::Ending { .. } => self.halt("stopping at once", now),
                Phase::Killing | Phase::Over => {}
            },
            Event::Halt => self.halt("stopping at once", now),
            Event::Tick => {}
        }
    }

    // --- the edge ---

    fn edge_died(&mut self, pid: u32, end: End, now: Millis) {
        let state = std::mem::replace(&mut self.edge, EdgeState::Absent { not_before: now });
        if !matches!(self.phase, Phase::Running | Phase::Draining { .. }) {
            return;
        }
        let healthy = matches!(state, EdgeState::Ready { since } if now >= since + HEALTHY_MS);
        self.edge_failures = if healthy { 1 } else { self.edge_failures + 1 };
        let wait_ms = backoff_ms(self.edge_failures);
        self.edge = EdgeState::Absent { not_before: now + wait_ms };
        self.restarts += 1;
        if self.edge_failures.is_power_of_two() {
            self.log(
                Level::Error,
                "edge died",
                vec![
                    ("pid", pid.to_string()),
                    ("by", describe(end)),
                    ("in_a_row", self.edge_failures.to_string()),
                    ("restart_in_ms", wait_ms.to_string()),
                ],
            );
        }
        // What they had in hand belonged to that edge.
        for worker in self.ids(|w| matches!(w.state, State::Retiring { .. })) {
            self.quit(worker, now + self.policy.graceful_ms.max(END_MS));
        }
        if matches!(self.phase, Phase::Draining { .. }) {
            self.end_all(now);
        } else if !self.edge_succeeded && self.edge_failures >= START_DEATHS_MAX {
            self.log(Level::Error, "the edge does not start; giving up", vec![]);
            self.exit_code = EXIT_SOFTWARE;
            self.kill_all(now);
        }
    }

    // --- workers ---

    fn worker_ready(&mut self, worker: u32, now: Millis) {
        let Some(State::Starting { since }) = self.workers.get(&worker).map(|w| w.state) else { return };
        self.set(worker, State::Ready { since: now });
        self.succeeded = true;
        self.cautious = false;
        self.log(
            Level::Debug,
            "worker is ready",
            vec![("worker", worker.to_string()), ("after_ms", (now - since).to_string())],
        );
        if matches!(self.edge, EdgeState::Starting | EdgeState::Ready { .. }) {
            self.actions.push(Action::Connect { worker });
        }
    }

    fn worker_failed(&mut self, worker: u32, why: Option<String>, now: Millis) {
        let Some(w) = self.workers.get(&worker).copied() else { return };
        if !matches!(w.state, State::Starting { .. }) {
            return;
        }
        let state =
            if self.policy.reload { State::Waiting } else { State::Dying { deadline: now + 5 * END_MS } };
        self.set(worker, state);
        self.start_failed(w, true, why, now);
    }

    /// A worker of `w`'s kind did not become ready.
    fn start_failed(&mut self, w: Worker, app_at_fault: bool, why: Option<String>, now: Millis) {
        self.cautious = true;
        match self.phase {
            Phase::Running => {}
            Phase::Draining { .. } => return self.vacate(w, now),
            Phase::Ending { .. } | Phase::Killing | Phase::Over => return,
        }
        if !app_at_fault && w.failures + 1 < START_DEATHS_MAX {
            return self.vacate(w, now);
        }
        let mut fields: Vec<_> = why.map(|why| ("why", why)).into_iter().collect();
        if !self.succeeded {
            if self.policy.reload && app_at_fault {
                self.parked = true;
                self.log(Level::Warn, "the app cannot be loaded; waiting for a file to change", fields);
            } else {
                self.log(Level::Error, "the app cannot be loaded; giving up", fields);
                self.exit_code = EXIT_SOFTWARE;
                self.kill_all(now);
            }
            return;
        }
        let none_of_epoch =
            self.count(|o| o.epoch == self.epoch && matches!(o.state, State::Ready { .. })) == 0;
        let older = self.ids(|o| o.epoch < self.epoch && matches!(o.state, State::Ready { .. }));
        let reload_failed = w.epoch == self.epoch && none_of_epoch && !older.is_empty();
        if reload_failed {
            self.log(Level::Error, "reload failed; the running workers stay", fields.clone());
            for worker in self.ids(|o| matches!(o.state, State::Starting { .. })) {
                self.kill(worker, now);
            }
            for worker in older {
                if let Some(old) = self.workers.get_mut(&worker) {
                    old.epoch = self.epoch;
                }
            }
            if self.reloading {
                self.reloading = false;
                self.actions.push(Action::Announce(Announce::Reloaded));
            }
        } else if self.policy.reload && app_at_fault {
            self.log(Level::Warn, "the app cannot be loaded; waiting for a file to change", fields);
            self.parked = true;
            return;
        }
        let failures = w.failures + 1;
        let not_before = now + backoff_ms(failures);
        self.vacate(w, now);
        // What stopped this one will stop the others: they wait together, and one of them tries.
        for other in &mut self.vacancies {
            other.failures = other.failures.max(failures);
            other.not_before = other.not_before.max(not_before);
        }
        if !reload_failed && failures.is_power_of_two() {
            fields.push(("in_a_row", failures.to_string()));
            fields.push(("next_try_in_ms", (not_before - now).to_string()));
            self.log(Level::Error, "worker did not start", fields);
        }
    }

    fn worker_died(&mut self, worker: u32, pid: u32, end: End, now: Millis) {
        let Some(w) = self.workers.remove(&worker) else { return };
        let linked = matches!(
            w.state,
            State::Ready { .. } | State::Retiring { .. } | State::Quitting { .. } | State::Dying { .. }
        );
        if linked && matches!(self.edge, EdgeState::Starting | EdgeState::Ready { .. }) {
            self.actions.push(Action::Gone { worker });
        }
        let expected = match w.state {
            State::Waiting | State::Dying { .. } => true,
            State::Quitting { .. } => end == End::Exited(0),
            State::Retiring { stuck, .. } => stuck,
            State::Starting { .. } | State::Ready { .. } => false,
        };
        if expected {
            return;
        }
        if let State::Ready { since } = w.state
            && now >= since + HEALTHY_MS
        {
            self.same_deaths = 0;
        }
        let key = (matches!(w.state, State::Starting { .. }), end);
        self.same_deaths = if self.last_death == Some(key) { self.same_deaths + 1 } else { 1 };
        self.last_death = Some(key);
        if self.same_deaths.is_power_of_two() {
            let message = if key.0 { "worker died while it started" } else { "worker died" };
            let mut fields =
                vec![("worker", worker.to_string()), ("pid", pid.to_string()), ("by", describe(end))];
            if self.same_deaths > 1 {
                fields.push(("in_a_row", self.same_deaths.to_string()));
            }
            self.log(Level::Error, message, fields);
        }
        match w.state {
            State::Starting { .. } => {
                // How it ended has just been told.
                self.start_failed(w, matches!(end, End::Exited(_)), None, now);
            }
            State::Ready { .. } => self.vacate(w, now),
            _ => {}
        }
    }

    /// Leaves the place of a dead worker to a successor.
    fn vacate(&mut self, w: Worker, now: Millis) {
        let healthy = matches!(w.state, State::Ready { since } if now >= since + HEALTHY_MS);
        let failures = if healthy { 1 } else { w.failures + 1 };
        self.restarts += 1;
        self.vacancies.push(Vacancy { failures, not_before: now + backoff_ms(failures) });
    }

    fn worker_stuck(
        &mut self,
        worker: u32,
        request_id: String,
        request_line: String,
        seconds: f64,
        now: Millis,
    ) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        // One dump shows all threads: those that are late in the same moment share it.
        let fresh = w.dumped.is_none_or(|at| now >= at + DUMP_GAP_MS);
        if fresh {
            w.dumped = Some(now);
        }
        let w = *w;
        let message = if fresh {
            "request is past its time; the stacks of its worker follow"
        } else {
            "request is past its time; the stacks of its worker are above"
        };
        self.log(
            Level::Error,
            message,
            vec![
                ("worker", worker.to_string()),
                ("request", request_line),
                ("request_id", request_id),
                ("seconds", format!("{seconds:.1}")),
            ],
        );
        if fresh {
            self.actions.push(Action::Dump { worker });
        }
        match w.state {
            State::Ready { .. } => {
                self.restarts += 1;
                self.retire(worker, true, now);
            }
            State::Retiring { deadline, .. } => self.set(worker, State::Retiring { deadline, stuck: true }),
            _ => {}
        }
    }

    fn retire(&mut self, worker: u32, stuck: bool, now: Millis) {
        let deadline = now + self.policy.graceful_ms.max(END_MS);
        self.set(worker, State::Retiring { deadline, stuck });
        if matches!(self.edge, EdgeState::Starting | EdgeState::Ready { .. }) {
            self.actions.push(Action::Retire { worker });
        } else {
            self.quit(worker, deadline);
        }
    }

    fn quit(&mut self, worker: u32, deadline: Millis) {
        self.set(worker, State::Quitting { deadline });
        self.actions.push(Action::Quit { worker });
    }

    fn kill(&mut self, worker: u32, now: Millis) {
        // A second SIGKILL is sent should the first not have had its effect by then.
        self.set(worker, State::Dying { deadline: now + 5 * END_MS });
        self.actions.push(Action::Kill { worker });
    }

    // --- reload ---

    fn reload(&mut self, now: Millis) {
        let fresh =
            |w: &Worker| matches!(w.state, State::Starting { since } if now < since + RELOAD_PATIENCE_MS);
        if self.count(|w| w.epoch == self.epoch && fresh(w)) > 0 {
            self.reload_pending = true;
            return;
        }
        self.reload_pending = false;
        self.parked = false;
        self.vacancies.clear();
        self.epoch += 1;
        for worker in self.ids(|w| matches!(w.state, State::Starting { .. } | State::Waiting)) {
            self.kill(worker, now);
        }
        self.log(
            Level::Info,
            "reloading: replacing the workers one by one",
            vec![("epoch", self.epoch.to_string())],
        );
        if !self.reloading {
            self.reloading = true;
            self.actions.push(Action::Announce(Announce::Reloading));
        }
    }

    // --- the end ---

    fn drain(&mut self, now: Millis) {
        self.log(Level::Info, "stopping", vec![("within_ms", self.policy.graceful_ms.to_string())]);
        self.actions.push(Action::Announce(Announce::Stopping));
        self.reload_pending = false;
        for worker in self.ids(|w| w.state == State::Waiting) {
            self.kill(worker, now);
        }
        if self.count(|w| matches!(w.state, State::Ready { .. })) > 0 {
            for worker in self.ids(|w| matches!(w.state, State::Starting { .. })) {
                self.kill(worker, now);
            }
        }
        // The edge answers within that time; the moment on top is for its last word.
        self.phase = Phase::Draining { deadline: now + self.policy.graceful_ms + END_MS / 2 };
        if matches!(self.edge, EdgeState::Ready { .. } | EdgeState::Starting) && self.succeeded {
            self.actions.push(Action::DrainEdge { within_ms: self.policy.graceful_ms });
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
        for (worker, state) in self.workers.iter().map(|(&id, w)| (id, w.state)).collect::<Vec<_>>() {
            match state {
                State::Ready { .. } | State::Retiring { .. } => self.quit(worker, deadline),
                State::Starting { .. } | State::Waiting => self.kill(worker, now),
                State::Quitting { .. } | State::Dying { .. } => {}
            }
        }
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
        for worker in self.ids(|_| true) {
            self.kill(worker, now);
        }
        if !matches!(self.edge, EdgeState::Absent { .. } | EdgeState::Dying) {
            self.edge = EdgeState::Dying;
            self.actions.push(Action::KillEdge);
        }
    }

    // --- what follows from the state and the time ---

    fn settle(&mut self, now: Millis) {
        self.expire(now);
        match self.phase {
            Phase::Running => {
                self.settle_edge(now);
                self.settle_workers(now);
                self.announce();
            }
            Phase::Draining { .. } => {
                // Somebody must answer what the edge still holds.
                let active = self.count(|w| matches!(w.state, State::Starting { .. } | State::Ready { .. }));
                if active == 0 && self.may_start(1, now) {
                    self.start_worker(1, now);
                }
            }
            Phase::Ending { .. } | Phase::Killing => {
                if self.workers.is_empty() && matches!(self.edge, EdgeState::Absent { .. }) {
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
        for worker in self.ids(|_| true) {
            match self.workers[&worker].state {
                State::Retiring { deadline, stuck } if now >= deadline => {
                    if !stuck {
                        self.log(
                            Level::Warn,
                            "worker is busy past the graceful timeout; killing it",
                            vec![("worker", worker.to_string())],
                        );
                    }
                    self.kill(worker, now);
                }
                State::Quitting { deadline } | State::Dying { deadline } if now >= deadline => {
                    self.kill(worker, now);
                }
                State::Ready { since } if now >= since + HEALTHY_MS => {
                    if let Some(w) = self.workers.get_mut(&worker) {
                        w.failures = 0;
                    }
                }
                _ => {}
            }
        }
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
        for worker in self.ids(|w| matches!(w.state, State::Ready { .. })) {
            self.actions.push(Action::Connect { worker });
        }
    }

    fn settle_workers(&mut self, now: Millis) {
        loop {
            let starting = self.count(|w| matches!(w.state, State::Starting { .. }));
            let ready = self.count(|w| matches!(w.state, State::Ready { .. }));
            let older = self.ids(|w| w.epoch < self.epoch && matches!(w.state, State::Ready { .. }));
            let current = ready - older.len() as u32 + starting;
            let wanted = self.target.saturating_sub(current);
            self.vacancies.sort_by_key(|v| v.not_before);
            self.vacancies.truncate(wanted as usize);
            // While older ones serve, one more than the target may live.
            let room = if older.is_empty() { self.target } else { self.target + 1 };
            if ready > self.target {
                let oldest = older
                    .first()
                    .copied()
                    .or_else(|| self.ids(|w| matches!(w.state, State::Ready { .. })).first().copied());
                if let Some(worker) = oldest {
                    self.retire(worker, false, now);
                    continue;
                }
            }
            if older.is_empty()
                && current > self.target
                && let Some(&worker) = self.ids(|w| matches!(w.state, State::Starting { .. })).last()
            {
                self.kill(worker, now);
                continue;
            }
            if wanted > 0 && ready + starting < room && self.may_start(wanted, now) {
                self.start_worker(wanted, now);
                continue;
            }
            if self.reloading && older.is_empty() && current >= self.target && starting == 0 {
                self.reloading = false;
                self.log(Level::Info, "reloaded", vec![("workers", ready.to_string())]);
                self.actions.push(Action::Announce(Announce::Reloaded));
            }
            if self.reload_pending && starting == 0 {
                self.reload(now);
                continue;
            }
            return;
        }
    }

    fn may_start(&self, wanted: u32, now: Millis) -> bool {
        // The first one alone: a broken app shows its traceback once, not once for each worker.
        let starting = self.count(|w| matches!(w.state, State::Starting { .. }));
        !(self.parked || self.cautious && starting > 0)
            && (wanted as usize > self.vacancies.len() || self.vacancies.iter().any(|v| v.not_before <= now))
    }

    fn start_worker(&mut self, wanted: u32, now: Millis) {
        let failures = match self.vacancies.iter().position(|v| v.not_before <= now) {
            Some(due) if wanted as usize <= self.vacancies.len() => self.vacancies.remove(due).failures,
            _ => 0,
        };
        self.worker_last += 1;
        self.actions.push(Action::StartWorker { worker: self.worker_last });
        let state = State::Starting { since: now };
        self.workers.insert(self.worker_last, Worker { epoch: self.epoch, state, failures, dumped: None });
    }

    fn announce(&mut self) {
        let ready = self.count(|w| matches!(w.state, State::Ready { .. }));
        if !self.announced && ready > 0 && matches!(self.edge, EdgeState::Ready { .. }) {
            self.announced = true;
            self.actions.push(Action::Announce(Announce::Serving));
        }
    }
}
