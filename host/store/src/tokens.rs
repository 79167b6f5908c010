//! Tokens: their enums, and how their rows are read and written.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use events::{Event, definitions::TokenChanged};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _, sea_query::Expr,
};
use uuid::Uuid;

pub use crate::entity::token::Model as TokenRow;
use crate::{
    CommitError, Mutation, Precondition, Store, StoreError, WorkspaceEvent,
    commit::{IDS, Transaction},
    entity::text_enum::text_enum,
    entity::token,
    write_behind::{Buffer, Pending, WriteBehind},
};

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

    /// Whether this workspace ever had a token.
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

// === Mutations ===

/// A new token.
#[derive(Debug)]
pub struct InsertToken(pub TokenRow);

#[async_trait]
impl Mutation for InsertToken {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        let row = self.0.clone().into_active_model().reset_all();
        token::Entity::insert(row).exec_without_returning(&tx.db).await?;
        Ok(())
    }

    fn implicit_events(&self, _: &BTreeSet<Uuid>) -> Vec<WorkspaceEvent> {
        vec![(self.0.workspace_id, changed(self.0.id))]
    }
}

/// A live token is revoked. Conflicts when it isn't live.
#[derive(Debug)]
pub struct RevokeToken {
    /// The token's id.
    pub id: Uuid,
    /// Why it is revoked.
    pub by: RevokedBy,
}

#[async_trait]
impl Mutation for RevokeToken {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        let revoked = revoke(tx.sequencer.now, self.by).filter(token::Column::Id.eq(self.id));
        let revoked = revoked.exec(&tx.db).await?;
        if revoked.rows_affected == 1 { Ok(()) } else { Err(CommitError::Conflict) }
    }

    fn implicit_events(&self, _: &BTreeSet<Uuid>) -> Vec<WorkspaceEvent> {
        vec![(None, changed(self.id))]
    }
}

/// Every live token of these workspaces is revoked. Other servers learn of it by the events of the
/// workspaces' removal.
#[derive(Debug)]
pub struct RevokeTokensOf {
    /// The workspaces.
    pub workspaces: Vec<Uuid>,
    /// Why they are revoked.
    pub by: RevokedBy,
}

#[async_trait]
impl Mutation for RevokeTokensOf {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        for workspaces in self.workspaces.chunks(IDS) {
            let theirs = token::Column::WorkspaceId.is_in(workspaces.iter().copied());
            revoke(tx.sequencer.now, self.by).filter(theirs).exec(&tx.db).await?;
        }
        Ok(())
    }
}

/// Revokes live tokens, once a filter says which.
fn revoke(now: DateTime<Utc>, by: RevokedBy) -> sea_orm::UpdateMany<token::Entity> {
    token::Entity::update_many()
        .col_expr(token::Column::RevokedAt, Expr::value(now))
        .col_expr(token::Column::RevokedBy, Expr::value(by.as_str()))
        .filter(token::Column::RevokedAt.is_null())
}

fn changed(token_id: Uuid) -> Event {
    Event::TokenChanged(TokenChanged { token_id })
}

/// The workspace has fewer than this many live tokens, those of its organization excepted.
#[derive(Debug)]
pub struct FewerTokensThan {
    /// The workspace.
    pub workspace: Uuid,
    /// The first number that is too many.
    pub limit: u64,
}

#[async_trait]
impl Precondition for FewerTokensThan {
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        let live = token::Entity::find()
            .filter(token::Column::WorkspaceId.eq(self.workspace))
            .filter(token::Column::Kind.ne(TokenKind::Org))
            .filter(token::Column::RevokedAt.is_null());
        Ok(live.count(&tx.db).await? < self.limit)
    }
}

// === Written behind ===

/// A token was presented.
#[derive(Debug)]
pub struct TokenUsed {
    /// The token's id.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
}

impl WriteBehind for TokenUsed {
    fn add_to(self: Box<Self>, pending: &mut Pending) {
        pending.with(|buffer: &mut TokensUsed| {
            buffer.0.insert(self.id, self.at);
        });
    }
}

/// When tokens were last presented, by id.
#[derive(Debug, Default)]
struct TokensUsed(HashMap<Uuid, DateTime<Utc>>);

#[async_trait]
impl Buffer for TokensUsed {
    fn len(&self) -> usize {
        self.0.len()
    }

    async fn store(&self, tx: &mut Transaction, _: &HashSet<Uuid>) -> Result<(), StoreError> {
        for (id, at) in &self.0 {
            token::Entity::update_many()
                .col_expr(token::Column::LastUsedAt, Expr::value(*at))
                .filter(token::Column::Id.eq(*id))
                .exec(&tx.db)
                .await?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Vec<Box<dyn WriteBehind>> {
        self.0.drain().map(|(id, at)| Box::new(TokenUsed { id, at }) as _).collect()
    }
}
