//! A database per test: a file that comes with the data directory, or a fresh Postgres database.

use std::env;

use sea_orm::{ConnectionTrait, DatabaseConnection};
use uuid::Uuid;

/// A database that nobody else uses.
#[derive(Clone)]
pub enum Database {
    Sqlite,
    Postgres { url: String, name: String },
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite
    }

    /// A new database on the server that `TEST_DATABASE_URL` names. Without it there is none, which
    /// only a developer's machine may do.
    pub async fn postgres() -> Option<Self> {
        let Ok(server) = env::var("TEST_DATABASE_URL") else {
            assert!(env::var_os("CI").is_none(), "TEST_DATABASE_URL must be set in CI");
            eprintln!("not run on Postgres: TEST_DATABASE_URL isn't set");
            return None;
        };
        let name = format!("isomer_{}", Uuid::new_v4().simple());
        administer(&server, &format!("CREATE DATABASE {name}")).await;
        let (base, _) = server.rsplit_once('/').expect("the URL names a database");
        Some(Self::Postgres { url: format!("{base}/{name}"), name })
    }

    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres { url, .. } => Some(url),
        }
    }

    /// Lets nobody in and throws everybody out.
    pub async fn lock(&self) {
        let Self::Postgres { name, .. } = self else { panic!("only Postgres can be locked") };
        let server = env::var("TEST_DATABASE_URL").expect("it was set a moment ago");
        administer(&server, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        let everybody =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        administer(&server, &everybody).await;
    }

    /// Lets everybody in again.
    pub async fn unlock(&self) {
        let Self::Postgres { name, .. } = self else { panic!("only Postgres can be locked") };
        let server = env::var("TEST_DATABASE_URL").expect("it was set a moment ago");
        administer(&server, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    }
}

async fn administer(server: &str, statement: &str) {
    let connection: DatabaseConnection = sea_orm::Database::connect(server).await.expect("Postgres answers");
    connection.execute_unprepared(statement).await.expect("Postgres does it");
    connection.close().await.expect("Postgres lets go");
}
