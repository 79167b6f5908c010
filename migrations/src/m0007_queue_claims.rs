//! The queue of messages: who delivers a message until when, when it is tried again, and when it was finished;
//! and keys by which a message that is sent twice is recognized.
//!
//! - A key is a digest. A whole `messageId` may exceed what an index of Postgres takes.
//! - The indexes of keys are not unique: a key means the same message for a day only. The order of commits
//!   makes the check and the row one step.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::{integer, text, time, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: [&str; 5] = ["not_before", "unreached", "owner", "claim", "finished_at"];
const INDEXES: [&str; 3] = ["a2a_queue_dispatched", "a2a_queue_finished", "a2a_queue_key"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Without a transaction, a killed process would leave half of the migration on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut claim = ColumnDef::new("claim");
        claim.big_integer().not_null().default(0);
        let mut unreached = integer("unreached");
        unreached.not_null().default(0);
        // SQLite adds one column at a time.
        for mut column in [time("not_before"), unreached, uuid("owner"), claim, time("finished_at")] {
            manager.alter_table(Table::alter().table("a2a_queue").add_column(&mut column).to_owned()).await?;
        }
        drop_indexes(manager, "a2a_queue", &["a2a_queue_idempotency"]).await?;
        drop_indexes(manager, "activity_logs", &["activity_logs_idempotency"]).await?;
        let db = manager.get_connection();
        db.execute_unprepared("UPDATE a2a_queue SET idempotency_key = NULL").await?;
        db.execute_unprepared(
            "UPDATE a2a_queue SET finished_at = COALESCE(completed_at, dispatched_at, enqueued_at) \
             WHERE status NOT IN ('queued', 'dispatched')",
        )
        .await?;
        let queue = |name: &str| Index::create().name(name).table("a2a_queue").to_owned();
        for index in [
            queue("a2a_queue_dispatched")
                .col("workspace_id")
                .and_where(Expr::col("status").eq("dispatched"))
                .to_owned(),
            queue("a2a_queue_finished")
                .col("finished_at")
                .and_where(Expr::col("finished_at").is_not_null())
                .to_owned(),
            queue("a2a_queue_key")
                .col("idempotency_key")
                .and_where(Expr::col("idempotency_key").is_not_null())
                .to_owned(),
            Index::create()
                .name("activity_logs_key")
                .table("activity_logs")
                .col("idempotency_key")
                .and_where(Expr::col("idempotency_key").is_not_null())
                .to_owned(),
        ] {
            manager.create_index(index).await?;
        }
        manager.create_table(message_claims()).await?;
        // Claims mean nothing after a crash of the database, and without a log they cost no disk write.
        if manager.get_database_backend() == sea_orm::DbBackend::Postgres {
            db.execute_unprepared("ALTER TABLE message_claims SET UNLOGGED").await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("message_claims").to_owned()).await?;
        drop_indexes(manager, "activity_logs", &["activity_logs_key"]).await?;
        drop_indexes(manager, "a2a_queue", &INDEXES).await?;
        for column in COLUMNS {
            manager.alter_table(Table::alter().table("a2a_queue").drop_column(column).to_owned()).await?;
        }
        let keyed = |name: &str, table: &'static str| {
            Index::create()
                .name(name)
                .table(table)
                .col("workspace_id")
                .col("idempotency_key")
                .unique()
                .to_owned()
        };
        let has_key = Expr::col("idempotency_key").is_not_null();
        let waits = Expr::col("status").is_in(["queued", "dispatched"]);
        manager
            .create_index(
                keyed("activity_logs_idempotency", "activity_logs").and_where(has_key.clone()).to_owned(),
            )
            .await?;
        manager
            .create_index(
                keyed("a2a_queue_idempotency", "a2a_queue").and_where(has_key.and(waits)).to_owned(),
            )
            .await
    }
}

/// Messages with a key that a server is delivering. No reference to their workspace: its lock would be a logged
/// write for each message.
fn message_claims() -> TableCreateStatement {
    Table::create()
        .table("message_claims")
        .col(text("key").primary_key())
        .col(uuid("owner").not_null())
        .col(time("claimed_at").not_null())
        .to_owned()
}

async fn drop_indexes(manager: &SchemaManager<'_>, table: &'static str, names: &[&str]) -> Result<(), DbErr> {
    for name in names {
        manager.drop_index(Index::drop().name(*name).table(table).to_owned()).await?;
    }
    Ok(())
}
