//! Files and directories that no other user may read or replace: databases, locks and caches of the server.
//!
//! A directory of the server's own has the mode 0700 and its files have 0600. What an earlier release or the operator
//! made with a wider mode is tightened, and the log says so. What can't be tightened, belongs to another user or leads
//! elsewhere by a link is refused: in a directory that others could write to, they may have put it there.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::special;

const OTHERS: u32 = 0o077;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// Everybody may write to such a directory, and only owners may delete: `/tmp`.
const STICKY: u32 = 0o1000;

/// Why a file or directory can't be the server's own.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// It is a link.
    #[error("{path} is a link, which could lead anywhere. Put the {wanted} itself in its place")]
    Link {
        /// The link.
        path: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// It is something else.
    #[error("{path} is {kind}, not a {wanted}")]
    Kind {
        /// What has the name.
        path: String,
        /// What it is.
        kind: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// Another user owns it.
    #[error(
        "{path} belongs to the user {owner}, who could replace what the server keeps there. Run \
         `chown {user} {path}`, or run the server as that user (it runs as {user})"
    )]
    Foreign {
        /// What is owned.
        path: String,
        /// The number of its owner.
        owner: u32,
        /// The number of this process's user.
        user: u32,
    },
    /// The file has a second name elsewhere.
    #[error("{path} has another name as well (a hard link). Replace it by a copy")]
    HardLink {
        /// The file.
        path: String,
    },
    /// Other users can read or write it, and it is not for this process to change that.
    #[error(
        "other users can {how} {path}{why}. Run `chmod {chmod} {path}`, or give the server a directory of its own, \
         such as {path}/isomer"
    )]
    Open {
        /// The directory.
        path: String,
        /// `read` or `write to`.
        how: &'static str,
        /// Why it is not tightened here.
        why: String,
        /// The mode that it needs.
        chmod: &'static str,
    },
    /// The system refuses.
    #[error("{path}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A directory with mode 0700 that belongs to this process's user.
#[derive(Debug, Clone)]
pub struct PrivateDir {
    path: PathBuf,
    owner: u32,
}

impl PrivateDir {
    /// Makes the directory where it isn't there. One that others can read or write to is tightened if all that it has
    /// are things whose names are the server's (`is_own`), for otherwise it may be `/tmp` or a home directory. A link
    /// that leads to the directory is followed.
    ///
    /// # Errors
    /// If it can't be made, or can't be private.
    pub fn open(path: &Path, is_own: impl Fn(&str) -> bool) -> Result<Self, PrivateError> {
        let failed = |source| failed(path, source);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        // Absolute, so that messages mean the same from everywhere.
        let path = fs::canonicalize(path).map_err(failed)?;
        let opened = open(&path, OFlags::DIRECTORY | OFlags::NOFOLLOW).map_err(failed)?;
        let owner = user(&path)?;
        let metadata = opened.metadata().map_err(failed)?;
        check_owner(&path, &metadata, owner)?;
        if metadata.mode() & OTHERS != 0 {
            let why = why_kept(&path, metadata.mode(), is_own).map_err(failed)?;
            // A file system without modes, or one that others administer, keeps what it has.
            let tightened = why.is_none() && opened.set_permissions(Permissions::from_mode(0o700)).is_ok();
            let now = opened.metadata().map_err(failed)?.mode();
            if !tightened || now & OTHERS != 0 {
                let why = why.unwrap_or_else(|| ", and the system keeps its mode".to_owned());
                return Err(still_open(&path, now, why, "700"));
            }
            log_tightened(&path, metadata.mode(), 0o700);
        }
        Ok(Self { path, owner })
    }

    /// The directory itself, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The user to whom all in it must belong: as whom the file system knows this process.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Opens a file of the directory for reading and writing, and makes it where it isn't there. What it has is kept.
    ///
    /// # Errors
    /// If it is something else, or can't be made.
    pub fn file(&self, name: &str) -> Result<File, PrivateError> {
        open_file(&self.path.join(name), self.owner)
    }

    /// Checks that a name is free or a real directory of this user, not a link to one.
    ///
    /// # Errors
    /// If it is something else.
    pub fn check_directory(&self, name: &str) -> Result<(), PrivateError> {
        let path = self.path.join(name);
        let Some(metadata) = look(&path)? else { return Ok(()) };
        if metadata.is_dir() {
            return check_owner(&path, &metadata, self.owner);
        }
        Err(not_a("directory", &path, &metadata))
    }

    /// Tightens the files of a directory that is a cache. What has a name of the cache's (`is_own`) and is not a file of
    /// this user is deleted: others put it there when they could. Files with other names are left as they are.
    ///
    /// # Errors
    /// If the directory can't be read.
    pub fn tighten_cache(&self, is_own: impl Fn(&str) -> bool) -> Result<(), PrivateError> {
        let entries = fs::read_dir(&self.path).map_err(|source| failed(&self.path, source))?;
        for entry in entries.filter_map(Result::ok) {
            if !entry.file_name().to_str().is_some_and(&is_own) {
                continue;
            }
            let path = entry.path();
            match tighten(&path, self.owner) {
                Ok(())
                | Err(PrivateError::HardLink { .. } | PrivateError::Kind { kind: "a directory", .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "deleted from a directory of the server's own");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        Ok(())
    }
}

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
    let directory = fs::canonicalize(directory).map_err(|source| failed(path, source))?;
    let name = path.file_name().unwrap_or_default();
    let owner = user(&directory)?;
    let mode = fs::metadata(&directory).map_err(|source| failed(&directory, source))?.mode();
    if mode & OTHERS_WRITE != 0 {
        let why = ", and so replace the files beside it".to_owned();
        return Err(still_open(&directory, mode, why, "o-w"));
    }
    if mode & GROUP_WRITES != 0 {
        let path = directory.display();
        tracing::warn!("the group of {path} can replace the database in it: run `chmod g-w {path}`");
    }
    open_file(&directory.join(name), owner)?;
    for suffix in suffixes {
        let mut companion = name.to_owned();
        companion.push(suffix);
        tighten(&directory.join(companion), owner)?;
    }
    Ok(())
}

/// Why a directory with such a mode is not tightened, `None` if it is the server's own.
fn why_kept(path: &Path, mode: u32, is_own: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    if mode & STICKY != 0 {
        return Ok(Some(", which is for temporary files of all".to_owned()));
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name.to_str().is_none_or(|name| !is_own(name)) {
            let name = shown(&name);
            return Ok(Some(format!(", and it has files that are not the server's ({name})")));
        }
    }
    Ok(None)
}

/// A name of a file in a message: at most 255 bytes, with control characters escaped.
fn shown(name: &OsStr) -> String {
    name.to_string_lossy().escape_debug().collect()
}

fn still_open(path: &Path, mode: u32, why: String, chmod: &'static str) -> PrivateError {
    let how = if mode & 0o022 != 0 { "write to" } else { "read" };
    PrivateError::Open { path: path.display().to_string(), how, why, chmod }
}

/// Opens or makes a file of this user, for reading and writing.
fn open_file(path: &Path, owner: u32) -> Result<File, PrivateError> {
    // To open a device may have effects.
    if let Some(metadata) = look(path)? {
        check_file(path, &metadata, owner)?;
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(flags.bits().cast_signed()).open(path);
    let file = file.map_err(|source| failed(path, source))?;
    // It may have been replaced since.
    tighten_opened(path, &file, owner)?;
    Ok(file)
}

/// Tightens a file if it is there.
fn tighten(path: &Path, owner: u32) -> Result<(), PrivateError> {
    let Some(metadata) = look(path)? else { return Ok(()) };
    check_file(path, &metadata, owner)?;
    if metadata.mode() & OTHERS == 0 {
        return Ok(());
    }
    match open(path, OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(file) => tighten_opened(path, &file, owner),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed(path, source)),
    }
}

fn tighten_opened(path: &Path, file: &File, owner: u32) -> Result<(), PrivateError> {
    let metadata = file.metadata().map_err(|source| failed(path, source))?;
    check_file(path, &metadata, owner)?;
    if metadata.mode() & OTHERS != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(|source| failed(path, source))?;
        log_tightened(path, metadata.mode(), 0o600);
    }
    Ok(())
}

fn check_file(path: &Path, metadata: &Metadata, owner: u32) -> Result<(), PrivateError> {
    if !metadata.is_file() {
        return Err(not_a("file", path, metadata));
    }
    check_owner(path, metadata, owner)?;
    match metadata.nlink() {
        // It was deleted meanwhile.
        0 | 1 => Ok(()),
        _ => Err(PrivateError::HardLink { path: path.display().to_string() }),
    }
}

fn check_owner(path: &Path, metadata: &Metadata, user: u32) -> Result<(), PrivateError> {
    match metadata.uid() {
        owner if owner == user => Ok(()),
        owner => Err(PrivateError::Foreign { path: path.display().to_string(), owner, user }),
    }
}

fn not_a(wanted: &'static str, path: &Path, metadata: &Metadata) -> PrivateError {
    let path = path.display().to_string();
    match metadata.is_symlink() {
        true => PrivateError::Link { path, wanted },
        false => PrivateError::Kind { path, kind: special(metadata.file_type()).unwrap_or("a file"), wanted },
    }
}

/// What has this name, links not followed.
fn look(path: &Path) -> Result<Option<Metadata>, PrivateError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

/// The user to whom files belong that this process makes in a directory: on a network, that may be another one than
/// the process's.
fn user(directory: &Path) -> Result<u32, PrivateError> {
    let made = tempfile::tempfile_in(directory).and_then(|file| file.metadata());
    Ok(made.map_err(|source| failed(directory, source))?.uid())
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

fn failed(path: &Path, source: io::Error) -> PrivateError {
    PrivateError::Io { path: path.display().to_string(), source }
}

fn log_tightened(path: &Path, before: u32, now: u32) {
    let (path, before) = (path.display(), before & 0o7777);
    tracing::warn!("{path} was open to other users (mode {before:04o}); its mode is {now:04o} now");
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn is_own(name: &str) -> bool {
        name.starts_with("own")
    }

    fn opened(path: &Path) -> Result<PrivateDir, String> {
        PrivateDir::open(path, is_own).map_err(|error| error.to_string())
    }

    #[test]
    fn a_directory_is_made_for_its_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/own");
        opened(&path).unwrap().file("x").unwrap();
        assert_eq!((mode(&path), mode(&path.join("x"))), (0o700, 0o600));
        let link = dir.path().join("link");
        symlink("deep/own", &link).unwrap();
        assert_eq!(opened(&link).unwrap().path(), fs::canonicalize(&path).unwrap());
    }

    #[test]
    fn an_open_directory_is_tightened_where_all_in_it_is_the_servers() {
        for before in [0o755, 0o777, 0o770, 0o711, 0o2775] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("own.db"), "").unwrap();
            set_mode(dir.path(), before);
            opened(dir.path()).unwrap();
            assert_eq!(mode(dir.path()) & 0o777, 0o700, "{before:o}");
        }
    }

    #[test]
    fn an_open_directory_with_other_files_is_refused_with_the_command_to_run() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis\n.tex"), "").unwrap();
        let path = fs::canonicalize(dir.path()).unwrap();
        let path = path.display();
        for (mode, how) in [(0o755, "read"), (0o777, "write to"), (0o720, "write to")] {
            set_mode(dir.path(), mode);
            let error = opened(dir.path()).unwrap_err();
            let expected = format!(
                "other users can {how} {path}, and it has files that are not the server's (thesis\\n.tex). Run \
                 `chmod 700 {path}`, or give the server a directory of its own, such as {path}/isomer"
            );
            assert_eq!(error, expected);
        }
        set_mode(dir.path(), 0o700);
        opened(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_for_temporary_files_is_never_tightened() {
        let dir = tempfile::tempdir().unwrap();
        set_mode(dir.path(), 0o1777);
        assert!(opened(dir.path()).unwrap_err().contains("temporary files of all"));
        assert_eq!(mode(dir.path()), 0o1777);
        opened(&dir.path().join("isomer")).unwrap();
    }

    #[test]
    fn a_file_is_never_opened_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let own = opened(&dir.path().join("data")).unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        set_mode(&victim, 0o644);
        let at = |name: &str| own.path().join(name);
        symlink(&victim, at("link")).unwrap();
        symlink("/nowhere", at("dangling")).unwrap();
        fs::hard_link(&victim, at("hard")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        let fifo_mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), fifo_mode).unwrap();
        for (name, reason) in [
            ("link", "is a link"),
            ("dangling", "is a link"),
            ("hard", "another name as well"),
            ("directory", "is a directory, not a file"),
            ("fifo", "is a FIFO, not a file"),
        ] {
            let error = own.file(name).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            let error = prepare_file(&at(name), &[]).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(own.check_directory("link").is_err());
        own.check_directory("directory").unwrap();
        own.check_directory("none").unwrap();
        assert_eq!((mode(&victim), fs::read(&victim).unwrap()), (0o644, b"precious".to_vec()));
        assert!(!Path::new("/nowhere").exists());
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
            assert!(error.contains("other users can write to") && error.contains("`chmod o-w /"), "{error}");
            assert!(!dir.path().join("x.db").exists());
        }
        for mode in [0o755, 0o775] {
            set_mode(dir.path(), mode);
            prepare_file(&dir.path().join("x.db"), &[]).unwrap();
        }
    }

    #[test]
    fn a_cache_keeps_files_of_its_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("own-1"), "1").unwrap();
        set_mode(&at("own-1"), 0o644);
        symlink("/etc/passwd", at("own-2")).unwrap();
        fs::create_dir(at("own-3")).unwrap();
        fs::write(at("script"), "").unwrap();
        set_mode(&at("script"), 0o755);
        symlink("/etc/passwd", at("link")).unwrap();
        opened(dir.path()).unwrap().tighten_cache(|name| name.starts_with("own-")).unwrap();
        assert_eq!(mode(&at("script")), 0o755, "it is not the cache's");
        assert!(at("link").is_symlink(), "it is not the cache's");
        assert_eq!(mode(&at("own-1")), 0o600);
        assert!(fs::symlink_metadata(at("own-2")).is_err());
        assert!(at("own-3").is_dir());
    }

    /// Only root can give files to another user.
    #[test]
    fn what_belongs_to_another_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("own"), "").unwrap();
        if std::os::unix::fs::chown(dir.path().join("own"), Some(65_533), None).is_err() {
            return;
        }
        let error = opened(dir.path()).unwrap().file("own").unwrap_err().to_string();
        assert!(error.contains("belongs to the user 65533"), "{error}");
        std::os::unix::fs::chown(dir.path(), Some(65_533), None).unwrap();
        let error = opened(dir.path()).unwrap_err();
        assert!(error.contains("Run `chown 0 /"), "{error}");
    }
}
