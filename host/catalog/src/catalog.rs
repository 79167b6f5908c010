//! The catalog itself: opening it, finding guests in it, calling them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use events::{Feed, GuestEvent};
use serde_json::Value;
use store::{
    Store,
    guests::{Counters, GuestRow, ReleaseKey, ReleaseRow},
};
use tokio::sync::Mutex;
use tracing::Instrument as _;
use wasm::{Component, FailureKind, Limits, Outcome, Sandbox, Stream, World};

use crate::{
    CatalogError, GuestSummary, GuestView, Manifest,
    blobs::Blobs,
    guest::{Guest, Live},
    runtimes::Runtimes,
    stats,
    view::Called,
};

/// Every guest of this server. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) sandbox: Sandbox,
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) changes_feed: Feed<GuestEvent>,
    pub(crate) guests: ArcSwap<BTreeMap<String, Arc<Guest>>>,
    pub(crate) runtimes: ArcSwap<Runtimes>,
    pub(crate) manifest: Manifest,
    /// Changes are made one at a time. Preparing one (compiling, probing) is done outside.
    pub(crate) changes: Mutex<()>,
    /// One compilation at a time: each takes every core.
    pub(crate) compiler: Mutex<()>,
}

impl Catalog {
    /// Loads what the store has, adds first-party guests that are new, and puts every active
    /// release into service. A guest that can't be put into service is a line in the log and a
    /// reason in its release, never a failed start.
    ///
    /// # Errors
    /// If the store or the directory of components can't be read.
    pub async fn open(
        sandbox: Sandbox,
        store: Store,
        components: &Path,
        changes_feed: Feed<GuestEvent>,
        manifest: Manifest,
    ) -> Result<Self, CatalogError> {
        stats::describe();
        let blobs = Blobs::open(components)?;
        let guests = from_store(&store).await?;
        let catalog = Self {
            inner: Arc::new(Inner {
                sandbox,
                store,
                blobs,
                changes_feed,
                guests: ArcSwap::from_pointee(guests),
                runtimes: ArcSwap::default(),
                manifest,
                changes: Mutex::new(()),
                compiler: Mutex::new(()),
            }),
        };
        if let Err(error) = catalog.inner.blobs.sweep() {
            tracing::warn!(%error, "left-over component files could not be removed");
        }
        catalog.seed().await?;
        catalog.start_all().await;
        catalog.index_runtimes();
        Ok(catalog)
    }

    // === Reading ===

    /// Every guest, by name.
    #[must_use]
    pub fn list(&self) -> Vec<GuestSummary> {
        self.inner.guests.load().values().map(|guest| guest.summary()).collect()
    }

    /// One guest.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn show(&self, name: &str) -> Result<GuestView, CatalogError> {
        Ok(self.guest(name)?.view())
    }

    /// Names of every runtime that is known, sorted.
    #[must_use]
    pub fn known_runtimes(&self) -> Vec<String> {
        self.inner.runtimes.load().known().map(str::to_owned).collect()
    }

    /// The runtime itself if it is known, else the one that stands in for unknown ones.
    #[must_use]
    pub fn sanitise_runtime(&self, runtime: &str) -> String {
        self.inner.runtimes.load().sanitise(runtime).to_owned()
    }

    /// The limits that guests run under.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.inner.sandbox.limits()
    }

    /// Gives `/metrics` what the instance pool holds now.
    pub fn export_pool_use(&self) {
        stats::export_pool_use(&self.inner.sandbox.pool_use());
    }

    pub(crate) fn guest(&self, name: &str) -> Result<Arc<Guest>, CatalogError> {
        self.inner.guests.load().get(name).cloned().ok_or(CatalogError::NoGuest)
    }

    // === Calling ===

    /// Calls a function of a guest by name, for people who try it.
    ///
    /// # Errors
    /// If nothing is in service, the function or its input is wrong, or the guest fails.
    pub async fn call(&self, name: &str, function: &str, input: Value) -> Result<Called, CatalogError> {
        let guest = self.guest(name)?;
        let live = guest.live.load_full().ok_or(CatalogError::NotInService)?;
        let release = live.component.digest().to_string();
        let call = live.component.call_by_name(function, &live.settings, input);
        let outcome = call.instrument(span(&guest, &live, function)).await?;
        self.account(&guest, &live, function, &outcome);
        match outcome.result {
            Ok(answer) => Ok(Called {
                answer,
                release,
                elapsed_us: outcome.report.elapsed.as_micros(),
                peak_memory_bytes: outcome.report.peak_memory,
                log: outcome.report.log,
            }),
            Err(failure) => {
                let (failure, report) = (Box::new(failure), Box::new(outcome.report));
                Err(CatalogError::Failed { failure, release, report })
            }
        }
    }

    /// Calls `function` on what answers for `guest` and gives its answer; `None` where the host's
    /// default has to stand in.
    pub(crate) async fn ask<T>(
        &self,
        guest: &Arc<Guest>,
        live: &Arc<Live>,
        function: &'static str,
        call: impl AsyncFnOnce(&Component) -> Option<Outcome<T>>,
    ) -> Option<T> {
        let outcome = call(&live.component).instrument(span(guest, live, function)).await?;
        self.account(guest, live, function, &outcome);
        outcome.result.ok()
    }

    /// Counts a call, passes on what the guest wrote, and trips the breaker when it is time.
    fn account<T>(&self, guest: &Arc<Guest>, live: &Arc<Live>, function: &str, outcome: &Outcome<T>) {
        live.stats.record(outcome);
        let release = live.component.digest().short();
        for line in &outcome.report.log {
            match line.stream {
                Stream::Out => {
                    tracing::info!(target: "isomer::guest", guest = guest.name, release, "{}", line.text);
                }
                Stream::Err => {
                    tracing::warn!(target: "isomer::guest", guest = guest.name, release, "{}", line.text);
                }
            }
        }
        if outcome.report.log_dropped > 0 {
            let dropped = outcome.report.log_dropped;
            tracing::warn!(target: "isomer::guest", guest = guest.name, release, dropped, "log beyond the limit dropped");
        }
        let Err(failure) = &outcome.result else {
            live.breaker.succeeded();
            return;
        };
        let backtrace = failure.backtrace().join(" < ");
        tracing::warn!(guest = guest.name, release, function, kind = %failure.kind(), backtrace, "{failure}");
        // An answer that is refused, or an input too large for the guest's memory, may be the caller's
        // doing; it must not take the guest away from everybody.
        let counts = matches!(failure.kind(), FailureKind::Trap | FailureKind::Timeout);
        if counts && live.breaker.failed() {
            let (catalog, guest, live) = (self.clone(), Arc::clone(guest), Arc::clone(live));
            let reason = format!("{} failures in a row, the last one: {failure}", crate::breaker::FAILURES);
            tokio::spawn(async move { catalog.trip(&guest, &live, &reason).await });
        }
    }

    // === Counters ===

    /// Writes to the store what was counted since the last time. To be called every now and then, and
    /// before the end.
    pub async fn store_counters(&self) {
        let guests = self.inner.guests.load_full();
        let mut counted = Vec::new();
        for guest in guests.values() {
            counted.extend(guest.unstored().into_iter().map(|unstored| (guest.name.clone(), unstored)));
        }
        if counted.is_empty() {
            return;
        }
        let added: BTreeMap<ReleaseKey, Counters> = counted
            .iter()
            .map(|(guest, (digest, _, counters))| ((guest.clone(), digest.clone()), *counters))
            .collect();
        match self.inner.store.add_release_counters(&added).await {
            Ok(()) => counted.iter().for_each(|(_, (_, stats, counters))| stats.stored(counters)),
            Err(error) => {
                tracing::warn!(%error, "counters could not be stored; they are kept for the next try");
            }
        }
    }
}

fn span(guest: &Guest, live: &Live, function: &str) -> tracing::Span {
    tracing::debug_span!("guest", guest = guest.name, release = live.component.digest().short(), function)
}

async fn from_store(store: &Store) -> Result<BTreeMap<String, Arc<Guest>>, CatalogError> {
    let mut releases: BTreeMap<String, Vec<ReleaseRow>> = BTreeMap::new();
    for release in store.guest_releases().await? {
        releases.entry(release.guest.clone()).or_default().push(release);
    }
    let guest = |row: GuestRow| {
        let Some(world) = World::from_name(&row.world) else {
            tracing::error!(
                guest = row.name,
                world = row.world,
                "a guest of a world that this binary doesn't know is left alone"
            );
            return None;
        };
        let releases = releases.remove(&row.name).unwrap_or_default();
        Some((row.name.clone(), Arc::new(Guest::new(row, world, releases))))
    };
    Ok(store.guests().await?.into_iter().filter_map(guest).collect())
}
