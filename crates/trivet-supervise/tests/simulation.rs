//! The supervisor's machine in a simulated world: random deaths, slow and broken apps, signals in any order.
//!
//! A failure names its seed.

use std::collections::{BTreeMap, BTreeSet};

use trivet_supervise::log::Level;
use trivet_supervise::machine::{Action, Announce, App, EXIT_SOFTWARE, End, Event, Machine, Millis, Policy};

const SIGKILL: i32 = 9;
const GRACEFUL_MS: Millis = 5_000;
const APP: u32 = 1;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    ready: bool,
    retired: bool,
    /// The edge that it has a channel to.
    edge: u32,
}

/// How bad the world is.
#[derive(Clone, Copy)]
struct Faults {
    /// Percent of processes that die by themselves, that ignore what they are told, and so on.
    percent: u64,
}

struct World {
    random: Random,
    faults: Faults,
    app_is_broken: bool,
    /// Of several apps.
    broken: BTreeSet<u32>,
    apps: BTreeSet<u32>,
    machine: Machine,
    now: Millis,
    coming: BTreeMap<(Millis, u64), Event>,
    sequence: u64,
    edge: Option<u32>,
    edge_ready: bool,
    workers: BTreeMap<u32, Worker>,
    ids: BTreeSet<u32>,
    exit: Option<u8>,
    announced: Vec<Announce>,
    logged: Vec<(Millis, Level, &'static str)>,
    starts: Vec<Millis>,
    /// Apps whose requests the edge refuses at once.
    hopeless: BTreeSet<u32>,
    /// So many have been ready at once, and must stay so where nothing dies.
    floor: usize,
}

impl World {
    fn new(seed: u64, workers: u32, reload: bool, faults: Faults, app_is_broken: bool) -> Self {
        let policy = Policy { workers, graceful_ms: GRACEFUL_MS, reload };
        Self::of(seed, vec![App { id: APP, name: "app".into(), policy }], faults, app_is_broken)
    }

    fn of(seed: u64, apps: Vec<App>, faults: Faults, app_is_broken: bool) -> Self {
        let ids: BTreeSet<u32> = apps.iter().map(|a| a.id).collect();
        let (machine, actions) = Machine::start(apps, 0);
        let mut world = Self {
            random: Random(seed),
            faults,
            app_is_broken,
            broken: BTreeSet::new(),
            apps: ids,
            machine,
            now: 0,
            coming: BTreeMap::new(),
            sequence: 0,
            edge: None,
            edge_ready: false,
            workers: BTreeMap::new(),
            ids: BTreeSet::new(),
            exit: None,
            announced: Vec::new(),
            logged: Vec::new(),
            starts: Vec::new(),
            hopeless: BTreeSet::new(),
            floor: 0,
        };
        world.perform(actions);
        world
    }

    fn fault(&mut self) -> bool {
        self.random.percent(self.faults.percent)
    }

    fn soon(&mut self, within: Millis, event: Event) {
        let at = self.now + 1 + self.random.below(within);
        self.sequence += 1;
        self.coming.insert((at, self.sequence), event);
    }

    fn worker_dies(&mut self, worker: u32, within: Millis, end: End) {
        self.soon(within, Event::WorkerDied { worker, pid: worker + 1000, end });
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::StartEdge { generation } => {
                    assert!(self.edge.is_none(), "two edges at once");
                    self.edge = Some(generation);
                    self.edge_ready = false;
                    // A new one knows of nothing.
                    self.hopeless.clear();
                    if self.fault() {
                        let end = End::Killed(SIGKILL);
                        self.soon(5_000, Event::EdgeDied { generation, pid: 1, end });
                    }
                    self.soon(50, Event::EdgeReady { generation });
                }
                Action::ReloadFailed { .. } => {}
                Action::StartWorker { app, worker } => {
                    assert!(self.ids.insert(worker), "a number is given twice");
                    self.workers.insert(worker, Worker::default());
                    self.starts.push(self.now);
                    assert!(self.apps.contains(&app), "a worker for an app that nobody wants");
                    if self.app_is_broken || self.broken.contains(&app) {
                        self.soon(500, Event::WorkerFailed { worker, why: None });
                    } else if self.fault() {
                        self.worker_dies(worker, 20_000, End::Killed(11));
                        self.soon(3_000, Event::WorkerReady { worker });
                    } else {
                        self.soon(3_000, Event::WorkerReady { worker });
                    }
                }
                Action::Connect { worker } => {
                    let edge = self.edge.expect("a channel needs an edge");
                    let view =
                        self.machine.workers().find(|w| w.worker == worker).expect("the machine has it");
                    assert!(!self.hopeless.contains(&view.app), "requests wait for a worker before it comes");
                    let worker = self.workers.get_mut(&worker).expect("a channel needs a living worker");
                    assert!(worker.ready && !worker.retired);
                    assert_ne!(worker.edge, edge, "two channels to one edge");
                    worker.edge = edge;
                }
                Action::Retire { worker } => {
                    self.workers.get_mut(&worker).expect("it lives").retired = true;
                    if !self.fault() {
                        self.soon(GRACEFUL_MS * 3 / 2, Event::WorkerIdle { worker });
                    }
                }
                Action::Gone { worker } => assert!(!self.workers.contains_key(&worker), "it is not gone"),
                Action::Hope { app, hope } => {
                    assert!(self.edge.is_some(), "nobody to be told");
                    let changed = if hope { self.hopeless.remove(&app) } else { self.hopeless.insert(app) };
                    assert!(changed, "the edge knows that already");
                }
                Action::Dump { worker } => assert!(self.workers.contains_key(&worker)),
                Action::Quit { worker } => {
                    self.workers.get_mut(&worker).expect("it lives").retired = true;
                    if !self.fault() {
                        self.worker_dies(worker, 3_000, End::Exited(0));
                    }
                }
                Action::Kill { worker } => {
                    if let Some(w) = self.workers.get_mut(&worker) {
                        w.ready = false;
                        self.worker_dies(worker, 5, End::Killed(SIGKILL));
                    }
                }
                Action::DrainEdge { within_ms } => {
                    let generation = self.edge.expect("it lives");
                    if !self.fault() {
                        self.soon(within_ms, Event::EdgeDrained { generation });
                    }
                }
                Action::EndEdge => {
                    let generation = self.edge.expect("it lives");
                    if !self.fault() {
                        self.soon(50, Event::EdgeDied { generation, pid: 1, end: End::Exited(0) });
                    }
                }
                Action::KillEdge => {
                    let generation = self.edge.expect("it lives");
                    self.soon(5, Event::EdgeDied { generation, pid: 1, end: End::Killed(SIGKILL) });
                }
                Action::Announce(what) => self.announced.push(what),
                Action::Log { level, message, .. } => self.logged.push((self.now, level, message)),
                Action::Exit { code } => {
                    assert!(self.edge.is_none() && self.workers.is_empty(), "somebody is left");
                    self.exit = Some(code);
                }
            }
        }
        self.check();
    }

    fn ready(&self) -> usize {
        self.workers.values().filter(|w| w.ready && !w.retired).count()
    }

    fn target(&self) -> u32 {
        self.apps.iter().map(|&app| self.machine.target(app)).sum()
    }

    fn ready_of(&self, app: u32) -> usize {
        let views = self.machine.workers().filter(|w| w.app == app && w.state == "ready");
        views.filter(|w| self.workers.get(&w.worker).is_some_and(|w| w.ready && !w.retired)).count()
    }

    fn check(&mut self) {
        for &app in &self.hopeless {
            assert_eq!(self.ready_of(app), 0, "requests are refused although a worker is there");
        }
        let active = self.machine.workers().filter(|w| matches!(w.state, "starting" | "ready")).count();
        // One more during a reload; and one by one when the target has just been lowered.
        assert!(active <= self.target() as usize + 2, "{active} for {}", self.target());
        let target = self.target() as usize;
        self.floor = if self.ready() >= target { target } else { self.floor.min(target) };
    }

    /// Gives one event to the machine, if its process still lives.
    fn deliver(&mut self, event: Event) {
        let lives = |worker: &u32| self.workers.contains_key(worker);
        let real = match &event {
            Event::EdgeReady { generation }
            | Event::EdgeDrained { generation }
            | Event::EdgeDied { generation, .. } => self.edge == Some(*generation),
            Event::WorkerReady { worker }
            | Event::WorkerFailed { worker, .. }
            | Event::WorkerDied { worker, .. }
            | Event::WorkerChanged { worker, .. }
            | Event::WorkerIdle { worker }
            | Event::WorkerStuck { worker, .. }
            | Event::WorkerBroken { worker, .. } => lives(worker),
            _ => true,
        };
        if !real {
            return;
        }
        match &event {
            Event::EdgeReady { .. } => self.edge_ready = true,
            Event::EdgeDied { .. } => {
                self.edge = None;
                self.edge_ready = false;
                self.hopeless.clear();
            }
            Event::WorkerReady { worker } => {
                // A killed one may still have said it.
                let killed = self.machine.workers().any(|w| w.worker == *worker && w.state == "dying");
                self.workers.get_mut(worker).expect("it lives").ready = !killed;
            }
            Event::WorkerDied { worker, .. } => drop(self.workers.remove(worker)),
            Event::WorkerFailed { worker, .. } => {
                let worker = *worker;
                self.worker_dies(worker, 50, End::Exited(70));
            }
            _ => {}
        }
        let actions = self.machine.handle(event, self.now);
        self.perform(actions);
    }

    /// Lets time pass: everything that comes, and the machine's own deadlines.
    fn pass(&mut self, ms: Millis) {
        let end = self.now + ms;
        let mut ticks_at_once = 0;
        while self.exit.is_none() {
            let coming = self.coming.keys().next().map(|k| k.0);
            let deadline = self.machine.deadline(self.now);
            let Some(next) = coming.into_iter().chain(deadline).min().filter(|&t| t <= end) else { break };
            ticks_at_once = if next <= self.now { ticks_at_once + 1 } else { 0 };
            assert!(ticks_at_once < 100, "the machine spins at {}", self.now);
            self.now = self.now.max(next);
            match coming {
                Some(at) if at <= self.now => {
                    let (_, event) = self.coming.pop_first().expect("it was looked at");
                    self.deliver(event);
                }
                _ => self.deliver(Event::Tick),
            }
        }
        self.now = end;
    }

    fn random_event(&mut self) -> Event {
        let ids: Vec<u32> = self.workers.iter().filter(|(_, w)| w.ready).map(|(&id, _)| id).collect();
        let pick = self.random.below(12);
        if pick < 6 && !ids.is_empty() {
            let worker = ids[self.random.below(ids.len() as u64) as usize];
            return match pick {
                0 | 1 => Event::WorkerDied { worker, pid: 9, end: End::Killed(SIGKILL) },
                2 => Event::WorkerBroken { worker, why: "nonsense".into() },
                3 => Event::WorkerChanged { worker, path: "app.py".into() },
                _ => Event::WorkerStuck {
                    worker,
                    request_id: "1".into(),
                    request_line: "GET / HTTP/1.1".into(),
                    seconds: 30.0,
                },
            };
        }
        match (pick, self.edge) {
            (6, Some(generation)) if self.edge_ready => {
                Event::EdgeDied { generation, pid: 1, end: End::Killed(SIGKILL) }
            }
            (7 | 8, _) => Event::Reload,
            (9, _) if self.machine.target(APP) < 6 => Event::Add,
            (10, _) => Event::Remove,
            _ => Event::Tick,
        }
    }
}

fn for_seeds(count: u64, test: impl Fn(u64)) {
    for seed in 0..count {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed)));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn whatever_happens_the_wanted_workers_are_back_and_a_stop_ends() {
    for_seeds(3_000, |seed| {
        let mut world = World::new(seed, 1 + (seed % 4) as u32, seed % 3 == 0, Faults { percent: 15 }, false);
        let storms = world.random.below(40);
        for _ in 0..storms {
            if world.random.percent(20) {
                world.app_is_broken = !world.app_is_broken;
            }
            let event = world.random_event();
            world.deliver(event);
            let pause = world.random.below(4_000);
            world.pass(pause);
            if let Some(code) = world.exit {
                // Only what never served may give up.
                assert!(!world.announced.contains(&Announce::Serving), "it gave up after it had served");
                assert_eq!(code, EXIT_SOFTWARE);
                return;
            }
        }
        world.app_is_broken = false;
        world.faults = Faults { percent: 0 };
        world.pass(60_000);
        if world.exit.is_some() {
            return;
        }
        // The operator repairs the app and says so.
        world.deliver(Event::Reload);
        world.pass(300_000);
        assert_eq!(world.ready(), world.machine.target(APP) as usize, "workers are missing");
        assert!(world.hopeless.is_empty(), "requests are still refused");
        assert!(world.edge_ready, "no edge");
        assert!(world.workers.values().filter(|w| !w.retired).all(|w| Some(w.edge) == world.edge));
        let epochs: BTreeSet<u32> = world.machine.workers().map(|w| w.epoch).collect();
        assert_eq!(epochs.len(), 1, "old workers are left");
        let reloads = |what| world.announced.iter().filter(|&&a| a == what).count();
        assert_eq!(reloads(Announce::Reloading), reloads(Announce::Reloaded));

        world.faults = Faults { percent: 30 };
        let before = world.random_event();
        world.deliver(before);
        let moment = world.random.below(3_000);
        world.pass(moment);
        let start = world.now;
        world.deliver(Event::Stop);
        world.pass(GRACEFUL_MS + 5_000);
        assert_eq!(world.exit, Some(0), "not over {} ms after the stop", world.now - start);
    });
}

#[test]
fn a_reload_never_has_fewer_ready_workers_than_before() {
    for_seeds(1_000, |seed| {
        let mut world = World::new(seed, 1 + (seed % 5) as u32, false, Faults { percent: 0 }, false);
        world.pass(30_000);
        assert_eq!(world.ready(), world.machine.target(APP) as usize);
        for _ in 0..20 {
            let event = match world.random.below(4) {
                0 => Event::Add,
                1 => Event::Remove,
                _ => Event::Reload,
            };
            if event == Event::Add && world.machine.target(APP) > 8 {
                continue;
            }
            world.deliver(event);
            let end = world.now + world.random.below(5_000);
            while world.now < end {
                world.pass(10);
                assert!(world.ready() >= world.floor, "{} ready, {} before", world.ready(), world.floor);
            }
        }
        world.pass(120_000);
        assert_eq!(world.ready(), world.machine.target(APP) as usize);
    });
}

#[test]
fn reloads_in_a_row_are_one() {
    let mut world = World::new(1, 4, false, Faults { percent: 0 }, false);
    world.pass(30_000);
    let before = world.starts.len();
    for _ in 0..50 {
        world.deliver(Event::Reload);
    }
    world.pass(120_000);
    // The first one, and one for all that came while its first worker was starting.
    let started = world.starts.len() - before;
    assert!((4..=2 * 4).contains(&started), "{started} workers for 50 reloads");
}

#[test]
fn an_app_that_cannot_be_loaded_is_tried_once_and_ends_with_70() {
    for_seeds(50, |seed| {
        let mut world = World::new(seed, 4, false, Faults { percent: 0 }, true);
        world.pass(10_000);
        assert_eq!(world.exit, Some(EXIT_SOFTWARE));
        assert_eq!(world.starts.len(), 1, "one traceback, not one for each worker");
    });
}

#[test]
fn with_reload_a_broken_app_waits_for_a_change() {
    let mut world = World::new(7, 2, true, Faults { percent: 0 }, true);
    world.pass(600_000);
    assert_eq!((world.exit, world.starts.len()), (None, 1), "it does not loop");
    assert!(world.hopeless.is_empty(), "requests wait for who is about to change the file");
    world.app_is_broken = false;
    world.deliver(Event::Reload);
    world.pass(60_000);
    assert_eq!(world.ready(), 2);
}

#[test]
fn a_reload_that_cannot_load_the_app_leaves_the_running_workers() {
    for_seeds(100, |seed| {
        let mut world = World::new(seed, 3, false, Faults { percent: 0 }, false);
        world.pass(30_000);
        let running: Vec<u32> = world.workers.keys().copied().collect();
        world.app_is_broken = true;
        world.deliver(Event::Reload);
        world.pass(600_000);
        assert_eq!(world.exit, None);
        assert_eq!(world.workers.keys().copied().collect::<Vec<_>>(), running);
        assert_eq!(world.starts.len(), 3 + 1, "one try");
        assert!(world.logged.iter().any(|l| l.2 == "reload failed; the running workers stay"));
        world.app_is_broken = false;
        world.deliver(Event::Reload);
        world.pass(120_000);
        assert_eq!(world.ready(), 3);
        assert!(running.iter().all(|id| !world.workers.contains_key(id)));
    });
}

#[test]
fn a_death_after_a_healthy_run_is_repaired_at_once() {
    let mut world = World::new(3, 2, false, Faults { percent: 0 }, false);
    world.pass(30_000);
    for _ in 0..20 {
        let worker = *world.workers.keys().next().unwrap();
        let starts = world.starts.len();
        world.deliver(Event::WorkerDied { worker, pid: 1, end: End::Killed(SIGKILL) });
        assert_eq!(world.starts.len(), starts + 1, "its successor starts in the same moment");
        world.pass(20_000);
    }
}

#[test]
fn repeated_deaths_are_tried_ever_more_seldom_without_end_or_noise() {
    let mut world = World::new(5, 1, false, Faults { percent: 0 }, false);
    world.pass(30_000);
    let (starts, logged) = (world.starts.len(), world.logged.len());
    let from = world.now;
    while world.now < from + 3_600_000 {
        // Dies as soon as it is ready.
        let ready = world.workers.iter().find(|(_, w)| w.ready).map(|(&id, _)| id);
        match ready {
            Some(worker) => world.deliver(Event::WorkerDied { worker, pid: 1, end: End::Killed(11) }),
            None => world.pass(10),
        }
    }
    let tries = world.starts[starts..].windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>();
    assert!(tries.len() > 100, "it never gives up: {}", tries.len());
    assert!(tries.iter().all(|&gap| gap < 40_000), "never rarer than the cap");
    assert!(tries[20..].iter().all(|&gap| gap >= 30_000), "and seldom in the end");
    let lines = world.logged[logged..].iter().filter(|l| l.1 >= Level::Info).count();
    assert!(lines < 20, "{lines} lines in an hour");
}

#[test]
fn a_stuck_worker_is_dumped_first_and_replaced_at_once() {
    let mut world = World::new(9, 1, false, Faults { percent: 100 }, false);
    world.faults.percent = 0;
    world.pass(60_000);
    world.faults.percent = 100;
    let worker = *world.workers.keys().next().unwrap();
    let starts = world.starts.len();
    let event = Event::WorkerStuck {
        worker,
        request_id: "r".into(),
        request_line: "GET /slow HTTP/1.1".into(),
        seconds: 30.0,
    };
    let actions = world.machine.handle(event, world.now);
    let dump = actions.iter().position(|a| matches!(a, Action::Dump { .. })).expect("its stacks are shown");
    assert!(!actions[..dump].iter().any(|a| matches!(a, Action::Kill { .. } | Action::Quit { .. })));
    world.perform(actions);
    assert_eq!(world.starts.len(), starts + 1);
    assert!(world.workers.contains_key(&worker), "its other requests may finish");
    world.pass(GRACEFUL_MS + 10);
    assert!(!world.workers.contains_key(&worker), "but not for ever");
}

#[test]
fn a_second_stop_is_immediate() {
    for second in [Event::Stop, Event::Halt] {
        let mut world = World::new(11, 3, false, Faults { percent: 0 }, false);
        world.pass(30_000);
        world.faults.percent = 100;
        world.deliver(Event::Stop);
        world.pass(500);
        assert_eq!(world.exit, None);
        world.deliver(second);
        world.pass(10);
        assert_eq!(world.exit, Some(0));
    }
}

#[test]
fn while_it_drains_somebody_answers() {
    let mut world = World::new(13, 1, false, Faults { percent: 0 }, false);
    world.pass(30_000);
    world.faults.percent = 100;
    world.deliver(Event::Stop);
    world.faults.percent = 0;
    let worker = *world.workers.keys().next().unwrap();
    world.deliver(Event::WorkerDied { worker, pid: 1, end: End::Killed(SIGKILL) });
    assert_eq!(world.workers.len(), 1, "a successor for what the edge still holds");
}

#[test]
fn an_edge_that_keeps_dying_is_started_ever_more_seldom() {
    let mut world = World::new(17, 1, false, Faults { percent: 0 }, false);
    world.pass(30_000);
    let first = world.edge.unwrap();
    let kill = |world: &mut World| {
        let generation = world.edge.unwrap();
        world.deliver(Event::EdgeDied { generation, pid: 1, end: End::Killed(11) });
    };
    kill(&mut world);
    assert_eq!(world.edge, Some(first + 1), "after a healthy run at once");
    let from = world.now;
    while world.now < from + 3_600_000 {
        if world.edge_ready { kill(&mut world) } else { world.pass(10) }
    }
    let starts = world.machine.edge_generation() - first;
    assert!((100..200).contains(&starts), "{starts} starts in an hour");
    assert!(world.workers.values().any(|w| w.ready), "its workers outlive it");
}

fn several(count: u32, seed: u64, faults: Faults) -> World {
    let policy = Policy { workers: 2, graceful_ms: GRACEFUL_MS, reload: false };
    let apps = (1..=count).map(|id| App { id, name: format!("app{id}"), policy }).collect();
    World::of(seed, apps, faults, false)
}

const NONE: Faults = Faults { percent: 0 };

#[test]
fn an_app_that_cannot_be_loaded_keeps_no_other_from_serving_and_is_tried_again() {
    for_seeds(50, |seed| {
        let policy = Policy { workers: 2, graceful_ms: GRACEFUL_MS, reload: false };
        let apps = [1, 2].map(|id| App { id, name: format!("app{id}"), policy });
        let mut world = World::of(seed, vec![apps[0].clone()], NONE, false);
        world.broken.insert(2);
        world.apps.insert(2);
        world.deliver(Event::AddApp(apps[1].clone()));
        assert!(world.hopeless.is_empty(), "requests wait for the first try");
        world.pass(60_000);
        assert_eq!((world.exit, world.ready_of(1), world.ready_of(2)), (None, 2, 0));
        assert!(world.announced.contains(&Announce::Serving));
        assert_eq!(world.hopeless, BTreeSet::from([2]), "and for no other");
        // The next edge is told as well.
        let generation = world.edge.unwrap();
        world.deliver(Event::EdgeDied { generation, pid: 1, end: End::Killed(SIGKILL) });
        world.pass(1_000);
        assert_eq!(world.hopeless, BTreeSet::from([2]));
        // Who asks for another try waits for what comes of it.
        world.deliver(Event::ReloadApp { app: 2 });
        assert!(world.hopeless.is_empty());
        world.pass(1_000);
        assert_eq!(world.hopeless, BTreeSet::from([2]));
        world.broken.clear();
        world.pass(120_000);
        assert_eq!((world.ready_of(1), world.ready_of(2)), (2, 2));
        assert!(world.hopeless.is_empty());
    });
}

#[test]
fn requests_are_refused_at_once_only_while_no_worker_of_the_app_starts() {
    for_seeds(100, |seed| {
        let mut world = World::new(seed, 2, false, NONE, false);
        world.pass(30_000);
        // The code is broken under running workers: those that are left serve.
        world.app_is_broken = true;
        let kill = |world: &mut World| {
            let ready = world.workers.iter().find(|(_, w)| w.ready && !w.retired);
            let worker = *ready.expect("one is ready").0;
            world.deliver(Event::WorkerDied { worker, pid: 1, end: End::Killed(SIGKILL) });
        };
        kill(&mut world);
        world.pass(10_000);
        assert_eq!((world.ready(), world.hopeless.len()), (1, 0));
        kill(&mut world);
        assert!(world.hopeless.is_empty(), "its successor is starting");
        world.pass(1_000);
        assert_eq!(world.hopeless, BTreeSet::from([APP]), "and does not start");
        world.app_is_broken = false;
        world.pass(120_000);
        assert_eq!((world.ready(), world.hopeless.len()), (2, 0));
        let told = world.logged.iter().filter(|l| l.2.starts_with("no worker of the app starts")).count();
        assert_eq!(told, 1, "told once, however often it is tried");
        // A worker that dies while its code is good is replaced, and nobody is refused.
        kill(&mut world);
        kill(&mut world);
        while world.ready() < 2 {
            world.pass(10);
            assert!(world.hopeless.is_empty());
        }
    });
}

#[test]
fn where_no_app_can_be_loaded_it_gives_up() {
    for_seeds(50, |seed| {
        let policy = Policy { workers: 2, graceful_ms: GRACEFUL_MS, reload: false };
        let apps = [1, 2].map(|id| App { id, name: format!("app{id}"), policy }).to_vec();
        let mut world = World::of(seed, apps, NONE, true);
        world.pass(60_000);
        assert_eq!(world.exit, Some(EXIT_SOFTWARE));
    });
}

#[test]
fn apps_come_and_go_and_the_others_are_not_touched() {
    for_seeds(200, |seed| {
        let mut world = several(2, seed, NONE);
        world.pass(30_000);
        let untouched = |world: &World| -> Vec<u32> {
            world.machine.workers().filter(|w| w.app == 1).map(|w| w.worker).collect()
        };
        let before = untouched(&world);
        let policy = Policy { workers: 3, graceful_ms: GRACEFUL_MS, reload: false };
        for round in 0..4 {
            let (gone, new) = (2 + round, 3 + round);
            world.apps.insert(new);
            world.deliver(Event::AddApp(App { id: new, name: "new".into(), policy }));
            world.apps.remove(&gone);
            world.deliver(Event::RemoveApp { app: gone });
            let moment = world.random.below(6_000);
            world.pass(moment);
        }
        world.pass(60_000);
        assert_eq!(untouched(&world), before);
        assert_eq!((world.ready_of(1), world.ready_of(6)), (2, 3));
        assert!(
            world.machine.workers().all(|w| world.apps.contains(&w.app)),
            "workers of removed apps are left"
        );
        // Another number of workers replaces none; another setting replaces all.
        world.deliver(Event::ChangeApp { app: 1, policy, restart: false });
        world.pass(30_000);
        let grown = untouched(&world);
        assert!(grown.starts_with(&before) && grown.len() == 3);
        world.deliver(Event::ChangeApp { app: 1, policy, restart: true });
        world.pass(60_000);
        assert!(untouched(&world).iter().all(|w| !grown.contains(w)) && world.ready_of(1) == 3);
        world.deliver(Event::Stop);
        world.pass(60_000);
        assert_eq!(world.exit, Some(0));
    });
}
