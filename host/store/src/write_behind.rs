//! Rows that are not worth a transaction of their own: they are stored with others a moment later, and
//! may be lost with the process.
//!
//! Open like mutations: an entry is a type beside its table, and knows the [`Buffer`] in which entries of
//! its kind wait.

use std::{
    any::Any,
    collections::HashSet,
    fmt::{Debug, Formatter},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;
use types::WorkspaceId;

use crate::{StoreError, transaction::Transaction};

/// Rows are stored when this many wait …
pub(crate) const PENDING_ROWS: usize = 128;

/// … with those that arrived meanwhile, up to this many in one transaction …
pub(crate) const FLUSHED_ROWS: usize = 512;

/// … or when the first has waited this long. After a failure, the time until the next try.
const FLUSH_AFTER: Duration = Duration::from_millis(5);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A row to be written behind.
pub trait WriteBehind: Debug + Send + Sync + 'static {
    /// Puts the row into the buffer of its kind.
    fn add_to(self: Box<Self>, pending: &mut Pending);
}

/// Rows of one kind that wait to be stored: all of them, or the newest of those that replace each other.
#[async_trait]
pub(crate) trait Buffer: Any + Debug + Send + Sync {
    /// Rows that wait.
    fn len(&self) -> usize;

    /// Workspaces without which a row is left out.
    fn workspaces(&self) -> Vec<WorkspaceId> {
        Vec::new()
    }

    /// Stores the rows, except those of workspaces that do not exist.
    async fn store(&self, tx: &mut Transaction, existing: &HashSet<WorkspaceId>) -> Result<(), StoreError>;

    /// Takes out all rows, as an entry each.
    fn drain(&mut self) -> Vec<Box<dyn WriteBehind>>;
}

/// Everything that waits to be stored.
pub struct Pending {
    buffers: Vec<Box<dyn Buffer>>,
    /// When it is to be stored.
    pub(crate) due: Instant,
    /// Whether the last try failed, so that the next waits.
    pub(crate) retries: bool,
}

impl Default for Pending {
    fn default() -> Self {
        Self { buffers: Vec::new(), due: Instant::now(), retries: false }
    }
}

impl Debug for Pending {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("rows", &self.len()).finish_non_exhaustive()
    }
}

impl Pending {
    pub(crate) fn buffers(&self) -> impl Iterator<Item = &dyn Buffer> {
        self.buffers.iter().map(AsRef::as_ref)
    }

    /// Changes the buffer of this kind, which is made where there is none.
    pub(crate) fn with<B: Buffer + Default>(&mut self, change: impl FnOnce(&mut B)) {
        for buffer in &mut self.buffers {
            let buffer: &mut dyn Any = buffer.as_mut();
            if let Some(buffer) = buffer.downcast_mut() {
                return change(buffer);
            }
        }
        let mut buffer = B::default();
        change(&mut buffer);
        self.buffers.push(Box::new(buffer));
    }

    pub(crate) fn len(&self) -> usize {
        self.buffers().map(Buffer::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn clear(&mut self) {
        self.buffers.clear();
        self.retries = false;
    }

    pub(crate) fn push(&mut self, entry: Box<dyn WriteBehind>) {
        if self.is_empty() {
            self.due = Instant::now() + FLUSH_AFTER;
        }
        entry.add_to(self);
    }

    /// Takes out all rows, each by itself.
    pub(crate) fn split(&mut self) -> Vec<Self> {
        let entries = self.buffers.iter_mut().flat_map(|buffer| buffer.drain());
        let one = |entry| {
            let mut one = Self::default();
            one.push(entry);
            one
        };
        entries.map(one).collect()
    }

    /// Takes back rows that could not be stored.
    pub(crate) fn requeue(&mut self, mut other: Self) {
        let entries = other.buffers.iter_mut().flat_map(|buffer| buffer.drain());
        entries.for_each(|entry| entry.add_to(self));
    }

    /// Gives up rows that the database will never take.
    pub(crate) fn discard(&mut self, error: &dyn std::error::Error) {
        tracing::error!(%error, rows = self.len(), "rows written behind can't be stored; they are lost");
        metrics::counter!("isomer_behind_rows_lost_total").increment(self.len() as u64);
        self.clear();
    }

    pub(crate) fn retry_later(&mut self, error: &dyn std::error::Error) {
        tracing::warn!(%error, rows = self.len(), "rows written behind could not be stored; they are kept for the next try");
        self.due = Instant::now() + RETRY_AFTER;
        self.retries = true;
    }
}
