//! The definitions of all events: name on the wire, class, and type of the payload.
//!
//! One table generates the enum and the lookups by name, so that they can't disagree. Names and payloads
//! are the contract's; clients match on them. The last group is internal.

mod agents;
mod fixed;
mod lifecycle;
mod messages;
#[cfg(test)]
pub(crate) mod tests;
mod work;

pub use agents::{AgentModel, CardUpdated, Moved, Replaced};
pub use fixed::{
    Approved, BootstrapWatcher, Denied, Inbound, Outbound, ProvisionTimeoutSweep, QueueDrain, Wedged, Yes,
};
pub use lifecycle::{
    AwaitingAgent, CredentialsRotated, Degraded, Empty, Heartbeat, Hibernated, Online, Paused,
    ProvisionFailed, Provisioning, RecoveredFrom, Removed, Task, Updated,
};
pub use messages::{
    A2aResponse, Activity, AgentMessage, Attachment, ChannelMessage, DelegationComplete, DelegationFailed,
    DelegationProgress, DelegationSent, DelegationStatus,
};
pub use work::{
    ApprovalApproved, ApprovalDecided, ApprovalDenied, ApprovalEscalated, ApprovalRequested, CronExecuted,
    CronSkipped, Decision, GuestChanged, ImportCompleted, ImportFailed, ImportFailure, ImportStarted,
    TokenChanged,
};

use crate::json;

/// Whether an event is stored, and whether clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Stored and numbered, then published to clients.
    Durable,
    /// Stored and numbered; clients see it in lists only.
    StoredOnly,
    /// Published only.
    Ephemeral,
    /// Stored so that other servers read rows again; no client sees it.
    Internal,
}

macro_rules! definitions {
    ($($(#[$doc:meta])* $variant:ident($payload:ty) = $name:literal, $class:ident;)*) => {
        /// Something that happened, with its payload.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $($(#[$doc])* $variant($payload),)*
        }

        impl Event {
            /// The name on the wire and in the store.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// See [`Class`].
            #[must_use]
            pub fn class(&self) -> Class {
                match self {
                    $(Self::$variant(_) => Class::$class,)*
                }
            }

            /// The payload as compact JSON text: an object, its keys in alphabetical order.
            #[must_use]
            pub fn payload(&self) -> String {
                match self {
                    $(Self::$variant(payload) => json::text(payload),)*
                }
            }

            /// The event with this name and payload; `None` if there is no such definition.
            #[must_use]
            pub fn parse(name: &str, payload: &str) -> Option<Self> {
                match name {
                    $($name => serde_json::from_str(payload).ok().map(Self::$variant),)*
                    _ => None,
                }
            }
        }

        /// The class of the event called `name`, which may come from the store. An unknown name was written
        /// by an older or newer version and counts as durable.
        #[must_use]
        pub fn class_of(name: &str) -> Class {
            match name {
                $($name => Class::$class,)*
                _ => Class::Durable,
            }
        }

        #[cfg(test)]
        pub(crate) const NAMES: &[&str] = &[$($name),*];
    };
}

definitions! {
    // Lifecycle

    /// By create, restart, resume, wake and imports.
    WorkspaceProvisioning(Provisioning) = "WORKSPACE_PROVISIONING", Durable;
    /// By provisioning, its timeout sweep, and the workspace's own watcher.
    WorkspaceProvisionFailed(ProvisionFailed) = "WORKSPACE_PROVISION_FAILED", Durable;
    /// By register, heartbeat, and the creation of what needs no container.
    WorkspaceOnline(Online) = "WORKSPACE_ONLINE", Durable;
    /// By presence expiry, the health sweep and failed deliveries.
    WorkspaceOffline(Empty) = "WORKSPACE_OFFLINE", Durable;
    /// By heartbeats that report errors.
    WorkspaceDegraded(Degraded) = "WORKSPACE_DEGRADED", Durable;
    /// By the creation of an external workspace without URL, and when one has gone stale.
    WorkspaceAwaitingAgent(AwaitingAgent) = "WORKSPACE_AWAITING_AGENT", Durable;
    /// By pause, on each workspace it reached.
    WorkspacePaused(Paused) = "WORKSPACE_PAUSED", Durable;
    /// By hibernate and the idle monitor.
    WorkspaceHibernated(Hibernated) = "WORKSPACE_HIBERNATED", Durable;
    /// By delete and the tidying of an import; descendants first.
    WorkspaceRemoved(Removed) = "WORKSPACE_REMOVED", Durable;
    /// By edits of a workspace. Ours.
    WorkspaceUpdated(Updated) = "WORKSPACE_UPDATED", Durable;
    /// By every heartbeat, changed or not: the drain of queued messages is triggered by it.
    WorkspaceHeartbeat(Heartbeat) = "WORKSPACE_HEARTBEAT", Ephemeral;
    /// By heartbeats whose task changed.
    TaskUpdated(Task) = "TASK_UPDATED", Ephemeral;
    /// By the rotation of an external workspace's tokens.
    ExternalCredentialsRotated(CredentialsRotated) = "EXTERNAL_CREDENTIALS_ROTATED", Durable;

    // Agents

    /// By an agent that updates its card.
    AgentCardUpdated(CardUpdated) = "AGENT_CARD_UPDATED", Durable;
    /// By agent assign.
    AgentAssigned(AgentModel) = "AGENT_ASSIGNED", Durable;
    /// By agent replace.
    AgentReplaced(Replaced) = "AGENT_REPLACED", Durable;
    /// By agent remove.
    AgentRemoved(AgentModel) = "AGENT_REMOVED", Durable;
    /// By agent move, once on each end.
    AgentMoved(Moved) = "AGENT_MOVED", Durable;

    // Messages, activity, delegation

    /// By agents that send users a message.
    AgentMessage(AgentMessage) = "AGENT_MESSAGE", Ephemeral;
    /// By the A2A proxy, for a message of a user.
    A2aResponse(A2aResponse) = "A2A_RESPONSE", Ephemeral;
    /// By each activity row.
    ActivityLogged(Box<Activity>) = "ACTIVITY_LOGGED", Ephemeral;
    /// By delegate; before any status of the same delegation.
    DelegationSent(DelegationSent) = "DELEGATION_SENT", Durable;
    /// By the delivery of a delegation.
    DelegationStatus(DelegationStatus) = "DELEGATION_STATUS", Durable;
    /// By delivery, the queue, or the agent's own report.
    DelegationComplete(DelegationComplete) = "DELEGATION_COMPLETE", Durable;
    /// By delivery, the deadline, or the agent's own report.
    DelegationFailed(DelegationFailed) = "DELEGATION_FAILED", Durable;
    /// By channels, either way.
    ChannelMessage(ChannelMessage) = "CHANNEL_MESSAGE", Durable;

    // Schedules, approvals, imports

    /// By the scheduler.
    CronExecuted(CronExecuted) = "CRON_EXECUTED", Durable;
    /// By the scheduler.
    CronSkipped(CronSkipped) = "CRON_SKIPPED", Durable;
    /// By an agent that asks, on itself.
    ApprovalRequested(ApprovalRequested) = "APPROVAL_REQUESTED", Durable;
    /// By an agent that asks, on its parent.
    ApprovalEscalated(ApprovalEscalated) = "APPROVAL_ESCALATED", Durable;
    /// By decide.
    ApprovalApproved(ApprovalApproved) = "APPROVAL_APPROVED", Durable;
    /// By decide and by expiry.
    ApprovalDenied(ApprovalDenied) = "APPROVAL_DENIED", Durable;
    /// By decide and by expiry, after either of the two: what runtimes wait for.
    ApprovalDecided(ApprovalDecided) = "APPROVAL_DECIDED", Durable;
    /// By an import of an organization, once its template is read.
    ImportStarted(ImportStarted) = "org.import.started", StoredOnly;
    /// By an import of an organization that ran to its end.
    ImportCompleted(ImportCompleted) = "org.import.completed", StoredOnly;
    /// By an import of an organization that was given up.
    ImportFailed(ImportFailed) = "org.import.failed", StoredOnly;

    // Between servers

    /// By a change of a workspace without another event: other servers read its row again.
    WorkspaceChanged(Empty) = "isomer.workspace.changed", Internal;
    /// By a change of a token: other servers index it.
    TokenChanged(TokenChanged) = "isomer.token.changed", Internal;
    /// By a change of a guest: other servers may run it.
    GuestChanged(GuestChanged) = "isomer.guest.changed", Internal;
}
