//! What happens to guests when the server starts.

use std::sync::Arc;

use store::guests::{GuestRow, ReleaseRow, ReleaseState};
use wasm::{Digest, Failure, Settings, World};

use crate::{
    Catalog, CatalogError, embedded,
    guest::Guest,
    lifecycle::{Source, new_release},
    service::Fit,
};

impl Catalog {
    /// Adds first-party rows that the store doesn't have, and first-party releases that are newer
    /// than the store's. A release that somebody else put into service stays there.
    pub(crate) async fn seed(&self) -> Result<(), CatalogError> {
        for row in embedded::ROWS {
            self.seed_row(row).await?;
        }
        Ok(())
    }

    async fn seed_row(&self, embedded: &embedded::Row) -> Result<(), CatalogError> {
        let (Ok(digest), Some(world)) =
            (embedded.digest().parse::<Digest>(), World::from_name(embedded.world))
        else {
            return Ok(());
        };
        let mut release =
            new_release(embedded.name, &digest, embedded.bytes.len(), Source::Embedded, "isomer");
        release.version = world.versions().first().map(|&version| version.to_owned());
        let guest = self.guest(embedded.name).unwrap_or_else(|_| {
            let row = GuestRow {
                name: embedded.name.to_owned(),
                world: embedded.world.to_owned(),
                component: Some(embedded.component.to_owned()),
                trusted: embedded.trusted,
                enabled: true,
                reused: embedded.reused,
                settings: embedded.settings(),
                created_at: release.pushed_at,
            };
            Arc::new(Guest::new(row, world, Vec::new()))
        });
        let (known, activates) = {
            let record = guest.read();
            let ours = record.active().is_none_or(|active| active.source == Source::Embedded.as_str());
            let known = record.release(&release.digest);
            let untried = known.is_none_or(ReleaseRow::is_untried);
            (known.is_some(), ours && untried)
        };
        if !known {
            self.inner.blobs.keep(&digest, embedded.bytes)?;
            let row = guest.read().row.clone();
            self.inner.store.put_release(&row, &release).await?;
            guest.write().put(&release);
        }
        if activates {
            let now = store::now();
            let leaving = (ReleaseState::Retired, None);
            self.inner.store.activate_release(&guest.name, &release.digest, Some(now), leaving).await?;
            guest.write().activate(&release.digest, Some(now), leaving);
        }
        self.insert(&guest);
        Ok(())
    }

    /// Puts every active release into service. They passed their probes when they were activated;
    /// here they only say again what they are.
    pub(crate) async fn start_all(&self) {
        let guests = self.inner.guests.load_full();
        for guest in guests.values() {
            let row = guest.read().row.clone();
            let Some(digest) = guest.active_digest().filter(|_| row.enabled) else { continue };
            match self.described(&row, &digest).await {
                Ok(fit) => self.go_live(guest, fit),
                Err(error) if error.is_the_guests_fault() => {
                    let reason = format!("at start: {error}");
                    tracing::error!(
                        guest = guest.name,
                        release = digest,
                        reason,
                        "a guest can't be in service"
                    );
                    self.fall_back(guest, &digest, &reason).await;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        guest = guest.name,
                        release = digest,
                        error,
                        "a guest could not be put into service; it stays active for the next start, or for `isomer guest activate`"
                    );
                }
            }
        }
    }

    async fn described(&self, row: &GuestRow, digest: &str) -> Result<Fit, CatalogError> {
        let component = self.load_release(row, digest).await?;
        let settings = Settings::new(&row.settings, self.limits().settings_bytes)?;
        let description = match component.adapter() {
            Some(adapter) => {
                let mut outcome = adapter.describe(&settings).await;
                if matches!(outcome.result, Err(Failure::Timeout { .. } | Failure::Busy { .. })) {
                    // A machine that has just started may be too busy for anybody's deadline.
                    outcome = adapter.describe(&settings).await;
                }
                let (release, report) = (digest.to_owned(), Box::new(outcome.report));
                let failed = |failure| CatalogError::Failed { failure: Box::new(failure), release, report };
                Some(outcome.result.map_err(failed)?)
            }
            None => None,
        };
        Ok(Fit { component, settings, trusted: row.trusted, description })
    }
}
