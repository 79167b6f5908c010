//! How many messages wait in the queue, and how large they are: for each workspace, and for all under the nil id. Each
//! new message is compared with it, and counting the rows would take longer the more there are.
//!
//! Triggers keep it, so that it is true after every way a message ends, a purge of its workspace included. Every
//! transaction that changes the queue has its place in the order of commits: none waits here for another. A migration
//! that makes the table anew on SQLite has to make the triggers anew.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::{count, uuid};

/// States of a message that takes room in the queue.
const WAITS: &str = "('queued', 'dispatched')";

/// The nil id, as the databases store ids.
const ALL_SQLITE: &str = "X'00000000000000000000000000000000'";
const ALL_POSTGRES: &str = "CAST('00000000-0000-0000-0000-000000000000' AS UUID)";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: SQLite would otherwise keep the half that was done when the process died.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Bytes of body and headers; 0 in rows that ended before.
        let queue = Table::alter().table("a2a_queue").add_column(count("bytes")).to_owned();
        manager.alter_table(queue).await?;
        let sizes = Table::create()
            .table("a2a_queue_sizes")
            .col(uuid("workspace_id").not_null().primary_key())
            .col(count("messages"))
            .col(count("bytes"))
            .to_owned();
        manager.create_table(sizes).await?;
        let is_postgres = manager.get_database_backend() == sea_orm::DbBackend::Postgres;
        let (all, length) = match is_postgres {
            true => (ALL_POSTGRES, "octet_length(body) + COALESCE(octet_length(headers), 0)"),
            false => (ALL_SQLITE, "LENGTH(CAST(body AS BLOB)) + COALESCE(LENGTH(CAST(headers AS BLOB)), 0)"),
        };
        let db = manager.get_connection();
        db.execute_unprepared(&format!("UPDATE a2a_queue SET bytes = {length} WHERE status IN {WAITS}"))
            .await?;
        let of_each = "INSERT INTO a2a_queue_sizes (workspace_id, messages, bytes)";
        let waiting = format!("COUNT(*), COALESCE(SUM(bytes), 0) FROM a2a_queue WHERE status IN {WAITS}");
        db.execute_unprepared(&format!("{of_each} SELECT workspace_id, {waiting} GROUP BY workspace_id"))
            .await?;
        db.execute_unprepared(&format!("{of_each} SELECT {all}, {waiting}")).await?;
        let triggers = if is_postgres { postgres_triggers() } else { sqlite_triggers() };
        for statement in triggers {
            db.execute_unprepared(&statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        match manager.get_database_backend() {
            sea_orm::DbBackend::Postgres => {
                for change in ["insert", "update", "delete"] {
                    let drop = format!("DROP FUNCTION a2a_queue_{change}d() CASCADE");
                    db.execute_unprepared(&drop).await?;
                }
            }
            _ => {
                for trigger in ["come", "back", "ended", "deleted"] {
                    db.execute_unprepared(&format!("DROP TRIGGER a2a_queue_{trigger}")).await?;
                }
            }
        }
        manager.drop_table(Table::drop().table("a2a_queue_sizes").to_owned()).await?;
        manager.alter_table(Table::alter().table("a2a_queue").drop_column("bytes").to_owned()).await
    }
}

/// For each row.
fn sqlite_triggers() -> Vec<String> {
    let adds = format!(
        "BEGIN INSERT INTO a2a_queue_sizes (workspace_id, messages, bytes) \
           VALUES (NEW.workspace_id, 1, NEW.bytes), ({ALL_SQLITE}, 1, NEW.bytes) \
           ON CONFLICT (workspace_id) DO UPDATE SET messages = messages + 1, bytes = bytes + excluded.bytes; END"
    );
    let removes = format!(
        "BEGIN UPDATE a2a_queue_sizes SET messages = messages - 1, bytes = bytes - OLD.bytes \
           WHERE workspace_id IN (OLD.workspace_id, {ALL_SQLITE}); \
         DELETE FROM a2a_queue_sizes WHERE workspace_id = OLD.workspace_id AND messages <= 0; END"
    );
    let (waits, waited) = (format!("NEW.status IN {WAITS}"), format!("OLD.status IN {WAITS}"));
    vec![
        format!("CREATE TRIGGER a2a_queue_come AFTER INSERT ON a2a_queue WHEN {waits} {adds}"),
        format!(
            "CREATE TRIGGER a2a_queue_back AFTER UPDATE OF status ON a2a_queue WHEN {waits} AND NOT {waited} {adds}"
        ),
        format!(
            "CREATE TRIGGER a2a_queue_ended AFTER UPDATE OF status ON a2a_queue WHEN {waited} AND NOT {waits} {removes}"
        ),
        format!("CREATE TRIGGER a2a_queue_deleted AFTER DELETE ON a2a_queue WHEN {waited} {removes}"),
    ]
}

/// For each statement: a transaction that updated one row thousands of times would take ever longer for each.
fn postgres_triggers() -> Vec<String> {
    let rows = |table: &str, sign: &str| {
        format!(
            "SELECT workspace_id, {sign}1 AS messages, {sign}bytes AS bytes FROM {table} WHERE status IN {WAITS}"
        )
    };
    let (come, gone) = (rows("come", ""), rows("gone", "-"));
    let (new, old) = ("NEW TABLE AS come", "OLD TABLE AS gone");
    let delete = "DELETE FROM a2a_queue_sizes WHERE messages <= 0 AND workspace_id IN (SELECT workspace_id FROM gone);";
    let both = format!("{come} UNION ALL {gone}");
    let mut statements = Vec::new();
    for (change, tables, changes, delete) in [
        ("INSERT", new.to_owned(), come, "NULL;"),
        ("UPDATE", format!("{old} {new}"), both, delete),
        ("DELETE", old.to_owned(), gone, delete),
    ] {
        let name = format!("a2a_queue_{}d", change.to_lowercase());
        statements.push(format!(
            "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               WITH changes AS ({changes}), sums AS ( \
                 SELECT workspace_id, SUM(messages) AS messages, CAST(SUM(bytes) AS BIGINT) AS bytes \
                   FROM changes GROUP BY workspace_id \
                 UNION ALL SELECT {ALL_POSTGRES}, SUM(messages), CAST(SUM(bytes) AS BIGINT) FROM changes) \
               INSERT INTO a2a_queue_sizes AS sizes (workspace_id, messages, bytes) \
                 SELECT workspace_id, messages, bytes FROM sums WHERE messages <> 0 OR bytes <> 0 \
                 ON CONFLICT (workspace_id) DO UPDATE SET messages = sizes.messages + excluded.messages, \
                   bytes = sizes.bytes + excluded.bytes; \
               IF FOUND THEN {delete} END IF; \
               RETURN NULL; END $$"
        ));
        statements.push(format!(
            "CREATE TRIGGER {name} AFTER {change} ON a2a_queue REFERENCING {tables} \
             FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        ));
    }
    statements
}
