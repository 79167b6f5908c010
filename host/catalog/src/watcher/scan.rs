//! What the names in the watched directory lead to, looked at every few seconds: no event tells of a link whose
//! target changes, of a directory that is a link to another one by now, or of one that was made again.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::guests_in;

/// Looks after which a changed target of a link is read: once more it is the same, so no one writes it.
const LOOKS_LINK: u32 = 1;

/// The same for a file of the directory itself, about a minute. Its writer's close is an event that comes
/// earlier; some network file systems have none.
const LOOKS_FILE: u32 = 20;

/// What a name leads to, as far as that is known without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Print {
    target: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Print {
    /// None where there is nothing to read.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            target: fs::canonicalize(path).ok()?,
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// Which directory a path leads to; none where there is none.
pub(crate) fn identity(directory: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(directory).ok().filter(fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

/// The last look.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    files: BTreeMap<PathBuf, Look>,
}

#[derive(Debug)]
struct Look {
    /// What was read last.
    read: Option<Print>,
    seen: Print,
    /// How often that was seen again.
    again: u32,
}

impl Looks {
    /// Files that are there and count as read: events tell of their changes, or they are read anyway.
    pub(crate) fn know(&mut self, paths: &[PathBuf]) {
        for path in paths {
            self.set_read(path, Print::of(path));
        }
    }

    /// Notes that a file is read, as it was just before.
    pub(crate) fn set_read(&mut self, path: &Path, print: Option<Print>) {
        if let Some(print) = print {
            let look = Look { read: Some(print.clone()), seen: print, again: 0 };
            self.files.insert(path.to_owned(), look);
        }
    }

    /// Looks at the directory. Returns the files to read.
    pub(crate) fn look(&mut self, directory: &Path) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        let mut files = BTreeMap::new();
        for path in guests_in(directory) {
            let Some(print) = Print::of(&path) else { continue };
            let look = match self.files.remove(&path) {
                Some(Look { read, seen, again }) if seen == print => Look { read, seen, again: again + 1 },
                known => Look { read: known.and_then(|known| known.read), seen: print, again: 0 },
            };
            let needed = if leads_elsewhere(&path) { LOOKS_LINK } else { LOOKS_FILE };
            if look.again == needed && look.read.as_ref() != Some(&look.seen) {
                changed.push(path.clone());
            }
            files.insert(path, look);
        }
        self.files = files;
        changed
    }
}

fn leads_elsewhere(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_target_that_changed_is_read_once_it_stays_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        let link = directory.path().join("guest.wasm");
        fs::write(&one, "1").unwrap();
        fs::write(&two, "22").unwrap();
        symlink(&one, &link).unwrap();
        let mut looks = Looks::default();
        looks.know(std::slice::from_ref(&link));
        assert!((0..5).all(|_| looks.look(directory.path()).is_empty()));
        fs::remove_file(&link).unwrap();
        symlink(&two, &link).unwrap();
        assert!(looks.look(directory.path()).is_empty(), "it may be growing");
        fs::write(&two, "333").unwrap();
        assert!(looks.look(directory.path()).is_empty(), "it was");
        assert_eq!(looks.look(directory.path()), std::slice::from_ref(&link));
        looks.set_read(&link, Print::of(&link));
        assert!((0..50).all(|_| looks.look(directory.path()).is_empty()));
        fs::write(directory.path().join("file.wasm"), "1").unwrap();
        let looked = (0..50).map(|_| looks.look(directory.path()).len());
        assert_eq!(looked.sum::<usize>(), 1, "a file without an event is read, too, much later");
    }
}
