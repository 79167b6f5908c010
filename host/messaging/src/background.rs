//! What messaging does in the background.

use tasks::{BackgroundTask, Progress};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    Messaging,
    limits::{ActivityRetention, SWEEP_INTERVAL},
};

impl Messaging {
    /// Background tasks of messaging, to be started by the server.
    #[must_use]
    pub fn background_tasks(&self, retention: ActivityRetention) -> Vec<BackgroundTask> {
        let messaging = self.clone();
        // Only once: after a panic of the task, messages that are under way still are.
        let mut first = true;
        let queue = BackgroundTask::new("a2a-queue", SWEEP_INTERVAL, move |progress| {
            let starting = std::mem::take(&mut first);
            messaging.clone().run_queue(starting, progress)
        });
        vec![queue, self.activity_retention(retention)]
    }

    fn activity_retention(&self, ActivityRetention { age, interval }: ActivityRetention) -> BackgroundTask {
        let messaging = self.clone();
        BackgroundTask::new("activity-retention", interval, move |progress| {
            let messaging = messaging.clone();
            async move {
                loop {
                    // Waits first: a start has more urgent things to write.
                    progress.report();
                    sleep(interval).await;
                    messaging.delete_old_activity(age).await;
                }
            }
        })
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
