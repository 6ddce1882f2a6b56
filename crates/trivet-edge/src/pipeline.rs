//! What happens to every request, in order, on one screen; each step has its function below or its own file.

use std::net::IpAddr;

use trivet_http::h1::{BodyLength, Form, Head, Version, request::Name};
use trivet_http::template::{Place, Template, Values};
use trivet_http::{path, uri};
use trivet_wire::frame::{INLINE_BODY_BYTES_MAX, RequestHead, RequestWriter, UNKNOWN, flag, traits};

use crate::address::{self, Forwarded};
use crate::answer::Own;
use crate::connection::{AddressText, BodyRest, Connection, Phase};
use crate::cors;
use crate::destination::{self, Going};
use crate::edge::Edge;
use crate::ending::Ending;
use crate::log;
use crate::pools::AppPool;
use crate::route::{Act, Route, ToApp};
use crate::{request_id, squeeze, static_files};

/// All request bodies in memory together; beyond it they go to disk.
pub(crate) const INLINE_SUM_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Response bytes that an app may send ahead of its client, and when many answers wait for slow clients.
pub(crate) const WINDOW_BYTES: u64 = 1024 * 1024;
pub(crate) const WINDOW_BYTES_SCARCE: u64 = 64 * 1024;
/// Above this sum of waiting answers the window is the scarce one.
pub(crate) const BUFFERED_BYTES_MANY: usize = 16 * 1024 * 1024;

/// A whole head has arrived in `buf`; `edge.net.head` describes it. Returns how much behind it was used.
pub(crate) fn begin(edge: &mut Edge, key: u32, buf: &[u8]) -> usize {
    let head = std::mem::take(&mut edge.net.head);
    let used = take(edge, key, buf, &head).unwrap_or_else(|(status, reason)| {
        edge.net.refuse(key, status, reason);
        0
    });
    edge.net.head = head;
    used
}

fn take(edge: &mut Edge, key: u32, buf: &[u8], head: &Head) -> Result<usize, (u16, &'static str)> {
    let xkey = edge.net.exchange(key);
    texts(edge, head)?;
    let seen = client(edge, key, buf, head);
    let mut spelled = String::new();
    let going = destination::find(edge, key, buf, head, seen.forwarded.https == Some(true), &mut spelled);
    frame(edge, key, xkey, buf, head, &seen, &going)?;
    scheme(edge, key, head, &seen)?;
    nul(head.target.of(buf))?;
    let route = match destination::settle(edge, key, xkey, head, &going) {
        Some(route) => route?,
        None => return Ok(0),
    };
    body_limit(head, route)?;
    if cors::step(edge, key, xkey, buf, head, route) {
        return Ok(0);
    }
    perform(edge, Request { key, xkey, buf, head, seen: &seen, going: &going }, &route.action)
}

/// A request on its way.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) key: u32,
    pub(crate) xkey: u32,
    pub(crate) buf: &'a [u8],
    pub(crate) head: &'a Head,
    seen: &'a Client<'a>,
    pub(crate) going: &'a Going<'a>,
}

/// Does what the route says. Returns how much behind the head was used.
fn perform(edge: &mut Edge, r: Request<'_>, action: &Act) -> Result<usize, (u16, &'static str)> {
    match action {
        Act::App(to) => return app(edge, &r, to),
        Act::Static(files) => {
            let Some(path) = r.going.path else {
                let otherwise = action.without_path().ok_or((400, "path.spelling"))?;
                return perform(edge, r, otherwise);
            };
            if !static_files::step(edge, &r, files, path)
                && let Some(otherwise) = &files.otherwise
            {
                return perform(edge, r, otherwise);
            }
        }
        Act::Redirect { to, status } => redirect(edge, &r, to, *status),
        Act::Respond { status, page, retry_after } => {
            leave_body(edge, r.key, r.head);
            let page = (!page.media.is_empty()).then_some(page);
            let own = Own { page, retry_after: *retry_after, ..Own::default() };
            edge.net.answer_own(r.xkey, *status, own, Ending::Done);
        }
        Act::Health => health(edge, &r),
    }
    Ok(0)
}

/// Nobody reads the body of a request that the edge answers: it ends the connection.
pub(crate) fn leave_body(edge: &mut Edge, key: u32, head: &Head) {
    if !matches!(head.body, BodyLength::None | BodyLength::Length(0))
        && let Some(c) = edge.net.connections.get_mut(key)
    {
        c.close = true;
        c.readable = true;
    }
}

/// Names and hosts have 16 bits for their length in the frame; only the largest limits let longer ones come so far.
fn texts(edge: &Edge, head: &Head) -> Result<(), (u16, &'static str)> {
    let max = usize::from(u16::MAX);
    let names_host = |known| matches!(known, Name::Host | Name::Forwarded | Name::XForwardedHost);
    if edge.net.limits.field_bytes_max as usize > max
        && head.fields.iter().any(|f| f.name.len() > max || names_host(f.known) && f.value.len() > max)
    {
        return Err((431, "limit.text"));
    }
    Ok(())
}

/// Who asks and by which address: the peer's word only where it is trusted.
struct Client<'a> {
    forwarded: Forwarded<'a>,
    trusted: bool,
}

fn client<'a>(edge: &mut Edge, key: u32, buf: &'a [u8], head: &Head) -> Client<'a> {
    let trusted = edge.net.connections.get(key).is_some_and(|c| c.trusted);
    let mut forwarded = Forwarded::default();
    if head.fields.iter().any(|f| address::tells_client(f.known)) {
        if trusted {
            forwarded = address::read(&head.fields, buf, edge.net.server.trusted_peers.as_deref());
        } else if !std::mem::replace(&mut edge.net.warned_of_forwarding, true) {
            let peer = edge
                .net
                .connections
                .get(key)
                .map_or_else(String::new, |c| String::from_utf8_lossy(c.ip_text.as_bytes()).into_owned());
            log::warn(
                "dropped forwarding headers of a peer that is not trusted; --forwarded-allow-ips names those that are",
                &[("peer", &peer)],
            );
        }
    }
    Client { forwarded, trusted }
}

/// RFC 9110 §7.4: an https target over a connection that is not secured.
fn scheme(edge: &Edge, key: u32, head: &Head, seen: &Client<'_>) -> Result<(), (u16, &'static str)> {
    let secure = edge.net.connections.get(key).is_some_and(Connection::is_secure);
    if head.form == Form::AbsoluteHttps && !secure && seen.forwarded.https != Some(true) {
        return Err((421, "scheme.unsecured"));
    }
    Ok(())
}

/// An encoded NUL is in no honest target, and ends strings in too many programs behind us (H7).
fn nul(target: &[u8]) -> Result<(), (u16, &'static str)> {
    let mut rest = target;
    while let Some(at) = memchr::memchr(b'%', rest) {
        rest = &rest[at + 1..];
        if rest.starts_with(b"00") {
            return Err((400, "target.nul"));
        }
    }
    Ok(())
}

fn body_limit(head: &Head, route: &Route) -> Result<(), (u16, &'static str)> {
    let max = route.body_bytes_max;
    match head.body {
        BodyLength::Length(n) if max > 0 && n > max => Err((413, "body.length")),
        _ => Ok(()),
    }
}

/// 200 while every app has at least one slot and it is not draining.
fn health(edge: &mut Edge, r: &Request<'_>) {
    let well = !edge.net.draining && edge.pools.list.iter().all(AppPool::serves);
    let (status, body) = if well { (200, "ok\n") } else { (503, "unavailable\n") };
    leave_body(edge, r.key, r.head);
    edge.net.answer_own(r.xkey, status, Own { body: Some(body), ..Own::default() }, Ending::Done);
}

fn redirect(edge: &mut Edge, r: &Request<'_>, to: &Template, status: u16) {
    leave_body(edge, r.key, r.head);
    let (host, _) = address::host_and_port(r.head.authority.of(r.buf));
    if host.is_empty() && to.has(Place::Host) {
        // HTTP/1.0 without a name: there is nowhere to send it.
        edge.net.answer_own(r.xkey, 400, Own { close: true, ..Own::default() }, Ending::Refused);
        return;
    }
    let mut fields = b"Location: ".to_vec();
    let values = values(edge, r);
    let raw_path = values.raw_path.filter(|_| !to.needs_canonical());
    to.fill(&Values { raw_path, ..values }, &mut fields);
    fields.extend_from_slice(b"\r\n");
    edge.net.answer_own(r.xkey, status, Own { fields: &fields, ..Own::default() }, Ending::Done);
}

/// What a request has for templates.
fn values<'a>(edge: &Edge, r: &Request<'a>) -> Values<'a> {
    let secure = edge.net.connections.get(r.key).is_some_and(Connection::is_secure);
    let (raw, query) = match r.head.form {
        Form::Asterisk => (&b"/"[..], None),
        _ => uri::split_query(r.head.path_and_query.of(r.buf)),
    };
    Values {
        host: address::host_and_port(r.head.authority.of(r.buf)).0,
        https: r.seen.forwarded.https.unwrap_or(secure),
        path: r.going.path.unwrap_or("/"),
        raw_path: Some(raw),
        rest_at: r.going.rest_at,
        query,
    }
}

/// The request as the app will get it: what is hop-by-hop, ambiguous or a stranger's claim stays here.
fn frame(
    edge: &mut Edge,
    key: u32,
    xkey: u32,
    buf: &[u8],
    head: &Head,
    seen: &Client<'_>,
    going: &Going<'_>,
) -> Result<(), (u16, &'static str)> {
    let net = &mut edge.net;
    let Some(c) = net.connections.get(key) else { return Ok(()) };
    let Some(x) = net.exchanges.table.get_mut(xkey) else { return Ok(()) };
    let made;
    let id: &[u8] = match head.fields.iter().find(|f| f.known == Name::XRequestId) {
        Some(f) if seen.trusted && request_id::acceptable(f.value.of(buf)) => f.value.of(buf),
        _ => {
            made = net.ids.next();
            &made
        }
    };
    let listener = &net.listeners[c.listener];
    let (server, server_port) = c
        .local
        .as_ref()
        .or(listener.local.as_ref())
        .map_or((&[][..], 0), |(ip, port)| (ip.as_bytes(), *port));
    // A proxy that we trust knows better than the connection that it came by.
    let https = seen.forwarded.https.unwrap_or(c.is_secure());
    let (mut server, mut server_port) = (server, server_port);
    if c.ip.is_none() {
        // A unix socket has no address: the name that the client used must do.
        let (host, port) = address::host_and_port(head.authority.of(buf));
        server = if host.is_empty() { b"localhost" } else { host };
        server_port = port.unwrap_or(if https { 443 } else { 80 });
    }
    if let Some(host) = seen.forwarded.host {
        let (host, port) = address::host_and_port(host);
        server = host;
        server_port = port.unwrap_or(if https { 443 } else { 80 });
    }
    if let Some(port) = seen.forwarded.port {
        server_port = port;
    }
    let forwarded_text: AddressText;
    let (peer, peer_port): (&[u8], u16) = match seen.forwarded.client {
        Some(ip) if Some(ip) != c.ip.map(|ip: IpAddr| ip.to_canonical()) => {
            forwarded_text = AddressText::of(Some(ip));
            (forwarded_text.as_bytes(), 0)
        }
        _ => (c.ip_text.as_bytes(), c.port),
    };
    let with_root;
    let to_app = going.route().and_then(|r| r.action.app());
    let (mut target, mut raw_target): (&[u8], &[u8]) = match head.form {
        Form::Origin => (head.path_and_query.of(buf), b""),
        _ if head.empty_path => {
            with_root = [b"/", head.path_and_query.of(buf)].concat();
            (&with_root, head.target.of(buf))
        }
        _ => (head.path_and_query.of(buf), head.target.of(buf)),
    };
    let edited;
    let mut done = Ok(());
    // What was decided by the canonical path shall not be undone by another reader's idea of the dots in it.
    let dotted = going.path.is_some() && path::is_dotted(uri::split_query(target).0);
    if let (Some(to), Some(path)) = (to_app, going.path)
        && (dotted || to.rewrite.is_some() || !to.mount.is_empty())
    {
        let (raw, query) = uri::split_query(target);
        let mut text = Vec::new();
        match &to.rewrite {
            Some(rewrite) => {
                let (host, _) = address::host_and_port(head.authority.of(buf));
                let values = Values { host, https, path, raw_path: None, rest_at: going.rest_at, query };
                rewrite.fill(&values, &mut text);
            }
            // Another spelling of the mount would not be found in front of it.
            None if raw != path.as_bytes() => path::encode(path, &mut text),
            None => {}
        }
        if !text.is_empty() {
            if let Some(query) = query.filter(|_| to.rewrite.is_none() || to.keeps_query) {
                text.push(b'?');
                text.extend_from_slice(query);
            }
            if u16::try_from(text.len()).is_ok() {
                edited = text;
                if raw_target.is_empty() {
                    raw_target = target;
                }
                target = &edited;
            } else {
                // The frame has no place for it, and the app shall not see another. The log does.
                done = Err((414, "limit.rewritten"));
            }
        }
    }
    let http_1_0 = head.version == Version::Http10;
    let http_2 = c.stream.is_some();
    let version = match (http_2, http_1_0) {
        (true, _) => traits::HTTP_2,
        (_, true) => traits::HTTP_1_0,
        _ => 0,
    };
    let method = head.method.of(buf);
    let mut w = RequestWriter::begin(
        &mut x.out.frame,
        &RequestHead {
            method,
            request_id: id,
            target,
            raw_target,
            peer,
            server,
            peer_port,
            server_port,
            script: to_app.map_or(b"", |to| to.mount.as_bytes()),
            traits: version | if https { traits::HTTPS } else { 0 },
        },
    );
    let edit = going.route().and_then(|r| r.request_edit.as_ref());
    let compress = going.route().is_some_and(|r| r.compress.is_some());
    let mut known_coding = None;
    let mut given = 0;
    for (i, f) in head.fields.iter().enumerate() {
        let pass = match f.known {
            Name::Other
            | Name::Host
            | Name::ContentType
            | Name::Cookie
            | Name::UserAgent
            | Name::Referer
            | Name::Authorization => true,
            Name::Underscore | Name::Proxy | Name::Expect => false,
            Name::ContentLength => head.body == BodyLength::Length(0),
            known if address::tells_client(known) => seen.trusted,
            Name::XRequestId => seen.trusted,
            _ => false,
        };
        let kept = edit.is_none_or(|edit| edit.passes(f.name.of(buf), &mut given));
        if pass && kept && !head.hop(i) {
            let name = f.name.of(buf);
            let none = compress && name.eq_ignore_ascii_case(b"if-none-match");
            if none || compress && name.eq_ignore_ascii_case(b"if-match") {
                let (tags, coding) = squeeze::plain_tags(f.value.of(buf));
                known_coding = coding.filter(|_| none);
                w.field(f.name.of(buf), &tags);
                continue;
            }
            w.field(f.name.of(buf), f.value.of(buf));
        }
    }
    for (name, value) in edit.into_iter().flat_map(|edit| edit.additions(given, https)) {
        w.field(name, value);
    }
    for (name, value) in c.shown.iter().flat_map(|shown| &shown.fields) {
        w.field(name.as_bytes(), value);
    }
    w.finish_head();
    x.known_coding = known_coding;
    x.http_1_0 = http_1_0;
    x.http_2 = http_2;
    x.is_head = head.is_head;
    x.keep_alive = head.keep_alive && net.server.keep_alive_ms > 0;
    x.idempotent = matches!(method, b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS");
    x.method_bytes = method.len() as u16;
    x.id_bytes = id.len() as u16;
    done
}

/// To the app, once its body is there (or at once, if bodies are streamed). `rest` is what came behind the head;
/// returns how much of it was used.
fn app(edge: &mut Edge, r: &Request<'_>, to: &ToApp) -> Result<usize, (u16, &'static str)> {
    let Request { key, xkey, head, .. } = *r;
    let rest = &r.buf[head.bytes as usize..];
    let net = &mut edge.net;
    let scarce = net.buffered_bytes > BUFFERED_BYTES_MANY || net.is_crowded(key);
    let Some(x) = net.exchanges.table.get_mut(xkey) else { return Ok(0) };
    let Some(c) = net.connections.get_mut(key) else { return Ok(0) };
    x.out.window = if scarce { WINDOW_BYTES_SCARCE } else { WINDOW_BYTES } as u32;
    x.app = to.app.slot;
    x.out.body_flags = 0;
    x.out.body_bytes = 0;
    c.body_bytes = 0;
    c.body_bytes_then = 0;
    let length = match head.body {
        BodyLength::None | BodyLength::Length(0) => {
            c.phase = Phase::App;
            edge.submit(key, xkey);
            return Ok(0);
        }
        BodyLength::Length(n) => {
            c.body = BodyRest::Length(n);
            Some(n)
        }
        BodyLength::Chunked => {
            c.body = if c.stream.is_some() { BodyRest::Data } else { BodyRest::Chunked(Box::default()) };
            None
        }
    };
    x.owes_continue = head.expect_continue;
    if !to.app.config.request_buffering {
        x.out.body_flags = flag::BODY_STREAMED;
        x.out.body_bytes = length.unwrap_or(UNKNOWN);
        let used = edge.take_beginning(key, xkey, rest)?;
        if let Some(c) = edge.net.connections.get_mut(key) {
            c.phase = Phase::App;
        }
        edge.submit(key, xkey);
        return Ok(used);
    }
    // A client that waits for `100 Continue` should learn before its upload that there is no room.
    if edge.pools.list[usize::from(to.app.slot)].pool.full() {
        edge.refuse_for_load(xkey);
        return Ok(0);
    }
    x.out.body_flags = flag::BODY_INLINE;
    // Streams are cheap to open: they get a file when they have sent what needs one.
    let spooled = length.is_some_and(|n| n > INLINE_BODY_BYTES_MAX as u64) && c.stream.is_none();
    if spooled || net.inline_bytes > INLINE_SUM_BYTES_MAX {
        match net.spools.take(to.app.config.id) {
            Ok(spool) => {
                x.out.spool = Some(spool);
                x.out.body_flags = flag::BODY_SPOOLED;
            }
            Err(e) => {
                log::error(
                    "cannot make a file for a request body",
                    &[("folder", &net.server.spool_dir), ("error", &e)],
                );
                let own = Own { retry_after: Some(5), close: true, ..Own::default() };
                net.answer_own(xkey, 503, own, Ending::ServerError);
                return Ok(0);
            }
        }
    }
    c.phase = Phase::Body;
    let now_ms = net.now_ms;
    net.set_deadline(key, now_ms + crate::receive::BODY_WINDOW_MS);
    if head.expect_continue {
        if rest.is_empty() {
            edge.net.continue_if_owed(xkey);
        } else if let Some(x) = edge.net.exchanges.table.get_mut(xkey) {
            // With body bytes in hand already nobody waits for the word.
            x.owes_continue = false;
        }
    }
    Ok(0)
}
