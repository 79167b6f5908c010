//! Who else may change what lies in a directory. A user who may write to a directory above another one can rename that
//! and put a directory of its own in its place, whatever the modes below say.

use std::{
    fmt,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// In a directory with this bit users delete and rename their own entries only: `/tmp`.
const STICKY: u32 = 0o1000;

/// Who may write, besides root and the users that are allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Every user of the machine.
    Everyone,
    /// The members of its group.
    Group,
    /// Its owner.
    Owner(u32),
}

impl Writers {
    /// The writers of a file or directory, besides root, this process's user and the user `owner`.
    #[must_use]
    pub fn of(metadata: &Metadata, owner: u32) -> Option<Self> {
        match metadata.mode() {
            mode if mode & OTHERS_WRITE != 0 => Some(Self::Everyone),
            mode if mode & GROUP_WRITES != 0 => Some(Self::Group),
            _ => Self::owner(metadata, owner),
        }
    }

    /// The users who may rename and delete what others have in a directory.
    fn of_entries(metadata: &Metadata, owner: u32) -> Option<Self> {
        match is_sticky(metadata) {
            true => Self::owner(metadata, owner),
            false => Self::of(metadata, owner),
        }
    }

    fn owner(metadata: &Metadata, owner: u32) -> Option<Self> {
        let allowed = [0, owner, geteuid().as_raw()];
        (!allowed.contains(&metadata.uid())).then_some(Self::Owner(metadata.uid()))
    }
}

/// The subject of a sentence.
impl fmt::Display for Writers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => formatter.write_str("other users of this machine"),
            Self::Group => formatter.write_str("other users of its group"),
            Self::Owner(user) => write!(formatter, "the user {user}"),
        }
    }
}

/// Whether a directory is for temporary files of all users.
#[must_use]
pub fn is_sticky(metadata: &Metadata) -> bool {
    metadata.is_dir() && metadata.mode() & STICKY != 0
}

/// The directories above an absolute path without links in which others may rename it, or a directory on the way,
/// nearest first.
pub fn above(path: &Path, owner: u32) -> impl Iterator<Item = (PathBuf, Writers)> {
    path.ancestors().skip(1).filter_map(move |directory| {
        let metadata = fs::metadata(directory).ok()?;
        Some((directory.to_owned(), Writers::of_entries(&metadata, owner)?))
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn directories_above_count_by_who_may_rename_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let shared = fs::canonicalize(dir.path()).unwrap().join("shared");
        let data = shared.join("deep/data");
        fs::create_dir_all(&data).unwrap();
        for (mode, expected) in [
            (0o755, None),
            (0o1777, None),
            (0o777, Some(Writers::Everyone)),
            (0o702, Some(Writers::Everyone)),
            (0o2775, Some(Writers::Group)),
        ] {
            fs::set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
            let expected: Vec<_> = expected.map(|writers| (shared.clone(), writers)).into_iter().collect();
            assert_eq!(above(&data, 0).collect::<Vec<_>>(), expected, "{mode:o}");
        }
        // A directory that every user may add to is open itself, though nothing in it can be renamed.
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(Writers::of(&fs::metadata(&shared).unwrap(), 0), Some(Writers::Everyone));
    }

    /// Only root can give directories to another user.
    #[test]
    fn the_owner_of_a_directory_above_may_rename_in_it_whatever_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let shared = fs::canonicalize(dir.path()).unwrap().join("shared");
        fs::create_dir_all(shared.join("data")).unwrap();
        if std::os::unix::fs::chown(&shared, Some(65_533), None).is_err() {
            return;
        }
        for mode in [0o700, 0o1777] {
            fs::set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
            let found: Vec<_> = above(&shared.join("data"), 0).map(|(_, writers)| writers).collect();
            assert_eq!(found, [Writers::Owner(65_533)], "{mode:o}");
            assert_eq!(above(&shared.join("data"), 65_533).count(), 0);
        }
    }
}
