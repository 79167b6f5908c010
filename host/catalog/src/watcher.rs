//! The watched directory: dropping or replacing `NAME.wasm` pushes and activates it as a release of
//! guest `NAME`. Never more than that: a file can't make a guest trusted.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use notify::{
    EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::{sync::mpsc, time::Instant};
use wasm::Digest;

use crate::{Catalog, CatalogError, Source};

/// How long a file must be left alone before it is read. A writer that closes and opens again
/// (some copy in pieces) starts the wait anew.
const DEBOUNCE: Duration = Duration::from_millis(300);

/// The same for a file that was there before the watch began: its writer's close may have been missed,
/// or may be still to come.
const DEBOUNCE_AT_START: Duration = Duration::from_secs(2);

/// Delay before a file is pushed again that could not be stored.
const RETRY: Duration = Duration::from_secs(5);

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
    /// What was there when the watch began.
    present: Vec<PathBuf>,
    events: mpsc::UnboundedReceiver<FileEvent>,
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
        let (sender, events) = mpsc::unbounded_channel();
        // The receiver is gone only when the server ends.
        let send = move |event| drop(sender.send(event));
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
            })
            .map_err(failed)?;
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(failed)?;
        let present = guests_in(directory);
        Ok(Self { directory: directory.to_owned(), present, events, _watcher: watcher })
    }

    #[must_use]
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Pushes files that are there and files that come. Calls `progress` at least once in each
    /// [`GuestWatcher::TICK`], unless a push takes longer.
    pub async fn run(mut self, catalog: &Catalog, progress: impl Fn() + Send) {
        let mut pending = BTreeMap::new();
        for path in std::mem::take(&mut self.present) {
            let due = Instant::now() + remaining_debounce(&path);
            pending.insert(path, PendingFile { due, new_only: true });
        }
        loop {
            progress();
            let next = pending.iter().min_by_key(|(_, pending)| pending.due);
            let next = next.map(|(path, pending): (&PathBuf, &PendingFile)| (path.clone(), pending.due));
            let due = async {
                match &next {
                    Some((_, due)) => tokio::time::sleep_until(*due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.note(&mut pending, event),
                    None => return,
                },
                () = tokio::time::sleep(Self::TICK) => {}
                () = due => {
                    let ready = next.and_then(|(path, _)| pending.remove_entry(&path));
                    if let Some((path, PendingFile { new_only, .. })) = ready
                        && push(catalog, &path, new_only).await == PushOutcome::Retry
                    {
                        // Unless it was written again meanwhile: then that is what waits.
                        let due = Instant::now() + RETRY;
                        pending.entry(path).or_insert(PendingFile { due, new_only });
                    }
                }
            }
        }
    }

    fn note(&self, pending: &mut BTreeMap<PathBuf, PendingFile>, event: FileEvent) {
        let due = Instant::now() + DEBOUNCE;
        match event {
            FileEvent::Written(path) => drop(pending.insert(path, PendingFile { due, new_only: false })),
            FileEvent::Overflow => {
                for path in guests_in(&self.directory) {
                    pending.entry(path).or_insert(PendingFile { due, new_only: true });
                }
            }
        }
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
    /// The database was unavailable.
    Retry,
}

async fn push(catalog: &Catalog, path: &Path, new_only: bool) -> PushOutcome {
    let Some(name) = guest_name(path) else { return PushOutcome::Done };
    match try_push(catalog, name, path, new_only).await {
        Ok(()) => PushOutcome::Done,
        // Gone again before it was read.
        Err(CatalogError::ComponentMissing) if !path.exists() => PushOutcome::Done,
        Err(error) => {
            tracing::warn!(guest = name, path = %path.display(), "not taken from GUESTS_DIR: {error}");
            if matches!(error, CatalogError::Store(_) | CatalogError::Commit(_)) {
                PushOutcome::Retry
            } else {
                PushOutcome::Done
            }
        }
    }
}

async fn try_push(catalog: &Catalog, name: &str, path: &Path, new_only: bool) -> Result<(), CatalogError> {
    let limit = catalog.limits().component_bytes;
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Ok(());
    }
    let size = metadata.len();
    if size > limit as u64 {
        return Err(
            wasm::LoadError::TooLarge { bytes: usize::try_from(size).unwrap_or(usize::MAX), limit }.into()
        );
    }
    let bytes = tokio::fs::read(path).await?;
    let digest = Digest::of(&bytes).to_string();
    if let Ok(guest) = catalog.guest(name) {
        let record = guest.read();
        let active = record.active().is_some_and(|active| active.digest == digest);
        if active || (new_only && record.release(&digest).is_some_and(|release| !release.is_untried())) {
            return Ok(());
        }
    }
    catalog.push(name, bytes.into(), Source::Folder, BY, true).await?;
    Ok(())
}
