//! Editing a workspace: all of an edit or nothing.

use catalog::UndecidedRuntime;
use store::{
    Change, WorkspaceEvent,
    layouts::{LayoutRow, PutLayouts},
    workspaces::{Hosting, NoCycle, NoOtherChildren, UpdateWorkspaces, WorkspaceIsLive, WorkspaceRow},
};
use types::WorkspaceId;

use crate::{
    Workspace,
    error::WorkspaceError,
    event,
    fleet::{Fleet, Planned},
    machine::{self, Input},
    rules::{self, FieldError, InvalidDirectory},
};

/// Changes to a workspace. `None` leaves a field; `Some(None)` clears it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// What people call it.
    pub name: Option<String>,
    /// What it is for.
    pub role: Option<Option<String>>,
    /// 1 to 4.
    pub tier: Option<i64>,
    /// What runs in it.
    pub runtime: Option<String>,
    /// The workspace above it.
    pub parent_id: Option<Option<String>>,
    /// Directory of the host that it works in.
    pub workspace_dir: Option<Option<String>>,
    /// Minutes without work until it is hibernated; 0 counts as none.
    pub hibernation_idle_minutes: Option<Option<i64>>,
    /// Whether its children are hidden on the canvas.
    pub collapsed: Option<bool>,
    /// Its place on the canvas.
    pub position: Option<(f64, f64)>,
}

/// Outcome of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited {
    /// The agent sees the change after a restart only.
    pub needs_restart: bool,
}

/// Why a workspace was not edited. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A field is invalid.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The host directory is not allowed.
    #[error(transparent)]
    Directory(#[from] InvalidDirectory),
    /// The parent doesn't exist.
    #[error("parent workspace not found")]
    NoParent,
    /// The workspace would be its own ancestor.
    #[error("parent_id would create a cycle")]
    Cycle,
    /// The other runtime has another hosting.
    #[error("the runtime can't change from {from} to {to} hosting; create a new workspace instead")]
    OtherHosting {
        /// Present hosting.
        from: Hosting,
        /// Hosting of the other runtime.
        to: Hosting,
    },
    /// It is not known yet whether the runtime exists.
    #[error(transparent)]
    Undecided(#[from] UndecidedRuntime),
    /// The workspace could not be read or changed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

impl Edit {
    /// Keys that are changed, as clients write them.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let keys = [
            ("name", self.name.is_some()),
            ("role", self.role.is_some()),
            ("tier", self.tier.is_some()),
            ("runtime", self.runtime.is_some()),
            ("parent_id", self.parent_id.is_some()),
            ("workspace_dir", self.workspace_dir.is_some()),
            ("hibernation_idle_minutes", self.hibernation_idle_minutes.is_some()),
            ("collapsed", self.collapsed.is_some()),
            ("x", self.position.is_some()),
            ("y", self.position.is_some()),
        ];
        keys.into_iter().filter(|(_, is)| *is).map(|(key, _)| key.to_owned()).collect()
    }

    /// The first key that takes admin rights.
    #[must_use]
    pub fn admin_key(&self) -> Option<&'static str> {
        let keys = [
            ("tier", self.tier.is_some()),
            ("parent_id", self.parent_id.is_some()),
            ("runtime", self.runtime.is_some()),
            ("workspace_dir", self.workspace_dir.is_some()),
            ("hibernation_idle_minutes", self.hibernation_idle_minutes.is_some()),
        ];
        keys.into_iter().find(|(_, is)| *is).map(|(key, _)| key)
    }
}

impl Fleet {
    /// Edits a workspace.
    ///
    /// # Errors
    /// If there is no such workspace, or a value is invalid; then nothing is changed.
    pub async fn edit(&self, id: WorkspaceId, edit: Edit) -> Result<Edited, EditError> {
        let needs_restart = edit.workspace_dir.is_some();
        if let Some(ready) = edit.runtime.as_deref().and_then(|runtime| self.inner.runtimes.ready(runtime)) {
            ready.await;
        }
        self.change(|fleet: &Self| {
            let workspace = fleet.live(id)?;
            let keys = edit.keys();
            let mut change = Change::default();
            if !keys.is_empty() {
                let row = fleet.edited(&workspace.row, &edit, &mut change)?;
                // Nothing below a paused workspace runs, so what is moved there is paused.
                let parent = edit.parent_id.is_some().then_some(row.parent_id).flatten();
                let paused = parent.filter(|parent| fleet.workspaces().is_paused(*parent));
                // Written even if only the layout changes: other servers go by the row's revision.
                let mut rows = vec![row.revised(store::now())];
                let mut events = Vec::new();
                if paused.is_some() {
                    change.push_precondition(fleet.pause_moved(&mut rows, &mut events));
                }
                change.push(UpdateWorkspaces(rows));
                if let Some(layout) = laid_out(&workspace, &edit) {
                    change.push(PutLayouts(vec![layout]));
                }
                change.events.push((Some(id), event::updated(keys)));
                change.events.extend(events);
            }
            Ok(Planned { change, done: Edited { needs_restart } })
        })
        .await
    }

    /// Pauses the one moved row, and adds the rows below it, paused. Returns that these are all.
    fn pause_moved(&self, rows: &mut Vec<WorkspaceRow>, events: &mut Vec<WorkspaceEvent>) -> NoOtherChildren {
        let now = store::now();
        let Some(moved) = rows.pop() else { return NoOtherChildren(Vec::new()) };
        let below = self.workspaces().descendants(moved.id);
        let all = std::iter::once(moved.id).chain(below.iter().map(|workspace| workspace.row.id)).collect();
        let mut pause = |row: &WorkspaceRow| {
            let paused = machine::apply(row, &Input::Pause, now)?;
            events.extend(paused.events.into_iter().map(|event| (Some(row.id), event)));
            Some(paused.row)
        };
        // The transition counts one revision more than what is written.
        let revision = moved.revision;
        let paused = pause(&moved).map(|row| WorkspaceRow { revision, ..row });
        rows.push(paused.unwrap_or(moved));
        rows.extend(below.iter().filter_map(|workspace| pause(&workspace.row)));
        NoOtherChildren(all)
    }

    fn edited(
        &self,
        row: &WorkspaceRow,
        edit: &Edit,
        change: &mut Change,
    ) -> Result<WorkspaceRow, EditError> {
        let mut row = row.clone();
        if let Some(name) = &edit.name {
            rules::name(name)?;
            row.name.clone_from(name);
        }
        if let Some(role) = &edit.role {
            let role = role.clone().filter(|role| !role.is_empty());
            role.as_deref().map_or(Ok(()), rules::role)?;
            row.role = role;
        }
        if let Some(tier) = edit.tier {
            row.tier = rules::tier(tier)?;
        }
        // The same again is no change, whatever has become of its adapter.
        if let Some(runtime) = edit.runtime.as_ref().filter(|runtime| runtime.trim() != row.runtime) {
            rules::runtime(runtime)?;
            self.inner.runtimes.check_decided(runtime)?;
            let runtime = self.inner.runtimes.sanitize(runtime);
            let hosting = self.inner.runtimes.info(&runtime).hosting;
            if runtime != row.runtime && hosting != row.hosting {
                return Err(EditError::OtherHosting { from: row.hosting, to: hosting });
            }
            row.runtime = runtime;
        }
        if let Some(dir) = &edit.workspace_dir {
            let dir = dir.clone().filter(|dir| !dir.is_empty());
            dir.as_deref().map_or(Ok(()), |dir| self.host_directories().check(dir))?;
            if dir.is_none() {
                row.workspace_access = rules::WorkspaceAccess::None;
            }
            row.workspace_dir = dir;
        }
        if let Some(minutes) = edit.hibernation_idle_minutes {
            row.hibernation_idle_minutes = rules::hibernation_idle_minutes(minutes)?;
        }
        if let Some(parent) = &edit.parent_id {
            row.parent_id = self.new_parent(row.id, parent.as_deref(), change)?;
        }
        Ok(row)
    }

    fn new_parent(
        &self,
        id: WorkspaceId,
        parent: Option<&str>,
        change: &mut Change,
    ) -> Result<Option<WorkspaceId>, EditError> {
        let Some(parent) = parent.filter(|parent| !parent.is_empty()) else {
            return Ok(None);
        };
        let parent = WorkspaceId::parse(parent).map_err(|_| EditError::NoParent)?;
        let directory = self.workspaces();
        if directory.get(parent).is_none() {
            return Err(EditError::NoParent);
        }
        if parent == id || directory.ancestors(parent).iter().any(|above| above.row.id == id) {
            return Err(EditError::Cycle);
        }
        change.push_precondition(WorkspaceIsLive(parent));
        change.push_precondition(NoCycle { child: id, parent });
        change.push_precondition(self.paused_above(parent));
        Ok(Some(parent))
    }
}

fn laid_out(workspace: &Workspace, edit: &Edit) -> Option<LayoutRow> {
    if edit.position.is_none() && edit.collapsed.is_none() {
        return None;
    }
    let workspace_id = workspace.row.id;
    let known = workspace.layout.unwrap_or(LayoutRow { workspace_id, x: 0.0, y: 0.0, collapsed: false });
    let (x, y) = edit.position.unwrap_or((known.x, known.y));
    let collapsed = edit.collapsed.unwrap_or(known.collapsed);
    Some(LayoutRow { workspace_id, x, y, collapsed })
}
