//! How long the app has lately taken for a request, and how many frames may therefore wait inside a worker.

/// What may wait inside a worker's ring is bounded by this much expected waiting.
const WAIT_NS: u64 = 75_000;
/// More never helps: a batch of this many frames already hides the wake-up.
const DEPTH_MAX: u64 = 64;
/// Completions in each half of the window.
const HALF: u32 = 64;

/// The largest of the last 64 to 128 service times: a high quantile that one outlier sets at once.
#[derive(Clone, Debug)]
pub struct ServiceTimes {
    now: u64,
    before: u64,
    count: u32,
}

impl Default for ServiceTimes {
    /// Nothing is known, so nothing is fetched ahead.
    fn default() -> Self {
        Self { now: u64::MAX, before: u64::MAX, count: 0 }
    }
}

impl ServiceTimes {
    /// Takes in one completed request.
    #[inline]
    pub fn add(&mut self, ns: u64) {
        self.count += 1;
        if self.count == HALF {
            self.before = self.now;
            self.now = ns;
            self.count = 0;
        } else if ns > self.now {
            self.now = ns;
        }
    }

    /// Frames that may be in one slot's care, the running one included: 1 means "no fetching ahead".
    #[inline]
    pub fn depth(&self) -> u64 {
        (WAIT_NS / self.now.max(self.before).max(1)).clamp(1, DEPTH_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_grows_only_after_a_whole_window_of_short_requests() {
        let mut t = ServiceTimes::default();
        assert_eq!(t.depth(), 1);
        for _ in 0..HALF {
            t.add(2_000);
        }
        assert_eq!(t.depth(), 1, "the half that was unknown still counts");
        for _ in 0..HALF {
            t.add(2_000);
        }
        assert_eq!(t.depth(), 37);
    }

    #[test]
    fn one_outlier_resets_depth_for_at_least_half_a_window() {
        let mut t = ServiceTimes::default();
        for _ in 0..4 * HALF {
            t.add(2_000);
        }
        t.add(20_000_000);
        for _ in 0..HALF {
            assert_eq!(t.depth(), 1);
            t.add(2_000);
        }
        for _ in 0..2 * HALF {
            t.add(2_000);
        }
        assert!(t.depth() > 1);
    }
}
