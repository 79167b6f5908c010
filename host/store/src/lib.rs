//! The database: SQLite (the default, below the data directory) or Postgres. The only crate besides
//! `migrations` that writes SQL.
//!
//! A module per table. Rows are read by functions of [`Store`] and are plain data. Workspaces and what
//! belongs to them are written by [`Change`]s, which the [`Writer`] commits in one order; guests and
//! queued messages by functions of their own, each one transaction.

#![forbid(unsafe_code)]

pub mod activity;
mod behind;
mod change;
mod cipher;
mod clock;
mod commit;
mod data_dir;
mod entity;
mod events;
mod guarded;
pub mod guests;
pub mod layouts;
mod leases;
mod migrate;
mod outage;
pub mod presence;
pub mod queue;
mod retention;
pub mod secrets;
mod sequencer;
mod statement;
pub mod tokens;
mod transaction;
pub mod workspaces;
mod write_behind;
mod writer;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound as _, Utc};
use sea_orm::{
    ConnectOptions, Database, DbBackend, DbErr, RuntimeErr,
    sqlx::{
        self,
        sqlite::{SqliteJournalMode, SqliteSynchronous},
    },
};
use tokio::sync::Notify;

pub use behind::BEHIND_BYTES;
pub use change::{Change, CommitError, Mutation, Precondition, WorkspaceEvent};
pub use cipher::{Cipher, CipherError, Sealed};
pub use clock::next_event_time;
pub use data_dir::{DataDir, DataDirError};
pub use events::{EPHEMERAL_BYTES, EventFilter, Notification, NotificationListener};
use guarded::Pool;
pub use leases::{Fence, Lease, LeaseIsHeld};
pub use transaction::Transaction;
pub use write_behind::{Pending, WriteBehind};
pub use writer::{Observer, Writer};

/// Connections to Postgres at most.
const POSTGRES_CONNECTIONS: u32 = 16;

/// Connections that only read SQLite.
const SQLITE_READERS: u32 = 4;

/// How long a statement waits for a connection, and SQLite for its file lock.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages in the write-ahead log before they are copied into the database: 16 MiB instead of 4. Pages of indexes
/// change with every group of rows and are copied less often: a quarter of the CPU of a row of activity.
const CHECKPOINT_PAGES: &str = "4000";

/// When Postgres ends an idle transaction: a server that froze while it held the lock on the order of
/// commits must not block the others.
const IDLE_TRANSACTION_TIMEOUT: &str = "5s";

/// How long a statement waits for a lock of another server: longer than [`IDLE_TRANSACTION_TIMEOUT`].
const LOCK_TIMEOUT: &str = "8s";

/// The time, as precise as every database keeps it: to the microsecond.
#[must_use]
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    /// Writes. On SQLite a single connection, since it has one writer at a time.
    db: Pool,
    /// Reads. On Postgres the same connections.
    read: Pool,
    /// Notified of commits that didn't go by way of the writer.
    beside_writer: Arc<Notify>,
}

/// A database failure. Its text is for the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database answered with an error, or not at all.
    #[error("the database failed")]
    Database(#[from] DbErr),
    /// The row to change doesn't exist.
    #[error("the row is gone")]
    Gone,
    /// `DATABASE_URL` names an unsupported database.
    #[error("DATABASE_URL must begin with postgres:// or sqlite:")]
    UnknownDatabase,
    /// A query took longer than it may.
    #[error("the database did not answer in time")]
    Timeout,
    /// A newer version of Isomer migrated the schema.
    #[error(
        "the database was brought up to date by a newer isomer ({migration}); run that version, or go back \
         to a backup from before"
    )]
    NewerSchema {
        /// The first migration that this binary doesn't have.
        migration: String,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(DbErr::Conn(RuntimeErr::SqlxError(error.into())))
    }
}

impl StoreError {
    /// Whether the database as a whole failed, not a single statement.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Timeout => true,
            Self::Database(error) => outage::is_outage(error),
            _ => false,
        }
    }
}

impl Store {
    /// Connects to `url` (`postgres://…` or `sqlite:…`) and brings the schema up to date.
    ///
    /// # Errors
    /// If the database can't be reached or migrated, or a newer version of Isomer migrated it.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let store = if url.starts_with("sqlite:") {
            // Not by the writer: what a new index sorts may be too large for memory. And before any other
            // connection: several that make a new file use its write-ahead log find it locked.
            migrate_alone(sqlite(url, 1, "DEFAULT")).await?;
            // A statement of many rows copies the pages that it changes, to be able to undo itself. In a
            // temporary file, that costs as much as the rows.
            let db = Database::connect(sqlite(url, 1, "MEMORY")).await?;
            let read = Database::connect(sqlite(url, SQLITE_READERS, "DEFAULT")).await?;
            Self { read: read.into(), db: db.into(), beside_writer: Arc::default() }
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            // Without the timeouts of other statements: another server may need a while for its migration.
            let mut options = common(url);
            options.max_connections(1);
            migrate_alone(options).await?;
            let db = Pool::from(Database::connect(postgres(url, POSTGRES_CONNECTIONS)).await?);
            Self { read: db.clone(), db, beside_writer: Arc::default() }
        } else {
            return Err(StoreError::UnknownDatabase);
        };
        if store.is_single_process() {
            store.free_all_leases().await?;
        }
        Ok(store)
    }

    /// Whether only this process can use the database.
    #[must_use]
    pub fn is_single_process(&self) -> bool {
        self.backend() == DbBackend::Sqlite
    }

    /// Closes every connection; SQLite folds its log into the file.
    ///
    /// # Errors
    /// If a connection can't be closed cleanly. Nothing is lost either way.
    pub async fn close(self) -> Result<(), StoreError> {
        self.read.close().await?;
        Ok(self.db.close().await?)
    }

    fn backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }
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
    let mut options = common(url);
    options.max_connections(connections).min_connections(1).test_before_acquire(false);
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

fn postgres(url: &str, connections: u32) -> ConnectOptions {
    let mut options = common(url);
    options.max_connections(connections);
    options.map_sqlx_postgres_opts(|postgres| {
        postgres.application_name("isomer").options([
            ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
        ])
    });
    options
}

fn common(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.sqlx_logging(false).connect_timeout(CONNECTION_TIMEOUT).acquire_timeout(CONNECTION_TIMEOUT);
    options
}
