//! Table `presence`: what an agent said of itself last.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// What an agent said of itself last, and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, DeriveEntityModel)]
#[sea_orm(table_name = "presence")]
pub struct Model {
    /// The workspace.
    #[sea_orm(primary_key, auto_increment = false)]
    pub workspace_id: Uuid,
    /// Last register or heartbeat.
    pub last_seen_at: Option<DateTimeUtc>,
    /// Last message it sent.
    pub last_outbound_at: Option<DateTimeUtc>,
    /// Tasks it works on.
    pub active_tasks: i32,
    /// What it works on; empty when on nothing.
    #[sea_orm(column_type = "Text")]
    pub current_task: String,
    /// Seconds since it started.
    pub uptime_seconds: i64,
    /// Share of failed calls, 0 to 1.
    pub error_rate: f64,
    /// An example of what fails.
    #[sea_orm(column_type = "Text", nullable)]
    pub sample_error: Option<String>,
    /// Cents spent this month.
    pub monthly_spend: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// This row after another one came: the newer of the two. Messages are noted apart from calls, so the
    /// later time of one stays either way.
    #[must_use]
    pub fn after(self, other: Self) -> Self {
        let last_outbound_at = self.last_outbound_at.max(other.last_outbound_at);
        let newer = if self.last_seen_at > other.last_seen_at { self } else { other };
        Self { last_outbound_at, ..newer }
    }
}
