//! Request bodies on disk: unlinked temporary files, used again and again, shared with the workers by descriptor.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use trivet_pool::Spool;

/// Idle files kept for the next body.
const IDLE_MAX: usize = 64;
/// An idle file keeps its space, which costs less to write again than to ask for again, unless it is longer than
/// this or the idle files together hold more than the other.
const KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024;
const KEPT_SUM_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Spools {
    dir: PathBuf,
    idle: Vec<Spool>,
    /// Of all idle files.
    kept_bytes: u64,
    next_id: u32,
    /// Numbers of files that are gone. A worker keeps one file for each number, so they are used again.
    free_ids: Vec<u32>,
}

impl Spools {
    pub(crate) fn new(dir: &str) -> Self {
        Self { dir: PathBuf::from(dir), idle: Vec::new(), kept_bytes: 0, next_id: 1, free_ids: Vec::new() }
    }

    /// From now on, where new files are made.
    pub(crate) fn set_dir(&mut self, dir: &str) {
        if self.dir.as_os_str() != dir {
            self.dir = PathBuf::from(dir);
            self.idle.clear();
            self.kept_bytes = 0;
        }
    }

    /// A file for a body of this app's.
    pub(crate) fn take(&mut self, owner: u32) -> io::Result<Spool> {
        if let Some(at) = self.idle.iter().rposition(|spool| spool.owner == owner) {
            let spool = self.idle.swap_remove(at);
            self.kept_bytes -= spool.kept_bytes;
            return Ok(spool);
        }
        let file = self.create()?;
        let id = self.free_ids.pop().unwrap_or_else(|| {
            self.next_id += 1;
            self.next_id - 1
        });
        Ok(Spool { file, id, owner, known_to: Vec::new(), kept_bytes: 0 })
    }

    /// The file has no name from the start where the file system can do that; elsewhere it loses it at once.
    fn create(&self) -> io::Result<OwnedFd> {
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(&self.dir, flags | OFlags::TMPFILE, mode) {
            Ok(file) => Ok(file),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {
                let path = self.dir.join(format!("trivet-{}-{}", std::process::id(), self.next_id));
                let file =
                    rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)?;
                rustix::fs::unlink(&path)?;
                Ok(file)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Its request, whose body had so many bytes, has ended.
    pub(crate) fn put(&mut self, mut spool: Spool, bytes: u64) {
        spool.kept_bytes = spool.kept_bytes.max(bytes);
        let last = self.idle.len() >= IDLE_MAX;
        if last
            || spool.kept_bytes > KEPT_BYTES_MAX
            || self.kept_bytes + spool.kept_bytes > KEPT_SUM_BYTES_MAX
        {
            // A worker may still hold the descriptor; an empty file holds no space.
            let _ = rustix::fs::ftruncate(&spool.file, 0);
            spool.kept_bytes = 0;
        }
        if last {
            self.free_ids.push(spool.id);
        } else {
            self.kept_bytes += spool.kept_bytes;
            self.idle.push(spool);
        }
    }
}

/// Writes all of `data` at `offset`.
pub(crate) fn write_all(spool: &Spool, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match rustix::io::pwrite(&spool.file, data, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                data = &data[n..];
                offset += n as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_used_again_and_a_large_one_is_emptied_first() {
        let mut spools = Spools::new(&std::env::temp_dir().to_string_lossy());
        let spool = spools.take(1).unwrap();
        let id = spool.id;
        write_all(&spool, &[7; 4096], 0).unwrap();
        spools.put(spool, KEPT_BYTES_MAX + 1);
        assert_ne!(spools.take(2).unwrap().id, id, "another app's body stands in another file");
        let again = spools.take(1).unwrap();
        assert_eq!(again.id, id);
        assert_eq!(rustix::fs::fstat(&again.file).unwrap().st_size, 0);
    }
}
