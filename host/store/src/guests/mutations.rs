//! Mutations of guests: rows, releases, component bytes.
//!
//! A mutation names the revision of the row that it was planned on. Where the stored one differs,
//! another change came first, and the commit is a conflict. An event in the same transaction tells
//! other servers that the guest changed.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use events::{Event, definitions::GuestChanged};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
    sea_query::{Expr, OnConflict},
};

use super::{GuestRow, ReleaseRow, ReleaseState, components};
use crate::{
    Change, CommitError, Mutation, Store, StoreError, WorkspaceEvent,
    commit::commit_group,
    entity::{guest, guest_component, guest_release},
    guarded::Tx,
    transaction::Transaction,
};

/// What becomes of a guest in one change: its row, and its releases.
#[derive(Debug, Clone)]
pub struct PutGuest {
    /// The row as it is to be, with the revision that the change was planned on; 0 for a new guest.
    pub row: GuestRow,
    /// What happens to its releases, in this order.
    pub releases: Vec<ReleaseMutation>,
}

/// What happens to a release of a guest.
#[derive(Debug, Clone)]
pub enum ReleaseMutation {
    /// A release is added. One that is there takes the new source, state, reason, version and time of a
    /// refusal, and keeps everything else. [`Store::put_component`] stores the component before; here it is stored
    /// only where that row is missing again.
    Put {
        /// The release.
        release: Box<ReleaseRow>,
        /// Its component; `None` for a release that was rejected before it had one.
        component: Option<Bytes>,
    },
    /// A release becomes the active one.
    Activate {
        /// Its digest.
        digest: String,
        /// `None` for a rollback, which leaves the time as it is.
        at: Option<DateTime<Utc>>,
        /// State and reason of the release that was active.
        replaced: (ReleaseState, Option<String>),
    },
    /// A release is rejected, active or not.
    Reject {
        /// Its digest.
        digest: String,
        /// Why.
        reason: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// A release is deleted, and its component unless another release has the same.
    Delete {
        /// Its digest.
        digest: String,
    },
}

#[async_trait]
impl Mutation for PutGuest {
    async fn execute(&self, tx: &mut Transaction) -> Result<(), CommitError> {
        write_row(&tx.db, &self.row).await?;
        for change in &self.releases {
            write_release(&tx.db, &self.row.name, change).await?;
        }
        Ok(())
    }

    fn implicit_events(&self, _: &BTreeSet<types::WorkspaceId>) -> Vec<WorkspaceEvent> {
        vec![(None, Event::GuestChanged(GuestChanged { guest: self.row.name.clone() }))]
    }
}

impl Store {
    /// Changes guests, all or none. Each one's revision is one more afterwards. Not by way of the
    /// writer: guests are there before it is, and too seldom changed to be grouped.
    /// [`Store::committed_beside_writer`] returns then.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit_guests(&self, guests: Vec<PutGuest>) -> Result<(), CommitError> {
        self.commit_beside_writer(guests.into_iter().fold(Change::default(), Change::with)).await
    }

    pub(super) async fn commit_beside_writer(&self, mut change: Change) -> Result<(), CommitError> {
        change.add_implicit_events();
        let committed = commit_group(self, &[&change]).await;
        if matches!(committed, Ok(_) | Err(CommitError::OutcomeUnknown)) {
            self.beside_writer.notify_one();
        }
        committed.map(drop)
    }

    /// Waits until events may be stored that the writer's observer was not given, because they were not
    /// committed by way of the writer. For one waiter; a notification without a waiter is kept.
    pub async fn committed_beside_writer(&self) {
        self.beside_writer.notified().await;
    }
}

/// Inserts a new row, or replaces the one of the revision before.
async fn write_row(tx: &Tx, row: &GuestRow) -> Result<(), CommitError> {
    let written = if row.revision == 0 {
        guest::Entity::insert(row.model())
            .on_conflict(OnConflict::column(guest::Column::Name).do_nothing().to_owned())
            .exec_without_returning(tx)
            .await?
    } else {
        guest::Entity::update_many()
            .col_expr(guest::Column::World, Expr::value(row.world.clone()))
            .col_expr(guest::Column::Settings, Expr::value(row.settings.clone()))
            .col_expr(guest::Column::Description, Expr::value(row.description.clone()))
            .col_expr(guest::Column::Trusted, Expr::value(row.trusted))
            .col_expr(guest::Column::Enabled, Expr::value(row.enabled))
            .col_expr(guest::Column::Pooled, Expr::value(row.pooled))
            .col_expr(guest::Column::Revision, Expr::value(row.revision + 1))
            .col_expr(guest::Column::UpdatedAt, Expr::value(crate::now()))
            .filter(row.is_stored())
            .exec(tx)
            .await?
            .rows_affected
    };
    // Dropping the transaction undoes what came before.
    if written == 1 { Ok(()) } else { Err(CommitError::Conflict) }
}

async fn write_release(tx: &Tx, guest: &str, change: &ReleaseMutation) -> Result<(), StoreError> {
    match change {
        ReleaseMutation::Put { release, component } => {
            insert_release(tx, release).await?;
            if let Some(bytes) = component {
                components::ensure(tx, &release.digest, bytes).await?;
            }
        }
        ReleaseMutation::Activate { digest, at, replaced: (state, reason) } => {
            let active = guest_release::Column::State.eq(ReleaseState::Active);
            set_state(tx, guest, active, *state, reason.as_deref(), Times::default()).await?;
            let this = guest_release::Column::Digest.eq(digest);
            let times = Times { activated_at: *at, refused_at: None };
            if set_state(tx, guest, this, ReleaseState::Active, None, times).await? != 1 {
                return Err(StoreError::Gone);
            }
        }
        ReleaseMutation::Reject { digest, reason, at } => {
            let this = guest_release::Column::Digest.eq(digest);
            let times = Times { activated_at: None, refused_at: Some(*at) };
            set_state(tx, guest, this, ReleaseState::Rejected, Some(reason), times).await?;
        }
        ReleaseMutation::Delete { digest } => {
            guest_release::Entity::delete_many()
                .filter(guest_release::Column::Guest.eq(guest))
                .filter(guest_release::Column::Digest.eq(digest))
                .exec(tx)
                .await?;
            let others = guest_release::Entity::find().filter(guest_release::Column::Digest.eq(digest));
            if others.count(tx).await? == 0 {
                guest_component::Entity::delete_by_id(digest).exec(tx).await?;
            }
        }
    }
    Ok(())
}

async fn insert_release(tx: &Tx, release: &ReleaseRow) -> Result<(), StoreError> {
    use guest_release::Column as C;
    let known = OnConflict::columns([C::Guest, C::Digest])
        .update_columns([C::Source, C::State, C::Reason, C::Version, C::RefusedAt])
        .to_owned();
    guest_release::Entity::insert(release.model()).on_conflict(known).exec_without_returning(tx).await?;
    Ok(())
}

/// Times that a new state sets; `None` leaves them as they are.
#[derive(Default)]
struct Times {
    activated_at: Option<DateTime<Utc>>,
    refused_at: Option<DateTime<Utc>>,
}

/// Gives the releases of `guest` that `which` selects a state; returns how many they are.
async fn set_state(
    tx: &Tx,
    guest: &str,
    which: Expr,
    state: ReleaseState,
    reason: Option<&str>,
    times: Times,
) -> Result<u64, StoreError> {
    let mut update = guest_release::Entity::update_many()
        .col_expr(guest_release::Column::State, Expr::value(state))
        .col_expr(guest_release::Column::Reason, Expr::value(reason.map(str::to_owned)));
    if let Some(at) = times.activated_at {
        update = update.col_expr(guest_release::Column::ActivatedAt, Expr::value(at));
    }
    if let Some(at) = times.refused_at {
        update = update.col_expr(guest_release::Column::RefusedAt, Expr::value(at));
    }
    let update = update.filter(guest_release::Column::Guest.eq(guest)).filter(which);
    Ok(update.exec(tx).await?.rows_affected)
}
