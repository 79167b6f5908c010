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
use store::guests::{ReleaseRow, ReleaseState};
use tokio::{sync::mpsc, time::Instant};
use wasm::Digest;

use crate::{Catalog, CatalogError, Source};

/// How long a file must be left alone before it is read. A writer that closes and opens again
/// (some copy in pieces) starts the wait anew.
const QUIET: Duration = Duration::from_millis(300);

/// The same for a file that was there before the watch began: its writer's close may have been missed,
/// or may be still to come.
const QUIET_AT_START: Duration = Duration::from_secs(2);

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
    /// What was there when the watch began.
    present: Vec<PathBuf>,
    written: mpsc::UnboundedReceiver<PathBuf>,
    _watcher: notify::RecommendedWatcher,
}

impl Folder {
    /// Begins to watch `directory`, which is made if it isn't there.
    ///
    /// # Errors
    /// If it can't be made or watched.
    pub fn watch(directory: &Path) -> Result<Self, FolderError> {
        let failed = |source| FolderError { path: directory.display().to_string(), source };
        fs::create_dir_all(directory).map_err(|error| failed(error.into()))?;
        let (sender, written) = mpsc::unbounded_channel();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
                Ok(event) if is_finished_write(&event) => {
                    for path in event.paths {
                        // The receiver is gone only when the server ends.
                        let _ = sender.send(path);
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "an event of GUESTS_DIR was lost; touch the file to have it read");
                }
            })
            .map_err(failed)?;
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(failed)?;
        Ok(Self { present: guests_in(directory), written, _watcher: watcher })
    }

    /// Pushes what is there and whatever comes, until it is dropped.
    pub async fn run(mut self, catalog: &Catalog) {
        let mut waiting: BTreeMap<PathBuf, Instant> = BTreeMap::new();
        for path in std::mem::take(&mut self.present) {
            waiting.insert(path.clone(), Instant::now() + remaining_quiet(&path));
        }
        // What was there before this start may be older than what the operator did since.
        let mut found_at_start: Vec<PathBuf> = waiting.keys().cloned().collect();
        loop {
            let next = waiting.iter().min_by_key(|(_, due)| **due).map(|(path, due)| (path.clone(), *due));
            tokio::select! {
                path = self.written.recv() => match path {
                    Some(path) => {
                        found_at_start.retain(|known| *known != path);
                        waiting.insert(path, Instant::now() + QUIET);
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(next.as_ref().map_or_else(Instant::now, |(_, due)| *due)), if next.is_some() => {
                    if let Some((path, _)) = next {
                        waiting.remove(&path);
                        let new_only = found_at_start.contains(&path);
                        found_at_start.retain(|known| *known != path);
                        push(catalog, &path, new_only).await;
                    }
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

async fn push(catalog: &Catalog, path: &Path, new_only: bool) {
    let Some(name) = guest_name(path) else { return };
    match try_push(catalog, name, path, new_only).await {
        Ok(()) => {}
        // Gone again before it was read.
        Err(CatalogError::BytesLost) if !path.exists() => {}
        Err(error) => {
            tracing::warn!(guest = name, path = %path.display(), "not taken from GUESTS_DIR: {error}");
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
        // A release that was stored and never activated is what a kill between the two leaves.
        let tried =
            |release: &ReleaseRow| release.state != ReleaseState::Staged || release.activated_at.is_some();
        if active || (new_only && record.release(&digest).is_some_and(tried)) {
            return Ok(());
        }
    }
    catalog.push(name, bytes, Source::Folder, BY, true).await?;
    Ok(())
}
