//! Finds an org template: local files, or a template of the server.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use orgs::limits::{UPLOAD_BYTES, UPLOAD_FILES};
use serde_json::Value;
use tar::{Builder, Header};

use crate::CliError;

/// Directories that are never part of an org template.
const SKIPPED: [&str; 2] = [".git", ".external-cache"];

/// Levels of directories at most: a symbolic link to a parent directory would never end.
const MAX_DEPTH: usize = 64;

/// An org template.
#[derive(Debug)]
pub(super) enum Source {
    /// Local files, packed.
    Archive { path: PathBuf, files: usize, bytes: Vec<u8> },
    /// A local JSON file.
    Inline { path: PathBuf, template: Value },
    /// A template of the server.
    Named(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive { path, files: 1, .. } => write!(f, "{}: 1 file", path.display()),
            Self::Archive { path, files, .. } => write!(f, "{}: {files} files", path.display()),
            Self::Inline { path, .. } => write!(f, "{}", path.display()),
            Self::Named(name) => write!(f, "{name}: an org template of the server"),
        }
    }
}

impl Source {
    /// Looks for local files first.
    pub(super) fn find(named: &str) -> Result<Self, CliError> {
        let path = PathBuf::from(named);
        let failed = |source| CliError::File { path: named.to_owned(), source };
        if path.is_dir() {
            let mut pack = Pack::default();
            pack.directory(&path, Path::new(""), 0).map_err(failed)?;
            return pack.finish(path).map_err(failed);
        }
        if !path.is_file() {
            let is_path = named.starts_with('.') || named.contains('/') && !path.is_relative();
            let missing = || failed(io::ErrorKind::NotFound.into());
            return if is_path { Err(missing()) } else { Ok(Self::Named(named.to_owned())) };
        }
        if path.extension().is_some_and(|extension| extension == "json") {
            let bytes = fs::read(&path).map_err(failed)?;
            let template = wire_json::from_slice(&bytes).map_err(|error| failed(io::Error::other(error)))?;
            return Ok(Self::Inline { path, template });
        }
        let mut pack = Pack::default();
        pack.file(&path, Path::new("org.yaml")).map_err(failed)?;
        pack.finish(path).map_err(failed)
    }
}

/// An archive under construction. Symbolic links are replaced by their targets.
struct Pack {
    builder: Builder<Vec<u8>>,
    files: usize,
}

impl Default for Pack {
    fn default() -> Self {
        Self { builder: Builder::new(Vec::new()), files: 0 }
    }
}

impl Pack {
    fn directory(&mut self, from: &Path, to: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!("{}: directories are nested too deeply", from.display())));
        }
        let mut entries: Vec<_> = fs::read_dir(from)?.collect::<Result<_, _>>()?;
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (name, from) = (entry.file_name(), entry.path());
            let to = to.join(&name);
            if SKIPPED.iter().any(|skipped| name == *skipped) {
                continue;
            }
            if from.is_dir() {
                self.directory(&from, &to, depth + 1)?;
            } else {
                self.file(&from, &to)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let named = |error: io::Error| io::Error::other(format!("{}: {error}", from.display()));
        let content = fs::read(from).map_err(named)?;
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.builder.append_data(&mut header, to, content.as_slice())?;
        self.files += 1;
        if self.files > UPLOAD_FILES || self.builder.get_ref().len() > UPLOAD_BYTES {
            let (files, mib) = (UPLOAD_FILES, UPLOAD_BYTES >> 20);
            return Err(io::Error::other(format!("an org template has at most {files} files and {mib} MiB")));
        }
        Ok(())
    }

    fn finish(self, path: PathBuf) -> io::Result<Source> {
        Ok(Source::Archive { path, files: self.files, bytes: self.builder.into_inner()? })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn symbolic_links_are_packed_as_their_targets() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/.git")).unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        for file in ["a/org.yaml", "a/.env", "a/.git/config", "b/x.yaml"] {
            fs::write(dir.path().join(file), "name: A").unwrap();
        }
        symlink("../b", dir.path().join("a/shared")).unwrap();
        let source = Source::find(dir.path().join("a").to_str().unwrap()).unwrap();
        let Source::Archive { bytes, files: 3, .. } = source else { panic!("{source:?}") };
        let orgs::Files::InMemory(files) = orgs::unpack(&bytes).unwrap() else { panic!("not in memory") };
        assert_eq!(files.keys().collect::<Vec<_>>(), [".env", "org.yaml", "shared/x.yaml"]);
    }

    #[test]
    fn a_loop_of_symbolic_links_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("org.yaml"), "name: A").unwrap();
        symlink(".", dir.path().join("again")).unwrap();
        Source::find(dir.path().to_str().unwrap()).unwrap_err();
    }

    #[test]
    fn a_name_without_local_files_is_a_template_of_the_server() {
        assert!(matches!(Source::find("acme"), Ok(Source::Named(name)) if name == "acme"));
        for path in ["./acme", "/nowhere/acme"] {
            Source::find(path).unwrap_err();
        }
    }
}
