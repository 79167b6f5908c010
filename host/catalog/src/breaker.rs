//! When a release has failed often enough to be taken out of service.

use std::sync::atomic::{AtomicU32, Ordering};

/// Failures in a row that trip the breaker. Few, because each may have cost its caller a deadline;
/// more than one, because one bad input must not disable a guest for all callers.
pub(crate) const FAILURES: u32 = 5;

/// Counts failures of one release in a row.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    in_a_row: AtomicU32,
}

impl Breaker {
    pub(crate) fn succeeded(&self) {
        // Read first: on the hot path the counter is 0 and its cache line stays shared.
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a failure. True exactly once: for the one that trips.
    pub(crate) fn failed(&self) -> bool {
        self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 == FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_trip_and_only_once() {
        let breaker = Breaker::default();
        for _ in 1..FAILURES {
            assert!(!breaker.failed());
        }
        breaker.succeeded();
        for _ in 1..FAILURES {
            assert!(!breaker.failed());
        }
        assert!(breaker.failed());
        assert!(!breaker.failed());
    }
}
