//! Observers of presence: what other crates do when an agent sends a heartbeat.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use types::WorkspaceId;

/// Is called for each heartbeat and each registration, once its presence is readable. Heartbeats are the hottest calls: an
/// implementation returns at once and keeps what it can't do at once for a task of its own, bounded.
pub trait PresenceObserver: Send + Sync {
    /// The agent of this workspace sent a heartbeat, or registered.
    fn on_heartbeat(&self, workspace: WorkspaceId);
}

#[derive(Default)]
pub(crate) struct PresenceObservers(RwLock<Vec<Arc<dyn PresenceObserver>>>);

impl PresenceObservers {
    pub(crate) fn add(&self, observer: Arc<dyn PresenceObserver>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    pub(crate) fn on_heartbeat(&self, workspace: WorkspaceId) {
        let observers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        observers.iter().for_each(|observer| observer.on_heartbeat(workspace));
    }
}

impl fmt::Debug for PresenceObservers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceObservers").finish_non_exhaustive()
    }
}
