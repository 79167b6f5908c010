//! The data directory: everything that one server keeps on its own disk.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// A data directory that this process holds alone.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
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
    /// It can't be made or written to.
    #[error("{path} can't be used as data directory (DATA_DIR)")]
    Unusable {
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
    /// If another process has it, or it can't be written to.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let shown = path.display().to_string();
        let unusable = |source| DataDirError::Unusable { path: shown.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        // Absolute, so that messages and database URLs mean the same from everywhere.
        let path = fs::canonicalize(path).map_err(unusable)?;
        let lock = File::create(path.join("isomer.lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: shown }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// The directory itself, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// URL of the embedded database.
    #[must_use]
    pub fn database_url(&self) -> String {
        format!("sqlite:{}", self.path.join("isomer.db").display())
    }

    /// Where component bytes lie, by digest.
    #[must_use]
    pub fn components(&self) -> PathBuf {
        self.path.join("components")
    }

    /// Where compiled guests lie. May be deleted at any time.
    #[must_use]
    pub fn compiled(&self) -> PathBuf {
        self.path.join("compiled")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
