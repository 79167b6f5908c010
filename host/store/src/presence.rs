//! Presence: what agents last reported of themselves, written behind.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, Iterable as _,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use serde::{Deserialize, Serialize};
use types::WorkspaceId;

use crate::{
    StoreError,
    entity::presence,
    transaction::Transaction,
    write_behind::{Buffer, Pending, Room, WriteBehind},
};

/// What an agent said of itself last, and when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PresenceRow {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// Last register or heartbeat.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// Last message it sent.
    pub last_outbound_at: Option<DateTime<Utc>>,
    /// Tasks it works on.
    pub active_tasks: i32,
    /// What it works on; empty when on nothing.
    pub current_task: String,
    /// Seconds since it started.
    pub uptime_seconds: i64,
    /// Share of failed calls, 0 to 1.
    pub error_rate: f64,
    /// An example of what fails.
    pub sample_error: Option<String>,
    /// Cents spent this month.
    pub monthly_spend: i64,
}

impl From<PresenceRow> for presence::Model {
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

impl From<presence::Model> for PresenceRow {
    fn from(row: presence::Model) -> Self {
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

impl PresenceRow {
    /// This row after another one came: the newer of the two. Messages are noted apart from calls, so the
    /// later time of one stays either way.
    #[must_use]
    pub fn after(self, other: Self) -> Self {
        let last_outbound_at = Ord::max(self.last_outbound_at, other.last_outbound_at);
        let newer = if self.last_seen_at > other.last_seen_at { self } else { other };
        Self { last_outbound_at, ..newer }
    }
}

impl WriteBehind for PresenceRow {
    fn add_to(self: Box<Self>, pending: &mut Pending) {
        pending.with(|buffer: &mut Presences| {
            let newest = buffer.0.entry(self.workspace_id).or_default();
            *newest = std::mem::take(newest).after(*self);
        });
    }
}

/// The newest presence of each workspace.
#[derive(Debug, Default)]
struct Presences(HashMap<WorkspaceId, PresenceRow>);

#[async_trait]
impl Buffer for Presences {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        self.0.keys().copied().collect()
    }

    async fn store(&self, tx: &mut Transaction, existing: &HashSet<WorkspaceId>) -> Result<(), StoreError> {
        let rows = self.0.values().filter(|row| existing.contains(&row.workspace_id));
        let rows: Vec<_> =
            rows.map(|row| presence::Model::from(row.clone()).into_active_model().reset_all()).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let upsert = presence::Entity::insert_many(rows).on_conflict(newer());
        upsert.exec_without_returning(&tx.db).await?;
        Ok(())
    }

    fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>> {
        self.0.extract_if(|_, _| room.takes(0)).map(|(_, row)| Box::new(row) as _).collect()
    }
}

/// Updates a stored presence as [`PresenceRow::after`] does.
fn newer() -> OnConflict {
    use presence::Column as C;
    let known = |column: C| Expr::col((presence::Entity, column));
    let new = |column: C| Expr::col(("excluded", column));
    let mut conflict = OnConflict::column(C::WorkspaceId);
    for column in C::iter().filter(|column| !matches!(column, C::WorkspaceId)) {
        let by = if matches!(column, C::LastOutboundAt) { column } else { C::LastSeenAt };
        let newer = known(by).is_null().or(new(by).gte(known(by)));
        conflict.value(column, Expr::case(newer, new(column)).finally(known(column)));
    }
    conflict
}
