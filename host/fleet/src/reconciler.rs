//! The reconciler: makes what is wanted so. One server of a database does it, the holder of a lease;
//! each of its writes proves the lease, so that one that lost it changes nothing any more.
//!
//! There is at most one task for a workspace, and only while there is something to do. It looks at the
//! row and at the backend, takes one step, and looks again until there is nothing to do. Whatever
//! happens meanwhile is a poke: it is looked at once more. Nothing is remembered between looks but the
//! row, so a crash between any two steps is a look that comes later.

use std::{
    collections::{BTreeSet, HashMap},
    ops::ControlFlow,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use events::{Next, Subscription};
use futures::StreamExt as _;
use store::{
    CommitError, Fence, Lease, LeaseIsHeld, StoreError,
    workspaces::{Hosting, Status, WorkspaceRow},
};
use tokio::{
    sync::Notify,
    task::{Id, JoinError, JoinSet},
    time::{interval, timeout},
};
use tokio_util::time::{DelayQueue, delay_queue::Key};
use uuid::Uuid;

use crate::{
    backend::{BackendError, ContainerSpec, Seen, container_name},
    decide::{self, Step},
    fleet::{Fleet, transitions},
    limits::{self, BACKEND_DEADLINE, LOOK_AGAIN, SLOW_TICK},
    machine::Input,
};

#[cfg(test)]
mod tests;

/// Name of the lease.
const LEASE: &str = "reconciler";

/// Steps of one look at most. More means that something is wrong with the rules, and waits for the next.
const STEPS: usize = 32;

/// The longest that a timer is set for. The queue of timers panics beyond two years, and settings may
/// say "never" in numbers.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What people read when a container could not be started.
const START_FAILED: &str = "workspace start failed";

/// Workspaces to look at, while somebody does.
#[derive(Debug, Default)]
pub(crate) struct Pokes {
    waiting: Mutex<BTreeSet<Uuid>>,
    bell: Notify,
    open: AtomicBool,
    /// Since when somebody does.
    since: Mutex<Option<DateTime<Utc>>>,
}

impl Pokes {
    /// Asks to look at a workspace. Nothing, on a server that isn't the one that looks: that one hears
    /// of the change by its event.
    pub(crate) fn poke(&self, id: Uuid) {
        if self.open.load(Ordering::Acquire) {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
            self.bell.notify_one();
        }
    }

    async fn take(&self) -> BTreeSet<Uuid> {
        loop {
            let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.bell.notified().await;
        }
    }

    /// Since when this server looks at workspaces; none, while it doesn't.
    fn since(&self) -> Option<DateTime<Utc>> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, open: bool) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = open.then(store::now);
        self.open.store(open, Ordering::Release);
        if !open {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

/// Why a look ended early. What was begun is found by the next one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    /// The lease is gone.
    #[error("another server reconciles by now")]
    Deposed,
    /// The database could not be read or written.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// The change could not be made.
    #[error("a change could not be made")]
    Commit(#[source] CommitError),
    /// The rules want one step after the other without end.
    #[error("no end of steps")]
    Endless,
}

impl Fleet {
    /// Reconciles while this server holds the lease, and tries to get it while another one does. Never
    /// ends by itself; calls `beat` each time around.
    ///
    /// # Errors
    /// If the database fails; to be called again then.
    pub async fn reconcile(&self, beat: impl Fn()) -> Result<(), StoreError> {
        let inner = &self.inner;
        let mut renewals = interval(inner.limits.lease / 4);
        loop {
            renewals.tick().await;
            beat();
            if let Some(lease) = inner.store.lease(LEASE, inner.server, inner.limits.lease).await? {
                tracing::info!(epoch = lease.fence.epoch, "this server reconciles");
                metrics::gauge!("isomer_reconciles").set(1.0);
                inner.pokes.open(true);
                let ended = self.lead(lease, &beat).await;
                inner.pokes.open(false);
                metrics::gauge!("isomer_reconciles").set(0.0);
                ended?;
                tracing::warn!("another server reconciles from now on");
            }
        }
    }

    /// Looks at what needs it, until the lease is lost.
    async fn lead(&self, lease: Lease, beat: &impl Fn()) -> Result<(), StoreError> {
        let inner = &self.inner;
        let fence = lease.fence.clone();
        let mut until = lease.until;
        let mut renewals = interval(inner.limits.lease / 4);
        let mut looks = Looks::new(self.clone(), fence);
        let mut heard = self.hear_changes();
        let mut deaf = false;
        let mut slow = interval(SLOW_TICK);
        loop {
            if Instant::now() >= until {
                return Ok(());
            }
            tokio::select! {
                _ = renewals.tick() => {
                    beat();
                    match timeout(inner.limits.lease / 4, inner.store.lease(LEASE, inner.server, inner.limits.lease)).await {
                        Ok(Ok(Some(renewed))) if renewed.fence == looks.fence => until = renewed.until,
                        Ok(Ok(_)) => return Ok(()),
                        // The lease is still ours for a while.
                        Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
                        Err(_) => tracing::warn!("the database didn't renew the lease in time"),
                    }
                }
                _ = slow.tick() => looks.at(self.all_that_may_need_it().await?),
                poked = inner.pokes.take() => looks.at(poked),
                next = heard.next(), if !deaf => match next {
                    Next::Event(event) => looks.at(event.workspace_id().into_iter().filter(|id| self.may_need_it(*id))),
                    Next::Overflowed => {
                        heard = self.hear_changes();
                        looks.at(self.all_that_may_need_it().await?);
                    }
                    Next::Closed => deaf = true,
                },
                () = looks.done() => {}
            }
        }
    }

    fn hear_changes(&self) -> Subscription {
        self.hub().subscribe(HEARD, |event| event.seq().is_some() && event.workspace_id().is_some())
    }

    fn may_need_it(&self, id: Uuid) -> bool {
        self.directory().get(id).is_none_or(|workspace| workspace.row.hosting != Hosting::Synthetic)
    }

    pub(crate) async fn all_that_may_need_it(&self) -> Result<Vec<Uuid>, StoreError> {
        let live = self.directory().list();
        let mut ids: Vec<Uuid> =
            live.iter().filter(|it| it.row.hosting != Hosting::Synthetic).map(|it| it.row.id).collect();
        if self.inner.backend.is_some() {
            ids.extend(self.inner.store.removed_unsettled().await?.into_iter().map(|row| row.id));
        }
        Ok(ids)
    }

    // === One workspace ===

    /// Looks at a workspace and takes steps until there is nothing to do. Returns when to look again.
    pub(crate) async fn look(&self, id: Uuid, fence: &Fence) -> Result<Option<DateTime<Utc>>, Interrupted> {
        for _ in 0..STEPS {
            if let ControlFlow::Break(until) = self.step(id, fence).await? {
                return Ok(until);
            }
        }
        Err(Interrupted::Endless)
    }

    /// Takes the next step about a workspace; breaks where there is none, with when to look again.
    pub(crate) async fn step(
        &self,
        id: Uuid,
        fence: &Fence,
    ) -> Result<ControlFlow<Option<DateTime<Utc>>>, Interrupted> {
        let Some(workspace) = self.find(id).await? else {
            return Ok(ControlFlow::Break(None));
        };
        let row = &workspace.row;
        if let Some(ready) = self.inner.runtimes.ready(&row.runtime) {
            ready.await;
        }
        let seen = self.observe(row).await;
        let next = || decide::next_step(row, seen.as_ref(), &self.facts(row), store::now());
        let mut step = next();
        if step == Step::Note(Input::Silent) && self.heard_elsewhere(id).await? {
            step = next();
        }
        match step {
            Step::Rest(until) => return Ok(ControlFlow::Break(until)),
            step => self.take(row, step, fence).await?,
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Agents call whichever server they reach: has another one written down that this one called?
    async fn heard_elsewhere(&self, id: Uuid) -> Result<bool, StoreError> {
        if self.inner.store.is_single_process() {
            return Ok(false);
        }
        let written = self.inner.store.workspaces(&[id]).await?.pop().and_then(|loaded| loaded.presence);
        Ok(written.is_some_and(|presence| self.directory().put_newer_presence(presence)))
    }

    async fn take(&self, row: &WorkspaceRow, step: Step, fence: &Fence) -> Result<(), Interrupted> {
        let Some(backend) = self.inner.backend.as_ref().filter(|_| !matches!(step, Step::Note(_))) else {
            let Step::Note(input) = step else { return Ok(()) };
            return self.note(row, input, fence).await;
        };
        self.still_held(fence).await?;
        let action = async {
            match step {
                Step::Ensure => backend
                    .ensure(&self.spec(row))
                    .await
                    .map(|url| Some(Input::Started { attempt: row.attempt, url })),
                Step::Stop => backend.stop(row.id).await.map(|()| None),
                Step::Remove => backend.remove(row.id, true).await.map(|()| None),
                Step::Rest(_) | Step::Note(_) => Ok(None),
            }
        };
        let late = || BackendError::Unreachable { reason: "no answer in time".to_owned() };
        match timeout(BACKEND_DEADLINE, action).await.unwrap_or_else(|_| Err(late())) {
            Ok(None) => Ok(()),
            Ok(Some(input)) => self.note(row, input, fence).await,
            Err(error) => {
                tracing::warn!(workspace = %row.id, %error, "the backend did not do what it was asked");
                self.note(row, not_done(row, error), fence).await
            }
        }
    }

    /// Writes down what was seen, if the row is still the one that was looked at.
    async fn note(&self, row: &WorkspaceRow, input: Input, fence: &Fence) -> Result<(), Interrupted> {
        let change = transitions([(row, input)], store::now()).require(LeaseIsHeld(fence.clone()));
        match self.commit(change).await {
            Ok(_) => Ok(()),
            // Somebody changed it meanwhile: look again at what it is now.
            Err(CommitError::Conflict) => Ok(self.read_again(&[row.id]).await?),
            Err(CommitError::PreconditionFailed(_)) => Err(Interrupted::Deposed),
            Err(error) => Err(Interrupted::Commit(error)),
        }
    }

    /// Before anything is done that can't be undone.
    async fn still_held(&self, fence: &Fence) -> Result<(), Interrupted> {
        let held = self.inner.store.is_held(fence).await?;
        if held { Ok(()) } else { Err(Interrupted::Deposed) }
    }

    async fn observe(&self, row: &WorkspaceRow) -> Option<Seen> {
        let backend = self.inner.backend.as_ref().filter(|_| row.hosting == Hosting::Container)?;
        let seen = timeout(LOOK_AGAIN, backend.observe(row.id)).await;
        Some(seen.unwrap_or_else(|_| Seen::Unknown("the backend did not answer in time".to_owned())))
    }

    pub(crate) fn facts(&self, row: &WorkspaceRow) -> decide::Facts {
        let workspace = self.directory().get(row.id);
        let presence = workspace.as_ref().and_then(|workspace| workspace.presence.as_ref());
        decide::Facts {
            last_seen: presence.and_then(|presence| presence.last_seen_at),
            listening_since: self.inner.pokes.since(),
            ancestor_paused: self.directory().paused_above(row.id).is_some(),
            provision_timeout: self.provision_timeout(&row.runtime),
            operator_silence: self.inner.limits.operator_silence,
        }
    }

    /// How long a start may take by the templates of that runtime, in milliseconds, where they say so.
    #[must_use]
    pub fn template_timeout_ms(&self, runtime: &str) -> Option<u64> {
        self.inner.templates.provision_timeout(runtime).map(|seconds| u64::from(seconds) * 1_000)
    }

    /// How long a start may take: by setting, else by template, else by adapter, else 10 minutes.
    #[must_use]
    pub fn provision_timeout(&self, runtime: &str) -> Duration {
        let inner = &self.inner;
        let template = || inner.templates.provision_timeout(runtime).map(|s| Duration::from_secs(s.into()));
        let adapter = || inner.runtimes.facts(runtime).provision_timeout;
        inner.limits.provision_timeout.or_else(template).or_else(adapter).unwrap_or(limits::PROVISION_TIMEOUT)
    }

    fn spec(&self, row: &WorkspaceRow) -> ContainerSpec {
        ContainerSpec {
            workspace: row.id,
            attempt: row.attempt,
            name: container_name(row.id),
            runtime: row.runtime.clone(),
            image_base: self.inner.runtimes.facts(&row.runtime).image_base,
            tier: row.tier,
            env: vec![
                ("TIER".to_owned(), row.tier.to_string()),
                ("WORKSPACE_ID".to_owned(), row.id.to_string()),
            ],
        }
    }
}

/// What it means that the backend didn't do what it was asked. A start that is refused has failed;
/// everything else is tried again.
fn not_done(row: &WorkspaceRow, error: BackendError) -> Input {
    match error {
        BackendError::Unreachable { reason } => Input::NotDone { refused: false, reason },
        BackendError::Refused { .. } | BackendError::NotFound if row.status == Status::Provisioning => {
            Input::StartFailed { attempt: row.attempt, error: START_FAILED.to_owned(), missing: Vec::new() }
        }
        BackendError::Refused { reason } => Input::NotDone { refused: true, reason },
        BackendError::NotFound => Input::NotDone { refused: true, reason: "not found".to_owned() },
    }
}

/// Events that the reconciler may be behind before it looks at everything instead.
const HEARD: usize = 4_096;

/// When to look again, if at all.
type Looked = Result<Option<DateTime<Utc>>, Interrupted>;

/// Looks in progress, and those to come.
struct Looks {
    fleet: Fleet,
    fence: Fence,
    tasks: JoinSet<Looked>,
    by_task: HashMap<Id, Uuid>,
    /// Being looked at. `true`: to be looked at once more.
    running: HashMap<Uuid, bool>,
    timers: DelayQueue<Uuid>,
    timer_of: HashMap<Uuid, Key>,
}

impl Looks {
    fn new(fleet: Fleet, fence: Fence) -> Self {
        Self {
            fleet,
            fence,
            tasks: JoinSet::new(),
            by_task: HashMap::new(),
            running: HashMap::new(),
            timers: DelayQueue::new(),
            timer_of: HashMap::new(),
        }
    }

    fn at(&mut self, ids: impl IntoIterator<Item = Uuid>) {
        for id in ids {
            match self.running.get_mut(&id) {
                Some(again) => *again = true,
                None => self.begin(id),
            }
        }
    }

    fn begin(&mut self, id: Uuid) {
        if let Some(timer) = self.timer_of.remove(&id) {
            self.timers.remove(&timer);
        }
        self.running.insert(id, false);
        let (fleet, fence) = (self.fleet.clone(), self.fence.clone());
        let task = self.tasks.spawn(async move { fleet.look(id, &fence).await });
        self.by_task.insert(task.id(), id);
    }

    /// Waits until a look ended or a time came, and sees to what follows. Never, when there is neither.
    async fn done(&mut self) {
        tokio::select! {
            Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
            Some(due) = self.timers.next() => {
                let id = due.into_inner();
                self.timer_of.remove(&id);
                self.at([id]);
            }
            else => std::future::pending().await,
        }
    }

    fn ended(&mut self, ended: Result<(Id, Looked), JoinError>) {
        let (task, result) = match ended {
            Ok((task, result)) => (task, Ok(result)),
            Err(panic) => (panic.id(), Err(panic)),
        };
        let Some(id) = self.by_task.remove(&task) else {
            return;
        };
        let again = self.running.remove(&id).unwrap_or_default();
        let later = match result {
            Ok(Ok(until)) => until.map(|until| (until - store::now()).to_std().unwrap_or_default()),
            Ok(Err(Interrupted::Deposed)) => None,
            Ok(Err(error)) => {
                tracing::warn!(workspace = %id, error = &error as &dyn std::error::Error, "a look was interrupted");
                Some(LOOK_AGAIN)
            }
            Err(panic) => {
                tracing::error!(workspace = %id, %panic, "a look panicked");
                Some(LOOK_AGAIN)
            }
        };
        if again {
            self.begin(id);
        } else if let Some(later) = later {
            // Timers have an end, settings needn't: waking early does no harm.
            let later = later.min(LONGEST);
            self.timer_of.insert(id, self.timers.insert(id, later));
        }
    }
}
