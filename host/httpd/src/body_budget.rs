//! What the bodies of all requests of this process may take in memory.
//!
//! | Bodies | Part |
//! |---|---|
//! | up to [`FREE`] bytes | not counted; as many as connections |
//! | announced with up to [`SMALL`] bytes | a third |
//! | of callers that were not admitted (messages, registrations) | a sixth |
//! | of admitted callers (guests, org templates) | a half |
//!
//! So large bodies of strangers keep nobody from sending a message or from pushing a guest. A body is counted with the
//! bytes that it announces, and grows where it announces none.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes up to which a body is not counted: heartbeats are smaller.
pub(crate) const FREE: usize = 4 * 1024;
/// Bytes of an announced body up to which it counts as small.
pub(crate) const SMALL: usize = 64 * 1024;
/// How long a body waits for memory.
pub(crate) const WAIT: Duration = Duration::from_secs(5);

/// Bytes of all bodies, unless the setting says otherwise.
const DEFAULT: usize = 192 << 20;

static PROCESS: OnceLock<Budget> = OnceLock::new();

/// Sets the budget of this process, in bytes. It has to be done before the first request.
pub fn set(bytes: usize) {
    if PROCESS.set(Budget::new(bytes)).is_err() {
        tracing::debug!("the budget of request bodies was set before");
    }
}

pub(crate) fn of_process() -> &'static Budget {
    PROCESS.get_or_init(|| Budget::new(DEFAULT))
}

/// Other bodies take the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// The budget.
#[derive(Debug)]
pub(crate) struct Budget {
    small: Part,
    strangers: Part,
    admitted: Part,
}

#[derive(Debug)]
struct Part {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let part = |bytes: usize| {
            let bytes = bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
            Part { free: Arc::new(Semaphore::new(bytes)), bytes }
        };
        Self { small: part(bytes / 3), strangers: part(bytes / 6), admitted: part(bytes / 2) }
    }

    /// Reserves memory for a body. `whole`: these are all of its bytes.
    pub(crate) async fn reserve(
        &self,
        bytes: usize,
        whole: bool,
        admitted: bool,
    ) -> Result<Reserved, NoMemory> {
        if bytes <= FREE {
            return Ok(Reserved(None));
        }
        let part = if whole && bytes <= SMALL { &self.small } else { self.part(admitted) };
        part.acquire(bytes).await.map(|permit| Reserved(Some(permit)))
    }

    /// Reserves memory up to `bytes` for a body that is larger than expected.
    pub(crate) async fn extend(
        &self,
        reserved: &mut Reserved,
        bytes: usize,
        admitted: bool,
    ) -> Result<(), NoMemory> {
        let more = bytes.saturating_sub(reserved.bytes());
        let permit = self.part(admitted).acquire(more).await?;
        match &mut reserved.0 {
            Some(before) => before.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    fn part(&self, admitted: bool) -> &Part {
        if admitted { &self.admitted } else { &self.strangers }
    }

    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        [&self.small, &self.strangers, &self.admitted]
            .iter()
            .all(|part| part.free.available_permits() == part.bytes)
    }
}

impl Part {
    async fn acquire(&self, bytes: usize) -> Result<OwnedSemaphorePermit, NoMemory> {
        // A body that is larger than the part has all of it.
        let permits = u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX);
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_many_owned(permits) {
            return Ok(permit);
        }
        let waited = timeout(WAIT, Arc::clone(&self.free).acquire_many_owned(permits)).await;
        waited.ok().and_then(Result::ok).ok_or(NoMemory)
    }
}

/// Memory that is reserved for one body.
#[derive(Debug)]
pub(crate) struct Reserved(Option<OwnedSemaphorePermit>);

impl Reserved {
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Ties the memory to the body that is in it.
    pub(crate) fn hold(self, body: Bytes) -> Bytes {
        match self.0 {
            Some(permit) => Bytes::from_owner(Held { body, _permit: permit }),
            None => body,
        }
    }
}

struct Held {
    body: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}
