//! Waits, with a deadline, until the desired state of workspaces is observed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use events::Received;
use store::{StoreError, workspaces::WorkspaceRow};
use tokio::time::{Instant, sleep_until, timeout_at};
use types::WorkspaceId;

use crate::fleet::Fleet;

/// How often the database is read where no event arrives: another server may do the work, and not every
/// step has an event.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Events that a waiter may be behind; each only says that the rows may have changed.
const EVENT_BUFFER: usize = 64;

impl Fleet {
    /// Waits until all of these rows satisfy, no longer than `limit`. Returns the rows as they are
    /// then; removed ones too, purged ones not.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) async fn wait_for(
        &self,
        ids: &[WorkspaceId],
        limit: Duration,
        satisfies: impl Fn(&WorkspaceRow) -> bool,
    ) -> Result<Vec<WorkspaceRow>, StoreError> {
        let deadline = Instant::now() + limit;
        let wanted: Arc<HashSet<WorkspaceId>> = Arc::new(ids.iter().copied().collect());
        let subscribe = || {
            let wanted = Arc::clone(&wanted);
            self.hub().subscribe(EVENT_BUFFER, move |event| {
                event.workspace_id().is_some_and(|id| wanted.contains(&id))
            })
        };
        let mut events = subscribe();
        loop {
            let rows = self.store().workspaces(ids).await?;
            let rows: Vec<WorkspaceRow> = rows.into_iter().map(|loaded| loaded.row).collect();
            if rows.iter().all(&satisfies) || Instant::now() >= deadline {
                return Ok(rows);
            }
            let next = deadline.min(Instant::now() + POLL_INTERVAL);
            match timeout_at(next, events.next()).await {
                // Either is a reason to read the rows again.
                Ok(Received::Event(_)) | Err(_) => {}
                Ok(Received::Lagged) => events = subscribe(),
                Ok(Received::Closed) => sleep_until(next).await,
            }
        }
    }
}
