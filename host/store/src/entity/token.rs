//! Table `tokens`: bearers of workspaces and of the organization, as hashes.

use sea_orm::entity::prelude::*;
use types::{OrgId, TokenId, WorkspaceId};

use crate::tokens::{RevokedBy, TokenKind, TokenRow};

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

impl From<TokenRow> for Model {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id.0,
            workspace_id: row.owner.workspace().map(Uuid::from),
            org_id: row.org_id.map(Uuid::from),
            kind: row.kind,
            hash: row.hash,
            prefix: row.prefix,
            name: row.name,
            created_by: row.created_by,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
            revoked_by: row.revoked_by,
        }
    }
}

impl From<Model> for TokenRow {
    fn from(row: Model) -> Self {
        Self {
            id: TokenId(row.id),
            owner: row.workspace_id.map(WorkspaceId).into(),
            org_id: row.org_id.map(OrgId),
            kind: row.kind,
            hash: row.hash,
            prefix: row.prefix,
            name: row.name,
            created_by: row.created_by,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
            revoked_by: row.revoked_by,
        }
    }
}
