//! The clock of events: no two events of this process have the same time, and a later event has a later
//! one. It runs ahead of the machine's clock only where that stands still or goes back.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};

/// This process's clock.
static CLOCK: Clock = Clock(AtomicI64::new(i64::MIN));

/// A time later than that of any event before.
#[must_use]
pub fn next_event_time() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(take(1) + 1).unwrap_or_else(crate::now)
}

/// The same, and later than this time, which may be another server's.
#[must_use]
pub fn time_after(at: DateTime<Utc>) -> DateTime<Utc> {
    advance(at.timestamp_micros());
    next_event_time()
}

/// Reserves this many times, one microsecond apart. Returns the time before the first.
pub(crate) fn take(count: i64) -> i64 {
    CLOCK.take(crate::now().timestamp_micros(), count)
}

/// Marks times up to this one as taken.
pub(crate) fn advance(micros: i64) {
    CLOCK.0.fetch_max(micros, Ordering::Relaxed);
}

/// Microseconds since 1970 of the last time that was taken.
#[derive(Debug)]
struct Clock(AtomicI64);

impl Clock {
    fn take(&self, now: i64, count: i64) -> i64 {
        let before = |last: i64| last.max(now - 1);
        let taken = |last: i64| Some(before(last).saturating_add(count));
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        last.map_or(now, before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_strictly_grow_when_the_system_clock_stands_still_or_goes_back() {
        let clock = Clock(AtomicI64::new(i64::MIN));
        let times: Vec<i64> = [5, 5, 4, 7, 7].into_iter().map(|now| clock.take(now, 1) + 1).collect();
        assert_eq!(times, [5, 6, 7, 8, 9]);
        assert_eq!((clock.take(8, 3), clock.take(8, 1), clock.take(30, 1)), (9, 12, 29));
    }
}
