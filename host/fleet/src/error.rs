//! Why the fleet did not do what was asked.

use net::UrlError;
use store::{CipherError, CommitError, StoreError, workspaces::Hosting};
use uuid::Uuid;

use crate::{
    rules::{FieldError, InvalidAccess, InvalidDirectory, InvalidMode, SecretError},
    templates::InvalidTemplate,
};

/// Why the fleet did not do what was asked. Nothing was changed, except where it says so.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// There is no such workspace, or it is removed.
    #[error("workspace not found")]
    NotFound,
    /// A field of a workspace is not what it may be.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// It can't work in that directory.
    #[error(transparent)]
    Directory(#[from] InvalidDirectory),
    /// That is no way to use its directory.
    #[error(transparent)]
    Access(#[from] InvalidAccess),
    /// Messages can't be delivered that way.
    #[error(transparent)]
    Mode(#[from] InvalidMode),
    /// A secret can't be called that, or hold that.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No template can be called that.
    #[error(transparent)]
    Template(#[from] InvalidTemplate),
    /// An agent can't be there.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Who has a token has to show it.
    #[error("missing workspace auth token")]
    Unproven,
    /// Messages can't be sent to an agent that says nowhere where it is.
    #[error("url is required for push-mode workspaces")]
    NoUrl,
    /// There is no such parent.
    #[error("parent workspace not found")]
    NoParent,
    /// It would be above itself.
    #[error("parent_id would create a cycle")]
    Cycle,
    /// Its siblings have that name, and every variation of it.
    #[error("workspace name already taken")]
    NameTaken,
    /// It has children, and nobody confirmed that they go too.
    #[error("the workspace has children")]
    HasChildren {
        /// Ids and names of its children.
        children: Vec<(Uuid, String)>,
    },
    /// Removed, but some containers could not be stopped. Asking again tries again.
    #[error("workspace marked removed, but {} stop call(s) failed — please retry", failures.len())]
    NotStopped {
        /// How many were removed.
        removed: usize,
        /// Whose containers could not be stopped.
        failures: Vec<Uuid>,
    },
    /// Somebody above it is paused.
    #[error("parent workspace \"{name}\" is paused — resume it first")]
    ParentPaused {
        /// Who.
        name: String,
    },
    /// There is nothing that could run a container.
    #[error("provisioner not available")]
    NoBackend,
    /// It is paused already.
    #[error("workspace not found or already paused")]
    AlreadyPaused,
    /// It isn't paused.
    #[error("workspace not found or not paused")]
    NotPaused,
    /// It doesn't work, so it can't be hibernated.
    #[error("workspace not found or not in a hibernatable state (must be online or degraded)")]
    NotHibernatable,
    /// We don't run it, so it can't be hibernated.
    #[error("{runtime} workspaces have no container to hibernate")]
    NothingToHibernate {
        /// Its runtime.
        runtime: String,
    },
    /// It is at work.
    #[error("workspace has active tasks; use ?force=true to terminate them")]
    Busy {
        /// On so many tasks.
        active_tasks: i32,
    },
    /// Its container could not be stopped in time. The workspace goes on, or will be stopped later.
    #[error("the container was not stopped in time; see GET /workspaces/:id/explain")]
    NotYet,
    /// There is no such token, or it ended before.
    #[error("token not found or already revoked")]
    NoToken,
    /// There are as many tokens as there may be.
    #[error("maximum {} active tokens per workspace", crate::limits::TOKENS_PER_WORKSPACE)]
    TooManyTokens,
    /// Somebody else changed it again and again meanwhile.
    #[error("the workspace kept changing meanwhile")]
    Contended,
    /// A runtime that somebody else runs, or nobody, isn't one that we run.
    #[error("the runtime can't change from {from} to {to} hosting; create a new workspace instead")]
    OtherHosting {
        /// Who runs it.
        from: Hosting,
        /// Who would.
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
    /// The database could not do it. After [`CommitError::OutcomeUnknown`] it may have happened all the same.
    #[error("the change could not be stored")]
    Commit(#[source] CommitError),
    /// The database could not be read.
    #[error("the database could not be read")]
    Store(#[from] StoreError),
}
