//! A guest in memory: what the database has of it, and the release that answers for it now.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use chrono::{DateTime, Utc};
use store::guests::{Counters, GuestRow, ReleaseRow, ReleaseState};
use wasm::{Component, Settings, World, adapter::Description};

use crate::{
    CatalogError,
    breaker::Breaker,
    guest_log::GuestLog,
    source::Source,
    stats::Stats,
    view::{GuestState, GuestSummary, GuestView, ReleaseView},
};

/// A guest. What answers is swapped as a whole: a call takes hold of it once and ends on it.
pub(crate) struct Guest {
    pub(crate) name: String,
    /// `None`: nothing answers.
    pub(crate) active: ArcSwapOption<ActiveRelease>,
    /// Held while the active release is put into service for the first time.
    pub(crate) preparation: tokio::sync::Mutex<()>,
    /// Is it decided what answers? Not yet when the server has just started.
    prepared: AtomicBool,
    /// Revision of the row that what answers was made from.
    served_revision: AtomicI64,
    /// Does the database no longer have it? It answers and changes nothing then.
    deleted: AtomicBool,
    /// Was it in vain to ask its release which runtimes it answered for? To ask again would be, too.
    unlearnable: AtomicBool,
    pub(crate) log: GuestLog,
    record: RwLock<Record>,
}

/// A release in service, with the settings that it is in service with.
pub(crate) struct ActiveRelease {
    pub(crate) component: Component,
    pub(crate) settings: Settings,
    /// Of adapters.
    pub(crate) description: Option<Arc<Description>>,
    /// Tells it from what was in service on this server before.
    pub(crate) number: u64,
    pub(crate) stats: Arc<Stats>,
    pub(crate) breaker: Breaker,
}

impl ActiveRelease {
    /// Whether it says that it knows this runtime. What is no adapter says nothing.
    pub(crate) fn answers_for(&self, runtime: &str) -> bool {
        self.description.as_ref().is_none_or(|said| said.names().any(|name| name == runtime))
    }
}

/// The row in the database, as of the last change that this server made or followed.
pub(crate) struct Record {
    pub(crate) row: GuestRow,
    /// The row's.
    world: World,
    /// Oldest first.
    pub(crate) releases: Vec<ReleaseRow>,
    stats: HashMap<String, Arc<Stats>>,
}

impl Guest {
    pub(crate) fn new(row: GuestRow, world: World, releases: Vec<ReleaseRow>) -> Self {
        let has_active = releases.iter().any(|release| release.state == ReleaseState::Active);
        let prepared = !row.enabled || !has_active;
        Self {
            name: row.name.clone(),
            active: ArcSwapOption::empty(),
            preparation: tokio::sync::Mutex::default(),
            prepared: AtomicBool::new(prepared),
            served_revision: AtomicI64::new(if prepared { row.revision } else { 0 }),
            deleted: AtomicBool::new(false),
            unlearnable: AtomicBool::new(false),
            log: GuestLog::new(),
            record: RwLock::new(Record { row, world, releases, stats: HashMap::new() }),
        }
    }

    /// A guest of the database; `None` if this binary doesn't know its world.
    pub(crate) fn stored(row: GuestRow, releases: Vec<ReleaseRow>) -> Option<Self> {
        let Some(world) = World::from_name(&row.world) else {
            tracing::error!(
                guest = row.name,
                world = row.world,
                "a guest of a world that this binary doesn't know is left alone"
            );
            return None;
        };
        Some(Self::new(row, world, releases))
    }

    pub(crate) fn is_unlearnable(&self) -> bool {
        self.unlearnable.load(Ordering::Acquire)
    }

    pub(crate) fn set_unlearnable(&self) {
        self.unlearnable.store(true, Ordering::Release);
    }

    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared.load(Ordering::Acquire)
    }

    pub(crate) fn set_prepared(&self) {
        self.prepared.store(true, Ordering::Release);
    }

    pub(crate) fn world(&self) -> World {
        self.read().world
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        self.active.store(None);
    }

    /// What answers was made from the row as it is.
    pub(crate) fn set_served(&self) {
        self.served_revision.store(self.read().row.revision, Ordering::Release);
        self.set_prepared();
    }

    /// Whether the active release was made from an earlier row, because the newest could not be activated.
    pub(crate) fn is_behind(&self) -> bool {
        self.served_revision.load(Ordering::Acquire) != self.read().row.revision
    }

    /// Notes a change that was committed and leaves what answers as it is.
    pub(crate) fn set_committed(&self) {
        let revision = {
            let mut record = self.write();
            record.row.revision += 1;
            record.row.revision
        };
        let previous = revision - 1;
        let _ =
            self.served_revision.compare_exchange(previous, revision, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Record> {
        self.record.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Record> {
        self.record.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Digest of the release that is active, in service or not.
    pub(crate) fn active_digest(&self) -> Option<String> {
        self.read().active().map(|release| release.digest.clone())
    }

    /// Whether this release is or was active.
    pub(crate) fn has_served(&self, digest: &str) -> bool {
        let record = self.read();
        let state = record.release(digest).map(|release| release.state);
        matches!(state, Some(ReleaseState::Active | ReleaseState::Retired))
    }

    /// Counters of releases that the store doesn't have yet.
    pub(crate) fn unstored(&self) -> Vec<(String, Arc<Stats>, Counters)> {
        let record = self.read();
        let unstored = |(digest, stats): (&String, &Arc<Stats>)| {
            stats.unstored().map(|counters| (digest.clone(), Arc::clone(stats), counters))
        };
        record.stats.iter().filter_map(unstored).collect()
    }

    pub(crate) fn summary(&self) -> GuestSummary {
        let record = self.read();
        let active = record.active();
        let state = match (record.row.enabled, self.active.load().is_some()) {
            (false, _) => GuestState::Disabled,
            (true, true) => GuestState::Active,
            (true, false) if !self.is_prepared() => GuestState::Preparing,
            (true, false) => GuestState::HostDefault,
        };
        GuestSummary {
            name: self.name.clone(),
            world: record.world,
            state,
            release: active.map(|release| release.digest.clone()),
            source: active.map(|release| release.source.clone()),
            trusted: record.row.trusted,
            pooled: record.row.pooled,
            counters: record
                .releases
                .iter()
                .map(|release| record.counters(release))
                .fold(Counters::default(), sum),
        }
    }

    pub(crate) fn view(&self) -> GuestView {
        let (summary, description) = (self.summary(), self.description());
        let record = self.read();
        GuestView {
            summary,
            component: record.row.component.clone(),
            settings: record.row.settings.clone(),
            description,
            created_at: record.row.created_at,
            releases: record.releases.iter().rev().map(|release| record.view(release)).collect(),
        }
    }
}

impl Record {
    pub(crate) fn active(&self) -> Option<&ReleaseRow> {
        self.releases.iter().find(|release| release.state == ReleaseState::Active)
    }

    /// The active release, else the one that was activated last.
    pub(crate) fn last_active(&self) -> Option<&ReleaseRow> {
        let activated = || self.releases.iter().filter(|release| release.activated_at.is_some());
        self.active().or_else(|| activated().max_by_key(|release| release.activated_at))
    }

    /// The world that every further release has to have; `None` while no release was ever activated.
    pub(crate) fn bound_world(&self) -> Option<World> {
        self.releases.iter().any(|release| release.activated_at.is_some()).then_some(self.world)
    }

    /// The world of the release that was pushed or activated last, in a guest whose world isn't bound.
    pub(crate) fn set_world(&mut self, world: World) {
        self.world = world;
        world.as_str().clone_into(&mut self.row.world);
    }

    pub(crate) fn release(&self, digest: &str) -> Option<&ReleaseRow> {
        self.releases.iter().find(|release| release.digest == digest)
    }

    /// The release whose digest begins with `digits`.
    pub(crate) fn find(&self, digits: &str) -> Result<&ReleaseRow, CatalogError> {
        let mut found = self.releases.iter().filter(|release| release.digest.starts_with(digits));
        match (found.next(), found.next()) {
            _ if digits.is_empty() => Err(CatalogError::NoRelease),
            (None, _) => Err(CatalogError::NoRelease),
            (Some(release), None) => Ok(release),
            (Some(_), Some(_)) => Err(CatalogError::AmbiguousRelease),
        }
    }

    /// Releases to go back to, best first: those that made room for a later one in the ordinary way,
    /// the last activated first. Those that were rolled back from have a reason, and stay behind.
    pub(crate) fn earlier(&self) -> Vec<String> {
        let limit = self.active().and_then(|active| active.activated_at);
        let mut earlier: Vec<&ReleaseRow> = self
            .releases
            .iter()
            .filter(|release| release.state == ReleaseState::Retired && release.reason.is_none())
            .filter(|release| release.activated_at.is_some())
            .filter(|release| limit.is_none_or(|limit| release.activated_at < Some(limit)))
            .collect();
        earlier.sort_by_key(|release| std::cmp::Reverse(release.activated_at));
        earlier.into_iter().map(|release| release.digest.clone()).collect()
    }

    /// Of a release that is pushed again, where it counts as coming from. Once from the watched directory means so for
    /// good: its file may be there still, and which refused ones were there must be known at the next start.
    pub(crate) fn source_of(&self, pushed: &ReleaseRow) -> String {
        let known = self.release(&pushed.digest).map(|known| known.source.as_str());
        match known {
            Some(known) if known != Source::Upload.as_str() => known.to_owned(),
            _ => pushed.source.clone(),
        }
    }

    /// Adds a release, or gives a known one a new state.
    pub(crate) fn put(&mut self, release: &ReleaseRow) {
        match self.releases.iter_mut().find(|known| known.digest == release.digest) {
            Some(known) => {
                known.state = release.state;
                known.reason.clone_from(&release.reason);
                known.version.clone_from(&release.version);
                known.source.clone_from(&release.source);
                known.refused_at = release.refused_at;
            }
            None => self.releases.push(release.clone()),
        }
    }

    pub(crate) fn set_state(&mut self, digest: &str, state: ReleaseState, reason: Option<&str>) {
        if let Some(release) = self.releases.iter_mut().find(|release| release.digest == digest) {
            release.state = state;
            release.reason = reason.map(str::to_owned);
        }
    }

    /// Mirrors [`store::guests::ReleaseMutation::Reject`].
    pub(crate) fn reject(&mut self, digest: &str, reason: &str, at: DateTime<Utc>) {
        self.set_state(digest, ReleaseState::Rejected, Some(reason));
        if let Some(release) = self.releases.iter_mut().find(|release| release.digest == digest) {
            release.refused_at = Some(at);
        }
    }

    /// Mirrors [`store::guests::ReleaseMutation::Activate`].
    pub(crate) fn activate(
        &mut self,
        digest: &str,
        activated_at: Option<DateTime<Utc>>,
        replaced: (ReleaseState, Option<&str>),
    ) {
        if let Some(active) = self.active().map(|active| active.digest.clone()) {
            self.set_state(&active, replaced.0, replaced.1);
        }
        self.set_state(digest, ReleaseState::Active, None);
        if let Some(release) = self.releases.iter_mut().find(|release| release.digest == digest) {
            release.activated_at = activated_at.or(release.activated_at);
        }
    }

    /// Takes over what the database has; returns digests of releases that it doesn't have any more.
    pub(crate) fn replace(&mut self, row: GuestRow, releases: Vec<ReleaseRow>) -> Vec<String> {
        let is_there = |digest: &str| releases.iter().any(|release| release.digest == digest);
        let digests = self.releases.iter().map(|release| &release.digest);
        let deleted: Vec<String> = digests.filter(|digest| !is_there(digest)).cloned().collect();
        for digest in &deleted {
            self.stats.remove(digest);
        }
        // A world that this binary doesn't know is refused where a release of it is loaded.
        self.world = World::from_name(&row.world).unwrap_or(self.world);
        (self.row, self.releases) = (row, releases);
        deleted
    }

    pub(crate) fn remove(&mut self, digest: &str) {
        self.releases.retain(|release| release.digest != digest);
        self.stats.remove(digest);
    }

    /// The counters of a release that goes into service.
    pub(crate) fn stats(&mut self, digest: &str, short: &str) -> Arc<Stats> {
        if let Some(stats) = self.stats.get(digest) {
            return Arc::clone(stats);
        }
        let stored = self.release(digest).map(|release| release.counters).unwrap_or_default();
        let stats = Arc::new(Stats::new(&self.row.name, short, stored));
        self.stats.insert(digest.to_owned(), Arc::clone(&stats));
        stats
    }

    fn counters(&self, release: &ReleaseRow) -> Counters {
        self.stats.get(&release.digest).map_or(release.counters, |stats| stats.total())
    }

    pub(crate) fn view(&self, release: &ReleaseRow) -> ReleaseView {
        ReleaseView::new(release, self.counters(release))
    }
}

fn sum(a: Counters, b: Counters) -> Counters {
    Counters {
        calls: a.calls + b.calls,
        traps: a.traps + b.traps,
        timeouts: a.timeouts + b.timeouts,
        memory: a.memory + b.memory,
        refused: a.refused + b.refused,
        busy: a.busy + b.busy,
        peak_memory_bytes: a.peak_memory_bytes.max(b.peak_memory_bytes),
    }
}
