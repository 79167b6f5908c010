//! Index of the workspaces that have queued messages.
//!
//! Heartbeats are too frequent for a statement each, so this index says for which of them the queue is
//! looked at. A workspace gets into it when this server enqueues a message, and by the sweep, which finds
//! what other servers enqueued and what a crash left.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fleet::PresenceObserver;
use tokio::sync::Notify;
use types::WorkspaceId;

#[derive(Debug, Default)]
pub(crate) struct PendingIndex {
    sets: Mutex<Sets>,
    reported: Notify,
}

#[derive(Debug, Default)]
struct Sets {
    /// Workspaces that may have queued messages.
    pending: HashSet<WorkspaceId>,
    /// Pending workspaces whose agents sent a heartbeat since the last look.
    reported: HashSet<WorkspaceId>,
    /// Workspaces to which a queued message is being delivered.
    draining: HashSet<WorkspaceId>,
}

/// The right to deliver queued messages to a workspace, one at a time. Given back on drop.
#[derive(Debug)]
pub(crate) struct DrainGuard {
    index: Arc<PendingIndex>,
    id: WorkspaceId,
}

impl PendingIndex {
    pub(crate) fn add(&self, ids: impl IntoIterator<Item = WorkspaceId>) {
        self.lock().pending.extend(ids);
    }

    pub(crate) fn remove(&self, id: WorkspaceId) {
        self.lock().pending.remove(&id);
    }

    /// Waits for heartbeats of pending workspaces, and takes their ids.
    pub(crate) async fn reported(&self) -> HashSet<WorkspaceId> {
        loop {
            let reported = std::mem::take(&mut self.lock().reported);
            if !reported.is_empty() {
                return reported;
            }
            self.reported.notified().await;
        }
    }

    /// `None` while another delivery from the queue to this workspace is under way.
    pub(crate) fn start_drain(self: &Arc<Self>, id: WorkspaceId) -> Option<DrainGuard> {
        let started = self.lock().draining.insert(id);
        started.then(|| DrainGuard { index: Arc::clone(self), id })
    }

    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bounded by the pending workspaces: heartbeats of one that was not looked at yet are one.
impl PresenceObserver for PendingIndex {
    fn on_heartbeat(&self, workspace: WorkspaceId) {
        let mut sets = self.lock();
        if sets.pending.contains(&workspace) && sets.reported.insert(workspace) {
            self.reported.notify_one();
        }
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        self.index.lock().draining.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn heartbeats_are_reported_for_pending_workspaces_only_and_once() {
        let index = PendingIndex::default();
        let [pending, other] = [WorkspaceId::random(), WorkspaceId::random()];
        index.add([pending]);
        index.on_heartbeat(other);
        assert_eq!(index.reported().now_or_never(), None);
        index.on_heartbeat(pending);
        index.on_heartbeat(pending);
        assert_eq!(index.reported().now_or_never(), Some(HashSet::from([pending])));
        assert_eq!(index.reported().now_or_never(), None);
        index.remove(pending);
        index.on_heartbeat(pending);
        assert_eq!(index.reported().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_heartbeat_wakes_the_waiting_task() {
        let index = Arc::new(PendingIndex::default());
        let id = WorkspaceId::random();
        index.add([id]);
        let waiting = tokio::spawn({
            let index = Arc::clone(&index);
            async move { index.reported().await }
        });
        tokio::task::yield_now().await;
        index.on_heartbeat(id);
        assert_eq!(waiting.await.unwrap(), HashSet::from([id]));
    }

    #[test]
    fn one_drain_per_workspace_until_its_guard_is_dropped() {
        let index = Arc::new(PendingIndex::default());
        let id = WorkspaceId::random();
        let guard = index.start_drain(id).expect("the first");
        assert!(index.start_drain(id).is_none());
        drop(guard);
        assert!(index.start_drain(id).is_some());
    }
}
