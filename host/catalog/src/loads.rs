//! How many compiled components are read at once, and for how long. Each is a file of up to 128 MiB, which is in memory
//! twice for a moment: read, and copied into executable memory.
//!
//! A read that takes too long is given up, and what it would have read is compiled instead: a directory that hangs
//! delays guests, and stops none. What was given up may hang on in its thread; beyond a few of these no further read is
//! begun.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::CatalogError;

/// Components read at once, of those that are needed and of those that are pushed. Those of most guests are read in a
/// few milliseconds.
const AT_ONCE: usize = 2;

/// How long a caller waits for its permit at most.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads that hang at most: each holds a thread, and what it has read so far.
const HANGING: usize = 4;

/// What a component is read for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LoadFor {
    /// A release that is to answer.
    Need,
    /// A push: any number of these keeps no release from answering.
    Push,
}

/// Permits to read compiled components.
pub(crate) struct Loads {
    needed: Arc<Semaphore>,
    pushed: Arc<Semaphore>,
    hanging: TaskTracker,
    read_timeout: Duration,
}

impl Loads {
    pub(crate) fn new() -> Self {
        Self {
            needed: Arc::new(Semaphore::new(AT_ONCE)),
            pushed: Arc::new(Semaphore::new(AT_ONCE)),
            hanging: TaskTracker::new(),
            read_timeout: READ_TIMEOUT,
        }
    }

    /// Waits for a permit, and not too long.
    pub(crate) async fn permit(&self, reason: LoadFor) -> Result<OwnedSemaphorePermit, CatalogError> {
        let permits = match reason {
            LoadFor::Need => &self.needed,
            LoadFor::Push => &self.pushed,
        };
        match timeout(WAIT_TIMEOUT, Arc::clone(permits).acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| CatalogError::Stopping),
            Err(_) => Err(CatalogError::CompilerBusy),
        }
    }

    /// Reads off the async threads, when there is a permit. `None` if that takes too long, or other reads hang.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        reason: LoadFor,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, CatalogError> {
        let permit = self.permit(reason).await?;
        if self.hanging.len() >= HANGING {
            return Ok(None);
        }
        let (hanging, limit) = (self.hanging.clone(), self.read_timeout);
        // A task of its own: it holds the permit also when the caller stops waiting.
        let task = tokio::spawn(async move {
            let _permit = permit;
            let mut reading = spawn_blocking(read);
            if let Ok(read) = timeout(limit, &mut reading).await {
                return read.map(Some).map_err(|_| CatalogError::Crashed);
            }
            tracing::warn!(
                "a compiled guest could not be read within {} s and is compiled instead: GUEST_CACHE_DIR hangs",
                limit.as_secs()
            );
            hanging.spawn(reading);
            Ok(None)
        });
        task.await.map_err(|_| CatalogError::Crashed)?
    }

    /// Refuses the callers that wait, and those that come later.
    pub(crate) fn stop(&self) {
        self.needed.close();
        self.pushed.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn reads_that_hang_delay_others_and_stop_none() {
        let loads = Loads { read_timeout: Duration::from_millis(50), ..Loads::new() };
        let mut held = Vec::new();
        for _ in 0..HANGING {
            let (end, ended) = mpsc::channel::<()>();
            held.push(end);
            let hangs = loads.read(LoadFor::Need, move || ended.recv().is_ok()).await;
            assert_eq!(hangs.unwrap(), None, "it is given up");
            let other = loads.read(LoadFor::Push, || 1).await.unwrap();
            assert_eq!(other, Some(1).filter(|_| held.len() < HANGING), "{}", held.len());
        }
        drop(held);
        loads.hanging.close();
        loads.hanging.wait().await;
        assert_eq!(loads.read(LoadFor::Need, || 2).await.unwrap(), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn pushes_keep_no_needed_load_waiting_and_a_stop_ends_all() {
        let loads = Loads::new();
        let pushes = Arc::clone(&loads.pushed).acquire_many_owned(2).await.unwrap();
        assert!(matches!(loads.read(LoadFor::Push, || 1).await, Err(CatalogError::CompilerBusy)));
        assert_eq!(loads.read(LoadFor::Need, || 2).await.unwrap(), Some(2));
        drop(pushes);
        loads.stop();
        assert!(matches!(loads.read(LoadFor::Need, || 3).await, Err(CatalogError::Stopping)));
    }
}
