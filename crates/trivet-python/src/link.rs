//! The worker's ends of its edge: requests in, frames out, whichever transport carries them.
//!
//! Every slot thread comes here for its next request and for what its current one waits for (credit, body bytes,
//! space). Whoever waits while nobody else sleeps on the bell becomes the *leader*: it sleeps there, takes frames
//! in for everybody and hands leadership on when it leaves. Two locks, neither ever held while sleeping or while
//! Python's lock is waited for: `state` (what comes in) and `outlet` (what goes out, one frame at a time).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use trivet_wire::channel::{Channel, Message, Notice};
use trivet_wire::control::{Attach, Attached, Free, Transport};
use trivet_wire::frame::{FrameHeader, HEADER_BYTES, Kind, Malformed, flag};
use trivet_wire::monotonic_ns;
use trivet_wire::ring::Broken;
use trivet_wire::segment::{Bell, Layout, Receiver, RingError, Segment, Sender};
use trivet_wire::stream::{Filled, FrameReader, FrameWriter};

use crate::{log, process};

/// Spool files that an edge may announce: more is not believable.
const SPOOLS_MAX: usize = 65_536;

/// The edge is gone, or what it sent cannot be believed: for whoever waits it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the edge is gone")]
pub(crate) struct Gone;

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("the edge's socket failed")]
    Socket(#[from] io::Error),
    #[error("the edge's socket is closed")]
    Closed,
}

impl From<Broken> for LinkError {
    fn from(e: Broken) -> Self {
        Self::Ring(e.into())
    }
}

impl From<Malformed> for LinkError {
    fn from(e: Malformed) -> Self {
        Self::Ring(e.into())
    }
}

/// One edge of this worker, for as long as somebody works for it.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// Counts the attachments of this process, from 1.
    serial: u64,
    channel: Channel,
    spools: Mutex<HashMap<u32, Arc<OwnedFd>>>,
    means: Means,
}

#[derive(Debug)]
enum Means {
    Ring {
        segment: Arc<Segment>,
        ours: Bell,
        theirs: Bell,
    },
    /// `kick` wakes the leader, which waits on both.
    Socket {
        stream: OwnedFd,
        kick: OwnedFd,
    },
}

impl Attachment {
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(crate) fn segment(&self) -> Option<&Arc<Segment>> {
        match &self.means {
            Means::Ring { segment, .. } => Some(segment),
            Means::Socket { .. } => None,
        }
    }

    fn fds(&self) -> [i32; 3] {
        match &self.means {
            Means::Ring { ours, theirs, .. } => {
                [self.channel.as_fd().as_raw_fd(), ours.as_fd().as_raw_fd(), theirs.as_fd().as_raw_fd()]
            }
            Means::Socket { stream, kick } => {
                [self.channel.as_fd().as_raw_fd(), stream.as_raw_fd(), kick.as_raw_fd()]
            }
        }
    }

    /// Takes in all that waits on the channel. `false`: the edge is gone.
    pub(crate) fn drain_channel(&self) -> bool {
        let mut spools = lock(&self.spools);
        loop {
            match self.channel.try_receive() {
                Ok(Some(mut message)) => {
                    if let (Some(Notice::Spool(id)), Some(fd)) =
                        (Notice::parse(&message.bytes), message.fds.pop())
                        && (spools.len() < SPOOLS_MAX || spools.contains_key(&id))
                    {
                        spools.insert(id, Arc::new(fd));
                    }
                }
                Ok(None) => return false,
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// The spool file of this number: its announcement was sent before the frame that names it.
    pub(crate) fn spool(&self, id: u32) -> Option<Arc<OwnedFd>> {
        self.drain_channel();
        lock(&self.spools).get(&id).cloned()
    }

    /// Wakes whoever sleeps as leader.
    fn kick(&self) {
        match &self.means {
            Means::Ring { ours, .. } => ours.ring(),
            Means::Socket { kick, .. } => {
                let _ = rustix::io::write(kick, &1u64.to_ne_bytes());
            }
        }
    }

    /// Sleeps until frames may be there. `Err`: a signal came.
    fn sleep(&self) -> io::Result<()> {
        match &self.means {
            Means::Ring { ours, .. } => ours.wait(),
            Means::Socket { stream, kick } => {
                let mut fds = [PollFd::new(stream, PollFlags::IN), PollFd::new(kick, PollFlags::IN)];
                rustix::event::poll(&mut fds, None)?;
                if !fds[1].revents().is_empty() {
                    let _ = rustix::io::read(kick, &mut [0u8; 8][..]);
                }
                Ok(())
            }
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        for fd in self.fds() {
            process::forget(fd);
        }
    }
}

/// What is known of a request besides its frame.
#[derive(Debug, Default)]
pub(crate) struct TicketState {
    generation: u32,
    pub(crate) cancelled: bool,
    /// Response bytes that may be sent, granted since the last look.
    pub(crate) credit: u64,
    /// Request body bytes that came while nobody waited for them; those before `body_at` are taken.
    body: Vec<u8>,
    body_at: usize,
    pub(crate) body_end: bool,
    pub(crate) aborted: bool,
}

/// Space after an upload that a ticket may keep for the next one.
const BODY_KEPT_BYTES: usize = 64 * 1024;

impl TicketState {
    /// Moves body bytes to who waits for them.
    fn take_body(&mut self, sink: &mut Sink<'_>) {
        self.body_at += sink.take(&self.body[self.body_at..]);
        if self.body_at == self.body.len() {
            self.body.clear();
            self.body_at = 0;
        } else if self.body_at >= BODY_KEPT_BYTES && self.body_at >= self.body.len() / 2 {
            self.body.drain(..self.body_at);
            self.body_at = 0;
        }
    }
}

/// Where the next bytes of one request's body go.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    ticket: u16,
    /// 0: of no request.
    generation: u32,
    space: &'a mut [u8],
    filled: usize,
}

impl<'a> Sink<'a> {
    fn none() -> Self {
        Self { ticket: 0, generation: 0, space: &mut [], filled: 0 }
    }

    fn of(header: FrameHeader, space: &'a mut [u8]) -> Self {
        Self { ticket: header.ticket, generation: header.generation, space, filled: 0 }
    }

    /// How much of `bytes` found space.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.space.len() - self.filled);
        self.space[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
        self.filled += n;
        n
    }
}

/// What came of a request's body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BodyPart {
    pub(crate) bytes: usize,
    /// Nothing follows it.
    pub(crate) end: bool,
    /// The client broke off, or nobody wants the answer.
    pub(crate) lost: bool,
}

#[derive(Debug)]
enum Intake {
    Ring(Receiver),
    Socket(FrameReader),
}

#[derive(Debug)]
struct Link {
    attachment: Arc<Attachment>,
    intake: Intake,
    tickets: Vec<TicketState>,
    /// Requests that came while their reader waited for something else; not claimed yet.
    pending: VecDeque<(FrameHeader, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    /// Somebody sleeps as leader.
    sleeping: bool,
}

#[derive(Debug)]
struct State {
    link: Option<Link>,
    idle_waiters: usize,
    event_waiters: usize,
    /// Slots that are in a call, of whichever edge.
    busy: u16,
    quitting: bool,
    /// One of Python's signals came; only the main thread can look after it.
    signalled: bool,
    serials: u64,
}

#[derive(Debug)]
struct Outlet {
    attachment: Arc<Attachment>,
    writer: Writer,
}

#[derive(Debug)]
enum Writer {
    Ring(Sender),
    Socket(FrameWriter),
}

/// One slot's seat at the links: the request that it serves, kept in buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// Payload of the request frame.
    pub(crate) frame: Vec<u8>,
    pub(crate) attachment: Option<Arc<Attachment>>,
    /// When the last request was claimed.
    pub(crate) claimed_at: u64,
    busy: bool,
}

/// What a slot gets when it asks for a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    Request(FrameHeader),
    Quit,
    /// A signal came while waiting: look after Python's handlers.
    Signal,
}

/// How far a frame has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Whole,
    /// The socket has not taken its end yet: [`Links::send`] it as begun.
    Partly,
    No,
}

enum Step {
    Request(FrameHeader),
    Event,
    Empty,
}

#[derive(Debug)]
pub(crate) struct Links {
    threads: u16,
    state: Mutex<State>,
    idle: Condvar,
    event: Condvar,
    outlet: Mutex<Option<Outlet>>,
    /// Of the current attachment; 0 = none.
    serial: AtomicU64,
    /// Counts the leader's awakenings, so that who waits for space never misses one.
    epoch: AtomicU64,
    /// An answer was shown to the edge, but its bell not yet rung.
    owes_bell: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Takes one frame in. A request's payload goes into `frame`.
    fn step(&mut self, frame: &mut Vec<u8>, sink: &mut Sink<'_>) -> Result<Step, LinkError> {
        match &mut self.intake {
            Intake::Ring(rx) => {
                let Some((header, payload)) = rx.peek()? else { return Ok(Step::Empty) };
                let step = accept(&mut self.tickets, header, payload, frame, sink);
                rx.next(header);
                if rx.release()
                    && let Means::Ring { theirs, .. } = &self.attachment.means
                {
                    theirs.ring();
                }
                Ok(step)
            }
            Intake::Socket(reader) => loop {
                if let Some((header, payload)) = reader.peek()? {
                    let step = accept(&mut self.tickets, header, payload, frame, sink);
                    if header.kind == Kind::Cancel {
                        self.drop_pending(header);
                    }
                    if let Intake::Socket(reader) = &mut self.intake {
                        reader.next(header);
                    }
                    return Ok(step);
                }
                let Means::Socket { stream, .. } = &self.attachment.means else { return Ok(Step::Empty) };
                match reader.fill(stream.as_fd(), false)? {
                    Filled::Some => {}
                    Filled::Empty => return Ok(Step::Empty),
                    Filled::Closed => return Err(LinkError::Closed),
                }
            },
        }
    }

    /// A cancelled request that has not begun never does. On a socket nobody but us can say that its slot is free.
    fn drop_pending(&mut self, header: FrameHeader) {
        let same =
            |(p, _): &(FrameHeader, Vec<u8>)| p.ticket == header.ticket && p.generation == header.generation;
        if let Some(at) = self.pending.iter().position(same) {
            self.pending.remove(at);
            let done = FrameHeader {
                len: HEADER_BYTES as u32,
                kind: Kind::Done,
                flags: 0,
                ticket: header.ticket,
                generation: header.generation,
                aux: 0,
            };
            // Not over the outlet: this runs under the other lock. What cannot be sent is the edge's loss.
            let _ = process::get().links.try_send(self.attachment.serial, done, &[]);
        }
    }

    /// Somebody took a frame in while the leader goes to sleep. The ring's bell still stands for it; from the
    /// socket it is gone, and nothing would wake a leader that waits for it.
    fn kick_leader(&self) {
        if self.sleeping && matches!(self.intake, Intake::Socket(_)) {
            self.attachment.kick();
        }
    }

    fn put_pending(&mut self, header: FrameHeader, frame: &mut Vec<u8>) {
        // A newer use of the ticket makes the older frame void: so no more wait than there are tickets.
        self.pending.retain(|(p, _)| p.ticket != header.ticket);
        let mut spare = self.spare.pop().unwrap_or_default();
        std::mem::swap(&mut spare, frame);
        self.pending.push_back((header, spare));
    }

    /// The ticket's state, if the frame that asks for it is of its current use.
    fn ticket(&mut self, ticket: u16, generation: u32) -> Option<&mut TicketState> {
        self.tickets.get_mut(usize::from(ticket)).filter(|t| t.generation == generation)
    }

    fn claim(&self, header: FrameHeader, now: u64) -> bool {
        match self.attachment.segment() {
            Some(segment) => {
                segment.ticket(header.ticket).is_some_and(|ticket| ticket.claim(header.generation, now))
            }
            None => true,
        }
    }

    /// `true`: nothing is there and the edge knows that we sleep from now on.
    fn arm(&mut self) -> Result<bool, LinkError> {
        match &mut self.intake {
            Intake::Ring(rx) => Ok(rx.arm()?),
            Intake::Socket(_) => Ok(true),
        }
    }

    fn disarm(&self) {
        if let Intake::Ring(rx) = &self.intake {
            rx.disarm();
        }
    }
}

/// Enters one frame into the state of its ticket.
fn accept(
    tickets: &mut [TicketState],
    header: FrameHeader,
    payload: &[u8],
    frame: &mut Vec<u8>,
    sink: &mut Sink<'_>,
) -> Step {
    let Some(ticket) = tickets.get_mut(usize::from(header.ticket)) else { return Step::Event };
    if header.kind == Kind::Request {
        ticket.generation = header.generation;
        ticket.cancelled = false;
        ticket.credit = 0;
        ticket.body.clear();
        ticket.body.shrink_to(BODY_KEPT_BYTES);
        ticket.body_at = 0;
        ticket.body_end = false;
        ticket.aborted = false;
        frame.clear();
        frame.extend_from_slice(payload);
        return Step::Request(header);
    }
    if ticket.generation == header.generation {
        match header.kind {
            Kind::Credit => ticket.credit += u64::from(header.aux),
            Kind::Cancel => ticket.cancelled = true,
            Kind::Body => {
                let sought = sink.ticket == header.ticket && sink.generation == header.generation;
                let taken = if sought && ticket.body.is_empty() { sink.take(payload) } else { 0 };
                ticket.body.extend_from_slice(&payload[taken..]);
                ticket.body_end |= header.flags & flag::END != 0;
                ticket.aborted |= header.flags & flag::ABORTED != 0;
            }
            _ => {}
        }
    }
    Step::Event
}

impl Links {
    pub(crate) fn new(threads: u16) -> Self {
        Self {
            threads,
            state: Mutex::new(State {
                link: None,
                idle_waiters: 0,
                event_waiters: 0,
                busy: 0,
                quitting: false,
                signalled: false,
                serials: 0,
            }),
            idle: Condvar::new(),
            event: Condvar::new(),
            outlet: Mutex::new(None),
            serial: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            owes_bell: AtomicBool::new(false),
        }
    }

    /// Whether the edge of this serial is still there.
    #[inline]
    pub(crate) fn is_current(&self, serial: u64) -> bool {
        self.serial.load(Ordering::Relaxed) == serial
    }

    /// Takes a new edge on, in the place of any earlier one. Answers it.
    pub(crate) fn attach(&self, channel: Channel, mut message: Message) -> io::Result<Arc<Attachment>> {
        let attach: Attach = message.json()?;
        if attach.version != trivet_wire::VERSION {
            return Err(io::Error::other("the edge speaks another version"));
        }
        let mut fds = message.fds.drain(..);
        let mut fd = || fds.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
        let (means, intake, writer) = match attach.transport {
            Transport::Ring => {
                let (memory, ours, theirs) = (fd()?, Bell::from_fd(fd()?), Bell::from_fd(fd()?));
                let layout = Layout {
                    tickets: attach.tickets,
                    request_bytes: attach.request_bytes,
                    response_bytes: attach.response_bytes,
                };
                let segment = Segment::open(memory.as_fd(), layout)?;
                let (rx, tx) = segment.worker_ends();
                (Means::Ring { segment, ours, theirs }, Intake::Ring(rx), Writer::Ring(tx))
            }
            Transport::Socket => {
                let kick = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                (
                    Means::Socket { stream: fd()?, kick },
                    Intake::Socket(FrameReader::default()),
                    Writer::Socket(FrameWriter::default()),
                )
            }
        };
        let mut state = lock(&self.state);
        state.serials += 1;
        let serial = state.serials;
        let attachment = Arc::new(Attachment { serial, channel, spools: Mutex::default(), means });
        attachment.fds().into_iter().for_each(process::keep_from_children);
        let mut tickets = Vec::new();
        tickets.resize_with(usize::from(attach.tickets), TicketState::default);
        let slots = self.threads.saturating_sub(state.busy);
        if let Some(old) = &state.link {
            old.attachment.kick();
        }
        state.link = Some(Link {
            attachment: attachment.clone(),
            intake,
            tickets,
            pending: VecDeque::new(),
            spare: Vec::new(),
            sleeping: false,
        });
        *lock(&self.outlet) = Some(Outlet { attachment: attachment.clone(), writer });
        self.serial.store(serial, Ordering::Relaxed);
        attachment.channel.send_json(&Attached { slots }, &[])?;
        drop(state);
        self.idle.notify_all();
        self.event.notify_all();
        Ok(attachment)
    }

    /// The edge of this serial is gone: what has not started is void, who waits for it stops waiting.
    pub(crate) fn detach(&self, serial: u64) {
        let mut state = lock(&self.state);
        if state.link.as_ref().is_some_and(|link| link.attachment.serial == serial) {
            self.drop_link(&mut state);
        }
    }

    fn drop_link(&self, state: &mut State) {
        self.serial.store(0, Ordering::Relaxed);
        if let Some(link) = state.link.take() {
            link.attachment.kick();
        }
        *lock(&self.outlet) = None;
        self.idle.notify_all();
        self.event.notify_all();
    }

    fn broken(&self, state: &mut State, error: &LinkError) {
        if let LinkError::Ring(error) = error {
            log::line(
                "error",
                &format!("the edge's frames cannot be read, this worker ends error=\"{error}\""),
            );
            // The edge would wait for ever for what it has sent here.
            process::give_up();
        }
        self.drop_link(state);
    }

    /// No request will come any more.
    pub(crate) fn quit(&self) {
        let mut state = lock(&self.state);
        state.quitting = true;
        if let Some(link) = &state.link {
            link.attachment.kick();
        }
        self.idle.notify_all();
    }

    /// One of Python's signals waits for the main thread.
    pub(crate) fn signalled(&self) {
        // With several slots the main thread runs none.
        if self.threads == 1 {
            let mut state = lock(&self.state);
            state.signalled = true;
            if let Some(link) = &state.link {
                link.attachment.kick();
            }
            self.idle.notify_all();
        }
    }

    /// The slot's next request if one is there. Does not wait; may be called with Python's lock held.
    pub(crate) fn try_next(&self, seat: &mut Seat) -> Option<Next> {
        let next = self.try_next_locked(&mut lock(&self.state), seat);
        // Only the next of a batch of short requests may go before the bell for the answer to the last.
        let batch = matches!(next, Some(Next::Request(header)) if header.flags & flag::BATCH != 0);
        if !batch && self.owes_bell.swap(false, Ordering::Relaxed) {
            self.ring_if_asleep();
        }
        next
    }

    fn ring_if_asleep(&self) {
        if let Some(Outlet { attachment, writer: Writer::Ring(tx) }) = &*lock(&self.outlet)
            && tx.ask()
            && let Means::Ring { theirs, .. } = &attachment.means
        {
            theirs.ring();
        }
    }

    fn try_next_locked(&self, state: &mut State, seat: &mut Seat) -> Option<Next> {
        if seat.busy {
            seat.busy = false;
            state.busy -= 1;
            if let Some(link) = &state.link
                && seat.attachment.as_ref().is_none_or(|a| a.serial != link.attachment.serial)
            {
                // The slot was in a call of an earlier edge when this one came.
                let _ = link
                    .attachment
                    .channel
                    .try_send(&serde_json::to_vec(&Free { free: 1 }).expect("a number is valid JSON"), &[]);
            }
        }
        loop {
            let link = match &mut state.link {
                Some(link) => link,
                None if state.quitting => return Some(Next::Quit),
                None => return None,
            };
            let header = if let Some((header, mut frame)) = link.pending.pop_front() {
                std::mem::swap(&mut frame, &mut seat.frame);
                link.spare.push(frame);
                header
            } else {
                match link.step(&mut seat.frame, &mut Sink::none()) {
                    Ok(Step::Request(header)) => header,
                    Ok(Step::Event) => {
                        link.kick_leader();
                        if state.event_waiters > 0 {
                            self.event.notify_all();
                        }
                        continue;
                    }
                    Ok(Step::Empty) if state.quitting => return Some(Next::Quit),
                    Ok(Step::Empty) => return None,
                    Err(error) => {
                        self.broken(state, &error);
                        continue;
                    }
                }
            };
            let now = monotonic_ns();
            if !link.claim(header, now) {
                continue;
            }
            if seat.attachment.as_ref().is_none_or(|a| a.serial != link.attachment.serial) {
                seat.attachment = Some(link.attachment.clone());
            }
            seat.busy = true;
            seat.claimed_at = now;
            state.busy += 1;
            self.hand_on(state);
            return Some(Next::Request(header));
        }
    }

    /// Who has what it came for leaves: somebody must listen on, and know of what was read ahead.
    #[inline]
    fn hand_on(&self, state: &State) {
        let Some(link) = &state.link else { return };
        if link.sleeping {
            if let Intake::Socket(reader) = &link.intake
                && !matches!(reader.peek(), Ok(None))
            {
                link.attachment.kick();
            }
        } else if state.idle_waiters > 0 {
            self.idle.notify_one();
        } else if state.event_waiters > 0 {
            self.event.notify_one();
        }
    }

    /// The slot's next request, waited for. Without Python's lock.
    pub(crate) fn wait_next(&self, seat: &mut Seat) -> Next {
        let mut state = lock(&self.state);
        loop {
            if let Some(next) = self.try_next_locked(&mut state, seat) {
                return next;
            }
            if std::mem::take(&mut state.signalled) {
                return Next::Signal;
            }
            let leads = match &mut state.link {
                None => false,
                Some(link) => !link.sleeping,
            };
            if leads {
                let (guard, slept) = self.lead(state);
                state = guard;
                if slept.is_err() {
                    self.hand_on(&state);
                    return Next::Signal;
                }
            } else {
                state.idle_waiters += 1;
                state = wait(&self.idle, state);
                state.idle_waiters -= 1;
            }
        }
    }

    /// Sleeps on the bell, once, if nothing is there.
    fn lead<'a>(&'a self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, io::Result<()>) {
        let Some(link) = &mut state.link else { return (state, Ok(())) };
        match link.arm() {
            Ok(true) => {}
            Ok(false) => return (state, Ok(())),
            Err(error) => {
                self.broken(&mut state, &error);
                return (state, Ok(()));
            }
        }
        link.sleeping = true;
        let attachment = link.attachment.clone();
        drop(state);
        let slept = attachment.sleep();
        let mut state = lock(&self.state);
        if let Some(link) = &mut state.link
            && link.attachment.serial == attachment.serial
        {
            link.sleeping = false;
            link.disarm();
        }
        self.epoch.fetch_add(1, Ordering::Relaxed);
        if state.event_waiters > 0 {
            self.event.notify_all();
        }
        (state, slept)
    }

    /// Waits until `ready` finds what it looks for in the ticket's state. Without Python's lock.
    pub(crate) fn wait_for(
        &self,
        serial: u64,
        header: FrameHeader,
        mut ready: impl FnMut(&mut TicketState) -> bool,
    ) -> Result<(), Gone> {
        self.pump(serial, true, &mut Sink::none(), |link, _| {
            link.ticket(header.ticket, header.generation).ok_or(Gone).map(&mut ready)
        })
    }

    /// Takes what has come of a request's body into `space`, waiting for some if `wait`. Nothing came, no end, not
    /// lost: there is nothing yet.
    pub(crate) fn take_body(
        &self,
        serial: u64,
        header: FrameHeader,
        space: &mut [u8],
        wait: bool,
    ) -> Result<BodyPart, Gone> {
        let mut part = BodyPart::default();
        let mut sink = Sink::of(header, space);
        self.pump(serial, wait, &mut sink, |link, sink| {
            let ticket = link.ticket(header.ticket, header.generation).ok_or(Gone)?;
            ticket.take_body(sink);
            part = BodyPart {
                bytes: sink.filled,
                end: ticket.body_end && ticket.body.is_empty(),
                lost: ticket.aborted || ticket.cancelled,
            };
            Ok(sink.filled == sink.space.len() || part.end || part.lost || (wait && sink.filled > 0))
        })?;
        Ok(part)
    }

    /// As [`wait_for`](Self::wait_for), but only takes in what is there already.
    pub(crate) fn look_at(
        &self,
        serial: u64,
        header: FrameHeader,
        mut look: impl FnMut(&mut TicketState),
    ) -> Result<(), Gone> {
        self.pump(serial, false, &mut Sink::none(), |link, _| {
            if let Some(ticket) = link.ticket(header.ticket, header.generation) {
                look(ticket);
            }
            Ok(false)
        })
    }

    /// Takes frames in until `ready`; what is for others is put where they find it.
    fn pump(
        &self,
        serial: u64,
        wait_for_it: bool,
        sink: &mut Sink<'_>,
        mut ready: impl FnMut(&mut Link, &mut Sink<'_>) -> Result<bool, Gone>,
    ) -> Result<(), Gone> {
        let mut frame = Vec::new();
        let mut state = lock(&self.state);
        let result = loop {
            let Some(link) = state.link.as_mut().filter(|link| link.attachment.serial == serial) else {
                break Err(Gone);
            };
            match ready(link, sink) {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(gone) => break Err(gone),
            }
            match link.step(&mut frame, sink) {
                Ok(Step::Request(header)) => {
                    link.put_pending(header, &mut frame);
                    if state.idle_waiters > 0 {
                        self.idle.notify_one();
                    }
                    continue;
                }
                Ok(Step::Event) => {
                    link.kick_leader();
                    if state.event_waiters > 0 {
                        self.event.notify_all();
                    }
                    continue;
                }
                Ok(Step::Empty) => {}
                Err(error) => {
                    self.broken(&mut state, &error);
                    continue;
                }
            }
            if !wait_for_it {
                break Ok(());
            }
            if link.sleeping {
                state.event_waiters += 1;
                state = wait(&self.event, state);
                state.event_waiters -= 1;
            } else {
                // A signal only makes us look again: Python's handlers run when the call returns to it.
                state = self.lead(state).0;
            }
        };
        self.hand_on(&state);
        result
    }

    /// Sends one frame if there is space now. May be called with Python's lock held.
    #[inline]
    pub(crate) fn try_send(&self, serial: u64, header: FrameHeader, parts: &[&[u8]]) -> Result<Sent, Gone> {
        let mut outlet = lock(&self.outlet);
        let Some(outlet) = outlet.as_mut().filter(|o| o.attachment.serial == serial) else {
            return Err(Gone);
        };
        match (&mut outlet.writer, &outlet.attachment.means) {
            (Writer::Ring(tx), Means::Ring { theirs, .. }) => {
                let pushed = match tx.push(header, parts) {
                    // Asks for the bell in the same breath, so that none can be missed.
                    Ok(false) if tx.starve(header.len as usize).map_err(|_| Gone)? => {
                        tx.push(header, parts).map_err(|_| Gone)?
                    }
                    other => other.map_err(|_| Gone)?,
                };
                if pushed && header.flags & flag::DONE != 0 {
                    // The slot looks for its next request now, and rings the bell if that is not one of a batch.
                    tx.show();
                    self.owes_bell.store(true, Ordering::Relaxed);
                } else if pushed && tx.publish() {
                    theirs.ring();
                }
                Ok(if pushed { Sent::Whole } else { Sent::No })
            }
            (Writer::Socket(writer), Means::Socket { stream, .. }) => {
                if writer.pending_bytes() > 0 && !writer.flush(stream.as_fd(), false).map_err(|_| Gone)? {
                    return Ok(Sent::No);
                }
                writer.push(header, parts);
                let whole = writer.flush(stream.as_fd(), false).map_err(|_| Gone)?;
                Ok(if whole { Sent::Whole } else { Sent::Partly })
            }
            _ => Err(Gone),
        }
    }

    /// Sends one frame, waiting for space; `begun`: it has been sent in part. Without Python's lock.
    pub(crate) fn send(
        &self,
        serial: u64,
        header: FrameHeader,
        parts: &[&[u8]],
        mut begun: bool,
    ) -> Result<(), Gone> {
        loop {
            let seen = self.epoch.load(Ordering::Relaxed);
            if begun {
                if self.settled(serial)? {
                    return Ok(());
                }
            } else {
                match self.try_send(serial, header, parts)? {
                    Sent::Whole => return Ok(()),
                    Sent::Partly => begun = true,
                    Sent::No => {}
                }
            }
            self.wait_for_space(serial, seen)?;
        }
    }

    fn wait_for_space(&self, serial: u64, seen: u64) -> Result<(), Gone> {
        let stream = {
            let outlet = lock(&self.outlet);
            let Some(outlet) = outlet.as_ref().filter(|o| o.attachment.serial == serial) else {
                return Err(Gone);
            };
            outlet.attachment.segment().is_none().then(|| outlet.attachment.clone())
        };
        match stream.as_deref().map(|a| &a.means) {
            Some(Means::Socket { stream, .. }) => wait_writable(stream.as_fd()),
            _ => self
                .pump(serial, true, &mut Sink::none(), |_, _| Ok(self.epoch.load(Ordering::Relaxed) != seen)),
        }
    }

    /// Whether the socket has taken all that was sent, after another try.
    fn settled(&self, serial: u64) -> Result<bool, Gone> {
        let mut outlet = lock(&self.outlet);
        let Some(outlet) = outlet.as_mut().filter(|o| o.attachment.serial == serial) else {
            return Err(Gone);
        };
        match (&mut outlet.writer, &outlet.attachment.means) {
            (Writer::Socket(writer), Means::Socket { stream, .. }) => {
                writer.flush(stream.as_fd(), false).map_err(|_| Gone)
            }
            _ => Ok(true),
        }
    }
}

/// Waits a while for a socket to take more; the caller looks again, and sees when the edge has gone.
fn wait_writable(stream: BorrowedFd<'_>) -> Result<(), Gone> {
    let mut fds = [PollFd::from_borrowed_fd(stream, PollFlags::OUT)];
    let while_ms = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    match rustix::event::poll(&mut fds, Some(&while_ms)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {
            if fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) { Err(Gone) } else { Ok(()) }
        }
        Err(_) => Err(Gone),
    }
}
