//! The steps that changes are made of: loading a release, validating it, committing the change, and
//! the swap after which the release answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use events::{GuestChange, GuestEvent};
use store::{
    CommitError,
    guests::{GuestRow, PutGuest, ReleaseMutation, ReleaseState},
};
use wasm::{Component, Digest, FailureKind, Settings, World, adapter::Description};

use crate::{
    Catalog, CatalogError,
    breaker::Breaker,
    conformance,
    descriptions::accept,
    guest::{ActiveRelease, Guest},
    lifecycle::same_world,
};

/// Numbers what is put into service, from 1.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// A component that passed its probes with these settings and this trust.
pub(crate) struct Validated {
    pub(crate) component: Component,
    pub(crate) settings: Settings,
    pub(crate) trusted: bool,
    pub(crate) description: Option<Description>,
}

impl Validated {
    /// Whether settings or trust changed while the probes ran, or the guest's world was bound to another one.
    pub(crate) fn is_outdated(&self, guest: &Guest) -> bool {
        let record = guest.read();
        if record.bound_world().is_some_and(|world| world != self.component.world()) {
            return true;
        }
        let settings = Settings::new(&record.row.settings, usize::MAX);
        record.row.trusted != self.trusted || settings.as_ref() != Ok(&self.settings)
    }
}

impl Catalog {
    /// The component of a release of `guest`: one that is in service already, else from the AOT cache, else compiled.
    pub(crate) async fn load_release(&self, guest: &str, digest: &str) -> Result<Component, CatalogError> {
        let Ok(digest) = digest.parse::<Digest>() else { return Err(CatalogError::NoRelease) };
        let in_service = || {
            self.inner.guests.load().values().find_map(|guest| {
                let active = guest.active.load();
                let active = active.as_ref().filter(|active| active.component.digest() == digest)?;
                Some(active.component.per_call())
            })
        };
        match in_service() {
            Some(component) => Ok(component),
            None => self.load_stored(guest, digest).await,
        }
    }

    pub(crate) async fn validate(&self, guest: &Guest, digest: &str) -> Result<Validated, CatalogError> {
        let (row, world) = {
            let record = guest.read();
            (record.row.clone(), record.bound_world())
        };
        self.validate_as(&row, world, digest).await
    }

    /// Loads and probes a release with the settings and the trust of `row`, and the world of the guest if that
    /// is bound.
    pub(crate) async fn validate_as(
        &self,
        row: &GuestRow,
        world: Option<World>,
        digest: &str,
    ) -> Result<Validated, CatalogError> {
        let component = self.load_release(&row.name, digest).await?;
        if let Some(world) = world {
            same_world(&row.name, world.as_str(), &component)?;
        }
        let settings = Settings::new(&row.settings, self.limits().settings_bytes)?;
        let mut found = conformance::probe(&component, &settings, row.trusted, self.limits()).await;
        if let Some(failure) = found.unsure.take() {
            if let (FailureKind::Timeout, Some(reason)) = (failure.kind(), found.reason()) {
                return Err(CatalogError::ProbesTimedOut { reason });
            }
            let (failure, release, report) = (Box::new(failure), digest.to_owned(), Box::default());
            return Err(CatalogError::Failed { failure, release, report });
        }
        match found.reason() {
            None => {
                Ok(Validated { component, settings, trusted: row.trusted, description: found.description })
            }
            Some(reason) => Err(CatalogError::Unfit { reason, conformance: Box::new(found) }),
        }
    }

    /// Refuses a release that would answer for a runtime that belongs to another guest, in service or not. A name that
    /// the rows of both have, since an earlier version allowed it, is that of the one in service.
    pub(crate) fn check_runtime_names(
        &self,
        guest: &Guest,
        validated: &Validated,
    ) -> Result<(), CatalogError> {
        let runtimes = self.inner.runtimes.load();
        let own = guest.read().held_description();
        let is_own = |name: &str| own.as_ref().is_some_and(|own| own.names().any(|held| held == name));
        let answers = |other: &str| self.guest(other).is_ok_and(|other| other.active.load().is_some());
        for name in validated.description.iter().flat_map(Description::names) {
            let other = runtimes.guest(name).filter(|&other| other != guest.name);
            if let Some(other) = other.filter(|other| !is_own(name) || answers(other)) {
                return Err(CatalogError::NameTaken { name: name.to_owned(), guest: other.to_owned() });
            }
        }
        Ok(())
    }

    /// Stores a change of a guest, to be called with the lock on changes held. What answers stays.
    ///
    /// # Errors
    /// [`CatalogError::Superseded`] if another server changed the guest: [`Catalog::refresh`] it then,
    /// without the lock. [`CatalogError::NoGuest`] if it was deleted.
    pub(crate) async fn commit(
        &self,
        guest: &Guest,
        row: GuestRow,
        releases: Vec<ReleaseMutation>,
    ) -> Result<(), CatalogError> {
        if guest.is_deleted() {
            return Err(CatalogError::NoGuest);
        }
        match self.inner.store.commit_guests(vec![PutGuest { row, releases }]).await {
            Ok(()) => {
                guest.set_committed();
                Ok(())
            }
            Err(CommitError::Conflict) => Err(CatalogError::Superseded),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes `digest` active again in place of `from`, which takes the state and reason `replaced`.
    pub(crate) async fn restore(
        &self,
        guest: &Arc<Guest>,
        from: Option<&str>,
        digest: &str,
        replaced: (ReleaseState, Option<&str>),
    ) -> Result<(), CatalogError> {
        loop {
            let validated = self.validate(guest, digest).await?;
            let change = self.inner.changes.lock().await;
            if guest.active_digest().as_deref() != from {
                return Err(CatalogError::Superseded);
            }
            if guest.read().release(digest).is_none() {
                return Err(CatalogError::NoRelease);
            }
            if validated.is_outdated(guest) {
                continue;
            }
            self.check_runtime_names(guest, &validated)?;
            // A way back that no operator chose.
            if replaced.0 == ReleaseState::Rejected
                && !guest.read().keeps_names(validated.description.as_ref())
            {
                return Err(CatalogError::OtherRuntimes);
            }
            let mut row = guest.read().row.clone();
            accept(&mut row, validated.description.as_ref());
            let leaving = (replaced.0, replaced.1.map(str::to_owned));
            let activate =
                ReleaseMutation::Activate { digest: digest.to_owned(), at: None, replaced: leaving };
            match self.commit(guest, row, vec![activate]).await {
                Err(CatalogError::Superseded) => {
                    drop(change);
                    self.refresh(&guest.name).await?;
                    continue;
                }
                committed => committed?,
            }
            {
                let mut record = guest.write();
                record.activate(digest, None, replaced);
                record.accept(validated.description.as_ref());
            }
            self.activate_release(guest, validated);
            return Ok(());
        }
    }

    /// From here on calls get this release, which is the active one, unless the guest is disabled.
    pub(crate) fn activate_release(&self, guest: &Guest, validated: Validated) {
        self.swap(guest, validated);
        guest.set_served();
    }

    /// From here on calls get this release, unless the guest is disabled. The guest is behind while
    /// another one is active.
    pub(crate) fn swap(&self, guest: &Guest, validated: Validated) {
        let digest = validated.component.digest();
        let (enabled, pooled, stats) = {
            let mut record = guest.write();
            (record.row.enabled, record.row.pooled, record.stats(&digest.to_string(), &digest.short()))
        };
        let active = ActiveRelease {
            component: if pooled { validated.component.pooled() } else { validated.component },
            settings: validated.settings,
            description: validated.description.map(Arc::new),
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            stats,
            breaker: Breaker::default(),
        };
        let answers = enabled && !guest.is_deleted();
        guest.active.store(answers.then(|| Arc::new(active)));
        self.index_runtimes();
    }

    /// From here on the guest answers nothing; its names stay its own.
    pub(crate) fn deactivate(&self, guest: &Guest) {
        guest.active.store(None);
        guest.set_served();
        self.index_runtimes();
    }

    pub(crate) fn insert(&self, guest: &Arc<Guest>) {
        self.inner.guests.rcu(|guests| {
            let mut guests = BTreeMap::clone(guests);
            guests.entry(guest.name.clone()).or_insert_with(|| Arc::clone(guest));
            guests
        });
        self.index_runtimes();
    }

    pub(crate) fn emit(
        &self,
        guest: &str,
        change: GuestChange,
        release: Option<&str>,
        by: Option<&str>,
        reason: Option<&str>,
    ) {
        self.inner.changes_feed.emit(GuestEvent {
            guest: guest.to_owned(),
            change,
            release: release.map(str::to_owned),
            by: by.map(str::to_owned),
            reason: reason.map(str::to_owned),
        });
    }
}
