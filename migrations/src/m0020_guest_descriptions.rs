//! What an adapter said of its runtime when its release was accepted last: its names belong to the guest while it is
//! out of service too, on servers that never compiled it as well. Empty until a server has the guest in service.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::json;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: SQLite would otherwise keep the half that was done when the process died.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let guests = Table::alter().table("guests").add_column(json("description")).to_owned();
        manager.alter_table(guests).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let guests = Table::alter().table("guests").drop_column("description").to_owned();
        manager.alter_table(guests).await
    }
}
