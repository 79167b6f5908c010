//! Background loops, supervised: work that goes on as long as the server does.
//!
//! A loop that panics is started again, after a pause that grows while it keeps panicking; one that
//! returns had nothing more to do. Every loop beats when it has come around, and `GET
//! /admin/liveness` shows the last beat, so an operator sees the loop that hangs, too. A beat is
//! the loop's own doing: nothing beats for it.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use futures::FutureExt;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long a loop that panicked pauses, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A loop that ran for this long is healthy: its next pause is a first one again.
const HEALTHY: Duration = Duration::from_secs(5 * 60);
/// A beat that is older than so many intervals is stale.
const STALE_INTERVALS: u32 = 2;

/// All loops of one server. Cheap to clone: all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Loops(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    tasks: Mutex<JoinSet<()>>,
    records: Mutex<BTreeMap<&'static str, Arc<Record>>>,
}

/// What is known of one loop.
#[derive(Debug)]
struct Record {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Tick>,
    restarts: u64,
}

#[derive(Debug, Clone, Copy)]
struct Tick {
    at: Instant,
    time: DateTime<Utc>,
}

/// A loop's means to say that it has come around. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Beat(Arc<Record>);

impl Beat {
    /// Says: I have come around.
    pub fn tick(&self) {
        self.0.state().last = Some(Tick { at: Instant::now(), time: Utc::now() });
    }
}

impl Record {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Nothing that these mutexes guard can be left half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What operators are shown of a loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Liveness {
    /// Time of the last beat: RFC 3339, UTC, microseconds.
    pub last_tick_at: String,
    /// Whole seconds since then.
    pub seconds_ago: u64,
    /// Whether that is longer than two of the loop's intervals.
    pub stale: bool,
    /// How often it was started again after a panic.
    pub restarts: u64,
}

impl Loops {
    /// Starts a loop that should beat at least once in each `interval`. `start` is called again
    /// after a panic.
    pub fn spawn<F>(
        &self,
        name: &'static str,
        interval: Duration,
        start: impl FnMut(Beat) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let record = Arc::new(Record { interval, state: Mutex::default() });
        lock(&self.0.records).insert(name, Arc::clone(&record));
        lock(&self.0.tasks).spawn(supervise(name, record, start));
    }

    /// Starts a loop that does `work` at once and then in every `interval`.
    pub fn every<F>(
        &self,
        name: &'static str,
        interval: Duration,
        work: impl FnMut() -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn(name, interval, move |beat| {
            let mut work = work.clone();
            async move {
                let mut turns = tokio::time::interval(interval);
                turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    turns.tick().await;
                    work().await;
                    beat.tick();
                }
            }
        });
    }

    /// The loops that have beaten, by name.
    #[must_use]
    pub fn liveness(&self) -> BTreeMap<&'static str, Liveness> {
        let records = lock(&self.0.records);
        records.iter().filter_map(|(name, record)| Some((*name, record.liveness()?))).collect()
    }

    /// Stops all loops where they wait and returns when they are gone.
    pub async fn shutdown(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.0.tasks));
        tasks.shutdown().await;
    }
}

impl Record {
    fn liveness(&self) -> Option<Liveness> {
        let state = self.state();
        let last = state.last?;
        let age = last.at.elapsed();
        Some(Liveness {
            last_tick_at: last.time.to_rfc3339_opts(SecondsFormat::Micros, true),
            seconds_ago: age.as_secs(),
            stale: age > self.interval * STALE_INTERVALS,
            restarts: state.restarts,
        })
    }
}

/// Runs a loop until it returns.
async fn supervise<F: Future<Output = ()>>(
    name: &'static str,
    record: Arc<Record>,
    mut start: impl FnMut(Beat) -> F,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        // A closure that panics has left what it captured as it was between two of its lines; the
        // loops of this server share nothing but what is whole at any time.
        let beat = Beat(Arc::clone(&record));
        let run = AssertUnwindSafe(async { start(beat).await }).catch_unwind();
        let Err(panic) = run.await else {
            tracing::debug!(name, "the loop is done");
            return;
        };
        if started.elapsed() >= HEALTHY {
            pause = FIRST_PAUSE;
        }
        let (panic, restart_in) = (message(&*panic), pause.as_secs());
        tracing::error!(name, panic, restart_in, "a background loop panicked and will be started again");
        sleep(pause).await;
        record.state().restarts += 1;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::mpsc;
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The paused clock moves on by itself when everybody waits, so these are exact.
    async fn starts(runs: usize, healthy_at: Option<usize>) -> Vec<u64> {
        let begun = Instant::now();
        let (sender, mut started) = mpsc::unbounded_channel();
        let loops = Loops::default();
        let mut run = 0;
        loops.spawn("fails", SECOND, move |_| {
            let long = healthy_at == Some(run);
            run += 1;
            let sender = sender.clone();
            async move {
                sender.send(begun.elapsed().as_secs()).expect("heard");
                if long {
                    sleep(HEALTHY).await;
                }
                panic!("on purpose");
            }
        });
        let mut at = Vec::new();
        while at.len() < runs {
            at.push(started.recv().await.expect("it goes on"));
        }
        loops.shutdown().await;
        at
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_thirty_seconds() {
        assert_eq!(starts(8, None).await, [0, 1, 3, 7, 15, 31, 61, 91]);
    }

    #[tokio::test(start_paused = true)]
    async fn five_healthy_minutes_are_forgiven() {
        // The fourth run (from 7 on) is healthy until 307, and the pause after it a first one.
        assert_eq!(starts(6, Some(3)).await, [0, 1, 3, 7, 308, 310]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_panics_is_caught_too() {
        let (sender, mut started) = mpsc::unbounded_channel();
        let loops = Loops::default();
        loops.spawn("fails", SECOND, move |_| {
            sender.send(()).expect("heard");
            if true {
                panic!("{}", "before it began");
            }
            pending()
        });
        started.recv().await.expect("once");
        started.recv().await.expect("twice");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_returns_is_done() {
        let (sender, mut started) = mpsc::unbounded_channel();
        let loops = Loops::default();
        loops.spawn("once", SECOND, move |beat| {
            let sender = sender.clone();
            async move {
                beat.tick();
                sender.send(()).expect("heard");
            }
        });
        started.recv().await.expect("once");
        // All senders are gone: the supervisor has dropped what it could start again.
        assert_eq!(started.recv().await, None);
        assert_eq!(loops.liveness()["once"].restarts, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_appears_with_its_first_beat_and_grows_stale() {
        let (sender, mut began) = mpsc::unbounded_channel();
        let loops = Loops::default();
        loops.spawn("late", 10 * SECOND, move |beat| {
            let sender = sender.clone();
            async move {
                sender.send(()).expect("heard");
                sleep(SECOND).await;
                beat.tick();
                sender.send(()).expect("heard");
                pending::<()>().await;
            }
        });
        began.recv().await.expect("begun");
        assert!(loops.liveness().is_empty());
        began.recv().await.expect("beaten");
        for (seconds_ago, stale) in [(0, false), (4, false), (20, false), (21, true)] {
            let age = loops.liveness()["late"].seconds_ago;
            advance(SECOND * (seconds_ago - u32::try_from(age).expect("small"))).await;
            let seen = loops.liveness()["late"].clone();
            assert_eq!((seen.seconds_ago, seen.stale), (u64::from(seconds_ago), stale));
            assert_eq!(seen.restarts, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beats_outlive_a_panic_and_restarts_are_counted() {
        let (sender, mut began) = mpsc::unbounded_channel();
        let loops = Loops::default();
        let mut first = true;
        loops.spawn("falls", SECOND, move |beat| {
            let fails = std::mem::take(&mut first);
            let sender = sender.clone();
            async move {
                if fails {
                    beat.tick();
                    panic!("on purpose");
                }
                sender.send(()).expect("heard");
                pending::<()>().await;
            }
        });
        began.recv().await.expect("begun again");
        let seen = loops.liveness()["falls"].clone();
        assert_eq!((seen.restarts, seen.seconds_ago), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn regular_work_begins_at_once_and_beats_when_done() {
        let begun = Instant::now();
        let (sender, mut done) = mpsc::unbounded_channel();
        let loops = Loops::default();
        loops.every("works", 10 * SECOND, move || {
            let sender = sender.clone();
            async move {
                sleep(SECOND).await;
                sender.send(begun.elapsed().as_secs()).expect("heard");
            }
        });
        let mut at = Vec::new();
        while at.len() < 3 {
            at.push(done.recv().await.expect("it goes on"));
        }
        assert_eq!(at, [1, 11, 21]);
        assert_eq!(loops.liveness()["works"].seconds_ago, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_returns_when_the_loops_are_gone() {
        let (sender, mut held) = mpsc::unbounded_channel::<()>();
        let loops = Loops::default();
        loops.spawn("waits", SECOND, move |_| {
            let sender = sender.clone();
            async move {
                pending::<()>().await;
                drop(sender);
            }
        });
        loops.shutdown().await;
        assert_eq!(held.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn times_are_utc_with_microseconds() {
        let time = DateTime::from_timestamp(1_700_000_000, 1_999).expect("a time");
        let state = State { last: Some(Tick { at: Instant::now(), time }), restarts: 0 };
        let record = Record { interval: SECOND, state: Mutex::new(state) };
        let seen = record.liveness().expect("it has beaten");
        assert_eq!(seen.last_tick_at, "2023-11-14T22:13:20.000001Z");
    }
}
