//! The files of a template, wherever they lie, and which of them may be read.
//!
//! Paths are relative to the template's directory. They are normalized and checked here, and so are the
//! targets of links. A missing file and a refused one are different answers, because an author has to do
//! different things about them.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    ops::Bound,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use local_files::{FileError, shown_size, special};
use wasm::template::Answer;

use crate::{
    limits::FILE_BYTES,
    private_names::{ENV, is_private, refusal},
    shown::shown,
    similar_path::{self, Directories, SimilarPaths},
};

/// Directories that are skipped wherever files of a template are collected: versions, caches and
/// dependencies of other tools.
pub const SKIPPED_DIRECTORIES: [&str; 6] =
    [".git", ".hg", ".svn", ".external-cache", ".terraform", "node_modules"];

/// Names of a template's first file. Where both exist, the first one counts.
pub(crate) const ENTRIES: [&str; 2] = ["org.yaml", "org.yml"];

/// The files of one template.
#[derive(Debug, Clone)]
pub struct Files {
    place: Place,
    similar: Arc<SimilarPaths>,
}

/// Where a template's files lie.
#[derive(Debug, Clone)]
enum Place {
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
    InMemory(Arc<BTreeMap<String, Bytes>>),
}

/// Why a file has no content to give.
#[derive(Debug)]
enum ReadError {
    Missing,
    Refused(String),
}

impl Files {
    /// A template that came inline.
    pub(crate) fn none() -> Self {
        Self::at(Place::None)
    }

    /// A template in the directory `root`. `containment_root` is the real path of the one that holds all templates.
    pub(crate) fn directory(root: PathBuf, containment_root: PathBuf) -> Self {
        Self::at(Place::Directory { root, containment_root })
    }

    /// Uploaded files by path. There are no links among them.
    pub(crate) fn in_memory(files: BTreeMap<String, Bytes>) -> Self {
        Self::at(Place::InMemory(Arc::new(files)))
    }

    fn at(place: Place) -> Self {
        Self { place, similar: Arc::default() }
    }

    /// The sorted paths of uploaded files.
    pub fn uploaded(&self) -> impl Iterator<Item = &str> {
        let files = match &self.place {
            Place::InMemory(files) => Some(files),
            Place::None | Place::Directory { .. } => None,
        };
        files.into_iter().flat_map(|files| files.keys().map(String::as_str))
    }

    pub(crate) fn has_directory(&self) -> bool {
        !matches!(self.place, Place::None)
    }

    /// A file that its author may have taken for the template's first one.
    pub(crate) fn similar_entry(&self) -> Option<String> {
        let directory = Path::new("");
        ENTRIES.iter().find_map(|entry| self.similar.similar_name(&self.place, directory, entry))
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
        let normalized = normalize_in(directory, path).ok_or_else(escapes)?;
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
        if is_private(&normalized) {
            return Err(refusal(&normalized));
        }
        let kind = match &self.place {
            Place::None => None,
            Place::InMemory(files) if is_directory(files, &normalized) => return Ok(()),
            Place::InMemory(files) => content(files, &normalized).map(|_| "a file"),
            Place::Directory { root, containment_root } => match real(root, containment_root, &normalized) {
                Ok(real) if is_private(within_template(below(containment_root, &real))) => {
                    return Err(refusal(within_template(below(containment_root, &real))));
                }
                Ok(real) if real.is_dir() => return Ok(()),
                Ok(real) => fs::metadata(real).ok().map(|it| special(it.file_type()).unwrap_or("a file")),
                Err(ReadError::Missing) => None,
                Err(ReadError::Refused(reason)) => return Err(reason),
            },
        };
        Err(match kind {
            Some(kind) => format!("it is {kind}, not a directory"),
            None => missing(self.similar(&normalized).as_deref()),
        })
    }

    /// A path of the template that differs from a missing one in case or Unicode normal form only.
    fn similar(&self, missing: &Path) -> Option<String> {
        self.similar.find(&self.place, missing)
    }

    fn read_content(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        if is_private(path) { Err(credentials(path)) } else { self.read(path, is_private) }
    }

    /// `is_refused` judges the real path of a file, behind all links, as its template has it.
    fn read(&self, path: &Path, is_refused: impl Fn(&Path) -> bool) -> Result<Vec<u8>, ReadError> {
        match &self.place {
            Place::None => Err(ReadError::Missing),
            Place::InMemory(files) => {
                let Some(bytes) = content(files, path) else {
                    return Err(match is_directory(files, path) {
                        true => ReadError::Refused(FileError::Special("a directory").to_string()),
                        false => ReadError::Missing,
                    });
                };
                check_size(bytes.len() as u64)?;
                Ok(bytes.to_vec())
            }
            Place::Directory { root, containment_root } => {
                let real = real(root, containment_root, path)?;
                let below = below(containment_root, &real);
                if is_refused(within_template(below)) {
                    return Err(credentials(within_template(below)));
                }
                // Not by its path: a link may have taken the place of a directory since.
                content_of(local_files::read_beneath(containment_root, below, FILE_BYTES))
            }
        }
    }
}

impl Directories for Place {
    fn contains(&self, directory: &Path, name: &OsStr) -> Option<bool> {
        match self {
            Self::None => None,
            Self::InMemory(files) => {
                let path = directory.join(name);
                Some(content(files, &path).is_some() || is_directory(files, &path))
            }
            // Links may lead elsewhere, of which no name is disclosed.
            Self::Directory { root, containment_root } => {
                Some(real(root, containment_root, directory).ok()?.join(name).exists())
            }
        }
    }

    fn names(&self, directory: &Path) -> Option<Vec<String>> {
        match self {
            Self::None => None,
            Self::InMemory(files) => Some(names_below(files, directory.to_str()?)),
            Self::Directory { root, containment_root } => {
                let entries = fs::read_dir(real(root, containment_root, directory).ok()?).ok()?;
                let entries = entries.take(similar_path::ENTRIES).filter_map(Result::ok);
                Some(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
            }
        }
    }
}

/// Where a path of a directory really leads, behind all links.
fn real(root: &Path, containment_root: &Path, path: &Path) -> Result<PathBuf, ReadError> {
    let real = fs::canonicalize(root.join(path)).map_err(|_| ReadError::Missing)?;
    match real.starts_with(containment_root) {
        true => Ok(real),
        false => Err(ReadError::Refused("a link leads out of the templates' directory".to_owned())),
    }
}

/// A real path as seen from the directory of all templates, which may itself lie in one with a private name.
fn below<'a>(containment_root: &Path, real: &'a Path) -> &'a Path {
    real.strip_prefix(containment_root).unwrap_or(real)
}

/// Without the directory of the template, whose name is the operator's.
fn within_template(below: &Path) -> &Path {
    let mut parts = below.components();
    parts.next();
    if parts.as_path().as_os_str().is_empty() { below } else { parts.as_path() }
}

fn content<'a>(files: &'a BTreeMap<String, Bytes>, path: &Path) -> Option<&'a Bytes> {
    files.get(path.to_str()?)
}

/// Whether there are files below this path.
fn is_directory(files: &BTreeMap<String, Bytes>, path: &Path) -> bool {
    let Some(path) = path.to_str() else { return false };
    path.is_empty() || {
        let below = format!("{path}/");
        files.range(below.clone()..).next().is_some_and(|(file, _)| file.starts_with(&below))
    }
}

/// The names of files and directories in a directory.
fn names_below(files: &BTreeMap<String, Bytes>, directory: &str) -> Vec<String> {
    let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    let mut names = Vec::new();
    let mut from = Bound::Included(prefix.clone());
    while names.len() < similar_path::ENTRIES
        && let Some((file, _)) = files.range((from, Bound::Unbounded)).next()
        && let Some(rest) = file.strip_prefix(&prefix)
    {
        let (name, after) = match rest.split_once('/') {
            // `0` comes after `/`.
            Some((name, _)) => (name, Bound::Included(format!("{prefix}{name}0"))),
            None => (rest, Bound::Excluded(file.clone())),
        };
        names.push(name.to_owned());
        from = after;
    }
    names
}

/// The text of a file that an operator placed; empty if it is missing.
///
/// # Errors
/// Why it can't be read.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    match content_of(local_files::read(path, FILE_BYTES)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(ReadError::Missing) => Ok(String::new()),
        Err(ReadError::Refused(reason)) => Err(reason),
    }
}

fn content_of(read: Result<Vec<u8>, FileError>) -> Result<Vec<u8>, ReadError> {
    read.map_err(|error| match error {
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

/// A file of a directory of the template, as messages show it. The top directory is empty.
pub(crate) fn shown_path(directory: &str, path: &str) -> String {
    if directory.is_empty() { shown(path) } else { shown(&format!("{directory}/{path}")) }
}

fn credentials(path: &Path) -> ReadError {
    ReadError::Refused(refusal(path))
}

fn escapes() -> String {
    "the path escapes root, the template's directory".to_owned()
}

/// What to do about a template's first file that has another name.
pub(crate) fn entry_hint(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |similar| format!("; `{}` has to be renamed", shown(similar)))
}

fn missing(similar: Option<&str>) -> String {
    similar.map_or_else(
        || "missing file".to_owned(),
        |similar| format!("missing file; `{}` differs only in case or Unicode form", shown(similar)),
    )
}

/// A relative path without `.` and `..`; none if it is absolute or leads out of its base.
pub(crate) fn normalize_path(path: &str) -> Option<PathBuf> {
    normalize_below(Path::new(""), path)
}

/// The normalized path of a file below a directory.
pub(crate) fn normalize_in(directory: &str, path: &str) -> Option<PathBuf> {
    normalize_below(&normalize_path(directory)?, path)
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
        let files = Files::directory(templates.join("a"), containment_root);
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
        for name in [ENV, ".auth_token", ".env.local", "server.pem"] {
            fs::write(here.join(name), "A=1").unwrap();
            assert!(refused(files.answer(name)).contains("credentials"), "{name}");
            assert!(refused(files.answer(&format!("roles/../{name}"))).contains("credentials"), "{name}");
        }
        symlink(".env", here.join("innocent.yaml")).unwrap();
        fs::create_dir(here.join(".ssh")).unwrap();
        fs::write(here.join(".ssh/config"), "Host x").unwrap();
        symlink(".ssh", here.join("keys")).unwrap();
        fs::write(dir.path().join("templates/server.pem"), "x").unwrap();
        symlink("../server.pem", here.join("certificate.md")).unwrap();
        assert!(files.text("", "certificate.md").unwrap_err().contains("credentials"));
        let named = Files::directory(here.join("../.kube"), fs::canonicalize(here.join("..")).unwrap());
        fs::create_dir(here.join("../.kube")).unwrap();
        fs::write(here.join("../.kube/org.yaml"), "name: K").unwrap();
        assert_eq!(named.answer("org.yaml"), Answer::Bytes(b"name: K".to_vec()));
        for path in [".ssh/config", "keys/config"] {
            assert!(refused(files.answer(path)).contains("credentials"), "{path}");
        }
        for directory in [".ssh", "keys", "roles/../.ssh"] {
            assert!(files.check_directory(directory).unwrap_err().contains("credentials"), "{directory}");
        }
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
        let sent = Files::in_memory([("big.yaml".to_owned(), Bytes::from(vec![0; (1 << 20) + 1]))].into());
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
        let device = Files::directory("/dev".into(), "/dev".into());
        assert!(refused(device.answer("zero")).contains("a device, not a regular file"));
    }

    #[test]
    fn a_file_that_differs_only_in_case_or_normal_form_is_named() {
        let (dir, files) = templates();
        let here = dir.path().join("templates/a");
        fs::write(here.join("roles/J\u{e9}r\u{f4}me.md"), "x").unwrap();
        fs::write(here.join("Org.YML"), "x").unwrap();
        let sent = ["roles/x.yaml", "roles/J\u{e9}r\u{f4}me.md", "Org.YML"];
        let sent = sent.map(|path| (path.to_owned(), Bytes::new()));
        let sent = Files::in_memory(sent.into());
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
            // What is there under its own name is of another kind.
            assert_eq!(files.check_directory("roles/x.yaml").unwrap_err(), "it is a file, not a directory");
            assert_eq!(refused(files.answer("roles")), "it is a directory, not a regular file");
            assert_eq!(files.text("", "roles/").unwrap_err(), "it is a directory, not a regular file");
            assert_eq!(files.similar_entry().as_deref(), Some("Org.YML"));
        }
        // Names outside of the templates' directory are not disclosed.
        symlink("../..", here.join("up")).unwrap();
        assert_eq!(files.answer("up/Secret.yaml"), Answer::Missing);
    }

    #[test]
    fn the_names_of_an_uploaded_directory_are_listed_once_each() {
        let sent = ["a/x", "a-b", "a.b/y/z", "a/y/z", "a/y0", "b"];
        let sent = sent.map(|path| (path.to_owned(), Bytes::new())).into();
        assert_eq!(names_below(&sent, ""), ["a-b", "a.b", "a", "b"]);
        assert_eq!(names_below(&sent, "a"), ["x", "y", "y0"]);
        assert_eq!(names_below(&sent, "a/y"), ["z"]);
        assert_eq!(names_below(&sent, "c"), [""; 0]);
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
        Files::none().text("", "x").unwrap_err();
    }
}
