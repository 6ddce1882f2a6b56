//! One request of a session: a connection without a socket, whose bytes come and go as DATA frames.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use rustix::io::Errno;
use trivet_http::h1::{Parsed, Reject};

use super::{QUEUE_BYTES_MAX, STREAM_QUEUE_BYTES_MAX, request, watch};
use crate::connection::{BodyRest, Connection, Phase};
use crate::edge::Edge;
use crate::ending::Ending;
use crate::files::{Content, Representation};
use crate::net::{Net, WRITE_STALL_MS};
use crate::pipeline;

/// A connection's half that is HTTP/2's.
pub(crate) struct Stream {
    /// The connection that it is a stream of.
    parent: u32,
    /// That one's bytes are encrypted.
    pub(crate) secure: bool,
    respond: SendResponse<Bytes>,
    /// Once the head has gone.
    send: Option<SendStream<Bytes>>,
    /// `None`: the request has no body.
    body: Option<RecvStream>,
    /// The answer's head, which leaves with the first bytes of the body, or with its end.
    pub(crate) head: Option<Response<()>>,
    /// Of a file in memory: what is still to be sent of it, by reference, because a client may ask for it on many
    /// streams and take it on none.
    kept: Option<Kept>,
    /// Nothing follows what waits.
    end: bool,
}

struct Kept {
    file: Rc<Representation>,
    at: usize,
    end: usize,
}

impl Stream {
    /// Puts a part of a file in memory behind what waits.
    pub(crate) fn keep(&mut self, file: &Rc<Representation>, start: u64, length: u64) {
        if length > 0 {
            self.kept = Some(Kept { file: file.clone(), at: start as usize, end: (start + length) as usize });
        }
    }

    /// The connection that it is a stream of.
    pub(super) fn parent(&self) -> u32 {
        self.parent
    }

    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |k| k.end - k.at)
    }

    pub(crate) fn has_kept(&self) -> bool {
        self.kept.is_some()
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("parent", &self.parent).finish_non_exhaustive()
    }
}

/// Streams about which the machine has news, and what it calls to say so.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    woken: Arc<Mutex<Vec<u32>>>,
    /// By key. A stream that has gone may be woken by an old one: its successor looks in vain.
    wakers: Vec<Option<Waker>>,
}

#[derive(Debug)]
struct Bell {
    key: u32,
    woken: Arc<Mutex<Vec<u32>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
    }
}

impl Wakes {
    fn waker(&mut self, key: u32) -> &Waker {
        let at = key as usize;
        if self.wakers.len() <= at {
            self.wakers.resize(at + 1, None);
        }
        let woken = &self.woken;
        self.wakers[at].get_or_insert_with(|| Waker::from(Arc::new(Bell { key, woken: woken.clone() })))
    }

    fn take(&mut self) -> Vec<u32> {
        std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Net {
    /// Hands to the machine what the windows allow: head, bytes, file, end. `false`: the stream is gone (it may be
    /// complete).
    pub(crate) fn push_stream(&mut self, key: u32) -> bool {
        loop {
            let Some(c) = self.connections.get_mut(key) else { return false };
            let Some(stream) = &mut c.stream else { return false };
            let parent = stream.parent;
            let pending = c.output.len() - c.output_at;
            let kept = stream.kept.as_ref().map_or(0, |k| k.end - k.at);
            let file_left = c.file.as_ref().map_or(0, |f| f.left);
            let nothing = pending == 0 && kept == 0 && file_left == 0;
            if let Some(head) = stream.head.take() {
                let whole = stream.end && nothing;
                let Ok(send) = stream.respond.send_response(head, whole) else {
                    self.drop_connection(key, Ending::Reset);
                    return false;
                };
                stream.send = Some(send);
                self.session_due(parent);
                if whole {
                    self.finish_stream(key);
                    return false;
                }
                continue;
            }
            let Some(send) = &mut stream.send else { return true };
            if nothing {
                c.file = None;
                c.blocked = false;
                if !stream.end {
                    return true;
                }
                let done = send.send_data(Bytes::new(), true);
                self.session_due(parent);
                if done.is_ok() {
                    self.finish_stream(key);
                } else {
                    self.drop_connection(key, Ending::Reset);
                }
                return false;
            }
            let want = match (pending, kept) {
                (0, 0) => usize::try_from(file_left).unwrap_or(usize::MAX),
                (0, kept) => kept,
                (pending, _) => pending,
            };
            let want = want.min(STREAM_QUEUE_BYTES_MAX);
            if !self.may_queue(parent, key) {
                return true;
            }
            // Looked up again: the parent was in between.
            let Some(c) = self.connections.get_mut(key) else { return false };
            let Some(Stream { send: Some(send), kept, end, .. }) = c.stream.as_deref_mut() else {
                return false;
            };
            send.reserve_capacity(want);
            let room = send.capacity().min(want);
            if room == 0 {
                let mut context = Context::from_waker(self.http2.wakes.waker(key));
                match send.poll_capacity(&mut context) {
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(None | Some(Err(_))) => {
                        self.drop_connection(key, Ending::Reset);
                        return false;
                    }
                    Poll::Pending => {
                        self.awaited = true;
                        c.blocked = true;
                        c.deadline_ms = self.now_ms + WRITE_STALL_MS;
                        return true;
                    }
                }
            }
            let piece = if pending > 0 {
                self.buffered_bytes -= room;
                take_piece(&mut c.output, &mut c.output_at, room)
            } else if let Some(part) = kept {
                let Content::Memory(bytes) = &part.file.content else { return true };
                let piece = Bytes::copy_from_slice(&bytes[part.at..part.at + room]);
                part.at += room;
                if part.at == part.end {
                    *kept = None;
                }
                piece
            } else {
                let Some(file) = &mut c.file else { return true };
                let mut piece = vec![0; room];
                match rustix::io::pread(&*file.file, &mut piece[..], file.offset) {
                    Ok(n) if n > 0 => {
                        piece.truncate(n);
                        file.offset += n as u64;
                        file.left -= n as u64;
                        Bytes::from(piece)
                    }
                    Err(Errno::INTR) => continue,
                    // The file is shorter than it was: never pad, never pretend.
                    Ok(_) | Err(_) => {
                        self.cut(key, Ending::CutShort);
                        return false;
                    }
                }
            };
            let last =
                *end && c.output.is_empty() && kept.is_none() && c.file.as_ref().is_none_or(|f| f.left == 0);
            let bytes = piece.len();
            c.blocked = false;
            if c.deadline_ms != u64::MAX {
                c.deadline_ms = self.now_ms + WRITE_STALL_MS;
            }
            if send.send_data(piece, last).is_err() {
                self.drop_connection(key, Ending::Reset);
                return false;
            }
            if let Some(session) = self.session(parent) {
                session.queued += bytes;
                session.watch.useful(bytes as u64);
            }
            self.session_due(parent);
            if last {
                self.finish_stream(key);
                return false;
            }
        }
    }

    /// Whether the machine should get more before the socket has taken what it has. If not, the stream waits.
    fn may_queue(&mut self, parent: u32, key: u32) -> bool {
        let Some(p) = self.connections.get_mut(parent) else { return false };
        let Some(session) = &mut p.session else { return false };
        if !p.blocked && session.queued < QUEUE_BYTES_MAX {
            return true;
        }
        session.waiting.push(key);
        if let Some(c) = self.connections.get_mut(key) {
            c.blocked = true;
            // It is the whole connection that is slow, and has a deadline for that.
            c.deadline_ms = u64::MAX;
        }
        self.awaited = true;
        false
    }

    /// The answer is complete but for what waits.
    pub(crate) fn end_stream(&mut self, key: u32) {
        let Some(c) = self.connections.get_mut(key) else { return };
        c.phase = Phase::Flush;
        if let Some(stream) = &mut c.stream {
            stream.end = true;
        }
        if !c.blocked {
            self.push_stream(key);
        }
    }

    /// The machine has everything. Should the client still be sending, it hears that nobody listens.
    fn finish_stream(&mut self, key: u32) {
        let now_ms = self.now_ms;
        let Some(c) = self.connections.remove(key) else { return };
        self.buffered_bytes -= c.pending_bytes();
        if let Some(xkey) = c.leaving {
            self.left(xkey, c.listener, Ending::Done);
        }
        let Some(stream) = c.stream else { return };
        self.http2.streams -= 1;
        if let Some(session) = self.session(stream.parent) {
            session.forget(key, now_ms);
            session.watch.earn(watch::ANSWERED);
        }
    }

    /// A stream's entry was removed before its end.
    pub(crate) fn drop_stream(&mut self, key: u32, mut stream: Box<Stream>) {
        stream.respond.send_reset(Reason::CANCEL);
        self.http2.streams -= 1;
        let now_ms = self.now_ms;
        if let Some(session) = self.session(stream.parent) {
            session.forget(key, now_ms);
        }
        self.session_due(stream.parent);
    }

    /// The answer cannot be finished: what there is of it leaves, then the stream is reset.
    pub(crate) fn break_stream(&mut self, key: u32) {
        let alive = self.push_stream(key);
        let Some(c) = self.connections.get_mut(key) else { return };
        debug_assert!(alive, "only what is complete is finished");
        c.phase = Phase::Flush;
        c.body = BodyRest::None;
        let Some(parent) = c.stream.as_ref().map(|s| s.parent) else { return };
        if let Some(session) = self.session(parent) {
            session.broken.push(key);
        }
        self.session_due(parent);
    }

    /// Tells the client at once that the answer is not whole; what waits is lost.
    pub(crate) fn reset_stream(&mut self, key: u32) {
        if let Some(stream) = self.connections.get_mut(key).and_then(|c| c.stream.as_mut()) {
            stream.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    /// The machine has written what it could of a broken answer.
    pub(super) fn reset_broken(&mut self, parent: u32, key: u32) {
        if self.connections.get(key).and_then(|c| c.stream.as_ref()).is_some_and(|s| s.parent == parent) {
            self.reset_stream(key);
            // Of its request all has been told.
            self.drop_connection(key, Ending::Done);
        }
    }

    /// The socket has taken everything: those that waited for it go on.
    pub(super) fn resume_stream(&mut self, parent: u32, key: u32) {
        let Some(c) = self.connections.get_mut(key) else { return };
        if c.stream.as_ref().is_none_or(|s| s.parent != parent) {
            return;
        }
        c.blocked = false;
        if c.phase == Phase::Flush {
            c.deadline_ms = self.now_ms + WRITE_STALL_MS;
        }
        if let Some(xkey) = c.exchange {
            self.credits.push(xkey);
        }
        self.push_stream(key);
    }

    /// Sends an informational head.
    pub(crate) fn inform(&mut self, key: u32, head: Response<()>) {
        let Some(stream) = self.connections.get_mut(key).and_then(|c| c.stream.as_mut()) else { return };
        let parent = stream.parent;
        // What cannot be sent any more is missed by nobody.
        let _ = stream.respond.send_informational(head);
        self.session_due(parent);
    }
}

/// The first `room` bytes of what waits, without copying where that is all.
fn take_piece(output: &mut Vec<u8>, at: &mut usize, room: usize) -> Bytes {
    if *at == 0 && room == output.len() {
        return Bytes::from(std::mem::take(output));
    }
    let piece = Bytes::copy_from_slice(&output[*at..*at + room]);
    *at += room;
    if *at == output.len() {
        *at = 0;
        *output = Vec::new();
    }
    piece
}

impl Edge {
    /// A request has come.
    pub(super) fn begin_stream(
        &mut self,
        parent: u32,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) {
        let (parts, body) = request.into_parts();
        let body = (!body.is_end_stream()).then_some(body);
        let mut text = std::mem::take(&mut self.net.http2.text);
        let sane = request::write_head(&parts, body.is_some(), &mut text);
        drop(parts);
        let Some(p) = self.net.connections.get(parent) else { return };
        let secure = p.tls.is_some();
        let stream = Stream { parent, secure, respond, send: None, body, head: None, kept: None, end: false };
        let c = Connection::of_stream(p, Box::new(stream));
        let key = self.net.connections.insert(c);
        self.net.http2.streams += 1;
        let generation = self.net.connections.generation(key);
        if let Some(session) = self.net.session(parent) {
            session.streams.push(key);
            session.served = true;
        }
        let mut resume = 0;
        match self.net.head.parse(&text, &self.net.limits, &mut resume) {
            _ if !sane => self.net.refuse(key, 400, "http2.pseudo"),
            Ok(Parsed::Complete) => {
                pipeline::begin(self, key, &text);
            }
            Ok(Parsed::Partial) => self.net.refuse(key, 400, "head.partial"),
            Err(Reject { status, reason }) => self.net.refuse(key, status, reason),
        }
        self.net.http2.text = text;
        if self.net.connections.is(key, generation) {
            self.serve_stream(key);
        }
    }

    /// Looks after all streams about which there is news.
    pub(super) fn wake_streams(&mut self) {
        for key in self.net.http2.wakes.take() {
            if self.net.connections.get(key).is_some_and(|c| c.stream.is_some()) {
                self.serve_stream(key);
            }
        }
    }

    /// Takes what has come for a stream and is wanted, sends what can be sent, and notices when its client has gone.
    pub(crate) fn serve_stream(&mut self, key: u32) {
        let net = &mut self.net;
        let Some(c) = net.connections.get_mut(key) else { return };
        let Some(stream) = &mut c.stream else { return };
        let mut context = Context::from_waker(net.http2.wakes.waker(key));
        let reset = match &mut stream.send {
            Some(send) => send.poll_reset(&mut context),
            None => stream.respond.poll_reset(&mut context),
        };
        if reset.is_ready() {
            net.drop_connection(key, Ending::Reset);
            return;
        }
        if c.blocked && c.has_output() {
            // Whoever waits for the socket is called when that is free.
            let waits_for_socket = c.deadline_ms == u64::MAX;
            if !waits_for_socket {
                c.blocked = false;
                if let Some(xkey) = c.exchange {
                    net.credits.push(xkey);
                }
                if !net.push_stream(key) {
                    return;
                }
            }
        }
        self.pull(key);
    }

    /// Takes as much of a stream's body as is wanted now.
    fn pull(&mut self, key: u32) {
        loop {
            let Some(c) = self.net.connections.get_mut(key) else { return };
            let wanted = match c.phase {
                Phase::Body => !c.body.is_none(),
                Phase::App => {
                    !c.body.is_none()
                        && c.exchange
                            .and_then(|x| self.net.exchanges.table.get(x))
                            .is_some_and(|x| x.wanted > 0)
                }
                _ => false,
            };
            if !wanted || c.stuffed {
                return;
            }
            if !c.input.is_empty() {
                let before = c.input.len();
                self.feed(key, &[]);
                if self.net.connections.get(key).is_some_and(|c| c.input.len() == before) {
                    return;
                }
                continue;
            }
            if matches!(c.body, BodyRest::Length(0)) {
                self.end_of_data(key);
                return;
            }
            let Some(stream) = &mut c.stream else { return };
            let Some(body) = &mut stream.body else { return };
            let parent = stream.parent;
            let mut context = Context::from_waker(self.net.http2.wakes.waker(key));
            match body.poll_data(&mut context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(data))) => {
                    let _ = body.flow_control().release_capacity(data.len());
                    if body.is_end_stream() && matches!(c.body, BodyRest::Data) {
                        c.body = BodyRest::Length(data.len() as u64);
                    }
                    self.net.session_due(parent);
                    if !data.is_empty() {
                        self.feed(key, &data);
                    }
                }
                Poll::Ready(None) if matches!(c.body, BodyRest::Data) => c.body = BodyRest::Length(0),
                // Reset, or of another length than it should have.
                Poll::Ready(Some(Err(e))) if e.is_remote() => {
                    self.net.drop_connection(key, Ending::Reset);
                    return;
                }
                Poll::Ready(None | Some(Err(_))) => {
                    self.net.drop_connection(key, Ending::Refused);
                    return;
                }
            }
        }
    }

    /// The end of a body came by itself, behind the last of its bytes.
    fn end_of_data(&mut self, key: u32) {
        let Some(c) = self.net.connections.get(key) else { return };
        if c.phase == Phase::Body {
            self.take_body(key, &[]);
        } else {
            self.stream_body(key, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_taken_in_order_and_leave_nothing_behind() {
        let (mut output, mut at) = (b"hello world".to_vec(), 0);
        assert_eq!(take_piece(&mut output, &mut at, 5), "hello");
        assert_eq!(at, 5);
        assert_eq!(take_piece(&mut output, &mut at, 6), " world");
        assert!(output.is_empty() && at == 0);
        output.extend_from_slice(b"all");
        assert_eq!(take_piece(&mut output, &mut at, 3), "all");
        assert_eq!((output.capacity(), at), (0, 0));
    }
}
