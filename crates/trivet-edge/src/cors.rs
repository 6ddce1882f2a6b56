//! Which other origins' scripts may read a route's answers (Fetch, "CORS protocol").

use trivet_http::h1::Head;

use crate::answer::{Own, field};
use crate::config::Cors;
use crate::edge::Edge;
use crate::ending::Ending;
use crate::pipeline::leave_body;
use crate::route::Route;

/// Preflights are answered here, other requests remembered by their origin.
pub(crate) fn step(edge: &mut Edge, key: u32, xkey: u32, buf: &[u8], head: &Head, route: &Route) -> bool {
    let Some(rules) = &route.cors else { return false };
    let value = |name: &[u8]| {
        let field = head.fields.iter().find(|f| f.name.of(buf).eq_ignore_ascii_case(name))?;
        Some(field.value.of(buf))
    };
    let Some(origin) = value(b"origin") else { return false };
    let allowed = rules.origins.iter().any(|o| o == "*" || o.as_bytes() == origin);
    if allowed && let Some(x) = edge.net.exchanges.table.get_mut(xkey) {
        x.origin = Some(origin.into());
    }
    let preflight = head.method.of(buf) == b"OPTIONS" && value(b"access-control-request-method").is_some();
    if !preflight {
        return false;
    }
    let mut fields = b"Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n".to_vec();
    if allowed {
        field(&mut fields, b"Access-Control-Allow-Methods", rules.methods.join(", ").as_bytes());
        let asked = value(b"access-control-request-headers");
        let headers = match asked {
            Some(asked) if rules.headers.iter().any(|h| h == "*") => asked.to_vec(),
            _ => rules.headers.join(", ").into_bytes(),
        };
        if !headers.is_empty() {
            field(&mut fields, b"Access-Control-Allow-Headers", &headers);
        }
        let age = rules.max_age_seconds.to_string();
        field(&mut fields, b"Access-Control-Max-Age", age.as_bytes());
    }
    leave_body(edge, key, head);
    edge.net.answer_own(xkey, 204, Own { fields: &fields, ..Own::default() }, Ending::Done);
    true
}

/// Whether a field is one of those that say who may read the answer: where the route says it, the app does not.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    name.len() > 15 && name[..15].eq_ignore_ascii_case(b"access-control-")
}

/// What says who may read the answer. `origin`: of the script that may.
pub(crate) fn fields(cors: &Cors, origin: Option<&[u8]>) -> Vec<(&'static [u8], Vec<u8>)> {
    let mut fields: Vec<(&'static [u8], Vec<u8>)> = Vec::new();
    // Without credentials all may read what is the same for all, and is so for whoever asks.
    let for_all = cors.origins.iter().any(|o| o == "*") && !cors.credentials;
    if for_all {
        fields.push((b"Access-Control-Allow-Origin", b"*".to_vec()));
    } else {
        fields.push((b"Vary", b"Origin".to_vec()));
        let Some(origin) = origin else { return fields };
        fields.push((b"Access-Control-Allow-Origin", origin.to_vec()));
    }
    if cors.credentials {
        fields.push((b"Access-Control-Allow-Credentials", b"true".to_vec()));
    }
    if !cors.expose.is_empty() {
        fields.push((b"Access-Control-Expose-Headers", cors.expose.join(", ").into_bytes()));
    }
    fields
}
