//! Opens the database: connections and their settings.

use std::{path::Path, sync::Arc, time::Duration};

use local_files::private::prepare_file;
use sea_orm::{ConnectOptions, Database};
use sqlx::{
    Executor as _,
    postgres::PgConnectOptions,
    sqlite::{SqliteJournalMode, SqliteSynchronous},
};

use crate::{
    Store, StoreError,
    database_url::{DatabaseUrl, SQLITE_COMPANIONS, Target},
    guarded::Pool,
    migrate, outage, reach,
};

/// Connections to Postgres at most.
const POSTGRES_CONNECTIONS: u32 = 16;

/// Connections that only read SQLite.
const SQLITE_READERS: u32 = 4;

/// How long a statement waits for a connection, and SQLite for its file lock.
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages in the write-ahead log before they are copied into the database: 16 MiB instead of 4. Pages of indexes
/// change with every group of rows and are copied less often: a quarter of the CPU of a row of activity.
const CHECKPOINT_PAGES: &str = "4000";

/// - When Postgres ends an idle transaction: a server that froze while it held the lock on the order of commits
///   must not block the others.
/// - How long a statement waits for a lock of another server: longer than that.
///
/// Set by a statement, because PgBouncer refuses connections that begin with such settings.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '8s'";

impl Store {
    /// Opens the database at `url` (`postgres://…` or `sqlite:…`), see [`Store::open`].
    ///
    /// # Errors
    /// If the URL can't be read, and as [`Store::open`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::open(&DatabaseUrl::parse(url)?).await
    }

    /// Opens a database, and brings its schema up to date.
    ///
    /// # Errors
    /// If the database can't be reached or migrated, or a newer version of Isomer migrated it.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        for ignored in &url.ignored {
            tracing::warn!("DATABASE_URL has a parameter without effect: {ignored}");
        }
        let store = match &url.target {
            Target::Sqlite { url, file } => open_sqlite(url, file).await?,
            Target::Postgres(options) => open_postgres(options).await?,
        };
        if store.is_single_process() {
            store.free_all_leases().await?;
        }
        Ok(store)
    }
}

async fn open_sqlite(url: &str, file: &Path) -> Result<Store, StoreError> {
    // SQLite gives the files beside it the mode of the database.
    prepare_file(file, &SQLITE_COMPANIONS)?;
    // Not by the writer: what a new index sorts may be too large for memory. And before any other connection:
    // several that make a new file use its write-ahead log find it locked.
    migrate_alone(sqlite(url, 1, "DEFAULT")).await?;
    // A statement of many rows copies the pages that it changes, to be able to undo itself. In a temporary file,
    // that costs as much as the rows.
    let db = Database::connect(sqlite(url, 1, "MEMORY")).await?;
    let read = Database::connect(sqlite(url, SQLITE_READERS, "DEFAULT")).await?;
    Ok(Store { read: read.into(), db: db.into(), beside_writer: Arc::default() })
}

async fn open_postgres(options: &PgConnectOptions) -> Result<Store, StoreError> {
    reach::check(options).await?;
    // Without the timeouts of other statements: another server may need a while for its migration.
    migrate_alone(postgres(options, 1, None)).await?;
    let db = Pool::from(Database::connect(postgres(options, POSTGRES_CONNECTIONS, Some(SESSION))).await?);
    Ok(Store { read: db.clone(), db, beside_writer: Arc::default() })
}

/// Brings the schema up to date, on a connection of its own.
async fn migrate_alone(options: ConnectOptions) -> Result<(), StoreError> {
    let alone = Database::connect(options).await?;
    let migrated = migrate::up(&alone).await;
    alone.close().await?;
    migrated
}

/// `temporary` is where temporary data are kept, as the pragma `temp_store` calls it.
fn sqlite(url: &str, connections: u32, temporary: &'static str) -> ConnectOptions {
    let mut options = common(url, connections);
    options.min_connections(1).test_before_acquire(false);
    options.idle_timeout(None).max_lifetime(None).map_sqlx_sqlite_pool_opts(outage::close_stuck);
    // With a write-ahead log, NORMAL loses nothing to a killed process; power loss may cost the last
    // transactions, never order.
    options.map_sqlx_sqlite_opts(move |sqlite| {
        sqlite
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(CONNECTION_TIMEOUT)
            .foreign_keys(true)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("temp_store", temporary)
    });
    options
}

/// `session` are statements that every connection begins with.
fn postgres(options: &PgConnectOptions, connections: u32, session: Option<&'static str>) -> ConnectOptions {
    let connect = options.clone();
    // The URL only names the kind of database.
    let mut options = common("postgres://localhost", connections);
    options.map_sqlx_postgres_opts(move |_| connect.clone());
    if let Some(session) = session {
        options.map_sqlx_postgres_pool_opts(move |pool| {
            pool.after_connect(move |connection, _| {
                Box::pin(async move { connection.execute(session).await.map(drop) })
            })
        });
    }
    options
}

fn common(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections).sqlx_logging(false);
    options.connect_timeout(CONNECTION_TIMEOUT).acquire_timeout(CONNECTION_TIMEOUT);
    options
}
