//! Old rows are deleted some at a time, in the one order of changes: a purge deletes such rows too, and two
//! transactions that lock the same rows one by one would wait for each other.
//!
//! The sequencer lets times grow with numbers, also after a clock that jumped. So the old rows are those with
//! the lowest numbers, and no index of times is needed.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter as _, QueryOrder as _, QuerySelect as _};

use crate::{
    Store, StoreError,
    entity::{activity, event},
    transaction::Transaction,
};

/// Rows deleted in one transaction, so that others get their turn in between.
const DELETED_AT_ONCE: u64 = 2_000;

impl Store {
    /// Deletes activity older than this. Returns how many rows.
    ///
    /// # Errors
    /// If the database fails; then some may be deleted.
    pub async fn delete_activity_before(&self, time: DateTime<Utc>) -> Result<u64, StoreError> {
        use activity::Column as C;
        self.delete_before::<activity::Entity>(C::Seq, C::CreatedAt, time).await
    }

    /// Deletes events older than this. Returns how many.
    ///
    /// # Errors
    /// If the database fails; then some may be deleted.
    pub async fn delete_events_before(&self, time: DateTime<Utc>) -> Result<u64, StoreError> {
        use event::Column as C;
        self.delete_before::<event::Entity>(C::Seq, C::CreatedAt, time).await
    }

    /// Deletes rows older than this, by the numbers that they have in their order.
    async fn delete_before<E: EntityTrait>(
        &self,
        seq: E::Column,
        created_at: E::Column,
        time: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let tx = Transaction::begin(self, 0, 0).await?.db;
            let first: Vec<(i64, DateTime<Utc>)> = E::find()
                .select_only()
                .columns([seq, created_at])
                .order_by_asc(seq)
                .limit(DELETED_AT_ONCE)
                .into_tuple()
                .all(&tx)
                .await?;
            let old: Vec<i64> = first.iter().filter(|(_, at)| *at < time).map(|(seq, _)| *seq).collect();
            let more = old.len() as u64 == DELETED_AT_ONCE;
            deleted += E::delete_many().filter(seq.is_in(old)).exec(&tx).await?.rows_affected;
            tx.commit().await?;
            if !more {
                return Ok(deleted);
            }
        }
    }
}
