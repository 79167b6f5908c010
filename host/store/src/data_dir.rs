//! The data directory: everything that one server keeps on its own disk.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use local_files::private::{PrivateDir, PrivateError};

const LOCK: &str = "isomer.lock";
const DATABASE: &str = "isomer.db";
const COMPONENTS: &str = "components";
const COMPILED: &str = "compiled";

/// A data directory that this process holds alone.
#[derive(Debug)]
pub struct DataDir {
    directory: PrivateDir,
    /// Held, not read: the lock goes when the process does, however it ends.
    _lock: File,
}

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another server has it.
    #[error("{path} is in use by another isomer server. Stop that one, or give this one another DATA_DIR")]
    InUse {
        /// The directory.
        path: String,
    },
    /// It can't be made or written to, or other users could read or replace what it has.
    #[error("{path} can't be used as data directory (DATA_DIR)")]
    Unusable {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: PrivateError,
    },
    /// It can't be locked.
    #[error("{path} can't be locked (DATA_DIR)")]
    Unlockable {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DataDir {
    /// Makes the directory if it isn't there, and locks it.
    ///
    /// # Errors
    /// If another process has it, it can't be written to, or it can't be private.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let shown = path.display().to_string();
        let unusable = |source| DataDirError::Unusable { path: shown.clone(), source };
        let directory = PrivateDir::open(path, is_own).map_err(unusable)?;
        let lock = directory.file(LOCK).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse { path: shown }),
            Err(TryLockError::Error(source)) => {
                return Err(DataDirError::Unlockable { path: shown, source });
            }
        }
        for name in [COMPONENTS, COMPILED] {
            directory.check_directory(name).map_err(unusable)?;
        }
        Ok(Self { directory, _lock: lock })
    }

    /// The directory itself, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// URL of the embedded database.
    #[must_use]
    pub fn database_url(&self) -> String {
        format!("sqlite:{}", self.path().join(DATABASE).display())
    }

    /// Where component bytes lie, by digest.
    #[must_use]
    pub fn components(&self) -> PathBuf {
        self.path().join(COMPONENTS)
    }

    /// Where compiled guests lie. May be deleted at any time.
    #[must_use]
    pub fn compiled(&self) -> PathBuf {
        self.path().join(COMPILED)
    }
}

/// Whether a server makes a file or directory with this name, or a file system does.
fn is_own(name: &str) -> bool {
    [LOCK, COMPONENTS, COMPILED, "lost+found"].contains(&name) || name.starts_with(DATABASE)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn the_lock_file_leads_nowhere_else_and_is_not_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        symlink(&victim, data.join(LOCK)).unwrap();
        let error = DataDir::open(&data).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("isomer.lock is a link"), "{source}");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        fs::remove_file(data.join(LOCK)).unwrap();
        symlink(directory.path(), data.join(COMPONENTS)).unwrap();
        DataDir::open(&data).unwrap_err();
    }

    #[test]
    fn a_data_directory_of_an_earlier_release_is_tightened() {
        let directory = tempfile::tempdir().unwrap();
        for name in [LOCK, "isomer.db", "isomer.db-wal"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::create_dir(directory.path().join(COMPILED)).unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        assert_eq!(fs::metadata(data.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_second_server_on_a_data_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert!(error.to_string().contains("in use by another isomer server"), "{error}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_file_as_data_directory_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::open(file.path()).unwrap_err();
        assert!(error.to_string().contains("can't be used as data directory (DATA_DIR)"), "{error}");
    }
}
