//! Background work of the state: following the other servers, and the end of old events.

use std::time::Duration;

use tasks::{BackgroundTask, retry_forever};

use crate::State;

/// Within this time each loop reports progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// How often events that are too old are deleted.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3_600);

impl State {
    /// What the server has to run for the state. Events are deleted that are older than `event_retention`.
    #[must_use]
    pub fn background_tasks(&self, event_retention: chrono::Duration) -> Vec<BackgroundTask> {
        let followed = self.clone();
        let broadcaster = BackgroundTask::new("broadcaster", PROGRESS_INTERVAL, move |progress| {
            let state = followed.clone();
            async move { retry_forever("broadcaster", || state.follow(|| progress.report())).await }
        });
        let published = self.clone();
        let live_events = BackgroundTask::new("live-events", PROGRESS_INTERVAL, move |progress| {
            let state = published.clone();
            async move { state.send_ephemeral(|| progress.report()).await }
        });
        let swept = self.clone();
        let event_retention = BackgroundTask::interval("event-retention", RETENTION_INTERVAL, move || {
            let state = swept.clone();
            async move { state.delete_old_events(event_retention).await }
        });
        vec![broadcaster, live_events, event_retention]
    }
}
