//! Table `tokens`: bearers of workspaces and of the organization, as hashes.

use sea_orm::entity::prelude::*;

use crate::tokens::{RevokedBy, TokenKind};

/// A bearer token. The token itself is never stored.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tokens")]
pub struct Model {
    /// Its id, as routes name it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// What it is good for.
    pub kind: TokenKind,
    /// Its workspace; none for tokens of the organization.
    pub workspace_id: Option<Uuid>,
    /// SHA-256 of the token: 32 bytes.
    pub hash: Vec<u8>,
    /// The first 8 characters, so that people can tell tokens apart.
    #[sea_orm(column_type = "Text")]
    pub prefix: String,
    /// What people call it.
    #[sea_orm(column_type = "Text", nullable)]
    pub name: Option<String>,
    /// The maker: `admin-token`, `org-token:PREFIX` or another name.
    #[sea_orm(column_type = "Text", nullable)]
    pub created_by: Option<String>,
    /// Root workspace of the organization that it is bound to.
    pub org_id: Option<Uuid>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last presented, to the minute.
    pub last_used_at: Option<DateTimeUtc>,
    /// When it stopped being good.
    pub revoked_at: Option<DateTimeUtc>,
    /// What ended it.
    pub revoked_by: Option<RevokedBy>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
