//! Guests and their releases.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, ConnectionTrait, DeriveActiveEnum, EntityTrait as _, EnumIter, ExprTrait as _,
    QueryFilter as _, QueryOrder as _, TransactionTrait as _,
    sea_query::{Expr, OnConflict},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Store, StoreError,
    entity::{guest, guest_release},
};

/// A guest row: a component with settings, under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct GuestRow {
    /// `[a-z0-9][a-z0-9-]{0,63}`
    pub name: String,
    /// Name of its world.
    pub world: String,
    /// First-party component that backs it, if one does.
    pub component: Option<String>,
    /// Survives releases; only an operator sets it.
    pub trusted: bool,
    /// If not, the host's defaults answer.
    pub enabled: bool,
    /// Are its instances used again for later calls?
    pub reused: bool,
    /// A JSON object.
    pub settings: Value,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// One version of a guest.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseRow {
    /// Name of the guest.
    pub guest: String,
    /// SHA-256 of the component, hexadecimal.
    pub digest: String,
    /// Version of the world; unknown for bytes that never loaded.
    pub version: Option<String>,
    /// Size of the component.
    pub size_bytes: u64,
    /// `embedded`, `upload` or `folder`.
    pub source: String,
    /// Who pushed it.
    pub pushed_by: String,
    /// When.
    pub pushed_at: DateTime<Utc>,
    /// When it was last activated. Roll-backs leave it, so that the next one goes further back.
    pub activated_at: Option<DateTime<Utc>>,
    /// Where it stands.
    pub state: ReleaseState,
    /// Why it stands there, where there is a reason to give.
    pub reason: Option<String>,
    /// What it did so far.
    pub counters: Counters,
}

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

/// What a release did. Counts only grow; `peak_memory_bytes` is a maximum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Calls, failed ones included.
    pub calls: u64,
    /// Calls that ended in a trap.
    pub traps: u64,
    /// Calls cut at their deadline.
    pub timeouts: u64,
    /// Calls that wanted more memory than allowed.
    pub memory: u64,
    /// Calls whose answer was refused.
    pub refused: u64,
    /// Calls that found no slot.
    pub busy: u64,
    /// Largest memory of a call, bytes.
    pub peak_memory_bytes: u64,
}

/// A guest's name with a release's digest.
pub type ReleaseKey = (String, String);

impl Store {
    /// Every guest, by name.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn guests(&self) -> Result<Vec<GuestRow>, StoreError> {
        let rows = guest::Entity::find().order_by_asc(guest::Column::Name).all(&self.db).await?;
        Ok(rows.into_iter().map(GuestRow::from).collect())
    }

    /// Every release of every guest, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn guest_releases(&self) -> Result<Vec<ReleaseRow>, StoreError> {
        let rows = guest_release::Entity::find()
            .order_by_asc(guest_release::Column::PushedAt)
            .order_by_asc(guest_release::Column::Digest)
            .all(&self.db)
            .await?;
        Ok(rows.into_iter().map(ReleaseRow::from).collect())
    }

    /// Adds a release, and its guest if that is new. A release that was there takes the new state
    /// and reason; everything else of it stays.
    ///
    /// # Errors
    /// If the database fails; then nothing was written.
    pub async fn put_release(&self, guest: &GuestRow, release: &ReleaseRow) -> Result<(), StoreError> {
        let tx = self.db.begin().await?;
        guest::Entity::insert(guest.model())
            .on_conflict(OnConflict::column(guest::Column::Name).do_nothing().to_owned())
            .exec_without_returning(&tx)
            .await?;
        guest_release::Entity::insert(release.model())
            .on_conflict(
                OnConflict::columns([guest_release::Column::Guest, guest_release::Column::Digest])
                    .update_columns([
                        guest_release::Column::State,
                        guest_release::Column::Reason,
                        guest_release::Column::Version,
                    ])
                    .to_owned(),
            )
            .exec_without_returning(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Makes `digest` the guest's active release. The one that was takes the state and reason
    /// `leaving`. `activated_at` is `None` for a roll-back.
    ///
    /// # Errors
    /// If the database fails; then nothing was written.
    pub async fn activate_release(
        &self,
        guest: &str,
        digest: &str,
        activated_at: Option<DateTime<Utc>>,
        leaving: (ReleaseState, Option<&str>),
    ) -> Result<(), StoreError> {
        let tx = self.db.begin().await?;
        retire(&tx, guest, leaving.0, leaving.1).await?;
        let mut update = guest_release::Entity::update_many()
            .col_expr(guest_release::Column::State, Expr::value(ReleaseState::Active))
            .col_expr(guest_release::Column::Reason, Expr::value(Option::<String>::None));
        if let Some(at) = activated_at {
            update = update.col_expr(guest_release::Column::ActivatedAt, Expr::value(at));
        }
        let update = update
            .filter(guest_release::Column::Guest.eq(guest))
            .filter(guest_release::Column::Digest.eq(digest));
        if update.exec(&tx).await?.rows_affected != 1 {
            // Dropping the transaction undoes the first half.
            return Err(StoreError::Gone);
        }
        Ok(tx.commit().await?)
    }

    /// Takes `digest` out of service, if it is the guest's active release, with the reason.
    ///
    /// # Errors
    /// If the database fails; then nothing was written.
    pub async fn reject_active_release(
        &self,
        guest: &str,
        digest: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.reject(guest, digest, reason, guest_release::Column::State.eq(ReleaseState::Active)).await
    }

    /// Marks a release that isn't active as unfit.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn reject_release(&self, guest: &str, digest: &str, reason: &str) -> Result<(), StoreError> {
        self.reject(guest, digest, reason, guest_release::Column::State.ne(ReleaseState::Active)).await
    }

    async fn reject(&self, guest: &str, digest: &str, reason: &str, only: Expr) -> Result<(), StoreError> {
        guest_release::Entity::update_many()
            .col_expr(guest_release::Column::State, Expr::value(ReleaseState::Rejected))
            .col_expr(guest_release::Column::Reason, Expr::value(reason))
            .filter(guest_release::Column::Guest.eq(guest))
            .filter(guest_release::Column::Digest.eq(digest))
            .filter(only)
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// Removes a release that isn't active.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete_release(&self, guest: &str, digest: &str) -> Result<(), StoreError> {
        guest_release::Entity::delete_many()
            .filter(guest_release::Column::Guest.eq(guest))
            .filter(guest_release::Column::Digest.eq(digest))
            .filter(guest_release::Column::State.ne(ReleaseState::Active))
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// Stores what an operator decides about a guest: settings, trust, whether and how it answers.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn update_guest(&self, row: &GuestRow) -> Result<(), StoreError> {
        guest::Entity::update_many()
            .col_expr(guest::Column::Settings, Expr::value(row.settings.clone()))
            .col_expr(guest::Column::Trusted, Expr::value(row.trusted))
            .col_expr(guest::Column::Enabled, Expr::value(row.enabled))
            .col_expr(guest::Column::Reused, Expr::value(row.reused))
            .col_expr(guest::Column::UpdatedAt, Expr::value(crate::now()))
            .filter(guest::Column::Name.eq(&row.name))
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// Adds to the counters of releases, all in one transaction.
    ///
    /// # Errors
    /// If the database fails; then nothing was added.
    pub async fn add_release_counters(
        &self,
        added: &BTreeMap<ReleaseKey, Counters>,
    ) -> Result<(), StoreError> {
        use guest_release::Column as C;
        let tx = self.db.begin().await?;
        for ((guest, digest), more) in added {
            let plus = |column: C, count: u64| Expr::col(column).add(signed(count));
            let peak = signed(more.peak_memory_bytes);
            guest_release::Entity::update_many()
                .col_expr(C::Calls, plus(C::Calls, more.calls))
                .col_expr(C::Traps, plus(C::Traps, more.traps))
                .col_expr(C::Timeouts, plus(C::Timeouts, more.timeouts))
                .col_expr(C::MemoryErrors, plus(C::MemoryErrors, more.memory))
                .col_expr(C::RefusedAnswers, plus(C::RefusedAnswers, more.refused))
                .col_expr(C::Busy, plus(C::Busy, more.busy))
                .col_expr(
                    C::PeakMemoryBytes,
                    Expr::case(Expr::col(C::PeakMemoryBytes).lt(peak), Expr::value(peak))
                        .finally(Expr::col(C::PeakMemoryBytes))
                        .into(),
                )
                .filter(C::Guest.eq(guest))
                .filter(C::Digest.eq(digest))
                .exec(&tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }
}

async fn retire(
    db: &impl ConnectionTrait,
    guest: &str,
    state: ReleaseState,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    guest_release::Entity::update_many()
        .col_expr(guest_release::Column::State, Expr::value(state))
        .col_expr(guest_release::Column::Reason, Expr::value(reason.map(str::to_owned)))
        .filter(guest_release::Column::Guest.eq(guest))
        .filter(guest_release::Column::State.eq(ReleaseState::Active))
        .exec(db)
        .await?;
    Ok(())
}

// === Rows to models and back ===

/// Counts are stored signed; 2⁶³ calls take longer than anyone will wait.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

impl GuestRow {
    fn model(&self) -> guest::ActiveModel {
        guest::ActiveModel {
            name: Set(self.name.clone()),
            world: Set(self.world.clone()),
            component: Set(self.component.clone()),
            trusted: Set(self.trusted),
            enabled: Set(self.enabled),
            reused: Set(self.reused),
            settings: Set(self.settings.clone()),
            created_at: Set(self.created_at),
            updated_at: Set(self.created_at),
        }
    }
}

impl From<guest::Model> for GuestRow {
    fn from(row: guest::Model) -> Self {
        Self {
            name: row.name,
            world: row.world,
            component: row.component,
            trusted: row.trusted,
            enabled: row.enabled,
            reused: row.reused,
            settings: row.settings,
            created_at: row.created_at,
        }
    }
}

impl ReleaseRow {
    /// Was it stored and never activated? That is also what a kill between the two leaves.
    #[must_use]
    pub fn is_untried(&self) -> bool {
        self.state == ReleaseState::Staged && self.activated_at.is_none()
    }

    fn model(&self) -> guest_release::ActiveModel {
        guest_release::ActiveModel {
            guest: Set(self.guest.clone()),
            digest: Set(self.digest.clone()),
            version: Set(self.version.clone()),
            size_bytes: Set(signed(self.size_bytes)),
            source: Set(self.source.clone()),
            pushed_by: Set(self.pushed_by.clone()),
            pushed_at: Set(self.pushed_at),
            activated_at: Set(self.activated_at),
            state: Set(self.state),
            reason: Set(self.reason.clone()),
            calls: Set(signed(self.counters.calls)),
            traps: Set(signed(self.counters.traps)),
            timeouts: Set(signed(self.counters.timeouts)),
            memory_errors: Set(signed(self.counters.memory)),
            refused_answers: Set(signed(self.counters.refused)),
            busy: Set(signed(self.counters.busy)),
            peak_memory_bytes: Set(signed(self.counters.peak_memory_bytes)),
        }
    }
}

impl From<guest_release::Model> for ReleaseRow {
    fn from(row: guest_release::Model) -> Self {
        Self {
            guest: row.guest,
            digest: row.digest,
            version: row.version,
            size_bytes: unsigned(row.size_bytes),
            source: row.source,
            pushed_by: row.pushed_by,
            pushed_at: row.pushed_at,
            activated_at: row.activated_at,
            state: row.state,
            reason: row.reason,
            counters: Counters {
                calls: unsigned(row.calls),
                traps: unsigned(row.traps),
                timeouts: unsigned(row.timeouts),
                memory: unsigned(row.memory_errors),
                refused: unsigned(row.refused_answers),
                busy: unsigned(row.busy),
                peak_memory_bytes: unsigned(row.peak_memory_bytes),
            },
        }
    }
}
