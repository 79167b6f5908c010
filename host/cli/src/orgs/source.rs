//! Finds an org template: local files, or a template of the server.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use local_files::{FileError, shown_size, special};
use orgs::{
    SKIPPED_DIRECTORIES,
    limits::{BODY_BYTES, UPLOAD_BYTES, UPLOAD_FILES},
    may_be_sent,
};
use rustix::io::Errno;
use serde_json::Value;
use tar::{Builder, Header};

use crate::{CliError, printable};

/// Levels of directories at most.
const MAX_DEPTH: usize = 64;

/// Files and directories at most, those that are not sent included: links make many out of a few.
const MAX_ENTRIES: usize = 16 * UPLOAD_FILES;

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
            let mut found = Found::below(&path).map_err(failed)?;
            let root = found.root.clone();
            found
                .directory(&Level { from: path.clone(), to: PathBuf::new(), real: root, above: None })
                .map_err(failed)?;
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
        let real = fs::canonicalize(&path).map_err(failed)?;
        let mut found = Found::below(real.parent().unwrap_or(&real)).map_err(failed)?;
        found.add(&path, Path::new("org.yaml"), &real).map_err(failed)?;
        found.pack(path.clone()).map_err(failed)
    }
}

/// Files of a template. Links count as their targets, which must lie in the template.
struct Found {
    /// The real path of the template.
    root: PathBuf,
    files: Vec<FoundFile>,
    /// Files and directories seen.
    entries: usize,
    skipped: Vec<String>,
}

struct FoundFile {
    /// As it is named on the way from the template's directory.
    from: PathBuf,
    /// Its path in the template.
    to: PathBuf,
    /// Its path below the root, without links.
    real: PathBuf,
    bytes: u64,
}

/// A directory on the way down.
struct Level<'a> {
    from: PathBuf,
    to: PathBuf,
    real: PathBuf,
    above: Option<&'a Level<'a>>,
}

impl Level<'_> {
    fn depth(&self) -> usize {
        self.above.map_or(0, |above| above.depth() + 1)
    }

    fn is_within(&self, real: &Path) -> bool {
        self.real == real || self.above.is_some_and(|above| above.is_within(real))
    }
}

impl Found {
    fn below(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        Ok(Self { root, files: Vec::new(), entries: 0, skipped: Vec::new() })
    }

    fn directory(&mut self, level: &Level<'_>) -> io::Result<()> {
        if level.depth() > MAX_DEPTH {
            let from = level.from.display();
            return Err(io::Error::other(format!("{from}: directories are nested too deeply")));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&level.from)? {
            names.push(entry?.file_name());
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                let text = format!("{} and what is beside it are too many files", level.from.display());
                return Err(io::Error::other(text));
            }
        }
        names.sort_unstable();
        for name in names {
            if SKIPPED_DIRECTORIES.iter().any(|skipped| name == *skipped) {
                continue;
            }
            let (from, to) = (level.from.join(&name), level.to.join(&name));
            let Some(real) = self.real(&from, &to, &level.real.join(&name))? else { continue };
            if !real.is_dir() {
                self.add(&from, &to, &real)?;
            } else if level.is_within(&real) {
                self.skipped.push(format!("{} is a link to a directory that it lies in", shown(&from)));
            } else {
                self.directory(&Level { from, to, real, above: Some(level) })?;
            }
        }
        Ok(())
    }

    /// Where a file or directory really is. None if it is left out: a link to nothing, such as the lock of an editor, a
    /// link that leads out of the template, a file with credentials, or a name that an archive can't have.
    fn real(&mut self, from: &Path, to: &Path, unlinked: &Path) -> io::Result<Option<PathBuf>> {
        let is_link = fs::symlink_metadata(from).is_ok_and(|metadata| metadata.is_symlink());
        let real = match is_link {
            false => Ok(unlinked.to_owned()),
            true => fs::canonicalize(from),
        };
        let why = match &real {
            // The server reads the replacement character as a sign of one.
            _ if to.to_str().is_none_or(|to| to.contains('\u{fffd}')) => "has a name that is not in UTF-8",
            _ if !may_be_sent(to) => "has the name of a file with credentials",
            Ok(real) => match real.strip_prefix(&self.root) {
                Ok(below) if may_be_sent(below) || below.as_os_str().is_empty() => {
                    return Ok(Some(real.clone()));
                }
                Ok(_) => "is a link to a file with credentials",
                Err(_) => "is a link that leads out of the directory",
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is a link to a file that doesn't exist",
            Err(_) if leads_to_itself(from) => "is a link that leads back to itself",
            Err(error) => return Err(named(from, error)),
        };
        self.skipped.push(format!("{} {why}", shown(from)));
        Ok(None)
    }

    /// Adds a file. Sockets, FIFOs and devices are left out.
    fn add(&mut self, from: &Path, to: &Path, real: &Path) -> io::Result<()> {
        let metadata = match fs::symlink_metadata(real) {
            Ok(metadata) => metadata,
            // It was deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(named(from, &error)),
        };
        match special(metadata.file_type()) {
            None => self.files.push(FoundFile {
                from: from.to_owned(),
                to: to.to_owned(),
                real: real.strip_prefix(&self.root).unwrap_or(real).to_owned(),
                bytes: metadata.len(),
            }),
            Some(kind) => self.skipped.push(format!("{} is {kind}", shown(from))),
        }
        if self.files.len() > UPLOAD_FILES {
            let text =
                format!("an org template has at most {UPLOAD_FILES} files; {} is one more", from.display());
            return Err(io::Error::other(text));
        }
        Ok(())
    }

    fn pack(self, path: PathBuf) -> io::Result<Source> {
        let sum = self.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
        if sum > UPLOAD_BYTES as u64 {
            return Err(self.too_large(sum));
        }
        let mut builder = Builder::new(Vec::new());
        for file in &self.files {
            // A file may have grown since, or be another one now.
            let left = UPLOAD_BYTES.saturating_sub(builder.get_ref().len()) as u64;
            let content = match local_files::read_beneath(&self.root, &file.real, left) {
                Ok(content) => content,
                Err(FileError::TooLarge { bytes, .. }) => {
                    return Err(self.too_large((UPLOAD_BYTES as u64 - left).saturating_add(bytes)));
                }
                Err(error) => return Err(io::Error::other(format!("{}: {error}", file.from.display()))),
            };
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, &file.to, content.as_slice())?;
        }
        let bytes = builder.into_inner()?;
        if bytes.len() > UPLOAD_BYTES {
            return Err(self.too_large(bytes.len() as u64));
        }
        Ok(Source::Archive { path, files: self.files.len(), bytes, skipped: self.skipped })
    }

    fn too_large(&self, sum: u64) -> io::Error {
        let mut largest: Vec<(u64, &Path)> =
            self.files.iter().map(|file| (file.bytes, file.from.as_path())).collect();
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
    fn links_within_the_directory_are_packed_as_their_targets_and_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        for directory in ["a/.git", "a/roles", "a/.ssh", "b"] {
            fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        for file in
            ["a/org.yaml", "a/.env", "a/.git/config", "a/roles/x.yaml", "a/server.pem", "a/.ssh/key", "b/y"]
        {
            fs::write(dir.path().join(file), "name: A").unwrap();
        }
        for (target, link) in [
            ("roles", "shared"),
            ("org.yaml", "copy.yaml"),
            ("../b", "out"),
            ("/etc/passwd", "passwd.md"),
            ("server.pem", "harmless.md"),
            ("self", "self"),
        ] {
            symlink(target, dir.path().join("a").join(link)).unwrap();
        }
        let source = Source::find(dir.path().join("a").to_str().unwrap()).unwrap();
        let shown = source.to_string();
        let Source::Archive { bytes, .. } = source else { panic!("{source:?}") };
        let files = orgs::unpack(&bytes).unwrap();
        let packed = [".env", "copy.yaml", "org.yaml", "roles/x.yaml", "shared/x.yaml"];
        assert_eq!(files.uploaded().collect::<Vec<_>>(), packed);
        for part in [
            "a/out is a link that leads out of the directory",
            "a/passwd.md is a link that leads out of the directory",
            "a/server.pem has the name of a file with credentials",
            "a/.ssh has the name of a file with credentials",
            "a/harmless.md is a link to a file with credentials",
            "a/self is a link that leads back to itself",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn links_that_make_many_directories_out_of_a_few_end() {
        let dir = tempfile::tempdir().unwrap();
        // 6^8 directories, without a file in any.
        for level in 0..8 {
            let at = |name: String| dir.path().join(name);
            fs::create_dir_all(at(format!("level{level}"))).unwrap();
            for link in 0..6 {
                symlink(at(format!("level{}", level + 1)), at(format!("level{level}/{link}"))).unwrap();
            }
        }
        fs::create_dir(dir.path().join("level8")).unwrap();
        assert!(reason(dir.path()).contains("too many files"));
    }

    #[test]
    fn what_grows_while_it_is_read_is_not_read_further() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("org.yaml");
        fs::write(&file, "name: A").unwrap();
        let mut found = Found::below(dir.path()).unwrap();
        found.add(&file, Path::new("org.yaml"), &found.root.join("org.yaml")).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_len(1 << 40).unwrap();
        let error = found.pack(dir.path().to_owned()).unwrap_err().to_string();
        assert!(error.contains("at most 32 MiB"), "{error}");

        // Another file may have taken its place.
        let found = |target: &str| {
            let mut found = Found::below(dir.path()).unwrap();
            fs::remove_file(&file).unwrap();
            fs::write(&file, "name: A").unwrap();
            found.add(&file, Path::new("org.yaml"), &found.root.join("org.yaml")).unwrap();
            fs::remove_file(&file).unwrap();
            symlink(target, &file).unwrap();
            found.pack(dir.path().to_owned()).unwrap_err().to_string()
        };
        for target in ["/dev/zero", "/etc/passwd"] {
            assert!(found(target).contains("is a link"), "{target}");
        }
    }

    #[test]
    fn links_up_and_names_that_are_not_utf_8_are_skipped_and_named() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("org.yaml"), "name: A").unwrap();
        fs::write(dir.path().join("sub/role.md"), "role").unwrap();
        symlink(".", dir.path().join("latest")).unwrap();
        symlink("..", dir.path().join("sub/up")).unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b"caf\xe9.md")), "Latin-1").unwrap();
        symlink(OsStr::from_bytes(b"caf\xe9.md"), dir.path().join("coffee.md")).unwrap();
        fs::create_dir(dir.path().join(OsStr::from_bytes(b"\xff"))).unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b"\xff.pem")), "key").unwrap();
        symlink(OsStr::from_bytes(b"\xff.pem"), dir.path().join("harmless.md")).unwrap();
        let source = Source::find(dir.path().to_str().unwrap()).unwrap();
        let shown = source.to_string();
        let Source::Archive { bytes, skipped, .. } = source else { panic!("{source:?}") };
        let files = orgs::unpack(&bytes).unwrap();
        assert_eq!(files.uploaded().collect::<Vec<_>>(), ["coffee.md", "org.yaml", "sub/role.md"]);
        assert_eq!(skipped.len(), 6, "{shown}");
        for part in [
            "latest is a link to a directory that it lies in",
            "sub/up is a link to a directory that it lies in",
            "caf\u{fffd}.md has a name that is not in UTF-8",
            "\u{fffd} has a name that is not in UTF-8",
            "harmless.md is a link to a file with credentials",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
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
            "zero is a link that leads out of the directory",
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
