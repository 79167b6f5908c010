//! Background work of the fleet.

use std::time::Duration;

use tasks::{BackgroundTask, retry_forever};

use crate::fleet::Fleet;

/// Within this time the reconciler reports progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

impl Fleet {
    /// What the server has to run for the fleet.
    #[must_use]
    pub fn background_tasks(&self) -> Vec<BackgroundTask> {
        let reconciled = self.clone();
        let reconciler = BackgroundTask::new("reconciler", PROGRESS_INTERVAL, move |progress| {
            let fleet = reconciled.clone();
            async move { retry_forever("reconciler", || fleet.reconcile(|| progress.report())).await }
        });
        vec![reconciler]
    }
}
