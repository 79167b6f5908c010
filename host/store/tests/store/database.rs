//! A database per test, and what tests write into it.

use std::{
    env,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::DateTime;
use events::Envelope;
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use serde_json::json;
use store::{
    Change, Observer, Store, Writer,
    tokens::{TokenKind, TokenRow},
    workspaces::{Container, DeliveryMode, DesiredState, Hosting, Status, WorkspaceAccess, WorkspaceRow},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An empty database that nobody else uses.
pub enum Database {
    Sqlite(TempDir),
    Postgres { server: String, name: String },
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// A new database on the server that `TEST_DATABASE_URL` names. Without it there is none, which only
    /// a developer's machine may do.
    pub async fn postgres() -> Option<Self> {
        let Ok(server) = env::var("TEST_DATABASE_URL") else {
            assert!(env::var_os("CI").is_none(), "TEST_DATABASE_URL must be set in CI");
            eprintln!("not run on Postgres: TEST_DATABASE_URL isn't set");
            return None;
        };
        let name = format!("isomer_{}", Uuid::new_v4().simple());
        administer(&server, &format!("CREATE DATABASE {name}")).await;
        Some(Self::Postgres { server, name })
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(dir) => format!("sqlite:{}?mode=rwc", dir.path().join("isomer.db").display()),
            Self::Postgres { server, name } => {
                let (base, _) = server.rsplit_once('/').expect("the URL names a database");
                format!("{base}/{name}")
            }
        }
    }

    pub async fn store(&self) -> Store {
        Store::connect(&self.url()).await.unwrap()
    }

    /// A connection past the store.
    pub async fn raw(&self) -> DatabaseConnection {
        sea_orm::Database::connect(self.url()).await.unwrap()
    }

    /// Postgres keeps databases until they are dropped.
    pub async fn drop(self) {
        if let Self::Postgres { server, name } = self {
            administer(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

async fn administer(server: &str, statement: &str) {
    let connection = sea_orm::Database::connect(server).await.expect("Postgres answers");
    connection.execute_unprepared(statement).await.expect("Postgres does it");
    connection.close().await.expect("Postgres lets go");
}

/// Runs a test on SQLite and on Postgres, each with an empty database.
macro_rules! on_both {
    ($(async fn $name:ident($database:ident: &Database) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn run($database: &Database) $body

            #[tokio::test]
            async fn on_sqlite() {
                run(&Database::sqlite()).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                if let Some(database) = Database::postgres().await {
                    run(&database).await;
                    database.drop().await;
                }
            }
        }
    )*};
}
pub(crate) use on_both;

/// Writes down what it is told.
#[derive(Default)]
pub struct Witness {
    told: Mutex<Vec<(Change, Vec<Arc<Envelope>>)>>,
}

impl Witness {
    pub fn seqs(&self) -> Vec<i64> {
        let told = self.told.lock().unwrap();
        told.iter().flat_map(|(_, events)| events.iter().filter_map(|event| event.seq())).collect()
    }

    pub fn changes(&self) -> usize {
        self.told.lock().unwrap().len()
    }
}

impl Observer for Witness {
    fn committed(&self, change: &Change, events: &[Arc<Envelope>]) {
        self.told.lock().unwrap().push((change.clone(), events.to_vec()));
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
        id: Uuid::new_v4(),
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
        spec: json!({"model": "m"}),
        wanted: DesiredState::Running,
        generation: 1,
        status: Status::Provisioning,
        status_since: at,
        observed_generation: 0,
        container: Container::None,
        attempt: 1,
        attempt_at: Some(at),
        failures: 0,
        retry_at: None,
        conditions: json!([]),
        url: None,
        agent_card: None,
        last_sample_error: None,
        revision: 1,
        created_at: at,
        updated_at: at,
        removed_at: None,
    }
}

pub fn child(name: &str, parent: Uuid) -> WorkspaceRow {
    WorkspaceRow { parent_id: Some(parent), ..workspace(name) }
}

pub fn token(workspace: Option<Uuid>, kind: TokenKind) -> TokenRow {
    let id = Uuid::new_v4();
    TokenRow {
        id,
        kind,
        workspace_id: workspace,
        hash: [id.into_bytes(), id.into_bytes()].concat(),
        prefix: "abcdefgh".to_owned(),
        name: None,
        created_by: Some("test".to_owned()),
        org_id: None,
        created_at: store::now(),
        last_used_at: None,
        revoked_at: None,
        revoked_by: None,
    }
}

/// The row as the database has it.
pub async fn stored(store: &Store, id: Uuid) -> Option<WorkspaceRow> {
    store.workspaces(&[id]).await.unwrap().pop().map(|loaded| loaded.row)
}
