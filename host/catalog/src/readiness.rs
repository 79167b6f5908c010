//! Getting active releases into service after the start, in the order of need.
//!
//! Opening the catalog compiles nothing. A background task compiles the guests in the order of need; a call
//! that needs one prepares it at once and waits for that one alone. A release that can't be put into
//! service here may answer well on the other servers, so a start changes no row: an earlier release or
//! the host's default answers on this server, and `replication` tries the active release again.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use wasm::{Failure, Settings, World};

use crate::{
    Catalog, CatalogError, activation::Validated, guest::Guest, lifecycle::same_world, runtimes::FALLBACK,
};
use store::guests::GuestRow;

/// How long a call waits for a guest that is not in service yet.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Guests that are prepared at once. Of each, bytes of up to 16 MiB may be in memory.
const PREPARED_AT_ONCE: usize = 4;

impl Catalog {
    /// Prepares every guest: first the adapter of the default runtime, then other adapters, then the
    /// rest. Ends when all are prepared.
    pub(crate) async fn prepare_all(&self) {
        // First, because other servers that start now may need them.
        if let Err(error) = self.upload_missing_components().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "components could not be stored in the database; the next start tries again"
            );
        }
        let guests = self.inner.guests.load_full();
        let mut guests: Vec<&Arc<Guest>> = guests.values().collect();
        guests.sort_by_key(|guest| (guest.name != FALLBACK, guest.world() != World::Adapter));
        self.prepare_each(guests.into_iter().cloned()).await;
    }

    /// Prepares guests in this order, a few at a time: one that takes long keeps no other waiting.
    async fn prepare_each(&self, guests: impl IntoIterator<Item = Arc<Guest>>) {
        let mut preparing = JoinSet::new();
        for guest in guests {
            if preparing.len() >= PREPARED_AT_ONCE {
                preparing.join_next().await;
            }
            let catalog = self.clone();
            preparing.spawn(async move {
                catalog.prepare(&guest).await;
                catalog.learn_description(&guest).await;
            });
        }
        while preparing.join_next().await.is_some() {}
    }

    /// Waits until it is decided what answers for a guest.
    pub(crate) async fn guest_ready(&self, name: &str) {
        if let Ok(guest) = self.guest(name)
            && !guest.is_prepared()
        {
            self.prepare_in_time(&[guest]).await;
        }
    }

    /// Waits until it is decided what answers for every guest.
    pub async fn all_ready(&self) {
        let guests = self.inner.guests.load_full();
        let pending: Vec<_> = guests.values().filter(|guest| !guest.is_prepared()).cloned().collect();
        if !pending.is_empty() {
            self.prepare_in_time(&pending).await;
        }
    }

    /// Waits until it is decided which guest answers for a runtime; `None` if that is decided.
    pub fn runtime_ready<'a>(&'a self, runtime: &'a str) -> Option<impl Future<Output = ()> + Send + 'a> {
        let pending = |guest: &Arc<Guest>| !guest.is_prepared() && guest.world() == World::Adapter;
        let known = self.inner.runtimes.load().guest(runtime.trim()).and_then(|name| self.guest(name).ok());
        if known.is_some_and(|guest| guest.is_prepared()) {
            return None;
        }
        if !self.inner.guests.load().values().any(pending) {
            return None;
        }
        Some(async move {
            let runtime = runtime.trim();
            let owner = || self.inner.runtimes.load().guest(runtime).map(str::to_owned);
            // First-party guests are named like the runtime that they answer for.
            self.guest_ready(owner().as_deref().unwrap_or(runtime)).await;
            if owner().is_none() {
                // It may be an alias of any other.
                let guests = self.inner.guests.load_full();
                let pending: Vec<_> = guests.values().filter(|guest| pending(guest)).cloned().collect();
                self.prepare_in_time(&pending).await;
            }
        })
    }

    async fn prepare_in_time(&self, guests: &[Arc<Guest>]) {
        if timeout(READY_TIMEOUT, self.prepare_each(guests.iter().cloned())).await.is_err() {
            let names: Vec<&str> =
                guests.iter().filter(|guest| !guest.is_prepared()).map(|guest| guest.name.as_str()).collect();
            tracing::warn!(?names, "guests were not compiled in time; what needs them waits");
        }
    }

    /// Puts a guest's active release into service, unless that was done or tried before. Goes on when
    /// the caller stops waiting.
    pub(crate) async fn prepare(&self, guest: &Arc<Guest>) {
        if guest.is_prepared() {
            return;
        }
        let (catalog, guest) = (self.clone(), Arc::clone(guest));
        let task = tokio::spawn(async move {
            let _preparation = guest.preparation.lock().await;
            if !guest.is_prepared() {
                catalog.put_in_service(&guest).await;
                guest.set_prepared();
                catalog.store_description(&guest).await;
            }
        });
        if let Err(error) = task.await {
            tracing::error!(%error, "preparing a guest failed in an unforeseen way");
        }
    }

    async fn put_in_service(&self, guest: &Arc<Guest>) {
        loop {
            let row = guest.read().row.clone();
            let Some(digest) = guest.active_digest().filter(|_| row.enabled) else { return };
            match self.load_active(&row, &digest).await {
                Ok(validated) => {
                    let _change = self.inner.changes.lock().await;
                    // An operator's change may have come first, and is the newer one then.
                    if guest.is_prepared() {
                        return;
                    }
                    if validated.is_outdated(guest) || guest.active_digest().as_ref() != Some(&digest) {
                        continue;
                    }
                    self.activate_release(guest, validated);
                }
                // Nothing is wrong with the release, and nothing is tried again.
                Err(CatalogError::Stopping) => {}
                Err(error) => {
                    tracing::error!(
                        guest = guest.name,
                        release = digest,
                        error = &error as &dyn std::error::Error,
                        "the active release can't be put into service on this server; trying again"
                    );
                    self.serve_earlier(guest, &row, &digest).await;
                }
            }
            return;
        }
    }

    /// Has the last good release before `active` answer on this server, until the active one does.
    async fn serve_earlier(&self, guest: &Arc<Guest>, row: &GuestRow, active: &str) {
        let earlier = guest.read().earlier();
        for digest in &earlier {
            let validated = match self.load_active(row, digest).await {
                Ok(validated) => validated,
                Err(CatalogError::Stopping) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        guest = guest.name,
                        release = digest,
                        error,
                        "an earlier release can't answer"
                    );
                    continue;
                }
            };
            let _change = self.inner.changes.lock().await;
            if !guest.read().keeps_names(validated.description.as_ref()) {
                tracing::warn!(
                    guest = guest.name,
                    release = digest,
                    "an earlier release answers for other runtimes"
                );
                continue;
            }
            let is_current =
                guest.active_digest().as_deref() == Some(active) && !validated.is_outdated(guest);
            if is_current && !guest.is_prepared() {
                tracing::warn!(guest = guest.name, release = digest, "an earlier release answers meanwhile");
                self.swap(guest, validated);
            }
            return;
        }
    }

    /// Loads an active release. It passed its probes when it was activated; here an adapter only
    /// describes itself again.
    pub(crate) async fn load_active(&self, row: &GuestRow, digest: &str) -> Result<Validated, CatalogError> {
        let component = self.load_release(&row.name, digest).await?;
        same_world(&row.name, &row.world, &component)?;
        let settings = Settings::new(&row.settings, self.limits().settings_bytes)?;
        let description = match component.adapter() {
            Some(adapter) => {
                let mut outcome = adapter.describe(&settings).await;
                if matches!(outcome.result, Err(Failure::Timeout { .. } | Failure::Busy { .. })) {
                    // A machine that has just started may be too busy for the deadline.
                    outcome = adapter.describe(&settings).await;
                }
                let (release, report) = (digest.to_owned(), Box::new(outcome.report));
                let failed = |failure| CatalogError::Failed { failure: Box::new(failure), release, report };
                Some(outcome.result.map_err(failed)?)
            }
            None => None,
        };
        Ok(Validated { component, settings, trusted: row.trusted, description })
    }
}
