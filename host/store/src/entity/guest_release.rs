//! Table `guest_releases`.

use sea_orm::entity::prelude::*;
use serde::Serialize;

/// Where a release stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "lowercase")]
pub enum ReleaseState {
    /// Here and fit; never answered, or not since it was staged.
    Staged,
    /// Answers.
    Active,
    /// Answered before; can be rolled back to.
    Retired,
    /// Found unfit, for the reason given.
    Rejected,
}

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "guest_releases")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub(crate) guest: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub(crate) digest: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) version: Option<String>,
    pub(crate) size_bytes: i64,
    #[sea_orm(column_type = "Text")]
    pub(crate) source: String,
    #[sea_orm(column_type = "Text")]
    pub(crate) pushed_by: String,
    pub(crate) pushed_at: DateTimeUtc,
    pub(crate) activated_at: Option<DateTimeUtc>,
    pub(crate) refused_at: Option<DateTimeUtc>,
    pub(crate) state: ReleaseState,
    #[sea_orm(column_type = "Text", nullable)]
    pub(crate) reason: Option<String>,
    pub(crate) calls: i64,
    pub(crate) traps: i64,
    pub(crate) timeouts: i64,
    pub(crate) memory_errors: i64,
    pub(crate) refused_answers: i64,
    pub(crate) busy: i64,
    pub(crate) peak_memory_bytes: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
