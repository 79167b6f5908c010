//! Finds the file that an author meant on a file system that ignores case or Unicode normal form.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use unicode_normalization::UnicodeNormalization as _;

/// Entries of a directory that are compared.
pub(crate) const ENTRIES: usize = 4_096;

/// Names that are remembered for one template, some 8 MiB at most. When there are more, nothing is looked for any more:
/// a hint isn't worth reading a large directory for each of a thousand missing files.
const NAMES: usize = 16_384;

/// Bytes of a path that is looked for, and of a name that is compared: more, no file system has. An archive may have
/// them, with a path of a hundred thousand directories.
const PATH_BYTES: usize = 4_096;
const NAME_BYTES: usize = 255;

/// The directories of a template. Paths are relative to it; the empty one is its own.
pub(crate) trait Directories {
    /// Whether there is such an entry; none if the directory can't be looked into.
    fn contains(&self, directory: &Path, name: &OsStr) -> Option<bool>;

    /// Up to [`ENTRIES`] names of a directory.
    fn names(&self, directory: &Path) -> Option<Vec<String>>;
}

/// The names of directories in which something was missing, each read once.
#[derive(Default)]
pub(crate) struct SimilarPaths(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Folded and as they are, sorted.
    by_directory: HashMap<PathBuf, Arc<[(String, String)]>>,
    names: usize,
}

impl fmt::Debug for SimilarPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimilarPaths").finish_non_exhaustive()
    }
}

impl SimilarPaths {
    /// The path that differs from the missing one in case and normal form only.
    pub(crate) fn find(&self, directories: &impl Directories, missing: &Path) -> Option<String> {
        if missing.as_os_str().len() > PATH_BYTES {
            return None;
        }
        let mut found = PathBuf::new();
        let mut differs = false;
        for part in missing {
            if directories.contains(&found, part)? {
                found.push(part);
                continue;
            }
            let name = self.similar_name(directories, &found, part.to_str()?)?;
            found.push(name);
            differs = true;
        }
        found.to_str().filter(|_| differs).map(str::to_owned)
    }

    /// The name in a directory that differs from a missing one in case and normal form only.
    pub(crate) fn similar_name(
        &self,
        directories: &impl Directories,
        directory: &Path,
        missing: &str,
    ) -> Option<String> {
        let names = self.names(directories, directory)?;
        let meant = folded(missing);
        let from = names.partition_point(|(folded, _)| *folded < meant);
        let alike = names.iter().skip(from).take_while(|(folded, _)| *folded == meant);
        alike.map(|(_, name)| name).find(|name| *name != missing).cloned()
    }

    fn names(&self, directories: &impl Directories, directory: &Path) -> Option<Arc<[(String, String)]>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = known.by_directory.get(directory) {
            return Some(Arc::clone(names));
        }
        if known.names >= NAMES {
            return None;
        }
        let names = directories.names(directory).unwrap_or_default();
        let mut names: Vec<_> = names
            .into_iter()
            .filter(|name| name.len() <= NAME_BYTES)
            .map(|name| (folded(&name), name))
            .collect();
        names.sort_unstable();
        // A directory without names is remembered, too.
        known.names += names.len() + 1;
        let names: Arc<[_]> = names.into();
        known.by_directory.insert(directory.to_owned(), Arc::clone(&names));
        Some(names)
    }
}

fn folded(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).nfc().collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A directory of so many names, and how often they were read.
    struct Large {
        names: usize,
        reads: Cell<usize>,
    }

    impl Directories for Large {
        fn contains(&self, directory: &Path, name: &OsStr) -> Option<bool> {
            Some(directory.as_os_str().is_empty() && name.to_str()?.parse::<u32>().is_ok())
        }

        fn names(&self, _: &Path) -> Option<Vec<String>> {
            self.reads.set(self.reads.get() + 1);
            Some((0..self.names).map(|number| format!("Name{number}")).collect())
        }
    }

    #[test]
    fn a_directory_is_read_once_however_many_files_are_missing() {
        let large = Large { names: 3_000, reads: Cell::new(0) };
        let similar = SimilarPaths::default();
        for number in 0..1_000 {
            let found = similar.find(&large, Path::new(&format!("7/name{number}")));
            assert_eq!(found, Some(format!("7/Name{number}")));
            assert_eq!(similar.find(&large, Path::new(&format!("7/none{number}"))), None);
        }
        assert_eq!(large.reads.get(), 1);
        // What is there is not similar to itself.
        assert_eq!(similar.find(&large, Path::new("7")), None);
    }

    #[test]
    fn paths_that_no_file_system_has_are_not_looked_for() {
        struct Endless(Cell<usize>);
        impl Directories for Endless {
            fn contains(&self, _: &Path, name: &OsStr) -> Option<bool> {
                self.0.set(self.0.get() + 1);
                Some(name == "a")
            }

            fn names(&self, _: &Path) -> Option<Vec<String>> {
                Some(vec!["X".repeat(256), "X".repeat(255)])
            }
        }
        let endless = Endless(Cell::new(0));
        let similar = SimilarPaths::default();
        assert_eq!(similar.find(&endless, Path::new(&format!("{}b", "a/".repeat(100_000)))), None);
        assert_eq!(endless.0.get(), 0);
        assert_eq!(similar.find(&endless, Path::new(&"x".repeat(256))), None);
        assert_eq!(similar.find(&endless, Path::new(&"x".repeat(255))), Some("X".repeat(255)));
    }

    #[test]
    fn no_more_than_so_many_names_are_remembered() {
        let large = Large { names: 3_000, reads: Cell::new(0) };
        let similar = SimilarPaths::default();
        let hints =
            (0..100).filter(|number| similar.find(&large, Path::new(&format!("{number}/name1"))).is_some());
        assert_eq!(hints.count(), 6);
        assert_eq!(large.reads.get(), 6);
    }
}
