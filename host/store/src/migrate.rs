//! The schema at start: brought up to date by one server at a time, never down.

use migrations::Migrator;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr};
use sea_orm_migration::MigratorTrait;

use crate::StoreError;

/// Key of Postgres' advisory lock for migrations: "isomer" in ASCII.
const LOCK: i64 = 0x6973_6f6d_6572;

/// Applies what is missing. On Postgres under a lock, on `connection`, which must be the only one of its
/// pool: the lock belongs to the session.
pub(crate) async fn up(connection: &DatabaseConnection) -> Result<(), StoreError> {
    let locks = connection.get_database_backend() == DbBackend::Postgres;
    if locks {
        connection.execute_unprepared(&format!("SELECT pg_advisory_lock({LOCK})")).await?;
    }
    let done = up_to_date(connection).await;
    if locks {
        connection.execute_unprepared(&format!("SELECT pg_advisory_unlock({LOCK})")).await?;
    }
    done
}

async fn up_to_date(connection: &DatabaseConnection) -> Result<(), StoreError> {
    let ours: Vec<String> =
        Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    Migrator::install(connection).await?;
    let applied = Migrator::get_migration_models(connection).await?;
    if let Some(newer) = applied.iter().find(|applied| !ours.contains(&applied.version)) {
        return Err(StoreError::NewerSchema { migration: newer.version.clone() });
    }
    Migrator::up(connection, None).await.map_err(DbErr::into)
}
