//! How much of memory imports take at once. A request's body is held from its first byte on, and what a template becomes
//! may be a hundred times as large: so bodies share a budget, and templates are read and imported one after another.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{ImportError, Orgs};

/// Bytes of all bodies of imports together: two of the largest.
const BODIES_KIB: u32 = 64 << 10;

/// How long an import waits for the others.
const PATIENCE: Duration = Duration::from_secs(60);

/// What imports and listings of one server share.
#[derive(Debug, Clone)]
pub(crate) struct Capacity {
    bodies: Arc<Semaphore>,
    work: Arc<Semaphore>,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { bodies: Arc::new(Semaphore::new(BODIES_KIB as usize)), work: Arc::new(Semaphore::new(1)) }
    }
}

/// A permit for a body of an import, held as long as the body is.
#[derive(Debug)]
pub struct Admission {
    _bytes: OwnedSemaphorePermit,
}

/// A permit to read a template and import it.
#[derive(Debug)]
pub struct Turn {
    _work: OwnedSemaphorePermit,
}

impl Orgs {
    /// Admits a body of at most so many bytes, before it is read.
    ///
    /// # Errors
    /// If the bodies of other imports leave no room for a minute.
    pub async fn admit(&self, bytes: usize) -> Result<Admission, ImportError> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(BODIES_KIB).clamp(1, BODIES_KIB);
        let permit = timeout(PATIENCE, Arc::clone(&self.capacity.bodies).acquire_many_owned(kib)).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(ImportError::Busy)?;
        Ok(Admission { _bytes: permit })
    }

    /// Waits for earlier imports.
    ///
    /// # Errors
    /// If they take longer than a minute.
    pub async fn turn(&self) -> Result<Turn, ImportError> {
        let permit = timeout(PATIENCE, Arc::clone(&self.capacity.work).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(ImportError::Busy)?;
        Ok(Turn { _work: permit })
    }
}
