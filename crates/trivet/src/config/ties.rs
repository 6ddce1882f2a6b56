//! Routes and sites of which none would be the right one.

use std::collections::HashMap;

use trivet_http::rule::PathRule;

use super::document::Span;
use super::edge;
use super::section::Reading;

/// Two routes that are for one request, and neither is more specific.
pub(crate) fn routes(routes: &[edge::Route], spans: &[Span], reading: &mut Reading) {
    let rules: Vec<Option<PathRule>> = routes.iter().map(|r| PathRule::parse(&r.path).ok()).collect();
    for (i, b) in routes.iter().enumerate() {
        for (j, a) in routes.iter().enumerate().take(i) {
            let (Some(rule_a), Some(rule_b)) = (&rules[j], &rules[i]) else { continue };
            if a.internal == b.internal && !are_apart(a, b) && rule_a.ties_with(rule_b) {
                let earlier = reading.line_of(&spans[j]);
                let message = if a.path == b.path {
                    format!("a second route for `{}`", b.path)
                } else {
                    format!(
                        "`{}` and `{}` match the same paths, and neither is more specific",
                        a.path, b.path
                    )
                };
                let hint = format!(
                    "the first one is {earlier}: change a path, or tell them apart by `methods` or `headers`"
                );
                reading.error(&spans[i], message, hint);
                break;
            }
        }
    }
}

/// Routes that never win, because another one that has all their paths always comes before.
pub(crate) fn unreached(routes: &[edge::Route], spans: &[Span], reading: &mut Reading) {
    for (i, route) in routes.iter().enumerate() {
        let Ok(rule @ PathRule::Pattern(_)) = PathRule::parse(&route.path) else { continue };
        let literal = route.path.split('*').next().unwrap_or_default();
        let before = routes.iter().enumerate().find(|(_, other)| {
            let unconditional = other.methods.is_empty() && other.headers.is_empty();
            unconditional
                && other.internal == route.internal
                && PathRule::parse(&other.path).is_ok_and(|wider| match &wider {
                    PathRule::Prefix(prefix) => {
                        wider.rank() < rule.rank()
                            && literal.strip_prefix(&**prefix).is_some_and(|rest| rest.starts_with('/'))
                    }
                    _ => false,
                })
        });
        if let Some((at, wider)) = before {
            let message = format!("`{}` never wins: a prefix comes before a pattern", route.path);
            let place = reading.line_of(&spans[at]);
            let hint = format!(
                "all its paths go to `{}` {place}: write it as a prefix or an exact path, or give that one `methods` \
                 or `headers`",
                wider.path
            );
            reading.warn(&spans[i], message, hint);
        }
    }
}

/// Whether something other than the path says which of two routes a request is for.
fn are_apart(a: &edge::Route, b: &edge::Route) -> bool {
    let methods_differ = a.methods.is_empty() != b.methods.is_empty()
        || !a.methods.is_empty() && a.methods.iter().all(|m| !b.methods.contains(m));
    let values_differ = a.headers.iter().any(|(name, value)| {
        b.headers.iter().any(|(other, wanted)| {
            name.eq_ignore_ascii_case(other) && value.is_some() && wanted.is_some() && value != wanted
        })
    });
    methods_differ || values_differ || a.headers.len() != b.headers.len()
}

/// Two sites for one host at one address. `spans`: where each site's hosts are named.
pub(crate) fn sites(
    sites: &[edge::Site],
    listeners: &[String],
    spans: &[(Span, Vec<Span>)],
    reading: &mut Reading,
) {
    let mut seen: HashMap<(usize, &str), usize> = HashMap::new();
    for (at, site) in sites.iter().enumerate() {
        'site: for &listener in &site.listeners {
            let hosts: Vec<&str> = if site.hosts.is_empty() {
                vec![""]
            } else {
                site.hosts.iter().map(String::as_str).collect()
            };
            for (i, host) in hosts.into_iter().enumerate() {
                let Some(before) = seen.insert((listener, host), at) else { continue };
                let span = spans[at].1.get(i).unwrap_or(&spans[at].0);
                let other = &sites[before].name;
                let place = reading.line_of(&spans[before].0);
                let address = &listeners[listener];
                let (message, hint) = if before == at {
                    (format!("`{host}` stands twice"), "leave one out".to_owned())
                } else if host.is_empty() {
                    (
                        format!("two sites for all hosts of {address}: `{other}` and `{}`", site.name),
                        format!("give one of them `hosts`, or another address; `{other}` is {place}"),
                    )
                } else {
                    (
                        format!("`{host}` is a host of the site `{other}` already, at {address}"),
                        format!("take it out of one of them; `{other}` is {place}"),
                    )
                };
                reading.error(span, message, hint);
                break 'site;
            }
        }
    }
}
