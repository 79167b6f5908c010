//! Who sends a message.

use uuid::Uuid;

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A person, by the web canvas or a terminal.
    Person,
    /// The agent of a workspace.
    Workspace(Uuid),
}

impl Caller {
    /// The workspace, unless it is a person.
    #[must_use]
    pub fn workspace(self) -> Option<Uuid> {
        match self {
            Self::Person => None,
            Self::Workspace(id) => Some(id),
        }
    }
}
