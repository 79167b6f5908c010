//! What can keep any change of a workspace from happening. What only one operation can fail with stands in the
//! error of that operation, beside it.

use state::ChangeError;
use store::{CommitError, StoreError};

/// Why a workspace could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The workspace doesn't exist, or is removed.
    #[error("workspace not found")]
    NotFound,
    /// A sibling has that name; of a new workspace, siblings have every variation of it.
    #[error("workspace name already taken")]
    NameTaken,
    /// Other changes were earlier in each attempt.
    #[error("the workspace kept changing meanwhile")]
    Contended,
    /// The change was not committed. After [`CommitError::OutcomeUnknown`] it may have happened all the same.
    #[error("the change could not be stored")]
    Commit(#[source] CommitError),
    /// The database could not be read.
    #[error("the database could not be read")]
    Store(#[from] StoreError),
}

impl WorkspaceError {
    /// Whether the database as a whole failed or did not answer.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_outage(),
            Self::Commit(error) => error.is_outage(),
            Self::NotFound | Self::NameTaken | Self::Contended => false,
        }
    }
}

impl From<ChangeError> for WorkspaceError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NameTaken => Self::NameTaken,
            ChangeError::Contended => Self::Contended,
            ChangeError::Commit(error) => Self::Commit(error),
            ChangeError::Store(error) => Self::Store(error),
        }
    }
}
