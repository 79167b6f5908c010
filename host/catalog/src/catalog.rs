//! The catalog itself: opening it, finding guests in it, calling them, counting calls.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::Arc,
};

use arc_swap::ArcSwap;
use events::{Feed, GuestEvent};
use serde_json::Value;
use store::{
    Store,
    guests::{Counters, ReleaseKey},
};
use tokio::sync::{Mutex, watch};
use tracing::Instrument as _;
use wasm::{Component, FailureKind, Limits, Outcome, Sandbox};

use crate::{
    CatalogError, GuestSummary, GuestView, Manifest, NoAnswer, bootstrap,
    breaker::CallSubject,
    compilations::Compilations,
    component_cache::ComponentCache,
    guest::{ActiveRelease, Guest},
    runtimes::Runtimes,
    stats,
    view::CallResult,
};

/// Every guest of this server. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) sandbox: Sandbox,
    pub(crate) store: Store,
    pub(crate) components: ComponentCache,
    pub(crate) changes_feed: Feed<GuestEvent>,
    pub(crate) guests: ArcSwap<BTreeMap<String, Arc<Guest>>>,
    pub(crate) runtimes: ArcSwap<Runtimes>,
    pub(crate) manifest: Manifest,
    /// Counts changes of what answers.
    pub(crate) changed: watch::Sender<u64>,
    /// Changes are made one at a time. Preparing one (compiling, probing) is done outside.
    pub(crate) changes: Mutex<()>,
    pub(crate) compilations: Compilations,
}

impl Catalog {
    /// Reads every guest, and adds first-party ones that are new. Compiles nothing: guests are put
    /// into service in the background ([`Catalog::background_tasks`]), or by the first call that
    /// needs one.
    ///
    /// # Errors
    /// If the database or the directory of components can't be used.
    pub async fn open(
        sandbox: Sandbox,
        store: Store,
        components: &Path,
        changes_feed: Feed<GuestEvent>,
        manifest: Manifest,
    ) -> Result<Self, CatalogError> {
        stats::describe();
        let components = ComponentCache::open(components)?;
        let stored = bootstrap::seeded(&store).await?;
        let digests: HashSet<&str> =
            stored.iter().flat_map(|(_, releases)| releases).map(|release| release.digest.as_str()).collect();
        match components.sweep(|digest| digests.contains(digest)) {
            Ok(unused) => unused.iter().for_each(|digest| sandbox.evict_compiled(digest)),
            Err(error) => tracing::warn!(%error, "component files without use could not be removed"),
        }
        let guests = stored.into_iter().filter_map(|(row, releases)| Guest::stored(row, releases));
        let guests: BTreeMap<_, _> = guests.map(|guest| (guest.name.clone(), Arc::new(guest))).collect();
        let catalog = Self {
            inner: Arc::new(Inner {
                sandbox,
                store,
                components,
                changes_feed,
                guests: ArcSwap::from_pointee(guests),
                runtimes: ArcSwap::default(),
                manifest,
                changed: watch::Sender::default(),
                changes: Mutex::new(()),
                compilations: Compilations::new(),
            }),
        };
        catalog.index_runtimes();
        Ok(catalog)
    }

    // === Reading ===

    /// Every guest, by name.
    pub async fn list(&self) -> Vec<GuestSummary> {
        self.all_ready().await;
        self.inner.guests.load().values().map(|guest| guest.summary()).collect()
    }

    /// One guest.
    ///
    /// # Errors
    /// If there is none of that name.
    pub async fn show(&self, name: &str) -> Result<GuestView, CatalogError> {
        self.guest_ready(name).await;
        Ok(self.guest(name)?.view())
    }

    /// Names of every runtime that is known, sorted.
    pub async fn known_runtimes(&self) -> Vec<String> {
        self.all_ready().await;
        self.inner.runtimes.load().known().map(str::to_owned).collect()
    }

    /// The runtime itself if it is known, else the one that stands in for unknown ones. Known are
    /// runtimes whose adapters are in service, or were: see [`Catalog::check_decided`].
    #[must_use]
    pub fn sanitize_runtime(&self, runtime: &str) -> String {
        self.inner.runtimes.load().sanitize(runtime).to_owned()
    }

    /// Counts changes of what answers, for those who wait for one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
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

    /// Calls a function of a guest by name, for an operator or author who tries it.
    ///
    /// # Errors
    /// If nothing is in service, the function or its input is wrong, or the guest fails.
    pub async fn call(&self, name: &str, function: &str, input: Value) -> Result<CallResult, CatalogError> {
        let guest = self.guest(name)?;
        self.guest_ready(name).await;
        let active = guest.active.load_full().ok_or(CatalogError::NotInService)?;
        let release = active.component.digest().to_string();
        let call = active.component.call_by_name(function, &active.settings, input);
        let outcome = call.instrument(span(&guest, &active, function)).await?;
        // What an operator tries says nothing about the calls that the guest serves: the breaker ignores it.
        Self::record_call(&guest, &active, function, &outcome);
        match outcome.result {
            Ok(answer) => Ok(CallResult {
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

    /// Calls `function` on the release that answers for `guest`. `subject` says what the call is for, if it fails.
    ///
    /// # Errors
    /// If the guest fails, or the host is busy.
    pub(crate) async fn invoke<T>(
        &self,
        guest: &Arc<Guest>,
        active: &Arc<ActiveRelease>,
        function: &'static str,
        subject: impl FnOnce() -> CallSubject,
        call: impl AsyncFnOnce(&Component) -> Option<Outcome<T>>,
    ) -> Result<T, NoAnswer> {
        let outcome = call(&active.component).instrument(span(guest, active, function)).await;
        // A guest of another world has that name.
        let outcome = outcome.ok_or_else(|| NoAnswer::OutOfService(guest.name.clone()))?;
        self.record_outcome(guest, active, function, subject, &outcome);
        outcome.result.map_err(|failure| NoAnswer::failed(&guest.name, failure))
    }

    /// Counts a call, and logs what the guest wrote and how it failed.
    fn record_call<T>(guest: &Guest, active: &ActiveRelease, function: &str, outcome: &Outcome<T>) {
        active.stats.record(outcome);
        let wrote = !outcome.report.log.is_empty() || outcome.report.log_dropped > 0;
        if wrote || outcome.result.is_err() {
            guest.log.record(&guest.name, &active.component.digest().short(), function, outcome);
        }
    }

    /// Records a call that the guest served, and trips the breaker after too many failures.
    fn record_outcome<T>(
        &self,
        guest: &Arc<Guest>,
        active: &Arc<ActiveRelease>,
        function: &str,
        subject: impl FnOnce() -> CallSubject,
        outcome: &Outcome<T>,
    ) {
        Self::record_call(guest, active, function, outcome);
        let Err(failure) = &outcome.result else {
            active.breaker.succeeded();
            return;
        };
        // An answer that is refused, or an input too large for the guest's memory, may be the caller's
        // doing; it must not take the guest out of service for all callers.
        let counts = matches!(failure.kind(), FailureKind::Trap | FailureKind::Timeout);
        if counts && active.breaker.failed(subject()) {
            let (catalog, guest, active) = (self.clone(), Arc::clone(guest), Arc::clone(active));
            let failures = crate::breaker::FAILURES;
            let reason = format!(
                "{failures} failures in a row, for different workspaces or inputs; the last one: {failure}"
            );
            tokio::spawn(async move { catalog.trip(&guest, &active, &reason).await });
        }
    }

    // === Counters ===

    /// Writes to the database what was counted since the last time. Called at intervals, and before
    /// the server ends.
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

fn span(guest: &Guest, active: &ActiveRelease, function: &str) -> tracing::Span {
    tracing::debug_span!("guest", guest = guest.name, release = active.component.digest().short(), function)
}
