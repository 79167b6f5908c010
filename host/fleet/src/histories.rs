//! Histories by chance: what people, agents, backends and time do to a small tree of workspaces, one
//! thing after the other, with a server that may die after each step. After each history the backend
//! works and everything is looked at until it rests. Then what is wanted, what clients are told and
//! what runs must agree, and what was told must be what happened.
//!
//! Time passes by setting back the times of rows: to the rules that is the same.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use events::Event;
use proptest::prelude::*;
use serde_json::json;
use store::{
    Change, Fence, Store,
    presence::PresenceRow,
    workspaces::{Container, DesiredState, Hosting, Status, UpdateWorkspaces, WorkspaceRow},
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    Edit, Fleet, Limits, Workspace,
    fleet::{Planned, transitions},
    machine::{self, Beat, Input},
    scripted::{Script, Scripted},
    testing,
};

/// Histories tried. Each is about 25 things that happen.
const CASES: u32 = 200;

/// Workspaces of a history at most.
const WORKSPACES: usize = 4;

/// Steps until everything rests, and time jumps until nothing waits for time.
const STEPS: usize = 60;

/// What may become of an action.
const SCRIPTS: &[Script] = &[
    Script::Works,
    Script::Refuses,
    Script::Unreachable,
    Script::DoneUnheard,
    Script::Hangs,
    Script::DoneThenDies,
];

/// A workspace of the history, by the order in which they were made.
type Which = usize;

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    Create {
        runtime: &'static str,
        below: Option<Which>,
    },
    Restart(Which),
    Pause(Which),
    Resume(Which),
    Hibernate(Which),
    Wake(Which),
    Remove(Which),
    Move {
        which: Which,
        below: Option<Which>,
    },
    /// The agent of its container, if there is one, or of its operator.
    Registers(Which),
    Beats {
        which: Which,
        error_rate: f64,
    },
    /// An agent that nobody expects any more.
    BeatsLate(Which),
    StartFailsLate(Which),
    Dies(Which),
    Blind(bool),
    Script(Script),
    /// The reconciler takes this many steps.
    Looks {
        which: Which,
        steps: usize,
    },
    Passes(Duration),
    /// The server dies, and another one begins with what is in the database.
    Crash,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    let which = || 0..WORKSPACES;
    let below = || prop::option::of(0..WORKSPACES);
    let runtime = prop_oneof![4 => Just("langgraph"), 1 => Just("external"), 1 => Just("mock")];
    prop_oneof![
        4 => (runtime, below()).prop_map(|(runtime, below)| H::Create { runtime, below }),
        2 => which().prop_map(H::Restart),
        2 => which().prop_map(H::Pause),
        2 => which().prop_map(H::Resume),
        2 => which().prop_map(H::Hibernate),
        1 => which().prop_map(H::Wake),
        2 => which().prop_map(H::Remove),
        1 => (which(), below()).prop_map(|(which, below)| H::Move { which, below }),
        3 => which().prop_map(H::Registers),
        2 => (which(), prop_oneof![Just(0.0), Just(0.7)])
            .prop_map(|(which, error_rate)| H::Beats { which, error_rate }),
        1 => which().prop_map(H::BeatsLate),
        1 => which().prop_map(H::StartFailsLate),
        2 => which().prop_map(H::Dies),
        1 => any::<bool>().prop_map(H::Blind),
        5 => prop::sample::select(SCRIPTS).prop_map(H::Script),
        12 => (which(), 1..6_usize).prop_map(|(which, steps)| H::Looks { which, steps }),
        2 => prop_oneof![Just(2), Just(100), Just(200), Just(700)]
            .prop_map(|seconds| H::Passes(Duration::from_secs(seconds))),
        2 => Just(H::Crash),
    ]
}

/// A server, the world around it, and what the test knows of both.
struct History {
    store: Store,
    fleet: Fleet,
    written: JoinHandle<()>,
    fence: Fence,
    backend: Scripted,
    made: Vec<Uuid>,
    /// Those that were removed, with when.
    removed: BTreeMap<Uuid, DateTime<Utc>>,
}

/// A database that is up to date and empty, to be copied.
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
        let (store, backend) = (testing::sqlite(file).await, Scripted::default());
        let (fleet, written, fence) = Self::server(&store, &backend).await;
        Self { store, fleet, written, fence, backend, made: Vec::new(), removed: BTreeMap::new() }
    }

    async fn server(store: &Store, backend: &Scripted) -> (Fleet, JoinHandle<()>, Fence) {
        let (fleet, written) =
            testing::open(store.clone(), Some(Arc::new(backend.clone())), Limits::default()).await;
        // Whoever held the lease is dead.
        store.release_leases(fleet.inner.server).await.unwrap();
        let holder = Uuid::new_v4();
        let mut lease = store.lease("history", holder, Duration::ZERO).await.unwrap();
        while lease.is_none() {
            lease = store.lease("history", holder, Duration::ZERO).await.unwrap();
        }
        (fleet, written, lease.unwrap().fence)
    }

    /// Everything in memory is gone; the database and the containers are as they are.
    async fn crash(self) -> Self {
        let Self { store, fleet, written, backend, made, removed, .. } = self;
        drop(fleet);
        written.await.unwrap();
        let (fleet, written, fence) = Self::server(&store, &backend).await;
        Self { store, fleet, written, fence, backend, made, removed }
    }

    fn id(&self, which: Which) -> Option<Uuid> {
        self.made.get(which).copied()
    }

    async fn row(&self, id: Uuid) -> Option<WorkspaceRow> {
        Some(self.store.workspaces(&[id]).await.unwrap().pop()?.row)
    }

    /// Gives an input to the machine, as whoever has it would.
    async fn input(&self, id: Uuid, input: Input) {
        let changed = self.fleet.change(|fleet: &Fleet| {
            let rows = fleet.directory().get(id);
            let rows = rows.iter().map(|workspace| (workspace.row.as_ref(), input.clone()));
            Ok(Planned { change: transitions(rows, store::now()), done: () })
        });
        changed.await.unwrap();
    }

    async fn happens(self, happening: &Happening) -> Self {
        use Happening as H;
        let with = |which: &Which| self.id(*which).filter(|id| self.fleet.directory().get(*id).is_some());
        match happening {
            H::Create { runtime, below } => return self.creates(runtime, below.as_ref()).await,
            H::Crash => return self.crash().await,
            H::Looks { which, steps } => return self.looks(*which, *steps).await,
            H::Remove(which) => return self.removes(*which).await,
            // People are refused what makes no sense; the machine is asked all the same.
            H::Restart(which) => {
                if let Some(id) = with(which) {
                    let _ = self.fleet.restart(id).await;
                }
            }
            H::Pause(which) => {
                if let Some(id) = with(which) {
                    let _ = self.fleet.pause(id).await;
                }
            }
            H::Resume(which) => {
                if let Some(id) = with(which) {
                    let _ = self.fleet.resume(id).await;
                }
            }
            H::Wake(which) => {
                if let Some(id) = with(which) {
                    let _ = self.fleet.wake(id).await;
                }
            }
            H::Move { which, below } => {
                if let Some(id) = with(which) {
                    let parent = below.and_then(|below| self.id(below)).map(|id| id.to_string());
                    let _ = self.fleet.edit(id, Edit { parent_id: Some(parent), ..Edit::default() }).await;
                }
            }
            H::Hibernate(which) => {
                if let Some(id) = with(which) {
                    self.input(id, Input::Hibernate).await;
                }
            }
            H::Registers(which) => {
                if let Some(id) = with(which).filter(|id| self.has_agent(*id)) {
                    let url = Some("https://agent.example".to_owned());
                    let (card, delivery_mode) =
                        (json!({"name": "agent"}), store::workspaces::DeliveryMode::Push);
                    self.input(id, Input::Registered { url, card, delivery_mode }).await;
                }
            }
            H::Beats { which, error_rate } => {
                if let Some(id) = with(which).filter(|id| self.has_agent(*id)) {
                    self.beats(id, *error_rate).await;
                }
            }
            H::BeatsLate(which) => {
                if let Some(id) = with(which) {
                    self.beats(id, 0.0).await;
                }
            }
            H::StartFailsLate(which) => {
                if let Some(workspace) = with(which).and_then(|id| self.fleet.directory().get(id)) {
                    let (attempt, error) = (workspace.row.attempt - 1, "late".to_owned());
                    let id = workspace.row.id;
                    self.input(id, Input::StartFailed { attempt, error, missing: Vec::new() }).await;
                }
            }
            H::Dies(which) => {
                if let Some(id) = self.id(*which) {
                    self.backend.dies(id);
                }
            }
            H::Blind(blind) => self.backend.blind(*blind),
            H::Script(script) => self.backend.script([*script]),
            H::Passes(time) => self.passes(*time).await,
        }
        self
    }

    fn has_agent(&self, id: Uuid) -> bool {
        let workspace = self.fleet.directory().get(id).unwrap();
        workspace.row.hosting == Hosting::Operator || self.backend.runs().contains_key(&id)
    }

    async fn creates(mut self, runtime: &str, below: Option<&Which>) -> Self {
        if self.made.len() < WORKSPACES {
            let parent = below.and_then(|below| self.id(*below));
            let new = testing::new("one", runtime, parent);
            if let Ok(created) = self.fleet.create(new, "test").await {
                self.made.push(created.row.id);
            }
        }
        self
    }

    async fn removes(mut self, which: Which) -> Self {
        if let Some(id) = self.id(which) {
            let below = self.fleet.directory().descendants(id);
            if self.fleet.mark_removed(id, true).await.is_ok() {
                for id in below.iter().map(|it| it.row.id).chain([id]) {
                    let at = self.row(id).await.unwrap().removed_at.unwrap();
                    self.removed.entry(id).or_insert(at);
                }
            }
        }
        self
    }

    /// Takes some steps about one workspace. A step that gets stuck is the end of this server.
    async fn looks(self, which: Which, steps: usize) -> Self {
        let Some(id) = self.id(which) else { return self };
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

    async fn beats(&self, id: Uuid, error_rate: f64) {
        let last_seen_at = Some(store::now());
        self.fleet.directory().put_presence(PresenceRow {
            workspace_id: id,
            last_seen_at,
            ..PresenceRow::default()
        });
        let (runtime_state, sample_error) = (Some(String::new()), "boom".to_owned());
        self.input(id, Input::Beat(Beat { error_rate, runtime_state, sample_error, judges_itself: false }))
            .await;
    }

    /// Sets back what rows and presences say of times.
    async fn passes(&self, time: Duration) {
        let time = TimeDelta::from_std(time).unwrap();
        let mut rows = Vec::new();
        for workspace in self.fleet.directory().list() {
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
                    .directory()
                    .put_presence(PresenceRow { last_seen_at, ..presence.as_ref().clone() });
            }
        }
        for id in self.removed.keys() {
            let row = self.row(*id).await.unwrap();
            rows.push(
                WorkspaceRow { retry_at: row.retry_at.map(|at| at - time), ..row }.revised(store::now()),
            );
        }
        self.fleet.commit(Change::of(UpdateWorkspaces(rows))).await.unwrap();
    }

    /// With a backend that works and agents that are silent, everything comes to rest.
    async fn settles(&self) {
        self.backend.works();
        for _ in 0..STEPS {
            let mut next: Option<DateTime<Utc>> = None;
            for id in self.fleet.all_that_may_need_it().await.unwrap() {
                let until = self.fleet.look(id, &self.fence).await.unwrap();
                next = next.into_iter().chain(until).min();
            }
            let Some(next) = next else { return };
            let wait = (next - store::now()).max(TimeDelta::zero()) + TimeDelta::milliseconds(1);
            self.passes(wait.to_std().unwrap()).await;
        }
        panic!("it doesn't come to rest: {:#?}", self.fleet.directory().list());
    }

    async fn check(self) {
        let mut runs = self.backend.runs();
        for id in &self.made {
            let row = self.row(*id).await.unwrap();
            assert_eq!(row.is_removed(), self.removed.contains_key(id), "{row:?}");
            assert_eq!(row.removed_at.as_ref(), self.removed.get(id));
            assert_eq!(self.fleet.directory().get(*id).is_some(), !row.is_removed());
            let ancestor_paused = self.fleet.directory().paused_above(*id).is_some();
            let waits = row.status == Status::Offline && ancestor_paused;
            assert!(machine::agrees(&row) || waits, "{row:?}");
            let run = runs.remove(id);
            let may_run = row.wanted == DesiredState::Running && row.hosting == Hosting::Container;
            assert!(run.is_none() || (may_run && run == Some(row.attempt)), "{run:?} runs for {row:?}");
            let known = matches!(row.container, Container::Running);
            assert_eq!(known, run.is_some(), "{row:?}");
            if matches!(row.status, Status::Online | Status::Degraded) && row.hosting == Hosting::Container {
                assert!(run.is_some(), "{row:?}");
            }
        }
        assert!(runs.is_empty(), "nobody wants {runs:?}");
        self.check_events().await;
        let fresh = crate::Directory::default();
        fresh.load(self.store.live_workspaces().await.unwrap());
        // Presences here were never written down.
        let bare = |all: Vec<Arc<Workspace>>| -> Vec<Workspace> {
            all.iter().map(|it| Workspace { presence: None, ..it.as_ref().clone() }).collect()
        };
        assert_eq!(bare(self.fleet.directory().list()), bare(fresh.list()));
        for id in self.made.iter().map(|id| Some(*id)).chain([None]) {
            assert_eq!(bare(self.fleet.directory().children(id)), bare(fresh.children(id)));
        }
    }

    /// Numbers without gaps, times that grow, and a chain of statuses that leads to the row's.
    async fn check_events(&self) {
        let events = self.store.events_after(0, 100_000).await.unwrap();
        let seqs: Vec<i64> = events.iter().filter_map(|event| event.seq()).collect();
        assert_eq!(seqs, (1..=events.len() as i64).collect::<Vec<_>>());
        assert!(events.windows(2).all(|pair| pair[0].at() < pair[1].at()));
        assert_eq!(self.fleet.last_told(), events.len() as i64);
        let mut last: BTreeMap<Uuid, Status> = BTreeMap::new();
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
            // Told again are only a restart, a register that changed something, and a hibernation given up.
            let again = matches!(to, Status::Provisioning | Status::Online);
            assert!(again || from != Some(to), "{to} twice");
        }
        for id in &self.made {
            assert_eq!(last.get(id).copied(), self.row(*id).await.map(|row| row.status));
        }
    }
}

fn run(history: &[Happening]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.db");
    std::fs::copy(template(), &file).unwrap();
    runtime().block_on(async {
        let mut world = History::begin(&file).await;
        world = world.happens(&Happening::Create { runtime: "langgraph", below: None }).await;
        for happening in history {
            world = world.happens(happening).await;
        }
        // Not everything that a server knew may be needed to come to rest.
        world = world.crash().await;
        world.settles().await;
        world.check().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_it_comes_to_what_is_wanted(history in prop::collection::vec(happening(), 5..45)) {
        run(&history);
    }
}

/// The same without chance, for one workspace: whatever it is asked first, whatever becomes of the
/// action that follows, and whatever is asked then.
#[test]
fn whatever_becomes_of_an_action_the_next_want_is_fulfilled() {
    use Happening as H;
    let looks = |steps| H::Looks { which: 0, steps };
    let wants = || [H::Restart(0), H::Pause(0), H::Remove(0), H::Hibernate(0), H::Dies(0)];
    let works = [looks(9), H::Registers(0)];
    for script in SCRIPTS {
        for then in wants().into_iter().chain([H::Resume(0), H::Wake(0), H::Crash]) {
            run(&[H::Script(*script), looks(2), then.clone()]);
            for first in wants() {
                let mut history = works.to_vec();
                history.extend([first, looks(1), H::Script(*script), looks(3), then.clone()]);
                run(&history);
            }
        }
    }
}
