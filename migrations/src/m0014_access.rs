//! Tickets, each of which opens one socket; and by which token a token was made in the first place.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::{text, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: SQLite would otherwise keep the half that was done when the process died.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("tokens").add_column(uuid("root")).to_owned()).await?;
        let tickets = Table::create()
            .table("socket_tickets")
            .col(ColumnDef::new("hash").binary_len(32).not_null().primary_key())
            .col(uuid("token_id"))
            .col(text("made_by").not_null())
            // Milliseconds since 1970 by the database's clock.
            .col(ColumnDef::new("made_ms").big_integer().not_null())
            .to_owned();
        manager.create_table(tickets).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("socket_tickets").to_owned()).await?;
        manager.alter_table(Table::alter().table("tokens").drop_column("root").to_owned()).await
    }
}
