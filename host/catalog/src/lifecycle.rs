//! Changes of releases: pushing, activating, rolling back, deleting. `deletion` deletes whole guests.
//!
//! A change is prepared (loaded, probed) without any lock, stored in one transaction, and only then
//! seen by calls, in one swap. If any step fails, nothing after it happens, and what answered before
//! answers still. A change that another server makes first is read, and this one planned again.

use std::sync::Arc;

use bytes::Bytes;
use events::GuestChange;
use store::guests::{GuestRow, ReleaseMutation, ReleaseRow, ReleaseState};
use wasm::{Component, Digest, Settings};

use crate::{
    Catalog, CatalogError, ReleaseView,
    components::blocking,
    descriptions::accept,
    guest::Guest,
    source::{Source, new_release},
};

impl Catalog {
    /// Adds a release to a guest, and the guest if it is new; with `activate` puts it into service
    /// too. Bytes that are there already are the same release. To drop the future ends the compilation, if nobody
    /// else waits for it; after that the push goes on.
    ///
    /// # Errors
    /// If the bytes can't run, or are of another world than the guest: then the guest, if there is
    /// one, has a release that says why. With `activate` also as [`Catalog::activate`].
    pub async fn push(
        &self,
        name: &str,
        bytes: Bytes,
        source: Source,
        by: &str,
        activate: bool,
    ) -> Result<ReleaseView, CatalogError> {
        if wasm::validate::runtime_name("name", name).is_err() {
            return Err(CatalogError::BadName);
        }
        let hashed = bytes.clone();
        let digest = blocking(move || Digest::of(&hashed)).await?;
        let loaded = self.load_pushed(name, digest, &bytes, source == Source::Upload).await;
        let release = new_release(name, &digest, bytes.len(), source, by);
        let catalog = self.clone();
        // A release is stored whole, even if the caller stops waiting.
        let stored =
            tokio::spawn(async move { catalog.store_pushed(loaded, release, bytes, activate).await });
        stored.await.map_err(|_| CatalogError::Crashed)?
    }

    async fn store_pushed(
        &self,
        loaded: Result<Component, CatalogError>,
        mut release: ReleaseRow,
        bytes: Bytes,
        activate: bool,
    ) -> Result<ReleaseView, CatalogError> {
        let component = match loaded {
            Ok(component) => component,
            Err(error) => return Err(self.refuse(release, error).await),
        };
        release.version = Some(component.version().to_owned());
        // In a transaction of its own: all commits of the deployment wait for the one of the release.
        let restored = self.inner.store.put_component(&release.digest, &bytes).await?;
        let added = self.add(&component, release.clone(), &bytes, restored).await;
        let guest = match added {
            Err(error @ CatalogError::OtherWorld { .. }) => return Err(self.refuse(release, error).await),
            added => added?,
        };
        if activate {
            return self.activate(&release.guest, &release.digest, &release.pushed_by).await;
        }
        view(&guest, &release.digest)
    }

    /// Stores a staged release, with its guest if that is new. A release that is in service or can
    /// be rolled back to keeps its state. `restored`: the database did not have its bytes.
    async fn add(
        &self,
        component: &Component,
        mut release: ReleaseRow,
        bytes: &Bytes,
        restored: bool,
    ) -> Result<Arc<Guest>, CatalogError> {
        loop {
            let change = self.inner.changes.lock().await;
            let known = self.guest(&release.guest).ok();
            let bound = known.as_ref().and_then(|guest| guest.read().bound_world());
            if let Some(world) = bound {
                same_world(&release.guest, world.as_str(), component)?;
            }
            if let Some(guest) = known.as_ref().filter(|guest| guest.has_served(&release.digest)) {
                if restored {
                    // Bytes that were lost are back: other servers can put the release into service.
                    let row = guest.read().row.clone();
                    match self.commit(guest, row, Vec::new()).await {
                        Err(CatalogError::Superseded) => {
                            drop(change);
                            self.refresh(&release.guest).await?;
                            continue;
                        }
                        committed => committed?,
                    }
                }
                self.cache_component(component.digest(), bytes).await?;
                return Ok(Arc::clone(guest));
            }
            let guest = known.unwrap_or_else(|| new_guest(component, &release));
            let mut row = guest.read().row.clone();
            release.source = guest.read().source_of(&release);
            component.world().as_str().clone_into(&mut row.world);
            let put =
                ReleaseMutation::Put { release: Box::new(release.clone()), component: Some(bytes.clone()) };
            match self.commit(&guest, row, vec![put]).await {
                Err(CatalogError::Superseded) => {
                    drop(change);
                    self.refresh(&release.guest).await?;
                    continue;
                }
                committed => committed?,
            }
            {
                let mut record = guest.write();
                record.put(&release);
                record.set_world(component.world());
            }
            self.insert(&guest);
            self.cache_component(component.digest(), bytes).await?;
            let by = Some(release.pushed_by.as_str());
            self.emit(&guest.name, GuestChange::Pushed, Some(&release.digest), by, None);
            return Ok(guest);
        }
    }

    async fn cache_component(&self, digest: Digest, bytes: &Bytes) -> Result<(), CatalogError> {
        let (cache, bytes) = (self.inner.components.clone(), bytes.clone());
        blocking(move || cache.put(&digest, &bytes)).await
    }

    /// Notes on the guest why bytes can't be a release of it. A name without a guest stays one, and
    /// a failure of the host is no release's fault.
    async fn refuse(&self, release: ReleaseRow, error: CatalogError) -> CatalogError {
        let digest = release.digest.clone();
        let error = self.note_refusal(release, error).await;
        self.prune_after(&error, &digest).await;
        error
    }

    async fn note_refusal(&self, mut release: ReleaseRow, error: CatalogError) -> CatalogError {
        let reason = wasm::validate::message(error.to_string());
        release.state = ReleaseState::Rejected;
        release.reason = Some(reason.clone());
        loop {
            let Ok(guest) = self.guest(&release.guest) else { return error };
            let change = self.inner.changes.lock().await;
            if !error.is_the_guests_fault() || guest.has_served(&release.digest) {
                return error;
            }
            release.source = guest.read().source_of(&release);
            release.refused_at = Some(store::now());
            let row = guest.read().row.clone();
            let put = ReleaseMutation::Put { release: Box::new(release.clone()), component: None };
            match self.commit(&guest, row, vec![put]).await {
                Ok(()) => {}
                Err(CatalogError::Superseded) => {
                    drop(change);
                    match self.refresh(&release.guest).await {
                        Ok(()) => continue,
                        Err(error) => return error,
                    }
                }
                Err(error) => return error,
            }
            guest.write().put(&release);
            let by = Some(release.pushed_by.as_str());
            self.emit(&guest.name, GuestChange::Rejected, Some(&release.digest), by, Some(&reason));
            return error;
        }
    }

    /// Puts a release into service. `digits` is its digest or the beginning of it.
    ///
    /// # Errors
    /// If the component fails its probes with the guest's settings, or answers for a runtime that
    /// another guest answers for; the release says why.
    pub async fn activate(&self, name: &str, digits: &str, by: &str) -> Result<ReleaseView, CatalogError> {
        let guest = self.guest(name)?;
        let digest = guest.read().find(digits)?.digest.clone();
        // Which runtime names are free is known once every adapter is.
        self.all_ready().await;
        loop {
            let validated = match self.validate(&guest, &digest).await {
                Ok(validated) => validated,
                Err(error) => return Err(self.reject(&guest, &digest, by, error).await),
            };
            let change = self.inner.changes.lock().await;
            if validated.is_outdated(&guest) {
                continue;
            }
            if let Err(error) = self.check_runtime_names(&guest, &validated) {
                drop(change);
                return Err(self.reject(&guest, &digest, by, error).await);
            }
            if guest.read().release(&digest).is_none() {
                return Err(CatalogError::NoRelease);
            }
            if guest.active_digest().as_ref() != Some(&digest) {
                let (mut row, at) = (guest.read().row.clone(), Some(store::now()));
                let world = validated.component.world();
                world.as_str().clone_into(&mut row.world);
                accept(&mut row, validated.description.as_ref());
                let activate = ReleaseMutation::Activate {
                    digest: digest.clone(),
                    at,
                    replaced: (ReleaseState::Retired, None),
                };
                match self.commit(&guest, row, vec![activate]).await {
                    Err(CatalogError::Superseded) => {
                        drop(change);
                        self.refresh(name).await?;
                        continue;
                    }
                    committed => committed?,
                }
                let mut record = guest.write();
                record.activate(&digest, at, (ReleaseState::Retired, None));
                record.set_world(world);
                record.accept(validated.description.as_ref());
            }
            self.activate_release(&guest, validated);
            self.emit(name, GuestChange::Activated, Some(&digest), Some(by), None);
            return view(&guest, &digest);
        }
    }

    /// Notes on a release why it can't go into service, unless that is the host's fault.
    async fn reject(&self, guest: &Arc<Guest>, digest: &str, by: &str, error: CatalogError) -> CatalogError {
        let error = self.note_rejection(guest, digest, by, error).await;
        self.prune_after(&error, digest).await;
        error
    }

    async fn note_rejection(
        &self,
        guest: &Arc<Guest>,
        digest: &str,
        by: &str,
        error: CatalogError,
    ) -> CatalogError {
        let reason = wasm::validate::message(error.to_string());
        loop {
            let change = self.inner.changes.lock().await;
            let noted =
                guest.read().release(digest).is_some_and(|release| release.state != ReleaseState::Active);
            if !noted || !error.is_the_guests_fault() {
                return error;
            }
            let (row, at) = (guest.read().row.clone(), store::now());
            let reject = ReleaseMutation::Reject { digest: digest.to_owned(), reason: reason.clone(), at };
            match self.commit(guest, row, vec![reject]).await {
                Ok(()) => {}
                Err(CatalogError::Superseded) => {
                    drop(change);
                    match self.refresh(&guest.name).await {
                        Ok(()) => continue,
                        Err(error) => return error,
                    }
                }
                Err(error) => return error,
            }
            guest.write().reject(digest, &reason, at);
            self.emit(&guest.name, GuestChange::Rejected, Some(digest), Some(by), Some(&reason));
            return error;
        }
    }

    /// Puts the release back into service that answered before the active one did.
    ///
    /// # Errors
    /// If there is none, or it is no longer fit; then the active one stays.
    pub async fn rollback(&self, name: &str, by: &str) -> Result<ReleaseView, CatalogError> {
        let guest = self.guest(name)?;
        self.all_ready().await;
        let from = guest.active_digest();
        let digest = guest.read().earlier().into_iter().next().ok_or(CatalogError::NoPreviousRelease)?;
        let reason = format!("rolled back by {by}");
        self.restore(&guest, from.as_deref(), &digest, (ReleaseState::Retired, Some(&reason))).await?;
        self.emit(name, GuestChange::RolledBack, Some(&digest), Some(by), Some(&reason));
        view(&guest, &digest)
    }

    /// Removes a release that is out of service, and its component unless another guest has it.
    ///
    /// # Errors
    /// If it is active.
    pub async fn delete(&self, name: &str, digits: &str, by: &str) -> Result<(), CatalogError> {
        let guest = self.guest(name)?;
        loop {
            let change = self.inner.changes.lock().await;
            let digest = {
                let record = guest.read();
                let release = record.find(digits)?;
                if release.state == ReleaseState::Active {
                    return Err(CatalogError::ReleaseActive);
                }
                release.digest.clone()
            };
            let row = guest.read().row.clone();
            let delete = ReleaseMutation::Delete { digest: digest.clone() };
            match self.commit(&guest, row, vec![delete]).await {
                Err(CatalogError::Superseded) => {
                    drop(change);
                    self.refresh(name).await?;
                    continue;
                }
                committed => committed?,
            }
            guest.write().remove(&digest);
            self.evict_deleted(std::slice::from_ref(&digest)).await;
            self.emit(name, GuestChange::Deleted, Some(&digest), Some(by), None);
            return Ok(());
        }
    }
}

fn new_guest(component: &Component, release: &ReleaseRow) -> Arc<Guest> {
    let row = GuestRow {
        name: release.guest.clone(),
        world: component.world().to_string(),
        component: None,
        trusted: false,
        enabled: true,
        pooled: false,
        settings: Settings::default().value(),
        description: None,
        revision: 0,
        created_at: release.pushed_at,
    };
    Arc::new(Guest::new(row, component.world(), Vec::new()))
}

pub(crate) fn same_world(guest: &str, world: &str, component: &Component) -> Result<(), CatalogError> {
    if component.world().as_str() == world {
        return Ok(());
    }
    Err(CatalogError::OtherWorld {
        guest: guest.to_owned(),
        has: world.to_owned(),
        pushed: component.world().to_string(),
    })
}

fn view(guest: &Guest, digest: &str) -> Result<ReleaseView, CatalogError> {
    let record = guest.read();
    record.release(digest).map(|release| record.view(release)).ok_or(CatalogError::NoRelease)
}
