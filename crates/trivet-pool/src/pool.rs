//! One app's queue and its workers: which request goes to which slot, and when it is taken back.
//!
//! A request goes to a slot that is free now, else to the app's one queue. Only when no slot anywhere is free may a
//! frame wait inside a worker (fetched ahead), bounded by time; it is taken back when a slot elsewhere comes free, or
//! after [`STALE_NS`]. The pool reads no clock: `now` is in nanoseconds of the monotonic clock.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use trivet_wire::channel::{Channel, Notice};
use trivet_wire::control::Transport;
use trivet_wire::frame::{self, FrameHeader, HEADER_BYTES, Kind, flag};

use crate::{Key, Link, LinkError, ServiceTimes};

/// Frames that wait inside a worker go back to the queue when none of them has begun for this long.
const STALE_NS: u64 = 200_000;
/// While requests of a batch are out, the edge looks for answers at least so often.
const BATCH_NS: u64 = 1_000_000;
/// A nap shorter than this is not worth its system call, and none may be longer.
const NAP_NS_MIN: u64 = 100_000;
const NAP_NS_MAX: u64 = 2_000_000;
/// Entries of the scoreboard beyond the slots: the most that can be fetched ahead.
const AHEAD_MAX: u16 = 64;

/// Bounds of the queue.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub queue_length_max: usize,
    pub queue_ns: u64,
}

/// A file with a request body; the same files are used again and again.
#[derive(Debug)]
pub struct Spool {
    pub file: OwnedFd,
    pub id: u32,
    /// The app whose workers may have the descriptor: nobody else's bodies ever stand in it.
    pub owner: u32,
    /// Workers that have the descriptor already.
    pub known_to: Vec<u32>,
    /// How long the file has become: what it holds of the disk between requests.
    pub kept_bytes: u64,
}

/// A request as it is sent, kept until its answer has begun so that it can be sent again.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// A request frame ([`frame::RequestWriter`]), with the inline body appended.
    pub frame: Vec<u8>,
    /// One of `flag::BODY_*`, or 0.
    pub body_flags: u8,
    pub body_bytes: u64,
    pub spool: Option<Spool>,
    /// Response bytes the worker may send before it gets credit.
    pub window: u32,
}

/// What the pool needs of the edge's table of requests.
pub trait Requests {
    fn outgoing(&mut self, key: Key) -> &mut Outgoing;
    /// The request has been put into the worker's ring.
    fn sent(&mut self, key: Key, worker: usize, ticket: u16, generation: u32);
    /// The request is back in the queue.
    fn unsent(&mut self, key: Key);
}

/// Where a submitted request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    Sent,
    Queued,
    /// The queue is full.
    Refused,
}

/// A request's place among all others, kept from its arrival to its start however often it is sent and taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    arrival: u64,
    /// When it came to the queue.
    since: u64,
}

/// One entry of a worker's scoreboard, the edge's half.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The request, while the entry is in use.
    pub key: Option<Key>,
    pub generation: u32,
    turn: Turn,
    /// Socket transport: `Started` has come.
    started: bool,
    /// Socket transport: since when the app computes, 0 = it waits for the client.
    busy_since: u64,
}

/// What became of a dead worker's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It had not started: it may be queued again.
    Unstarted,
    /// The app had it.
    Started,
}

/// Whether a worker's time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    InTime,
    /// It has been computing for this long.
    Overdue {
        ns: u64,
    },
}

/// A frame in place: its header, the request it belongs to, its payload.
pub type Incoming<'a> = (FrameHeader, Option<Key>, &'a [u8]);

/// One worker.
#[derive(Debug)]
pub struct Worker {
    pub id: u32,
    pub pid: u32,
    pub link: Link,
    pub channel: Channel,
    /// Slots that the worker has said are free for this edge.
    pub slots: u16,
    /// Gets new requests.
    pub accepting: bool,
    /// Said to be idle to the supervisor already.
    pub idle_told: bool,
    /// Requests of it whose time was up: they count as gone for [`Worker::others`].
    pub given_up: u16,
    outstanding: u16,
    pub(crate) entries: Vec<Entry>,
    pub(crate) free: Vec<u16>,
    /// Frames that nobody was seen to begin: ticket, generation.
    unstarted: VecDeque<(u16, u32)>,
    /// When the first of them came to stand first.
    moved_at: u64,
    /// Requests of a batch are out: the worker may keep the bell for later, so the edge must look by itself.
    batched: bool,
    /// What must be told and found no space yet: kind, flags, ticket, generation.
    untold: VecDeque<(Kind, u8, u16, u32)>,
    /// A frame went stale here: nothing is fetched ahead until the worker completes something.
    stalled: bool,
}

impl Worker {
    /// Requests in the worker's hands.
    pub fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// Requests in its hands whose time is not up.
    pub fn others(&self) -> u16 {
        self.outstanding.saturating_sub(self.given_up)
    }

    /// The request of a frame, if its ticket and generation are those of one in hand.
    #[inline]
    pub fn key(&self, ticket: u16, generation: u32) -> Option<Key> {
        self.entries.get(usize::from(ticket)).filter(|e| e.generation == generation).and_then(|e| e.key)
    }

    /// The next frame in place, with the request it belongs to (`None`: one that is over).
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<Incoming<'_>>, LinkError> {
        let Some((header, payload)) = self.link.peek()? else { return Ok(None) };
        let entry = self.entries.get(usize::from(header.ticket));
        let key = entry.filter(|e| e.generation == header.generation).and_then(|e| e.key);
        Ok(Some((header, key, payload)))
    }

    /// Entries in use, as (ticket, generation, request).
    pub fn in_hand(&self) -> impl Iterator<Item = (u16, u32, Key)> + '_ {
        self.entries.iter().enumerate().filter_map(|(i, e)| e.key.map(|key| (i as u16, e.generation, key)))
    }

    /// Sends a small frame of a ticket to the worker. What has no space now is lost only if the ring is full of
    /// unread frames; the caller decides whether that matters.
    pub fn tell(
        &mut self,
        kind: Kind,
        flags: u8,
        ticket: u16,
        generation: u32,
        aux: u32,
        payload: &[u8],
    ) -> Result<bool, LinkError> {
        let header =
            FrameHeader { len: (HEADER_BYTES + payload.len()) as u32, kind, flags, ticket, generation, aux };
        self.link.push(header, &[payload])
    }

    /// Tells the worker that nobody wants this answer any more.
    fn cancel(&mut self, ticket: u16, generation: u32) -> Result<(), LinkError> {
        if let Link::Ring { segment, .. } = &self.link
            && let Some(t) = segment.ticket(ticket)
        {
            t.cancel(generation);
        }
        self.insist(Kind::Cancel, 0, ticket, generation)
    }

    /// As [`tell`](Self::tell) for a frame without payload that somebody waits for: sent later if there is no space.
    pub fn insist(&mut self, kind: Kind, flags: u8, ticket: u16, generation: u32) -> Result<(), LinkError> {
        // At most one of a kind for each use of a ticket, and none for a use that is over.
        self.untold
            .retain(|(.., t, g)| self.entries.get(usize::from(*t)).is_some_and(|e| e.generation == *g));
        if !self.untold.contains(&(kind, flags, ticket, generation)) {
            self.untold.push_back((kind, flags, ticket, generation));
        }
        self.tell_the_rest()
    }

    fn tell_the_rest(&mut self) -> Result<(), LinkError> {
        while let Some(&(kind, flags, ticket, generation)) = self.untold.front() {
            if !self.link.fits(HEADER_BYTES)? || !self.tell(kind, flags, ticket, generation, 0, &[])? {
                break;
            }
            self.untold.pop_front();
        }
        Ok(())
    }

    /// Whether the app has computed for longer than `limit_ns` without a sign.
    pub fn verdict(&self, ticket: u16, generation: u32, now: u64, limit_ns: u64) -> Verdict {
        let since = match &self.link {
            Link::Ring { segment, .. } => segment
                .ticket(ticket)
                .filter(|t| t.claimed(generation))
                .map_or(0, |t| t.busy_since.load(std::sync::atomic::Ordering::Relaxed)),
            Link::Socket { .. } => self.entries[usize::from(ticket)].busy_since,
        };
        match now.checked_sub(since) {
            Some(ns) if since != 0 && ns > limit_ns => Verdict::Overdue { ns },
            _ => Verdict::InTime,
        }
    }

    /// Socket transport: notes a sign of life of the app, or that it waits for the client (`now` = 0).
    pub fn sign(&mut self, ticket: u16, now: u64) {
        if let (Link::Socket { .. }, Some(e)) = (&self.link, self.entries.get_mut(usize::from(ticket))) {
            e.started = true;
            e.busy_since = now;
        }
    }

    fn has_started(&self, ticket: u16, generation: u32) -> bool {
        match &self.link {
            Link::Ring { segment, .. } => segment.ticket(ticket).is_none_or(|t| t.claimed(generation)),
            Link::Socket { .. } => self.entries[usize::from(ticket)].started,
        }
    }

    /// Whether the app itself has the request. A worker may die between taking one and calling the app.
    fn has_entered(&self, ticket: u16, generation: u32) -> bool {
        match &self.link {
            Link::Ring { segment, .. } => segment.ticket(ticket).is_none_or(|t| t.entered(generation)),
            Link::Socket { .. } => self.entries[usize::from(ticket)].started,
        }
    }

    /// Takes a frame back that the worker has not begun. The socket transport cannot.
    fn recall(&self, ticket: u16, generation: u32) -> bool {
        match &self.link {
            Link::Ring { segment, .. } => segment.ticket(ticket).is_some_and(|t| t.recall(generation)),
            Link::Socket { .. } => false,
        }
    }

    /// Makes a ticket free for its next use.
    #[inline]
    fn vacate(&mut self, ticket: u16) -> Option<(Key, Turn)> {
        let e = self.entries.get_mut(usize::from(ticket))?;
        let (key, turn) = (e.key.take()?, e.turn);
        e.generation = e.generation.wrapping_add(1).max(1);
        e.started = false;
        e.busy_since = 0;
        self.free.push(ticket);
        self.outstanding -= 1;
        self.batched &= self.outstanding > 0;
        Some((key, turn))
    }

    /// Drops what has begun, or is not here any more, from the front of those that wait.
    fn tidy(&mut self, now: u64) {
        while let Some(&(ticket, generation)) = self.unstarted.front() {
            let gone = self.key(ticket, generation).is_none() || self.has_started(ticket, generation);
            if !gone {
                break;
            }
            self.unstarted.pop_front();
            self.moved_at = now;
        }
    }
}

/// One app.
#[derive(Debug)]
pub struct Pool {
    workers: Vec<Option<Worker>>,
    /// In the order of arrival.
    queue: VecDeque<(Key, Turn)>,
    arrivals: u64,
    /// In force; those that were given while requests may wait.
    limits: Limits,
    limits_given: Limits,
    may_wait: bool,
    times: ServiceTimes,
    transport: Transport,
    generation: u32,
    /// Retries left, refilled with every [`Pool::tick`]: a request that kills its worker cannot kill them all.
    retries: u32,
}

const RETRIES_MAX: u32 = 32;

impl Pool {
    pub fn new(limits: Limits, transport: Transport, generation: u32) -> Self {
        Self {
            workers: Vec::new(),
            queue: VecDeque::new(),
            arrivals: 0,
            limits,
            limits_given: limits,
            may_wait: true,
            times: ServiceTimes::default(),
            transport,
            generation,
            retries: RETRIES_MAX,
        }
    }

    /// From now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits_given = limits;
        self.limits = if self.may_wait { limits } else { Limits { queue_length_max: 0, queue_ns: 0 } };
    }

    /// Whether there is anybody to wait for. If not, what finds no free slot is refused, and what waits already has
    /// [`expired`](Self::expired).
    pub fn set_may_wait(&mut self, may_wait: bool) {
        self.may_wait = may_wait;
        self.set_limits(self.limits_given);
    }

    pub fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Takes a worker in. It gets requests once it says that slots are free. The index names it here.
    pub fn join(&mut self, id: u32, pid: u32, slots: u16, channel: Channel) -> std::io::Result<usize> {
        let tickets = slots.saturating_add(AHEAD_MAX);
        let link = Link::attach(&channel, self.transport, self.generation, tickets)?;
        let worker = Worker {
            id,
            pid,
            link,
            channel,
            slots: 0,
            accepting: true,
            idle_told: false,
            given_up: 0,
            outstanding: 0,
            entries: vec![
                Entry {
                    key: None,
                    generation: 1,
                    turn: Turn::default(),
                    started: false,
                    busy_since: 0
                };
                usize::from(tickets)
            ],
            free: (0..tickets).rev().collect(),
            unstarted: VecDeque::new(),
            moved_at: 0,
            batched: false,
            untold: VecDeque::new(),
            stalled: false,
        };
        let index = self.workers.iter().position(Option::is_none).unwrap_or(self.workers.len());
        if index == self.workers.len() {
            self.workers.push(None);
        }
        self.workers[index] = Some(worker);
        Ok(index)
    }

    pub fn find(&self, id: u32) -> Option<usize> {
        self.workers.iter().position(|w| w.as_ref().is_some_and(|w| w.id == id))
    }

    #[inline]
    pub fn worker(&mut self, index: usize) -> Option<&mut Worker> {
        self.workers.get_mut(index)?.as_mut()
    }

    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().flatten()
    }

    /// Indices that may name a worker.
    pub fn indices(&self) -> std::ops::Range<usize> {
        0..self.workers.len()
    }

    pub fn queue_length(&self) -> usize {
        self.queue.len()
    }

    /// Whether a request submitted now would be refused.
    pub fn full(&self) -> bool {
        self.queue.len() >= self.limits.queue_length_max
            && (!self.queue.is_empty() || self.choose().is_none())
    }

    /// Sends the request to a free slot, or queues it.
    #[inline]
    pub fn submit(&mut self, key: Key, requests: &mut impl Requests, now: u64) -> Submitted {
        let turn = Turn { arrival: self.arrivals, since: now };
        self.arrivals += 1;
        if self.queue.is_empty() && self.send(key, turn, requests, now) {
            return Submitted::Sent;
        }
        if self.queue.len() >= self.limits.queue_length_max {
            return Submitted::Refused;
        }
        self.queue.push_back((key, turn));
        Submitted::Queued
    }

    /// Puts a request back to where its arrival puts it, which is nearly always the front.
    pub fn requeue(&mut self, key: Key, turn: Turn, requests: &mut impl Requests) {
        requests.unsent(key);
        let at = self.queue.partition_point(|(_, t)| t.arrival < turn.arrival);
        self.queue.insert(at, (key, turn));
    }

    /// Whether a started request may be tried once more.
    pub fn may_retry(&mut self) -> bool {
        let may = self.retries > 0;
        self.retries = self.retries.saturating_sub(1);
        may
    }

    /// Every quarter of a second.
    pub fn tick(&mut self) {
        self.retries = (self.retries + 1).min(RETRIES_MAX);
    }

    /// Takes a queued request out: its client has gone.
    pub fn forget(&mut self, key: Key) -> bool {
        let at = self.queue.iter().position(|(k, _)| *k == key);
        at.is_some_and(|at| self.queue.remove(at).is_some())
    }

    /// The next request that has waited too long, taken out.
    pub fn expired(&mut self, now: u64) -> Option<Key> {
        // Not only the front: one that is tried again stands there with a new waiting time.
        let at = self.queue.iter().position(|(_, t)| now.saturating_sub(t.since) >= self.limits.queue_ns)?;
        self.queue.remove(at).map(|(key, _)| key)
    }

    /// Nobody waits for this request's answer any more: it never starts if it has not yet, else the worker is told
    /// to stop. `true`: it is over already.
    pub fn cancel(&mut self, worker: usize, ticket: u16, generation: u32) -> Result<bool, LinkError> {
        let Some(w) = self.worker(worker) else { return Ok(false) };
        if w.key(ticket, generation).is_none() {
            return Ok(false);
        }
        if w.recall(ticket, generation) {
            return Ok(w.vacate(ticket).is_some());
        }
        w.cancel(ticket, generation).map(|()| false)
    }

    /// The slot of a completed request is free. Returns its request.
    #[inline]
    pub fn done(&mut self, worker: usize, ticket: u16, service_ns: u32) -> Option<Key> {
        let w = self.workers.get_mut(worker)?.as_mut()?;
        let (key, _) = w.vacate(ticket)?;
        w.stalled = false;
        self.times.add(u64::from(service_ns));
        Some(key)
    }

    /// Sends what waits to slots that are free, and takes back what waits in the wrong place.
    #[inline]
    pub fn pump(&mut self, requests: &mut impl Requests, now: u64) {
        // Before and after: what waits longest inside a worker goes before a younger head of the queue, and what
        // still waits there when the queue is empty goes to a slot that is free then.
        self.rebalance(requests, now);
        self.send_queued(requests, now);
        self.rebalance(requests, now);
    }

    /// Sends from the queue as long as somebody takes more.
    #[inline]
    fn send_queued(&mut self, requests: &mut impl Requests, now: u64) {
        while let Some(&(key, turn)) = self.queue.front() {
            if !self.send(key, turn, requests, now) {
                break;
            }
            self.queue.pop_front();
        }
    }

    /// When [`pump`](Self::pump) should run next although nothing happens: a frame may go stale then.
    pub fn next_stale(&mut self, now: u64) -> Option<u64> {
        let mut next = None;
        let stale_ns = self.stale_ns();
        for w in self.workers.iter_mut().flatten() {
            if w.batched {
                next = Some(next.map_or(BATCH_NS, |n: u64| n.min(BATCH_NS)));
            }
            if w.outstanding > w.slots {
                w.tidy(now);
                if !w.unstarted.is_empty() {
                    let wait = (w.moved_at + stale_ns).saturating_sub(now);
                    next = Some(next.map_or(wait, |n: u64| n.min(wait)));
                }
            }
        }
        next
    }

    /// For how long nothing that the edge could do would make an app's answer come earlier: every slot is taken, and
    /// every worker has so much ahead that it needs nothing new. 0: it could.
    pub fn nap_ns(&self) -> u64 {
        if self.times.tiny() {
            return 0;
        }
        let supplied = self.workers.iter().flatten().filter(|w| w.accepting && w.slots > 0);
        let Some(least) = supplied.map(|w| u64::from(w.outstanding.saturating_sub(w.slots) / w.slots)).min()
        else {
            return 0;
        };
        let ns = least * self.times.typical() / 3;
        if ns < NAP_NS_MIN || self.times.depth() == 1 { 0 } else { ns.min(NAP_NS_MAX) }
    }

    /// How long a worker may begin nothing although frames wait there: beyond it, what runs there is not typical.
    pub(crate) fn stale_ns(&self) -> u64 {
        STALE_NS.max(8 * self.times.typical())
    }

    /// A slot that is free takes the request that has waited longest, in the queue or inside another worker; where
    /// a frame has gone stale, all that waits comes back.
    fn rebalance(&mut self, requests: &mut impl Requests, now: u64) {
        let stale_ns = self.stale_ns();
        loop {
            // The oldest of all that wait inside a worker, or a worker where one has gone stale.
            let mut oldest: Option<(u64, usize)> = None;
            let mut stale = None;
            for (index, w) in self.workers.iter_mut().enumerate() {
                let Some(w) = w else { continue };
                if w.outstanding <= w.slots || matches!(w.link, Link::Socket { .. }) {
                    continue;
                }
                w.tidy(now);
                let Some(&(ticket, _)) = w.unstarted.front() else { continue };
                if now.saturating_sub(w.moved_at) >= stale_ns {
                    stale = Some(index);
                }
                let arrival = w.entries[usize::from(ticket)].turn.arrival;
                if oldest.is_none_or(|(a, _)| arrival < a) {
                    oldest = Some((arrival, index));
                }
            }
            let Some((arrival, oldest)) = oldest else { return };
            if let Some(index) = stale {
                // Whatever else waits there waits for the same slow request.
                self.recall_all(index, requests);
                if let Some(w) = self.worker(index) {
                    w.stalled = true;
                }
            } else {
                let free = |w: &Worker| w.accepting && w.outstanding < w.slots;
                let first = self.queue.front().is_none_or(|(_, turn)| arrival < turn.arrival);
                if !first || !self.workers().any(free) {
                    return;
                }
                let Some(w) = self.worker(oldest) else { return };
                let Some((ticket, generation)) = w.unstarted.pop_front() else { return };
                if w.recall(ticket, generation)
                    && let Some((key, turn)) = w.vacate(ticket)
                {
                    self.requeue(key, turn, requests);
                }
            }
            self.send_queued(requests, now);
        }
    }

    /// Takes back all that a worker has not begun.
    pub fn recall_all(&mut self, worker: usize, requests: &mut impl Requests) {
        let Some(w) = self.workers.get_mut(worker).and_then(Option::as_mut) else { return };
        if let Link::Socket { .. } = w.link {
            return;
        }
        let unstarted: Vec<_> = w.unstarted.drain(..).collect();
        let mut back = Vec::new();
        for (ticket, generation) in unstarted {
            if w.key(ticket, generation).is_some() && w.recall(ticket, generation) {
                back.extend(w.vacate(ticket));
            }
        }
        for (key, turn) in back {
            self.requeue(key, turn, requests);
        }
    }

    /// Takes a worker out, and tells of each request it had whether the app had begun it, with what
    /// [`requeue`](Self::requeue) needs to put it back. For one that was begun the waiting time starts anew.
    /// `dead`: the process is gone. One that may live on for a moment gets nothing more to begin, and what it has
    /// taken counts as begun.
    pub fn bury(&mut self, worker: usize, dead: bool, now: u64) -> Vec<(Key, Lost, Turn)> {
        let Some(w) = self.workers.get_mut(worker).and_then(Option::take) else { return Vec::new() };
        w.in_hand()
            .map(|(ticket, generation, key)| {
                let turn = w.entries[usize::from(ticket)].turn;
                let begun = if dead {
                    w.has_entered(ticket, generation)
                } else {
                    !w.recall(ticket, generation) && w.has_started(ticket, generation)
                };
                if begun {
                    (key, Lost::Started, Turn { since: now, ..turn })
                } else {
                    (key, Lost::Unstarted, turn)
                }
            })
            .collect()
    }

    /// Shows every worker what was pushed for it. Returns the workers whose link failed.
    #[inline]
    pub fn flush(&mut self, failed: &mut Vec<(usize, LinkError)>) {
        for (index, w) in self.workers.iter_mut().enumerate() {
            if let Some(w) = w
                && let Err(e) = w.tell_the_rest().and_then(|()| w.link.flush())
            {
                failed.push((index, e));
            }
        }
    }

    /// The best worker for one more request: the least loaded with a free slot (awake before asleep); with none
    /// free, the least loaded that may fetch ahead.
    #[inline]
    fn choose(&self) -> Option<usize> {
        let mut best: Option<(usize, (u16, bool))> = None;
        for (index, w) in self.workers.iter().enumerate() {
            let Some(w) = w else { continue };
            if w.accepting && w.outstanding < w.slots {
                let rank = (w.outstanding, w.link.asleep());
                if best.is_none_or(|(_, b)| rank < b) {
                    best = Some((index, rank));
                }
            }
        }
        if best.is_some() {
            return best.map(|(index, _)| index);
        }
        let ahead = self.times.depth() - 1;
        if ahead == 0 || self.transport == Transport::Socket {
            return None;
        }
        let mut best: Option<(usize, u16)> = None;
        for (index, w) in self.workers.iter().enumerate() {
            let Some(w) = w else { continue };
            let over = w.outstanding.saturating_sub(w.slots);
            if w.accepting
                && w.slots > 0
                && !w.stalled
                && u64::from(over) < ahead
                && best.is_none_or(|(_, b)| over < b)
            {
                best = Some((index, over));
            }
        }
        best.map(|(index, _)| index)
    }

    #[inline]
    fn send(&mut self, key: Key, turn: Turn, requests: &mut impl Requests, now: u64) -> bool {
        let Some(index) = self.choose() else { return false };
        let Some(w) = self.workers[index].as_mut() else { return false };
        let Some(&ticket) = w.free.last() else { return false };
        let generation = w.entries[usize::from(ticket)].generation;
        let out = requests.outgoing(key);
        let spool = match &mut out.spool {
            Some(spool) => {
                if !spool.known_to.contains(&w.id) {
                    let fds: [BorrowedFd<'_>; 1] = [spool.file.as_fd()];
                    if w.channel.try_send(&Notice::Spool(spool.id).to_bytes(), &fds).is_err() {
                        return false;
                    }
                    spool.known_to.push(w.id);
                }
                spool.id
            }
            None => 0,
        };
        let batch = if self.times.tiny() { flag::BATCH } else { 0 };
        frame::seal(
            &mut out.frame,
            ticket,
            generation,
            out.body_flags | batch,
            out.body_bytes,
            spool,
            out.window,
        );
        if let Link::Ring { segment, .. } = &w.link
            && let Some(t) = segment.ticket(ticket)
        {
            t.offer(generation);
        }
        // A ring that cannot be believed is found when it is read; here it only takes no request.
        if !w.link.push_whole(&out.frame).unwrap_or(false) {
            let _ = w.link.starve(out.frame.len());
            return false;
        }
        w.free.pop();
        w.entries[usize::from(ticket)].key = Some(key);
        w.entries[usize::from(ticket)].turn = turn;
        w.outstanding += 1;
        w.batched |= batch != 0;
        w.idle_told = false;
        if w.unstarted.len() >= usize::from(w.slots) {
            w.tidy(now);
        }
        if w.unstarted.is_empty() {
            w.moved_at = now;
        }
        w.unstarted.push_back((ticket, generation));
        requests.sent(key, index, ticket, generation);
        true
    }
}
