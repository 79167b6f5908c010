//! What the bodies of all requests of this process may take in memory.
//!
//! | Bodies | Part |
//! |---|---|
//! | up to [`FREE`] bytes | not counted; as many as connections |
//! | of callers that were not admitted (messages, registrations), announced with up to [`SMALL`] bytes | a sixth |
//! | the same, larger or not announced | a sixth |
//! | of admitted callers, announced with up to [`SMALL`] bytes | a sixth, and what is free of the half |
//! | of admitted callers, larger or not announced (guests, org templates) | a half |
//!
//! So bodies of strangers keep no admitted caller from sending anything, and their large ones no stranger from sending
//! a message. A body is counted as it arrives: who only announces one takes nothing. Those of admitted callers with more
//! than [`MESSAGE`] bytes are counted at once with what they announce, so that two of them never wait for each other.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes up to which a body is not counted: heartbeats are smaller.
pub(crate) const FREE: usize = 4 * 1024;
/// Bytes of an announced body up to which it counts as small.
pub(crate) const SMALL: usize = 64 * 1024;
/// Bytes of a message at most. Guests and org templates have more.
const MESSAGE: usize = 1 << 20;
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
    /// Small bodies of strangers.
    small_strange: Arc<Part>,
    strange: Arc<Part>,
    /// Small bodies of admitted callers.
    small_admitted: Arc<Part>,
    admitted: Arc<Part>,
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
            Arc::new(Part { free: Arc::new(Semaphore::new(bytes)), bytes })
        };
        Self {
            small_strange: part(bytes / 6),
            strange: part(bytes / 6),
            small_admitted: part(bytes / 6),
            admitted: part(bytes / 2),
        }
    }

    /// Reserves memory for a body that announces `bytes`, which are all of it if `whole`.
    pub(crate) async fn reserve(
        &self,
        bytes: usize,
        whole: bool,
        admitted: bool,
    ) -> Result<Reserved, NoMemory> {
        let small = whole && bytes <= SMALL;
        let part = match (admitted, small) {
            (false, true) => &self.small_strange,
            (false, false) => &self.strange,
            (true, true) => &self.small_admitted,
            (true, false) => &self.admitted,
        };
        let overflow = (admitted && small).then(|| Arc::clone(&self.admitted));
        let mut reserved = Reserved { part: Arc::clone(part), overflow, permit: None };
        if admitted && bytes > MESSAGE {
            reserved.extend(bytes).await?;
        }
        Ok(reserved)
    }

    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        [&self.small_strange, &self.strange, &self.small_admitted, &self.admitted]
            .iter()
            .all(|part| part.free.available_permits() == part.bytes)
    }
}

impl Part {
    /// A body that is larger than the part has all of it.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX)
    }

    fn try_acquire(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(self.permits(bytes)).ok()
    }

    async fn acquire(&self, bytes: usize) -> Result<OwnedSemaphorePermit, NoMemory> {
        let waited = timeout(WAIT, Arc::clone(&self.free).acquire_many_owned(self.permits(bytes))).await;
        waited.ok().and_then(Result::ok).ok_or(NoMemory)
    }
}

/// Memory that is reserved for one body.
#[derive(Debug)]
pub(crate) struct Reserved {
    part: Arc<Part>,
    /// Takes the body where the part is full.
    overflow: Option<Arc<Part>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Reserved {
    pub(crate) fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Reserves memory up to `bytes`.
    pub(crate) async fn extend(&mut self, bytes: usize) -> Result<(), NoMemory> {
        let more = bytes.saturating_sub(self.bytes());
        let permit = match (self.part.try_acquire(more), self.overflow.take()) {
            (Some(permit), overflow) => {
                self.overflow = overflow;
                permit
            }
            (None, Some(overflow)) => {
                // All of it: permits of two parts are not one.
                self.permit = Some(overflow.acquire(bytes).await?);
                self.part = overflow;
                return Ok(());
            }
            (None, None) => self.part.acquire(more).await?,
        };
        match &mut self.permit {
            Some(before) => before.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    /// Ties the memory to the body that is in it.
    pub(crate) fn hold(self, body: Bytes) -> Bytes {
        match self.permit {
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
