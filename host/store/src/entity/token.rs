//! Table `tokens`: bearers of workspaces and of the organization, as hashes.

use sea_orm::entity::prelude::*;

use super::text_enum::text_enum;

text_enum! {
    /// The kind of a token's holder.
    TokenKind {
        /// An agent's own; provisioning replaces it.
        Agent = "agent",
        /// A person's or a script's, for one workspace.
        User = "user",
        /// The whole organization.
        Org = "org",
    }
}

text_enum! {
    /// Why a token was revoked.
    RevokedBy {
        /// By request.
        Request = "request",
        /// The workspace was removed.
        Removal = "removal",
        /// A newer attempt of the workspace has another one.
        Provisioning = "provisioning",
        /// Unused, and nothing of the workspace ran.
        Sweep = "sweep",
    }
}

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
    /// The token that stands at the begin of those by which this one was made.
    pub(crate) root: Option<Uuid>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
