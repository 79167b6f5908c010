//! What messaging does in the background.

use std::time::Duration;

use store::activity::SAME_MESSAGE;
use tasks::{BackgroundTask, Progress};
use tokio::time::{Instant, sleep};

use crate::{
    Messaging,
    limits::{ActivityRetention, SWEEP_INTERVAL},
};

impl Messaging {
    /// Background tasks of messaging, to be started by the server.
    #[must_use]
    pub fn background_tasks(&self, retention: ActivityRetention) -> Vec<BackgroundTask> {
        let messaging = self.clone();
        let queue = BackgroundTask::new("a2a-queue", SWEEP_INTERVAL, move |progress| {
            messaging.clone().run_queue(progress)
        });
        let messaging = self.clone();
        let lease = BackgroundTask::new("a2a-lease", self.limits.server_lease, move |progress| {
            messaging.clone().renew_lease(progress)
        });
        vec![lease, queue, self.activity_retention(retention)]
    }

    fn activity_retention(&self, retention: ActivityRetention) -> BackgroundTask {
        let ActivityRetention { age, queue_age, interval } = retention;
        let messaging = self.clone();
        BackgroundTask::new("activity-retention", interval, move |progress| {
            let messaging = messaging.clone();
            async move {
                loop {
                    // Waits first: a start has more urgent things to write.
                    progress.report();
                    sleep(interval).await;
                    messaging.delete_old_activity(age).await;
                    messaging.delete_finished(queue_age).await;
                    messaging.forget_messages().await;
                }
            }
        })
    }

    /// Deletes what is kept for messages that are sent twice, and was kept long enough.
    async fn forget_messages(&self) {
        if let Err(error) = self.fleet.store().forget_messages_before(store::now() - SAME_MESSAGE).await {
            tracing::warn!(%error, "old answers to messages could not be deleted");
        }
    }

    /// Deletes messages of the queue that were finished longer ago than this.
    async fn delete_finished(&self, age: chrono::Duration) {
        match self.fleet.store().delete_finished_queued(store::time_ago(age)).await {
            Ok(0) => {}
            Ok(messages) => tracing::info!(messages, "finished messages of the queue deleted"),
            Err(error) => tracing::warn!(%error, "finished messages of the queue could not be deleted"),
        }
    }

    /// Sweeps the queue at once and in every interval; in between, follows heartbeats and back-off.
    ///
    /// What other servers were delivering is taken over once they are known to have ended.
    async fn run_queue(self, progress: Progress) {
        loop {
            if let Err(error) = self.sweep_queue(self.knows_ended_servers()).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the message queue could not be swept");
            }
            progress.report();
            let next_sweep =
                Instant::now() + SWEEP_INTERVAL.min(self.limits.server_lease.max(Duration::from_secs(1)));
            loop {
                let found = self.pending.next(next_sweep).await;
                if found.is_empty() {
                    break;
                }
                found.into_iter().for_each(|(id, trigger)| self.drain(id, trigger));
            }
        }
    }
}
