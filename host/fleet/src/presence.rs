//! Observers of presence: what other crates do when an agent sends a heartbeat.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use types::WorkspaceId;

use crate::fleet::Fleet;

/// Is called for each heartbeat, once its presence is readable. Heartbeats are the hottest calls: an
/// implementation returns at once and keeps what it can't do at once for a task of its own, bounded.
pub trait PresenceObserver: Send + Sync {
    /// The agent of this workspace sent a heartbeat.
    fn on_heartbeat(&self, workspace: WorkspaceId);
}

#[derive(Default)]
pub(crate) struct PresenceObservers(RwLock<Vec<Arc<dyn PresenceObserver>>>);

impl PresenceObservers {
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

impl Fleet {
    /// Adds an observer for as long as the fleet lives. An observer must not hold the fleet: that would
    /// keep its writer from ending.
    pub fn observe_presence(&self, observer: Arc<dyn PresenceObserver>) {
        self.inner.presence_observers.0.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }
}
