//! Answers of apps that are compressed on their way: what may be, and how pieces go through an encoder and back.

use std::os::fd::OwnedFd;

use trivet_http::coding::{Accepted, Coding};
use trivet_http::{field, media};
use trivet_wire::frame::{Response, UNKNOWN};

use crate::compress::{Encoded, Encoder, Input, Owner};
use crate::ending::Ending;
use crate::exchange::Exchange;
use crate::files::read_at;
use crate::net::Net;
use crate::pipeline::WINDOW_BYTES_SCARCE;

/// A file goes through the encoder by pieces of this size.
const FILE_PIECE_BYTES: u64 = 64 * 1024;

/// An answer that is being compressed.
#[derive(Debug)]
pub(crate) struct Squeeze {
    /// `None`: it is away, with a piece.
    encoder: Option<Encoder>,
    serial: u64,
    waiting: Vec<u8>,
    /// Bytes that are away.
    away_bytes: usize,
    /// Bytes that the app has promised and not given yet.
    left: Option<u64>,
    file: Option<(OwnedFd, u64, u64)>,
    /// The app has given everything.
    ended: bool,
    /// It has given something, after a head that was good.
    begun: bool,
}

impl Squeeze {
    pub(crate) fn new(encoder: Encoder, serial: u64, declared: u64) -> Self {
        Self {
            encoder: Some(encoder),
            serial,
            waiting: Vec::new(),
            away_bytes: 0,
            left: (declared != UNKNOWN).then_some(declared),
            file: None,
            ended: false,
            begun: false,
        }
    }

    /// Whether the rest of the answer comes without the worker.
    pub(crate) fn has_all(&self) -> bool {
        self.begun && self.ended
    }

    /// Whether its encoder is not away.
    pub(crate) fn is_home(&self) -> bool {
        self.encoder.is_some()
    }

    /// Bytes of the app's that have not become output yet.
    pub(crate) fn held_bytes(&self) -> usize {
        self.waiting.len() + self.away_bytes
    }
}

/// What compression does to a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recoded {
    /// The answer depends on `Accept-Encoding`, whether it is compressed or not.
    pub(crate) varies: bool,
    pub(crate) coding: Option<Coding>,
}

impl Recoded {
    /// The coding in which an app's answer should go out, if it may and is worth it.
    pub(crate) fn of(x: &Exchange, r: &Response<'_>, bodiless: bool, end: bool) -> Self {
        let Some(wanted) = x.route.as_ref().and_then(|route| route.compress.as_ref()) else {
            return Self::default();
        };
        // A client that has been told the tag of a compressed form is told the same one again.
        if r.status == 304 {
            return Self { varies: true, coding: x.known_coding };
        }
        if bodiless && !x.is_head || x.http_1_0 || matches!(r.status, 206 | 416) {
            return Self::default();
        }
        let bytes = match (r.body_bytes, end) {
            (UNKNOWN, true) => Some(r.body.len() as u64),
            (UNKNOWN, false) => None,
            (declared, _) => Some(declared),
        };
        let mut fits = false;
        for (name, value) in r.fields() {
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
            match name.len() {
                12 if is("content-type") => fits = media::is_compressible(value),
                16 if is("content-encoding") => return Self::default(),
                13 if is("cache-control") => {
                    let kept = |part: &[u8]| part.trim_ascii().eq_ignore_ascii_case(b"no-transform");
                    if value.split(|b| *b == b',').any(kept) {
                        return Self::default();
                    }
                }
                13 if is("content-range") => return Self::default(),
                _ => {}
            }
        }
        if !fits {
            return Self::default();
        }
        let mut accepted = Accepted::default();
        for (name, value) in x.request().iter().flat_map(trivet_wire::frame::Request::fields) {
            if name.len() == 15 && name.eq_ignore_ascii_case(b"accept-encoding") {
                accepted.add(value);
            }
        }
        let coding = accepted
            .best_in(&wanted.codings)
            .filter(|_| !bodiless && bytes.is_none_or(|bytes| bytes >= wanted.bytes_min));
        Self { varies: true, coding }
    }

    /// An entity tag with the coding in it (RFC 9110 §8.8.3.3: each form has its own).
    pub(crate) fn tag(self, tag: &[u8]) -> Vec<u8> {
        match (self.coding, tag.strip_suffix(b"\"")) {
            (Some(coding), Some(open)) => [open, b"-", coding.token().as_bytes(), b"\""].concat(),
            _ => tag.to_vec(),
        }
    }
}

/// The tags of `If-None-Match` as the app knows them, and the coding of one that was ours.
pub(crate) fn plain_tags(value: &[u8]) -> (Vec<u8>, Option<Coding>) {
    let mut coding = None;
    let plain = field::list(value)
        .map(|tag| {
            for c in Coding::ALL {
                let suffix = format!("-{}\"", c.token());
                if let Some(open) = tag.strip_suffix(suffix.as_bytes()) {
                    coding = Some(c);
                    return [open, b"\""].concat();
                }
            }
            tag.to_vec()
        })
        .collect::<Vec<_>>()
        .join(&b", "[..]);
    (plain, coding)
}

impl Net {
    /// Takes in what the app gives of an answer that is compressed.
    pub(crate) fn squeeze(&mut self, xkey: u32, payload: &[u8], end: bool) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        let Some(squeeze) = &mut x.squeeze else { return };
        let mut take = payload.len();
        if let Some(left) = &mut squeeze.left {
            take = take.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= take as u64;
        }
        squeeze.waiting.extend_from_slice(&payload[..take]);
        squeeze.ended |= end;
        squeeze.begun = true;
        self.buffered_bytes += take;
        self.squeeze_on(xkey);
    }

    /// The app gives a file as the rest of the body.
    pub(crate) fn squeeze_file(&mut self, xkey: u32, file: OwnedFd, offset: u64, length: u64, end: bool) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        let Some(squeeze) = &mut x.squeeze else { return };
        let mut length = length;
        if let Some(left) = &mut squeeze.left {
            length = length.min(*left);
            *left -= length;
        }
        squeeze.file = Some((file, offset, length));
        squeeze.ended |= end;
        squeeze.begun = true;
        self.squeeze_on(xkey);
    }

    /// Sends the next piece to an encoder, if it is there and the client keeps up.
    pub(crate) fn squeeze_on(&mut self, xkey: u32) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        let (Some(squeeze), Some(key)) = (&mut x.squeeze, x.connection) else { return };
        let slow = self.connections.get(key).is_some_and(|c| c.pending_bytes() as u64 > WINDOW_BYTES_SCARCE);
        if squeeze.encoder.is_none() || slow && !squeeze.ended {
            return;
        }
        if squeeze.waiting.is_empty()
            && let Some((file, offset, left)) = &mut squeeze.file
        {
            if slow {
                return;
            }
            squeeze.waiting.resize((*left).min(FILE_PIECE_BYTES) as usize, 0);
            let got = read_at(file, &mut squeeze.waiting, *offset).unwrap_or(0);
            if got < squeeze.waiting.len() {
                // The file is shorter than it was: never pad, never pretend.
                squeeze.waiting.clear();
                return self.on_abort(xkey, Ending::CutShort);
            }
            self.buffered_bytes += got;
            *offset += got as u64;
            *left -= got as u64;
            if *left == 0 {
                squeeze.file = None;
            }
        }
        let last = squeeze.ended && squeeze.file.is_none();
        if squeeze.waiting.is_empty() && !last {
            return;
        }
        let Some(encoder) = squeeze.encoder.take() else { return };
        let input = std::mem::take(&mut squeeze.waiting);
        squeeze.away_bytes = input.len();
        let owner = Owner { xkey: Some(xkey), serial: squeeze.serial };
        self.compressors.send(owner, encoder, Input::Bytes(input), last);
    }

    /// A piece has come back.
    pub(crate) fn on_encoded(&mut self, encoded: Encoded) {
        let Encoded { owner: Owner { xkey, serial }, encoder, output } = encoded;
        let Some(xkey) = xkey else {
            self.compressors.ended();
            self.files.made(serial, output.ok());
            return;
        };
        let last = encoder.is_none();
        let squeeze = self.exchanges.table.get_mut(xkey).and_then(|x| x.squeeze.as_mut());
        let Some(squeeze) = squeeze.filter(|s| s.serial == serial) else {
            self.compressors.ended();
            return;
        };
        self.buffered_bytes -= std::mem::take(&mut squeeze.away_bytes);
        squeeze.encoder = encoder;
        let short = squeeze.left.is_some_and(|left| left > 0);
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        if last {
            x.squeeze = None;
            self.compressors.ended();
        }
        let Some(key) = x.connection else { return };
        let Ok(output) = output else { return self.on_abort(xkey, Ending::ServerError) };
        if !last {
            if output.is_empty() || self.body_part(xkey, key, &output, false).is_some() {
                self.credits.push(xkey);
                self.squeeze_on(xkey);
            }
            return;
        }
        if short {
            // What the app did give should arrive, but not pass for the whole.
            let alive = output.is_empty() || self.body_part(xkey, key, &output, false).is_some();
            if alive {
                self.end_of_body(xkey, true);
            }
        } else if self.body_part(xkey, key, &output, true).is_some() {
            self.end_of_body(xkey, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_a_compressed_form_is_told_and_understood() {
        let gzip = Recoded { varies: true, coding: Some(Coding::Gzip) };
        assert_eq!(gzip.tag(b"\"abc\""), b"\"abc-gzip\"");
        assert_eq!(gzip.tag(b"W/\"abc\""), b"W/\"abc-gzip\"");
        assert_eq!(gzip.tag(b"nonsense"), b"nonsense");
        assert_eq!(Recoded::default().tag(b"\"abc\""), b"\"abc\"");
        assert_eq!(
            plain_tags(b"\"abc-gzip\", W/\"x\",\"y-br\""),
            (b"\"abc\", W/\"x\", \"y\"".to_vec(), Some(Coding::Brotli))
        );
        assert_eq!(plain_tags(b"*"), (b"*".to_vec(), None));
    }
}
