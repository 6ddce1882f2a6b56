//! The access logs' files and sockets: opened, rotated and connected here, where there are the rights for it; the edge
//! only writes to them.

use std::fs::File;
use std::io;
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, StatxFlags};

use crate::log::{Level, append};
use crate::machine::Millis;
use crate::plain;

/// Sizes are looked at, and sockets tried again, so often.
const LOOK_MS: Millis = 1_000;
/// Where only the age counts.
const LOOK_SELDOM_MS: Millis = 60_000;
/// After a rotation that failed.
const PATIENCE_MS: Millis = 60_000;
/// No more files of a log are kept.
pub const KEEP_MAX: u32 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    File(PathBuf, Option<Rotation>),
    Syslog(SyslogAddress),
}

/// When a file is put aside for a new one: the first of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub bytes: Option<u64>,
    pub age_ms: Option<u64>,
    /// Of those that were put aside, 1 to [`KEEP_MAX`]: `access.log.1` is the newest.
    pub keep: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// Of datagrams, as `/dev/log`.
    Socket(PathBuf),
    Udp(String, u16),
}

#[derive(Debug)]
struct Open {
    target: LogTarget,
    fd: OwnedFd,
    /// When the file was begun, on the wall clock.
    begun_ms: u64,
    /// No rotation before this.
    not_before: Millis,
    /// A socket that nobody listens at; whether that has been told.
    gone: bool,
    told: bool,
}

/// What a log is opened by, and what was wrong with it.
pub type NotOpened = (PathBuf, io::Error);

/// What an operator should know.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) Level, pub(crate) &'static str, pub(crate) Vec<(&'static str, String)>);

/// The open logs, in the order of the edge's configuration.
#[derive(Debug, Default)]
pub(crate) struct AccessLogs {
    logs: Vec<Open>,
    next_look: Millis,
}

impl AccessLogs {
    pub(crate) fn open(targets: &[LogTarget]) -> Result<Self, NotOpened> {
        let logs = targets.iter().map(Open::new).collect::<Result<_, _>>()?;
        Ok(Self { logs, next_look: 0 })
    }

    /// For the edge.
    pub(crate) fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        self.logs.iter().map(|log| log.fd.try_clone()).collect()
    }

    /// Whether opening them anew makes a difference.
    pub(crate) fn can_change(&self) -> bool {
        self.logs.iter().any(|log| log.target != LogTarget::Stdout)
    }

    /// The edge found nobody at the other end of a socket.
    pub(crate) fn look_for_sockets(&mut self) {
        for log in &mut self.logs {
            log.gone |= matches!(log.target, LogTarget::Syslog(SyslogAddress::Socket(_)));
        }
    }

    /// When to look at them again. `wall_ms`: since 1970.
    pub(crate) fn deadline(&self, wall_ms: u64) -> Option<Millis> {
        let wait = self.logs.iter().filter_map(|log| log.patience_ms(wall_ms)).min()?;
        // The last look was so long before.
        Some(self.next_look.saturating_sub(LOOK_MS) + wait)
    }

    /// Rotates what is due, connects what has lost its other end. Whether the edge must have them anew, and what there is
    /// to tell.
    pub(crate) fn look(&mut self, now: Millis, wall_ms: u64) -> (bool, Vec<Told>) {
        let (mut changed, mut told) = (false, Vec::new());
        if now < self.next_look {
            return (false, told);
        }
        self.next_look = now + LOOK_MS;
        for log in &mut self.logs {
            if log.gone {
                let fields = vec![("log", log.name())];
                if log.connect() {
                    changed = true;
                    if std::mem::take(&mut log.told) {
                        told.push(Told(Level::Info, "somebody takes the access log now", fields));
                    }
                } else if !std::mem::replace(&mut log.told, true) {
                    let message = "nobody takes the access log; trying again every second";
                    told.push(Told(Level::Warn, message, fields));
                }
                continue;
            }
            if now < log.not_before || !log.is_due(wall_ms) {
                continue;
            }
            match log.rotate(wall_ms) {
                Ok(()) => {
                    changed = true;
                    told.push(Told(Level::Info, "an access log was rotated", vec![("log", log.name())]));
                }
                Err(error) => {
                    log.not_before = now + PATIENCE_MS;
                    let fields = vec![("log", log.name()), ("error", plain(&error))];
                    let message = "an access log cannot be rotated; going on with the old file";
                    told.push(Told(Level::Error, message, fields));
                }
            }
        }
        (changed, told)
    }
}

impl Open {
    fn new(target: &LogTarget) -> Result<Self, NotOpened> {
        let mut gone = false;
        let fd = match target {
            LogTarget::Stdout => io::stdout().as_fd().try_clone_to_owned().map_err(|e| ("-".into(), e))?,
            LogTarget::File(path, _) => append(path).map_err(|e| (path.clone(), e))?.into(),
            LogTarget::Syslog(SyslogAddress::Udp(host, port)) => {
                udp(host, *port).map_err(|e| (format!("udp://{host}:{port}").into(), e))?
            }
            LogTarget::Syslog(SyslogAddress::Socket(path)) => {
                let (socket, connected) = datagrams(path).map_err(|e| (path.clone(), e))?;
                gone = !connected;
                socket
            }
        };
        let begun_ms = begun_ms(&fd);
        Ok(Self { target: target.clone(), fd, begun_ms, not_before: 0, gone, told: false })
    }

    fn name(&self) -> String {
        match &self.target {
            LogTarget::Stdout => "standard output".to_owned(),
            LogTarget::File(path, _) | LogTarget::Syslog(SyslogAddress::Socket(path)) => {
                path.display().to_string()
            }
            LogTarget::Syslog(SyslogAddress::Udp(host, port)) => format!("udp://{host}:{port}"),
        }
    }

    fn connect(&mut self) -> bool {
        let LogTarget::Syslog(SyslogAddress::Socket(path)) = &self.target else { return false };
        let Ok((socket, true)) = datagrams(path) else { return false };
        self.fd = socket;
        self.gone = false;
        true
    }

    fn rotation(&self) -> Option<(&Path, &Rotation)> {
        match &self.target {
            LogTarget::File(path, Some(rotation)) => Some((path, rotation)),
            _ => None,
        }
    }

    /// For how long nothing will have to be done with it.
    fn patience_ms(&self, wall_ms: u64) -> Option<Millis> {
        if self.gone {
            return Some(LOOK_MS);
        }
        let (_, rotation) = self.rotation()?;
        match (rotation.bytes, rotation.age_ms) {
            (Some(_), _) => Some(LOOK_MS),
            (None, Some(age)) => {
                Some((self.begun_ms + age).saturating_sub(wall_ms).clamp(LOOK_MS, LOOK_SELDOM_MS))
            }
            (None, None) => None,
        }
    }

    fn is_due(&mut self, wall_ms: u64) -> bool {
        let Some((_, rotation)) = self.rotation() else { return false };
        let Ok(is) = rustix::fs::fstat(&self.fd) else { return false };
        // Neither pipes nor devices.
        if FileType::from_raw_mode(is.st_mode) != FileType::RegularFile {
            return false;
        }
        let bytes = is.st_size as u64;
        if bytes == 0 {
            // What has no line has no age.
            self.begun_ms = wall_ms;
            return false;
        }
        rotation.bytes.is_some_and(|max| bytes >= max)
            || rotation.age_ms.is_some_and(|age| wall_ms >= self.begun_ms.saturating_add(age))
    }

    /// Puts the file aside and begins a new one. The edge still writes to the old one until it is told: nothing is lost.
    fn rotate(&mut self, wall_ms: u64) -> io::Result<()> {
        let Some((path, rotation)) = self.rotation() else { return Ok(()) };
        let ours = rustix::fs::fstat(&self.fd)?;
        // A link is not what is rotated, but what it leads to.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_there = std::fs::symlink_metadata(&path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (ours.st_dev, ours.st_ino));
        let new = if is_there {
            make_room(&path, rotation.keep)?;
            let aside = numbered(&path, 1);
            std::fs::rename(&path, &aside)?;
            match begin_like(&path, &ours) {
                Ok(new) => new,
                Err(error) => {
                    // It can be tried again only if all is as it was.
                    let _ = std::fs::rename(&aside, &path);
                    return Err(error);
                }
            }
        } else {
            // Somebody else has moved it away: there is nothing more to move.
            append(&path)?
        };
        self.fd = new.into();
        self.begun_ms = wall_ms;
        Ok(())
    }
}

/// When a file was made, as far as the file system knows; else now.
fn begun_ms(fd: &OwnedFd) -> u64 {
    let empty = rustix::fs::fstat(fd).is_ok_and(|is| is.st_size == 0);
    let made = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok();
    let known = made.filter(|made| made.stx_mask & StatxFlags::BTIME.bits() != 0 && !empty);
    known.map_or_else(trivet_wire::log::now_ms, |made| {
        let (seconds, nanos) = (made.stx_btime.tv_sec, made.stx_btime.tv_nsec);
        u64::try_from(seconds).unwrap_or(0) * 1_000 + u64::from(nanos) / 1_000_000
    })
}

/// `access.log.3`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Moves those that were put aside one on, as far as they follow each other, and removes those beyond `keep`.
fn make_room(path: &Path, keep: u32) -> io::Result<()> {
    let is_there = |number| std::fs::symlink_metadata(numbered(path, number)).is_ok();
    let free = (1..=keep).find(|&number| !is_there(number)).unwrap_or(keep);
    for number in (1..free).rev() {
        std::fs::rename(numbered(path, number), numbered(path, number + 1))?;
    }
    // There were more to be kept once.
    for number in (keep + 1..=KEEP_MAX).take_while(|&number| is_there(number)) {
        std::fs::remove_file(numbered(path, number))?;
    }
    Ok(())
}

/// A new file that may be read by the same people as the old one.
fn begin_like(path: &Path, old: &rustix::fs::Stat) -> io::Result<File> {
    let mode = Mode::from_raw_mode(old.st_mode) & Mode::from_raw_mode(0o777);
    // The folder may be writable for others, who could have put a link there.
    let new = File::options()
        .create(true)
        .append(true)
        .mode(mode.as_raw_mode())
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let made = new.metadata()?;
    if (made.uid(), made.gid()) != (old.st_uid, old.st_gid) {
        // Only root may; everybody else has made it as the old one was made.
        let _ = std::os::unix::fs::fchown(&new, Some(old.st_uid), Some(old.st_gid));
    }
    let _ = rustix::fs::fchmod(&new, mode);
    Ok(new)
}

/// A socket, and whether anybody listens.
fn datagrams(path: &Path) -> io::Result<(OwnedFd, bool)> {
    let socket = UnixDatagram::unbound()?;
    let connected = socket.connect(path).is_ok();
    Ok((socket.into(), connected))
}

fn udp(host: &str, port: u16) -> io::Result<OwnedFd> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let connected = UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket));
        match connected {
            Ok(socket) => return Ok(socket.into()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("trivet-logs-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn read(&self, name: &str) -> Option<String> {
            std::fs::read_to_string(self.0.join(name)).ok()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn logs(path: &Path, bytes: Option<u64>, age_ms: Option<u64>, keep: u32) -> AccessLogs {
        let rotation = Rotation { bytes, age_ms, keep };
        AccessLogs::open(&[LogTarget::File(path.to_owned(), Some(rotation))]).unwrap()
    }

    fn say(logs: &AccessLogs, text: &str) {
        File::from(logs.descriptors().unwrap().remove(0)).write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_that_is_large_is_put_aside_and_the_newest_are_kept() {
        let folder = Folder::new("size");
        let path = folder.0.join("a.log");
        let mut logs = logs(&path, Some(4), None, 2);
        let mut now = 10_000;
        for text in ["one", "two", "three", "four", "five"] {
            say(&logs, text);
            let (changed, told) = logs.look(now, 0);
            assert_eq!(changed, text != "one", "{told:?}");
            now += LOOK_MS;
        }
        assert_eq!(folder.read("a.log").as_deref(), Some(""));
        assert_eq!(folder.read("a.log.1").as_deref(), Some("five"));
        assert_eq!(folder.read("a.log.2").as_deref(), Some("four"));
        assert_eq!(folder.read("a.log.3"), None);
        std::fs::write(folder.0.join("a.log.3"), "kept once").unwrap();
        say(&logs, "seven");
        assert!(logs.look(now, 0).0);
        assert_eq!(folder.read("a.log.3"), None);
        assert_eq!(folder.read("a.log.2").as_deref(), Some("five"));
    }

    #[test]
    fn a_hole_among_the_kept_ones_is_filled_first() {
        let folder = Folder::new("hole");
        let path = folder.0.join("a.log");
        std::fs::write(folder.0.join("a.log.1"), "1").unwrap();
        std::fs::write(folder.0.join("a.log.3"), "3").unwrap();
        let mut logs = logs(&path, Some(1), None, 7);
        say(&logs, "0");
        assert!(logs.look(LOOK_MS, 0).0);
        let names = ["a.log.1", "a.log.2", "a.log.3", "a.log.4"];
        assert_eq!(
            names.map(|n| folder.read(n)),
            [Some("0".into()), Some("1".into()), Some("3".into()), None]
        );
    }

    #[test]
    fn age_is_counted_from_the_first_line_on() {
        let folder = Folder::new("age");
        let mut logs = logs(&folder.0.join("a.log"), None, Some(5_000), 1);
        let wall = trivet_wire::log::now_ms() + 1_000_000;
        assert!(!logs.look(10_000, wall).0, "it is empty");
        say(&logs, "line");
        assert!(!logs.look(20_000, wall + 4_999).0);
        assert_eq!(logs.deadline(wall + 4_999), Some(20_000 + LOOK_MS));
        assert!(logs.look(30_000, wall + 5_000).0);
        assert_eq!(folder.read("a.log.1").as_deref(), Some("line"));
    }

    #[test]
    fn who_may_read_the_old_file_may_read_the_new_one() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new("mode");
        let path = folder.0.join("a.log");
        let mut logs = logs(&path, Some(1), None, 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        say(&logs, "line");
        assert!(logs.look(LOOK_MS, 0).0);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_somebody_else_has_moved_away_is_only_opened_anew() {
        let folder = Folder::new("moved");
        let path = folder.0.join("a.log");
        let mut logs = logs(&path, Some(1), None, 3);
        say(&logs, "line");
        std::fs::rename(&path, folder.0.join("a.log-2026")).unwrap();
        assert!(logs.look(LOOK_MS, 0).0);
        say(&logs, "next");
        assert_eq!(folder.read("a.log.1"), None);
        assert_eq!(folder.read("a.log-2026").as_deref(), Some("line"));
        assert_eq!(folder.read("a.log").as_deref(), Some("next"));
    }

    #[test]
    fn a_link_stays_and_its_file_is_rotated() {
        let folder = Folder::new("link");
        std::fs::create_dir(folder.0.join("data")).unwrap();
        std::os::unix::fs::symlink("data/real.log", folder.0.join("a.log")).unwrap();
        let mut logs = logs(&folder.0.join("a.log"), Some(1), None, 3);
        say(&logs, "line");
        assert!(logs.look(LOOK_MS, 0).0);
        assert_eq!(folder.read("data/real.log.1").as_deref(), Some("line"));
        assert!(folder.0.join("a.log").is_symlink() && folder.read("a.log.1").is_none());
    }

    #[test]
    fn a_rotation_that_fails_leaves_everything_and_is_not_tried_all_the_time() {
        let folder = Folder::new("fails");
        let path = folder.0.join("a.log");
        let mut logs = logs(&path, Some(1), None, 1);
        std::fs::create_dir_all(folder.0.join("a.log.1/in the way")).unwrap();
        say(&logs, "line");
        let (changed, told) = logs.look(LOOK_MS, 0);
        assert!(!changed && told.len() == 1, "{told:?}");
        assert_eq!(logs.look(2 * LOOK_MS, 0).1.len(), 0);
        say(&logs, "more");
        assert_eq!(folder.read("a.log").as_deref(), Some("linemore"));
        std::fs::remove_dir_all(folder.0.join("a.log.1")).unwrap();
        assert!(logs.look(LOOK_MS + PATIENCE_MS, 0).0);
        assert_eq!(folder.read("a.log.1").as_deref(), Some("linemore"));
    }

    #[test]
    fn a_socket_is_looked_for_until_somebody_listens() {
        let folder = Folder::new("socket");
        let path = folder.0.join("log");
        let target = LogTarget::Syslog(SyslogAddress::Socket(path.clone()));
        let mut logs = AccessLogs::open(&[target]).unwrap();
        let (changed, told) = logs.look(LOOK_MS, 0);
        assert!(!changed && told.len() == 1, "{told:?}");
        let listener = UnixDatagram::bind(&path).unwrap();
        assert!(logs.look(2 * LOOK_MS, 0).0);
        assert_eq!(logs.deadline(0), None);
        let socket = UnixDatagram::from(logs.descriptors().unwrap().remove(0));
        socket.send(b"line").unwrap();
        let mut got = [0; 10];
        assert_eq!(listener.recv(&mut got).unwrap(), 4);
        logs.look_for_sockets();
        assert!(logs.deadline(0).is_some());
    }
}
