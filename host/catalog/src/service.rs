//! The steps that changes are made of: loading a release, finding out whether it is fit, and the
//! swap after which it answers.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use events::{GuestChange, GuestEvent};
use store::guests::{GuestRow, ReleaseState};
use wasm::{Component, Digest, Settings, adapter::Description};

use crate::{
    Catalog, CatalogError,
    breaker::Breaker,
    conformance,
    guest::{Guest, Live},
    lifecycle::same_world,
    runtimes::Runtimes,
};

/// A component that passed its probes with these settings and this trust.
pub(crate) struct Fit {
    pub(crate) component: Component,
    pub(crate) settings: Settings,
    pub(crate) trusted: bool,
    pub(crate) description: Option<Description>,
}

impl Fit {
    /// Did somebody change what the probes relied on meanwhile?
    pub(crate) fn is_outdated(&self, guest: &Guest) -> bool {
        let record = guest.read();
        let settings = Settings::new(&record.row.settings, usize::MAX);
        record.row.trusted != self.trusted || settings.as_ref() != Ok(&self.settings)
    }
}

impl Catalog {
    pub(crate) async fn load(&self, bytes: Bytes) -> Result<Component, CatalogError> {
        let _turn = self.inner.compiler.lock().await;
        let sandbox = self.inner.sandbox.clone();
        let loaded = tokio::task::spawn_blocking(move || sandbox.load(&bytes)).await;
        Ok(loaded.map_err(|_| CatalogError::Crashed)??)
    }

    /// The component of a release of `row`: one that is in service already, or from disk.
    pub(crate) async fn load_release(&self, row: &GuestRow, digest: &str) -> Result<Component, CatalogError> {
        let Ok(digest) = digest.parse::<Digest>() else { return Err(CatalogError::NoRelease) };
        let in_service = self.inner.guests.load().values().find_map(|guest| {
            let live = guest.live.load();
            live.as_ref().filter(|live| live.component.digest() == digest).map(|live| live.component.fresh())
        });
        let component = match in_service {
            Some(component) => component,
            None => self.load_from_disk(digest).await?,
        };
        same_world(&row.name, &row.world, &component)?;
        Ok(component)
    }

    async fn load_from_disk(&self, digest: Digest) -> Result<Component, CatalogError> {
        let (sandbox, blobs) = (self.inner.sandbox.clone(), self.inner.blobs.clone());
        let found = tokio::task::spawn_blocking(move || match sandbox.load_compiled(&digest) {
            Some(component) => Ok(Ok(component)),
            None => blobs.read(&digest).map(Err),
        });
        let component = match found.await.map_err(|_| CatalogError::Crashed)?? {
            Ok(component) => component,
            Err(bytes) => self.load(bytes.into()).await?,
        };
        // What answers must be what its row says it is.
        if component.digest() == digest { Ok(component) } else { Err(CatalogError::BytesLost) }
    }

    pub(crate) async fn fit(&self, guest: &Guest, digest: &str) -> Result<Fit, CatalogError> {
        let row = guest.read().row.clone();
        self.fit_as(&row, digest).await
    }

    /// Loads and probes a release with the settings and the trust of `row`.
    pub(crate) async fn fit_as(&self, row: &GuestRow, digest: &str) -> Result<Fit, CatalogError> {
        let component = self.load_release(row, digest).await?;
        let settings = Settings::new(&row.settings, self.limits().settings_bytes)?;
        let found = conformance::probe(&component, &settings, row.trusted, self.limits()).await;
        match found.reason() {
            None => Ok(Fit { component, settings, trusted: row.trusted, description: found.description }),
            Some(reason) => Err(CatalogError::Unfit { reason, conformance: Box::new(found) }),
        }
    }

    /// Does nobody else answer for the runtimes that this one would answer for?
    pub(crate) fn names_free(&self, guest: &Guest, fit: &Fit) -> Result<(), CatalogError> {
        let runtimes = self.inner.runtimes.load();
        for name in fit.description.iter().flat_map(Description::names) {
            if let Some(other) = runtimes.guest(name).filter(|&other| other != guest.name) {
                return Err(CatalogError::NameTaken { name: name.to_owned(), guest: other.to_owned() });
            }
        }
        Ok(())
    }

    /// Puts `digest` back in place of `from`, which takes the state and reason `leaving`.
    pub(crate) async fn go_back(
        &self,
        guest: &Arc<Guest>,
        from: Option<&str>,
        digest: &str,
        leaving: (ReleaseState, Option<&str>),
    ) -> Result<(), CatalogError> {
        loop {
            let fit = self.fit(guest, digest).await?;
            let _change = self.inner.changes.lock().await;
            if guest.active_digest().as_deref() != from {
                return Err(CatalogError::Superseded);
            }
            if guest.read().release(digest).is_none() {
                return Err(CatalogError::NoRelease);
            }
            if fit.is_outdated(guest) {
                continue;
            }
            self.names_free(guest, &fit)?;
            self.inner.store.activate_release(&guest.name, digest, None, leaving).await?;
            guest.write().activate(digest, None, leaving);
            self.go_live(guest, fit);
            return Ok(());
        }
    }

    /// The swap: from here on callers get this, unless the guest is disabled.
    pub(crate) fn go_live(&self, guest: &Arc<Guest>, fit: Fit) {
        let digest = fit.component.digest();
        let (enabled, reused, stats) = {
            let mut record = guest.write();
            (record.row.enabled, record.row.reused, record.stats(&digest.to_string(), &digest.short()))
        };
        let live = Live {
            component: if reused { fit.component.reused() } else { fit.component },
            settings: fit.settings,
            description: fit.description,
            stats,
            breaker: Breaker::default(),
        };
        guest.live.store(enabled.then(|| Arc::new(live)));
        self.index_runtimes();
    }

    /// From here on the host's defaults answer.
    pub(crate) fn take_out(&self, guest: &Guest) {
        guest.live.store(None);
        self.index_runtimes();
    }

    pub(crate) fn index_runtimes(&self) {
        let mut answered = BTreeMap::new();
        for guest in self.inner.guests.load().values() {
            let live = guest.live.load();
            let description = live.as_ref().and_then(|live| live.description.as_ref());
            for name in description.into_iter().flat_map(Description::names) {
                answered.insert(name.to_owned(), guest.name.clone());
            }
        }
        self.inner.runtimes.store(Arc::new(Runtimes::new(&self.inner.manifest, answered)));
    }

    pub(crate) fn insert(&self, guest: &Arc<Guest>) {
        self.inner.guests.rcu(|guests| {
            let mut guests = BTreeMap::clone(guests);
            guests.entry(guest.name.clone()).or_insert_with(|| Arc::clone(guest));
            guests
        });
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
