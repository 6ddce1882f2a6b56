//! Answers: what the workers send, as HTTP/1.1 to the client; and those that the edge gives by itself.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use trivet_http::h1::Version;
use trivet_http::h1::response::{self, ResponseName};
use trivet_wire::frame::{FrameHeader, Malformed, Response, UNKNOWN, flag};

use crate::config::Page;
use crate::connection::{BodyRest, FileOut, Phase};
use crate::cors;
use crate::ending::Ending;
use crate::exchange::{Exchange, Framing, Place};
use crate::http2::Fields;
use crate::internal;
use crate::log;
use crate::net::Net;
use crate::receive::DRAIN_BYTES_MAX;
use crate::route::Edit;
use crate::squeeze::{Recoded, Squeeze};

/// An answer's head and a body up to this leave in one buffer; a larger body leaves from where it is.
pub(crate) const JOINED_BODY_BYTES: usize = 8 * 1024;
/// Pieces of a body up to this wait for the end of the turn, so that many of them leave by one call.
const CORKED_BODY_BYTES: usize = 4 * 1024;

/// Fields of an answer that the edge gives by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own<'a> {
    pub(crate) retry_after: Option<u32>,
    /// Instead of the usual text, as plain text.
    pub(crate) body: Option<&'a str>,
    /// Instead of the usual text.
    pub(crate) page: Option<&'a Page>,
    /// No further request on this connection.
    pub(crate) close: bool,
    /// Further field lines, each with its end.
    pub(crate) fields: &'a [u8],
}

impl Net {
    /// Begins and ends the answer with a page of the edge's own. The exchange is over for its client. `ending`: why the
    /// edge answers.
    pub(crate) fn answer_own(&mut self, xkey: u32, status: u16, own: Own<'_>, ending: Ending) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        let Some(key) = x.connection else { return };
        self.awaited = true;
        let draining = self.draining;
        let Some(c) = self.connections.get_mut(key) else { return };
        // Who still waits for `100 Continue` may send the body or not: what comes next would be anybody's guess.
        c.close |= own.close || draining || !x.keep_alive || x.owes_continue;
        x.status = status;
        x.ending = ending;
        x.head_sent = true;
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let text;
        let about = x.about().cloned();
        let page = own.page.or_else(|| {
            if own.body.is_some() {
                None
            } else {
                about.as_deref().and_then(|about| about.error_page(status))
            }
        });
        let media = page.map_or("text/plain; charset=utf-8", |page| &page.media);
        let bodiless = response::is_bodiless(status);
        // RFC 9110 §15.3.6: a 205 has no content either, and says so.
        let body = if bodiless || status == 205 {
            ""
        } else if let Some(page) = page {
            &page.body
        } else if let Some(body) = own.body {
            body
        } else {
            let id = String::from_utf8_lossy(x.request_id());
            let about = if id.is_empty() { String::new() } else { format!("request id: {id}\n") };
            text = format!("{status} {}\n{about}", response::reason(status));
            &text
        };
        if let Some(stream) = &mut c.stream {
            let content = (media, body.len());
            stream.head =
                Some(self.http2.own_head(x, stream.secure, content, &own, &self.tail, self.seconds));
            if !x.is_head {
                c.output.extend_from_slice(body.as_bytes());
                self.buffered_bytes += body.len();
                x.body_sent = body.len() as u64;
            }
            self.out = out;
            self.complete(xkey);
            return;
        }
        response::status_line(&mut out, Version::Http11, status, None);
        let edit = x.edit();
        let mut given = 0;
        let passes = |name: &[u8], given: &mut u64| edit.is_none_or(|edit| edit.passes(name, given));
        if !bodiless {
            if passes(b"content-type", &mut given) {
                field(&mut out, b"Content-Type", media.as_bytes());
            }
            content_length(&mut out, body.len() as u64);
        }
        if let Some(seconds) = own.retry_after
            && passes(b"retry-after", &mut given)
        {
            out.extend_from_slice(b"Retry-After: ");
            out.extend_from_slice(response::decimal(seconds.into(), &mut [0; 20]));
            out.extend_from_slice(b"\r\n");
        }
        edited_lines(&mut out, own.fields, edit, &mut given);
        out.extend_from_slice(tail(&self.tail, edit));
        if !x.request_id().is_empty() && passes(b"x-request-id", &mut given) {
            field(&mut out, b"X-Request-Id", x.request_id());
        }
        further_fields(&mut out, x, given, c.is_secure());
        connection_field(&mut out, c.close, x.http_1_0);
        out.extend_from_slice(b"\r\n");
        if !x.is_head {
            out.extend_from_slice(body.as_bytes());
            x.body_sent = body.len() as u64;
        }
        let alive = self.write(key, &[&out], false);
        self.out = out;
        if alive {
            self.complete(xkey);
        }
    }

    /// Refuses a request that could not be read (or must not be): answers and closes.
    pub(crate) fn refuse(&mut self, key: u32, status: u16, reason: &'static str) {
        self.refuse_as(key, status, reason, Ending::of_refusal(status));
    }

    pub(crate) fn refuse_as(&mut self, key: u32, status: u16, reason: &'static str, ending: Ending) {
        let xkey = match self.connections.get(key).and_then(|c| c.exchange) {
            Some(xkey) => xkey,
            None => self.exchange(key),
        };
        if self.server.log_debug {
            let peer = self
                .connections
                .get(key)
                .map(|c| String::from_utf8_lossy(c.ip_text.as_bytes()).into_owned())
                .unwrap_or_default();
            log::debug("refused a request", &[("status", &status), ("reason", &reason), ("peer", &peer)]);
        }
        if let Some(c) = self.connections.get_mut(key) {
            // What follows cannot be told from a body: it must never be read as a request.
            c.readable = true;
        }
        self.answer_own(xkey, status, Own { close: true, ..Own::default() }, ending);
    }

    /// The answer is complete: logs it (once the client has been sent all of it), lets the connection go on.
    pub(crate) fn complete(&mut self, xkey: u32) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        let Some(key) = x.connection.take() else { return };
        let Some(c) = self.connections.get_mut(key) else { return self.free_if_over(xkey) };
        c.exchange = None;
        // A stream of HTTP/2 has at least its head to send.
        if c.stream.is_some() || c.has_output() {
            x.leaving = true;
            c.leaving = Some(xkey);
        } else {
            let (listener, over) = (c.listener, x.place == Place::Here);
            self.log_exchange(xkey, 0, Ending::Done, Some(listener));
            if over {
                self.free_exchange(xkey);
            }
        }
        self.next_request(key);
    }

    /// What was to be sent of a complete answer is sent, or never will be: logs it.
    pub(crate) fn left(&mut self, xkey: u32, listener: usize, ending: Ending) {
        self.log_exchange(xkey, 0, ending, Some(listener));
        if let Some(x) = self.exchanges.table.get_mut(xkey) {
            x.leaving = false;
        }
        self.free_if_over(xkey);
    }

    /// Sends `100 Continue` if the client still waits for it.
    pub(crate) fn continue_if_owed(&mut self, xkey: u32) -> bool {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return false };
        if !std::mem::take(&mut x.owes_continue) || x.head_sent {
            return true;
        }
        let Some(key) = x.connection else { return false };
        if x.http_2 {
            self.inform(key, Fields::default().head(100));
            return true;
        }
        self.write(key, &[b"HTTP/1.1 100 Continue\r\n\r\n"], false)
    }

    /// An informational head from the app.
    pub(crate) fn on_informational(&mut self, xkey: u32, payload: &[u8]) -> Result<(), Malformed> {
        let mut copy = std::mem::take(&mut self.copy);
        copy.clear();
        copy.extend_from_slice(payload);
        let parsed = Response::parse(&copy);
        if let (Ok(r), Some(x)) = (&parsed, self.exchanges.table.get(xkey))
            && let Some(key) = x.connection
            && !x.head_sent
            && !x.http_1_0
            && (102..200).contains(&r.status)
        {
            let mut fields = Fields::default();
            let http_2 = x.http_2;
            let mut out = std::mem::take(&mut self.out);
            out.clear();
            response::status_line(&mut out, Version::Http11, r.status, Some(r.reason));
            for (name, value) in r.fields() {
                if response::valid_name(name)
                    && response::valid_value(value)
                    && response::response_name(name) == ResponseName::Other
                {
                    if http_2 {
                        fields.field(name, value);
                    } else {
                        field(&mut out, name, value);
                    }
                }
            }
            if http_2 {
                self.inform(key, fields.head(r.status));
            } else {
                out.extend_from_slice(b"\r\n");
                self.write(key, &[&out], false);
            }
            self.out = out;
        }
        let result = parsed.map(drop);
        self.copy = copy;
        result
    }

    /// The answer's head. The payload is shared memory: it is copied once and only the copy is read.
    pub(crate) fn on_head(
        &mut self,
        xkey: u32,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<(), Malformed> {
        let mut copy = std::mem::take(&mut self.copy);
        copy.clear();
        copy.extend_from_slice(payload);
        let result = self.head_from(xkey, header, &copy);
        self.copy = copy;
        result
    }

    #[inline]
    fn head_from(&mut self, xkey: u32, header: FrameHeader, payload: &[u8]) -> Result<(), Malformed> {
        let r = Response::parse(payload)?;
        let end = header.flags & flag::END != 0;
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return Ok(()) };
        x.answered |= end;
        let Some(key) = x.connection else { return Ok(()) };
        if x.head_sent {
            return Err(Malformed("a second head"));
        }
        if r.status < 200 {
            return Err(Malformed("an informational status as the final one"));
        }
        if r.status == 500 && r.fields().next().is_none() && r.body.is_empty() && end {
            self.answer_own(xkey, 500, Own::default(), Ending::AppError);
            return Ok(());
        }
        if internal::is_wanted(x.about().map(|about| &**about), &r) {
            self.send_internal(xkey, &r, end);
            return Ok(());
        }
        let Some(c) = self.connections.get_mut(key) else { return Ok(()) };
        let bodiless = x.is_head || response::is_bodiless(r.status);
        // A long rest of a body is not worth reading, and one of unknown length is not worth the risk.
        let unread = match c.body {
            BodyRest::None => false,
            BodyRest::Length(left) => left > DRAIN_BYTES_MAX,
            BodyRest::Chunked(_) | BodyRest::Data => true,
        };
        let close = !x.keep_alive || self.draining || c.close || x.owes_continue || unread;
        let declared = r.body_bytes;
        let inline = r.body.len() as u64;
        x.framing = if bodiless {
            Framing::None
        } else if declared != UNKNOWN {
            Framing::Length(declared)
        } else if end {
            Framing::Length(inline)
        } else if x.http_1_0 || x.http_2 {
            Framing::Close
        } else {
            Framing::Chunked
        };
        let mut recoded = Recoded::of(x, &r, bodiless, end);
        if !bodiless && let Some(coding) = recoded.coding {
            match self.compressors.begin(coding) {
                Some((encoder, serial)) => {
                    x.squeeze = Some(Box::new(Squeeze::new(encoder, serial, declared)));
                    x.framing = if x.http_2 { Framing::Close } else { Framing::Chunked };
                }
                None => recoded.coding = None,
            }
        }
        let squeezed = x.squeeze.is_some();
        c.close = close || x.framing == Framing::Close;
        x.status = r.status;
        x.head_sent = true;
        x.owes_continue = false;

        if let Some(stream) = &mut c.stream {
            let head = self.http2.app_head(x, stream.secure, &r, recoded, &self.tail, self.seconds);
            let Some(head) = head else { return Err(Malformed("a field that HTTP does not allow")) };
            stream.head = Some(head);
            if let Some(log) = x.about().and_then(|about| about.log.clone()) {
                log.borrow().capture(x, r.fields());
            }
            self.flush_later(key);
            if squeezed {
                self.squeeze(xkey, r.body, end);
                return Ok(());
            }
            let short = self.body_part(xkey, key, r.body, end);
            if end && let Some(short) = short {
                self.end_of_body(xkey, short);
            }
            return Ok(());
        }
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        response::status_line(
            &mut out,
            Version::Http11,
            r.status,
            if r.reason.is_empty() { None } else { Some(r.reason) },
        );
        let (mut date, mut server, mut id) = (false, false, false);
        let mut bad = false;
        let has_cors = x.route.as_ref().is_some_and(|route| route.cors.is_some());
        let edit = x.edit();
        let mut given = 0;
        for (name, value) in r.fields() {
            if edit.is_some_and(|edit| !edit.passes(name, &mut given)) || has_cors && cors::is_ours(name) {
                continue;
            }
            match response::response_name(name) {
                ResponseName::Other => id |= name.len() == 12 && name.eq_ignore_ascii_case(b"x-request-id"),
                ResponseName::Date => date = true,
                ResponseName::Server => server = true,
                _ => continue,
            }
            bad |= !(response::valid_name(name) && response::valid_value(value));
            if recoded.coding.is_some() {
                match name.len() {
                    4 if name.eq_ignore_ascii_case(b"etag") => {
                        field(&mut out, name, &recoded.tag(value));
                        continue;
                    }
                    // No ranges of what is not there as a whole.
                    13 if name.eq_ignore_ascii_case(b"accept-ranges") => continue,
                    _ => {}
                }
            }
            field(&mut out, name, value);
        }
        if bad {
            self.out = out;
            return Err(Malformed("a field that HTTP does not allow"));
        }
        if let Some(coding) = recoded.coding.filter(|_| squeezed) {
            field(&mut out, b"Content-Encoding", coding.token().as_bytes());
        }
        if recoded.varies {
            field(&mut out, b"Vary", b"Accept-Encoding");
        }
        match x.framing {
            Framing::Length(n) => content_length(&mut out, n),
            Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::None if declared != UNKNOWN && r.status != 204 => content_length(&mut out, declared),
            Framing::None | Framing::Close => {}
        }
        server |= edit.is_some_and(Edit::hides_server);
        match (date, server) {
            (false, false) => out.extend_from_slice(&self.tail),
            (true, false) => out.extend_from_slice(b"Server: trivet\r\n"),
            (false, true) => {
                out.extend_from_slice(&self.tail[..self.tail.len() - b"Server: trivet\r\n".len()]);
            }
            (true, true) => {}
        }
        if !id && edit.is_none_or(|edit| edit.passes(b"x-request-id", &mut given)) {
            field(&mut out, b"X-Request-Id", x.request_id());
        }
        further_fields(&mut out, x, given, c.is_secure());
        connection_field(&mut out, c.close, x.http_1_0);
        out.extend_from_slice(b"\r\n");
        if let Some(log) = x.about().and_then(|about| about.log.clone()) {
            log.borrow().capture(x, r.fields());
        }

        if squeezed {
            let alive = self.write(key, &[&out], true);
            self.out = out;
            if alive {
                self.squeeze(xkey, r.body, end);
            }
            return Ok(());
        }
        if !end {
            // The first bytes of the body are in the head's frame, or likely to follow in the same turn.
            let alive = self.write(key, &[&out], true);
            self.out = out;
            if alive && !r.body.is_empty() {
                self.body_part(xkey, key, r.body, false);
            }
            return Ok(());
        }
        let body = match &mut x.framing {
            Framing::None => &[][..],
            Framing::Length(left) => {
                let body = &r.body[..r.body.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
                *left -= body.len() as u64;
                body
            }
            Framing::Chunked | Framing::Close => r.body,
        };
        x.body_sent = body.len() as u64;
        let short = matches!(x.framing, Framing::Length(left) if left > 0);
        c.last = !short && c.tls.is_none() && c.close_is_plain() && c.nothing_came();
        let alive = if body.len() <= JOINED_BODY_BYTES {
            out.extend_from_slice(body);
            self.write(key, &[&out], false)
        } else {
            self.write(key, &[&out, body], false)
        };
        self.out = out;
        if alive {
            self.end_of_body(xkey, short);
        }
        Ok(())
    }

    /// Bytes of the body, straight from shared memory into the socket.
    pub(crate) fn on_data(
        &mut self,
        xkey: u32,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<(), Malformed> {
        self.awaited = true;
        let end = header.flags & flag::END != 0;
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return Ok(()) };
        x.answered |= end;
        x.received += payload.len() as u64;
        if x.received > x.granted {
            return Err(Malformed("more than was granted"));
        }
        let Some(key) = x.connection else { return Ok(()) };
        if !x.head_sent {
            return Err(Malformed("a body before its head"));
        }
        if x.squeeze.is_some() {
            self.squeeze(xkey, payload, end);
            self.credits.push(xkey);
        } else if let Some(short) = self.body_part(xkey, key, payload, end) {
            self.credits.push(xkey);
            if end {
                self.end_of_body(xkey, short);
            }
        }
        Ok(())
    }

    /// Writes a part of the body. `None`: the connection is gone; else whether the body ends before its length.
    pub(crate) fn body_part(&mut self, xkey: u32, key: u32, payload: &[u8], end: bool) -> Option<bool> {
        let x = self.exchanges.table.get_mut(xkey)?;
        let cork = !end && payload.len() <= CORKED_BODY_BYTES;
        let mut size = [0; 18];
        let last: &[u8] = if end { b"\r\n0\r\n\r\n" } else { b"\r\n" };
        let mut short = false;
        let alive = match &mut x.framing {
            Framing::None => true,
            Framing::Length(left) => {
                let take = payload.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= take as u64;
                short = end && *left > 0;
                x.body_sent += take as u64;
                take == 0 || self.write(key, &[&payload[..take]], cork)
            }
            Framing::Chunked if payload.is_empty() => !end || self.write(key, &[response::LAST_CHUNK], false),
            Framing::Chunked => {
                x.body_sent += payload.len() as u64;
                let size = response::chunk_header(payload.len(), &mut size);
                self.write(key, &[size, payload, last], cork)
            }
            Framing::Close => {
                x.body_sent += payload.len() as u64;
                self.write(key, &[payload], cork)
            }
        };
        alive.then_some(short)
    }

    /// The body is complete.
    pub(crate) fn on_end(&mut self, xkey: u32) -> Result<(), Malformed> {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return Ok(()) };
        x.answered = true;
        let Some(key) = x.connection else { return Ok(()) };
        if !x.head_sent {
            return Err(Malformed("an end without a head"));
        }
        if x.squeeze.is_some() {
            self.squeeze(xkey, &[], true);
            return Ok(());
        }
        let short = matches!(x.framing, Framing::Length(left) if left > 0);
        let alive = x.framing != Framing::Chunked || self.write(key, &[response::LAST_CHUNK], false);
        if alive {
            self.end_of_body(xkey, short);
        }
        Ok(())
    }

    pub(crate) fn end_of_body(&mut self, xkey: u32, short: bool) {
        if short {
            self.on_abort(xkey, Ending::CutShort);
        } else {
            self.complete(xkey);
        }
    }

    /// The answer cannot be finished: cuts the connection, so that the part is not taken for the whole.
    pub(crate) fn on_abort(&mut self, xkey: u32, ending: Ending) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        x.answered = true;
        let reset = x.framing == Framing::Close;
        let Some(key) = x.connection.take() else { return };
        let listener = self.connections.get(key).map(|c| c.listener);
        self.log_exchange(xkey, 0, ending, listener);
        self.free_if_over(xkey);
        if let Some(c) = self.connections.get_mut(key) {
            c.exchange = None;
            if c.stream.is_some() {
                self.break_stream(key);
                return;
            }
            if !reset {
                // What the app did give should arrive; the missing end tells the rest.
                c.close = true;
                c.phase = Phase::Flush;
                c.body = BodyRest::None;
                c.readable = false;
                c.input = Vec::new();
                if !self.flush(key) {
                    return;
                }
            }
        }
        if reset {
            self.cut(key, ending);
        } else {
            self.next_request(key);
        }
    }

    /// A file as (the next part of) the body.
    pub(crate) fn on_file(
        &mut self,
        xkey: u32,
        header: FrameHeader,
        file: OwnedFd,
        offset: u64,
        length: u64,
    ) -> Result<(), Malformed> {
        self.awaited = true;
        let end = header.flags & flag::END != 0;
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return Ok(()) };
        x.answered |= end;
        let Some(key) = x.connection else { return Ok(()) };
        if !x.head_sent {
            return Err(Malformed("a file before its head"));
        }
        if x.squeeze.is_some() {
            self.squeeze_file(xkey, file, offset, length, end);
            return Ok(());
        }
        let mut size = [0; 18];
        let mut length = length;
        let (mut before, mut after): (&[u8], &'static [u8]) = (b"", b"");
        match &mut x.framing {
            Framing::None => length = 0,
            Framing::Length(left) => {
                length = length.min(*left);
                *left -= length;
            }
            Framing::Chunked if length > 0 => {
                before = response::chunk_header(length as usize, &mut size);
                after = if end { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            }
            Framing::Chunked if end => before = response::LAST_CHUNK,
            Framing::Chunked | Framing::Close => {}
        }
        x.body_sent += length;
        let short = end && matches!(x.framing, Framing::Length(left) if left > 0);
        let mut alive = before.is_empty() || self.write(key, &[before], true);
        if alive && length > 0 {
            alive = self.write_file(key, FileOut { file: Rc::new(file), offset, left: length, after });
        }
        if alive && end {
            self.end_of_body(xkey, short);
        }
        Ok(())
    }
}

#[inline]
pub(crate) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[inline]
pub(crate) fn content_length(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(response::decimal(n, &mut [0; 20]));
    out.extend_from_slice(b"\r\n");
}

/// `Date` and, unless the route hides it, `Server`.
#[inline]
pub(crate) fn tail<'a>(both: &'a [u8], edit: Option<&Edit>) -> &'a [u8] {
    if edit.is_some_and(Edit::hides_server) {
        &both[..both.len() - b"Server: trivet\r\n".len()]
    } else {
        both
    }
}

/// Field lines of our own, without those that the route replaces.
#[inline]
pub(crate) fn edited_lines(out: &mut Vec<u8>, lines: &[u8], edit: Option<&Edit>, given: &mut u64) {
    let Some(edit) = edit else { return out.extend_from_slice(lines) };
    for line in lines.split_inclusive(|b| *b == b'\n') {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        // That there are several forms of a file is ours to say.
        if edit.passes(name, given) || line == b"Vary: Accept-Encoding\r\n" {
            out.extend_from_slice(line);
        }
    }
}

/// What the route adds to the answer's head. `given`: which of its defaults the head has already.
#[inline]
pub(crate) fn further_fields(out: &mut Vec<u8>, x: &Exchange, given: u64, secure: bool) {
    if let Some(edit) = x.edit() {
        for (name, value) in edit.additions(given, secure) {
            field(out, name, value);
        }
    }
    if let Some(cors) = x.route.as_ref().and_then(|route| route.cors.as_ref()) {
        for (name, value) in cors::fields(cors, x.origin.as_deref()) {
            field(out, name, &value);
        }
    }
}

#[inline]
pub(crate) fn connection_field(out: &mut Vec<u8>, close: bool, http_1_0: bool) {
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if http_1_0 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}
