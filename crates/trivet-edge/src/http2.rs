//! HTTP/2: the `h2` crate as a machine without sockets and without a runtime, driven by the loop like everything else.
//!
//! A connection that speaks it has a [`Session`]. Each of its streams is an entry of its own among the connections,
//! without a socket ([`Stream`]), and has the one request that a connection has at a time: so deadlines, bodies,
//! credit and cancelling are those of HTTP/1.1, and nothing behind the pipeline knows which of them it serves.

mod answer;
mod pipe;
mod request;
mod stream;
mod watch;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;

use crate::connection::Phase;
use crate::edge::Edge;
use crate::ending::Ending;
use crate::log;
use crate::net::{LINGER_MS, Net};

pub(crate) use answer::Fields;
pub(crate) use stream::Stream;

use pipe::Pipe;
use watch::Watch;

/// What a client says first (RFC 9113 §3.4); to HTTP/1.1 it is a request of an unknown version.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests of one connection that are under way at a time. Browsers open no more than 100.
const STREAMS_MAX: u32 = 128;
/// Bytes of one body that a client may send before anybody has asked for them: four times the default, because an
/// upload is no faster than this for each round trip.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for all bodies of a connection together, which is what they can take of our memory.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// The machine takes heads of this many times our limit, so that it is we who refuse those above it: its own answer is
/// in no log. What is larger still it refuses itself.
const HEAD_SLACK: u32 = 2;
/// Bytes of one answer that are handed to the machine before the socket has taken them, and of all answers of a
/// connection together (one piece may be added).
const STREAM_QUEUE_BYTES_MAX: usize = 64 * 1024;
const QUEUE_BYTES_MAX: usize = 256 * 1024;
/// Streams that a client may open and reset before we have looked at them (in one read, that is).
const UNSEEN_RESETS_MAX: usize = 64;
/// Streams that a client may make us reset by its mistakes in the life of a connection (MadeYouReset).
const ERRORS_MAX: usize = 256;
/// Streams that we have reset and still know, so that what is on its way for them is no error.
const FORGOTTEN_MAX: usize = 128;
/// With more streams than this at a time each answer may only wait in the smaller window.
const CROWD: usize = 16;
/// What came is kept up to this while the machine cannot go on because the client takes nothing.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// A connection sends and takes at most so much in one turn of the loop.
const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;

type Arrival = (Request<RecvStream>, SendResponse<Bytes>);

enum Machine {
    /// Its settings are sent, the client's preface has not come.
    Beginning(Pin<Box<server::Handshake<Pipe, Bytes>>>),
    Open(Box<server::Connection<Pipe, Bytes>>),
    Over,
}

/// What a connection that speaks HTTP/2 has besides.
pub(crate) struct Session {
    machine: Machine,
    pipe: Pipe,
    watch: Watch,
    /// Its streams among the connections.
    streams: Vec<u32>,
    /// Those of them that have something to send and wait for the socket, not for their client's window.
    waiting: Vec<u32>,
    /// Those whose answer was broken off.
    broken: Vec<u32>,
    /// Bytes handed to the machine since the socket last took everything.
    queued: usize,
    idle_since_ms: u64,
    /// Since when a preface, a head or a short frame has not come whole.
    head_since_ms: Option<u64>,
    /// Something was changed that the machine must see.
    due: bool,
    turning: bool,
    /// Its listener is no more: no further requests are wanted.
    pub(crate) parting: bool,
    /// The client was told so.
    leaving: bool,
    /// A request has come.
    served: bool,
    /// Why it ends, should it end now.
    ending: Ending,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

/// What all sessions share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Streams among the connections.
    pub(crate) streams: usize,
    /// Sessions to be polled at the end of the turn.
    pub(crate) due: Vec<(u32, u32)>,
    wakes: stream::Wakes,
    answers: answer::Parts,
    arrivals: Vec<Arrival>,
    text: Vec<u8>,
    output: Vec<u8>,
}

impl Session {
    fn new(head_bytes_max: u32, now_ms: u64) -> Self {
        let pipe = Pipe::default();
        let handshake = server::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(head_bytes_max.saturating_mul(HEAD_SLACK))
            .max_send_buffer_size(STREAM_QUEUE_BYTES_MAX)
            .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
            .max_local_error_reset_streams(Some(ERRORS_MAX))
            .max_concurrent_reset_streams(FORGOTTEN_MAX)
            .handshake(pipe.clone());
        Self {
            machine: Machine::Beginning(Box::pin(handshake)),
            pipe,
            watch: Watch::new(now_ms),
            streams: Vec::new(),
            waiting: Vec::new(),
            broken: Vec::new(),
            queued: 0,
            idle_since_ms: now_ms,
            head_since_ms: Some(now_ms),
            due: false,
            turning: false,
            parting: false,
            leaving: false,
            served: false,
            ending: Ending::ClientClosed,
        }
    }

    /// Lets the machine read, think and write. `false`: it is at its end; what it wrote is still to be sent.
    fn poll(&mut self, arrivals: &mut Vec<Arrival>, draining: bool) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        if let Machine::Beginning(handshake) = &mut self.machine {
            match handshake.as_mut().poll(&mut context) {
                Poll::Pending => return true,
                Poll::Ready(Ok(connection)) => self.machine = Machine::Open(Box::new(connection)),
                Poll::Ready(Err(_)) => {
                    self.ending = Ending::Refused;
                    self.machine = Machine::Over;
                    return false;
                }
            }
        }
        let Machine::Open(connection) = &mut self.machine else { return false };
        if draining && !std::mem::replace(&mut self.leaving, true) {
            connection.graceful_shutdown();
        }
        loop {
            match connection.poll_accept(&mut context) {
                Poll::Pending => return true,
                Poll::Ready(Some(Ok(arrival))) => arrivals.push(arrival),
                Poll::Ready(None) => return false,
                Poll::Ready(Some(Err(e))) => {
                    // By our own word, or by the client's, the reason is known already.
                    if e.is_library() && self.ending == Ending::ClientClosed {
                        self.ending = Ending::Refused;
                    }
                    return false;
                }
            }
        }
    }

    /// Ends it with a word why. What waits in it is dropped.
    fn give_up(&mut self, reason: Reason, ending: Ending) {
        self.ending = ending;
        if let Machine::Open(connection) = &mut self.machine {
            connection.abrupt_shutdown(reason);
        }
    }

    /// Whether a request has come.
    pub(crate) fn has_served(&self) -> bool {
        self.served
    }

    /// Whether more bytes of the client are wanted.
    pub(crate) fn takes_input(&self) -> bool {
        self.pipe.input_bytes() < INPUT_BYTES_MAX
    }

    fn wants_turn(&self) -> bool {
        self.due || !self.waiting.is_empty() || self.pipe.output_bytes() > 0 || self.pipe.input_bytes() > 0
    }

    fn forget(&mut self, key: u32, now_ms: u64) {
        if let Some(at) = self.streams.iter().position(|k| *k == key) {
            self.streams.swap_remove(at);
        }
        if self.streams.is_empty() {
            self.idle_since_ms = now_ms;
        }
    }
}

impl Net {
    fn session(&mut self, key: u32) -> Option<&mut Session> {
        self.connections.get_mut(key)?.session.as_deref_mut()
    }

    /// From now on the connection speaks HTTP/2.
    pub(crate) fn begin_session(&mut self, key: u32) {
        let mut session = Session::new(self.server.head_bytes_max, self.now_ms);
        let deadline = self.now_ms + self.server.head_ms;
        let Some(c) = self.connections.get_mut(key) else { return };
        session.parting = c.close;
        c.session = Some(Box::new(session));
        c.phase = Phase::Frames;
        c.deadline_ms = deadline;
        self.session_due(key);
    }

    /// The session's machine is polled before the turn ends.
    pub(crate) fn session_due(&mut self, key: u32) {
        let generation = self.connections.generation(key);
        if let Some(session) = self.session(key)
            && !std::mem::replace(&mut session.due, true)
            && !session.turning
        {
            self.http2.due.push((key, generation));
        }
    }

    /// Sends what the machine wrote. `false`: the connection is gone.
    fn send_frames(&mut self, key: u32, all: bool) -> bool {
        let Some(c) = self.connections.get_mut(key) else { return false };
        let Some(session) = &mut c.session else { return false };
        if session.pipe.output_bytes() == 0 || c.blocked && !all {
            return true;
        }
        let secure = c.tls.is_some();
        let mut output = std::mem::take(&mut self.http2.output);
        session.pipe.swap_output(&mut output);
        let alive = self.write(key, &[&output], false) && (!secure || self.flush(key));
        match self.session(key) {
            Some(session) => session.pipe.recycle(output),
            None => drop(output),
        }
        alive
    }

    /// The session is over: its streams lose their client, what waits is sent, then the connection ends.
    fn end_session(&mut self, key: u32) {
        if !self.send_frames(key, true) {
            return;
        }
        let Some(session) = self.connections.get_mut(key).and_then(|c| c.session.take()) else { return };
        for stream in session.streams {
            self.drop_connection(stream, session.ending);
        }
        if let Some(c) = self.connections.get_mut(key) {
            c.served = session.served;
            c.close = true;
            // What still comes must not make a reset of the close, which could take the last word along.
            c.readable = true;
        }
        self.next_request(key);
    }

    /// What is left of a session whose connection has gone.
    pub(crate) fn drop_session(&mut self, session: Session, ending: Ending) {
        for stream in session.streams {
            self.drop_connection(stream, ending);
        }
    }

    /// When the client's time is up: for a head that does not come whole, or without any stream.
    fn session_deadline(&self, key: u32) -> u64 {
        let Some(session) = self.connections.get(key).and_then(|c| c.session.as_ref()) else {
            return u64::MAX;
        };
        let mut deadline = u64::MAX;
        if let Some(since) = session.head_since_ms {
            deadline = since + self.server.head_ms;
        }
        if session.streams.is_empty() {
            let patience = match (self.draining || session.parting, session.served) {
                (true, _) => LINGER_MS,
                (false, true) => self.server.keep_alive_ms,
                (false, false) => self.server.keep_alive_ms.max(self.server.head_ms),
            };
            deadline = deadline.min(session.idle_since_ms + patience);
        }
        deadline
    }

    /// Whether the connection is one of so many streams that each must do with less.
    pub(crate) fn is_crowded(&self, key: u32) -> bool {
        let Some(stream) = self.connections.get(key).and_then(|c| c.stream.as_ref()) else { return false };
        let session = self.connections.get(stream.parent()).and_then(|c| c.session.as_ref());
        session.is_some_and(|s| s.streams.len() > CROWD)
    }

    fn refresh_session_deadline(&mut self, key: u32) {
        let deadline = self.session_deadline(key);
        if let Some(c) = self.connections.get_mut(key)
            && !c.blocked
        {
            c.deadline_ms = deadline;
        }
    }
}

impl Edge {
    /// Bytes of a connection that speaks HTTP/2, as they were read.
    pub(crate) fn frames(&mut self, key: u32, data: &[u8]) {
        let now_ms = self.net.now_ms;
        let Some(session) = self.net.session(key) else { return };
        let bearable = session.watch.look(data, now_ms);
        session.pipe.put(data);
        if session.watch.is_waiting() {
            session.head_since_ms.get_or_insert(now_ms);
        } else {
            session.head_since_ms = None;
        }
        if !bearable {
            self.dismiss(key, Reason::ENHANCE_YOUR_CALM, "a flood of frames", Ending::Refused);
            return;
        }
        self.turn(key);
    }

    /// Ends a session for what its client does.
    fn dismiss(&mut self, key: u32, reason: Reason, why: &str, ending: Ending) {
        if self.net.server.log_debug {
            log::debug("ended an HTTP/2 connection", &[("why", &why)]);
        }
        if let Some(session) = self.net.session(key) {
            session.give_up(reason, ending);
        }
        self.turn(key);
    }

    /// Everything that follows from what came in, from answers and from an output that drained.
    pub(crate) fn turn(&mut self, key: u32) {
        let mut arrivals = std::mem::take(&mut self.net.http2.arrivals);
        let mut turn_bytes = 0;
        loop {
            let (draining, now_ms) = (self.net.draining, self.net.now_ms);
            let Some(session) = self.net.session(key) else { break };
            let draining = draining || session.parting;
            if draining && !session.leaving {
                // A moment for what is on its way.
                session.idle_since_ms = now_ms;
            }
            session.due = false;
            session.turning = true;
            let goes_on = session.poll(&mut arrivals, draining);
            let broken = std::mem::take(&mut session.broken);
            for stream in broken {
                self.net.reset_broken(key, stream);
            }
            for (request, respond) in arrivals.drain(..) {
                self.begin_stream(key, request, respond);
            }
            self.wake_streams();
            let Some(session) = self.net.session(key) else { break };
            let output_bytes = session.pipe.output_bytes();
            // All answers of a turn leave by one call.
            if goes_on
                && session.due
                && output_bytes < pipe::OUTPUT_BYTES_MAX / 2
                && session.waiting.is_empty()
            {
                continue;
            }
            turn_bytes += output_bytes;
            if !goes_on {
                self.net.end_session(key);
                break;
            }
            if !self.net.send_frames(key, false) {
                break;
            }
            let Some(c) = self.net.connections.get_mut(key) else { break };
            let blocked = c.blocked;
            let Some(session) = &mut c.session else { break };
            // The machine had more to say than the pipe holds.
            session.due |= output_bytes >= pipe::OUTPUT_BYTES_MAX;
            if !blocked && session.pipe.output_bytes() == 0 {
                session.queued = 0;
                if turn_bytes >= TURN_BYTES_MAX {
                    if !session.waiting.is_empty() || session.due {
                        c.blocked = true;
                        c.yielded = true;
                        let generation = self.net.connections.generation(key);
                        self.net.yielded.push((key, generation));
                    }
                    break;
                }
                for stream in std::mem::take(&mut session.waiting) {
                    self.net.resume_stream(key, stream);
                }
            }
            let Some(session) = self.net.session(key) else { break };
            if blocked || !session.due {
                break;
            }
        }
        arrivals.clear();
        self.net.http2.arrivals = arrivals;
        let generation = self.net.connections.generation(key);
        if let Some(c) = self.net.connections.get_mut(key)
            && let Some(session) = &mut c.session
        {
            session.turning = false;
            // Reading had stopped for want of space.
            if c.readable && !c.unread && session.takes_input() {
                self.net.again.push((key, generation));
            }
        }
        self.net.refresh_session_deadline(key);
    }

    /// The socket takes bytes again, or something was changed.
    pub(crate) fn turn_if_wanted(&mut self, key: u32) {
        match self.net.session(key) {
            Some(session) if session.wants_turn() => self.turn(key),
            _ => self.net.refresh_session_deadline(key),
        }
    }

    /// A deadline of a session may have passed.
    pub(crate) fn expire_session(&mut self, key: u32) {
        let deadline = self.net.session_deadline(key);
        let now_ms = self.net.now_ms;
        if deadline > now_ms {
            self.net.set_deadline(key, deadline);
            return;
        }
        let head_ms = self.net.server.head_ms;
        let Some(session) = self.net.session(key) else { return };
        match (&session.machine, session.head_since_ms) {
            // It never said a word of HTTP/2.
            (Machine::Beginning(_), _) => self.net.drop_connection(key, Ending::HeadTimeout),
            (_, Some(since)) if since + head_ms <= now_ms => {
                self.dismiss(key, Reason::ENHANCE_YOUR_CALM, "a head was slow", Ending::HeadTimeout);
            }
            _ => {
                session.give_up(Reason::NO_ERROR, Ending::HeadTimeout);
                self.turn(key);
            }
        }
    }
}
