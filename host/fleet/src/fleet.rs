//! The fleet itself: the capabilities below it, and what its verbs share.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use credentials::Credentials;
use events::Hub;
use net::AgentAddresses;
use provision::Backend;
use state::{ChangeError, State, Workspace, WorkspaceIndex};
use store::{
    Change, Cipher, Store, StoreError,
    workspaces::{Hosting, UpdateWorkspaces, WorkspaceRow, rows_written},
};
use types::WorkspaceId;

use crate::{
    agent_states::AgentStates,
    asked::Asked,
    delivery_problems::DeliveryProblems,
    error::WorkspaceError,
    host_directories::HostDirectories,
    limits::Limits,
    machine::{self, Input, Transition},
    presence::PresenceObservers,
    runtimes::Runtimes,
    templates::RuntimeTemplates,
    work_queue::WorkQueue,
};

pub(crate) use state::Planned;

/// What a fleet is opened with.
pub struct FleetConfig {
    /// The deployment's state, opened. Its writer ends once every clone of the fleet is dropped.
    pub state: State,
    /// What the adapters say of runtimes.
    pub runtimes: Arc<dyn Runtimes>,
    /// What runs containers, if there is a backend.
    pub backend: Option<Arc<dyn Backend>>,
    /// What seals secrets.
    pub cipher: Cipher,
    /// Runtime templates that workspaces may be created from.
    pub templates: RuntimeTemplates,
    /// Times that an operator may set.
    pub limits: Limits,
    /// Settings that end up in containers.
    pub provision: provision::Settings,
    /// Whether this is a hosted deployment, with agents in private networks.
    pub saas: bool,
    /// Which URLs agents may have.
    pub addresses: AgentAddresses,
    /// Which directories of the host workspaces may have.
    pub host_directories: HostDirectories,
}

/// Every workspace of this server's database. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) credentials: Credentials,
    pub(crate) runtimes: Arc<dyn Runtimes>,
    pub(crate) backend: Option<Arc<dyn Backend>>,
    pub(crate) templates: RuntimeTemplates,
    pub(crate) limits: Limits,
    pub(crate) provision: provision::Settings,
    pub(crate) saas: bool,
    pub(crate) addresses: AgentAddresses,
    pub(crate) host_directories: HostDirectories,
    pub(crate) work: WorkQueue,
    pub(crate) asked: Asked,
    pub(crate) agents: AgentStates,
    pub(crate) delivery_problems: DeliveryProblems,
    pub(crate) presence_observers: PresenceObservers,
}

impl Fleet {
    /// Opens a fleet: reads the runtime templates.
    pub async fn open(config: FleetConfig) -> Self {
        config.templates.read(RuntimeTemplates::reload).await;
        let state = config.state;
        let inner = Inner {
            credentials: Credentials::new(state.clone(), config.cipher),
            state,
            runtimes: config.runtimes,
            backend: config.backend,
            templates: config.templates,
            limits: config.limits,
            provision: config.provision,
            saas: config.saas,
            addresses: config.addresses,
            host_directories: config.host_directories,
            work: WorkQueue::default(),
            asked: Asked::default(),
            agents: AgentStates::default(),
            delivery_problems: DeliveryProblems::default(),
            presence_observers: PresenceObservers::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The state that the fleet reads and changes.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.inner.state
    }

    /// Which URLs agents may have.
    #[must_use]
    pub fn addresses(&self) -> &AgentAddresses {
        &self.inner.addresses
    }

    /// Which directories of the host workspaces may have.
    #[must_use]
    pub fn host_directories(&self) -> &HostDirectories {
        &self.inner.host_directories
    }

    /// Tokens and secrets.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.inner.credentials
    }

    /// Every live workspace, in memory.
    #[must_use]
    pub fn workspaces(&self) -> &WorkspaceIndex {
        self.state().workspaces()
    }

    /// The hub on which events are published.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        self.state().hub()
    }

    /// The database, for rows that no index has.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.state().store()
    }

    /// A workspace, live or removed.
    ///
    /// # Errors
    /// If it isn't live and the database can't be read.
    pub async fn find(&self, id: WorkspaceId) -> Result<Option<Arc<Workspace>>, StoreError> {
        self.state().find(id).await
    }

    /// A live workspace.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn live(&self, id: WorkspaceId) -> Result<Arc<Workspace>, WorkspaceError> {
        self.workspaces().get(id).ok_or(WorkspaceError::NotFound)
    }

    /// Plans a change on the indexes and commits it, as [`State::change`] does, then enqueues the
    /// workspaces for the reconciler.
    pub(crate) async fn change<T, E: From<WorkspaceError>>(
        &self,
        mut plan: impl FnMut(&Self) -> Result<Planned<T>, E>,
    ) -> Result<T, E> {
        let mut acted_on = Vec::new();
        let planned = |_: &State| {
            let planned = plan(self).map_err(Failed::Plan)?;
            acted_on = reconcilable(&planned.change);
            Ok(planned)
        };
        let done = self.state().change(planned).await.map_err(|failed| match failed {
            Failed::Plan(error) => error,
            Failed::Change(error) => WorkspaceError::from(error).into(),
        })?;
        acted_on.into_iter().for_each(|id| self.inner.work.enqueue(id));
        Ok(done)
    }

    /// Releases the leases of this server, and ends all subscriptions. The writer ends when the last clone
    /// is dropped.
    pub async fn close(self) {
        self.state().close().await;
    }
}

/// Why a change was not made: its plan refused, or it could not be committed.
enum Failed<E> {
    Plan(E),
    Change(ChangeError),
}

impl<E> From<ChangeError> for Failed<E> {
    fn from(error: ChangeError) -> Self {
        Self::Change(error)
    }
}

/// The transitions of rows by their inputs, as one change. A row whose input changes nothing is left out.
pub(crate) fn transitions<'a>(
    rows: impl IntoIterator<Item = (&'a WorkspaceRow, Input)>,
    now: DateTime<Utc>,
) -> Change {
    let mut change = Change::default();
    let mut written = Vec::new();
    for (row, input) in rows {
        if let Some(Transition { row, events }) = machine::apply(row, &input, now) {
            change.events.extend(events.into_iter().map(|event| (Some(row.id), event)));
            written.push(row);
        }
    }
    change.push(UpdateWorkspaces(written));
    change
}

/// Workspaces of a change that the reconciler may have to act on.
fn reconcilable(change: &Change) -> Vec<WorkspaceId> {
    let rows = change.mutations().flat_map(rows_written).filter(|row| match row.hosting {
        Hosting::Container => true,
        Hosting::Operator => !row.is_removed(),
        Hosting::Synthetic => false,
    });
    rows.map(|row| row.id).collect()
}
