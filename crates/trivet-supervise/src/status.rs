//! The control socket: whoever may connect asks one thing in one line, and reads one JSON document.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine::Millis;

/// The edge is given this long to tell its part.
const EDGE_MS: Millis = 1_000;
const WAITING_MAX: usize = 32;
const LINE_BYTES_MAX: usize = 256;

/// The document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// The application, or the configuration file.
    pub serves: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub listeners: Vec<String>,
    pub apps: Vec<AppStatus>,
    /// Replacements of edge and workers after a death, since the start.
    pub restarts: u64,
    pub edge: EdgeStatus,
    pub workers: Vec<WorkerStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppStatus {
    pub name: String,
    /// As it was named: `MODULE:APP`.
    pub app: String,
    pub python: Option<String>,
    pub workers_wanted: u32,
    pub threads: u16,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EdgeStatus {
    pub pid: Option<u32>,
    pub generation: u32,
    /// What the edge tells of queue and slots; null if it did not answer in time.
    pub report: Value,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub app: String,
    pub worker: u32,
    pub pid: u32,
    pub state: String,
    pub epoch: u32,
    pub uptime_seconds: u64,
}

/// The folders in which a control socket may be, best first.
fn folders() -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let mut folders = Vec::new();
    if let Some(folder) = std::env::var_os("XDG_RUNTIME_DIR").filter(|f| !f.is_empty()) {
        folders.push(PathBuf::from(folder));
    }
    if uid == 0 {
        folders.push(PathBuf::from("/run/trivet"));
    }
    folders.push(std::env::temp_dir().join(format!("trivet-{uid}")));
    folders
}

fn socket_name(pid: u32) -> String {
    format!("trivet-{pid}.sock")
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Status,
    /// The configuration anew (or, without one, the workers), or the code of one app.
    Reload(Option<String>),
}

impl Ask {
    fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "status" => Some(Self::Status),
            "reload" => Some(Self::Reload(Some(rest.to_owned()).filter(|app| !app.is_empty()))),
            _ => None,
        }
    }
}

/// What comes of a request to do something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub done: bool,
    pub message: String,
}

#[derive(Debug)]
struct Asker {
    id: u64,
    stream: UnixStream,
    since: Millis,
    line: Vec<u8>,
    ask: Option<Ask>,
}

/// The supervisor's side.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    askers: Vec<Asker>,
    last: u64,
}

impl Control {
    /// In the first of the folders that can be had.
    pub fn open() -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for folder in folders() {
            match Self::open_in(&folder) {
                Ok(control) => return Ok(control),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_in(folder: &Path) -> io::Result<Self> {
        match std::fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // A folder that others write to could hold their socket under our name.
        let meta = std::fs::symlink_metadata(folder)?;
        if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // Those who were killed could not take theirs away.
        for (pid, stale) in sockets_in(folder) {
            if !crate::process::alive(pid) {
                let _ = std::fs::remove_file(stale);
            }
        }
        let path = folder.join(socket_name(std::process::id()));
        // Our own number: whoever had it before is dead.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path, askers: Vec::new(), last: 0 })
    }

    /// Where something to read may come.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let unheard = self.askers.iter().filter(|a| a.ask.is_none()).map(|a| a.stream.as_fd());
        std::iter::once(self.listener.as_fd()).chain(unheard)
    }

    /// Takes what is asked now; who asks is told apart by the number.
    pub fn read(&mut self, now: Millis) -> Vec<(u64, Ask)> {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.askers.len() < WAITING_MAX && stream.set_nonblocking(true).is_ok() {
                self.last += 1;
                self.askers.push(Asker { id: self.last, stream, since: now, line: Vec::new(), ask: None });
            }
        }
        let mut asked = Vec::new();
        self.askers.retain_mut(|asker| {
            if asker.ask.is_some() {
                return true;
            }
            let mut bytes = [0; LINE_BYTES_MAX];
            let end = loop {
                match asker.stream.read(&mut bytes) {
                    Ok(0) => break true,
                    Ok(n) => asker.line.extend_from_slice(&bytes[..n]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                    Err(_) => return false,
                }
                if asker.line.contains(&b'\n') || asker.line.len() > LINE_BYTES_MAX {
                    break true;
                }
            };
            if !end {
                return now < asker.since + EDGE_MS;
            }
            let line = asker.line.split(|b| *b == b'\n').next().unwrap_or_default();
            asker.ask = std::str::from_utf8(line).ok().and_then(Ask::parse);
            asked.extend(asker.ask.clone().map(|ask| (asker.id, ask)));
            asker.ask.is_some()
        });
        asked
    }

    /// When somebody has waited long enough for the edge's part of a status, or for their own line.
    pub fn deadline(&self) -> Option<Millis> {
        let impatient = self.askers.iter().filter(|a| !matches!(a.ask, Some(Ask::Reload(_))));
        impatient.map(|a| a.since + EDGE_MS).min()
    }

    /// Whether the deadline of somebody who asked for the status has passed.
    pub fn is_late(&self, now: Millis) -> bool {
        self.askers.iter().any(|a| a.ask == Some(Ask::Status) && now >= a.since + EDGE_MS)
    }

    /// Answers all who wait for the status.
    pub fn answer(&mut self, status: &Status) {
        let text = serde_json::to_vec(status).unwrap_or_default();
        self.askers.retain(|asker| {
            if asker.ask != Some(Ask::Status) {
                return true;
            }
            // The document fits into the socket's buffer; who does not read it loses it.
            let _ = io::Write::write_all(&mut &asker.stream, &text);
            false
        });
    }

    /// Answers one of them.
    pub fn tell(&mut self, id: u64, outcome: &Outcome) {
        let text = serde_json::to_vec(outcome).unwrap_or_default();
        self.askers.retain(|asker| {
            if asker.id != id {
                return true;
            }
            let _ = io::Write::write_all(&mut &asker.stream, &text);
            false
        });
    }

    pub fn close(self) {
        let _ = std::fs::remove_file(self.path);
    }
}

fn sockets_in(folder: &Path) -> Vec<(u32, PathBuf)> {
    let of =
        |name: &std::ffi::OsStr| name.to_str()?.strip_prefix("trivet-")?.strip_suffix(".sock")?.parse().ok();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((of(&entry.file_name())?, entry.path()))).collect()
}

/// All servers of this user that have a control socket here: process id and socket.
pub fn servers() -> Vec<(u32, PathBuf)> {
    let mut found: Vec<_> = folders().iter().flat_map(|folder| sockets_in(folder)).collect();
    found.retain(|(pid, _)| crate::process::alive(*pid));
    found.sort();
    found
}

/// Reads the status of the server behind this socket.
pub fn ask(path: &Path) -> io::Result<Status> {
    exchange(path, "status", Some(Duration::from_secs(5)))
}

/// Has the server take up its configuration anew, or replace the workers of one app; waits until that is done.
pub fn reload(path: &Path, app: Option<&str>) -> io::Result<Outcome> {
    exchange(path, &app.map_or_else(|| "reload".to_owned(), |app| format!("reload {app}")), None)
}

fn exchange<T: for<'de> Deserialize<'de>>(
    path: &Path,
    line: &str,
    patience: Option<Duration>,
) -> io::Result<T> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(patience)?;
    io::Write::write_all(&mut stream, format!("{line}\n").as_bytes())?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("trivet-status-{name}-{}", std::process::id()))
    }

    #[test]
    fn who_asks_reads_the_document_and_the_socket_is_private() {
        let folder = folder("ask");
        let mut control = Control::open_in(&folder).unwrap();
        assert_eq!(std::fs::metadata(&control.path).unwrap().mode() & 0o777, 0o600);
        let path = control.path.clone();
        let asking = std::thread::spawn(move || ask(&path).unwrap());
        let wait = |control: &mut Control| loop {
            if let Some(asked) = control.read(5).pop() {
                break asked;
            }
            std::thread::yield_now();
        };
        let (_, asked) = wait(&mut control);
        assert_eq!((asked, control.deadline()), (Ask::Status, Some(5 + EDGE_MS)));
        control.answer(&Status {
            version: "1".into(),
            serves: "a:b".into(),
            pid: 9,
            uptime_seconds: 0,
            listeners: vec![],
            apps: vec![],
            restarts: 0,
            edge: EdgeStatus { pid: None, generation: 1, report: Value::Null },
            workers: vec![],
        });
        assert_eq!(asking.join().unwrap().pid, 9);
        let path = control.path.clone();
        let asking = std::thread::spawn(move || reload(&path, Some("shop")).unwrap());
        let (id, asked) = wait(&mut control);
        assert_eq!((asked, control.deadline()), (Ask::Reload(Some("shop".into())), None));
        let outcome = Outcome { done: false, message: "no".into() };
        control.tell(id, &outcome);
        assert_eq!(asking.join().unwrap(), outcome);
        let mut silent = UnixStream::connect(&control.path).unwrap();
        assert!(control.read(10).is_empty() && control.askers.len() == 1);
        assert!(control.read(10 + EDGE_MS).is_empty() && control.askers.is_empty());
        assert_eq!(silent.read(&mut [0]).unwrap(), 0, "who says nothing is not waited for");
        control.close();
        std::fs::remove_dir(folder).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let folder = folder("open");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Control::open_in(&folder).is_err());
        std::fs::remove_dir(folder).unwrap();
    }
}
