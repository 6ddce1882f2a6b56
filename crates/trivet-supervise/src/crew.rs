//! One app's workers, as the machine decides about them: started, replaced, reloaded, retired. No I/O and no clock.

use std::collections::BTreeMap;

use crate::log::Level;
use crate::machine::{
    Action, END_MS, End, HEALTHY_MS, Millis, Policy, RELOAD_PATIENCE_MS, START_DEATHS_MAX, WORKERS_MAX,
    backoff_ms,
};

/// The stacks of one worker are shown no more often.
const DUMP_GAP_MS: Millis = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
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
pub(crate) struct Worker {
    /// Goes up with each reload.
    pub(crate) epoch: u32,
    pub(crate) state: State,
    /// Deaths in a row of the workers that this one stands for.
    failures: u32,
    /// When it last showed its stacks.
    dumped: Option<Millis>,
}

/// The place of a dead worker: its successor does not start before this.
#[derive(Clone, Copy, Debug)]
struct Vacancy {
    failures: u32,
    not_before: Millis,
}

/// What the service as a whole does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Running,
    /// The edge finishes what it has.
    Draining,
    Ending,
}

/// What a crew sees of the rest, and where it says what is to be done.
#[derive(Debug)]
pub(crate) struct Around<'a> {
    pub(crate) now: Millis,
    pub(crate) mood: Mood,
    /// There is an edge that workers can be connected to.
    pub(crate) edge: bool,
    /// No other app can be served, now or ever.
    pub(crate) last_hope: bool,
    /// Log lines say which app they are about.
    pub(crate) several: bool,
    /// The number given last.
    pub(crate) worker_last: &'a mut u32,
    pub(crate) actions: &'a mut Vec<Action>,
}

#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) app: u32,
    pub(crate) name: String,
    pub(crate) policy: Policy,
    pub(crate) target: u32,
    pub(crate) workers: BTreeMap<u32, Worker>,
    epoch: u32,
    vacancies: Vec<Vacancy>,
    /// Some worker became ready once.
    pub(crate) succeeded: bool,
    /// The app could not be loaded when it was tried first.
    pub(crate) failed: bool,
    /// Nothing can be done about that.
    pub(crate) gave_up: bool,
    /// No worker is ready, and the last one that was started did not become it.
    pub(crate) hopeless: bool,
    /// The last start failed: one at a time until one succeeds.
    cautious: bool,
    /// Nothing starts before a file changes or a reload is asked for.
    pub(crate) parked: bool,
    pub(crate) reloading: bool,
    pub(crate) reload_pending: bool,
    pub(crate) restarts: u64,
    last_death: Option<(bool, End)>,
    same_deaths: u32,
}

/// A worker as `trivet status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerView {
    pub app: u32,
    pub worker: u32,
    pub state: &'static str,
    pub epoch: u32,
}

pub(crate) fn describe(end: End) -> String {
    match end {
        End::Exited(code) => format!("exit code {code}"),
        End::Killed(signal) => crate::process::signal_name(signal),
    }
}

impl Crew {
    pub(crate) fn new(app: u32, name: String, policy: Policy) -> Self {
        Self {
            app,
            name,
            policy,
            target: policy.workers.clamp(1, WORKERS_MAX),
            workers: BTreeMap::new(),
            epoch: 1,
            vacancies: Vec::new(),
            succeeded: false,
            failed: false,
            gave_up: false,
            hopeless: false,
            cautious: true,
            parked: false,
            reloading: false,
            reload_pending: false,
            restarts: 0,
            last_death: None,
            same_deaths: 0,
        }
    }

    /// When time alone changes something.
    pub(crate) fn deadlines(&self, now: Millis) -> impl Iterator<Item = Millis> + '_ {
        let workers = self.workers.values().filter_map(|w| match w.state {
            State::Retiring { deadline, .. } | State::Quitting { deadline } | State::Dying { deadline } => {
                Some(deadline)
            }
            State::Starting { .. } | State::Ready { .. } | State::Waiting => None,
        });
        // One that is due already waits for another worker, not for time.
        let vacancies =
            self.vacancies.iter().map(|v| v.not_before).filter(move |&at| !self.parked && at > now);
        workers.chain(vacancies)
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = WorkerView> + '_ {
        self.workers.iter().map(|(&worker, w)| WorkerView {
            app: self.app,
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

    fn log(
        &self,
        around: &mut Around<'_>,
        level: Level,
        message: &'static str,
        mut fields: Vec<(&'static str, String)>,
    ) {
        if around.several {
            fields.insert(0, ("app", self.name.clone()));
        }
        around.actions.push(Action::Log { level, message, fields });
    }

    fn set(&mut self, worker: u32, state: State) {
        if let Some(w) = self.workers.get_mut(&worker) {
            w.state = state;
        }
    }

    pub(crate) fn count(&self, test: impl Fn(&Worker) -> bool) -> u32 {
        self.workers.values().filter(|w| test(w)).count() as u32
    }

    pub(crate) fn ids(&self, test: impl Fn(&Worker) -> bool) -> Vec<u32> {
        self.workers.iter().filter(|(_, w)| test(w)).map(|(&id, _)| id).collect()
    }

    pub(crate) fn ready(&self) -> u32 {
        self.count(|w| matches!(w.state, State::Ready { .. }))
    }

    pub(crate) fn worker_ready(&mut self, worker: u32, around: &mut Around<'_>) {
        let Some(State::Starting { since }) = self.workers.get(&worker).map(|w| w.state) else { return };
        self.set(worker, State::Ready { since: around.now });
        self.succeeded = true;
        self.cautious = false;
        self.log(
            around,
            Level::Debug,
            "worker is ready",
            vec![("worker", worker.to_string()), ("after_ms", (around.now - since).to_string())],
        );
        if self.hopeless {
            // Before the worker itself: from then on requests wait for it.
            self.hope(true, around);
            self.log(around, Level::Info, "the app is loaded; requests are served again", vec![]);
        }
        if around.edge {
            around.actions.push(Action::Connect { worker });
        }
    }

    fn hope(&mut self, hope: bool, around: &mut Around<'_>) {
        self.hopeless = !hope;
        if around.edge {
            around.actions.push(Action::Hope { app: self.app, hope });
        }
    }

    pub(crate) fn worker_failed(&mut self, worker: u32, why: Option<String>, around: &mut Around<'_>) {
        let Some(w) = self.workers.get(&worker).copied() else { return };
        if !matches!(w.state, State::Starting { .. }) {
            return;
        }
        let state = if self.policy.reload {
            State::Waiting
        } else {
            State::Dying { deadline: around.now + 5 * END_MS }
        };
        self.set(worker, state);
        self.start_failed(w, true, why, around);
    }

    /// A worker of `w`'s kind did not become ready.
    fn start_failed(&mut self, w: Worker, app_at_fault: bool, why: Option<String>, around: &mut Around<'_>) {
        self.cautious = true;
        let own_fault = app_at_fault || w.failures + 1 >= START_DEATHS_MAX;
        self.try_again(w, app_at_fault, why, around);
        let others = self.count(|o| matches!(o.state, State::Starting { .. } | State::Ready { .. }));
        // Who develops repairs it within moments, and the page that was asked for comes by itself.
        let tried_again = around.mood == Mood::Running && !self.gave_up && !self.parked;
        if own_fault && tried_again && others == 0 && !self.hopeless {
            self.hope(false, around);
            self.log(
                around,
                Level::Error,
                "no worker of the app starts; until one does, requests get 503",
                vec![],
            );
        }
    }

    fn try_again(&mut self, w: Worker, app_at_fault: bool, why: Option<String>, around: &mut Around<'_>) {
        match around.mood {
            Mood::Running => {}
            Mood::Draining => return self.vacate(w, around),
            Mood::Ending => return,
        }
        if !app_at_fault && w.failures + 1 < START_DEATHS_MAX {
            return self.vacate(w, around);
        }
        let mut fields: Vec<_> = why.map(|why| ("why", why)).into_iter().collect();
        if !self.succeeded {
            self.failed = true;
            if self.policy.reload && app_at_fault {
                self.parked = true;
                self.log(
                    around,
                    Level::Warn,
                    "the app cannot be loaded; waiting for a file to change",
                    fields,
                );
                return;
            }
            if around.last_hope {
                self.log(around, Level::Error, "the app cannot be loaded; giving up", fields);
                self.gave_up = true;
                return;
            }
        }
        let none_of_epoch =
            self.count(|o| o.epoch == self.epoch && matches!(o.state, State::Ready { .. })) == 0;
        let older = self.ids(|o| o.epoch < self.epoch && matches!(o.state, State::Ready { .. }));
        let reload_failed = w.epoch == self.epoch && none_of_epoch && !older.is_empty();
        if reload_failed {
            self.log(around, Level::Error, "reload failed; the running workers stay", fields.clone());
            for worker in self.ids(|o| matches!(o.state, State::Starting { .. })) {
                self.kill(worker, around);
            }
            for worker in older {
                if let Some(old) = self.workers.get_mut(&worker) {
                    old.epoch = self.epoch;
                }
            }
            self.reloading = false;
            around.actions.push(Action::ReloadFailed { app: self.app });
        } else if self.policy.reload && app_at_fault {
            self.log(around, Level::Warn, "the app cannot be loaded; waiting for a file to change", fields);
            self.parked = true;
            return;
        }
        let failures = w.failures + 1;
        let not_before = around.now + backoff_ms(failures);
        self.vacate(w, around);
        // What stopped this one will stop the others: they wait together, and one of them tries.
        for other in &mut self.vacancies {
            other.failures = other.failures.max(failures);
            other.not_before = other.not_before.max(not_before);
        }
        if !reload_failed && failures.is_power_of_two() {
            fields.push(("in_a_row", failures.to_string()));
            fields.push(("next_try_in_ms", (not_before - around.now).to_string()));
            self.log(around, Level::Error, "worker did not start", fields);
        }
    }

    pub(crate) fn worker_died(&mut self, worker: u32, pid: u32, end: End, around: &mut Around<'_>) {
        let Some(w) = self.workers.remove(&worker) else { return };
        let linked = matches!(
            w.state,
            State::Ready { .. } | State::Retiring { .. } | State::Quitting { .. } | State::Dying { .. }
        );
        if linked && around.edge {
            around.actions.push(Action::Gone { worker });
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
            && around.now >= since + HEALTHY_MS
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
            self.log(around, Level::Error, message, fields);
        }
        match w.state {
            State::Starting { .. } => {
                // How it ended has just been told.
                self.start_failed(w, matches!(end, End::Exited(_)), None, around);
            }
            State::Ready { .. } => self.vacate(w, around),
            _ => {}
        }
    }

    /// Leaves the place of a dead worker to a successor.
    fn vacate(&mut self, w: Worker, around: &mut Around<'_>) {
        let healthy = matches!(w.state, State::Ready { since } if around.now >= since + HEALTHY_MS);
        let failures = if healthy { 1 } else { w.failures + 1 };
        self.restarts += 1;
        self.vacancies.push(Vacancy { failures, not_before: around.now + backoff_ms(failures) });
    }

    pub(crate) fn worker_stuck(
        &mut self,
        worker: u32,
        request_id: String,
        request_line: String,
        seconds: f64,
        around: &mut Around<'_>,
    ) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        // One dump shows all threads: those that are late in the same moment share it.
        let fresh = w.dumped.is_none_or(|at| around.now >= at + DUMP_GAP_MS);
        if fresh {
            w.dumped = Some(around.now);
        }
        let w = *w;
        let message = if fresh {
            "request is past its time; the stacks of its worker follow"
        } else {
            "request is past its time; the stacks of its worker are above"
        };
        self.log(
            around,
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
            around.actions.push(Action::Dump { worker });
        }
        match w.state {
            State::Ready { .. } => {
                self.restarts += 1;
                self.retire(worker, true, around);
            }
            State::Retiring { deadline, .. } => self.set(worker, State::Retiring { deadline, stuck: true }),
            _ => {}
        }
    }

    pub(crate) fn retire(&mut self, worker: u32, stuck: bool, around: &mut Around<'_>) {
        let deadline = around.now + self.policy.graceful_ms.max(END_MS);
        self.set(worker, State::Retiring { deadline, stuck });
        if around.edge {
            around.actions.push(Action::Retire { worker });
        } else {
            self.quit(worker, deadline, around);
        }
    }

    pub(crate) fn quit(&mut self, worker: u32, deadline: Millis, around: &mut Around<'_>) {
        self.set(worker, State::Quitting { deadline });
        around.actions.push(Action::Quit { worker });
    }

    pub(crate) fn kill(&mut self, worker: u32, around: &mut Around<'_>) {
        // A second SIGKILL is sent should the first not have had its effect by then.
        self.set(worker, State::Dying { deadline: around.now + 5 * END_MS });
        around.actions.push(Action::Kill { worker });
    }

    // --- reload ---

    pub(crate) fn reload(&mut self, around: &mut Around<'_>) {
        let fresh = |w: &Worker| matches!(w.state, State::Starting { since } if around.now < since + RELOAD_PATIENCE_MS);
        if self.count(|w| w.epoch == self.epoch && fresh(w)) > 0 {
            self.reload_pending = true;
            return;
        }
        self.reload_pending = false;
        self.parked = false;
        if self.hopeless {
            // Somebody has done something about it: requests wait for what comes of it.
            self.hope(true, around);
        }
        self.vacancies.clear();
        self.epoch += 1;
        for worker in self.ids(|w| matches!(w.state, State::Starting { .. } | State::Waiting)) {
            self.kill(worker, around);
        }
        self.log(
            around,
            Level::Info,
            "reloading: replacing the workers one by one",
            vec![("epoch", self.epoch.to_string())],
        );
        self.reloading = true;
    }

    pub(crate) fn settle_workers(&mut self, around: &mut Around<'_>) {
        loop {
            let starting = self.count(|w| matches!(w.state, State::Starting { .. }));
            let ready = self.ready();
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
                    self.retire(worker, false, around);
                    continue;
                }
            }
            if older.is_empty()
                && current > self.target
                && let Some(&worker) = self.ids(|w| matches!(w.state, State::Starting { .. })).last()
            {
                self.kill(worker, around);
                continue;
            }
            if wanted > 0 && ready + starting < room && self.may_start(wanted, around) {
                self.start_worker(wanted, around);
                continue;
            }
            if self.reloading && older.is_empty() && current >= self.target && starting == 0 {
                self.reloading = false;
                self.log(around, Level::Info, "reloaded", vec![("workers", ready.to_string())]);
            }
            if self.reload_pending && starting == 0 {
                self.reload(around);
                continue;
            }
            return;
        }
    }

    fn may_start(&self, wanted: u32, around: &Around<'_>) -> bool {
        // The first one alone: a broken app shows its traceback once, not once for each worker.
        let starting = self.count(|w| matches!(w.state, State::Starting { .. }));
        !(self.parked || self.cautious && starting > 0)
            && (wanted as usize > self.vacancies.len()
                || self.vacancies.iter().any(|v| v.not_before <= around.now))
    }

    pub(crate) fn start_worker(&mut self, wanted: u32, around: &mut Around<'_>) {
        let failures = match self.vacancies.iter().position(|v| v.not_before <= around.now) {
            Some(due) if wanted as usize <= self.vacancies.len() => self.vacancies.remove(due).failures,
            _ => 0,
        };
        *around.worker_last += 1;
        let worker = *around.worker_last;
        around.actions.push(Action::StartWorker { app: self.app, worker });
        let state = State::Starting { since: around.now };
        self.workers.insert(worker, Worker { epoch: self.epoch, state, failures, dumped: None });
    }

    /// Somebody must answer what the edge still holds.
    pub(crate) fn settle_draining(&mut self, around: &mut Around<'_>) {
        let active = self.count(|w| matches!(w.state, State::Starting { .. } | State::Ready { .. }));
        if self.target > 0 && active == 0 && self.may_start(1, around) {
            self.start_worker(1, around);
        }
    }

    /// What is due by now.
    pub(crate) fn expire(&mut self, around: &mut Around<'_>) {
        for worker in self.ids(|_| true) {
            match self.workers[&worker].state {
                State::Retiring { deadline, stuck } if around.now >= deadline => {
                    if !stuck {
                        self.log(
                            around,
                            Level::Warn,
                            "worker is busy past the graceful timeout; killing it",
                            vec![("worker", worker.to_string())],
                        );
                    }
                    self.kill(worker, around);
                }
                State::Quitting { deadline } | State::Dying { deadline } if around.now >= deadline => {
                    self.kill(worker, around);
                }
                State::Ready { since } if around.now >= since + HEALTHY_MS => {
                    if let Some(w) = self.workers.get_mut(&worker) {
                        w.failures = 0;
                    }
                }
                _ => {}
            }
        }
    }

    /// Its edge is gone: what retiring workers had in hand belonged to that one.
    pub(crate) fn edge_died(&mut self, around: &mut Around<'_>) {
        for worker in self.ids(|w| matches!(w.state, State::Retiring { .. })) {
            self.quit(worker, around.now + self.policy.graceful_ms.max(END_MS), around);
        }
    }

    /// The edge has nothing of this retired worker in hand.
    pub(crate) fn worker_idle(&mut self, worker: u32, around: &mut Around<'_>) {
        if let Some(State::Retiring { deadline, stuck }) = self.workers.get(&worker).map(|w| w.state) {
            // One that is stuck will not hear it; a moment is left for its dump to be written.
            let deadline = if stuck { around.now + END_MS } else { deadline.max(around.now + END_MS) };
            self.quit(worker, deadline, around);
        }
    }

    /// A file that a worker has loaded changed.
    pub(crate) fn worker_changed(&mut self, worker: u32, path: String, around: &mut Around<'_>) {
        // The others will tell of the same change.
        let known = self.workers.get(&worker).is_some_and(|w| w.epoch == self.epoch);
        if known && around.mood == Mood::Running {
            self.log(around, Level::Info, "a file changed", vec![("path", path)]);
            self.reload(around);
        }
    }

    pub(crate) fn worker_broken(&mut self, worker: u32, why: String, around: &mut Around<'_>) {
        let Some(w) = self.workers.get(&worker).copied() else { return };
        self.log(
            around,
            Level::Error,
            "worker broke the contract; replacing it",
            vec![("worker", worker.to_string()), ("why", why)],
        );
        if matches!(w.state, State::Ready { .. }) {
            self.vacate(w, around);
        }
        self.kill(worker, around);
    }

    /// One worker more or fewer, until the next change of the configuration.
    pub(crate) fn change_target(&mut self, more: bool, around: &mut Around<'_>) {
        if more && self.target < WORKERS_MAX {
            self.target += 1;
            self.log(around, Level::Info, "one worker more", vec![("workers", self.target.to_string())]);
        } else if !more && self.target > 1 {
            self.target -= 1;
            self.log(around, Level::Info, "one worker fewer", vec![("workers", self.target.to_string())]);
        } else if !more {
            self.log(around, Level::Warn, "the last worker stays", vec![]);
        }
    }

    /// Another policy; with `restart` the workers are replaced because of what it does not say.
    pub(crate) fn change(&mut self, policy: Policy, restart: bool, around: &mut Around<'_>) {
        if policy.workers != self.policy.workers {
            self.target = policy.workers.clamp(1, WORKERS_MAX);
        }
        self.policy = policy;
        if restart {
            self.reload(around);
        }
    }

    /// The app is not wanted any more: its workers finish what they have.
    pub(crate) fn dissolve(&mut self, around: &mut Around<'_>) {
        self.target = 0;
        self.reloading = false;
        self.reload_pending = false;
        for worker in self.ids(|w| matches!(w.state, State::Waiting | State::Starting { .. })) {
            self.kill(worker, around);
        }
    }

    /// Makes channels to a new edge.
    pub(crate) fn connect_all(&mut self, around: &mut Around<'_>) {
        if self.hopeless {
            self.hope(false, around);
        }
        for worker in self.ids(|w| matches!(w.state, State::Ready { .. })) {
            around.actions.push(Action::Connect { worker });
        }
    }

    pub(crate) fn begin_draining(&mut self, around: &mut Around<'_>) {
        self.reload_pending = false;
        for worker in self.ids(|w| w.state == State::Waiting) {
            self.kill(worker, around);
        }
        if self.ready() > 0 {
            for worker in self.ids(|w| matches!(w.state, State::Starting { .. })) {
                self.kill(worker, around);
            }
        }
    }

    pub(crate) fn end(&mut self, deadline: Millis, around: &mut Around<'_>) {
        for (worker, state) in self.workers.iter().map(|(&id, w)| (id, w.state)).collect::<Vec<_>>() {
            match state {
                State::Ready { .. } | State::Retiring { .. } => self.quit(worker, deadline, around),
                State::Starting { .. } | State::Waiting => self.kill(worker, around),
                State::Quitting { .. } | State::Dying { .. } => {}
            }
        }
    }

    pub(crate) fn kill_all(&mut self, around: &mut Around<'_>) {
        for worker in self.ids(|_| true) {
            self.kill(worker, around);
        }
    }
}
