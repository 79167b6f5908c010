//! Following changes that other servers of the deployment make to guests.
//!
//! An event says that a guest changed; the row's revision says whether this server has that change. So
//! a lost event costs time only: revisions are compared at the start, after a lag, and now and then.

use std::{sync::Arc, time::Duration};

use events::{Event, Hub, Received, Subscription};
use store::guests::ReleaseState;
use tokio::time::timeout;

use crate::{Catalog, CatalogError, bootstrap::StoredGuest, guest::Guest};

/// How often revisions are compared where no event came.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Events that wait at most before the subscription lags.
const BACKLOG: usize = 256;

impl Catalog {
    /// Follows changes until the hub is closed. `progress` is called at least once in each
    /// [`POLL_INTERVAL`], unless a component takes longer to compile.
    pub(crate) async fn replicate(&self, hub: &Hub, progress: impl Fn() + Send) {
        let mut changes = subscribe(hub);
        self.refresh_outdated().await;
        loop {
            progress();
            match timeout(POLL_INTERVAL, changes.next()).await {
                Ok(Received::Event(envelope)) => {
                    if let Some(Event::GuestChanged(changed)) = envelope.event() {
                        self.try_refresh(&changed.guest).await;
                    }
                }
                Ok(Received::Lagged) => {
                    changes = subscribe(hub);
                    self.refresh_outdated().await;
                }
                Ok(Received::Closed) => return,
                Err(_) => self.refresh_outdated().await,
            }
        }
    }

    /// Refreshes guests of which the database has another revision, and tries releases again that
    /// are active and could not be put into service here.
    async fn refresh_outdated(&self) {
        let revisions = match self.inner.store.guest_revisions().await {
            Ok(revisions) => revisions,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "revisions of guests can't be read");
                return;
            }
        };
        for (name, revision) in revisions {
            let is_current = self.guest(&name).is_ok_and(|guest| {
                guest.read().row.revision >= revision && !(guest.is_prepared() && guest.is_behind())
            });
            if !is_current {
                self.try_refresh(&name).await;
            }
        }
    }

    async fn try_refresh(&self, name: &str) {
        if let Err(error) = self.refresh(name).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(guest = name, error, "a changed guest can't be read; trying again");
        }
        // A guest that another server made is as unprepared as all are after a start.
        if let Ok(guest) = self.guest(name) {
            self.prepare(&guest).await;
        }
    }

    /// Brings a guest up to what the database has of it. If its active release can't be put into
    /// service here, what answered before answers on, and the release is tried again.
    pub(crate) async fn refresh(&self, name: &str) -> Result<(), CatalogError> {
        let Some((row, releases)) = self.inner.store.guest(name).await? else { return Ok(()) };
        let Ok(guest) = self.guest(name) else {
            if let Some(guest) = Guest::stored(row, releases) {
                self.insert(&Arc::new(guest));
            }
            return Ok(());
        };
        if !guest.is_prepared() {
            // What answers is decided when it is prepared, by the newest row.
            self.replace_record(&guest, (row, releases)).await;
            return Ok(());
        }
        if guest.read().row.revision >= row.revision && !guest.is_behind() {
            return Ok(());
        }
        let active = releases.iter().find(|release| release.state == ReleaseState::Active);
        let active = active.filter(|_| row.enabled).map(|release| release.digest.clone());
        let loaded = match &active {
            Some(digest) => self.load_active(&row, digest).await.map(Some),
            None => Ok(None),
        };
        let change = self.inner.changes.lock().await;
        // A change made here meanwhile is newer.
        if guest.read().row.revision > row.revision {
            return Ok(());
        }
        let deleted = guest.write().replace(row, releases);
        match loaded {
            Ok(Some(validated)) => self.activate_release(&guest, validated),
            Ok(None) => self.deactivate(&guest),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    guest = name,
                    release = active,
                    error,
                    "a release that another server activated can't be put into service here; trying again"
                );
            }
        }
        drop(change);
        for digest in deleted {
            self.evict_component(&digest).await;
        }
        Ok(())
    }

    async fn replace_record(&self, guest: &Arc<Guest>, (row, releases): StoredGuest) {
        let change = self.inner.changes.lock().await;
        if guest.read().row.revision >= row.revision {
            return;
        }
        let deleted = guest.write().replace(row, releases);
        drop(change);
        for digest in deleted {
            self.evict_component(&digest).await;
        }
    }
}

fn subscribe(hub: &Hub) -> Subscription {
    hub.subscribe(BACKLOG, |envelope| envelope.name() == "isomer.guest.changed")
}
