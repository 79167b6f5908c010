//! A database per test, and what tests write into it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::DateTime;
use events::Envelope;
use sea_orm::DatabaseConnection;
use store::{
    Change, Observer, Store, Writer,
    tokens::{TokenKind, TokenRow},
    workspaces::{Container, DeliveryMode, DesiredState, Hosting, Status, WorkspaceAccess, WorkspaceRow},
};
use tokio::task::JoinHandle;
use types::{EventSeq, Owner, TokenId, WorkspaceId, WorkspaceSpec};

/// How long a test waits for what must happen.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// An empty database of a test's own.
pub struct Database(databases::Database);

impl Database {
    pub fn sqlite() -> Self {
        Self(databases::Database::sqlite())
    }

    /// Without a schema: what the store makes of it is part of these tests.
    pub async fn postgres() -> Self {
        Self(databases::Database::empty_postgres().await)
    }

    pub fn url(&self) -> String {
        self.0.url()
    }

    pub async fn store(&self) -> Store {
        Store::connect(&self.url()).await.unwrap()
    }

    /// A connection past the store.
    pub async fn raw(&self) -> DatabaseConnection {
        self.0.raw().await
    }
}

pub use databases::on_both_databases as on_both;

/// Records the changes that it observes.
#[derive(Default)]
pub struct Witness {
    observed: Mutex<Vec<(Change, Vec<Arc<Envelope>>)>>,
}

impl Witness {
    pub fn seqs(&self) -> Vec<EventSeq> {
        let observed = self.observed.lock().unwrap();
        observed.iter().flat_map(|(_, events)| events.iter().filter_map(|event| event.seq())).collect()
    }

    pub fn changes(&self) -> usize {
        self.observed.lock().unwrap().len()
    }
}

impl Observer for Witness {
    fn committed(&self, change: &Change, events: &[Arc<Envelope>]) {
        self.observed.lock().unwrap().push((change.clone(), events.to_vec()));
    }

    fn outcome_unknown(&self) {}
}

pub fn writer(store: &Store) -> (Writer, JoinHandle<()>, Arc<Witness>) {
    let witness = Arc::new(Witness::default());
    let (writer, written) = Writer::start(store.clone(), Arc::clone(&witness) as _);
    (writer, written, witness)
}

pub fn workspace(name: &str) -> WorkspaceRow {
    let at = DateTime::from_timestamp(1_700_000_000, 123_456_000).unwrap();
    WorkspaceRow {
        id: WorkspaceId::random(),
        name: name.to_owned(),
        role: Some("a role".to_owned()),
        tier: 3,
        runtime: "langgraph".to_owned(),
        hosting: Hosting::Container,
        parent_id: None,
        delivery_mode: DeliveryMode::Push,
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        budget_limit: Some(5_000_000_000),
        max_concurrent_tasks: 1,
        hibernation_idle_minutes: None,
        spec: WorkspaceSpec { model: Some("m".to_owned()), ..WorkspaceSpec::default() },
        desired: DesiredState::Running,
        generation: 1,
        status: Status::Provisioning,
        status_since: at,
        observed_generation: 0,
        container: Container::None,
        attempt: 1,
        attempt_at: Some(at),
        failures: 0,
        retry_at: None,
        conditions: Vec::new(),
        url: None,
        agent_card: None,
        last_sample_error: None,
        revision: 1,
        created_at: at,
        updated_at: at,
        removed_at: None,
    }
}

pub fn child(name: &str, parent: WorkspaceId) -> WorkspaceRow {
    WorkspaceRow { parent_id: Some(parent), ..workspace(name) }
}

pub fn token(owner: Owner, kind: TokenKind) -> TokenRow {
    let id = TokenId::random();
    TokenRow {
        id,
        kind,
        owner,
        hash: [id.0.into_bytes(), id.0.into_bytes()].concat(),
        prefix: "abcdefgh".to_owned(),
        name: None,
        created_by: Some("test".to_owned()),
        org_id: None,
        created_at: store::now(),
        last_used_at: None,
        revoked_at: None,
        revoked_by: None,
        root: None,
    }
}

/// The row as the database has it.
pub async fn stored(store: &Store, id: WorkspaceId) -> Option<WorkspaceRow> {
    store.workspaces(&[id]).await.unwrap().pop().map(|loaded| loaded.row)
}
