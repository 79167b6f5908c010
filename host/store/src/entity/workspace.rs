//! Table `workspaces`: what each is, its desired state, and what was observed.

use sea_orm::entity::prelude::*;
use types::{
    Condition, Container, DeliveryMode, DesiredState, Hosting, Status, WorkspaceAccess, WorkspaceSpec,
};

use super::{json_column::JsonColumn, text_column::TextColumn};

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
