//! Templates are read and imported one after another: what one becomes in memory may be a hundred times as large.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{ImportError, Orgs};

/// How long an import waits for the others.
const PATIENCE: Duration = Duration::from_secs(60);

/// What imports and listings of one server share.
#[derive(Debug, Clone)]
pub(crate) struct Capacity(Arc<Semaphore>);

impl Default for Capacity {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// A permit to read a template and import it.
#[derive(Debug)]
pub struct Turn {
    _work: OwnedSemaphorePermit,
}

impl Orgs {
    /// Waits for earlier imports.
    ///
    /// # Errors
    /// If they take longer than a minute.
    pub async fn turn(&self) -> Result<Turn, ImportError> {
        let permit = timeout(PATIENCE, Arc::clone(&self.capacity.0).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(ImportError::Busy)?;
        Ok(Turn { _work: permit })
    }
}
