//! The step that finds a request's site and route.

use std::rc::Rc;

use trivet_http::h1::{Form, Head};
use trivet_http::{path, uri};

use crate::address;
use crate::answer::Own;
use crate::edge::Edge;
use crate::ending::Ending;
use crate::pipeline::leave_body;
use crate::route::{Found, Route};

/// Where a request goes, and by which path that was decided.
pub(crate) struct Going<'a> {
    found: Option<Found>,
    /// The canonical path. `None`: it was not needed, or there is none.
    pub(crate) path: Option<&'a str>,
    pub(crate) rest_at: usize,
    /// A spelling that could mean several routes.
    unclear: bool,
}

impl Going<'_> {
    pub(crate) fn route(&self) -> Option<&Rc<Route>> {
        match &self.found {
            Some(Found::Route(route, _)) => Some(route),
            _ => None,
        }
    }
}

/// `secured`: a proxy that is trusted says that the client came by TLS.
pub(crate) fn find<'a>(
    edge: &Edge,
    key: u32,
    buf: &'a [u8],
    head: &Head,
    secured: bool,
    spelled: &'a mut String,
) -> Going<'a> {
    let mut going = Going { found: None, path: None, rest_at: 0, unclear: false };
    let Some(c) = edge.net.connections.get(key) else { return going };
    let mut hosts = &*edge.net.listeners[c.listener].hosts;
    if secured {
        hosts = hosts.when_secured();
    }
    let host = || address::host_and_port(head.authority.of(buf)).0;
    let Some(site) = hosts.only().or_else(|| hosts.site(host())) else { return going };
    // What the client has shown, or was not asked for, was for the site that its connection asked for.
    if site.client.as_ref() != c.shown.as_ref().map(|shown| &shown.rule) {
        return going;
    }
    if let Some(only) = site.only() {
        going.found = Some(Found::Route(only.clone(), 0));
        return going;
    }
    let (raw, _) = uri::split_query(head.path_and_query.of(buf));
    if matches!(head.form, Form::Asterisk) {
        going.found = Some(site.find("/", buf, head));
        return going;
    }
    let plain = std::str::from_utf8(raw).ok().filter(|raw| path::is_canonical(raw.as_bytes()));
    going.path = match plain {
        Some(raw) => Some(raw),
        None => path::canonical(raw, spelled).is_ok().then_some(spelled.as_str()),
    };
    let Some(path) = going.path else {
        // A letter to some and a separator to others: it goes on only where that makes no difference.
        let as_letters = site.find(&path::loose(raw, false), buf, head);
        let as_slashes = site.find(&path::loose(raw, true), buf, head);
        // What resolves to another path for some reader is nobody's honest spelling.
        going.unclear = path::is_dotted(raw)
            || match (&as_letters, &as_slashes) {
                (Found::Route(a, _), Found::Route(b, _)) => {
                    !Rc::ptr_eq(a, b) || a.action.without_path().is_none()
                }
                (a, b) => matches!(a, Found::Route(..)) || matches!(b, Found::Route(..)),
            };
        going.found = Some(as_letters);
        return going;
    };
    let found = site.find(path, buf, head);
    if let Found::Route(_, rest_at) = found {
        going.rest_at = rest_at;
    }
    going.found = Some(found);
    going
}

/// The route, unless there is none: then that is answered.
#[allow(clippy::type_complexity, reason = "a route, a refusal, or nothing more to do")]
pub(crate) fn settle<'g>(
    edge: &mut Edge,
    key: u32,
    xkey: u32,
    head: &Head,
    going: &'g Going<'_>,
) -> Option<Result<&'g Rc<Route>, (u16, &'static str)>> {
    let x = edge.net.exchanges.table.get_mut(xkey)?;
    match &going.found {
        Some(Found::Route(route, _)) => {
            x.route = Some(route.clone());
            return Some(if going.unclear { Err((400, "path.spelling")) } else { Ok(route) });
        }
        Some(Found::Nothing(site)) => {
            x.about = Some(site.about.clone());
            leave_body(edge, key, head);
            edge.net.answer_own(xkey, 404, Own::default(), Ending::Done);
        }
        Some(Found::Methods(site, methods)) => {
            x.about = Some(site.about.clone());
            leave_body(edge, key, head);
            let allow = format!("Allow: {methods}\r\n");
            edge.net.answer_own(xkey, 405, Own { fields: allow.as_bytes(), ..Own::default() }, Ending::Done);
        }
        None => {
            // No site has this name, and none is there for all others, or it asks clients for other certificates than
            // the site that this connection is for (RFC 9110 §15.5.20).
            leave_body(edge, key, head);
            edge.net.answer_own(xkey, 421, Own::default(), Ending::Refused);
        }
    }
    None
}
