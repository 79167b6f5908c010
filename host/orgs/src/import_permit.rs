//! Templates are read and imported one after another: what one becomes in memory may be a hundred times as large.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{ImportError, Orgs};

/// How long an import waits for the others.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A permit to read templates, and to import one.
#[derive(Debug)]
pub struct ImportPermit {
    _permit: OwnedSemaphorePermit,
}

/// The permits of one server.
pub(crate) fn permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(1))
}

impl Orgs {
    /// Waits for earlier imports.
    ///
    /// # Errors
    /// If they take longer than a minute.
    pub async fn import_permit(&self) -> Result<ImportPermit, ImportError> {
        let permit = timeout(WAIT_TIMEOUT, Arc::clone(&self.imports).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(ImportError::Busy)?;
        Ok(ImportPermit { _permit: permit })
    }
}
