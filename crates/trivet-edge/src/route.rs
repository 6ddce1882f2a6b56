//! Which site and which route a request belongs to: the configuration, compiled for that question.
//!
//! Host: exact, then the longest wildcard, then the default. Path: exact, then the longest prefix, then the pattern
//! with the most letters, then everything; among those, one that names methods, then the one that names more fields. The order in the
//! configuration does not matter.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use trivet_http::coding::Coding;
use trivet_http::h1::Head;
use trivet_http::rule::{BadRule, PathRule};
use trivet_http::template::{BadTemplate, Place, Template};

use crate::access_log::AccessLog;
use crate::config::{self, Page};
use crate::files::{FolderOptions, FolderRef};

/// What a listener's requests are sorted by.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    exact: HashMap<Box<[u8]>, Rc<Site>>,
    /// `.example.org` for `*.example.org`; the longest first.
    wild: Vec<(Box<[u8]>, Rc<Site>)>,
    default: Option<Rc<Site>>,
    /// For requests that came by TLS to a proxy before us, where that makes a difference.
    secured: Option<Box<Self>>,
}

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) about: Rc<About>,
    pub(crate) client: Option<config::ClientRule>,
    /// The only route, where nothing about the request could choose another.
    only: Option<Rc<Route>>,
    exact: HashMap<Box<str>, Vec<Rc<Route>>>,
    /// All others, the most specific first.
    rest: Vec<Rc<Route>>,
    /// Some route is for other origins' scripts too.
    has_cors: bool,
}

/// What all routes of a site share.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) log: Option<Rc<RefCell<AccessLog>>>,
    statuses: Vec<Statuses>,
    error_pages: Vec<(Statuses, Page)>,
    internals: OnceCell<Vec<Internal>>,
    /// Changes of answers that belong to no route.
    pub(crate) edit: Option<Edit>,
}

/// Files that only apps may send to.
#[derive(Debug)]
pub(crate) struct Internal {
    pub(crate) rule: PathRule,
    pub(crate) files: Rc<Static>,
}

/// One status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statuses {
    One(u16),
    Class(u16),
}

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) about: Rc<About>,
    rule: PathRule,
    methods: Vec<Box<[u8]>>,
    headers: Vec<Condition>,
    internal: bool,
    pub(crate) quiet: bool,
    pub(crate) action: Act,
    pub(crate) body_bytes_max: u64,
    pub(crate) request_edit: Option<Edit>,
    pub(crate) answer_edit: Option<Edit>,
    pub(crate) cors: Option<config::Cors>,
    pub(crate) compress: Option<Compress>,
}

/// Which answers are compressed.
#[derive(Debug)]
pub(crate) struct Compress {
    /// In the order of preference.
    pub(crate) codings: Vec<Coding>,
    pub(crate) bytes_min: u64,
}

/// A field that a request must have, with this value or with any.
type Condition = (Box<[u8]>, Option<Box<[u8]>>);

/// What is done with a request.
#[derive(Debug)]
pub(crate) enum Act {
    App(ToApp),
    Static(Rc<Static>),
    Redirect { to: Template, status: u16 },
    Respond { status: u16, page: Page, retry_after: Option<u32> },
    Health,
}

#[derive(Debug)]
pub(crate) struct ToApp {
    pub(crate) app: Rc<AppRef>,
    pub(crate) mount: Box<str>,
    pub(crate) rewrite: Option<Template>,
    /// The rewritten target takes the client's query along.
    pub(crate) keeps_query: bool,
}

#[derive(Debug)]
pub(crate) struct Static {
    pub(crate) folder: Rc<FolderRef>,
    /// The folder's path.
    pub(crate) root: Box<str>,
    pub(crate) at: Box<str>,
    pub(crate) index: Vec<Box<str>>,
    pub(crate) fallback: Vec<Box<str>>,
    pub(crate) listing: bool,
    pub(crate) otherwise: Option<Act>,
}

/// An app as routes know it; its place among the pools is kept as long as anybody does.
#[derive(Debug)]
pub(crate) struct AppRef {
    pub(crate) slot: u16,
    /// As long as it is there, the place is not given to another app.
    #[allow(dead_code, reason = "it is counted, not read")]
    pub(crate) place: Rc<()>,
    pub(crate) config: config::App,
}

/// Changes of a head's fields.
#[derive(Debug)]
pub(crate) struct Edit {
    /// In lower case: fields that do not pass.
    drop: Vec<Box<[u8]>>,
    add: Vec<Line>,
    /// At most 64: those that the head has itself are told by bits.
    default: Vec<Line>,
    hides_server: bool,
}

#[derive(Debug)]
struct Line {
    name: Box<[u8]>,
    value: Box<[u8]>,
    /// For answers over TLS only.
    secure: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    #[error("the path of a route: {0}")]
    Path(#[from] BadRule),
    #[error("a template: {0}")]
    Template(#[from] BadTemplate),
    #[error("`{0}` is neither a status nor a class of statuses")]
    Status(String),
    #[error("a route names an app that does not exist")]
    App,
}

/// Where a request belongs.
#[derive(Debug)]
pub(crate) enum Found {
    /// And where in the path begins what the star at the end of its rule stands for.
    Route(Rc<Route>, usize),
    /// No route for this path.
    Nothing(Rc<Site>),
    /// Routes for this path, but not for this method: those that there are.
    Methods(Rc<Site>, String),
}

/// What the compiler of a configuration is given to link it with.
pub(crate) struct Parts<'a> {
    pub(crate) apps: &'a [Rc<AppRef>],
    pub(crate) logs: &'a [Rc<RefCell<AccessLog>>],
    pub(crate) folder: &'a mut dyn FnMut(FolderOptions) -> Rc<FolderRef>,
}

impl Statuses {
    fn parse(text: &str) -> Result<Self, RouteError> {
        let bad = || RouteError::Status(text.to_owned());
        if let Some(class) = text.strip_suffix("xx") {
            return class.parse().ok().filter(|c| (1..6).contains(c)).map(Self::Class).ok_or_else(bad);
        }
        text.parse().ok().filter(|s| (100..600).contains(s)).map(Self::One).ok_or_else(bad)
    }

    fn has(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => status / 100 == class,
        }
    }
}

impl About {
    pub(crate) fn has_internals(&self) -> bool {
        !self.internals().is_empty()
    }

    /// The most specific first.
    pub(crate) fn internals(&self) -> &[Internal] {
        self.internals.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether requests with this answer are logged.
    pub(crate) fn logs(&self, status: u16) -> bool {
        self.statuses.is_empty() || self.statuses.iter().any(|s| s.has(status))
    }

    /// The site's own page for an answer of the edge; that of the status itself before that of its class.
    pub(crate) fn error_page(&self, status: u16) -> Option<&Page> {
        let (_, page) = self.error_pages.iter().find(|(s, _)| s.has(status))?;
        Some(page)
    }
}

impl Hosts {
    /// Adds a site for its hosts.
    pub(crate) fn add(&mut self, names: &[String], site: &Rc<Site>) {
        if names.is_empty() {
            self.default = Some(site.clone());
        }
        for name in names {
            match name.strip_prefix('*') {
                Some(suffix) => self.wild.push((suffix.as_bytes().into(), site.clone())),
                None => {
                    self.exact.insert(name.as_bytes().into(), site.clone());
                }
            }
        }
        self.wild.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    }

    /// Others for requests that came by TLS to a proxy before us.
    pub(crate) fn set_secured(&mut self, hosts: Self) {
        self.secured = Some(Box::new(hosts));
    }

    pub(crate) fn when_secured(&self) -> &Self {
        self.secured.as_deref().unwrap_or(self)
    }

    /// The site, where no host has to be looked at for it.
    #[inline]
    pub(crate) fn only(&self) -> Option<&Rc<Site>> {
        self.default.as_ref().filter(|_| self.exact.is_empty() && self.wild.is_empty())
    }

    /// The site of a host as it stands in the request, without its port.
    pub(crate) fn site(&self, host: &[u8]) -> Option<&Rc<Site>> {
        self.named(host).or(self.default.as_ref())
    }

    fn named(&self, host: &[u8]) -> Option<&Rc<Site>> {
        const HOST_BYTES_MAX: usize = 255;
        let mut lower = [0; HOST_BYTES_MAX];
        let host = host.strip_suffix(b".").unwrap_or(host);
        let lower = lower.get_mut(..host.len())?;
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        self.exact.get(&*lower).or_else(|| {
            let (_, site) =
                self.wild.iter().find(|(suffix, _)| lower.len() > suffix.len() && lower.ends_with(suffix))?;
            Some(site)
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wild.is_empty() && self.default.is_none()
    }

    /// The site of what names no host that is known.
    pub(crate) fn all_others(&self) -> Option<&Rc<Site>> {
        self.default.as_ref()
    }
}

impl Site {
    pub(crate) fn compile(site: &config::Site, parts: &mut Parts<'_>) -> Result<Rc<Self>, RouteError> {
        let mut error_pages = site
            .error_pages
            .iter()
            .map(|(of, page)| Ok((Statuses::parse(of)?, page.clone())))
            .collect::<Result<Vec<_>, RouteError>>()?;
        error_pages.sort_by_key(|(of, _)| matches!(of, Statuses::Class(_)));
        let about = Rc::new(About {
            log: site.log.as_ref().and_then(|l| parts.logs.get(l.log)).cloned(),
            statuses: site
                .log
                .iter()
                .flat_map(|l| &l.statuses)
                .map(|s| Statuses::parse(s))
                .collect::<Result<_, _>>()?,
            error_pages,
            internals: OnceCell::new(),
            edit: Edit::compile(&site.response_headers, &site.secure_headers),
        });
        let mut routes = site
            .routes
            .iter()
            .map(|route| Route::compile(route, &about, parts).map(Rc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let only = match &routes[..] {
            [one] if one.rule.is_all() && one.takes_all() && !one.action.needs_path() => Some(one.clone()),
            _ => None,
        };
        routes.sort_by_key(|r| (r.rule.rank(), r.methods.is_empty(), std::cmp::Reverse(r.headers.len())));
        let internals = routes.iter().filter(|r| r.internal).filter_map(|r| match &r.action {
            Act::Static(files) => Some(Internal { rule: r.rule.clone(), files: files.clone() }),
            _ => None,
        });
        let _ = about.internals.set(internals.collect());
        let has_cors = routes.iter().any(|r| r.cors.is_some());
        let mut exact: HashMap<Box<str>, Vec<Rc<Route>>> = HashMap::new();
        let mut rest = Vec::new();
        for route in routes {
            match &route.rule {
                PathRule::Exact(path) => exact.entry(path.clone()).or_default().push(route),
                _ => rest.push(route),
            }
        }
        Ok(Rc::new(Self { about, client: site.client.clone(), only, exact, rest, has_cors }))
    }

    /// The route, where no path has to be looked at for it.
    #[inline]
    pub(crate) fn only(&self) -> Option<&Rc<Route>> {
        self.only.as_ref()
    }

    /// The route for a canonical path.
    pub(crate) fn find(self: &Rc<Self>, path: &str, buf: &[u8], head: &Head) -> Found {
        let method = head.method.of(buf);
        // A preflight is for the route of the method that it asks about.
        let asked = if self.has_cors && method == b"OPTIONS" && value_of(buf, head, b"origin").is_some() {
            value_of(buf, head, b"access-control-request-method")
        } else {
            None
        };
        let mut methods = Vec::new();
        let exact = self.exact.get(path).map(Vec::as_slice).unwrap_or_default();
        for route in exact.iter().chain(&self.rest) {
            if route.internal {
                continue;
            }
            let Some(rest_at) = route.rule.matches(path) else { continue };
            if !route.headers.iter().all(|(name, value)| has_field(buf, head, name, value.as_deref())) {
                continue;
            }
            if route.has_method(method) || route.cors.is_some() && asked.is_some_and(|m| route.has_method(m))
            {
                return Found::Route(route.clone(), rest_at);
            }
            methods.extend(route.methods.iter().map(|m| String::from_utf8_lossy(m).into_owned()));
        }
        if methods.is_empty() {
            return Found::Nothing(self.clone());
        }
        methods.sort();
        methods.dedup();
        Found::Methods(self.clone(), methods.join(", "))
    }
}

fn value_of<'a>(buf: &'a [u8], head: &Head, name: &[u8]) -> Option<&'a [u8]> {
    head.fields.iter().find(|f| f.name.of(buf).eq_ignore_ascii_case(name)).map(|f| f.value.of(buf))
}

fn has_field(buf: &[u8], head: &Head, name: &[u8], value: Option<&[u8]>) -> bool {
    head.fields.iter().any(|f| {
        f.name.of(buf).eq_ignore_ascii_case(name) && value.is_none_or(|wanted| f.value.of(buf) == wanted)
    })
}

impl Route {
    fn compile(route: &config::Route, about: &Rc<About>, parts: &mut Parts<'_>) -> Result<Self, RouteError> {
        Ok(Self {
            about: about.clone(),
            rule: PathRule::parse(&route.path)?,
            methods: route.methods.iter().map(|m| m.as_bytes().into()).collect(),
            headers: route
                .headers
                .iter()
                .map(|(name, value)| (name.as_bytes().into(), value.as_ref().map(|v| v.as_bytes().into())))
                .collect(),
            internal: route.internal,
            quiet: route.quiet,
            action: Act::compile(&route.action, parts)?,
            body_bytes_max: route.body_bytes_max,
            request_edit: Edit::compile(&route.request_headers, &[]),
            answer_edit: Edit::compile(&route.response_headers, &route.secure_headers),
            cors: route.cors.clone(),
            compress: route.compress.as_ref().map(|c| Compress {
                codings: c.codings.iter().filter_map(|token| Coding::of(token.as_bytes())).collect(),
                bytes_min: c.bytes_min,
            }),
        })
    }

    fn takes_all(&self) -> bool {
        self.methods.is_empty() && self.headers.is_empty() && !self.internal
    }

    fn has_method(&self, method: &[u8]) -> bool {
        let has = |wanted: &[u8]| self.methods.iter().any(|m| **m == *wanted);
        // Who answers GET answers HEAD (RFC 9110 §9.3.2).
        self.methods.is_empty() || has(method) || method == b"HEAD" && has(b"GET")
    }
}

impl Act {
    fn compile(action: &config::Action, parts: &mut Parts<'_>) -> Result<Self, RouteError> {
        Ok(match action {
            config::Action::App(to) => {
                let rewrite = to.rewrite.as_deref().map(Template::parse).transpose()?;
                Self::App(ToApp {
                    app: parts.apps.get(to.app).ok_or(RouteError::App)?.clone(),
                    mount: to.mount.as_str().into(),
                    keeps_query: to.rewrite.as_ref().is_some_and(|r| !r.contains('?'))
                        && rewrite.as_ref().is_some_and(|r| !r.has(Place::Uri)),
                    rewrite,
                })
            }
            config::Action::Static(s) => Self::Static(Rc::new(Static {
                folder: (parts.folder)(FolderOptions {
                    folder: s.folder.clone(),
                    links: s.links,
                    cache: s.cache.clone(),
                }),
                root: s.folder.trim_end_matches('/').into(),
                at: s.at.as_str().into(),
                index: s.index.iter().map(|name| name.as_str().into()).collect(),
                fallback: s.fallback.iter().map(|name| name.as_str().into()).collect(),
                listing: s.listing,
                otherwise: s.otherwise.as_deref().map(|a| Self::compile(a, parts)).transpose()?,
            })),
            config::Action::Redirect { to, status } => {
                Self::Redirect { to: Template::parse(to)?, status: *status }
            }
            config::Action::Respond { status, page, retry_after } => {
                Self::Respond { status: *status, page: page.clone(), retry_after: *retry_after }
            }
            config::Action::Health => Self::Health,
        })
    }

    /// The app that may get the request in the end.
    pub(crate) fn app(&self) -> Option<&ToApp> {
        match self {
            Self::App(to) => Some(to),
            Self::Static(s) => s.otherwise.as_ref().and_then(Self::app),
            Self::Redirect { .. } | Self::Respond { .. } | Self::Health => None,
        }
    }

    /// Whether what it does depends on the canonical path.
    pub(crate) fn needs_path(&self) -> bool {
        match self {
            Self::App(to) => !to.mount.is_empty() || to.rewrite.is_some(),
            Self::Static(_) => true,
            Self::Redirect { to, .. } => to.needs_canonical(),
            Self::Respond { .. } | Self::Health => false,
        }
    }

    /// What is done where the path has no canonical form, and can therefore be no file. `None`: it is refused.
    pub(crate) fn without_path(&self) -> Option<&Self> {
        match self {
            Self::Static(s) => s.otherwise.as_ref().and_then(Self::without_path),
            other if other.needs_path() => None,
            other => Some(other),
        }
    }
}

impl Edit {
    /// `None`: it changes nothing.
    fn compile(changes: &config::Changes, secure: &[(String, String)]) -> Option<Self> {
        let config::Changes { remove, set, add, default } = changes;
        if remove.is_empty() && set.is_empty() && add.is_empty() && default.is_empty() && secure.is_empty() {
            return None;
        }
        let names = remove.iter().chain(set.iter().chain(secure).map(|(name, _)| name));
        let lines = |pairs: &[(String, String)], secure| {
            pairs
                .iter()
                .map(|(name, value)| Line {
                    name: name.as_bytes().into(),
                    value: value.as_bytes().into(),
                    secure,
                })
                .collect::<Vec<_>>()
        };
        let mut added = lines(set, false);
        added.extend(lines(add, false));
        added.extend(lines(secure, true));
        let mut default = lines(default, false);
        default.truncate(64);
        Some(Self {
            drop: names.map(|name| name.to_ascii_lowercase().into_bytes().into()).collect(),
            add: added,
            default,
            hides_server: remove
                .iter()
                .chain(set.iter().map(|(name, _)| name))
                .any(|n| n.eq_ignore_ascii_case("server")),
        })
    }

    /// Whether a field of the head passes; if it does, `given` remembers that it is there.
    pub(crate) fn passes(&self, name: &[u8], given: &mut u64) -> bool {
        for (i, line) in self.default.iter().enumerate() {
            if line.name.eq_ignore_ascii_case(name) {
                *given |= 1 << i;
            }
        }
        !self.drop.iter().any(|d| d.eq_ignore_ascii_case(name))
    }

    /// Whether our own `Server` does not pass either.
    pub(crate) fn hides_server(&self) -> bool {
        self.hides_server
    }

    /// Names of fields that do not pass, in lower case.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = &[u8]> {
        self.drop.iter().map(|name| &**name)
    }

    /// The fields to be added.
    pub(crate) fn additions(&self, given: u64, secure: bool) -> impl Iterator<Item = (&[u8], &[u8])> {
        let defaults = self.default.iter().enumerate().filter(move |(i, _)| given >> i & 1 == 0);
        self.add
            .iter()
            .filter(move |line| secure || !line.secure)
            .chain(defaults.map(|(_, line)| line))
            .map(|line| (&*line.name, &*line.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_http::h1::Limits;

    fn respond(status: u16) -> config::Action {
        config::Action::Respond { status, page: Page::default(), retry_after: None }
    }

    fn site(routes: Vec<config::Route>) -> Rc<Site> {
        let site = config::Site {
            name: "main".into(),
            listeners: vec![0],
            hosts: vec![],
            identity: None,
            client: None,
            when_secured: None,
            routes,
            response_headers: config::Changes::default(),
            secure_headers: vec![],
            error_pages: [
                ("404".into(), Page::default()),
                ("4xx".into(), Page { media: "x".into(), body: String::new() }),
            ]
            .into(),
            log: None,
        };
        let mut files = crate::files::Files::new();
        let mut parts = Parts { apps: &[], logs: &[], folder: &mut |options| files.folder(options) };
        Site::compile(&site, &mut parts).unwrap()
    }

    /// The status that tells which route it was; 0 for none.
    fn found(site: &Rc<Site>, path: &str, head: &str) -> u16 {
        let text = format!("{head}\r\nHost: h\r\n\r\n");
        let mut parsed = Head::default();
        let mut resume = 0;
        let outcome = parsed.parse(text.as_bytes(), &Limits::default(), &mut resume);
        assert!(outcome.is_ok(), "{text}");
        match site.find(path, text.as_bytes(), &parsed) {
            Found::Route(route, _) => match route.action {
                Act::Respond { status, .. } => status,
                _ => 1,
            },
            Found::Nothing(_) => 0,
            Found::Methods(..) => 405,
        }
    }

    #[test]
    fn the_most_specific_route_is_found_whatever_the_order() {
        let route = |path: &str, status| config::Route::new(path.into(), respond(status));
        let mut routes = vec![
            route("/*", 200),
            route("/api/*", 201),
            route("/api/v1/*", 202),
            route("/api/v1/x", 203),
            route("/**/*.php", 204),
            config::Route { methods: vec!["POST".into()], ..route("/api/*", 205) },
            config::Route { headers: vec![("X-Beta".into(), Some("1".into()))], ..route("/api/*", 206) },
            config::Route {
                headers: vec![("X-Beta".into(), None), ("X-More".into(), None)],
                ..route("/api/*", 207)
            },
            config::Route { internal: true, ..route("/secret/*", 208) },
        ];
        for _ in 0..routes.len() {
            routes.rotate_left(1);
            let site = site(routes.clone());
            for (path, head, status) in [
                ("/", "GET / HTTP/1.1", 200),
                ("/api", "GET /api HTTP/1.1", 201),
                ("/apis", "GET /apis HTTP/1.1", 200),
                ("/api/v1/y", "GET /api/v1/y HTTP/1.1", 202),
                ("/api/v1/x", "GET /api/v1/x HTTP/1.1", 203),
                ("/x.php", "GET /x.php HTTP/1.1", 204),
                ("/api/x.php", "GET /api/x.php HTTP/1.1", 201),
                ("/api/z", "POST /api/z HTTP/1.1", 205),
                ("/api/z", "GET /api/z HTTP/1.1\r\nx-beta: 1", 206),
                ("/api/z", "GET /api/z HTTP/1.1\r\nX-Beta: 2", 201),
                ("/api/z", "GET /api/z HTTP/1.1\r\nX-Beta: 1\r\nX-More: 1", 207),
                ("/api/z", "POST /api/z HTTP/1.1\r\nX-Beta: 1", 205),
                ("/secret/x", "GET /secret/x HTTP/1.1", 200),
            ] {
                assert_eq!(found(&site, path, head), status, "{path} {head}");
            }
        }
    }

    #[test]
    fn a_method_that_no_route_takes_is_told_from_a_path_that_none_has() {
        let route = |path: &str, method: &str| config::Route {
            methods: vec![method.into()],
            ..config::Route::new(path.into(), respond(200))
        };
        let site = site(vec![route("/a", "GET"), route("/a", "PUT")]);
        assert_eq!(found(&site, "/a", "HEAD /a HTTP/1.1"), 200, "who answers GET answers HEAD");
        assert_eq!(found(&site, "/a", "POST /a HTTP/1.1"), 405);
        assert_eq!(found(&site, "/b", "GET /b HTTP/1.1"), 0);
    }

    #[test]
    fn a_host_is_found_exactly_then_by_the_longest_wildcard_then_by_default() {
        let sites: Vec<_> = (0..4).map(|_| site(vec![])).collect();
        let mut hosts = Hosts::default();
        hosts.add(&["a.example".to_owned()], &sites[0]);
        hosts.add(&["*.example".to_owned()], &sites[1]);
        hosts.add(&["*.b.example".to_owned()], &sites[2]);
        let is = |hosts: &Hosts, host: &str, wanted: Option<usize>| {
            let found = hosts.site(host.as_bytes());
            let at = found.and_then(|f| sites.iter().position(|s| Rc::ptr_eq(s, f)));
            assert_eq!(at, wanted, "{host}");
        };
        for (host, wanted) in [
            ("a.example", Some(0)),
            ("A.Example.", Some(0)),
            ("x.example", Some(1)),
            ("x.b.example", Some(2)),
            ("b.example", Some(1)),
            (".example", None),
            ("example", None),
            ("other", None),
            ("", None),
        ] {
            is(&hosts, host, wanted);
        }
        is(&hosts, &"x".repeat(300), None);
        hosts.add(&[], &sites[3]);
        is(&hosts, "other", Some(3));
        is(&hosts, "", Some(3));
    }

    #[test]
    fn a_page_for_a_status_is_found_before_that_of_its_class() {
        let site = site(vec![]);
        assert_eq!(site.about.error_page(404).map(|p| p.media.as_str()), Some(""));
        assert_eq!(site.about.error_page(403).map(|p| p.media.as_str()), Some("x"));
        assert_eq!(site.about.error_page(500), None);
    }
}
