//! The compilations that run: one per digest, which goes on as long as a caller waits for it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::watch, task::AbortHandle};
use wasm::{CompileError, Component, Digest};

use crate::{CatalogError, compile_queue::CompileQueue, loads::Loads};

/// Compilations that run, and the queue of those to come.
pub(crate) struct Compilations {
    pub(crate) queue: CompileQueue,
    pub(crate) loads: Loads,
    stopped: AtomicBool,
    running: Mutex<HashMap<Digest, Weak<Compilation>>>,
}

/// A compilation that runs. It ends with the last caller that waits for it.
pub(crate) struct Compilation {
    pub(crate) task: AbortHandle,
    pub(crate) result: watch::Receiver<Option<Result<Component, CompileError>>>,
}

impl Drop for Compilation {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Compilation {
    pub(crate) async fn result(&self) -> Result<Component, CatalogError> {
        let mut result = self.result.clone();
        // Its task was aborted: by a stop of the server, because this caller waits.
        let done = result.wait_for(Option::is_some).await.map_err(|_| CatalogError::Stopping)?;
        done.clone()
            .unwrap_or_else(|| Err(CompileError::NoProcess("it has no result".to_owned())))
            .map_err(Into::into)
    }
}

impl Compilations {
    pub(crate) fn new() -> Self {
        Self {
            queue: CompileQueue::new(),
            loads: Loads::new(),
            stopped: AtomicBool::new(false),
            running: Mutex::default(),
        }
    }

    pub(crate) fn running(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Compilation>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, digest: &Digest) -> Option<Arc<Compilation>> {
        self.running().get(digest)?.upgrade()
    }

    /// Nothing is compiled any more, and nothing that failed is tried again: the server stops.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.queue.stop();
        self.loads.stop();
        for compilation in self.running().values().filter_map(Weak::upgrade).collect::<Vec<_>>() {
            compilation.task.abort();
        }
    }
}
