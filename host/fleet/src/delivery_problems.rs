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

use crate::fleet::Fleet;

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
    fn lock(&self) -> MutexGuard<'_, HashMap<WorkspaceId, DeliveryProblem>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fleet {
    /// Remembers why a message did not reach its agent.
    pub fn record_unreached(&self, id: WorkspaceId, error: &str, hint: Option<&'static str>) {
        let store = &self.inner.delivery_problems;
        let mut problems = store.lock();
        let since = problems.get(&id).filter(|known| known.error == error).and_then(|known| known.since);
        let since = since.or_else(|| Some(store::now()));
        problems.retain(|id, _| self.workspaces().get(*id).is_some());
        problems.insert(id, DeliveryProblem { error: error.to_owned(), hint, since });
        store.count.store(problems.len(), Ordering::Relaxed);
    }

    /// Forgets it: a message reached the agent.
    pub fn record_reached(&self, id: WorkspaceId) {
        let store = &self.inner.delivery_problems;
        if store.count.load(Ordering::Relaxed) > 0 {
            let mut problems = store.lock();
            problems.remove(&id);
            store.count.store(problems.len(), Ordering::Relaxed);
        }
    }

    /// Why messages do not reach the agent with this URL: what its URL says, else what the last message met.
    pub(crate) fn delivery_problem(&self, id: WorkspaceId, url: Option<&str>) -> Option<DeliveryProblem> {
        let known = self.inner.delivery_problems.lock().get(&id).cloned();
        let of_url = || {
            let problem = self.addresses().problem(url?)?;
            Some(DeliveryProblem { error: problem.to_string(), hint: problem.hint(), since: None })
        };
        known.or_else(of_url)
    }
}
