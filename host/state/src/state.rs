//! The handle by which capabilities read, change and publish.

use std::sync::Arc;

use events::{Envelope, Event, Hub};
use store::{Change, CommitError, Observer, Store, StoreError, WriteBehind, Writer};
use tokio::{sync::Mutex, task::JoinHandle};
use types::{EventSeq, ServerId, WorkspaceId};

use crate::{
    ephemeral::EphemeralQueue,
    index::Index,
    replication::Replication,
    token_index::TokenIndex,
    workspace_index::{Workspace, WorkspaceIndex},
};

/// How often a change is planned on the newest rows, when other changes were earlier each time.
pub const MAX_ATTEMPTS: usize = 32;

/// The state of the deployment, as this server sees it. Cheap to clone.
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
}

struct Inner {
    server: ServerId,
    store: Store,
    writer: Writer,
    replication: Arc<Replication>,
    /// Held by the changes that conflicted once, so that they retry one after another.
    retries: Mutex<()>,
    ephemeral: Mutex<EphemeralQueue>,
}

/// A change, and the answer once it is committed.
pub struct Planned<T> {
    /// What to commit.
    pub change: Change,
    /// What to return then.
    pub done: T,
}

/// Why a planned change was not committed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A sibling has that name.
    #[error("a sibling has that name")]
    NameTaken,
    /// Other changes were earlier in each of [`MAX_ATTEMPTS`] attempts.
    #[error("the rows kept changing meanwhile")]
    Contended,
    /// The database failed, or did not answer.
    #[error("the change could not be stored")]
    Commit(#[source] CommitError),
    /// The newest rows could not be read.
    #[error("the database could not be read")]
    Store(#[from] StoreError),
}

impl State {
    /// Loads the indexes and starts the writer. The handle ends, with everything stored, once every clone
    /// of the state is dropped.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn open(store: Store, hub: Hub) -> Result<(Self, JoinHandle<()>), StoreError> {
        Self::open_with(store, hub, store::BEHIND_BYTES).await
    }

    /// The same. Rows that are written behind take `behind_bytes` at most while they wait.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn open_with(
        store: Store,
        hub: Hub,
        behind_bytes: usize,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let server = ServerId::random();
        let (replication, ephemeral) = Replication::open(&store, hub, server).await?;
        let observer: Arc<dyn Observer> = Arc::clone(&replication) as _;
        let (writer, written) = Writer::start_with(store.clone(), observer, behind_bytes);
        let (retries, ephemeral) = (Mutex::default(), Mutex::new(ephemeral));
        let inner = Inner { server, store, writer, replication, retries, ephemeral };
        Ok((Self { inner: Arc::new(inner) }, written))
    }

    /// Has an index follow all commits from now on. It must be loaded afterwards.
    pub fn register(&self, index: Arc<dyn Index>) {
        self.inner.replication.register(index);
    }

    // === Reading ===

    /// Every live workspace, in memory.
    #[must_use]
    pub fn workspaces(&self) -> &WorkspaceIndex {
        &self.inner.replication.workspaces
    }

    /// Every live token, in memory.
    #[must_use]
    pub fn tokens(&self) -> &TokenIndex {
        &self.inner.replication.tokens
    }

    /// The hub on which events are published.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.inner.replication.hub
    }

    /// The database, for rows that no index has.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// This server, as the holder of leases.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.inner.server
    }

    /// Number of the last event that was published here.
    #[must_use]
    pub fn last_published(&self) -> EventSeq {
        self.inner.replication.last_published()
    }

    /// A workspace, live or removed.
    ///
    /// # Errors
    /// If it isn't live and the database can't be read.
    pub async fn find(&self, id: WorkspaceId) -> Result<Option<Arc<Workspace>>, StoreError> {
        if let Some(live) = self.workspaces().get(id) {
            return Ok(Some(live));
        }
        Ok(self.store().workspaces(&[id]).await?.pop().map(|loaded| Arc::new(loaded.into())))
    }

    // === Publishing ===

    /// Whether an ephemeral event could reach a subscriber, on this server or another. Making and rendering
    /// an event that reaches none is most of its cost.
    #[must_use]
    pub fn has_subscribers(&self) -> bool {
        self.inner.replication.has_subscribers()
    }

    /// Publishes an ephemeral event: here at once, on other servers within a second, best effort.
    pub fn publish_ephemeral(&self, workspace: WorkspaceId, event: &Event) {
        if !self.has_subscribers() {
            self.hub().note(workspace);
            return;
        }
        let envelope = Envelope::ephemeral(Some(workspace), event, store::next_event_time());
        self.inner.replication.publish_ephemeral(Arc::new(envelope));
    }

    // === Changing ===

    /// Commits a change. Other servers on the same database learn of every row that it writes, by an
    /// implicit event where no explicit one names its workspace.
    ///
    /// # Errors
    /// If it wasn't committed. See [`CommitError`].
    pub async fn commit(&self, mut change: Change) -> Result<Vec<Arc<Envelope>>, CommitError> {
        if !self.store().is_single_process() {
            change.add_implicit_events();
        }
        self.inner.writer.commit(change).await
    }

    /// Stores and publishes events without other rows.
    ///
    /// # Errors
    /// If they can't be stored.
    pub async fn record(&self, events: Vec<Event>) -> Result<(), CommitError> {
        let mut change = Change::default();
        change.events = events.into_iter().map(|event| (None, event)).collect();
        self.commit(change).await.map(drop)
    }

    /// Plans a change on the indexes and commits it; on newer rows again, if another change was earlier.
    ///
    /// # Errors
    /// What the plan returned, or a [`ChangeError`].
    pub async fn change<T, E: From<ChangeError>>(
        &self,
        mut plan: impl FnMut(&Self) -> Result<Planned<T>, E>,
    ) -> Result<T, E> {
        let mut retry = None;
        for _ in 0..MAX_ATTEMPTS {
            let Planned { change, done } = plan(self)?;
            let workspaces = change.workspaces();
            match self.commit(change).await {
                Ok(_) => return Ok(done),
                Err(CommitError::Conflict | CommitError::PreconditionFailed(_)) => {
                    // Changes that conflicted once retry one after another, so that many that write the
                    // same row don't starve each other.
                    if retry.is_none() {
                        retry = Some(self.inner.retries.lock().await);
                    }
                    self.refresh(&workspaces).await.map_err(ChangeError::Store)?;
                }
                Err(CommitError::NameTaken) => return Err(ChangeError::NameTaken.into()),
                Err(error) => return Err(ChangeError::Commit(error).into()),
            }
        }
        Err(ChangeError::Contended.into())
    }

    /// Brings the indexes up to the database: these workspaces, and everything that was published since.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn refresh(&self, workspaces: &[WorkspaceId]) -> Result<(), StoreError> {
        self.inner.replication.catch_up(self.store()).await?;
        let rows = self.store().workspaces(workspaces).await?;
        self.workspaces().refresh_rows(workspaces, rows);
        Ok(())
    }

    /// Writes a row behind; waits for a moment while too many rows wait. Returns whether the row is not lost.
    pub async fn write_behind(&self, entry: impl WriteBehind) -> bool {
        self.inner.writer.write_behind(entry).await
    }

    /// Writes a row behind, without waiting. Returns whether the row is not lost.
    pub fn try_write_behind(&self, entry: impl WriteBehind) -> bool {
        self.inner.writer.try_write_behind(entry)
    }

    /// Whether the database could not be written when that was last tried.
    #[must_use]
    pub fn is_database_failing(&self) -> bool {
        self.inner.writer.is_failing()
    }

    /// Whether activity is being lost, because too much of it waits for the database.
    #[must_use]
    pub fn is_losing_activity(&self) -> bool {
        self.inner.writer.is_losing_rows()
    }

    // === Background ===

    /// Follows other servers on the same database. Never ends by itself; calls `progress` in each round.
    ///
    /// # Errors
    /// If the database can't be read; to be called again then.
    pub async fn follow(&self, progress: impl Fn()) -> Result<(), StoreError> {
        self.inner.replication.follow(self.store(), progress).await
    }

    /// Sends ephemeral events to other servers. Never ends by itself; calls `progress` in each round.
    pub async fn send_ephemeral(&self, progress: impl Fn()) {
        let mut queue = self.inner.ephemeral.lock().await;
        self.inner.replication.send_ephemeral(self.store(), &mut queue, progress).await;
    }

    /// Deletes events that are older than this.
    pub async fn delete_old_events(&self, age: chrono::Duration) {
        match self.store().delete_events_before(store::time_ago(age)).await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "old events deleted"),
            Err(error) => tracing::warn!(%error, "old events could not be deleted"),
        }
    }

    /// Releases the leases of this server, and ends all subscriptions. The writer ends when the last clone
    /// is dropped.
    pub async fn close(&self) {
        self.hub().close();
        if let Err(error) = self.store().release_leases(self.server()).await {
            tracing::warn!(%error, "leases were not released; they expire");
        }
    }
}
