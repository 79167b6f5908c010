//! What the first answer to a message was that may be sent twice, as far as its row of activity doesn't say so; and
//! what a queued message was sent with besides its body.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::{integer, text, time, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: [&str; 3] = ["hops", "headers", "depth"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: SQLite would otherwise keep the half that was done when the process died.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut hops = ColumnDef::new("hops");
        hops.big_integer().not_null().default(0);
        // SQLite adds one column at a time.
        for mut column in [hops, text("headers"), ColumnDef::new("depth").big_integer().to_owned()] {
            manager.alter_table(Table::alter().table("a2a_queue").add_column(&mut column).to_owned()).await?;
        }
        let answers = Table::create()
            .table("message_answers")
            .col(uuid("activity_id").primary_key())
            .col(integer("status").not_null())
            .col(text("form").not_null())
            .col(ColumnDef::new("bytes").binary())
            .col(text("retry_after"))
            .col(text("content_type"))
            .col(time("created_at").not_null())
            .foreign_key(
                ForeignKey::create()
                    .from("message_answers", "activity_id")
                    .to("activity_logs", "id")
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .to_owned();
        manager.create_table(answers).await?;
        let by_time = Index::create()
            .name("message_answers_created")
            .table("message_answers")
            .col("created_at")
            .to_owned();
        manager.create_index(by_time).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("message_answers").to_owned()).await?;
        for column in COLUMNS {
            manager.alter_table(Table::alter().table("a2a_queue").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}
