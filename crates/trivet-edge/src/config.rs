//! The decided values that the edge works by. The command line makes them; they travel as JSON, once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use trivet_wire::control::Transport;

/// Everything an edge needs to know. Sizes in bytes, times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub server: Server,
    /// In the order of the listening descriptors.
    pub listeners: Vec<Listener>,
    /// In the order of the logs' descriptors.
    pub logs: Vec<AccessLog>,
    pub apps: Vec<App>,
    pub sites: Vec<Site>,
}

/// What holds for all sites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Goes up with every edge of one supervisor.
    pub generation: u32,
    pub transport: Transport,

    pub request_line_bytes_max: u32,
    pub head_bytes_max: u32,
    pub field_bytes_max: u32,
    pub fields_max: u32,
    /// Folder for spooled bodies (unlinked files).
    pub spool_dir: String,

    pub keep_alive_ms: u64,
    pub head_ms: u64,

    /// Peers whose forwarding headers and request ids are believed; `None` = all.
    pub trusted_peers: Option<Vec<Network>>,
    /// Peers on unix sockets are believed.
    pub trust_unix: bool,
    /// Handshakes that ask for a name that no site of the listener has are refused.
    pub strict_sni: bool,
    /// Log refused requests and the like: peers' habits.
    pub log_debug: bool,
}

impl Default for Server {
    fn default() -> Self {
        let limits = trivet_http::h1::Limits::default();
        Self {
            generation: 0,
            transport: Transport::Ring,
            request_line_bytes_max: limits.request_line_bytes_max,
            head_bytes_max: limits.head_bytes_max,
            field_bytes_max: limits.field_bytes_max,
            fields_max: limits.fields_max,
            spool_dir: "/var/tmp".to_owned(),
            keep_alive_ms: 75_000,
            head_ms: 10_000,
            trusted_peers: Some(Vec::new()),
            trust_unix: false,
            strict_sni: false,
            log_debug: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// As shown to people, e.g. `http://127.0.0.1:8000`; no two have the same.
    pub name: String,
    pub unix: bool,
    /// Speaks TLS; certificates and keys come by descriptor.
    pub tls: bool,
}

/// An application and how its requests wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    pub name: String,
    /// Never used again for another app. Filled in by the supervisor.
    pub id: u32,
    /// `false`: uploads stream to the app as they arrive instead of being taken whole first.
    pub request_buffering: bool,
    /// From entry into the app to its head, and for each further chunk; 0 = no limit.
    pub timeout_ms: u64,
    pub queue_length_max: u32,
    pub queue_ms: u64,
}

/// Hosts that are served alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    pub name: String,
    /// By their place in [`Config::listeners`].
    pub listeners: Vec<usize>,
    /// In lower case and without a port; `*.example.org` is every name beneath it. Empty: all hosts that no other site
    /// of the listener has.
    pub hosts: Vec<String>,
    /// By its place among the supervisor's certificates, for connections that ask for one of the hosts.
    pub identity: Option<usize>,
    /// Requests that came by a connection with another rule than this are refused.
    pub client: Option<ClientRule>,
    /// The site that has this one's requests if they came by TLS to a proxy that is trusted: its place among all.
    pub when_secured: Option<usize>,
    pub routes: Vec<Route>,
    /// For answers that the edge gives by itself: by status (`404`) or by class (`5xx`).
    pub error_pages: BTreeMap<String, Page>,
    /// Of answers that belong to no route.
    pub response_headers: Changes,
    pub secure_headers: Vec<(String, String)>,
    pub log: Option<SiteLog>,
}

/// Which certificates a site asks clients for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientRule {
    /// The file with the authorities: rules with other files are others.
    pub authorities: String,
    /// Their place among the supervisor's.
    pub place: usize,
    /// Without a certificate there is no connection.
    pub required: bool,
}

impl PartialEq for ClientRule {
    fn eq(&self, other: &Self) -> bool {
        // Places change from one configuration to the next.
        (&self.authorities, self.required) == (&other.authorities, other.required)
    }
}

/// Where a site's requests are logged, and which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteLog {
    /// By its place in [`Config::logs`].
    pub log: usize,
    /// Statuses (`404`) and classes (`5xx`) that are logged; empty: all.
    pub statuses: Vec<String>,
}

/// What is done with some of a site's requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// As [`PathRule`](trivet_http::rule::PathRule) reads it.
    pub path: String,
    /// Empty: all.
    pub methods: Vec<String>,
    /// Fields that the request must have, with this value or with any.
    pub headers: Vec<(String, Option<String>)>,
    /// For the app's internal redirects only (`X-Accel-Redirect`).
    pub internal: bool,
    /// Requests of this route are not logged.
    pub quiet: bool,
    pub action: Action,
    /// 413 beyond it; 0 = no limit.
    pub body_bytes_max: u64,
    pub request_headers: Changes,
    pub response_headers: Changes,
    /// Field lines that only answers over TLS have.
    pub secure_headers: Vec<(String, String)>,
    pub cors: Option<Cors>,
    pub compress: Option<Compress>,
}

impl Route {
    /// For all methods, without any changes.
    pub fn new(path: String, action: Action) -> Self {
        Self {
            path,
            methods: Vec::new(),
            headers: Vec::new(),
            internal: false,
            quiet: false,
            action,
            body_bytes_max: 0,
            request_headers: Changes::default(),
            response_headers: Changes::default(),
            secure_headers: Vec::new(),
            cors: None,
            compress: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    App(ToApp),
    Static(Static),
    Redirect {
        /// As [`Template`](trivet_http::template::Template) reads it.
        to: String,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    Respond {
        status: u16,
        /// An empty one: the site's own for this status, or the usual text.
        page: Page,
        retry_after: Option<u32>,
    },
    /// 200 while all apps can be served, else 503.
    Health,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToApp {
    /// By its place in [`Config::apps`].
    pub app: usize,
    /// `SCRIPT_NAME`: the path that the app is mounted at, without a slash at its end; a prefix of the route's path.
    pub mount: String,
    /// The target that the app sees instead of the client's, as `Template` reads it. Without a `?` in it, it keeps the
    /// query.
    pub rewrite: Option<String>,
}

/// Files of a folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Static {
    /// An absolute path.
    pub folder: String,
    /// The path that the folder stands at, without a slash at its end; the rest of the path is looked up in it.
    pub at: String,
    /// Names that stand for a folder, in their order.
    pub index: Vec<String>,
    /// Files (relative to the folder) that are sent instead of one that is not there, in their order: `index.html` for
    /// a single-page application.
    pub fallback: Vec<String>,
    /// Folders without an index show what is in them.
    pub listing: bool,
    /// Links are followed if they stay beneath the folder; else not at all.
    pub links: bool,
    /// `Cache-Control` of files whose name has no hash of the content; `None`: none is sent.
    pub cache: Option<String>,
    /// What is done where there is no such file, instead of 404.
    pub otherwise: Option<Box<Action>>,
}

impl Static {
    /// With an index and nothing else.
    pub fn new(folder: String, at: String, otherwise: Option<Box<Action>>) -> Self {
        Self {
            folder,
            at,
            index: vec!["index.html".to_owned()],
            fallback: Vec::new(),
            listing: false,
            links: true,
            cache: None,
            otherwise,
        }
    }
}

/// Contents of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    pub media: String,
    pub body: String,
}

/// Changes of a head's fields: first `remove`, then `set` (in place of what is there), then `add`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    pub remove: Vec<String>,
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    /// Only where the app has said nothing.
    pub default: Vec<(String, String)>,
}

/// Which other origins' scripts may read the answers (Fetch, "CORS protocol").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cors {
    /// `https://app.example`; `*`: all.
    pub origins: Vec<String>,
    pub methods: Vec<String>,
    /// `*`: those that are asked for.
    pub headers: Vec<String>,
    pub expose: Vec<String>,
    pub credentials: bool,
    pub max_age_seconds: u64,
}

/// Which answers are compressed on their way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compress {
    /// `br`, `zstd`, `gzip`, in the order of preference.
    pub codings: Vec<String>,
    pub bytes_min: u64,
}

/// An address range in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub address: IpAddr,
    pub prefix_bits: u8,
}

impl Network {
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_bits)).unwrap_or(0);
                u32::from(net) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_bits)).unwrap_or(0);
                u128::from(net) & mask == u128::from(ip) & mask
            }
            _ => false,
        }
    }
}

/// Where requests are logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessLog {
    /// As shown to people: the file, `standard output`, or the syslog; no two have the same.
    pub name: String,
    pub format: LogFormat,
    /// The descriptor is a socket to which each line goes as a message.
    pub syslog: Option<Syslog>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Syslog {
    /// By UDP (RFC 5424), not to the socket of this machine.
    pub network: bool,
    /// Facility × 8 + severity.
    pub priority: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Common,
    Combined,
    Json,
    /// Gunicorn's atoms, e.g. `%(h)s %(r)s %(s)s %({x-request-id}o)s`.
    Atoms(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_own_addresses_only() {
        let net = Network { address: "10.1.0.0".parse().unwrap(), prefix_bits: 16 };
        assert!(net.contains("10.1.255.1".parse().unwrap()));
        assert!(net.contains("::ffff:10.1.0.9".parse().unwrap()), "a v4 peer on a v6 socket");
        assert!(!net.contains("10.2.0.1".parse().unwrap()));
        let all = Network { address: "::".parse().unwrap(), prefix_bits: 0 };
        assert!(all.contains("2001:db8::1".parse().unwrap()) && !all.contains("10.0.0.1".parse().unwrap()));
    }
}
