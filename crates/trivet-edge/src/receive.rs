//! Reading: bytes of a connection become heads, bodies and what is thrown away.

use rustix::io::Errno;
use rustix::net::SendFlags;
use trivet_http::h1::{Parsed, Reject, Step};
use trivet_pool::Submitted;
use trivet_wire::frame::{FRAME_BYTES_MAX, HEADER_BYTES, INLINE_BODY_BYTES_MAX, Kind, flag};

use crate::answer::Own;
use crate::connection::{BodyRest, Phase};
use crate::edge::Edge;
use crate::ending::Ending;
use crate::exchange::Place;
use crate::http2::PREFACE;
use crate::log;
use crate::pipeline::{self, INLINE_SUM_BYTES_MAX};
use crate::spool;
use crate::tls::PLAIN_HTTP;

/// A body must bring [`BODY_WINDOW_BYTES_MIN`] in each such time, however long it is in all.
pub(crate) const BODY_WINDOW_MS: u64 = 30_000;
const BODY_WINDOW_BYTES_MIN: u64 = 1024;
/// What is thrown away of an unread body before the connection is given up instead.
pub(crate) const DRAIN_BYTES_MAX: u64 = 1024 * 1024;
/// One connection is read for at most so much in one turn of the loop.
const TURN_BYTES_MAX: usize = 1024 * 1024;
/// What goes with the request itself of a body that is streamed: at most what one read brought.
const BEGINNING_BYTES_MAX: usize = 128 * 1024;
/// When clients of an app of which no worker starts may ask again, in seconds.
const UNLOADED_RETRY_S: u32 = 5;
/// A streamed body goes to the worker in frames of at most this.
const STREAM_FRAME_BYTES: usize = 64 * 1024;

impl Edge {
    /// Reads what is there, as far as it is wanted.
    pub(crate) fn receive(&mut self, key: u32) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut turn_bytes = 0;
        while let Some(c) = self.net.connections.get_mut(key) {
            if !c.readable || c.unread {
                break;
            }
            let room = match c.phase {
                Phase::Head | Phase::Body | Phase::Drain | Phase::Linger => scratch.len(),
                Phase::App if c.body.is_none() => 0,
                Phase::App => {
                    let wanted = c
                        .exchange
                        .and_then(|x| self.net.exchanges.table.get(x))
                        .map_or(0, |x| x.wanted.min(scratch.len() as u64) as usize);
                    if c.input.is_empty() { wanted } else { 0 }
                }
                Phase::Frames if c.session.as_ref().is_some_and(|s| s.takes_input()) => scratch.len(),
                Phase::Flush | Phase::Frames => 0,
            };
            if room == 0 {
                break;
            }
            // What is wanted is plain; how many bytes on the wire that takes is for the client to choose.
            let room = if c.tls.is_some() { scratch.len() } else { room };
            if turn_bytes >= TURN_BYTES_MAX {
                c.unread = true;
                self.net.unread.push((key, self.net.connections.generation(key)));
                break;
            }
            let Some(socket) = &c.socket else { break };
            match rustix::net::recv(socket, &mut scratch[..room], rustix::net::RecvFlags::empty()) {
                Ok((0, _)) => {
                    c.readable = false;
                    c.peer_closed = true;
                    self.end_of_input(key);
                    break;
                }
                Ok((n, _)) => {
                    turn_bytes += n;
                    if n < room && !c.peer_closed {
                        c.readable = false;
                    }
                    if c.tls.is_some() {
                        self.receive_secure(key, &scratch[..n]);
                    } else {
                        self.feed(key, &scratch[..n]);
                    }
                }
                Err(Errno::AGAIN) => c.readable = false,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.net.drop_connection(key, Ending::ClientClosed);
                    break;
                }
            }
        }
        self.scratch = scratch;
    }

    /// Bytes of a TLS connection: what they say goes the way of plain ones.
    fn receive_secure(&mut self, key: u32, wire: &[u8]) {
        let Some(c) = self.net.connections.get_mut(key) else { return };
        let Some(tls) = &mut c.tls else { return };
        if c.phase == Phase::Linger {
            return;
        }
        let was_handshaking = tls.is_handshaking();
        let first = !tls.has_begun();
        let mut plain = std::mem::take(&mut self.net.plain);
        plain.clear();
        let taken = tls.take_in(wire, &mut plain);
        let before = c.output.len();
        tls.flush(&mut c.output);
        self.net.buffered_bytes += c.output.len() - before;
        if c.output.len() > before {
            self.net.flush_later(key);
        }
        match taken {
            Ok(closed) => {
                if was_handshaking
                    && let Some(c) = self.net.connections.get_mut(key)
                    && c.tls.as_ref().is_some_and(|tls| !tls.is_handshaking())
                {
                    c.deadline_ms =
                        self.net.now_ms + self.net.server.keep_alive_ms.max(self.net.server.head_ms);
                    c.shown = c.tls.as_ref().and_then(|tls| tls.shown()).map(std::rc::Rc::new);
                    if c.tls.as_ref().is_some_and(|tls| tls.speaks_http_2()) {
                        self.net.begin_session(key);
                    }
                }
                if !plain.is_empty() {
                    self.feed(key, &plain);
                }
                if closed && self.net.connections.get(key).is_some() {
                    if let Some(c) = self.net.connections.get_mut(key) {
                        c.readable = false;
                        c.peer_closed = true;
                    }
                    self.end_of_input(key);
                }
            }
            Err(e) => {
                if first && wire.first().is_some_and(u8::is_ascii_uppercase) {
                    let (head, rest) = PLAIN_HTTP;
                    let answer = [head, &self.net.tail, rest].concat();
                    if let Some(c) = self.net.connections.get_mut(key) {
                        if let Some(socket) = &c.socket {
                            let _ = rustix::net::send(socket, &answer, SendFlags::NOSIGNAL);
                        }
                        // Not behind it: the alert of the handshake that has failed.
                        c.tls = None;
                        self.net.buffered_bytes -= c.pending_bytes();
                        c.output.clear();
                        c.output_at = 0;
                    }
                } else {
                    // The alert says why.
                    self.net.flush(key);
                    if self.net.server.log_debug {
                        log::debug("a TLS connection failed", &[("error", &e)]);
                    }
                }
                self.net.drop_connection(key, Ending::Refused);
            }
        }
        self.net.plain = plain;
    }

    /// Goes on with what was read ahead of its turn, then reads.
    pub(crate) fn resume(&mut self, key: u32) {
        let Some(c) = self.net.connections.get_mut(key) else { return };
        if c.stream.is_some() {
            self.serve_stream(key);
            return;
        }
        if !c.input.is_empty() && c.phase != Phase::Flush {
            self.feed(key, &[]);
        }
        self.receive(key);
    }

    /// Takes bytes behind those that wait already.
    pub(crate) fn feed(&mut self, key: u32, data: &[u8]) {
        let Some(c) = self.net.connections.get_mut(key) else { return };
        if c.input.is_empty() {
            let used = self.process(key, data);
            if used < data.len()
                && let Some(c) = self.net.connections.get_mut(key)
            {
                c.input.extend_from_slice(&data[used..]);
            }
            return;
        }
        let mut input = std::mem::take(&mut c.input);
        input.extend_from_slice(data);
        let used = self.process(key, &input);
        if let Some(c) = self.net.connections.get_mut(key)
            && used < input.len()
        {
            input.drain(..used);
            c.input = input;
        }
    }

    /// Uses as much of `buf` as can be used now; returns how much that was.
    fn process(&mut self, key: u32, buf: &[u8]) -> usize {
        let mut at = 0;
        while let Some(c) = self.net.connections.get_mut(key) {
            let rest = &buf[at..];
            match c.phase {
                Phase::Head => {
                    if rest.is_empty() {
                        break;
                    }
                    let fresh = c.resume == 0;
                    match self.net.head.parse(rest, &self.net.limits, &mut c.resume) {
                        Ok(Parsed::Complete) => {
                            at += self.net.head.bytes as usize;
                            at += pipeline::begin(self, key, rest);
                        }
                        Ok(Parsed::Partial) => {
                            if fresh {
                                let deadline = self.net.now_ms + self.net.server.head_ms;
                                self.net.set_deadline(key, deadline);
                            }
                            break;
                        }
                        Err(Reject { status, reason, .. }) => {
                            let n = rest.len().min(PREFACE.len());
                            if rest[..n] == PREFACE[..n] && c.tls.is_none() && !c.served && c.stream.is_none()
                            {
                                // Not HTTP/1.1 at all, as far as it has come.
                                if n == PREFACE.len() {
                                    self.net.begin_session(key);
                                    continue;
                                }
                                let deadline = c.deadline_ms.min(self.net.now_ms + self.net.server.head_ms);
                                self.net.set_deadline(key, deadline);
                                break;
                            }
                            self.net.refuse(key, status, reason);
                            return buf.len();
                        }
                    }
                }
                Phase::Body | Phase::Drain => {
                    if rest.is_empty() {
                        break;
                    }
                    at += self.take_body(key, rest);
                }
                Phase::App => {
                    let used = if c.body.is_none() { 0 } else { self.stream_body(key, rest) };
                    if used == 0 {
                        break;
                    }
                    at += used;
                }
                Phase::Flush => break,
                Phase::Linger => return buf.len(),
                Phase::Frames => {
                    self.frames(key, rest);
                    return buf.len();
                }
            }
        }
        if self.net.connections.get(key).is_none() { buf.len() } else { at }
    }

    /// The next piece of a body: how much of `buf` it takes and which part of that is data; whether it is the last.
    fn body_piece(&mut self, key: u32, buf: &[u8]) -> Result<(usize, std::ops::Range<usize>, bool), Reject> {
        let Some(c) = self.net.connections.get_mut(key) else { return Ok((buf.len(), 0..0, true)) };
        match &mut c.body {
            BodyRest::None => Ok((0, 0..0, true)),
            BodyRest::Length(left) => {
                let n = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                let end = *left == 0;
                if end {
                    c.body = BodyRest::None;
                }
                Ok((n, 0..n, end))
            }
            BodyRest::Chunked(decoder) => {
                let piece = match decoder.step(buf)? {
                    Step::NeedMore { consumed } => (consumed, 0..0, false),
                    Step::Data { consumed, data } => (consumed, data, false),
                    Step::End { consumed } => (consumed, 0..0, true),
                };
                if piece.2 {
                    c.body = BodyRest::None;
                }
                Ok(piece)
            }
            BodyRest::Data => Ok((buf.len(), 0..buf.len(), false)),
        }
    }

    /// Keeps (or, draining, forgets) the next piece of a body.
    pub(crate) fn take_body(&mut self, key: u32, buf: &[u8]) -> usize {
        self.net.awaited = true;
        let (used, data, end) = match self.body_piece(key, buf) {
            Ok(piece) => piece,
            Err(reject) => {
                if let Some(c) = self.net.connections.get_mut(key) {
                    c.body = BodyRest::None;
                }
                if self.net.connections.get(key).is_some_and(|c| c.phase == Phase::Drain) {
                    self.net.drop_connection(key, Ending::Refused);
                } else {
                    self.net.refuse(key, reject.status, reject.reason);
                }
                return buf.len();
            }
        };
        let data = &buf[data];
        let Some(c) = self.net.connections.get_mut(key) else { return used };
        c.body_bytes += data.len() as u64;
        if c.phase == Phase::Drain {
            if c.body_bytes > DRAIN_BYTES_MAX {
                // The answer has been sent: it must not be lost to a reset.
                c.close = true;
                self.net.next_request(key);
            } else if end {
                self.net.next_request(key);
            }
            return used;
        }
        let total = c.body_bytes;
        let Some(xkey) = c.exchange else { return used };
        let max = self.body_bytes_max(xkey);
        if max > 0 && total > max {
            self.net.refuse(key, 413, "body.chunks");
            return buf.len();
        }
        if let Err(e) = self.keep_body(xkey, data, total - data.len() as u64) {
            let folder = &self.net.server.spool_dir;
            log::error("cannot write a request body", &[("folder", folder), ("error", &e)]);
            let own = Own { retry_after: Some(5), close: true, ..Own::default() };
            self.net.answer_own(xkey, 503, own, Ending::ServerError);
            return buf.len();
        }
        if end {
            if let Some(c) = self.net.connections.get_mut(key) {
                c.phase = Phase::App;
                c.deadline_ms = u64::MAX;
            }
            self.submit(key, xkey);
        }
        used
    }

    /// Puts what has come already of a body that will be streamed into the request's own frame, so that the app's
    /// first read need not ask for it. A body that turns out to be whole goes as such.
    pub(crate) fn take_beginning(
        &mut self,
        key: u32,
        xkey: u32,
        rest: &[u8],
    ) -> Result<usize, (u16, &'static str)> {
        let mut at = 0;
        let max = self.body_bytes_max(xkey);
        loop {
            let (Some(c), Some(x)) = (self.net.connections.get(key), self.net.exchanges.table.get(xkey))
            else {
                return Ok(at);
            };
            let room = (BEGINNING_BYTES_MAX - x.inline_bytes)
                .min(INLINE_SUM_BYTES_MAX.saturating_sub(self.net.inline_bytes))
                .min(FRAME_BYTES_MAX.saturating_sub(x.out.frame.len()))
                .min(rest.len() - at);
            if room == 0 || c.body.is_none() {
                return Ok(at);
            }
            let (used, data, end) =
                self.body_piece(key, &rest[at..at + room]).map_err(|e| (e.status, e.reason))?;
            let data = &rest[at..][data];
            at += used;
            let net = &mut self.net;
            if let (Some(c), Some(x)) = (net.connections.get_mut(key), net.exchanges.table.get_mut(xkey)) {
                c.body_bytes += data.len() as u64;
                if max > 0 && c.body_bytes > max {
                    return Err((413, "body.chunks"));
                }
                x.out.frame.extend_from_slice(data);
                x.inline_bytes += data.len();
                net.inline_bytes += data.len();
                x.owes_continue = false;
                if end {
                    x.out.body_flags = flag::BODY_INLINE;
                    x.out.body_bytes = c.body_bytes;
                }
            }
            if used == 0 {
                return Ok(at);
            }
        }
    }

    /// The largest body that the request's route takes; 0: any.
    fn body_bytes_max(&self, xkey: u32) -> u64 {
        let x = self.net.exchanges.table.get(xkey);
        x.and_then(|x| x.route.as_ref()).map_or(0, |route| route.body_bytes_max)
    }

    /// Bodies stay in the frame up to [`INLINE_BODY_BYTES_MAX`], then move to a file.
    fn keep_body(&mut self, xkey: u32, data: &[u8], before: u64) -> std::io::Result<()> {
        let net = &mut self.net;
        let Some(x) = net.exchanges.table.get_mut(xkey) else { return Ok(()) };
        x.out.body_bytes = before + data.len() as u64;
        if let Some(spool) = &x.out.spool {
            return spool::write_all(spool, data, before);
        }
        if before as usize + data.len() <= INLINE_BODY_BYTES_MAX
            && net.inline_bytes + data.len() <= INLINE_SUM_BYTES_MAX
            && x.out.frame.len() + data.len() <= FRAME_BYTES_MAX
        {
            x.out.frame.extend_from_slice(data);
            x.inline_bytes += data.len();
            net.inline_bytes += data.len();
            return Ok(());
        }
        let owner = x.route.as_ref().and_then(|r| r.action.app()).map_or(0, |to| to.app.config.id);
        let spool = net.spools.take(owner)?;
        let head = x.out.frame.len() - x.inline_bytes;
        spool::write_all(&spool, &x.out.frame[head..], 0)?;
        spool::write_all(&spool, data, before)?;
        x.out.frame.truncate(head);
        net.inline_bytes -= std::mem::take(&mut x.inline_bytes);
        x.out.body_flags = flag::BODY_SPOOLED;
        x.out.spool = Some(spool);
        Ok(())
    }

    /// Sends the next piece of a streamed body to the worker, as far as the app has asked for it.
    pub(crate) fn stream_body(&mut self, key: u32, buf: &[u8]) -> usize {
        let Some(xkey) = self.net.connections.get(key).and_then(|c| c.exchange) else { return 0 };
        let Some(x) = self.net.exchanges.table.get(xkey) else { return 0 };
        let Some((seat, ticket, generation)) = x.seat() else { return 0 };
        if x.wanted == 0 {
            return 0;
        }
        let room = buf.len().min(x.wanted.min(STREAM_FRAME_BYTES as u64) as usize);
        // Several threads of a worker may have asked for more than the ring holds.
        let Some(w) = self.pools.worker(seat) else { return 0 };
        match w.link.fits(HEADER_BYTES + room) {
            Ok(true) => {}
            Ok(false) => {
                if let Some(c) = self.net.connections.get_mut(key)
                    && !std::mem::replace(&mut c.stuffed, true)
                {
                    self.net.stuffed.push((key, self.net.connections.generation(key)));
                }
                return 0;
            }
            Err(e) => {
                self.distrust(seat, &e);
                return 0;
            }
        }
        let (used, data, end) = match self.body_piece(key, &buf[..room]) {
            Ok(piece) => piece,
            Err(reject) => {
                self.break_body(key, reject.status, Ending::Refused);
                return buf.len();
            }
        };
        if data.is_empty() && !end {
            return used;
        }
        self.net.awaited = true;
        let data = &buf[data];
        let mut total = 0;
        if let Some(c) = self.net.connections.get_mut(key) {
            c.body_bytes += data.len() as u64;
            total = c.body_bytes;
            if end {
                c.deadline_ms = u64::MAX;
            }
        }
        let max = self.body_bytes_max(xkey);
        if max > 0 && total > max {
            self.break_body(key, 413, Ending::Limit);
            return buf.len();
        }
        // While the app has asked for more than has come, it may well be waiting for the client: not its time.
        let mut since = self.net.now_ns;
        if let Some(x) = self.net.exchanges.table.get_mut(xkey) {
            x.wanted = x.wanted.saturating_sub(data.len() as u64);
            x.body_begun = true;
            if x.wanted > 0 && !end {
                since = 0;
            }
        }
        if let Some(w) = self.pools.worker(seat) {
            let flags = if end { flag::END } else { 0 };
            if !w.tell(Kind::Body, flags, ticket, generation, 0, data).unwrap_or(false) {
                self.break_body(key, 502, Ending::AppDied);
                return buf.len();
            }
            w.sign(ticket, since);
        }
        used
    }

    /// The client's body is broken, too slow or too long in mid-stream: the app gets an error, the client `status`
    /// if nothing was sent yet, and no second chance.
    fn break_body(&mut self, key: u32, status: u16, ending: Ending) {
        let Some(c) = self.net.connections.get_mut(key) else { return };
        c.body = BodyRest::None;
        c.close = true;
        c.readable = true;
        let Some(xkey) = c.exchange else { return };
        let Some(x) = self.net.exchanges.table.get(xkey) else { return };
        if let Some((seat, ticket, generation)) = x.seat()
            && let Some(w) = self.pools.worker(seat)
        {
            let _ = w.insist(Kind::Body, flag::ABORTED, ticket, generation);
        }
        if x.head_sent {
            self.net.on_abort(xkey, ending);
        } else {
            self.net.answer_own(xkey, status, Own { close: true, ..Own::default() }, ending);
        }
    }

    /// The client has closed its sending side.
    fn end_of_input(&mut self, key: u32) {
        let Some(c) = self.net.connections.get_mut(key) else { return };
        match c.phase {
            Phase::Head | Phase::Body | Phase::Drain | Phase::Linger | Phase::Frames => {
                self.net.drop_connection(key, Ending::ClientClosed);
            }
            Phase::App if !c.body.is_none() => {
                self.break_body(key, 400, Ending::ClientClosed);
                self.net.drop_connection(key, Ending::ClientClosed);
            }
            Phase::App | Phase::Flush => {}
        }
    }

    /// The request is ready for the app.
    pub(crate) fn submit(&mut self, key: u32, xkey: u32) {
        let now = self.net.now_ns;
        let Some(app) = self.net.exchanges.table.get(xkey).map(|x| usize::from(x.app)) else { return };
        match self.pools.list[app].pool.submit(xkey, &mut self.net.exchanges, now) {
            Submitted::Sent => {}
            Submitted::Queued => {
                if let Some(x) = self.net.exchanges.table.get_mut(xkey) {
                    x.place = Place::Queued;
                }
                self.net.register(key);
                // Who has gone already is not waited for.
                if self.net.connections.get(key).is_some_and(|c| c.peer_closed) {
                    self.net.drop_connection(key, Ending::ClientClosed);
                }
            }
            Submitted::Refused => self.refuse_for_load(xkey),
        }
    }

    pub(crate) fn refuse_for_load(&mut self, xkey: u32) {
        let app = self.net.exchanges.table.get(xkey).map(|x| usize::from(x.app));
        let waits = app.and_then(|app| self.pools.list.get(app)).is_none_or(|p| p.pool.may_wait());
        self.refused_for_load += u64::from(waits);
        let (retry_after, ending) =
            if waits { (1, Ending::Overload) } else { (UNLOADED_RETRY_S, Ending::AppDown) };
        let own = Own { retry_after: Some(retry_after), ..Own::default() };
        self.net.answer_own(xkey, 503, own, ending);
    }

    /// A deadline has passed.
    pub(crate) fn expire(&mut self, key: u32) {
        let Some(c) = self.net.connections.get_mut(key) else { return };
        if c.has_output() {
            // What is sent at the end of this very turn is not late.
            if c.blocked {
                self.net.drop_connection(key, Ending::SendTimeout);
            }
            return;
        }
        match c.phase {
            Phase::Head if c.resume == 0 && c.input.is_empty() => {
                self.net.drop_connection(key, Ending::HeadTimeout);
            }
            Phase::Head => self.net.refuse_as(key, 408, "head.slow", Ending::HeadTimeout),
            // It is the app that does not read on: the client is not to blame.
            Phase::App
                if c.exchange.and_then(|x| self.net.exchanges.table.get(x)).is_none_or(|x| x.wanted == 0) =>
            {
                c.deadline_ms = u64::MAX;
            }
            Phase::Body | Phase::App if !c.body.is_none() => {
                if c.body_bytes - c.body_bytes_then >= BODY_WINDOW_BYTES_MIN {
                    c.body_bytes_then = c.body_bytes;
                    let deadline = self.net.now_ms + BODY_WINDOW_MS;
                    self.net.set_deadline(key, deadline);
                } else if c.phase == Phase::Body {
                    self.net.refuse_as(key, 408, "body.slow", Ending::BodyTimeout);
                } else {
                    self.break_body(key, 408, Ending::BodyTimeout);
                }
            }
            Phase::Drain | Phase::Linger | Phase::Flush => {
                self.net.drop_connection(key, Ending::SendTimeout);
            }
            Phase::Frames => self.expire_session(key),
            Phase::Body | Phase::App => {}
        }
    }
}
