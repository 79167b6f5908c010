//! Taking a failing release out of service: the last good release answers again, else the host's
//! defaults.

use std::sync::Arc;

use events::GuestChange;
use store::guests::{ReleaseMutation, ReleaseState};

use crate::{
    Catalog, CatalogError,
    guest::{ActiveRelease, Guest},
};

impl Catalog {
    /// Called when a release has failed too often in a row.
    pub(crate) async fn trip(&self, guest: &Arc<Guest>, failing: &Arc<ActiveRelease>, reason: &str) {
        // No further call should wait for a deadline while the last good release is prepared. A newer
        // release may be in its place already.
        let answered = guest.active.compare_and_swap(&Some(Arc::clone(failing)), None);
        if answered.as_ref().is_some_and(|active| Arc::ptr_eq(active, failing)) {
            self.recover(guest, &failing.component.digest().to_string(), reason).await;
        }
    }

    /// From the active release `failed` to the last one that passes its probes. A change of the active
    /// release that comes first stands.
    pub(crate) async fn recover(&self, guest: &Arc<Guest>, failed: &str, reason: &str) {
        let earlier = guest.read().earlier();
        for digest in &earlier {
            match self.restore(guest, Some(failed), digest, (ReleaseState::Rejected, Some(reason))).await {
                Ok(()) => {
                    self.emit(&guest.name, GuestChange::Tripped, Some(failed), None, Some(reason));
                    self.emit(&guest.name, GuestChange::RolledBack, Some(digest), None, Some(reason));
                    return;
                }
                Err(CatalogError::Superseded | CatalogError::NoGuest) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        guest = guest.name,
                        release = digest,
                        error,
                        "an earlier release can't be restored"
                    );
                }
            }
        }
        let change = self.inner.changes.lock().await;
        if guest.active_digest().as_deref() != Some(failed) || guest.active.load().is_some() {
            return;
        }
        let row = guest.read().row.clone();
        let at = store::now();
        let reject = ReleaseMutation::Reject { digest: failed.to_owned(), reason: reason.to_owned(), at };
        match self.commit(guest, row, vec![reject]).await {
            Ok(()) => guest.write().reject(failed, reason, at),
            Err(CatalogError::Superseded) => {
                drop(change);
                // What another server changed decides what answers.
                if let Err(error) = self.refresh(&guest.name).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(guest = guest.name, error, "a changed guest can't be read");
                }
                return;
            }
            Err(CatalogError::NoGuest) => return,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    guest = guest.name,
                    error,
                    "could not store that a release is out of service; the next start tries it again"
                );
            }
        }
        self.deactivate(guest);
        self.emit(&guest.name, GuestChange::Tripped, Some(failed), None, Some(reason));
    }
}
