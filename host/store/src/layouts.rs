//! Where the canvas shows workspaces.

use async_trait::async_trait;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, Iterable as _,
    QueryFilter as _,
};
use types::WorkspaceId;

use crate::{
    CommitError, Mutation,
    entity::layout,
    statement::{IDS, ROWS, replacing},
    transaction::Transaction,
};

/// Where the canvas shows a workspace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayoutRow {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// Canvas units to the right.
    pub x: f64,
    /// Canvas units down.
    pub y: f64,
    /// Whether its children are hidden on the canvas.
    pub collapsed: bool,
}

impl From<LayoutRow> for layout::Model {
    fn from(row: LayoutRow) -> Self {
        Self { workspace_id: row.workspace_id.0, x: row.x, y: row.y, collapsed: row.collapsed }
    }
}

impl From<layout::Model> for LayoutRow {
    fn from(row: layout::Model) -> Self {
        Self { workspace_id: WorkspaceId(row.workspace_id), x: row.x, y: row.y, collapsed: row.collapsed }
    }
}

/// New or changed layouts.
#[derive(Debug)]
pub struct PutLayouts(pub Vec<LayoutRow>);

#[async_trait]
impl Mutation for PutLayouts {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        for rows in self.0.chunks(ROWS) {
            let rows = rows.iter().map(|row| layout::Model::from(*row).into_active_model().reset_all());
            layout::Entity::insert_many(rows)
                .on_conflict(replacing(layout::Column::WorkspaceId, layout::Column::iter()))
                .exec_without_returning(&tx.db)
                .await?;
        }
        Ok(())
    }
}

/// The layouts of these workspaces are deleted.
#[derive(Debug)]
pub struct DeleteLayouts(pub Vec<WorkspaceId>);

#[async_trait]
impl Mutation for DeleteLayouts {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        for ids in self.0.chunks(IDS) {
            let theirs = layout::Column::WorkspaceId.is_in(ids.iter().map(|id| id.0));
            layout::Entity::delete_many().filter(theirs).exec(&tx.db).await?;
        }
        Ok(())
    }
}
