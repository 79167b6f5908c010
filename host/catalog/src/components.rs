//! Component bytes: where a server of the deployment finds those of any release.
//!
//! The database holds them, written just before the release is registered: every server reaches it, it is backed up with the rows, and a server that pushed and left is not missed. Files
//! in `DATA_DIR/components`, named by digest, are a cache of it and may be deleted at any time.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use wasm::Digest;

use crate::{Catalog, CatalogError, embedded};

/// The directory of component files.
#[derive(Debug, Clone)]
pub(crate) struct ComponentCache {
    directory: PathBuf,
}

/// What names of unfinished files begin with.
const TEMPORARY: &str = ".unfinished-";

impl ComponentCache {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{digest}.wasm"))
    }

    /// The bytes of `digest`, if an undamaged file has them.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path(digest)).ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// Writes a file, which appears whole or not at all. A failure costs the next reader a query.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) {
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            let mut file = tempfile::NamedTempFile::with_prefix_in(TEMPORARY, &self.directory)?;
            file.write_all(bytes)?;
            file.persist(self.path(digest))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::warn!(%digest, %error, "a component could not be cached on disk");
        }
    }

    /// Deletes the file of a component that no release uses any more.
    pub(crate) fn evict(&self, digest: &Digest) {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%digest, %error, "the file of a deleted release could not be removed");
            }
            _ => {}
        }
    }

    /// Deletes files that a killed process left unfinished.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_a_miss_until_it_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ComponentCache::open(directory.path()).unwrap();
        let digest = Digest::of(b"a guest");
        assert_eq!(cache.get(&digest), None);
        cache.put(&digest, b"a guest");
        assert_eq!(cache.get(&digest).unwrap(), b"a guest");

        fs::write(cache.path(&digest), b"a gues").unwrap();
        assert_eq!(cache.get(&digest), None);
        cache.put(&digest, b"a guest");
        assert_eq!(cache.get(&digest).unwrap(), b"a guest");
    }

    #[test]
    fn a_sweep_deletes_unfinished_files_only() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ComponentCache::open(directory.path()).unwrap();
        let digest = Digest::of(b"a guest");
        cache.put(&digest, b"a guest");
        fs::write(directory.path().join(".unfinished-x"), b"half").unwrap();

        cache.sweep().unwrap();

        let left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [cache.path(&digest)]);
    }
}
