//! Reads files that users, operators and templates name. Such a path may lead to a FIFO without a writer, a device
//! without an end, or a file larger than the memory, so only regular files are read, up to a limit.
//!
//! The FIFO that a shell makes for `<(…)` is refused too: how long its writer takes and how much it writes is unknown.
//!
//! Files of the server's own are in [`private`], directories that it only reads in [`trusted`].

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

pub mod private;
pub mod trusted;
pub mod writers;

use std::{
    fs::{self, File, FileType, Metadata},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Component, Path},
};

use rustix::fs::{Mode, OFlags};

/// Bytes of a file with settings, certificates or keys: a bundle of every public authority has 300 KiB.
pub const SETTINGS_BYTES: u64 = 4 << 20;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is a FIFO, a device, a directory …
    #[error("it is {0}, not a regular file")]
    Special(&'static str),
    /// It is larger than allowed.
    #[error("it has {}; {} are allowed", shown_size(*bytes), shown_size(*limit))]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The largest size allowed.
        limit: u64,
    },
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FileError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads a regular file of at most `limit` bytes. Links are followed.
///
/// # Errors
/// See [`FileError`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    // To open a FIFO would wait for its other end, and to open a device may have effects.
    check(path, limit)?;
    // It may have been replaced since.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    content(&file, limit)
}

fn content(file: &File, limit: u64) -> Result<Vec<u8>, FileError> {
    let bytes = check_metadata(&file.metadata()?, limit)?;
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    // It may grow, and files of the system have a size of 0.
    file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    check_size(content.len() as u64, limit)?;
    Ok(content)
}

/// Reads a regular file of at most `limit` bytes at a relative path below `root` in which nothing is a link: a path
/// that was found to be real may have links since.
///
/// # Errors
/// See [`FileError`]. A link is one of the system's.
pub fn read_beneath(root: &Path, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(root, directory, Mode::empty()).map_err(io::Error::from)?;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { break };
        if parts.peek().is_some() {
            at = rustix::fs::openat(&at, name, directory | OFlags::NOFOLLOW, Mode::empty())
                .map_err(io::Error::from)?;
            continue;
        }
        let found =
            rustix::fs::openat(&at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        // Without reading rights: to open a device may have effects.
        check_metadata(&File::from(found.map_err(io::Error::from)?).metadata()?, limit)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&at, name, flags, Mode::empty()).map_err(io::Error::from)?;
        return content(&File::from(opened), limit);
    }
    // The root itself, or a path that leads out of it.
    Err(FileError::Special("a directory"))
}

/// Checks that a path leads to a regular file of at most `limit` bytes, without opening it. Returns its size.
///
/// # Errors
/// See [`FileError`].
pub fn check(path: &Path, limit: u64) -> Result<u64, FileError> {
    check_metadata(&fs::metadata(path)?, limit)
}

fn check_metadata(metadata: &Metadata, limit: u64) -> Result<u64, FileError> {
    special(metadata.file_type()).map_or(Ok(()), |kind| Err(FileError::Special(kind)))?;
    check_size(metadata.len(), limit)
}

fn check_size(bytes: u64, limit: u64) -> Result<u64, FileError> {
    if bytes <= limit { Ok(bytes) } else { Err(FileError::TooLarge { bytes, limit }) }
}

/// What a file is that is not a regular one.
#[must_use]
pub fn special(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_symlink() {
        Some("a link")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_char_device() || kind.is_block_device() {
        Some("a device")
    } else {
        Some("a special file")
    }
}

/// A number of bytes for people.
#[must_use]
pub fn shown_size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_024 => return format!("{bytes} bytes"),
        1_024..1_048_576 => (1_024, "KiB"),
        _ => (1_048_576, "MiB"),
    };
    match (bytes % unit) * 10 / unit {
        0 => format!("{} {name}", bytes / unit),
        tenths => format!("{}.{tenths} {name}", bytes / unit),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn regular_files_are_read_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("four");
        fs::write(&path, "1234").unwrap();
        let link = dir.path().join("link");
        symlink("four", &link).unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        assert_eq!(read(&link, 4).unwrap(), b"1234");
        let error = read(&path, 3).unwrap_err();
        assert_eq!(error.to_string(), "it has 4 bytes; 3 bytes are allowed");
        assert!(read(&dir.path().join("none"), 3).unwrap_err().is_missing());
        // A terabyte, none of it on the disk.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read(&path, SETTINGS_BYTES).unwrap_err();
        assert_eq!(error.to_string(), "it has 1048576 MiB; 4 MiB are allowed");
        // Its size is 0 for the system.
        assert!(!read(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty());
        assert!(matches!(read(Path::new("/proc/self/status"), 8), Err(FileError::TooLarge { .. })));
    }

    #[test]
    fn below_a_root_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "1234").unwrap();
        fs::write(dir.path().join("secret"), "5678").unwrap();
        let read = |path: &str, limit| read_beneath(&root, Path::new(path), limit);
        assert_eq!(read("a/b/file", 4).unwrap(), b"1234");
        assert!(matches!(read("a/b/file", 3), Err(FileError::TooLarge { .. })));
        assert!(read("a/none", 4).unwrap_err().is_missing());
        symlink("../secret", root.join("out")).unwrap();
        symlink("a", root.join("link")).unwrap();
        for path in
            ["out", "link", "link/b/file", "../secret", "/etc/passwd", "", ".", "a/../../secret", "a/b"]
        {
            read(path, 1 << 20).unwrap_err();
        }
        assert_eq!(read("out", 4).unwrap_err().to_string(), "it is a link, not a regular file");
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        assert_eq!(read("fifo", 4).unwrap_err().to_string(), "it is a FIFO, not a regular file");
    }

    #[test]
    fn other_kinds_of_files_are_refused_without_opening_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), mode).unwrap();
        symlink("fifo", at("link")).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        symlink("/dev/zero", at("device")).unwrap();
        for (name, kind) in [
            ("fifo", "a FIFO"),
            ("link", "a FIFO"),
            ("socket", "a socket"),
            ("device", "a device"),
            ("", "a directory"),
        ] {
            let error = read(&at(name), 1 << 20).unwrap_err().to_string();
            assert_eq!(error, format!("it is {kind}, not a regular file"));
        }
    }
}
