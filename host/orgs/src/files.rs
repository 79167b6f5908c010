//! The files of a template, wherever they are, and what may be read of them.
//!
//! Paths are relative to the template's directory and cleaned by whoever asks; they are checked here
//! again, and what a link leads to is checked too. What isn't there and what may not be read are
//! different answers, because an author has to do different things about them.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use wasm::template::Answer;

use crate::limits::FILE_BYTES;

/// Files with credentials, which are never part of a template.
const PRIVATE: [&str; 3] = [".env", ".auth_token", ".platform_inbound_secret"];

/// The file that a template begins with, best first.
pub(crate) const ENTRIES: [&str; 2] = ["org.yaml", "org.yml"];

/// Where a template's files are.
#[derive(Debug, Clone)]
pub enum Files {
    /// There are none: the template came by itself.
    None,
    /// A directory.
    Directory {
        /// The template's own.
        root: PathBuf,
        /// The real path of the directory that holds all templates. Links may lead to other templates,
        /// nowhere else.
        bound: PathBuf,
    },
    /// In memory, by path: they were sent along. There are no links.
    Sent(BTreeMap<String, Bytes>),
}

/// Why a file is not to be had.
#[derive(Debug)]
enum NotRead {
    Missing,
    Refused(String),
}

impl Files {
    /// Can there be further files?
    pub(crate) fn has_directory(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// What a resolver is told about a path. Files with credentials are refused.
    pub(crate) fn answer(&self, path: &str) -> Answer {
        let private = |path: &Path| path.file_name().is_some_and(|name| PRIVATE.iter().any(|it| name == *it));
        let found = match clean(path) {
            Some(clean) if !private(&clean) => self.read(&clean, private),
            Some(_) => Err(credentials()),
            None => Err(NotRead::Refused("the path escapes root, the template's directory".to_owned())),
        };
        match found {
            Ok(bytes) => Answer::Bytes(bytes),
            Err(NotRead::Missing) => Answer::Missing,
            Err(NotRead::Refused(reason)) => Answer::Refused(reason),
        }
    }

    /// The text of a file below `directory`, for the platform itself. None where there is no such file or
    /// it may not be read, which is logged.
    pub(crate) fn text(&self, directory: &str, path: &str) -> Option<String> {
        let clean = clean(directory).and_then(|directory| clean_below(&directory, path));
        let found = clean.map(|clean| self.read(&clean, |_| false));
        match found {
            Some(Ok(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Some(Err(NotRead::Missing)) => None,
            refused => {
                tracing::warn!(directory, path, ?refused, "a file of a template may not be read");
                None
            }
        }
    }

    fn read(&self, path: &Path, private: impl Fn(&Path) -> bool) -> Result<Vec<u8>, NotRead> {
        match self {
            Self::None => Err(NotRead::Missing),
            Self::Sent(files) => {
                let bytes = path.to_str().and_then(|path| files.get(path)).ok_or(NotRead::Missing)?;
                if bytes.len() as u64 > FILE_BYTES { Err(too_large()) } else { Ok(bytes.to_vec()) }
            }
            Self::Directory { root, bound } => {
                let real = fs::canonicalize(root.join(path)).map_err(|_| NotRead::Missing)?;
                if !real.starts_with(bound) {
                    let reason = "a link leads out of the templates' directory";
                    return Err(NotRead::Refused(reason.to_owned()));
                }
                if private(&real) {
                    return Err(credentials());
                }
                let file = fs::File::open(&real).map_err(|_| NotRead::Missing)?;
                if !file.metadata().is_ok_and(|about| about.is_file()) {
                    return Err(NotRead::Refused("it is not a file".to_owned()));
                }
                let mut bytes = Vec::new();
                let read = file.take(FILE_BYTES + 1).read_to_end(&mut bytes);
                read.map_err(|_| NotRead::Refused("it can't be read".to_owned()))?;
                if bytes.len() as u64 > FILE_BYTES { Err(too_large()) } else { Ok(bytes) }
            }
        }
    }
}

fn too_large() -> NotRead {
    NotRead::Refused(format!("it is larger than {} MiB", FILE_BYTES >> 20))
}

fn credentials() -> NotRead {
    NotRead::Refused("files with credentials can't be included".to_owned())
}

/// A relative path without `.` and `..`; none if it leads out of where it begins.
pub(crate) fn clean(path: &str) -> Option<PathBuf> {
    clean_below(Path::new(""), path)
}

/// The same below a clean directory, out of which it may lead, but not out of where that begins.
fn clean_below(directory: &Path, path: &str) -> Option<PathBuf> {
    let mut clean = directory.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir if clean.pop() => {}
            _ => return None,
        }
    }
    Some(clean)
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
        let bound = fs::canonicalize(&templates).unwrap();
        let files = Files::Directory { root: templates.join("a"), bound };
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
    fn links_lead_to_templates_only() {
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
    fn credentials_are_no_part_of_a_template() {
        let (dir, files) = templates();
        let here = dir.path().join("templates/a");
        for name in PRIVATE {
            fs::write(here.join(name), "A=1").unwrap();
            assert!(refused(files.answer(name)).contains("credentials"), "{name}");
            assert!(refused(files.answer(&format!("roles/../{name}"))).contains("credentials"), "{name}");
        }
        symlink(".env", here.join("innocent.yaml")).unwrap();
        assert!(refused(files.answer("innocent.yaml")).contains("credentials"));
        assert_eq!(files.text("", ".env").as_deref(), Some("A=1"));
    }

    #[test]
    fn large_files_are_refused() {
        let (dir, files) = templates();
        fs::write(dir.path().join("templates/a/big.yaml"), vec![b' '; (FILE_BYTES + 1) as usize]).unwrap();
        assert!(refused(files.answer("big.yaml")).contains("1 MiB"));
        let sent = Files::Sent([("big.yaml".to_owned(), Bytes::from(vec![0; (1 << 20) + 1]))].into());
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
        drop(dir);
        assert_eq!(Files::None.text("", "x"), None);
    }
}
