//! Why an operation of the fleet failed.

use credentials::{SealError, TokenError};
use net::UrlError;
use state::ChangeError;
use store::{CipherError, CommitError, StoreError, workspaces::Hosting};
use types::WorkspaceId;

use crate::{
    rules::{FieldError, InvalidAccess, InvalidDirectory, InvalidMode, SecretError},
    templates::InvalidRuntimeTemplate,
};

/// Why an operation of the fleet failed. Nothing was changed, except where it says so.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The workspace doesn't exist, or is removed.
    #[error("workspace not found")]
    NotFound,
    /// A field of the workspace is invalid.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The host directory is not allowed.
    #[error(transparent)]
    Directory(#[from] InvalidDirectory),
    /// The access to the host directory is invalid.
    #[error(transparent)]
    Access(#[from] InvalidAccess),
    /// The delivery mode is invalid.
    #[error(transparent)]
    Mode(#[from] InvalidMode),
    /// The name or value of a secret is invalid.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The name of the runtime template is invalid.
    #[error(transparent)]
    Template(#[from] InvalidRuntimeTemplate),
    /// The agent's URL is not allowed.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The workspace has a token, and the caller did not present it.
    #[error("missing workspace auth token")]
    Unproven,
    /// Messages are to be pushed, and the agent named no URL.
    #[error("url is required for push-mode workspaces")]
    NoUrl,
    /// The parent doesn't exist.
    #[error("parent workspace not found")]
    NoParent,
    /// The workspace would be its own ancestor.
    #[error("parent_id would create a cycle")]
    Cycle,
    /// Siblings have that name, and every variation of it.
    #[error("workspace name already taken")]
    NameTaken,
    /// The workspace has children, and their removal was not confirmed.
    #[error("the workspace has children")]
    HasChildren {
        /// Ids and names of the children.
        children: Vec<(WorkspaceId, String)>,
    },
    /// The workspaces are removed, but some containers could not be stopped. A repeated request retries.
    #[error("workspace marked removed, but {} stop call(s) failed — please retry", failures.len())]
    NotStopped {
        /// Workspaces that were removed.
        removed: usize,
        /// Workspaces whose containers could not be stopped.
        failures: Vec<WorkspaceId>,
    },
    /// An ancestor is paused.
    #[error("parent workspace \"{name}\" is paused — resume it first")]
    ParentPaused {
        /// Name of the ancestor.
        name: String,
    },
    /// There is no backend.
    #[error("provisioner not available")]
    NoBackend,
    /// The workspace is paused already.
    #[error("workspace not found or already paused")]
    AlreadyPaused,
    /// The workspace isn't paused.
    #[error("workspace not found or not paused")]
    NotPaused,
    /// The agent doesn't work, so the workspace can't be hibernated.
    #[error("workspace not found or not in a hibernatable state (must be online or degraded)")]
    NotHibernatable,
    /// The workspace has no container that could be stopped.
    #[error("{runtime} workspaces have no container to hibernate")]
    NothingToHibernate {
        /// Its runtime.
        runtime: String,
    },
    /// The agent has active tasks.
    #[error("workspace has active tasks; use ?force=true to terminate them")]
    Busy {
        /// How many.
        active_tasks: i32,
    },
    /// The container was not stopped in time. It keeps running, or is stopped later.
    #[error("the container was not stopped in time; see GET /workspaces/:id/explain")]
    NotYet,
    /// The token doesn't exist, or was revoked before.
    #[error("token not found or already revoked")]
    NoToken,
    /// The workspace has as many live tokens as it may have.
    #[error("{}", TokenError::TooMany)]
    TooManyTokens,
    /// Other changes were earlier in each attempt.
    #[error("the workspace kept changing meanwhile")]
    Contended,
    /// The other runtime has another hosting.
    #[error("the runtime can't change from {from} to {to} hosting; create a new workspace instead")]
    OtherHosting {
        /// Present hosting.
        from: Hosting,
        /// Hosting of the other runtime.
        to: Hosting,
    },
    /// A secret could not be sealed.
    #[error("failed to encrypt secret: {key}")]
    Seal {
        /// Its name.
        key: String,
        /// Why.
        #[source]
        source: CipherError,
    },
    /// The change was not committed. After [`CommitError::OutcomeUnknown`] it may have happened all the same.
    #[error("the change could not be stored")]
    Commit(#[source] CommitError),
    /// The database could not be read.
    #[error("the database could not be read")]
    Store(#[from] StoreError),
}

impl From<ChangeError> for FleetError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NameTaken => Self::NameTaken,
            ChangeError::Contended => Self::Contended,
            ChangeError::Commit(error) => Self::Commit(error),
            ChangeError::Store(error) => Self::Store(error),
        }
    }
}

impl From<TokenError> for FleetError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NoWorkspace => Self::NotFound,
            TokenError::TooMany => Self::TooManyTokens,
            TokenError::NotFound => Self::NoToken,
            TokenError::Commit(error) => Self::Commit(error),
            TokenError::Store(error) => Self::Store(error),
        }
    }
}

impl From<SealError> for FleetError {
    fn from(SealError { key, source }: SealError) -> Self {
        Self::Seal { key, source }
    }
}
