//! Refreshes in progress: one task per guest, a bounded number at a time, and when to try a guest again
//! whose refresh failed.

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::{Id, JoinSet},
    time::Instant,
};

/// Refreshes at a time; each may hold a component of 32 MiB.
const CONCURRENT: usize = 8;

/// Pause after the first failure; it doubles with each further one …
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2 * 60);

/// Refreshes of guests. Dropping the value cancels those in progress.
pub(crate) struct Refreshes<F> {
    /// Starts the refresh of a guest, which returns whether it succeeded.
    refresh: F,
    tasks: JoinSet<bool>,
    by_task: HashMap<Id, String>,
    /// By guest. `true`: it changed again meanwhile.
    running: HashMap<String, bool>,
    failing: HashMap<String, Failing>,
    permits: Arc<Semaphore>,
}

struct Failing {
    pause: Duration,
    due: Instant,
}

impl<F, R> Refreshes<F>
where
    F: Fn(String) -> R,
    R: Future<Output = bool> + Send + 'static,
{
    pub(crate) fn new(refresh: F) -> Self {
        Self {
            refresh,
            tasks: JoinSet::new(),
            by_task: HashMap::new(),
            running: HashMap::new(),
            failing: HashMap::new(),
            permits: Arc::new(Semaphore::new(CONCURRENT)),
        }
    }

    /// Refreshes a guest that changed; once more afterwards if it is being refreshed.
    pub(crate) fn begin(&mut self, name: String) {
        if let Some(again) = self.running.get_mut(&name) {
            *again = true;
            return;
        }
        let (refresh, permits) = ((self.refresh)(name.clone()), Arc::clone(&self.permits));
        let task = self.tasks.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            refresh.await
        });
        self.by_task.insert(task.id(), name.clone());
        self.running.insert(name, false);
    }

    /// Refreshes a guest unless that is going on, or failed a short while ago.
    pub(crate) fn begin_if_due(&mut self, name: String) {
        let is_due = self.failing.get(&name).is_none_or(|failing| failing.due <= Instant::now());
        if is_due && !self.running.contains_key(&name) {
            self.begin(name);
        }
    }

    /// Waits until a refresh is finished. Canceling the wait loses nothing.
    pub(crate) async fn next_finished(&mut self) {
        let Some(finished) = self.tasks.join_next_with_id().await else { return pending().await };
        let (id, succeeded) = match finished {
            Ok(finished) => finished,
            Err(error) => {
                tracing::error!(%error, "refreshing a guest failed in an unforeseen way");
                (error.id(), false)
            }
        };
        let Some(name) = self.by_task.remove(&id) else { return };
        if succeeded {
            self.failing.remove(&name);
        } else {
            let pause = self.failing.get(&name).map_or(FIRST_PAUSE, |failing| failing.pause * 2);
            let pause = pause.min(LONGEST_PAUSE);
            self.failing.insert(name.clone(), Failing { pause, due: Instant::now() + pause });
        }
        if self.running.remove(&name) == Some(true) {
            self.begin(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_slow_guest_delays_no_other() {
        let blocked = Arc::new(Notify::new());
        let release = Arc::clone(&blocked);
        let mut refreshes = Refreshes::new(|name| {
            let blocked = Arc::clone(&blocked);
            async move {
                if name == "slow" {
                    blocked.notified().await;
                }
                true
            }
        });
        refreshes.begin("slow".to_owned());
        refreshes.begin("quick".to_owned());
        refreshes.next_finished().await;
        assert_eq!(refreshes.running.keys().collect::<Vec<_>>(), ["slow"]);
        release.notify_one();
        refreshes.next_finished().await;
        assert!(refreshes.running.is_empty());
    }

    #[tokio::test]
    async fn a_guest_that_changes_during_its_refresh_is_refreshed_again() {
        let runs = Arc::new(Mutex::new(0));
        let mut refreshes = Refreshes::new(|_| {
            let runs = Arc::clone(&runs);
            async move {
                *runs.lock().unwrap() += 1;
                true
            }
        });
        refreshes.begin("guest".to_owned());
        refreshes.begin("guest".to_owned());
        refreshes.begin("guest".to_owned());
        refreshes.next_finished().await;
        refreshes.next_finished().await;
        assert_eq!(*runs.lock().unwrap(), 2);
        assert!(refreshes.running.is_empty());
    }

    #[tokio::test]
    async fn pauses_between_failures_double_up_to_two_minutes_and_a_change_ends_them() {
        let mut refreshes = Refreshes::new(|name| async move {
            assert_ne!(name, "panics", "on purpose");
            false
        });
        for name in ["fails", "panics"] {
            refreshes.begin(name.to_owned());
            for pause in [5, 10, 20, 40, 80, 120, 120] {
                refreshes.next_finished().await;
                assert_eq!(refreshes.failing[name].pause.as_secs(), pause);
                refreshes.begin_if_due(name.to_owned());
                assert!(refreshes.running.is_empty(), "{name} waits");
                refreshes.failing.get_mut(name).unwrap().due = Instant::now();
                refreshes.begin_if_due(name.to_owned());
                assert!(refreshes.running.contains_key(name));
            }
            refreshes.next_finished().await;
            refreshes.begin(name.to_owned());
            assert!(refreshes.running.contains_key(name), "a change is followed at once");
            refreshes.next_finished().await;
        }
    }
}
