//! Activity of what has not ended: its row names the server that will end it, so that another one can where
//! that server is gone.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::uuid;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: SQLite would otherwise keep the half that was done when the process died.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let owner = Table::alter().table("activity_logs").add_column(uuid("owner")).to_owned();
        manager.alter_table(owner).await?;
        // Nearly all rows have no owner, and are not in it.
        let index = Index::create()
            .name("activity_logs_owner")
            .table("activity_logs")
            .col("owner")
            .and_where(Expr::col("owner").is_not_null())
            .to_owned();
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_index(Index::drop().name("activity_logs_owner").table("activity_logs").to_owned())
            .await?;
        let owner = Table::alter().table("activity_logs").drop_column("owner").to_owned();
        manager.alter_table(owner).await
    }
}
