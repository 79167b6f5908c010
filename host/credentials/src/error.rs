//! Why an operation on credentials failed.

use store::{CipherError, CommitError, StoreError};

/// Live tokens of users for one workspace at most.
pub(crate) const TOKENS_PER_WORKSPACE: u64 = 50;

/// Tokens of the organization that one maker may make within an hour, on whichever server.
pub(crate) const ORG_TOKENS_PER_HOUR: u64 = 10;

/// Why a token was not issued or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The workspace doesn't exist, or is removed.
    #[error("workspace not found")]
    NoWorkspace,
    /// The workspace has as many live tokens as it may have.
    #[error("maximum {TOKENS_PER_WORKSPACE} active tokens per workspace")]
    TooMany,
    /// As many tokens of the organization were made for this maker within an hour as may be.
    #[error("rate limit exceeded")]
    TooManyThisHour {
        /// Until one more may be made.
        wait_seconds: u32,
    },
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
