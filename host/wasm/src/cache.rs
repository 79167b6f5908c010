//! Compiled guests kept on disk, so that a start need not compile them again.
//!
//! A file is: magic, the engine's compatibility hash, the component's digest, SHA-256 of the payload, payload. The
//! engine loads most damaged artifacts without complaint and then runs them, so nothing reaches it before its hash was
//! verified here. The directory is private to the owner of the process: a process that can write to it can run native
//! code as that user. One that this process can't write to is only read, if nobody but root and the owner of the
//! process can write to it.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use local_files::{
    private::{PrivateDir, PrivateError},
    trusted::{TrustedDir, is_trusted},
};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use wasmtime::{Engine, component::Component};

use crate::{Digest, SandboxError, limits::ARTIFACT_BYTES};

const MAGIC: &[u8; 8] = b"ISOMAOT1";

/// How the names of files begin that are being written.
const TEMPORARY: &str = ".unfinished-";

/// Age from which on nobody writes such a file any more: no compilation takes an hour.
const ABANDONED: Duration = Duration::from_secs(3_600);

/// Compiled forms that no release uses, which are kept for another push or a server of the same directory.
const UNUSED: usize = 256;
const UNUSED_BYTES: u64 = 512 << 20;
const UNUSED_AGE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Notes that are kept. Each has some hundred bytes.
const NOTES: usize = 1_000;

/// A file of the cache.
struct CacheFile {
    digest: Digest,
    bytes: u64,
    age: Duration,
}

/// A directory of compiled guests.
#[derive(Debug, Clone)]
pub struct AotCache {
    directory: PathBuf,
    access: CacheAccess,
}

/// What a cache is good for.
#[derive(Debug, Clone, Copy)]
enum CacheAccess {
    /// It is this user's, who alone may own what is loaded.
    Own(u32),
    /// It is loaded from, if only root and this user can have written it. Nothing is stored.
    ReadOnly,
    /// Nothing is loaded or stored.
    Unusable,
}

impl AotCache {
    /// Uses `directory`, made with mode 0700 if it isn't there.
    ///
    /// # Errors
    /// If the directory can't be made, or belongs to another user.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, SandboxError> {
        let directory = directory.into();
        let open = || -> Result<u32, PrivateError> {
            let private = PrivateDir::open(&directory, is_own)?;
            private.tighten_cache(is_own)?;
            Ok(private.owner())
        };
        let owner =
            open().map_err(|source| SandboxError::Cache { path: directory.display().to_string(), source })?;
        remove_abandoned(&directory);
        Ok(Self { directory, access: CacheAccess::Own(owner) })
    }

    /// The same, but a directory that this process can't write to is only read, and one that it can't read either, or
    /// must not, is left alone: what it lacks is compiled at each start. The log says so.
    ///
    /// # Errors
    /// If others can write to the directory, or its path leads elsewhere.
    pub fn open_or_read(directory: impl Into<PathBuf>) -> Result<Self, SandboxError> {
        let directory = directory.into();
        match Self::open(&directory) {
            Err(SandboxError::Cache { source, .. }) if costs_only_time(&source) => {
                Ok(Self::open_unwritable(directory, &source))
            }
            opened => opened,
        }
    }

    fn open_unwritable(directory: PathBuf, why: &PrivateError) -> Self {
        let why = why as &dyn std::error::Error;
        let shown = directory.display();
        match TrustedDir::open(&directory) {
            Ok(trusted) => {
                tracing::warn!(
                    error = why,
                    "the cache of compiled guests at {shown} is only read: guests that it lacks are compiled at each \
                     start. To store them, give GUEST_CACHE_DIR a directory that the server can write to"
                );
                Self { directory: trusted.path().to_owned(), access: CacheAccess::ReadOnly }
            }
            Err(unreadable) => {
                tracing::warn!(
                    error = why,
                    "the cache of compiled guests at {shown} {unreadable}: every guest is compiled at each start. If root \
                     filled it, run `chmod -R a+rX,go-w {shown}`; otherwise give GUEST_CACHE_DIR a directory that the \
                     server can write to"
                );
                Self { directory, access: CacheAccess::Unusable }
            }
        }
    }

    fn is_own(&self) -> bool {
        matches!(self.access, CacheAccess::Own(_))
    }

    /// Deletes the compiled form of a component, and the note that it can't be compiled.
    pub fn evict(&self, digest: &Digest) {
        self.evict_compiled(digest);
        if self.is_own() {
            let _ = fs::remove_file(self.note_path(digest));
        }
    }

    /// Deletes the compiled form of a component.
    pub(crate) fn evict_compiled(&self, digest: &Digest) {
        // Only disk space is at stake: what is left is verified before it is used.
        if self.is_own() {
            let _ = fs::remove_file(self.path(digest));
        }
    }

    /// Deletes compiled forms of components that are not `used`, the oldest first: all but [`UNUSED`], and those older
    /// than [`UNUSED_AGE`]. Of the notes that a component can't be compiled the newest [`NOTES`] stay. What is young is
    /// left alone: a push may not have stored its release yet, and other servers may use the same directory.
    pub fn sweep(&self, used: impl Fn(&Digest) -> bool) {
        if !self.is_own() {
            return;
        }
        let mut unused = self.files("aot");
        unused.retain(|file| !used(&file.digest));
        let mut bytes: u64 = 0;
        for (number, file) in unused.iter().enumerate() {
            bytes = bytes.saturating_add(file.bytes);
            let excess = number >= UNUSED || bytes > UNUSED_BYTES || file.age > UNUSED_AGE;
            if excess && file.age > ABANDONED {
                self.evict_compiled(&file.digest);
            }
        }
        for note in self.files("failed").iter().skip(NOTES) {
            let _ = fs::remove_file(self.note_path(&note.digest));
        }
    }

    /// Files of this kind, the newest first.
    fn files(&self, extension: &str) -> Vec<CacheFile> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().filter_map(Result::ok);
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let (digest, kind) = name.split_once('.')?;
            let digest = digest.parse().ok().filter(|_| kind == extension)?;
            let metadata = entry.metadata().ok()?;
            // A file from the future is a young one.
            let age = metadata.modified().ok()?.elapsed().unwrap_or_default();
            Some(CacheFile { digest, bytes: metadata.len(), age })
        };
        let mut files: Vec<CacheFile> = entries.filter_map(file).collect();
        files.sort_by_key(|file| file.age);
        files
    }

    /// Notes that the compiler died of a component: `how` under the limits `under`, compiled for the engine with
    /// this hash.
    pub(crate) fn note_death(&self, hash: u64, digest: &Digest, under: &str, how: &str) {
        if !self.is_own() {
            return;
        }
        let note = format!("{}\n{how}\n", note_head(hash, under));
        if let Err(error) = self.write(&self.note_path(digest), note.as_bytes()) {
            tracing::warn!(%digest, %error, "that a guest can't be compiled could not be noted; the next start tries again");
        }
    }

    /// How the compiler died of this component under the same limits.
    pub(crate) fn noted_death(&self, hash: u64, digest: &Digest, under: &str) -> Option<String> {
        let note = String::from_utf8(self.read(&self.note_path(digest)).ok()?).ok()?;
        let how = note.strip_prefix(&note_head(hash, under))?.trim();
        Some(how.to_owned())
    }

    fn note_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{digest}.failed"))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{digest}.aot"))
    }

    /// The compiled component, if a sound one for this engine is here.
    pub(crate) fn load(&self, engine: &Engine, hash: u64, digest: &Digest) -> Option<Component> {
        let path = self.path(digest);
        let file = match self.read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%digest, %error, "a compiled guest can't be read; compiling it again");
                return None;
            }
        };
        let Some(compiled) = load_artifact(engine, hash, digest, &file) else {
            tracing::warn!(%digest, "a compiled guest is damaged or of another build; compiling it again");
            self.evict(digest);
            return None;
        };
        compiled
            .inspect_err(
                |error| tracing::warn!(%digest, %error, "a compiled guest does not load; compiling it again"),
            )
            .ok()
    }

    /// Stores the artifact of a component. A failure is only logged: the next start compiles again.
    pub(crate) fn put(&self, digest: &Digest, artifact: &[u8]) {
        if self.is_own() {
            log_unstored(digest, self.write(&self.path(digest), artifact));
        }
    }

    /// A file for an artifact that is being made. It goes away unless it is kept.
    pub(crate) fn begin(&self) -> io::Result<NamedTempFile> {
        if !self.is_own() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.directory)
    }

    /// Keeps the artifact of a component. A failure is only logged, as with [`AotCache::put`].
    pub(crate) fn keep(&self, digest: &Digest, artifact: NamedTempFile) {
        if !self.is_own() {
            return;
        }
        let _ = fs::remove_file(self.note_path(digest));
        log_unstored(digest, artifact.persist(self.path(digest)).map(drop).map_err(io::Error::from));
    }

    /// Writes a file, which appears whole or not at all.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = self.begin()?;
        file.write_all(content)?;
        file.persist(path)?;
        Ok(())
    }

    /// A file's content, if only those could have written it whom this cache trusts.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if matches!(self.access, CacheAccess::Unusable) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file =
            fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        let metadata = file.metadata()?;
        let trusted = match self.access {
            CacheAccess::Own(owner) => metadata.uid() == owner && metadata.mode() & 0o022 == 0,
            CacheAccess::ReadOnly => is_trusted(&metadata),
            CacheAccess::Unusable => false,
        };
        if !trusted {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others could have written it"));
        }
        let most = ARTIFACT_BYTES + HEADER as u64;
        let mut content = Vec::new();
        if metadata.len() <= most {
            content.reserve_exact(usize::try_from(metadata.len()).unwrap_or_default());
            // One byte more, if it grows meanwhile.
            (&mut file).take(most + 1).read_to_end(&mut content)?;
        }
        if metadata.len() > most || content.len() as u64 > most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than any compiled guest"));
        }
        Ok(content)
    }
}

/// Whether nothing but time is lost without such a cache: it belongs to another user, or can't be written.
fn costs_only_time(error: &PrivateError) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error {
        PrivateError::Foreign { .. } => true,
        PrivateError::Io { source, .. } => {
            matches!(source.kind(), PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
        }
        _ => false,
    }
}

fn log_unstored(digest: &Digest, stored: io::Result<()>) {
    if let Err(error) = stored {
        tracing::warn!(%digest, %error, "a compiled guest could not be stored; the next start compiles it again");
    }
}

/// Removes what a server was writing when it was killed. Another server may be writing in the same directory.
fn remove_abandoned(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let abandoned = entries.filter(|entry| {
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        entry.file_name().to_str().is_some_and(is_unfinished) && age().is_some_and(|age| age > ABANDONED)
    });
    abandoned.for_each(|entry| drop(fs::remove_file(entry.path())));
}

/// Another build of the compiler, or other limits, may do better.
fn note_head(hash: u64, under: &str) -> String {
    format!("compiled for engine {hash:016x} with {under}:")
}

/// Whether a file with this name is one of a cache.
fn is_own(name: &str) -> bool {
    let digest = name.strip_suffix(".aot").or_else(|| name.strip_suffix(".failed"));
    digest.is_some_and(|digest| digest.parse::<Digest>().is_ok()) || is_unfinished(name)
}

/// Whether a file with this name was being written. Releases before this one called them `.tmp` and six characters.
#[must_use]
pub fn is_unfinished(name: &str) -> bool {
    let random = |rest: &str| rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    name.starts_with(TEMPORARY) || name.strip_prefix(".tmp").is_some_and(random)
}

const HEADER: usize = 8 + 8 + 32 + 32;

/// The file of a component whose compiled form is `payload`, made by an engine with this compatibility hash.
pub(crate) fn artifact(hash: u64, digest: &Digest, payload: &[u8]) -> Vec<u8> {
    let mut artifact = header(hash, digest, payload);
    artifact.extend_from_slice(payload);
    artifact
}

/// The component of an artifact; `None` if that is damaged, another component's or another engine's.
pub(crate) fn load_artifact(
    engine: &Engine,
    hash: u64,
    digest: &Digest,
    artifact: &[u8],
) -> Option<wasmtime::Result<Component>> {
    Some(deserialize(engine, verified(artifact, hash, digest)?))
}

fn header(hash: u64, digest: &Digest, payload: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER + payload.len());
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&hash.to_le_bytes());
    header.extend_from_slice(digest.as_bytes());
    header.extend_from_slice(&Sha256::digest(payload));
    header
}

/// The payload, if header and hash agree with it.
fn verified<'a>(file: &'a [u8], hash: u64, digest: &Digest) -> Option<&'a [u8]> {
    let (found, payload) = file.split_at_checked(HEADER)?;
    (found == header(hash, digest, payload)).then_some(payload)
}

#[allow(unsafe_code)]
fn deserialize(engine: &Engine, payload: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `payload` is byte for byte what an engine with the same compatibility hash made, here or in a
    // process of this program (`compile_process`): `verified` compared magic, hash, digest and SHA-256
    // over the very slice given here. That finds damage, not malice; against that, file and directory
    // belong to this process's user or root and no other user may write to them (`PrivateDir`, `TrustedDir`,
    // `AotCache::read`), and so does
    // the temporary file that such a process wrote, which is read through the descriptor it was made with.
    unsafe { Component::deserialize(engine, payload) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{Limits, engine};

    fn cached() -> (tempfile::TempDir, AotCache, Engine, Digest) {
        let directory = tempfile::tempdir().unwrap();
        let cache = AotCache::open(directory.path().join("compiled")).unwrap();
        let (engine, _) = engine::new(&Limits { slots: 1, ..Limits::default() }).unwrap();
        let text = "(component (core module (func (export \"f\") (result i32) i32.const 7)))";
        let digest = Digest::of(text.as_bytes());
        let payload = Component::new(&engine, text).unwrap().serialize().unwrap();
        cache.put(&digest, &artifact(1, &digest, &payload));
        (directory, cache, engine, digest)
    }

    #[test]
    fn a_stored_artifact_is_loaded_by_the_same_engine_only() {
        let (_directory, cache, engine, digest) = cached();
        assert!(cache.load(&engine, 1, &digest).is_some());
        assert!(cache.load(&engine, 2, &digest).is_none(), "another engine's");
        assert!(cache.load(&engine, 1, &digest).is_none(), "the mismatch evicted it");
    }

    #[test]
    fn a_damaged_artifact_is_not_loaded() {
        let (_directory, cache, engine, digest) = cached();
        let path = cache.path(&digest);
        let sound = fs::read(&path).unwrap();
        let every = (sound.len() / 500).max(1);
        for at in (0..HEADER).chain((HEADER..sound.len()).step_by(every)) {
            let mut damaged = sound.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, &damaged).unwrap();
            assert!(cache.load(&engine, 1, &digest).is_none(), "byte {at} of {}", sound.len());
        }
        for length in [0, 1, HEADER - 1, HEADER, sound.len() / 2, sound.len() - 1] {
            fs::write(&path, &sound[..length]).unwrap();
            assert!(cache.load(&engine, 1, &digest).is_none(), "{length} bytes of {}", sound.len());
        }
        fs::write(&path, &sound).unwrap();
        assert!(cache.load(&engine, 1, &digest).is_some());
    }

    #[test]
    fn files_are_their_users_alone_and_open_ones_are_tightened() {
        let (_directory, cache, engine, digest) = cached();
        cache.note_death(1, &digest, "limits", "memory");
        let paths = [cache.path(&digest), cache.note_path(&digest)];
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for path in &paths {
            assert_eq!(mode(path), 0o600);
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let again = AotCache::open(&cache.directory).unwrap();
        assert_eq!(paths.each_ref().map(|path| mode(path)), [0o600; 2]);
        assert!(again.load(&engine, 1, &digest).is_some());
    }

    #[test]
    fn a_file_that_other_users_can_write_is_not_loaded() {
        let (_directory, cache, engine, digest) = cached();
        fs::set_permissions(cache.path(&digest), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(cache.load(&engine, 1, &digest).is_none());
    }

    #[test]
    fn a_directory_that_can_only_be_read_is_loaded_from_and_left_alone() {
        let (_directory, cache, engine, digest) = cached();
        let path = cache.path(&digest);
        let open = |directory: &Path| {
            let failed = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
            let why = PrivateError::Io { path: directory.display().to_string(), source: failed };
            assert!(costs_only_time(&why));
            AotCache::open_unwritable(directory.to_owned(), &why)
        };
        for mode in [0o644, 0o444, 0o600] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(open(&cache.directory).load(&engine, 1, &digest).is_some(), "{mode:o}");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
        }
        let read_only = open(&cache.directory);
        let other = Digest::of(b"another");
        read_only.put(&other, b"x");
        read_only.note_death(1, &other, "limits", "memory");
        read_only.begin().unwrap_err();
        read_only.evict(&digest);
        assert!(read_only.load(&engine, 2, &digest).is_none(), "another engine's");
        read_only.sweep(|_| false);
        assert_eq!(fs::read_dir(&cache.directory).unwrap().count(), 1);
        assert!(path.exists());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(read_only.load(&engine, 1, &digest).is_none(), "others can write the file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        // Only root can give files away.
        if std::os::unix::fs::chown(&path, Some(65_533), None).is_ok() {
            assert!(read_only.load(&engine, 1, &digest).is_none(), "another user's");
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        }
        fs::set_permissions(&cache.directory, fs::Permissions::from_mode(0o775)).unwrap();
        assert!(open(&cache.directory).load(&engine, 1, &digest).is_none(), "others can write there");
    }

    #[test]
    fn a_directory_of_another_user_does_not_stop_a_start() {
        let directory = tempfile::tempdir().unwrap();
        // Only root can give it away.
        if std::os::unix::fs::chown(directory.path(), Some(65_533), None).is_ok() {
            AotCache::open(directory.path()).unwrap_err();
            let cache = AotCache::open_or_read(directory.path()).unwrap();
            cache.put(&Digest::of(b"x"), b"x");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        }
        // What is open to all is a fault of the settings.
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("other"), "").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        AotCache::open_or_read(directory.path()).unwrap_err();
    }

    /// A file of this age.
    fn aged(path: &Path, age: Duration, bytes: usize) {
        fs::write(path, vec![0; bytes]).unwrap();
        let modified = std::time::SystemTime::now() - age;
        fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }

    #[test]
    fn a_sweep_keeps_what_is_used_or_young_and_little_else() {
        let directory = tempfile::tempdir().unwrap();
        let cache = AotCache::open(directory.path().join("compiled")).unwrap();
        let digest = |number: usize| Digest::of(&number.to_le_bytes());
        let hours = |hours: u64| Duration::from_secs(3_600 * hours);
        // Used, young, middle-aged beyond the number, and old.
        aged(&cache.path(&digest(0)), hours(1_000), 1);
        aged(&cache.path(&digest(1)), hours(0), 1);
        for number in 2..=UNUSED + 2 {
            aged(&cache.path(&digest(number)), hours(2) + Duration::from_secs(number as u64), 1);
        }
        aged(&cache.path(&digest(9_999)), UNUSED_AGE + hours(1), 1);
        for number in 0..=NOTES {
            aged(&cache.note_path(&digest(number)), hours(number as u64), 1);
        }
        cache.sweep(|used| *used == digest(0));
        let is_there = |number| cache.path(&digest(number)).exists();
        assert!(is_there(0) && is_there(1) && is_there(UNUSED));
        assert!(!is_there(UNUSED + 1) && !is_there(UNUSED + 2) && !is_there(9_999));
        assert_eq!(cache.files("failed").len(), NOTES);
        assert!(!cache.note_path(&digest(NOTES)).exists());
        // Nothing is left to do.
        let before = cache.files("aot").len();
        cache.sweep(|used| *used == digest(0));
        assert_eq!((cache.files("aot").len(), before), (UNUSED + 1, UNUSED + 1));
    }

    #[test]
    fn a_file_larger_than_any_compiled_guest_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let cache = AotCache::open(directory.path()).unwrap();
        let path = directory.path().join("large");
        let file = fs::File::create(&path).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        // Sparse: to read it would take memory that no machine has.
        for length in [ARTIFACT_BYTES + HEADER as u64 + 1, 1 << 42] {
            file.set_len(length).unwrap();
            assert_eq!(cache.read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        file.set_len(7).unwrap();
        assert_eq!(cache.read(&path).unwrap().len(), 7);
    }

    #[test]
    fn unfinished_files_of_this_and_earlier_releases_go_when_they_are_old() {
        let directory = tempfile::tempdir().unwrap();
        let names = [".unfinished-abc", ".tmpAb3dE9", ".tmp-of-mine", ".tmpAb3dE", "notes.txt"];
        let old = std::time::SystemTime::now() - 2 * ABANDONED;
        for name in names {
            let file = fs::File::create(directory.path().join(name)).unwrap();
            file.set_modified(old).unwrap();
        }
        fs::write(directory.path().join(".tmpYoung1"), b"").unwrap();
        fs::write(directory.path().join(".tmpYoung"), b"").unwrap();
        remove_abandoned(directory.path());
        let mut left: Vec<String> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".tmp-of-mine", ".tmpAb3dE", ".tmpYoung", ".tmpYoung1", "notes.txt"]);
    }
}
