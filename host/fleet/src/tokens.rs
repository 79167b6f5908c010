//! Tokens: made, looked up, ended. Every live one is in memory by its hash, so that looking up needs no
//! database; one that was ended here is refused from that moment on.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use store::{
    Change,
    tokens::{InsertToken, RevokeToken, RevokeTokensOf, TokenKind, TokenRow},
    workspaces::PurgeWorkspaces,
};
use uuid::Uuid;

/// Bytes of randomness in a token; it is written as 43 characters.
const TOKEN_BYTES: usize = 32;

/// Characters of a token that are shown, so that people can tell tokens apart.
const PREFIX: usize = 8;

/// Use of a token is written down this often at most, in milliseconds.
const USE_EVERY_MS: i64 = 60_000;

/// A token that was just made. The text exists only here: it is shown once and never stored.
pub struct NewToken {
    /// The bearer.
    pub text: String,
    /// Its row.
    pub row: TokenRow,
}

impl NewToken {
    /// A token for a workspace.
    #[must_use]
    pub fn of_workspace(kind: TokenKind, workspace: Uuid, created_by: &str, now: DateTime<Utc>) -> Self {
        Self::new(kind, Some(workspace), created_by, now)
    }

    /// A token for the organisation.
    #[must_use]
    pub fn of_org(name: Option<String>, org_id: Option<Uuid>, created_by: &str, now: DateTime<Utc>) -> Self {
        let mut new = Self::new(TokenKind::Org, None, created_by, now);
        new.row.name = name;
        new.row.org_id = org_id;
        new
    }

    fn new(kind: TokenKind, workspace_id: Option<Uuid>, created_by: &str, now: DateTime<Utc>) -> Self {
        let text = random_text();
        let row = TokenRow {
            id: Uuid::new_v4(),
            kind,
            workspace_id,
            hash: hash(&text).to_vec(),
            prefix: text.chars().take(PREFIX).collect(),
            name: None,
            created_by: Some(created_by.to_owned()),
            org_id: None,
            created_at: now,
            last_used_at: None,
            revoked_at: None,
            revoked_by: None,
        };
        Self { text, row }
    }
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("id", &self.row.id).finish_non_exhaustive()
    }
}

/// As much randomness as a token has, as text.
pub(crate) fn random_text() -> String {
    let mut bytes = [0; TOKEN_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// SHA-256 of a token, as it is stored and looked up.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A live token.
#[derive(Debug)]
pub struct LiveToken {
    /// Its row, except for its last use.
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

    /// Notes that it was presented. Is that worth writing down?
    pub(crate) fn used(&self, now: DateTime<Utc>) -> bool {
        let now = now.timestamp_millis();
        let before = self.used_ms.load(Ordering::Relaxed);
        let due = now - before >= USE_EVERY_MS;
        due && self.used_ms.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Every live token, by hash.
#[derive(Debug, Default)]
pub struct Tokens {
    index: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    by_hash: HashMap<[u8; 32], Arc<LiveToken>>,
    by_id: HashMap<Uuid, [u8; 32]>,
    /// Hashes of a workspace's tokens; those of the organisation under none.
    by_workspace: HashMap<Option<Uuid>, Vec<[u8; 32]>>,
    /// Tokens that ended while this process runs, so that nothing read before brings them back.
    ended: HashSet<Uuid>,
}

impl Tokens {
    /// The live token with this text.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Arc<LiveToken>> {
        self.read().by_hash.get(&hash(token)).cloned()
    }

    /// Live tokens of a workspace, newest first; those of the organisation, for none.
    #[must_use]
    pub fn of(&self, workspace: Option<Uuid>) -> Vec<Arc<LiveToken>> {
        let index = self.read();
        let hashes = index.by_workspace.get(&workspace).into_iter().flatten();
        let mut tokens: Vec<_> = hashes.filter_map(|hash| index.by_hash.get(hash)).cloned().collect();
        tokens.sort_by_key(|token| std::cmp::Reverse((token.row.created_at, token.row.id)));
        tokens
    }

    /// Has this workspace a live token?
    #[must_use]
    pub fn has_any(&self, workspace: Uuid) -> bool {
        self.read().by_workspace.contains_key(&Some(workspace))
    }

    /// Is there any live token at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read().by_hash.is_empty()
    }

    /// Replaces everything. For the start.
    pub fn load(&self, rows: Vec<TokenRow>) {
        let mut index = Index::default();
        for row in rows {
            index.insert(row);
        }
        *self.write() = index;
    }

    /// Takes over what a change wrote.
    pub fn apply(&self, change: &Change) {
        for mutation in change.mutations() {
            if let Some(InsertToken(row)) = mutation.downcast_ref() {
                self.write().insert(row.clone());
            } else if let Some(RevokeToken { id, .. }) = mutation.downcast_ref() {
                self.write().end(*id);
            } else if let Some(RevokeTokensOf { workspaces, .. }) = mutation.downcast_ref() {
                self.drop_of(workspaces);
            } else if let Some(PurgeWorkspaces(workspaces)) = mutation.downcast_ref() {
                self.drop_of(workspaces);
            }
        }
    }

    /// Takes over a token that was read; `None`: it is gone.
    pub fn refresh(&self, id: Uuid, row: Option<TokenRow>) {
        let mut index = self.write();
        match row.filter(|row| row.revoked_at.is_none()) {
            Some(row) => index.insert(row),
            None => index.end(id),
        }
    }

    /// Forgets every token of these workspaces.
    pub fn drop_of(&self, workspaces: &[Uuid]) {
        let mut index = self.write();
        for workspace in workspaces {
            for hash in index.by_workspace.remove(&Some(*workspace)).unwrap_or_default() {
                if let Some(token) = index.by_hash.remove(&hash) {
                    index.by_id.remove(&token.row.id);
                    index.ended.insert(token.row.id);
                }
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn insert(&mut self, row: TokenRow) {
        let Ok(hash) = <[u8; 32]>::try_from(row.hash.as_slice()) else {
            tracing::error!(token = %row.id, "a token whose hash isn't 32 bytes is left out");
            return;
        };
        if self.ended.contains(&row.id) {
            return;
        }
        self.remove(row.id);
        let used_ms = AtomicI64::new(row.last_used_at.map_or(0, |used| used.timestamp_millis()));
        self.by_workspace.entry(row.workspace_id).or_default().push(hash);
        self.by_id.insert(row.id, hash);
        self.by_hash.insert(hash, Arc::new(LiveToken { row, used_ms }));
    }

    fn end(&mut self, id: Uuid) {
        self.remove(id);
        self.ended.insert(id);
    }

    fn remove(&mut self, id: Uuid) {
        let Some(hash) = self.by_id.remove(&id) else {
            return;
        };
        let workspace = self.by_hash.remove(&hash).and_then(|token| token.row.workspace_id);
        if let Some(hashes) = self.by_workspace.get_mut(&workspace) {
            hashes.retain(|other| *other != hash);
            if hashes.is_empty() {
                self.by_workspace.remove(&workspace);
            }
        }
    }
}
