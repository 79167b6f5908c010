//! Finds an org template: local files, or a template of the server.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use local_files::{FileError, shown_size, special};
use orgs::{
    SKIPPED_DIRECTORIES,
    limits::{BODY_BYTES, UPLOAD_BYTES, UPLOAD_FILES},
};
use rustix::io::Errno;
use serde_json::Value;
use tar::{Builder, Header};

use crate::{CliError, printable};

/// Levels of directories at most: a symbolic link to a parent directory would never end.
const MAX_DEPTH: usize = 64;

/// Files that an error about too many bytes names.
const MAX_NAMED: usize = 3;

/// An org template.
#[derive(Debug)]
pub(super) enum Source {
    /// Local files, packed.
    Archive {
        path: PathBuf,
        files: usize,
        bytes: Vec<u8>,
        /// What was left out, and why.
        skipped: Vec<String>,
    },
    /// A local JSON file.
    Inline { path: PathBuf, template: Value },
    /// A template of the server.
    Named(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive { path, files, skipped, .. } => {
                let plural = if *files == 1 { "" } else { "s" };
                write!(f, "{}: {files} file{plural}", path.display())?;
                skipped.iter().try_for_each(|skipped| write!(f, "\nskipped: {skipped}"))
            }
            Self::Inline { path, .. } => write!(f, "{}", path.display()),
            Self::Named(name) => write!(f, "{name}: an org template of the server"),
        }
    }
}

impl Source {
    /// Looks for local files first.
    pub(super) fn find(named: &str) -> Result<Self, CliError> {
        let path = PathBuf::from(named);
        let failed = |source: io::Error| CliError::unread(&path, source);
        let Ok(metadata) = fs::metadata(&path) else {
            let is_path = named.starts_with('.') || named.contains('/') && !path.is_relative();
            let missing = || failed(io::ErrorKind::NotFound.into());
            return if is_path { Err(missing()) } else { Ok(Self::Named(named.to_owned())) };
        };
        if metadata.is_dir() {
            let mut found = Found::default();
            found.directory(&path, Path::new(""), 0).map_err(failed)?;
            return found.pack(path.clone()).map_err(failed);
        }
        if let Some(kind) = special(metadata.file_type()) {
            return Err(CliError::unread(&path, FileError::Special(kind)));
        }
        if path.extension().is_some_and(|extension| extension == "json") {
            let bytes = local_files::read(&path, BODY_BYTES as u64)
                .map_err(|error| CliError::unread(&path, error))?;
            let template = orgs::from_json(&bytes).map_err(|error| failed(io::Error::other(error)))?;
            return Ok(Self::Inline { path, template });
        }
        let mut found = Found::default();
        found.add(&path, Path::new("org.yaml")).map_err(failed)?;
        found.pack(path.clone()).map_err(failed)
    }
}

/// Files of a template. Symbolic links count as their targets.
#[derive(Default)]
struct Found {
    /// Where each file is, its path in the template, and its size.
    files: Vec<(PathBuf, PathBuf, u64)>,
    skipped: Vec<String>,
}

impl Found {
    fn directory(&mut self, from: &Path, to: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!("{}: directories are nested too deeply", from.display())));
        }
        let mut entries: Vec<_> = fs::read_dir(from)?.collect::<Result<_, _>>()?;
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (name, from) = (entry.file_name(), entry.path());
            let to = to.join(&name);
            if SKIPPED_DIRECTORIES.iter().any(|skipped| name == *skipped) {
                continue;
            }
            if from.is_dir() {
                self.directory(&from, &to, depth + 1)?;
            } else {
                self.add(&from, &to)?;
            }
        }
        Ok(())
    }

    /// Adds a file. Links to nothing, such as the locks of editors, sockets, FIFOs and devices are left out.
    fn add(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::metadata(from) {
            Ok(metadata) => match special(metadata.file_type()) {
                None => self.files.push((from.to_owned(), to.to_owned(), metadata.len())),
                Some(kind) => self.skipped.push(format!("{} is {kind}", shown(from))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.skipped.push(format!("{} is a link to a file that doesn't exist", shown(from)));
            }
            Err(_) if leads_to_itself(from) => {
                self.skipped.push(format!("{} is a link that leads back to itself", shown(from)));
            }
            Err(error) => return Err(named(from, &error)),
        }
        if self.files.len() > UPLOAD_FILES {
            let text =
                format!("an org template has at most {UPLOAD_FILES} files; {} is one more", from.display());
            return Err(io::Error::other(text));
        }
        Ok(())
    }

    fn pack(self, path: PathBuf) -> io::Result<Source> {
        self.check_size()?;
        let mut builder = Builder::new(Vec::new());
        let files = self.files.len();
        for (from, to, _) in &self.files {
            let content = local_files::read(from, UPLOAD_BYTES as u64)
                .map_err(|error| io::Error::other(format!("{}: {error}", from.display())))?;
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, to, content.as_slice())?;
        }
        let bytes = builder.into_inner()?;
        if bytes.len() > UPLOAD_BYTES {
            return Err(self.too_large(bytes.len() as u64));
        }
        Ok(Source::Archive { path, files, bytes, skipped: self.skipped })
    }

    /// Before anything is read: a file may be larger than the memory.
    fn check_size(&self) -> io::Result<()> {
        let sum = self.files.iter().map(|(.., bytes)| bytes).sum();
        if sum > UPLOAD_BYTES as u64 { Err(self.too_large(sum)) } else { Ok(()) }
    }

    fn too_large(&self, sum: u64) -> io::Error {
        let mut largest: Vec<(u64, &Path)> =
            self.files.iter().map(|(from, _, bytes)| (*bytes, from.as_path())).collect();
        largest.sort_unstable_by(|one, other| other.cmp(one));
        let shown = largest.iter().take(MAX_NAMED);
        let shown: Vec<String> =
            shown.map(|(bytes, path)| format!("{} ({})", path.display(), shown_size(*bytes))).collect();
        let (sum, allowed) = (shown_size(sum), shown_size(UPLOAD_BYTES as u64));
        io::Error::other(format!(
            "an org template has at most {allowed}, and this one has {sum}. The largest files are: {}",
            shown.join(", ")
        ))
    }
}

/// A path on one line.
fn shown(path: &Path) -> String {
    printable(&path.display().to_string()).into_owned()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Whether it is a link without an end. In a directory that contains itself by a link, files that are not have paths with
/// too many links as well.
fn leads_to_itself(link: &Path) -> bool {
    let directory = link.parent().and_then(|directory| fs::canonicalize(directory).ok());
    let real = directory.zip(link.file_name()).map(|(directory, name)| directory.join(name));
    let error = real.and_then(|real| fs::metadata(real).err());
    error.and_then(|error| error.raw_os_error()) == Some(Errno::LOOP.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Why a template is refused.
    fn reason(path: &Path) -> String {
        let error = Source::find(path.to_str().unwrap()).unwrap_err();
        std::error::Error::source(&error).unwrap().to_string()
    }

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
        let files = orgs::unpack(&bytes).unwrap();
        assert_eq!(files.uploaded().collect::<Vec<_>>(), [".env", "org.yaml", "shared/x.yaml"]);
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

    #[test]
    fn what_other_tools_leave_in_a_directory_is_skipped_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in ["node_modules/x", ".terraform/y", "roles/.git/z"] {
            fs::create_dir_all(at(path)).unwrap();
            fs::write(at(path).join("big"), vec![b'x'; 1 << 20]).unwrap();
        }
        fs::write(at("org.yaml"), "name: A").unwrap();
        symlink("me@host.1234:5678", at(".#org.yaml")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("agent.sock")).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, at("roles/pipe"), mode).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        let source = Source::find(dir.path().to_str().unwrap()).unwrap();
        let shown = source.to_string();
        let Source::Archive { files: 1, skipped, .. } = source else { panic!("{source:?}") };
        assert_eq!(skipped.len(), 4);
        for part in [
            ".#org.yaml is a link to a file that doesn't exist",
            "agent.sock is a socket",
            "roles/pipe is a FIFO",
            "zero is a device",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let error = reason(&at("roles/pipe"));
        assert_eq!(error, "it is a FIFO, not a regular file");
    }

    #[test]
    fn what_is_too_large_is_named_with_its_size_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("org.yaml"), "name: A").unwrap();
        // A terabyte, none of it on the disk.
        fs::File::create(dir.path().join("disk.img")).unwrap().set_len(1 << 40).unwrap();
        let error = reason(dir.path());
        assert!(error.contains("at most 32 MiB") && error.contains("disk.img (1048576 MiB)"), "{error}");
        let json = dir.path().join("org.json");
        fs::write(&json, vec![b' '; 5 << 20]).unwrap();
        let error = reason(&json);
        assert!(error.contains("has 5 MiB; 4 MiB are allowed"), "{error}");
    }
}
