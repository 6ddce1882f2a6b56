//! Heads of answers as HTTP/2 has them: a table of fields, with names in lower case and nothing of the connection's.

use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, SERVER, VARY};
use http::{Response, StatusCode};
use trivet_http::h1::response::{self, ResponseName};
use trivet_wire::frame::{self, UNKNOWN};

use crate::answer::Own;
use crate::exchange::{Exchange, Framing};
use crate::squeeze::Recoded;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Room for the fields of a usual answer, so that the table is made once.
const USUAL_FIELDS: usize = 12;

/// Values that many answers share.
#[derive(Debug, Default)]
pub(super) struct Parts {
    date: Option<HeaderValue>,
    seconds: u64,
}

impl super::Shared {
    /// `tail`: the `Date` and `Server` lines of HTTP/1.1 answers, which change with `seconds`.
    fn date(&mut self, tail: &[u8], seconds: u64) -> Option<HeaderValue> {
        let parts = &mut self.answers;
        if parts.seconds != seconds || parts.date.is_none() {
            let line = tail.split(|b| *b == b'\r').next().unwrap_or_default();
            parts.date = line.strip_prefix(b"Date: ").and_then(|d| HeaderValue::from_bytes(d).ok());
            parts.seconds = seconds;
        }
        parts.date.clone()
    }

    /// The fields that every answer of ours has.
    pub(crate) fn fields(&mut self, tail: &[u8], seconds: u64, id: &[u8]) -> Fields {
        let mut fields = Fields(HeaderMap::with_capacity(USUAL_FIELDS));
        fields.usual(self.date(tail, seconds), true, (!id.is_empty()).then_some(id));
        fields
    }

    /// The head of an answer that the edge gives by itself.
    pub(crate) fn own_head(
        &mut self,
        x: &Exchange,
        secure: bool,
        (media, body_bytes): (&str, usize),
        own: &Own<'_>,
        tail: &[u8],
        seconds: u64,
    ) -> Response<()> {
        let mut fields = self.fields(tail, seconds, x.request_id());
        if !response::is_bodiless(x.status) {
            fields.field(b"content-type", media.as_bytes());
            fields.length(body_bytes as u64);
        }
        if let Some(seconds) = own.retry_after {
            fields.0.append(RETRY_AFTER, seconds.into());
        }
        fields.lines(own.fields);
        fields.edit(x, secure);
        fields.head(x.status)
    }

    /// The head of an app's answer. `None`: a field that HTTP does not allow.
    pub(crate) fn app_head(
        &mut self,
        x: &Exchange,
        secure: bool,
        answer: &frame::Response<'_>,
        recoded: Recoded,
        tail: &[u8],
        seconds: u64,
    ) -> Option<Response<()>> {
        let mut fields = Fields(HeaderMap::with_capacity(USUAL_FIELDS));
        let has_cors = x.route.as_ref().is_some_and(|route| route.cors.is_some());
        for (name, value) in answer.fields() {
            if has_cors && crate::cors::is_ours(name) {
                continue;
            }
            match response::response_name(name) {
                ResponseName::Other | ResponseName::Date | ResponseName::Server => {}
                _ => continue,
            }
            let tag;
            let mut value = value;
            if recoded.coding.is_some() {
                if name.eq_ignore_ascii_case(b"accept-ranges") {
                    continue;
                }
                if name.eq_ignore_ascii_case(b"etag") {
                    tag = recoded.tag(value);
                    value = &tag;
                }
            }
            if !fields.field(name, value) {
                return None;
            }
        }
        match x.framing {
            Framing::Length(n) => fields.length(n),
            Framing::None if answer.body_bytes != UNKNOWN && answer.status != 204 => {
                fields.length(answer.body_bytes);
            }
            Framing::None | Framing::Chunked | Framing::Close => {}
        }
        let date = if fields.0.contains_key(DATE) { None } else { self.date(tail, seconds) };
        let server = !fields.0.contains_key(SERVER);
        let id = (!fields.0.contains_key(REQUEST_ID)).then_some(x.request_id());
        fields.usual(date, server, id);
        fields.edit(x, secure);
        // What we did to the answer is said whatever the route changes.
        if let Some(coding) = recoded.coding.filter(|_| x.squeeze.is_some()) {
            fields.field(b"content-encoding", coding.token().as_bytes());
        }
        if recoded.varies {
            fields.field(b"vary", b"Accept-Encoding");
        }
        Some(fields.head(answer.status))
    }
}

/// The fields of one answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(HeaderMap);

impl Fields {
    /// `false`: it is not allowed.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) -> bool {
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            return false;
        };
        // Only a table of tens of thousands of fields takes no more.
        self.0.try_append(name, value).is_ok()
    }

    /// Field lines of ours, each with its end.
    pub(crate) fn lines(&mut self, lines: &[u8]) {
        for line in lines.split(|b| *b == b'\n') {
            if let Some(at) = memchr::memchr(b':', line) {
                self.field(&line[..at], line[at + 1..].trim_ascii());
            }
        }
    }

    /// Changes the head as the request's route says.
    pub(crate) fn edit(&mut self, x: &Exchange, secure: bool) {
        if let Some(edit) = x.edit() {
            let mut given = 0;
            let ours = |v: &HeaderValue| v == "Accept-Encoding";
            let varies = edit.dropped().any(|name| name == b"vary") && self.0.get_all(VARY).iter().any(ours);
            for name in self.0.keys() {
                edit.passes(name.as_str().as_bytes(), &mut given);
            }
            for name in edit.dropped().filter_map(|name| HeaderName::from_bytes(name).ok()) {
                self.0.remove(name);
            }
            if varies {
                self.0.append(VARY, HeaderValue::from_static("Accept-Encoding"));
            }
            for (name, value) in edit.additions(given, secure) {
                self.field(name, value);
            }
        }
        if let Some(cors) = x.route.as_ref().and_then(|route| route.cors.as_ref()) {
            for (name, value) in crate::cors::fields(cors, x.origin.as_deref()) {
                self.field(name, &value);
            }
        }
    }

    pub(crate) fn length(&mut self, bytes: u64) {
        self.0.append(CONTENT_LENGTH, bytes.into());
    }

    fn usual(&mut self, date: Option<HeaderValue>, server: bool, id: Option<&[u8]>) {
        if let Some(date) = date {
            self.0.append(DATE, date);
        }
        if server {
            self.0.append(SERVER, HeaderValue::from_static("trivet"));
        }
        if let Some(id) = id.and_then(|id| HeaderValue::from_bytes(id).ok()) {
            self.0.append(REQUEST_ID, id);
        }
    }

    pub(crate) fn head(self, status: u16) -> Response<()> {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *head.headers_mut() = self.0;
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ours_become_fields() {
        let mut fields = Fields::default();
        fields.lines(b"ETag: \"a:b\"\r\nLast-Modified: now\r\nVary: a\r\nVary: b\r\n");
        let head = fields.head(206);
        assert_eq!(head.status(), 206);
        assert_eq!(head.headers()["etag"], "\"a:b\"");
        assert_eq!(head.headers()["last-modified"], "now");
        assert_eq!(head.headers().get_all("vary").iter().count(), 2);
    }

    #[test]
    fn w18_names_and_values_are_checked() {
        let mut fields = Fields::default();
        assert!(fields.field(b"X-Latin", b"\xe9"));
        assert!(!fields.field(b"a b", b"c") && !fields.field(b"a", b"b\r\nc: d") && !fields.field(b"", b""));
    }
}
