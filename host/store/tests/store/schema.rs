//! The schema at start: brought up to date with everything kept, by one server at a time, and never
//! taken for another's.

use futures::future::join_all;
use migrations::Migrator;
use sea_orm::ConnectionTrait as _;
use sea_orm_migration::MigratorTrait as _;
use store::{Store, StoreError};
use types::EventSeq;

use crate::database::{Database, on_both};

on_both! {
    async fn rows_of_the_previous_schema_are_kept(database: &Database) {
        let raw = database.raw().await;
        Migrator::up(&raw, Some(1)).await.unwrap();
        for statement in [
            "INSERT INTO guests (name, world, component, trusted, enabled, reused, settings, created_at, updated_at) \
             VALUES ('echo', 'adapter', NULL, true, true, false, '{\"a\":1}', '2026-01-01 00:00:00+00:00', \
             '2026-01-01 00:00:00+00:00')",
            "INSERT INTO guest_releases (guest, digest, size_bytes, source, pushed_by, pushed_at, state, calls, traps, \
             timeouts, memory_errors, refused_answers, busy, peak_memory_bytes) \
             VALUES ('echo', 'sha256:1', 7, 'push', 'me', '2026-01-01 00:00:00+00:00', 'active', 3, 0, 0, 0, 0, 0, 9)",
        ] {
            raw.execute_unprepared(statement).await.unwrap();
        }
        raw.close().await.unwrap();
        let store = database.store().await;
        assert_eq!(store.last_event().await.unwrap(), EventSeq::START, "the new tables are there");
        assert!(store.live_workspaces().await.unwrap().is_empty());
        let raw = database.raw().await;
        let sql = "SELECT g.name, r.digest, r.calls FROM guests g JOIN guest_releases r ON r.guest = g.name";
        let rows = raw.query_all_raw(sea_orm::Statement::from_string(raw.get_database_backend(), sql)).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].try_get_by_index::<String>(1).unwrap(), "sha256:1");
        assert_eq!(rows[0].try_get_by_index::<i64>(2).unwrap(), 3);
        raw.close().await.unwrap();
    }

    async fn an_interrupted_migration_is_run_again(database: &Database) {
        let raw = database.raw().await;
        Migrator::up(&raw, Some(2)).await.unwrap();
        // Its last statement fails: as if the process had died before it.
        raw.execute_unprepared("ALTER TABLE event_head ADD COLUMN activity_us BIGINT").await.unwrap();
        Store::connect(&database.url()).await.unwrap_err();
        raw.execute_unprepared("ALTER TABLE event_head DROP COLUMN activity_us").await.unwrap();
        raw.close().await.unwrap();
        let store = database.store().await;
        assert_eq!(store.last_event().await.unwrap(), EventSeq::START);
    }

    async fn a_newer_schema_is_refused_and_unchanged(database: &Database) {
        database.store().await.close().await.unwrap();
        let raw = database.raw().await;
        let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_wonders', 1)";
        raw.execute_unprepared(newer).await.unwrap();
        raw.close().await.unwrap();
        let error = Store::connect(&database.url()).await.unwrap_err();
        assert!(matches!(&error, StoreError::NewerSchema { migration } if migration == "m9999_wonders"), "{error}");
        assert!(error.to_string().contains("m9999_wonders"));
    }

    async fn connecting_again_changes_nothing(database: &Database) {
        for _ in 0..2 {
            let store = database.store().await;
            assert_eq!(store.last_event().await.unwrap(), EventSeq::START);
            store.close().await.unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "needs TEST_DATABASE_URL"]
async fn servers_that_start_at_once_on_an_empty_postgres_all_succeed() {
    let database = Database::postgres().await;
    let url = database.url();
    let connected = join_all((0..4).map(|_| Store::connect(&url))).await;
    for store in connected {
        let store = store.unwrap();
        assert_eq!(store.last_event().await.unwrap(), EventSeq::START);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn other_databases_are_refused() {
    for url in ["mysql://localhost/isomer", "isomer.db", ""] {
        assert!(matches!(Store::connect(url).await, Err(StoreError::UnknownDatabase)), "{url}");
    }
}
