//! The edge's connections and exchanges, and how bytes leave: everything but the workers.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::SendFlags;
use trivet_http::date::Clock;
use trivet_http::h1::{Head, Limits};

use crate::answer::Own;
use crate::compress::Compressors;
use crate::config::Server;
use crate::connection::{AddressText, Connection, FileOut, Phase};
use crate::ending::{Ending, Unused};
use crate::exchange::{Exchange, Exchanges, Place};
use crate::files::Files;
use crate::http2;
use crate::log;
use crate::pools::Seat;
use crate::request_id::RequestIds;
use crate::route::Hosts;
use crate::spool::Spools;
use crate::table::Table;
use crate::tls::Acceptor;

/// A client that takes no byte of its answer for so long is cut.
pub(crate) const WRITE_STALL_MS: u64 = 60_000;
/// How long the end of a closed connection is waited for.
pub(crate) const LINGER_MS: u64 = 2_000;
/// Output buffers larger than this are given back when they are empty.
const OUTPUT_KEPT_BYTES: usize = 16 * 1024;
/// One `sendfile` call sends at most this, so that one download does not hold up the others.
const SENDFILE_BYTES: u64 = 1024 * 1024;
/// One connection sends at most this in one turn of the loop.
const TURN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A file is encrypted by pieces of this size.
const TLS_FILE_BYTES: u64 = 64 * 1024;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) name: String,
    /// `None` once no new connection is wanted.
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) unix: bool,
    /// What its requests are for.
    pub(crate) hosts: Rc<Hosts>,
    /// If it speaks TLS.
    pub(crate) acceptor: Option<Acceptor>,
    /// Its own address; `None` where only the connection can tell.
    pub(crate) local: Option<(AddressText, u16)>,
    pub(crate) paused: bool,
}

/// What a connection token of the epoll set is made of.
pub(crate) fn connection_token(key: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(key)
}

pub(crate) struct Net {
    pub(crate) server: Server,
    pub(crate) limits: Limits,
    pub(crate) epoll: OwnedFd,
    pub(crate) listeners: Vec<Listening>,
    pub(crate) connections: Table<Connection>,
    pub(crate) exchanges: Exchanges,
    pub(crate) now_ns: u64,
    pub(crate) now_ms: u64,
    pub(crate) seconds: u64,
    clock: Clock,
    /// `Date` and `Server`, ready to be appended.
    pub(crate) tail: Vec<u8>,
    pub(crate) out: Vec<u8>,
    pub(crate) copy: Vec<u8>,
    pub(crate) head: Head,
    pub(crate) spools: Spools,
    pub(crate) files: Files,
    pub(crate) ids: RequestIds,
    pub(crate) http2: http2::Shared,
    pub(crate) compressors: Compressors,
    /// What one read of a TLS connection says.
    pub(crate) plain: Vec<u8>,
    /// Request bodies held in memory, and answers that wait for slow clients.
    pub(crate) inline_bytes: usize,
    pub(crate) buffered_bytes: usize,
    /// Connections to be flushed, looked at again, or registered, at the end of the turn.
    pub(crate) corked: Vec<(u32, u32)>,
    pub(crate) again: Vec<(u32, u32)>,
    pub(crate) fresh: Vec<(u32, u32, u8)>,
    /// Connections that could send more but have had their share of this turn.
    pub(crate) yielded: Vec<(u32, u32)>,
    /// The same for reading.
    pub(crate) unread: Vec<(u32, u32)>,
    /// Connections whose body found no space in the worker's ring.
    pub(crate) stuffed: Vec<(u32, u32)>,
    /// Worker, ticket, generation of requests that nobody waits for any more.
    pub(crate) cancels: Vec<(Seat, u16, u32)>,
    /// Queued requests whose client has gone.
    pub(crate) forgotten: Vec<u32>,
    /// Exchanges whose worker may be due more credit.
    pub(crate) credits: Vec<u32>,
    pub(crate) draining: bool,
    /// More than whole answers of apps went through this turn: somebody may be waiting for the edge itself.
    pub(crate) awaited: bool,
    pub(crate) warned_of_forwarding: bool,
    pub(crate) requests: u64,
    pub(crate) unused: Unused,
}

impl Net {
    pub(crate) fn new(server: Server, epoll: OwnedFd, compressors: Compressors) -> Self {
        let now_ns = trivet_wire::monotonic_ns();
        let mut net = Self {
            spools: Spools::new(&server.spool_dir),
            files: Files::new(),
            limits: Limits::default(),
            server,
            epoll,
            listeners: Vec::new(),
            connections: Table::default(),
            exchanges: Exchanges::default(),
            now_ns,
            now_ms: now_ns / 1_000_000,
            seconds: 0,
            clock: Clock::default(),
            tail: Vec::new(),
            out: Vec::with_capacity(4096),
            copy: Vec::with_capacity(4096),
            head: Head::default(),
            ids: RequestIds::new(),
            inline_bytes: 0,
            buffered_bytes: 0,
            corked: Vec::new(),
            again: Vec::new(),
            stuffed: Vec::new(),
            awaited: false,
            http2: http2::Shared::default(),
            compressors,
            plain: Vec::new(),
            fresh: Vec::new(),
            yielded: Vec::new(),
            unread: Vec::new(),
            cancels: Vec::new(),
            forgotten: Vec::new(),
            credits: Vec::new(),
            draining: false,
            warned_of_forwarding: false,
            requests: 0,
            unused: Unused::default(),
        };
        net.read_clocks();
        net
    }

    /// Once a turn.
    #[inline]
    pub(crate) fn read_clocks(&mut self) {
        self.now_ns = trivet_wire::monotonic_ns();
        self.now_ms = self.now_ns / 1_000_000;
        let wall = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec as u64;
        if wall != self.seconds {
            self.seconds = wall;
            self.tail.clear();
            self.tail.extend_from_slice(b"Date: ");
            self.tail.extend_from_slice(self.clock.at(wall));
            self.tail.extend_from_slice(b"\r\nServer: trivet\r\n");
        }
    }

    pub(crate) fn set_deadline(&mut self, key: u32, deadline_ms: u64) {
        if let Some(c) = self.connections.get_mut(key) {
            c.deadline_ms = deadline_ms;
        }
    }

    /// Watches the connection's socket, once and for all.
    pub(crate) fn register(&mut self, key: u32) {
        let generation = self.connections.generation(key);
        let Some(c) = self.connections.get_mut(key) else { return };
        if c.registered {
            return;
        }
        c.registered = true;
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(connection_token(key, generation));
        let Some(socket) = &c.socket else { return };
        if epoll::add(&self.epoll, socket, data, flags).is_err() {
            self.drop_connection(key, Ending::ServerError);
        }
    }

    /// Closes the connection at once. Its exchange, if any, loses its client.
    pub(crate) fn drop_connection(&mut self, key: u32, ending: Ending) {
        let Some(mut c) = self.connections.remove(key) else { return };
        self.buffered_bytes -= c.pending_bytes();
        if c.exchange.is_none() && c.leaving.is_none() && c.stream.is_none() && !c.served {
            self.count_unused(&c, ending);
        }
        // It was handed to the connection, which has not sent so much of it.
        if let Some(x) = c.leaving.or(c.exchange).and_then(|xkey| self.exchanges.table.get_mut(xkey)) {
            x.body_sent = x.body_sent.saturating_sub(c.unsent_bytes());
        }
        if let Some(xkey) = c.leaving {
            self.left(xkey, c.listener, ending);
        }
        if let Some(stream) = c.stream.take() {
            self.drop_stream(key, stream);
        }
        if let Some(session) = c.session.take() {
            self.drop_session(*session, ending);
        }
        // In mid-answer nobody shall take the end for the end of the answer.
        if c.exchange.is_none() {
            last_word(&mut c);
        }
        if let Some(x) = c.exchange {
            self.abandon(x, c.listener, ending);
        }
    }

    /// The exchange's client has gone: nobody waits for its answer.
    fn abandon(&mut self, xkey: u32, listener: usize, ending: Ending) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        if x.connection.take().is_none() {
            return;
        }
        let place = x.place;
        let app = x.app;
        self.log_exchange(xkey, 499, ending, Some(listener));
        match place {
            Place::Here => self.free_exchange(xkey),
            Place::Queued => self.forgotten.push(xkey),
            Place::Sent(worker, ticket, generation) => {
                self.cancels.push((Seat::new(app, worker), ticket, generation));
            }
        }
    }

    /// Connections without any request are in no access log.
    fn count_unused(&mut self, c: &Connection, ending: Ending) {
        if c.session.as_ref().is_some_and(|s| s.has_served()) {
            return;
        }
        if let Some(how) = self.unused.count(ending)
            && self.server.log_debug
        {
            let peer = String::from_utf8_lossy(c.ip_text.as_bytes());
            log::debug("a connection ended without a request", &[("how", &how), ("peer", &peer)]);
        }
    }

    /// Writes the access log's line. `status`: where no head was sent. `ending`: where nothing went wrong before.
    /// `listener`: the connection's.
    pub(crate) fn log_exchange(&mut self, xkey: u32, status: u16, ending: Ending, listener: Option<usize>) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        if std::mem::replace(&mut x.logged, true) {
            return;
        }
        if x.status == 0 {
            x.status = status;
        }
        if x.ending == Ending::Done {
            x.ending = ending;
        }
        // What was refused before anybody knew whose it was belongs to the site of all other hosts.
        let all_others = || Some(&self.listeners[listener?].hosts.all_others()?.about);
        let Some(about) = x.about().or_else(all_others) else { return };
        if let Some(log) = &about.log
            && about.logs(x.status)
            && !x.route.as_ref().is_some_and(|r| r.quiet)
        {
            log.borrow_mut().record(x, self.now_ns, self.seconds);
        }
    }

    /// Forgets the exchange if neither its worker nor its client's connection needs it any more.
    pub(crate) fn free_if_over(&mut self, xkey: u32) {
        let over = |x: &Exchange| x.connection.is_none() && !x.leaving && x.place == Place::Here;
        if self.exchanges.table.get(xkey).is_some_and(over) {
            self.free_exchange(xkey);
        }
    }

    pub(crate) fn free_exchange(&mut self, xkey: u32) {
        let Some(x) = self.exchanges.table.remove(xkey) else { return };
        self.inline_bytes -= x.inline_bytes;
        // One that is away is counted when it comes back.
        if let Some(squeeze) = x.squeeze {
            self.buffered_bytes -= squeeze.held_bytes();
            if squeeze.is_home() {
                self.compressors.ended();
            }
        }
        if let Some(spool) = x.out.spool {
            self.spools.put(spool, x.out.body_bytes);
        }
        self.exchanges.recycle(x.out.frame);
    }

    /// The worker is done with the exchange: it is freed unless its answer is still on the way to the client.
    pub(crate) fn released(&mut self, xkey: u32) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        x.place = Place::Here;
        if x.connection.is_none() {
            self.free_if_over(xkey);
        } else if x.answered && x.squeeze.as_ref().is_some_and(|s| s.has_all()) {
            // The rest of it needs no worker.
        } else if x.head_sent {
            self.on_abort(xkey, Ending::AppError);
        } else {
            // Done without an answer: whatever that was, the client must not wait for it.
            self.answer_own(xkey, 500, Own { close: true, ..Own::default() }, Ending::AppError);
        }
    }

    /// Sends bytes, or keeps what the socket does not take. `cork`: more follows in this turn. `false`: the
    /// connection is gone.
    #[inline]
    pub(crate) fn write(&mut self, key: u32, parts: &[&[u8]], cork: bool) -> bool {
        let Some(c) = self.connections.get_mut(key) else { return false };
        if let Some(tls) = &mut c.tls {
            forget_sent(&mut c.output, &mut c.output_at);
            let before = c.output.len();
            tls.put(parts, &mut c.output);
            self.buffered_bytes += c.output.len() - before;
            self.flush_later(key);
            return true;
        }
        if c.blocked || c.file.is_some() || cork || c.stream.is_some() {
            forget_sent(&mut c.output, &mut c.output_at);
            let before = c.output.len();
            for part in parts {
                c.output.extend_from_slice(part);
            }
            self.buffered_bytes += c.output.len() - before;
            self.flush_later(key);
            return true;
        }
        let Some(socket) = &c.socket else { return false };
        let pending = c.pending_bytes();
        let total = pending + parts.iter().map(|p| p.len()).sum::<usize>();
        let sent = if pending == 0 && parts.len() == 1 {
            let more = if c.last { SendFlags::MORE } else { SendFlags::empty() };
            rustix::net::send(socket, parts[0], SendFlags::NOSIGNAL | more)
        } else {
            let mut slices = [IoSlice::new(&[]); 6];
            slices[0] = IoSlice::new(&c.output[c.output_at..]);
            for (slice, part) in slices[1..].iter_mut().zip(parts) {
                *slice = IoSlice::new(part);
            }
            rustix::io::writev(socket, &slices[..=parts.len()])
        };
        let mut sent = match sent {
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.drop_connection(key, Ending::ClientClosed);
                return false;
            }
        };
        if sent == total {
            if pending > 0 {
                self.buffered_bytes -= pending;
                clear_output(c);
            }
            return true;
        }
        c.blocked = true;
        if sent >= pending {
            sent -= pending;
            self.buffered_bytes -= pending;
            clear_output(c);
        } else {
            c.output_at += sent;
            self.buffered_bytes -= sent;
            sent = 0;
        }
        for part in parts {
            let skip = sent.min(part.len());
            sent -= skip;
            c.output.extend_from_slice(&part[skip..]);
            self.buffered_bytes += part.len() - skip;
        }
        let deadline = self.now_ms + WRITE_STALL_MS;
        self.register(key);
        self.set_deadline(key, deadline);
        self.connections.get(key).is_some()
    }

    /// What waits is sent at the end of the turn, unless the socket takes nothing anyway.
    pub(crate) fn flush_later(&mut self, key: u32) {
        let generation = self.connections.generation(key);
        if let Some(c) = self.connections.get_mut(key)
            && !c.blocked
            && !c.corked
        {
            c.corked = true;
            self.corked.push((key, generation));
        }
    }

    /// Puts a file behind what waits to be sent.
    pub(crate) fn write_file(&mut self, key: u32, file: FileOut) -> bool {
        let Some(c) = self.connections.get_mut(key) else { return false };
        debug_assert!(c.file.is_none(), "one file at a time");
        c.file = Some(file);
        if c.stream.is_some() {
            self.flush_later(key);
            return true;
        }
        if c.blocked { true } else { self.flush(key) }
    }

    /// Sends what waits. `false`: the connection is gone.
    pub(crate) fn flush(&mut self, key: u32) -> bool {
        let mut turn_bytes = 0;
        loop {
            let Some(c) = self.connections.get_mut(key) else { return false };
            let Some(socket) = &c.socket else { return self.push_stream(key) };
            if c.pending_bytes() > 0 {
                let follows = c.file.as_ref().is_some_and(|f| f.left > 0 || !f.after.is_empty());
                let more = if follows { SendFlags::MORE } else { SendFlags::empty() };
                match rustix::net::send(socket, &c.output[c.output_at..], SendFlags::NOSIGNAL | more) {
                    Ok(n) => {
                        c.output_at += n;
                        self.buffered_bytes -= n;
                        if c.pending_bytes() == 0 {
                            clear_output(c);
                        }
                        c.blocked = false;
                        // Before and during a request others than the answer's reader set the pace.
                        if matches!(c.phase, Phase::App | Phase::Flush | Phase::Frames) {
                            c.deadline_ms = self.now_ms + WRITE_STALL_MS;
                        }
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return self.wait_writable(key),
                    Err(_) => {
                        self.drop_connection(key, Ending::ClientClosed);
                        return false;
                    }
                }
                continue;
            }
            let Some(file) = &mut c.file else {
                c.blocked = false;
                return true;
            };
            if file.left == 0 {
                let after = file.after;
                c.file = None;
                match &mut c.tls {
                    Some(tls) if !after.is_empty() => tls.put(&[after], &mut c.output),
                    _ => c.output.extend_from_slice(after),
                }
                self.buffered_bytes += c.output.len();
                continue;
            }
            if turn_bytes >= TURN_BYTES_MAX {
                c.blocked = true;
                c.yielded = true;
                self.yielded.push((key, self.connections.generation(key)));
                return true;
            }
            if let Some(tls) = &mut c.tls {
                let count = file.left.min(TLS_FILE_BYTES) as usize;
                self.plain.resize(count, 0);
                match rustix::io::pread(&*file.file, &mut self.plain[..count], file.offset) {
                    Ok(n) if n > 0 => {
                        file.offset += n as u64;
                        file.left -= n as u64;
                        turn_bytes += n as u64;
                        tls.put(&[&self.plain[..n]], &mut c.output);
                        self.buffered_bytes += c.output.len();
                    }
                    Err(Errno::INTR) => {}
                    Ok(_) | Err(_) => {
                        self.cut(key, Ending::CutShort);
                        return false;
                    }
                }
                continue;
            }
            let count = file.left.min(SENDFILE_BYTES) as usize;
            match rustix::fs::sendfile(socket, &file.file, Some(&mut file.offset), count) {
                Ok(0) => {
                    // The file is shorter than it was: never pad, never pretend (where the end of the connection
                    // is the end of the body, only a reset tells).
                    self.cut(key, Ending::CutShort);
                    return false;
                }
                Ok(n) => {
                    file.left -= n as u64;
                    turn_bytes += n as u64;
                    c.blocked = false;
                    c.deadline_ms = self.now_ms + WRITE_STALL_MS;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return self.wait_writable(key),
                Err(_) => {
                    self.drop_connection(key, Ending::ClientClosed);
                    return false;
                }
            }
        }
    }

    fn wait_writable(&mut self, key: u32) -> bool {
        self.awaited = true;
        let Some(c) = self.connections.get_mut(key) else { return false };
        c.blocked = true;
        let answering = matches!(c.phase, Phase::App | Phase::Flush | Phase::Frames);
        self.register(key);
        if answering {
            let deadline = self.now_ms + WRITE_STALL_MS;
            self.set_deadline(key, deadline);
        }
        self.connections.get(key).is_some()
    }

    /// After an answer is complete (or refused): on to the next request, or to the end of the connection.
    pub(crate) fn next_request(&mut self, key: u32) {
        let generation = self.connections.generation(key);
        let draining = self.draining;
        let now_ms = self.now_ms;
        let keep_alive_ms = self.server.keep_alive_ms;
        let Some(c) = self.connections.get_mut(key) else { return };
        if c.stream.is_some() {
            self.end_stream(key);
            return;
        }
        if c.close
            && c.file.is_none()
            && let Some(tls) = &mut c.tls
        {
            // TLS's own word for the end goes behind the answer.
            let before = c.output.len();
            tls.close(&mut c.output);
            self.buffered_bytes += c.output.len() - before;
        }
        if c.has_output() {
            c.phase = Phase::Flush;
            self.flush_later(key);
            return;
        }
        if c.close {
            // Else the answer could be lost to a reset.
            if c.close_is_plain() {
                self.drop_connection(key, Ending::Done);
                return;
            }
            let write = rustix::net::Shutdown::Write;
            if c.socket.as_ref().is_none_or(|socket| rustix::net::shutdown(socket, write).is_err()) {
                self.drop_connection(key, Ending::Done);
                return;
            }
            c.phase = Phase::Linger;
            c.input = Vec::new();
            self.register(key);
            self.set_deadline(key, now_ms + LINGER_MS);
            self.again.push((key, generation));
            return;
        }
        if !c.body.is_none() {
            c.phase = Phase::Drain;
            c.body_bytes = 0;
            self.set_deadline(key, now_ms + LINGER_MS);
            self.again.push((key, generation));
            return;
        }
        if c.tls.is_some() && c.peer_closed && c.input.is_empty() {
            // The client's word that nothing follows came with its last request.
            self.drop_connection(key, Ending::Done);
            return;
        }
        c.phase = Phase::Head;
        let idle = now_ms + if draining { keep_alive_ms.min(LINGER_MS) } else { keep_alive_ms };
        c.deadline_ms = idle;
        if !c.input.is_empty() || c.readable {
            self.again.push((key, generation));
        }
    }

    /// Makes a new exchange of a connection.
    pub(crate) fn exchange(&mut self, key: u32) -> u32 {
        let frame = self.exchanges.spare();
        let xkey = self.exchanges.table.insert(Exchange::new(frame, key, self.now_ns));
        if let Some(c) = self.connections.get_mut(key) {
            c.exchange = Some(xkey);
            c.served = true;
        }
        self.requests += 1;
        xkey
    }

    /// Cuts the connection so that nobody takes what was sent for the whole.
    pub(crate) fn cut(&mut self, key: u32, ending: Ending) {
        if let Some(c) = self.connections.get_mut(key) {
            c.tls = None;
            match &c.socket {
                Some(socket) => {
                    let at_once = Some(std::time::Duration::ZERO);
                    let _ = rustix::net::sockopt::set_socket_linger(socket, at_once);
                }
                None => self.reset_stream(key),
            }
        }
        self.drop_connection(key, ending);
    }
}

/// TLS's own word that nothing follows, without which a client cannot tell an end from a cut. Whether it arrives
/// changes nothing for us.
fn last_word(c: &mut Connection) {
    if c.has_output() {
        return;
    }
    if let Some(tls) = &mut c.tls {
        tls.close(&mut c.output);
        if !c.output.is_empty() {
            if let Some(socket) = &c.socket {
                let _ = rustix::net::send(socket, &c.output, SendFlags::NOSIGNAL);
            }
            c.output.clear();
        }
    }
}

/// A client that is never quite up to date must not keep all that it has got.
fn forget_sent(output: &mut Vec<u8>, at: &mut usize) {
    if *at > OUTPUT_KEPT_BYTES && *at >= output.len() / 2 {
        output.drain(..*at);
        *at = 0;
    }
}

fn clear_output(c: &mut Connection) {
    c.output_at = 0;
    c.output.clear();
    if c.output.capacity() > OUTPUT_KEPT_BYTES {
        c.output = Vec::new();
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net")
            .field("connections", &self.connections.len())
            .field("epoll", &self.epoll.as_fd())
            .finish_non_exhaustive()
    }
}
