//! The sender of a message.

use uuid::Uuid;

/// The sender of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A user, by the web canvas or a terminal.
    User,
    /// The agent of a workspace.
    Workspace(Uuid),
}

impl Caller {
    /// The workspace, unless the sender is a user.
    #[must_use]
    pub fn workspace(self) -> Option<Uuid> {
        match self {
            Self::User => None,
            Self::Workspace(id) => Some(id),
        }
    }
}
