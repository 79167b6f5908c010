//! Many workspaces in one change: all of them are made and all others removed, or nothing happens.

use std::collections::{BTreeMap, HashSet};

use events::{Event, catalogue::Provisioning};
use store::{
    Change, Check, CommitError, Write, secrets::SecretRow, tokens::RevokedBy, workspaces::LayoutRow,
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
    /// [`CommitError::Unknown`](store::CommitError::Unknown).
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
        change.checks.extend(existing.into_iter().map(Check::Live));

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
        change.writes.extend([
            Write::InsertWorkspaces(rows),
            Write::PutLayouts(layouts),
            Write::PutSecrets(secrets),
        ]);
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
        change.checks.push(Check::NoOtherChildren(ids.clone()));
        change.writes.push(Write::DeleteLayouts(ids.clone()));
        change.writes.push(Write::RevokeTokensOf { workspaces: ids, by: RevokedBy::Removal });
        Ok(change)
    }

    /// Records events that no change of a workspace goes with.
    ///
    /// # Errors
    /// If they can't be stored.
    pub async fn record(&self, events: Vec<Event>) -> Result<(), CommitError> {
        let events = events.into_iter().map(|event| (None, event)).collect();
        self.commit(Change { events, ..Change::default() }).await.map(drop)
    }

    /// Secrets of a workspace as rows.
    ///
    /// # Errors
    /// If one can't be sealed.
    pub fn seal_secrets(
        &self,
        workspace: Uuid,
        secrets: BTreeMap<String, String>,
    ) -> Result<Vec<SecretRow>, FleetError> {
        let now = store::now();
        let seal = |(key, value): (String, String)| {
            let sealed = self.inner.cipher.seal(value.as_bytes());
            let sealed = sealed.map_err(|source| FleetError::Seal { key: key.clone(), source })?;
            Ok(SecretRow {
                workspace_id: Some(workspace),
                key,
                value: sealed.bytes,
                version: sealed.version,
                created_at: now,
                updated_at: now,
            })
        };
        secrets.into_iter().map(seal).collect()
    }

    /// What must not lie open in the database, sealed with the platform's key.
    ///
    /// # Errors
    /// If it can't be.
    pub fn seal(&self, plain: &[u8]) -> Result<store::Sealed, store::CipherError> {
        self.inner.cipher.seal(plain)
    }

    /// Names of the settings that everybody has and that say something.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn global_settings(&self) -> Result<HashSet<String>, store::StoreError> {
        let rows = self.inner.store.global_secrets().await?;
        // One that can't be opened is there all the same; its user will be told.
        let says = |row: &SecretRow| {
            self.inner.cipher.open(&row.value, row.version).map_or(true, |plain| !plain.is_empty())
        };
        Ok(rows.into_iter().filter(says).map(|row| row.key).collect())
    }

    /// Tier of a workspace for which nothing says one.
    #[must_use]
    pub fn default_tier(&self) -> i32 {
        if self.inner.saas { 4 } else { 3 }
    }

    /// Is an agent at this address one that we may call?
    ///
    /// # Errors
    /// Says why not.
    pub async fn check_agent_url(&self, url: &str) -> Result<(), crate::agent_url::UrlError> {
        crate::agent_url::AgentUrl::check(url, self.inner.saas).await.map(drop)
    }
}
