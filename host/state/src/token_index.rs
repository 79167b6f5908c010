//! The token index: every live token, in memory by its hash, so that authentication needs no database. A
//! token that was revoked on this server is refused from its commit on.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use events::{Envelope, Event, definitions::TokenChanged};
use sha2::{Digest as _, Sha256};
use store::{
    Change, Store, StoreError,
    tokens::{InsertToken, RevokeToken, RevokeTokensOf, TokenRow},
    workspaces::PurgeWorkspaces,
};
use types::{Owner, TokenId, WorkspaceId};

use crate::index::Index;

/// The use of a token is stored this often at most, milliseconds.
const USE_EVERY_MS: i64 = 60_000;

/// SHA-256 of a token, as it is stored and looked up.
#[must_use]
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A live token.
#[derive(Debug)]
pub struct LiveToken {
    /// From `tokens`, except for the last use.
    pub row: TokenRow,
    used_ms: AtomicI64,
}

impl LiveToken {
    /// When it was last presented.
    #[must_use]
    pub fn last_used_at(&self) -> Option<DateTime<Utc>> {
        match self.used_ms.load(Ordering::Relaxed) {
            0 => None,
            used => DateTime::from_timestamp_millis(used),
        }
    }

    /// Records that it was presented. Is this to be stored?
    #[must_use]
    pub fn record_use(&self, now: DateTime<Utc>) -> bool {
        let now = now.timestamp_millis();
        let before = self.used_ms.load(Ordering::Relaxed);
        let due = now - before >= USE_EVERY_MS;
        due && self.used_ms.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Every live token, by hash.
#[derive(Debug, Default)]
pub struct TokenIndex {
    rows: RwLock<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    by_hash: HashMap<[u8; 32], Arc<LiveToken>>,
    by_id: HashMap<TokenId, [u8; 32]>,
    /// Hashes of an owner's tokens.
    by_owner: HashMap<Owner, Vec<[u8; 32]>>,
    /// Workspaces for which a token was ever made, until they are purged.
    bootstrapped: HashSet<WorkspaceId>,
    /// Revoked while this process runs, so that no row that was read before brings them back.
    revoked: HashSet<TokenId>,
}

impl TokenIndex {
    /// The live token with this text.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Arc<LiveToken>> {
        self.read().by_hash.get(&token_hash(token)).cloned()
    }

    /// The live token with this id.
    #[must_use]
    pub fn get(&self, id: TokenId) -> Option<Arc<LiveToken>> {
        let index = self.read();
        index.by_hash.get(index.by_id.get(&id)?).cloned()
    }

    /// Live tokens of this owner, newest first.
    #[must_use]
    pub fn of(&self, owner: Owner) -> Vec<Arc<LiveToken>> {
        let index = self.read();
        let hashes = index.by_owner.get(&owner).into_iter().flatten();
        let mut tokens: Vec<_> = hashes.filter_map(|hash| index.by_hash.get(hash)).cloned().collect();
        tokens.sort_by_key(|token| std::cmp::Reverse((token.row.created_at, token.row.id)));
        tokens
    }

    /// Whether this workspace has a live token.
    #[must_use]
    pub fn has_any(&self, workspace: WorkspaceId) -> bool {
        self.read().by_owner.contains_key(&Owner::Workspace(workspace))
    }

    /// Whether a token was ever made for this workspace, live or revoked.
    #[must_use]
    pub fn ever_had_any(&self, workspace: WorkspaceId) -> bool {
        self.read().bootstrapped.contains(&workspace)
    }

    /// Whether any token is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read().by_hash.is_empty()
    }

    /// Replaces everything, at start: with the live tokens, and the workspaces that ever had one.
    pub fn load(&self, rows: Vec<TokenRow>, bootstrapped: Vec<WorkspaceId>) {
        let mut index = Rows { bootstrapped: bootstrapped.into_iter().collect(), ..Rows::default() };
        for row in rows {
            index.insert(row);
        }
        *self.write() = index;
    }

    /// Takes over a token as it was read; `None` if it does not exist.
    pub fn refresh_row(&self, id: TokenId, row: Option<TokenRow>) {
        let mut index = self.write();
        index.bootstrapped.extend(row.as_ref().and_then(|row| row.owner.workspace()));
        match row.filter(|row| row.revoked_at.is_none()) {
            Some(row) => index.insert(row),
            None => index.revoke(id),
        }
    }

    /// Drops every token of these workspaces.
    pub(crate) fn drop_of(&self, workspaces: &[WorkspaceId]) {
        let mut index = self.write();
        for workspace in workspaces {
            for hash in index.by_owner.remove(&Owner::Workspace(*workspace)).unwrap_or_default() {
                if let Some(token) = index.by_hash.remove(&hash) {
                    index.by_id.remove(&token.row.id);
                    index.revoked.insert(token.row.id);
                }
            }
        }
    }

    /// Drops what is known of purged workspaces.
    fn purge(&self, workspaces: &[WorkspaceId]) {
        self.drop_of(workspaces);
        let mut index = self.write();
        for workspace in workspaces {
            index.bootstrapped.remove(workspace);
        }
    }

    fn ids_of(&self, workspace: WorkspaceId) -> Vec<TokenId> {
        self.of(Owner::Workspace(workspace)).iter().map(|token| token.row.id).collect()
    }

    /// Drops what is known of a purged workspace. Its tokens were these.
    fn forget(&self, workspace: WorkspaceId, tokens: &[TokenId]) {
        let mut index = self.write();
        for token in tokens {
            index.revoke(*token);
        }
        if !index.by_owner.contains_key(&Owner::Workspace(workspace)) {
            index.bootstrapped.remove(&workspace);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rows> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Index for TokenIndex {
    fn apply(&self, change: &Change) {
        for mutation in change.mutations() {
            if let Some(InsertToken(row)) = mutation.downcast_ref() {
                self.write().insert(row.clone());
            } else if let Some(RevokeToken { id, .. }) = mutation.downcast_ref() {
                self.write().revoke(*id);
            } else if let Some(RevokeTokensOf { workspaces, .. }) = mutation.downcast_ref() {
                self.drop_of(workspaces);
            } else if let Some(PurgeWorkspaces(workspaces)) = mutation.downcast_ref() {
                self.purge(workspaces);
            }
        }
    }

    async fn refresh(&self, store: &Store, events: &[Arc<Envelope>]) -> Result<(), StoreError> {
        let mut changed = BTreeSet::new();
        for event in events {
            match event.event() {
                Some(Event::TokenChanged(TokenChanged { token_id })) => {
                    self.refresh_row(token_id, store.token(token_id).await?);
                }
                Some(Event::WorkspaceRemoved(_)) => self.drop_of(event.workspace_id().as_slice()),
                // Perhaps of a purge, which deletes the event of the removal.
                Some(Event::WorkspaceChanged(_)) => {
                    changed.extend(event.workspace_id().filter(|id| self.ever_had_any(*id)));
                }
                _ => {}
            }
        }
        let changed: Vec<WorkspaceId> = changed.into_iter().collect();
        // Taken before the rows are read: a workspace may be made again under its id meanwhile, with new tokens.
        let known: Vec<Vec<TokenId>> = changed.iter().map(|id| self.ids_of(*id)).collect();
        let rows = store.workspaces(&changed).await?;
        let existing: HashSet<WorkspaceId> = rows.into_iter().map(|loaded| loaded.row.id).collect();
        for (id, tokens) in changed.iter().zip(known).filter(|(id, _)| !existing.contains(id)) {
            self.forget(*id, &tokens);
        }
        Ok(())
    }
}

impl Rows {
    fn insert(&mut self, row: TokenRow) {
        let Ok(hash) = <[u8; 32]>::try_from(row.hash.as_slice()) else {
            tracing::error!(token = %row.id, "a token whose hash isn't 32 bytes is left out");
            return;
        };
        if self.revoked.contains(&row.id) {
            return;
        }
        self.remove(row.id);
        self.bootstrapped.extend(row.owner.workspace());
        let used_ms = AtomicI64::new(row.last_used_at.map_or(0, |used| used.timestamp_millis()));
        self.by_owner.entry(row.owner).or_default().push(hash);
        self.by_id.insert(row.id, hash);
        self.by_hash.insert(hash, Arc::new(LiveToken { row, used_ms }));
    }

    fn revoke(&mut self, id: TokenId) {
        self.remove(id);
        self.revoked.insert(id);
    }

    fn remove(&mut self, id: TokenId) {
        let Some(hash) = self.by_id.remove(&id) else {
            return;
        };
        let Some(token) = self.by_hash.remove(&hash) else {
            return;
        };
        let owner = token.row.owner;
        if let Some(hashes) = self.by_owner.get_mut(&owner) {
            hashes.retain(|other| *other != hash);
            if hashes.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
    }
}
