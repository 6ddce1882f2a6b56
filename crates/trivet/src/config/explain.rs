//! `trivet check --explain URL`: which site and which route a request is for, and why.

use std::cmp::Reverse;
use std::fmt::Write as _;

use trivet_http::rule::{PathRule, Rank};
use trivet_http::template::Template;

use super::edge;

/// A request as somebody asks about it.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// `https://shop.example/cart`.
    pub(crate) url: &'a str,
    pub(crate) method: &'a str,
    pub(crate) headers: &'a [(String, String)],
}

/// Some lines of text. Else what is wrong with the question, and a hint.
pub(crate) fn explain(config: &edge::Config, question: &Question<'_>) -> Result<String, (String, String)> {
    let example = || "write the whole address, as `https://shop.example/cart`".to_owned();
    let url = question.url;
    let (tls, rest) = match url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return Err((format!("`{url}` is not an address of the web"), example())),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let raw = target.split('?').next().unwrap_or_default();
    let (host, port, given) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port, true)
        }
        _ => (authority, if tls { "443" } else { "80" }, false),
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host.is_empty() {
        return Err((format!("`{url}` has no host"), example()));
    }
    let mut out = format!("{} {url}\n", question.method);
    let listeners = listeners(config, tls, port);
    if listeners.is_empty() {
        let all: Vec<&str> = config.listeners.iter().map(|l| l.name.as_str()).collect();
        let scheme = if tls { "https" } else { "http" };
        return Err((
            format!("no site listens for {scheme} at port {port}"),
            if given {
                format!("the sites listen at {}", all.join(", "))
            } else {
                format!(
                    "the sites listen at {}: write the port, as in `{scheme}://{host}:8000/`",
                    all.join(", ")
                )
            },
        ));
    }
    let mut path = String::new();
    let canonical = trivet_http::path::canonical(raw.as_bytes(), &mut path);
    let Some((site, why)) = site(config, &listeners, &host) else {
        let _ = writeln!(out, "no site: `{host}` is a host of none, and no site has all other hosts");
        return Ok(out);
    };
    let _ = writeln!(out, "site `{}`: {why}", site.name);
    if let Err(error) = canonical {
        // As the server does: it goes on where all readings lead to one route that needs no path.
        let readings = [false, true].map(|slashes| trivet_http::path::loose(raw.as_bytes(), slashes));
        let winners = readings.each_ref().map(|path| winner(site, question, path));
        let [letters, _] = &readings;
        match winners {
            [Some(a), Some(b)]
                if std::ptr::eq(a, b)
                    && !needs_path(&a.action)
                    && !trivet_http::path::is_dotted(raw.as_bytes()) =>
            {
                let _ =
                    writeln!(out, "the path has no canonical form ({error}), which this route does not need");
                routes(config, site, question, letters, &mut out);
            }
            [None, None] => routes(config, site, question, letters, &mut out),
            _ => {
                let _ = writeln!(out, "no route: the path has no canonical form ({error}); it gets 400");
            }
        }
        return Ok(out);
    }
    if path != raw {
        let _ = writeln!(out, "path `{path}`: the canonical form, which routes are chosen by");
    }
    routes(config, site, question, &path, &mut out);
    Ok(out)
}

/// Those that somebody with such an address may come by.
fn listeners(config: &edge::Config, tls: bool, port: &str) -> Vec<usize> {
    let inherited = |l: &edge::Listener| !l.name.starts_with("http");
    let all = || config.listeners.iter().enumerate();
    let exact: Vec<usize> = all()
        .filter(|(_, l)| l.tls == tls && !inherited(l) && l.name.rsplit(':').next() == Some(port))
        .map(|(at, _)| at)
        .collect();
    if !exact.is_empty() {
        return exact;
    }
    // A proxy before them may speak either.
    all().filter(|(_, l)| inherited(l)).map(|(at, _)| at).collect()
}

fn site<'a>(config: &'a edge::Config, listeners: &[usize], host: &str) -> Option<(&'a edge::Site, String)> {
    let here = || config.sites.iter().filter(|s| s.listeners.iter().any(|l| listeners.contains(l)));
    if let Some(site) = here().find(|s| s.hosts.iter().any(|h| h == host)) {
        return Some((site, format!("`{host}` is one of its hosts")));
    }
    let beneath = |pattern: &str| {
        pattern.strip_prefix('*').is_some_and(|tail| host.len() > tail.len() && host.ends_with(tail))
    };
    let wildcard = here()
        .flat_map(|s| s.hosts.iter().map(move |h| (s, h)))
        .filter(|(_, h)| beneath(h))
        .max_by_key(|(_, h)| h.len());
    if let Some((site, pattern)) = wildcard {
        return Some((site, format!("`{pattern}` is the longest of the wildcards that match `{host}`")));
    }
    here()
        .find(|s| s.hosts.is_empty())
        .map(|site| (site, "it has all hosts that no other site has".to_owned()))
}

/// The more specific one sorts first.
fn rank(route: &edge::Route, rule: &PathRule) -> (Rank, bool, Reverse<usize>) {
    (rule.rank(), route.methods.is_empty(), Reverse(route.headers.len()))
}

fn routes(config: &edge::Config, site: &edge::Site, question: &Question<'_>, path: &str, out: &mut String) {
    let mut matching = Vec::new();
    let mut others = Vec::new();
    let mut other_method = false;
    for route in &site.routes {
        let Ok(rule) = PathRule::parse(&route.path) else { continue };
        if rule.matches(path).is_none() {
            continue;
        }
        let missing = route.headers.iter().find(|(name, value)| {
            !question.headers.iter().any(|(given, text)| {
                given.eq_ignore_ascii_case(name) && value.as_ref().is_none_or(|v| v == text)
            })
        });
        if route.internal {
            others.push((route, "only for internal redirects of the app".to_owned()));
        } else if let Some((name, value)) = missing {
            let value = value.as_ref().map(|v| format!(": {v}")).unwrap_or_default();
            others.push((route, format!("only with the field `{name}{value}`")));
        } else if !route.methods.is_empty() && !route.methods.iter().any(|m| m == question.method) {
            others.push((route, format!("not for {}", question.method)));
            other_method = true;
        } else {
            matching.push((rank(route, &rule), route, rule));
        }
    }
    matching.sort_by_key(|(rank, ..)| *rank);
    match matching.split_first() {
        None => {
            let status = if other_method { 405 } else { 404 };
            let _ = writeln!(out, "no route: it gets {status}");
        }
        Some(((_, winner, rule), losers)) => {
            let _ = writeln!(out, "route {}: {}", named(winner), does(config, &winner.action));
            let _ = writeln!(out, "  it wins: {}", reason(winner, rule, losers.first()));
            for (_, loser, other) in losers {
                let why = comparison(winner, rule, loser, other);
                let _ =
                    writeln!(out, "  matches too: {}, {why}: {}", named(loser), does(config, &loser.action));
            }
        }
    }
    for (route, why) in others {
        let _ = writeln!(out, "  not this one: {}, {why}", named(route));
    }
}

/// The route that a path leads to.
fn winner<'a>(site: &'a edge::Site, question: &Question<'_>, path: &str) -> Option<&'a edge::Route> {
    let has = |(name, value): &(String, Option<String>)| {
        question.headers.iter().any(|(given, text)| {
            given.eq_ignore_ascii_case(name) && value.as_ref().is_none_or(|wanted| wanted == text)
        })
    };
    let matching = site.routes.iter().filter_map(|route| {
        let rule = PathRule::parse(&route.path).ok()?;
        let fits = rule.matches(path).is_some()
            && !route.internal
            && route.headers.iter().all(has)
            && (route.methods.is_empty() || route.methods.iter().any(|m| m == question.method));
        fits.then(|| (rank(route, &rule), route))
    });
    matching.min_by_key(|(rank, _)| *rank).map(|(_, route)| route)
}

/// Whether what is done depends on the canonical path.
fn needs_path(action: &edge::Action) -> bool {
    match action {
        edge::Action::App(to) => !to.mount.is_empty() || to.rewrite.is_some(),
        edge::Action::Static(files) => files.otherwise.as_deref().is_none_or(needs_path),
        edge::Action::Redirect { to, .. } => Template::parse(to).is_ok_and(|t| t.needs_canonical()),
        edge::Action::Respond { .. } | edge::Action::Health => false,
    }
}

type Ranked<'a> = ((Rank, bool, Reverse<usize>), &'a edge::Route, PathRule);

fn reason(winner: &edge::Route, rule: &PathRule, second: Option<&Ranked<'_>>) -> &'static str {
    let Some((_, second, other)) = second else { return "no other one matches" };
    if rule.rank() == other.rank() {
        return if winner.methods.is_empty() == second.methods.is_empty() {
            "it wants the most header fields"
        } else {
            "it names the method"
        };
    }
    match rule {
        PathRule::Exact(_) => "it is for exactly this path",
        PathRule::Prefix(_) => "it is the longest prefix",
        PathRule::Pattern(_) => "it is the pattern with the most letters",
    }
}

fn comparison(winner: &edge::Route, rule: &PathRule, loser: &edge::Route, other: &PathRule) -> &'static str {
    match (rule, other) {
        _ if rule.rank() == other.rank() && winner.methods.is_empty() != loser.methods.is_empty() => {
            "for all methods"
        }
        _ if rule.rank() == other.rank() => "with fewer header fields",
        (PathRule::Prefix(_), PathRule::Prefix(_)) => "a shorter prefix",
        (PathRule::Pattern(_), PathRule::Pattern(_)) => "a pattern with fewer letters",
        (_, PathRule::Prefix(_)) => "a prefix",
        _ => "a pattern",
    }
}

fn named(route: &edge::Route) -> String {
    let mut text = format!("`{}`", route.path);
    if !route.methods.is_empty() {
        let _ = write!(text, " for {}", route.methods.join(", "));
    }
    for (name, value) in &route.headers {
        let value = value.as_ref().map(|v| format!(": {v}")).unwrap_or_default();
        let _ = write!(text, " with `{name}{value}`");
    }
    text
}

fn does(config: &edge::Config, action: &edge::Action) -> String {
    match action {
        edge::Action::App(to) => {
            let name = config.apps.get(to.app).map_or("?", |a| &a.name);
            let mut text = format!("the app `{name}`");
            if !to.mount.is_empty() {
                let _ = write!(text, ", mounted at `{}`", to.mount);
            }
            if let Some(rewrite) = &to.rewrite {
                let _ = write!(text, ", which sees `{rewrite}`");
            }
            text
        }
        edge::Action::Static(files) => {
            let mut text = format!("files of `{}`", files.folder);
            match &files.otherwise {
                Some(otherwise) => {
                    let _ = write!(text, ", else {}", does(config, otherwise));
                }
                None if !files.fallback.is_empty() => {
                    let _ = write!(text, ", else `{}`", files.fallback.join("`, `"));
                }
                None => {}
            }
            text
        }
        edge::Action::Redirect { to, status } => format!("redirect to `{to}` ({status})"),
        edge::Action::Respond { status, .. } => format!("an answer with status {status}"),
        edge::Action::Health => "the server's own health".to_owned(),
    }
}
