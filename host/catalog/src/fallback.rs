//! Taking a release out of service that can't be in it: back to the last good one, else the host's
//! defaults.

use std::sync::Arc;

use events::GuestChange;
use store::guests::ReleaseState;

use crate::{
    Catalog, CatalogError,
    guest::{Guest, Live},
};

impl Catalog {
    /// The breaker's work.
    pub(crate) async fn trip(&self, guest: &Arc<Guest>, failing: &Arc<Live>, reason: &str) {
        // Nobody should wait for another deadline while the way back is prepared; and somebody else
        // may have put something better in its place already.
        let answered = guest.live.compare_and_swap(&Some(Arc::clone(failing)), None);
        if answered.as_ref().is_some_and(|live| Arc::ptr_eq(live, failing)) {
            self.fall_back(guest, &failing.component.digest().to_string(), reason).await;
        }
    }

    /// From the active release `failed` to the last one that is still fit. If anybody changes what is
    /// active meanwhile, that stands.
    pub(crate) async fn fall_back(&self, guest: &Arc<Guest>, failed: &str, reason: &str) {
        let earlier = guest.read().earlier();
        for digest in &earlier {
            match self.go_back(guest, Some(failed), digest, (ReleaseState::Rejected, Some(reason))).await {
                Ok(()) => {
                    self.emit(&guest.name, GuestChange::Tripped, Some(failed), None, Some(reason));
                    self.emit(&guest.name, GuestChange::RolledBack, Some(digest), None, Some(reason));
                    return;
                }
                Err(CatalogError::Superseded) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        guest = guest.name,
                        release = digest,
                        error,
                        "no way back to this release"
                    );
                }
            }
        }
        let _change = self.inner.changes.lock().await;
        if guest.active_digest().as_deref() != Some(failed) || guest.live.load().is_some() {
            return;
        }
        self.take_out(guest);
        match self.inner.store.reject_active_release(&guest.name, failed, reason).await {
            Ok(()) => guest.write().set_state(failed, ReleaseState::Rejected, Some(reason)),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    guest = guest.name,
                    error,
                    "could not store that a release is out of service; the next start tries it again"
                );
            }
        }
        self.emit(&guest.name, GuestChange::Tripped, Some(failed), None, Some(reason));
    }
}
