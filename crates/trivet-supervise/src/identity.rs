//! The server's certificate and key, and the certificates of those who issue clients' ones: read here, where root may
//! read them, and handed to the edge in sealed memory.
//! When the files change, the new ones are taken if they are good; else the old ones stay.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags};
use trivet_wire::control::{IdentityText, Secrets, TICKET_KEY_SECONDS, TicketKey};

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

/// Where the certificates of those are who issue clients' certificates.
#[derive(Clone, Debug)]
pub struct AuthorityFile {
    /// PEM.
    pub path: PathBuf,
    /// Says what is wrong with the text.
    pub check: fn(text: &[u8]) -> Result<(), String>,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read `{}`: {}", path.display(), plain(source))]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is larger than 1 MiB: that is no certificate or key", .0.display())]
    Large(PathBuf),
    #[error("`{}` and `{}`: {why}", chain.display(), key.display())]
    Bad { chain: PathBuf, key: PathBuf, why: String },
    #[error("`{}`: {why}", path.display())]
    BadAuthority { path: PathBuf, why: String },
    #[error("`{}` has fewer than 48 bytes: that is no key for session tickets", .0.display())]
    Short(PathBuf),
    #[error("cannot keep the certificate and key in memory: {}", plain(.0))]
    Memory(#[from] io::Error),
}

type Stamp = Option<(u64, u64, i64, i64, u64, i64)>;

#[derive(Debug)]
struct Identity {
    files: IdentityFiles,
    text: IdentityText,
    seen: [Stamp; 2],
    /// The files as they were seen last were no good.
    failed: bool,
}

#[derive(Debug)]
struct Authority {
    file: AuthorityFile,
    text: String,
    seen: Stamp,
    failed: bool,
}

/// All certificates that the edge has, in its order.
#[derive(Debug)]
pub(crate) struct Identities {
    list: Vec<Identity>,
    authorities: Vec<Authority>,
    checked_at: Millis,
}

/// The keys of session tickets: changed by time, or those of a file.
#[derive(Debug)]
pub(crate) struct TicketKeys {
    file: Option<PathBuf>,
    keys: Vec<TicketKey>,
    changed_at: Millis,
}

impl TicketKeys {
    pub(crate) fn new(file: Option<PathBuf>, now: Millis) -> Result<Self, IdentityError> {
        let mut keys = Self { file, keys: Vec::new(), changed_at: now };
        keys.renew()?;
        Ok(keys)
    }

    pub(crate) fn next_change(&self) -> Millis {
        self.changed_at + u64::from(TICKET_KEY_SECONDS) * 1000
    }

    /// Makes a new key if it is time, and drops the one before the last; whether it did.
    pub(crate) fn look(&mut self, now: Millis) -> bool {
        if now < self.next_change() {
            return false;
        }
        self.changed_at = now;
        self.renew().is_ok()
    }

    fn renew(&mut self) -> Result<(), IdentityError> {
        let mut new = TicketKey { name: [0; 16], key: [0; 32] };
        if let Some(path) = &self.file {
            let bytes = read(path)?;
            let bytes = bytes.first_chunk::<48>().ok_or_else(|| IdentityError::Short(path.clone()))?;
            new.name.copy_from_slice(&bytes[..16]);
            new.key.copy_from_slice(&bytes[16..]);
        } else {
            random(&mut new.name)?;
            random(&mut new.key)?;
        }
        if self.keys.first().is_none_or(|first| first.name != new.name) {
            self.keys.insert(0, new);
            self.keys.truncate(2);
        }
        Ok(())
    }
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::rand::getrandom(&mut bytes[at..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

impl Identities {
    pub(crate) fn load(
        files: Vec<IdentityFiles>,
        authorities: Vec<AuthorityFile>,
        now: Millis,
    ) -> Result<Self, IdentityError> {
        let load = |files: IdentityFiles| {
            let seen = stamps(&files);
            Ok(Identity { text: read_both(&files)?, files, seen, failed: false })
        };
        let list = files.into_iter().map(load).collect::<Result<_, IdentityError>>()?;
        let load = |file: AuthorityFile| {
            let seen = stamp(&file.path);
            Ok(Authority { text: read_authority(&file)?, file, seen, failed: false })
        };
        let authorities = authorities.into_iter().map(load).collect::<Result<_, IdentityError>>()?;
        Ok(Self { list, authorities, checked_at: now })
    }

    /// A file with all of them, for an edge.
    pub(crate) fn file(&self, tickets: &TicketKeys) -> io::Result<OwnedFd> {
        let identities = self.list.iter().map(|i| i.text.clone()).collect();
        let authorities = self.authorities.iter().map(|a| a.text.clone()).collect();
        sealed(&serde_json::to_vec(&Secrets { identities, authorities, ticket_keys: tickets.keys.clone() })?)
    }

    /// `None`: there is nothing to look at.
    pub(crate) fn next_check(&self) -> Option<Millis> {
        (!self.list.is_empty() || !self.authorities.is_empty()).then_some(self.checked_at + CHECK_MS)
    }

    /// Looks at the files if it is time, or `at_once`. For each pair and each file of authorities that has changed:
    /// whether it was taken.
    pub(crate) fn look(&mut self, now: Millis, at_once: bool) -> Vec<Result<(), IdentityError>> {
        if !at_once && self.next_check().is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.checked_at = now;
        let authorities = self.authorities.iter_mut().filter_map(|authority| authority.look(at_once));
        self.list.iter_mut().filter_map(|identity| identity.look(at_once)).chain(authorities).collect()
    }
}

impl Authority {
    fn look(&mut self, at_once: bool) -> Option<Result<(), IdentityError>> {
        let seen = stamp(&self.file.path);
        if seen == self.seen && !(at_once && self.failed) {
            return None;
        }
        let taken = read_authority(&self.file).map(|text| self.text = text);
        self.seen = seen;
        self.failed = taken.is_err();
        Some(taken)
    }
}

impl Identity {
    fn look(&mut self, at_once: bool) -> Option<Result<(), IdentityError>> {
        let seen = stamps(&self.files);
        if seen == self.seen && !(at_once && self.failed) {
            return None;
        }
        let taken = read_both(&self.files).map(|text| self.text = text);
        // A certificate that has been renewed while its key has not yet: the next change tells.
        self.seen = seen;
        self.failed = taken.is_err();
        Some(taken)
    }
}

fn stamps(files: &IdentityFiles) -> [Stamp; 2] {
    [&files.chain, &files.key].map(|path| stamp(path))
}

fn stamp(path: &Path) -> Stamp {
    let m = std::fs::metadata(path).ok()?;
    Some((m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.size(), m.ctime_nsec() ^ m.ctime()))
}

fn read_authority(file: &AuthorityFile) -> Result<String, IdentityError> {
    let bytes = read(&file.path)?;
    let bad = |why| IdentityError::BadAuthority { path: file.path.clone(), why };
    (file.check)(&bytes).map_err(bad)?;
    String::from_utf8(bytes).map_err(|_| bad("it is not text".to_owned()))
}

fn read_both(files: &IdentityFiles) -> Result<IdentityText, IdentityError> {
    let (chain, key) = (read(&files.chain)?, read(&files.key)?);
    let bad = |why| IdentityError::Bad { chain: files.chain.clone(), key: files.key.clone(), why };
    (files.check)(&chain, &key).map_err(bad)?;
    let text = |bytes| String::from_utf8(bytes).map_err(|_| bad("it is not text".to_owned()));
    Ok(IdentityText { chain: text(chain)?, key: text(key)? })
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
pub(crate) fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(c"trivet", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
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

    fn chain_of(identities: &Identities) -> String {
        let file = identities.file(&TicketKeys::new(None, 0).unwrap()).unwrap();
        let mut bytes = [0; 4096];
        let n = rustix::io::pread(&file, &mut bytes[..], 0).unwrap();
        assert!(rustix::io::pwrite(&file, b"x", 0).is_err(), "nobody writes to it");
        let secrets: Secrets = serde_json::from_slice(&bytes[..n]).unwrap();
        secrets.identities[0].chain.clone()
    }

    #[test]
    fn ticket_keys_change_by_time_and_the_one_before_still_counts() {
        let mut keys = TicketKeys::new(None, 0).unwrap();
        let names = |keys: &TicketKeys| keys.keys.iter().map(|k| k.name).collect::<Vec<_>>();
        let first = names(&keys);
        assert!(!keys.look(keys.next_change() - 1));
        assert!(keys.look(keys.next_change()));
        let second = names(&keys);
        assert_eq!((second.len(), second[1]), (2, first[0]));
        assert!(keys.look(keys.next_change()));
        assert!(names(&keys).len() == 2 && !names(&keys).contains(&first[0]));
    }

    #[test]
    fn ticket_keys_of_a_file_are_the_same_after_a_restart() {
        let path = std::env::temp_dir().join(format!("trivet-tickets-{}", std::process::id()));
        std::fs::write(&path, [7; 48]).unwrap();
        let mut keys = TicketKeys::new(Some(path.clone()), 0).unwrap();
        let again = TicketKeys::new(Some(path.clone()), 0).unwrap();
        assert_eq!(keys.keys[0].key, again.keys[0].key);
        keys.look(keys.next_change());
        assert_eq!(keys.keys.len(), 1, "the file has not changed");
        std::fs::write(&path, [8; 60]).unwrap();
        keys.look(keys.next_change());
        assert_eq!(keys.keys.len(), 2);
        std::fs::write(&path, [8; 47]).unwrap();
        assert!(matches!(TicketKeys::new(Some(path.clone()), 0), Err(IdentityError::Short(_))));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn new_authorities_are_taken_when_they_are_good() {
        let path = std::env::temp_dir().join(format!("trivet-authority-{}", std::process::id()));
        let put = |text: &str| {
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::rename(path.with_extension("new"), &path).unwrap();
        };
        put("good one");
        let check = |text: &[u8]| if text.starts_with(b"good") { Ok(()) } else { Err("bad".to_owned()) };
        let file = AuthorityFile { path: path.clone(), check };
        let mut identities = Identities::load(Vec::new(), vec![file.clone()], 0).unwrap();
        put("no");
        let told = identities.look(CHECK_MS, false).remove(0).unwrap_err().to_string();
        assert!(told.ends_with("`: bad"), "{told}");
        assert_eq!(identities.authorities[0].text, "good one", "the old one stays");
        assert!(Identities::load(Vec::new(), vec![file], 0).is_err());
        put("good two");
        assert!(matches!(identities.look(CHECK_MS * 2, false)[..], [Ok(())]));
        assert_eq!(identities.authorities[0].text, "good two");
        std::fs::remove_file(path).unwrap();
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
        let mut identities = Identities::load(vec![files.clone()], Vec::new(), 0).unwrap();
        assert!(identities.look(CHECK_MS, false).is_empty(), "nothing has changed");
        put(&chain, "two");
        assert!(identities.look(CHECK_MS + 1, false).is_empty(), "not yet");
        let told = identities.look(CHECK_MS * 2, false).remove(0).unwrap_err().to_string();
        assert!(told.contains("they do not fit") && told.contains("chain.pem"), "{told}");
        assert!(identities.look(CHECK_MS * 3, false).is_empty(), "it is told once");
        assert_eq!(chain_of(&identities), "one", "the old one stays");
        put(&key, "two");
        assert!(matches!(identities.look(CHECK_MS * 3 + 1, true)[..], [Ok(())]));
        assert_eq!(chain_of(&identities), "two");
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(identities.look(CHECK_MS * 9, false)[..], [Err(IdentityError::Read { .. })]));
        assert!(matches!(Identities::load(vec![files], Vec::new(), 0), Err(IdentityError::Read { .. })));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
