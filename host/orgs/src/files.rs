//! The files of a template, wherever they lie, and which of them may be read.
//!
//! Paths are relative to the template's directory. They are normalized and checked here, and so are the
//! targets of links. A missing file and a refused one are different answers, because an author has to do
//! different things about them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use local_files::{FileError, shown_size};
use wasm::template::Answer;

use crate::{limits::FILE_BYTES, similar_path};

/// Directories that are skipped wherever files of a template are collected: versions, caches and
/// dependencies of other tools.
pub const SKIPPED_DIRECTORIES: [&str; 6] =
    [".git", ".hg", ".svn", ".external-cache", ".terraform", "node_modules"];

/// Variables of a directory of the template.
const ENV: &str = ".env";

/// Files with credentials. Neither a resolver nor a prompt gets their content.
const CREDENTIALS: [&str; 3] = [ENV, ".auth_token", ".platform_inbound_secret"];

/// Names of a template's first file. Where both exist, the first one counts.
pub(crate) const ENTRIES: [&str; 2] = ["org.yaml", "org.yml"];

/// Where a template's files lie.
#[derive(Debug, Clone)]
pub enum Files {
    /// The template came inline and has no files.
    None,
    /// A directory.
    Directory {
        /// The template's own directory.
        root: PathBuf,
        /// The real path of the directory that holds all templates. Links may lead to other templates,
        /// nowhere else.
        containment_root: PathBuf,
    },
    /// Uploaded files by path. There are no links among them.
    InMemory(BTreeMap<String, Bytes>),
}

/// Why a file has no content to give.
#[derive(Debug)]
enum ReadError {
    Missing,
    Refused(String),
}

impl Files {
    pub(crate) fn has_directory(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The answer to a resolver that asks for a path.
    pub(crate) fn answer(&self, path: &str) -> Answer {
        let Some(normalized) = normalize_path(path) else { return Answer::Refused(escapes()) };
        match self.read_content(&normalized) {
            Ok(bytes) => Answer::Bytes(bytes),
            // An entry that is missing is looked for by its other name.
            Err(ReadError::Missing) if ENTRIES.contains(&path) => Answer::Missing,
            Err(ReadError::Missing) => self
                .similar(&normalized)
                .map_or(Answer::Missing, |similar| Answer::Refused(missing(Some(&similar)))),
            Err(ReadError::Refused(reason)) => Answer::Refused(reason),
        }
    }

    /// The text of a file below `directory`, such as a prompt.
    ///
    /// # Errors
    /// Why it can't be had, in words for the author.
    pub(crate) fn text(&self, directory: &str, path: &str) -> Result<String, String> {
        let normalized = normalize_path(directory).and_then(|directory| normalize_below(&directory, path));
        let normalized = normalized.ok_or_else(escapes)?;
        match self.read_content(&normalized) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(ReadError::Missing) => Err(missing(self.similar(&normalized).as_deref())),
            Err(ReadError::Refused(reason)) => Err(reason),
        }
    }

    /// The text of a directory's `.env`; empty if there is none.
    ///
    /// # Errors
    /// Why it can't be read, in words for the author.
    pub(crate) fn env(&self, directory: &str) -> Result<String, String> {
        let Some(path) = normalize_path(directory) else { return Ok(String::new()) };
        match self.read(&path.join(ENV), |_| false) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(ReadError::Missing) => Ok(String::new()),
            Err(ReadError::Refused(reason)) => Err(reason),
        }
    }

    /// Checks that there is such a directory.
    ///
    /// # Errors
    /// Why not, in words for the author.
    pub(crate) fn check_directory(&self, path: &str) -> Result<(), String> {
        let normalized = normalize_path(path).ok_or_else(escapes)?;
        let exists = match self {
            Self::None => false,
            Self::InMemory(files) => files.keys().any(|file| Path::new(file).starts_with(&normalized)),
            Self::Directory { root, containment_root } => fs::canonicalize(root.join(&normalized))
                .is_ok_and(|real| real.is_dir() && real.starts_with(containment_root)),
        };
        if exists { Ok(()) } else { Err(missing(self.similar(&normalized).as_deref())) }
    }

    /// A path of the template that differs from a missing one in case or Unicode normal form only.
    fn similar(&self, missing: &Path) -> Option<String> {
        match self {
            Self::None => None,
            Self::InMemory(files) => {
                let paths = files.keys().flat_map(|file| Path::new(file).ancestors());
                similar_path::among(paths, missing)
            }
            Self::Directory { root, containment_root } => {
                similar_path::below(root, containment_root, missing)
            }
        }
    }

    fn read_content(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        if has_credentials(path) { Err(credentials()) } else { self.read(path, has_credentials) }
    }

    /// `is_refused` judges the real path of a file, behind all links.
    fn read(&self, path: &Path, is_refused: impl Fn(&Path) -> bool) -> Result<Vec<u8>, ReadError> {
        match self {
            Self::None => Err(ReadError::Missing),
            Self::InMemory(files) => {
                let bytes = path.to_str().and_then(|path| files.get(path)).ok_or(ReadError::Missing)?;
                check_size(bytes.len() as u64)?;
                Ok(bytes.to_vec())
            }
            Self::Directory { root, containment_root } => {
                let real = fs::canonicalize(root.join(path)).map_err(|_| ReadError::Missing)?;
                if !real.starts_with(containment_root) {
                    let reason = "a link leads out of the templates' directory";
                    return Err(ReadError::Refused(reason.to_owned()));
                }
                if is_refused(&real) {
                    return Err(credentials());
                }
                read_file(&real)
            }
        }
    }
}

/// The text of a file that an operator placed; empty if it is missing.
///
/// # Errors
/// Why it can't be read.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    match read_file(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(ReadError::Missing) => Ok(String::new()),
        Err(ReadError::Refused(reason)) => Err(reason),
    }
}

/// Reads a file at its real path.
fn read_file(real: &Path) -> Result<Vec<u8>, ReadError> {
    local_files::read(real, FILE_BYTES).map_err(|error| match error {
        FileError::TooLarge { bytes, .. } => too_large(bytes),
        FileError::Special(_) => ReadError::Refused(error.to_string()),
        FileError::Io(_) if error.is_missing() => ReadError::Missing,
        FileError::Io(_) => ReadError::Refused("it can't be read".to_owned()),
    })
}

fn check_size(bytes: u64) -> Result<(), ReadError> {
    if bytes <= FILE_BYTES { Ok(()) } else { Err(too_large(bytes)) }
}

fn too_large(bytes: u64) -> ReadError {
    let (size, limit) = (shown_size(bytes), shown_size(FILE_BYTES));
    ReadError::Refused(format!("it has {size}, and a file of a template has {limit} at most"))
}

/// A file of a directory of the template, as authors write it. The top directory is empty.
pub(crate) fn shown_path(directory: &str, path: &str) -> String {
    if directory.is_empty() { path.to_owned() } else { format!("{directory}/{path}") }
}

fn has_credentials(path: &Path) -> bool {
    path.file_name().is_some_and(|name| CREDENTIALS.iter().any(|it| name == *it))
}

fn credentials() -> ReadError {
    ReadError::Refused("files with credentials can't be included".to_owned())
}

fn escapes() -> String {
    "the path escapes root, the template's directory".to_owned()
}

fn missing(similar: Option<&str>) -> String {
    similar.map_or_else(
        || "missing file".to_owned(),
        |similar| format!("missing file; `{similar}` differs only in case or Unicode form"),
    )
}

/// A relative path without `.` and `..`; none if it is absolute or leads out of its base.
pub(crate) fn normalize_path(path: &str) -> Option<PathBuf> {
    normalize_below(Path::new(""), path)
}

/// The same below a normalized directory. The path may lead out of that, but not out of the directory's
/// base.
fn normalize_below(directory: &Path, path: &str) -> Option<PathBuf> {
    let mut normalized = directory.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => normalized.push(name),
            Component::CurDir => {}
            Component::ParentDir if normalized.pop() => {}
            _ => return None,
        }
    }
    Some(normalized)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(answer: Answer) -> String {
        match answer {
            Answer::Refused(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Templates `a` and `b` in one directory, and a file beside that.
    fn templates() -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let templates = dir.path().join("templates");
        for name in ["a/roles", "b"] {
            fs::create_dir_all(templates.join(name)).unwrap();
        }
        fs::write(templates.join("a/roles/x.yaml"), "name: X").unwrap();
        fs::write(templates.join("b/y.yaml"), "name: Y").unwrap();
        fs::write(dir.path().join("secret.yaml"), "name: S").unwrap();
        let containment_root = fs::canonicalize(&templates).unwrap();
        let files = Files::Directory { root: templates.join("a"), containment_root };
        (dir, files)
    }

    #[test]
    fn paths_stay_below_the_template() {
        let (_dir, files) = templates();
        assert_eq!(files.answer("roles/x.yaml"), Answer::Bytes(b"name: X".to_vec()));
        assert_eq!(files.answer("roles/../roles/./x.yaml"), Answer::Bytes(b"name: X".to_vec()));
        assert_eq!(files.answer("roles/none.yaml"), Answer::Missing);
        for path in ["../b/y.yaml", "../../secret.yaml", "/etc/passwd", "roles/../../b/y.yaml"] {
            assert!(refused(files.answer(path)).contains("escapes root"), "{path}");
        }
        assert!(refused(files.answer("roles")).contains("a directory, not a regular file"));
    }

    #[test]
    fn links_may_lead_to_other_templates_only() {
        let (dir, files) = templates();
        let here = dir.path().join("templates/a");
        symlink("../b", here.join("sibling")).unwrap();
        symlink(dir.path().join("secret.yaml"), here.join("out.yaml")).unwrap();
        symlink("../../secret.yaml", here.join("up.yaml")).unwrap();
        symlink("nowhere", here.join("broken.yaml")).unwrap();
        assert_eq!(files.answer("sibling/y.yaml"), Answer::Bytes(b"name: Y".to_vec()));
        assert!(refused(files.answer("out.yaml")).contains("link"));
        assert!(refused(files.answer("up.yaml")).contains("link"));
        assert_eq!(files.answer("broken.yaml"), Answer::Missing);
    }

    #[test]
    fn files_with_credentials_are_refused() {
        let (dir, files) = templates();
        let here = dir.path().join("templates/a");
        for name in CREDENTIALS {
            fs::write(here.join(name), "A=1").unwrap();
            assert!(refused(files.answer(name)).contains("credentials"), "{name}");
            assert!(refused(files.answer(&format!("roles/../{name}"))).contains("credentials"), "{name}");
        }
        symlink(".env", here.join("innocent.yaml")).unwrap();
        assert!(refused(files.answer("innocent.yaml")).contains("credentials"));
        assert_eq!(files.env("").as_deref(), Ok("A=1"));
        for path in [".env", "roles/../.env", "innocent.yaml"] {
            let error = files.text("", path).unwrap_err();
            assert!(error.contains("credentials"), "{path} must not become a prompt: {error}");
        }
    }

    #[test]
    fn large_files_are_refused_with_their_size() {
        let (dir, files) = templates();
        fs::write(dir.path().join("templates/a/big.yaml"), vec![b' '; 3 << 20]).unwrap();
        assert!(refused(files.answer("big.yaml")).contains("it has 3 MiB"));
        assert!(refused(files.answer("big.yaml")).contains("1 MiB at most"));
        let sent = Files::InMemory([("big.yaml".to_owned(), Bytes::from(vec![0; (1 << 20) + 1]))].into());
        assert!(refused(sent.answer("big.yaml")).contains("1 MiB at most"));
    }

    #[test]
    fn sockets_fifos_and_devices_are_refused_without_opening_them() {
        let (dir, files) = templates();
        let here = dir.path().join("templates/a");
        let fifo = here.join("fifo.yaml");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(here.join("socket.yaml")).unwrap();
        symlink("fifo.yaml", here.join(".env")).unwrap();
        assert!(refused(files.answer("fifo.yaml")).contains("a FIFO, not a regular file"));
        assert!(refused(files.answer("socket.yaml")).contains("a socket, not a regular file"));
        assert!(files.text("", "fifo.yaml").unwrap_err().contains("a FIFO"));
        assert!(files.env("").unwrap_err().contains("a FIFO"));
        let device = Files::Directory { root: "/dev".into(), containment_root: "/dev".into() };
        assert!(refused(device.answer("zero")).contains("a device, not a regular file"));
    }

    #[test]
    fn a_file_that_differs_only_in_case_or_normal_form_is_named() {
        let (dir, files) = templates();
        let here = dir.path().join("templates/a");
        fs::write(here.join("roles/J\u{e9}r\u{f4}me.md"), "x").unwrap();
        let sent = ["roles/x.yaml", "roles/J\u{e9}r\u{f4}me.md"].map(|path| (path.to_owned(), Bytes::new()));
        let sent = Files::InMemory(sent.into());
        for files in [&files, &sent] {
            for path in ["Roles/x.yaml", "roles/X.YAML", "ROLES/./X.yaml"] {
                let reason = refused(files.answer(path));
                assert!(reason.contains("missing file; `roles/x.yaml` differs"), "{path}: {reason}");
            }
            let error = files.text("roles", "Je\u{301}ro\u{302}me.md").unwrap_err();
            assert!(error.contains("`roles/J\u{e9}r\u{f4}me.md`"), "{error}");
            assert_eq!(files.check_directory("roles"), Ok(()));
            assert!(files.check_directory("Roles").unwrap_err().contains("`roles`"));
            assert_eq!(files.check_directory("none").unwrap_err(), "missing file");
        }
        // Names outside of the templates' directory are not disclosed.
        symlink("../..", here.join("up")).unwrap();
        assert_eq!(files.answer("up/Secret.yaml"), Answer::Missing);
    }

    #[test]
    fn texts_are_read_below_their_directory() {
        let (_dir, files) = templates();
        assert_eq!(files.text("roles", "x.yaml").as_deref(), Ok("name: X"));
        assert_eq!(files.text("roles", "../roles/x.yaml").as_deref(), Ok("name: X"));
        for (directory, path) in [("roles", "../../b/y.yaml"), ("../b", "y.yaml"), ("", "/etc/passwd")] {
            assert!(files.text(directory, path).unwrap_err().contains("escapes root"), "{directory} {path}");
        }
        for directory in ["../b", "/etc", "roles"] {
            assert_eq!(files.env(directory).as_deref(), Ok(""), "{directory}");
        }
        Files::None.text("", "x").unwrap_err();
    }
}
