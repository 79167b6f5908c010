//! Directories that this process can't write to, and whose files it may trust all the same: an administrator filled
//! them, for instance when the image of a container was built.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{fs::Access, process::geteuid};

/// Others than the owner may write.
const OTHERS_WRITE: u32 = 0o022;

/// A directory that only root and this process's user can write to.
#[derive(Debug)]
pub struct TrustedDir(PathBuf);

impl TrustedDir {
    /// The directory at `path`, absolute.
    ///
    /// # Errors
    /// Why its files can't be read, or not be trusted: the rest of a sentence about it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let unreadable = |error: &dyn std::fmt::Display| format!("can't be read ({error})");
        let path = fs::canonicalize(path).map_err(|error| unreadable(&error))?;
        let metadata = fs::metadata(&path).map_err(|error| unreadable(&error))?;
        if !metadata.is_dir() {
            return Err("is not a directory".to_owned());
        }
        if !is_trusted(&metadata) {
            return Err("is not used, because other users than root can write to it".to_owned());
        }
        rustix::fs::access(&path, Access::READ_OK | Access::EXEC_OK).map_err(|error| unreadable(&error))?;
        Ok(Self(path))
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Whether only root and this process's user can have written what has these metadata.
#[must_use]
pub fn is_trusted(metadata: &Metadata) -> bool {
    [0, geteuid().as_raw()].contains(&metadata.uid()) && metadata.mode() & OTHERS_WRITE == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn only_what_nobody_else_can_write_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let set = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o500, 0o555, 0o755] {
            set(mode);
            assert_eq!(TrustedDir::open(dir.path()).unwrap().path(), fs::canonicalize(dir.path()).unwrap());
        }
        for mode in [0o775, 0o757, 0o1777, 0o2775] {
            set(mode);
            assert!(TrustedDir::open(dir.path()).unwrap_err().contains("can write"), "{mode:o}");
        }
        assert!(TrustedDir::open(&dir.path().join("none")).unwrap_err().starts_with("can't be read"));
        set(0o755);
        // Only root can give it away.
        if chown(dir.path(), Some(65_533), None).is_ok() {
            assert!(TrustedDir::open(dir.path()).unwrap_err().contains("can write"));
        }
    }
}
