//! How workspace rows are written.

use std::collections::BTreeSet;

use async_trait::async_trait;
use events::{Event, definitions::Empty};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, Iterable as _,
    PaginatorTrait as _, QueryFilter as _, SqlErr,
    sea_query::{Expr, ExprTrait as _},
};
use types::WorkspaceId;
use uuid::Uuid;

use super::WorkspaceRow;
use crate::{
    CommitError, Mutation, StoreError, WorkspaceEvent,
    entity::{event, workspace},
    setups::DeleteSetups,
    statement::{ROWS, replacing},
    transaction::Transaction,
};

/// New workspaces, parents first.
#[derive(Debug)]
pub struct InsertWorkspaces(pub Vec<WorkspaceRow>);

/// New revisions of workspaces: the stored revision must be one less than each row's.
#[derive(Debug)]
pub struct UpdateWorkspaces(pub Vec<WorkspaceRow>);

/// Workspaces and everything that belongs to them are deleted, their events too.
#[derive(Debug)]
pub struct PurgeWorkspaces(pub Vec<WorkspaceId>);

/// The workspace rows that a mutation inserts or updates.
#[must_use]
pub fn rows_written(mutation: &dyn Mutation) -> &[WorkspaceRow] {
    let inserted = mutation.downcast_ref().map(|InsertWorkspaces(rows)| rows);
    inserted.or_else(|| mutation.downcast_ref().map(|UpdateWorkspaces(rows)| rows)).map_or(&[], Vec::as_slice)
}

#[async_trait]
impl Mutation for InsertWorkspaces {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        for rows in self.0.chunks(ROWS) {
            let rows = rows.iter().map(active);
            workspace::Entity::insert_many(rows).exec_without_returning(&tx.db).await.map_err(name_taken)?;
        }
        Ok(())
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        ids_and_parents(&self.0)
    }

    fn implicit_events(&self, published: &BTreeSet<WorkspaceId>) -> Vec<WorkspaceEvent> {
        changed(self.0.iter().map(|row| row.id).filter(|id| !published.contains(id)))
    }
}

#[async_trait]
impl Mutation for UpdateWorkspaces {
    /// One row is an `UPDATE`; many are one upsert, several times quicker than an `UPDATE` each.
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        if let [row] = self.0.as_slice() {
            let updated = workspace::Entity::update_many()
                .set(active(row))
                .filter(workspace::Column::Id.eq(row.id.0))
                .filter(workspace::Column::Revision.eq(row.revision - 1))
                .exec(&tx.db)
                .await
                .map_err(name_taken)?;
            return if updated.rows_affected == 1 { Ok(()) } else { Err(CommitError::Conflict) };
        }
        for rows in self.0.chunks(ROWS) {
            // An upsert would bring back what was purged meanwhile.
            let ids = workspace::Column::Id.is_in(rows.iter().map(|row| row.id.0));
            let existing = workspace::Entity::find().filter(ids).count(&tx.db).await?;
            if existing != rows.len() as u64 {
                return Err(CommitError::Conflict);
            }
            let before = Expr::col(("excluded", workspace::Column::Revision)).sub(1);
            let mut conflict = replacing(workspace::Column::Id, workspace::Column::iter());
            conflict.action_and_where(Expr::col((workspace::Entity, workspace::Column::Revision)).eq(before));
            let rows_written = workspace::Entity::insert_many(rows.iter().map(active))
                .on_conflict(conflict)
                .exec_without_returning(&tx.db)
                .await
                .map_err(name_taken)?;
            if rows_written != rows.len() as u64 {
                return Err(CommitError::Conflict);
            }
        }
        Ok(())
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        ids_and_parents(&self.0)
    }

    fn implicit_events(&self, published: &BTreeSet<WorkspaceId>) -> Vec<WorkspaceEvent> {
        changed(self.0.iter().map(|row| row.id).filter(|id| !published.contains(id)))
    }
}

#[async_trait]
impl Mutation for PurgeWorkspaces {
    /// Rows of other tables are deleted by their foreign keys; events have none, and texts of setups may be
    /// shared.
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        DeleteSetups(self.0.clone()).execute(tx).await?;
        for ids in self.0.chunks(ROWS) {
            let ids = || ids.iter().map(|id| id.0);
            let events = event::Entity::delete_many().filter(event::Column::WorkspaceId.is_in(ids()));
            events.exec(&tx.db).await?;
            workspace::Entity::update_many()
                .col_expr(workspace::Column::ParentId, Expr::value(None::<Uuid>))
                .filter(workspace::Column::ParentId.is_in(ids()))
                .exec(&tx.db)
                .await?;
            let rows = workspace::Entity::delete_many().filter(workspace::Column::Id.is_in(ids()));
            rows.exec(&tx.db).await?;
        }
        Ok(())
    }

    /// For explicitly published workspaces too: a purge deletes the event of the removal, maybe before
    /// another server read it.
    fn implicit_events(&self, _: &BTreeSet<WorkspaceId>) -> Vec<WorkspaceEvent> {
        changed(self.0.iter().copied())
    }
}

fn active(row: &WorkspaceRow) -> workspace::ActiveModel {
    workspace::Model::from(row.clone()).into_active_model().reset_all()
}

fn ids_and_parents(rows: &[WorkspaceRow]) -> Vec<WorkspaceId> {
    rows.iter().flat_map(|row| [Some(row.id), row.parent_id]).flatten().collect()
}

fn changed(ids: impl Iterator<Item = WorkspaceId>) -> Vec<WorkspaceEvent> {
    ids.map(|id| (Some(id), Event::WorkspaceChanged(Empty {}))).collect()
}

/// The only unique constraint on workspaces that a request can violate is that of names.
fn name_taken(error: DbErr) -> CommitError {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => CommitError::NameTaken,
        _ => StoreError::from(error).into(),
    }
}
