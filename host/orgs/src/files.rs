//! The files of a template, wherever they lie, and which of them may be read.
//!
//! Paths are relative to the template's directory. They are normalized and checked here, and so are the
//! targets of links. A missing file and a refused one are different answers, because an author has to do
//! different things about them.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use wasm::template::Answer;

use crate::limits::FILE_BYTES;

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
        let found = match normalize_path(path) {
            Some(path) if !has_credentials(&path) => self.read(&path, has_credentials),
            Some(_) => Err(credentials()),
            None => Err(ReadError::Refused("the path escapes root, the template's directory".to_owned())),
        };
        match found {
            Ok(bytes) => Answer::Bytes(bytes),
            Err(ReadError::Missing) => Answer::Missing,
            Err(ReadError::Refused(reason)) => Answer::Refused(reason),
        }
    }

    /// The text of a file below `directory`, such as a prompt. None if it is missing or refused; the latter
    /// is logged.
    pub(crate) fn text(&self, directory: &str, path: &str) -> Option<String> {
        let normalized = normalize_path(directory).and_then(|directory| normalize_below(&directory, path));
        let found = normalized.map(|path| {
            if has_credentials(&path) { Err(credentials()) } else { self.read(&path, has_credentials) }
        });
        logged(directory, path, found)
    }

    /// The text of a directory's `.env`. None if it is missing or refused; the latter is logged.
    pub(crate) fn env(&self, directory: &str) -> Option<String> {
        let path = normalize_path(directory).map(|directory| directory.join(ENV));
        logged(directory, ENV, path.map(|path| self.read(&path, |_| false)))
    }

    /// `is_refused` judges the real path of a file, behind all links.
    fn read(&self, path: &Path, is_refused: impl Fn(&Path) -> bool) -> Result<Vec<u8>, ReadError> {
        match self {
            Self::None => Err(ReadError::Missing),
            Self::InMemory(files) => {
                let bytes = path.to_str().and_then(|path| files.get(path)).ok_or(ReadError::Missing)?;
                if bytes.len() as u64 > FILE_BYTES { Err(too_large()) } else { Ok(bytes.to_vec()) }
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
                let file = fs::File::open(&real).map_err(|_| ReadError::Missing)?;
                if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                    return Err(ReadError::Refused("it is not a file".to_owned()));
                }
                let mut bytes = Vec::new();
                let read = file.take(FILE_BYTES + 1).read_to_end(&mut bytes);
                read.map_err(|_| ReadError::Refused("it can't be read".to_owned()))?;
                if bytes.len() as u64 > FILE_BYTES { Err(too_large()) } else { Ok(bytes) }
            }
        }
    }
}

/// What was read, as a text that both databases can store: without NUL.
fn logged(directory: &str, path: &str, found: Option<Result<Vec<u8>, ReadError>>) -> Option<String> {
    match found {
        Some(Ok(bytes)) => Some(String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}")),
        Some(Err(ReadError::Missing)) => None,
        refused => {
            tracing::warn!(directory, path, ?refused, "a file of a template may not be read");
            None
        }
    }
}

fn has_credentials(path: &Path) -> bool {
    path.file_name().is_some_and(|name| CREDENTIALS.iter().any(|it| name == *it))
}

fn too_large() -> ReadError {
    ReadError::Refused(format!("it is larger than {} MiB", FILE_BYTES >> 20))
}

fn credentials() -> ReadError {
    ReadError::Refused("files with credentials can't be included".to_owned())
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
        assert!(refused(files.answer("roles")).contains("not a file"));
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
        assert_eq!(files.env("").as_deref(), Some("A=1"));
        for path in [".env", "roles/../.env", "innocent.yaml"] {
            assert_eq!(files.text("", path), None, "{path} must not become a prompt");
        }
    }

    #[test]
    fn large_files_are_refused() {
        let (dir, files) = templates();
        fs::write(dir.path().join("templates/a/big.yaml"), vec![b' '; (FILE_BYTES + 1) as usize]).unwrap();
        assert!(refused(files.answer("big.yaml")).contains("1 MiB"));
        let sent = Files::InMemory([("big.yaml".to_owned(), Bytes::from(vec![0; (1 << 20) + 1]))].into());
        assert!(refused(sent.answer("big.yaml")).contains("1 MiB"));
    }

    #[test]
    fn texts_are_read_below_their_directory() {
        let (dir, files) = templates();
        assert_eq!(files.text("roles", "x.yaml").as_deref(), Some("name: X"));
        assert_eq!(files.text("roles", "../roles/x.yaml").as_deref(), Some("name: X"));
        assert_eq!(files.text("roles", "../../b/y.yaml"), None);
        assert_eq!(files.text("../b", "y.yaml"), None);
        assert_eq!(files.text("", "/etc/passwd"), None);
        assert_eq!((files.env("../b"), files.env("/etc"), files.env("roles")), (None, None, None));
        fs::write(dir.path().join("templates/a/nul.md"), "a\0b").unwrap();
        assert_eq!(files.text("", "nul.md").as_deref(), Some("a\u{fffd}b"));
        drop(dir);
        assert_eq!(Files::None.text("", "x"), None);
    }
}
