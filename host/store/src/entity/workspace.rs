//! Table `workspaces`: what each is, its desired state, and what was observed.

use sea_orm::entity::prelude::*;
use types::{
    Condition, Container, DeliveryMode, DesiredState, Hosting, Status, WorkspaceAccess, WorkspaceId,
    WorkspaceSpec,
};

use super::{json_column::JsonColumn, text_column::TextColumn};
use crate::workspaces::WorkspaceRow;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "workspaces")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: Uuid,
    #[sea_orm(column_type = "Text")]
    pub(crate) name: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) role: Option<String>,
    pub(crate) tier: i32,
    #[sea_orm(column_type = "Text")]
    pub(crate) runtime: String,
    #[sea_orm(column_type = "Text")]
    pub(crate) hosting: TextColumn<Hosting>,
    pub(crate) parent_id: Option<Uuid>,
    #[sea_orm(column_type = "Text")]
    pub(crate) delivery_mode: TextColumn<DeliveryMode>,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) workspace_dir: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub(crate) workspace_access: TextColumn<WorkspaceAccess>,
    pub(crate) budget_limit: Option<i64>,
    pub(crate) max_concurrent_tasks: i32,
    pub(crate) hibernation_idle_minutes: Option<i32>,
    pub(crate) spec: JsonColumn<WorkspaceSpec>,
    #[sea_orm(column_name = "wanted", column_type = "Text")]
    pub(crate) desired: TextColumn<DesiredState>,
    pub(crate) generation: i64,
    #[sea_orm(column_type = "Text")]
    pub(crate) status: TextColumn<Status>,
    pub(crate) status_since: DateTimeUtc,
    pub(crate) observed_generation: i64,
    #[sea_orm(column_type = "Text")]
    pub(crate) container: TextColumn<Container>,
    pub(crate) attempt: i32,
    pub(crate) attempt_at: Option<DateTimeUtc>,
    pub(crate) failures: i32,
    pub(crate) retry_at: Option<DateTimeUtc>,
    pub(crate) conditions: JsonColumn<Vec<Condition>>,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) url: Option<String>,
    pub(crate) agent_card: Option<Json>,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) last_sample_error: Option<String>,
    pub(crate) revision: i64,
    pub(crate) created_at: DateTimeUtc,
    pub(crate) updated_at: DateTimeUtc,
    pub(crate) removed_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<WorkspaceRow> for Model {
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

impl From<Model> for WorkspaceRow {
    fn from(row: Model) -> Self {
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
