//! A history: a server, its backend, and what each action does to them.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use provision::WorkspaceIo as _;
use serde_json::json;
use store::{
    Change, Fence, Store,
    presence::PresenceRow,
    workspaces::{DeliveryMode, Hosting, UpdateWorkspaces, WorkspaceRow},
};
use tokio::task::JoinHandle;
use types::{ServerId, WorkspaceId};

use super::action::{Action, Index, WORKSPACES};
use crate::{
    Edit, Fleet,
    fake_backend::FakeBackend,
    fleet::{Planned, transitions},
    machine::{Heartbeat, Input},
    testing,
};

/// Jumps in time until nothing waits for time any more.
const JUMPS: usize = 60;

/// Where a history writes to.
pub(super) const FILE: &str = "/workspace/notes";

/// A server, its backend, and what the test knows of both.
pub(super) struct History {
    pub(super) store: Store,
    pub(super) fleet: Fleet,
    pub(super) written: JoinHandle<()>,
    pub(super) fence: Fence,
    pub(super) backend: FakeBackend,
    pub(super) created: Vec<WorkspaceId>,
    /// What was last written into a workspace.
    pub(super) written_files: BTreeMap<WorkspaceId, Vec<u8>>,
    /// When workspaces were removed.
    pub(super) removed: BTreeMap<WorkspaceId, DateTime<Utc>>,
}

impl History {
    pub(super) async fn begin(file: &Path) -> Self {
        let (store, backend) = (testing::sqlite(file).await, FakeBackend::default());
        let (fleet, written, fence) = Self::server(&store, &backend).await;
        Self {
            store,
            fleet,
            written,
            fence,
            backend,
            created: Vec::new(),
            written_files: BTreeMap::new(),
            removed: BTreeMap::new(),
        }
    }

    async fn server(store: &Store, backend: &FakeBackend) -> (Fleet, JoinHandle<()>, Fence) {
        let (fleet, written) =
            testing::open(store.clone(), Some(Arc::new(backend.clone())), testing::limits()).await;
        // The server that held the lease is dead.
        store.release_leases(fleet.inner.state.server()).await.unwrap();
        let holder = ServerId::random();
        let mut lease = store.lease("history", holder, Duration::ZERO).await.unwrap();
        while lease.is_none() {
            lease = store.lease("history", holder, Duration::ZERO).await.unwrap();
        }
        (fleet, written, lease.unwrap().fence)
    }

    /// Everything in memory is gone; the database and the containers are as they are.
    pub(super) async fn crash(self) -> Self {
        let Self { store, fleet, written, backend, created, written_files, removed, .. } = self;
        drop(fleet);
        written.await.unwrap();
        let (fleet, written, fence) = Self::server(&store, &backend).await;
        Self { store, fleet, written, fence, backend, created, written_files, removed }
    }

    fn id(&self, index: Index) -> Option<WorkspaceId> {
        self.created.get(index).copied()
    }

    pub(super) async fn row(&self, id: WorkspaceId) -> Option<WorkspaceRow> {
        Some(self.store.workspaces(&[id]).await.unwrap().pop()?.row)
    }

    /// Applies an input of the state machine.
    async fn input(&self, id: WorkspaceId, input: Input) {
        let changed = self.fleet.change(|fleet: &Fleet| {
            let rows = fleet.workspaces().get(id);
            let rows = rows.iter().map(|workspace| (workspace.row.as_ref(), input.clone()));
            Ok::<_, crate::WorkspaceError>(Planned { change: transitions(rows, store::now()), done: () })
        });
        changed.await.unwrap();
    }

    pub(super) async fn apply(self, action: &Action) -> Self {
        use Action as A;
        let with = |index: &Index| self.id(*index).filter(|id| self.fleet.workspaces().get(*id).is_some());
        match action {
            A::Create { runtime, below } => return self.creates(runtime, below.as_ref()).await,
            A::Crash => return self.crash().await,
            A::Reconcile { index, steps } => return self.reconciles(*index, *steps).await,
            A::Remove(index) => return self.removes(*index).await,
            // Requests that make no sense are refused, which is as good as any answer here.
            A::Restart(index) => {
                if let Some(id) = with(index) {
                    let _ = self.fleet.restart(id).await;
                }
            }
            A::Pause(index) => {
                if let Some(id) = with(index) {
                    let _ = self.fleet.pause(id).await;
                }
            }
            A::Resume(index) => {
                if let Some(id) = with(index) {
                    let _ = self.fleet.resume(id).await;
                }
            }
            A::Wake(index) => {
                if let Some(id) = with(index) {
                    let _ = self.fleet.wake(id).await;
                }
            }
            A::Move { index, below } => {
                if let Some(id) = with(index) {
                    let parent = below.and_then(|below| self.id(below)).map(|id| id.to_string());
                    let _ = self.fleet.edit(id, Edit { parent_id: Some(parent), ..Edit::default() }).await;
                }
            }
            A::Hibernate(index) => {
                if let Some(id) = with(index) {
                    self.input(id, Input::Hibernate).await;
                }
            }
            A::Register(index) => {
                if let Some(id) = with(index).filter(|id| self.has_agent(*id)) {
                    let url = Some("https://agent.example".to_owned());
                    let (card, delivery_mode) = (json!({"name": "agent"}), DeliveryMode::Push);
                    self.input(id, Input::Registered { url, card, delivery_mode }).await;
                }
            }
            A::Heartbeat { index, error_rate } => {
                if let Some(id) = with(index).filter(|id| self.has_agent(*id)) {
                    self.heartbeat(id, *error_rate).await;
                }
            }
            A::LateHeartbeat(index) => {
                if let Some(id) = with(index) {
                    self.heartbeat(id, 0.0).await;
                }
            }
            A::LateStartFailure(index) => {
                if let Some(workspace) = with(index).and_then(|id| self.fleet.workspaces().get(id)) {
                    let (attempt, error) = (workspace.row.attempt - 1, "late".to_owned());
                    let id = workspace.row.id;
                    self.input(id, Input::StartFailed { attempt, error, missing: Vec::new() }).await;
                }
            }
            A::Die(index) => {
                if let Some(id) = self.id(*index) {
                    self.backend.kill(id);
                }
            }
            A::Unobservable(unobservable) => self.backend.set_unobservable(*unobservable),
            A::Script(script) => self.backend.script([*script]),
            A::Pass(time) => self.passes(*time).await,
            A::Write(index) => return self.writes(*index).await,
        }
        self
    }

    fn has_agent(&self, id: WorkspaceId) -> bool {
        let workspace = self.fleet.workspaces().get(id).unwrap();
        workspace.row.hosting == Hosting::Operator || self.backend.running().contains_key(&id)
    }

    async fn creates(mut self, runtime: &str, below: Option<&Index>) -> Self {
        if self.created.len() < WORKSPACES {
            let parent = below.and_then(|below| self.id(*below));
            let new = testing::new("one", runtime, parent);
            if let Ok(created) = self.fleet.create(new, "test").await {
                self.created.push(created.row.id);
            }
        }
        self
    }

    async fn removes(mut self, index: Index) -> Self {
        if let Some(id) = self.id(index) {
            let below = self.fleet.workspaces().descendants(id);
            if self.fleet.mark_removed(id, true).await.is_ok() {
                for id in below.iter().map(|it| it.row.id).chain([id]) {
                    let at = self.row(id).await.unwrap().removed_at.unwrap();
                    self.removed.entry(id).or_insert(at);
                }
            }
        }
        self
    }

    /// Takes some steps for one workspace. A step that gets stuck is the end of this server.
    async fn reconciles(self, index: Index, steps: usize) -> Self {
        let Some(id) = self.id(index) else { return self };
        for _ in 0..steps {
            tokio::select! {
                biased;
                step = self.fleet.step(id, &self.fence) => match step.unwrap() {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(_) => return self,
                },
                () = self.backend.stuck.notified() => return self.crash().await,
            }
        }
        self
    }

    async fn writes(mut self, index: Index) -> Self {
        if let Some(id) = self.id(index) {
            let content = format!("{} {}", self.written_files.len(), self.backend.done().len()).into_bytes();
            if self.backend.copy_in(id, FILE, content.clone()).await.is_ok() {
                self.written_files.insert(id, content);
            }
        }
        self
    }

    async fn heartbeat(&self, id: WorkspaceId, error_rate: f64) {
        let last_seen_at = Some(store::now());
        self.fleet.workspaces().put_presence(PresenceRow {
            workspace_id: id,
            last_seen_at,
            ..PresenceRow::default()
        });
        let (runtime_state, sample_error) = (Some(String::new()), "boom".to_owned());
        self.input(
            id,
            Input::Heartbeat(Heartbeat {
                error_rate,
                runtime_state,
                sample_error,
                self_reports_health: false,
            }),
        )
        .await;
    }

    /// Sets back the times of rows and presences.
    async fn passes(&self, time: Duration) {
        let time = TimeDelta::from_std(time).unwrap();
        let mut rows = Vec::new();
        for workspace in self.fleet.workspaces().list() {
            let row = workspace.row.as_ref();
            let back = |at: Option<DateTime<Utc>>| at.map(|at| at - time);
            rows.push(
                WorkspaceRow {
                    status_since: row.status_since - time,
                    attempt_at: back(row.attempt_at),
                    retry_at: back(row.retry_at),
                    ..row.clone()
                }
                .revised(store::now()),
            );
            if let Some(presence) = &workspace.presence {
                let last_seen_at = back(presence.last_seen_at);
                self.fleet
                    .workspaces()
                    .put_presence(PresenceRow { last_seen_at, ..presence.as_ref().clone() });
            }
        }
        for id in self.removed.keys() {
            let row = self.row(*id).await.unwrap();
            rows.push(
                WorkspaceRow { retry_at: row.retry_at.map(|at| at - time), ..row }.revised(store::now()),
            );
        }
        self.fleet.state().commit(Change::of(UpdateWorkspaces(rows))).await.unwrap();
    }

    /// Reconciles until nothing waits for anything: the backend succeeds, agents are silent.
    pub(super) async fn converges(&self) {
        self.backend.succeed();
        for _ in 0..JUMPS {
            let mut next: Option<DateTime<Utc>> = None;
            for id in self.fleet.reconcilable_ids().await.unwrap() {
                let until = self.fleet.reconcile_one(id, &self.fence).await.unwrap();
                next = next.into_iter().chain(until).min();
            }
            let Some(next) = next else { return };
            let wait = (next - store::now()).max(TimeDelta::zero()) + TimeDelta::milliseconds(1);
            self.passes(wait.to_std().unwrap()).await;
        }
        panic!("there is no end of steps: {:#?}", self.fleet.workspaces().list());
    }
}
