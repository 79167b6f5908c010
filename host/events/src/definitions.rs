//! Every event there is: its name on the wire, its class, and the type of its payload.
//!
//! One table makes the enum and all that is known by name, so that the three can't disagree.
//! Names and payloads are the contract's; clients match on them. The last group is ours.

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

/// Where an event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Stored, then sent.
    Durable,
    /// Stored, never sent.
    StoredOnly,
    /// Sent, never stored.
    Ephemeral,
    /// Stored so that other replicas hear of it; never shown to anyone outside.
    Internal,
}

macro_rules! definitions {
    ($($(#[$doc:meta])* $variant:ident($payload:ty) = $name:literal, $class:ident;)*) => {
        /// Something that happened, with what there is to say about it.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $($(#[$doc])* $variant($payload),)*
        }

        impl Event {
            /// Its name on the wire and in the store.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// Where it goes.
            #[must_use]
            pub fn class(&self) -> Class {
                match self {
                    $(Self::$variant(_) => Class::$class,)*
                }
            }

            /// Its payload as compact JSON text: an object, its keys in alphabetical order.
            #[must_use]
            pub fn payload(&self) -> String {
                match self {
                    $(Self::$variant(payload) => json::text(payload),)*
                }
            }

            /// Reads back what `name` and `payload` gave; `None` for what isn't in this definitions.
            #[must_use]
            pub fn parse(name: &str, payload: &str) -> Option<Self> {
                match name {
                    $($name => serde_json::from_str(payload).ok().map(Self::$variant),)*
                    _ => None,
                }
            }
        }

        /// The class of the event called `name`, which may come from the store. Names that nobody
        /// knows were written by an older or newer version and count as recorded.
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
    /// By heartbeats that tell of errors.
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
    /// By every heartbeat, changed or not: waiting dispatches live on it.
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

    /// By agents that tell people something.
    AgentMessage(AgentMessage) = "AGENT_MESSAGE", Ephemeral;
    /// By the A2A proxy, for a turn that people began.
    A2aResponse(A2aResponse) = "A2A_RESPONSE", Ephemeral;
    /// By whoever writes an activity row.
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
    /// By an import of an organisation, once its template is read.
    ImportStarted(ImportStarted) = "org.import.started", StoredOnly;
    /// By an import of an organisation that ran to its end.
    ImportCompleted(ImportCompleted) = "org.import.completed", StoredOnly;
    /// By an import of an organisation that was given up.
    ImportFailed(ImportFailed) = "org.import.failed", StoredOnly;

    // Between replicas

    /// By whoever changes a workspace in a way that no other event tells: others hold it in memory.
    WorkspaceChanged(Empty) = "isomer.workspace.changed", Internal;
    /// By whoever changes a token: others may hold it in memory.
    TokenChanged(TokenChanged) = "isomer.token.changed", Internal;
    /// By whoever changes a guest: others may run it.
    GuestChanged(GuestChanged) = "isomer.guest.changed", Internal;
}
