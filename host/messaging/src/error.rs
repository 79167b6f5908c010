//! Why a message was not delivered.

use fleet::FleetError;
use http::StatusCode;
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
    /// Its agent may not be called where it says it is.
    #[error("workspace URL is not publicly routable")]
    NotRoutable,
    /// The agent, or what answers for it, was not reached.
    #[error("failed to reach workspace agent")]
    Unreachable,
    /// The agent is busy and keeps a queue of its own.
    #[error("workspace agent busy — adapter handles retry (native_session)")]
    BusyByItself,
    /// The agent is busy, and the message could not be kept for later.
    #[error("workspace agent busy — retry after a short backoff")]
    BusyAndNotQueued(#[source] StoreError),
    /// The agent began an answer that has no end.
    #[error("failed to read agent response")]
    BrokenOff {
        /// Was it the beginning of a good one?
        delivered: bool,
    },
    /// The agent's answer is longer than an answer may be.
    #[error("agent response too large")]
    TooLarge,
    /// The agent answered that it won't.
    #[error("{text}")]
    Refused {
        /// How it said so.
        status: StatusCode,
        /// Its words, as far as it gave some.
        text: String,
    },
}
