//! The frames between edge and worker: what one request and its answer look like on the ring or the socket.
//!
//! Every frame begins with a [`FrameHeader`] of 16 bytes and is padded to 8 on the ring. Numbers are little-endian.
//! A reader copies a frame out of shared memory first and parses the copy: nothing here trusts its input.

/// Bytes of a [`FrameHeader`].
pub const HEADER_BYTES: usize = 16;
/// No frame is longer than this: a head of the largest limits with an inline body.
pub const FRAME_BYTES_MAX: usize = 384 * 1024;
/// A body up to this goes inside the request frame; a longer one is a spool file or a stream.
pub const INLINE_BODY_BYTES_MAX: usize = 64 * 1024;
/// A worker cuts an app's chunk into data frames of at most this.
pub const DATA_BYTES_MAX: usize = 64 * 1024;
/// "No length is known" for body lengths.
pub const UNKNOWN: u64 = u64::MAX;

/// What a frame is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Edge to worker: a request, [`RequestMeta`] and what it describes.
    Request = 1,
    /// Edge to worker: bytes of a streamed request body; [`flag::END`] with the last, [`flag::ABORTED`] when the
    /// client broke off.
    Body = 2,
    /// Edge to worker: `aux` more bytes of the response may be sent.
    Credit = 3,
    /// Edge to worker: the client has gone or the time is up; stop and call `close()`.
    Cancel = 4,
    /// Worker to edge: a response head, [`ResponseMeta`], perhaps with the body inline.
    Head = 16,
    /// Worker to edge: bytes of the response body.
    Data = 17,
    /// Worker to edge: the body is complete.
    End = 18,
    /// Worker to edge: the response failed after its head; the connection must be cut.
    Abort = 19,
    /// Worker to edge: the body (or its next part) is a file whose descriptor came over the channel;
    /// payload: offset `u64`, length `u64`.
    File = 20,
    /// Worker to edge: the app reads a streamed body and takes `aux` bytes more.
    WantBody = 21,
    /// Worker to edge: an informational (1xx) head, as [`Kind::Head`].
    Informational = 22,
    /// Worker to edge: `close()` is done, the slot is free. `aux`: nanoseconds of service, saturating.
    Done = 23,
    /// Worker to edge, socket transport only: the request has been entered into the app.
    Started = 24,
}

/// Bits of [`FrameHeader::flags`].
pub mod flag {
    /// The body ends with this frame.
    pub const END: u8 = 1;
    /// The slot is free with this frame (it stands for a [`super::Kind::Done`] too; `aux` is the service time).
    pub const DONE: u8 = 2;
    /// Request: the body is inside the frame.
    pub const BODY_INLINE: u8 = 4;
    /// Request: the body is in the spool file [`super::RequestMeta::spool`].
    pub const BODY_SPOOLED: u8 = 8;
    /// Request: the body follows in [`super::Kind::Body`] frames as it is asked for.
    pub const BODY_STREAMED: u8 = 16;
    /// Body: the client broke off before its end.
    pub const ABORTED: u8 = 32;
    /// Request: one of a batch of short ones. The worker may begin it before it rings the edge's bell for the
    /// answer before; the edge never sleeps longer than a millisecond while such a request is out.
    pub const BATCH: u8 = 64;
    /// Abort: the app has given less than it had announced.
    pub const SHORT: u8 = 128;
}

/// Bits of [`RequestMeta::traits`].
pub mod traits {
    pub const HTTP_1_0: u8 = 1;
    pub const HTTPS: u8 = 2;
    pub const HTTP_2: u8 = 4;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame: {0}")]
pub struct Malformed(pub &'static str);

/// The first 16 bytes of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Of the whole frame with this header, without padding.
    pub len: u32,
    pub kind: Kind,
    pub flags: u8,
    /// Which entry of the scoreboard the frame belongs to.
    pub ticket: u16,
    /// Which use of that entry: a frame of an earlier use is void.
    pub generation: u32,
    pub aux: u32,
}

impl FrameHeader {
    #[inline]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut b = [0; HEADER_BYTES];
        b[0..4].copy_from_slice(&self.len.to_le_bytes());
        b[4] = self.kind as u8;
        b[5] = self.flags;
        b[6..8].copy_from_slice(&self.ticket.to_le_bytes());
        b[8..12].copy_from_slice(&self.generation.to_le_bytes());
        b[12..16].copy_from_slice(&self.aux.to_le_bytes());
        b
    }

    #[inline]
    pub fn parse(b: &[u8; HEADER_BYTES]) -> Result<Self, Malformed> {
        let kind = match b[4] {
            1 => Kind::Request,
            2 => Kind::Body,
            3 => Kind::Credit,
            4 => Kind::Cancel,
            16 => Kind::Head,
            17 => Kind::Data,
            18 => Kind::End,
            19 => Kind::Abort,
            20 => Kind::File,
            21 => Kind::WantBody,
            22 => Kind::Informational,
            23 => Kind::Done,
            24 => Kind::Started,
            _ => return Err(Malformed("unknown kind")),
        };
        let len = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        if (len as usize) < HEADER_BYTES || len as usize > FRAME_BYTES_MAX {
            return Err(Malformed("impossible length"));
        }
        Ok(Self {
            len,
            kind,
            flags: b[5],
            ticket: u16::from_le_bytes([b[6], b[7]]),
            generation: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
            aux: u32::from_le_bytes([b[12], b[13], b[14], b[15]]),
        })
    }

    /// Bytes the frame takes on a ring.
    #[inline]
    pub fn padded(len: usize) -> usize {
        (len + 7) & !7
    }
}

/// The fixed part of a request, after the frame header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestMeta {
    pub method: u16,
    pub request_id: u16,
    /// Origin-form: path and query as the client sent them.
    pub target: u32,
    /// The request target as sent, where it was not origin-form; 0 = the same as `target`.
    pub raw_target: u32,
    /// Peer and server address as text.
    pub peer: u16,
    pub server: u16,
    pub peer_port: u16,
    pub server_port: u16,
    /// Mount prefix, SCRIPT_NAME.
    pub script: u16,
    pub fields: u16,
    pub traits: u8,
    /// Of the whole body, or [`UNKNOWN`].
    pub body_bytes: u64,
    pub spool: u32,
    /// Response bytes that may be sent before the first [`Kind::Credit`].
    pub window: u32,
}

/// Bytes of an encoded [`RequestMeta`].
pub const REQUEST_META_BYTES: usize = 48;

impl RequestMeta {
    fn to_bytes(self) -> [u8; REQUEST_META_BYTES] {
        let mut b = [0; REQUEST_META_BYTES];
        b[0..2].copy_from_slice(&self.method.to_le_bytes());
        b[2..4].copy_from_slice(&self.request_id.to_le_bytes());
        b[4..8].copy_from_slice(&self.target.to_le_bytes());
        b[8..12].copy_from_slice(&self.raw_target.to_le_bytes());
        b[12..14].copy_from_slice(&self.peer.to_le_bytes());
        b[14..16].copy_from_slice(&self.server.to_le_bytes());
        b[16..18].copy_from_slice(&self.peer_port.to_le_bytes());
        b[18..20].copy_from_slice(&self.server_port.to_le_bytes());
        b[20..22].copy_from_slice(&self.script.to_le_bytes());
        b[22..24].copy_from_slice(&self.fields.to_le_bytes());
        b[24] = self.traits;
        b[28..32].copy_from_slice(&self.window.to_le_bytes());
        b[32..40].copy_from_slice(&self.body_bytes.to_le_bytes());
        b[40..44].copy_from_slice(&self.spool.to_le_bytes());
        b
    }

    fn parse(b: &[u8; REQUEST_META_BYTES]) -> Self {
        let u16_at = |i: usize| u16::from_le_bytes([b[i], b[i + 1]]);
        let u32_at = |i: usize| u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        Self {
            method: u16_at(0),
            request_id: u16_at(2),
            target: u32_at(4),
            raw_target: u32_at(8),
            peer: u16_at(12),
            server: u16_at(14),
            peer_port: u16_at(16),
            server_port: u16_at(18),
            script: u16_at(20),
            fields: u16_at(22),
            traits: b[24],
            window: u32_at(28),
            body_bytes: u64::from(u32_at(32)) | u64::from(u32_at(36)) << 32,
            spool: u32_at(40),
        }
    }
}

/// The texts of a request head, in the order in which they stand in the frame; fields follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestHead<'a> {
    pub method: &'a [u8],
    pub request_id: &'a [u8],
    pub target: &'a [u8],
    /// Empty: the same as `target`.
    pub raw_target: &'a [u8],
    pub peer: &'a [u8],
    pub server: &'a [u8],
    pub peer_port: u16,
    pub server_port: u16,
    pub script: &'a [u8],
    pub traits: u8,
}

/// Writes a request frame into a buffer that its exchange keeps, so that it can be sent again.
///
/// Order: [`begin`](Self::begin), [`field`](Self::field)…, [`finish_head`](Self::finish_head), body bytes appended
/// to the buffer by the caller, [`seal`].
#[derive(Debug)]
pub struct RequestWriter<'v> {
    out: &'v mut Vec<u8>,
    meta: RequestMeta,
}

impl<'v> RequestWriter<'v> {
    /// `out` is cleared. Lengths are below the codec's limits, which fit their fields.
    #[inline]
    pub fn begin(out: &'v mut Vec<u8>, head: &RequestHead<'_>) -> Self {
        out.clear();
        out.resize(HEADER_BYTES + REQUEST_META_BYTES, 0);
        for part in
            [head.method, head.request_id, head.target, head.raw_target, head.peer, head.server, head.script]
        {
            out.extend_from_slice(part);
        }
        let meta = RequestMeta {
            method: head.method.len() as u16,
            request_id: head.request_id.len() as u16,
            target: head.target.len() as u32,
            raw_target: head.raw_target.len() as u32,
            peer: head.peer.len() as u16,
            server: head.server.len() as u16,
            peer_port: head.peer_port,
            server_port: head.server_port,
            script: head.script.len() as u16,
            traits: head.traits,
            ..RequestMeta::default()
        };
        Self { out, meta }
    }

    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        self.out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(value);
        self.meta.fields += 1;
    }

    #[inline]
    pub fn finish_head(self) {
        self.out[HEADER_BYTES..HEADER_BYTES + REQUEST_META_BYTES].copy_from_slice(&self.meta.to_bytes());
    }
}

/// Completes a request frame before it is sent (or sent again): its body's kind and length, its ticket.
/// `body_flags` is one of `flag::BODY_*` or 0.
#[inline]
pub fn seal(
    frame: &mut [u8],
    ticket: u16,
    generation: u32,
    body_flags: u8,
    body_bytes: u64,
    spool: u32,
    window: u32,
) {
    let header = FrameHeader {
        len: frame.len() as u32,
        kind: Kind::Request,
        flags: body_flags,
        ticket,
        generation,
        aux: 0,
    };
    frame[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    let at = HEADER_BYTES;
    frame[at + 28..at + 32].copy_from_slice(&window.to_le_bytes());
    frame[at + 32..at + 40].copy_from_slice(&body_bytes.to_le_bytes());
    frame[at + 40..at + 44].copy_from_slice(&spool.to_le_bytes());
}

/// A parsed request frame.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub meta: RequestMeta,
    pub head: RequestHead<'a>,
    fields: &'a [u8],
    /// The inline body.
    pub body: &'a [u8],
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(len).ok_or(Malformed("shorter than it says"))?;
    *rest = left;
    Ok(taken)
}

impl<'a> Request<'a> {
    /// `payload`: the frame after its header. All lengths are checked here, once; [`fields`](Self::fields) cannot fail.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let Some((meta, mut rest)) = payload.split_first_chunk::<REQUEST_META_BYTES>() else {
            return Err(Malformed("no request meta"));
        };
        let meta = RequestMeta::parse(meta);
        let head = RequestHead {
            method: take(&mut rest, meta.method as usize)?,
            request_id: take(&mut rest, meta.request_id as usize)?,
            target: take(&mut rest, meta.target as usize)?,
            raw_target: take(&mut rest, meta.raw_target as usize)?,
            peer: take(&mut rest, meta.peer as usize)?,
            server: take(&mut rest, meta.server as usize)?,
            script: take(&mut rest, meta.script as usize)?,
            peer_port: meta.peer_port,
            server_port: meta.server_port,
            traits: meta.traits,
        };
        let all = rest;
        for _ in 0..meta.fields {
            let size = take(&mut rest, 6)?;
            let name = u16::from_le_bytes([size[0], size[1]]) as usize;
            let value = u32::from_le_bytes([size[2], size[3], size[4], size[5]]) as usize;
            take(&mut rest, name)?;
            take(&mut rest, value)?;
        }
        Ok(Self { meta, head, fields: &all[..all.len() - rest.len()], body: rest })
    }

    /// All fields as they lie in the frame: the same bytes are the same fields.
    pub fn fields_bytes(&self) -> &'a [u8] {
        self.fields
    }

    /// Names as sent, values trimmed.
    pub fn fields(&self) -> Fields<'a> {
        Fields { rest: self.fields }
    }
}

/// Iterates over `(name, value)`; stops at what is malformed.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (size, rest) = self.rest.split_first_chunk::<6>()?;
        let name = u16::from_le_bytes([size[0], size[1]]) as usize;
        let value = u32::from_le_bytes([size[2], size[3], size[4], size[5]]) as usize;
        if rest.len() < name + value {
            return None;
        }
        let (name, rest) = rest.split_at(name);
        let (value, rest) = rest.split_at(value);
        self.rest = rest;
        Some((name, value))
    }
}

/// Bytes before the texts of a response head.
pub const RESPONSE_META_BYTES: usize = 16;

/// Writes the payload of a [`Kind::Head`] or [`Kind::Informational`] frame: reason, fields, then body bytes may
/// be appended up to the frame's end.
#[derive(Debug)]
pub struct ResponseWriter<'v> {
    out: &'v mut Vec<u8>,
    start: usize,
    status: u16,
    reason: u16,
    fields: u16,
}

impl<'v> ResponseWriter<'v> {
    /// Appends to `out`, after a frame header that the caller left space for.
    #[inline]
    pub fn begin(out: &'v mut Vec<u8>, status: u16, reason: &[u8]) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; RESPONSE_META_BYTES]);
        out.extend_from_slice(reason);
        Self { out, start, status, reason: reason.len() as u16, fields: 0 }
    }

    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        self.out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(value);
        self.fields += 1;
    }

    /// `body_bytes`: what the whole body will have, if the worker knows it, else [`UNKNOWN`].
    #[inline]
    pub fn finish(self, body_bytes: u64) {
        let b = &mut self.out[self.start..self.start + RESPONSE_META_BYTES];
        b[0..2].copy_from_slice(&self.status.to_le_bytes());
        b[2..4].copy_from_slice(&self.reason.to_le_bytes());
        b[4..6].copy_from_slice(&self.fields.to_le_bytes());
        b[8..16].copy_from_slice(&body_bytes.to_le_bytes());
    }
}

/// Changes the body's length in a finished payload of [`ResponseWriter`].
pub fn set_body_bytes(payload: &mut [u8], body_bytes: u64) {
    payload[8..16].copy_from_slice(&body_bytes.to_le_bytes());
}

/// A parsed response head.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    pub status: u16,
    pub reason: &'a [u8],
    /// Length of the whole body where it is known ([`UNKNOWN`] else). With [`flag::END`] the inline body is all.
    pub body_bytes: u64,
    fields: &'a [u8],
    pub body: &'a [u8],
}

impl<'a> Response<'a> {
    /// `payload`: the frame after its header.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let Some((meta, mut rest)) = payload.split_first_chunk::<RESPONSE_META_BYTES>() else {
            return Err(Malformed("no response meta"));
        };
        let status = u16::from_le_bytes([meta[0], meta[1]]);
        if !(100..=999).contains(&status) {
            return Err(Malformed("impossible status"));
        }
        let reason = take(&mut rest, u16::from_le_bytes([meta[2], meta[3]]) as usize)?;
        let count = u16::from_le_bytes([meta[4], meta[5]]);
        let all = rest;
        for _ in 0..count {
            let size = take(&mut rest, 6)?;
            let name = u16::from_le_bytes([size[0], size[1]]) as usize;
            let value = u32::from_le_bytes([size[2], size[3], size[4], size[5]]) as usize;
            take(&mut rest, name)?;
            take(&mut rest, value)?;
        }
        let body_bytes = u64::from_le_bytes([
            meta[8], meta[9], meta[10], meta[11], meta[12], meta[13], meta[14], meta[15],
        ]);
        Ok(Self { status, reason, body_bytes, fields: &all[..all.len() - rest.len()], body: rest })
    }

    pub fn fields(&self) -> Fields<'a> {
        Fields { rest: self.fields }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Vec<u8> {
        let mut frame = Vec::new();
        let head = RequestHead {
            method: b"POST",
            request_id: b"0123",
            target: b"/a?b=c",
            peer: b"127.0.0.1",
            server: b"::1",
            peer_port: 4711,
            server_port: 8000,
            ..RequestHead::default()
        };
        let mut w = RequestWriter::begin(&mut frame, &head);
        w.field(b"Host", b"localhost");
        w.field(b"X-Empty", b"");
        w.finish_head();
        frame.extend_from_slice(b"hello");
        seal(&mut frame, 3, 9, flag::BODY_INLINE, 5, 0, 1 << 20);
        frame
    }

    #[test]
    fn a_request_comes_out_as_it_went_in() {
        let frame = request();
        let header = FrameHeader::parse(frame.first_chunk().unwrap()).unwrap();
        assert_eq!((header.kind, header.ticket, header.generation), (Kind::Request, 3, 9));
        assert_eq!(header.len as usize, frame.len());
        let r = Request::parse(&frame[HEADER_BYTES..]).unwrap();
        assert_eq!((r.head.method, r.head.target, r.head.peer_port), (&b"POST"[..], &b"/a?b=c"[..], 4711));
        assert_eq!(r.fields().collect::<Vec<_>>(), [(&b"Host"[..], &b"localhost"[..]), (b"X-Empty", b"")]);
        assert_eq!((r.body, r.meta.body_bytes, r.meta.window), (&b"hello"[..], 5, 1 << 20));
    }

    #[test]
    fn a_request_cut_anywhere_is_malformed_or_short_of_body_only() {
        let frame = request();
        let head_end = frame.len() - 5;
        for end in 0..frame.len() {
            let cut = &frame[HEADER_BYTES.min(end)..end];
            assert_eq!(Request::parse(cut).is_ok(), end >= head_end, "cut at {end}");
        }
    }

    #[test]
    fn a_response_comes_out_as_it_went_in() {
        let mut out = vec![0; HEADER_BYTES];
        let mut w = ResponseWriter::begin(&mut out, 200, b"OK");
        w.field(b"Content-Type", b"text/plain");
        w.finish(UNKNOWN);
        out.extend_from_slice(b"body");
        let r = Response::parse(&out[HEADER_BYTES..]).unwrap();
        assert_eq!((r.status, r.reason, r.body), (200, &b"OK"[..], &b"body"[..]));
        assert_eq!(r.fields().next(), Some((&b"Content-Type"[..], &b"text/plain"[..])));
        for end in 0..out.len() - 4 {
            assert!(Response::parse(&out[HEADER_BYTES.min(end)..end]).is_err());
        }
    }
}
