//! Random histories: what operators, agents, backends and time do to a small tree of workspaces, one
//! action after the other, with a server that may die after each. After each history the backend succeeds
//! and every workspace is reconciled until there is nothing to do. Then the desired state, what clients
//! were published, running containers and stored rows must agree.
//!
//! Time passes by setting back the times of rows: to the rules that is the same.
//!
//! A failing run prints its seed; the same actions come again with `MODEL_SEED=<seed> cargo test -p
//! isomer-fleet model_tests`.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use events::Event;
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};
use provision::{Backend as _, WorkspaceIo as _};
use serde_json::json;
use store::{
    Change, Fence, Store,
    presence::PresenceRow,
    workspaces::{Container, DesiredState, Hosting, Status, UpdateWorkspaces, WorkspaceRow},
};
use tokio::task::JoinHandle;
use types::{EventSeq, ServerId, WorkspaceId};

use crate::{
    Edit, Fleet, Workspace,
    fake_backend::{FakeBackend, Script},
    fleet::{Planned, transitions},
    machine::{self, Heartbeat, Input},
    testing,
};

/// Histories tried. Each is about 25 actions.
const CASES: u32 = 200;

/// Workspaces of a history at most.
const WORKSPACES: usize = 4;

/// Jumps in time until nothing waits for time any more.
const JUMPS: usize = 60;

/// Where a history writes to.
const FILE: &str = "/workspace/notes";

/// What may become of a call to the backend.
const SCRIPTS: &[Script] = &[
    Script::Succeeds,
    Script::Refuses,
    Script::Unreachable,
    Script::AnswerLost,
    Script::Hangs,
    Script::ServerDies,
];

/// A workspace of the history: how many were created before it.
type Index = usize;

#[derive(Debug, Clone)]
enum Action {
    Create {
        runtime: &'static str,
        below: Option<Index>,
    },
    Restart(Index),
    Pause(Index),
    Resume(Index),
    Hibernate(Index),
    Wake(Index),
    Remove(Index),
    Move {
        index: Index,
        below: Option<Index>,
    },
    /// The agent of its container registers, if there is one, or that of its operator.
    Register(Index),
    Heartbeat {
        index: Index,
        error_rate: f64,
    },
    /// An agent calls that should be stopped by now.
    LateHeartbeat(Index),
    LateStartFailure(Index),
    /// Its container ends.
    Die(Index),
    /// The backend can't observe anything, or can again.
    Unobservable(bool),
    Script(Script),
    /// The reconciler takes this many steps.
    Reconcile {
        index: Index,
        steps: usize,
    },
    Pass(Duration),
    /// A file is written into its container, if that runs.
    Write(Index),
    /// The server dies, and another one begins with what is in the database.
    Crash,
}

fn action() -> impl Strategy<Value = Action> {
    use Action as A;
    let index = || 0..WORKSPACES;
    let below = || prop::option::of(0..WORKSPACES);
    let runtime = prop_oneof![4 => Just("langgraph"), 1 => Just("external"), 1 => Just("mock")];
    prop_oneof![
        4 => (runtime, below()).prop_map(|(runtime, below)| A::Create { runtime, below }),
        2 => index().prop_map(A::Restart),
        2 => index().prop_map(A::Pause),
        2 => index().prop_map(A::Resume),
        2 => index().prop_map(A::Hibernate),
        1 => index().prop_map(A::Wake),
        2 => index().prop_map(A::Remove),
        1 => (index(), below()).prop_map(|(index, below)| A::Move { index, below }),
        3 => index().prop_map(A::Register),
        2 => (index(), prop_oneof![Just(0.0), Just(0.7)])
            .prop_map(|(index, error_rate)| A::Heartbeat { index, error_rate }),
        1 => index().prop_map(A::LateHeartbeat),
        1 => index().prop_map(A::LateStartFailure),
        2 => index().prop_map(A::Die),
        1 => any::<bool>().prop_map(A::Unobservable),
        5 => prop::sample::select(SCRIPTS).prop_map(A::Script),
        12 => (index(), 1..6_usize).prop_map(|(index, steps)| A::Reconcile { index, steps }),
        2 => prop_oneof![Just(2), Just(100), Just(200), Just(700)]
            .prop_map(|seconds| A::Pass(Duration::from_secs(seconds))),
        3 => index().prop_map(A::Write),
        2 => Just(A::Crash),
    ]
}

/// A server, its backend, and what the test knows of both.
struct History {
    store: Store,
    fleet: Fleet,
    written: JoinHandle<()>,
    fence: Fence,
    backend: FakeBackend,
    created: Vec<WorkspaceId>,
    /// What was last written into a workspace.
    written_files: BTreeMap<WorkspaceId, Vec<u8>>,
    /// When workspaces were removed.
    removed: BTreeMap<WorkspaceId, DateTime<Utc>>,
}

/// A database file that is migrated and empty, to be copied.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, file) = TEMPLATE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("template.db");
        let runtime = runtime();
        runtime.block_on(async { testing::sqlite(&file).await.close().await.unwrap() });
        (dir, file)
    });
    file
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

impl History {
    async fn begin(file: &Path) -> Self {
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
    async fn crash(self) -> Self {
        let Self { store, fleet, written, backend, created, written_files, removed, .. } = self;
        drop(fleet);
        written.await.unwrap();
        let (fleet, written, fence) = Self::server(&store, &backend).await;
        Self { store, fleet, written, fence, backend, created, written_files, removed }
    }

    fn id(&self, index: Index) -> Option<WorkspaceId> {
        self.created.get(index).copied()
    }

    async fn row(&self, id: WorkspaceId) -> Option<WorkspaceRow> {
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

    async fn apply(self, action: &Action) -> Self {
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
                    let (card, delivery_mode) =
                        (json!({"name": "agent"}), store::workspaces::DeliveryMode::Push);
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
    async fn converges(&self) {
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

    async fn check(self) {
        let mut runs = self.backend.running();
        for id in &self.created {
            let row = self.row(*id).await.unwrap();
            assert_eq!(row.is_removed(), self.removed.contains_key(id), "{row:?}");
            assert_eq!(row.removed_at.as_ref(), self.removed.get(id));
            assert_eq!(self.fleet.workspaces().get(*id).is_some(), !row.is_removed());
            let ancestor_paused = self.fleet.workspaces().paused_above(*id).is_some();
            let waits = row.status == Status::Offline && ancestor_paused;
            assert!(machine::is_converged(&row) || waits, "{row:?}");
            let run = runs.remove(id);
            let may_run = row.desired == DesiredState::Running && row.hosting == Hosting::Container;
            assert!(run.is_none() || (may_run && run == Some(row.attempt)), "{run:?} runs for {row:?}");
            let known = matches!(row.container, Container::Running);
            assert_eq!(known, run.is_some(), "{row:?}");
            if matches!(row.status, Status::Online | Status::Degraded) && row.hosting == Hosting::Container {
                assert!(run.is_some(), "{row:?}");
            }
        }
        assert!(runs.is_empty(), "no workspace wants {runs:?}");
        self.check_backend().await;
        self.check_events().await;
        let fresh = crate::WorkspaceIndex::default();
        fresh.load(self.store.live_workspaces().await.unwrap());
        // Presences were never stored here.
        let bare = |all: Vec<Arc<Workspace>>| -> Vec<Workspace> {
            all.iter().map(|it| Workspace { presence: None, ..it.as_ref().clone() }).collect()
        };
        assert_eq!(bare(self.fleet.workspaces().list()), bare(fresh.list()));
        for id in self.created.iter().map(|id| Some(*id)).chain([None]) {
            assert_eq!(bare(self.fleet.workspaces().children(id)), bare(fresh.children(id)));
        }
    }

    /// The backend knows the containers that run, what was written last, and nothing of what was removed.
    async fn check_backend(&self) {
        let listed = self.backend.list().await.unwrap();
        let listed: BTreeMap<WorkspaceId, i32> = listed.iter().map(|it| (it.workspace, it.attempt)).collect();
        let running = self.backend.running();
        assert_eq!(listed, running);
        for id in running.keys() {
            let file = self.backend.copy_out(*id, FILE).await.ok();
            assert_eq!(file.as_ref(), self.written_files.get(id), "files outlive containers");
        }
        for id in self.removed.keys() {
            assert!(!self.backend.has_volumes(*id), "what {id} stored is still there");
        }
    }

    /// Events have numbers without gaps and times that grow, and lead to the row's status.
    async fn check_events(&self) {
        let events = self.store.events_after(EventSeq::START, 100_000).await.unwrap();
        let seqs: Vec<i64> = events.iter().filter_map(|event| event.seq()).map(|seq| seq.0).collect();
        assert_eq!(seqs, (1..=events.len() as i64).collect::<Vec<_>>());
        assert!(events.windows(2).all(|pair| pair[0].at() < pair[1].at()));
        assert_eq!(self.fleet.state().last_published(), EventSeq(events.len() as i64));
        let mut last: BTreeMap<WorkspaceId, Status> = BTreeMap::new();
        for event in &events {
            let id = event.workspace_id().unwrap();
            let to = match event.event().unwrap() {
                Event::WorkspaceProvisioning(_) => Status::Provisioning,
                Event::WorkspaceProvisionFailed(_) => Status::Failed,
                Event::WorkspaceOnline(_) => Status::Online,
                Event::WorkspaceOffline(_) => Status::Offline,
                Event::WorkspaceDegraded(_) => Status::Degraded,
                Event::WorkspaceAwaitingAgent(_) => Status::AwaitingAgent,
                Event::WorkspacePaused(_) => Status::Paused,
                Event::WorkspaceHibernated(_) => Status::Hibernated,
                Event::WorkspaceRemoved(_) => Status::Removed,
                _ => continue,
            };
            let from = last.insert(id, to);
            assert_ne!(from, Some(Status::Removed), "removed is final");
            // Only a restart, a registration that changed something and a hibernation that was given up are
            // published without a change of status.
            let again = matches!(to, Status::Provisioning | Status::Online);
            assert!(again || from != Some(to), "{to} twice");
        }
        for id in &self.created {
            assert_eq!(last.get(id).copied(), self.row(*id).await.map(|row| row.status));
        }
    }
}

fn run(history: &[Action]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.db");
    std::fs::copy(template(), &file).unwrap();
    runtime().block_on(async {
        let mut world = History::begin(&file).await;
        world = world.apply(&Action::Create { runtime: "langgraph", below: None }).await;
        for action in history {
            world = world.apply(action).await;
        }
        // Convergence must not depend on what only the last server knew.
        world = world.crash().await;
        world.converges().await;
        world.check().await;
    });
}

#[test]
fn random_histories_end_in_the_desired_state() {
    let given = std::env::var("MODEL_SEED").ok().map(|seed| seed.parse().expect("MODEL_SEED is a number"));
    let seed: u64 = given.unwrap_or_else(rand::random);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 400,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    });
    let histories = prop::collection::vec(action(), 5..45);
    let failed = runner.run(&histories, |history| {
        run(&history);
        Ok(())
    });
    if let Err(error) = failed {
        panic!(
            "{error}\nto run the same histories: MODEL_SEED={seed} cargo test -p isomer-fleet model_tests"
        );
    }
}

/// Not random, for one workspace: each first request, with each outcome of the call that follows, and each
/// second request.
#[test]
fn every_request_is_fulfilled_after_every_outcome_of_the_one_before() {
    use Action as A;
    let reconcile = |steps| A::Reconcile { index: 0, steps };
    let requests = || [A::Restart(0), A::Pause(0), A::Remove(0), A::Hibernate(0), A::Die(0)];
    let online = [reconcile(9), A::Register(0)];
    for script in SCRIPTS {
        for then in requests().into_iter().chain([A::Resume(0), A::Wake(0), A::Crash]) {
            run(&[A::Script(*script), reconcile(2), then.clone()]);
            for first in requests() {
                let mut history = online.to_vec();
                history.extend([first, reconcile(1), A::Script(*script), reconcile(3), then.clone()]);
                run(&history);
            }
        }
    }
}
