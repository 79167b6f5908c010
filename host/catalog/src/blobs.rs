//! Component bytes on disk, each file named by its digest.
//!
//! A file appears whole or not at all: it is written beside its place, made durable, and renamed.
//! What a killed process leaves behind is removed at the next start.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use wasm::Digest;

use crate::embedded;

/// The directory of component bytes.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{digest}.wasm"))
    }

    /// Keeps these bytes. Damaged ones of the same digest are replaced.
    pub(crate) fn keep(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        if self.read_file(digest).is_ok() {
            return Ok(());
        }
        let mut file = tempfile::NamedTempFile::with_prefix_in(TEMPORARY, &self.directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path(digest))?;
        fs::File::open(&self.directory)?.sync_all()
    }

    /// The bytes of `digest`, checked against it. First-party ones are in the binary too.
    pub(crate) fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        self.read_file(digest).or_else(|error| embedded::bytes(digest).map(<[u8]>::to_vec).ok_or(error))
    }

    fn read_file(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.path(digest))?;
        if Digest::of(&bytes) == *digest { Ok(bytes) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Removes the bytes of a release that nobody has any more. Failing to costs disk space only.
    pub(crate) fn remove(&self, digest: &Digest) {
        if let Err(error) = fs::remove_file(self.path(digest)) {
            tracing::warn!(%digest, %error, "a deleted release's component could not be removed");
        }
    }

    /// Removes what was never finished. Whole components are left alone, whoever they belong to.
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

/// What names of unfinished files begin with.
const TEMPORARY: &str = ".unfinished-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let digest = Digest::of(b"a guest");
        blobs.keep(&digest, b"a guest").unwrap();
        assert_eq!(blobs.read(&digest).unwrap(), b"a guest");

        fs::write(blobs.path(&digest), b"a gues").unwrap();
        assert_eq!(blobs.read(&digest).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn damaged_bytes_are_mended_by_keeping_them_again() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let digest = Digest::of(b"a guest");
        fs::write(blobs.path(&digest), b"a gues").unwrap();
        blobs.keep(&digest, b"a guest").unwrap();
        assert_eq!(blobs.read(&digest).unwrap(), b"a guest");
    }

    #[test]
    fn a_sweep_takes_only_what_was_never_finished() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let digest = Digest::of(b"somebody's");
        blobs.keep(&digest, b"somebody's").unwrap();
        fs::write(directory.path().join(".unfinished-x"), b"half").unwrap();

        blobs.sweep().unwrap();

        let left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [blobs.path(&digest)]);
    }
}
