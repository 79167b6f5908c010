//! Why an operation on credentials failed.

use store::{CipherError, CommitError, StoreError};

/// Live tokens of users for one workspace at most.
pub(crate) const TOKENS_PER_WORKSPACE: u64 = 50;

/// Why a token was not issued or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The workspace doesn't exist, or is removed.
    #[error("workspace not found")]
    NoWorkspace,
    /// The workspace has as many live tokens as it may have.
    #[error("maximum {TOKENS_PER_WORKSPACE} active tokens per workspace")]
    TooMany,
    /// The token doesn't exist, or was revoked before.
    #[error("token not found or already revoked")]
    NotFound,
    /// The database failed, or did not answer.
    #[error("the change could not be stored")]
    Commit(#[source] CommitError),
    /// The database could not be read.
    #[error("the database could not be read")]
    Store(#[from] StoreError),
}

/// A secret could not be sealed.
#[derive(Debug, thiserror::Error)]
#[error("failed to encrypt secret: {key}")]
pub struct SealError {
    /// Its name.
    pub key: String,
    /// Why.
    #[source]
    pub source: CipherError,
}
