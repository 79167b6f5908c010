//! Messages between agents: activity, and the queue of messages to busy agents.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::{integer, of_workspace, text, time, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Number and time (microseconds since 1970) of the last row of activity, beside those of the last event.
const HEADS: [&str; 2] = ["activity_seq", "activity_us"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Without a transaction, a killed process would leave half of the migration on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [activity_logs(), a2a_queue()] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        // SQLite adds one column at a time.
        for head in HEADS {
            let mut column = ColumnDef::new(head);
            column.big_integer().not_null().default(0);
            manager.alter_table(Table::alter().table("event_head").add_column(column).to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for head in HEADS {
            manager.alter_table(Table::alter().table("event_head").drop_column(head).to_owned()).await?;
        }
        manager.drop_index(Index::drop().name("tokens_workspace").table("tokens").to_owned()).await?;
        for table in ["a2a_queue", "activity_logs"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// Bodies are text, not JSON: a database may rewrite numbers and escapes of JSON columns.
fn activity_logs() -> TableCreateStatement {
    Table::create()
        .table("activity_logs")
        // In commit order: after a row is visible, no row with a smaller number appears.
        .col(ColumnDef::new("seq").big_integer().not_null().primary_key())
        .col(uuid("id").not_null().unique_key())
        .col(uuid("workspace_id").not_null())
        .col(text("activity_type").not_null())
        .col(uuid("source_id"))
        .col(uuid("target_id"))
        .col(text("method"))
        .col(text("summary"))
        .col(text("request_body"))
        .col(text("response_body"))
        .col(text("tool_trace"))
        .col(ColumnDef::new("duration_ms").big_integer())
        .col(text("status").not_null())
        .col(text("error_detail"))
        .col(text("idempotency_key"))
        .col(time("created_at").not_null())
        .foreign_key(&mut of_workspace("activity_logs"))
        .to_owned()
}

fn a2a_queue() -> TableCreateStatement {
    Table::create()
        .table("a2a_queue")
        .col(uuid("id").primary_key())
        .col(uuid("workspace_id").not_null())
        .col(uuid("caller_id"))
        .col(integer("priority").not_null())
        .col(text("body").not_null())
        .col(text("method").not_null())
        .col(text("idempotency_key"))
        .col(time("enqueued_at").not_null())
        .col(time("dispatched_at"))
        .col(time("completed_at"))
        .col(time("expires_at"))
        .col(integer("attempts").not_null())
        .col(text("status").not_null())
        .col(text("last_error"))
        .foreign_key(&mut of_workspace("a2a_queue"))
        .to_owned()
}

fn indexes() -> Vec<IndexCreateStatement> {
    let activity = |name: &str| Index::create().name(name).table("activity_logs").to_owned();
    let queue = |name: &str| Index::create().name(name).table("a2a_queue").to_owned();
    vec![
        activity("activity_logs_workspace").col("workspace_id").col("created_at").col("seq").to_owned(),
        activity("activity_logs_type")
            .col("workspace_id")
            .col("activity_type")
            .col("created_at")
            .col("seq")
            .to_owned(),
        activity("activity_logs_created").col("created_at").to_owned(),
        activity("activity_logs_source")
            .col("workspace_id")
            .col("source_id")
            .and_where(Expr::col("source_id").is_not_null())
            .to_owned(),
        activity("activity_logs_target")
            .col("workspace_id")
            .col("target_id")
            .and_where(Expr::col("target_id").is_not_null())
            .to_owned(),
        activity("activity_logs_idempotency")
            .col("workspace_id")
            .col("idempotency_key")
            .unique()
            .and_where(Expr::col("idempotency_key").is_not_null())
            .to_owned(),
        // A purge finds the rows of a workspace by these, including revoked tokens and completed items.
        Index::create().name("tokens_workspace").table("tokens").col("workspace_id").to_owned(),
        queue("a2a_queue_workspace").col("workspace_id").to_owned(),
        queue("a2a_queue_next")
            .col("workspace_id")
            .col(("priority", IndexOrder::Desc))
            .col("enqueued_at")
            .and_where(Expr::col("status").eq("queued"))
            .to_owned(),
        queue("a2a_queue_expiry")
            .col("expires_at")
            .and_where(Expr::col("status").eq("queued").and(Expr::col("expires_at").is_not_null()))
            .to_owned(),
        queue("a2a_queue_idempotency")
            .col("workspace_id")
            .col("idempotency_key")
            .unique()
            .and_where(
                Expr::col("idempotency_key")
                    .is_not_null()
                    .and(Expr::col("status").is_in(["queued", "dispatched"])),
            )
            .to_owned(),
    ]
}
