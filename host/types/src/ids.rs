//! Ids: one type each, so that the id of one thing is never taken for that of another. All are UUIDs, and
//! are written as such.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Defines types of ids.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id.
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// An id by its text.
            ///
            /// # Errors
            /// If the text is no UUID.
            pub fn parse(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )*};
}

ids! {
    /// A workspace.
    WorkspaceId;
    /// A bearer token.
    TokenId;
    /// An organization: the id of its root workspace.
    OrgId;
    /// A row of activity.
    ActivityId;
    /// A queued message.
    QueueItemId;
    /// A running server process.
    ServerId;
    /// An event.
    EventId;
}

impl From<WorkspaceId> for OrgId {
    fn from(root: WorkspaceId) -> Self {
        Self(root.0)
    }
}

impl From<OrgId> for WorkspaceId {
    fn from(org: OrgId) -> Self {
        Self(org.0)
    }
}

/// What a token or a secret belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// One workspace.
    Workspace(WorkspaceId),
    /// The whole organization.
    Organization,
}

impl Owner {
    /// The workspace, if it is one.
    #[must_use]
    pub fn workspace(self) -> Option<WorkspaceId> {
        match self {
            Self::Workspace(id) => Some(id),
            Self::Organization => None,
        }
    }
}

/// Columns hold no id for what belongs to the organization.
impl From<Option<WorkspaceId>> for Owner {
    fn from(workspace: Option<WorkspaceId>) -> Self {
        workspace.map_or(Self::Organization, Self::Workspace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_their_uuids() {
        let text = "6f1c7a52-0b7e-4a1e-9a53-0d1f6f0f2f11";
        let id: WorkspaceId = text.parse().unwrap();
        assert_eq!((id.to_string(), format!("{id:?}")), (text.to_owned(), text.to_owned()));
        assert_eq!(serde_json::to_value(id).unwrap(), text);
        assert_eq!(serde_json::from_value::<WorkspaceId>(text.into()).unwrap(), id);
        assert!(WorkspaceId::parse("x").is_err());
    }
}
