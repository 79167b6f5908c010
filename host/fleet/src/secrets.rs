//! Secrets of workspaces and of everybody: sealed before they are stored.

use std::collections::{BTreeMap, HashSet};

use store::{CipherError, Sealed, StoreError, secrets::SecretRow};
use uuid::Uuid;

use crate::{error::FleetError, fleet::Fleet};

impl Fleet {
    /// Secrets of a workspace as rows.
    ///
    /// # Errors
    /// If one can't be sealed.
    pub fn seal_secrets(
        &self,
        workspace: Uuid,
        secrets: BTreeMap<String, String>,
    ) -> Result<Vec<SecretRow>, FleetError> {
        let now = store::now();
        let seal = |(key, value): (String, String)| {
            let sealed = self.inner.cipher.seal(value.as_bytes());
            let sealed = sealed.map_err(|source| FleetError::Seal { key: key.clone(), source })?;
            Ok(SecretRow {
                workspace_id: Some(workspace),
                key,
                value: sealed.bytes,
                version: sealed.version,
                created_at: now,
                updated_at: now,
            })
        };
        secrets.into_iter().map(seal).collect()
    }

    /// What must not lie open in the database, sealed with the platform's key.
    ///
    /// # Errors
    /// If it can't be.
    pub fn seal(&self, plain: &[u8]) -> Result<Sealed, CipherError> {
        self.inner.cipher.seal(plain)
    }

    /// Names of the settings that everybody has and that say something.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn global_settings(&self) -> Result<HashSet<String>, StoreError> {
        let rows = self.inner.store.global_secrets().await?;
        // One that can't be opened is there all the same; its user will be told.
        let says = |row: &SecretRow| {
            self.inner.cipher.open(&row.value, row.version).map_or(true, |plain| !plain.is_empty())
        };
        Ok(rows.into_iter().filter(says).map(|row| row.key).collect())
    }
}
