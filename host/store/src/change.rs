//! What can be changed in one go. A [`Change`] is data: it can be looked at, grouped with others, and
//! tried again. All of it is written, or nothing.
//!
//! Changes are made one after another, on every database and by every server: each transaction begins
//! by taking the one row of `event_head`. So a check that holds in a change still holds when it
//! commits, and the numbers of events are in the order of commits, without gaps.

use events::Event;
use uuid::Uuid;

use crate::{
    StoreError,
    activity::ActivityRow,
    leases::Fence,
    secrets::{InboundSecretRow, SecretRow},
    tokens::{RevokedBy, TokenRow},
    workspaces::{LayoutRow, WorkspaceRow},
};

/// A whole change: checks that must hold, rows to write, events that tell of it.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Must all hold, or nothing is written.
    pub checks: Vec<Check>,
    /// Written in this order.
    pub writes: Vec<Write>,
    /// Stored with the writes, in this order, each with the workspace that it is about.
    pub events: Vec<(Option<Uuid>, Event)>,
}

/// Something that must be so at the moment of the change.
#[derive(Debug, Clone)]
pub enum Check {
    /// This workspace exists and isn't removed.
    Live(Uuid),
    /// No workspace outside of these has one of these as its parent, except removed ones.
    NoOtherChildren(Vec<Uuid>),
    /// `child` is neither `parent` nor above it.
    NoCycle {
        /// The workspace to be moved.
        child: Uuid,
        /// Its new parent.
        parent: Uuid,
    },
    /// The lease is still ours.
    Held(Fence),
    /// The workspace has fewer than this many live tokens of people.
    FewerUserTokens {
        /// The workspace.
        workspace: Uuid,
        /// The first number that is too many.
        limit: u64,
    },
}

/// Rows to write.
#[derive(Debug, Clone)]
pub enum Write {
    /// New workspaces, parents first.
    InsertWorkspaces(Vec<WorkspaceRow>),
    /// Workspaces as they are from now on. The stored revision must be one less than each row's.
    UpdateWorkspaces(Vec<WorkspaceRow>),
    /// Places on the canvas, new or changed.
    PutLayouts(Vec<LayoutRow>),
    /// Workspaces that lose their place on the canvas.
    DeleteLayouts(Vec<Uuid>),
    /// A new token.
    InsertToken(Box<TokenRow>),
    /// A live token that ends. Fails when it isn't live.
    RevokeToken {
        /// Its id.
        id: Uuid,
        /// What ends it.
        by: RevokedBy,
    },
    /// Every live token of these workspaces ends.
    RevokeTokensOf {
        /// The workspaces.
        workspaces: Vec<Uuid>,
        /// What ends them.
        by: RevokedBy,
    },
    /// Secrets of workspaces or of everybody, new or changed.
    PutSecrets(Vec<SecretRow>),
    /// What the platform shows when it calls into a workspace that has nothing yet. Fails when it has.
    InsertInboundSecret(InboundSecretRow),
    /// New rows of activity.
    InsertActivity(Vec<ActivityRow>),
    /// These workspaces and everything of theirs go for good, their events too.
    Purge(Vec<Uuid>),
}

/// Why a change was not made. Nothing of it was written, except where it says so.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A row is not as the change expected it: somebody was quicker. Read again, and try again.
    #[error("a row changed meanwhile")]
    Stale,
    /// A check doesn't hold.
    #[error("a check of the change doesn't hold: {0:?}")]
    Refused(Check),
    /// A sibling has that name.
    #[error("a sibling has that name")]
    NameTaken,
    /// The database didn't answer in time. The change may have been made or not; what was made will
    /// be heard of as events.
    #[error("the database didn't answer in time")]
    Unknown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl Change {
    /// A change of these rows.
    #[must_use]
    pub fn of(writes: impl Into<Vec<Write>>) -> Self {
        Self { writes: writes.into(), ..Self::default() }
    }

    /// The same, if this holds.
    #[must_use]
    pub fn provided(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// The same, told by this event too.
    #[must_use]
    pub fn telling(mut self, workspace: impl Into<Option<Uuid>>, event: Event) -> Self {
        self.events.push((workspace.into(), event));
        self
    }
}
