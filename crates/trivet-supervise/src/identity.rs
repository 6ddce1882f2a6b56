//! The server's certificate and key: read here, where root may read them, and handed to the edge in sealed memory.
//! When the files change, the new ones are taken if they are good; else the old ones stay.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::machine::Millis;
use crate::plain;

/// Whether a change of the files is looked for.
const CHECK_MS: Millis = 2_000;
/// A chain and its key are a few KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where they are, and who can say whether they are good.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    /// PEM: the server's certificate, then the intermediate ones.
    pub chain: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// Says what is wrong with the two texts.
    pub check: fn(chain: &[u8], key: &[u8]) -> Result<(), String>,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read `{}`: {}", path.display(), plain(source))]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is larger than 1 MiB: that is no certificate or key", .0.display())]
    Large(PathBuf),
    #[error("`{}` and `{}`: {why}", chain.display(), key.display())]
    Bad { chain: PathBuf, key: PathBuf, why: String },
    #[error("cannot keep the certificate and key in memory: {}", plain(.0))]
    Memory(#[from] io::Error),
}

type Stamp = Option<(u64, u64, i64, i64, u64, i64)>;

#[derive(Debug)]
pub(crate) struct Identity {
    files: IdentityFiles,
    chain: OwnedFd,
    key: OwnedFd,
    seen: [Stamp; 2],
    /// The files as they were seen last were no good.
    failed: bool,
    checked_at: Millis,
}

impl Identity {
    pub(crate) fn load(files: IdentityFiles, now: Millis) -> Result<Self, IdentityError> {
        let seen = stamps(&files);
        let (chain, key) = read_both(&files)?;
        Ok(Self { chain: sealed(&chain)?, key: sealed(&key)?, files, seen, failed: false, checked_at: now })
    }

    /// Descriptors of the chain and of the key, for an edge.
    pub(crate) fn descriptors(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([self.chain.try_clone()?, self.key.try_clone()?])
    }

    pub(crate) fn next_check(&self) -> Millis {
        self.checked_at + CHECK_MS
    }

    /// Looks at the files if it is time, or if `now_at_once`. `Some(Ok(()))`: there are new ones.
    pub(crate) fn look(&mut self, now: Millis, at_once: bool) -> Option<Result<(), IdentityError>> {
        if !at_once && now < self.next_check() {
            return None;
        }
        self.checked_at = now;
        let seen = stamps(&self.files);
        if seen == self.seen && !(at_once && self.failed) {
            return None;
        }
        let taken = read_both(&self.files).and_then(|(chain, key)| {
            (self.chain, self.key) = (sealed(&chain)?, sealed(&key)?);
            Ok(())
        });
        // A certificate that has been renewed while its key has not yet: the next change tells.
        self.seen = seen;
        self.failed = taken.is_err();
        Some(taken)
    }
}

fn stamps(files: &IdentityFiles) -> [Stamp; 2] {
    [&files.chain, &files.key].map(|path| {
        let m = std::fs::metadata(path).ok()?;
        Some((m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.size(), m.ctime_nsec() ^ m.ctime()))
    })
}

fn read_both(files: &IdentityFiles) -> Result<(Vec<u8>, Vec<u8>), IdentityError> {
    let (chain, key) = (read(&files.chain)?, read(&files.key)?);
    (files.check)(&chain, &key).map_err(|why| IdentityError::Bad {
        chain: files.chain.clone(),
        key: files.key.clone(),
        why,
    })?;
    Ok((chain, key))
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let failed = |source| IdentityError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(IdentityError::Large(path.to_owned()));
    }
    Ok(bytes)
}

/// Memory that nobody can change or make longer any more.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(c"trivet-identity", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::io::pwrite(fd.as_fd(), &bytes[at..], at as u64)?;
    }
    rustix::fs::fcntl_add_seals(
        &fd,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chain: &[u8], key: &[u8]) -> Result<(), String> {
        if chain == key { Ok(()) } else { Err("they do not fit".to_owned()) }
    }

    fn content(fd: &OwnedFd) -> String {
        let mut bytes = [0; 64];
        let n = rustix::io::pread(fd, &mut bytes[..], 0).unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    }

    #[test]
    fn new_files_are_taken_when_they_are_good() {
        let folder = std::env::temp_dir().join(format!("trivet-identity-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
        let put = |path: &Path, text: &str| {
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        };
        put(&chain, "one");
        put(&key, "one");
        let files = IdentityFiles { chain: chain.clone(), key: key.clone(), check };
        let mut identity = Identity::load(files.clone(), 0).unwrap();
        assert!(identity.look(CHECK_MS, false).is_none(), "nothing has changed");
        put(&chain, "two");
        assert!(identity.look(CHECK_MS + 1, false).is_none(), "not yet");
        let told = identity.look(CHECK_MS * 2, false).unwrap().unwrap_err().to_string();
        assert!(told.contains("they do not fit") && told.contains("chain.pem"), "{told}");
        assert!(identity.look(CHECK_MS * 3, false).is_none(), "it is told once");
        assert_eq!(content(&identity.chain), "one", "the old one stays");
        put(&key, "two");
        assert!(matches!(identity.look(CHECK_MS * 3 + 1, true), Some(Ok(()))));
        assert_eq!(identity.descriptors().unwrap().map(|fd| content(&fd)), ["two", "two"]);
        assert!(rustix::io::pwrite(&identity.key, b"x", 0).is_err(), "nobody writes to it");
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(identity.look(CHECK_MS * 9, false), Some(Err(IdentityError::Read { .. }))));
        assert!(matches!(Identity::load(files, 0), Err(IdentityError::Read { .. })));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
