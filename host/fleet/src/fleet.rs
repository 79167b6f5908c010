//! The fleet itself: opened from the database, read from memory, changed by whole changes.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use events::{Envelope, Event, Hub};
use store::{
    Change, Cipher, CommitError, Observer, Store, StoreError, Writer,
    tokens::TokenUsed,
    workspaces::{Hosting, UpdateWorkspaces, WorkspaceRow, rows_written},
};
use tokio::{sync::Mutex, task::JoinHandle};
use uuid::Uuid;

use crate::{
    agents,
    backend::Backend,
    directory::{Directory, Workspace},
    error::FleetError,
    inbound,
    limits::Limits,
    machine::{self, Input, Transition},
    mirror::{LiveQueue, Mirror},
    presence::PresenceObservers,
    reconciler::Pokes,
    runtimes::Runtimes,
    templates::Templates,
    tokens::{LiveToken, Tokens},
};

/// How often a change is tried again on the newest rows after somebody else was quicker.
pub(crate) const TRIES: usize = 32;

/// What a fleet is made of.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Who is told what happens.
    pub hub: Hub,
    /// What knows runtimes.
    pub runtimes: Arc<dyn Runtimes>,
    /// What runs containers, if anything does.
    pub backend: Option<Arc<dyn Backend>>,
    /// What seals secrets.
    pub cipher: Cipher,
    /// What workspaces may be made from.
    pub templates: Templates,
    /// Times that an operator may set.
    pub limits: Limits,
    /// Is this a hosted deployment, where agents live in private networks?
    pub saas: bool,
}

/// Every workspace of this server's database. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) server: Uuid,
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) runtimes: Arc<dyn Runtimes>,
    pub(crate) backend: Option<Arc<dyn Backend>>,
    pub(crate) cipher: Cipher,
    pub(crate) templates: Templates,
    pub(crate) limits: Limits,
    pub(crate) saas: bool,
    pub(crate) pokes: Pokes,
    pub(crate) agents: agents::Memory,
    pub(crate) presence_observers: PresenceObservers,
    pub(crate) inbound: inbound::Cache,
    /// Whose turn it is among those whose change met another one.
    turns: Mutex<()>,
    live: Mutex<LiveQueue>,
}

impl Fleet {
    /// Reads every live workspace and starts the writer. The handle ends, with everything stored, once
    /// every clone of the fleet is gone.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn open(parts: Parts) -> Result<(Self, JoinHandle<()>), StoreError> {
        let server = Uuid::new_v4();
        let (mirror, live) = Mirror::open(&parts.store, parts.hub, server).await?;
        let observer: Arc<dyn Observer> = Arc::clone(&mirror) as _;
        let (writer, written) = Writer::start(parts.store.clone(), observer);
        let inner = Inner {
            server,
            store: parts.store,
            writer,
            mirror,
            runtimes: parts.runtimes,
            backend: parts.backend,
            cipher: parts.cipher,
            templates: parts.templates,
            limits: parts.limits,
            saas: parts.saas,
            pokes: Pokes::default(),
            agents: agents::Memory::default(),
            presence_observers: PresenceObservers::default(),
            inbound: inbound::Cache::default(),
            turns: Mutex::default(),
            live: Mutex::new(live),
        };
        Ok((Self { inner: Arc::new(inner) }, written))
    }

    // === Reading ===

    /// Every live workspace, in memory.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.inner.mirror.directory
    }

    /// Every live token, in memory.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.inner.mirror.tokens
    }

    /// Who is told what happens.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.inner.mirror.hub
    }

    /// The database, for what isn't kept in memory.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Number of the last event that was told here.
    #[must_use]
    pub fn last_told(&self) -> i64 {
        self.inner.mirror.told()
    }

    /// A workspace, live or removed.
    ///
    /// # Errors
    /// If it isn't live and the database can't be read.
    pub async fn find(&self, id: Uuid) -> Result<Option<Arc<Workspace>>, StoreError> {
        if let Some(live) = self.directory().get(id) {
            return Ok(Some(live));
        }
        Ok(self.inner.store.workspaces(&[id]).await?.pop().map(|loaded| Arc::new(loaded.into())))
    }

    /// A live workspace.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn live(&self, id: Uuid) -> Result<Arc<Workspace>, FleetError> {
        self.directory().get(id).ok_or(FleetError::NotFound)
    }

    /// The live token that a bearer names, and notes that it was used.
    #[must_use]
    pub fn authenticate(&self, bearer: &str) -> Option<Arc<LiveToken>> {
        let token = self.tokens().find(bearer)?;
        if let Some(workspace) = token.row.workspace_id
            && self.directory().get(workspace).is_none()
        {
            return None;
        }
        let now = store::now();
        if token.used(now) {
            self.inner.writer.try_write_behind(TokenUsed { id: token.row.id, at: now });
        }
        Some(token)
    }

    // === Telling ===

    /// Tells what isn't stored: here at once, on other servers within a second, best effort.
    pub fn tell_live(&self, workspace: Uuid, event: &Event) {
        // Most of what it costs is the text, which nobody may be there to read.
        if self.inner.store.is_single_process() && self.hub().subscribers() == 0 {
            return;
        }
        self.inner.mirror.tell_live(Arc::new(Envelope::live(
            Some(workspace),
            event,
            store::next_event_time(),
        )));
    }

    // === Changing ===

    /// Makes a change. Other servers on the same database hear of every row that it writes, by an
    /// event of their own where no other tells of it.
    pub(crate) async fn commit(&self, mut change: Change) -> Result<Vec<Arc<Envelope>>, CommitError> {
        if !self.inner.store.is_single_process() {
            change.add_implicit_events();
        }
        self.inner.writer.commit(change).await
    }

    /// Records events that no change of a workspace goes with.
    ///
    /// # Errors
    /// If they can't be stored.
    pub async fn record(&self, events: Vec<Event>) -> Result<(), CommitError> {
        let mut change = Change::default();
        change.events = events.into_iter().map(|event| (None, event)).collect();
        self.commit(change).await.map(drop)
    }

    /// Plans a change on what is in memory and makes it; on newer rows again, if somebody was quicker.
    pub(crate) async fn change<T>(
        &self,
        mut plan: impl FnMut(&Self) -> Result<Planned<T>, FleetError>,
    ) -> Result<T, FleetError> {
        let mut turn = None;
        for _ in 0..TRIES {
            let Planned { change, done } = plan(self)?;
            let (touched, acted_on) = (change.workspaces(), acted_on(&change));
            match self.commit(change).await {
                Ok(_) => {
                    acted_on.into_iter().for_each(|id| self.inner.pokes.poke(id));
                    return Ok(done);
                }
                Err(CommitError::Conflict | CommitError::PreconditionFailed(_)) => {
                    // Those who were too late once take turns, so that many who want the same row don't
                    // keep each other from it.
                    if turn.is_none() {
                        turn = Some(self.inner.turns.lock().await);
                    }
                    self.read_again(&touched).await?;
                }
                Err(CommitError::NameTaken) => return Err(FleetError::NameTaken),
                Err(error) => return Err(FleetError::Commit(error)),
            }
        }
        Err(FleetError::Contended)
    }

    /// Brings what is in memory of these workspaces up to the database, and everything told since.
    pub(crate) async fn read_again(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        let inner = &self.inner;
        inner.mirror.catch_up(&inner.store).await?;
        let rows = inner.store.workspaces(ids).await?;
        inner.mirror.directory.refresh(ids, rows);
        Ok(())
    }

    // === Background ===

    /// Follows other servers on the same database. Never ends by itself; calls `beat` each time around.
    ///
    /// # Errors
    /// If the database can't be read; to be called again then.
    pub async fn follow(&self, beat: impl Fn()) -> Result<(), StoreError> {
        self.inner.mirror.follow(&self.inner.store, beat).await
    }

    /// Deletes events that are older than this.
    pub async fn forget_events(&self, age: chrono::Duration) {
        match self.inner.store.delete_events_before(store::now() - age).await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "old events deleted"),
            Err(error) => tracing::warn!(%error, "old events could not be deleted"),
        }
    }

    /// Lets go of what others may take over, and of everybody who listens. The writer ends when the
    /// last clone is gone.
    pub async fn close(self) {
        self.hub().close();
        if let Err(error) = self.inner.store.release_leases(self.inner.server).await {
            tracing::warn!(%error, "leases were not given back; they end by themselves");
        }
    }

    /// Sends live events to other servers. Never ends by itself; calls `beat` each time around.
    pub async fn send_live(&self, beat: impl Fn()) {
        let mut queue = self.inner.live.lock().await;
        self.inner.mirror.send_live(&self.inner.store, &mut queue, beat).await;
    }
}

/// A change, and what to answer once it is made.
pub(crate) struct Planned<T> {
    pub(crate) change: Change,
    pub(crate) done: T,
}

/// What inputs make of rows, as one change. Rows to which their input means nothing stay as they are.
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
fn acted_on(change: &Change) -> Vec<Uuid> {
    let rows = change.mutations().flat_map(rows_written).filter(|row| match row.hosting {
        Hosting::Container => true,
        Hosting::Operator => !row.is_removed(),
        Hosting::Synthetic => false,
    });
    rows.map(|row| row.id).collect()
}
