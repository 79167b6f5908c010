//! The watched directory: dropping or replacing `NAME.wasm` pushes and activates it as a release of
//! guest `NAME`. Never more than that: a file can't make a guest trusted.
//!
//! Events tell of changes at once. What they don't tell of is found by looking (`scan`): links whose targets
//! change, and a directory that is made again.

mod scan;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use local_files::FileError;
use notify::{
    EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::{sync::mpsc, time::Instant};
use wasm::Digest;

use self::scan::{Looks, Print, identity};
use crate::{Catalog, CatalogError, Source, components::blocking};

/// How long a file must be left alone before it is read. A writer that closes and opens again
/// (some copy in pieces) starts the wait anew.
const DEBOUNCE: Duration = Duration::from_millis(300);

/// The same for a file that was there before the watch began: its writer's close may have been missed,
/// or may be still to come.
const DEBOUNCE_AT_START: Duration = Duration::from_secs(2);

/// Delay before a file is pushed again that could not be stored.
const RETRY: Duration = Duration::from_secs(5);

/// How often a file is pushed again whose probes got no answer in time. Each takes seconds of processor time.
const TIMEOUTS: u8 = 3;

/// How often the directory is looked at beside the events.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// Events that wait at most; when more come, the whole directory is read instead.
const EVENTS: usize = 1_024;

/// `pushed_by` of releases from the directory.
const BY: &str = "folder";

/// The directory can't be watched.
#[derive(Debug, thiserror::Error)]
#[error("GUESTS_DIR {path} can't be watched")]
pub struct WatchError {
    path: String,
    #[source]
    source: notify::Error,
}

/// A directory being watched.
pub struct GuestWatcher {
    directory: PathBuf,
    watch: Option<Watch>,
    looks: Looks,
    /// Digest of what each name led to when it was read last.
    read: HashMap<PathBuf, String>,
}

/// The events of one directory. A directory that is made again is another one.
struct Watch {
    identity: Option<(u64, u64)>,
    /// What was there when the watch began.
    present: Vec<PathBuf>,
    events: mpsc::Receiver<FileEvent>,
    /// Events were lost because too many waited.
    lost: Arc<AtomicBool>,
    _watcher: notify::RecommendedWatcher,
}

/// A change in the directory.
enum FileEvent {
    /// A file was written, and its writer is done.
    Written(PathBuf),
    /// Events were lost: the directory has to be read.
    Overflow,
}

/// A file that is read at `due`.
struct PendingFile {
    due: Instant,
    /// It may be older than what the operator did since: only bytes that the guest never had are
    /// pushed.
    new_only: bool,
    /// No one is known to have written it: it is pushed only if it has other bytes than when it was read.
    unread: bool,
    /// Pushes whose probes got no answer in time.
    timeouts: u8,
}

impl PendingFile {
    /// A file that was written.
    fn written(due: Instant) -> Self {
        Self { due, new_only: false, unread: false, timeouts: 0 }
    }
}

impl GuestWatcher {
    /// Progress is reported at least this often, unless a push takes longer.
    pub const TICK: Duration = Duration::from_secs(30);

    /// Begins to watch `directory`, which is made if it isn't there.
    ///
    /// # Errors
    /// If it can't be made or watched.
    pub fn watch(directory: &Path) -> Result<Self, WatchError> {
        let failed = |source| WatchError { path: directory.display().to_string(), source };
        fs::create_dir_all(directory).map_err(|error| failed(error.into()))?;
        let watch = Some(Watch::begin(directory).map_err(failed)?);
        Ok(Self { directory: directory.to_owned(), watch, looks: Looks::default(), read: HashMap::new() })
    }

    #[must_use]
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Pushes files that are there and files that come. Calls `progress` at least once in each
    /// [`GuestWatcher::TICK`], unless a push takes longer, and says what is wrong, if anything.
    pub async fn run(mut self, catalog: &Catalog, progress: impl Fn(Option<&str>) + Send) {
        let mut pending = BTreeMap::new();
        self.note_present(&mut pending);
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            progress(self.watch.is_none().then_some(MISSING));
            let next = pending.iter().min_by_key(|(_, pending)| pending.due);
            let next = next.map(|(path, pending): (&PathBuf, &PendingFile)| (path.clone(), pending.due));
            let due = async {
                match &next {
                    Some((_, due)) => tokio::time::sleep_until(*due).await,
                    None => std::future::pending().await,
                }
            };
            let event = async {
                match &mut self.watch {
                    Some(watch) => watch.events.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = event => match event {
                    Some(event) => self.note(&mut pending, event),
                    // Its watcher is gone: the next look begins a new watch.
                    None => self.watch = None,
                },
                _ = looks.tick() => self.look(&mut pending),
                () = due => {
                    let ready = next.and_then(|(path, _)| pending.remove_entry(&path));
                    if let Some((path, file)) = ready {
                        let timeouts = match self.push(catalog, &path, &file).await {
                            PushOutcome::Done => continue,
                            PushOutcome::Retry => file.timeouts,
                            PushOutcome::RetryTimeout => file.timeouts + 1,
                        };
                        // Unless it was written again meanwhile: then that is what waits.
                        let due = Instant::now() + RETRY;
                        pending.entry(path).or_insert(PendingFile { due, timeouts, ..file });
                    }
                }
            }
        }
    }

    fn note(&self, pending: &mut BTreeMap<PathBuf, PendingFile>, event: FileEvent) {
        let due = Instant::now() + DEBOUNCE;
        match event {
            FileEvent::Written(path) => {
                pending.insert(path, PendingFile::written(due));
            }
            FileEvent::Overflow => {
                for path in guests_in(&self.directory) {
                    pending
                        .entry(path)
                        .or_insert(PendingFile { new_only: true, ..PendingFile::written(due) });
                }
            }
        }
    }

    fn note_present(&mut self, pending: &mut BTreeMap<PathBuf, PendingFile>) {
        let present = self.watch.as_mut().map(|watch| std::mem::take(&mut watch.present));
        let present = present.unwrap_or_default();
        self.looks.know(&present);
        for path in present {
            let due = Instant::now() + remaining_debounce(&path);
            // A name that was read before has other bytes by now, or nothing happens.
            let known = self.read.contains_key(&path);
            let file = PendingFile { new_only: !known, unread: true, ..PendingFile::written(due) };
            pending.entry(path).or_insert(file);
        }
    }

    /// Looks at the directory itself, and at what the names in it lead to.
    fn look(&mut self, pending: &mut BTreeMap<PathBuf, PendingFile>) {
        let now = identity(&self.directory);
        if self.watch.as_ref().is_none_or(|watch| watch.identity != now) {
            let was_there = self.watch.take().is_some();
            match now.map(|_| Watch::begin(&self.directory)) {
                Some(Ok(watch)) => {
                    tracing::info!(directory = %self.directory.display(), "GUESTS_DIR is another directory now; it is watched");
                    self.watch = Some(watch);
                    self.note_present(pending);
                }
                Some(Err(error)) if was_there => {
                    tracing::warn!(%error, "GUESTS_DIR can't be watched; trying again");
                }
                // Liveness goes on to report it.
                Some(Err(error)) => tracing::debug!(%error, "GUESTS_DIR still can't be watched"),
                None if was_there => {
                    tracing::error!(directory = %self.directory.display(), "GUESTS_DIR is gone; it is watched again once it is there");
                }
                None => {}
            }
            return;
        }
        if self.watch.as_ref().is_some_and(|watch| watch.lost.swap(false, Ordering::Relaxed)) {
            self.note(pending, FileEvent::Overflow);
        }
        for path in self.looks.look(&self.directory) {
            let due = Instant::now();
            pending.entry(path).or_insert(PendingFile { unread: true, ..PendingFile::written(due) });
        }
    }

    async fn push(&mut self, catalog: &Catalog, path: &Path, file: &PendingFile) -> PushOutcome {
        let Some(name) = guest_name(path) else { return PushOutcome::Done };
        let print = Print::of(path);
        let known = self.read.get(path).filter(|_| file.unread).cloned();
        match try_push(catalog, name, path, file.new_only, known.as_deref()).await {
            Ok(digest) => {
                self.looks.set_read(path, print);
                if let Some(digest) = digest {
                    self.read.insert(path.to_owned(), digest);
                }
                PushOutcome::Done
            }
            // Gone again before it was read.
            Err(CatalogError::ComponentMissing) if !path.exists() => PushOutcome::Done,
            // The next start takes it.
            Err(CatalogError::Stopping) => PushOutcome::Done,
            Err(error) => {
                // A text of the guest may be in it: as a field, its line feeds are escaped.
                let reason = error.to_string();
                tracing::warn!(guest = name, path = %path.display(), reason, "not taken from GUESTS_DIR");
                if is_temporary(&error) {
                    PushOutcome::Retry
                } else if matches!(error, CatalogError::ProbesTimedOut { .. }) && file.timeouts < TIMEOUTS {
                    PushOutcome::RetryTimeout
                } else {
                    self.looks.set_read(path, print);
                    PushOutcome::Done
                }
            }
        }
    }
}

/// What is wrong while there is no directory to watch.
const MISSING: &str = "GUESTS_DIR does not exist, or can't be watched";

impl Watch {
    fn begin(directory: &Path) -> Result<Self, notify::Error> {
        let (sender, events) = mpsc::channel(EVENTS);
        let lost = Arc::<AtomicBool>::default();
        let full = Arc::clone(&lost);
        let send = move |event| {
            if sender.try_send(event).is_err() {
                full.store(true, Ordering::Relaxed);
            }
        };
        let identity = identity(directory);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
                Ok(event) if event.need_rescan() => send(FileEvent::Overflow),
                Ok(event) if is_finished_write(&event) => {
                    event.paths.into_iter().map(FileEvent::Written).for_each(&send);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the watch of GUESTS_DIR failed; reading the whole directory");
                    send(FileEvent::Overflow);
                }
            })?;
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        let present = guests_in(directory);
        Ok(Self { identity, present, events, lost, _watcher: watcher })
    }
}

fn guests_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| guest_name(path).is_some()).collect()
}

/// A file is read when its writer closes it or moves it here, not while it grows. A link appears
/// whole.
fn is_finished_write(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => true,
        EventKind::Create(_) => event.paths.iter().any(|path| is_link(path)),
        _ => false,
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}

/// A file that was there before the watch began may be growing still.
fn remaining_debounce(path: &Path) -> Duration {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    DEBOUNCE_AT_START.saturating_sub(age.unwrap_or_default())
}

fn guest_name(path: &Path) -> Option<&str> {
    let is_wasm = path.extension().is_some_and(|extension| extension == "wasm");
    path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_wasm)
}

/// The outcome of pushing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PushOutcome {
    /// Pushed, or nothing to push.
    Done,
    /// The database was unavailable, or the compiler.
    Retry,
    /// Its probes got no answer in time: the machine may be too busy.
    RetryTimeout,
}

fn is_temporary(error: &CatalogError) -> bool {
    use CatalogError as E;
    matches!(error, E::Store(_) | E::Commit(_) | E::CompilerBusy | E::NoCompiler(_))
}

/// Pushes the file unless it has the digest `known`. Returns its digest.
async fn try_push(
    catalog: &Catalog,
    name: &str,
    path: &Path,
    new_only: bool,
    known: Option<&str>,
) -> Result<Option<String>, CatalogError> {
    let limit = catalog.limits().component_bytes;
    let file = path.to_owned();
    let bytes = match blocking(move || local_files::read(&file, limit as u64)).await? {
        Ok(bytes) => bytes,
        Err(FileError::Special(_)) => return Ok(None),
        Err(FileError::TooLarge { bytes, .. }) => {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            return Err(wasm::LoadError::TooLarge { bytes, limit }.into());
        }
        Err(FileError::Io(error)) => return Err(error.into()),
    };
    let digest = Digest::of(&bytes).to_string();
    if known == Some(&digest) {
        return Ok(Some(digest));
    }
    if let Ok(guest) = catalog.guest(name) {
        let active = guest.active_digest().as_ref() == Some(&digest);
        let is_tried = || guest.read().release(&digest).is_some_and(|release| !release.is_untried());
        if active || (new_only && is_tried()) {
            catalog.note_in_directory(&guest, &digest).await?;
            return Ok(Some(digest));
        }
    }
    catalog.push(name, bytes.into(), Source::Folder, BY, true).await?;
    Ok(Some(digest))
}
