//! How long the app has lately taken for a request, and how many frames may therefore wait inside a worker.
//!
//! Times are by the wall clock, so a worker that was preempted reports a long one although nothing was slow: on two
//! busy cores that is one in ten. What decides is therefore the typical time, and a few long ones are forgiven;
//! a frame behind a long one is not forgotten, it is taken back when a slot comes free or after a fixed time.

/// What may wait inside a worker's ring is bounded by this much expected waiting. Nothing is late by it: a slot that
/// comes free elsewhere takes the oldest of what waits.
const WAIT_NS: u64 = 2_000_000;
/// More never helps: a batch of this many frames already hides the wake-up.
const DEPTH_MAX: u64 = 64;
/// A longer time is one that may keep others waiting.
const LONG_NS: u64 = 2_000_000;
/// Of the last 64 times; more long ones, and nothing is fetched ahead.
const LONG_MAX: u32 = 3;
/// With a typical time below this, a wake-up costs more than a request.
const TINY_NS: u64 = 10_000;

/// What is known of recent service times.
#[derive(Clone, Debug, Default)]
pub struct ServiceTimes {
    /// Follows the median: a sixteenth up or down with each time. 0: nothing is known.
    typical: u64,
    /// One bit for each of the last 64 times: whether it was long.
    long: u64,
    count: u32,
}

impl ServiceTimes {
    /// Takes in one completed request.
    #[inline]
    pub fn add(&mut self, ns: u64) {
        self.count = self.count.saturating_add(1);
        self.long = self.long << 1 | u64::from(ns > LONG_NS);
        let step = (self.typical >> 4).max(16);
        if self.count <= 1 {
            self.typical = ns;
        } else if ns > self.typical {
            self.typical += step;
        } else {
            self.typical -= step.min(self.typical);
        }
    }

    /// Frames that may be in one slot's care, the running one included: 1 means "no fetching ahead".
    #[inline]
    pub fn depth(&self) -> u64 {
        if self.count < 64 || self.long.count_ones() > LONG_MAX {
            return 1;
        }
        (WAIT_NS / self.typical.max(1)).clamp(1, DEPTH_MAX)
    }

    /// The median, as far as it is known.
    #[inline]
    pub fn typical(&self) -> u64 {
        self.typical
    }

    /// Whether requests are so short that the worker should answer several before it wakes the edge.
    #[inline]
    pub fn tiny(&self) -> bool {
        self.typical < TINY_NS && self.depth() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(times: impl IntoIterator<Item = u64>) -> ServiceTimes {
        let mut t = ServiceTimes::default();
        times.into_iter().for_each(|ns| t.add(ns));
        t
    }

    #[test]
    fn depth_follows_the_typical_time() {
        assert_eq!(after([]).depth(), 1);
        assert_eq!(after([2_000; 63]).depth(), 1, "too little is known");
        assert!((30..=64).contains(&after([2_000; 200]).depth()));
        assert!((10..=16).contains(&after([150_000; 200]).depth()));
        assert_eq!(after([1_400_000; 200]).depth(), 1);
        assert!(after([2_000; 200]).tiny() && !after([150_000; 200]).tiny());
    }

    #[test]
    fn the_typical_time_is_found_again_when_the_app_changes() {
        let mut t = after([2_000; 200]);
        for _ in 0..200 {
            t.add(1_300_000);
        }
        assert_eq!(t.depth(), 1);
        for _ in 0..400 {
            t.add(2_000);
        }
        assert!(t.depth() > 20);
    }

    #[test]
    fn a_few_long_times_are_forgiven_but_not_many() {
        let mixed =
            |every: u64| after((0..640).map(move |i| if i % every == 0 { 20_000_000 } else { 2_000 }));
        assert!(mixed(64).depth() > 20, "a preempted worker is no slow app");
        assert_eq!(mixed(10).depth(), 1, "one in ten is");
    }
}
