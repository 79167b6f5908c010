//! New workspaces, once everything about them was checked, and their first transition.

use store::workspaces::{
    Container, DeliveryMode, DesiredState, Hosting, Status, WorkspaceAccess, WorkspaceRow,
};
use types::{WorkspaceId, WorkspaceSpec, defaults};

use crate::{
    decide::NO_BACKEND,
    fleet::Fleet,
    machine::{self, Input, Transition},
};

/// A workspace to be inserted. Its fields were checked by the rules of its source.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names of most fields say what they hold")]
pub struct NewWorkspaceRow {
    pub id: WorkspaceId,
    /// No live sibling may have it.
    pub name: String,
    pub role: Option<String>,
    /// 1 to 4.
    pub tier: i32,
    pub runtime: String,
    pub hosting: Hosting,
    pub parent_id: Option<WorkspaceId>,
    /// As its hosting has it, if `None`.
    pub delivery_mode: Option<DeliveryMode>,
    /// Directory of the host that is mounted into it.
    pub workspace_dir: Option<String>,
    /// What its agent may do there.
    pub workspace_access: WorkspaceAccess,
    /// Cents per month.
    pub budget_limit: Option<i64>,
    pub max_concurrent_tasks: i32,
    /// Where the agent is called, if an operator runs it.
    pub url: Option<String>,
    /// What the workspace was created from, for its first start.
    pub spec: WorkspaceSpec,
}

impl NewWorkspaceRow {
    /// The row before its first transition.
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
            desired: DesiredState::Running,
            generation: 1,
            status: Status::Provisioning,
            status_since: now,
            observed_generation: 0,
            container: Container::None,
            attempt: 0,
            attempt_at: None,
            failures: 0,
            retry_at: None,
            conditions: Vec::new(),
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
    /// Tier of a workspace for which nothing names one.
    #[must_use]
    pub fn default_tier(&self) -> i32 {
        if self.inner.saas { defaults::HOSTED_TIER } else { defaults::TIER }
    }

    /// Domain of the agents' mail addresses.
    #[must_use]
    pub fn mail_domain(&self) -> &str {
        &self.inner.provision.git_domain
    }

    /// The first transition of a new workspace. Below a paused ancestor it is paused. It fails at once where no
    /// backend could start it.
    ///
    /// It is created later than every known workspace, its parent among them, whatever the clock says: lists
    /// are in the order of creation.
    pub(crate) fn begin(&self, row: WorkspaceRow, below_paused: bool) -> Transition {
        let now = store::now();
        let last = self.workspaces().last_created_at();
        let created_at = last.map_or_else(store::next_event_time, store::time_after);
        let mut begun = machine::create(WorkspaceRow { created_at, ..row }, below_paused, now);
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
