//! The edge's one loop: take what is ready, push, wake each worker once, send what came back, sleep.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use serde_json::json;
use trivet_pool::{Key, LinkError, Lost, Verdict};
use trivet_wire::channel::{Channel, Notice};
use trivet_wire::control::{Attached, Free, FromEdge, ToEdge};
use trivet_wire::frame::{Kind, Malformed, flag};

use crate::answer::Own;
use crate::compress::Compressors;
use crate::config::Config;
use crate::configure::Logs;
use crate::connection::Phase;
use crate::ending::Ending;
use crate::exchange::Place;
use crate::log;
use crate::net::Net;
use crate::pipeline::{BUFFERED_BYTES_MANY, WINDOW_BYTES, WINDOW_BYTES_SCARCE};
use crate::pools::{Pools, Seat};
use crate::tickets::Tickets;

const EVENTS: usize = 512;
const TICK_MS: u64 = 250;
/// Frames taken from one worker before the others get their turn.
const FRAMES_MAX: u32 = 256;
/// Time among the workers before the sockets are looked at again.
const WORKERS_NS_MAX: u64 = 1_000_000;
/// A nap is taken only where the workers' answers since the last look were no more than this: an eighth of a ring.
const NAP_BYTES_MAX: u32 = 64 * 1024;
/// One read takes at most this.
const SCRATCH_BYTES: usize = 128 * 1024;
/// Tokens of the epoll set: what it is in the upper two bits; for a connection its generation, then its key.
const TAG_BITS: u32 = 62;
const TAG_CONNECTION: u64 = 0;
const TAG_LISTENER: u64 = 1;
const TAG_LINK: u64 = 2;
const TAG_CHANNEL: u64 = 3;
const COMPRESSED: u64 = TAG_CHANNEL << TAG_BITS | 0xffff_fffe;
const CONTROL: u64 = TAG_CHANNEL << TAG_BITS | 0xffff_ffff;

pub(crate) struct Edge {
    pub(crate) net: Net,
    pub(crate) pools: Pools,
    pub(crate) logs: Logs,
    pub(crate) tickets: Arc<Tickets>,
    /// As it was taken up last.
    pub(crate) config: Config,
    pub(crate) control: Channel,
    pub(crate) scratch: Vec<u8>,
    /// Files from workers whose frame has not come yet: worker, ticket, file.
    files: Vec<(Seat, u32, OwnedFd)>,
    drain_until_ms: Option<u64>,
    next_tick_ms: u64,
    /// Which connections' deadlines the last tick looked at.
    quarter: u32,
    pub(crate) refused_for_load: u64,
    retried: u64,
}

/// Serves until told to stop. An error is one of ours or of the machine.
pub(crate) fn serve(control: Channel) -> io::Result<ExitCode> {
    let Some(first) = control.receive()? else { return Ok(ExitCode::SUCCESS) };
    let ToEdge::Configure { .. } = first.json()? else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first message is not the configuration"));
    };
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let nothing = Config::default();
    let mut edge = Edge {
        net: Net::new(nothing.server.clone(), epoll, Compressors::new()?),
        pools: Pools::default(),
        logs: Logs::default(),
        tickets: Tickets::new(),
        config: nothing,
        control,
        scratch: vec![0; SCRATCH_BYTES],
        files: Vec::new(),
        drain_until_ms: None,
        next_tick_ms: 0,
        quarter: 0,
        refused_for_load: 0,
        retried: 0,
    };
    epoll::add(&edge.net.epoll, &edge.control, epoll::EventData::new_u64(CONTROL), epoll::EventFlags::IN)?;
    let bell = edge.net.compressors.bell();
    epoll::add(&edge.net.epoll, bell, epoll::EventData::new_u64(COMPRESSED), epoll::EventFlags::IN)?;
    edge.configure(first.fds.into_iter())?;
    edge.tell(&FromEdge::Ready);
    edge.run()
}

impl Edge {
    fn run(&mut self) -> io::Result<ExitCode> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut sleep = Some(0);
        loop {
            events.clear();
            let timeout = sleep.map(|ns: u64| Timespec {
                tv_sec: (ns / 1_000_000_000) as i64,
                tv_nsec: (ns % 1_000_000_000) as i64,
            });
            match epoll::wait(&self.net.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref())
            {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            self.net.read_clocks();
            self.net.awaited = false;
            self.disarm();
            for event in &events {
                let token = event.data.u64();
                let low = token as u32;
                match token >> TAG_BITS {
                    TAG_CONNECTION => {
                        let generation = (token >> 32) as u32;
                        if self.net.connections.is(low, generation) {
                            self.on_socket(low, event.flags);
                        }
                    }
                    TAG_LISTENER => self.accept(low as usize),
                    // Every worker's ring is looked at in every turn anyway.
                    TAG_LINK => {}
                    _ if token == CONTROL => {
                        if !self.read_control()? {
                            return Ok(ExitCode::SUCCESS);
                        }
                    }
                    _ if token == COMPRESSED => {
                        for encoded in self.net.compressors.take() {
                            self.net.on_encoded(encoded);
                        }
                    }
                    _ => self.read_channel(Seat::of_token(low)),
                }
            }
            for (key, generation) in std::mem::take(&mut self.net.yielded) {
                if self.net.connections.is(key, generation) {
                    if let Some(c) = self.net.connections.get_mut(key) {
                        c.yielded = false;
                    }
                    self.on_writable(key);
                }
            }
            for (key, generation) in std::mem::take(&mut self.net.unread) {
                if self.net.connections.is(key, generation) {
                    if let Some(c) = self.net.connections.get_mut(key) {
                        c.unread = false;
                    }
                    self.receive(key);
                }
            }
            for (key, generation) in std::mem::take(&mut self.net.stuffed) {
                if self.net.connections.is(key, generation) {
                    if let Some(c) = self.net.connections.get_mut(key) {
                        c.stuffed = false;
                    }
                    self.resume(key);
                }
            }
            sleep = self.settle();
            if !self.net.yielded.is_empty() || !self.net.unread.is_empty() {
                sleep = Some(0);
            }
            if self.net.draining && self.net.connections.len() == 0 {
                self.finish();
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    fn on_socket(&mut self, key: u32, flags: epoll::EventFlags) {
        use epoll::EventFlags as F;
        if flags.intersects(F::ERR | F::HUP) {
            self.net.drop_connection(key, Ending::ClientClosed);
            return;
        }
        let Some(c) = self.net.connections.get_mut(key) else { return };
        if flags.contains(F::OUT) && c.blocked && !c.yielded {
            c.blocked = false;
            if !self.on_writable(key) {
                return;
            }
        }
        if flags.intersects(F::IN | F::RDHUP) {
            let Some(c) = self.net.connections.get_mut(key) else { return };
            c.readable = true;
            if flags.contains(F::RDHUP) {
                c.peer_closed = true;
                if c.phase == Phase::App
                    && let Some(x) = c.exchange.and_then(|x| self.net.exchanges.table.get(x))
                    && x.place == Place::Queued
                {
                    self.net.drop_connection(key, Ending::ClientClosed);
                    return;
                }
            }
            self.receive(key);
        }
    }

    /// The socket takes bytes again. `false`: it is gone.
    fn on_writable(&mut self, key: u32) -> bool {
        if !self.net.flush(key) {
            return false;
        }
        if let Some(c) = self.net.connections.get_mut(key) {
            if c.session.is_some() {
                self.turn_if_wanted(key);
                return self.net.connections.get(key).is_some();
            }
            if let Some(xkey) = c.exchange {
                self.net.credits.push(xkey);
            }
            if c.phase == Phase::Flush && !c.has_output() {
                if let Some(xkey) = c.leaving.take() {
                    let listener = c.listener;
                    self.net.left(xkey, listener, Ending::Done);
                }
                self.net.next_request(key);
            }
        }
        self.net.connections.get(key).is_some()
    }

    /// After the events of a turn: everything that follows from them, until nothing does. Returns how long to
    /// sleep, in nanoseconds.
    fn settle(&mut self) -> Option<u64> {
        let mut rounds = 0;
        let mut nap = 0;
        let armed = loop {
            // Workers that are never quite drained must not keep the sockets waiting.
            if rounds > 1 && trivet_wire::monotonic_ns() - self.net.now_ns > WORKERS_NS_MAX {
                break false;
            }
            rounds += 1;
            self.drain_workers();
            if self.net.now_ms >= self.next_tick_ms {
                self.tick();
            }
            self.follow_up();
            let mut failed = Vec::new();
            for app in 0..self.pools.list.len() {
                let pool = &mut self.pools.list[app].pool;
                pool.pump(&mut self.net.exchanges, self.net.now_ns);
                pool.flush(&mut failed);
                for (index, error) in failed.drain(..) {
                    self.distrust(Seat::new(app as u16, index), &error);
                }
            }
            self.uncork();
            if !self.net.again.is_empty() {
                for (key, generation) in std::mem::take(&mut self.net.again) {
                    if self.net.connections.is(key, generation) {
                        self.resume(key);
                    }
                }
                continue;
            }
            if !self.net.cancels.is_empty()
                || !self.net.forgotten.is_empty()
                || !self.net.credits.is_empty()
                || !self.net.corked.is_empty()
                || !self.net.http2.due.is_empty()
            {
                continue;
            }
            let net = &self.net;
            let busy =
                net.awaited || !net.yielded.is_empty() || !net.unread.is_empty() || !net.stuffed.is_empty();
            nap = if busy { 0 } else { self.pools.list.iter().map(|p| p.pool.nap_ns()).min().unwrap_or(0) };
            if nap > 0 || self.arm() {
                break true;
            }
        };
        self.register_fresh();
        if nap > 0 {
            // Nobody is told to wake us, and what comes meanwhile is taken in one go.
            std::thread::sleep(std::time::Duration::from_nanos(nap));
            return Some(0);
        }
        if !armed {
            return Some(0);
        }
        let mut sleep = self.next_sleep();
        for app in &mut self.pools.list {
            if let Some(ns) = app.pool.next_stale(self.net.now_ns) {
                sleep = Some(sleep.map_or(ns, |s| s.min(ns)));
            }
        }
        sleep
    }

    fn next_sleep(&self) -> Option<u64> {
        if self.net.connections.len() == 0
            && self.net.exchanges.table.len() == 0
            && self.net.listeners.iter().all(|l| !l.paused)
            && self.drain_until_ms.is_none()
            && self.pools.list.iter().all(|p| p.retiring.is_empty())
        {
            return None;
        }
        Some(self.next_tick_ms.saturating_sub(self.net.now_ms).max(1) * 1_000_000)
    }

    /// Those that outlive their first turns are watched from now on.
    fn register_fresh(&mut self) {
        let mut fresh = std::mem::take(&mut self.net.fresh);
        fresh.retain_mut(|(key, generation, turns)| {
            if !self.net.connections.is(*key, *generation) {
                return false;
            }
            // One whose app is about to answer may well be closed before anybody needs to watch it.
            if *turns == 0 && self.net.connections.get(*key).is_some_and(|c| c.phase == Phase::App) {
                *turns += 1;
                return true;
            }
            self.net.register(*key);
            false
        });
        self.net.fresh.append(&mut fresh);
    }

    fn uncork(&mut self) {
        loop {
            while let Some((key, generation)) = self.net.corked.pop() {
                if !self.net.connections.is(key, generation) {
                    continue;
                }
                if let Some(c) = self.net.connections.get_mut(key) {
                    c.corked = false;
                }
                self.on_writable(key);
            }
            // After them, so that what many streams of one connection say leaves by one call.
            let Some((key, generation)) = self.net.http2.due.pop() else { return };
            if self.net.connections.is(key, generation) {
                self.turn(key);
            }
        }
    }

    /// Cancels, forgets and gives credit as the connections' fates demand.
    fn follow_up(&mut self) {
        while let Some((seat, ticket, generation)) = self.net.cancels.pop() {
            let Some(w) = self.pools.worker(seat) else { continue };
            let Some(xkey) = w.key(ticket, generation) else { continue };
            match self.pools.of(seat).cancel(seat.index.into(), ticket, generation) {
                Ok(true) => self.net.released(xkey),
                Ok(false) => {}
                Err(e) => self.distrust(seat, &e),
            }
        }
        while let Some(xkey) = self.net.forgotten.pop() {
            if let Some(x) = self.net.exchanges.table.get(xkey) {
                self.pools.list[usize::from(x.app)].pool.forget(xkey);
            }
            self.net.free_exchange(xkey);
        }
        while let Some(xkey) = self.net.credits.pop() {
            self.give_credit(xkey);
        }
    }

    /// Lets the worker send on as far as the client has taken what was sent.
    fn give_credit(&mut self, xkey: u32) {
        let scarce = self.net.buffered_bytes > BUFFERED_BYTES_MANY;
        if self.net.exchanges.table.get(xkey).is_some_and(|x| x.squeeze.is_some()) {
            self.net.squeeze_on(xkey);
        }
        let Some(x) = self.net.exchanges.table.get(xkey) else { return };
        let (Some(key), Some((seat, ticket, generation))) = (x.connection, x.seat()) else { return };
        let Some(c) = self.net.connections.get(key) else { return };
        let held = x.squeeze.as_ref().map_or(0, |s| s.held_bytes());
        let window = if scarce || self.net.is_crowded(key) { WINDOW_BYTES_SCARCE } else { WINDOW_BYTES };
        let delivered = x.received.saturating_sub((c.pending_bytes() + held) as u64);
        let more = (delivered + window).saturating_sub(x.granted);
        if more < window / 4 {
            return;
        }
        let Some(w) = self.pools.worker(seat) else { return };
        if w.tell(Kind::Credit, 0, ticket, generation, more as u32, &[]).unwrap_or(false)
            && let Some(x) = self.net.exchanges.table.get_mut(xkey)
        {
            x.granted += more;
        }
    }

    /// The next of all workers' places, taken or not.
    #[inline]
    fn seat_after(&self, seat: Option<Seat>) -> Option<Seat> {
        let (mut app, mut index) = seat.map_or((0, 0), |s| (usize::from(s.app), usize::from(s.index) + 1));
        while let Some(pool) = self.pools.list.get(app) {
            if index < pool.pool.indices().end {
                return Some(Seat::new(app as u16, index));
            }
            (app, index) = (app + 1, 0);
        }
        None
    }

    fn seat_of(&self, worker: u32) -> Option<Seat> {
        self.pools
            .list
            .iter()
            .enumerate()
            .find_map(|(app, p)| Some(Seat::new(app as u16, p.pool.find(worker)?)))
    }

    fn recall_all(&mut self, seat: Seat) {
        self.pools.of(seat).recall_all(seat.index.into(), &mut self.net.exchanges);
    }

    /// No new request for this worker; what it has not begun is taken back.
    fn retire(&mut self, worker: u32) {
        let Some(seat) = self.seat_of(worker) else { return self.tell(&FromEdge::Idle { worker }) };
        if let Some(w) = self.pools.worker(seat) {
            w.accepting = false;
            w.idle_told = false;
        }
        self.recall_all(seat);
        self.tell_if_idle(seat);
    }

    fn disarm(&mut self) {
        for app in &mut self.pools.list {
            for index in app.pool.indices() {
                if let Some(w) = app.pool.worker(index) {
                    w.link.disarm();
                }
            }
        }
    }

    /// `true`: nothing has come meanwhile, the loop may sleep.
    fn arm(&mut self) -> bool {
        let mut next = self.seat_after(None);
        while let Some(seat) = next {
            next = self.seat_after(Some(seat));
            if let Some(w) = self.pools.worker(seat) {
                match w.link.arm() {
                    Ok(true) => {}
                    Ok(false) => return false,
                    Err(e) => {
                        self.distrust(seat, &e);
                        return false;
                    }
                }
            }
        }
        true
    }

    pub(crate) fn watch_listener(&mut self, index: usize, on: bool) {
        let data = epoll::EventData::new_u64(TAG_LISTENER << TAG_BITS | index as u64);
        let Some(socket) = &self.net.listeners[index].socket else { return };
        let result = if on {
            epoll::add(&self.net.epoll, socket, data, epoll::EventFlags::IN)
        } else {
            epoll::delete(&self.net.epoll, socket)
        };
        if let Err(e) = result {
            log::error("cannot watch a listening socket", &[("error", &e)]);
        }
    }

    // ------------------------------------------------------------------ workers

    fn drain_workers(&mut self) {
        let mut next = self.seat_after(None);
        while let Some(seat) = next {
            next = self.seat_after(Some(seat));
            if let Err(e) = self.drain_worker(seat, FRAMES_MAX) {
                self.distrust(seat, &e);
            }
        }
    }

    /// Takes what a worker has sent.
    fn drain_worker(&mut self, seat: Seat, frames_max: u32) -> Result<(), LinkError> {
        let Some(w) = self.pools.worker(seat) else { return Ok(()) };
        w.link.fill()?;
        let mut frames = 0;
        let mut bytes = 0;
        while frames < frames_max {
            let net = &mut self.net;
            let Some(w) = self.pools.worker(seat) else { return Ok(()) };
            let Some((header, key, payload)) = w.next_frame()? else { break };
            frames += 1;
            bytes += header.len;
            let mut file = None;
            if let Some(xkey) = key {
                match header.kind {
                    Kind::Head => net.on_head(xkey, header, payload)?,
                    Kind::Data => net.on_data(xkey, header, payload)?,
                    Kind::End => net.on_end(xkey)?,
                    Kind::Abort => {
                        let short = header.flags & flag::SHORT != 0;
                        net.on_abort(xkey, if short { Ending::CutShort } else { Ending::AppError });
                    }
                    Kind::Informational => net.on_informational(xkey, payload)?,
                    Kind::File => {
                        let mut b = [0; 16];
                        b.copy_from_slice(
                            payload.get(..16).ok_or(trivet_wire::frame::Malformed("a short file frame"))?,
                        );
                        let (offset, length) = b.split_at(8);
                        file = Some((
                            u64::from_le_bytes(offset.try_into().unwrap_or_default()),
                            u64::from_le_bytes(length.try_into().unwrap_or_default()),
                        ));
                    }
                    Kind::WantBody => {
                        net.awaited = true;
                        if let Some(x) = net.exchanges.table.get_mut(xkey) {
                            x.wanted += u64::from(header.aux);
                            if let Some(c) = x.connection {
                                net.again.push((c, net.connections.generation(c)));
                            }
                        }
                        if net.continue_if_owed(xkey)
                            && let Some(key) = net.exchanges.table.get(xkey).and_then(|x| x.connection)
                        {
                            let deadline = net.now_ms + crate::receive::BODY_WINDOW_MS;
                            net.set_deadline(key, deadline);
                        }
                    }
                    Kind::Started | Kind::Done => {}
                    Kind::Request | Kind::Body | Kind::Credit | Kind::Cancel => {
                        return Err(trivet_wire::frame::Malformed("a frame of the other direction").into());
                    }
                }
            }
            w.link.next(header);
            let Some(xkey) = key else { continue };
            if let Some((offset, length)) = file {
                self.on_file_frame(seat, xkey, header, offset, length)?;
            }
            let Some(w) = self.pools.worker(seat) else { return Ok(()) };
            if header.kind == Kind::Done || header.flags & flag::DONE != 0 {
                if self.pools.of(seat).done(seat.index.into(), header.ticket, header.aux).is_some() {
                    self.net.released(xkey);
                }
            } else {
                let waits = header.kind == Kind::WantBody
                    || self.net.exchanges.table.get(xkey).is_some_and(|x| x.received >= x.granted);
                let now = if waits { 0 } else { self.net.now_ns };
                w.sign(header.ticket, now);
            }
        }
        // Large answers fill the ring while the edge sleeps.
        self.net.awaited |= bytes > NAP_BYTES_MAX;
        if frames > 0
            && let Some(w) = self.pools.worker(seat)
        {
            w.link.release();
            self.tell_if_idle(seat);
        }
        Ok(())
    }

    fn on_file_frame(
        &mut self,
        seat: Seat,
        xkey: Key,
        header: trivet_wire::frame::FrameHeader,
        offset: u64,
        length: u64,
    ) -> Result<(), LinkError> {
        let ticket = u32::from(header.ticket);
        if !self.files.iter().any(|(i, t, _)| (*i, *t) == (seat, ticket)) {
            self.read_channel(seat);
        }
        let Some(at) = self.files.iter().position(|(i, t, _)| (*i, *t) == (seat, ticket)) else {
            return Err(trivet_wire::frame::Malformed("a file frame without its file").into());
        };
        let (_, _, file) = self.files.swap_remove(at);
        if header.flags & flag::END == 0 {
            return Err(trivet_wire::frame::Malformed("a file that does not end the body").into());
        }
        self.net.on_file(xkey, header, file, offset, length)?;
        Ok(())
    }

    /// What a worker says beside its frames; its end of file is its death.
    fn read_channel(&mut self, seat: Seat) {
        loop {
            let Some(w) = self.pools.worker(seat) else { return };
            let message = match w.channel.try_receive() {
                Ok(Some(message)) => message,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Ok(None) | Err(_) => {
                    self.lose_worker(seat);
                    return;
                }
            };
            if let Some(notice) = Notice::parse(&message.bytes) {
                if let (Notice::File(ticket), Some(file)) = (notice, message.fds.into_iter().next()) {
                    self.files.push((seat, ticket, file));
                }
            } else if let Ok(Attached { slots }) = message.json() {
                w.slots = slots;
                self.pools.list[usize::from(seat.app)].is_new = false;
            } else if let Ok(Free { free }) = message.json() {
                w.slots = w.slots.saturating_add(free);
            } else {
                self.distrust(
                    seat,
                    &LinkError::from(Malformed("a message on its channel that nobody understands")),
                );
                return;
            }
        }
    }

    /// The worker is dead: what it sent is still good, what it had not begun is queued again.
    fn lose_worker(&mut self, seat: Seat) {
        // An error here means that its last words are not whole: they end there.
        let _ = self.drain_worker(seat, u32::MAX);
        let Some(w) = self.pools.worker(seat) else { return };
        let (id, pid) = (w.id, w.pid);
        let _ = epoll::delete(&self.net.epoll, w.link.watched());
        let _ = epoll::delete(&self.net.epoll, &w.channel);
        self.files.retain(|(s, ..)| *s != seat);
        let now = self.net.now_ns;
        for (xkey, lost, turn) in self.pools.of(seat).bury(seat.index.into(), true, now) {
            let Some(x) = self.net.exchanges.table.get_mut(xkey) else { continue };
            x.place = Place::Here;
            let Some(key) = x.connection else {
                self.net.free_if_over(xkey);
                continue;
            };
            if x.answered && x.squeeze.as_ref().is_some_and(|s| s.has_all()) {
                continue;
            }
            let again = match lost {
                Lost::Unstarted => !x.head_sent,
                Lost::Started => {
                    !x.head_sent
                        && x.idempotent
                        && !x.retried
                        && !x.body_begun
                        && self.pools.of(seat).may_retry()
                }
            };
            if again {
                x.retried |= lost == Lost::Started;
                self.retried += u64::from(lost == Lost::Started);
                self.pools.of(seat).requeue(xkey, turn, &mut self.net.exchanges);
                continue;
            }
            let id_text = String::from_utf8_lossy(x.request_id()).into_owned();
            let line = x.request_line();
            log::error(
                "a worker died with a request",
                &[("worker", &id), ("pid", &pid), ("request_id", &id_text), ("request", &line)],
            );
            if x.head_sent {
                self.net.on_abort(xkey, Ending::AppDied);
            } else {
                // An upload that was only half read would be taken for the next request.
                let close = self.net.connections.get(key).is_some_and(|c| !c.body.is_none());
                self.net.answer_own(xkey, 502, Own { close, ..Own::default() }, Ending::AppDied);
            }
        }
    }

    /// The worker's memory or frames cannot be believed.
    pub(crate) fn distrust(&mut self, seat: Seat, error: &LinkError) {
        let Some(w) = self.pools.worker(seat) else { return };
        let worker = w.id;
        let why = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        log::error("a worker breaks the contract and is replaced", &[("worker", &worker), ("why", &why)]);
        // Not drained: nothing it says counts any more.
        let _ = epoll::delete(&self.net.epoll, w.link.watched());
        let _ = epoll::delete(&self.net.epoll, &w.channel);
        self.tell(&FromEdge::Broken { worker, why });
        for (xkey, lost, turn) in self.pools.of(seat).bury(seat.index.into(), false, self.net.now_ns) {
            let Some(x) = self.net.exchanges.table.get_mut(xkey) else { continue };
            x.place = Place::Here;
            if x.connection.is_none() {
                self.net.free_if_over(xkey);
            } else if x.answered && x.squeeze.as_ref().is_some_and(|s| s.has_all()) {
                // The rest of it needs no worker.
            } else if lost == Lost::Unstarted && !x.head_sent {
                self.pools.of(seat).requeue(xkey, turn, &mut self.net.exchanges);
            } else if x.head_sent {
                self.net.on_abort(xkey, Ending::AppDied);
            } else {
                self.net.answer_own(xkey, 502, Own { close: true, ..Own::default() }, Ending::AppDied);
            }
        }
    }

    fn tell_if_idle(&mut self, seat: Seat) {
        let Some(w) = self.pools.worker(seat) else { return };
        if !w.accepting && !w.idle_told && w.others() == 0 {
            w.idle_told = true;
            let worker = w.id;
            self.tell(&FromEdge::Idle { worker });
        }
    }

    /// Requests whose app has computed too long: 504 (or a cut) for the client, a new worker for the app.
    fn check_timeouts(&mut self) {
        let now = trivet_wire::monotonic_ns();
        let mut next = self.seat_after(None);
        while let Some(seat) = next {
            next = self.seat_after(Some(seat));
            let limit_ns = self.pools.list[usize::from(seat.app)].timeout_ms.saturating_mul(1_000_000);
            if limit_ns == 0 {
                continue;
            }
            let Some(w) = self.pools.worker(seat) else { continue };
            let overdue: Vec<_> = w
                .in_hand()
                .filter_map(|(ticket, generation, key)| match w.verdict(ticket, generation, now, limit_ns) {
                    Verdict::Overdue { ns } => Some((ticket, generation, key, ns)),
                    Verdict::InTime => None,
                })
                .collect();
            for (ticket, generation, xkey, ns) in overdue {
                let Some(x) = self.net.exchanges.table.get_mut(xkey) else { continue };
                // A client that was less patient than we changes nothing: the slot must come free.
                if x.answered || std::mem::replace(&mut x.given_up, true) {
                    continue;
                }
                let client = x.connection;
                let seconds = ns as f64 / 1e9;
                let request_id = String::from_utf8_lossy(x.request_id()).into_owned();
                let request_line = x.request_line();
                let head_sent = x.head_sent;
                if let Some(w) = self.pools.worker(seat) {
                    w.accepting = false;
                    w.given_up += 1;
                    let worker = w.id;
                    let _ = self.pools.of(seat).cancel(seat.index.into(), ticket, generation);
                    self.tell(&FromEdge::Stuck { worker, request_id, request_line, seconds });
                }
                if head_sent {
                    self.net.on_abort(xkey, Ending::AppTimeout);
                } else if let Some(key) = client {
                    let close = self.net.connections.get(key).is_some_and(|c| !c.body.is_none());
                    self.net.answer_own(xkey, 504, Own { close, ..Own::default() }, Ending::AppTimeout);
                }
                self.recall_all(seat);
                self.tell_if_idle(seat);
            }
        }
    }

    // ------------------------------------------------------------------ time

    /// Every quarter of a second, while anything is under way.
    fn tick(&mut self) {
        self.next_tick_ms = self.net.now_ms + TICK_MS;
        self.forget_listeners();
        for app in 0..self.pools.list.len() {
            self.pools.list[app].pool.tick();
            self.refuse_expired(app);
            if self.pools.list[app].is_forgotten() {
                for worker in std::mem::take(&mut self.pools.list[app].retiring) {
                    self.retire(worker);
                }
            }
        }
        self.check_timeouts();
        // Credit that found no space in a ring is given again.
        let net = &mut self.net;
        let sent = |x: &crate::exchange::Exchange| matches!(x.place, Place::Sent(..));
        let table = &net.exchanges.table;
        net.credits.extend(table.keys().filter(|k| table.get(*k).is_some_and(sent)));
        // A quarter of the connections each time: cheaper than any order of deadlines that change with every request.
        self.quarter = (self.quarter + 1) % 4;
        for key in (self.quarter..self.net.connections.keys_end()).step_by(4) {
            if self.net.connections.get(key).is_some_and(|c| c.deadline_ms <= self.net.now_ms) {
                self.expire(key);
            }
        }
        for index in 0..self.net.listeners.len() {
            if std::mem::take(&mut self.net.listeners[index].paused) {
                self.watch_listener(index, true);
            }
        }
        if let Some(until) = self.drain_until_ms
            && self.net.now_ms >= until
        {
            for key in self.net.connections.keys().collect::<Vec<_>>() {
                self.net.drop_connection(key, Ending::Shutdown);
            }
        }
    }

    /// Those that have waited too long.
    fn refuse_expired(&mut self, app: usize) {
        while let Some(xkey) = self.pools.list[app].pool.expired(self.net.now_ns) {
            if let Some(x) = self.net.exchanges.table.get_mut(xkey) {
                x.place = Place::Here;
            }
            self.refuse_for_load(xkey);
        }
    }

    // ------------------------------------------------------------------ the supervisor

    fn tell(&self, message: &FromEdge) {
        // If it is gone, the end of file will say so.
        let _ = self.control.send_json(message, &[]);
    }

    /// `false`: the supervisor is gone.
    fn read_control(&mut self) -> io::Result<bool> {
        loop {
            let message = match self.control.try_receive() {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            };
            let said: ToEdge = message.json()?;
            let mut fds = message.fds.into_iter();
            match said {
                ToEdge::Configure { revision } => {
                    let refused = self.configure(&mut fds).err().map(|e| e.to_string());
                    self.tell(&FromEdge::Configured { revision, refused });
                }
                ToEdge::Worker { app, worker, pid, slots } => {
                    if let Some(fd) = fds.next()
                        && let Err(e) = self.join(app, worker, pid, slots, Channel::from_fd(fd))
                    {
                        log::error("cannot take a worker in", &[("worker", &worker), ("error", &e)]);
                        self.tell(&FromEdge::Broken { worker, why: e.to_string() });
                    }
                }
                ToEdge::Retire { worker } => {
                    let removed =
                        self.seat_of(worker).map(|seat| &mut self.pools.list[usize::from(seat.app)]);
                    match removed.filter(|pool| pool.removed && !pool.is_forgotten()) {
                        // Requests on their way to an app that is going are still its own.
                        Some(pool) => pool.retiring.push(worker),
                        None => self.retire(worker),
                    }
                }
                ToEdge::Gone { worker } => {
                    if let Some(seat) = self.seat_of(worker) {
                        self.lose_worker(seat);
                    }
                }
                ToEdge::Hope { app, hope } => {
                    if let Some(slot) = self.pools.list.iter().position(|p| p.id == app) {
                        self.pools.list[slot].pool.set_may_wait(hope);
                        self.pools.list[slot].is_new &= hope;
                        self.refuse_expired(slot);
                    }
                }
                ToEdge::ReopenLogs => self.logs.reopen(fds.by_ref()),
                ToEdge::Secrets => {
                    if let Err(e) = self.take_secrets(fds.next()) {
                        log::error("a new certificate cannot be used", &[("error", &e)]);
                    }
                }
                ToEdge::Drain { within_ms } => self.drain(within_ms),
                ToEdge::Status => self.tell(&FromEdge::Status(self.status())),
            }
        }
    }

    fn join(&mut self, app: u32, worker: u32, pid: u32, slots: u16, channel: Channel) -> io::Result<()> {
        let Some(slot) = self.pools.list.iter().position(|p| p.id == app) else {
            return Err(io::Error::other("its app is not configured"));
        };
        let index = self.pools.list[slot].pool.join(worker, pid, slots, channel)?;
        let seat = Seat::new(slot as u16, index);
        let Some(w) = self.pools.list[slot].pool.worker(index) else { return Ok(()) };
        let data = |tag: u64| epoll::EventData::new_u64(tag << TAG_BITS | u64::from(seat.token()));
        let edge = epoll::EventFlags::ET;
        epoll::add(
            &self.net.epoll,
            w.link.watched(),
            data(TAG_LINK),
            epoll::EventFlags::IN | epoll::EventFlags::OUT | edge,
        )?;
        epoll::add(&self.net.epoll, w.channel.as_fd(), data(TAG_CHANNEL), epoll::EventFlags::IN)?;
        Ok(())
    }

    /// No new connections; idle ones get a moment for a last request, which is answered with `close`.
    fn drain(&mut self, within_ms: u64) {
        if self.net.draining {
            return;
        }
        // What the kernel has accepted for us is ours to serve.
        for index in 0..self.net.listeners.len() {
            self.accept_all(index);
        }
        self.net.draining = true;
        for listener in &mut self.net.listeners {
            listener.paused = false;
            // The supervisor has closed its own: with this one gone, new clients are refused.
            if let Some(socket) = listener.socket.take() {
                let _ = epoll::delete(&self.net.epoll, &socket);
            }
        }
        self.drain_until_ms = Some(self.net.now_ms + within_ms);
        let idle = self.net.now_ms + within_ms.min(crate::net::LINGER_MS);
        for key in self.net.connections.keys().collect::<Vec<_>>() {
            let Some(c) = self.net.connections.get(key) else { continue };
            match c.phase {
                Phase::Head => self.net.set_deadline(key, idle),
                Phase::Frames => self.net.session_due(key),
                _ => {}
            }
        }
    }

    fn finish(&mut self) {
        self.logs.finish();
        self.tell(&FromEdge::Drained);
    }

    fn status(&self) -> serde_json::Value {
        let pools = || self.pools.list.iter().filter(|p| !p.removed || p.pool.workers().next().is_some());
        let workers: Vec<_> = pools()
            .flat_map(|p| p.pool.workers().map(move |w| (p, w)))
            .map(|(p, w)| {
                json!({
                    "app": p.name, "worker": w.id, "pid": w.pid, "slots": w.slots, "busy": w.outstanding(),
                    "accepting": w.accepting, "transport": w.link.transport(),
                })
            })
            .collect();
        let accepting = || pools().flat_map(|p| p.pool.workers()).filter(|w| w.accepting);
        let slots: u32 = accepting().map(|w| u32::from(w.slots)).sum();
        let free: u32 = accepting().map(|w| u32::from(w.slots.saturating_sub(w.outstanding()))).sum();
        let queues: serde_json::Map<_, _> =
            pools().map(|p| (p.name.clone(), p.pool.queue_length().into())).collect();
        let unused = &self.net.unused;
        json!({
            "slots": slots,
            "slots_free": free,
            "connections": self.net.connections.len() - self.net.http2.streams,
            "streams": self.net.http2.streams,
            "requests": self.net.requests,
            "in_flight": self.net.exchanges.table.len(),
            "queue": pools().map(|p| p.pool.queue_length()).sum::<usize>(),
            "queue_max": self.config.apps.iter().map(|a| a.queue_length_max).sum::<u32>(),
            "queues": queues,
            "refused_for_load": self.refused_for_load,
            "retried": self.retried,
            "connections_unused_closed": unused.closed,
            "connections_unused_timed_out": unused.timed_out,
            "connections_unused_refused": unused.refused,
            "buffered_bytes": self.net.buffered_bytes,
            "log_lines_lost": self.logs.lost(),
            "workers": workers,
        })
    }
}
