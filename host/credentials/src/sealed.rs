//! Secrets of workspaces and global ones: sealed before they are stored.

use std::collections::{BTreeMap, HashSet};

use store::{CipherError, Sealed, StoreError, secrets::SecretRow};
use types::{Owner, WorkspaceId};

use crate::{Credentials, SealError};

impl Credentials {
    /// Rows of these secrets of a workspace.
    ///
    /// # Errors
    /// If one can't be sealed.
    pub fn seal_secrets(
        &self,
        workspace: WorkspaceId,
        secrets: BTreeMap<String, String>,
    ) -> Result<Vec<SecretRow>, SealError> {
        let now = store::now();
        let seal = |(key, value): (String, String)| {
            let sealed = self.cipher.seal(value.as_bytes());
            let sealed = sealed.map_err(|source| SealError { key: key.clone(), source })?;
            Ok(SecretRow {
                owner: Owner::Workspace(workspace),
                key,
                value: sealed.bytes,
                version: sealed.version,
                created_at: now,
                updated_at: now,
            })
        };
        secrets.into_iter().map(seal).collect()
    }

    /// Bytes that must not be readable in the database, sealed with the platform's key.
    ///
    /// # Errors
    /// If they can't be sealed.
    pub fn seal(&self, plain: &[u8]) -> Result<Sealed, CipherError> {
        self.cipher.seal(plain)
    }

    /// The plain bytes of a stored secret.
    ///
    /// # Errors
    /// If no key of the platform opens it.
    pub fn open(&self, row: &SecretRow) -> Result<Vec<u8>, CipherError> {
        self.cipher.open(&row.value, row.version)
    }

    /// Names of the global secrets that aren't empty.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn global_secret_names(&self) -> Result<HashSet<String>, StoreError> {
        let rows = self.state.store().global_secrets().await?;
        // A secret that can't be opened exists all the same; its use reports the failure.
        let has_value = |row: &SecretRow| self.open(row).map_or(true, |plain| !plain.is_empty());
        Ok(rows.into_iter().filter(has_value).map(|row| row.key).collect())
    }
}
