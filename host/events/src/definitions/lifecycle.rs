//! Payloads of a workspace's life. Fields in alphabetical order: that is their order in the text.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::WorkspaceId;

use super::fixed::{BootstrapWatcher, ProvisionTimeoutSweep, Wedged, Yes};

/// An empty payload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// A workspace is being provisioned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Provisioning {
    /// By an import of an organization. Parents are announced before their children.
    Imported {
        /// Its name.
        name: String,
        /// Its parent; roots have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_id: Option<WorkspaceId>,
        /// Its runtime.
        runtime: String,
        /// Its tier.
        tier: i32,
        /// Position relative to the parent.
        x: f64,
        /// Position relative to the parent.
        y: f64,
    },
    /// By an import of a bundle.
    Bundled {
        /// Its name.
        name: String,
        /// Its runtime.
        runtime: String,
        /// Id that the bundle gives itself.
        source_bundle_id: String,
        /// Its tier.
        tier: i32,
    },
    /// By create, restart, resume or wake.
    Started {
        /// Its name.
        name: String,
        /// Its runtime.
        runtime: String,
        /// Its tier.
        tier: i32,
    },
}

/// Provisioning failed. `error` is shown to people as the workspace's error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ProvisionFailed {
    /// Settings that the workspace needs are missing.
    MissingEnv {
        /// What went wrong.
        error: String,
        /// Names of what is missing.
        missing: Vec<String>,
    },
    /// The agent never registered.
    TimedOut {
        /// What went wrong.
        error: String,
        /// Its runtime.
        runtime: String,
        /// What noticed.
        source: ProvisionTimeoutSweep,
        /// How long it was given.
        timeout_secs: i64,
    },
    /// The container started, the agent in it did not.
    Bootstrap {
        /// What went wrong.
        error: String,
        /// The end of its log.
        log_tail: String,
        /// What noticed.
        source: BootstrapWatcher,
    },
    /// Anything else.
    Other {
        /// What went wrong.
        error: String,
    },
}

/// A workspace answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Online {
    /// Its agent registered.
    Registered {
        /// The agent's card.
        agent_card: Value,
        /// `push` or `poll`.
        delivery_mode: String,
        /// Where the agent answers; empty for polling ones.
        url: String,
    },
    /// A heartbeat revived it from a status that only registering leaves otherwise.
    Recovered {
        /// The status it had.
        recovered_from: RecoveredFrom,
    },
    /// It was created as a synthetic one.
    Mock {
        /// Always.
        mock: Yes,
        /// Its name.
        name: String,
        /// Its runtime.
        runtime: String,
    },
    /// It was created as an external one with a URL.
    External {
        /// Always.
        external: Yes,
        /// Its name.
        name: String,
    },
    /// A heartbeat after it was degraded or offline.
    Reconnected {},
}

/// Statuses that a heartbeat recovers from and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveredFrom {
    /// It was being provisioned.
    Provisioning,
    /// Its agent was awaited.
    AwaitingAgent,
    /// Provisioning it had failed.
    Failed,
}

/// A workspace answers, but badly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Degraded {
    /// Share of failed turns, 0 to 1.
    pub error_rate: f64,
    /// Present when the agent called itself wedged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_state: Option<Wedged>,
    /// One of its errors.
    pub sample_error: String,
}

/// An external workspace waits for its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitingAgent {
    /// Always.
    pub external: Yes,
    /// Its name.
    pub name: String,
}

/// A workspace was paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Its name.
    pub name: String,
}

/// A workspace was put to sleep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hibernated {
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: i32,
}

/// A workspace was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Removed {
    /// How many descendants went with it; only on the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cascade_deleted: Option<i64>,
}

/// A workspace was edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// Keys that changed.
    pub changed: Vec<String>,
}

/// An agent's heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Tasks it works on.
    pub active_tasks: i32,
    /// Seconds since it started.
    pub uptime_seconds: i64,
}

/// What an agent works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Tasks it works on.
    pub active_tasks: i32,
    /// As the agent describes it; empty when idle.
    pub current_task: String,
}

/// The tokens of an external workspace were replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsRotated {
    /// The workspace.
    pub workspace_id: WorkspaceId,
}
