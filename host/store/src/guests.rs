//! Guests and their releases: rows, and how they are read; `mutations` writes them, `deletion` deletes
//! them, and `components` keeps the bytes of releases.

mod components;
mod deletion;
mod mutations;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, Condition, EntityTrait as _, ExprTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, sea_query::Expr,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Store, StoreError,
    entity::{guest, guest_release},
};

pub use crate::entity::guest_release::ReleaseState;
pub use mutations::{PutGuest, ReleaseMutation};

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
    /// If not, it is not asked; its names stay its own.
    pub enabled: bool,
    /// Whether calls take warm instances from a pool.
    pub pooled: bool,
    /// A JSON object.
    pub settings: Value,
    /// Of adapters: what the release that was accepted last says of its runtime. Unknown until one was in service, and
    /// for rows of a version before it kept this.
    pub description: Option<Value>,
    /// How often it or its releases were written; 0 where it is not stored yet.
    pub revision: i64,
    /// When it was made. Tells it from a deleted guest of the same name, whose revisions say nothing of it.
    pub created_at: DateTime<Utc>,
}

/// A guest's name, when it was made, and its revision.
pub type GuestRevision = (String, DateTime<Utc>, i64);

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
    /// The caller (such as `admin-token`), or `folder` for the watched directory.
    pub pushed_by: String,
    /// When.
    pub pushed_at: DateTime<Utc>,
    /// When it was last activated. Roll-backs leave it, so that the next one goes further back.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it was last rejected. Unknown for rejections of a version before it kept this.
    pub refused_at: Option<DateTime<Utc>>,
    /// Where it stands.
    pub state: ReleaseState,
    /// Why it stands there, where there is a reason to give.
    pub reason: Option<String>,
    /// What it did so far.
    pub counters: Counters,
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
    /// Every guest by name, with its releases, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn guests(&self) -> Result<Vec<(GuestRow, Vec<ReleaseRow>)>, StoreError> {
        self.guests_where(Condition::all(), Condition::all()).await
    }

    /// One guest with its releases, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn guest(&self, name: &str) -> Result<Option<(GuestRow, Vec<ReleaseRow>)>, StoreError> {
        let this = Condition::all().add(guest::Column::Name.eq(name));
        let its = Condition::all().add(guest_release::Column::Guest.eq(name));
        Ok(self.guests_where(this, its).await?.pop())
    }

    async fn guests_where(
        &self,
        guests: Condition,
        releases: Condition,
    ) -> Result<Vec<(GuestRow, Vec<ReleaseRow>)>, StoreError> {
        // Revisions before releases: what changes in between is of a later revision then, and read again.
        let rows =
            guest::Entity::find().filter(guests).order_by_asc(guest::Column::Name).all(&self.read).await?;
        let releases = guest_release::Entity::find()
            .filter(releases)
            .order_by_asc(guest_release::Column::PushedAt)
            .order_by_asc(guest_release::Column::Digest)
            .all(&self.read)
            .await?;
        let mut by_guest: BTreeMap<String, Vec<ReleaseRow>> = BTreeMap::new();
        for release in releases {
            by_guest.entry(release.guest.clone()).or_default().push(release.into());
        }
        let with_releases = |row: guest::Model| {
            let releases = by_guest.remove(&row.name).unwrap_or_default();
            (row.into(), releases)
        };
        Ok(rows.into_iter().map(with_releases).collect())
    }

    /// The revision of every guest, by name.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn guest_revisions(&self) -> Result<Vec<GuestRevision>, StoreError> {
        let revisions = guest::Entity::find()
            .select_only()
            .columns([guest::Column::Name, guest::Column::CreatedAt, guest::Column::Revision])
            .order_by_asc(guest::Column::Name)
            .into_tuple();
        Ok(revisions.all(&self.read).await?)
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

// === Rows to models and back ===

/// Counts are stored signed; 2⁶³ calls do not happen.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

impl GuestRow {
    /// Whether two rows are of one guest: a deleted one and a later one of the same name are not.
    #[must_use]
    pub fn is_same_guest(&self, other: &Self) -> bool {
        self.name == other.name && self.created_at == other.created_at
    }

    /// Selects the stored row, if it is this one in this revision.
    fn is_stored(&self) -> Condition {
        Condition::all()
            .add(guest::Column::Name.eq(&self.name))
            .add(guest::Column::CreatedAt.eq(self.created_at))
            .add(guest::Column::Revision.eq(self.revision))
    }

    fn model(&self) -> guest::ActiveModel {
        guest::ActiveModel {
            name: Set(self.name.clone()),
            world: Set(self.world.clone()),
            component: Set(self.component.clone()),
            trusted: Set(self.trusted),
            enabled: Set(self.enabled),
            pooled: Set(self.pooled),
            settings: Set(self.settings.clone()),
            description: Set(self.description.clone()),
            revision: Set(self.revision + 1),
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
            pooled: row.pooled,
            settings: row.settings,
            description: row.description,
            revision: row.revision,
            created_at: row.created_at,
        }
    }
}

impl ReleaseRow {
    /// Was it stored and never activated? That is also what a kill between the two steps leaves.
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
            refused_at: Set(self.refused_at),
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
            refused_at: row.refused_at,
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
