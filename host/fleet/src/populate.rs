//! Many workspaces in one change: all of them are made and all others removed, or nothing happens.

use std::collections::HashSet;

use events::{Event, catalogue::Provisioning};
use store::{
    Change,
    layouts::{DeleteLayouts, LayoutRow, PutLayouts},
    secrets::{PutSecrets, SecretRow},
    tokens::{RevokeTokensOf, RevokedBy},
    workspaces::{InsertWorkspaces, NoOtherChildren, WorkspaceIsLive},
};
use uuid::Uuid;

use crate::{
    blueprint::Blueprint,
    error::FleetError,
    fleet::{Fleet, Planned, TRIES, transitions},
    machine::Input,
};

/// A workspace to be made with others.
#[derive(Debug, Clone)]
pub struct Settler {
    /// What it is to be.
    pub blueprint: Blueprint,
    /// Its place on the canvas …
    pub absolute: (f64, f64),
    /// … and seen from its parent, as clients are told.
    pub relative: (f64, f64),
    /// Its secrets, sealed.
    pub secrets: Vec<SecretRow>,
}

/// What is to happen, planned on what is in memory.
#[derive(Debug)]
pub struct Population<T> {
    /// Made: parents before their children.
    pub settlers: Vec<Settler>,
    /// Removed, with everything below them.
    pub removed: Vec<Uuid>,
    /// Told before all of it.
    pub before: Vec<Event>,
    /// Told after all of it.
    pub after: Vec<Event>,
    /// What to answer.
    pub done: T,
}

impl Fleet {
    /// Makes and removes workspaces, all or none. `plan` is asked again when somebody was quicker: with
    /// a name, with a parent, with anything that it relied on.
    ///
    /// # Errors
    /// If it can't be stored; then nothing happened, except after
    /// [`CommitError::OutcomeUnknown`](store::CommitError::OutcomeUnknown).
    pub async fn populate<T>(&self, plan: impl Fn(&Self) -> Population<T>) -> Result<T, FleetError> {
        for _ in 0..TRIES {
            let planned = |fleet: &Self| fleet.as_change(plan(fleet));
            match self.change(planned).await {
                // Own changes are in memory already; those of other servers may not be.
                Err(FleetError::NameTaken) => self.read_again(&[]).await?,
                done => return done,
            }
        }
        Err(FleetError::Contended)
    }

    fn as_change<T>(&self, population: Population<T>) -> Result<Planned<T>, FleetError> {
        let mut change = self.removal_of(&population.removed)?;
        let new: HashSet<Uuid> = population.settlers.iter().map(|settler| settler.blueprint.id).collect();
        let parents = population.settlers.iter().filter_map(|settler| settler.blueprint.parent_id);
        let existing: HashSet<Uuid> = parents.filter(|parent| !new.contains(parent)).collect();
        existing.into_iter().for_each(|parent| change.push_precondition(WorkspaceIsLive(parent)));

        let mut told: Vec<(Option<Uuid>, Event)> =
            population.before.into_iter().map(|event| (None, event)).collect();
        let (mut rows, mut layouts, mut secrets) = (Vec::new(), Vec::new(), Vec::new());
        for settler in population.settlers {
            let (x, y) = settler.absolute;
            let begun = self.begin(settler.blueprint.row());
            let row = begun.row;
            for event in begun.events {
                let event = match event {
                    Event::WorkspaceProvisioning(_) => Event::WorkspaceProvisioning(Provisioning::Imported {
                        name: row.name.clone(),
                        parent_id: row.parent_id,
                        runtime: row.runtime.clone(),
                        tier: row.tier,
                        x: settler.relative.0,
                        y: settler.relative.1,
                    }),
                    event => event,
                };
                told.push((Some(row.id), event));
            }
            layouts.push(LayoutRow { workspace_id: row.id, x, y, collapsed: false });
            secrets.extend(settler.secrets);
            rows.push(row);
        }
        // First those that go: their names may be wanted.
        change.push(InsertWorkspaces(rows));
        change.push(PutLayouts(layouts));
        change.push(PutSecrets(secrets));
        told.append(&mut change.events);
        told.extend(population.after.into_iter().map(|event| (None, event)));
        change.events = told;
        Ok(Planned { change, done: population.done })
    }

    /// The removal of these and everything below them; those that are gone already are left out.
    pub(crate) fn removal_of(&self, roots: &[Uuid]) -> Result<Change, FleetError> {
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for root in roots.iter().filter_map(|id| self.directory().get(*id)) {
            let below = self.directory().descendants(root.row.id);
            let input = Input::Remove { cascade: Some(below.len()) };
            let below = below.into_iter().map(|it| (it, Input::Remove { cascade: None }));
            all.extend(below.chain([(root, input)]).filter(|(it, _)| seen.insert(it.row.id)));
        }
        if all.is_empty() {
            return Ok(Change::default());
        }
        let rows = all.iter().map(|(workspace, input)| (workspace.row.as_ref(), input.clone()));
        let mut change = transitions(rows, store::now());
        let ids: Vec<Uuid> = all.iter().map(|(workspace, _)| workspace.row.id).collect();
        change.push_precondition(NoOtherChildren(ids.clone()));
        change.push(DeleteLayouts(ids.clone()));
        change.push(RevokeTokensOf { workspaces: ids, by: RevokedBy::Removal });
        Ok(change)
    }
}
