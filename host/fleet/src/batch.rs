//! Many workspaces in one change: all new ones are inserted and all others removed, or nothing happens.

use std::collections::HashSet;

use events::{Event, definitions::Provisioning};
use state::MAX_ATTEMPTS;
use store::{
    Change,
    layouts::{DeleteLayouts, LayoutRow, PutLayouts},
    secrets::{PutSecrets, SecretRow},
    setups::{DeleteSetups, InsertSetups, SetupRow},
    tokens::{RevokeTokensOf, RevokedBy},
    workspaces::{InsertWorkspaces, NoOtherChildren, PausedAbove, WorkspaceIsLive},
};
use types::WorkspaceId;

use crate::{
    error::WorkspaceError,
    fleet::{Fleet, Planned, transitions},
    machine::Input,
    new_row::NewWorkspaceRow,
};

/// A workspace to be inserted with others.
#[derive(Debug, Clone)]
pub struct BatchEntry {
    /// The workspace.
    pub workspace: NewWorkspaceRow,
    /// Position on the canvas …
    pub absolute: (f64, f64),
    /// … and relative to its parent, as clients see it.
    pub relative: (f64, f64),
    /// Its secrets, sealed.
    pub secrets: Vec<SecretRow>,
    /// Its setup, if it has one.
    pub setup: Option<SetupRow>,
}

/// What a batch does, planned on the index.
#[derive(Debug)]
pub struct BatchPlan<T> {
    /// To be inserted: parents before their children.
    pub entries: Vec<BatchEntry>,
    /// To be removed, with everything below them.
    pub removed: Vec<WorkspaceId>,
    /// Published before all others.
    pub before: Vec<Event>,
    /// Published after all others.
    pub after: Vec<Event>,
    /// What to return.
    pub done: T,
}

impl Fleet {
    /// Inserts and removes workspaces, all or none. `plan` is called again when another change was earlier:
    /// with a name, with a parent, with anything that the plan relied on.
    ///
    /// # Errors
    /// If it can't be stored; then nothing happened, except after
    /// [`CommitError::OutcomeUnknown`](store::CommitError::OutcomeUnknown).
    pub async fn apply_batch<T>(&self, plan: impl Fn(&Self) -> BatchPlan<T>) -> Result<T, WorkspaceError> {
        for _ in 0..MAX_ATTEMPTS {
            let planned = |fleet: &Self| Ok(fleet.batch(plan(fleet)));
            match self.change(planned).await {
                // Changes of this server are in the index already; those of others may not be.
                Err(WorkspaceError::NameTaken) => self.state().refresh(&[]).await?,
                done => return done,
            }
        }
        Err(WorkspaceError::Contended)
    }

    fn batch<T>(&self, plan: BatchPlan<T>) -> Planned<T> {
        // Removals come first: their names may be taken by new workspaces.
        let mut change = self.removal_of(&plan.removed);
        let new: HashSet<WorkspaceId> = plan.entries.iter().map(|entry| entry.workspace.id).collect();
        let parents = plan.entries.iter().filter_map(|entry| entry.workspace.parent_id);
        let existing: HashSet<WorkspaceId> = parents.filter(|parent| !new.contains(parent)).collect();
        for parent in existing {
            change.push_precondition(WorkspaceIsLive(parent));
            change.push_precondition(self.paused_above(parent));
        }

        let mut events: Vec<_> = plan.before.into_iter().map(|event| (None, event)).collect();
        let mut paused: HashSet<WorkspaceId> = HashSet::new();
        let (mut rows, mut layouts) = (Vec::new(), Vec::new());
        let (mut secrets, mut setups) = (Vec::new(), Vec::new());
        for entry in plan.entries {
            let (x, y) = entry.absolute;
            let parent = entry.workspace.parent_id;
            let below_paused =
                parent.is_some_and(|parent| paused.contains(&parent) || self.workspaces().is_paused(parent));
            let begun = self.begin(entry.workspace.row(), below_paused);
            let row = begun.row;
            if below_paused {
                paused.insert(row.id);
            }
            for event in begun.events {
                let event = match event {
                    Event::WorkspaceProvisioning(_) => Event::WorkspaceProvisioning(Provisioning::Imported {
                        name: row.name.clone(),
                        parent_id: row.parent_id,
                        runtime: row.runtime.clone(),
                        tier: row.tier,
                        x: entry.relative.0,
                        y: entry.relative.1,
                    }),
                    event => event,
                };
                events.push((Some(row.id), event));
            }
            layouts.push(LayoutRow { workspace_id: row.id, x, y, collapsed: false });
            secrets.extend(entry.secrets);
            setups.extend(entry.setup);
            rows.push(row);
        }
        change.push(InsertWorkspaces(rows));
        change.push(PutLayouts(layouts));
        change.push(PutSecrets(secrets));
        change.push(InsertSetups(setups));
        events.append(&mut change.events);
        events.extend(plan.after.into_iter().map(|event| (None, event)));
        change.events = events;
        Planned { change, done: plan.done }
    }

    /// What the index says of pauses above new or moved workspaces must hold when they are committed.
    pub(crate) fn paused_above(&self, parent: WorkspaceId) -> PausedAbove {
        PausedAbove { id: parent, is_paused: self.workspaces().is_paused(parent) }
    }

    /// The removal of these workspaces and everything below them; unknown and removed ones are left out.
    pub(crate) fn removal_of(&self, roots: &[WorkspaceId]) -> Change {
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for root in roots.iter().filter_map(|id| self.workspaces().get(*id)) {
            let below = self.workspaces().descendants(root.row.id);
            let input = Input::Remove { cascade: Some(below.len()) };
            let below = below.into_iter().map(|it| (it, Input::Remove { cascade: None }));
            all.extend(below.chain([(root, input)]).filter(|(it, _)| seen.insert(it.row.id)));
        }
        if all.is_empty() {
            return Change::default();
        }
        let rows = all.iter().map(|(workspace, input)| (workspace.row.as_ref(), input.clone()));
        let mut change = transitions(rows, store::now());
        let ids: Vec<WorkspaceId> = all.iter().map(|(workspace, _)| workspace.row.id).collect();
        change.push_precondition(NoOtherChildren(ids.clone()));
        change.push(DeleteLayouts(ids.clone()));
        change.push(DeleteSetups(ids.clone()));
        change.push(RevokeTokensOf { workspaces: ids, by: RevokedBy::Removal });
        change
    }
}
