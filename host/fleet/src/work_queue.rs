//! The reconciler's work queue.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use types::WorkspaceId;

/// Workspaces to be reconciled, on the server that leads.
#[derive(Debug, Default)]
pub(crate) struct WorkQueue {
    waiting: Mutex<BTreeSet<WorkspaceId>>,
    notify: Notify,
    open: AtomicBool,
    /// Since when this server leads, by its steady clock.
    since: Mutex<Option<DateTime<Utc>>>,
}

impl WorkQueue {
    /// Enqueues a workspace. Does nothing on a server that doesn't lead: the leader learns of the change by
    /// its event.
    pub(crate) fn enqueue(&self, id: WorkspaceId) {
        if self.open.load(Ordering::Acquire) {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
            self.notify.notify_one();
        }
    }

    pub(crate) async fn dequeue(&self) -> BTreeSet<WorkspaceId> {
        loop {
            let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.notify.notified().await;
        }
    }

    /// Since when this server leads, by its steady clock; none while it doesn't.
    pub(crate) fn since(&self) -> Option<DateTime<Utc>> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_open(&self, open: bool) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = open.then(state::steady_now);
        self.open.store(open, Ordering::Release);
        if !open {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}
