//! Table `layouts`: where the canvas shows a workspace.

use sea_orm::entity::prelude::*;
use types::WorkspaceId;

use crate::layouts::LayoutRow;

#[derive(Clone, Copy, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "layouts")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) workspace_id: Uuid,
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) collapsed: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<LayoutRow> for Model {
    fn from(row: LayoutRow) -> Self {
        Self {
            workspace_id: row.workspace_id.0,
            x: row.x,
            y: row.y,
            collapsed: row.collapsed,
        }
    }
}

impl From<Model> for LayoutRow {
    fn from(row: Model) -> Self {
        Self {
            workspace_id: WorkspaceId(row.workspace_id),
            x: row.x,
            y: row.y,
            collapsed: row.collapsed,
        }
    }
}
