//! Databases on a developer's Postgres server, and their removal.
//!
//! Names are `isomer_test_RUN_NUMBER`, where RUN is random for each test process. As long as a test process
//! lives, it holds a session with the application name `isomer_test_RUN`, which the server ends when the process
//! dies. A database without a session of its run is therefore left over, and [`remove_leftovers`] drops it.
//!
//! Databases are created and dropped through that session, on a thread with its own runtime: a connection
//! belongs to the runtime that opened it, and each test has another.

use std::{
    env,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
};

use migrations::Migrator;
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbErr, Statement};
use sea_orm_migration::MigratorTrait as _;
use tokio::sync::{OnceCell, oneshot};

use crate::VARIABLE;

const PREFIX: &str = "isomer_test_";

/// A database that is dropped with this value.
#[derive(Debug)]
pub struct Owned {
    name: String,
    url: String,
}

impl Owned {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn allow_connections(&self, allowed: bool) {
        let administrator = Administrator::get();
        let name = &self.name;
        administrator.execute(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")).await;
        if !allowed {
            let terminate =
                format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
            administrator.execute(terminate).await;
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // After a failure, the next test process drops the database. A panic here could hide that of the test.
        if let Err(error) = Administrator::get().execute_blocking(drop_statement(&self.name)) {
            eprintln!("{} was not dropped: {error}", self.name);
        }
    }
}

/// A database with the newest schema, cloned from a template that is migrated once per process.
pub(crate) async fn migrated() -> Owned {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let administrator = Administrator::get();
    let template = TEMPLATE.get_or_init(async || {
        let name = format!("{PREFIX}{}_template", administrator.run);
        administrator.execute(format!("CREATE DATABASE {name}")).await;
        let connection = connect(&administrator.url(&name)).await.expect("the template accepts connections");
        Migrator::up(&connection, None).await.expect("the migrations apply");
        connection.close().await.expect("the connection closes");
        name
    });
    create(administrator, &format!(" TEMPLATE {}", template.await)).await
}

/// A database without any table.
pub(crate) async fn empty() -> Owned {
    create(Administrator::get(), "").await
}

async fn create(administrator: &Administrator, from: &str) -> Owned {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("{PREFIX}{}_{}", administrator.run, NUMBER.fetch_add(1, Ordering::Relaxed));
    administrator.execute(format!("CREATE DATABASE {name}{from}")).await;
    Owned { url: administrator.url(&name), name }
}

/// Drops the databases of test processes that have ended, and returns how many there were.
///
/// # Errors
/// If the server can't be reached or a statement fails.
pub async fn remove_leftovers(server: &str) -> Result<usize, DbErr> {
    let connection = connect(server).await?;
    let removed = remove_leftovers_on(&connection).await;
    connection.close().await?;
    removed
}

async fn remove_leftovers_on(connection: &DatabaseConnection) -> Result<usize, DbErr> {
    let query = format!(
        // Sessions have a column `datname`, too.
        "SELECT d.datname FROM pg_database d WHERE starts_with(d.datname, '{PREFIX}') AND NOT EXISTS (
             SELECT 1 FROM pg_stat_activity s
             WHERE s.application_name = '{PREFIX}' || split_part(d.datname, '_', 3))"
    );
    let query = Statement::from_string(connection.get_database_backend(), query);
    let mut removed = 0;
    for row in connection.query_all_raw(query).await? {
        let name: String = row.try_get_by_index(0)?;
        // Another test process may remove the same one at this moment.
        removed += usize::from(connection.execute_unprepared(&drop_statement(&name)).await.is_ok());
    }
    Ok(removed)
}

fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
}

async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None).sqlx_logging(false);
    Database::connect(options).await
}

enum Reply {
    Task(oneshot::Sender<Result<(), DbErr>>),
    Thread(mpsc::Sender<Result<(), DbErr>>),
}

/// The session of this test process.
struct Administrator {
    run: String,
    server: String,
    statements: tokio::sync::mpsc::UnboundedSender<(String, Reply)>,
}

impl Administrator {
    /// Opens the session at the first call of the process, and removes what earlier processes left.
    fn get() -> &'static Self {
        static ADMINISTRATOR: OnceLock<Administrator> = OnceLock::new();
        ADMINISTRATOR.get_or_init(|| {
            let server = env::var(VARIABLE).unwrap_or_else(|_| panic!("{VARIABLE} is not set"));
            let run = uuid::Uuid::new_v4().simple().to_string();
            let (statements, mut requests) = tokio::sync::mpsc::unbounded_channel::<(String, Reply)>();
            let (opened, is_open) = mpsc::channel();
            let (url, name) = (server.clone(), format!("{PREFIX}{run}"));
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let connection = connect(&url).await.expect("Postgres accepts connections");
                    let name = format!("SET application_name = '{name}'");
                    connection.execute_unprepared(&name).await.expect("a session has a name");
                    if let Err(error) = remove_leftovers_on(&connection).await {
                        eprintln!("left-over databases were not removed: {error}");
                    }
                    let _ = opened.send(());
                    while let Some((statement, reply)) = requests.recv().await {
                        let done = connection.execute_unprepared(&statement).await.map(drop);
                        // A test that was canceled no longer waits for the reply.
                        match reply {
                            Reply::Task(reply) => drop(reply.send(done)),
                            Reply::Thread(reply) => drop(reply.send(done)),
                        }
                    }
                });
            });
            is_open.recv().unwrap_or_else(|_| panic!("the server of {VARIABLE} can't be used"));
            Self { run, server, statements }
        })
    }

    fn url(&self, name: &str) -> String {
        let (base, _) = self.server.rsplit_once('/').expect("the URL names a database");
        format!("{base}/{name}")
    }

    async fn execute(&self, statement: String) {
        let (reply, replied) = oneshot::channel();
        self.statements.send((statement.clone(), Reply::Task(reply))).expect("the session is open");
        let done = replied.await.expect("the session is open");
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    fn execute_blocking(&self, statement: String) -> Result<(), DbErr> {
        let (reply, replied) = mpsc::channel();
        let closed = || DbErr::Custom("the session has ended".to_owned());
        self.statements.send((statement, Reply::Thread(reply))).map_err(|_| closed())?;
        replied.recv().map_err(|_| closed())?
    }
}
