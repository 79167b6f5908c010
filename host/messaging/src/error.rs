//! Why a message was not delivered.

use http::{HeaderValue, StatusCode};
use net::UrlError;
use store::{CommitError, StoreError, queue::QueueFull, workspaces::Status};

use crate::request::Malformed;

/// The detail for callers who may not know where agents are reached, in place of one that may name an address.
const WITHHELD: &str = "callers with a credential are told why";

/// The same for an agent that redirects.
const REDIRECTS: &str = "the agent's URL redirects, and redirects are not followed";

/// Why activity was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no such workspace, or it is removed.
    #[error("workspace not found")]
    NotFound,
    /// The row could not be stored.
    #[error("the change could not be stored")]
    Commit(#[source] CommitError),
}

/// Why a message was not delivered. The texts are for clients.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// There is no such workspace, or it is removed.
    #[error("workspace not found")]
    NotFound,
    /// The workspace could not be looked up.
    #[error("lookup failed")]
    Lookup(#[source] StoreError),
    /// The two workspaces are neither siblings nor ancestor and descendant.
    #[error("access denied: workspaces cannot communicate per hierarchy rules")]
    AccessDenied,
    /// The target has spent its budget.
    #[error("workspace budget limit exceeded")]
    OverBudget,
    /// The body is no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The message could not be stored for the agent to fetch.
    #[error("failed to queue message")]
    NotQueued(#[source] LogError),
    /// There is no agent to deliver to.
    #[error("workspace has no URL")]
    NoUrl {
        /// Status of the workspace, which says why.
        status: Status,
    },
    /// The workspace was hibernated, and this message wakes it.
    #[error("workspace is waking from hibernation — retry in ~{} seconds", Self::WAKE_RETRY_SECONDS)]
    Waking,
    /// The agent's URL may not be called.
    #[error("workspace URL is not publicly routable")]
    NotRoutable(UrlError),
    /// The runtime's adapter says that this message can't be given to its agents.
    #[error("the runtime's adapter refused the message: {0}")]
    NotTranslatable(String),
    /// The agent, or the adapter that answers for it, was not reached.
    #[error("failed to reach workspace agent")]
    Unreachable,
    /// No secure connection to the agent could be opened.
    #[error("failed to reach workspace agent")]
    Insecure {
        /// What is wrong with it.
        detail: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The agent was sent the message, and answered with something that is no HTTP, or with a status that
    /// HTTP doesn't have.
    #[error("failed to reach workspace agent")]
    InvalidResponse {
        /// What it answered.
        detail: String,
    },
    /// The message went through too many servers and agents.
    #[error("the message went through {hops} servers and agents: they pass it on in a circle")]
    Loop {
        /// How many.
        hops: u32,
    },
    /// This server waits for as many agents as it may.
    #[error("this server waits for as many agents as it may — retry after a short backoff")]
    TooManyCalls,
    /// The agent is busy and keeps a queue of its own.
    #[error("workspace agent busy — adapter handles retry (native_session)")]
    BusyNativeQueue,
    /// The agent is busy, and the message could not be queued.
    #[error("workspace agent busy — retry after a short backoff")]
    BusyAndNotQueued(#[source] StoreError),
    /// The agent is busy, and the queue has no room for the message.
    #[error("workspace agent busy, and its queue is full: {0} — retry later")]
    QueueFull(QueueFull),
    /// The same message is being delivered, and its answer did not come in time.
    #[error("the same message is still being delivered — retry later")]
    SameUnderWay,
    /// The server that delivered the same message ended before the agent's answer came, or lost the answer's row.
    #[error(
        "this message was sent before, and what became of it is unknown: its agent may have worked on it — send it with \
         another messageId (or Idempotency-Key) to have it delivered again"
    )]
    OutcomeUnknown,
    /// The agent's response broke off.
    #[error("failed to read agent response")]
    IncompleteResponse {
        /// The status of the response was a good one: the agent took the message.
        delivered: bool,
    },
    /// The agent's response exceeds the cap.
    #[error("agent response too large")]
    TooLarge {
        /// The status of the response was a good one: the agent took the message.
        delivered: bool,
    },
    /// The agent answered with an error.
    #[error("{text}")]
    Refused {
        /// Status of the response.
        status: StatusCode,
        /// The agent's words, else what the status means.
        text: String,
        /// What the operator should do about it, where that is known.
        detail: Option<String>,
        /// When the agent wants to be asked again, as it wrote it.
        retry_after: Option<HeaderValue>,
    },
}

impl DeliveryError {
    /// Seconds after which a message to a waking workspace is worth sending again.
    pub const WAKE_RETRY_SECONDS: u32 = 15;

    /// Whether the request was written to an agent, which may therefore have begun to work on it. A message
    /// that reached no agent can be sent again without harm.
    #[must_use]
    pub fn reached_agent(&self) -> bool {
        match self {
            Self::InvalidResponse { .. }
            | Self::BusyNativeQueue
            | Self::BusyAndNotQueued(_)
            | Self::QueueFull(_)
            | Self::IncompleteResponse { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. } => true,
            Self::NotFound
            | Self::Lookup(_)
            | Self::AccessDenied
            | Self::OverBudget
            | Self::Malformed(_)
            | Self::NotQueued(_)
            | Self::NoUrl { .. }
            | Self::Waking
            | Self::NotRoutable(_)
            | Self::Insecure { .. }
            | Self::Loop { .. }
            | Self::TooManyCalls
            | Self::NotTranslatable(_)
            | Self::SameUnderWay
            | Self::OutcomeUnknown
            | Self::Unreachable => false,
        }
    }

    /// What is wrong, where the text doesn't say so.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::NotRoutable(url) => Some(url.to_string()),
            Self::Insecure { detail, .. } | Self::InvalidResponse { detail } => Some(detail.clone()),
            Self::Refused { detail, .. } => detail.clone(),
            _ => None,
        }
    }

    /// As much of the detail as callers may read who may not know where agents are reached.
    #[must_use]
    pub fn detail_without_addresses(&self) -> Option<String> {
        match self {
            Self::NotRoutable(_) | Self::Insecure { .. } => Some(WITHHELD.to_owned()),
            Self::Refused { detail, .. } => detail.as_ref().map(|_| REDIRECTS.to_owned()),
            _ => self.detail(),
        }
    }

    /// What to do about it, where the text doesn't say so.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Malformed(malformed) => malformed.hint(),
            Self::NotRoutable(url) => url.hint(),
            Self::Insecure { hint, .. } => Some(hint),
            _ => None,
        }
    }

    /// All of it in one line.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        if let Self::NoUrl { status } = self {
            text.push_str(&format!(": it is {status}"));
        }
        for more in [self.detail(), self.hint().map(str::to_owned)].into_iter().flatten() {
            text.push_str(": ");
            text.push_str(&more);
        }
        text
    }

    /// Whether another attempt would end in the same way.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::AccessDenied | Self::Malformed(_) | Self::NotTranslatable(_) | Self::Loop { .. } => true,
            Self::Refused { status, .. } => *status == StatusCode::LOOP_DETECTED,
            _ => false,
        }
    }

    /// Whether the agent took the message, by the status of its response, though the response can't be
    /// passed on. Such a message must not be sent again.
    #[must_use]
    pub fn was_delivered(&self) -> bool {
        matches!(self, Self::IncompleteResponse { delivered: true } | Self::TooLarge { delivered: true })
    }
}
