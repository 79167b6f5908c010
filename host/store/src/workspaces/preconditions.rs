//! What may be required of workspaces when a change commits.

use std::collections::HashSet;

use async_trait::async_trait;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QuerySelect as _, Statement, Value,
};
use types::{Status, WorkspaceId};
use uuid::Uuid;

use crate::{
    Precondition, StoreError,
    entity::{text_column::TextColumn, workspace},
    guarded::Tx,
    statement::IDS,
    transaction::Transaction,
};

/// The workspace exists and isn't removed.
#[derive(Debug)]
pub struct WorkspaceIsLive(pub WorkspaceId);

#[async_trait]
impl Precondition for WorkspaceIsLive {
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        let live = workspace::Column::Status.ne(TextColumn(Status::Removed));
        Ok(workspace::Entity::find_by_id(self.0.0).filter(live).count(&tx.db).await? == 1)
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        vec![self.0]
    }
}

/// No workspace that isn't removed has one of these runtimes.
#[derive(Debug)]
pub struct NoneHasRuntime(pub Vec<String>);

#[async_trait]
impl Precondition for NoneHasRuntime {
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        Ok(workspace::Entity::find().filter(super::has_runtime(&self.0)).count(&tx.db).await? == 0)
    }
}

/// No workspace outside of these has one of these as its parent, except removed ones.
#[derive(Debug)]
pub struct NoOtherChildren(pub Vec<WorkspaceId>);

#[async_trait]
impl Precondition for NoOtherChildren {
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        let known: HashSet<WorkspaceId> = self.0.iter().copied().collect();
        for parents in self.0.chunks(IDS) {
            let children: Vec<Uuid> = workspace::Entity::find()
                .select_only()
                .column(workspace::Column::Id)
                .filter(workspace::Column::ParentId.is_in(parents.iter().map(|id| id.0)))
                .filter(workspace::Column::Status.ne(TextColumn(Status::Removed)))
                .into_tuple()
                .all(&tx.db)
                .await?;
            if children.iter().any(|child| !known.contains(&WorkspaceId(*child))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        self.0.clone()
    }
}

/// `child` is neither `parent` nor above it, so that it can be moved below it.
#[derive(Debug)]
pub struct NoCycle {
    /// The workspace to be moved.
    pub child: WorkspaceId,
    /// Its new parent.
    pub parent: WorkspaceId,
}

#[async_trait]
impl Precondition for NoCycle {
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        Ok(!is_at_or_above(&tx.db, self.child, self.parent).await?)
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        vec![self.child, self.parent]
    }
}

/// Whether a workspace or one above it is paused.
#[derive(Debug)]
pub struct PausedAbove {
    /// The workspace.
    pub id: WorkspaceId,
    /// Whether it is.
    pub is_paused: bool,
}

#[async_trait]
impl Precondition for PausedAbove {
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        let sql = "JOIN workspaces w ON w.id = up.id WHERE w.status = $2";
        let paused = Status::Paused.as_str().to_owned().into();
        Ok((count_upwards(&tx.db, self.id, sql, paused).await? > 0) == self.is_paused)
    }

    fn workspaces(&self) -> Vec<WorkspaceId> {
        vec![self.id]
    }
}

/// Whether `upper` is `id` or an ancestor of it.
async fn is_at_or_above(tx: &Tx, upper: WorkspaceId, id: WorkspaceId) -> Result<bool, StoreError> {
    Ok(count_upwards(tx, id, "WHERE up.id = $2", upper.0.into()).await? > 0)
}

/// How many of a workspace and its ancestors fulfill a condition on `up.id`, in which `$2` is `value`.
async fn count_upwards(tx: &Tx, id: WorkspaceId, condition: &str, value: Value) -> Result<i64, StoreError> {
    let backend = tx.get_database_backend();
    // SQLite has no type for UUIDs: a cast would make a number of it.
    let first = if backend == DbBackend::Postgres { "CAST($1 AS UUID)" } else { "$1" };
    let sql = format!(
        "WITH RECURSIVE up(id) AS (\
           SELECT {first} UNION SELECT w.parent_id FROM workspaces w JOIN up ON w.id = up.id \
           WHERE w.parent_id IS NOT NULL) \
         SELECT COUNT(*) FROM up {condition}"
    );
    let statement = Statement::from_sql_and_values(backend, sql, [id.0.into(), value]);
    let found = tx.query_one_raw(statement).await?.ok_or(StoreError::Gone)?;
    Ok(found.try_get_by_index::<i64>(0)?)
}
