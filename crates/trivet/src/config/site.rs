//! `[site.NAME]`: hosts that are served alike.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use trivet_http::media;
use trivet_http::rule::PathRule;
use trivet_supervise::access_logs::{LogTarget, Rotation};
use trivet_supervise::listen::{Bind, PORT_DEFAULT};

use super::app::{self, App};
use super::document::{Entry, Span, Value};
use super::listen::{self, Listener, Speaks};
use super::route::{self, Common, Read};
use super::section::{Reading, Section, text_of};
use super::{Identity, edge, fields, hosts, keys, ties, tls};
use crate::values;

pub(crate) const PAGE_BYTES_MAX: u64 = 64 << 10;

/// An access log while the file is read.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) target: LogTarget,
    pub(crate) edge: edge::AccessLog,
    span: Span,
}

#[derive(Debug, Default)]
pub(crate) struct Sites {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) logs: Vec<Log>,
    pub(crate) identities: Vec<Identity>,
    /// Files with the authorities of clients' certificates.
    pub(crate) authorities: Vec<PathBuf>,
    pub(crate) all: Vec<edge::Site>,
    /// Where each site is named, and each of its hosts.
    spans: Vec<(Span, Vec<Span>)>,
}

pub(crate) fn read_all(entries: &[Entry], apps: &[App], reading: &mut Reading) -> Sites {
    let mut all = Sites::default();
    let mut used = HashSet::new();
    for entry in entries {
        app::name_is_fit(entry, "a site", reading);
        if let Some(section) = Section::new(&keys::SITE, &entry.node, &entry.name_span) {
            read(&entry.name, section, apps, &mut used, &mut all, reading);
        }
    }
    let names: Vec<String> = all.listeners.iter().map(|l| l.edge.name.clone()).collect();
    ties::sites(&all.all, &names, &all.spans, reading);
    for (at, app) in apps.iter().enumerate() {
        // Where a route is no good, this may be the app that it is for.
        if !reading.has_errors() && !used.contains(&at) {
            let message = format!("no route leads to the app `{}`", app.part.name);
            reading.warn(
                &app.name_span,
                message,
                "its workers would start for nothing: add a route, or take it out",
            );
        }
    }
    all
}

fn read(
    name: &str,
    section: Section<'_>,
    apps: &[App],
    used: &mut HashSet<usize>,
    all: &mut Sites,
    reading: &mut Reading,
) {
    let (hosts, host_spans) = hosts_of(section, reading);
    let listens = listens_of(section, reading);
    let has = |what: Speaks| listens.iter().any(|(_, speaks, _)| *speaks == what);
    let identity = section.sub("tls").and_then(|tls| tls::read(tls, &hosts, &mut all.identities, reading));
    let client = section.sub("tls").and_then(|tls| tls::client(tls, &mut all.authorities, reading));
    if let Some((.., span)) = listens.iter().find(|(_, speaks, _)| *speaks == Speaks::Https)
        && !section.has("tls")
    {
        let hint = "add `tls = { cert = \"fullchain.pem\", key = \"key.pem\" }`";
        reading.error(span, format!("the site `{name}` speaks https, but has no certificate"), hint);
    }
    let named = |key: &str| section.entry(key).map_or(section.span, |e| &e.name_span);
    if section.has("tls") && !has(Speaks::Https) {
        let hint = "add `\"https://0.0.0.0:443\"` to `listen`, or leave `tls` out";
        reading.warn(named("tls"), "`tls` has no effect: the site has no `https://` address", hint);
    }
    let to_https = if section.has("to-https") {
        section.flag("to-https")
    } else {
        has(Speaks::Http) && has(Speaks::Https)
    };
    if to_https && !has(Speaks::Https) {
        let hint = "add `\"https://0.0.0.0:443\"` to `listen`";
        reading.error(
            named("to-https"),
            "`to-https` has nowhere to send to: the site has no `https://` address",
            hint,
        );
    }
    let open = |speaks: Speaks| speaks == Speaks::Inherited || speaks == Speaks::Http && !to_https;
    if client.is_some()
        && let Some((.., span)) = listens.iter().find(|(_, speaks, _)| open(*speaks))
    {
        let message =
            format!("the site `{name}` asks for certificates of clients, which nobody can show here");
        reading.error(
            span,
            message,
            "leave this address out, or `client-ca`; `to-https` sends `http://` to `https://`",
        );
    }
    let secure = fields::hsts(section, reading);
    if !secure.is_empty() && !has(Speaks::Https) && !has(Speaks::Inherited) {
        let hint = "browsers believe it over https only: add an `https://` address, or leave it out";
        reading.warn(named("hsts"), "`hsts` has no effect: the site has no `https://` address", hint);
    }
    let log = log_of(section, &mut all.logs, reading);
    let error_pages = error_pages(section, reading);
    let common = Common {
        body_bytes_max: section.size("request-body-max"),
        request: fields::changes(section.sub("request-headers"), fields::Side::Request, reading),
        response: fields::changes(section.sub("response-headers"), fields::Side::Response, reading),
        security: fields::security(section, reading).unwrap_or_default(),
        secure,
        cors: fields::cors(section, None, reading),
        compress: fields::compress(section, None),
    };
    let routes = routes_of(name, section, &common, apps, used, reading);
    if !to_https {
        for read in routes.iter().filter(|r| r.plain && r.route.action != edge::Action::Health) {
            reading.warn(&read.span, "`plain` has no effect without `to-https`", "leave it out");
        }
    }
    let secure_port = listens.iter().find_map(|(bind, speaks, _)| match bind {
        Bind::Tcp { port, .. } if *speaks == Speaks::Https => Some(*port),
        _ => None,
    });
    let secure_only = has(Speaks::Https) && !has(Speaks::Inherited) && (to_https || !has(Speaks::Http));
    for read in &routes {
        if let edge::Action::Redirect { to, .. } = &read.route.action
            && is_circle(to, secure_only && !read.plain)
        {
            let hint = "write another host or path; a site with `http://` and `https://` addresses sends to https by itself";
            reading.error(&read.span, format!("`{to}` leads back to where it comes from"), hint);
        }
    }
    let (mut main, mut plain) = (Vec::new(), Vec::new());
    for (bind, speaks, span) in &listens {
        let Some(at) = listen::place(&mut all.listeners, bind, *speaks, span, reading) else { continue };
        let group = if to_https && *speaks == Speaks::Http { &mut plain } else { &mut main };
        if group.contains(&at) {
            reading.error(span, "the same address stands twice", "leave one out");
        } else {
            group.push(at);
        }
    }
    let spans = (section.span.clone(), host_spans);
    // What belongs to no route is the site's all the same.
    let of_none = common.applied(bare("/*", edge::Action::Health));
    if let (false, Some(port)) = (plain.is_empty(), secure_port) {
        let mut open: Vec<edge::Route> = routes.iter().filter(|r| r.plain).map(|r| r.route.clone()).collect();
        let everything = |r: &edge::Route| {
            r.methods.is_empty() && r.headers.is_empty() && PathRule::parse(&r.path).is_ok_and(|p| p.is_all())
        };
        if !open.iter().any(everything) {
            let to = if port == 443 {
                "https://{host}{uri}".to_owned()
            } else {
                format!("https://{{host}}:{port}{{uri}}")
            };
            open.push(bare("/*", edge::Action::Redirect { to, status: 308 }));
        }
        all.all.push(edge::Site {
            name: format!("{name} (to https)"),
            listeners: plain,
            hosts: hosts.clone(),
            identity: None,
            client: None,
            // The site itself comes next.
            when_secured: Some(all.all.len() + 1),
            routes: open,
            error_pages: error_pages.clone(),
            response_headers: of_none.response_headers.clone(),
            secure_headers: Vec::new(),
            log: log.clone(),
        });
        all.spans.push(spans.clone());
    }
    all.all.push(edge::Site {
        name: name.to_owned(),
        listeners: main,
        hosts,
        identity,
        client,
        when_secured: None,
        routes: routes.into_iter().map(|r| r.route).collect(),
        error_pages,
        response_headers: of_none.response_headers,
        secure_headers: of_none.secure_headers,
        log,
    });
    all.spans.push(spans);
}

/// Whether a redirect leads to the address that was asked for.
fn is_circle(to: &str, secure_only: bool) -> bool {
    let rest = to.strip_prefix("{scheme}://{host}");
    let rest = rest.or_else(|| to.strip_prefix("https://{host}").filter(|_| secure_only));
    matches!(rest.unwrap_or(to), "{uri}" | "{path}")
}

/// A route without anything but its action.
fn bare(path: &str, action: edge::Action) -> edge::Route {
    edge::Route::new(path.to_owned(), action)
}

fn hosts_of(section: Section<'_>, reading: &mut Reading) -> (Vec<String>, Vec<Span>) {
    let mut all = (Vec::new(), Vec::new());
    for (text, span) in section.texts("hosts") {
        match hosts::parse(text) {
            Ok(host) => {
                all.0.push(host);
                all.1.push(span.clone());
            }
            Err((message, hint)) => reading.error(span, message, hint),
        }
    }
    if let Some(entry) = section.entry("hosts")
        && matches!(&entry.node.value, Value::List(list) if list.is_empty())
    {
        let hint = "name the hosts, or leave it out: the site then has all that no other one has";
        reading.error(&entry.node.span, "`hosts` is empty", hint);
    }
    all
}

fn listens_of(section: Section<'_>, reading: &mut Reading) -> Vec<(Bind, Speaks, Span)> {
    let Some(entry) = section.entry("listen") else {
        let bind = Bind::Tcp { host: "127.0.0.1".to_owned(), port: PORT_DEFAULT };
        return vec![(bind, Speaks::Http, section.span.clone())];
    };
    if matches!(&entry.node.value, Value::List(list) if list.is_empty()) {
        let hint = "write where to listen: `listen = [\"http://0.0.0.0:80\"]`";
        reading.error(&entry.node.span, "`listen` is empty", hint);
    }
    let mut all = Vec::new();
    for (text, span) in section.texts("listen") {
        match listen::parse(text, reading) {
            Ok((bind, speaks)) => all.push((bind, speaks, span.clone())),
            Err((message, hint)) => reading.error(span, message, hint),
        }
    }
    all
}

fn routes_of(
    name: &str,
    section: Section<'_>,
    common: &Common,
    apps: &[App],
    used: &mut HashSet<usize>,
    reading: &mut Reading,
) -> Vec<Read> {
    let mut routes: Vec<Read> = section
        .list("route")
        .iter()
        .filter_map(|node| {
            let section = Section::new(&keys::ROUTE, node, &node.span)?;
            route::read(section, common, apps, used, reading)
        })
        .collect();
    if !section.has("route") {
        if let [app] = apps {
            used.insert(0);
            let to = edge::ToApp { app: 0, mount: String::new(), rewrite: None };
            let route = common.applied(bare("/*", edge::Action::App(to)));
            routes.push(Read { route, span: app.name_span.clone(), plain: false });
        } else {
            let hint = match apps.first() {
                None => "write what it does: `route = [{ path = \"/*\", static = \"public\" }]`".to_owned(),
                Some(app) => {
                    format!(
                        "there are several apps: `route = [{{ path = \"/*\", app = \"{}\" }}]`",
                        app.part.name
                    )
                }
            };
            // Its app may be among those that are no good.
            if !(apps.is_empty() && reading.has_errors()) {
                reading.error(section.span, format!("the site `{name}` has no routes"), hint);
            }
        }
    } else if section.list("route").is_empty()
        && matches!(section.get("route").map(|n| &n.value), Some(Value::List(_)))
    {
        let hint = "add a route: `{ path = \"/*\", static = \"public\" }`";
        reading.error(section.get("route").map_or(section.span, |n| &n.span), "`route` is empty", hint);
    }
    if let Some((text, span)) = section.text("health") {
        if let Ok(Ok(PathRule::Exact(path))) = values::health_path(text).map(|path| PathRule::parse(&path)) {
            let route = bare(&path, edge::Action::Health);
            let route = edge::Route { cors: None, compress: None, ..common.applied(route) };
            routes.push(Read { route, span: span.clone(), plain: true });
        } else {
            let hint = "write a plain path that begins with `/`: `\"/health\"`";
            reading.error(span, format!("`{text}` is not a path"), hint);
        }
    }
    let decided: Vec<edge::Route> = routes.iter().map(|r| r.route.clone()).collect();
    let spans: Vec<Span> = routes.iter().map(|r| r.span.clone()).collect();
    ties::routes(&decided, &spans, reading);
    ties::unreached(&decided, &spans, reading);
    routes
}

fn log_of(section: Section<'_>, all: &mut Vec<Log>, reading: &mut Reading) -> Option<edge::SiteLog> {
    let node = section.get("access-log")?;
    let table = section.sub("access-log");
    let (file, format, statuses) = match table {
        None => (text_of(node)?, "combined", Vec::new()),
        Some(table) => (table.text("file")?.0, table.word("format"), statuses(table, reading)),
    };
    let format_span = table.and_then(|t| t.get("format")).map_or(&node.span, |n| &n.span);
    let format = match crate::values::log_format(format) {
        Ok(format) => format,
        Err(hint) => {
            reading.error(format_span, format!("`{format}` is not a format of access logs"), hint);
            edge::LogFormat::Combined
        }
    };
    let rotation = table.and_then(|t| rotation(t, reading));
    let file_span = table.and_then(|t| t.get("file")).map_or(&node.span, |n| &n.span);
    let (target, edge) = place(file, file_span, format, rotation, table, reading)?;
    // To a syslog many formats may go.
    let same = |l: &Log| if edge.syslog.is_some() { l.edge == edge } else { l.edge.name == edge.name };
    let log = if let Some(at) = all.iter().position(same) {
        let first = reading.line_of(&all[at].span);
        let hint = format!("the first one is {first}: write them alike");
        if all[at].edge.format != edge.format {
            reading.error(format_span, format!("two formats for one log, `{}`", edge.name), hint);
        } else if all[at].target != target {
            let span = table.and_then(|t| t.get("rotate")).map_or(&node.span, |n| &n.span);
            reading.error(span, format!("one log is rotated in two ways, `{}`", edge.name), hint);
        }
        at
    } else {
        all.push(Log { target, edge, span: node.span.clone() });
        all.len() - 1
    };
    Some(edge::SiteLog { log, statuses })
}

/// Where the lines go.
fn place(
    file: &str,
    span: &Span,
    format: edge::LogFormat,
    rotation: Option<Rotation>,
    table: Option<Section<'_>>,
    reading: &mut Reading,
) -> Option<(LogTarget, edge::AccessLog)> {
    let plain = |name: String| edge::AccessLog { name, format: format.clone(), syslog: None };
    if let Some(address) = values::syslog(file) {
        let address = match address {
            Ok(address) => address,
            Err(hint) => {
                reading.error(span, format!("`{file}` is not an address of a syslog"), hint);
                return None;
            }
        };
        if let Some(node) = table.and_then(|t| t.get("rotate")) {
            reading.error(&node.span, "a syslog cannot be rotated from here", "leave `rotate` out");
        }
        let (facility, severity) =
            table.map_or(values::SYSLOG_DEFAULT, |t| (t.word("facility"), t.word("severity")));
        let edge = values::syslog_log(&address, (facility, severity), format);
        return Some((LogTarget::Syslog(address), edge));
    }
    let of_syslog = ["facility", "severity"].iter().find_map(|name| table?.entry(name));
    if let Some(entry) = of_syslog {
        let message = format!("`{}` is for a syslog only", entry.name);
        reading.error(&entry.name_span, message, "leave it out, or write `file = \"syslog:\"`");
    }
    if file == "-" {
        if let Some(node) = table.and_then(|t| t.get("rotate")) {
            reading.error(&node.span, "the standard output cannot be rotated", "name a file");
        }
        return Some((LogTarget::Stdout, plain("standard output".to_owned())));
    }
    let path = reading.absolute(file);
    if path.parent().is_some_and(|folder| !folder.is_dir()) {
        let folder = path.parent().map(|f| f.display().to_string()).unwrap_or_default();
        let message = format!("there is no folder `{folder}` for the log");
        reading.error(span, message, "make it, or name another");
    }
    let name = path.display().to_string();
    Some((LogTarget::File(path, rotation), plain(name)))
}

/// When a log's file is put aside.
fn rotation(log: Section<'_>, reading: &mut Reading) -> Option<Rotation> {
    let rotate = log.sub("rotate")?;
    let bytes = rotate.has("size").then(|| rotate.size("size"));
    let age_ms = rotate.has("age").then(|| rotate.time_ms("age"));
    if bytes.is_none() && age_ms.is_none() {
        let hint = "write `rotate = { size = \"100MiB\" }`, `{ age = \"1d\" }`, or both";
        reading.error(rotate.span, "`rotate` does not say when", hint);
    }
    if let Some(size) = rotate.get("size").filter(|_| bytes == Some(0)) {
        reading.error(&size.span, "a log is never smaller than that", "write a size as `\"100MiB\"`");
    }
    if let Some(age) = rotate.get("age").filter(|_| age_ms.is_some_and(|ms| ms < 1_000)) {
        reading.error(&age.span, "a log cannot be rotated that often", "write a time as `\"1d\"`");
    }
    Some(Rotation { bytes, age_ms, keep: rotate.whole("keep") as u32 })
}

/// `404` or `5xx`.
fn is_status(text: &str) -> bool {
    match text.as_bytes() {
        [b'1'..=b'5', b'x', b'x'] => true,
        [b'1'..=b'5', tens, ones] => tens.is_ascii_digit() && ones.is_ascii_digit(),
        _ => false,
    }
}

fn statuses(table: Section<'_>, reading: &mut Reading) -> Vec<String> {
    let mut all = Vec::new();
    for (text, span) in table.texts("statuses") {
        let lower = text.to_ascii_lowercase();
        if is_status(&lower) {
            all.push(lower);
        } else {
            reading.error(
                span,
                format!("`{text}` is not a status"),
                "write `\"404\"`, or `\"5xx\"` for a class",
            );
        }
    }
    all
}

fn error_pages(section: Section<'_>, reading: &mut Reading) -> BTreeMap<String, edge::Page> {
    let mut pages = BTreeMap::new();
    for entry in section.map("error-pages") {
        let status = entry.name.to_ascii_lowercase();
        if !is_status(&status) || !status.starts_with(['4', '5']) {
            let message = format!("`{}` is not the status of an error", entry.name);
            reading.error(&entry.name_span, message, "write `404`, or `5xx` for a class");
        } else if let Some(text) = text_of(&entry.node) {
            let path = reading.absolute(text);
            if let Some(page) = page(&entry.node.span, &path, reading) {
                pages.insert(status, page);
            }
        }
    }
    pages
}

/// The content of a file as a body.
pub(crate) fn page(span: &Span, path: &Path, reading: &mut Reading) -> Option<edge::Page> {
    let bytes = reading.read(span, "the page", path, PAGE_BYTES_MAX)?;
    let Ok(body) = String::from_utf8(bytes) else {
        let message = format!("the page `{}` is not UTF-8", path.display());
        reading.error(span, message, "pages are text: serve other files by `static`");
        return None;
    };
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    Some(edge::Page { media: media::of(name).text.to_owned(), body })
}
