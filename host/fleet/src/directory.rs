//! The directory: every live workspace, in memory, so that reading, access checks and routing need no
//! database.
//!
//! It is a cache and never the truth. It is written in two ways only: by the writer's own changes, in
//! the order in which they were made, before anybody hears of them; and, for changes of other servers,
//! from rows read again when their events arrive. A row older than the one at hand never replaces it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use chrono::{DateTime, Utc};
use store::{
    Change,
    layouts::{DeleteLayouts, LayoutRow, PutLayouts},
    presence::PresenceRow,
    workspaces::{LoadedWorkspace, PurgeWorkspaces, Status, WorkspaceRow, rows_written},
};
use uuid::Uuid;

use crate::limits::ACCESS_LEVELS;

/// A workspace as the directory has it. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Workspace {
    /// Its row.
    pub row: Arc<WorkspaceRow>,
    /// Its place on the canvas, if it has one.
    pub layout: Option<LayoutRow>,
    /// What its agent said last, if it said anything.
    pub presence: Option<Arc<PresenceRow>>,
}

/// Oldest first; ids tell apart what was made at once.
type Place = (DateTime<Utc>, Uuid);

/// Every live workspace.
#[derive(Debug, Default)]
pub struct Directory {
    image: RwLock<Image>,
}

#[derive(Debug, Default)]
struct Image {
    by_id: HashMap<Uuid, Arc<Workspace>>,
    in_order: BTreeMap<Place, Arc<Workspace>>,
    /// Children by parent; roots below none.
    children: HashMap<Option<Uuid>, BTreeSet<Place>>,
    /// What was removed while this process runs: some 70 bytes each.
    removed: HashMap<Uuid, Gone>,
}

/// What is remembered of a removed workspace.
#[derive(Debug, Clone, Copy)]
struct Gone {
    /// At which revision, so that no older row brings it back.
    revision: i64,
    /// When its row was last written. One that was made later is another one with the same id.
    at: DateTime<Utc>,
    /// What it was below, so that those around it hear of its end.
    parent: Option<Uuid>,
}

impl From<LoadedWorkspace> for Workspace {
    fn from(loaded: LoadedWorkspace) -> Self {
        Self { row: Arc::new(loaded.row), layout: loaded.layout, presence: loaded.presence.map(Arc::new) }
    }
}

impl Workspace {
    /// A workspace of which there is nothing but its row.
    #[must_use]
    pub fn of(row: WorkspaceRow) -> Self {
        Self { row: Arc::new(row), layout: None, presence: None }
    }

    /// Takes over a presence, unless the one at hand is newer.
    fn hear(&mut self, presence: PresenceRow) {
        let newest = self.presence.as_deref().cloned().unwrap_or_default().after(presence);
        self.presence = Some(Arc::new(newest));
    }

    fn place(&self) -> Place {
        (self.row.created_at, self.row.id)
    }
}

impl Directory {
    // === Reading ===

    /// A live workspace.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<Arc<Workspace>> {
        self.read().by_id.get(&id).cloned()
    }

    /// Every live workspace, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Workspace>> {
        self.read().in_order.values().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its children, oldest first; roots, for none.
    #[must_use]
    pub fn children(&self, parent: Option<Uuid>) -> Vec<Arc<Workspace>> {
        self.read().children_of(parent)
    }

    /// Everything below it, parents before their children.
    #[must_use]
    pub fn descendants(&self, id: Uuid) -> Vec<Arc<Workspace>> {
        let image = self.read();
        let mut found = image.children_of(Some(id));
        let mut known: HashSet<Uuid> = found.iter().map(|child| child.row.id).collect();
        let mut next = 0;
        while let Some(parent) = found.get(next).map(|workspace| workspace.row.id) {
            next += 1;
            let children = image.children_of(Some(parent));
            found.extend(children.into_iter().filter(|child| known.insert(child.row.id)));
        }
        found
    }

    /// Those above it, its parent first.
    #[must_use]
    pub fn ancestors(&self, id: Uuid) -> Vec<Arc<Workspace>> {
        let image = self.read();
        let mut above = Vec::new();
        let mut at = image.by_id.get(&id);
        while let Some(parent) = at.and_then(|workspace| workspace.row.parent_id) {
            at = image.by_id.get(&parent);
            match at {
                Some(workspace) if above.len() < image.by_id.len() => above.push(Arc::clone(workspace)),
                _ => break,
            }
        }
        above
    }

    /// The nearest one above it that is paused.
    #[must_use]
    pub fn paused_above(&self, id: Uuid) -> Option<Arc<Workspace>> {
        self.ancestors(id).into_iter().find(|above| above.row.status == Status::Paused)
    }

    /// May the two talk to each other? The same one; siblings (roots are siblings); or one somewhere
    /// above the other. Removed and unknown ones talk to nobody but themselves.
    #[must_use]
    pub fn may_talk(&self, one: Uuid, other: Uuid) -> bool {
        let image = self.read();
        if one == other {
            return !image.removed.contains_key(&one);
        }
        let (Some(a), Some(b)) = (image.by_id.get(&one), image.by_id.get(&other)) else {
            return false;
        };
        a.row.parent_id == b.row.parent_id || image.is_above(one, b) || image.is_above(other, a)
    }

    /// May `listener` hear of what happens to `about`? Those may who may talk to it, or could until it was
    /// removed.
    #[must_use]
    pub fn may_hear(&self, listener: Uuid, about: Uuid) -> bool {
        if listener == about {
            return true;
        }
        let image = self.read();
        let (Some(one), Some(other)) =
            (image.parent_even_of_gone(listener), image.parent_even_of_gone(about))
        else {
            return false;
        };
        one == other || image.was_above(listener, other) || image.was_above(about, one)
    }

    // === Writing ===

    /// Takes over what a change wrote.
    pub fn apply(&self, change: &Change) {
        let mut image = self.write();
        for mutation in change.mutations() {
            for row in rows_written(mutation) {
                image.put_row(row.clone());
            }
            if let Some(PutLayouts(layouts)) = mutation.downcast_ref() {
                for layout in layouts {
                    image.change(layout.workspace_id, |workspace| workspace.layout = Some(*layout));
                }
            } else if let Some(DeleteLayouts(ids)) = mutation.downcast_ref() {
                for id in ids {
                    image.change(*id, |workspace| workspace.layout = None);
                }
            } else if let Some(PurgeWorkspaces(ids)) = mutation.downcast_ref() {
                for id in ids {
                    image.remove(*id);
                }
            }
        }
    }

    /// Takes over rows that were read. `asked` are the ids that were asked for: who isn't among the
    /// rows is gone.
    pub fn refresh(&self, asked: &[Uuid], rows: Vec<LoadedWorkspace>) {
        let mut image = self.write();
        let found: HashSet<Uuid> = rows.iter().map(|loaded| loaded.row.id).collect();
        for gone in asked.iter().filter(|id| !found.contains(id)) {
            // Purged, if it was known: nothing that was read before may bring it back.
            if let Some(known) = image.by_id.get(gone).cloned() {
                let (at, parent) = (known.row.updated_at, known.row.parent_id);
                image.remove(*gone);
                image.removed.insert(*gone, Gone { revision: i64::MAX, at, parent });
            }
        }
        for loaded in rows {
            let (id, layout, presence) = (loaded.row.id, loaded.layout, loaded.presence);
            if image.put_row(loaded.row) {
                image.change(id, |workspace| workspace.layout = layout);
            }
            if let Some(presence) = presence {
                image.change(id, |workspace| workspace.hear(presence));
            }
        }
    }

    /// Takes over what an agent said. When it sent its last message it doesn't say, so that stays.
    pub fn put_presence(&self, mut presence: PresenceRow) {
        self.write().change(presence.workspace_id, |workspace| {
            let known = workspace.presence.as_ref().and_then(|known| known.last_outbound_at);
            presence.last_outbound_at = presence.last_outbound_at.max(known);
            workspace.presence = Some(Arc::new(presence));
        });
    }

    /// Takes over that an agent sent a message.
    pub(crate) fn put_outbound(&self, id: Uuid, at: DateTime<Utc>) {
        self.write().change(id, |workspace| {
            let nothing = || Arc::new(PresenceRow { workspace_id: id, ..PresenceRow::default() });
            let presence = workspace.presence.get_or_insert_with(nothing);
            Arc::make_mut(presence).last_outbound_at = Some(at);
        });
    }

    /// Takes over what an agent said to another server, if that is newer than what is known. Is it?
    pub(crate) fn put_newer_presence(&self, presence: PresenceRow) -> bool {
        let mut newer = false;
        self.write().change(presence.workspace_id, |workspace| {
            let known = workspace.presence.as_ref().and_then(|known| known.last_seen_at);
            newer = presence.last_seen_at > known;
            workspace.hear(presence);
        });
        newer
    }

    /// Replaces everything. For the start.
    pub fn load(&self, rows: Vec<LoadedWorkspace>) {
        let mut image = Image::default();
        image.by_id.reserve(rows.len());
        for loaded in rows {
            if loaded.row.status != Status::Removed {
                image.insert(Arc::new(loaded.into()));
            }
        }
        *self.write() = image;
    }

    fn read(&self) -> RwLockReadGuard<'_, Image> {
        self.image.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Image> {
        self.image.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Image {
    fn children_of(&self, parent: Option<Uuid>) -> Vec<Arc<Workspace>> {
        let places = self.children.get(&parent).into_iter().flatten();
        places.filter_map(|place| self.in_order.get(place)).cloned().collect()
    }

    fn is_above(&self, upper: Uuid, lower: &Workspace) -> bool {
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

    /// The parent of a workspace, live or removed; none at all for one that isn't known.
    fn parent_even_of_gone(&self, id: Uuid) -> Option<Option<Uuid>> {
        let live = self.by_id.get(&id).map(|workspace| workspace.row.parent_id);
        live.or_else(|| self.removed.get(&id).map(|gone| gone.parent))
    }

    /// Is or was `upper` the one `lower`, or somewhere above it?
    fn was_above(&self, upper: Uuid, lower: Option<Uuid>) -> bool {
        let mut at = lower;
        for _ in 0..ACCESS_LEVELS {
            match at {
                Some(id) if id == upper => return true,
                Some(id) => at = self.parent_even_of_gone(id).flatten(),
                None => return false,
            }
        }
        false
    }

    /// Takes over a row if it is newer than what is known. Was it?
    fn put_row(&mut self, row: WorkspaceRow) -> bool {
        let known = self.by_id.get(&row.id).map(|workspace| workspace.row.revision);
        let gone = || self.removed.get(&row.id).filter(|gone| row.created_at <= gone.at);
        let known = known.or_else(|| gone().map(|gone| gone.revision));
        if known.is_some_and(|revision| revision >= row.revision) {
            return false;
        }
        if row.status == Status::Removed {
            self.remove(row.id);
            let gone = Gone { revision: row.revision, at: row.updated_at, parent: row.parent_id };
            self.removed.insert(row.id, gone);
            return false;
        }
        self.removed.remove(&row.id);
        let mut workspace = match self.by_id.get(&row.id) {
            Some(known) => Workspace::clone(known),
            None => Workspace::of(row.clone()),
        };
        workspace.row = Arc::new(row);
        self.remove(workspace.row.id);
        self.insert(Arc::new(workspace));
        true
    }

    fn change(&mut self, id: Uuid, change: impl FnOnce(&mut Workspace)) {
        let Some(known) = self.by_id.get_mut(&id) else {
            return;
        };
        change(Arc::make_mut(known));
        let place = known.place();
        self.in_order.insert(place, Arc::clone(known));
    }

    fn insert(&mut self, workspace: Arc<Workspace>) {
        let place = workspace.place();
        self.children.entry(workspace.row.parent_id).or_default().insert(place);
        self.in_order.insert(place, Arc::clone(&workspace));
        self.by_id.insert(place.1, workspace);
    }

    fn remove(&mut self, id: Uuid) {
        let Some(workspace) = self.by_id.remove(&id) else {
            return;
        };
        self.in_order.remove(&workspace.place());
        if let Some(siblings) = self.children.get_mut(&workspace.row.parent_id) {
            siblings.remove(&workspace.place());
            if siblings.is_empty() {
                self.children.remove(&workspace.row.parent_id);
            }
        }
    }
}
