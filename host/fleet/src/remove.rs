//! Removing workspaces: first the rows, all at once, so that nothing late revives them; then the
//! containers; and, where it was asked for, everything that is remembered of them.

use std::time::Duration;

use store::{
    Change,
    workspaces::{Container, Hosting, PurgeWorkspaces, WorkspaceRow},
};
use uuid::Uuid;

use crate::{
    error::FleetError,
    fleet::{Fleet, Planned},
};

/// How long an answer waits for containers to be gone.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How a removal is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Removal {
    /// Its children go too.
    pub confirmed: bool,
    /// Everything that is remembered goes too.
    pub purge: bool,
}

impl Fleet {
    /// Removes a workspace and everything below it. Asking again about one that is removed sees to it
    /// once more that containers are gone. Returns how many descendants there were.
    ///
    /// # Errors
    /// If it isn't there, has children and nobody confirmed, or containers could not be stopped; in the
    /// last case the rows are removed all the same.
    pub async fn remove(&self, id: Uuid, removal: Removal) -> Result<usize, FleetError> {
        let cascade = if self.directory().get(id).is_some() {
            Some(self.mark_removed(id, removal.confirmed).await?)
        } else {
            self.find(id).await?.ok_or(FleetError::NotFound)?;
            None
        };
        let mut all = self.inner.store.removed_below(id).await?;
        // Those that were removed before are seen to and purged with the others, but not counted twice.
        let descendants = cascade.filter(|_| !removal.purge).unwrap_or(all.len());
        all.push(id);
        self.see_them_gone(&all).await?;
        if removal.purge {
            let purged = all.clone();
            let change = Change::of(PurgeWorkspaces(all));
            self.commit(change).await.map_err(FleetError::Commit)?;
            self.inner.inbound.forget(&purged);
        }
        Ok(descendants)
    }

    pub(crate) async fn mark_removed(&self, id: Uuid, confirmed: bool) -> Result<usize, FleetError> {
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
            // Somebody else removed it between our looking and our doing: that is what was wanted.
            Err(FleetError::NotFound) if self.find(id).await?.is_some() => Ok(0),
            removed => removed,
        }
    }

    /// Waits until no container of these runs. The reconciler does the stopping.
    async fn see_them_gone(&self, ids: &[Uuid]) -> Result<(), FleetError> {
        if self.inner.backend.is_none() {
            return Ok(());
        }
        ids.iter().for_each(|id| self.inner.pokes.poke(*id));
        let gone = |row: &WorkspaceRow| {
            row.hosting != Hosting::Container || matches!(row.container, Container::None | Container::Absent)
        };
        let rows = self.wait_for(ids, STOP_PATIENCE, gone).await?;
        let failures: Vec<Uuid> = rows.iter().filter(|row| !gone(row)).map(|row| row.id).collect();
        if failures.is_empty() {
            Ok(())
        } else {
            Err(FleetError::NotStopped { removed: ids.len(), failures })
        }
    }
}
