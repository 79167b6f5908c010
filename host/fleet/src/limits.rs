//! Times and sizes that the fleet works by. What an operator would want to change is in [`Limits`].

use std::time::Duration;

/// What an operator may change.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long every start may take; none: see [`provision::provision_timeout`].
    pub provision_timeout: Option<Duration>,
    /// Time without a heartbeat after which an agent that its operator runs counts as away.
    pub operator_heartbeat_timeout: Duration,
    /// How long a lease lasts that its server doesn't renew. Another server takes over after that.
    pub lease: Duration,
    /// How long the backend may take for one action.
    pub backend_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            provision_timeout: None,
            operator_heartbeat_timeout: Duration::from_secs(90),
            lease: Duration::from_secs(5),
            backend_timeout: Duration::from_secs(180),
        }
    }
}

/// Time without a heartbeat after which a container's agent counts as gone: six heartbeats of 30 s.
pub(crate) const CONTAINER_HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(180);

/// How long stopping for hibernation may take before it is given up.
pub(crate) const HIBERNATE_TIMEOUT: Duration = Duration::from_secs(180);

/// How long an answer waits until the desired state is observed.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Wait after the first failure; doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// The longest wait between attempts.
const BACKOFF_MAX: Duration = state::LONGEST_BACKOFF;

/// How long the backend may take to say what it observes.
pub(crate) const OBSERVE_TIMEOUT: Duration = Duration::from_secs(5);

/// When a workspace is reconciled again whose backend or whose reconciliation failed.
pub(crate) const REQUEUE_AFTER: Duration = Duration::from_secs(5);

/// How often every workspace is reconciled without a reason: the health sweep of the contract.
pub(crate) const RESYNC_INTERVAL: Duration = Duration::from_secs(15);

/// Bytes of a stored error at most.
pub(crate) const ERROR_BYTES: usize = 8_192;

/// The wait after this many failures in a row.
#[must_use]
pub(crate) fn backoff(failures: i32) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(16);
    (BACKOFF_MIN * 2_u32.pow(doublings)).min(BACKOFF_MAX)
}
