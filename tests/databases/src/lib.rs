//! A database per test: an SQLite file in a temporary directory, or a Postgres database cloned from a
//! migrated template on the server that `TEST_DATABASE_URL` names.
//!
//! Of the crates under test, this crate depends on the migrations alone, so that the tests of every crate can
//! use it. A database is dropped with its value, also when the test fails. Databases of a killed test process
//! are dropped by the next one (see [`postgres`]).

#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

use std::{path::PathBuf, sync::Arc};

use sea_orm::DatabaseConnection;
use tempfile::TempDir;

pub mod postgres;

/// The variable that names a Postgres server on which tests may create databases.
pub const VARIABLE: &str = "TEST_DATABASE_URL";

/// A database of one test. Clones share it, and the last one removes it.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file that the first connection creates.
    Sqlite(Arc<TempDir>),
    /// A database on the server of `TEST_DATABASE_URL`.
    Postgres(Arc<postgres::Owned>),
    /// A database on a Postgres server that belongs to the test.
    External(String),
}

impl Database {
    /// An SQLite database without any table.
    #[must_use]
    pub fn sqlite() -> Self {
        Self::Sqlite(Arc::new(tempfile::tempdir().expect("a temporary directory")))
    }

    /// A Postgres database with the newest schema.
    ///
    /// # Panics
    /// Without `TEST_DATABASE_URL`. Tests that need it are marked with
    /// `#[ignore = "needs TEST_DATABASE_URL"]`, and `make test` runs them where the variable is set.
    pub async fn postgres() -> Self {
        Self::Postgres(Arc::new(postgres::migrated().await))
    }

    /// A Postgres database without any table. Panics like [`Database::postgres`].
    pub async fn empty_postgres() -> Self {
        Self::Postgres(Arc::new(postgres::empty().await))
    }

    /// Address of the database, as `DATABASE_URL` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(directory) => format!("sqlite:{}?mode=rwc", file(directory).display()),
            Self::Postgres(owned) => owned.url().to_owned(),
            Self::External(url) => url.clone(),
        }
    }

    /// The URL, if the database is on Postgres.
    #[must_use]
    pub fn postgres_url(&self) -> Option<String> {
        (!matches!(self, Self::Sqlite(_))).then(|| self.url())
    }

    /// A new connection.
    pub async fn raw(&self) -> DatabaseConnection {
        sea_orm::Database::connect(self.url()).await.expect("the database accepts connections")
    }

    /// Ends every connection and refuses new ones.
    pub async fn lock(&self) {
        self.owned().allow_connections(false).await;
    }

    /// Accepts connections again.
    pub async fn unlock(&self) {
        self.owned().allow_connections(true).await;
    }

    fn owned(&self) -> &postgres::Owned {
        match self {
            Self::Postgres(owned) => owned,
            Self::Sqlite(_) | Self::External(_) => {
                panic!("only a database on TEST_DATABASE_URL can be locked")
            }
        }
    }
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("isomer.db")
}

/// Makes two tests of one: `NAME::sqlite` and `NAME::postgres`. The runner compares both sets.
#[macro_export]
macro_rules! on_both_databases {
    ($($(#[$attribute:meta])* async fn $name:ident($database:ident: Database) $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[$attribute])*
            async fn run($database: Database) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(Database::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs TEST_DATABASE_URL"]
            async fn postgres() {
                run(Database::postgres().await).await;
            }
        }
    )*};
    ($($(#[$attribute:meta])* async fn $name:ident($database:ident: &Database) $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[$attribute])*
            async fn run($database: &Database) $body

            #[tokio::test]
            async fn sqlite() {
                run(&Database::sqlite()).await;
            }

            #[tokio::test]
            #[ignore = "needs TEST_DATABASE_URL"]
            async fn postgres() {
                run(&Database::postgres().await).await;
            }
        }
    )*};
}
