//! One request and its answer, whatever the protocol: what goes to the app, what has come back, what to log.

use std::rc::Rc;

use trivet_http::coding::Coding;
use trivet_pool::{Key, Outgoing, Requests};
use trivet_wire::frame::{self, HEADER_BYTES, REQUEST_META_BYTES};

use crate::ending::Ending;
use crate::pools::Seat;
use crate::route::{About, Edit, Route};
use crate::squeeze::Squeeze;
use crate::table::Table;

/// How the body of an answer is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// HEAD, 204, 304: no byte of it is sent.
    None,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
    /// HTTP/1.0 without a length: the end of the connection is the end of the body.
    Close,
}

/// Where the request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its body is being read, or it was answered by the edge itself, or the worker is done with it.
    Here,
    Queued,
    /// In a worker's hands: index in its app's pool, ticket, generation.
    Sent(usize, u16, u32),
}

#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) out: Outgoing,
    /// The connection that waits for the answer; `None`: it has gone, or has got all it will get.
    pub(crate) connection: Option<u32>,
    pub(crate) place: Place,
    /// Whose queue it is in, or whose worker has it.
    pub(crate) app: u16,
    /// As it was when the request came, whatever the configuration says since.
    pub(crate) route: Option<Rc<Route>>,
    /// Its site, where there is no route.
    pub(crate) about: Option<Rc<About>>,
    /// The answer is being compressed.
    pub(crate) squeeze: Option<Box<Squeeze>>,
    /// The client has the answer in this coding, by the tag that it asked with.
    pub(crate) known_coding: Option<Coding>,
    /// The origin of a script that may read the answer.
    pub(crate) origin: Option<Box<[u8]>>,

    pub(crate) http_1_0: bool,
    pub(crate) http_2: bool,
    pub(crate) is_head: bool,
    pub(crate) keep_alive: bool,
    /// Safe to do twice (RFC 9110 §9.2.2), as far as the method tells.
    pub(crate) idempotent: bool,
    pub(crate) retried: bool,
    /// Bytes of the method and of the request id, which follow each other in the frame.
    pub(crate) method_bytes: u16,
    pub(crate) id_bytes: u16,

    pub(crate) head_sent: bool,
    /// The app has given its whole answer; what it still does after that is its own affair.
    pub(crate) answered: bool,
    /// Its time was up.
    pub(crate) given_up: bool,
    pub(crate) framing: Framing,
    /// Response bytes from the app, and how many it may send in all.
    pub(crate) received: u64,
    pub(crate) granted: u64,
    /// The request body is streamed, and the app wants this many bytes more.
    pub(crate) wanted: u64,
    /// A `100 Continue` is still owed to the client.
    pub(crate) owes_continue: bool,
    /// A part of a streamed body went to the app: the request cannot be sent again.
    pub(crate) body_begun: bool,
    /// Bytes of the body kept in memory, for the edge's sum.
    pub(crate) inline_bytes: usize,

    pub(crate) began_ns: u64,
    pub(crate) status: u16,
    /// Body bytes of the answer, for the log.
    pub(crate) body_sent: u64,
    /// Values of answer fields that the log's format names.
    pub(crate) logged_fields: Vec<Vec<u8>>,
    pub(crate) logged: bool,
    pub(crate) ending: Ending,
    /// Its connection has let go of it, and tells when what is left of the answer is sent.
    pub(crate) leaving: bool,
}

impl Exchange {
    pub(crate) fn new(frame: Vec<u8>, connection: u32, began_ns: u64) -> Self {
        Self {
            out: Outgoing { frame, ..Outgoing::default() },
            connection: Some(connection),
            place: Place::Here,
            app: 0,
            route: None,
            about: None,
            squeeze: None,
            known_coding: None,
            origin: None,
            http_1_0: false,
            http_2: false,
            is_head: false,
            keep_alive: true,
            idempotent: false,
            retried: false,
            method_bytes: 0,
            id_bytes: 0,
            head_sent: false,
            answered: false,
            given_up: false,
            framing: Framing::None,
            received: 0,
            granted: 0,
            wanted: 0,
            owes_continue: false,
            body_begun: false,
            inline_bytes: 0,
            began_ns,
            status: 0,
            body_sent: 0,
            logged_fields: Vec::new(),
            logged: false,
            ending: Ending::Done,
            leaving: false,
        }
    }

    /// The worker that has it.
    pub(crate) fn seat(&self) -> Option<(Seat, u16, u32)> {
        match self.place {
            Place::Sent(index, ticket, generation) => Some((Seat::new(self.app, index), ticket, generation)),
            Place::Here | Place::Queued => None,
        }
    }

    /// What is changed of the answer's head.
    pub(crate) fn edit(&self) -> Option<&Edit> {
        match &self.route {
            Some(route) => route.answer_edit.as_ref(),
            None => self.about.as_ref().and_then(|about| about.edit.as_ref()),
        }
    }

    pub(crate) fn about(&self) -> Option<&Rc<About>> {
        self.route.as_ref().map(|r| &r.about).or(self.about.as_ref())
    }

    pub(crate) fn request_id(&self) -> &[u8] {
        let start = HEADER_BYTES + REQUEST_META_BYTES + usize::from(self.method_bytes);
        self.out.frame.get(start..start + usize::from(self.id_bytes)).unwrap_or_default()
    }

    /// The request as it went to the app. `None` only for requests that were refused before they had a frame.
    pub(crate) fn request(&self) -> Option<frame::Request<'_>> {
        frame::Request::parse(self.out.frame.get(HEADER_BYTES..)?).ok()
    }

    /// For logs.
    pub(crate) fn version(&self) -> &'static str {
        match (self.http_2, self.http_1_0) {
            (true, _) => "HTTP/2.0",
            (_, true) => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
    }

    /// `GET /path HTTP/1.1`, for logs.
    pub(crate) fn request_line(&self) -> String {
        self.request().map_or_else(String::new, |r| {
            let target = if r.head.raw_target.is_empty() { r.head.target } else { r.head.raw_target };
            let version = self.version();
            format!(
                "{} {} {version}",
                String::from_utf8_lossy(r.head.method),
                String::from_utf8_lossy(target)
            )
        })
    }
}

/// The edge's requests.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    pub(crate) table: Table<Exchange>,
    spare: Vec<Vec<u8>>,
    none: Outgoing,
}

/// Empty frame buffers kept for the next requests.
const SPARE_MAX: usize = 256;
const SPARE_BYTES_MAX: usize = 8 * 1024;

impl Exchanges {
    /// An empty buffer for a frame.
    pub(crate) fn spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    pub(crate) fn recycle(&mut self, mut frame: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && frame.capacity() <= SPARE_BYTES_MAX {
            frame.clear();
            self.spare.push(frame);
        }
    }
}

impl Requests for Exchanges {
    fn outgoing(&mut self, key: Key) -> &mut Outgoing {
        self.table.get_mut(key).map_or(&mut self.none, |x| &mut x.out)
    }

    fn sent(&mut self, key: Key, worker: usize, ticket: u16, generation: u32) {
        if let Some(x) = self.table.get_mut(key) {
            x.place = Place::Sent(worker, ticket, generation);
            x.granted = u64::from(x.out.window);
            x.received = 0;
            x.wanted = 0;
        }
    }

    fn unsent(&mut self, key: Key) {
        if let Some(x) = self.table.get_mut(key) {
            x.place = Place::Queued;
        }
    }
}
