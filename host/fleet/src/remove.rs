//! Removal of workspaces: first the rows, all at once, so that nothing late revives them; then the
//! containers with what they stored; and, with a purge, every row about them.

use std::time::Duration;

use store::{
    Change,
    workspaces::{Container, Hosting, PurgeWorkspaces, WorkspaceRow},
};
use types::WorkspaceId;

use crate::{
    error::WorkspaceError,
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

/// Why a workspace was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The workspace has children, and their removal was not confirmed.
    #[error("the workspace has children")]
    HasChildren {
        /// Ids and names of the children.
        children: Vec<(WorkspaceId, String)>,
    },
    /// The workspaces are removed, but some containers could not be stopped. A repeated request retries.
    #[error("workspace marked removed, but {} stop call(s) failed — please retry", failures.len())]
    NotStopped {
        /// Workspaces that were removed.
        removed: usize,
        /// Workspaces whose containers could not be stopped.
        failures: Vec<WorkspaceId>,
    },
    /// The workspace could not be read or changed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

impl Fleet {
    /// Removes a workspace and its descendants. For one that is removed already, waits once more until its
    /// containers are gone. Returns how many descendants there were.
    ///
    /// # Errors
    /// If there is no such workspace, it has children and the removal isn't confirmed, or containers could
    /// not be stopped; in the last case the rows are removed all the same.
    pub async fn remove(&self, id: WorkspaceId, removal: Removal) -> Result<usize, RemoveError> {
        let cascade = if self.workspaces().get(id).is_some() {
            Some(self.mark_removed(id, removal.confirmed).await?)
        } else {
            let found = self.find(id).await.map_err(WorkspaceError::Store)?;
            found.ok_or(WorkspaceError::NotFound)?;
            None
        };
        let mut all = self.store().removed_below(id).await.map_err(WorkspaceError::Store)?;
        // Descendants that were removed before are waited for and purged with the others, but not counted
        // twice.
        let descendants = cascade.filter(|_| !removal.purge).unwrap_or(all.len());
        all.push(id);
        self.wait_until_absent(&all).await?;
        if removal.purge {
            let purged = all.clone();
            let change = Change::of(PurgeWorkspaces(all));
            self.state().commit(change).await.map_err(WorkspaceError::Commit)?;
            self.credentials().evict_inbound_secrets(&purged);
        }
        Ok(descendants)
    }

    pub(crate) async fn mark_removed(&self, id: WorkspaceId, confirmed: bool) -> Result<usize, RemoveError> {
        let removed = self.change(|fleet: &Self| {
            fleet.live(id)?;
            let children = fleet.workspaces().children(Some(id));
            if !children.is_empty() && !confirmed {
                let children = children.iter().map(|child| (child.row.id, child.row.name.clone())).collect();
                return Err(RemoveError::HasChildren { children });
            }
            let below = fleet.workspaces().descendants(id).len();
            let change = fleet.removal_of(&[id]);
            Ok(Planned { change, done: below })
        });
        match removed.await {
            // Another request removed it meanwhile, which is what this one asked for.
            Err(RemoveError::Workspace(WorkspaceError::NotFound))
                if self.find(id).await.map_err(WorkspaceError::Store)?.is_some() =>
            {
                Ok(0)
            }
            removed => removed,
        }
    }

    /// Waits until none of these workspaces has a container. The reconciler stops them.
    async fn wait_until_absent(&self, ids: &[WorkspaceId]) -> Result<(), RemoveError> {
        if self.inner.backend.is_none() {
            return Ok(());
        }
        ids.iter().for_each(|id| self.inner.work.enqueue(*id));
        let gone = |row: &WorkspaceRow| {
            row.hosting != Hosting::Container || matches!(row.container, Container::None | Container::Absent)
        };
        let rows = self.wait_for(ids, STOP_TIMEOUT, gone).await.map_err(WorkspaceError::Store)?;
        let failures: Vec<WorkspaceId> = rows.iter().filter(|row| !gone(row)).map(|row| row.id).collect();
        if failures.is_empty() {
            Ok(())
        } else {
            Err(RemoveError::NotStopped { removed: ids.len(), failures })
        }
    }
}
