//! A template directory uploaded as a tar archive. It stays in memory; none of its paths is ever opened on
//! this machine.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read as _},
    path::{Component, Path},
};

use bytes::Bytes;
use local_files::shown_size;
use tar::{Archive, EntryType};

use crate::{
    files::{ENTRIES, Files, SKIPPED_DIRECTORIES, entry_hint},
    limits::{UPLOAD_BYTES, UPLOAD_FILES},
    private_names::may_be_sent,
    shown::shown,
};

/// Why an archive is not a template directory. The texts go to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The bytes are no tar archive, or end too early.
    #[error("the archive can't be read: it is no tar archive, or not all of it arrived")]
    Unreadable,
    /// An entry is neither a file nor a directory.
    #[error("{}: it is {kind}; only files and directories can be sent", shown(path))]
    Kind {
        /// Path of the entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// An absolute path, one with `..`, or one that isn't UTF-8.
    #[error("{}: paths must be relative, in UTF-8 and without `..`", shown(.0))]
    Path(String),
    /// Two files have the same path.
    #[error("{}: it is there twice", shown(.0))]
    Twice(String),
    /// The archive exceeds a limit.
    #[error("the archive has more than {UPLOAD_FILES} files; {} is one more", shown(.0))]
    TooMany(String),
    /// The archive exceeds a limit.
    #[error("{} has {}; all files together may have {}", shown(path), shown_size(*bytes), shown_size(UPLOAD_BYTES as u64))]
    TooLarge {
        /// Path of the largest file.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// The archive has no `org.yaml` at its top.
    #[error("there is no org.yaml at the top of the archive{}", entry_hint(similar.as_deref()))]
    NoTemplate {
        /// A file whose name differs in case or Unicode form only.
        similar: Option<String>,
    },
}

/// Unpacks an archive. All of it may lie below one directory, as `tar` writes it when given a directory. What
/// other tools keep in a directory is left out: versions, dependencies, and locks of editors. So are files with
/// credentials other than `.env`.
///
/// # Errors
/// See [`UploadError`].
pub fn unpack(archive: &[u8]) -> Result<Files, UploadError> {
    let mut files = BTreeMap::new();
    let mut bytes: u64 = 0;
    let mut largest = (String::new(), 0);
    let mut archive = Archive::new(Cursor::new(archive));
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let named = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader || is_left_out(&named, kind) {
            continue;
        }
        let kind = match kind {
            EntryType::Regular | EntryType::Continuous => None,
            EntryType::Directory => continue,
            EntryType::Symlink | EntryType::Link => Some("a link"),
            EntryType::Fifo => Some("a FIFO"),
            EntryType::Char | EntryType::Block => Some("a device"),
            _ => Some("a special file"),
        };
        if let Some(kind) = kind {
            return Err(UploadError::Kind { path: named, kind });
        }
        let path = relative(&named).ok_or_else(|| UploadError::Path(named.clone()))?;
        // A header may say any number.
        bytes = bytes.saturating_add(entry.size());
        if entry.size() > largest.1 {
            largest = (named.clone(), entry.size());
        }
        if bytes > UPLOAD_BYTES as u64 {
            let (path, bytes) = largest;
            return Err(UploadError::TooLarge { path, bytes });
        }
        if files.len() == UPLOAD_FILES {
            return Err(UploadError::TooMany(named));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(unreadable)?;
        if files.insert(path, Bytes::from(content)).is_some() {
            return Err(UploadError::Twice(named));
        }
    }
    let files = without_top_directory(files);
    let has_entry = ENTRIES.iter().any(|entry| files.contains_key(*entry));
    let files = Files::in_memory(files);
    if has_entry { Ok(files) } else { Err(UploadError::NoTemplate { similar: files.similar_entry() }) }
}

#[allow(clippy::needless_pass_by_value)] // what `map_err` hands over
fn unreadable(error: io::Error) -> UploadError {
    tracing::debug!(error = &error as &dyn std::error::Error, "an uploaded archive can't be read");
    UploadError::Unreadable
}

/// Editors mark a file that is being edited by a link of such a name to nothing.
fn is_left_out(path: &str, kind: EntryType) -> bool {
    let mut parts = path.split('/');
    !may_be_sent(Path::new(path))
        || parts.any(|part| {
            SKIPPED_DIRECTORIES.contains(&part) || kind == EntryType::Symlink && part.starts_with(".#")
        })
}

/// A path of an archive without `.`; none if it is absolute, has `..`, or isn't UTF-8.
fn relative(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!parts.is_empty() && !path.contains('\u{fffd}')).then(|| parts.join("/"))
}

/// The files without the one directory that all of them lie in, if there is one.
fn without_top_directory(files: BTreeMap<String, Bytes>) -> BTreeMap<String, Bytes> {
    let top = files.keys().next().and_then(|path| path.split_once('/')).map(|(top, _)| format!("{top}/"));
    match top {
        Some(top) if files.keys().all(|path| path.starts_with(&top)) => files
            .into_iter()
            .map(|(path, content)| (path.strip_prefix(&top).unwrap_or(&path).to_owned(), content))
            .collect(),
        _ => files,
    }
}

#[cfg(test)]
mod tests {
    use tar::{Builder, Header};

    use super::*;

    fn archive(entries: &[(&str, EntryType)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, kind) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(if *kind == EntryType::Regular { 4 } else { 0 });
            // By hand: the builder itself would refuse some of these.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            let content: &[u8] = if *kind == EntryType::Regular { b"a: 1" } else { b"" };
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn files(entries: &[&str]) -> Vec<u8> {
        archive(&entries.iter().map(|path| (*path, EntryType::Regular)).collect::<Vec<_>>())
    }

    fn paths(archive: &[u8]) -> Result<Vec<String>, UploadError> {
        Ok(unpack(archive)?.uploaded().map(str::to_owned).collect())
    }

    #[test]
    fn a_directory_is_unpacked() {
        assert_eq!(paths(&files(&["org.yaml", "roles/x.yaml"])).unwrap(), ["org.yaml", "roles/x.yaml"]);
        assert_eq!(paths(&files(&["./org.yml", "./a"])).unwrap(), ["a", "org.yml"]);
        assert_eq!(paths(&files(&["acme/org.yaml", "acme/a/b"])).unwrap(), ["a/b", "org.yaml"]);
    }

    #[test]
    fn paths_and_links_out_of_the_archive_are_refused() {
        for path in ["../org.yaml", "/etc/passwd", "a/../../b"] {
            let refused = paths(&files(&["org.yaml", path])).unwrap_err();
            assert_eq!(refused, UploadError::Path(path.to_owned()));
        }
        for (entry, kind) in [
            (EntryType::Symlink, "a link"),
            (EntryType::Link, "a link"),
            (EntryType::Fifo, "a FIFO"),
            (EntryType::Char, "a device"),
        ] {
            let refused = paths(&archive(&[("org.yaml", EntryType::Regular), ("x", entry)])).unwrap_err();
            assert_eq!(refused, UploadError::Kind { path: "x".to_owned(), kind });
        }
    }

    #[test]
    fn what_is_wrong_with_a_long_path_is_said_behind_it() {
        let path = format!("{}/../x", "a".repeat(300_000));
        for (error, end) in [
            (UploadError::Path(path.clone()), "/../x: paths must be relative, in UTF-8 and without `..`"),
            (UploadError::Twice(path.clone()), "/../x: it is there twice"),
            (UploadError::TooMany(path.clone()), "/../x is one more"),
            (
                UploadError::Kind { path, kind: "a link" },
                "it is a link; only files and directories can be sent",
            ),
        ] {
            let text = error.to_string();
            assert!(text.len() < 400 && text.ends_with(end), "{text}");
        }
    }

    #[test]
    fn an_archive_without_a_template_is_refused() {
        assert_eq!(
            paths(&files(&["a/org.yaml", "b/x"])).unwrap_err(),
            UploadError::NoTemplate { similar: None }
        );
        assert_eq!(
            paths(&files(&["org.yaml", "./org.yaml"])).unwrap_err(),
            UploadError::Twice("./org.yaml".into())
        );
        assert_eq!(paths(b"nonsense").unwrap_err(), UploadError::Unreadable);
        let complete = files(&["org.yaml"]);
        assert_eq!(paths(&complete[..514]).unwrap_err(), UploadError::Unreadable);
    }

    #[test]
    fn too_many_files_are_refused() {
        let many: Vec<String> = (0..UPLOAD_FILES).map(|number| format!("f{number}")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.push("org.yaml");
        assert_eq!(paths(&files(&many)).unwrap_err(), UploadError::TooMany("org.yaml".to_owned()));
    }

    #[test]
    fn what_other_tools_keep_in_a_directory_is_left_out() {
        let regular = |path| (path, EntryType::Regular);
        let sent = archive(&[
            regular("acme/org.yaml"),
            ("acme/.#org.yaml", EntryType::Symlink),
            regular("acme/.git/config"),
            ("acme/node_modules/x", EntryType::Symlink),
            regular("acme/node_modules/y/org.yaml"),
            regular("acme/roles/.terraform/big"),
            ("acme/.git/fsmonitor", EntryType::Fifo),
            regular("acme/.ssh/config"),
            regular("acme/roles/id_rsa"),
            regular("acme/roles/.env.local"),
        ]);
        assert_eq!(paths(&sent).unwrap(), ["org.yaml"]);
    }

    #[test]
    fn a_file_that_is_too_large_is_named_with_its_size() {
        let mut builder = Builder::new(Vec::new());
        for (path, bytes) in [("org.yaml", 4), ("data/big.bin", (32 << 20) + 1)] {
            let mut header = Header::new_gnu();
            header.set_size(bytes);
            builder.append_data(&mut header, path, io::repeat(b'x').take(bytes)).unwrap();
        }
        let refused = paths(&builder.into_inner().unwrap()).unwrap_err().to_string();
        assert_eq!(refused, "data/big.bin has 32 MiB; all files together may have 32 MiB");
    }
}
