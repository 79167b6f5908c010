//! In-memory images of rows, and how they follow the database.

use std::sync::Arc;

use async_trait::async_trait;
use events::Envelope;
use store::{Change, Store, StoreError};

/// An in-memory image of rows. It is a cache: after a commit of this server it is up to date at once,
/// after one of another server within a second.
#[async_trait]
pub trait Index: Send + Sync + 'static {
    /// Applies what a change of this server wrote: called in the order of commits, before the events of
    /// the change are published.
    fn apply(&self, change: &Change);

    /// Reads again the rows that events of other servers are about, before those are published. A row
    /// older than the known one must not replace it.
    ///
    /// # Errors
    /// If the database can't be read; the same events come again then.
    async fn refresh(&self, store: &Store, events: &[Arc<Envelope>]) -> Result<(), StoreError>;
}
