//! Tokens: the words of their rows, and how they are read.

use sea_orm::{
    ColumnTrait as _, DeriveActiveEnum, EntityTrait as _, EnumIter, PaginatorTrait as _, QueryFilter as _,
};
use serde::Serialize;
use uuid::Uuid;

pub use crate::entity::token::Model as TokenRow;
use crate::{Store, StoreError, entity::token, workspaces::words};

words! {
    /// What a token is good for.
    TokenKind {
        /// An agent's own; provisioning replaces it.
        Agent = "agent",
        /// A person's or a script's, for one workspace.
        User = "user",
        /// The whole organisation.
        Org = "org",
    }
}

words! {
    /// What ended a token.
    RevokedBy {
        /// Somebody revoked it.
        Request = "request",
        /// Its workspace was removed.
        Removal = "removal",
        /// A newer attempt of its workspace replaced it.
        Provisioning = "provisioning",
        /// Nobody used it, and nothing of its workspace ran.
        Sweep = "sweep",
    }
}

impl Store {
    /// Every token that wasn't revoked.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn live_tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        Ok(token::Entity::find().filter(token::Column::RevokedAt.is_null()).all(&self.read).await?)
    }

    /// A token by id, revoked or not.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn token(&self, id: Uuid) -> Result<Option<TokenRow>, StoreError> {
        Ok(token::Entity::find_by_id(id).one(&self.read).await?)
    }

    /// Had this workspace ever a token, revoked or not?
    ///
    /// # Errors
    /// If the database fails.
    pub async fn had_token(&self, workspace: Uuid) -> Result<bool, StoreError> {
        let tokens = token::Entity::find().filter(token::Column::WorkspaceId.eq(workspace));
        Ok(tokens.count(&self.read).await? > 0)
    }

    /// A token by its hash, revoked or not.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn token_by_hash(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
        Ok(token::Entity::find().filter(token::Column::Hash.eq(hash.to_vec())).one(&self.read).await?)
    }
}
