//! Removal of workspaces: first the rows, all at once, so that nothing late revives them; then the
//! containers with what they stored; and, with a purge, every row about them.

use std::time::Duration;

use store::{
    Change,
    workspaces::{Container, Hosting, PurgeWorkspaces, WorkspaceRow},
};
use types::WorkspaceId;

use crate::{
    error::FleetError,
    fleet::{Fleet, Planned},
};

/// How long an answer waits for containers to be gone.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of a removal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Removal {
    /// Children are removed, too. Without it, a workspace with children is refused.
    pub confirmed: bool,
    /// Every row about the workspaces is deleted.
    pub purge: bool,
}

impl Fleet {
    /// Removes a workspace and its descendants. For one that is removed already, waits once more until its
    /// containers are gone. Returns how many descendants there were.
    ///
    /// # Errors
    /// If there is no such workspace, it has children and the removal isn't confirmed, or containers could
    /// not be stopped; in the last case the rows are removed all the same.
    pub async fn remove(&self, id: WorkspaceId, removal: Removal) -> Result<usize, FleetError> {
        let cascade = if self.directory().get(id).is_some() {
            Some(self.mark_removed(id, removal.confirmed).await?)
        } else {
            self.find(id).await?.ok_or(FleetError::NotFound)?;
            None
        };
        let mut all = self.store().removed_below(id).await?;
        // Descendants that were removed before are waited for and purged with the others, but not counted
        // twice.
        let descendants = cascade.filter(|_| !removal.purge).unwrap_or(all.len());
        all.push(id);
        self.wait_until_absent(&all).await?;
        if removal.purge {
            let purged = all.clone();
            let change = Change::of(PurgeWorkspaces(all));
            self.state().commit(change).await.map_err(FleetError::Commit)?;
            self.credentials().evict_inbound_secrets(&purged);
        }
        Ok(descendants)
    }

    pub(crate) async fn mark_removed(&self, id: WorkspaceId, confirmed: bool) -> Result<usize, FleetError> {
        let removed = self.change(|fleet: &Self| {
            fleet.live(id)?;
            let children = fleet.directory().children(Some(id));
            if !children.is_empty() && !confirmed {
                let children = children.iter().map(|child| (child.row.id, child.row.name.clone())).collect();
                return Err(FleetError::HasChildren { children });
            }
            let below = fleet.directory().descendants(id).len();
            let change = fleet.removal_of(&[id])?;
            Ok(Planned { change, done: below })
        });
        match removed.await {
            // Another request removed it meanwhile, which is what this one asked for.
            Err(FleetError::NotFound) if self.find(id).await?.is_some() => Ok(0),
            removed => removed,
        }
    }

    /// Waits until none of these workspaces has a container. The reconciler stops them.
    async fn wait_until_absent(&self, ids: &[WorkspaceId]) -> Result<(), FleetError> {
        if self.inner.backend.is_none() {
            return Ok(());
        }
        ids.iter().for_each(|id| self.inner.work.enqueue(*id));
        let gone = |row: &WorkspaceRow| {
            row.hosting != Hosting::Container || matches!(row.container, Container::None | Container::Absent)
        };
        let rows = self.wait_for(ids, STOP_TIMEOUT, gone).await?;
        let failures: Vec<WorkspaceId> = rows.iter().filter(|row| !gone(row)).map(|row| row.id).collect();
        if failures.is_empty() {
            Ok(())
        } else {
            Err(FleetError::NotStopped { removed: ids.len(), failures })
        }
    }
}
