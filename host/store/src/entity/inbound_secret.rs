//! Table `inbound_secrets`.

use sea_orm::entity::prelude::*;
use types::WorkspaceId;

use crate::secrets::InboundSecretRow;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "inbound_secrets")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) workspace_id: Uuid,
    pub(crate) value: Vec<u8>,
    pub(crate) version: i32,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<InboundSecretRow> for Model {
    fn from(row: InboundSecretRow) -> Self {
        Self {
            workspace_id: row.workspace_id.0,
            value: row.value,
            version: row.version,
        }
    }
}

impl From<Model> for InboundSecretRow {
    fn from(row: Model) -> Self {
        Self {
            workspace_id: WorkspaceId(row.workspace_id),
            value: row.value,
            version: row.version,
        }
    }
}
