//! The workspace index: every live workspace, in memory, so that reading, access checks and routing need
//! no database.
//!
//! It is a cache, written in two ways only: by the writer's commits, in their order, before their events
//! are published; and, for commits of other servers, from rows read again when their events arrive. A row
//! older than the known one never replaces it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use events::Envelope;
use store::{
    Change, Store, StoreError,
    layouts::{DeleteLayouts, LayoutRow, PutLayouts},
    presence::PresenceRow,
    workspaces::{InsertWorkspaces, LoadedWorkspace, PurgeWorkspaces, Status, WorkspaceRow, rows_written},
};
use types::WorkspaceId;

use crate::{index::Index, local_times::LocalTimes};

/// Levels of the tree that access checks look up at most.
const ACCESS_LEVELS: usize = 32;

/// A live workspace. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Workspace {
    /// From `workspaces`.
    pub row: Arc<WorkspaceRow>,
    /// From `layouts`.
    pub layout: Option<LayoutRow>,
    /// From `presence`, or newer: what its agent last reported.
    pub presence: Option<Arc<PresenceRow>>,
}

/// Oldest first; ids break ties.
type SortKey = (DateTime<Utc>, WorkspaceId);

/// Every live workspace.
#[derive(Debug, Default)]
pub struct WorkspaceIndex {
    rows: RwLock<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    by_id: HashMap<WorkspaceId, Arc<Workspace>>,
    in_order: BTreeMap<SortKey, Arc<Workspace>>,
    /// Of live workspaces.
    times: HashMap<WorkspaceId, LocalTimes>,
    /// Children by parent; roots under `None`.
    children: HashMap<Option<WorkspaceId>, BTreeSet<SortKey>>,
    /// Removed while this process runs: some 70 bytes each.
    removed: HashMap<WorkspaceId, Tombstone>,
}

/// A removed workspace.
#[derive(Debug, Clone, Copy)]
struct Tombstone {
    /// The last revision: no older row brings it back.
    revision: i64,
    /// When its row was last written. A row created later is another workspace with the same id.
    at: DateTime<Utc>,
    /// Its parent, so that its relatives can observe its end.
    parent: Option<WorkspaceId>,
}

impl From<LoadedWorkspace> for Workspace {
    fn from(loaded: LoadedWorkspace) -> Self {
        Self { row: Arc::new(loaded.row), layout: loaded.layout, presence: loaded.presence.map(Arc::new) }
    }
}

impl Workspace {
    /// A workspace without layout and presence.
    #[must_use]
    pub fn of(row: WorkspaceRow) -> Self {
        Self { row: Arc::new(row), layout: None, presence: None }
    }

    /// Takes over a presence, unless the known one is newer.
    fn merge_presence(&mut self, presence: PresenceRow) {
        let newest = self.presence.as_deref().cloned().unwrap_or_default().after(presence);
        self.presence = Some(Arc::new(newest));
    }

    fn sort_key(&self) -> SortKey {
        (self.row.created_at, self.row.id)
    }
}

impl WorkspaceIndex {
    // === Reading ===

    /// A live workspace.
    #[must_use]
    pub fn get(&self, id: WorkspaceId) -> Option<Arc<Workspace>> {
        self.read().by_id.get(&id).cloned()
    }

    /// Every live workspace, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Workspace>> {
        self.read().in_order.values().cloned().collect()
    }

    /// The times of a live workspace by this server's own clock.
    #[must_use]
    pub fn local_times(&self, id: WorkspaceId) -> Option<LocalTimes> {
        self.read().times.get(&id).copied()
    }

    /// When the youngest live workspace was created.
    #[must_use]
    pub fn last_created_at(&self) -> Option<DateTime<Utc>> {
        self.read().in_order.last_key_value().map(|((created_at, _), _)| *created_at)
    }

    /// Number of live workspaces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// Whether there is no live workspace.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The children of a workspace, oldest first; the roots for `None`.
    #[must_use]
    pub fn children(&self, parent: Option<WorkspaceId>) -> Vec<Arc<Workspace>> {
        self.read().children_of(parent)
    }

    /// All workspaces below this one, parents before their children.
    #[must_use]
    pub fn descendants(&self, id: WorkspaceId) -> Vec<Arc<Workspace>> {
        let rows = self.read();
        let mut found = rows.children_of(Some(id));
        let mut known: HashSet<WorkspaceId> = found.iter().map(|child| child.row.id).collect();
        let mut next = 0;
        while let Some(parent) = found.get(next).map(|workspace| workspace.row.id) {
            next += 1;
            let children = rows.children_of(Some(parent));
            found.extend(children.into_iter().filter(|child| known.insert(child.row.id)));
        }
        found
    }

    /// All workspaces above this one, its parent first.
    #[must_use]
    pub fn ancestors(&self, id: WorkspaceId) -> Vec<Arc<Workspace>> {
        let rows = self.read();
        let mut above = Vec::new();
        let mut at = rows.by_id.get(&id);
        while let Some(parent) = at.and_then(|workspace| workspace.row.parent_id) {
            at = rows.by_id.get(&parent);
            match at {
                Some(workspace) if above.len() < rows.by_id.len() => above.push(Arc::clone(workspace)),
                _ => break,
            }
        }
        above
    }

    /// The nearest ancestor that is paused.
    #[must_use]
    pub fn paused_above(&self, id: WorkspaceId) -> Option<Arc<Workspace>> {
        self.ancestors(id).into_iter().find(|above| above.row.status == Status::Paused)
    }

    /// Whether a workspace or one above it is paused: then nothing below it runs.
    #[must_use]
    pub fn is_paused(&self, id: WorkspaceId) -> bool {
        let is_paused = self.get(id).is_some_and(|workspace| workspace.row.status == Status::Paused);
        is_paused || self.paused_above(id).is_some()
    }

    /// Can the two communicate? They can when they are the same, siblings (roots are siblings), or one is an
    /// ancestor of the other. Unknown workspaces can communicate with themselves only, removed ones with none.
    #[must_use]
    pub fn can_communicate(&self, one: WorkspaceId, other: WorkspaceId) -> bool {
        let rows = self.read();
        if one == other {
            return !rows.removed.contains_key(&one);
        }
        let (Some(a), Some(b)) = (rows.by_id.get(&one), rows.by_id.get(&other)) else {
            return false;
        };
        a.row.parent_id == b.row.parent_id || rows.is_above(one, b) || rows.is_above(other, a)
    }

    /// Can `observer` see the events of `about`? It can when the two can communicate, or could until one was
    /// removed.
    #[must_use]
    pub fn can_observe(&self, observer: WorkspaceId, about: WorkspaceId) -> bool {
        if observer == about {
            return true;
        }
        let rows = self.read();
        let (Some(one), Some(other)) =
            (rows.parent_even_of_removed(observer), rows.parent_even_of_removed(about))
        else {
            return false;
        };
        one == other || rows.was_above(observer, other) || rows.was_above(about, one)
    }

    // === Writing ===

    /// Takes over the rows that were read for these ids. An id without a row was purged.
    pub(crate) fn refresh_rows(&self, ids: &[WorkspaceId], read: Vec<LoadedWorkspace>) {
        let mut rows = self.write();
        let found: HashSet<WorkspaceId> = read.iter().map(|loaded| loaded.row.id).collect();
        for id in ids.iter().filter(|id| !found.contains(id)) {
            // Purged, if it was known: no row that was read before may bring it back.
            if let Some(known) = rows.by_id.get(id).cloned() {
                let (at, parent) = (last_written(&known.row), known.row.parent_id);
                rows.remove(*id);
                rows.removed.insert(*id, Tombstone { revision: i64::MAX, at, parent });
            }
        }
        for loaded in read {
            let (id, layout, presence) = (loaded.row.id, loaded.layout, loaded.presence);
            if rows.put_row(loaded.row) {
                rows.change(id, |workspace| workspace.layout = layout);
            }
            if let Some(presence) = presence {
                rows.put_newer_presence(id, presence);
            }
        }
    }

    /// Takes over what an agent reported. A report does not include the time of its last message, so that stays.
    pub fn put_presence(&self, mut presence: PresenceRow) {
        let (id, seen) = (presence.workspace_id, presence.last_seen_at);
        let mut rows = self.write();
        rows.change(id, |workspace| {
            let known = workspace.presence.as_ref().and_then(|known| known.last_outbound_at);
            presence.last_outbound_at = presence.last_outbound_at.max(known);
            workspace.presence = Some(Arc::new(presence));
        });
        if let Some(times) = rows.times.get_mut(&id) {
            times.saw(seen);
        }
    }

    /// Takes over that an agent sent a message.
    pub fn put_outbound(&self, id: WorkspaceId, at: DateTime<Utc>) {
        self.write().change(id, |workspace| {
            let nothing = || Arc::new(PresenceRow { workspace_id: id, ..PresenceRow::default() });
            let presence = workspace.presence.get_or_insert_with(nothing);
            Arc::make_mut(presence).last_outbound_at = Some(at);
        });
    }

    /// Takes over what an agent reported to another server, if it is newer than what is known. Is it?
    pub fn put_newer_presence(&self, presence: PresenceRow) -> bool {
        self.write().put_newer_presence(presence.workspace_id, presence)
    }

    /// Replaces everything, at start.
    pub fn load(&self, loaded: Vec<LoadedWorkspace>) {
        let mut rows = Rows::default();
        rows.by_id.reserve(loaded.len());
        for loaded in loaded {
            if loaded.row.status != Status::Removed {
                let times = LocalTimes::of_stored(&loaded.row, loaded.presence.as_ref());
                rows.times.insert(loaded.row.id, times);
                rows.insert(Arc::new(loaded.into()));
            }
        }
        *self.write() = rows;
    }

    fn read(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rows> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Times of creation run ahead of the clock where that stands still or goes back.
fn last_written(row: &WorkspaceRow) -> DateTime<Utc> {
    row.updated_at.max(row.created_at)
}

#[async_trait]
impl Index for WorkspaceIndex {
    fn apply(&self, change: &Change) {
        let mut rows = self.write();
        for mutation in change.mutations() {
            if let Some(InsertWorkspaces(inserted)) = mutation.downcast_ref() {
                // An id that was purged may be used again, by a clock that was set back meanwhile.
                for row in inserted {
                    rows.removed.remove(&row.id);
                }
            }
            for row in rows_written(mutation) {
                rows.put_row(row.clone());
            }
            if let Some(PutLayouts(layouts)) = mutation.downcast_ref() {
                for layout in layouts {
                    rows.change(layout.workspace_id, |workspace| workspace.layout = Some(*layout));
                }
            } else if let Some(DeleteLayouts(ids)) = mutation.downcast_ref() {
                for id in ids {
                    rows.change(*id, |workspace| workspace.layout = None);
                }
            } else if let Some(PurgeWorkspaces(ids)) = mutation.downcast_ref() {
                for id in ids {
                    rows.remove(*id);
                }
            }
        }
    }

    async fn refresh(&self, store: &Store, events: &[Arc<Envelope>]) -> Result<(), StoreError> {
        let ids: BTreeSet<WorkspaceId> = events.iter().filter_map(|event| event.workspace_id()).collect();
        let ids: Vec<WorkspaceId> = ids.into_iter().collect();
        self.refresh_rows(&ids, store.workspaces(&ids).await?);
        Ok(())
    }
}

impl Rows {
    fn children_of(&self, parent: Option<WorkspaceId>) -> Vec<Arc<Workspace>> {
        let keys = self.children.get(&parent).into_iter().flatten();
        keys.filter_map(|key| self.in_order.get(key)).cloned().collect()
    }

    fn is_above(&self, upper: WorkspaceId, lower: &Workspace) -> bool {
        let mut at = lower.row.parent_id;
        for _ in 0..ACCESS_LEVELS {
            match at {
                Some(id) if id == upper => return true,
                Some(id) => at = self.by_id.get(&id).and_then(|workspace| workspace.row.parent_id),
                None => return false,
            }
        }
        false
    }

    /// The parent of a workspace, live or removed; the outer `None` for an unknown one.
    fn parent_even_of_removed(&self, id: WorkspaceId) -> Option<Option<WorkspaceId>> {
        let live = self.by_id.get(&id).map(|workspace| workspace.row.parent_id);
        live.or_else(|| self.removed.get(&id).map(|tombstone| tombstone.parent))
    }

    /// Whether `upper` is or was `lower` or an ancestor of it.
    fn was_above(&self, upper: WorkspaceId, lower: Option<WorkspaceId>) -> bool {
        let mut at = lower;
        for _ in 0..ACCESS_LEVELS {
            match at {
                Some(id) if id == upper => return true,
                Some(id) => at = self.parent_even_of_removed(id).flatten(),
                None => return false,
            }
        }
        false
    }

    /// Takes over a row if it is newer than the known one. Is it?
    fn put_row(&mut self, row: WorkspaceRow) -> bool {
        let known = self.by_id.get(&row.id).map(|workspace| workspace.row.revision);
        let tombstone = || self.removed.get(&row.id).filter(|tombstone| row.created_at <= tombstone.at);
        let known = known.or_else(|| tombstone().map(|tombstone| tombstone.revision));
        if known.is_some_and(|revision| revision >= row.revision) {
            return false;
        }
        if row.status == Status::Removed {
            self.remove(row.id);
            let tombstone =
                Tombstone { revision: row.revision, at: last_written(&row), parent: row.parent_id };
            self.removed.insert(row.id, tombstone);
            return false;
        }
        self.removed.remove(&row.id);
        let known = self.by_id.get(&row.id);
        let known_times = known.and_then(|known| Some((known.row.as_ref(), *self.times.get(&row.id)?)));
        let times = LocalTimes::of_written(&row, known_times);
        let mut workspace = match known {
            Some(known) => Workspace::clone(known),
            None => Workspace::of(row.clone()),
        };
        workspace.row = Arc::new(row);
        self.remove(workspace.row.id);
        self.times.insert(workspace.row.id, times);
        self.insert(Arc::new(workspace));
        true
    }

    /// Takes over a presence that was reported to another server, if it is newer than the known one. Is it?
    fn put_newer_presence(&mut self, id: WorkspaceId, presence: PresenceRow) -> bool {
        let (seen, mut newer) = (presence.last_seen_at, false);
        self.change(id, |workspace| {
            let known = workspace.presence.as_ref().and_then(|known| known.last_seen_at);
            newer = presence.last_seen_at > known;
            workspace.merge_presence(presence);
        });
        if let (true, Some(times), Some(seen)) = (newer, self.times.get_mut(&id), seen) {
            times.heard(seen);
        }
        newer
    }

    fn change(&mut self, id: WorkspaceId, change: impl FnOnce(&mut Workspace)) {
        let Some(known) = self.by_id.get_mut(&id) else {
            return;
        };
        change(Arc::make_mut(known));
        let key = known.sort_key();
        self.in_order.insert(key, Arc::clone(known));
    }

    fn insert(&mut self, workspace: Arc<Workspace>) {
        let key = workspace.sort_key();
        self.children.entry(workspace.row.parent_id).or_default().insert(key);
        self.in_order.insert(key, Arc::clone(&workspace));
        self.by_id.insert(key.1, workspace);
    }

    fn remove(&mut self, id: WorkspaceId) {
        let Some(workspace) = self.by_id.remove(&id) else {
            return;
        };
        self.times.remove(&id);
        self.in_order.remove(&workspace.sort_key());
        if let Some(siblings) = self.children.get_mut(&workspace.row.parent_id) {
            siblings.remove(&workspace.sort_key());
            if siblings.is_empty() {
                self.children.remove(&workspace.row.parent_id);
            }
        }
    }
}
