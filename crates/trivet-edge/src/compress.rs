//! Compression on the way out, beside the loop: an edge thread never computes for as long as an encoder does.
//!
//! An encoder travels with what it is to encode to one of a few threads, and comes back with the result. Each answer
//! has one job under way at most, so its pieces stay in order.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::event::EventfdFlags;
use trivet_http::coding::Coding;

use crate::files::read_at;

/// Threads that encode, at most; fewer on a small machine.
const THREADS_MAX: usize = 4;
/// Answers that are being encoded at once: an encoder has a few hundred KiB of memory. What comes beyond goes plain.
const ENCODERS_MAX: usize = 256;
/// Speeds rather than sizes: a page is encoded while its reader waits.
const BROTLI_QUALITY: u32 = 4;
const BROTLI_WINDOW_BITS: u32 = 18;
const ZSTD_LEVEL: i32 = 3;
const ZSTD_WINDOW_BITS: u32 = 18;
const GZIP_LEVEL: u32 = 5;
const BUFFER_BYTES: usize = 16 * 1024;

pub(crate) enum Encoder {
    /// Made by the thread that gets the first piece: that takes longer than the loop has.
    Fresh(Coding),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fresh(_) => "Fresh",
            Self::Brotli(_) => "Brotli",
            Self::Zstd(_) => "Zstd",
            Self::Gzip(_) => "Gzip",
        })
    }
}

impl Encoder {
    /// Ready for a piece.
    fn made(self) -> io::Result<Self> {
        let Self::Fresh(coding) = self else { return Ok(self) };
        Ok(match coding {
            Coding::Brotli => {
                let out = Vec::new();
                let writer =
                    brotli::CompressorWriter::new(out, BUFFER_BYTES, BROTLI_QUALITY, BROTLI_WINDOW_BITS);
                Self::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_BITS)?;
                Self::Zstd(encoder)
            }
            Coding::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL)))
            }
        })
    }

    /// Encodes a piece, so that whoever reads the result so far has all of it.
    fn push(&mut self, input: &[u8]) -> io::Result<Vec<u8>> {
        let out = match self {
            Self::Fresh(_) => return Err(io::ErrorKind::InvalidInput.into()),
            Self::Brotli(e) => {
                e.write_all(input)?;
                e.flush()?;
                e.get_mut()
            }
            Self::Zstd(e) => {
                e.write_all(input)?;
                e.flush()?;
                e.get_mut()
            }
            Self::Gzip(e) => {
                e.write_all(input)?;
                e.flush()?;
                e.get_mut()
            }
        };
        Ok(std::mem::take(out))
    }

    /// Encodes the last piece.
    fn finish(self, input: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Fresh(_) => Err(io::ErrorKind::InvalidInput.into()),
            Self::Brotli(mut e) => {
                e.write_all(input)?;
                Ok(e.into_inner())
            }
            Self::Zstd(mut e) => {
                e.write_all(input)?;
                e.finish()
            }
            Self::Gzip(mut e) => {
                e.write_all(input)?;
                e.finish()
            }
        }
    }
}

/// Whose piece it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// `None`: it is a file's.
    pub(crate) xkey: Option<u32>,
    /// Exchanges' keys are used again; this is not.
    pub(crate) serial: u64,
}

#[derive(Debug)]
struct Job {
    owner: Owner,
    encoder: Encoder,
    input: Input,
    last: bool,
}

/// What is to be encoded.
#[derive(Debug)]
pub(crate) enum Input {
    Bytes(Vec<u8>),
    /// A whole file of so many bytes.
    File(OwnedFd, usize),
}

impl Input {
    fn bytes(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::File(file, length) => {
                let mut bytes = vec![0; length];
                if read_at(&file, &mut bytes, 0)? < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(bytes)
            }
        }
    }
}

/// What has become of a piece.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) owner: Owner,
    /// For the next piece; `None` after the last.
    pub(crate) encoder: Option<Encoder>,
    pub(crate) output: io::Result<Vec<u8>>,
}

#[derive(Debug)]
struct Shared {
    jobs: Mutex<VecDeque<Job>>,
    wake: Condvar,
    done: Mutex<Vec<Encoded>>,
    bell: OwnedFd,
}

/// The threads, which begin with the first answer that is encoded.
#[derive(Debug)]
pub(crate) struct Compressors {
    shared: Arc<Shared>,
    threads: usize,
    encoders: usize,
    serial: u64,
}

impl Compressors {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Shared {
            jobs: Mutex::new(VecDeque::new()),
            wake: Condvar::new(),
            done: Mutex::new(Vec::new()),
            bell,
        };
        Ok(Self { shared: Arc::new(shared), threads: 0, encoders: 0, serial: 0 })
    }

    /// Readable while results wait.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }

    /// An encoder for an answer, and its serial number. `None`: there are too many already.
    pub(crate) fn begin(&mut self, coding: Coding) -> Option<(Encoder, u64)> {
        if self.encoders >= ENCODERS_MAX || !self.has_thread() {
            return None;
        }
        self.encoders += 1;
        self.serial += 1;
        Some((Encoder::Fresh(coding), self.serial))
    }

    /// An answer with an encoder has come to its end.
    pub(crate) fn ended(&mut self) {
        self.encoders = self.encoders.saturating_sub(1);
    }

    fn has_thread(&mut self) -> bool {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.threads >= cores.min(THREADS_MAX) {
            return true;
        }
        let shared = self.shared.clone();
        let made = std::thread::Builder::new()
            .name("compress".into())
            .stack_size(512 * 1024)
            .spawn(move || work(&shared));
        self.threads += usize::from(made.is_ok());
        self.threads > 0
    }

    /// Has a piece encoded.
    pub(crate) fn send(&self, owner: Owner, encoder: Encoder, input: Input, last: bool) {
        let mut jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push_back(Job { owner, encoder, input, last });
        self.shared.wake.notify_one();
    }

    /// Everything that is done by now.
    pub(crate) fn take(&self) -> Vec<Encoded> {
        let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
        std::mem::take(&mut *self.shared.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn work(shared: &Shared) {
    // The loop comes first, whatever is to be encoded.
    let _ = rustix::process::nice(5);
    loop {
        let job = {
            let mut jobs = shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if let Some(job) = jobs.pop_front() {
                    break job;
                }
                jobs = shared.wake.wait(jobs).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let Job { owner, encoder, input, last } = job;
        let made = encoder.made().and_then(|encoder| Ok((encoder, input.bytes()?)));
        let encoded = match made {
            Ok((encoder, input)) if last => Encoded { owner, encoder: None, output: encoder.finish(&input) },
            Ok((mut encoder, input)) => {
                let output = encoder.push(&input);
                Encoded { owner, encoder: Some(encoder), output }
            }
            Err(error) => Encoded { owner, encoder: None, output: Err(error) },
        };
        shared.done.lock().unwrap_or_else(PoisonError::into_inner).push(encoded);
        let _ = rustix::io::write(&shared.bell, &1_u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Brotli => {
                // A stream that is not ended yet shows what it has.
                let _ = brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out);
            }
            Coding::Zstd => {
                let _ = zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out);
            }
            Coding::Gzip => {
                let _ = flate2::read::GzDecoder::new(bytes).read_to_end(&mut out);
            }
        }
        out
    }

    #[test]
    fn each_piece_can_be_read_as_soon_as_it_is_there() {
        for coding in Coding::ALL {
            let mut compressors = Compressors::new().unwrap();
            let (mut encoder, serial) = compressors.begin(coding).unwrap();
            let owner = Owner { xkey: Some(7), serial };
            let mut stream = Vec::new();
            let pieces: Vec<Vec<u8>> =
                (0..20).map(|n| format!("event {n}: {}\n", "data ".repeat(n * 50)).into_bytes()).collect();
            for (n, piece) in pieces.iter().enumerate() {
                let last = n + 1 == pieces.len();
                compressors.send(owner, encoder, Input::Bytes(piece.clone()), last);
                let encoded = loop {
                    if let Some(encoded) = compressors.take().pop() {
                        break encoded;
                    }
                    std::thread::yield_now();
                };
                assert_eq!(encoded.owner, owner);
                stream.extend(encoded.output.unwrap());
                assert_eq!(decoded(coding, &stream), pieces[..=n].concat(), "{coding:?}, piece {n}");
                match encoded.encoder {
                    Some(next) => encoder = next,
                    None => break,
                }
            }
            assert!(stream.len() < pieces.concat().len() / 4, "{coding:?}");
        }
    }

    #[test]
    fn no_more_than_so_many_answers_are_encoded_at_once() {
        let mut compressors = Compressors::new().unwrap();
        compressors.encoders = ENCODERS_MAX;
        assert!(compressors.begin(Coding::Gzip).is_none());
        compressors.ended();
        assert!(compressors.begin(Coding::Gzip).is_some());
    }
}
