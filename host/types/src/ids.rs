//! Ids: one type each, so that the id of one thing is never taken for that of another. All are UUIDs, and
//! are written as such; only events also have a number.

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

/// The number of a stored event: 1, 2, 3 … in the order of commits. Written as a JSON number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventSeq(pub i64);

impl EventSeq {
    /// Comes before the first event.
    pub const START: Self = Self(0);

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// A number by its text, which may be [`EventSeq::START`]; none if the text is no number of an event.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self).filter(|seq| *seq >= Self::START)
    }
}

impl fmt::Display for EventSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
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

    #[test]
    fn numbers_of_events_are_written_as_numbers() {
        let seq = EventSeq::parse("7").unwrap();
        assert_eq!((seq, seq.next(), seq.to_string()), (EventSeq(7), EventSeq(8), "7".to_owned()));
        assert_eq!(serde_json::to_value(seq).unwrap(), 7);
        assert_eq!(serde_json::from_str::<EventSeq>("7").unwrap(), seq);
        for text in ["", "-1", "x", "1.0", "9223372036854775808"] {
            assert_eq!(EventSeq::parse(text), None, "{text}");
        }
    }
}
