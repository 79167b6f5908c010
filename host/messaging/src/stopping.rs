//! How deliveries end with their server: first none is begun from the queue, then those under way are cut, so that
//! what they know is stored before the process ends.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::Messaging;

#[derive(Debug, Clone, Default)]
pub(crate) struct Stopping {
    cut: CancellationToken,
    deliveries: TaskTracker,
}

impl Stopping {
    /// Counts a delivery until the token is dropped.
    pub(crate) fn begin(&self) -> TaskTrackerToken {
        self.deliveries.token()
    }

    /// Whether nothing new is to be begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.deliveries.is_closed()
    }

    /// Waits until deliveries have to end.
    pub(crate) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Whether deliveries have to end.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }
}

impl Messaging {
    /// Stops delivering. Nothing is sent from the queue any more. Deliveries under way have `limit` to end; what is
    /// left then is queued, and has `last` to be stored. Returns whether all of it was.
    pub async fn stop(&self, limit: Duration, last: Duration) -> bool {
        let stopping = &self.stopping;
        stopping.deliveries.close();
        if timeout(limit, stopping.deliveries.wait()).await.is_ok() {
            return true;
        }
        tracing::info!(deliveries = stopping.deliveries.len(), "deliveries under way are queued for later");
        stopping.cut.cancel();
        let stored = timeout(last, stopping.deliveries.wait()).await.is_ok();
        if !stored {
            let deliveries = stopping.deliveries.len();
            tracing::warn!(
                deliveries,
                "the outcomes of deliveries were not stored in time; they are sent again"
            );
        }
        stored
    }
}
