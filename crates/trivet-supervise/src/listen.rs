//! The listening sockets, which live as long as the service.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType};

use crate::process::account::Account;
use crate::process::inherit;

pub const PORT_DEFAULT: u16 = 8000;
/// The first descriptor that a service manager passes.
const LISTEN_FDS_START: i32 = 3;

/// Where to listen, as a user writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
    /// A listening socket that we were started with.
    Descriptor(i32),
}

#[derive(Debug, thiserror::Error)]
pub enum BindSyntax {
    #[error("`{0}` is not an address to listen on")]
    Form(String),
    #[error("`{0}` is not a port")]
    Port(String),
}

impl FromStr for Bind {
    type Err = BindSyntax;

    /// `HOST:PORT`, `HOST`, `:PORT`, `[V6]:PORT`, a port alone, `unix:PATH`, `fd://N`.
    fn from_str(text: &str) -> Result<Self, BindSyntax> {
        let form = || BindSyntax::Form(text.to_owned());
        if let Some(number) = text.strip_prefix("fd://") {
            return number.parse().ok().filter(|&n| n >= 0).map(Self::Descriptor).ok_or_else(form);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(form()) } else { Ok(Self::Unix(path.into())) };
        }
        let rest = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let port_of = |port: &str| port.parse::<u16>().map_err(|_| BindSyntax::Port(port.to_owned()));
        let (host, port) = if let Some(v6) = rest.strip_prefix('[') {
            let (host, after) = v6.split_once(']').ok_or_else(form)?;
            host.parse::<Ipv6Addr>().map_err(|_| form())?;
            match after.strip_prefix(':') {
                Some(port) => (host, port_of(port)?),
                None if after.is_empty() => (host, PORT_DEFAULT),
                None => return Err(form()),
            }
        } else if rest.parse::<Ipv6Addr>().is_ok() {
            (rest, PORT_DEFAULT)
        } else if let Some((host, port)) = rest.rsplit_once(':') {
            (if host.is_empty() { "0.0.0.0" } else { host }, port_of(port)?)
        } else if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) {
            ("127.0.0.1", port_of(rest)?)
        } else {
            (rest, PORT_DEFAULT)
        };
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(word) {
            return Err(form());
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Descriptor(fd) => write!(f, "fd://{fd}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {bind}: {}", in_use(by.as_deref()))]
    InUse { bind: String, by: Option<String> },
    #[error("cannot listen on {bind}: not permitted")]
    NotPermitted { bind: String, port: Option<u16> },
    #[error("cannot listen on {bind}: this machine has no such address")]
    NoSuchAddress { bind: String },
    #[error("cannot listen on {bind}: no address is known for `{host}`")]
    Unresolved { bind: String, host: String },
    #[error("cannot listen on {bind}: something other than a socket is in the way")]
    InTheWay { bind: String },
    #[error("cannot listen on {bind}: the path is too long for a socket")]
    TooLong { bind: String },
    #[error("cannot listen on fd://{0}: it is no listening socket")]
    NotListening(i32),
    #[error("cannot listen on {bind}: {}", crate::plain(source))]
    Other { bind: String, source: io::Error },
}

fn in_use(by: Option<&str>) -> String {
    match by {
        Some(who) => format!("the address is in use by {who}"),
        None => "the address is in use".to_owned(),
    }
}

impl ListenError {
    pub fn hint(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "stop the other process, or choose another address with `--bind`",
            Self::NotPermitted { port: Some(_), .. } => {
                "ports below 1024 are for root: choose a higher one, use socket activation, or grant \
                 CAP_NET_BIND_SERVICE"
            }
            Self::NotPermitted { .. } => "look at the permissions of the folder",
            Self::NoSuchAddress { .. } | Self::Unresolved { .. } => {
                "`0.0.0.0:PORT` listens on all addresses of this machine"
            }
            Self::InTheWay { .. } => "remove it, or choose another path",
            Self::TooLong { .. } => "107 bytes is the longest path that a unix socket may have",
            Self::NotListening(_) => "the process that starts us must pass a listening stream socket there",
            Self::Other { .. } => "look at the address given by `--bind`",
        }
    }
}

/// One socket, bound and listening.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// As it was asked for.
    pub bind: Bind,
    /// As shown to people: a URL.
    pub name: String,
    pub unix: bool,
    /// It is bound and does not listen yet; how many connections may wait when it does.
    later: Option<u32>,
    /// The file to remove at the end, if it is still the one made here: path, device, inode.
    made: Option<(PathBuf, u64, u64)>,
}

impl Listener {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Removes what was made in the file system.
    pub fn close(self) {
        if let Some((path, device, inode)) = self.made
            && std::fs::symlink_metadata(&path).is_ok_and(|m| (m.dev(), m.ino()) == (device, inode))
        {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Lets new sockets listen that were bound beside some that will go; `binds`: all that are wanted.
pub fn begin(new: &[Listener], there: &[&Listener], binds: &[&Bind]) -> io::Result<()> {
    let leaving = there.iter().filter(|l| !binds.contains(&&l.bind));
    let begun = beside(leaving, || {
        new.iter().try_for_each(|l| {
            let Some(backlog) = l.later else { return Ok(()) };
            rustix::net::listen(&l.fd, backlog as i32)?;
            sockopt::set_socket_reuseport(&l.fd, false)
        })
    });
    Ok(begun?)
}

/// Does something while these sockets, which will go, let others have their ports too.
fn beside<'a, T>(leaving: impl Iterator<Item = &'a &'a Listener> + Clone, act: impl FnOnce() -> T) -> T {
    let set = |on| {
        for listener in leaving.clone().filter(|l| !l.unix) {
            // Where it is refused, so is what needs it.
            let _ = sockopt::set_socket_reuseport(&listener.fd, on);
        }
    };
    set(true);
    let done = act();
    set(false);
    done
}

/// What shapes the sockets.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    pub backlog: u32,
    /// For the files of unix sockets.
    pub umask: u32,
    pub owner: Option<&'a Account>,
}

/// All of them or none.
pub fn bind_all(binds: &[Bind], shape: Shape<'_>) -> Result<Vec<Listener>, ListenError> {
    bind_missing(binds, &[], shape)
}

/// Those of `binds` that are not `there`; all or none. One that is there and not wanted any more is in nobody's way: so
/// an address may become a wider or a narrower one while both are open.
pub fn bind_missing(
    binds: &[Bind],
    there: &[&Listener],
    shape: Shape<'_>,
) -> Result<Vec<Listener>, ListenError> {
    let leaving = there.iter().filter(|l| !binds.contains(&l.bind));
    let some = leaving.clone().any(|l| !l.unix);
    beside(leaving, || bind_each(binds, there, some, shape))
}

fn bind_each(
    binds: &[Bind],
    there: &[&Listener],
    beside: bool,
    shape: Shape<'_>,
) -> Result<Vec<Listener>, ListenError> {
    let mut listeners: Vec<Listener> = Vec::new();
    for bind in binds.iter().filter(|b| !there.iter().any(|l| l.bind == **b)) {
        let listener = match bind {
            Bind::Tcp { host, port } => {
                let v4_too = binds.iter().any(|other| {
                    matches!(other, Bind::Tcp { host, port: p } if p == port && host.parse::<Ipv4Addr>().is_ok())
                });
                tcp(bind, host, *port, (v4_too, beside), shape)
            }
            Bind::Unix(path) => unix(bind, path, shape),
            Bind::Descriptor(fd) => inherited(*fd),
        };
        match listener {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                listeners.into_iter().for_each(Listener::close);
                return Err(error);
            }
        }
    }
    Ok(listeners)
}

/// The descriptors that a service manager passes to this process (systemd's socket activation).
pub fn activated() -> Vec<Bind> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => {
            (LISTEN_FDS_START..LISTEN_FDS_START + count.min(64) as i32).map(Bind::Descriptor).collect()
        }
        _ => Vec::new(),
    }
}

fn tcp(
    bind: &Bind,
    host: &str,
    port: u16,
    (v4_too, beside): (bool, bool),
    shape: Shape<'_>,
) -> Result<Listener, ListenError> {
    let name = bind.to_string();
    let unresolved = || ListenError::Unresolved { bind: name.clone(), host: host.to_owned() };
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(|_| unresolved())?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let address = *addresses.first().ok_or_else(unresolved)?;
    let failed = |errno: Errno| match errno {
        Errno::ADDRINUSE => ListenError::InUse { bind: name.clone(), by: holder_of(address) },
        Errno::ACCESS | Errno::PERM => ListenError::NotPermitted { bind: name.clone(), port: Some(port) },
        Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => ListenError::NoSuchAddress { bind: name.clone() },
        other => ListenError::Other { bind: name.clone(), source: other.into() },
    };
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let fd = rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(failed)?;
    // A restart must not wait for connections of before that linger; a living listener is still found.
    sockopt::set_socket_reuseaddr(&fd, true).map_err(failed)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && v4_too {
        sockopt::set_ipv6_v6only(&fd, true).map_err(failed)?;
    }
    // For this moment, beside sockets of our own that allow it: others still find the port in use.
    if beside {
        sockopt::set_socket_reuseport(&fd, true).map_err(failed)?;
    }
    rustix::net::bind(&fd, &address).map_err(failed)?;
    // Beside another it would take the connections that are still that one's: it begins when they change places.
    let later = beside.then_some(shape.backlog);
    if !beside {
        rustix::net::listen(&fd, shape.backlog as i32).map_err(failed)?;
    }
    let name = url_of(&fd).unwrap_or_else(|| format!("http://{bind}"));
    Ok(Listener { fd, bind: bind.clone(), name, unix: false, later, made: None })
}

fn unix(bind: &Bind, path: &Path, shape: Shape<'_>) -> Result<Listener, ListenError> {
    let name = bind.to_string();
    let failed = |errno: Errno| match errno {
        Errno::ADDRINUSE => ListenError::InUse { bind: name.clone(), by: None },
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            ListenError::NotPermitted { bind: name.clone(), port: None }
        }
        other => ListenError::Other { bind: name.clone(), source: other.into() },
    };
    let address = SocketAddrUnix::new(path).map_err(|_| ListenError::TooLong { bind: name.clone() })?;
    let socket = |flags| rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(ListenError::InTheWay { bind: name.clone() });
        }
        let probe = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map_err(failed)?;
        match rustix::net::connect(&probe, &address) {
            // Nobody listens there: left over by a process that was killed.
            Err(Errno::CONNREFUSED) => std::fs::remove_file(path)
                .map_err(|_| ListenError::NotPermitted { bind: name.clone(), port: None })?,
            Err(Errno::NOENT) => {}
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => return Err(failed(errno)),
            Ok(()) | Err(_) => return Err(failed(Errno::ADDRINUSE)),
        }
    }
    let fd = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map_err(failed)?;
    let before = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(shape.umask));
    let bound = rustix::net::bind(&fd, &address);
    rustix::process::umask(before);
    bound.map_err(failed)?;
    let meta = std::fs::symlink_metadata(path)
        .map_err(|source| ListenError::Other { bind: name.clone(), source })?;
    let listener = Listener {
        fd,
        bind: bind.clone(),
        name: name.clone(),
        unix: true,
        later: None,
        made: Some((path.to_owned(), meta.dev(), meta.ino())),
    };
    let owned = match shape.owner {
        Some(owner) => std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)),
        None => Ok(()),
    };
    let done = owned
        .map_err(|source| ListenError::Other { bind: name.clone(), source })
        .and_then(|()| rustix::net::listen(&listener.fd, shape.backlog as i32).map_err(failed));
    match done {
        Ok(()) => Ok(listener),
        Err(error) => {
            listener.close();
            Err(error)
        }
    }
}

fn inherited(number: i32) -> Result<Listener, ListenError> {
    let not = |_| ListenError::NotListening(number);
    let fd = inherit::take(number).map_err(not)?;
    if !sockopt::socket_acceptconn(&fd).unwrap_or(false)
        || sockopt::socket_type(&fd) != Ok(SocketType::STREAM)
    {
        return Err(ListenError::NotListening(number));
    }
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(|e| not(e.into()))?;
    rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK).map_err(|e| not(e.into()))?;
    let unix = sockopt::socket_domain(&fd) == Ok(AddressFamily::UNIX);
    let name = url_of(&fd).unwrap_or_else(|| format!("fd://{number}"));
    Ok(Listener { fd, bind: Bind::Descriptor(number), name, unix, later: None, made: None })
}

/// The real address, a port chosen by the system included.
fn url_of(fd: &OwnedFd) -> Option<String> {
    let address: SocketAddrAny = rustix::net::getsockname(fd).ok()?;
    if address.address_family() == AddressFamily::UNIX {
        let unix = SocketAddrUnix::try_from(address).ok()?;
        return unix.path().map(|p| format!("unix:{}", p.to_string_lossy()));
    }
    SocketAddr::try_from(address).ok().map(|a| format!("http://{a}"))
}

/// Which process listens there, as far as /proc tells.
fn holder_of(address: SocketAddr) -> Option<String> {
    let inodes = listening_inodes(address.port());
    let targets: Vec<String> = inodes.iter().map(|i| format!("socket:[{i}]")).collect();
    if targets.is_empty() {
        return None;
    }
    let mut holders: Vec<u32> = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(fds) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let held = fds.flatten().any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|t| targets.iter().any(|w| t.as_os_str() == w.as_str()))
        });
        if held {
            holders.push(pid);
        }
    }
    // The oldest one is the parent of the others, as a rule.
    let pid = holders.into_iter().min()?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("`{}` (pid {pid})", name.trim()))
}

fn listening_inodes(port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(&state), Some(&inode)) = (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            let same = local.rsplit(':').next().and_then(|p| u16::from_str_radix(p, 16).ok()) == Some(port);
            if same && state == LISTEN {
                inodes.push(inode.to_owned());
            }
        }
    }
    inodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape<'static> {
        Shape { backlog: 16, umask: 0, owner: None }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("trivet-listen-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn addresses_are_read_in_all_their_forms() {
        let tcp = |host: &str, port| Bind::Tcp { host: host.into(), port };
        for (text, bind) in [
            ("127.0.0.1:80", tcp("127.0.0.1", 80)),
            ("localhost", tcp("localhost", 8000)),
            (":8080", tcp("0.0.0.0", 8080)),
            ("8080", tcp("127.0.0.1", 8080)),
            ("[::1]:9", tcp("::1", 9)),
            ("[::]", tcp("::", 8000)),
            ("::1", tcp("::1", 8000)),
            ("tcp://a.example:1", tcp("a.example", 1)),
            ("unix:/run/a.sock", Bind::Unix("/run/a.sock".into())),
            ("unix:///run/a.sock", Bind::Unix("/run/a.sock".into())),
            ("unix:a.sock", Bind::Unix("a.sock".into())),
            ("fd://5", Bind::Descriptor(5)),
        ] {
            assert_eq!(text.parse::<Bind>().unwrap(), bind, "{text}");
        }
        for text in [
            "", "a:b", "a:70000", "a:-1", "[::1", "[::1]x", "[x]:1", "unix:", "fd://x", "fd://-1", "a b:1",
            "/x",
        ] {
            assert!(text.parse::<Bind>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_used_port_is_told_with_its_holder() {
        let first = bind_all(&["127.0.0.1:0".parse().unwrap()], shape()).unwrap();
        let address = first[0].name.strip_prefix("http://").unwrap().to_owned();
        let error = bind_all(&[address.parse().unwrap()], shape()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot listen on {address}: the address is in use by `")),
            "{text}"
        );
        assert!(text.ends_with(&format!("(pid {})", std::process::id())), "{text}");
        assert!(error.hint().contains("--bind"));
    }

    #[test]
    fn both_families_listen_on_one_port_for_all_addresses() {
        let v4 = bind_all(&["0.0.0.0:0".parse().unwrap()], shape()).unwrap();
        let port: u16 = v4[0].name.rsplit(':').next().unwrap().parse().unwrap();
        drop(v4);
        let binds = [format!("0.0.0.0:{port}").parse().unwrap(), format!("[::]:{port}").parse().unwrap()];
        match bind_all(&binds, shape()) {
            Ok(both) => assert_eq!(both.len(), 2),
            Err(error) => {
                assert!(matches!(error, ListenError::NoSuchAddress { .. }), "no IPv6 here: {error}");
            }
        }
    }

    #[test]
    fn a_stale_unix_socket_is_taken_over_and_a_living_one_is_not() {
        let folder = folder("stale");
        let path = folder.join("s");
        let bind = [Bind::Unix(path.clone())];
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let living = bind_all(&bind, shape()).unwrap();
        assert!(matches!(bind_all(&bind, shape()), Err(ListenError::InUse { .. })));
        living.into_iter().for_each(Listener::close);
        assert!(!path.exists(), "it is removed at the end");
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(bind_all(&bind, shape()), Err(ListenError::InTheWay { .. })));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_unix_socket_of_somebody_else_is_left_at_the_end() {
        let folder = folder("foreign");
        let path = folder.join("s");
        let ours = bind_all(&[Bind::Unix(path.clone())], shape()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
        ours.into_iter().for_each(Listener::close);
        assert!(path.exists());
        drop(theirs);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn one_failure_leaves_no_socket_behind() {
        let folder = folder("none");
        let path = folder.join("s");
        let taken = bind_all(&["127.0.0.1:0".parse().unwrap()], shape()).unwrap();
        let address = taken[0].name.strip_prefix("http://").unwrap();
        assert!(bind_all(&[Bind::Unix(path.clone()), address.parse().unwrap()], shape()).is_err());
        assert!(!path.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_descriptor_must_be_a_listening_socket() {
        assert!(matches!(bind_all(&[Bind::Descriptor(0)], shape()), Err(ListenError::NotListening(0))));
        assert!(matches!(bind_all(&[Bind::Descriptor(9999)], shape()), Err(ListenError::NotListening(9999))));
    }
}
