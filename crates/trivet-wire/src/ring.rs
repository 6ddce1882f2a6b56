//! The cursors of a single-producer, single-consumer byte ring between two processes.
//!
//! Positions only: bytes are written and read by [`crate::segment`]. Positions grow for ever and are taken
//! modulo the capacity, so "full" and "empty" never look alike.
//!
//! Sleeping: the consumer *arms* (store, fence, look again) before it waits, the producer publishes (store, fence,
//! test) and wakes only an armed consumer. A producer that found no space sets `starved` in the same way.
//! What is read from the other side is checked before it is used: a broken peer gives [`Broken`], never a bad index.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The other side wrote a position that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the ring wrote an impossible position")]
pub struct Broken;

/// One cache line, so that the two sides never write to the same one.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Line<T>(pub T);

/// What the two sides share of one ring, besides its bytes.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Control {
    tail: Line<AtomicU64>,
    head: Line<AtomicU64>,
    armed: Line<AtomicU32>,
    starved: Line<AtomicU32>,
}

/// The writing side's own cursor.
#[derive(Debug)]
pub struct Producer {
    capacity: u64,
    tail: u64,
    published: u64,
    head_seen: u64,
}

impl Producer {
    pub fn new(capacity: u64) -> Self {
        Self { capacity, tail: 0, published: 0, head_seen: 0 }
    }

    /// The position for a frame of `len` bytes, or `None` when the ring has no space for it now.
    #[inline]
    pub fn reserve(&mut self, shared: &Control, len: u64) -> Result<Option<u64>, Broken> {
        if self.tail + len - self.head_seen > self.capacity {
            let head = shared.head.0.load(Ordering::Acquire);
            if head < self.head_seen || head > self.published {
                return Err(Broken);
            }
            self.head_seen = head;
            if self.tail + len - head > self.capacity {
                return Ok(None);
            }
        }
        Ok(Some(self.tail))
    }

    /// Takes the reserved bytes into what the next [`publish`](Self::publish) shows.
    #[inline]
    pub fn advance(&mut self, len: u64) {
        self.tail += len;
    }

    /// Whether something waits to be published.
    #[inline]
    pub fn dirty(&self) -> bool {
        self.tail != self.published
    }

    /// Shows all that was written. `true`: the consumer sleeps and must be woken, once.
    #[inline]
    pub fn publish(&mut self, shared: &Control) -> bool {
        if self.tail == self.published {
            return false;
        }
        self.show(shared);
        self.ask(shared)
    }

    /// Shows all that was written to a consumer that looks by itself; one that sleeps is left asleep until
    /// [`ask`](Self::ask).
    #[inline]
    pub fn show(&mut self, shared: &Control) {
        shared.tail.0.store(self.tail, Ordering::Release);
        self.published = self.tail;
    }

    /// After [`show`](Self::show). `true`: the consumer sleeps and must be woken, once.
    #[inline]
    pub fn ask(&self, shared: &Control) -> bool {
        fence(Ordering::SeqCst);
        shared.armed.0.load(Ordering::Relaxed) != 0 && shared.armed.0.swap(0, Ordering::AcqRel) != 0
    }

    /// Asks to be woken when space comes free. `true`: there is space for `len` already, do not wait.
    pub fn starve(&mut self, shared: &Control, len: u64) -> Result<bool, Broken> {
        shared.starved.0.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let space = self.reserve(shared, len)?.is_some();
        if space {
            shared.starved.0.store(0, Ordering::Relaxed);
        }
        Ok(space)
    }
}

/// The reading side's own cursor.
#[derive(Debug)]
pub struct Consumer {
    capacity: u64,
    head: u64,
    shown: u64,
    tail_seen: u64,
}

impl Consumer {
    pub fn new(capacity: u64) -> Self {
        Self { capacity, head: 0, shown: 0, tail_seen: 0 }
    }

    /// The position of the next unread byte and how many are there.
    #[inline]
    pub fn available(&mut self, shared: &Control) -> Result<(u64, u64), Broken> {
        if self.head == self.tail_seen {
            let tail = shared.tail.0.load(Ordering::Acquire);
            if tail < self.tail_seen || tail - self.head > self.capacity {
                return Err(Broken);
            }
            self.tail_seen = tail;
        }
        Ok((self.head, self.tail_seen - self.head))
    }

    /// Steps over `len` read bytes; the producer may reuse them only after [`release`](Self::release).
    #[inline]
    pub fn advance(&mut self, len: u64) {
        self.head += len;
    }

    /// Gives the bytes stepped over back. `true`: the producer waits for space and must be woken.
    #[inline]
    pub fn release(&mut self, shared: &Control) -> bool {
        if self.shown == self.head {
            return false;
        }
        shared.head.0.store(self.head, Ordering::Release);
        self.shown = self.head;
        fence(Ordering::SeqCst);
        shared.starved.0.load(Ordering::Relaxed) != 0 && shared.starved.0.swap(0, Ordering::AcqRel) != 0
    }

    /// Before sleeping. `true`: nothing is there, sleep until woken; `false`: look again instead.
    #[inline]
    pub fn arm(&mut self, shared: &Control) -> Result<bool, Broken> {
        // A swap, not a store: it takes its place after the producer's last swap in the one order of `armed`.
        shared.armed.0.swap(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        let empty = self.available(shared)?.1 == 0;
        if !empty {
            self.disarm(shared);
        }
        Ok(empty)
    }

    /// After waking: no more wake-ups are wanted.
    #[inline]
    pub fn disarm(&self, shared: &Control) {
        shared.armed.0.store(0, Ordering::Relaxed);
    }
}

impl Control {
    /// Whether the consumer sleeps (a hint: it may change at once).
    #[inline]
    pub fn asleep(&self) -> bool {
        self.armed.0.load(Ordering::Relaxed) != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn space_comes_back_after_release() {
        let shared = Control::default();
        let (mut p, mut c) = (Producer::new(64), Consumer::new(64));
        assert_eq!(p.reserve(&shared, 64), Ok(Some(0)));
        p.advance(64);
        assert!(!p.publish(&shared));
        assert_eq!(p.reserve(&shared, 8), Ok(None));
        assert_eq!(c.available(&shared), Ok((0, 64)));
        c.advance(16);
        assert_eq!(p.reserve(&shared, 8), Ok(None), "stepped over is not yet given back");
        assert_eq!(p.starve(&shared, 8), Ok(false));
        assert!(c.release(&shared), "a starved producer is woken");
        assert_eq!(p.reserve(&shared, 16), Ok(Some(64)));
    }

    #[test]
    fn only_an_armed_consumer_is_woken_and_only_once() {
        let shared = Control::default();
        let (mut p, mut c) = (Producer::new(64), Consumer::new(64));
        assert_eq!(c.arm(&shared), Ok(true));
        p.reserve(&shared, 8).unwrap();
        p.advance(8);
        assert!(p.publish(&shared));
        p.advance(8);
        assert!(!p.publish(&shared));
        assert_eq!(c.arm(&shared), Ok(false), "something is there: do not sleep");
        assert!(!shared.asleep());
    }

    #[test]
    fn impossible_positions_of_the_peer_are_found() {
        let shared = Control::default();
        let (mut p, mut c) = (Producer::new(64), Consumer::new(64));
        shared.tail.0.store(65, Ordering::Relaxed);
        assert_eq!(c.available(&shared), Err(Broken));
        shared.head.0.store(8, Ordering::Relaxed);
        p.advance(64);
        assert_eq!(p.reserve(&shared, 8), Err(Broken), "more read than was ever shown");
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::{Arc, Notify};
    use loom::thread;

    /// Stands for the eventfd: rung at most when asked for. A lost wake-up is a deadlock that loom finds.
    struct Bell(Notify);
    impl Default for Bell {
        fn default() -> Self {
            Self(Notify::new())
        }
    }
    impl Bell {
        fn ring(&self) {
            self.0.notify();
        }
        fn wait(&self) {
            self.0.wait();
        }
    }

    /// No wake-up is lost: a consumer that armed and slept is always woken for what is published later.
    #[test]
    fn a_sleeping_consumer_gets_everything() {
        loom::model(|| {
            let shared =
                Arc::new((Control::default(), Bell::default(), [AtomicU64::new(0), AtomicU64::new(0)]));
            let other = shared.clone();
            let writer = thread::spawn(move || {
                let (control, bell, data) = &*other;
                let mut p = Producer::new(2);
                for value in 1..=2u64 {
                    let at = p.reserve(control, 1).unwrap().unwrap();
                    data[(at % 2) as usize].store(value, Ordering::Relaxed);
                    p.advance(1);
                    if p.publish(control) {
                        bell.ring();
                    }
                }
            });
            let (control, bell, data) = &*shared;
            let mut c = Consumer::new(2);
            let mut sum = 0;
            while sum < 3 {
                let (at, n) = c.available(control).unwrap();
                if n > 0 {
                    let value = data[(at % 2) as usize].load(Ordering::Relaxed);
                    assert_ne!(value, 0, "published bytes are visible");
                    sum += value;
                    c.advance(1);
                    c.release(control);
                } else if c.arm(control).unwrap() {
                    bell.wait();
                }
            }
            writer.join().unwrap();
        });
    }

    /// No wake-up for space is lost either.
    #[test]
    fn a_starved_producer_gets_space() {
        loom::model(|| {
            let shared = Arc::new((Control::default(), Bell::default()));
            let other = shared.clone();
            let writer = thread::spawn(move || {
                let (control, bell) = &*other;
                let mut p = Producer::new(1);
                for _ in 0..2 {
                    while p.reserve(control, 1).unwrap().is_none() {
                        if !p.starve(control, 1).unwrap() {
                            bell.wait();
                        }
                    }
                    p.advance(1);
                    p.publish(control);
                }
            });
            let (control, bell) = &*shared;
            let mut c = Consumer::new(1);
            let mut got = 0;
            while got < 2 {
                if c.available(control).unwrap().1 > 0 {
                    got += 1;
                    c.advance(1);
                    if c.release(control) {
                        bell.ring();
                    }
                } else {
                    thread::yield_now();
                }
            }
            writer.join().unwrap();
        });
    }
}
