//! Table `presence`: what an agent said of itself last.

use sea_orm::entity::prelude::*;
use types::WorkspaceId;

use crate::presence::PresenceRow;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "presence")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) workspace_id: Uuid,
    pub(crate) last_seen_at: Option<DateTimeUtc>,
    pub(crate) last_outbound_at: Option<DateTimeUtc>,
    pub(crate) active_tasks: i32,
    #[sea_orm(column_type = "Text")]
    pub(crate) current_task: String,
    pub(crate) uptime_seconds: i64,
    pub(crate) error_rate: f64,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) sample_error: Option<String>,
    pub(crate) monthly_spend: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<PresenceRow> for Model {
    fn from(row: PresenceRow) -> Self {
        Self {
            workspace_id: row.workspace_id.0,
            last_seen_at: row.last_seen_at,
            last_outbound_at: row.last_outbound_at,
            active_tasks: row.active_tasks,
            current_task: row.current_task,
            uptime_seconds: row.uptime_seconds,
            error_rate: row.error_rate,
            sample_error: row.sample_error,
            monthly_spend: row.monthly_spend,
        }
    }
}

impl From<Model> for PresenceRow {
    fn from(row: Model) -> Self {
        Self {
            workspace_id: WorkspaceId(row.workspace_id),
            last_seen_at: row.last_seen_at,
            last_outbound_at: row.last_outbound_at,
            active_tasks: row.active_tasks,
            current_task: row.current_task,
            uptime_seconds: row.uptime_seconds,
            error_rate: row.error_rate,
            sample_error: row.sample_error,
            monthly_spend: row.monthly_spend,
        }
    }
}
