//! The transaction in which mutations write.

use crate::{Store, StoreError, guarded::Tx, sequencer::Sequencer};

/// A transaction that holds its place in the order of commits. Opaque outside of this crate, so that SQL
/// stays here.
#[derive(Debug)]
pub struct Transaction {
    pub(crate) db: Tx,
    pub(crate) sequencer: Sequencer,
}

impl Transaction {
    /// Begins, and locks the order of commits.
    pub(crate) async fn begin(store: &Store, numbers: usize, times: usize) -> Result<Self, StoreError> {
        let db = store.db.begin().await?;
        let sequencer = Sequencer::acquire(&db, numbers, times).await?;
        Ok(Self { db, sequencer })
    }
}
