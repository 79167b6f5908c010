//! Deletion of guests whose runtimes no workspace has.
//!
//! The row, its releases and components that nothing else uses go in one transaction, which holds only while no
//! workspace has a runtime of the guest. Files are deleted afterwards, by each server; what a server leaves
//! that is killed in between, or was away, its next start finds (`component_cache`).

use std::{collections::BTreeSet, sync::Arc};

use events::GuestChange;
use store::CommitError;
use wasm::World;

use crate::{Catalog, CatalogError, bootstrap::StoredGuest, embedded, guest::Guest, runtimes::FALLBACK};

impl Catalog {
    /// Deletes a guest with its releases.
    ///
    /// # Errors
    /// If it comes with this binary, or a workspace or the host needs a runtime that it answers for.
    pub async fn delete_guest(&self, name: &str, by: &str) -> Result<(), CatalogError> {
        loop {
            let guest = self.guest(name)?;
            if embedded::is_first_party(name) {
                return Err(CatalogError::FirstParty(name.to_owned()));
            }
            self.guest_ready(name).await;
            let row = guest.read().row.clone();
            let runtimes = self.runtimes_of(&guest).await;
            if runtimes.iter().any(|runtime| runtime == FALLBACK) {
                return Err(CatalogError::AnswersForFallback);
            }
            let change = self.inner.changes.lock().await;
            if guest.is_deleted() || guest.read().row != row {
                continue;
            }
            match self.inner.store.delete_guest(row, runtimes.clone()).await {
                Ok(()) => {}
                Err(CommitError::Conflict) => {
                    drop(change);
                    self.refresh(name).await?;
                    continue;
                }
                Err(CommitError::PreconditionFailed(_)) => {
                    drop(change);
                    match self.inner.store.workspace_of_runtimes(&runtimes).await? {
                        Some((workspace, runtime)) => return Err(CatalogError::InUse { runtime, workspace }),
                        // Removed meanwhile.
                        None => continue,
                    }
                }
                Err(error) => return Err(error.into()),
            }
            let digests = self.forget(&guest);
            drop(change);
            self.evict_deleted(&digests).await;
            self.emit(name, GuestChange::GuestDeleted, None, Some(by), None);
            return Ok(());
        }
    }

    /// Names and aliases of the runtimes that a guest answers for, or would if it were enabled, except those
    /// that another guest answers for.
    async fn runtimes_of(&self, guest: &Arc<Guest>) -> Vec<String> {
        if guest.world() != World::Adapter {
            return Vec::new();
        }
        self.learn_description(guest).await;
        let names: BTreeSet<String> = match guest.description() {
            Some(description) => description.names().map(str::to_owned).collect(),
            // The usual one.
            None => BTreeSet::from([guest.name.clone()]),
        };
        let runtimes = self.inner.runtimes.load();
        let is_its = |name: &String| runtimes.guest(name).is_none_or(|answers| answers == guest.name);
        names.into_iter().filter(is_its).collect()
    }

    /// Drops a guest that the database no longer has, to be called with the lock on changes held. Returns the
    /// digests of its releases.
    fn forget(&self, guest: &Arc<Guest>) -> Vec<String> {
        self.inner.guests.rcu(|guests| {
            let mut guests = guests.as_ref().clone();
            if guests.get(&guest.name).is_some_and(|known| Arc::ptr_eq(known, guest)) {
                guests.remove(&guest.name);
            }
            guests
        });
        guest.set_deleted();
        self.index_runtimes();
        guest.read().releases.iter().map(|release| release.digest.clone()).collect()
    }

    /// Follows a deletion by another server: `known` is what this one had before it read that the database has
    /// `stored` in its place.
    pub(crate) async fn replace_deleted(&self, known: &Arc<Guest>, stored: Option<StoredGuest>) {
        let change = self.inner.changes.lock().await;
        // A change made here meanwhile is newer.
        if known.is_deleted() {
            return;
        }
        let digests = self.forget(known);
        if let Some(guest) = stored.and_then(|(row, releases)| Guest::stored(row, releases)) {
            self.insert(&Arc::new(guest));
        }
        drop(change);
        self.evict_deleted(&digests).await;
    }
}
