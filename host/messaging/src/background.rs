//! What messaging does in the background.

use std::time::Duration;

use store::activity::SAME_MESSAGE;
use tasks::{BackgroundTask, Progress};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    Messaging,
    limits::{ActivityRetention, RENEWALS, SWEEP_INTERVAL},
};

impl Messaging {
    /// Background tasks of messaging, to be started by the server.
    #[must_use]
    pub fn background_tasks(&self, retention: ActivityRetention) -> Vec<BackgroundTask> {
        // Since when this server renews its lease without a gap.
        let (held, held_since) = watch::channel(None);
        let messaging = self.clone();
        let queue = BackgroundTask::new("a2a-queue", SWEEP_INTERVAL, move |progress| {
            messaging.clone().run_queue(held_since.clone(), progress)
        });
        let messaging = self.clone();
        let lease = BackgroundTask::new("a2a-lease", self.limits.server_lease, move |progress| {
            messaging.clone().renew_lease(held.clone(), progress)
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

    /// Renews the lease that says that this server lives.
    async fn renew_lease(self, held: watch::Sender<Option<Instant>>, progress: Progress) {
        let length = self.limits.server_lease;
        let mut until = Instant::now();
        loop {
            let asked = Instant::now();
            match self.fleet.store().renew_server(self.fleet.state().server(), length).await {
                Ok(()) => {
                    if held.borrow().is_none() || until < asked {
                        held.send_replace(Some(asked));
                    }
                    until = asked + length;
                }
                Err(error) => {
                    held.send_replace(None);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "this server's lease could not be renewed");
                }
            }
            progress.report();
            sleep(length / RENEWALS).await;
        }
    }

    /// Sweeps the queue at once and in every interval; in between, follows heartbeats and back-off.
    ///
    /// What other servers were delivering is taken over when they don't renew their leases. After an outage of the
    /// database none could: so only a server that renewed its own for a whole lease does it. A database of one process
    /// has no other servers, only earlier ones.
    async fn run_queue(self, held_since: watch::Receiver<Option<Instant>>, progress: Progress) {
        let alone = self.fleet.store().is_single_process();
        loop {
            let settled =
                held_since.borrow().is_some_and(|since| since.elapsed() >= self.limits.server_lease);
            if let Err(error) = self.sweep_queue(alone || settled).await {
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
