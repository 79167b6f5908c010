//! Times of workspaces by a clock that no one sets: how long something lasts is measured by the monotonic
//! clock of this server, whatever the clocks say that wrote the rows.
//!
//! A time in a row is only compared with another of the same row, by the same writer. When a row arrives,
//! that gives how long ago something was then, and from there on this server counts by itself. After a start
//! there is no such moment, so ages are taken from the machine's clock, and what lies ahead of it is now.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use store::{presence::PresenceRow, workspaces::WorkspaceRow};

/// How old a presence of another server may be when it arrives, at most: presence is stored within 30 s.
const PRESENCE_DELAY: TimeDelta = TimeDelta::seconds(45);

/// The longest wait that a row asks for.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// Longer ones are the work of a clock that was set.
const LONGEST_WAIT: TimeDelta = TimeDelta::seconds(LONGEST_BACKOFF.as_secs().cast_signed());

/// The time when this process began, plus the time that passed since. It never jumps, and is of use only for
/// comparison with itself: the machine's clock may say something else by now.
#[must_use]
pub fn steady_now() -> DateTime<Utc> {
    static BEGAN: OnceLock<(DateTime<Utc>, Instant)> = OnceLock::new();
    let (at, instant) = BEGAN.get_or_init(|| (store::now(), Instant::now()));
    let passed = TimeDelta::from_std(instant.elapsed()).unwrap_or(TimeDelta::MAX);
    at.checked_add_signed(passed).unwrap_or(*at)
}

/// Times of a workspace by [`steady_now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTimes {
    status_since: DateTime<Utc>,
    attempt_at: Option<DateTime<Utc>>,
    retry_at: Option<DateTime<Utc>>,
    /// Last call of the agent.
    pub last_seen: Option<DateTime<Utc>>,
}

impl LocalTimes {
    /// Of a row that is read, by the clock of the machine: at a start, or one that no index has.
    #[must_use]
    pub fn of_stored(row: &WorkspaceRow, presence: Option<&PresenceRow>) -> Self {
        Self::by_clock(row, presence, store::now(), steady_now())
    }

    fn by_clock(
        row: &WorkspaceRow,
        presence: Option<&PresenceRow>,
        clock: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Self {
        let past = |at: DateTime<Utc>| now + (at - clock).min(TimeDelta::zero());
        let retry = |at: DateTime<Utc>| Some(at - clock).filter(|wait| *wait <= LONGEST_WAIT);
        Self {
            status_since: past(row.status_since),
            attempt_at: row.attempt_at.map(past),
            retry_at: row.retry_at.map(|at| now + retry(at).unwrap_or_default()),
            last_seen: presence.and_then(|presence| presence.last_seen_at).map(past),
        }
    }

    /// Of a row that was written just now, here or on another server, in place of `known`.
    pub(crate) fn of_written(row: &WorkspaceRow, known: Option<(&WorkspaceRow, Self)>) -> Self {
        Self::by_row(row, known, steady_now())
    }

    fn by_row(row: &WorkspaceRow, known: Option<(&WorkspaceRow, Self)>, now: DateTime<Utc>) -> Self {
        let new = |at: DateTime<Utc>| now + (at - row.updated_at).min(LONGEST_WAIT);
        let Some((before, times)) = known else {
            return Self {
                status_since: new(row.status_since),
                attempt_at: row.attempt_at.map(new),
                retry_at: row.retry_at.map(new),
                last_seen: None,
            };
        };
        let same_or_new = |at, before, known| if at == before { known } else { Option::map(at, new) };
        Self {
            status_since: if row.status_since == before.status_since {
                times.status_since
            } else {
                new(row.status_since)
            },
            attempt_at: same_or_new(row.attempt_at, before.attempt_at, times.attempt_at),
            retry_at: same_or_new(row.retry_at, before.retry_at, times.retry_at),
            last_seen: times.last_seen,
        }
    }

    /// Notes a call that an agent made just now, or a moment ago.
    pub(crate) fn saw(&mut self, at: Option<DateTime<Utc>>) {
        let age = at.map_or(TimeDelta::zero(), |at| (store::now() - at).max(TimeDelta::zero()));
        self.last_seen = Some(steady_now() - age);
    }

    /// Notes a call that another server tells of.
    pub(crate) fn heard(&mut self, at: DateTime<Utc>) {
        self.heard_by_clock(at, store::now(), steady_now());
    }

    fn heard_by_clock(&mut self, at: DateTime<Utc>, clock: DateTime<Utc>, now: DateTime<Utc>) {
        let age = (clock - at).clamp(TimeDelta::zero(), PRESENCE_DELAY);
        self.last_seen = self.last_seen.max(Some(now - age));
    }

    /// The row with these times, for comparison with [`steady_now`].
    #[must_use]
    pub fn applied_to(&self, row: &WorkspaceRow) -> WorkspaceRow {
        WorkspaceRow {
            status_since: self.status_since,
            attempt_at: self.attempt_at,
            retry_at: self.retry_at,
            ..row.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: TimeDelta = TimeDelta::hours(1);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    /// A start that began, and a try that is to follow after a back-off of 20 s, by a clock that is off.
    fn row(clock: DateTime<Utc>) -> WorkspaceRow {
        let row = crate::tests::row("one");
        let (attempt_at, retry_at) = (Some(clock), Some(clock + TimeDelta::seconds(20)));
        WorkspaceRow { status_since: clock, attempt_at, retry_at, updated_at: clock, ..row }
    }

    fn expected(since: DateTime<Utc>) -> (DateTime<Utc>, Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        (since, Some(since), Some(since + TimeDelta::seconds(20)))
    }

    fn times(times: LocalTimes) -> (DateTime<Utc>, Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        (times.status_since, times.attempt_at, times.retry_at)
    }

    #[test]
    fn a_row_counts_from_its_arrival_whatever_the_clock_of_its_writer() {
        for clock in [at(0), at(0) - HOUR, at(0) + HOUR, at(0) - HOUR * 24 * 365] {
            assert_eq!(times(LocalTimes::by_row(&row(clock), None, at(0))), expected(at(0)), "{clock}");
        }
    }

    #[test]
    fn a_later_write_changes_only_the_times_that_it_changes() {
        let first = row(at(0));
        let known = LocalTimes::by_row(&first, None, at(0));
        // The clock was set back by an hour, then the row was edited, then its status changed.
        let edited = WorkspaceRow { updated_at: at(10) - HOUR, ..first.clone() };
        let edited_times = LocalTimes::by_row(&edited, Some((&first, known)), at(10));
        assert_eq!(times(edited_times), expected(at(0)));
        let changed = WorkspaceRow {
            status_since: at(30) - HOUR,
            retry_at: None,
            updated_at: at(30) - HOUR,
            ..edited.clone()
        };
        let changed = LocalTimes::by_row(&changed, Some((&edited, edited_times)), at(30));
        assert_eq!(times(changed), (at(30), Some(at(0)), None));
    }

    #[test]
    fn after_a_start_a_time_ahead_of_the_clock_is_now() {
        let stored = |written: i64| LocalTimes::by_clock(&row(at(written)), None, at(0), at(7));
        assert_eq!(times(stored(-60)), expected(at(7 - 60)));
        assert_eq!(times(stored(3_600)), (at(7), Some(at(7)), Some(at(7))));
    }

    #[test]
    fn a_presence_of_a_server_with_another_clock_is_a_recent_one() {
        let mut known = LocalTimes::by_row(&row(at(0)), None, at(0));
        for (said, seen) in [(at(95), 95), (at(100) - HOUR, 95), (at(100) + HOUR, 100)] {
            known.heard_by_clock(said, at(100), at(100));
            assert_eq!(known.last_seen, Some(at(seen)), "{said}");
        }
        let mut silent = LocalTimes::by_row(&row(at(0)), None, at(0));
        silent.heard_by_clock(at(100) - HOUR, at(100), at(100));
        assert_eq!(silent.last_seen, Some(at(55)));
    }
}
