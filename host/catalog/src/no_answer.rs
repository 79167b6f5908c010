//! Why a guest gave no answer, in words for the user who waits for one: which guest, what happened, what to do.

use wasm::{Failure, FailureKind, Problem};

/// Why a guest gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// No guest knows the runtime.
    #[error(
        "no guest answers for runtime {0}: push an adapter for it (isomer guest push), or choose another runtime"
    )]
    NoAdapter(String),
    /// There is no guest of this name.
    #[error("there is no guest {0}: push one (isomer guest push {0} FILE --activate)")]
    NoGuest(String),
    /// An operator disabled it.
    #[error("guest {0} is disabled: isomer guest enable {0}")]
    Disabled(String),
    /// This server has just started, or has just learned of it.
    #[error("guest {0} is not in service yet: its release is being compiled; try again in a minute")]
    Preparing(String),
    /// It has no release that works.
    #[error("guest {0} has no release in service: isomer guest show {0} says why")]
    OutOfService(String),
    /// The host had no slot, or no room for the answer.
    #[error("guest {guest} is busy ({failure}); try again later")]
    Busy {
        /// Name of the guest.
        guest: String,
        /// What the call waited for.
        failure: Failure,
    },
    /// It failed, or its answer was refused.
    #[error("guest {guest} failed: {failure}. {}", advice(.failure, .guest))]
    Failed {
        /// Name of the guest.
        guest: String,
        /// How.
        failure: Failure,
    },
}

/// Why there is no plan for a start.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The adapter objects: the message is for the maker of the workspace.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// The adapter gave no plan.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

impl NoAnswer {
    pub(crate) fn failed(guest: &str, failure: Failure) -> Self {
        let guest = guest.to_owned();
        match failure.kind() {
            FailureKind::Busy => Self::Busy { guest, failure },
            _ => Self::Failed { guest, failure },
        }
    }

    /// Whether the same question may have an answer later although nothing about the guest or the question changes.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }

    /// One word for programs, as conditions of workspaces have it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoAdapter(_) | Self::NoGuest(_) => "NoGuest",
            Self::Disabled(_) => "Disabled",
            Self::Preparing(_) => "Preparing",
            Self::OutOfService(_) => "OutOfService",
            Self::Busy { .. } => "Busy",
            Self::Failed { failure, .. } => match failure.kind() {
                FailureKind::Trap => "Trapped",
                FailureKind::Timeout => "TimedOut",
                FailureKind::Memory => "OutOfMemory",
                FailureKind::InvalidOutput => "AnswerRefused",
                FailureKind::Busy => "Busy",
            },
        }
    }
}

fn advice(failure: &Failure, guest: &str) -> String {
    match failure.kind() {
        FailureKind::Memory => "Ask it for less at once: fewer or smaller files".to_owned(),
        FailureKind::Timeout | FailureKind::Busy => format!(
            "Try again when the machine is less busy; if that does not help, ask it for less at once, or go back to its \
             earlier release: isomer guest rollback {guest}"
        ),
        FailureKind::Trap | FailureKind::InvalidOutput => {
            format!("Push a mended release, or go back to the earlier one: isomer guest rollback {guest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failure_names_the_guest_what_happened_and_what_to_do() {
        let busy = Failure::Busy { wanted: "slot", waited: Duration::from_secs(10) };
        let busy = NoAnswer::failed("include", busy);
        assert!(busy.is_transient());
        assert_eq!(busy.to_string(), "guest include is busy (no slot was free within 10s); try again later");
        let memory = NoAnswer::failed("include", Failure::Memory { limit: "64 MiB of memory".to_owned() });
        assert!(!memory.is_transient());
        assert_eq!(
            memory.to_string(),
            "guest include failed: the guest wanted more than its 64 MiB of memory. Ask it for less at once: fewer or \
             smaller files"
        );
        let trap = Failure::Trap { message: "panic".to_owned(), backtrace: Vec::new() };
        let trap = NoAnswer::failed("hermes", trap).to_string();
        assert!(trap.contains("hermes") && trap.ends_with("isomer guest rollback hermes"), "{trap}");
    }
}
