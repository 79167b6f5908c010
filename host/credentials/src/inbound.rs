//! Inbound secrets: what the platform presents when it calls into a workspace. Each workspace has one,
//! made when it is first needed, sealed in its row, and cached.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use store::{
    Change, CommitError, StoreError,
    secrets::{InboundSecretRow, InsertInboundSecret},
    workspaces::WorkspaceIsLive,
};
use types::WorkspaceId;

use crate::{Credentials, SealError, new_token::random_text};

/// How long a secret is cached.
const CACHE_TTL: Duration = Duration::from_secs(300);

/// Secrets by workspace, with the time until which they are cached.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<WorkspaceId, (String, Instant)>>);

/// Why there is no inbound secret; for the log.
#[derive(Debug, thiserror::Error)]
enum InboundError {
    #[error("the stored secret is missing or damaged")]
    Missing,
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the secret could not be stored")]
    Commit(#[source] CommitError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Cache {
    fn get(&self, id: WorkspaceId) -> Option<String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get(&id) {
            Some((secret, until)) if Instant::now() < *until => Some(secret.clone()),
            _ => {
                kept.remove(&id);
                None
            }
        }
    }

    fn evict(&self, ids: &[WorkspaceId]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.iter().for_each(|id| {
            kept.remove(id);
        });
    }

    fn put(&self, id: WorkspaceId, secret: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(id, (secret.to_owned(), Instant::now() + CACHE_TTL));
    }
}

impl Credentials {
    /// Forgets the cached secrets of purged workspaces: a workspace that gets such an id later has another
    /// secret.
    pub fn evict_inbound_secrets(&self, workspaces: &[WorkspaceId]) {
        self.inbound.evict(workspaces);
    }

    /// The inbound secret of a live workspace; `None` where it can't be read or made, which the log explains.
    pub async fn inbound_secret(&self, id: WorkspaceId) -> Option<String> {
        if let Some(secret) = self.inbound.get(id) {
            return Some(secret);
        }
        match self.read_or_make(id).await {
            Ok(secret) => {
                self.inbound.put(id, &secret);
                Some(secret)
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(workspace = %id, error, "there is no inbound secret");
                None
            }
        }
    }

    async fn read_or_make(&self, id: WorkspaceId) -> Result<String, InboundError> {
        if let Some(row) = self.state.store().inbound_secret(id).await? {
            return self.opened(&row);
        }
        let secret = random_text();
        let sealed = self.cipher.seal(secret.as_bytes());
        let sealed = sealed.map_err(|source| SealError { key: NAME.to_owned(), source })?;
        let row = InboundSecretRow { workspace_id: id, value: sealed.bytes, version: sealed.version };
        let change = Change::of(InsertInboundSecret(row)).require(WorkspaceIsLive(id));
        match self.state.commit(change).await {
            Ok(_) => Ok(secret),
            // Another request was earlier: its secret counts.
            Err(CommitError::Conflict) => {
                let row = self.state.store().inbound_secret(id).await?.ok_or(InboundError::Missing)?;
                self.opened(&row)
            }
            Err(error) => Err(InboundError::Commit(error)),
        }
    }

    fn opened(&self, row: &InboundSecretRow) -> Result<String, InboundError> {
        let opened = self.cipher.open(&row.value, row.version);
        let opened = opened.map_err(|source| SealError { key: NAME.to_owned(), source })?;
        String::from_utf8(opened).map_err(|_| InboundError::Missing)
    }
}

/// Its name in errors.
const NAME: &str = "platform_inbound_secret";
