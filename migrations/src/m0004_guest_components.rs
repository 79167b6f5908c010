//! Component bytes by digest, and revisions of guests, so that every server of a deployment runs the
//! same releases.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::text;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Without a transaction, a killed process would leave half of the migration on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let components = Table::create()
            .table("guest_components")
            .col(text("digest").not_null().primary_key().to_owned())
            .col(ColumnDef::new("bytes").blob().not_null())
            .to_owned();
        manager.create_table(components).await?;
        // Existing rows have been written once.
        let revision = ColumnDef::new("revision").big_integer().not_null().default(1).to_owned();
        manager.alter_table(Table::alter().table("guests").add_column(revision).to_owned()).await?;
        manager.alter_table(Table::alter().table("guests").rename_column("reused", "pooled").to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .alter_table(Table::alter().table("guests").rename_column("pooled", "reused").to_owned())
            .await?;
        manager.alter_table(Table::alter().table("guests").drop_column("revision").to_owned()).await?;
        manager.drop_table(Table::drop().table("guest_components").to_owned()).await
    }
}
