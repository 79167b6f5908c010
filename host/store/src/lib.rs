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
mod connect;
mod data_dir;
mod database_url;
mod entity;
mod events;
mod file_lock;
mod first_answers;
mod guarded;
pub mod guests;
pub mod layouts;
mod leases;
pub mod message_keys;
mod migrate;
mod outage;
pub mod presence;
pub mod queue;
mod reach;
mod retention;
pub mod secrets;
mod sequencer;
pub mod setups;
mod statement;
pub mod tickets;
pub mod tokens;
mod transaction;
pub mod workspaces;
mod write_behind;
mod writer;

use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, Utc};
use local_files::private::PrivateError;
use sea_orm::{ConnAcquireErr, DbBackend, DbErr, RuntimeErr, sqlx};
use tokio::sync::Notify;

pub use behind::BEHIND_BYTES;
pub use change::{Change, CommitError, Mutation, Precondition, WorkspaceEvent};
pub use cipher::{Cipher, CipherError, Sealed};
pub use clock::{next_event_time, time_after};
pub use data_dir::{DataDir, DataDirError};
pub use database_url::{DatabaseUrl, DatabaseUrlError};
pub use events::{EPHEMERAL_BYTES, EventFilter, Notification, NotificationListener};
pub use file_lock::{DatabaseLock, DatabaseLockError};
use guarded::Pool;
pub use leases::{Fence, Lease, LeaseIsHeld};
pub use reach::Unreachable;
pub use transaction::Transaction;
pub use write_behind::{Pending, WriteBehind};
pub use writer::{Observer, Writer};

/// The time, as precise as every database keeps it: to the microsecond.
#[must_use]
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// The time so long ago, since 1970 at the earliest: not every database has earlier ones, and nothing is older.
#[must_use]
pub fn time_ago(age: chrono::Duration) -> DateTime<Utc> {
    now().checked_sub_signed(age).map_or(DateTime::UNIX_EPOCH, |time| time.max(DateTime::UNIX_EPOCH))
}

/// The end of the year 9999. The databases order later times differently.
pub const LATEST: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 999_999_000) {
    Some(time) => time,
    None => DateTime::<Utc>::MAX_UTC,
};

/// The time so far ahead, [`LATEST`] at most.
#[must_use]
pub fn time_ahead(span: chrono::Duration) -> DateTime<Utc> {
    now().checked_add_signed(span).map_or(LATEST, |time| time.min(LATEST))
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
    Database(#[source] DbErr),
    /// The row to change doesn't exist.
    #[error("the row is gone")]
    Gone,
    /// `DATABASE_URL` can't be used.
    #[error(transparent)]
    Url(Arc<DatabaseUrlError>),
    /// The file of SQLite can't be the server's alone.
    #[error("the database can't be used")]
    NotPrivate(#[source] Arc<PrivateError>),
    /// Postgres can't be reached, or not be used.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The pool had no connection in time.
    #[error(
        "no connection to the database within {} s: it refuses connections, does not answer, or all connections \
         are in use",
        connect::CONNECTION_TIMEOUT.as_secs()
    )]
    NoConnection,
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

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Self::NoConnection,
            error => Self::Database(error),
        }
    }
}

impl From<DatabaseUrlError> for StoreError {
    fn from(error: DatabaseUrlError) -> Self {
        Self::Url(Arc::new(error))
    }
}

impl From<PrivateError> for StoreError {
    fn from(error: PrivateError) -> Self {
        Self::NotPrivate(Arc::new(error))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::NoConnection;
        }
        Self::Database(DbErr::Conn(RuntimeErr::SqlxError(error.into())))
    }
}

impl StoreError {
    /// Whether the database as a whole failed, not a single statement.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Timeout | Self::NoConnection | Self::Unreachable(_) => true,
            Self::Database(error) => outage::is_outage(error),
            _ => false,
        }
    }
}

impl Store {
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
