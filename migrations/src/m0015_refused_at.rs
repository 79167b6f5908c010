//! When a release was refused last: what is kept of refused releases is chosen by it. Unknown for those that were refused
//! before. And an index by digest, because a deletion asks whether another release has the same component.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::time;

const INDEX: &str = "guest_releases_by_digest";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: SQLite would otherwise keep the half that was done when the process died.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let releases = Table::alter().table("guest_releases").add_column(time("refused_at")).to_owned();
        manager.alter_table(releases).await?;
        let by_digest = Index::create().name(INDEX).table("guest_releases").col("digest").to_owned();
        manager.create_index(by_digest).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name(INDEX).table("guest_releases").to_owned()).await?;
        let releases = Table::alter().table("guest_releases").drop_column("refused_at").to_owned();
        manager.alter_table(releases).await
    }
}
