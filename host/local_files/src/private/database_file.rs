//! A database file in a directory that the operator chose.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use super::{PrivateError, TEMPORARY, failed, open_file, still_open, tighten, user, warn_of_writers_above};
use crate::writers::{Writers, is_sticky};

/// Prepares a file whose directory may be shared with other programs: makes it with mode 0600 where it isn't there,
/// and tightens it and its companions, whose names are its own and one of `suffixes`.
///
/// # Errors
/// If it or a companion is no regular file of this user, or every user may write to its directory.
pub fn prepare_file(path: &Path, suffixes: &[&str]) -> Result<(), PrivateError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = fs::canonicalize(directory).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => PrivateError::NoDirectory { path: directory.display().to_string() },
        _ => failed(directory, source),
    })?;
    let name = path.file_name().unwrap_or_default();
    let metadata = fs::metadata(&directory).map_err(|source| failed(&directory, source))?;
    let mode = metadata.mode();
    if Writers::of(&metadata, metadata.uid()) == Some(Writers::Everyone) {
        let why = match is_sticky(&metadata) {
            true => format!("{TEMPORARY}: they could put files beside the database"),
            false => ", and so replace the files in it".to_owned(),
        };
        let own = directory.join("isomer");
        let (made, file) = (own.display(), own.join(name));
        let remedy = format!(
            "Give the database a directory of its own: `mkdir -m 700 {made}` and DATABASE_URL=sqlite:{}",
            file.display()
        );
        return Err(still_open(&directory, mode, why, remedy));
    }
    let owner = user(&directory)?;
    warn_of_writers_above(&directory, owner);
    let writers = Writers::of(&metadata, owner);
    if let Some(writers) = writers.filter(|_| !is_sticky(&metadata)) {
        let path = directory.display();
        let remedy = match metadata.uid() == owner {
            true => format!("run `chmod g-w {path}`, or give it a directory of its own"),
            false => format!("give it a directory of its own, such as {path}/isomer"),
        };
        tracing::warn!("{writers} can replace the database in {path}: {remedy}");
    }
    let opened = open_file(&directory.join(name), owner);
    // Where only this user writes, a link is his own.
    let is_his = metadata.uid() == owner && writers.is_none();
    opened.map_err(|error| match (error, fs::canonicalize(directory.join(name))) {
        (PrivateError::Link { path, .. }, Ok(target)) if is_his => PrivateError::Link {
            path,
            remedy: format!("Name the file itself: DATABASE_URL=sqlite:{}", target.display()),
        },
        (error, _) => error,
    })?;
    for suffix in suffixes {
        let mut companion = name.to_owned();
        companion.push(suffix);
        tighten(&directory.join(companion), owner)?;
    }
    Ok(())
}

/// Opens the file beside a prepared one whose name ends with `suffix` besides, for reading and writing. Makes it with
/// mode 0600 where it isn't there. What it has is kept.
///
/// # Errors
/// If it is no regular file of this user, or can't be made.
pub fn companion(path: &Path, suffix: &str) -> Result<File, PrivateError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = fs::canonicalize(directory).map_err(|source| failed(directory, source))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    open_file(&directory.join(name), user(&directory)?)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn files_that_an_earlier_release_made_are_tightened_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.db");
        let wal = dir.path().join("own.db-wal");
        for (file, before) in [(&path, 0o644), (&wal, 0o666)] {
            fs::write(file, "rows").unwrap();
            set_mode(file, before);
        }
        prepare_file(&path, &["-wal", "-shm"]).unwrap();
        assert_eq!((mode(&path), mode(&wal)), (0o600, 0o600));
        assert_eq!(fs::read(&path).unwrap(), b"rows");
        symlink("/etc/passwd", dir.path().join("own.db-shm")).unwrap();
        let error = prepare_file(&path, &["-wal", "-shm"]).unwrap_err().to_string();
        assert!(error.contains("own.db-shm is a link"), "{error}");
    }

    #[test]
    fn a_file_in_a_directory_of_everybody_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o1777, 0o777, 0o702] {
            set_mode(dir.path(), mode);
            let error = prepare_file(&dir.path().join("x.db"), &[]).unwrap_err().to_string();
            assert!(error.contains("other users can write to"), "{error}");
            assert!(error.contains("`mkdir -m 700 /") && error.contains("/isomer/x.db"), "{error}");
            assert_eq!(error.contains("replace"), mode != 0o1777, "{error}");
            assert!(!error.contains("chmod"), "{error}");
            assert!(!dir.path().join("x.db").exists());
        }
        for mode in [0o755, 0o775] {
            set_mode(dir.path(), mode);
            prepare_file(&dir.path().join("x.db"), &[]).unwrap();
        }
    }

    #[test]
    fn an_own_link_to_a_database_is_refused_with_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("disk.db"), dir.path().join("own.db"));
        fs::write(&target, "").unwrap();
        symlink("disk.db", &link).unwrap();
        let target = fs::canonicalize(target).unwrap();
        let error = prepare_file(&link, &[]).unwrap_err().to_string();
        assert!(error.ends_with(&format!("DATABASE_URL=sqlite:{}", target.display())), "{error}");
        // Another user may have put it there.
        set_mode(dir.path(), 0o770);
        let error = prepare_file(&link, &[]).unwrap_err().to_string();
        assert!(!error.contains("DATABASE_URL"), "{error}");
    }

    #[test]
    fn a_missing_directory_of_a_database_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = prepare_file(&dir.path().join("none/x.db"), &[]).unwrap_err().to_string();
        let none = dir.path().join("none");
        assert_eq!(
            error,
            format!("the directory {0} doesn't exist. Make it: `mkdir -p -m 700 {0}`", none.display())
        );
    }
}
