//! Inputs of the state machine.

use serde_json::Value;
use store::workspaces::DeliveryMode;

/// Something that happened to a workspace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    // === Requests ===
    /// Begin a new attempt, whatever runs.
    Restart,
    /// Stop until resumed.
    Pause,
    /// Run again after a pause.
    Resume,
    /// Stop until there is work.
    Hibernate,
    /// Run again, because there is work.
    Wake,
    /// Stop for good.
    Remove {
        /// Number of descendants that are removed with it; none for those descendants themselves.
        cascade: Option<usize>,
    },

    // === Observations ===
    /// The backend runs the container of this attempt.
    Started {
        attempt: i32,
        /// URL at which the platform reaches the agent.
        url: Option<String>,
    },
    /// This attempt can't succeed.
    StartFailed {
        attempt: i32,
        /// In words for people.
        error: String,
        /// Names of missing variables, if that is why.
        missing: Vec<String>,
    },
    /// The runtime's adapter gave no plan for this attempt.
    NoPlan {
        attempt: i32,
        /// It is asked again after a back-off. Otherwise when it changes, or the workspace.
        is_transient: bool,
        /// One word for programs.
        reason: &'static str,
        /// In words for people.
        message: String,
    },
    /// The adapter gives a plan, after it gave none.
    Planned,
    /// The container certainly doesn't run, though it should.
    ContainerLost,
    /// The container certainly doesn't run, as it should be.
    Stopped,
    /// An agent registered.
    Registered {
        /// URL that the agent named.
        url: Option<String>,
        /// Agent card.
        card: Value,
        delivery_mode: DeliveryMode,
    },
    /// An agent reported its health.
    Heartbeat(Heartbeat),
    /// The agent hasn't called for too long.
    HeartbeatTimeout,
    /// The present state has lasted as long as it may.
    DeadlineExceeded {
        /// How long that was.
        after_seconds: u64,
    },
    /// The back-off of a lost container is over.
    Recover,
    /// The backend could not be asked.
    Unreachable {
        /// In words for people, without addresses or paths.
        reason: String,
    },
    /// The backend answers again.
    Reachable,
    /// The backend did not do what it was asked. It is asked again, later each time.
    BackendFailed {
        /// It said no; else it didn't answer.
        refused: bool,
        /// In words for people, without addresses or paths.
        reason: String,
    },
}

/// What of a heartbeat decides about the status.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heartbeat {
    /// Share of failed calls, 0 to 1.
    pub error_rate: f64,
    /// [`WEDGED`](super::WEDGED), or empty; none where it isn't known.
    pub runtime_state: Option<String>,
    /// An example of what fails.
    pub sample_error: String,
    /// The runtime judges its own health: no inference from the error rate.
    pub self_reports_health: bool,
}
