//! What the fleet's tests share: rows, runtimes, databases, and waiting with an end.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use catalog::{NoAnswer, PlanError};
use chrono::DateTime;
use events::Hub;
use futures::{FutureExt as _, future::BoxFuture};
use provision::Backend;
use state::State;
use store::{
    Cipher, Store,
    workspaces::{Hosting, WorkspaceRow},
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use types::{WorkspaceId, WorkspaceSpec};
use wasm::{
    Problem,
    adapter::{
        Capabilities, Content, Description, EnvCopy, EnvSet, File, Plan, PlanRequest, Surfaces, Volume,
    },
};

use crate::{
    Adapter, Fleet, FleetConfig, Limits, NewWorkspaceRow, RuntimeInfo, RuntimeTemplates, Runtimes,
    create::NewWorkspace,
    rules::{DeliveryMode, WorkspaceAccess},
};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A workspace in a container, as it is before its first attempt.
pub(crate) fn row(name: &str) -> WorkspaceRow {
    let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    let blueprint = NewWorkspaceRow {
        id: WorkspaceId::random(),
        name: name.to_owned(),
        role: None,
        tier: 3,
        runtime: "langgraph".to_owned(),
        hosting: Hosting::Container,
        parent_id: None,
        delivery_mode: Some(DeliveryMode::Push),
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        budget_limit: None,
        max_concurrent_tasks: 1,
        url: None,
        spec: WorkspaceSpec::default(),
    };
    WorkspaceRow { status_since: at, created_at: at, updated_at: at, ..blueprint.row() }
}

/// Times for tests: a call to the backend that hangs ends soon.
pub(crate) fn limits() -> Limits {
    Limits { backend_timeout: Duration::from_millis(200), ..Limits::default() }
}

/// Runtimes by name, one for each hosting.
#[derive(Clone, Default)]
pub(crate) struct FakeRuntimes(Arc<FakeAdapters>);

#[derive(Default)]
struct FakeAdapters {
    /// Why they give no plan.
    outage: Mutex<Option<NoAnswer>>,
    asked: Mutex<usize>,
    changes: watch::Sender<u64>,
}

impl FakeRuntimes {
    /// From now on the adapters give no plan for this reason, without a change of what answers.
    pub(crate) fn fail(&self, why: Option<NoAnswer>) {
        *self.0.outage.lock().unwrap() = why;
    }

    /// Other releases are in service, as after [`FakeRuntimes::fail`].
    pub(crate) fn swap(&self, why: Option<NoAnswer>) {
        self.fail(why);
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    /// How often a plan was asked for.
    pub(crate) fn asked(&self) -> usize {
        *self.0.asked.lock().unwrap()
    }
}

#[async_trait::async_trait]
impl Runtimes for FakeRuntimes {
    fn sanitize(&self, runtime: &str) -> String {
        runtime.to_owned()
    }

    /// The guest of the runtime `compiling` never is.
    fn ready<'a>(&'a self, runtime: &'a str) -> Option<BoxFuture<'a, ()>> {
        (runtime == "compiling").then(|| futures::future::pending().boxed())
    }

    fn info(&self, runtime: &str) -> RuntimeInfo {
        let hosting = match runtime {
            "external" => Hosting::Operator,
            "mock" => Hosting::Synthetic,
            _ => Hosting::Container,
        };
        RuntimeInfo { hosting, default_model: None, provision_timeout: None, self_reports_health: false }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn adapter_number(&self, _: &str) -> u64 {
        1 + *self.0.changes.borrow()
    }

    async fn adapter(&self, runtime: &str, _: Option<WorkspaceId>) -> Box<dyn Adapter> {
        let description = Description {
            name: runtime.to_owned(),
            aliases: Vec::new(),
            display_name: runtime.to_owned(),
            hosting: wasm::adapter::Hosting::Container,
            image_base: Some(format!("workspace-template-{runtime}")),
            default_model: None,
            port: 8000,
            config_dir: "/configs".to_owned(),
            remote_config_dir: "/configs".to_owned(),
            template_dirs: vec![format!("{runtime}-default"), runtime.to_owned()],
            memory_file: None,
            volumes: vec![Volume {
                name: "sessions".to_owned(),
                path: "/root/sessions".to_owned(),
                reset_group: Some("session".to_owned()),
            }],
            provision_timeout_seconds: None,
            reply_pause_ms: 0,
            transcripts: false,
            translates_messages: false,
            capabilities: Capabilities::default(),
            surfaces: Surfaces::default(),
        };
        Box::new(FakeAdapter(description, self.clone()))
    }
}

/// An adapter whose plan has something in every field, from what the workspace's secrets say.
struct FakeAdapter(Description, FakeRuntimes);

#[async_trait]
impl Adapter for FakeAdapter {
    fn description(&self) -> &Description {
        &self.0
    }

    async fn plan(&self, request: &PlanRequest) -> Result<Plan, PlanError> {
        *self.1.0.asked.lock().unwrap() += 1;
        if let Some(why) = self.1.0.outage.lock().unwrap().clone() {
            return Err(why.into());
        }
        let has = |name: &str| request.secret_keys.iter().any(|key| key == name);
        if has("OBJECTION") {
            return Err(PlanError::Refused(Problem { at: None, message: "no such model".to_owned() }));
        }
        let phase = format!("{:?}", request.phase).to_lowercase();
        Ok(Plan {
            env: vec![EnvSet { name: "PHASE".to_owned(), value: phase }],
            env_copies: vec![EnvCopy { source: "API_KEY".to_owned(), target: "SECOND_KEY".to_owned() }],
            files: vec![File { path: "notes.md".to_owned(), content: Content::Bytes(b"planned".to_vec()) }],
            provider: request.model.as_ref().map(|_| "hinted".to_owned()),
            required_env: if has("NEEDY") { vec![vec!["API_KEY".to_owned()]] } else { Vec::new() },
            reset_groups: if has("RESET") { vec!["session".to_owned()] } else { Vec::new() },
        })
    }
}

/// Opens a fleet.
pub(crate) async fn open(
    store: Store,
    backend: Option<Arc<dyn Backend>>,
    limits: Limits,
) -> (Fleet, JoinHandle<()>) {
    open_with(store, backend, limits, RuntimeTemplates::open(None)).await
}

/// Opens a fleet with runtime templates.
pub(crate) async fn open_with(
    store: Store,
    backend: Option<Arc<dyn Backend>>,
    limits: Limits,
    templates: RuntimeTemplates,
) -> (Fleet, JoinHandle<()>) {
    open_with_runtimes(store, backend, limits, templates, FakeRuntimes::default()).await
}

/// Opens a fleet with adapters that may fail.
pub(crate) async fn open_with_runtimes(
    store: Store,
    backend: Option<Arc<dyn Backend>>,
    limits: Limits,
    templates: RuntimeTemplates,
    runtimes: FakeRuntimes,
) -> (Fleet, JoinHandle<()>) {
    let (state, written) = State::open(store, Hub::default()).await.unwrap();
    let config = FleetConfig {
        state,
        runtimes: Arc::new(runtimes),
        backend,
        cipher: Cipher::new(None, None, false).unwrap(),
        templates,
        limits,
        provision: provision::Settings::default(),
        saas: false,
        addresses: Default::default(),
        host_directories: Default::default(),
    };
    (Fleet::open(config).await, written)
}

/// A workspace to be made.
pub(crate) fn new(name: &str, runtime: &str, parent: Option<WorkspaceId>) -> NewWorkspace {
    NewWorkspace {
        name: name.to_owned(),
        runtime: Some(runtime.to_owned()),
        parent_id: parent.map(|id| id.to_string()),
        ..NewWorkspace::default()
    }
}

/// The SQLite database in this file, which is made where it isn't there.
pub(crate) async fn sqlite(file: &Path) -> Store {
    Store::connect(&format!("sqlite:{}", file.display())).await.unwrap()
}

/// Waits until something holds, looking again after each event of the fleet and at least each 20 ms.
pub(crate) async fn until(what: &str, fleet: &Fleet, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        let mut events = fleet.hub().subscribe(4_096, |_| true);
        while !holds().await {
            let _ = timeout(Duration::from_millis(20), events.next()).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("it did not happen in time: {what}"));
}
