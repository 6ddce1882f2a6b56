//! The pid file: taken over only if nobody is there.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    #[error("`{}` belongs to a running server (pid {pid})", path.display())]
    Running { path: PathBuf, pid: u32 },
    #[error("cannot write the pid file `{}`: {}", path.display(), crate::plain(source))]
    Write { path: PathBuf, source: io::Error },
}

impl PidFileError {
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Running { .. } => "stop it first, or give each server a pid file of its own",
            Self::Write { .. } => "look at the folder given by `--pid` and its permissions",
        }
    }
}

#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        let failed = |source| PidFileError::Write { path: path.to_owned(), source };
        if let Some(pid) = read(path)
            && pid != std::process::id()
            && is_ours(pid)
        {
            return Err(PidFileError::Running { path: path.to_owned(), pid });
        }
        // Written aside and moved: nobody ever reads half a number.
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        std::fs::write(&aside, format!("{}\n", std::process::id())).map_err(failed)?;
        std::fs::rename(&aside, path).map_err(failed)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Removes the file, unless it is another's by now.
    pub fn remove(self) {
        if read(&self.path) == Some(std::process::id()) {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

pub fn read(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A living process of our kind: after a restart of the machine the number may be anybody's.
fn is_ours(pid: u32) -> bool {
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
    match (name(pid), name(std::process::id())) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        _ => crate::process::alive(pid),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_stale_file_is_taken_over_and_removed_at_the_end() {
        let path = std::env::temp_dir().join(format!("trivet-pid-{}", std::process::id()));
        for stale in ["4194303\n", "1\n", "nonsense", ""] {
            std::fs::write(&path, stale).unwrap();
            let file = PidFile::create(&path).unwrap();
            assert_eq!(read(&path), Some(std::process::id()), "{stale:?}");
            file.remove();
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_file_of_a_running_server_is_left_alone() {
        let path = std::env::temp_dir().join(format!("trivet-pid-run-{}", std::process::id()));
        // A copy of this very program counts as one of our kind.
        let mut other = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pidfile::tests::stays_for_a_moment", "--ignored", "--nocapture"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its name is its own only when it runs: it says so by its first byte.
        other.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        std::fs::write(&path, other.id().to_string()).unwrap();
        let refused = PidFile::create(&path);
        drop(other.stdin.take());
        other.wait().unwrap();
        assert!(matches!(refused, Err(PidFileError::Running { .. })), "{refused:?}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    #[ignore = "the other process of the test above"]
    fn stays_for_a_moment() {
        let mut nothing = String::new();
        std::io::stdin().read_line(&mut nothing).unwrap();
    }
}
