//! Files of served folders: opened beneath their folder and nowhere else, small ones kept in memory, large ones kept
//! open. What is kept is compared with the disk once a second, so nothing is stale for longer.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use trivet_http::coding::Coding;
use trivet_http::{date, media};

use crate::compress::Input;
use crate::log;

/// What is kept may be so much older than the disk.
const FRESH_MS: u64 = 1_000;
/// Files up to this are kept in memory, larger ones open.
const MEMORY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// All file contents in memory together.
const MEMORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Files that are kept, in memory or open.
const ENTRIES_MAX: usize = 2_048;
/// Of what the edge may not read the log says something so often at most.
const DENIED_MS: u64 = 10 * 60 * 1_000;
/// An open that is told to try again is tried so often.
const OPEN_TRIES: u32 = 4;
/// Of so many that are looked at, the one that was used longest ago makes room.
const CANDIDATES: usize = 8;
/// A compressed file beside the original counts only if it is not older than that by more than this.
const OLDER_MAX_SECONDS: i64 = 2;
const ONE_YEAR: &str = "Cache-Control: public, max-age=31536000, immutable\r\n";

/// By what a change of a file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Memory(Rc<[u8]>),
    File(Rc<OwnedFd>),
}

/// From here on a plain socket takes a file by `sendfile`, though that is a call more: its pages are not copied. At
/// 16 KiB that made 0.73 of nginx with its cache out of 0.94.
pub(crate) const SENDFILE_BYTES_MIN: u64 = 8 * 1024;

/// A file in one coding, as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Representation {
    pub(crate) content: Content,
    /// Of one that is in memory too: a plain socket takes it from here, without its bytes being copied.
    pub(crate) descriptor: Option<Rc<OwnedFd>>,
    pub(crate) bytes: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    /// With its quotes.
    pub(crate) etag: Vec<u8>,
    /// `Content-Type` alone, for the parts of a multipart answer.
    pub(crate) media: &'static str,
    /// It is text or the like.
    pub(crate) compressible: bool,
    /// Field lines that every answer has: tag, date, caching.
    pub(crate) validators: Vec<u8>,
    /// Field lines of answers with content, besides its length.
    pub(crate) describing: Vec<u8>,
    /// In its folder.
    path: Box<str>,
    stamp: Stamp,
    /// It lies nowhere but here.
    made: bool,
}

impl Representation {
    /// With some fields in place of its own.
    pub(crate) fn with_fields(&self, fields: &[(&[u8], &[u8])]) -> Rc<Self> {
        let mut other = self.clone();
        for lines in [&mut other.describing, &mut other.validators] {
            let kept = |line: &&[u8]| {
                let name = line.split(|b| *b == b':').next().unwrap_or_default();
                !fields.iter().any(|(given, _)| given.eq_ignore_ascii_case(name))
            };
            *lines = lines.split_inclusive(|b| *b == b'\n').filter(kept).collect::<Vec<_>>().concat();
        }
        for (name, value) in fields {
            let of_content = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"));
            let lines = if of_content { &mut other.describing } else { &mut other.validators };
            lines.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
        }
        Rc::new(other)
    }
}

/// A compressed form that is being made.
#[derive(Debug)]
struct Making {
    name: Name,
    coding: Coding,
    stamp: Stamp,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    plain: Rc<Representation>,
    coded: [Option<Rc<Representation>>; 3],
    /// Forms that have been asked for, whatever came of it.
    tried: [bool; 3],
    checked_ms: u64,
    used: u64,
}

/// Folder and path in it.
type Name = (usize, Box<str>);

/// What stands behind a path.
#[derive(Debug)]
pub(crate) enum Lookup {
    File {
        plain: Rc<Representation>,
        coded: [Option<Rc<Representation>>; 3],
    },
    Folder,
    Missing,
    /// The machine is out of something.
    Failed(Errno),
}

/// A folder and how its files are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FolderOptions {
    /// An absolute path.
    pub(crate) folder: String,
    /// Links are followed as long as they stay beneath the folder.
    pub(crate) links: bool,
    /// `Cache-Control`, but for files whose name has a hash of the content.
    pub(crate) cache: Option<String>,
}

/// A served folder; what is kept of its files is kept as long as somebody has this.
#[derive(Debug)]
pub(crate) struct FolderRef {
    pub(crate) slot: usize,
}

#[derive(Debug)]
struct Folder {
    known: Rc<FolderRef>,
    options: FolderOptions,
    dir: Option<OwnedFd>,
    opened_ms: u64,
    complained: bool,
    /// Until when nothing more is said of what the edge may not read: of files, of folders.
    denied_until_ms: [u64; 2],
}

/// An entry of a folder that is shown.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) folder: bool,
    pub(crate) bytes: u64,
    pub(crate) modified: u64,
}

/// All served folders and what is kept of their files.
#[derive(Debug)]
pub(crate) struct Files {
    folders: Vec<Folder>,
    /// For each folder: path → entry.
    index: Vec<HashMap<Box<str>, usize>>,
    entries: Vec<Entry>,
    memory_bytes: usize,
    uses: u64,
    random: u64,
    making: HashMap<u64, Making>,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self {
            folders: Vec::new(),
            index: Vec::new(),
            entries: Vec::new(),
            memory_bytes: 0,
            uses: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            making: HashMap::new(),
        }
    }

    /// Takes a folder in, or finds it where it is served already. Places of folders that nobody serves any more are
    /// used again.
    pub(crate) fn folder(&mut self, options: FolderOptions) -> Rc<FolderRef> {
        if let Some(folder) = self.folders.iter().find(|f| f.options == options) {
            return folder.known.clone();
        }
        let unused = self.folders.iter().position(|f| Rc::strong_count(&f.known) == 1);
        let slot = unused.unwrap_or(self.folders.len());
        let known = Rc::new(FolderRef { slot });
        let folder = Folder {
            known: known.clone(),
            options,
            dir: None,
            opened_ms: 0,
            complained: false,
            denied_until_ms: [0; 2],
        };
        if unused.is_none() {
            self.folders.push(folder);
            self.index.push(HashMap::new());
            return known;
        }
        for path in self.index[slot].keys().cloned().collect::<Vec<_>>() {
            self.forget(&(slot, path));
        }
        self.folders[slot] = folder;
        known
    }

    /// Forgets what is kept of folders that nobody serves any more.
    pub(crate) fn sweep(&mut self) {
        for slot in 0..self.folders.len() {
            if Rc::strong_count(&self.folders[slot].known) > 1 {
                continue;
            }
            for path in self.index[slot].keys().cloned().collect::<Vec<_>>() {
                self.forget(&(slot, path));
            }
            self.folders[slot].dir = None;
        }
    }

    /// Finds a file by its path in the folder; it has no empty and no dot segments.
    pub(crate) fn find(&mut self, folder: usize, path: &str, now_ms: u64) -> Lookup {
        self.uses += 1;
        if let Some(&at) = self.index[folder].get(path) {
            let entry = &mut self.entries[at];
            entry.used = self.uses;
            if now_ms - entry.checked_ms < FRESH_MS {
                return entry.lookup();
            }
        }
        self.refresh((folder, path.into()), now_ms)
    }

    /// Whether there is a folder of this name in a served one.
    pub(crate) fn is_folder(&mut self, slot: usize, path: &str, now_ms: u64) -> bool {
        self.read_folder(slot, path, now_ms, 0).is_ok()
    }

    /// At most `max` entries of a folder, unsorted: name, whether it is a folder, size, seconds since 1970.
    pub(crate) fn read_folder(
        &mut self,
        slot: usize,
        path: &str,
        now_ms: u64,
        max: usize,
    ) -> Result<Vec<Listed>, Errno> {
        self.open_folder(slot, now_ms)?;
        let Folder { dir: Some(dir), options, .. } = &self.folders[slot] else { return Err(Errno::NOENT) };
        let path = if path.is_empty() { "." } else { path };
        let fd = match open(dir, path, options.links) {
            Ok(fd) => fd,
            Err(e) => {
                self.denied(slot, path, e, now_ms);
                return Err(e);
            }
        };
        let mut listed = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd)? {
            if listed.len() >= max {
                break;
            }
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&fd, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            let link = kind == rustix::fs::FileType::Symlink;
            if link && !options.links || !link && !kind.is_file() && !kind.is_dir() {
                continue;
            }
            let modified = u64::try_from(stat.st_mtime).unwrap_or(0);
            listed.push(Listed {
                name: name.to_owned(),
                folder: kind.is_dir(),
                bytes: stat.st_size as u64,
                modified,
            });
        }
        Ok(listed)
    }

    fn refresh(&mut self, name: Name, now_ms: u64) -> Lookup {
        let (folder, path) = (name.0, &*name.1);
        if let Err(e) = self.open_folder(folder, now_ms) {
            let f = &mut self.folders[folder];
            if !std::mem::replace(&mut f.complained, true) {
                log::error(
                    "cannot open a folder of static files; the edge's account must be able to read it",
                    &[("folder", &f.options.folder), ("error", &e)],
                );
            }
            return Lookup::Missing;
        }
        let Folder { dir: Some(dir), options, .. } = &self.folders[folder] else { return Lookup::Missing };
        let (links, cache) = (options.links, options.cache.as_deref());
        let kept = self.index[folder].get(path).map(|&at| &self.entries[at]);
        let old = kept.map(|e| &e.plain);
        let kind = media::of(path);
        let plain = match open(dir, path, links).and_then(|file| load(file, path, None, cache, old)) {
            Ok(Some(plain)) => plain,
            Ok(None) => {
                self.forget(&name);
                return Lookup::Folder;
            }
            Err(e) => {
                self.denied(folder, path, e, now_ms);
                self.forget(&name);
                return match e {
                    Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO | Errno::AGAIN => {
                        Lookup::Failed(e)
                    }
                    _ => Lookup::Missing,
                };
            }
        };
        let mut coded = [None, None, None];
        if kind.compressible {
            for coding in Coding::ALL {
                let beside = format!("{path}{}", coding.suffix());
                let old = kept.and_then(|e| e.coded[coding as usize].as_ref());
                coded[coding as usize] = open(dir, &beside, links)
                    .and_then(|file| load(file, path, Some(coding), cache, old))
                    .ok()
                    .flatten()
                    .filter(|r| r.modified + OLDER_MAX_SECONDS >= plain.modified);
            }
        }
        // What was made of this very file is as good as it was.
        let mut tried = [false; 3];
        if let Some(old) = kept.filter(|e| Rc::ptr_eq(&e.plain, &plain)) {
            tried = old.tried;
            for (new, old) in coded.iter_mut().zip(&old.coded) {
                if new.is_none() && old.as_ref().is_some_and(|r| r.made) {
                    new.clone_from(old);
                }
            }
        }
        self.keep(Entry { name, plain, coded, tried, checked_ms: now_ms, used: self.uses })
    }

    /// A folder is opened anew each second: a deployment may have put another in its place.
    fn open_folder(&mut self, folder: usize, now_ms: u64) -> Result<(), Errno> {
        let f = &mut self.folders[folder];
        if f.dir.is_some() && now_ms - f.opened_ms < FRESH_MS {
            return Ok(());
        }
        f.dir = None;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        f.dir = Some(rustix::fs::open(f.options.folder.as_str(), flags, Mode::empty())?);
        f.opened_ms = now_ms;
        f.complained = false;
        Ok(())
    }

    /// To the client it is as if it were not there: the operator hears of it, for each served folder now and then once
    /// of a file and once of a folder.
    fn denied(&mut self, slot: usize, path: &str, error: Errno, now_ms: u64) {
        let Folder { dir: Some(dir), options, denied_until_ms, .. } = &mut self.folders[slot] else { return };
        if error != Errno::ACCESS {
            return;
        }
        // What cannot even be seen lies in a folder that cannot be entered.
        let stat = rustix::fs::statat(dir, path, rustix::fs::AtFlags::empty());
        let is_file = stat.is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_file());
        let until_ms = &mut denied_until_ms[usize::from(!is_file)];
        if now_ms < *until_ms {
            return;
        }
        *until_ms = now_ms + DENIED_MS;
        let message = if is_file {
            "a static file cannot be read and is 404"
        } else {
            "a folder of static files cannot be read and is 404"
        };
        let hint = format!("let the edge's account `{}` read it and enter the folders above it", account());
        let path = format!("{}/{path}", options.folder.trim_end_matches('/'));
        log::warn(message, &[("path", &path), ("error", &error), ("hint", &hint)]);
    }

    /// What is to be encoded so that the file has this form too; `None`: it has been asked for already, or is not kept.
    /// [`made`](Self::made) takes the result.
    pub(crate) fn make(
        &mut self,
        slot: usize,
        plain: &Rc<Representation>,
        coding: Coding,
        serial: u64,
    ) -> Option<Input> {
        let entry = &mut self.entries[*self.index[slot].get(&plain.path)?];
        if !Rc::ptr_eq(&entry.plain, plain) || std::mem::replace(&mut entry.tried[coding as usize], true) {
            return None;
        }
        let input = match &plain.content {
            Content::Memory(bytes) => Input::Bytes(bytes.to_vec()),
            Content::File(fd) => Input::File(fd.try_clone().ok()?, plain.bytes as usize),
        };
        self.making.insert(serial, Making { name: entry.name.clone(), coding, stamp: plain.stamp });
        Some(input)
    }

    /// Whether a form of the file has been asked for.
    pub(crate) fn was_tried(&self, slot: usize, plain: &Rc<Representation>, coding: Coding) -> bool {
        let entry = self.index[slot].get(&plain.path).map(|&at| &self.entries[at]);
        entry.is_none_or(|e| e.tried[coding as usize] || !Rc::ptr_eq(&e.plain, plain))
    }

    /// A form has been made, or could not be.
    pub(crate) fn made(&mut self, serial: u64, output: Option<Vec<u8>>) {
        let Some(Making { name, coding, stamp }) = self.making.remove(&serial) else { return };
        let (Some(output), Some(&at)) = (output, self.index[name.0].get(&name.1)) else { return };
        let cache = self.folders[name.0].options.cache.clone();
        let entry = &mut self.entries[at];
        let slot = &mut entry.coded[coding as usize];
        if entry.plain.stamp != stamp || slot.is_some() || output.len() as u64 >= entry.plain.bytes {
            return;
        }
        self.memory_bytes += output.len();
        let bytes = output.len() as u64;
        let content = Content::Memory(output.into());
        let form = describe(content, stamp, &name.1, Some(coding), cache.as_deref());
        *slot = Some(Rc::new(Representation { bytes, made: true, ..form }));
        while self.memory_bytes > MEMORY_BYTES_MAX {
            self.make_room();
        }
    }

    fn keep(&mut self, entry: Entry) -> Lookup {
        let lookup = entry.lookup();
        let memory = entry.memory_bytes();
        self.forget(&entry.name);
        if memory > MEMORY_BYTES_MAX / 4 {
            return lookup;
        }
        while self.entries.len() >= ENTRIES_MAX || self.memory_bytes + memory > MEMORY_BYTES_MAX {
            self.make_room();
        }
        self.memory_bytes += memory;
        self.index[entry.name.0].insert(entry.name.1.clone(), self.entries.len());
        self.entries.push(entry);
        lookup
    }

    fn make_room(&mut self) {
        let mut oldest: Option<usize> = None;
        for _ in 0..CANDIDATES {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let at = (self.random % self.entries.len() as u64) as usize;
            if oldest.is_none_or(|o| self.entries[at].used < self.entries[o].used) {
                oldest = Some(at);
            }
        }
        if let Some(at) = oldest {
            let name = self.entries[at].name.clone();
            self.forget(&name);
        }
    }

    fn forget(&mut self, name: &Name) {
        let Some(at) = self.index[name.0].remove(&name.1) else { return };
        let entry = self.entries.swap_remove(at);
        self.memory_bytes -= entry.memory_bytes();
        if let Some(moved) = self.entries.get(at) {
            self.index[moved.name.0].insert(moved.name.1.clone(), at);
        }
    }
}

impl Entry {
    fn lookup(&self) -> Lookup {
        Lookup::File { plain: self.plain.clone(), coded: self.coded.clone() }
    }

    fn memory_bytes(&self) -> usize {
        let of = |r: &Representation| match &r.content {
            Content::Memory(bytes) => bytes.len(),
            Content::File(_) => 0,
        };
        // What an entry itself takes counts too, by and large.
        512 + of(&self.plain) + self.coded.iter().flatten().map(|r| of(r)).sum::<usize>()
    }
}

/// The name of the account that the edge runs under, or its number.
fn account() -> String {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let all = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = all.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1) == Some(uid.as_str())).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}

/// Opens a path beneath `dir`: no link leads out of it, and none is followed at all without `links`.
fn open(dir: &OwnedFd, path: &str, links: bool) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    beneath.set(ResolveFlags::NO_SYMLINKS, !links);
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), beneath) {
            Err(Errno::NOSYS | Errno::PERM) => return open_stepwise(dir, path, flags),
            // A rename raced with `..` in a link; or somebody holds a lease on the file, which may take long.
            Err(Errno::AGAIN | Errno::INTR) if tries < OPEN_TRIES => tries += 1,
            other => return other,
        }
    }
}

/// Where the kernel or a container has no `openat2`: folder by folder, following no link at all.
fn open_stepwise(dir: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    for folder in folders.split('/').filter(|s| !s.is_empty()) {
        let from = at.as_ref().unwrap_or(dir);
        at = Some(rustix::fs::openat(from, folder, step, Mode::empty())?);
    }
    rustix::fs::openat(at.as_ref().unwrap_or(dir), file, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// What is to be sent of an open file; the one that is kept if it has not changed. `None`: it is a folder.
fn load(
    file: OwnedFd,
    path: &str,
    coding: Option<Coding>,
    cache: Option<&str>,
    old: Option<&Rc<Representation>>,
) -> Result<Option<Rc<Representation>>, Errno> {
    let mut stat = rustix::fs::fstat(&file)?;
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::RegularFile => {}
        rustix::fs::FileType::Directory => return Ok(None),
        // Neither devices nor pipes nor sockets.
        _ => return Err(Errno::NOENT),
    }
    if let Some(old) = old
        && old.stamp == Stamp::of(&stat)
    {
        return Ok(Some(old.clone()));
    }
    // A file that changes while it is read is read again; one that never rests is sent from the disk.
    for _ in 0..3 {
        if stat.st_size as u64 > MEMORY_FILE_BYTES_MAX {
            break;
        }
        let bytes = read_whole(&file, stat.st_size as usize)?;
        let after = rustix::fs::fstat(&file)?;
        if let Some(bytes) = bytes
            && Stamp::of(&after) == Stamp::of(&stat)
        {
            let size = bytes.len() as u64;
            let form = describe(Content::Memory(bytes), Stamp::of(&stat), path, coding, cache);
            let descriptor = (size >= SENDFILE_BYTES_MIN).then(|| Rc::new(file));
            return Ok(Some(Rc::new(Representation { descriptor, ..form })));
        }
        stat = after;
    }
    Ok(Some(Rc::new(describe(Content::File(Rc::new(file)), Stamp::of(&stat), path, coding, cache))))
}

/// Exactly `size` bytes and then the end, or `None`.
fn read_whole(file: &OwnedFd, size: usize) -> Result<Option<Rc<[u8]>>, Errno> {
    let mut bytes = vec![0; size + 1];
    let got = read_at(file, &mut bytes, 0)?;
    bytes.truncate(got);
    Ok((got == size).then(|| bytes.into()))
}

/// Fills `space` from `offset` on, as far as the file goes; how much that was.
pub(crate) fn read_at(file: &OwnedFd, space: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut got = 0;
    while got < space.len() {
        match rustix::io::pread(file, &mut space[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

fn describe(
    content: Content,
    stamp: Stamp,
    path: &str,
    coding: Option<Coding>,
    cache: Option<&str>,
) -> Representation {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let kind = media::of(name);
    let modified = stamp.modified.0;
    let nanoseconds = i128::from(modified) * 1_000_000_000 + i128::from(stamp.modified.1);
    let suffix = coding.map_or(String::new(), |c| format!("-{}", c.token()));
    let etag = format!("\"{nanoseconds:x}-{:x}{suffix}\"", stamp.size);
    let mut validators = format!("ETag: {etag}\r\nLast-Modified: ");
    let date = date::format(u64::try_from(modified).unwrap_or(0));
    validators.extend(date.iter().map(|b| char::from(*b)));
    validators.push_str("\r\n");
    if media::is_hashed(name) {
        validators.push_str(ONE_YEAR);
    } else if let Some(cache) = cache {
        validators.push_str("Cache-Control: ");
        validators.push_str(cache);
        validators.push_str("\r\n");
    }
    if kind.compressible {
        validators.push_str("Vary: Accept-Encoding\r\n");
    }
    let mut describing = format!("Content-Type: {}\r\n", kind.text);
    if let Some(coding) = coding {
        describing.push_str("Content-Encoding: ");
        describing.push_str(coding.token());
        describing.push_str("\r\n");
    }
    describing.push_str("Accept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n");
    Representation {
        content,
        descriptor: None,
        bytes: stamp.size as u64,
        modified,
        etag: etag.into_bytes(),
        media: kind.text,
        compressible: kind.compressible,
        validators: validators.into_bytes(),
        describing: describing.into_bytes(),
        path: path.into(),
        stamp,
        made: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("trivet-files-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(path.join("public/sub")).unwrap();
            Self(path)
        }

        fn public(&self) -> PathBuf {
            self.0.join("public")
        }

        fn files(&self) -> Files {
            let folder = self.public().to_str().unwrap().to_owned();
            let mut files = Files::new();
            // The place of a folder whose last user has gone may be given away: this one stays.
            std::mem::forget(files.folder(FolderOptions { folder, links: true, cache: None }));
            files
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn text(lookup: &Lookup) -> String {
        match lookup {
            Lookup::File { plain, .. } => match &plain.content {
                Content::Memory(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Content::File(_) => format!("open file of {} bytes", plain.bytes),
            },
            other => format!("{other:?}"),
        }
    }

    fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        std::fs::write(path, content).unwrap();
    }

    #[test]
    fn the_place_of_a_folder_is_used_again_when_nobody_serves_it() {
        let place = Place::new("slots");
        write(place.public().join("a"), "a");
        let options = |cache: &str| FolderOptions {
            folder: place.public().to_str().unwrap().into(),
            links: true,
            cache: Some(cache.into()),
        };
        let mut files = Files::new();
        let first = files.folder(options("no-store"));
        assert_eq!(files.folder(options("no-store")).slot, first.slot);
        let second = files.folder(options("max-age=9"));
        let Lookup::File { plain, .. } = files.find(second.slot, "a", 0) else { panic!("a file") };
        assert!(String::from_utf8_lossy(&plain.validators).contains("Cache-Control: max-age=9\r\n"));
        let slot = second.slot;
        drop(second);
        files.sweep();
        assert!(files.entries.is_empty() && files.folders[slot].dir.is_none());
        assert_eq!(files.folder(options("private")).slot, slot);
    }

    #[test]
    fn nothing_outside_the_folder_is_found() {
        let place = Place::new("outside");
        write(place.0.join("secret"), "secret");
        write(place.public().join("open"), "open");
        for (link, target) in
            [("up", "../secret"), ("absolute", "/etc/hostname"), ("folder", ".."), ("inside", "open")]
        {
            std::os::unix::fs::symlink(target, place.public().join(link)).unwrap();
        }
        let mut files = place.files();
        let closed =
            FolderOptions { folder: place.public().to_str().unwrap().into(), links: false, cache: None };
        let closed = files.folder(closed);
        assert_eq!(text(&files.find(closed.slot, "inside", 0)), "Missing", "no link at all, if so told");
        assert_eq!(text(&files.find(closed.slot, "open", 0)), "open");
        for path in [
            "up",
            "absolute",
            "folder/secret",
            "../secret",
            "sub/../../secret",
            "/etc/hostname",
            "nothing",
            "open/x",
        ] {
            assert_eq!(text(&files.find(0, path, 0)), "Missing", "{path}");
        }
        assert_eq!(
            text(&files.find(0, "inside", 0)),
            "open",
            "a link that stays inside is a file like another"
        );
        assert_eq!(text(&files.find(0, "sub", 0)), "Folder");
        let dir = rustix::fs::open(place.public(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        assert!(open_stepwise(&dir, "open", flags).is_ok());
        for path in ["up", "absolute", "folder/secret", "inside"] {
            assert!(open_stepwise(&dir, path, flags).is_err(), "{path}: the long way follows no link at all");
        }
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_not_there() {
        let place = Place::new("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            place.public().join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        assert_eq!(text(&place.files().find(0, "pipe", 0)), "Missing", "and nobody waits for a writer");
    }

    #[test]
    fn a_change_is_seen_within_a_second_and_costs_nothing_before() {
        let place = Place::new("change");
        let file = place.public().join("a.txt");
        write(&file, "one");
        let mut files = place.files();
        assert_eq!(text(&files.find(0, "a.txt", 5_000)), "one");
        write(place.0.join("new"), "another");
        std::fs::rename(place.0.join("new"), &file).unwrap();
        assert_eq!(text(&files.find(0, "a.txt", 5_999)), "one");
        assert_eq!(text(&files.find(0, "a.txt", 6_000)), "another");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(text(&files.find(0, "a.txt", 7_000)), "Missing");
        assert_eq!(files.entries.len(), 0);
    }

    #[test]
    fn another_folder_in_its_place_is_seen_too() {
        let place = Place::new("swap");
        write(place.public().join("a"), "old");
        let mut files = place.files();
        assert_eq!(text(&files.find(0, "a", 0)), "old");
        std::fs::rename(place.public(), place.0.join("gone")).unwrap();
        std::fs::create_dir(place.public()).unwrap();
        write(place.public().join("a"), "new");
        assert_eq!(text(&files.find(0, "a", 1_000)), "new");
    }

    #[test]
    fn compressed_files_beside_it_count_unless_they_are_older() {
        let place = Place::new("coded");
        write(place.public().join("a.css"), "body {}");
        write(place.public().join("a.css.gz"), "gzip");
        write(place.public().join("a.css.br"), "brotli");
        let old = std::fs::File::options().write(true).open(place.public().join("a.css.br")).unwrap();
        old.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
        let Lookup::File { plain, coded } = place.files().find(0, "a.css", 0) else { panic!("a file") };
        assert!(coded[Coding::Brotli as usize].is_none() && coded[Coding::Zstd as usize].is_none());
        let gzip = coded[Coding::Gzip as usize].as_ref().unwrap();
        assert_ne!(gzip.etag, plain.etag);
        assert!(
            String::from_utf8_lossy(&gzip.describing)
                .contains("text/css; charset=utf-8\r\nContent-Encoding: gzip")
        );
        assert!(plain.validators.ends_with(b"Vary: Accept-Encoding\r\n"));
    }

    #[test]
    fn memory_and_descriptors_are_bounded() {
        let place = Place::new("bounded");
        for n in 0..700 {
            write(place.public().join(n.to_string()), vec![b'x'; 64 * 1024]);
        }
        write(place.public().join("large"), vec![b'x'; 64 * 1024 + 1]);
        let mut files = place.files();
        for n in 0..700 {
            assert_eq!(text(&files.find(0, &n.to_string(), 0)).len(), 64 * 1024);
            assert!(files.memory_bytes <= MEMORY_BYTES_MAX);
        }
        assert!(files.entries.len() > 400 && files.index[0].len() == files.entries.len());
        assert_eq!(text(&files.find(0, "large", 0)), "open file of 65537 bytes");
    }
}
