//! Table `tokens`: bearers of workspaces and of the organization, as hashes.

use sea_orm::entity::prelude::*;

use crate::tokens::{RevokedBy, TokenKind};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tokens")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: Uuid,
    pub(crate) kind: TokenKind,
    pub(crate) workspace_id: Option<Uuid>,
    pub(crate) hash: Vec<u8>,
    #[sea_orm(column_type = "Text")]
    pub(crate) prefix: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) name: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) created_by: Option<String>,
    pub(crate) org_id: Option<Uuid>,
    pub(crate) created_at: DateTimeUtc,
    pub(crate) last_used_at: Option<DateTimeUtc>,
    pub(crate) revoked_at: Option<DateTimeUtc>,
    pub(crate) revoked_by: Option<RevokedBy>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
