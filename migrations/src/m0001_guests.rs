//! Guests and their releases.

#![allow(elided_lifetimes_in_paths)] // the trait of sea-orm-migration is declared that way

use sea_orm_migration::prelude::*;

use crate::columns::{count, text, time};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[derive(DeriveIden)]
enum Guests {
    Table,
    Name,
    World,
    Component,
    Trusted,
    Enabled,
    Reused,
    Settings,
    CreatedAt,
    UpdatedAt,
}

#[derive(DeriveIden)]
enum GuestReleases {
    Table,
    Guest,
    Digest,
    Version,
    SizeBytes,
    Source,
    PushedBy,
    PushedAt,
    ActivatedAt,
    State,
    Reason,
    Calls,
    Traps,
    Timeouts,
    MemoryErrors,
    RefusedAnswers,
    Busy,
    PeakMemoryBytes,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Without a transaction, a killed process would leave half of the migration on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let guests = Table::create()
            .table(Guests::Table)
            .col(text(Guests::Name).not_null().primary_key().to_owned())
            .col(text(Guests::World).not_null())
            .col(text(Guests::Component))
            .col(ColumnDef::new(Guests::Trusted).boolean().not_null())
            .col(ColumnDef::new(Guests::Enabled).boolean().not_null())
            .col(ColumnDef::new(Guests::Reused).boolean().not_null())
            .col(ColumnDef::new(Guests::Settings).json().not_null())
            .col(time(Guests::CreatedAt).not_null())
            .col(time(Guests::UpdatedAt).not_null())
            .to_owned();
        manager.create_table(guests).await?;

        let releases = Table::create()
            .table(GuestReleases::Table)
            .col(text(GuestReleases::Guest).not_null())
            .col(text(GuestReleases::Digest).not_null())
            .col(text(GuestReleases::Version))
            .col(count(GuestReleases::SizeBytes))
            .col(text(GuestReleases::Source).not_null())
            .col(text(GuestReleases::PushedBy).not_null())
            .col(time(GuestReleases::PushedAt).not_null())
            .col(time(GuestReleases::ActivatedAt))
            .col(text(GuestReleases::State).not_null())
            .col(text(GuestReleases::Reason))
            .col(count(GuestReleases::Calls))
            .col(count(GuestReleases::Traps))
            .col(count(GuestReleases::Timeouts))
            .col(count(GuestReleases::MemoryErrors))
            .col(count(GuestReleases::RefusedAnswers))
            .col(count(GuestReleases::Busy))
            .col(count(GuestReleases::PeakMemoryBytes))
            .primary_key(Index::create().col(GuestReleases::Guest).col(GuestReleases::Digest))
            .foreign_key(
                ForeignKey::create()
                    .from(GuestReleases::Table, GuestReleases::Guest)
                    .to(Guests::Table, Guests::Name)
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .to_owned();
        manager.create_table(releases).await?;

        // At most one release of a guest is active.
        let one_active = Index::create()
            .name("guest_releases_one_active")
            .table(GuestReleases::Table)
            .col(GuestReleases::Guest)
            .unique()
            .and_where(Expr::col(GuestReleases::State).eq("active"))
            .to_owned();
        manager.create_index(one_active).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(GuestReleases::Table).to_owned()).await?;
        manager.drop_table(Table::drop().table(Guests::Table).to_owned()).await
    }
}
