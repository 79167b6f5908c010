//! Following changes that other servers of the deployment make to guests.
//!
//! An event says that a guest changed; the row's revision says whether this server has that change. So
//! a lost event costs time only: revisions are compared at the start, after a lag, and now and then.
//! Guests are refreshed side by side (`refreshes`): one that takes long to compile delays no other.

use std::{sync::Arc, time::Duration};

use events::{Event, Hub, Received, Subscription};
use store::guests::{GuestRevision, ReleaseState};
use tokio::time::{MissedTickBehavior, interval};

use crate::{Catalog, CatalogError, bootstrap::StoredGuest, guest::Guest, refreshes::Refreshes};

/// How often revisions are compared, and releases tried again that could not be put into service.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Events that wait at most before the subscription lags.
const BACKLOG: usize = 256;

impl Catalog {
    /// Follows changes until the hub is closed. `progress` is called at least once in each
    /// [`POLL_INTERVAL`].
    pub(crate) async fn replicate(&self, hub: &Hub, progress: impl Fn() + Send) {
        let mut changes = subscribe(hub);
        let mut refreshes = Refreshes::new(|name| {
            let catalog = self.clone();
            async move { catalog.try_refresh(&name).await }
        });
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            progress();
            tokio::select! {
                received = changes.next() => match received {
                    Received::Event(envelope) => {
                        if let Some(Event::GuestChanged(changed)) = envelope.event() {
                            refreshes.begin(changed.guest);
                        }
                    }
                    Received::Lagged => {
                        changes = subscribe(hub);
                        ticks.reset_immediately();
                    }
                    Received::Closed => return,
                },
                _ = ticks.tick() => {
                    for name in self.outdated().await {
                        refreshes.begin_if_due(name);
                    }
                }
                () = refreshes.next_finished() => {}
            }
        }
    }

    /// Guests of which the database has another revision or which it no longer has, those whose active release could
    /// not be put into service here, and those whose names could not be learned.
    async fn outdated(&self) -> Vec<String> {
        if self.inner.compilations.is_stopped() {
            return Vec::new();
        }
        let revisions = match self.inner.store.guest_revisions().await {
            Ok(revisions) => revisions,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "revisions of guests can't be read");
                return Vec::new();
            }
        };
        let is_stored = |name: &str| revisions.iter().any(|(stored, ..)| stored == name);
        let guests = self.inner.guests.load_full();
        let deleted: Vec<String> = guests.keys().filter(|name| !is_stored(name)).cloned().collect();
        let is_current = |(name, created_at, revision): &GuestRevision| {
            guests.get(name).is_some_and(|guest| {
                let record = guest.read();
                record.row.created_at == *created_at
                    && record.row.revision >= *revision
                    && !(guest.is_prepared() && guest.is_behind())
                    && !Self::is_to_be_learned(guest)
            })
        };
        let changed = revisions.into_iter().filter(|revision| !is_current(revision)).map(|(name, ..)| name);
        deleted.into_iter().chain(changed).collect()
    }

    /// Returns whether this server now has what the database has of the guest.
    async fn try_refresh(&self, name: &str) -> bool {
        if let Err(error) = self.refresh(name).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(guest = name, error, "a changed guest can't be read; trying again");
            return false;
        }
        let Ok(guest) = self.guest(name) else {
            // Deleted, or of a world that this binary doesn't know.
            return matches!(self.inner.store.guest(name).await, Ok(None));
        };
        // A guest that another server made is as unprepared as all are after a start.
        self.prepare(&guest).await;
        if guest.read().row.description.is_none() {
            self.store_description(&guest).await;
        }
        self.learn_description(&guest).await;
        !guest.is_behind() || self.inner.compilations.is_stopped()
    }

    /// Brings a guest up to what the database has of it, if anything. If its active release can't be put into
    /// service here, what answered before answers on, and the release is tried again.
    pub(crate) async fn refresh(&self, name: &str) -> Result<(), CatalogError> {
        let known = self.guest(name).ok();
        let (guest, (row, releases)) = match (known, self.inner.store.guest(name).await?) {
            (None, None) => return Ok(()),
            (None, Some((row, releases))) => {
                if let Some(guest) = Guest::stored(row, releases) {
                    self.insert(&Arc::new(guest));
                }
                return Ok(());
            }
            (Some(guest), Some(stored)) if guest.read().row.is_same_guest(&stored.0) => (guest, stored),
            (Some(guest), stored) => {
                self.replace_deleted(&guest, stored).await;
                return Ok(());
            }
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
            // Nothing is wrong with the release, and nothing is tried again.
            Err(CatalogError::Stopping) => {}
            Err(error) => {
                // Its names may be others.
                self.index_runtimes();
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
        self.evict_refused(&deleted).await;
        Ok(())
    }

    async fn replace_record(&self, guest: &Arc<Guest>, (row, releases): StoredGuest) {
        let change = self.inner.changes.lock().await;
        if guest.read().row.revision >= row.revision {
            return;
        }
        let deleted = guest.write().replace(row, releases);
        self.index_runtimes();
        drop(change);
        self.evict_refused(&deleted).await;
    }
}

fn subscribe(hub: &Hub) -> Subscription {
    hub.subscribe(BACKLOG, |envelope| envelope.name() == "isomer.guest.changed")
}
