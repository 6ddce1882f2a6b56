//! What is done to the fields of requests and responses: changes, presets, CORS, compression.

use trivet_http::field::{self, Name};

use super::document::{Entry, Node, Span, Value};
use super::edge;
use super::keys::{self, CODINGS};
use super::secret;
use super::section::{Reading, Section, time_ms};

/// Smaller answers gain nothing.
const COMPRESS_BYTES_MIN: u64 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// `request-headers` or `response-headers`.
pub(crate) fn changes(section: Option<Section<'_>>, side: Side, reading: &mut Reading) -> edge::Changes {
    let Some(section) = section else { return edge::Changes::default() };
    let mut remove = Vec::new();
    for (text, span) in section.texts("remove") {
        if name_is_fit(text, span, side, reading) {
            remove.push(text.to_owned());
        }
    }
    let mut lines = |key: &str| pairs(section.map(key), side, reading);
    edge::Changes {
        remove,
        set: lines("set"),
        add: lines("add"),
        default: if side == Side::Response { lines("default") } else { Vec::new() },
    }
}

fn pairs(entries: &[Entry], side: Side, reading: &mut Reading) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for entry in entries {
        if !name_is_fit(&entry.name, &entry.name_span, side, reading) {
            continue;
        }
        if all.iter().any(|(name, _)| name.eq_ignore_ascii_case(&entry.name)) {
            let message = format!("`{}` stands twice: capital letters make no difference", entry.name);
            reading.error(&entry.name_span, message, "leave one out");
            continue;
        }
        let Some(value) = secret::text(entry, reading) else { continue };
        if value_is_fit(&entry.name, &value, &entry.node.span, reading) {
            all.push((entry.name.clone(), value.trim().to_owned()));
        }
    }
    all
}

fn name_is_fit(name: &str, span: &Span, side: Side, reading: &mut Reading) -> bool {
    if !field::is_token(name.as_bytes()) {
        let message = format!("`{name}` is not the name of a header field");
        reading.error(span, message, "names are made of letters, digits and `-`: `X-Frame-Options`");
        return false;
    }
    let known = Name::of(name.as_bytes());
    let why = match known {
        Name::ContentLength => Some("it says where the body ends, which the server knows"),
        Name::Host if side == Side::Request => Some("it says which site is asked for"),
        Name::Underscore if side == Side::Request => Some("names with `_` never reach an app"),
        known if known.is_hop_by_hop() => {
            Some("it is between two neighbours on the way, and the server's own")
        }
        _ => None,
    };
    match why {
        Some(why) => {
            reading.error(span, format!("`{name}` cannot be changed: {why}"), "leave it out");
            false
        }
        None => true,
    }
}

pub(crate) fn value_is_fit(name: &str, value: &str, span: &Span, reading: &mut Reading) -> bool {
    let fit = value.bytes().all(field::is_value_byte);
    if !fit {
        let message = format!("the value of `{name}` has a line end or another control character in it");
        reading.error(span, message, "a field's value is one line");
    }
    fit
}

/// The site's and, on top, the route's: of two for one field the route's counts.
pub(crate) fn merged(site: &edge::Changes, route: edge::Changes) -> edge::Changes {
    let own = |name: &str| {
        route.remove.iter().any(|n| n.eq_ignore_ascii_case(name))
            || [&route.set, &route.add, &route.default]
                .into_iter()
                .flatten()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    let left =
        |lines: &[(String, String)]| lines.iter().filter(|(name, _)| !own(name)).cloned().collect::<Vec<_>>();
    let (mut remove, mut set, mut add, mut default) = (
        site.remove.iter().filter(|name| !own(name)).cloned().collect::<Vec<_>>(),
        left(&site.set),
        left(&site.add),
        left(&site.default),
    );
    remove.extend(route.remove);
    set.extend(route.set);
    add.extend(route.add);
    default.extend(route.default);
    edge::Changes { remove, set, add, default }
}

/// The preset's fields, which stand back behind any change that names the same field.
pub(crate) fn with_security(mut changes: edge::Changes, preset: &[(String, String)]) -> edge::Changes {
    for (name, value) in preset {
        let named = changes.remove.iter().any(|n| n.eq_ignore_ascii_case(name))
            || [&changes.set, &changes.add, &changes.default]
                .into_iter()
                .flatten()
                .any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !named {
            changes.default.push((name.clone(), value.clone()));
        }
    }
    changes
}

/// `security-headers`; `None` where nothing is said.
pub(crate) fn security(section: Section<'_>, reading: &mut Reading) -> Option<Vec<(String, String)>> {
    let node = section.get("security-headers")?;
    let empty = Node::empty();
    let preset = match &node.value {
        Value::Bool(false) => return Some(Vec::new()),
        Value::Bool(true) => Section::new(&keys::SECURITY, &empty, section.span)?,
        _ => section.sub("security-headers")?,
    };
    let mut all = Vec::new();
    for (key, name) in [
        ("content-type-options", "X-Content-Type-Options"),
        ("frame-options", "X-Frame-Options"),
        ("referrer-policy", "Referrer-Policy"),
        ("opener-policy", "Cross-Origin-Opener-Policy"),
    ] {
        let word = preset.word(key);
        if word != "off" {
            all.push((name.to_owned(), word.to_owned()));
        }
    }
    for (key, name) in
        [("content-security-policy", "Content-Security-Policy"), ("permissions-policy", "Permissions-Policy")]
    {
        if let Some((text, span)) = preset.text(key)
            && value_is_fit(key, text, span, reading)
        {
            all.push((name.to_owned(), text.to_owned()));
        }
    }
    Some(all)
}

/// `hsts`, as lines for answers over TLS.
pub(crate) fn hsts(section: Section<'_>, reading: &mut Reading) -> Vec<(String, String)> {
    const YEAR_MS: u64 = 365 * 86_400_000;
    let Some(node) = section.get("hsts") else { return Vec::new() };
    let (max_age_ms, subdomains, preload) = match section.sub("hsts") {
        Some(table) => (table.time_ms("max-age"), table.flag("subdomains"), table.flag("preload")),
        None => match time_ms(node) {
            Some(ms) => (ms, false, false),
            None => return Vec::new(),
        },
    };
    if preload && !(subdomains && max_age_ms >= YEAR_MS) {
        let hint = "write `{ max-age = \"1y\", subdomains = true, preload = true }`";
        reading.error(&node.span, "`preload` needs `subdomains` and a `max-age` of a year at least", hint);
    }
    let mut value = format!("max-age={}", max_age_ms / 1000);
    if subdomains {
        value.push_str("; includeSubDomains");
    }
    if preload {
        value.push_str("; preload");
    }
    vec![("Strict-Transport-Security".to_owned(), value)]
}

/// `cors`; `site`: what counts where nothing is said.
pub(crate) fn cors(
    section: Section<'_>,
    site: Option<&edge::Cors>,
    reading: &mut Reading,
) -> Option<edge::Cors> {
    if !section.has("cors") {
        return site.cloned();
    }
    let table = section.sub("cors")?;
    let mut origins = Vec::new();
    for (text, span) in table.texts("origins") {
        match origin(text) {
            Ok(origin) => origins.push(origin),
            Err(hint) => reading.error(span, format!("`{text}` is not an origin"), hint),
        }
    }
    let credentials = table.flag("credentials");
    if credentials && origins.iter().any(|o| o == "*") {
        let span = table.entry("credentials").map_or(table.span, |e| &e.name_span);
        let hint = "name the origins: with `*` every site on the web could act in a visitor's name";
        reading.error(span, "`credentials` cannot stand beside the origin `*`", hint);
    }
    let methods = if table.has("methods") {
        methods(&table.texts("methods"), reading)
    } else {
        ["GET", "HEAD", "POST"].map(str::to_owned).to_vec()
    };
    let mut names = |key: &str| {
        let mut all = Vec::new();
        for (text, span) in table.texts(key) {
            if field::is_token(text.as_bytes()) {
                all.push(text.to_owned());
            } else {
                let message = format!("`{text}` is not the name of a header field");
                reading.error(span, message, "names are made of letters, digits and `-`: `X-Request-Id`");
            }
        }
        all
    };
    Some(edge::Cors {
        headers: names("headers"),
        expose: names("expose"),
        origins,
        methods,
        credentials,
        max_age_seconds: table.time_ms("max-age") / 1000,
    })
}

fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let example = "an origin is scheme, host and port: `https://app.example`".to_owned();
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(if text.contains('.') {
            format!("write it with its scheme: `https://{text}`")
        } else {
            example
        });
    };
    if let Some((host, _)) = rest.split_once('/') {
        return Err(format!("an origin ends with its host or port: `{scheme}://{host}`"));
    }
    let fit = !rest.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && !scheme.is_empty()
        && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    // Browsers send it in lower case.
    if fit { Ok(text.to_ascii_lowercase()) } else { Err(example) }
}

/// Methods by their names.
pub(crate) fn methods(texts: &[(&str, &Span)], reading: &mut Reading) -> Vec<String> {
    let mut all = Vec::new();
    for (text, span) in texts {
        let upper = text.to_uppercase();
        if !field::is_token(text.as_bytes()) {
            reading.error(span, format!("`{text}` is not a method"), "methods are `GET`, `POST` and so on");
        } else if *text != upper {
            let message = format!("`{text}` is not a method");
            reading.error(span, message, format!("methods are in capital letters: `{upper}`"));
        } else {
            all.push(upper);
        }
    }
    all
}

/// `compress`; `site`: what counts where nothing is said.
pub(crate) fn compress(section: Section<'_>, site: Option<&edge::Compress>) -> Option<edge::Compress> {
    let codings: Vec<String> = match section.get("compress").map(|node| &node.value) {
        None => return site.cloned(),
        Some(Value::Bool(true)) => CODINGS.iter().map(ToString::to_string).collect(),
        Some(Value::List(_)) => {
            section.texts("compress").into_iter().map(|(text, _)| text.to_owned()).collect()
        }
        Some(_) => Vec::new(),
    };
    (!codings.is_empty()).then_some(edge::Compress { codings, bytes_min: COMPRESS_BYTES_MIN })
}
