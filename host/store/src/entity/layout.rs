//! Table `layouts`: where the canvas shows a workspace.

use sea_orm::entity::prelude::*;

/// Where the canvas shows a workspace.
#[derive(Clone, Copy, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "layouts")]
pub struct Model {
    /// The workspace.
    #[sea_orm(primary_key, auto_increment = false)]
    pub workspace_id: Uuid,
    /// Canvas units to the right.
    pub x: f64,
    /// Canvas units down.
    pub y: f64,
    /// Whether its children are hidden on the canvas.
    pub collapsed: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
