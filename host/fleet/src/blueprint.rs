//! What a new workspace is to be, once everything about it was checked.

use store::workspaces::{Container, DesiredState, Hosting, Status, WorkspaceRow};
use uuid::Uuid;

use crate::{
    decide::NO_BACKEND,
    fleet::Fleet,
    machine::{self, Input, Transition},
    rules::{DeliveryMode, WorkspaceAccess},
};

/// A workspace to be made. Its fields were checked by the rules of whoever makes it.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// Its id.
    pub id: Uuid,
    /// What people call it; no live sibling may have that name.
    pub name: String,
    /// What it is for.
    pub role: Option<String>,
    /// 1 to 4.
    pub tier: i32,
    /// What runs in it.
    pub runtime: String,
    /// Who runs it.
    pub hosting: Hosting,
    /// The workspace above it.
    pub parent_id: Option<Uuid>,
    /// How messages get to it; none: as its hosting has it.
    pub delivery_mode: Option<DeliveryMode>,
    /// Directory of the host that it works in.
    pub workspace_dir: Option<String>,
    /// What it may do there.
    pub workspace_access: WorkspaceAccess,
    /// Cents per month.
    pub budget_limit: Option<i64>,
    /// Tasks that it takes at once.
    pub max_concurrent_tasks: i32,
    /// Where its agent is reached, if somebody else runs it.
    pub url: Option<String>,
    /// What is kept for those who start it.
    pub spec: serde_json::Value,
}

impl Blueprint {
    /// The row, before anything happened to it.
    pub(crate) fn row(self) -> WorkspaceRow {
        let now = store::now();
        let mode = self.delivery_mode.unwrap_or(match self.hosting {
            Hosting::Operator if self.url.is_none() => DeliveryMode::Poll,
            _ => DeliveryMode::Push,
        });
        WorkspaceRow {
            id: self.id,
            name: self.name,
            role: self.role,
            tier: self.tier,
            runtime: self.runtime,
            hosting: self.hosting,
            parent_id: self.parent_id,
            delivery_mode: mode,
            workspace_dir: self.workspace_dir,
            workspace_access: self.workspace_access,
            budget_limit: self.budget_limit,
            max_concurrent_tasks: self.max_concurrent_tasks,
            hibernation_idle_minutes: None,
            spec: self.spec,
            wanted: DesiredState::Running,
            generation: 1,
            status: Status::Provisioning,
            status_since: now,
            observed_generation: 0,
            container: Container::None,
            attempt: 0,
            attempt_at: None,
            failures: 0,
            retry_at: None,
            conditions: serde_json::json!([]),
            url: self.url,
            agent_card: None,
            last_sample_error: None,
            revision: 1,
            created_at: now,
            updated_at: now,
            removed_at: None,
        }
    }
}

impl Fleet {
    /// Tier of a workspace for which nothing says one.
    #[must_use]
    pub fn default_tier(&self) -> i32 {
        if self.inner.saas { 4 } else { 3 }
    }

    /// The first transition of a workspace that is being made. One that nothing can start has failed at
    /// once.
    pub(crate) fn begin(&self, row: WorkspaceRow) -> Transition {
        let now = store::now();
        let mut begun = machine::create(WorkspaceRow { created_at: now, ..row }, now);
        if begun.row.hosting == Hosting::Container && self.inner.backend.is_none() {
            let no = Input::StartFailed { attempt: 1, error: NO_BACKEND.to_owned(), missing: Vec::new() };
            if let Some(failed) = machine::apply(&begun.row, &no, now) {
                begun.row = failed.row;
                begun.events.extend(failed.events);
            }
        }
        begun.row.revision = 1;
        begun
    }
}
