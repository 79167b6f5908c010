//! Component bytes: where a server of the deployment finds those of any release.
//!
//! The database holds them, written just before the release is registered: every server reaches it, it is
//! backed up with the rows, and a release does not depend on the server to which it was pushed. The disk of
//! each server caches them (`component_cache`).

use std::collections::{BTreeSet, HashSet};

use store::guests::{ReleaseRow, ReleaseState};
use wasm::{Digest, Sandbox};

use crate::{Catalog, CatalogError, embedded, loads::LoadFor};

impl Catalog {
    /// The bytes of a component, verified by digest: from this binary, the disk, or the database.
    pub(crate) async fn component_bytes(&self, digest: Digest) -> Result<Vec<u8>, CatalogError> {
        if let Some(bytes) = embedded::bytes(&digest) {
            return Ok(bytes.to_vec());
        }
        let cache = self.inner.components.clone();
        let read = self.inner.compilations.loads.read(LoadFor::Need, move || cache.get(&digest));
        if let Some(bytes) = read.await?.flatten() {
            return Ok(bytes);
        }
        let stored = self.inner.store.component(&digest.to_string()).await?;
        let cache = self.inner.components.clone();
        let verified = blocking(move || {
            let bytes = stored.filter(|bytes| Digest::of(bytes) == digest)?;
            cache.put(&digest, &bytes);
            Some(bytes)
        });
        verified.await?.ok_or(CatalogError::ComponentMissing)
    }

    /// Gives the database the components that only this server's disk has: those of releases that
    /// were registered before the database held components.
    pub(crate) async fn upload_missing_components(&self) -> Result<(), CatalogError> {
        for digest in self.inner.store.missing_components().await? {
            let Ok(parsed) = digest.parse::<Digest>() else { continue };
            let cache = self.inner.components.clone();
            let found = blocking(move || cache.get(&parsed)).await?;
            if let Some(bytes) = found.or_else(|| embedded::bytes(&parsed).map(<[u8]>::to_vec)) {
                self.inner.store.put_component(&digest, &bytes).await?;
            }
        }
        Ok(())
    }

    /// Deletes components that no release has and that no release had at the last sweep either: in
    /// between, a push may have stored its bytes and not its release yet. Returns the components that
    /// the next sweep deletes.
    pub(crate) async fn sweep_components(
        &self,
        last: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, CatalogError> {
        let orphaned = self.inner.store.orphaned_components().await?;
        let (expired, young): (Vec<_>, Vec<_>) =
            orphaned.into_iter().partition(|digest| last.contains(digest));
        if !expired.is_empty() {
            let deleted = self.inner.store.delete_orphaned_components(expired).await?;
            tracing::info!(deleted, "components without a release were deleted");
        }
        Ok(young.into_iter().collect())
    }

    /// Deletes what this server keeps on its disk of components whose releases an operator deleted, unless another
    /// release has the same.
    pub(crate) async fn evict_deleted(&self, digests: &[String]) {
        self.evict(digests, |_| true, Sandbox::evict).await;
    }

    /// Deletes what this server keeps on its disk of refused components, unless a release may be put into service that
    /// has the same. The note that the compiler died of one stays: a file in the watched directory would be compiled
    /// again, here or where another server pruned its release.
    pub(crate) async fn evict_refused(&self, digests: &[String]) {
        self.evict(digests, |release| release.state != ReleaseState::Rejected, Sandbox::evict_compiled).await;
    }

    /// Digests of the releases that `count`.
    pub(crate) fn digests(&self, count: impl Fn(&ReleaseRow) -> bool) -> HashSet<String> {
        let guests = self.inner.guests.load_full();
        let mut digests = HashSet::new();
        for guest in guests.values() {
            let record = guest.read();
            digests.extend(record.releases.iter().filter(|it| count(it)).map(|it| it.digest.clone()));
        }
        digests
    }

    async fn evict(
        &self,
        digests: &[String],
        needs: impl Fn(&ReleaseRow) -> bool,
        evict: impl Fn(&Sandbox, &Digest) + Send + 'static,
    ) {
        if digests.is_empty() {
            return;
        }
        let needed = self.digests(needs);
        let unneeded = digests.iter().filter(|digest| !needed.contains(*digest));
        let unneeded: Vec<Digest> = unneeded.filter_map(|digest| digest.parse().ok()).collect();
        let (sandbox, cache) = (self.inner.sandbox.clone(), self.inner.components.clone());
        let evicted = blocking(move || {
            for digest in &unneeded {
                evict(&sandbox, digest);
                cache.evict(digest);
            }
        });
        if evicted.await.is_err() {
            tracing::warn!("files of releases that are gone could not be removed");
        }
    }
}

/// Runs what reads files or computes for long off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CatalogError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| CatalogError::Crashed)
}
