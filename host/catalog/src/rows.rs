//! Changes to a guest's row: settings, trust, whether and how it answers.

use events::GuestChange;
use serde_json::Value;
use store::guests::GuestRow;
use wasm::Settings;

use crate::{Catalog, CatalogError};

/// What an operator decides about a guest, apart from its releases.
#[derive(Debug, Clone, PartialEq)]
pub enum RowChange {
    /// Other settings: a JSON object.
    Settings(Value),
    /// Does the guest answer, or the host's defaults?
    Enabled(bool),
    /// May the guest ask for hosting other than a container? The mark survives releases.
    Trusted(bool),
    /// Are its instances used again for later calls? Quicker by far, and calls may see what earlier
    /// ones left in memory. Otherwise every call has a fresh one.
    Reused(bool),
}

impl RowChange {
    fn apply(&self, row: &mut GuestRow) {
        match self {
            Self::Settings(settings) => row.settings = settings.clone(),
            Self::Enabled(enabled) => row.enabled = *enabled,
            Self::Trusted(trusted) => row.trusted = *trusted,
            Self::Reused(reused) => row.reused = *reused,
        }
    }

    fn event(&self) -> GuestChange {
        match self {
            Self::Settings(_) => GuestChange::Configured,
            Self::Enabled(true) => GuestChange::Enabled,
            Self::Enabled(false) => GuestChange::Disabled,
            Self::Trusted(true) => GuestChange::Trusted,
            Self::Trusted(false) => GuestChange::Distrusted,
            Self::Reused(true) => GuestChange::Reused,
            Self::Reused(false) => GuestChange::Fresh,
        }
    }
}

impl Catalog {
    /// Changes a guest's row. When something else of it changes meanwhile, that is looked at anew.
    ///
    /// # Errors
    /// If settings are none, or the active release is unfit with the changed row; then nothing
    /// changes.
    pub async fn change_row(&self, name: &str, change: &RowChange, by: &str) -> Result<(), CatalogError> {
        if let RowChange::Settings(settings) = change {
            Settings::new(settings, self.limits().settings_bytes)?;
        }
        let guest = self.guest(name)?;
        loop {
            let before = guest.read().row.clone();
            let active = guest.active_digest();
            let mut row = before.clone();
            change.apply(&mut row);
            let fit = match &active {
                Some(digest) if row.enabled => Some(self.fit_as(&row, digest).await.map_err(refused)?),
                _ => None,
            };
            let _change = self.inner.changes.lock().await;
            if guest.read().row != before || guest.active_digest() != active {
                continue;
            }
            if let Some(fit) = &fit {
                self.names_free(&guest, fit)?;
            }
            self.inner.store.update_guest(&row).await?;
            guest.write().row = row;
            match fit {
                Some(fit) => self.go_live(&guest, fit),
                None => self.take_out(&guest),
            }
            self.emit(name, change.event(), active.as_deref(), Some(by), None);
            return Ok(());
        }
    }
}

/// A row's change that a probe objects to is the change's fault, not the release's.
fn refused(error: CatalogError) -> CatalogError {
    match error {
        CatalogError::Unfit { reason, .. } => CatalogError::RowRefused { reason },
        other => other,
    }
}
