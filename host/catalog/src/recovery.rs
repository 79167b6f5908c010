//! Taking a failing release out of service: the last good release answers again, if there is one.

use std::{sync::Arc, time::Duration};

use events::GuestChange;
use store::guests::{ReleaseMutation, ReleaseState};
use tokio::time::sleep;

use crate::{
    Catalog, CatalogError,
    guest::{ActiveRelease, Guest},
};

/// Pause after the first try that the host failed; it doubles with each further one …
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2 * 60);

/// Whether an earlier release answers.
enum Restored {
    /// It does, or none can, or something else was decided meanwhile.
    Decided,
    /// It may, once the host has room for it.
    Later,
}

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
    /// release that comes first stands. What the host can't try now is tried again: that says nothing of the release.
    pub(crate) async fn recover(&self, guest: &Arc<Guest>, failed: &str, reason: &str) {
        let mut pause = FIRST_PAUSE;
        while let Restored::Later = self.restore_earlier(guest, failed, reason).await {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn restore_earlier(&self, guest: &Arc<Guest>, failed: &str, reason: &str) -> Restored {
        let is_over = || {
            guest.active_digest().as_deref() != Some(failed)
                || guest.active.load().is_some()
                || guest.is_deleted()
                || self.inner.compilations.is_stopped()
        };
        let earlier = guest.read().earlier();
        let mut later = false;
        for digest in &earlier {
            if is_over() {
                return Restored::Decided;
            }
            match self.restore(guest, Some(failed), digest, (ReleaseState::Rejected, Some(reason))).await {
                Ok(()) => {
                    self.emit(&guest.name, GuestChange::Tripped, Some(failed), None, Some(reason));
                    self.emit(&guest.name, GuestChange::RolledBack, Some(digest), None, Some(reason));
                    return Restored::Decided;
                }
                Err(CatalogError::Superseded | CatalogError::NoGuest | CatalogError::Stopping) => {
                    return Restored::Decided;
                }
                Err(error) => {
                    later |= error.is_the_hosts_fault();
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
        if later {
            return Restored::Later;
        }
        self.give_up(guest, failed, reason).await;
        Restored::Decided
    }

    /// Nothing answers from now on.
    async fn give_up(&self, guest: &Arc<Guest>, failed: &str, reason: &str) {
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
