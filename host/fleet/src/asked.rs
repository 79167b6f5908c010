//! What adapters were asked for plans and gave none, by this server: the same question is not asked again until the
//! adapter or the workspace changes. A server that has just begun to lead asks each once.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use store::workspaces::WorkspaceRow;
use types::WorkspaceId;

/// The release that is asked, and what of a row its plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    adapter: u64,
    row: u64,
}

impl Question {
    /// `adapter` is the number of what answers for the runtime.
    pub(crate) fn of(row: &WorkspaceRow, adapter: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (&row.name, &row.role, row.tier, &row.runtime, row.parent_id, row.generation).hash(&mut hasher);
        (&row.spec.model, &row.spec.template).hash(&mut hasher);
        Self { adapter, row: hasher.finish() }
    }
}

/// Questions without an answer, by workspace.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<HashMap<WorkspaceId, Question>>);

impl Asked {
    pub(crate) fn insert(&self, workspace: WorkspaceId, question: Question) {
        self.lock().insert(workspace, question);
    }

    pub(crate) fn remove(&self, workspace: WorkspaceId) {
        self.lock().remove(&workspace);
    }

    pub(crate) fn is_new(&self, workspace: WorkspaceId, question: Question) -> bool {
        self.lock().get(&workspace) != Some(&question)
    }

    /// Drops those of all other workspaces.
    pub(crate) fn retain(&self, waiting: &[WorkspaceId]) {
        let waiting: std::collections::HashSet<_> = waiting.iter().collect();
        self.lock().retain(|workspace, _| waiting.contains(workspace));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkspaceId, Question>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
