//! A template directory that was sent as a tar archive. It stays in memory: nothing of it is ever a
//! path of this machine.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _},
    path::{Component, Path},
};

use bytes::Bytes;
use tar::{Archive, EntryType};

use crate::{
    files::{ENTRIES, Files},
    limits::{UPLOAD_BYTES, UPLOAD_FILES},
};

/// Why an archive is no template directory. The text is for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// It is no tar archive, or ends too early.
    #[error("the archive can't be read: it is no tar archive, or not all of it arrived")]
    Unreadable,
    /// Something in it is neither a file nor a directory.
    #[error("{0}: only files and directories can be sent, no links and no devices")]
    Kind(String),
    /// A path leads out of the archive.
    #[error("{0}: paths must be relative and without `..`")]
    Path(String),
    /// A path comes twice.
    #[error("{0}: it is there twice")]
    Twice(String),
    /// There is too much in it.
    #[error("at most {UPLOAD_FILES} files and {} MiB can be sent", UPLOAD_BYTES >> 20)]
    TooMuch,
    /// No template begins in it.
    #[error("there is no org.yaml at the top of the archive")]
    NoTemplate,
}

/// Unpacks an archive. Everything may lie below one directory, as `tar` makes it of a directory.
///
/// # Errors
/// See [`UploadError`].
pub fn unpack(archive: &[u8]) -> Result<Files, UploadError> {
    let mut files = BTreeMap::new();
    let mut bytes = 0;
    let mut archive = Archive::new(Cursor::new(archive));
    for entry in archive.entries().map_err(|_| UploadError::Unreadable)? {
        let mut entry = entry.map_err(|_| UploadError::Unreadable)?;
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            _ => return Err(UploadError::Kind(shown)),
        }
        let path = relative(&shown).ok_or_else(|| UploadError::Path(shown.clone()))?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|_| UploadError::Unreadable)?;
        bytes += content.len();
        if files.len() == UPLOAD_FILES || bytes > UPLOAD_BYTES {
            return Err(UploadError::TooMuch);
        }
        if files.insert(path, Bytes::from(content)).is_some() {
            return Err(UploadError::Twice(shown));
        }
    }
    let files = without_top(files);
    let begins = ENTRIES.iter().any(|entry| files.contains_key(*entry));
    if begins { Ok(Files::Sent(files)) } else { Err(UploadError::NoTemplate) }
}

/// A path of an archive without `.`; none if it leads out or isn't text.
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

/// Without the one directory that everything lies in, if a template begins there.
fn without_top(files: BTreeMap<String, Bytes>) -> BTreeMap<String, Bytes> {
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
        match unpack(archive)? {
            Files::Sent(files) => Ok(files.into_keys().collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_directory_is_unpacked() {
        assert_eq!(paths(&files(&["org.yaml", "roles/x.yaml"])).unwrap(), ["org.yaml", "roles/x.yaml"]);
        assert_eq!(paths(&files(&["./org.yml", "./a"])).unwrap(), ["a", "org.yml"]);
        assert_eq!(paths(&files(&["acme/org.yaml", "acme/a/b"])).unwrap(), ["a/b", "org.yaml"]);
    }

    #[test]
    fn what_leads_out_is_refused() {
        for path in ["../org.yaml", "/etc/passwd", "a/../../b"] {
            let refused = paths(&files(&["org.yaml", path])).unwrap_err();
            assert_eq!(refused, UploadError::Path(path.to_owned()));
        }
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo, EntryType::Char] {
            let refused = paths(&archive(&[("org.yaml", EntryType::Regular), ("x", kind)])).unwrap_err();
            assert_eq!(refused, UploadError::Kind("x".to_owned()));
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        assert_eq!(paths(&files(&["a/org.yaml", "b/x"])).unwrap_err(), UploadError::NoTemplate);
        assert_eq!(
            paths(&files(&["org.yaml", "./org.yaml"])).unwrap_err(),
            UploadError::Twice("./org.yaml".into())
        );
        assert_eq!(paths(b"nonsense").unwrap_err(), UploadError::Unreadable);
        let whole = files(&["org.yaml"]);
        assert_eq!(paths(&whole[..514]).unwrap_err(), UploadError::Unreadable);
    }

    #[test]
    fn there_is_a_limit_of_files() {
        let many: Vec<String> = (0..UPLOAD_FILES).map(|number| format!("f{number}")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.push("org.yaml");
        assert_eq!(paths(&files(&many)).unwrap_err(), UploadError::TooMuch);
    }
}
