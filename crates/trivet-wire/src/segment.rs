//! The shared memory of one edge and one worker: two byte rings and the scoreboard, in one sealed memfd.
//!
//! Each ring is mapped twice in a row, so that a frame is always contiguous. The memory is not inherited by
//! forks of the app (`MADV_DONTFORK`). This is the only file that maps shared memory.
#![allow(unsafe_code, reason = "maps memory that two processes share")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::event::EventfdFlags;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::frame::{FRAME_BYTES_MAX, FrameHeader, HEADER_BYTES, Malformed};
use crate::ring::{Broken, Consumer, Control, Line, Producer};

const MAGIC: u64 = u64::from_le_bytes(*b"trivet\0\x01");
const PAGE: usize = 4096;

/// The first bytes of the segment.
#[repr(C)]
#[derive(Debug)]
struct Header {
    magic: AtomicU64,
    request: Control,
    response: Control,
    _rest: Line<AtomicU32>,
}

/// One entry of the scoreboard: a request that is in a worker's ring or in its app.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Ticket {
    /// Generation in the upper, state in the lower half.
    state: AtomicU64,
    /// [`crate::monotonic_ns`] at entry into the app or at the begin of computing the next chunk; 0 while the
    /// worker waits for the client.
    pub busy_since: AtomicU64,
    /// The generation that is cancelled.
    cancelled: AtomicU32,
}

const FREE: u64 = 0;
const OFFERED: u64 = 1;
const CLAIMED: u64 = 2;
const ENTERED: u64 = 3;

fn word(generation: u32, state: u64) -> u64 {
    u64::from(generation) << 32 | state
}

impl Ticket {
    /// Edge, before the frame is published.
    #[inline]
    pub fn offer(&self, generation: u32) {
        self.busy_since.store(0, Ordering::Relaxed);
        self.state.store(word(generation, OFFERED), Ordering::Release);
    }

    /// Worker: takes the request. `false`: the edge has taken it back.
    #[inline]
    pub fn claim(&self, generation: u32, now: u64) -> bool {
        let claimed = self
            .state
            .compare_exchange(
                word(generation, OFFERED),
                word(generation, CLAIMED),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok();
        if claimed {
            self.busy_since.store(now, Ordering::Relaxed);
        }
        claimed
    }

    /// Edge: takes an unstarted request back. `false`: it has started.
    #[inline]
    pub fn recall(&self, generation: u32) -> bool {
        self.state
            .compare_exchange(
                word(generation, OFFERED),
                word(generation, FREE),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Worker, right before it calls the app: from now on nobody can say that the request has had no effect.
    #[inline]
    pub fn enter(&self, generation: u32) {
        self.state.store(word(generation, ENTERED), Ordering::Release);
    }

    /// Edge: whether the worker has taken it.
    #[inline]
    pub fn claimed(&self, generation: u32) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state == word(generation, CLAIMED) || state == word(generation, ENTERED)
    }

    /// Edge: whether the app has got it.
    #[inline]
    pub fn entered(&self, generation: u32) -> bool {
        self.state.load(Ordering::Acquire) == word(generation, ENTERED)
    }

    /// Edge: the client has gone.
    pub fn cancel(&self, generation: u32) {
        self.cancelled.store(generation, Ordering::Release);
    }

    /// Worker.
    #[inline]
    pub fn is_cancelled(&self, generation: u32) -> bool {
        self.cancelled.load(Ordering::Relaxed) == generation
    }
}

/// Sizes that both sides must agree on. The rings' sizes are powers of two and multiples of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub tickets: u16,
    pub request_bytes: u32,
    pub response_bytes: u32,
}

impl Layout {
    fn head_bytes(self) -> usize {
        (size_of::<Header>() + usize::from(self.tickets) * size_of::<Ticket>()).next_multiple_of(PAGE)
    }

    fn file_bytes(self) -> usize {
        self.head_bytes() + self.request_bytes as usize + self.response_bytes as usize
    }

    fn mapped_bytes(self) -> usize {
        self.head_bytes() + 2 * (self.request_bytes as usize + self.response_bytes as usize)
    }

    fn check(self) -> io::Result<()> {
        let fits =
            |n: u32| n.is_power_of_two() && n as usize >= FRAME_BYTES_MAX.next_power_of_two() && n <= 1 << 26;
        if fits(self.request_bytes) && fits(self.response_bytes) && self.tickets > 0 {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "impossible ring sizes"))
        }
    }
}

/// The mapped memory.
#[derive(Debug)]
pub struct Segment {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: all shared fields are atomics; ring bytes are reached only through `Sender` and `Receiver`,
// of which there is one each.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: this range was mapped by `map` and nobody else unmaps it; all borrows have ended.
        unsafe {
            let _ = rustix::mm::munmap(self.base.as_ptr().cast(), self.layout.mapped_bytes());
        }
    }
}

impl Segment {
    /// New memory, sealed against any change of its size.
    pub fn create(layout: Layout) -> io::Result<(Arc<Self>, OwnedFd)> {
        layout.check()?;
        let fd = rustix::fs::memfd_create(c"trivet-ring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, layout.file_bytes() as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let segment = Self::map(fd.as_fd(), layout)?;
        segment.header().magic.store(MAGIC, Ordering::Release);
        Ok((Arc::new(segment), fd))
    }

    /// The memory that the other side made, after a look at its size and seals.
    pub fn open(fd: BorrowedFd<'_>, layout: Layout) -> io::Result<Arc<Self>> {
        layout.check()?;
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        if rustix::fs::fstat(fd)?.st_size as usize != layout.file_bytes() {
            return Err(wrong("the ring memory has another size than announced"));
        }
        if !rustix::fs::fcntl_get_seals(fd)?.contains(SealFlags::SHRINK) {
            return Err(wrong("the ring memory is not sealed"));
        }
        let segment = Self::map(fd, layout)?;
        if segment.header().magic.load(Ordering::Acquire) != MAGIC {
            return Err(wrong("the ring memory has another layout version"));
        }
        Ok(Arc::new(segment))
    }

    fn map(fd: BorrowedFd<'_>, layout: Layout) -> io::Result<Self> {
        let rw = ProtFlags::READ | ProtFlags::WRITE;
        let (head, request, response) =
            (layout.head_bytes(), layout.request_bytes as usize, layout.response_bytes as usize);
        // SAFETY: a fresh reservation, over parts of which the five file mappings are laid; none reaches beyond it.
        unsafe {
            let base: *mut u8 = rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                layout.mapped_bytes(),
                ProtFlags::empty(),
                MapFlags::PRIVATE,
            )?
            .cast();
            let segment = Self { base: NonNull::new(base).expect("mmap gives no null"), layout };
            for (at, len, offset) in [
                (0, head, 0),
                (head, request, head),
                (head + request, request, head),
                (head + 2 * request, response, head + request),
                (head + 2 * request + response, response, head + request),
            ] {
                let flags = MapFlags::SHARED | MapFlags::FIXED;
                rustix::mm::mmap(base.add(at).cast(), len, rw, flags, fd, offset as u64)?;
            }
            rustix::mm::madvise(base.cast(), layout.mapped_bytes(), Advice::LinuxDontFork)?;
            Ok(segment)
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: mapped for as long as self lives, page aligned, all fields atomics for which any bits are valid.
        unsafe { self.base.cast().as_ref() }
    }

    /// The scoreboard. `None` beyond its end.
    #[inline]
    pub fn ticket(&self, index: u16) -> Option<&Ticket> {
        if index >= self.layout.tickets {
            return None;
        }
        // SAFETY: inside the header area by the check above; all fields atomics; 64 divides the header's size.
        Some(unsafe { self.base.add(size_of::<Header>()).cast::<Ticket>().add(usize::from(index)).as_ref() })
    }

    pub fn tickets(&self) -> u16 {
        self.layout.tickets
    }

    /// The edge's two ends.
    pub fn edge_ends(self: &Arc<Self>) -> (Sender, Receiver) {
        (self.sender(Side::Request), self.receiver(Side::Response))
    }

    /// The worker's two ends.
    pub fn worker_ends(self: &Arc<Self>) -> (Receiver, Sender) {
        (self.receiver(Side::Request), self.sender(Side::Response))
    }

    fn sender(self: &Arc<Self>, side: Side) -> Sender {
        let (_, capacity) = self.bytes(side);
        Sender { segment: self.clone(), side, cursor: Producer::new(capacity as u64) }
    }

    fn receiver(self: &Arc<Self>, side: Side) -> Receiver {
        let (_, capacity) = self.bytes(side);
        Receiver { segment: self.clone(), side, cursor: Consumer::new(capacity as u64) }
    }

    #[inline]
    fn control(&self, side: Side) -> &Control {
        match side {
            Side::Request => &self.header().request,
            Side::Response => &self.header().response,
        }
    }

    #[inline]
    fn bytes(&self, side: Side) -> (*mut u8, usize) {
        let (head, request) = (self.layout.head_bytes(), self.layout.request_bytes as usize);
        // SAFETY: both offsets are inside the reservation.
        unsafe {
            match side {
                Side::Request => (self.base.as_ptr().add(head), request),
                Side::Response => {
                    (self.base.as_ptr().add(head + 2 * request), self.layout.response_bytes as usize)
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

/// Why a ring cannot be read on: the other side must be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The writing end of one ring.
#[derive(Debug)]
pub struct Sender {
    segment: Arc<Segment>,
    side: Side,
    cursor: Producer,
}

impl Sender {
    /// Writes one frame; [`publish`](Self::publish) shows it. `false`: no space now. `parts` together are
    /// `header.len` bytes less the header.
    #[inline]
    pub fn push(&mut self, header: FrameHeader, parts: &[&[u8]]) -> Result<bool, Broken> {
        let padded = FrameHeader::padded(header.len as usize);
        debug_assert_eq!(header.len as usize, HEADER_BYTES + parts.iter().map(|p| p.len()).sum::<usize>());
        let Some(at) = self.cursor.reserve(self.segment.control(self.side), padded as u64)? else {
            return Ok(false);
        };
        let (base, capacity) = self.segment.bytes(self.side);
        let mut end = (at as usize & (capacity - 1)) + HEADER_BYTES;
        // SAFETY: `reserve` gave `padded` free bytes from `at`, the double mapping makes them contiguous, and the
        // parts are at most that much (they are written only while they fit).
        unsafe {
            ptr::copy_nonoverlapping(
                header.to_bytes().as_ptr(),
                base.add(at as usize & (capacity - 1)),
                HEADER_BYTES,
            );
            let limit = (at as usize & (capacity - 1)) + padded;
            for part in parts {
                assert!(end + part.len() <= limit, "frame parts are longer than the frame says");
                ptr::copy_nonoverlapping(part.as_ptr(), base.add(end), part.len());
                end += part.len();
            }
        }
        self.cursor.advance(padded as u64);
        Ok(true)
    }

    /// Writes a frame that begins with its own header.
    #[inline]
    pub fn push_whole(&mut self, frame: &[u8]) -> Result<bool, Broken> {
        let padded = FrameHeader::padded(frame.len());
        let Some(at) = self.cursor.reserve(self.segment.control(self.side), padded as u64)? else {
            return Ok(false);
        };
        let (base, capacity) = self.segment.bytes(self.side);
        // SAFETY: `reserve` gave `padded` ≥ `frame.len()` free bytes, contiguous by the double mapping.
        unsafe {
            ptr::copy_nonoverlapping(frame.as_ptr(), base.add(at as usize & (capacity - 1)), frame.len());
        }
        self.cursor.advance(padded as u64);
        Ok(true)
    }

    /// Shows what was pushed. `true`: ring the other side's bell.
    #[inline]
    pub fn publish(&mut self) -> bool {
        self.cursor.publish(self.segment.control(self.side))
    }

    /// Shows what was pushed without waking a sleeper: [`ask`](Self::ask) must follow.
    #[inline]
    pub fn show(&mut self) {
        self.cursor.show(self.segment.control(self.side));
    }

    /// `true`: the other side sleeps although something was shown; ring its bell.
    #[inline]
    pub fn ask(&self) -> bool {
        self.cursor.ask(self.segment.control(self.side))
    }

    #[inline]
    pub fn dirty(&self) -> bool {
        self.cursor.dirty()
    }

    /// Whether a frame of `len` bytes finds space now.
    #[inline]
    pub fn fits(&mut self, len: usize) -> Result<bool, Broken> {
        Ok(self.cursor.reserve(self.segment.control(self.side), FrameHeader::padded(len) as u64)?.is_some())
    }

    /// Asks for a bell when space comes free. `true`: there is space already.
    pub fn starve(&mut self, len: usize) -> Result<bool, Broken> {
        self.cursor.starve(self.segment.control(self.side), FrameHeader::padded(len) as u64)
    }

    /// Whether the reader sleeps (a hint).
    #[inline]
    pub fn reader_asleep(&self) -> bool {
        self.segment.control(self.side).asleep()
    }
}

/// The reading end of one ring.
#[derive(Debug)]
pub struct Receiver {
    segment: Arc<Segment>,
    side: Side,
    cursor: Consumer,
}

impl Receiver {
    /// The next frame's checked header and its payload in place, without stepping over it.
    ///
    /// The payload is memory that a broken peer may still write to: give it to a system call or copy it, and parse
    /// only the copy.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<(FrameHeader, &[u8])>, RingError> {
        let (at, len) = self.cursor.available(self.segment.control(self.side))?;
        if len == 0 {
            return Ok(None);
        }
        if len < HEADER_BYTES as u64 {
            return Err(Malformed("no whole header").into());
        }
        let (base, capacity) = self.segment.bytes(self.side);
        let mut header = [0; HEADER_BYTES];
        // SAFETY: `available` says that at least a header is there; contiguous by the double mapping.
        let header = unsafe {
            let start = base.add(at as usize & (capacity - 1));
            ptr::copy_nonoverlapping(start, header.as_mut_ptr(), HEADER_BYTES);
            FrameHeader::parse(&header)?
        };
        if FrameHeader::padded(header.len as usize) as u64 > len {
            return Err(Malformed("longer than what was published").into());
        }
        // SAFETY: inside the published bytes by the check above, mapped while `self.segment` lives; the producer
        // does not write there before `release`, and no Rust code of this process writes there at all.
        let payload = unsafe {
            let start = base.add((at as usize & (capacity - 1)) + HEADER_BYTES);
            std::slice::from_raw_parts(start, header.len as usize - HEADER_BYTES)
        };
        Ok(Some((header, payload)))
    }

    /// Steps over the frame that [`peek`](Self::peek) showed.
    #[inline]
    pub fn next(&mut self, header: FrameHeader) {
        self.cursor.advance(FrameHeader::padded(header.len as usize) as u64);
    }

    /// Gives the space of what was stepped over back. `true`: ring the other side's bell.
    #[inline]
    pub fn release(&mut self) -> bool {
        self.cursor.release(self.segment.control(self.side))
    }

    /// Before sleeping. `true`: sleep until the bell; `false`: look again.
    #[inline]
    pub fn arm(&mut self) -> Result<bool, Broken> {
        self.cursor.arm(self.segment.control(self.side))
    }

    #[inline]
    pub fn disarm(&self) {
        self.cursor.disarm(self.segment.control(self.side));
    }

    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }
}

/// An eventfd that wakes the other side.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// Blocking: [`wait`](Self::wait) sleeps. An edge-triggered epoll need never read it.
    pub fn new() -> io::Result<Self> {
        Ok(Self(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?))
    }

    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    #[inline]
    pub fn ring(&self) {
        // It can fail only when 2^64 − 2 rings are unread.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Sleeps until rung (or rung before). `Err` of kind `Interrupted` when a signal came.
    pub fn wait(&self) -> io::Result<()> {
        rustix::io::read(&self.0, &mut [0u8; 8][..])?;
        Ok(())
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Kind;

    const SMALL: Layout = Layout { tickets: 4, request_bytes: 1 << 19, response_bytes: 1 << 19 };

    fn frame(len: usize, ticket: u16) -> FrameHeader {
        FrameHeader {
            len: (HEADER_BYTES + len) as u32,
            kind: Kind::Data,
            flags: 0,
            ticket,
            generation: 1,
            aux: 0,
        }
    }

    #[test]
    fn frames_of_all_lengths_cross_the_end_of_the_ring_whole() {
        let (a, fd) = Segment::create(SMALL).unwrap();
        let b = Segment::open(fd.as_fd(), SMALL).unwrap();
        let (mut tx, _) = a.edge_ends();
        let (mut rx, _) = b.worker_ends();
        let body: Vec<u8> = (0..60_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
        for round in 0..200usize {
            let len = (round * 1013) % body.len();
            assert!(tx.push(frame(len, 1), &[&body[..len / 2], &body[len / 2..len]]).unwrap());
            tx.publish();
            let (header, payload) = rx.peek().unwrap().unwrap();
            assert_eq!(payload, &body[..len]);
            rx.next(header);
            rx.release();
        }
    }

    #[test]
    fn a_full_ring_refuses_and_a_starved_sender_is_rung() {
        let (a, _fd) = Segment::create(SMALL).unwrap();
        let (mut tx, _) = a.edge_ends();
        let (mut rx, _) = a.worker_ends();
        let body = vec![7; 65_000];
        while tx.push(frame(body.len(), 0), &[&body]).unwrap() {}
        tx.publish();
        assert!(!tx.starve(HEADER_BYTES + body.len()).unwrap());
        let (header, _) = rx.peek().unwrap().unwrap();
        rx.next(header);
        assert!(rx.release());
        assert!(tx.push(frame(body.len(), 0), &[&body]).unwrap());
    }

    #[test]
    fn a_ticket_is_claimed_or_recalled_never_both() {
        let (a, _fd) = Segment::create(SMALL).unwrap();
        let t = a.ticket(3).unwrap();
        assert!(a.ticket(4).is_none());
        t.offer(5);
        assert!(t.claim(5, 1) && !t.recall(5) && t.claimed(5) && !t.entered(5));
        t.enter(5);
        assert!(t.claimed(5) && t.entered(5) && !t.recall(5) && !t.entered(4));
        t.offer(6);
        assert!(t.recall(6) && !t.claim(6, 1) && !t.claimed(6));
        t.offer(7);
        assert!(!t.claim(6, 1), "an old frame of the ticket is void");
    }

    #[test]
    fn memory_of_another_size_is_refused() {
        let (_a, fd) = Segment::create(SMALL).unwrap();
        assert!(Segment::open(fd.as_fd(), Layout { tickets: 1000, ..SMALL }).is_err());
        assert!(Segment::open(fd.as_fd(), Layout { request_bytes: 1 << 20, ..SMALL }).is_err());
    }
}
