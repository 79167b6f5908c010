//! The table `jobs` of `m0002_core` never had a user.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::{json, text, time, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Without a transaction, a killed process would leave half of the migration on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("jobs").to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(jobs()).await?;
        let index = Index::create().name("jobs_state").table("jobs").col("state").col("deadline").to_owned();
        manager.create_index(index).await
    }
}

fn jobs() -> TableCreateStatement {
    Table::create()
        .table("jobs")
        .col(uuid("id").primary_key())
        .col(text("kind").not_null())
        .col(text("idempotency_key").unique_key())
        .col(text("state").not_null())
        .col(text("step").not_null())
        .col(uuid("owner"))
        .col(ColumnDef::new("epoch").big_integer().not_null())
        .col(time("deadline").not_null())
        .col(json("request").not_null())
        .col(json("result"))
        .col(text("error"))
        .col(time("created_at").not_null())
        .col(time("updated_at").not_null())
        .to_owned()
}
