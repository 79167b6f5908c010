//! Why a message was not delivered.

use fleet::FleetError;
use store::{StoreError, workspaces::Status};

use crate::request::Malformed;

/// Why a message was not delivered. The texts are for clients.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// There is no such workspace, or it is removed.
    #[error("workspace not found")]
    NotFound,
    /// Whether there is one could not be found out.
    #[error("lookup failed")]
    Lookup(#[source] StoreError),
    /// The two are neither siblings nor one above the other.
    #[error("access denied: workspaces cannot communicate per hierarchy rules")]
    AccessDenied,
    /// It has spent what it may spend.
    #[error("workspace budget limit exceeded")]
    OverBudget,
    /// It isn't a message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It could not be kept for the agent to fetch.
    #[error("failed to queue message")]
    NotQueued(#[source] FleetError),
    /// There is nobody to deliver it to.
    #[error("workspace has no URL")]
    NoUrl {
        /// What the workspace does instead.
        status: Status,
    },
    /// Agents that somebody else runs can't be called yet.
    #[error("delivery to agents by URL is not available")]
    Unavailable,
    /// The agent, or what answers for it, did not answer.
    #[error("failed to reach workspace agent")]
    Unreachable,
}
