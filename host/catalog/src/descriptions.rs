//! What adapters say of their runtimes, kept while they are out of service: names and aliases belong to the guest's
//! row, so that no workspace gets another runtime because a guest was away for a minute.
//!
//! The row holds what the last accepted release says. A change of releases or settings stores it in the same
//! transaction; what such a change did not store (a first-party release that came with a start, rows of an earlier
//! version) is stored when a server has the release in service.

use std::{collections::BTreeMap, sync::Arc};

use wasm::{World, adapter::Description};

use crate::{
    Catalog, CatalogError,
    guest::{Guest, Record},
    runtimes::{Known, Runtimes},
};

/// The runtime may be that of a guest whose names are not known: it is not replaced by another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not known yet whether there is a runtime {runtime}: guest {guest} is not in service (isomer guest show {guest}); \
     try again later, or push a release of it, or delete it (isomer guest delete {guest})"
)]
pub struct UndecidedRuntime {
    runtime: String,
    guest: String,
}

impl Record {
    /// What the release says that was accepted last.
    pub(crate) fn held_description(&self) -> Option<Description> {
        serde_json::from_value(self.row.description.clone()?).ok()
    }

    /// Whether a release answers for every name that is the guest's: another one is no way back, for its names would
    /// replace these.
    pub(crate) fn keeps_names(&self, said: Option<&Description>) -> bool {
        let Some(held) = self.held_description() else { return true };
        held.names().all(|name| said.is_some_and(|said| said.names().any(|other| other == name)))
    }

    /// Mirrors what [`accept`] did to the row that was committed.
    pub(crate) fn accept(&mut self, description: Option<&Description>) {
        accept(&mut self.row, description);
    }
}

/// Notes in a row what the release says that it is committed with, if that is an adapter.
pub(crate) fn accept(row: &mut store::guests::GuestRow, description: Option<&Description>) {
    if let Some(said) = description.and_then(|said| serde_json::to_value(said).ok()) {
        row.description = Some(said);
    }
}

impl Guest {
    /// What its adapter says of its runtime: in service, else as its row holds it.
    pub(crate) fn description(&self) -> Option<Arc<Description>> {
        let in_service = self.active.load().as_ref().and_then(|active| active.description.clone());
        in_service.or_else(|| self.read().held_description().map(Arc::new))
    }
}

impl Catalog {
    /// Whether it is decided which runtime a name stands for. Known names are.
    ///
    /// # Errors
    /// If the name may be that of a guest that was in service once, and what that guest answered for is not known yet.
    pub fn check_decided(&self, runtime: &str) -> Result<(), UndecidedRuntime> {
        if self.inner.runtimes.load().is_known(runtime) {
            return Ok(());
        }
        let guests = self.inner.guests.load();
        match guests.values().find(|guest| names_are_unknown(guest)) {
            Some(guest) => {
                Err(UndecidedRuntime { runtime: runtime.trim().to_owned(), guest: guest.name.clone() })
            }
            None => Ok(()),
        }
    }

    /// Gives runtimes the guests that they belong to: those that are in service, and those that were.
    pub(crate) fn index_runtimes(&self) {
        let mut known = BTreeMap::new();
        let mut add = |guest: &Guest, names: &Description, description: &Arc<Description>| {
            for name in names.names() {
                let owner = || Known { guest: guest.name.clone(), description: Arc::clone(description) };
                known.entry(name.to_owned()).or_insert_with(owner);
            }
        };
        let guests = self.inner.guests.load();
        let in_service =
            |guest: &Guest| guest.active.load().as_ref().and_then(|active| active.description.clone());
        for guest in guests.values() {
            if let Some(description) = in_service(guest) {
                add(guest, &description, &description);
            }
        }
        // Disabled ones last: another one with the same name is to be in service.
        let mut out_of_service: Vec<&Arc<Guest>> = guests.values().collect();
        out_of_service.sort_by_key(|guest| !guest.read().row.enabled);
        for guest in out_of_service {
            if let Some(held) = guest.read().held_description().map(Arc::new) {
                add(guest, &held, &held);
            }
        }
        self.inner.runtimes.store(Arc::new(Runtimes::new(&self.inner.manifest, known)));
        self.inner.changed.send_modify(|changes| *changes += 1);
    }

    /// Stores what the active release says, if the row says something else. An earlier one that answers meanwhile on
    /// this server says nothing of the guest.
    pub(crate) async fn store_description(&self, guest: &Arc<Guest>) {
        let in_service = || guest.active.load().as_ref().and_then(|active| active.description.clone());
        self.hold(guest, || in_service().filter(|_| !guest.is_behind())).await;
    }

    /// Learns what a guest answers for that is out of service, and whose row does not say it.
    pub(crate) async fn learn_description(&self, guest: &Arc<Guest>) {
        if !names_are_unknown(guest) {
            return;
        }
        let (row, last) = {
            let record = guest.read();
            (record.row.clone(), record.last_active().map(|release| release.digest.clone()))
        };
        let Some(last) = last else { return };
        match self.load_active(&row, &last).await {
            Ok(validated) => {
                let said = validated.description.map(Arc::new);
                self.hold(guest, || said.clone().filter(|_| names_are_unknown(guest))).await;
            }
            Err(CatalogError::Stopping) => {}
            Err(error) => {
                if !error.is_the_hosts_fault() {
                    guest.set_unlearnable();
                }
                let error = &error as &dyn std::error::Error;
                tracing::warn!(guest = guest.name, error, "the runtimes of a guest are not known");
            }
        }
    }

    /// Whether what a guest answers for is still to be learned, because the host failed when it was tried.
    pub(crate) fn is_to_be_learned(guest: &Guest) -> bool {
        guest.is_prepared() && names_are_unknown(guest) && !guest.is_unlearnable()
    }

    /// Stores a description in the row. `said` is asked when no other change is under way: one that came first may have
    /// stored another.
    async fn hold(&self, guest: &Arc<Guest>, said: impl Fn() -> Option<Arc<Description>>) {
        loop {
            let change = self.inner.changes.lock().await;
            let Some(said) = said() else { return };
            let description = &*said;
            let mut row = {
                let record = guest.read();
                if record.held_description().as_ref() == Some(description) {
                    return;
                }
                record.row.clone()
            };
            accept(&mut row, Some(description));
            let refreshed = match self.commit(guest, row, Vec::new()).await {
                Ok(()) => {
                    guest.write().accept(Some(description));
                    self.index_runtimes();
                    return;
                }
                Err(CatalogError::Superseded) => {
                    drop(change);
                    self.refresh(&guest.name).await
                }
                Err(CatalogError::NoGuest) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = refreshed {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    guest = guest.name,
                    error,
                    "what a guest says of its runtime could not be stored; the next start tries again"
                );
                return;
            }
        }
    }
}

/// Whether an adapter was in service once, and neither answers nor left in its row what it answered for.
fn names_are_unknown(guest: &Guest) -> bool {
    guest.world() == World::Adapter && guest.active.load().is_none() && !guest.is_deleted() && {
        let record = guest.read();
        record.last_active().is_some() && record.held_description().is_none()
    }
}
