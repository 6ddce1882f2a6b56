//! Routes: which requests, and what is done with them.

use std::collections::HashSet;

use trivet_http::field;
use trivet_http::rule::{BadRule, PathRule};
use trivet_http::template::{Place, Template};

use super::app::App;
use super::document::{Node, Span, Value};
use super::problem::similar;
use super::section::{Reading, Section, text_of, time_ms};
use super::{django, edge, fields, site};

/// What the site says for all its routes.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) body_bytes_max: u64,
    pub(crate) request: edge::Changes,
    pub(crate) response: edge::Changes,
    pub(crate) security: Vec<(String, String)>,
    pub(crate) secure: Vec<(String, String)>,
    pub(crate) cors: Option<edge::Cors>,
    pub(crate) compress: Option<edge::Compress>,
}

impl Common {
    /// The site's say on a route that has none of its own.
    pub(crate) fn applied(&self, route: edge::Route) -> edge::Route {
        edge::Route {
            body_bytes_max: self.body_bytes_max,
            request_headers: self.request.clone(),
            response_headers: fields::with_security(self.response.clone(), &self.security),
            secure_headers: self.secure.clone(),
            cors: self.cors.clone(),
            compress: self.compress.clone(),
            ..route
        }
    }
}

/// A route while the file is read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) route: edge::Route,
    /// Of its path.
    pub(crate) span: Span,
    /// Served where everything else is sent to https, too.
    pub(crate) plain: bool,
}

pub(crate) fn read(
    section: Section<'_>,
    common: &Common,
    apps: &[App],
    used: &mut HashSet<usize>,
    reading: &mut Reading,
) -> Option<Read> {
    let path = section.text("path");
    let rule = path.and_then(|(text, span)| match PathRule::parse(text) {
        Ok(rule) => Some(rule),
        Err(error) => {
            let hint = match error {
                _ if text.starts_with(['^', '~']) || text.contains(['(', '$', '\\']) => {
                    "regular expressions are not known: a `*` stands for any part of a segment, as in `/*/feed.xml`"
                        .to_owned()
                }
                _ if text.contains("://") => "write the path alone: the site's `hosts` say the rest".to_owned(),
                BadRule::NoSlash => format!("write `/{text}`"),
                BadRule::NotPlain if text.contains('?') => {
                    let path = text.split('?').next().unwrap_or_default();
                    format!("the query is no part of the path: `{path}`")
                }
                BadRule::NotPlain => "write it as people read it: `/a b`, `/café`".to_owned(),
                BadRule::Stars => "write `/a/**/b`".to_owned(),
                BadRule::Long => "a shorter pattern, or a prefix as `/a/*`".to_owned(),
            };
            reading.error(span, format!("`{text}` is not a path rule: {error}"), hint);
            None
        }
    });
    let action = action(section, rule.as_ref(), apps, used, reading);
    let mut methods = fields::methods(&section.texts("methods"), reading);
    if methods.iter().any(|m| m == "GET") && methods.iter().all(|m| m != "HEAD") {
        methods.push("HEAD".to_owned());
    }
    let route = edge::Route {
        path: path.map_or("/*", |(text, _)| text).to_owned(),
        methods,
        headers: conditions(section, reading),
        internal: section.flag("internal"),
        quiet: !section.flag("log"),
        action: action?,
        body_bytes_max: if section.has("request-body-max") {
            section.size("request-body-max")
        } else {
            common.body_bytes_max
        },
        request_headers: fields::merged(
            &common.request,
            fields::changes(section.sub("request-headers"), fields::Side::Request, reading),
        ),
        response_headers: fields::with_security(
            fields::merged(
                &common.response,
                fields::changes(section.sub("response-headers"), fields::Side::Response, reading),
            ),
            fields::security(section, reading).as_ref().unwrap_or(&common.security),
        ),
        secure_headers: common.secure.clone(),
        cors: fields::cors(section, common.cors.as_ref(), reading),
        compress: fields::compress(section, common.compress.as_ref()),
    };
    rule?;
    let (_, span) = path?;
    Some(Read { route, span: span.clone(), plain: section.flag("plain") })
}

fn conditions(section: Section<'_>, reading: &mut Reading) -> Vec<(String, Option<String>)> {
    let mut all = Vec::new();
    for entry in section.map("headers") {
        let Some(value) = text_of(&entry.node) else { continue };
        if !field::is_token(entry.name.as_bytes()) {
            let message = format!("`{}` is not the name of a header field", entry.name);
            reading.error(&entry.name_span, message, "names are made of letters, digits and `-`: `X-Beta`");
        } else if fields::value_is_fit(&entry.name, value, &entry.node.span, reading) {
            all.push((entry.name.clone(), (value != "*").then(|| value.to_owned())));
        }
    }
    all
}

const ACTIONS: [&str; 4] = ["app", "static", "redirect", "respond"];

fn action(
    section: Section<'_>,
    rule: Option<&PathRule>,
    apps: &[App],
    used: &mut HashSet<usize>,
    reading: &mut Reading,
) -> Option<edge::Action> {
    let named: Vec<&str> = ACTIONS.into_iter().filter(|name| section.has(name)).collect();
    for (key, of) in [("mount", "app"), ("rewrite", "app"), ("status", "redirect")] {
        if section.has(key) && !section.has(of) {
            let span = section.entry(key).map_or(section.span, |e| &e.name_span);
            reading.error(
                span,
                format!("`{key}` belongs to `{of}`, which this route does not have"),
                "leave it out",
            );
        }
    }
    match named[..] {
        [] => {
            let hint = "give it one of `app`, `static`, `redirect` and `respond`";
            // What comes in a later version has been told.
            if !section.has_later() {
                reading.error(
                    section.text("path").map_or(section.span, |(_, s)| s),
                    "the route does nothing",
                    hint,
                );
            }
            None
        }
        ["app"] => to_app(section, rule, apps, used, reading).map(edge::Action::App),
        ["static"] | ["app", "static"] => {
            let otherwise = if section.has("app") {
                Some(Box::new(edge::Action::App(to_app(section, rule, apps, used, reading)?)))
            } else {
                None
            };
            files(section, rule, apps, otherwise, reading).map(edge::Action::Static)
        }
        ["redirect"] => redirect(section, rule, reading),
        [_] => respond(section, reading),
        [first, second, ..] => {
            let span = section.entry(second).map_or(section.span, |e| &e.name_span);
            let message = format!("the route has two actions, `{first}` and `{second}`");
            reading.error(span, message, "leave one out; only `static` and `app` go together: files first");
            None
        }
    }
}

fn to_app(
    section: Section<'_>,
    rule: Option<&PathRule>,
    apps: &[App],
    used: &mut HashSet<usize>,
    reading: &mut Reading,
) -> Option<edge::ToApp> {
    let (name, span) = section.text("app")?;
    let Some(app) = apps.iter().position(|a| a.part.name == name) else {
        let hint = match similar(name, apps.iter().map(|a| a.part.name.as_str())) {
            Some(right) => format!("did you mean `{right}`?"),
            None if apps.is_empty() => format!("add `[app.{name}]`"),
            None => {
                let all: Vec<_> = apps.iter().map(|a| format!("`{}`", a.part.name)).collect();
                format!("there are {}", all.join(", "))
            }
        };
        reading.error(span, format!("unknown app `{name}`"), hint);
        return None;
    };
    used.insert(app);
    let mount = match rule {
        Some(PathRule::Exact(path)) if section.flag("mount") => path.trim_end_matches('/').to_owned(),
        Some(PathRule::Prefix(path)) if section.flag("mount") => path.to_string(),
        Some(PathRule::Pattern(_)) if section.flag("mount") => {
            let span = section.entry("mount").map_or(section.span, |e| &e.name_span);
            let hint = "write the path as a prefix: `/shop/*`";
            reading.error(span, "an app cannot be mounted at a pattern", hint);
            return None;
        }
        _ => String::new(),
    };
    if section.flag("mount") && section.has("rewrite") {
        let span = section.entry("rewrite").map_or(section.span, |e| &e.name_span);
        let hint = "leave one out: `mount` tells the app where it lives, `rewrite` hides it";
        reading.error(span, "`mount` and `rewrite` both say which path the app sees", hint);
    }
    let rewrite = match section.text("rewrite") {
        None => None,
        Some((text, span)) => {
            template(text, span, rule, reading)?;
            if !text.starts_with('/') && !text.starts_with("{path}") && !text.starts_with("{uri}") {
                reading.error(
                    span,
                    format!("`{text}` does not begin with `/`"),
                    "an app sees a path: `/v2/{rest}`",
                );
            }
            Some(text.to_owned())
        }
    };
    Some(edge::ToApp { app, mount, rewrite })
}

fn template(text: &str, span: &Span, rule: Option<&PathRule>, reading: &mut Reading) -> Option<Template> {
    match Template::parse(text) {
        Ok(template) => {
            if template.has(Place::Rest) && matches!(rule, Some(PathRule::Exact(_))) {
                let hint = "it stands for what the star at the end of the path matches: `/old/*`";
                reading.warn(span, "`{rest}` is always empty: the route's path has no star", hint);
            }
            Some(template)
        }
        Err(error) => {
            let hint = "a template is text with places as `{host}`, `{path}`, `{rest}` and `{uri}`";
            reading.error(span, format!("`{text}` is not a template: {error}"), hint);
            None
        }
    }
}

/// For good, and the method stays.
const STATUS_DEFAULT: u16 = 308;

fn redirect(section: Section<'_>, rule: Option<&PathRule>, reading: &mut Reading) -> Option<edge::Action> {
    let (to, span) = section.text("redirect")?;
    template(to, span, rule, reading)?;
    let after_scheme = ["http://", "https://", "{scheme}://", "//"].iter().find_map(|s| to.strip_prefix(s));
    if let Some(rest) = after_scheme {
        // The client chooses what is filled in: it must not choose the host.
        let host_end = ["/", "?", "{path}", "{uri}"].iter().filter_map(|end| rest.find(end)).min();
        let host = &rest[..host_end.unwrap_or(rest.len())];
        if host.is_empty() || ["{rest}", "{query}", "{scheme}"].iter().any(|place| host.contains(place)) {
            let message = format!("whoever makes a link could choose where `{to}` leads");
            reading.error(span, message, "write the host, then a `/`: `https://shop.example/{rest}`");
            return None;
        }
    } else if !["/", "{path}", "{uri}"].iter().any(|start| to.starts_with(start)) {
        let hint = "write it as `https://shop.example{uri}` or `/new/{rest}`";
        reading.error(span, format!("`{to}` leads nowhere"), hint);
        return None;
    }
    let status = match section.get("status") {
        Some(Node { value: Value::Whole(status), span, .. }) => {
            if ![301, 302, 303, 307, 308].contains(status) {
                let hint = "308 and 301 are for good, 307 and 302 for now, 303 leads to a page after a form";
                reading.error(span, format!("{status} is not the status of a redirect"), hint);
            }
            u16::try_from(*status).unwrap_or(STATUS_DEFAULT)
        }
        _ => STATUS_DEFAULT,
    };
    Some(edge::Action::Redirect { to: to.to_owned(), status })
}

fn respond(section: Section<'_>, reading: &mut Reading) -> Option<edge::Action> {
    let node = section.get("respond")?;
    if let Value::Whole(status) = node.value {
        let status = u16::try_from(status).ok()?;
        return Some(edge::Action::Respond { status, page: edge::Page::default(), retry_after: None });
    }
    let table = section.sub("respond")?;
    let status = table.whole("status") as u16;
    let bodies: Vec<&str> = ["text", "file", "json"].into_iter().filter(|key| table.has(key)).collect();
    if let [_, second, ..] = bodies[..] {
        let span = table.entry(second).map_or(table.span, |e| &e.name_span);
        reading.error(span, "an answer has one body", "leave all but one of `text`, `file` and `json` out");
        return None;
    }
    let mut page = match bodies.first() {
        Some(&"text") => {
            let (text, span) = table.text("text")?;
            if text.len() as u64 > site::PAGE_BYTES_MAX {
                reading.error(span, "the text is larger than 64 KiB", "serve large files by `static`");
            }
            edge::Page { media: "text/plain; charset=utf-8".to_owned(), body: text.to_owned() }
        }
        Some(&"file") => {
            let (text, span) = table.text("file")?;
            let path = reading.absolute(text);
            site::page(span, &path, reading)?
        }
        Some(_) => edge::Page {
            media: "application/json".to_owned(),
            body: json(&table.get("json")?.value).to_string(),
        },
        None => edge::Page::default(),
    };
    if let Some((media, span)) = table.text("type") {
        if media.contains('/') && media.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            media.clone_into(&mut page.media);
        } else {
            reading.error(
                span,
                format!("`{media}` is not a media type"),
                "write it as `text/html; charset=utf-8`",
            );
        }
    }
    if matches!(status, 204 | 205 | 304) && !page.body.is_empty() {
        let span = table.entry(bodies[0]).map_or(table.span, |e| &e.name_span);
        reading.error(
            span,
            format!("an answer with status {status} has no body"),
            "leave the body out, or write status 200",
        );
    }
    let retry_after = table.get("retry-after").and_then(time_ms).map(|ms| (ms / 1000) as u32);
    Some(edge::Action::Respond { status, page, retry_after })
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) | Value::Date(text) => text.clone().into(),
        Value::Whole(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Bool(is) => (*is).into(),
        Value::List(list) => list.iter().map(|n| json(&n.value)).collect(),
        Value::Table(entries) => entries.iter().map(|e| (e.name.clone(), json(&e.node.value))).collect(),
        Value::Told => serde_json::Value::Null,
    }
}

/// The path that a folder stands at: what the rule has before its first star.
fn literal(rule: &PathRule) -> String {
    match rule {
        PathRule::Prefix(prefix) => prefix.to_string(),
        PathRule::Exact(text) => folder_of(text),
        PathRule::Pattern(_) => {
            let text = rule.to_string();
            folder_of(text.split('*').next().unwrap_or_default())
        }
    }
}

fn folder_of(path: &str) -> String {
    path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned()
}

fn files(
    section: Section<'_>,
    rule: Option<&PathRule>,
    apps: &[App],
    otherwise: Option<Box<edge::Action>>,
    reading: &mut Reading,
) -> Option<edge::Static> {
    let empty = Node::empty();
    let table = section.sub("static");
    let (text, span) = match table {
        Some(table) => table.text("folder")?,
        None => section.text("static")?,
    };
    let options = table.or_else(|| Section::new(&super::keys::STATIC, &empty, section.span))?;
    let folder = if text == django::DJANGO {
        let named = section.text("app").map(|(name, _)| name);
        django::static_root(named, apps, span, reading)?
    } else {
        reading.folder(span, text)?
    };
    let Some(folder_text) = folder.to_str() else {
        reading.error(
            span,
            format!("`{}` is not UTF-8", folder.display()),
            "use a folder whose name is text",
        );
        return None;
    };
    let names = |key: &str, reading: &mut Reading| {
        let mut all = Vec::new();
        for (name, span) in options.texts(key) {
            let plain = !name.is_empty()
                && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
                && (key == "fallback" || !name.contains('/'));
            if plain {
                all.push((name.to_owned(), span.clone()));
            } else {
                reading.error(
                    span,
                    format!("`{name}` is not the name of a file in the folder"),
                    "write it as `index.html`",
                );
            }
        }
        all
    };
    let index = names("index", reading);
    let fallback = names("fallback", reading);
    for (name, span) in &fallback {
        if !folder.join(name).is_file() {
            let message = format!("there is no `{name}` in `{folder_text}`");
            reading.warn(span, message, "build the pages first: what is not there gets 404");
        }
    }
    if !fallback.is_empty() && otherwise.is_some() {
        let span = options.entry("fallback").map_or(section.span, |e| &e.name_span);
        reading.error(span, "`fallback` and `app` are both for what is no file", "leave one out");
    }
    Some(edge::Static {
        folder: folder_text.to_owned(),
        at: rule.map(literal).unwrap_or_default(),
        index: if options.has("index") {
            index.into_iter().map(|(name, _)| name).collect()
        } else {
            vec!["index.html".to_owned()]
        },
        fallback: fallback.into_iter().map(|(name, _)| name).collect(),
        listing: options.flag("listing"),
        links: options.flag("links"),
        cache: cache(options, reading),
        otherwise,
    })
}

/// The text of `Cache-Control`.
fn cache(options: Section<'_>, reading: &mut Reading) -> Option<String> {
    const DIRECTIVES: [&str; 13] = [
        "public",
        "private",
        "no-store",
        "no-cache",
        "max-age",
        "s-maxage",
        "must-revalidate",
        "proxy-revalidate",
        "must-understand",
        "no-transform",
        "immutable",
        "stale-while-revalidate",
        "stale-if-error",
    ];
    let node = options.get("cache")?;
    if let Some(ms) = time_ms(node) {
        return Some(format!("max-age={}", ms / 1000));
    }
    let text = text_of(node)?;
    for directive in text.split(',').map(str::trim) {
        let name = directive.split('=').next().unwrap_or_default();
        if !DIRECTIVES.contains(&name) {
            let hint = match similar(name, DIRECTIVES) {
                Some(right) => format!("did you mean `{right}`?"),
                None => "write a time as `\"1h\"`, or as in `\"public, max-age=3600\"`".to_owned(),
            };
            reading.error(
                &node.span,
                format!("`{text}` is neither a time nor the text of `Cache-Control`"),
                hint,
            );
            return None;
        }
    }
    fields::value_is_fit("cache", text, &node.span, reading).then(|| text.to_owned())
}
