//! The control socket: whoever may connect reads one JSON document about the service; nothing is taken from it.

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

/// The document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub app: String,
    pub python: Option<String>,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub listeners: Vec<String>,
    pub workers_wanted: u32,
    pub threads: u16,
    /// Replacements of edge and workers after a death, since the start.
    pub restarts: u64,
    pub edge: EdgeStatus,
    pub workers: Vec<WorkerStatus>,
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

/// The supervisor's side.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    waiting: Vec<(UnixStream, Millis)>,
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
        Ok(Self { listener, path, waiting: Vec::new() })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes those who ask now; whether there are any.
    pub fn accept(&mut self, now: Millis) -> bool {
        let mut some = false;
        while let Ok((stream, _)) = self.listener.accept() {
            some = true;
            if self.waiting.len() < WAITING_MAX && stream.set_nonblocking(true).is_ok() {
                self.waiting.push((stream, now));
            }
        }
        some
    }

    pub fn deadline(&self) -> Option<Millis> {
        self.waiting.first().map(|(_, since)| since + EDGE_MS)
    }

    /// Answers all who wait.
    pub fn answer(&mut self, status: &Status) {
        let text = serde_json::to_vec(status).unwrap_or_default();
        for (stream, _) in self.waiting.drain(..) {
            // The document fits into the socket's buffer; who does not read it loses it.
            let _ = io::Write::write_all(&mut &stream, &text);
        }
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
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
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
        while !control.accept(5) {
            std::thread::yield_now();
        }
        assert_eq!(control.deadline(), Some(5 + EDGE_MS));
        control.answer(&Status {
            version: "1".into(),
            app: "a:b".into(),
            python: None,
            pid: 9,
            uptime_seconds: 0,
            listeners: vec![],
            workers_wanted: 1,
            threads: 1,
            restarts: 0,
            edge: EdgeStatus { pid: None, generation: 1, report: Value::Null },
            workers: vec![],
        });
        assert_eq!(asking.join().unwrap().pid, 9);
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
