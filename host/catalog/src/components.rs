//! Component bytes: where a server of the deployment finds those of any release.
//!
//! The database holds them, written just before the release is registered: every server reaches it, it is
//! backed up with the rows, and a release does not depend on the server to which it was pushed. The disk of
//! each server caches them (`component_cache`).

use std::collections::BTreeSet;

use wasm::Digest;

use crate::{Catalog, CatalogError, embedded};

impl Catalog {
    /// The bytes of a component, verified by digest: from this binary, the disk, or the database.
    pub(crate) async fn component_bytes(&self, digest: Digest) -> Result<Vec<u8>, CatalogError> {
        if let Some(bytes) = embedded::bytes(&digest) {
            return Ok(bytes.to_vec());
        }
        let cache = self.inner.components.clone();
        if let Some(bytes) = blocking(move || cache.get(&digest)).await? {
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

    pub(crate) async fn evict_components(&self, digests: Vec<String>) {
        for digest in digests {
            self.evict_component(&digest).await;
        }
    }

    /// Deletes what this server keeps of a component, unless another release uses it.
    pub(crate) async fn evict_component(&self, digest: &str) {
        let used = self.inner.guests.load().values().any(|guest| guest.read().release(digest).is_some());
        if let (false, Ok(digest)) = (used, digest.parse::<Digest>()) {
            let (sandbox, cache) = (self.inner.sandbox.clone(), self.inner.components.clone());
            let evicted = blocking(move || {
                sandbox.evict(&digest);
                cache.evict(&digest);
            });
            if evicted.await.is_err() {
                tracing::warn!(%digest, "the files of a deleted release could not be removed");
            }
        }
    }
}

/// Runs what reads files or computes for long off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CatalogError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| CatalogError::Crashed)
}
