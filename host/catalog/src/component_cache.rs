//! Files of components in `DATA_DIR/components`, named by digest: a cache of the database's, which may be
//! deleted at any time.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use local_files::private::PrivateDir;
use wasm::Digest;

/// The directory of component files.
#[derive(Debug, Clone)]
pub(crate) struct ComponentCache {
    directory: PathBuf,
}

/// What names of unfinished files begin with.
const TEMPORARY: &str = ".unfinished-";

impl ComponentCache {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let private = PrivateDir::open(directory, is_own).map_err(io::Error::other)?;
        private.tighten_cache(is_own).map_err(io::Error::other)?;
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
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
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

    /// Deletes files that a killed process left unfinished, and those of components that are not `used`: their
    /// releases were deleted while this server was away. Returns the digests of the latter.
    pub(crate) fn sweep(&self, used: impl Fn(&str) -> bool) -> io::Result<Vec<Digest>> {
        let mut unused = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = name.strip_suffix(".wasm").and_then(|name| name.parse::<Digest>().ok());
            let digest = digest.filter(|digest| !used(&digest.to_string()));
            if wasm::is_unfinished(&name) || digest.is_some() {
                fs::remove_file(entry.path())?;
            }
            unused.extend(digest);
        }
        Ok(unused)
    }
}

fn is_own(name: &str) -> bool {
    let digest = name.strip_suffix(".wasm");
    digest.is_some_and(|digest| digest.parse::<Digest>().is_ok()) || wasm::is_unfinished(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_damaged_file_is_a_miss_until_it_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ComponentCache::open(&directory.path().join("components")).unwrap();
        let digest = Digest::of(b"a guest");
        assert_eq!(cache.get(&digest), None);
        cache.put(&digest, b"a guest");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&cache.directory), mode(&cache.path(&digest))), (0o700, 0o600));
        assert_eq!(cache.get(&digest).unwrap(), b"a guest");

        fs::write(cache.path(&digest), b"a gues").unwrap();
        assert_eq!(cache.get(&digest), None);
        cache.put(&digest, b"a guest");
        assert_eq!(cache.get(&digest).unwrap(), b"a guest");
    }

    #[test]
    fn a_sweep_deletes_unfinished_and_unused_files_only() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ComponentCache::open(directory.path()).unwrap();
        let digest = Digest::of(b"a guest");
        cache.put(&digest, b"a guest");
        for half in [".unfinished-x", ".tmpAb3dE9"] {
            fs::write(directory.path().join(half), b"half").unwrap();
        }

        let unused = Digest::of(b"no release has it");
        cache.put(&unused, b"no release has it");
        let others = [".tmp-of-mine", "notes.txt"].map(|name| directory.path().join(name));
        for other in &others {
            fs::write(other, b"not a component").unwrap();
        }

        assert_eq!(cache.sweep(|used| used == digest.to_string()).unwrap(), [unused]);

        let mut left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        let mut kept = Vec::from(others);
        kept.push(cache.path(&digest));
        kept.sort();
        assert_eq!(left, kept);
    }
}
