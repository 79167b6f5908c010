//! Table `layouts`: where the canvas shows a workspace.

use sea_orm::entity::prelude::*;

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
