//! Compiled guests kept on disk, so that a start need not compile them again.
//!
//! A file is: magic, the engine's compatibility hash, the component's digest, SHA-256 of the
//! payload, payload. The engine loads most damaged artifacts without complaint and then runs them,
//! so nothing reaches it before its hash was verified here. The directory is private to the owner
//! of the process: a process that can write to it can run native code as that user.

use std::{
    fs::{self, DirBuilder},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

use crate::{Digest, SandboxError};

const MAGIC: &[u8; 8] = b"ISOMAOT1";

/// A directory of compiled guests.
#[derive(Debug, Clone)]
pub struct AotCache {
    directory: PathBuf,
    /// This process's user, who alone may own what is loaded.
    owner: u32,
}

impl AotCache {
    /// Uses `directory`, made with mode 0700 if it isn't there.
    ///
    /// # Errors
    /// If the directory can't be made, or belongs to another user.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, SandboxError> {
        let directory = directory.into();
        let open = || -> io::Result<u32> {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            private(&directory)
        };
        let owner =
            open().map_err(|source| SandboxError::Cache { path: directory.display().to_string(), source })?;
        Ok(Self { directory, owner })
    }

    /// Deletes the compiled form of a component.
    pub fn evict(&self, digest: &Digest) {
        // Only disk space is at stake: what is left is verified before it is used.
        let _ = fs::remove_file(self.path(digest));
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{digest}.aot"))
    }

    /// The compiled component, if a sound one for this engine is here.
    pub(crate) fn load(&self, engine: &Engine, hash: u64, digest: &Digest) -> Option<Component> {
        let path = self.path(digest);
        let file = match read_own(&path, self.owner) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%digest, %error, "a compiled guest can't be read; compiling it again");
                return None;
            }
        };
        let Some(payload) = verified(&file, hash, digest) else {
            tracing::warn!(%digest, "a compiled guest is damaged or of another build; compiling it again");
            self.evict(digest);
            return None;
        };
        deserialize(engine, payload)
            .inspect_err(
                |error| tracing::warn!(%digest, %error, "a compiled guest does not load; compiling it again"),
            )
            .ok()
    }

    /// Stores a compiled component. A failure is only logged: the next start compiles again.
    pub(crate) fn put(&self, hash: u64, digest: &Digest, component: &Component) {
        let stored = component.serialize().map_err(io::Error::other).and_then(|payload| {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(&header(hash, digest, &payload))?;
            file.write_all(&payload)?;
            file.persist(self.path(digest))?;
            Ok(())
        });
        if let Err(error) = stored {
            tracing::warn!(%digest, %error, "a compiled guest could not be stored; the next start compiles it again");
        }
    }
}

/// Makes the directory private, whatever an earlier start or an operator left, and returns this
/// process's user: the owner of a file that it makes there.
fn private(directory: &Path) -> io::Result<u32> {
    let owner = tempfile::tempfile_in(directory)?.metadata()?.uid();
    if fs::metadata(directory)?.uid() != owner {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the directory belongs to another user"));
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    Ok(owner)
}

/// A file's content, if only `owner` could have written it.
fn read_own(path: &Path, owner: u32) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.uid() != owner || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others could have written it"));
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.read_to_end(&mut content)?;
    Ok(content)
}

const HEADER: usize = 8 + 8 + 32 + 32;

fn header(hash: u64, digest: &Digest, payload: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&hash.to_le_bytes());
    header.extend_from_slice(digest.as_bytes());
    header.extend_from_slice(&Sha256::digest(payload));
    header
}

/// The payload, if header and hash agree with it.
fn verified<'a>(file: &'a [u8], hash: u64, digest: &Digest) -> Option<&'a [u8]> {
    let (found, payload) = file.split_at_checked(HEADER)?;
    (found == header(hash, digest, payload)).then_some(payload)
}

/// The one unsafe call of the host.
#[allow(unsafe_code)]
fn deserialize(engine: &Engine, payload: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `payload` is byte for byte what `put` got from `Component::serialize` of an engine
    // with the same compatibility hash: `verified` compared magic, hash, digest and SHA-256 over
    // the very slice given here. That finds damage, not malice; against that, file and directory
    // belong to this process's user and no other user may write to them (`private`, `read_own`).
    unsafe { Component::deserialize(engine, payload) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, engine};

    fn cached() -> (tempfile::TempDir, AotCache, Engine, Digest) {
        let directory = tempfile::tempdir().unwrap();
        let cache = AotCache::open(directory.path().join("compiled")).unwrap();
        let engine = engine::new(&Limits { slots: 1, ..Limits::default() }).unwrap();
        let text = "(component (core module (func (export \"f\") (result i32) i32.const 7)))";
        let digest = Digest::of(text.as_bytes());
        cache.put(1, &digest, &Component::new(&engine, text).unwrap());
        (directory, cache, engine, digest)
    }

    #[test]
    fn a_stored_artifact_is_loaded_by_the_same_engine_only() {
        let (_directory, cache, engine, digest) = cached();
        assert!(cache.load(&engine, 1, &digest).is_some());
        assert!(cache.load(&engine, 2, &digest).is_none(), "another engine's");
        assert!(cache.load(&engine, 1, &digest).is_none(), "the mismatch evicted it");
    }

    #[test]
    fn a_damaged_artifact_is_not_loaded() {
        let (_directory, cache, engine, digest) = cached();
        let path = cache.path(&digest);
        let sound = fs::read(&path).unwrap();
        let every = (sound.len() / 500).max(1);
        for at in (0..HEADER).chain((HEADER..sound.len()).step_by(every)) {
            let mut damaged = sound.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, &damaged).unwrap();
            assert!(cache.load(&engine, 1, &digest).is_none(), "byte {at} of {}", sound.len());
        }
        for length in [0, 1, HEADER - 1, HEADER, sound.len() / 2, sound.len() - 1] {
            fs::write(&path, &sound[..length]).unwrap();
            assert!(cache.load(&engine, 1, &digest).is_none(), "{length} bytes of {}", sound.len());
        }
        fs::write(&path, &sound).unwrap();
        assert!(cache.load(&engine, 1, &digest).is_some());
    }

    #[test]
    fn a_file_that_other_users_can_write_is_not_loaded() {
        let (_directory, cache, engine, digest) = cached();
        fs::set_permissions(cache.path(&digest), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(cache.load(&engine, 1, &digest).is_none());
    }
}
