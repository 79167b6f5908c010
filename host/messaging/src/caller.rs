//! The sender of a message.

use types::WorkspaceId;

/// The sender of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A user, by the web canvas or a terminal.
    User,
    /// The agent of a workspace.
    Workspace(WorkspaceId),
}

impl Caller {
    /// The workspace, unless the sender is a user.
    #[must_use]
    pub fn workspace(self) -> Option<WorkspaceId> {
        match self {
            Self::User => None,
            Self::Workspace(id) => Some(id),
        }
    }
}
