//! The lock on a database file of SQLite. A server holds its data directory alone, but `DATABASE_URL` may name a file
//! that another server has too: one of another data directory, or of none.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

use local_files::private::{PrivateError, companion, prepare_file};

use crate::{
    DatabaseUrl,
    database_url::{LOCK_SUFFIX, SQLITE_COMPANIONS},
};

/// Digits of an id of a process at most.
const ID_BYTES: u64 = 20;

/// A database file that this process holds alone, or a database that several servers may share.
#[derive(Debug)]
pub struct DatabaseLock {
    /// Held, not read: the lock goes when the process does, however it ends.
    _file: Option<File>,
}

/// Why a database file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseLockError {
    /// Another server has it.
    #[error(
        "the database {path} is in use by another isomer server{holder}. Stop that one, or give this one another \
         DATABASE_URL"
    )]
    InUse {
        /// The file.
        path: String,
        /// Which process, where it says so.
        holder: String,
    },
    /// The file or its lock can't be the server's alone.
    #[error("the database {path} can't be locked (DATABASE_URL)")]
    Unusable {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: PrivateError,
    },
    /// The file system has no locks.
    #[error("the database {path} can't be locked (DATABASE_URL)")]
    Unlockable {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DatabaseLock {
    /// Locks the file of an embedded database. Postgres needs no lock: servers share it.
    ///
    /// # Errors
    /// If another process has it, or it can't be locked.
    pub fn take(database: &DatabaseUrl) -> Result<Self, DatabaseLockError> {
        database.file().map_or(Ok(Self { _file: None }), Self::of_file)
    }

    fn of_file(path: &Path) -> Result<Self, DatabaseLockError> {
        let shown = path.display().to_string();
        let unusable = |source| DatabaseLockError::Unusable { path: shown.clone(), source };
        let unlockable = |source| DatabaseLockError::Unlockable { path: shown.clone(), source };
        // The directory is checked with it.
        prepare_file(path, &SQLITE_COMPANIONS).map_err(unusable)?;
        let mut file = companion(path, LOCK_SUFFIX).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file).map_or_else(String::new, |id| format!(" (process {id})"));
                return Err(DatabaseLockError::InUse { path: shown, holder });
            }
            Err(TryLockError::Error(source)) => return Err(unlockable(source)),
        }
        // A file that is something else keeps what it has.
        if holder(&mut file).is_some() || file.metadata().map_err(unlockable)?.len() == 0 {
            write(&mut file).map_err(unlockable)?;
        }
        Ok(Self { _file: Some(file) })
    }
}

/// The process that wrote its id into the file.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    (&*file).take(ID_BYTES).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

fn write(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn take(file: &Path) -> Result<DatabaseLock, DatabaseLockError> {
        DatabaseLock::take(&DatabaseUrl::parse(&format!("sqlite:{}", file.display())).unwrap())
    }

    #[test]
    fn a_database_file_is_one_servers_by_whatever_path_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.db");
        let first = take(&file).unwrap();
        let lock = directory.path().join("x.db.lock");
        assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
        symlink(directory.path(), directory.path().join("link")).unwrap();
        for path in [file.clone(), directory.path().join("link/x.db"), directory.path().join("./x.db")] {
            let error = take(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
            assert!(error.contains("DATABASE_URL"), "{error}");
        }
        take(&directory.path().join("y.db")).unwrap();
        drop(first);
        take(&file).unwrap();
    }

    #[test]
    fn the_lock_leads_nowhere_else_and_overwrites_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (victim, lock) = (directory.path().join("victim"), directory.path().join("x.db.lock"));
        fs::write(&victim, "1").unwrap();
        symlink(&victim, &lock).unwrap();
        let error = take(&directory.path().join("x.db")).unwrap_err();
        assert!(matches!(error, DatabaseLockError::Unusable { .. }), "{error}");
        assert_eq!(fs::read(&victim).unwrap(), b"1");
        fs::remove_file(&lock).unwrap();
        fs::write(&lock, "precious").unwrap();
        take(&directory.path().join("x.db")).unwrap();
        assert_eq!(fs::read(&lock).unwrap(), b"precious");
    }
}
