//! The step that answers with a file of a served folder (`--static`).

use std::fmt::Write as _;
use std::rc::Rc;

use rustix::io::Errno;
use trivet_http::coding::{Accepted, Coding};
use trivet_http::conditional::{Conditions, Validators, Verdict};
use trivet_http::field::Name;
use trivet_http::h1::Version;
use trivet_http::h1::response::{self, decimal};
use trivet_http::range::{self, Ranges};
use trivet_http::{date, path, uri};
use trivet_pool::Key;

use crate::answer::{
    JOINED_BODY_BYTES, Own, connection_field, content_length, edited_lines, field, further_fields, tail,
};
use crate::compress::Owner;
use crate::config::Page;
use crate::connection::FileOut;
use crate::edge::Edge;
use crate::ending::Ending;
use crate::files::{Content, Listed, Lookup, Representation, SENDFILE_BYTES_MIN, read_at};
use crate::log;
use crate::net::Net;
use crate::pipeline::{Request, leave_body};
use crate::route::Static;

/// Several ranges of a file that is not in memory are put together up to this; beyond it the whole file is sent.
const SEVERAL_BYTES_MAX: u64 = 1024 * 1024;
/// Larger files are not compressed for whom they have no compressed form beside them.
const COMPRESSED_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Entries of a folder that are shown.
const LISTED_MAX: usize = 10_000;

/// Answers from a served folder. `false`: there is no such file, and the route says what is done then.
pub(crate) fn step(edge: &mut Edge, r: &Request<'_>, files: &Static, path: &str) -> bool {
    let Request { key, xkey, buf, head, .. } = *r;
    let optional = files.otherwise.is_some();
    let method = head.method.of(buf);
    if !matches!(method, b"GET" | b"HEAD") {
        if optional {
            return false;
        }
        leave_body(edge, key, head);
        let own = Own { fields: b"Allow: GET, HEAD\r\n", ..Own::default() };
        edge.net.answer_own(xkey, 405, own, Ending::Done);
        return true;
    }
    let now_ms = edge.net.now_ms;
    let mut found = match path.strip_prefix(&*files.at).unwrap_or(path).strip_prefix('/') {
        Some(rest) if is_hidden(rest) => Lookup::Missing,
        Some(rest) => look_up(&mut edge.net, files, rest),
        // The folder's own path without the slash behind it.
        None => Lookup::Folder,
    };
    if matches!(found, Lookup::Missing) {
        found = files
            .fallback
            .iter()
            .map(|name| edge.net.files.find(files.folder.slot, name, now_ms))
            .find(|found| matches!(found, Lookup::File { .. } | Lookup::Failed(_)))
            .unwrap_or(found);
    }
    // A folder that has nothing to show is nothing that could not be asked for elsewhere.
    let shows = |edge: &mut Edge| {
        let below = path.strip_prefix(&*files.at).unwrap_or(path).trim_matches('/');
        files.listing || !matches!(look_up(&mut edge.net, files, &format!("{below}/")), Lookup::Missing)
    };
    match found {
        Lookup::Missing if optional => return false,
        Lookup::Folder if optional && !shows(edge) => return false,
        _ => {}
    }
    leave_body(edge, key, head);
    match found {
        Lookup::File { plain, coded } => {
            let others = head.fields.iter().filter(|f| f.known == Name::Other);
            let wishes = wishes(others.map(|f| (f.name.of(buf), f.value.of(buf))), head.is_head);
            answer(&mut edge.net, xkey, &wishes, files.folder.slot, &plain, &coded);
        }
        Lookup::Folder if !path.ends_with('/') => {
            // From the canonical path: a raw one may begin with `//` and name another host.
            let mut fields = b"Location: ".to_vec();
            path::encode(path, &mut fields);
            fields.push(b'/');
            if let (_, Some(query)) = uri::split_query(head.path_and_query.of(buf)) {
                fields.push(b'?');
                fields.extend_from_slice(query);
            }
            fields.extend_from_slice(b"\r\n");
            edge.net.answer_own(xkey, 308, Own { fields: &fields, ..Own::default() }, Ending::Done);
        }
        Lookup::Folder if files.listing => list(edge, xkey, files, path),
        Lookup::Folder | Lookup::Missing => edge.net.answer_own(xkey, 404, Own::default(), Ending::Done),
        Lookup::Failed(e) => {
            log::error("cannot open a static file", &[("error", &e)]);
            let wait = matches!(e, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN).then_some(1);
            let status = if wait.is_some() { 503 } else { 500 };
            let own = Own { retry_after: wait, ..Own::default() };
            edge.net.answer_own(xkey, status, own, Ending::ServerError);
        }
    }
    true
}

/// What stands behind a path in the folder; for a folder's path its index.
fn look_up(net: &mut Net, files: &Static, rest: &str) -> Lookup {
    if !rest.is_empty() && !rest.ends_with('/') {
        return net.files.find(files.folder.slot, rest, net.now_ms);
    }
    for index in &files.index {
        let found = net.files.find(files.folder.slot, &[rest, index].concat(), net.now_ms);
        if !matches!(found, Lookup::Missing | Lookup::Folder) {
            return found;
        }
    }
    if files.listing && net.files.is_folder(files.folder.slot, rest.trim_end_matches('/'), net.now_ms) {
        return Lookup::Folder;
    }
    Lookup::Missing
}

/// Shows what is in a folder.
fn list(edge: &mut Edge, xkey: Key, files: &Static, path: &str) {
    let now_ms = edge.net.now_ms;
    let below = path.strip_prefix(&*files.at).unwrap_or(path).trim_matches('/');
    let Ok(mut listed) = edge.net.files.read_folder(files.folder.slot, below, now_ms, LISTED_MAX) else {
        return edge.net.answer_own(xkey, 404, Own::default(), Ending::Done);
    };
    listed.sort_by(|a, b| (!a.folder, &a.name).cmp(&(!b.folder, &b.name)));
    let page =
        Page { media: "text/html; charset=utf-8".to_owned(), body: listing(path, below.is_empty(), &listed) };
    edge.net.answer_own(
        xkey,
        200,
        Own { page: Some(&page), fields: b"Cache-Control: no-cache\r\n", ..Own::default() },
        Ending::Done,
    );
}

fn listing(path: &str, top: bool, listed: &[Listed]) -> String {
    let escaped = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&#39;")
    };
    let title = escaped(path);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
         color-scheme:light dark}}table{{width:100%;border-collapse:collapse}}td{{padding:.2rem .5rem;border-top:1px solid #8884}}\
         td+td{{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}}a{{text-decoration:none}}</style>\n\
         <h1>{title}</h1>\n<table>\n"
    );
    if !top {
        html.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
    }
    for entry in listed {
        let mut href = b"./".to_vec();
        path::encode(&entry.name, &mut href);
        let slash = if entry.folder { "/" } else { "" };
        let date = date::format(entry.modified);
        let size = if entry.folder { String::new() } else { entry.bytes.to_string() };
        let _ = writeln!(
            html,
            "<tr><td><a href=\"{}{slash}\">{}{slash}</a><td>{size}<td>{}",
            escaped(&String::from_utf8_lossy(&href)),
            escaped(&entry.name),
            String::from_utf8_lossy(&date)
        );
    }
    html.push_str("</table>\n");
    html
}

/// Names that begin with a dot are nobody's business, but for `.well-known` (RFC 8615) at the top.
pub(crate) fn is_hidden(rest: &str) -> bool {
    let mut segments = rest.split('/');
    let first = segments.next().unwrap_or_default();
    first.starts_with('.') && first != ".well-known" || segments.any(|s| s.starts_with('.'))
}

/// Codings that are taken, conditions, and the only `Range`.
type Wishes<'a> = (Accepted, Conditions<'a>, Option<&'a [u8]>);
/// A folder's place, and a file in it in all its forms.
pub(crate) type Forms = (usize, Rc<Representation>, [Option<Rc<Representation>>; 3]);

/// What the request says of the representation that it wants.
pub(crate) fn wishes<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, is_head: bool) -> Wishes<'a> {
    let mut accepted = Accepted::default();
    let mut conditions = Conditions::default();
    let mut ranges = None;
    let mut ranges_seen = 0;
    for (name, value) in fields {
        match name.len() {
            5 if name.eq_ignore_ascii_case(b"range") => {
                ranges = Some(value);
                ranges_seen += 1;
            }
            8 if name.eq_ignore_ascii_case(b"if-match") => conditions.if_match.push(value),
            8 if name.eq_ignore_ascii_case(b"if-range") => conditions.if_range = Some(value),
            13 if name.eq_ignore_ascii_case(b"if-none-match") => conditions.if_none_match.push(value),
            15 if name.eq_ignore_ascii_case(b"accept-encoding") => accepted.add(value),
            17 if name.eq_ignore_ascii_case(b"if-modified-since") => {
                conditions.if_modified_since = Some(value);
            }
            19 if name.eq_ignore_ascii_case(b"if-unmodified-since") => {
                conditions.if_unmodified_since = Some(value);
            }
            _ => {}
        }
    }
    // RFC 9110 §14.2: it means something for GET only.
    (accepted, conditions, ranges.filter(|_| ranges_seen == 1 && !is_head))
}

pub(crate) fn answer(
    net: &mut Net,
    xkey: Key,
    (accepted, conditions, ranges): &Wishes<'_>,
    slot: usize,
    plain: &Rc<Representation>,
    coded: &[Option<Rc<Representation>>; 3],
) {
    let coding: Option<Coding> = accepted.best(|c| coded[c as usize].is_some());
    if coding.is_none() && plain.compressible {
        have_compressed(net, xkey, slot, plain, accepted);
    }
    let chosen = coding.and_then(|c| coded[c as usize].as_ref()).unwrap_or(plain);
    let has = Validators { etag: &chosen.etag, modified: chosen.modified };
    match conditions.judge(has, net.seconds) {
        Verdict::NotModified => net.send_file(xkey, 304, chosen, &Part::Nothing),
        Verdict::PreconditionFailed => net.send_file(xkey, 412, chosen, &Part::Nothing),
        Verdict::SendWhole => net.send_file(xkey, 200, chosen, &Part::Whole),
        // A range is of the representation that would be sent, whatever its coding (RFC 9110 §14.2).
        Verdict::Send => match ranges.map_or(Ranges::Whole, |value| range::parse(value, chosen.bytes)) {
            Ranges::Whole => net.send_file(xkey, 200, chosen, &Part::Whole),
            Ranges::One(start, length) => net.send_file(xkey, 206, chosen, &Part::One(start, length)),
            // The parts could not say that they are of a coded whole.
            Ranges::Several(_) if coding.is_some() => net.send_file(xkey, 200, chosen, &Part::Whole),
            Ranges::Several(ranges) => match several(net, xkey, chosen, &ranges) {
                Some((boundary, body)) => net.send_file(xkey, 206, chosen, &Part::Several(boundary, body)),
                None => net.send_file(xkey, 200, chosen, &Part::Whole),
            },
            Ranges::Unsatisfiable => net.send_file(xkey, 416, chosen, &Part::Nothing),
        },
    }
}

/// Has a compressed form made for the next ones who ask: nobody waits for it.
fn have_compressed(net: &mut Net, xkey: Key, slot: usize, plain: &Rc<Representation>, accepted: &Accepted) {
    let route = net.exchanges.table.get(xkey).and_then(|x| x.route.as_ref());
    let Some(wanted) = route.and_then(|r| r.compress.as_ref()) else { return };
    if plain.bytes < wanted.bytes_min || plain.bytes > COMPRESSED_BYTES_MAX {
        return;
    }
    let Some(coding) = accepted.best_in(&wanted.codings) else { return };
    if net.files.was_tried(slot, plain, coding) {
        return;
    }
    let Some((encoder, serial)) = net.compressors.begin(coding) else { return };
    match net.files.make(slot, plain, coding, serial) {
        Some(input) => net.compressors.send(Owner { xkey: None, serial }, encoder, input, true),
        None => net.compressors.ended(),
    }
}

/// What of a file is sent.
enum Part {
    Nothing,
    Whole,
    /// Where it begins, how long it is.
    One(u64, u64),
    /// The boundary, and the parts put together.
    Several(Vec<u8>, Vec<u8>),
}

impl Part {
    /// Where what is sent begins, and how long it is.
    fn span(&self, file: &Representation) -> (u64, u64) {
        match self {
            Self::Nothing => (0, 0),
            Self::Whole => (0, file.bytes),
            Self::One(start, length) => (*start, *length),
            Self::Several(_, body) => (0, body.len() as u64),
        }
    }
}

/// The body of a `multipart/byteranges` answer (RFC 9110 §14.6) and its boundary. `None`: too much for the memory.
fn several(
    net: &mut Net,
    xkey: Key,
    file: &Representation,
    ranges: &[(u64, u64)],
) -> Option<(Vec<u8>, Vec<u8>)> {
    if ranges.iter().map(|(_, length)| length).sum::<u64>() > SEVERAL_BYTES_MAX {
        return None;
    }
    // Nobody can have put the id of this very request into the file.
    let boundary = net.ids.next().to_vec();
    debug_assert!(net.exchanges.table.get(xkey).is_some(), "the exchange lives until it is answered");
    let mut body = Vec::new();
    for &(start, length) in ranges {
        body.extend_from_slice(b"\r\n--");
        body.extend_from_slice(&boundary);
        body.extend_from_slice(b"\r\nContent-Type: ");
        body.extend_from_slice(file.media.as_bytes());
        body.extend_from_slice(b"\r\n");
        content_range(&mut body, Some((start, length)), file.bytes);
        body.extend_from_slice(b"\r\n");
        let at = body.len();
        body.resize(at + length as usize, 0);
        match &file.content {
            Content::Memory(bytes) => {
                body[at..].copy_from_slice(bytes.get(start as usize..(start + length) as usize)?);
            }
            Content::File(fd) if read_at(fd, &mut body[at..], start) == Ok(length as usize) => {}
            Content::File(_) => return None,
        }
    }
    body.extend_from_slice(b"\r\n--");
    body.extend_from_slice(&boundary);
    body.extend_from_slice(b"--\r\n");
    Some((boundary, body))
}

fn content_range(out: &mut Vec<u8>, range: Option<(u64, u64)>, size: u64) {
    let mut digits = [0; 20];
    out.extend_from_slice(b"Content-Range: bytes ");
    match range {
        Some((start, length)) => {
            out.extend_from_slice(decimal(start, &mut digits));
            out.push(b'-');
            out.extend_from_slice(decimal(start + length - 1, &mut digits));
        }
        None => out.push(b'*'),
    }
    out.push(b'/');
    out.extend_from_slice(decimal(size, &mut digits));
    out.extend_from_slice(b"\r\n");
}

impl Net {
    /// Answers with a part of a file. The exchange is over for its client.
    fn send_file(&mut self, xkey: Key, status: u16, file: &Rc<Representation>, part: &Part) {
        let Some(x) = self.exchanges.table.get_mut(xkey) else { return };
        let Some(key) = x.connection else { return };
        self.awaited = true;
        let draining = self.draining;
        let Some(c) = self.connections.get_mut(key) else { return };
        c.close |= draining || !x.keep_alive;
        x.status = status;
        x.head_sent = true;
        if c.stream.is_some() {
            self.send_file_by_stream(xkey, key, status, file, part);
            return;
        }
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        response::status_line(&mut out, Version::Http11, status, None);
        let (start, length) = part.span(file);
        let edit = x.edit();
        let mut given = 0;
        match part {
            Part::Nothing => {}
            Part::Whole => edited_lines(&mut out, &file.describing, edit, &mut given),
            Part::One(..) => {
                edited_lines(&mut out, &file.describing, edit, &mut given);
                content_range(&mut out, Some((start, length)), file.bytes);
            }
            Part::Several(boundary, _) => {
                out.extend_from_slice(b"Content-Type: multipart/byteranges; boundary=");
                out.extend_from_slice(boundary);
                out.extend_from_slice(b"\r\n");
            }
        }
        if status == 416 {
            content_range(&mut out, None, file.bytes);
        }
        // A 304 has no content, and its length would be taken for that of the 200 (RFC 9110 §15.4.5).
        if status != 304 {
            content_length(&mut out, length);
        }
        if !matches!(status, 412 | 416) {
            edited_lines(&mut out, &file.validators, edit, &mut given);
        }
        out.extend_from_slice(tail(&self.tail, edit));
        if edit.is_none_or(|edit| edit.passes(b"x-request-id", &mut given)) {
            field(&mut out, b"X-Request-Id", x.request_id());
        }
        further_fields(&mut out, x, given, c.is_secure());
        connection_field(&mut out, c.close, x.http_1_0);
        out.extend_from_slice(b"\r\n");
        let plain = c.tls.is_none();
        let mut large = None;
        let body: &[u8] = if x.is_head {
            &[]
        } else {
            x.body_sent = length;
            match (part, &file.content) {
                (Part::Nothing, _) => &[],
                (Part::Several(_, body), _) => body,
                (_, Content::Memory(bytes)) => {
                    large = file.descriptor.as_ref().filter(|_| plain && length >= SENDFILE_BYTES_MIN);
                    if large.is_some() { &[] } else { &bytes[start as usize..(start + length) as usize] }
                }
                (_, Content::File(fd)) => {
                    large = Some(fd);
                    &[]
                }
            }
        };
        let alive = if body.len() <= JOINED_BODY_BYTES {
            out.extend_from_slice(body);
            self.write(key, &[&out], large.is_some())
        } else {
            self.write(key, &[&out, body], false)
        };
        self.out = out;
        let alive = alive
            && large.is_none_or(|fd| {
                self.write_file(key, FileOut { file: fd.clone(), offset: start, left: length, after: b"" })
            });
        if alive {
            self.complete(xkey);
        }
    }

    /// The same over HTTP/2.
    fn send_file_by_stream(
        &mut self,
        xkey: Key,
        key: u32,
        status: u16,
        file: &Rc<Representation>,
        part: &Part,
    ) {
        let (Some(x), Some(c)) = (self.exchanges.table.get_mut(xkey), self.connections.get_mut(key)) else {
            return;
        };
        let Some(stream) = &mut c.stream else { return };
        let mut fields = self.http2.fields(&self.tail, self.seconds, x.request_id());
        let (start, length) = part.span(file);
        let mut lines = Vec::new();
        match part {
            Part::Nothing => {}
            Part::Whole => fields.lines(&file.describing),
            Part::One(..) => {
                fields.lines(&file.describing);
                content_range(&mut lines, Some((start, length)), file.bytes);
            }
            Part::Several(boundary, _) => {
                lines.extend_from_slice(b"Content-Type: multipart/byteranges; boundary=");
                lines.extend_from_slice(boundary);
            }
        }
        if status == 416 {
            content_range(&mut lines, None, file.bytes);
        }
        fields.lines(&lines);
        if status != 304 {
            fields.length(length);
        }
        if !matches!(status, 412 | 416) {
            fields.lines(&file.validators);
        }
        fields.edit(x, stream.secure);
        stream.head = Some(fields.head(status));
        if !x.is_head {
            x.body_sent = length;
            match (part, &file.content) {
                (Part::Nothing, _) => {}
                (Part::Several(_, body), _) => {
                    c.output.extend_from_slice(body);
                    self.buffered_bytes += body.len();
                }
                (_, Content::Memory(_)) => stream.keep(file, start, length),
                (_, Content::File(fd)) => {
                    c.file = Some(FileOut { file: fd.clone(), offset: start, left: length, after: b"" });
                }
            }
        }
        self.complete(xkey);
    }
}
