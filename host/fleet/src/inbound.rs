//! What the platform shows when it calls into a workspace: a secret of each workspace, made when it is
//! first needed, sealed in its row, and kept in memory for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use store::{
    Change, CommitError,
    secrets::{InboundSecretRow, InsertInboundSecret},
    workspaces::WorkspaceIsLive,
};
use uuid::Uuid;

use crate::{error::FleetError, fleet::Fleet, tokens};

/// How long it is kept in memory.
const KEPT: Duration = Duration::from_secs(300);

/// Secrets by workspace, with the time until which they are kept.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<Uuid, (String, Instant)>>);

impl Cache {
    fn get(&self, id: Uuid) -> Option<String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get(&id) {
            Some((secret, until)) if Instant::now() < *until => Some(secret.clone()),
            _ => {
                kept.remove(&id);
                None
            }
        }
    }

    /// Whoever comes back under that id has another one.
    pub(crate) fn forget(&self, ids: &[Uuid]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.iter().for_each(|id| {
            kept.remove(id);
        });
    }

    fn put(&self, id: Uuid, secret: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(id, (secret.to_owned(), Instant::now() + KEPT));
    }
}

impl Fleet {
    /// The secret of a live workspace; none where it can't be read or made, which the log explains.
    pub async fn inbound_secret(&self, id: Uuid) -> Option<String> {
        if let Some(secret) = self.inner.inbound.get(id) {
            return Some(secret);
        }
        match self.read_or_make(id).await {
            Ok(secret) => {
                self.inner.inbound.put(id, &secret);
                Some(secret)
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(workspace = %id, error, "there is no inbound secret");
                None
            }
        }
    }

    async fn read_or_make(&self, id: Uuid) -> Result<String, FleetError> {
        if let Some(row) = self.store().inbound_secret(id).await? {
            return self.opened(&row);
        }
        let secret = tokens::random_text();
        let sealed = self.inner.cipher.seal(secret.as_bytes());
        let sealed = sealed.map_err(|source| FleetError::Seal { key: NAME.to_owned(), source })?;
        let row = InboundSecretRow { workspace_id: id, value: sealed.bytes, version: sealed.version };
        let change = Change::of(InsertInboundSecret(row)).require(WorkspaceIsLive(id));
        match self.commit(change).await {
            Ok(_) => Ok(secret),
            // Somebody else was quicker: theirs counts.
            Err(CommitError::Conflict) => {
                let row = self.store().inbound_secret(id).await?.ok_or(FleetError::NotFound)?;
                self.opened(&row)
            }
            Err(error) => Err(FleetError::Commit(error)),
        }
    }

    fn opened(&self, row: &InboundSecretRow) -> Result<String, FleetError> {
        let opened = self.inner.cipher.open(&row.value, row.version);
        let opened = opened.map_err(|source| FleetError::Seal { key: NAME.to_owned(), source })?;
        String::from_utf8(opened).map_err(|_| FleetError::NotFound)
    }
}

/// What it is called where something is wrong with it.
const NAME: &str = "platform_inbound_secret";
