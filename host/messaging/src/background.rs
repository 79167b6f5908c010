//! What messaging does in the background.

use tasks::{BackgroundTask, Progress};
use tokio::time::{Instant, sleep_until};

use crate::{deliver::Messaging, limits::SWEEP_INTERVAL};

impl Messaging {
    /// Background tasks of messaging, to be started by the server.
    #[must_use]
    pub fn background_tasks(&self) -> Vec<BackgroundTask> {
        let messaging = self.clone();
        // Only once: after a panic of the task, messages that are under way still are.
        let mut first = true;
        vec![BackgroundTask::new("a2a-queue", SWEEP_INTERVAL, move |progress| {
            let starting = std::mem::take(&mut first);
            messaging.clone().run_queue(starting, progress)
        })]
    }

    /// Sweeps the queue at once and in every interval; in between, follows heartbeats.
    async fn run_queue(self, mut starting: bool, progress: Progress) {
        loop {
            match self.sweep_queue(starting).await {
                Ok(()) => starting = false,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the message queue could not be swept");
                }
            }
            progress.report();
            let next_sweep = Instant::now() + SWEEP_INTERVAL;
            loop {
                tokio::select! {
                    () = sleep_until(next_sweep) => break,
                    reported = self.pending.reported() => reported.into_iter().for_each(|id| self.drain(id)),
                }
            }
        }
    }
}
