//! Workspaces for benches, written straight into a database.

use std::{path::Path, sync::Arc};

use events::{Envelope, Hub};
use fleet::{Adapter, Fleet, FleetConfig, ProvisionSettings, RuntimeInfo, RuntimeTemplates, Runtimes};
use state::State;
use store::{
    Change, Cipher, Observer, Store, Writer,
    layouts::{LayoutRow, PutLayouts},
    workspaces::{
        Container, DeliveryMode, DesiredState, Hosting, InsertWorkspaces, Status, WorkspaceAccess,
        WorkspaceRow,
    },
};
use tokio::task::JoinHandle;
use types::{WorkspaceId, WorkspaceSpec};

/// Everything is synthetic.
pub struct Synthetic;

#[async_trait::async_trait]
impl Runtimes for Synthetic {
    fn sanitize(&self, runtime: &str) -> String {
        runtime.to_owned()
    }

    fn info(&self, _: &str) -> RuntimeInfo {
        RuntimeInfo {
            hosting: Hosting::Synthetic,
            default_model: None,
            provision_timeout: None,
            self_reports_health: false,
        }
    }

    async fn adapter(&self, _: &str, _: Option<WorkspaceId>) -> Box<dyn Adapter> {
        unreachable!("nothing is started here")
    }
}

struct NoObserver;

impl Observer for NoObserver {
    fn committed(&self, _: &Change, _: &[Arc<Envelope>]) {}

    fn outcome_unknown(&self) {}
}

/// A fleet on a database, without a server.
pub async fn fleet(url: &str) -> (Fleet, JoinHandle<()>) {
    let store = Store::connect(url).await.expect("a database");
    let (state, written) = State::open(store, Hub::default()).await.expect("a database");
    let config = FleetConfig {
        state,
        runtimes: Arc::new(Synthetic),
        backend: None,
        cipher: Cipher::new(None, None, false).expect("no key"),
        templates: RuntimeTemplates::open(None),
        limits: fleet::Limits::default(),
        provision: ProvisionSettings::default(),
        saas: false,
        addresses: Default::default(),
        host_directories: Default::default(),
    };
    (Fleet::open(config).await, written)
}

pub fn sqlite(data: &Path) -> String {
    format!("sqlite:{}", data.join("isomer.db").display())
}

/// Writes a tree of `count` online workspaces, ten children to each. Returns their ids, parents first.
pub async fn seed(url: &str, count: usize) -> Vec<WorkspaceId> {
    let store = Store::connect(url).await.expect("a database");
    let (writer, written) = Writer::start(store.clone(), Arc::new(NoObserver));
    let mut ids = Vec::with_capacity(count);
    let mut rows = Vec::with_capacity(count);
    for number in 0..count {
        let parent = (number > 0).then(|| ids[(number - 1) / 10]);
        let row = row(number, parent);
        ids.push(row.id);
        rows.push(row);
    }
    for rows in rows.chunks(5_000) {
        let place = |row: &WorkspaceRow| LayoutRow { workspace_id: row.id, x: 1.0, y: 2.0, collapsed: false };
        let layouts = rows.iter().map(place).collect();
        let change = Change::of(InsertWorkspaces(rows.to_vec())).with(PutLayouts(layouts));
        writer.commit(change).await.expect("they are stored");
    }
    drop(writer);
    written.await.expect("it ends");
    store.close().await.expect("it closes");
    ids
}

fn row(number: usize, parent_id: Option<WorkspaceId>) -> WorkspaceRow {
    let now = store::now();
    WorkspaceRow {
        id: WorkspaceId::random(),
        name: format!("Workspace {number}"),
        role: Some("Answers questions about everything".to_owned()),
        tier: 2,
        runtime: "mock".to_owned(),
        hosting: Hosting::Synthetic,
        parent_id,
        delivery_mode: DeliveryMode::Push,
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        budget_limit: None,
        max_concurrent_tasks: 1,
        hibernation_idle_minutes: None,
        spec: WorkspaceSpec::default(),
        desired: DesiredState::Running,
        generation: 1,
        status: Status::Online,
        status_since: now,
        observed_generation: 1,
        container: Container::None,
        attempt: 0,
        attempt_at: None,
        failures: 0,
        retry_at: None,
        conditions: Vec::new(),
        url: None,
        agent_card: None,
        last_sample_error: None,
        revision: 1,
        created_at: now,
        updated_at: now,
        removed_at: None,
    }
}

/// Resident memory of a process, bytes.
pub fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux reports it");
    let kib: usize = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kib << 10
}
