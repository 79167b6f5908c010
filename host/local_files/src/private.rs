//! Files and directories that no other user may read or replace: databases, locks and caches of the server.
//!
//! A directory of the server's own has the mode 0700 and its files have 0600. What an earlier release or the operator
//! made with a wider mode is tightened, and the log says so. What can't be tightened, belongs to another user or leads
//! elsewhere by a link is refused: in a directory that others could write to, they may have put it there.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::{fs::OFlags, process::geteuid};

use crate::special;
use crate::writers::{self, Writers, is_sticky};

const OTHERS: u32 = 0o077;

pub use database_file::{companion, prepare_file};
pub use error::PrivateError;

mod database_file;
mod error;

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
        let metadata = opened.metadata().map_err(failed)?;
        if is_sticky(&metadata) && metadata.mode() & OTHERS != 0 {
            return Err(still_open(&path, metadata.mode(), TEMPORARY.to_owned(), own_directory(&path)));
        }
        let owner = match user(&path) {
            // Nothing can be written there, so who would own it is not to be known otherwise.
            Err(PrivateError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied
                    && metadata.uid() != geteuid().as_raw() =>
            {
                geteuid().as_raw()
            }
            owner => owner?,
        };
        if metadata.uid() != owner {
            return Err(foreign_directory(&path, metadata.uid(), owner, &is_own));
        }
        warn_of_writers_above(&path, owner);
        if metadata.mode() & OTHERS != 0 {
            let other = other_file(&path, &is_own).map_err(failed)?;
            let why = other.map(|name| format!(", and it has files that are not the server's ({name})"));
            // A file system without modes, or one that others administer, keeps what it has.
            let tightened = why.is_none() && opened.set_permissions(Permissions::from_mode(0o700)).is_ok();
            let now = opened.metadata().map_err(failed)?.mode();
            if !tightened || now & OTHERS != 0 {
                let remedy = match why {
                    // A directory of root's may be the system's.
                    Some(_) if owner != 0 => format!(
                        "{}. If no other user needs {path}, run `chmod 700 {path}`",
                        own_directory(&path),
                        path = path.display()
                    ),
                    Some(_) => own_directory(&path),
                    None => "Give the server a directory on a file system that keeps modes".to_owned(),
                };
                let why = why.unwrap_or_else(|| ", and the system keeps its mode".to_owned());
                return Err(still_open(&path, now, why, remedy));
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

    /// Tightens the files of a directory that is a cache. What has a name of the cache's (`is_own`) and is not a file
    /// of this user is deleted: others put it there when they could. Files with other names are left as they are.
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

/// What is said of a directory in which every user may make files, and only owners delete them. Its mode is right.
const TEMPORARY: &str = ", which is for temporary files of all";

/// A file in the directory that is not the server's.
fn other_file(path: &Path, is_own: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name.to_str().is_none_or(|name| !is_own(name)) {
            return Ok(Some(shown(&name)));
        }
    }
    Ok(None)
}

fn own_directory(path: &Path) -> String {
    format!("Give the server a directory of its own, such as {}/isomer", path.display())
}

/// A directory of another user, which may be one of the system or a volume that the server may only write to.
fn foreign_directory(path: &Path, owner: u32, user: u32, is_own: impl Fn(&str) -> bool) -> PrivateError {
    let mut remedy = own_directory(path);
    let path = path.display().to_string();
    if matches!(other_file(Path::new(&path), is_own), Ok(None)) {
        remedy = format!("{remedy}, or run `chown {user} {path}`");
    }
    if owner != 0 {
        remedy = format!("{remedy}, or run the server as that user");
    }
    PrivateError::Foreign { path, owner, user, remedy }
}

/// Names in the log, once, who may put another directory in the place of this one. That is no reason to refuse it: in a
/// container, a volume may belong to every user, because there is only one.
fn warn_of_writers_above(path: &Path, owner: u32) {
    static NAMED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    for (directory, writers) in writers::above(path, owner) {
        let (shown, above) = (path.display(), directory.display());
        let remedy = match writers {
            Writers::Everyone => format!("close it by `chmod o-w {above}`, or"),
            Writers::Group | Writers::Owner(_) => "if they should not,".to_owned(),
        };
        if NAMED.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.clone()) {
            tracing::warn!(
                "{writers} can write to {above}, and so put another directory in the place of {shown}: {remedy} give the \
                 server a directory elsewhere"
            );
        }
    }
}

/// A name of a file in a message: at most 255 bytes, with control characters escaped.
fn shown(name: &OsStr) -> String {
    name.to_string_lossy().escape_debug().collect()
}

fn still_open(path: &Path, mode: u32, why: String, remedy: String) -> PrivateError {
    let how = if mode & 0o022 != 0 { "write to" } else { "read" };
    PrivateError::Open { path: path.display().to_string(), how, why, remedy }
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
        owner => {
            let path = path.display().to_string();
            let mut remedy = format!("Run `chown {user} {path}`");
            if owner != 0 {
                remedy.push_str(", or run the server as that user");
            }
            Err(PrivateError::Foreign { path, owner, user, remedy })
        }
    }
}

fn not_a(wanted: &'static str, path: &Path, metadata: &Metadata) -> PrivateError {
    let path = path.display().to_string();
    match metadata.is_symlink() {
        true => PrivateError::Link { path, remedy: format!("Put the {wanted} itself in its place") },
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
    fn an_open_directory_with_other_files_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis\n.tex"), "").unwrap();
        let path = fs::canonicalize(dir.path()).unwrap();
        let path = path.display();
        for (mode, how) in [(0o755, "read"), (0o777, "write to"), (0o720, "write to")] {
            set_mode(dir.path(), mode);
            let error = opened(dir.path()).unwrap_err();
            let expected = format!(
                "other users can {how} {path}, and it has files that are not the server's (thesis\\n.tex). Give the \
                 server a directory of its own, such as {path}/isomer"
            );
            assert!(error.starts_with(&expected), "{error}");
            // What belongs to root may be /etc.
            assert_eq!(error.contains("chmod"), !geteuid().is_root(), "{error}");
        }
        set_mode(dir.path(), 0o700);
        opened(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_for_temporary_files_is_never_tightened() {
        let dir = tempfile::tempdir().unwrap();
        set_mode(dir.path(), 0o1777);
        let error = opened(dir.path()).unwrap_err();
        assert!(error.contains("temporary files of all") && error.contains("/isomer"), "{error}");
        assert!(!error.contains("chmod") && !error.contains("chown"), "{error}");
        assert_eq!(mode(dir.path()), 0o1777);
        opened(&dir.path().join("isomer")).unwrap();
    }

    /// The volume of a container often has mode 0777.
    #[test]
    fn a_directory_below_one_that_others_can_write_to_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        let data = shared.join("deep/data");
        fs::create_dir_all(&data).unwrap();
        for mode in [0o777, 0o2777, 0o1777, 0o2775] {
            set_mode(&shared, mode);
            opened(&data).unwrap();
            prepare_file(&data.join("x.db"), &[]).unwrap();
        }
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
    fn a_cache_keeps_files_of_its_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        set_mode(dir.path(), 0o700);
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
        assert!(error.contains("/isomer, or run `chown 0 /") && error.contains("as that user"), "{error}");
        // As /var/lib for another user than root: giving it away would break others.
        fs::write(dir.path().join("others"), "").unwrap();
        for mode in [0o755, 0o2775, 0o1777] {
            set_mode(dir.path(), mode);
            let error = opened(dir.path()).unwrap_err();
            assert!(error.contains("a directory of its own, such as /"), "{error}");
            assert!(!error.contains("chown") && !error.contains("chmod"), "{error}");
        }
    }
}
