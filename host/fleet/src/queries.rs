//! What clients read beyond the workspace index: events that are past, and the history of tokens.

use std::sync::Arc;

use events::Envelope;
use store::{EventFilter, StoreError};
use types::{EventSeq, WorkspaceId};

use crate::fleet::Fleet;

/// The events that a client missed while it was away.
#[derive(Debug)]
pub enum MissedEvents {
    /// All of them, in order.
    Events(Vec<Arc<Envelope>>),
    /// They can't be replayed: the client has to read everything anew.
    Unavailable,
}

impl Fleet {
    /// The newest events, newest first.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn recent_events(&self, filter: &EventFilter) -> Result<Vec<Envelope>, StoreError> {
        self.store().recent_events(filter).await
    }

    /// The client-visible events after number `since`, of one workspace or of all. Unavailable if there are
    /// more than `limit`, if some were deleted meanwhile, or if `since` is a number of another database.
    ///
    /// # Errors
    /// If the database can't be read.
    pub async fn missed_events(
        &self,
        since: EventSeq,
        workspace: Option<WorkspaceId>,
        limit: u64,
    ) -> Result<MissedEvents, StoreError> {
        let store = self.store();
        let events = store.client_events_after(since, workspace, limit.saturating_add(1)).await?;
        let head = store.last_event().await?;
        let first = store.first_event().await?.unwrap_or(head.next());
        let lost = since > head || (since.next() < first && since < head);
        if lost || events.len() as u64 > limit {
            return Ok(MissedEvents::Unavailable);
        }
        Ok(MissedEvents::Events(events))
    }
}
