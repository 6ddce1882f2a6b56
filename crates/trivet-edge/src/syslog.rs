//! Lines of an access log as messages of syslog: for the socket of this machine as `syslog(3)` writes them, which is what
//! journald and rsyslog read there; for the network by RFC 5424.

use std::io::Write as _;

use crate::config;

/// Longer messages are cut: these are what rsyslog and journald take by default (8 KiB, 48 KiB).
const NETWORK_BYTES_MAX: usize = 8 * 1024;
const LOCAL_BYTES_MAX: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct Syslog {
    network: bool,
    priority: u8,
    host: String,
    message: Vec<u8>,
}

impl Syslog {
    pub(crate) fn new(config: &config::Syslog) -> Self {
        let name = rustix::system::uname();
        let name = name.nodename().to_string_lossy();
        // RFC 5424 §6: printable, no spaces; `-` for none.
        let fit = !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic());
        let host = if fit { name.into_owned() } else { "-".to_owned() };
        Self { network: config.network, priority: config.priority, host, message: Vec::new() }
    }

    pub(crate) fn is_network(&self) -> bool {
        self.network
    }

    /// The message for a line, with or without its end.
    pub(crate) fn message(&mut self, line: &[u8]) -> &[u8] {
        let Self { network, priority, host, message } = self;
        let pid = std::process::id();
        message.clear();
        let _ = if *network {
            let time = trivet_wire::log::timestamp(trivet_wire::log::now_ms());
            write!(message, "<{priority}>1 {time} {host} trivet {pid} access - ")
        } else {
            // Without a time: the daemon's own is the better one, and in its zone.
            write!(message, "<{priority}>trivet[{pid}]: ")
        };
        let max = if *network { NETWORK_BYTES_MAX } else { LOCAL_BYTES_MAX };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut end = line.len().min(max - message.len());
        // Not within a letter (UTF-8).
        while end < line.len() && end > 0 && line[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        message.extend_from_slice(&line[..end]);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_this_machine_gets_what_its_daemons_read() {
        let mut syslog = Syslog::new(&config::Syslog { network: false, priority: 190 });
        let pid = std::process::id();
        assert_eq!(syslog.message(b"a line\n"), format!("<190>trivet[{pid}]: a line").as_bytes());
    }

    #[test]
    fn the_network_gets_rfc_5424() {
        let mut syslog = Syslog::new(&config::Syslog { network: true, priority: 14 });
        let message = String::from_utf8(syslog.message(b"a line\n").to_vec()).unwrap();
        let parts: Vec<&str> = message.splitn(8, ' ').collect();
        let pid = std::process::id().to_string();
        assert_eq!(parts[0], "<14>1");
        assert!(parts[1].ends_with('Z') && parts[1].len() == 24, "{message}");
        assert_eq!(parts[3..], ["trivet", &pid, "access", "-", "a line"]);
    }

    #[test]
    fn what_is_too_long_is_cut_between_letters() {
        let mut syslog = Syslog::new(&config::Syslog { network: true, priority: 14 });
        let line = "é".repeat(10_000);
        let message = syslog.message(line.as_bytes());
        assert!(message.len() <= NETWORK_BYTES_MAX && message.len() > NETWORK_BYTES_MAX - 2);
        assert!(std::str::from_utf8(message).is_ok());
    }
}
