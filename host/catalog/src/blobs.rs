//! Component bytes on disk, each file named by its digest.
//!
//! A file appears whole or not at all: it is written beside its place, made durable, and renamed.
//! What a killed process leaves behind is removed at the next start.

use std::{
    collections::HashSet,
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

    /// Keeps these bytes. First-party ones are in the binary already.
    pub(crate) fn keep(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        if embedded::bytes(digest).is_some() || self.path(digest).exists() {
            return Ok(());
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path(digest))?;
        fs::File::open(&self.directory)?.sync_all()
    }

    /// The bytes of `digest`, checked against it.
    pub(crate) fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        if let Some(bytes) = embedded::bytes(digest) {
            return Ok(bytes.to_vec());
        }
        let bytes = fs::read(self.path(digest))?;
        if Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the stored component is damaged; push it again"))
        }
    }

    /// Removes everything but `wanted`: bytes of deleted releases, and what was never finished.
    pub(crate) fn sweep(&self, wanted: &HashSet<Digest>) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let digest = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            let keep = path.extension().is_some_and(|extension| extension == "wasm")
                && digest.is_some_and(|digest| wanted.contains(&digest));
            if !keep {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

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
    fn a_sweep_leaves_what_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let (wanted, unwanted) = (Digest::of(b"wanted"), Digest::of(b"unwanted"));
        blobs.keep(&wanted, b"wanted").unwrap();
        blobs.keep(&unwanted, b"unwanted").unwrap();
        fs::write(directory.path().join(".tmpAbc"), b"half").unwrap();

        blobs.sweep(&HashSet::from([wanted])).unwrap();

        let left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [blobs.path(&wanted)]);
    }
}
