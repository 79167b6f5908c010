//! Table `presence`: what an agent said of itself last.

use sea_orm::entity::prelude::*;

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
