//! State of agents that this server keeps in memory, besides presence.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use types::WorkspaceId;

/// Metadata of a heartbeat. Kept in memory until a heartbeat has other metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Features of the contract that the runtime implements itself, by name.
    pub capabilities: BTreeMap<String, bool>,
    /// Seconds without a byte after which a message to the agent fails.
    pub idle_timeout_seconds: Option<u64>,
}

/// States by workspace.
#[derive(Debug, Default)]
pub(crate) struct AgentStates(Mutex<HashMap<WorkspaceId, AgentState>>);

#[derive(Debug, Default)]
pub(crate) struct AgentState {
    pub(crate) metadata: Option<Metadata>,
    /// What it said last of its runtime's state. A report that says nothing of it changes nothing. None,
    /// where it said nothing since this server began, or since it was well.
    pub(crate) runtime_state: Option<String>,
    pub(crate) written: Option<Instant>,
}

impl AgentStates {
    pub(crate) fn forget_state(&self, id: WorkspaceId) {
        if let Some(agent) = self.lock().get_mut(&id) {
            agent.runtime_state = None;
        }
    }

    /// Whether the last heartbeat with metadata claimed this capability.
    pub(crate) fn has_capability(&self, id: WorkspaceId, capability: &str) -> bool {
        let agents = self.lock();
        let metadata = agents.get(&id).and_then(|agent| agent.metadata.as_ref());
        metadata.and_then(|metadata| metadata.capabilities.get(capability)).copied().unwrap_or(false)
    }

    pub(crate) fn idle_timeout(&self, id: WorkspaceId) -> Option<Duration> {
        self.lock().get(&id)?.metadata.as_ref()?.idle_timeout_seconds.map(Duration::from_secs)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<WorkspaceId, AgentState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
