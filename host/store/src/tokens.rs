//! Tokens: their enums, and how their rows are read and written.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Duration, Utc};
use events::{Event, definitions::TokenChanged};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select, sea_query::Expr,
};
use types::{OrgId, Owner, TokenId, WorkspaceId};
use uuid::Uuid;

use crate::{
    CommitError, Mutation, Precondition, Store, StoreError, WorkspaceEvent,
    entity::token,
    statement::IDS,
    transaction::Transaction,
    write_behind::{Buffer, Pending, Room, WriteBehind},
};

pub use crate::entity::token::{RevokedBy, TokenKind};

/// The time within which tokens of the organization are counted.
const WINDOW: Duration = Duration::hours(1);

/// A bearer token. The token itself is never stored.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRow {
    /// As routes name it.
    pub id: TokenId,
    /// What it is good for.
    pub kind: TokenKind,
    /// What it gives access to.
    pub owner: Owner,
    /// SHA-256 of the token: 32 bytes.
    pub hash: Vec<u8>,
    /// The first 8 characters, by which people tell tokens apart.
    pub prefix: String,
    /// Name for people.
    pub name: Option<String>,
    /// The maker: `admin-token`, `org-token:PREFIX` or another name.
    pub created_by: Option<String>,
    /// Organization that a token of kind [`TokenKind::Org`] is bound to.
    pub org_id: Option<OrgId>,
    /// Time of its insertion.
    pub created_at: DateTime<Utc>,
    /// When it was last presented, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// None for a live token.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Set together with `revoked_at`.
    pub revoked_by: Option<RevokedBy>,
    /// The first of the tokens that led to this one, each made by the one before; none where no token made it.
    pub root: Option<TokenId>,
}

impl From<TokenRow> for token::Model {
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
            root: row.root.map(|root| root.0),
        }
    }
}

impl From<token::Model> for TokenRow {
    fn from(row: token::Model) -> Self {
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
            root: row.root.map(TokenId),
        }
    }
}

impl Store {
    /// Every token that wasn't revoked.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn live_tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let rows = token::Entity::find().filter(token::Column::RevokedAt.is_null()).all(&self.read).await?;
        Ok(rows.into_iter().map(TokenRow::from).collect())
    }

    /// A token by id, revoked or not.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn token(&self, id: TokenId) -> Result<Option<TokenRow>, StoreError> {
        Ok(token::Entity::find_by_id(id.0).one(&self.read).await?.map(TokenRow::from))
    }

    /// Every workspace for which a token was ever made, live or revoked.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn workspaces_with_tokens(&self) -> Result<Vec<WorkspaceId>, StoreError> {
        let ids: Vec<Uuid> = token::Entity::find()
            .select_only()
            .column(token::Column::WorkspaceId)
            .distinct()
            .filter(token::Column::WorkspaceId.is_not_null())
            .into_tuple()
            .all(&self.read)
            .await?;
        Ok(ids.into_iter().map(WorkspaceId).collect())
    }

    /// Seconds until fewer tokens of the organization than so many were made within an hour: 1 at least.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn until_fewer_org_tokens(&self, made: &OrgTokensMade, limit: u64) -> Result<u32, StoreError> {
        let now = crate::now();
        // The one that has to leave the hour first.
        let last: Option<DateTime<Utc>> = made
            .within_an_hour(now)
            .select_only()
            .column(token::Column::CreatedAt)
            .order_by_desc(token::Column::CreatedAt)
            .offset(limit.saturating_sub(1))
            .limit(1)
            .into_tuple()
            .one(&self.read)
            .await?;
        let wait = last.map_or(0, |last| (last + WINDOW - now).num_seconds());
        Ok(u32::try_from(wait.min(WINDOW.num_seconds())).unwrap_or_default().max(1))
    }

    /// A token by its hash, revoked or not.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn token_by_hash(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
        let row = token::Entity::find().filter(token::Column::Hash.eq(hash.to_vec())).one(&self.read).await?;
        Ok(row.map(TokenRow::from))
    }
}

// === Mutations ===

/// A new token.
#[derive(Debug)]
pub struct InsertToken(pub TokenRow);

#[async_trait]
impl Mutation for InsertToken {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        let row = token::Model::from(self.0.clone()).into_active_model().reset_all();
        token::Entity::insert(row).exec_without_returning(&tx.db).await?;
        Ok(())
    }

    fn implicit_events(&self, _: &BTreeSet<WorkspaceId>) -> Vec<WorkspaceEvent> {
        vec![(self.0.owner.workspace(), changed(self.0.id))]
    }
}

/// A live token is revoked. Conflicts when it isn't live.
#[derive(Debug)]
pub struct RevokeToken {
    /// The token's id.
    pub id: TokenId,
    /// Why it is revoked.
    pub by: RevokedBy,
}

#[async_trait]
impl Mutation for RevokeToken {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        let revoked = revoke(tx.sequencer.now, self.by).filter(token::Column::Id.eq(self.id.0));
        let revoked = revoked.exec(&tx.db).await?;
        if revoked.rows_affected == 1 { Ok(()) } else { Err(CommitError::Conflict) }
    }

    fn implicit_events(&self, _: &BTreeSet<WorkspaceId>) -> Vec<WorkspaceEvent> {
        vec![(None, changed(self.id))]
    }
}

/// Every live token of these workspaces is revoked. Other servers learn of it by the events of the
/// workspaces' removal.
#[derive(Debug)]
pub struct RevokeTokensOf {
    /// The workspaces.
    pub workspaces: Vec<WorkspaceId>,
    /// Why they are revoked.
    pub by: RevokedBy,
}

#[async_trait]
impl Mutation for RevokeTokensOf {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        for workspaces in self.workspaces.chunks(IDS) {
            let theirs = token::Column::WorkspaceId.is_in(workspaces.iter().map(|id| id.0));
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

fn changed(token_id: TokenId) -> Event {
    Event::TokenChanged(TokenChanged { token_id })
}

/// The workspace has fewer than this many live tokens, those of its organization excepted.
#[derive(Debug)]
pub struct FewerTokensThan {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The first number that is too many.
    pub limit: u64,
}

#[async_trait]
impl Precondition for FewerTokensThan {
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        let live = token::Entity::find()
            .filter(token::Column::WorkspaceId.eq(self.workspace.0))
            .filter(token::Column::Kind.ne(TokenKind::Org))
            .filter(token::Column::RevokedAt.is_null());
        Ok(live.count(&tx.db).await? < self.limit)
    }
}

/// The tokens of the organization that one maker made: of those by tokens, the first that led to them is the maker.
#[derive(Debug, Clone)]
pub struct OrgTokensMade {
    root: Option<TokenId>,
    created_by: Option<String>,
}

impl OrgTokensMade {
    /// By the maker of this token.
    #[must_use]
    pub fn like(row: &TokenRow) -> Self {
        Self { root: row.root, created_by: row.created_by.clone() }
    }

    /// Revoked ones too. Rows of a later hour were made before the clock was set back: they would count for ever.
    fn within_an_hour(&self, now: DateTime<Utc>) -> Select<token::Entity> {
        use token::Column as C;
        let made = token::Entity::find()
            .filter(C::Kind.eq(TokenKind::Org))
            .filter(C::CreatedAt.gt(now - WINDOW))
            .filter(C::CreatedAt.lt(now + WINDOW));
        match self.root {
            Some(root) => made.filter(C::Root.eq(root.0)),
            None => made.filter(C::Root.is_null()).filter(C::CreatedBy.eq(self.created_by.clone())),
        }
    }
}

/// A maker made fewer tokens of the organization than this many within an hour.
#[derive(Debug)]
pub struct FewerOrgTokensThan {
    /// Those that the maker made.
    pub made: OrgTokensMade,
    /// The first number that is too many.
    pub limit: u64,
}

#[async_trait]
impl Precondition for FewerOrgTokensThan {
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        let made = self.made.within_an_hour(tx.sequencer.now);
        Ok(made.count(&tx.db).await? < self.limit)
    }
}

/// No token was ever made for the workspace.
#[derive(Debug)]
pub struct NeverHadToken(pub WorkspaceId);

#[async_trait]
impl Precondition for NeverHadToken {
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        let made = token::Entity::find().filter(token::Column::WorkspaceId.eq(self.0.0));
        Ok(made.count(&tx.db).await? == 0)
    }
}

// === Written behind ===

/// A token was presented.
#[derive(Debug)]
pub struct TokenUsed {
    /// The token's id.
    pub id: TokenId,
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
struct TokensUsed(HashMap<TokenId, DateTime<Utc>>);

#[async_trait]
impl Buffer for TokensUsed {
    fn len(&self) -> usize {
        self.0.len()
    }

    async fn store(&self, tx: &mut Transaction, _: &HashSet<WorkspaceId>) -> Result<(), StoreError> {
        for (id, at) in &self.0 {
            token::Entity::update_many()
                .col_expr(token::Column::LastUsedAt, Expr::value(*at))
                .filter(token::Column::Id.eq(id.0))
                .exec(&tx.db)
                .await?;
        }
        Ok(())
    }

    fn take(&mut self, room: &mut Room) -> Vec<Box<dyn WriteBehind>> {
        self.0.extract_if(|_, _| room.takes(0)).map(|(id, at)| Box::new(TokenUsed { id, at }) as _).collect()
    }
}
