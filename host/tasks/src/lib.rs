//! Supervised background tasks: work that goes on as long as the server does.
//!
//! Each crate exports its work as a list of [`BackgroundTask`]s (name, interval, function), and the
//! server starts them with [`BackgroundTasks::spawn`]. A task that panics is started again, after a
//! pause that doubles while it keeps panicking; a task that returns is finished. Each task reports
//! its own [`Progress`], and `GET /admin/liveness` shows when it last did, so that an operator also
//! sees a task that hangs.

#![forbid(unsafe_code)]

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, sleep};

/// Pause before the first restart of a task that panicked, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A task that ran for this long is healthy: its next pause is a first one again.
const HEALTHY_AFTER: Duration = Duration::from_secs(5 * 60);
/// Progress that is older than this many intervals is stale.
const STALE_INTERVALS: u32 = 2;
/// Pause of [`retry_forever`] between two attempts.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// One piece of background work, ready to be started by [`BackgroundTasks::spawn`].
pub struct BackgroundTask {
    name: &'static str,
    interval: Duration,
    start: Box<dyn FnMut(Progress) -> BoxFuture<'static, ()> + Send>,
}

impl BackgroundTask {
    /// A task that should report progress at least once in each `interval`. `start` is called
    /// again after a panic.
    pub fn new<F>(
        name: &'static str,
        interval: Duration,
        mut start: impl FnMut(Progress) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { name, interval, start: Box::new(move |progress| start(progress).boxed()) }
    }

    /// A task that does `work` at once and then in every `interval`.
    pub fn interval<F>(
        name: &'static str,
        interval: Duration,
        work: impl FnMut() -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::new(name, interval, move |progress| {
            let mut work = work.clone();
            async move {
                let mut ticks = tokio::time::interval(interval);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    work().await;
                    progress.report();
                }
            }
        })
    }

    /// Name under which its liveness is shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for BackgroundTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, interval, start: _ } = self;
        f.debug_struct("BackgroundTask")
            .field("name", name)
            .field("interval", interval)
            .finish_non_exhaustive()
    }
}

/// Calls `work` again each time it returns; it only does so with an error, which is logged.
pub async fn retry_forever<E, F>(name: &str, mut work: impl FnMut() -> F)
where
    E: Error + 'static,
    F: Future<Output = Result<(), E>>,
{
    loop {
        if let Err(error) = work().await {
            let error = &error as &dyn Error;
            tracing::warn!(name, error, "a background task failed; trying again");
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// The background tasks of one server. Cheap to clone: all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct BackgroundTasks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    tasks: Mutex<JoinSet<()>>,
    records: Mutex<BTreeMap<&'static str, Arc<Record>>>,
}

#[derive(Debug)]
struct Record {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Report>,
    problem: Option<String>,
    restarts: u64,
}

#[derive(Debug, Clone, Copy)]
struct Report {
    at: Instant,
    time: DateTime<Utc>,
}

/// By this a task shows that it has not stopped. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Record>);

impl Progress {
    /// Notes that the task got around to its work just now.
    pub fn report(&self) {
        self.note(None);
    }

    /// The same, of a task that can't do its work: for operators, in words and without secrets.
    pub fn report_problem(&self, problem: &str) {
        self.note(Some(problem.to_owned()));
    }

    fn note(&self, problem: Option<String>) {
        let mut state = self.0.state();
        state.last = Some(Report { at: Instant::now(), time: Utc::now() });
        state.problem = problem;
    }
}

/// Liveness of a task, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Liveness {
    /// Time of the last report: RFC 3339, UTC, microseconds.
    pub last_tick_at: String,
    /// Whole seconds since then.
    pub seconds_ago: u64,
    /// Whether that is longer than two of the task's intervals.
    pub stale: bool,
    /// How often it was started again after a panic.
    pub restarts: u64,
    /// Why it can't do its work, if it can't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl BackgroundTasks {
    /// Starts a task and supervises it.
    pub fn spawn(&self, task: BackgroundTask) {
        let BackgroundTask { name, interval, start } = task;
        let record = Arc::new(Record { interval, state: Mutex::default() });
        lock(&self.0.records).insert(name, Arc::clone(&record));
        lock(&self.0.tasks).spawn(supervise(name, record, start));
    }

    /// Starts each task of a list.
    pub fn spawn_all(&self, tasks: impl IntoIterator<Item = BackgroundTask>) {
        tasks.into_iter().for_each(|task| self.spawn(task));
    }

    /// Liveness of the tasks that have reported progress, by name.
    #[must_use]
    pub fn liveness(&self) -> BTreeMap<&'static str, Liveness> {
        let records = lock(&self.0.records);
        records.iter().filter_map(|(name, record)| Some((*name, record.liveness()?))).collect()
    }

    /// Cancels every task at its next await point and returns when all have ended.
    pub async fn shutdown(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.0.tasks));
        tasks.shutdown().await;
    }
}

impl Record {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn liveness(&self) -> Option<Liveness> {
        let state = self.state();
        let last = state.last?;
        let age = last.at.elapsed();
        Some(Liveness {
            last_tick_at: last.time.to_rfc3339_opts(SecondsFormat::Micros, true),
            seconds_ago: age.as_secs(),
            stale: age > self.interval * STALE_INTERVALS,
            restarts: state.restarts,
            problem: state.problem.clone(),
        })
    }
}

/// Poison is ignored: what these mutexes guard is whole after each statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a task until it returns.
async fn supervise(
    name: &'static str,
    record: Arc<Record>,
    mut start: impl FnMut(Progress) -> BoxFuture<'static, ()>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        // Unwind safe as far as it matters: the tasks of a server share only state that is whole at
        // any time.
        let progress = Progress(Arc::clone(&record));
        let run = AssertUnwindSafe(async { start(progress).await }).catch_unwind();
        let Err(panic) = run.await else {
            tracing::debug!(name, "the background task is finished");
            return;
        };
        if started.elapsed() >= HEALTHY_AFTER {
            pause = FIRST_PAUSE;
        }
        let (panic, restart_in) = (message(&*panic), pause.as_secs());
        tracing::error!(name, panic, restart_in, "a background task panicked and will be started again");
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

    /// Seconds at which a task that panics is started. The paused clock advances when all tasks
    /// wait, so these are exact.
    async fn starts(runs: usize, healthy_at: Option<usize>) -> Vec<u64> {
        let begun = Instant::now();
        let (sender, mut started) = mpsc::unbounded_channel();
        let tasks = BackgroundTasks::default();
        let mut run = 0;
        tasks.spawn(BackgroundTask::new("fails", SECOND, move |_| {
            let long = healthy_at == Some(run);
            run += 1;
            let sender = sender.clone();
            async move {
                sender.send(begun.elapsed().as_secs()).expect("the test receives");
                if long {
                    sleep(HEALTHY_AFTER).await;
                }
                panic!("on purpose");
            }
        }));
        let mut at = Vec::new();
        while at.len() < runs {
            at.push(started.recv().await.expect("it goes on"));
        }
        tasks.shutdown().await;
        at
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_thirty_seconds() {
        assert_eq!(starts(8, None).await, [0, 1, 3, 7, 15, 31, 61, 91]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_is_reset_after_five_healthy_minutes() {
        // The fourth run (from 7 on) is healthy until 307, and the pause after it a first one.
        assert_eq!(starts(6, Some(3)).await, [0, 1, 3, 7, 308, 310]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_before_the_first_await_is_caught() {
        let (sender, mut started) = mpsc::unbounded_channel();
        let tasks = BackgroundTasks::default();
        tasks.spawn(BackgroundTask::new("fails", SECOND, move |_| {
            sender.send(()).expect("the test receives");
            if true {
                panic!("{}", "before it began");
            }
            pending()
        }));
        started.recv().await.expect("once");
        started.recv().await.expect("twice");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_returns_is_not_restarted() {
        let (sender, mut started) = mpsc::unbounded_channel();
        let tasks = BackgroundTasks::default();
        tasks.spawn(BackgroundTask::new("once", SECOND, move |progress| {
            let sender = sender.clone();
            async move {
                progress.report();
                sender.send(()).expect("the test receives");
            }
        }));
        started.recv().await.expect("once");
        // All senders are dropped, and with them the function that could restart the task.
        assert_eq!(started.recv().await, None);
        assert_eq!(tasks.liveness()["once"].restarts, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_listed_from_its_first_report_and_becomes_stale() {
        let (sender, mut began) = mpsc::unbounded_channel();
        let tasks = BackgroundTasks::default();
        tasks.spawn(BackgroundTask::new("late", 10 * SECOND, move |progress| {
            let sender = sender.clone();
            async move {
                sender.send(()).expect("the test receives");
                sleep(SECOND).await;
                progress.report();
                sender.send(()).expect("the test receives");
                pending::<()>().await;
            }
        }));
        began.recv().await.expect("started");
        assert!(tasks.liveness().is_empty());
        began.recv().await.expect("reported");
        for (seconds_ago, stale) in [(0, false), (4, false), (20, false), (21, true)] {
            let age = tasks.liveness()["late"].seconds_ago;
            advance(SECOND * (seconds_ago - u32::try_from(age).expect("small"))).await;
            let seen = tasks.liveness()["late"].clone();
            assert_eq!((seen.seconds_ago, seen.stale), (u64::from(seconds_ago), stale));
            assert_eq!(seen.restarts, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_report_survives_a_panic_and_restarts_are_counted() {
        let (sender, mut began) = mpsc::unbounded_channel();
        let tasks = BackgroundTasks::default();
        let mut first = true;
        tasks.spawn(BackgroundTask::new("falls", SECOND, move |progress| {
            let fails = std::mem::take(&mut first);
            let sender = sender.clone();
            async move {
                if fails {
                    progress.report();
                    panic!("on purpose");
                }
                sender.send(()).expect("the test receives");
                pending::<()>().await;
            }
        }));
        began.recv().await.expect("started again");
        let seen = tasks.liveness()["falls"].clone();
        assert_eq!((seen.restarts, seen.seconds_ago), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn interval_work_starts_at_once_and_reports_when_done() {
        let begun = Instant::now();
        let (sender, mut done) = mpsc::unbounded_channel();
        let tasks = BackgroundTasks::default();
        tasks.spawn(BackgroundTask::interval("works", 10 * SECOND, move || {
            let sender = sender.clone();
            async move {
                sleep(SECOND).await;
                sender.send(begun.elapsed().as_secs()).expect("the test receives");
            }
        }));
        let mut at = Vec::new();
        while at.len() < 3 {
            at.push(done.recv().await.expect("it goes on"));
        }
        assert_eq!(at, [1, 11, 21]);
        assert_eq!(tasks.liveness()["works"].seconds_ago, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_returns_when_all_tasks_have_ended() {
        let (sender, mut held) = mpsc::unbounded_channel::<()>();
        let tasks = BackgroundTasks::default();
        tasks.spawn(BackgroundTask::new("waits", SECOND, move |_| {
            let sender = sender.clone();
            async move {
                pending::<()>().await;
                drop(sender);
            }
        }));
        tasks.shutdown().await;
        assert_eq!(held.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn times_are_utc_with_microseconds() {
        let time = DateTime::from_timestamp(1_700_000_000, 1_999).expect("a time");
        let state = State { last: Some(Report { at: Instant::now(), time }), ..State::default() };
        let record = Record { interval: SECOND, state: Mutex::new(state) };
        let seen = record.liveness().expect("it has reported");
        assert_eq!(seen.last_tick_at, "2023-11-14T22:13:20.000001Z");
    }
}
