//! A [`Change`] is what one commit does: preconditions, mutations, events. All of it is written, or
//! nothing.
//!
//! Mutations and preconditions are open: each is a type beside the functions of its table, with its SQL
//! and its effects on indexes and other servers. A change is data, so it can be inspected, grouped
//! with others, and tried again.
//!
//! All servers commit one after another, on every database: each transaction begins by locking the one
//! row of `event_head`. So a precondition that holds in a transaction still holds when it commits, and
//! event numbers are in the order of commits, without gaps.

use std::{any::Any, collections::BTreeSet, fmt::Debug, sync::Arc};

use async_trait::async_trait;
use events::Event;
use types::WorkspaceId;

use crate::{StoreError, transaction::Transaction};

/// An event, and the workspace that it is about.
pub type WorkspaceEvent = (Option<WorkspaceId>, Event);

/// Rows that a change writes. Implemented beside the table, in this crate only: the transaction has no
/// public functions.
#[async_trait]
pub trait Mutation: Any + Debug + Send + Sync {
    /// Writes the rows.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] where a row is not as expected; then nothing of the change is written.
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError>;

    /// Workspaces that are read again before the change is planned anew after a conflict.
    fn workspaces(&self) -> Vec<WorkspaceId> {
        Vec::new()
    }

    /// Events by which other servers learn of these rows where no explicit event of the change names them. Explicit
    /// ones are about the workspaces `published`.
    fn implicit_events(&self, published: &BTreeSet<WorkspaceId>) -> Vec<WorkspaceEvent> {
        let _ = published;
        Vec::new()
    }
}

impl dyn Mutation {
    /// The mutation, if it is of this type.
    #[must_use]
    pub fn downcast_ref<M: Mutation>(&self) -> Option<&M> {
        (self as &dyn Any).downcast_ref()
    }
}

/// A condition that must hold in the transaction of a change.
#[async_trait]
pub trait Precondition: Any + Debug + Send + Sync {
    /// Whether the condition holds.
    ///
    /// # Errors
    /// If the database fails.
    async fn holds(&self, tx: &mut Transaction) -> Result<bool, StoreError>;

    /// Workspaces that are read again before the change is planned anew because it does not hold.
    fn workspaces(&self) -> Vec<WorkspaceId> {
        Vec::new()
    }
}

impl dyn Precondition {
    /// Whether the precondition is of this type.
    #[must_use]
    pub fn is<P: Precondition>(&self) -> bool {
        (self as &dyn Any).is::<P>()
    }
}

/// What one commit does.
#[derive(Debug, Clone, Default)]
pub struct Change {
    preconditions: Vec<Arc<dyn Precondition>>,
    mutations: Vec<Arc<dyn Mutation>>,
    /// Published with the commit, in this order.
    pub events: Vec<WorkspaceEvent>,
}

/// Why a change was not committed. Nothing of it was written, except where it says so.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A row is not as the change expected it: another change was earlier. Plan again on newer rows.
    #[error("a row changed meanwhile")]
    Conflict,
    /// A precondition does not hold.
    #[error("a precondition of the change does not hold: {0:?}")]
    PreconditionFailed(Arc<dyn Precondition>),
    /// A sibling has that name.
    #[error("a sibling has that name")]
    NameTaken,
    /// The database did not answer in time. The change may have been committed; if it was, its events
    /// arrive as another server's would.
    #[error("the database didn't answer in time")]
    OutcomeUnknown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl CommitError {
    /// Whether the same change is worth another try later: nothing is wrong with it. After
    /// [`OutcomeUnknown`](Self::OutcomeUnknown), it may have been committed.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_outage(),
            Self::OutcomeUnknown | Self::Stopping => true,
            Self::Conflict | Self::PreconditionFailed(_) | Self::NameTaken => false,
        }
    }
}

impl From<sea_orm::DbErr> for CommitError {
    fn from(error: sea_orm::DbErr) -> Self {
        StoreError::from(error).into()
    }
}

impl Change {
    /// A change of one mutation.
    #[must_use]
    pub fn of(mutation: impl Mutation) -> Self {
        Self::default().with(mutation)
    }

    /// The change with one more mutation, executed after the others.
    #[must_use]
    pub fn with(mut self, mutation: impl Mutation) -> Self {
        self.push(mutation);
        self
    }

    /// The change with one more precondition.
    #[must_use]
    pub fn require(mut self, precondition: impl Precondition) -> Self {
        self.push_precondition(precondition);
        self
    }

    /// The change with one more event.
    #[must_use]
    pub fn with_event(mut self, workspace: impl Into<Option<WorkspaceId>>, event: Event) -> Self {
        self.events.push((workspace.into(), event));
        self
    }

    /// Adds a mutation, executed after the others.
    pub fn push(&mut self, mutation: impl Mutation) {
        self.mutations.push(Arc::new(mutation));
    }

    /// Adds a precondition.
    pub fn push_precondition(&mut self, precondition: impl Precondition) {
        self.preconditions.push(Arc::new(precondition));
    }

    /// The mutations, in the order in which they are executed.
    pub fn mutations(&self) -> impl Iterator<Item = &dyn Mutation> {
        self.mutations.iter().map(AsRef::as_ref)
    }

    pub(crate) fn preconditions(&self) -> &[Arc<dyn Precondition>] {
        &self.preconditions
    }

    /// Workspaces that are read again before the change is planned anew, each once.
    #[must_use]
    pub fn workspaces(&self) -> Vec<WorkspaceId> {
        let mutations = self.mutations.iter().flat_map(|mutation| mutation.workspaces());
        let preconditions = self.preconditions.iter().flat_map(|precondition| precondition.workspaces());
        let all: BTreeSet<WorkspaceId> = mutations.chain(preconditions).collect();
        all.into_iter().collect()
    }

    /// Adds the events by which other servers learn of rows that no explicit event is about.
    pub fn add_implicit_events(&mut self) {
        let published: BTreeSet<WorkspaceId> =
            self.events.iter().filter_map(|(workspace, _)| *workspace).collect();
        let implicit = self.mutations.iter().flat_map(|mutation| mutation.implicit_events(&published));
        self.events.extend(implicit);
    }
}
