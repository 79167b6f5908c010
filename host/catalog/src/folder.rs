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
const QUIET: Duration = Duration::from_millis(300);

/// The same for a file that was there before the watch began: its writer's close may have been missed,
/// or may be still to come.
const QUIET_AT_START: Duration = Duration::from_secs(2);

/// How long a file waits that the database wasn't there for.
const RETRY: Duration = Duration::from_secs(5);

/// Who pushes what is found in the directory.
const BY: &str = "folder";

/// The directory can't be watched.
#[derive(Debug, thiserror::Error)]
#[error("GUESTS_DIR {path} can't be watched")]
pub struct FolderError {
    path: String,
    #[source]
    source: notify::Error,
}

/// A directory being watched.
pub struct Folder {
    directory: PathBuf,
    /// What was there when the watch began.
    present: Vec<PathBuf>,
    seen: mpsc::UnboundedReceiver<Seen>,
    _watcher: notify::RecommendedWatcher,
}

/// What the watch tells.
enum Seen {
    /// A file was written, and its writer is done.
    Written(PathBuf),
    /// More happened than the system could tell.
    Overflow,
}

/// A file that waits to be read.
struct Waiting {
    due: Instant,
    /// Nobody is known to have written it just now: it may be older than what the operator did since,
    /// so only bytes that the guest never had are pushed.
    new_only: bool,
}

impl Folder {
    /// How long it waits at most before it comes around.
    pub const TURN: Duration = Duration::from_secs(30);

    /// Begins to watch `directory`, which is made if it isn't there.
    ///
    /// # Errors
    /// If it can't be made or watched.
    pub fn watch(directory: &Path) -> Result<Self, FolderError> {
        let failed = |source| FolderError { path: directory.display().to_string(), source };
        fs::create_dir_all(directory).map_err(|error| failed(error.into()))?;
        let (sender, seen) = mpsc::unbounded_channel();
        // The receiver is gone only when the server ends.
        let tell = move |seen| drop(sender.send(seen));
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
                Ok(event) if event.need_rescan() => tell(Seen::Overflow),
                Ok(event) if is_finished_write(&event) => {
                    event.paths.into_iter().map(Seen::Written).for_each(&tell);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the watch of GUESTS_DIR stumbled; looking at all of it");
                    tell(Seen::Overflow);
                }
            })
            .map_err(failed)?;
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(failed)?;
        let present = guests_in(directory);
        Ok(Self { directory: directory.to_owned(), present, seen, _watcher: watcher })
    }

    /// The directory that is watched.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Pushes what is there and whatever comes, until it is dropped. `turned` is called each time it
    /// has come around, which it does at least once in [`Folder::TURN`] unless a push takes longer.
    pub async fn run(mut self, catalog: &Catalog, turned: impl Fn() + Send) {
        let mut waiting = BTreeMap::new();
        for path in std::mem::take(&mut self.present) {
            let due = Instant::now() + remaining_quiet(&path);
            waiting.insert(path, Waiting { due, new_only: true });
        }
        loop {
            turned();
            let next = waiting.iter().min_by_key(|(_, waiting)| waiting.due);
            let next = next.map(|(path, waiting): (&PathBuf, &Waiting)| (path.clone(), waiting.due));
            let due = async {
                match &next {
                    Some((_, due)) => tokio::time::sleep_until(*due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                seen = self.seen.recv() => match seen {
                    Some(seen) => self.note(&mut waiting, seen),
                    None => return,
                },
                () = tokio::time::sleep(Self::TURN) => {}
                () = due => {
                    let ready = next.and_then(|(path, _)| waiting.remove_entry(&path));
                    if let Some((path, Waiting { new_only, .. })) = ready
                        && push(catalog, &path, new_only).await == Taken::Later
                    {
                        // Unless it was written again meanwhile: then that is what waits.
                        let due = Instant::now() + RETRY;
                        waiting.entry(path).or_insert(Waiting { due, new_only });
                    }
                }
            }
        }
    }

    fn note(&self, waiting: &mut BTreeMap<PathBuf, Waiting>, seen: Seen) {
        let due = Instant::now() + QUIET;
        match seen {
            Seen::Written(path) => drop(waiting.insert(path, Waiting { due, new_only: false })),
            Seen::Overflow => {
                for path in guests_in(&self.directory) {
                    waiting.entry(path).or_insert(Waiting { due, new_only: true });
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
fn remaining_quiet(path: &Path) -> Duration {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    QUIET_AT_START.saturating_sub(age.unwrap_or_default())
}

fn guest_name(path: &Path) -> Option<&str> {
    let is_wasm = path.extension().is_some_and(|extension| extension == "wasm");
    path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_wasm)
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// There is nothing more to do for it.
    Done,
    /// The database was away: the file is as good as before.
    Later,
}

async fn push(catalog: &Catalog, path: &Path, new_only: bool) -> Taken {
    let Some(name) = guest_name(path) else { return Taken::Done };
    match try_push(catalog, name, path, new_only).await {
        Ok(()) => Taken::Done,
        // Gone again before it was read.
        Err(CatalogError::BytesLost) if !path.exists() => Taken::Done,
        Err(error) => {
            tracing::warn!(guest = name, path = %path.display(), "not taken from GUESTS_DIR: {error}");
            if matches!(error, CatalogError::Store(_)) { Taken::Later } else { Taken::Done }
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
