//! Times and sizes that the fleet works by. What an operator would want to change is in [`Limits`].

use std::time::Duration;

/// What an operator may change.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long every start may take; when none, what the template or the adapter says, else
    /// [`PROVISION_TIMEOUT`].
    pub provision_timeout: Option<Duration>,
    /// Silence after which an agent that somebody else runs counts as away.
    pub operator_silence: Duration,
    /// How long the lease of a server lasts that it doesn't renew. Others take over after that.
    pub lease: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            provision_timeout: None,
            operator_silence: Duration::from_secs(90),
            lease: Duration::from_secs(5),
        }
    }
}

/// How long a start may take when nobody says otherwise.
pub(crate) const PROVISION_TIMEOUT: Duration = Duration::from_secs(600);

/// Silence after which a container's agent counts as gone: six heartbeats of 30 s.
pub(crate) const CONTAINER_SILENCE: Duration = Duration::from_secs(180);

/// How long stopping for hibernation may take before it is given up.
pub(crate) const HIBERNATE_TIMEOUT: Duration = Duration::from_secs(180);

/// How long an answer waits for what it ordered to be seen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a row of activity may wait for its place among those to be written.
pub(crate) const LOG_PATIENCE: Duration = Duration::from_secs(30);

/// First wait after a failure; doubles with each further one.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// The longest wait between tries.
pub(crate) const BACKOFF_LAST: Duration = Duration::from_secs(300);

/// How long the backend may take to tell what it sees, and how long to wait when it can't.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long the backend may take for one action. In tests, as long as they can wait.
pub(crate) const BACKEND_DEADLINE: Duration =
    if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(180) };

/// How often every workspace is looked at without a reason: the health sweep of the contract.
pub(crate) const SLOW_TICK: Duration = Duration::from_secs(15);

/// Bytes of a stored error at most.
pub(crate) const ERROR_BYTES: usize = 8_192;

/// The wait after this many failures in a row.
#[must_use]
pub(crate) fn backoff(failures: i32) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(16);
    (BACKOFF_FIRST * 2_u32.pow(doublings)).min(BACKOFF_LAST)
}
