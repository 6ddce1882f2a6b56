//! Values as people write them: times, sizes, counts, masks, networks.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use trivet_edge::config::{AccessLog, LogFormat, Network, Syslog};
use trivet_supervise::access_logs::SyslogAddress;

use crate::config::keys::{FACILITIES, SEVERITIES};

/// `30`, `30s`, `500ms`, `2m`, `1h`, `7d`, `2w`, `1y`; a plain number is seconds, a year 365 days.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let ms = match unit {
        "ms" => 1.0,
        "" | "s" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        "w" => 604_800_000.0,
        "y" => 365.0 * 86_400_000.0,
        _ => return Err("write it as `30s`, `500ms`, `2m` or a number of seconds".to_owned()),
    };
    const MS_MAX: f64 = 1e12;
    match plain_number(number) {
        Some(n) if n * ms <= MS_MAX => Ok(Duration::from_millis((n * ms).round() as u64)),
        _ => Err("write it as `30s`, `500ms`, `2m` or a number of seconds".to_owned()),
    }
}

/// `65536`, `64k`, `64KiB`, `64MiB`, `1GiB`, `10MB`; a plain number is bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("write it as `64MiB`, `512k` or a number of bytes".to_owned()),
    };
    const BYTES_MAX: f64 = (1u64 << 50) as f64;
    match plain_number(number.trim_end()) {
        Some(n) if n * unit as f64 <= BYTES_MAX => Ok((n * unit as f64) as u64),
        _ => Err("write it as `64MiB`, `512k` or a number of bytes".to_owned()),
    }
}

fn plain_number(text: &str) -> Option<f64> {
    let plain =
        text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// A number of workers; `auto`: one for each CPU that this process may use.
pub(crate) fn workers(text: &str) -> Result<u32, String> {
    if text == "auto" {
        // By affinity and by the quota of the control group.
        return Ok(std::thread::available_parallelism().map_or(1, |n| n.get() as u32));
    }
    match text.parse() {
        Ok(n @ 1..=trivet_supervise::machine::WORKERS_MAX) => Ok(n),
        _ => Err(format!("write a number from 1 to {}, or `auto`", trivet_supervise::machine::WORKERS_MAX)),
    }
}

pub(crate) const THREADS_MAX: u16 = 1_000;

pub(crate) fn threads(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(n @ 1..=THREADS_MAX) => Ok(n),
        _ => Err(format!("write a number from 1 to {THREADS_MAX}")),
    }
}

/// A mask in octal, which its leading zero shows.
pub(crate) fn umask(text: &str) -> Result<u32, String> {
    let digits = text
        .strip_prefix("0o")
        .or_else(|| text.strip_prefix('0').map(|d| if d.is_empty() { "0" } else { d }));
    digits
        .and_then(|d| u32::from_str_radix(d, 8).ok())
        .filter(|&m| m <= 0o777)
        .ok_or_else(|| "write it in octal with a leading zero, as `022`".to_owned())
}

/// `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !text.contains('\0') => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write it as `NAME=VALUE`".to_owned()),
    }
}

/// `NAME: VALUE`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if trivet_http::field::is_token(name.as_bytes()) => {
            Ok((name.to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as `Name: value`".to_owned()),
    }
}

pub(crate) fn health_path(text: &str) -> Result<String, String> {
    let fit = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
    if fit { Ok(text.to_owned()) } else { Err("write a path that begins with `/`, as `/health`".to_owned()) }
}

/// `/PATH=FOLDER`.
pub(crate) fn static_folder(text: &str) -> Result<(String, PathBuf), String> {
    let example = "write a path and a folder, as `/static=public`";
    let (path, folder) = text.split_once('=').ok_or(example)?;
    let bare = path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path);
    if folder.is_empty() || !path.starts_with('/') {
        return Err(example.to_owned());
    }
    let mut canonical = String::new();
    if trivet_http::path::canonical(bare.as_bytes(), &mut canonical).is_err() || canonical != bare {
        return Err("the path must be plain: without `%`, `.`, `..` and empty segments".to_owned());
    }
    Ok((bare.to_owned(), folder.into()))
}

/// `common`, `combined`, `json`, or Gunicorn's atoms.
pub(crate) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "common" => Ok(LogFormat::Common),
        "combined" => Ok(LogFormat::Combined),
        "json" => Ok(LogFormat::Json),
        atoms if atoms.contains("%(") => Ok(LogFormat::Atoms(atoms.to_owned())),
        _ => {
            Err("write `common`, `combined`, `json`, or a format with atoms like `%(h)s %(r)s %(s)s`"
                .to_owned())
        }
    }
}

const SYSLOG_PATH: &str = "/dev/log";
const SYSLOG_PORT: u16 = 514;
/// Facility and severity.
pub(crate) const SYSLOG_DEFAULT: (&str, &str) = ("local7", "info");

/// `syslog:`, `syslog:/run/log`, `syslog:udp://10.0.0.1:514`; `None`: no syslog at all.
pub(crate) fn syslog(text: &str) -> Option<Result<SyslogAddress, String>> {
    let rest = text.strip_prefix("syslog:")?;
    if rest.is_empty() {
        return Some(Ok(SyslogAddress::Socket(SYSLOG_PATH.into())));
    }
    if rest.starts_with('/') && !rest.starts_with("//") {
        return Some(Ok(SyslogAddress::Socket(rest.into())));
    }
    let wrong = "write `syslog:`, `syslog:/run/log` or `syslog:udp://10.0.0.1:514`";
    Some(rest.strip_prefix("udp://").and_then(host_and_port).ok_or_else(|| wrong.to_owned()))
}

/// A file, or an address of a syslog that is one.
pub(crate) fn access_log(path: PathBuf) -> Result<PathBuf, String> {
    match path.to_str().and_then(syslog) {
        Some(Err(wrong)) => Err(wrong),
        _ => Ok(path),
    }
}

fn host_and_port(text: &str) -> Option<SyslogAddress> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|&port| port != 0)?,
        None if port.is_empty() => SYSLOG_PORT,
        None => return None,
    };
    let in_brackets = text.starts_with('[');
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') || in_brackets && c == ':';
    (!host.is_empty() && host.chars().all(fit)).then(|| SyslogAddress::Udp(host.to_owned(), port))
}

/// What the edge is told of a syslog. Facility and severity are those of the lists.
pub(crate) fn syslog_log(
    address: &SyslogAddress,
    (facility, severity): (&str, &str),
    format: LogFormat,
) -> AccessLog {
    let at = |all: &[&str], name: &str| all.iter().position(|n| *n == name).unwrap_or(0) as u8;
    let facility = match at(FACILITIES, facility) + 1 {
        // Between `ftp` and `local0` there are four that nobody uses.
        number if number >= 12 => number + 4,
        number => number,
    };
    let (network, name) = match address {
        SyslogAddress::Socket(path) => (false, format!("syslog:{}", path.display())),
        SyslogAddress::Udp(host, port) => (true, format!("syslog:udp://{host}:{port}")),
    };
    let priority = facility * 8 + at(SEVERITIES, severity);
    AccessLog { name, format, syslog: Some(Syslog { network, priority }) }
}

/// Whose forwarding headers are believed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trust {
    All,
    /// And peers on unix sockets.
    These(Vec<Network>),
    Nobody,
}

/// Addresses and networks separated by commas; `*`: all; empty: nobody.
pub(crate) fn trust(text: &str) -> Result<Trust, String> {
    if text.trim().is_empty() {
        return Ok(Trust::Nobody);
    }
    let mut networks = Vec::new();
    for part in text.split(',').map(str::trim) {
        if part == "*" {
            return Ok(Trust::All);
        }
        networks.push(network(part).ok_or_else(|| {
            format!("`{part}` is neither an address nor a network; write `10.0.0.1,10.1.0.0/16` or `*`")
        })?);
    }
    Ok(Trust::These(networks))
}

fn network(text: &str) -> Option<Network> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let prefix_bits = bits.map_or(Some(bits_max), |b| b.parse().ok().filter(|&b| b <= bits_max))?;
    Some(Network { address, prefix_bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, ms) in [
            ("30", 30_000),
            ("0", 0),
            ("1.5", 1_500),
            ("30s", 30_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1y", 31_536_000_000),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1", "1e3", "1mo", "30 parsecs", "inf", "nan", "99999999999h", "."] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("1", 1),
            ("64MiB", 64 << 20),
            ("64m", 64 << 20),
            ("64 MiB", 64 << 20),
            ("10MB", 10_000_000),
            ("0", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1TiBi", "0x10", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mask_is_octal_and_says_so() {
        assert_eq!(
            (umask("0"), umask("022"), umask("0o077"), umask("0002")),
            (Ok(0), Ok(0o22), Ok(0o77), Ok(2))
        );
        for text in ["22", "08", "01000", "", "-1"] {
            assert!(umask(text).is_err(), "{text}");
        }
    }

    #[test]
    fn trust_is_a_list_of_networks() {
        let Ok(Trust::These(networks)) = trust("127.0.0.1, ::1,10.0.0.0/8") else { panic!("a list") };
        assert_eq!(networks.iter().map(|n| n.prefix_bits).collect::<Vec<_>>(), [32, 128, 8]);
        assert_eq!(trust("10.0.0.1,*"), Ok(Trust::All));
        assert_eq!(trust(""), Ok(Trust::Nobody));
        for text in ["x", "10.0.0.0/33", "10.0.0.1,", "::/129", "10.0.0.0/"] {
            assert!(trust(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_syslog_is_a_socket_or_an_address() {
        let socket = |path: &str| Some(Ok(SyslogAddress::Socket(path.into())));
        let udp = |host: &str, port| Some(Ok(SyslogAddress::Udp(host.to_owned(), port)));
        assert_eq!(syslog("access.log"), None);
        assert_eq!(syslog("syslog:"), socket("/dev/log"));
        assert_eq!(syslog("syslog:/run/a/log"), socket("/run/a/log"));
        assert_eq!(syslog("syslog:udp://logs.example:1514"), udp("logs.example", 1514));
        assert_eq!(syslog("syslog:udp://10.0.0.1"), udp("10.0.0.1", 514));
        assert_eq!(syslog("syslog:udp://[::1]:514"), udp("::1", 514));
        for text in [
            "log",
            "//a",
            "udp://",
            "udp://:514",
            "udp://a:0",
            "udp://a:x",
            "udp://::1",
            "tcp://a",
            "udp://[::1",
        ] {
            assert!(syslog(&format!("syslog:{text}")).is_some_and(|a| a.is_err()), "{text}");
        }
    }

    #[test]
    fn priorities_are_those_of_rfc_5424() {
        let priority = |facility, severity| {
            let address = SyslogAddress::Socket("/dev/log".into());
            syslog_log(&address, (facility, severity), LogFormat::Json).syslog.map(|s| s.priority)
        };
        assert_eq!(priority("local7", "info"), Some(190));
        assert_eq!(priority("local0", "emerg"), Some(128));
        assert_eq!(priority("user", "notice"), Some(13));
        assert_eq!(priority("ftp", "debug"), Some(95));
    }

    #[test]
    fn a_log_format_is_a_name_or_has_atoms() {
        assert_eq!(log_format("json"), Ok(LogFormat::Json));
        assert_eq!(log_format("%(h)s"), Ok(LogFormat::Atoms("%(h)s".into())));
        assert!(log_format("jsn").is_err());
    }
}
