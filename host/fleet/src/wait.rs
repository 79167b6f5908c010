//! Waiting, with an end, for what was ordered to be seen.

use std::{collections::HashSet, sync::Arc, time::Duration};

use events::Received;
use store::workspaces::WorkspaceRow;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use crate::{error::FleetError, fleet::Fleet};

/// How often the database is asked where no event tells: another server may do the work, and not every
/// step of it is told.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Events that a waiter may be behind; it only counts that there was one.
const HEARD: usize = 64;

impl Fleet {
    /// Waits until all of these rows satisfy, no longer than `patience`. Returns the rows as they are
    /// then; removed ones too, purged ones not.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) async fn wait_for(
        &self,
        ids: &[Uuid],
        patience: Duration,
        satisfies: impl Fn(&WorkspaceRow) -> bool,
    ) -> Result<Vec<WorkspaceRow>, FleetError> {
        let deadline = Instant::now() + patience;
        let wanted: Arc<HashSet<Uuid>> = Arc::new(ids.iter().copied().collect());
        let subscribe = || {
            let wanted = Arc::clone(&wanted);
            self.hub()
                .subscribe(HEARD, move |event| event.workspace_id().is_some_and(|id| wanted.contains(&id)))
        };
        let mut heard = subscribe();
        loop {
            let rows = self.store().workspaces(ids).await?;
            let rows: Vec<WorkspaceRow> = rows.into_iter().map(|loaded| loaded.row).collect();
            if rows.iter().all(&satisfies) || Instant::now() >= deadline {
                return Ok(rows);
            }
            let next = deadline.min(Instant::now() + ASK_EVERY);
            match timeout_at(next, heard.next()).await {
                // Whatever it is, it is a reason to look; as is the end of our patience.
                Ok(Received::Event(_)) | Err(_) => {}
                Ok(Received::Lagged) => heard = subscribe(),
                Ok(Received::Closed) => sleep_until(next).await,
            }
        }
    }
}
