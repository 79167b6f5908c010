//! Changes: every way in which what answers for a guest becomes another.
//!
//! A change is prepared (loaded, probed) without any lock, stored in one transaction, and only then
//! seen by callers, in one swap. If any step fails, nothing after it happens, and what answered
//! before answers still.

use std::{collections::BTreeMap, sync::Arc};

use events::{Event, GuestChange, GuestEvent};
use serde_json::Value;
use store::guests::{Counters, GuestRow, ReleaseRow, ReleaseState};
use wasm::{Component, Digest, Settings, adapter::Description};

use crate::{
    Catalog, CatalogError, Conformance, ReleaseView,
    breaker::Breaker,
    conformance, embedded,
    guest::{Guest, Live},
    runtimes::Runtimes,
};

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
    fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Upload => "upload",
            Self::Folder => "folder",
        }
    }
}

/// A component that passed its probes with these settings and this trust.
struct Fit {
    component: Component,
    settings: Settings,
    trusted: bool,
    description: Option<Description>,
}

impl Catalog {
    // === Releases ===

    /// Adds a release to a guest, and the guest if it is new; with `activate` puts it into service
    /// too. Bytes that are there already are the same release.
    ///
    /// # Errors
    /// If the bytes can't run, or are of another world than the guest: then the release, if the
    /// guest has one of these bytes, says why. With `activate` also as [`Catalog::activate`].
    pub async fn push(
        &self,
        name: &str,
        bytes: Vec<u8>,
        source: Source,
        by: &str,
        activate: bool,
    ) -> Result<ReleaseView, CatalogError> {
        if wasm::rules::runtime_name("name", name).is_err() {
            return Err(CatalogError::BadName);
        }
        let digest = Digest::of(&bytes);
        let mut release = new_release(name, &digest, bytes.len(), source, by);
        let guest = self.guest(name).ok();
        let component = match self.load(bytes.clone()).await {
            Ok(component) => component,
            Err(error) => return Err(self.refuse(guest.as_ref(), release, error).await),
        };
        if let Some(guest) = guest.as_ref().filter(|guest| guest.world != component.world()) {
            let error = CatalogError::OtherWorld {
                guest: name.to_owned(),
                has: guest.world.to_string(),
                pushed: component.world().to_string(),
            };
            return Err(self.refuse(Some(guest), release, error).await);
        }
        release.version = Some(component.version().to_owned());

        let guest = {
            let _change = self.inner.changes.lock().await;
            self.inner.blobs.keep(&digest, &bytes)?;
            self.add(&component, release).await?
        };
        if activate {
            return self.activate(name, &digest.to_string()).await;
        }
        let record = guest.read();
        record.release(&digest.to_string()).map(|release| record.view(release)).ok_or(CatalogError::NoRelease)
    }

    /// Stores a staged release, with its guest if that is new. A release that is in service or can
    /// be rolled back to keeps its state.
    async fn add(&self, component: &Component, release: ReleaseRow) -> Result<Arc<Guest>, CatalogError> {
        let known = self.guest(&release.guest).ok();
        if let Some(guest) = &known {
            let state = guest.read().release(&release.digest).map(|release| release.state);
            if matches!(state, Some(ReleaseState::Active | ReleaseState::Retired)) {
                return Ok(Arc::clone(guest));
            }
        }
        let guest = known.unwrap_or_else(|| {
            let row = GuestRow {
                name: release.guest.clone(),
                world: component.world().to_string(),
                component: None,
                trusted: false,
                enabled: true,
                settings: Settings::default().value(),
                created_at: release.pushed_at,
            };
            Arc::new(Guest::new(row, component.world(), Vec::new()))
        });
        let row = guest.read().row.clone();
        self.inner.store.put_release(&row, &release).await?;
        guest.write().put(&release);
        self.insert(&guest);
        self.emit(&guest.name, GuestChange::Pushed, Some(&release.digest), None);
        Ok(guest)
    }

    /// Notes on the guest why bytes can't be a release of it. A name without a guest stays one.
    async fn refuse(
        &self,
        guest: Option<&Arc<Guest>>,
        mut release: ReleaseRow,
        error: CatalogError,
    ) -> CatalogError {
        let Some(guest) = guest else { return error };
        let reason = error.to_string();
        release.state = ReleaseState::Rejected;
        release.reason = Some(reason.clone());
        let _change = self.inner.changes.lock().await;
        let row = guest.read().row.clone();
        if let Err(error) = self.inner.store.put_release(&row, &release).await {
            return error.into();
        }
        guest.write().put(&release);
        self.emit(&guest.name, GuestChange::Rejected, Some(&release.digest), Some(&reason));
        error
    }

    /// Puts a release into service. `digits` is its digest or the beginning of it.
    ///
    /// # Errors
    /// If the component fails its probes with the guest's settings, or answers for a runtime that
    /// another guest answers for; the release says why.
    pub async fn activate(&self, name: &str, digits: &str) -> Result<ReleaseView, CatalogError> {
        let guest = self.guest(name)?;
        let digest = guest.read().find(digits)?.digest.clone();
        loop {
            let fit = match self.fit(&guest, &digest).await {
                Ok(fit) => fit,
                Err(error) => return Err(self.reject(&guest, &digest, error).await),
            };
            let _change = self.inner.changes.lock().await;
            if self.outdated(&guest, &fit) {
                continue;
            }
            if let Err(error) = self.names_free(&guest, fit.description.as_ref()) {
                return Err(self.reject_locked(&guest, &digest, error).await);
            }
            if guest.read().active().is_none_or(|active| active.digest != digest) {
                let now = store::now();
                let leaving = (ReleaseState::Retired, None);
                self.inner.store.activate_release(name, &digest, Some(now), leaving).await?;
                guest.write().activate(&digest, Some(now), leaving);
            }
            self.go_live(&guest, fit);
            self.emit(name, GuestChange::Activated, Some(&digest), None);
            return view(&guest, &digest);
        }
    }

    /// Puts the release back into service that answered before the active one did.
    ///
    /// # Errors
    /// If there is none, or it is no longer fit; then the active one stays.
    pub async fn rollback(&self, name: &str, by: &str) -> Result<ReleaseView, CatalogError> {
        let guest = self.guest(name)?;
        let digest = guest.read().earlier().map(|release| release.digest.clone());
        let digest = digest.ok_or(CatalogError::NothingEarlier)?;
        let reason = format!("rolled back by {by}");
        self.go_back(&guest, &digest, (ReleaseState::Retired, Some(&reason))).await?;
        self.emit(name, GuestChange::RolledBack, Some(&digest), Some(&reason));
        view(&guest, &digest)
    }

    async fn go_back(
        &self,
        guest: &Arc<Guest>,
        digest: &str,
        leaving: (ReleaseState, Option<&str>),
    ) -> Result<(), CatalogError> {
        loop {
            let fit = self.fit(guest, digest).await?;
            let _change = self.inner.changes.lock().await;
            if self.outdated(guest, &fit) {
                continue;
            }
            self.names_free(guest, fit.description.as_ref())?;
            self.inner.store.activate_release(&guest.name, digest, None, leaving).await?;
            guest.write().activate(digest, None, leaving);
            self.go_live(guest, fit);
            return Ok(());
        }
    }

    /// Removes a release that is out of service, and its bytes unless another guest has them.
    ///
    /// # Errors
    /// If it is active.
    pub async fn delete(&self, name: &str, digits: &str) -> Result<(), CatalogError> {
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
            self.sweep_blobs();
        }
        self.emit(name, GuestChange::Deleted, Some(&digest), None);
        Ok(())
    }

    // === Rows ===

    /// Gives a guest other settings.
    ///
    /// # Errors
    /// If its active release refuses them, or is unfit with them; then the old ones stay.
    pub async fn configure(&self, name: &str, settings: &Value) -> Result<(), CatalogError> {
        Settings::new(settings, self.limits().settings_bytes)?;
        self.change_row(name, GuestChange::Configured, |row| row.settings = settings.clone()).await
    }

    /// Lets a guest answer, or the host's defaults.
    ///
    /// # Errors
    /// If its active release is no longer fit.
    pub async fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), CatalogError> {
        let change = if enabled { GuestChange::Enabled } else { GuestChange::Disabled };
        self.change_row(name, change, |row| row.enabled = enabled).await
    }

    /// Marks a guest as trusted, or not. The mark survives releases.
    ///
    /// # Errors
    /// If the active release can't be in service without it.
    pub async fn set_trusted(&self, name: &str, trusted: bool) -> Result<(), CatalogError> {
        self.change_row(name, GuestChange::TrustChanged, |row| row.trusted = trusted).await
    }

    async fn change_row(
        &self,
        name: &str,
        change: GuestChange,
        edit: impl Fn(&mut GuestRow),
    ) -> Result<(), CatalogError> {
        let guest = self.guest(name)?;
        loop {
            let (before, mut row, active) = {
                let record = guest.read();
                let active = record.active().map(|release| release.digest.clone());
                (record.row.clone(), record.row.clone(), active)
            };
            edit(&mut row);
            let fit = match &active {
                Some(digest) if row.enabled => Some(self.fit_as(&row, digest).await.map_err(refused)?),
                _ => None,
            };
            let _change = self.inner.changes.lock().await;
            let unchanged = {
                let record = guest.read();
                record.row == before && record.active().map(|release| &release.digest) == active.as_ref()
            };
            if !unchanged {
                continue;
            }
            if let Some(fit) = &fit {
                self.names_free(&guest, fit.description.as_ref())?;
            }
            self.inner.store.update_guest(&row).await?;
            guest.write().row = row;
            match fit {
                Some(fit) => self.go_live(&guest, fit),
                None => self.take_out(&guest),
            }
            self.emit(name, change, active.as_deref(), None);
            return Ok(());
        }
    }

    // === Breaker ===

    /// Takes a failing release out of service: back to the last good one, else the host's defaults.
    pub(crate) async fn trip(&self, guest: &Arc<Guest>, failing: &Arc<Live>, reason: &str) {
        let still_in_service =
            |guest: &Guest| guest.live.load().as_ref().is_some_and(|live| Arc::ptr_eq(live, failing));
        if !still_in_service(guest) {
            return;
        }
        // Nobody should wait for another deadline while the way back is prepared.
        guest.live.store(None);
        self.fall_back(guest, reason).await;
    }

    /// From the active release, which can't be in service, to the last good one.
    async fn fall_back(&self, guest: &Arc<Guest>, reason: &str) {
        let failed = guest.read().active().map(|release| release.digest.clone());
        let earlier = guest.read().earlier().map(|release| release.digest.clone());
        if let Some(digest) = &earlier {
            match self.go_back(guest, digest, (ReleaseState::Rejected, Some(reason))).await {
                Ok(()) => {
                    self.emit(&guest.name, GuestChange::Tripped, failed.as_deref(), Some(reason));
                    self.emit(&guest.name, GuestChange::RolledBack, Some(digest), Some(reason));
                    return;
                }
                Err(error) => {
                    tracing::warn!(guest = guest.name, release = digest, %error, "no way back to this release")
                }
            }
        }
        let _change = self.inner.changes.lock().await;
        if let Err(error) = self.inner.store.reject_active_release(&guest.name, reason).await {
            tracing::error!(guest = guest.name, %error, "that a release is out of service could not be stored; the next start tries it again");
        }
        if let Some(digest) = &failed {
            guest.write().set_state(digest, ReleaseState::Rejected, Some(reason));
        }
        self.take_out(guest);
        self.emit(&guest.name, GuestChange::Tripped, failed.as_deref(), Some(reason));
    }

    // === Start ===

    /// Adds first-party rows that the store doesn't have, and first-party releases that are newer
    /// than the store's. A release that somebody else put into service stays there.
    pub(crate) async fn seed(&self) -> Result<(), CatalogError> {
        for embedded in embedded::ROWS {
            let digest = embedded.digest();
            let Ok(parsed) = digest.parse::<Digest>() else { continue };
            let known = self.guest(embedded.name).ok();
            if known.as_ref().is_some_and(|guest| guest.read().release(&digest).is_some()) {
                continue;
            }
            let Some(world) = wasm::World::from_name(embedded.world) else { continue };
            let mut release =
                new_release(embedded.name, &parsed, embedded.bytes.len(), Source::Embedded, "isomer");
            let guest = known.unwrap_or_else(|| {
                let row = GuestRow {
                    name: embedded.name.to_owned(),
                    world: embedded.world.to_owned(),
                    component: Some(embedded.component.to_owned()),
                    trusted: embedded.trusted,
                    enabled: true,
                    settings: embedded.settings(),
                    created_at: release.pushed_at,
                };
                Arc::new(Guest::new(row, world, Vec::new()))
            });
            release.version = world.versions().first().map(|&version| version.to_owned());
            let row = guest.read().row.clone();
            let ours = guest.read().active().is_none_or(|active| active.source == Source::Embedded.as_str());
            self.inner.store.put_release(&row, &release).await?;
            guest.write().put(&release);
            if ours {
                let now = store::now();
                let leaving = (ReleaseState::Retired, None);
                self.inner.store.activate_release(&guest.name, &digest, Some(now), leaving).await?;
                guest.write().activate(&digest, Some(now), leaving);
            }
            self.insert(&guest);
        }
        Ok(())
    }

    /// Puts every active release into service. They passed their probes when they were activated;
    /// here they only say again what they are.
    pub(crate) async fn start_all(&self) {
        let guests = self.inner.guests.load_full();
        for guest in guests.values() {
            let (row, active) = {
                let record = guest.read();
                (record.row.clone(), record.active().map(|release| release.digest.clone()))
            };
            let Some(digest) = active.filter(|_| row.enabled) else { continue };
            match self.described(&row, &digest).await {
                Ok(fit) => self.go_live(guest, fit),
                Err(error) => {
                    let reason = format!("at start: {error}");
                    tracing::error!(
                        guest = guest.name,
                        release = digest,
                        reason,
                        "a guest can't be put into service"
                    );
                    self.fall_back(guest, &reason).await;
                }
            }
        }
    }

    async fn described(&self, row: &GuestRow, digest: &str) -> Result<Fit, CatalogError> {
        let component = self.load_release(digest).await?;
        let settings = Settings::new(&row.settings, self.limits().settings_bytes)?;
        let description = match component.adapter() {
            Some(adapter) => {
                let outcome = adapter.describe(&settings).await;
                let failed = |failure| CatalogError::Failed {
                    failure,
                    release: digest.to_owned(),
                    report: outcome.report,
                };
                Some(outcome.result.map_err(failed)?)
            }
            None => None,
        };
        Ok(Fit { component, settings, trusted: row.trusted, description })
    }

    // === Steps ===

    async fn load(&self, bytes: Vec<u8>) -> Result<Component, CatalogError> {
        let _turn = self.inner.compiler.lock().await;
        let sandbox = self.inner.sandbox.clone();
        let loaded = tokio::task::spawn_blocking(move || sandbox.load(&bytes)).await;
        Ok(loaded.map_err(|_| CatalogError::Crashed)??)
    }

    /// A release's component: one that is in service already, or from disk.
    async fn load_release(&self, digest: &str) -> Result<Component, CatalogError> {
        let Ok(digest) = digest.parse::<Digest>() else { return Err(CatalogError::NoRelease) };
        let in_service = self.inner.guests.load().values().find_map(|guest| {
            let live = guest.live.load();
            live.as_ref().filter(|live| live.component.digest() == digest).map(|live| live.component.clone())
        });
        if let Some(component) = in_service {
            return Ok(component);
        }
        let (sandbox, blobs) = (self.inner.sandbox.clone(), self.inner.blobs.clone());
        let cached = tokio::task::spawn_blocking(move || match sandbox.load_compiled(&digest) {
            Some(component) => Ok(Ok(component)),
            None => blobs.read(&digest).map(Err),
        });
        match cached.await.map_err(|_| CatalogError::Crashed)?? {
            Ok(component) => Ok(component),
            Err(bytes) => self.load(bytes).await,
        }
    }

    async fn fit(&self, guest: &Guest, digest: &str) -> Result<Fit, CatalogError> {
        let row = guest.read().row.clone();
        self.fit_as(&row, digest).await
    }

    /// Loads and probes a release with the settings and the trust of `row`.
    async fn fit_as(&self, row: &GuestRow, digest: &str) -> Result<Fit, CatalogError> {
        let component = self.load_release(digest).await?;
        let settings = Settings::new(&row.settings, self.limits().settings_bytes)?;
        let found = conformance::probe(&component, &settings, row.trusted, self.limits()).await;
        match found.reason() {
            None => Ok(Fit { component, settings, trusted: row.trusted, description: found.description }),
            Some(reason) => Err(CatalogError::Unfit { reason, conformance: Box::new(found) }),
        }
    }

    /// Did somebody change what the probes relied on meanwhile?
    fn outdated(&self, guest: &Guest, fit: &Fit) -> bool {
        let record = guest.read();
        record.row.trusted != fit.trusted || record.row.settings != fit.settings.value()
    }

    async fn reject(&self, guest: &Arc<Guest>, digest: &str, error: CatalogError) -> CatalogError {
        let _change = self.inner.changes.lock().await;
        self.reject_locked(guest, digest, error).await
    }

    /// Notes on a release why it can't go into service, unless that is the host's fault.
    async fn reject_locked(&self, guest: &Arc<Guest>, digest: &str, error: CatalogError) -> CatalogError {
        if !matches!(
            error,
            CatalogError::Unfit { .. } | CatalogError::NameTaken { .. } | CatalogError::Unloadable(_)
        ) {
            return error;
        }
        if guest.read().release(digest).is_none_or(|release| release.state == ReleaseState::Active) {
            return error;
        }
        let reason = error.to_string();
        if let Err(error) = self.inner.store.reject_release(&guest.name, digest, &reason).await {
            return error.into();
        }
        guest.write().set_state(digest, ReleaseState::Rejected, Some(&reason));
        self.emit(&guest.name, GuestChange::Rejected, Some(digest), Some(&reason));
        error
    }

    fn names_free(&self, guest: &Guest, description: Option<&Description>) -> Result<(), CatalogError> {
        let Some(description) = description else { return Ok(()) };
        let runtimes = self.inner.runtimes.load();
        for name in description.aliases.iter().chain([&description.name]) {
            if let Some(other) = runtimes.guest(name).filter(|&other| other != guest.name) {
                return Err(CatalogError::NameTaken { name: name.clone(), guest: other.to_owned() });
            }
        }
        Ok(())
    }

    /// The swap: from here on callers get this.
    fn go_live(&self, guest: &Arc<Guest>, fit: Fit) {
        let digest = fit.component.digest();
        let (enabled, stats) = {
            let mut record = guest.write();
            (record.row.enabled, record.stats(&digest.to_string(), &digest.short()))
        };
        let live = Live {
            component: fit.component,
            settings: fit.settings,
            description: fit.description,
            stats,
            breaker: Breaker::default(),
        };
        guest.live.store(enabled.then(|| Arc::new(live)));
        self.index_runtimes();
    }

    fn take_out(&self, guest: &Guest) {
        guest.live.store(None);
        self.index_runtimes();
    }

    pub(crate) fn index_runtimes(&self) {
        let mut answered = BTreeMap::new();
        for guest in self.inner.guests.load().values() {
            if let Some(description) = guest.live.load().as_ref().and_then(|live| live.description.as_ref()) {
                for name in description.aliases.iter().chain([&description.name]) {
                    answered.insert(name.clone(), guest.name.clone());
                }
            }
        }
        self.inner.runtimes.store(Arc::new(Runtimes::new(&self.inner.manifest, answered)));
    }

    fn insert(&self, guest: &Arc<Guest>) {
        self.inner.guests.rcu(|guests| {
            let mut guests = BTreeMap::clone(guests);
            guests.entry(guest.name.clone()).or_insert_with(|| Arc::clone(guest));
            guests
        });
    }

    fn emit(&self, guest: &str, change: GuestChange, release: Option<&str>, reason: Option<&str>) {
        self.inner.hub.emit(Event::Guest(GuestEvent {
            guest: guest.to_owned(),
            change,
            release: release.map(str::to_owned),
            reason: reason.map(str::to_owned),
        }));
    }
}

fn new_release(guest: &str, digest: &Digest, size: usize, source: Source, by: &str) -> ReleaseRow {
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

/// A row's change that a probe objects to is the change's fault, not the release's.
fn refused(error: CatalogError) -> CatalogError {
    match error {
        CatalogError::Unfit { reason, .. } => CatalogError::SettingsRefused { reason },
        other => other,
    }
}

/// What a guest's conformance came to, for authors without a server.
///
/// # Errors
/// If the bytes can't run, or the settings are none.
pub async fn check(
    sandbox: &wasm::Sandbox,
    bytes: &[u8],
    settings: &Value,
    trusted: bool,
) -> Result<(Component, Conformance), CatalogError> {
    let component = sandbox.load(bytes)?;
    let settings = Settings::new(settings, sandbox.limits().settings_bytes)?;
    let found = conformance::probe(&component, &settings, trusted, sandbox.limits()).await;
    Ok((component, found))
}
