//! Table `inbound_secrets`.

use sea_orm::entity::prelude::*;

/// What the platform shows when it calls into a workspace, sealed.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "inbound_secrets")]
pub struct Model {
    /// The workspace.
    #[sea_orm(primary_key, auto_increment = false)]
    pub workspace_id: Uuid,
    /// As the cipher sealed it.
    pub value: Vec<u8>,
    /// How.
    pub version: i32,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
