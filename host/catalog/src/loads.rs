//! How many compiled components are read at once. Each is a file of up to 128 MiB, which is in memory twice for a moment:
//! read, and copied into executable memory.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::CatalogError;

/// Components read at once. Those of most guests are read in a few milliseconds.
const AT_ONCE: usize = 2;

/// How long a caller waits at most.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Permits to read a compiled component.
pub(crate) struct Loads(Arc<Semaphore>);

impl Loads {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Waits for a permit, and not too long.
    pub(crate) async fn permit(&self) -> Result<OwnedSemaphorePermit, CatalogError> {
        match timeout(WAIT_TIMEOUT, Arc::clone(&self.0).acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| CatalogError::Stopping),
            Err(_) => Err(CatalogError::CompilerBusy),
        }
    }

    /// Refuses the callers that wait, and those that come later.
    pub(crate) fn stop(&self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn loads_are_bounded_in_number_and_time_and_end_with_the_server() {
        let loads = Loads::new();
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(loads.permit().await.ok().unwrap());
        }
        assert!(matches!(loads.permit().await, Err(CatalogError::CompilerBusy)), "after a minute");
        held.pop();
        assert!(loads.permit().await.is_ok());
        loads.stop();
        assert!(matches!(loads.permit().await, Err(CatalogError::Stopping)));
    }
}
