//! The decided values that the edge works by. The command line makes them; they travel as JSON, once.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use trivet_wire::control::Transport;

/// Everything an edge needs to know. Sizes in bytes, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// In the order of the listening descriptors.
    pub listeners: Vec<Listener>,
    /// Goes up with every edge of one supervisor.
    pub generation: u32,
    pub transport: Transport,

    pub request_line_bytes_max: u32,
    pub head_bytes_max: u32,
    pub field_bytes_max: u32,
    pub fields_max: u32,
    /// 413 beyond it; 0 = no limit.
    pub body_bytes_max: u64,
    /// `false`: uploads stream to the app as they arrive instead of being taken whole first.
    pub request_buffering: bool,
    /// Folder for spooled bodies (unlinked files).
    pub spool_dir: String,

    pub keep_alive_ms: u64,
    pub head_ms: u64,
    /// From entry into the app to its head, and for each further chunk; 0 = no limit.
    pub timeout_ms: u64,
    pub queue_length_max: u32,
    pub queue_ms: u64,

    /// Peers whose forwarding headers and request ids are believed; `None` = all.
    pub trusted_peers: Option<Vec<Network>>,
    /// Peers on unix sockets are believed.
    pub trust_unix: bool,

    /// The path that the edge answers by itself.
    pub health: Option<String>,
    /// Folders whose files the edge serves by itself.
    #[serde(default)]
    pub static_folders: Vec<StaticFolder>,
    pub access_log: Option<AccessLog>,
    /// Log refused requests and the like: peers' habits.
    #[serde(default)]
    pub log_debug: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// As shown to people, e.g. `http://127.0.0.1:8000`.
    pub name: String,
    pub unix: bool,
    /// Speaks TLS; the certificate and its key come by descriptor.
    #[serde(default)]
    pub tls: bool,
    /// Sends everybody to this port by https.
    #[serde(default)]
    pub redirect: Option<u16>,
}

/// A folder of files under a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StaticFolder {
    /// A canonical path without a slash at its end, or `/`.
    pub prefix: String,
    /// An absolute path.
    pub folder: String,
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

/// The descriptor of the log comes after those of the listeners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessLog {
    pub format: LogFormat,
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
