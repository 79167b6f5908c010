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
//! One credential has [`SHARE`] of the half, for its small and large bodies together, and all credentials leave as much
//! to the operator's, which has no such limit.
//!
//! So bodies of strangers keep no admitted caller from sending anything, and their large ones no stranger from sending
//! a message. A body is counted as it arrives: who only announces one takes nothing. Those of admitted callers with
//! more than [`MESSAGE`] bytes are counted at once with what they announce, so that two of them never wait for each
//! other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

/// Bytes up to which a body is not counted: heartbeats are smaller.
pub(crate) const FREE: usize = 4 * 1024;
/// Bytes of an announced body up to which it counts as small.
pub const SMALL: usize = 64 * 1024;
/// Bytes of a message at most. Guests and org templates have more.
const MESSAGE: usize = 1 << 20;
/// The part of the half for admitted callers that bodies of one credential may take.
const SHARE: usize = 4;
/// Up to this number, shares without bodies are not looked for.
const FEW_SHARES: usize = 64;
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

/// Marks a request whose caller was admitted: its body is counted apart from those of strangers.
#[derive(Debug, Clone, Copy)]
pub struct Admitted {
    /// The credential whose bodies have a share of their own. None: the operator's, which have no limit but that of
    /// all.
    pub credential: Option<Uuid>,
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
    /// What all credentials but the operator's may take of both.
    credentials: Arc<Part>,
    shares: Mutex<Shares>,
}

/// What bodies of one credential may take. A share without a body is dropped.
#[derive(Debug, Default)]
struct Shares {
    by_credential: HashMap<Uuid, Weak<Part>>,
    /// The number of entries at which those of dropped shares are removed.
    sweep_at: usize,
}

#[derive(Debug)]
struct Part {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let part = |bytes| Arc::new(Part::new(bytes));
        Self {
            small_strange: part(bytes / 6),
            strange: part(bytes / 6),
            small_admitted: part(bytes / 6),
            admitted: part(bytes / 2),
            credentials: part(bytes / 6 + bytes / 2 - bytes / 2 / SHARE),
            shares: Mutex::default(),
        }
    }

    /// Reserves memory for a body that announces `bytes`, which are all of it if `whole`.
    pub(crate) async fn reserve(
        &self,
        bytes: usize,
        whole: bool,
        admitted: Option<Admitted>,
    ) -> Result<Reserved<'_>, NoMemory> {
        let small = whole && bytes <= SMALL;
        let part = match (admitted, small) {
            (None, true) => &self.small_strange,
            (None, false) => &self.strange,
            (Some(_), true) => &self.small_admitted,
            (Some(_), false) => &self.admitted,
        };
        let overflow = (admitted.is_some() && small).then(|| Arc::clone(&self.admitted));
        // The share is looked up when the first bytes are counted: most bodies never are.
        let credential = admitted.and_then(|admitted| admitted.credential);
        let mut reserved = Reserved {
            budget: self,
            part: Arc::clone(part),
            overflow,
            credential,
            held: Held { permit: None, shares: None },
        };
        if admitted.is_some() && bytes > MESSAGE {
            reserved.extend(bytes).await?;
        }
        Ok(reserved)
    }

    fn share(&self, credential: Uuid) -> Arc<Part> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let Shares { by_credential, sweep_at } = &mut *shares;
        if let Some(share) = by_credential.get(&credential).and_then(Weak::upgrade) {
            return share;
        }
        if by_credential.len() >= *sweep_at {
            by_credential.retain(|_, share| share.strong_count() > 0);
            *sweep_at = by_credential.len().saturating_mul(2).max(FEW_SHARES);
        }
        let share = Arc::new(Part::new(self.admitted.bytes / SHARE));
        by_credential.insert(credential, Arc::downgrade(&share));
        share
    }

    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        [&self.small_strange, &self.strange, &self.small_admitted, &self.admitted, &self.credentials]
            .iter()
            .all(|part| part.free.available_permits() == part.bytes)
    }
}

impl Part {
    fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self { free: Arc::new(Semaphore::new(bytes)), bytes }
    }

    /// The permits that lead from `held` to a body of `bytes`. One that is larger than the part has all of it.
    fn permits(&self, held: usize, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.bytes).saturating_sub(held)).unwrap_or(u32::MAX)
    }

    fn try_acquire(&self, permits: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(permits).ok()
    }

    async fn acquire(&self, permits: u32) -> Result<OwnedSemaphorePermit, NoMemory> {
        let waited = timeout(WAIT, Arc::clone(&self.free).acquire_many_owned(permits)).await;
        waited.ok().and_then(Result::ok).ok_or(NoMemory)
    }
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(more),
        none => *none = Some(more),
    }
}

fn count(held: Option<&OwnedSemaphorePermit>) -> usize {
    held.map_or(0, OwnedSemaphorePermit::num_permits)
}

/// Memory that is reserved for one body.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    budget: &'a Budget,
    part: Arc<Part>,
    /// Takes the body where the part is full.
    overflow: Option<Arc<Part>>,
    credential: Option<Uuid>,
    held: Held,
}

/// The permits of a body.
#[derive(Debug)]
struct Held {
    permit: Option<OwnedSemaphorePermit>,
    /// The share of its credential and what all credentials may take, with the permits of each.
    shares: Option<[(Arc<Part>, Option<OwnedSemaphorePermit>); 2]>,
}

impl Reserved<'_> {
    pub(crate) fn bytes(&self) -> usize {
        count(self.held.permit.as_ref())
    }

    /// Reserves memory up to `bytes`.
    pub(crate) async fn extend(&mut self, bytes: usize) -> Result<(), NoMemory> {
        if let Some(credential) = self.credential {
            let budget = self.budget;
            let shares =
                || [budget.share(credential), Arc::clone(&budget.credentials)].map(|part| (part, None));
            for (share, held) in self.held.shares.get_or_insert_with(shares) {
                let permits = share.permits(count(held.as_ref()), bytes);
                merge(held, share.acquire(permits).await?);
            }
        }
        let permits = self.part.permits(self.bytes(), bytes);
        let permit = match (self.part.try_acquire(permits), self.overflow.take()) {
            (Some(permit), overflow) => {
                self.overflow = overflow;
                permit
            }
            (None, Some(overflow)) => {
                // All of it: permits of two parts are not one.
                self.held.permit = Some(overflow.acquire(overflow.permits(0, bytes)).await?);
                self.part = overflow;
                return Ok(());
            }
            (None, None) => self.part.acquire(permits).await?,
        };
        merge(&mut self.held.permit, permit);
        Ok(())
    }

    /// Gives back what is reserved beyond `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let Held { permit, shares } = &mut self.held;
        let shares = shares.iter_mut().flatten().filter_map(|(_, permit)| permit.as_mut());
        for permit in permit.iter_mut().chain(shares) {
            drop(permit.split(permit.num_permits().saturating_sub(bytes)));
        }
    }

    /// Ties the memory to the body that is in it.
    pub(crate) fn hold(self, body: Bytes) -> Bytes {
        match self.held.permit {
            Some(_) => hold(body, self.held),
            None => body,
        }
    }
}

/// Bytes that keep `held` until the last part of them is dropped.
pub fn hold<T: Send + 'static>(bytes: Bytes, held: T) -> Bytes {
    Bytes::from_owner(HeldBytes { bytes, _held: held })
}

struct HeldBytes<T> {
    bytes: Bytes,
    _held: T,
}

impl<T> AsRef<[u8]> for HeldBytes<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
