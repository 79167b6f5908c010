//! What the fleet does for messages between agents: it records when an agent last sent one, and stores the
//! rows of activity.

use events::Event;
use store::{
    Change, CommitError,
    activity::{ActivityRow, InsertActivity},
    workspaces::WorkspaceIsLive,
};
use tokio::time::timeout;
use types::WorkspaceId;

use crate::{error::FleetError, fleet::Fleet, limits::ACTIVITY_TIMEOUT};

impl Fleet {
    /// Records that a workspace sent a message just now: readable at once, stored within 30 s.
    pub async fn record_outbound(&self, id: WorkspaceId) {
        self.directory().put_outbound(id, store::now());
        self.write_presence(id, false).await;
    }

    /// Whether the agent's last heartbeat with metadata claims this capability.
    #[must_use]
    pub fn does_itself(&self, id: WorkspaceId, capability: &str) -> bool {
        self.inner.agents.has_capability(id, capability)
    }

    /// Keeps a row of activity: in the database a moment later, and not at all if its workspace is gone
    /// by then. Waits while too much is waiting already, but not forever: an agent's answer is worth
    /// more than its row.
    pub async fn log_behind(&self, row: ActivityRow) {
        let workspace = row.workspace_id;
        let append = self.state().write_behind(row);
        if timeout(ACTIVITY_TIMEOUT, append).await.is_err() {
            tracing::warn!(%workspace, "activity was not kept: the database is away, or far behind");
        }
    }

    /// Stores a row of activity and publishes it. When this returns, the row is durable.
    ///
    /// # Errors
    /// If its workspace isn't there, or it can't be stored.
    pub async fn log(&self, row: ActivityRow, event: Event) -> Result<(), FleetError> {
        let id = row.workspace_id;
        let change = Change::of(InsertActivity(vec![row])).require(WorkspaceIsLive(id));
        match self.state().commit(change.with_event(id, event)).await {
            Ok(_) => Ok(()),
            Err(CommitError::PreconditionFailed(_)) => Err(FleetError::NotFound),
            Err(error) => Err(FleetError::Commit(error)),
        }
    }

    /// Deletes activity that is older than this.
    pub async fn forget_activity(&self, age: chrono::Duration) {
        match self.store().delete_activity_before(store::now() - age).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old activity deleted"),
            Err(error) => tracing::warn!(%error, "old activity could not be deleted"),
        }
    }
}
