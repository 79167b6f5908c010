//! The row of a workspace.

use chrono::{DateTime, Utc};
use serde_json::Value;
use types::{
    Condition, Container, DeliveryMode, DesiredState, Hosting, Status, WorkspaceAccess, WorkspaceId,
    WorkspaceSpec,
};
use uuid::Uuid;

use crate::entity::{json_column::JsonColumn, text_column::TextColumn, workspace};

/// A workspace: what it is, its desired state, and what was observed of it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names of most columns say what they hold")]
pub struct WorkspaceRow {
    pub id: WorkspaceId,
    /// Unique among its siblings that are not removed.
    pub name: String,
    pub role: Option<String>,
    /// 1 to 4: how much of the host it may touch.
    pub tier: i32,
    pub runtime: String,
    /// As the runtime's adapter described it when the row was made.
    pub hosting: Hosting,
    pub parent_id: Option<WorkspaceId>,
    pub delivery_mode: DeliveryMode,
    /// Directory of the host that is mounted into it.
    pub workspace_dir: Option<String>,
    /// What its agent may do there.
    pub workspace_access: WorkspaceAccess,
    /// Cents per month.
    pub budget_limit: Option<i64>,
    pub max_concurrent_tasks: i32,
    /// Minutes without work until it is hibernated; never when none.
    pub hibernation_idle_minutes: Option<i32>,
    /// What it was created from, for the first start.
    pub spec: WorkspaceSpec,
    pub desired: DesiredState,
    /// Grows with each change of what is desired.
    pub generation: i64,
    pub status: Status,
    pub status_since: DateTime<Utc>,
    /// The generation that was last observed to be reached.
    pub observed_generation: i64,
    /// As the backend last reported it.
    pub container: Container,
    /// Grows with each start; reports of earlier attempts are ignored.
    pub attempt: i32,
    pub attempt_at: Option<DateTime<Utc>>,
    /// Consecutive failures, for the back-off.
    pub failures: i32,
    /// No attempt before this.
    pub retry_at: Option<DateTime<Utc>>,
    /// At most one of each type, the last changed one last.
    pub conditions: Vec<Condition>,
    /// Where the agent is called.
    pub url: Option<String>,
    /// As the agent sent it.
    pub agent_card: Option<Value>,
    /// The last failure, for people.
    pub last_sample_error: Option<String>,
    /// Grows with each write of the row; a write names the one it began from.
    pub revision: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Set once.
    pub removed_at: Option<DateTime<Utc>>,
}

impl WorkspaceRow {
    /// Whether the workspace is removed, which is final.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.status == Status::Removed
    }

    /// The next revision of the row, written at `at`.
    #[must_use]
    pub fn revised(mut self, at: DateTime<Utc>) -> Self {
        self.revision += 1;
        self.updated_at = at;
        self
    }
}

impl From<WorkspaceRow> for workspace::Model {
    fn from(row: WorkspaceRow) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            role: row.role,
            tier: row.tier,
            runtime: row.runtime,
            hosting: TextColumn(row.hosting),
            parent_id: row.parent_id.map(Uuid::from),
            delivery_mode: TextColumn(row.delivery_mode),
            workspace_dir: row.workspace_dir,
            workspace_access: TextColumn(row.workspace_access),
            budget_limit: row.budget_limit,
            max_concurrent_tasks: row.max_concurrent_tasks,
            hibernation_idle_minutes: row.hibernation_idle_minutes,
            spec: JsonColumn(row.spec),
            desired: TextColumn(row.desired),
            generation: row.generation,
            status: TextColumn(row.status),
            status_since: row.status_since,
            observed_generation: row.observed_generation,
            container: TextColumn(row.container),
            attempt: row.attempt,
            attempt_at: row.attempt_at,
            failures: row.failures,
            retry_at: row.retry_at,
            conditions: JsonColumn(row.conditions),
            url: row.url,
            agent_card: row.agent_card,
            last_sample_error: row.last_sample_error,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
            removed_at: row.removed_at,
        }
    }
}

impl From<workspace::Model> for WorkspaceRow {
    fn from(row: workspace::Model) -> Self {
        Self {
            id: WorkspaceId(row.id),
            name: row.name,
            role: row.role,
            tier: row.tier,
            runtime: row.runtime,
            hosting: row.hosting.0,
            parent_id: row.parent_id.map(WorkspaceId),
            delivery_mode: row.delivery_mode.0,
            workspace_dir: row.workspace_dir,
            workspace_access: row.workspace_access.0,
            budget_limit: row.budget_limit,
            max_concurrent_tasks: row.max_concurrent_tasks,
            hibernation_idle_minutes: row.hibernation_idle_minutes,
            spec: row.spec.0,
            desired: row.desired.0,
            generation: row.generation,
            status: row.status.0,
            status_since: row.status_since,
            observed_generation: row.observed_generation,
            container: row.container.0,
            attempt: row.attempt,
            attempt_at: row.attempt_at,
            failures: row.failures,
            retry_at: row.retry_at,
            conditions: row.conditions.0,
            url: row.url,
            agent_card: row.agent_card,
            last_sample_error: row.last_sample_error,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
            removed_at: row.removed_at,
        }
    }
}
