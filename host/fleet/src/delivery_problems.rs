//! Why messages do not reach agents: what the last delivery met. Kept in memory until a message arrives.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use chrono::{DateTime, Utc};
use serde::Serialize;
use types::WorkspaceId;

/// Why messages do not reach an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryProblem {
    /// What is wrong.
    pub error: String,
    /// What to do about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    /// When a message met it first; none where no message did yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}

/// At most one for each workspace.
#[derive(Debug, Default)]
pub(crate) struct DeliveryProblems {
    problems: Mutex<HashMap<WorkspaceId, DeliveryProblem>>,
    /// How many there are, to be read without the lock: deliveries that succeed are frequent.
    count: AtomicUsize,
}

impl DeliveryProblems {
    /// Remembers why a message did not reach its agent, and forgets workspaces that are gone.
    pub(crate) fn insert(
        &self,
        id: WorkspaceId,
        error: &str,
        hint: Option<&'static str>,
        is_live: impl Fn(WorkspaceId) -> bool,
    ) {
        let mut problems = self.lock();
        let since = problems.get(&id).filter(|known| known.error == error).and_then(|known| known.since);
        let since = since.or_else(|| Some(store::now()));
        problems.retain(|id, _| is_live(*id));
        problems.insert(id, DeliveryProblem { error: error.to_owned(), hint, since });
        self.count.store(problems.len(), Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, id: WorkspaceId) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut problems = self.lock();
            problems.remove(&id);
            self.count.store(problems.len(), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, id: WorkspaceId) -> Option<DeliveryProblem> {
        self.lock().get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkspaceId, DeliveryProblem>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
