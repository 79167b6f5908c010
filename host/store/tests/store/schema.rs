//! The schema at start: brought up to date with everything kept, by one server at a time, and never
//! taken for another's.

use futures::future::join_all;
use migrations::Migrator;
use sea_orm::ConnectionTrait as _;
use sea_orm_migration::MigratorTrait as _;
use serde_json::json;
use store::{Store, StoreError};
use types::{EventSeq, WorkspaceId, WorkspaceSetup};

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

    async fn setups_of_existing_workspaces_leave_their_rows(database: &Database) {
        let raw = database.raw().await;
        Migrator::up(&raw, Some(6)).await.unwrap();
        let long = "p".repeat(100_000);
        let org = format!(
            r#"{{"dir":"d","name":"N","initial_prompt":"{long}","idle_prompt":"a\\\\u0000b","schedules":[{{"name":"s","cron_expr":"0 9 * * 1","timezone":"UTC","prompt":"go","enabled":true}}]}}"#,
        );
        let memories = r#"[{"content":"We ship.","scope":"TEAM"}]"#;
        let specs = [
            ("imported", "online", format!(r#"{{"model":"m","template":"t","initial_memories":{memories},"org":{org}}}"#)),
            ("created", "online", r#"{"model":"m","initial_memories":[{"content":"a\u0000b","scope":"TEAM"}]}"#.to_owned()),
            ("plain", "online", r#"{"model":"m"}"#.to_owned()),
            ("gone", "removed", format!(r#"{{"initial_memories":{memories},"org":{org}}}"#)),
        ];
        let at = "'2026-01-01 00:00:00+00:00'";
        for (number, (name, status, spec)) in specs.iter().enumerate() {
            let id = WorkspaceId(uuid::Uuid::from_u128(number as u128 + 1));
            let id = match raw.get_database_backend() {
                sea_orm::DbBackend::Postgres => format!("'{id}'"),
                _ => format!("x'{:032x}'", number + 1),
            };
            let sql = format!(
                "INSERT INTO workspaces (id, name, tier, runtime, hosting, delivery_mode, workspace_access, \
                 max_concurrent_tasks, spec, wanted, generation, status, status_since, observed_generation, container, \
                 attempt, failures, conditions, revision, created_at, updated_at) VALUES ({id}, '{name}', 3, 'mock', \
                 'synthetic', 'push', 'none', 1, '{spec}', 'running', 1, '{status}', {at}, 1, 'none', 0, 0, '[]', 1, \
                 {at}, {at})"
            );
            raw.execute_unprepared(&sql).await.unwrap();
        }
        raw.close().await.unwrap();

        let store = database.store().await;
        let id = |number: u128| WorkspaceId(uuid::Uuid::from_u128(number));
        let rows = store.workspaces(&[1, 2, 3, 4].map(id)).await.unwrap();
        let spec = |number: u128| serde_json::to_value(&rows.iter().find(|row| row.row.id == id(number)).unwrap().row.spec).unwrap();
        let of_org = json!({ "dir": "d", "name": "N" });
        assert_eq!(spec(1), json!({ "model": "m", "template": "t", "org": of_org }));
        assert_eq!((spec(2), spec(3)), (json!({ "model": "m" }), json!({ "model": "m" })));
        assert_eq!(spec(4), json!({ "org": of_org }));
        let imported = store.setup(id(1)).await.unwrap();
        assert_eq!(imported.initial_prompt.as_deref(), Some(&*long));
        assert!(imported.idle_prompt.unwrap().starts_with("a\\"));
        assert_eq!((&*imported.schedules[0].prompt, &*imported.initial_memories[0].content), ("go", "We ship."));
        assert_eq!(&*store.setup(id(2)).await.unwrap().initial_memories[0].content, "a\u{fffd}b");
        for number in [3, 4] {
            assert_eq!(store.setup(id(number)).await.unwrap(), WorkspaceSetup::default());
        }
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
        let error = Store::connect(url).await.unwrap_err().to_string();
        assert_eq!(error, "DATABASE_URL must begin with postgres:// or sqlite:", "{url}");
    }
}
