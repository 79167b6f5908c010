//! Fewer indexes for each row of activity: of six that most rows were in, three are left.
//!
//! - Nearly all rows are messages (`a2a_receive`), which the index of their workspace finds as fast; other
//!   types keep an index of their own.
//! - A message's target is its workspace, and a report's source too. The indexes of sources and targets
//!   hold other workspaces only.
//! - Times grow with numbers, in `activity_logs` and in `events`, so that old rows are found by number.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Indexes that are replaced or dropped, with their tables.
const REPLACED: [(&str, &str); 5] = [
    ("activity_logs_type", "activity_logs"),
    ("activity_logs_created", "activity_logs"),
    ("activity_logs_source", "activity_logs"),
    ("activity_logs_target", "activity_logs"),
    ("events_created", "events"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: SQLite would otherwise keep the half that was done when the process died.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, table) in REPLACED {
            manager.drop_index(Index::drop().name(name).table(table).to_owned()).await?;
        }
        let other_workspace = |column: &'static str| Expr::col(column).ne(Expr::col("workspace_id"));
        for index in [
            by_type().and_where(Expr::cust("activity_type <> 'a2a_receive'")).to_owned(),
            by_peer("source").and_where(other_workspace("source_id")).to_owned(),
            by_peer("target").and_where(other_workspace("target_id")).to_owned(),
        ] {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in ["activity_logs_type", "activity_logs_source", "activity_logs_target"] {
            manager.drop_index(Index::drop().name(name).table("activity_logs").to_owned()).await?;
        }
        let created = |name: &str, table: &'static str| {
            Index::create().name(name).table(table).col("created_at").to_owned()
        };
        for index in [
            by_type(),
            by_peer("source").and_where(Expr::col("source_id").is_not_null()).to_owned(),
            by_peer("target").and_where(Expr::col("target_id").is_not_null()).to_owned(),
            created("activity_logs_created", "activity_logs"),
            created("events_created", "events"),
        ] {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

fn by_type() -> IndexCreateStatement {
    Index::create()
        .name("activity_logs_type")
        .table("activity_logs")
        .col("workspace_id")
        .col("activity_type")
        .col("created_at")
        .col("seq")
        .to_owned()
}

/// By the source or the target.
fn by_peer(peer: &str) -> IndexCreateStatement {
    Index::create()
        .name(format!("activity_logs_{peer}"))
        .table("activity_logs")
        .col("workspace_id")
        .col(format!("{peer}_id"))
        .to_owned()
}
