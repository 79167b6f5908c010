//! Finds the file that an author meant on a file system that ignores case or Unicode normal form.

use std::{
    fs,
    path::{Path, PathBuf},
};

use unicode_normalization::UnicodeNormalization as _;

/// Entries of a directory that are compared.
const ENTRIES: usize = 4_096;

/// The path among `paths` that equals `missing` up to case and normal form.
pub(crate) fn among<'a>(paths: impl Iterator<Item = &'a Path>, missing: &Path) -> Option<String> {
    let meant = folded(missing.to_str()?);
    paths.filter_map(Path::to_str).find(|path| folded(path) == meant).map(str::to_owned)
}

/// The same among the files below `root`. None is looked for outside of `containment_root`, where links may lead.
pub(crate) fn below(root: &Path, containment_root: &Path, missing: &Path) -> Option<String> {
    let mut found = PathBuf::new();
    for part in missing {
        let directory = fs::canonicalize(root.join(&found)).ok()?;
        if !directory.starts_with(containment_root) {
            return None;
        }
        if directory.join(part).exists() {
            found.push(part);
            continue;
        }
        let meant = folded(part.to_str()?);
        let entries = fs::read_dir(directory).ok()?.take(ENTRIES).filter_map(Result::ok);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        found.push(names.filter(|name| folded(name) == meant && part.to_str() != Some(name)).min()?);
    }
    found.to_str().map(str::to_owned)
}

fn folded(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).nfc().collect()
}
