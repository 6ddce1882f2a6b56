//! Seeded simulation: the pool with real links against workers of this process, in simulated time.
//!
//! The edge's turns come only when the real edge's would: something arrived or a bell rang and it takes no nap
//! ([`Pool::nap_ns`]), or [`Pool::next_stale`] says so. After every turn the promises of the pool are checked against a book of every request's life.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use trivet_wire::channel::{Channel, Notice};
use trivet_wire::control::{Attach, Transport};
use trivet_wire::frame::{FrameHeader, HEADER_BYTES, Kind, Request, RequestHead, RequestWriter, flag};
use trivet_wire::segment::{Layout, Receiver, Segment, Sender};
use trivet_wire::stream::{Filled, FrameReader, FrameWriter};

use crate::{Key, Limits, Link, Lost, Outgoing, Pool, Requests, Spool, Submitted};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
/// The longest that one step of the simulation takes: the "turn" that promises allow for.
const TURN_NS: u64 = 20 * US;
const QUEUE_LENGTH_MAX: usize = 60;
const QUEUE_NS: u64 = 100 * MS;

/// xorshift64*: the same seed gives the same run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    Fast,
    /// What a request through a usual framework takes.
    Usual,
    Slow,
    Mixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    Sent(usize, u16, u32),
    Completed,
    Refused,
    Expired,
    Gone,
    Lost,
}

/// The edge's book: every request's life.
#[derive(Default)]
struct Book {
    out: Vec<Outgoing>,
    state: Vec<State>,
    queued: BTreeSet<Key>,
    live: usize,
    retried: Vec<bool>,
    starts_allowed: Vec<u32>,
}

impl Book {
    fn new_request(&mut self, random: &mut Random) -> Key {
        let key = self.out.len() as Key;
        let id = key.to_string();
        let mut frame = Vec::new();
        let head =
            RequestHead { method: b"GET", request_id: id.as_bytes(), target: b"/", ..RequestHead::default() };
        RequestWriter::begin(&mut frame, &head).finish_head();
        if random.one_in(30) {
            frame.resize(frame.len() + random.below(60_000) as usize, b'x');
        }
        let mut out = Outgoing { frame, ..Outgoing::default() };
        if random.one_in(20) {
            let (file, _) = rustix::pipe::pipe().expect("a descriptor of any kind");
            out.spool = Some(Spool { file, id: key, owner: 0, known_to: Vec::new(), kept_bytes: 0 });
            out.body_flags = flag::BODY_SPOOLED;
        }
        self.out.push(out);
        self.state.push(State::Queued);
        self.live += 1;
        self.retried.push(false);
        self.starts_allowed.push(1);
        key
    }

    fn end(&mut self, key: Key, how: State) {
        let state = &mut self.state[key as usize];
        assert!(
            matches!(state, State::Queued | State::Sent(..)),
            "request {key} ends twice: {state:?}, {how:?}"
        );
        *state = how;
        self.live -= 1;
        self.queued.remove(&key);
    }
}

impl Requests for Book {
    fn outgoing(&mut self, key: Key) -> &mut Outgoing {
        &mut self.out[key as usize]
    }

    fn sent(&mut self, key: Key, worker: usize, ticket: u16, generation: u32) {
        self.queued.remove(&key);
        // Keys are given in the order of arrival.
        let oldest = self.queued.first().copied().unwrap_or(key);
        assert!(oldest >= key, "request {key} was sent before {oldest}, which has waited longer");
        assert_eq!(self.state[key as usize], State::Queued);
        self.state[key as usize] = State::Sent(worker, ticket, generation);
    }

    fn unsent(&mut self, key: Key) {
        self.state[key as usize] = State::Queued;
        self.queued.insert(key);
    }
}

enum Ends {
    Ring { segment: Arc<Segment>, rx: Receiver, tx: Sender },
    Socket { stream: OwnedFd, reader: FrameReader, writer: FrameWriter },
}

struct Running {
    header: FrameHeader,
    since: u64,
    until: u64,
}

/// A worker as the contract describes it, without Python.
struct Worker {
    index: usize,
    channel: Channel,
    ends: Ends,
    threads: usize,
    running: Vec<Running>,
    pending: VecDeque<(FrameHeader, Key)>,
    cancelled: BTreeSet<(u16, u32)>,
    spools: BTreeSet<u32>,
    retiring: bool,
}

impl Worker {
    fn attach(index: usize, channel: Channel, threads: usize) -> Self {
        let message = channel.receive().unwrap().unwrap();
        let attach: Attach = message.json().unwrap();
        let ends = match attach.transport {
            Transport::Ring => {
                let layout = Layout {
                    tickets: attach.tickets,
                    request_bytes: attach.request_bytes,
                    response_bytes: attach.response_bytes,
                };
                let segment = Segment::open(message.fds[0].as_fd(), layout).unwrap();
                let (rx, tx) = segment.worker_ends();
                Ends::Ring { segment, rx, tx }
            }
            Transport::Socket => Ends::Socket {
                stream: message.fds.into_iter().next().unwrap(),
                reader: FrameReader::default(),
                writer: FrameWriter::default(),
            },
        };
        Self {
            index,
            channel,
            ends,
            threads,
            running: Vec::new(),
            pending: VecDeque::new(),
            cancelled: BTreeSet::new(),
            spools: BTreeSet::new(),
            retiring: false,
        }
    }

    fn say(&mut self, kind: Kind, to: FrameHeader, service_ns: u64) {
        let aux = u32::try_from(service_ns).unwrap_or(u32::MAX);
        let header = FrameHeader { len: HEADER_BYTES as u32, kind, flags: 0, aux, ..to };
        match &mut self.ends {
            Ends::Ring { tx, .. } => {
                assert!(tx.push(header, &[]).unwrap(), "the edge reads faster than this");
                tx.publish();
            }
            Ends::Socket { stream, writer, .. } => {
                writer.push(header, &[]);
                assert!(writer.flush(stream.as_fd(), false).unwrap());
            }
        }
    }

    fn take_in(&mut self) {
        loop {
            if let Ends::Socket { stream, reader, .. } = &mut self.ends
                && reader.peek().unwrap().is_none()
            {
                match reader.fill(stream.as_fd(), false).unwrap() {
                    Filled::Some => continue,
                    Filled::Empty | Filled::Closed => return,
                }
            }
            let frame = match &mut self.ends {
                Ends::Ring { rx, .. } => rx.peek().unwrap(),
                Ends::Socket { reader, .. } => reader.peek().unwrap(),
            };
            let Some((header, payload)) = frame else { return };
            match header.kind {
                Kind::Request => {
                    let request = Request::parse(payload).unwrap();
                    let key = std::str::from_utf8(request.head.request_id).unwrap().parse().unwrap();
                    if header.flags & flag::BODY_SPOOLED != 0 {
                        let spool = request.meta.spool;
                        while let Ok(Some(m)) = self.channel.try_receive() {
                            let Some(Notice::Spool(id)) = Notice::parse(&m.bytes) else { panic!("a notice") };
                            assert_eq!(m.fds.len(), 1);
                            self.spools.insert(id);
                        }
                        assert!(self.spools.contains(&spool), "a spool file comes before its frame");
                    }
                    self.pending.push_back((header, key));
                }
                Kind::Cancel => {
                    self.cancelled.insert((header.ticket, header.generation));
                }
                other => panic!("nobody sends {other:?} here"),
            }
            match &mut self.ends {
                Ends::Ring { rx, .. } => {
                    rx.next(header);
                    rx.release();
                }
                Ends::Socket { reader, .. } => reader.next(header),
            }
        }
    }
}

struct Simulation {
    random: Random,
    load: Load,
    now: u64,
    pool: Pool,
    book: Book,
    starts: Vec<u32>,
    workers: Vec<Worker>,
    next_id: u32,
    next_arrival: u64,
    /// When the edge's next turn is at the latest.
    wake_at: u64,
    /// A bell rang, or something arrived.
    woken: bool,
    /// Nothing wakes the edge before.
    asleep_until: u64,
    /// Workers that must have enough for the nap: those that were there and lost no frame to a client that left.
    supplied: BTreeSet<u32>,
    /// Since when a worker with frames that nobody has begun begins none: worker, first of the frames, time.
    still_since: BTreeMap<u32, (Key, u64)>,
    /// The longest time that frames were ever allowed to wait behind a running one.
    stale_most: u64,
    naps: u64,
    most_ahead: u16,
    taken_back: u64,
}

impl Simulation {
    fn new(seed: u64, load: Load, transport: Transport) -> Self {
        let limits = Limits { queue_length_max: QUEUE_LENGTH_MAX, queue_ns: QUEUE_NS };
        let mut simulation = Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            load,
            now: 1_000 * MS,
            pool: Pool::new(limits, transport, 1),
            book: Book::default(),
            starts: Vec::new(),
            workers: Vec::new(),
            next_id: 1,
            next_arrival: 0,
            wake_at: 0,
            woken: true,
            asleep_until: 0,
            supplied: BTreeSet::new(),
            still_since: BTreeMap::new(),
            stale_most: 0,
            naps: 0,
            most_ahead: 0,
            taken_back: 0,
        };
        for _ in 0..=simulation.random.below(4) {
            simulation.hire();
        }
        simulation
    }

    fn hire(&mut self) {
        let threads = 1 + self.random.below(3) as usize;
        let (ours, theirs) = Channel::pair().unwrap();
        let id = self.next_id;
        self.next_id += 1;
        let index = self.pool.join(id, id, threads as u16, ours).unwrap();
        self.workers.push(Worker::attach(index, theirs, threads));
        self.pool.worker(index).unwrap().slots = threads as u16;
        self.woken = true;
    }

    fn service_ns(&mut self) -> u64 {
        match self.load {
            Load::Slow => MS + self.random.below(10 * MS),
            Load::Mixed if self.random.one_in(200) => 5 * MS + self.random.below(15 * MS),
            Load::Fast | Load::Mixed => US + self.random.below(4 * US),
            Load::Usual => 100 * US + self.random.below(100 * US),
        }
    }

    fn pause_ns(&mut self) -> u64 {
        match self.load {
            Load::Fast | Load::Mixed => self.random.below(60 * US),
            Load::Usual => self.random.below(200 * US),
            Load::Slow => self.random.below(4 * MS),
        }
    }

    /// Arrivals, departures, deaths and retirements that are due.
    fn outside(&mut self) {
        if self.now < self.next_arrival {
            return;
        }
        self.next_arrival = self.now + self.pause_ns();
        self.woken = true;
        let burst = if self.random.one_in(40) { 120 } else { 1 + self.random.below(6) };
        for _ in 0..burst {
            self.arrive();
        }
        if self.random.one_in(4) {
            self.leave();
        }
        if self.random.one_in(100) {
            let victim = self.random.below(self.workers.len() as u64) as usize;
            self.kill(victim);
            self.hire();
        }
        if self.random.one_in(200) {
            self.lose_hope();
        }
        if self.random.one_in(100) {
            self.supplied.clear();
            let at = self.random.below(self.workers.len() as u64) as usize;
            self.workers[at].retiring = true;
            let index = self.workers[at].index;
            self.pool.worker(index).unwrap().accepting = false;
            self.pool.recall_all(index, &mut self.book);
            self.hire();
        }
    }

    fn arrive(&mut self) -> Submitted {
        let key = self.book.new_request(&mut self.random);
        self.starts.push(0);
        let had_room = !self.pool.full();
        let submitted = self.pool.submit(key, &mut self.book, self.now);
        match submitted {
            Submitted::Sent => {}
            Submitted::Queued => {
                self.book.queued.insert(key);
            }
            Submitted::Refused => self.book.end(key, State::Refused),
        }
        assert_eq!(had_room, submitted != Submitted::Refused, "`full` says what `submit` does");
        assert!(submitted != Submitted::Queued || self.pool.queue_length() <= QUEUE_LENGTH_MAX);
        submitted
    }

    /// All workers die and none starts, until one does.
    fn lose_hope(&mut self) {
        while !self.workers.is_empty() {
            self.kill(0);
        }
        self.supplied.clear();
        self.pool.set_may_wait(false);
        self.expire();
        assert_eq!((self.pool.queue_length(), self.book.queued.len()), (0, 0), "nobody waits for nothing");
        for _ in 0..3 {
            assert_eq!(self.arrive(), Submitted::Refused);
        }
        // Other bounds by a reload change nothing about it.
        self.pool.set_limits(Limits { queue_length_max: QUEUE_LENGTH_MAX, queue_ns: QUEUE_NS });
        assert_eq!(self.arrive(), Submitted::Refused);
        self.pool.set_may_wait(true);
        assert_eq!(self.arrive(), Submitted::Queued, "the worker that is coming takes it");
        self.hire();
    }

    fn expire(&mut self) {
        while let Some(key) = self.pool.expired(self.now) {
            self.book.end(key, State::Expired);
        }
    }

    /// Some client goes, wherever its request is.
    fn leave(&mut self) {
        let alive: Vec<Key> = (0..self.book.state.len() as Key)
            .rev()
            .take(200)
            .filter(|k| matches!(self.book.state[*k as usize], State::Queued | State::Sent(..)))
            .collect();
        if alive.is_empty() {
            return;
        }
        let key = alive[self.random.below(alive.len() as u64) as usize];
        match self.book.state[key as usize] {
            State::Queued => {
                assert!(self.pool.forget(key), "request {key} is in the queue");
                self.book.end(key, State::Gone);
                self.book.starts_allowed[key as usize] = self.starts[key as usize];
            }
            State::Sent(worker, ticket, generation) => {
                let begun = self.pool.worker(worker).is_some_and(|w| claimed(w, ticket, generation));
                let over = self.pool.cancel(worker, ticket, generation).unwrap();
                self.supplied.remove(&self.pool.worker(worker).unwrap().id);
                assert_eq!(over, !begun, "request {key} is stopped before it begins, if it has not");
                if over {
                    self.book.end(key, State::Gone);
                    self.book.starts_allowed[key as usize] = self.starts[key as usize];
                }
            }
            _ => unreachable!("only those that live"),
        }
    }

    fn kill(&mut self, victim: usize) {
        let worker = self.workers.swap_remove(victim);
        let index = worker.index;
        drop(worker);
        self.drain(index);
        for (key, lost, turn) in self.pool.bury(index, true, self.now) {
            let k = key as usize;
            assert_eq!(lost == Lost::Started, self.starts[k] == self.book.starts_allowed[k], "request {key}");
            if lost == Lost::Unstarted {
                self.pool.requeue(key, turn, &mut self.book);
            } else if !std::mem::replace(&mut self.book.retried[k], true) && self.pool.may_retry() {
                self.book.starts_allowed[k] += 1;
                self.pool.requeue(key, turn, &mut self.book);
            } else {
                self.book.end(key, State::Lost);
            }
        }
    }

    /// What the worker's threads do by now.
    fn work(&mut self) {
        for at in 0..self.workers.len() {
            self.workers[at].take_in();
            let w = &mut self.workers[at];
            let mut over = Vec::new();
            let (now, cancelled) = (self.now, &w.cancelled);
            w.running.retain(|r| {
                let done = r.until <= now || cancelled.contains(&(r.header.ticket, r.header.generation));
                if done {
                    over.push((r.header, now - r.since));
                }
                !done
            });
            for (header, ns) in over {
                w.say(Kind::Done, header, ns);
                // A batch may go on before the bell; the edge looks by itself then.
                let next_is_batch = w.pending.front().is_some_and(|(h, _)| h.flags & flag::BATCH != 0);
                self.woken |= !next_is_batch;
            }
            while self.workers[at].running.len() < self.workers[at].threads {
                let Some((header, key)) = self.workers[at].pending.pop_front() else { break };
                let service_ns = self.service_ns();
                let w = &mut self.workers[at];
                match &w.ends {
                    Ends::Ring { segment, .. } => {
                        let ticket = segment.ticket(header.ticket).unwrap();
                        if !ticket.claim(header.generation, self.now) {
                            continue;
                        }
                        ticket.enter(header.generation);
                    }
                    Ends::Socket { .. } => {
                        w.say(Kind::Started, header, 0);
                        self.woken = true;
                    }
                }
                self.starts[key as usize] += 1;
                assert!(
                    self.starts[key as usize] <= self.book.starts_allowed[key as usize],
                    "request {key} started once too often"
                );
                w.running.push(Running { header, since: self.now, until: self.now + service_ns });
            }
        }
    }

    fn drain(&mut self, index: usize) {
        let Some(w) = self.pool.worker(index) else { return };
        w.link.fill().unwrap();
        loop {
            let Some(w) = self.pool.worker(index) else { return };
            let Some((header, key, _)) = w.next_frame().unwrap() else { break };
            w.link.next(header);
            match header.kind {
                Kind::Started => w.sign(header.ticket, self.now),
                Kind::Done => {
                    let key = key.expect("a worker says `Done` once for what it was given");
                    assert_eq!(self.pool.done(index, header.ticket, header.aux), Some(key));
                    self.book.end(key, State::Completed);
                }
                other => panic!("no worker here says {other:?}"),
            }
        }
        if let Some(w) = self.pool.worker(index) {
            w.link.release();
        }
    }

    /// One turn of the edge's loop.
    fn turn(&mut self) {
        for index in self.pool.indices() {
            self.drain(index);
        }
        let before = self.book.queued.clone();
        self.pool.pump(&mut self.book, self.now);
        self.taken_back += self.book.queued.difference(&before).count() as u64;
        let mut failed = Vec::new();
        self.pool.flush(&mut failed);
        assert!(failed.is_empty());
        self.expire();
        for at in (0..self.workers.len()).rev() {
            let index = self.workers[at].index;
            let idle = self.pool.worker(index).is_some_and(|w| w.outstanding() == 0);
            if self.workers[at].retiring && idle {
                self.workers.remove(at);
                assert!(self.pool.bury(index, false, self.now).is_empty());
            }
        }
        self.woken = false;
        let nap = self.pool.nap_ns();
        self.naps += u64::from(nap > 0);
        self.asleep_until = self.now + nap;
        self.supplied = self.pool.workers().filter(|w| w.accepting).map(|w| w.id).collect();
        let next = if nap > 0 { nap } else { self.pool.next_stale(self.now).unwrap_or(250 * MS) };
        self.wake_at = self.now + next.min(250 * MS);
        self.check_after_turn();
    }

    fn check_after_turn(&mut self) {
        let free = self.pool.workers().any(|w| w.accepting && w.outstanding() < w.slots);
        if free {
            assert_eq!(self.pool.queue_length(), 0, "a request waits although a slot is free");
        }
        for w in self.pool.workers() {
            let ahead = w.outstanding().saturating_sub(w.slots);
            self.most_ahead = self.most_ahead.max(ahead);
            assert!(ahead == 0 || matches!(w.link, Link::Ring { .. }), "a socket gets nothing ahead");
            let unstarted = w.in_hand().any(|(t, g, _)| !claimed(w, t, g));
            assert!(!(free && ahead > 0 && unstarted), "ahead although a slot is free elsewhere");
            assert_eq!(w.free.len() + usize::from(w.outstanding()), w.entries.len(), "a ticket is lost");
            assert_eq!(w.in_hand().count(), usize::from(w.outstanding()));
        }
    }

    /// After every step: no worker that begins nothing keeps frames waiting for longer than promised, and none that
    /// could begin something is left without a frame by a nap.
    fn check_waiting(&mut self) {
        self.stale_most = self.stale_most.max(self.pool.stale_ns());
        let mut still = BTreeMap::new();
        for w in self.pool.workers() {
            let Link::Ring { .. } = w.link else { continue };
            let fake = self.workers.iter().find(|f| self.pool.find(w.id) == Some(f.index));
            let Some(fake) = fake else { continue };
            if self.now < self.asleep_until && self.supplied.contains(&w.id) {
                assert!(!fake.running.is_empty(), "worker {} has run out of work during a nap", w.id);
            }
            let mut waiting = w.in_hand().filter(|(t, g, _)| !claimed(w, *t, *g)).map(|(.., key)| key);
            if fake.running.len() == fake.threads
                && w.outstanding() > w.slots
                && let Some(first) = waiting.by_ref().min()
            {
                let since =
                    self.still_since.get(&w.id).filter(|(key, _)| *key == first).map(|(_, since)| *since);
                still.insert(w.id, (first, since.unwrap_or(self.now)));
            }
        }
        for (worker, (key, since)) in &still {
            let waited = self.now - since;
            // What has begun is seen at the next look, which comes within the same time.
            assert!(
                waited <= 2 * self.stale_most + 3 * TURN_NS,
                "request {key} has waited {waited} ns in worker {worker} behind running ones"
            );
        }
        self.still_since = still;
    }

    fn step(&mut self, arrivals: bool) {
        let ends = self.workers.iter().flat_map(|w| w.running.iter().map(|r| r.until)).min();
        let mut next = self.wake_at.min(ends.unwrap_or(u64::MAX));
        if self.asleep_until > self.now {
            next = next.min(self.asleep_until);
        }
        if arrivals {
            next = next.min(self.next_arrival);
        }
        self.now = next.max(self.now) + 1 + self.random.below(5 * US);
        if arrivals {
            self.outside();
        }
        self.work();
        if self.now >= self.asleep_until && (self.woken || self.now >= self.wake_at) {
            self.turn();
        }
        self.work();
        self.check_waiting();
        if self.random.one_in(1000) {
            self.pool.tick();
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step(true);
        }
        let mut left = 200_000;
        while self.book.live > 0 {
            self.step(false);
            left -= 1;
            assert!(left > 0, "a request never ends");
        }
        assert_eq!(self.pool.queue_length(), 0);
        for w in self.pool.workers() {
            assert_eq!((w.outstanding(), w.free.len()), (0, w.entries.len()), "tickets are back");
        }
    }
}

fn claimed(w: &crate::Worker, ticket: u16, generation: u32) -> bool {
    match &w.link {
        Link::Ring { segment, .. } => segment.ticket(ticket).is_some_and(|t| t.claimed(generation)),
        Link::Socket { .. } => true,
    }
}

/// The most that was ahead in one worker, how many were taken back, how many naps were taken.
fn simulate(load: Load, transport: Transport, seeds: u64, steps: usize) -> (u16, u64, u64) {
    let (mut most_ahead, mut taken_back, mut naps) = (0, 0, 0);
    for seed in 1..=seeds {
        let result = std::panic::catch_unwind(|| {
            let mut simulation = Simulation::new(seed, load, transport);
            simulation.run(steps);
            (simulation.most_ahead, simulation.taken_back, simulation.naps)
        });
        match result {
            Ok((ahead, back, slept)) => {
                most_ahead = most_ahead.max(ahead);
                taken_back += back;
                naps += slept;
            }
            Err(panic) => {
                let why = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                panic!("{load:?} {transport:?} seed {seed}: {}", why.unwrap_or_default());
            }
        }
    }
    (most_ahead, taken_back, naps)
}

#[test]
fn fast_requests_over_the_ring_are_fetched_ahead_and_none_is_lost() {
    let (most_ahead, _, naps) = simulate(Load::Fast, Transport::Ring, 4, 1_500);
    assert!(most_ahead > 4, "the simulation must reach what it is to check");
    assert_eq!(naps, 0, "nobody sleeps while the worker needs microseconds");
}

#[test]
fn slow_requests_over_the_ring_are_never_fetched_ahead() {
    assert_eq!(simulate(Load::Slow, Transport::Ring, 4, 600), (0, 0, 0));
}

#[test]
fn a_nap_leaves_no_worker_without_work_and_loses_nothing() {
    let (most_ahead, _, naps) = simulate(Load::Usual, Transport::Ring, 4, 4_000);
    assert!(most_ahead > 4 && naps > 100, "the simulation must reach what it is to check");
}

#[test]
fn a_slow_request_among_fast_ones_holds_nothing_up() {
    let (most_ahead, taken_back, _) = simulate(Load::Mixed, Transport::Ring, 6, 1_500);
    assert!(most_ahead > 4 && taken_back > 0, "the simulation must reach what it is to check");
}

#[test]
fn the_socket_keeps_the_same_promises() {
    for load in [Load::Fast, Load::Usual, Load::Slow, Load::Mixed] {
        simulate(load, Transport::Socket, 2, 200);
    }
}
