//! What Isomer remembers: rows in SQLite (the default, below the data directory) or Postgres, and
//! the only crate besides `migrations` that writes SQL.
//!
//! Functions here are whole changes: one call, one transaction. What they return is plain data.

#![forbid(unsafe_code)]

mod data_dir;
mod entity;
pub mod guests;

use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, Utc};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr,
    sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous},
};
use sea_orm_migration::MigratorTrait as _;

pub use data_dir::{DataDir, DataDirError};

/// Connections to Postgres at most.
const POSTGRES_CONNECTIONS: u32 = 16;

/// How long a statement waits for a connection, and SQLite for its file lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time, as precise as every database keeps it: to the microsecond.
#[must_use]
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: DatabaseConnection,
}

/// The database can't do what was asked. Its text is for the log, never for a client.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database answered with an error, or not at all.
    #[error("the database failed")]
    Database(#[from] DbErr),
    /// The row to change isn't there.
    #[error("the row is gone")]
    Gone,
    /// `DATABASE_URL` names a database that Isomer doesn't speak.
    #[error("DATABASE_URL must begin with postgres:// or sqlite:")]
    UnknownDatabase,
}

impl Store {
    /// Connects to `url` (`postgres://…` or `sqlite:…`) and brings the schema up to date.
    ///
    /// # Errors
    /// If the database can't be reached or migrated.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let mut options = ConnectOptions::new(url);
        options.sqlx_logging(false).connect_timeout(PATIENCE).acquire_timeout(PATIENCE);
        if url.starts_with("sqlite:") {
            // One connection: SQLite has one writer anyway. With a write-ahead log, NORMAL loses
            // nothing to a killed process; power loss may cost the last transactions, never order.
            options.max_connections(1).min_connections(1).test_before_acquire(false).idle_timeout(None);
            options.max_lifetime(None);
            options.map_sqlx_sqlite_opts(|sqlite| {
                sqlite
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Normal)
                    .busy_timeout(PATIENCE)
                    .foreign_keys(true)
            });
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            options.max_connections(POSTGRES_CONNECTIONS);
        } else {
            return Err(StoreError::UnknownDatabase);
        }
        let db = Database::connect(options).await?;
        migrations::Migrator::up(&db, None).await?;
        Ok(Self { db })
    }

    /// Closes every connection; SQLite folds its log into the file.
    ///
    /// # Errors
    /// If the database can't be closed in order. Nothing is lost either way.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.db.close().await?)
    }
}
