//! Old rows are deleted some at a time, in the one order of changes: a purge deletes such rows too, and two
//! transactions that lock the same rows one by one would wait for each other.
//!
//! No index of times is kept for this: each row would pay for it, and times grow with the numbers of rows, so
//! that a search in the order of numbers finds old rows first. Only the last search of a run, which finds
//! none, reads the whole table, on a connection that no writer waits for. A clock that jumped ahead leaves
//! rows of the future among old ones; the search passes over them.

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

    /// Deletes the rows that were created before `time`, some at a time.
    async fn delete_before<E: EntityTrait>(
        &self,
        seq: E::Column,
        created_at: E::Column,
        time: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let old: Vec<i64> = E::find()
                .select_only()
                .column(seq)
                .filter(created_at.lt(time))
                .order_by_asc(seq)
                .limit(DELETED_AT_ONCE)
                .into_tuple()
                .all(&self.read)
                .await?;
            if old.is_empty() {
                return Ok(deleted);
            }
            let more = old.len() as u64 == DELETED_AT_ONCE;
            let tx = Transaction::begin(self, 0, 0).await?.db;
            deleted += E::delete_many().filter(seq.is_in(old)).exec(&tx).await?.rows_affected;
            tx.commit().await?;
            if !more {
                return Ok(deleted);
            }
        }
    }
}
