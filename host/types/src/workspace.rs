//! The enums of a workspace's row.

use std::str::FromStr;

use crate::{StringEnum as _, string_enum};

string_enum! {
    /// The status that clients see.
    Status {
        /// Is being started, or its agent has not registered yet.
        Provisioning = "provisioning",
        /// The agent works.
        Online = "online",
        /// The container is gone.
        Offline = "offline",
        /// The agent reports that it works badly.
        Degraded = "degraded",
        /// Could not be started.
        Failed = "failed",
        /// Final.
        Removed = "removed",
        /// Stopped by a user, until resumed.
        Paused = "paused",
        /// Is being stopped because it was idle.
        Hibernating = "hibernating",
        /// Stopped because it was idle, until there is work.
        Hibernated = "hibernated",
        /// Has an operator's agent that hasn't called yet, or not for long.
        AwaitingAgent = "awaiting_agent",
    }
}

string_enum! {
    /// What was asked of a workspace.
    DesiredState {
        /// To work.
        Running = "running",
        /// To stand still until resumed.
        Paused = "paused",
        /// To stand still until there is work.
        Hibernated = "hibernated",
        /// To be gone.
        Removed = "removed",
    }
}

string_enum! {
    /// What runs a workspace's agent.
    Hosting {
        /// A container of the backend.
        Container = "container",
        /// An operator; the agent reports in.
        Operator = "operator",
        /// Nothing: the adapter answers.
        Synthetic = "synthetic",
    }
}

string_enum! {
    /// The container as last observed. An unreachable backend is a condition of the workspace, not a
    /// value of this.
    Container {
        /// There never was one.
        None = "none",
        /// It runs.
        Running = "running",
        /// It certainly doesn't run.
        Absent = "gone",
        /// One of an earlier attempt may still run, and is stopped before another one is started.
        Superseded = "stale",
    }
}

string_enum! {
    /// How messages reach an agent.
    DeliveryMode {
        /// The platform calls the agent.
        Push = "push",
        /// The agent fetches them.
        Poll = "poll",
    }
}

/// The text is no delivery mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("delivery_mode must be 'push' or 'poll'")]
pub struct InvalidMode;

impl DeliveryMode {
    /// The mode that a client asked for; `None` for the empty text, which leaves the choice to the platform.
    ///
    /// # Errors
    /// If the text is no mode.
    pub fn asked(text: &str) -> Result<Option<Self>, InvalidMode> {
        if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
    }
}

impl FromStr for DeliveryMode {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_text(text).ok_or(InvalidMode)
    }
}

string_enum! {
    /// What an agent may do with its workspace's host directory.
    WorkspaceAccess {
        /// Nothing: it isn't mounted.
        None = "none",
        /// Read it.
        ReadOnly = "read_only",
        /// Change it.
        ReadWrite = "read_write",
    }
}

/// The text is no access, or the access needs a directory and there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid workspace access")]
pub struct InvalidAccess;

impl WorkspaceAccess {
    /// The access that a client asked for; the empty text means none.
    ///
    /// # Errors
    /// If the text is no access, or the access needs a host directory and the workspace has none.
    pub fn asked(text: &str, has_directory: bool) -> Result<Self, InvalidAccess> {
        let access = if text.is_empty() { Self::None } else { text.parse()? };
        if access == Self::None || has_directory { Ok(access) } else { Err(InvalidAccess) }
    }
}

impl FromStr for WorkspaceAccess {
    type Err = InvalidAccess;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_text(text).ok_or(InvalidAccess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_by_table() {
        use WorkspaceAccess::{None, ReadOnly, ReadWrite};
        for (word, without, with) in [
            ("", Ok(None), Ok(None)),
            ("none", Ok(None), Ok(None)),
            ("read_only", Err(InvalidAccess), Ok(ReadOnly)),
            ("read_write", Err(InvalidAccess), Ok(ReadWrite)),
            ("None", Err(InvalidAccess), Err(InvalidAccess)),
            ("read-only", Err(InvalidAccess), Err(InvalidAccess)),
        ] {
            assert_eq!(WorkspaceAccess::asked(word, false), without, "{word}");
            assert_eq!(WorkspaceAccess::asked(word, true), with, "{word}");
        }
        assert_eq!(InvalidAccess.to_string(), "invalid workspace access");
    }

    #[test]
    fn texts_are_the_same_when_displayed_parsed_and_serialized() {
        for access in [WorkspaceAccess::None, WorkspaceAccess::ReadOnly, WorkspaceAccess::ReadWrite] {
            assert_eq!(access.to_string().parse(), Ok(access));
            assert_eq!(serde_json::to_value(access).unwrap(), access.as_str());
            assert_eq!(serde_json::from_value::<WorkspaceAccess>(access.as_str().into()).unwrap(), access);
        }
        for mode in [DeliveryMode::Push, DeliveryMode::Poll] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
            assert_eq!(DeliveryMode::asked(mode.as_str()), Ok(Some(mode)));
        }
    }

    #[test]
    fn modes_by_table() {
        assert_eq!(DeliveryMode::asked(""), Ok(None));
        for word in ["webhook", "Push", " poll"] {
            assert_eq!(DeliveryMode::asked(word), Err(InvalidMode), "{word}");
        }
        assert_eq!(InvalidMode.to_string(), "delivery_mode must be 'push' or 'poll'");
    }
}
