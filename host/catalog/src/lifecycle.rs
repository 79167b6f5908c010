//! Changes that people and files make: pushing, activating, rolling back, deleting.
//!
//! A change is prepared (loaded, probed) without any lock, stored in one transaction, and only then
//! seen by callers, in one swap. If any step fails, nothing after it happens, and what answered
//! before answers still.

use std::sync::Arc;

use bytes::Bytes;
use events::GuestChange;
use store::guests::{Counters, GuestRow, ReleaseRow, ReleaseState};
use wasm::{Component, Digest, Settings};

use crate::{Catalog, CatalogError, ReleaseView, guest::Guest};

/// Where a release came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Inside the binary.
    Embedded,
    /// The admin API.
    Upload,
    /// The watched directory.
    Folder,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Upload => "upload",
            Self::Folder => "folder",
        }
    }
}

impl Catalog {
    /// Adds a release to a guest, and the guest if it is new; with `activate` puts it into service
    /// too. Bytes that are there already are the same release.
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
        let digest = Digest::of(&bytes);
        let mut release = new_release(name, &digest, bytes.len(), source, by);
        let component = match self.load(bytes.clone()).await {
            Ok(component) => component,
            Err(error) => return Err(self.refuse(release, error).await),
        };
        release.version = Some(component.version().to_owned());
        let added = self.add(&component, release.clone(), &bytes).await;
        let guest = match added {
            Err(error @ CatalogError::OtherWorld { .. }) => return Err(self.refuse(release, error).await),
            added => added?,
        };
        if activate {
            return self.activate(name, &release.digest, by).await;
        }
        view(&guest, &release.digest)
    }

    /// Stores a staged release, with its guest if that is new. A release that is in service or can
    /// be rolled back to keeps its state.
    async fn add(
        &self,
        component: &Component,
        release: ReleaseRow,
        bytes: &[u8],
    ) -> Result<Arc<Guest>, CatalogError> {
        let _change = self.inner.changes.lock().await;
        let known = self.guest(&release.guest).ok();
        if let Some(guest) = &known {
            same_world(&guest.name, guest.world.as_str(), component)?;
        }
        self.inner.blobs.keep(&component.digest(), bytes)?;
        if let Some(guest) = known.as_ref().filter(|guest| guest.has_served(&release.digest)) {
            return Ok(Arc::clone(guest));
        }
        let guest = known.unwrap_or_else(|| {
            let row = GuestRow {
                name: release.guest.clone(),
                world: component.world().to_string(),
                component: None,
                trusted: false,
                enabled: true,
                reused: false,
                settings: Settings::default().value(),
                created_at: release.pushed_at,
            };
            Arc::new(Guest::new(row, component.world(), Vec::new()))
        });
        let row = guest.read().row.clone();
        self.inner.store.put_release(&row, &release).await?;
        guest.write().put(&release);
        self.insert(&guest);
        self.emit(&guest.name, GuestChange::Pushed, Some(&release.digest), Some(&release.pushed_by), None);
        Ok(guest)
    }

    /// Notes on the guest why bytes can't be a release of it. A name without a guest stays one, and
    /// what the host failed at is nobody's release's fault.
    async fn refuse(&self, mut release: ReleaseRow, error: CatalogError) -> CatalogError {
        let Ok(guest) = self.guest(&release.guest) else { return error };
        let _change = self.inner.changes.lock().await;
        if !error.is_the_guests_fault() || guest.has_served(&release.digest) {
            return error;
        }
        let reason = error.to_string();
        release.state = ReleaseState::Rejected;
        release.reason = Some(reason.clone());
        let row = guest.read().row.clone();
        if let Err(error) = self.inner.store.put_release(&row, &release).await {
            return error.into();
        }
        guest.write().put(&release);
        let by = Some(release.pushed_by.as_str());
        self.emit(&guest.name, GuestChange::Rejected, Some(&release.digest), by, Some(&reason));
        error
    }

    /// Puts a release into service. `digits` is its digest or the beginning of it.
    ///
    /// # Errors
    /// If the component fails its probes with the guest's settings, or answers for a runtime that
    /// another guest answers for; the release says why.
    pub async fn activate(&self, name: &str, digits: &str, by: &str) -> Result<ReleaseView, CatalogError> {
        let guest = self.guest(name)?;
        let digest = guest.read().find(digits)?.digest.clone();
        loop {
            let fit = match self.fit(&guest, &digest).await {
                Ok(fit) => fit,
                Err(error) => return Err(self.reject(&guest, &digest, by, error).await),
            };
            let change = self.inner.changes.lock().await;
            if fit.is_outdated(&guest) {
                continue;
            }
            if let Err(error) = self.names_free(&guest, &fit) {
                drop(change);
                return Err(self.reject(&guest, &digest, by, error).await);
            }
            if guest.read().release(&digest).is_none() {
                return Err(CatalogError::NoRelease);
            }
            if guest.active_digest().as_ref() != Some(&digest) {
                let now = store::now();
                let leaving = (ReleaseState::Retired, None);
                self.inner.store.activate_release(name, &digest, Some(now), leaving).await?;
                guest.write().activate(&digest, Some(now), leaving);
            }
            self.go_live(&guest, fit);
            self.emit(name, GuestChange::Activated, Some(&digest), Some(by), None);
            return view(&guest, &digest);
        }
    }

    /// Notes on a release why it can't go into service, unless that is the host's fault.
    async fn reject(&self, guest: &Arc<Guest>, digest: &str, by: &str, error: CatalogError) -> CatalogError {
        let _change = self.inner.changes.lock().await;
        let noted = guest.read().release(digest).is_some_and(|release| release.state != ReleaseState::Active);
        if !noted || !error.is_the_guests_fault() {
            return error;
        }
        let reason = error.to_string();
        if let Err(error) = self.inner.store.reject_release(&guest.name, digest, &reason).await {
            return error.into();
        }
        guest.write().set_state(digest, ReleaseState::Rejected, Some(&reason));
        self.emit(&guest.name, GuestChange::Rejected, Some(digest), Some(by), Some(&reason));
        error
    }

    /// Puts the release back into service that answered before the active one did.
    ///
    /// # Errors
    /// If there is none, or it is no longer fit; then the active one stays.
    pub async fn rollback(&self, name: &str, by: &str) -> Result<ReleaseView, CatalogError> {
        let guest = self.guest(name)?;
        let from = guest.active_digest();
        let digest = guest.read().earlier().into_iter().next().ok_or(CatalogError::NothingEarlier)?;
        let reason = format!("rolled back by {by}");
        self.go_back(&guest, from.as_deref(), &digest, (ReleaseState::Retired, Some(&reason))).await?;
        self.emit(name, GuestChange::RolledBack, Some(&digest), Some(by), Some(&reason));
        view(&guest, &digest)
    }

    /// Removes a release that is out of service, and its bytes unless another guest has them.
    ///
    /// # Errors
    /// If it is active.
    pub async fn delete(&self, name: &str, digits: &str, by: &str) -> Result<(), CatalogError> {
        let guest = self.guest(name)?;
        let _change = self.inner.changes.lock().await;
        let digest = {
            let record = guest.read();
            let release = record.find(digits)?;
            if release.state == ReleaseState::Active {
                return Err(CatalogError::ReleaseActive);
            }
            release.digest.clone()
        };
        self.inner.store.delete_release(name, &digest).await?;
        guest.write().remove(&digest);
        let used = self.inner.guests.load().values().any(|guest| guest.read().release(&digest).is_some());
        if let (false, Ok(digest)) = (used, digest.parse()) {
            self.inner.sandbox.forget(&digest);
            self.inner.blobs.remove(&digest);
        }
        self.emit(name, GuestChange::Deleted, Some(&digest), Some(by), None);
        Ok(())
    }
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

pub(crate) fn new_release(guest: &str, digest: &Digest, size: usize, source: Source, by: &str) -> ReleaseRow {
    ReleaseRow {
        guest: guest.to_owned(),
        digest: digest.to_string(),
        version: None,
        size_bytes: size as u64,
        source: source.as_str().to_owned(),
        pushed_by: by.to_owned(),
        pushed_at: store::now(),
        activated_at: None,
        state: ReleaseState::Staged,
        reason: None,
        counters: Counters::default(),
    }
}

fn view(guest: &Guest, digest: &str) -> Result<ReleaseView, CatalogError> {
    let record = guest.read();
    record.release(digest).map(|release| record.view(release)).ok_or(CatalogError::NoRelease)
}
