//! Updates of a guest's row: settings, trust, whether and how it answers.

use events::GuestChange;
use serde_json::Value;
use store::guests::GuestRow;
use wasm::Settings;

use crate::{Catalog, CatalogError, descriptions::accept};

/// What an operator decides about a guest, apart from its releases.
#[derive(Debug, Clone, PartialEq)]
pub enum GuestUpdate {
    /// Other settings: a JSON object.
    Settings(Value),
    /// Whether the guest is enabled. Otherwise it is not asked; its names stay its own.
    Enabled(bool),
    /// May the guest ask for hosting other than a container? The mark survives releases.
    Trusted(bool),
    /// Do calls take warm instances from a pool? That is quicker by far, and calls may see what earlier
    /// ones left in memory. Otherwise every call has a fresh instance.
    Pooled(bool),
}

impl GuestUpdate {
    fn apply(&self, row: &mut GuestRow) {
        match self {
            Self::Settings(settings) => row.settings = settings.clone(),
            Self::Enabled(enabled) => row.enabled = *enabled,
            Self::Trusted(trusted) => row.trusted = *trusted,
            Self::Pooled(pooled) => row.pooled = *pooled,
        }
    }

    fn event(&self) -> GuestChange {
        match self {
            Self::Settings(_) => GuestChange::Configured,
            Self::Enabled(true) => GuestChange::Enabled,
            Self::Enabled(false) => GuestChange::Disabled,
            Self::Trusted(true) => GuestChange::Trusted,
            Self::Trusted(false) => GuestChange::Untrusted,
            Self::Pooled(true) => GuestChange::Pooled,
            Self::Pooled(false) => GuestChange::PerCall,
        }
    }
}

impl Catalog {
    /// Updates a guest's row.
    ///
    /// # Errors
    /// If settings are none, or the active release fails its probes with the updated row; then nothing
    /// changes.
    pub async fn update(&self, name: &str, update: &GuestUpdate, by: &str) -> Result<(), CatalogError> {
        if let GuestUpdate::Settings(settings) = update {
            Settings::new(settings, self.limits().settings_bytes)?;
        }
        let guest = self.guest(name)?;
        // Which runtime names are free is known once every adapter is.
        self.all_ready().await;
        loop {
            let (before, world) = {
                let record = guest.read();
                (record.row.clone(), record.bound_world())
            };
            let active = guest.active_digest();
            let mut row = before.clone();
            update.apply(&mut row);
            let validated = match &active {
                Some(digest) if row.enabled => {
                    Some(self.validate_as(&row, world, digest).await.map_err(refused)?)
                }
                _ => None,
            };
            let change = self.inner.changes.lock().await;
            if guest.read().row != before || guest.active_digest() != active {
                continue;
            }
            if let Some(validated) = &validated {
                self.check_runtime_names(&guest, validated)?;
            }
            let accepted = match &validated {
                Some(validated) => validated.description.clone(),
                None => guest.description().as_deref().cloned(),
            };
            accept(&mut row, accepted.as_ref());
            match self.commit(&guest, row, Vec::new()).await {
                Err(CatalogError::Superseded) => {
                    drop(change);
                    self.refresh(name).await?;
                    continue;
                }
                committed => committed?,
            }
            {
                let mut record = guest.write();
                update.apply(&mut record.row);
                record.accept(accepted.as_ref());
            }
            match validated {
                Some(validated) => self.activate_release(&guest, validated),
                None => self.deactivate(&guest),
            }
            self.emit(name, update.event(), active.as_deref(), Some(by), None);
            return Ok(());
        }
    }
}

/// A probe that fails with the updated row is the update's fault, not the release's.
fn refused(error: CatalogError) -> CatalogError {
    match error {
        CatalogError::Unfit { reason, .. } => CatalogError::RowRefused { reason },
        other => other,
    }
}
