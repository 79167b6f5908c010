//! The reconciler: brings what runs to the desired state. One server of a database does it, the holder
//! of a lease; each of its writes proves the lease, so that a server that lost it changes nothing any
//! more.
//!
//! There is at most one task for a workspace, and only while there is something to do. It observes, takes
//! one step, and repeats that until there is nothing to do. A workspace that is enqueued meanwhile is
//! reconciled once more. Nothing is remembered between two steps but the row, so a crash between them
//! only delays the next.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use events::{Received, Subscription};
use futures::StreamExt as _;
use provision::{BackendError, NotReady, Observation};
use state::{LocalTimes, steady_now};
use store::{
    CommitError, Fence, Lease, LeaseIsHeld, StoreError,
    workspaces::{DesiredState, Hosting, Status, WorkspaceRow},
};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{interval, timeout},
};
use tokio_util::time::{DelayQueue, delay_queue::Key};
use types::WorkspaceId;

use crate::{
    asked::Question,
    decide::{self, Step},
    fleet::{Fleet, transitions},
    limits::{OBSERVE_TIMEOUT, REQUEUE_AFTER, RESYNC_INTERVAL},
    machine::{Input, missing_plan},
};

#[cfg(test)]
mod tests;

/// Name of the lease.
const LEASE: &str = "reconciler";

/// Steps of one reconciliation at most. More means that the rules contradict each other.
const MAX_STEPS: usize = 32;

/// The longest that a timer is set for. The queue of timers panics beyond two years, and settings may
/// say "never" in numbers.
const MAX_TIMER: Duration = Duration::from_secs(86_400);

/// Error of a workspace whose container the backend refused to start.
const START_FAILED: &str = "workspace start failed";

/// Why a reconciliation ended early. What was begun is found by the next one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    /// The lease is gone.
    #[error("another server leads by now")]
    LeadershipLost,
    /// The database could not be read or written.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// The change could not be made.
    #[error("a change could not be made")]
    Commit(#[source] CommitError),
    /// The rules ask for one step after the other without end.
    #[error("no end of steps")]
    Endless,
}

impl Fleet {
    /// Reconciles while this server holds the lease, and tries to get it while another one does. Never
    /// ends without an error; calls `progress` each time around.
    ///
    /// # Errors
    /// If the database fails; to be called again then.
    pub async fn reconcile(&self, progress: impl Fn()) -> Result<(), StoreError> {
        let inner = &self.inner;
        let mut renewals = interval(inner.limits.lease / 4);
        loop {
            renewals.tick().await;
            progress();
            if let Some(lease) =
                inner.state.store().lease(LEASE, inner.state.server(), inner.limits.lease).await?
            {
                tracing::info!(epoch = lease.fence.epoch, "this server reconciles");
                metrics::gauge!("isomer_reconciles").set(1.0);
                inner.work.set_open(true);
                let ended = self.lead(lease, &progress).await;
                inner.work.set_open(false);
                metrics::gauge!("isomer_reconciles").set(0.0);
                ended?;
                tracing::warn!("another server reconciles from now on");
            }
        }
    }

    /// Reconciles what is enqueued, until the lease is lost.
    async fn lead(&self, lease: Lease, progress: &impl Fn()) -> Result<(), StoreError> {
        let inner = &self.inner;
        let fence = lease.fence.clone();
        let mut until = lease.until;
        let mut renewals = interval(inner.limits.lease / 4);
        let mut in_flight = InFlight::new(self.clone(), fence);
        let mut changes = self.subscribe_to_changes();
        let mut adapters = inner.runtimes.changes();
        let mut closed = false;
        let mut resync = interval(RESYNC_INTERVAL);
        loop {
            if Instant::now() >= until {
                return Ok(());
            }
            tokio::select! {
                _ = renewals.tick() => {
                    progress();
                    match timeout(inner.limits.lease / 4, inner.state.store().lease(LEASE, inner.state.server(), inner.limits.lease)).await {
                        Ok(Ok(Some(renewed))) if renewed.fence == in_flight.fence => until = renewed.until,
                        Ok(Ok(_)) => return Ok(()),
                        // The lease is still held for a while.
                        Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
                        Err(_) => tracing::warn!("the database didn't renew the lease in time"),
                    }
                }
                _ = resync.tick() => in_flight.enqueue(self.reconcilable_ids().await?),
                ids = inner.work.dequeue() => in_flight.enqueue(ids),
                next = changes.next(), if !closed => match next {
                    Received::Event(event) => in_flight.enqueue(event.workspace_id().into_iter().filter(|id| self.is_reconcilable(*id))),
                    Received::Lagged => {
                        changes = self.subscribe_to_changes();
                        in_flight.enqueue(self.reconcilable_ids().await?);
                    }
                    Received::Closed => closed = true,
                },
                Ok(()) = adapters.changed() => in_flight.enqueue(self.without_plan()),
                () = in_flight.next() => {}
            }
        }
    }

    /// What the adapter of its runtime is asked for a workspace now.
    fn question(&self, row: &WorkspaceRow) -> Question {
        Question::of(row, self.inner.runtimes.adapter_number(&row.runtime))
    }

    /// Workspaces for which the adapter of their runtime gave no plan.
    fn without_plan(&self) -> Vec<WorkspaceId> {
        let live = self.workspaces().list();
        let ids: Vec<_> =
            live.iter().filter(|it| missing_plan(&it.row).is_some()).map(|it| it.row.id).collect();
        self.inner.asked.retain(&ids);
        ids
    }

    fn subscribe_to_changes(&self) -> Subscription {
        self.hub().subscribe(EVENT_BUFFER, |event| event.seq().is_some() && event.workspace_id().is_some())
    }

    fn is_reconcilable(&self, id: WorkspaceId) -> bool {
        self.workspaces().get(id).is_none_or(|workspace| workspace.row.hosting != Hosting::Synthetic)
    }

    pub(crate) async fn reconcilable_ids(&self) -> Result<Vec<WorkspaceId>, StoreError> {
        let live = self.workspaces().list();
        let mut ids: Vec<WorkspaceId> =
            live.iter().filter(|it| it.row.hosting != Hosting::Synthetic).map(|it| it.row.id).collect();
        if self.inner.backend.is_some() {
            ids.extend(self.store().removed_unsettled().await?.into_iter().map(|row| row.id));
        }
        Ok(ids)
    }

    // === One workspace ===

    /// Takes steps until there is nothing to do. Returns when to reconcile the workspace again, by the steady
    /// clock.
    pub(crate) async fn reconcile_one(
        &self,
        id: WorkspaceId,
        fence: &Fence,
    ) -> Result<Option<DateTime<Utc>>, Interrupted> {
        for _ in 0..MAX_STEPS {
            if let ControlFlow::Break(until) = self.step(id, fence).await? {
                return Ok(until);
            }
        }
        Err(Interrupted::Endless)
    }

    /// Takes the next step; breaks where there is none, with when to reconcile the workspace again.
    pub(crate) async fn step(
        &self,
        id: WorkspaceId,
        fence: &Fence,
    ) -> Result<ControlFlow<Option<DateTime<Utc>>>, Interrupted> {
        let Some(mut workspace) = self.find(id).await? else {
            return Ok(ControlFlow::Break(None));
        };
        let is_to_run = workspace.row.desired == DesiredState::Running;
        if is_to_run && self.waited_for_runtime(&workspace.row.runtime).await {
            // The row may have changed during the wait.
            match self.find(id).await? {
                Some(newest) => workspace = newest,
                None => return Ok(ControlFlow::Break(None)),
            }
        }
        let row = &workspace.row;
        let observed = self.observe(row).await;
        let next = || {
            let timed = self.with_local_times(row);
            decide::next_step(&timed, observed.as_ref(), &self.decision_context(row), steady_now())
        };
        let mut step = next();
        if step == Step::Record(Input::HeartbeatTimeout) && self.refresh_presence(id).await? {
            step = next();
        }
        match step {
            Step::Wait(until) => return Ok(ControlFlow::Break(until)),
            step => self.execute(row, step, fence).await?,
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Waits until the adapter of a runtime is decided. Returns whether it was not yet: rows that were read
    /// before are old then.
    pub(crate) async fn waited_for_runtime(&self, runtime: &str) -> bool {
        match self.inner.runtimes.ready(runtime) {
            Some(ready) => {
                ready.await;
                true
            }
            None => false,
        }
    }

    /// Agents call any server of the deployment: reads what another one may have stored of this agent's
    /// last call. Returns whether that is newer.
    async fn refresh_presence(&self, id: WorkspaceId) -> Result<bool, StoreError> {
        if self.store().is_single_process() {
            return Ok(false);
        }
        let written = self.store().workspaces(&[id]).await?.pop().and_then(|loaded| loaded.presence);
        Ok(written.is_some_and(|presence| self.workspaces().put_newer_presence(presence)))
    }

    async fn execute(&self, row: &WorkspaceRow, step: Step, fence: &Fence) -> Result<(), Interrupted> {
        let (step, backend) = match (step, &self.inner.backend) {
            (Step::Record(input), _) => return self.record_input(row, input, fence).await,
            (Step::Wait(_), _) | (_, None) => return Ok(()),
            (step, Some(backend)) => (step, backend),
        };
        // Planned first: between the proof of the lease and the backend there is nothing that takes time.
        let question = self.question(row);
        let spec = if step == Step::Ensure { Some(self.plan_container(row).await?) } else { None };
        let spec = match spec.transpose() {
            // Its time begins now; the next step plans it again.
            Ok(Some(_)) if missing_plan(row).is_some() => {
                self.inner.asked.remove(row.id);
                return self.record_input(row, Input::Planned, fence).await;
            }
            Ok(spec) => spec,
            Err(not_ready) => {
                self.inner.asked.insert(row.id, question);
                tracing::warn!(workspace = %row.id, error = %not_ready, "the workspace can't start");
                return self.record_input(row, start_refused(row, &not_ready), fence).await;
            }
        };
        self.require_lease(fence).await?;
        let action = async {
            match (step, &spec) {
                (Step::Ensure, Some(spec)) => {
                    let url = backend.ensure(spec).await?;
                    Ok(Some(Input::Started { attempt: spec.attempt, url }))
                }
                (Step::Stop, _) => backend.stop(row.id).await.map(|()| None),
                (Step::Remove, _) => backend.remove(row.id, true).await.map(|()| Some(Input::Stopped)),
                (Step::Ensure | Step::Wait(_) | Step::Record(_), _) => Ok(None),
            }
        };
        let timed_out = || BackendError::Unreachable { reason: "no answer in time".to_owned() };
        match timeout(self.inner.limits.backend_timeout, action).await.unwrap_or_else(|_| Err(timed_out())) {
            Ok(None) => Ok(()),
            Ok(Some(input)) => self.record_input(row, input, fence).await,
            Err(error) => {
                tracing::warn!(workspace = %row.id, %error, "the backend did not do what it was asked");
                self.record_input(row, backend_failed(row, error), fence).await
            }
        }
    }

    /// Stores what was observed, if the row is still the one that was decided on.
    async fn record_input(&self, row: &WorkspaceRow, input: Input, fence: &Fence) -> Result<(), Interrupted> {
        let change = transitions([(row, input)], store::now()).require(LeaseIsHeld(fence.clone()));
        match self.state().commit(change).await {
            Ok(_) => Ok(()),
            // The row changed meanwhile: the next step is decided on what it is now.
            Err(CommitError::Conflict) => Ok(self.state().refresh(&[row.id]).await?),
            Err(CommitError::PreconditionFailed(_)) => Err(Interrupted::LeadershipLost),
            Err(error) => Err(Interrupted::Commit(error)),
        }
    }

    /// Proves the lease before anything is done that can't be undone.
    async fn require_lease(&self, fence: &Fence) -> Result<(), Interrupted> {
        let held = self.store().is_held(fence).await?;
        if held { Ok(()) } else { Err(Interrupted::LeadershipLost) }
    }

    async fn observe(&self, row: &WorkspaceRow) -> Option<Observation> {
        let backend = self.inner.backend.as_ref().filter(|_| row.hosting == Hosting::Container)?;
        let observed = timeout(OBSERVE_TIMEOUT, backend.observe(row.id)).await;
        Some(
            observed
                .unwrap_or_else(|_| Observation::Unknown("the backend did not answer in time".to_owned())),
        )
    }

    /// The row with times of the steady clock, by which all waiting is measured.
    pub(crate) fn with_local_times(&self, row: &WorkspaceRow) -> WorkspaceRow {
        let times = self.workspaces().local_times(row.id);
        times.unwrap_or_else(|| LocalTimes::of_stored(row, None)).applied_to(row)
    }

    pub(crate) fn decision_context(&self, row: &WorkspaceRow) -> decide::Context {
        decide::Context {
            last_seen: self.workspaces().local_times(row.id).and_then(|times| times.last_seen),
            leading_since: self.inner.work.since(),
            ancestor_paused: self.workspaces().paused_above(row.id).is_some(),
            asks_again: missing_plan(row).is_some() && self.inner.asked.is_new(row.id, self.question(row)),
            provision_timeout: self.provision_timeout(&row.runtime),
            operator_heartbeat_timeout: self.inner.limits.operator_heartbeat_timeout,
        }
    }

    /// How long a start may take by the templates of a runtime, in milliseconds, where they say so.
    #[must_use]
    pub fn template_timeout_ms(&self, runtime: &str) -> Option<u64> {
        self.inner.templates.provision_timeout(runtime).map(|seconds| u64::from(seconds) * 1_000)
    }

    fn provision_timeout(&self, runtime: &str) -> Duration {
        let inner = &self.inner;
        let template = inner.templates.provision_timeout(runtime);
        let template = template.map(|seconds| Duration::from_secs(seconds.into()));
        let adapter = inner.runtimes.info(runtime).provision_timeout;
        provision::provision_timeout(inner.limits.provision_timeout, template, adapter)
    }
}

/// What it means that a workspace lacks something. A start that can't succeed has failed; a container
/// that is to be started again below a working agent is tried again.
fn start_refused(row: &WorkspaceRow, not_ready: &NotReady) -> Input {
    let (error, missing) = (not_ready.to_string(), not_ready.missing());
    let no_plan = |is_transient, reason| Input::NoPlan {
        attempt: row.attempt,
        is_transient,
        reason,
        message: not_ready.to_string(),
    };
    match not_ready {
        NotReady::NoPlan { is_transient, reason, .. } => return no_plan(*is_transient, reason),
        NotReady::Adapter { .. } => return no_plan(false, "Refused"),
        _ => {}
    }
    if row.status == Status::Provisioning {
        Input::StartFailed { attempt: row.attempt, error, missing }
    } else {
        Input::BackendFailed { refused: true, reason: error }
    }
}

/// What it means that the backend failed. A start that is refused has failed; everything else is tried
/// again.
fn backend_failed(row: &WorkspaceRow, error: BackendError) -> Input {
    match error {
        BackendError::Unreachable { reason } => Input::BackendFailed { refused: false, reason },
        BackendError::Refused { .. } | BackendError::NotFound if row.status == Status::Provisioning => {
            Input::StartFailed { attempt: row.attempt, error: START_FAILED.to_owned(), missing: Vec::new() }
        }
        BackendError::Refused { reason } => Input::BackendFailed { refused: true, reason },
        BackendError::NotFound => Input::BackendFailed { refused: true, reason: "not found".to_owned() },
    }
}

/// Events that the reconciler may be behind before it reconciles everything instead.
const EVENT_BUFFER: usize = 4_096;

/// When to reconcile the workspace again, if at all.
type Reconciled = Result<Option<DateTime<Utc>>, Interrupted>;

/// Reconciliations in progress, and timers of those to come.
struct InFlight {
    fleet: Fleet,
    fence: Fence,
    tasks: JoinSet<Reconciled>,
    by_task: HashMap<Id, WorkspaceId>,
    /// By workspace. `true`: the workspace was enqueued meanwhile.
    running: HashMap<WorkspaceId, bool>,
    timers: DelayQueue<WorkspaceId>,
    timer_of: HashMap<WorkspaceId, Key>,
}

impl InFlight {
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

    fn enqueue(&mut self, ids: impl IntoIterator<Item = WorkspaceId>) {
        for id in ids {
            match self.running.get_mut(&id) {
                Some(again) => *again = true,
                None => self.begin(id),
            }
        }
    }

    fn begin(&mut self, id: WorkspaceId) {
        if let Some(timer) = self.timer_of.remove(&id) {
            self.timers.remove(&timer);
        }
        self.running.insert(id, false);
        let (fleet, fence) = (self.fleet.clone(), self.fence.clone());
        let task = self.tasks.spawn(async move { fleet.reconcile_one(id, &fence).await });
        self.by_task.insert(task.id(), id);
    }

    /// Waits until a task ended or a timer fired, and starts what follows. Waits forever where there is
    /// neither.
    async fn next(&mut self) {
        tokio::select! {
            Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
            Some(due) = self.timers.next() => {
                let id = due.into_inner();
                self.timer_of.remove(&id);
                self.enqueue([id]);
            }
            else => std::future::pending().await,
        }
    }

    fn ended(&mut self, ended: Result<(Id, Reconciled), JoinError>) {
        let (task, result) = match ended {
            Ok((task, result)) => (task, Ok(result)),
            Err(panic) => (panic.id(), Err(panic)),
        };
        let Some(id) = self.by_task.remove(&task) else {
            return;
        };
        let again = self.running.remove(&id).unwrap_or_default();
        let later = match result {
            Ok(Ok(until)) => until.map(|until| (until - steady_now()).to_std().unwrap_or_default()),
            Ok(Err(Interrupted::LeadershipLost)) => None,
            Ok(Err(error)) => {
                tracing::warn!(workspace = %id, error = &error as &dyn std::error::Error, "a reconciliation was interrupted");
                Some(REQUEUE_AFTER)
            }
            Err(panic) => {
                tracing::error!(workspace = %id, %panic, "a reconciliation panicked");
                Some(REQUEUE_AFTER)
            }
        };
        if again {
            self.begin(id);
        } else if let Some(later) = later {
            // A timer that fires early does no harm.
            let later = later.min(MAX_TIMER);
            self.timer_of.insert(id, self.timers.insert(id, later));
        }
    }
}
