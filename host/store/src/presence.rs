//! Presence: what agents last reported of themselves, written behind.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sea_orm::{
    ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, Iterable as _,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use uuid::Uuid;

pub use crate::entity::presence::Model as PresenceRow;
use crate::{
    StoreError,
    activity::clean,
    commit::Transaction,
    entity::presence,
    write_behind::{Buffer, Pending, WriteBehind},
};

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
struct Presences(HashMap<Uuid, PresenceRow>);

#[async_trait]
impl Buffer for Presences {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn workspaces(&self) -> Vec<Uuid> {
        self.0.keys().copied().collect()
    }

    async fn store(&self, tx: &mut Transaction, existing: &HashSet<Uuid>) -> Result<(), StoreError> {
        let rows = self.0.values().filter(|row| existing.contains(&row.workspace_id));
        let rows: Vec<_> = rows.map(|row| storable(row).into_active_model().reset_all()).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let upsert = presence::Entity::insert_many(rows).on_conflict(newer());
        upsert.exec_without_returning(&tx.db).await?;
        Ok(())
    }

    fn drain(&mut self) -> Vec<Box<dyn WriteBehind>> {
        self.0.drain().map(|(_, row)| Box::new(row) as _).collect()
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

/// The row with texts that every database takes.
fn storable(row: &PresenceRow) -> PresenceRow {
    PresenceRow {
        current_task: clean(&row.current_task),
        sample_error: row.sample_error.as_deref().map(clean),
        ..row.clone()
    }
}
