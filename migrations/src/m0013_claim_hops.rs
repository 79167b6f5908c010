//! Claims know how many servers and agents a message passed before, so that a loop over several servers is recognized.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut hops = ColumnDef::new("hops");
        hops.big_integer().not_null().default(0);
        manager.alter_table(Table::alter().table("message_claims").add_column(&mut hops).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("message_claims").drop_column("hops").to_owned()).await
    }
}
