//! Deliveries of claimed messages: how each ends, and that the end is stored.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt as _;
use store::{
    StoreError,
    queue::{Outcome, QueuedRow},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use types::QueueItemId;

use crate::{
    Messaging,
    caller::Caller,
    delivery::{BusyDelivery, Delivery, Origin, SendOptions, Undelivered},
    error::DeliveryError,
    headers::MessageHeaders,
    limits::{
        ATTEMPT_BACK_OFF, CLAIMED_DELIVERIES, DELIVERY_TIMEOUT, LONGEST_BACK_OFF, MAX_ATTEMPTS,
        STORE_OUTCOME_PAUSES, UNREACHED_BACK_OFF,
    },
    pending::Trigger,
};

/// Messages that this server claimed and delivers.
#[derive(Debug)]
pub(crate) struct Claimed {
    ids: Mutex<HashSet<QueueItemId>>,
    permits: Arc<Semaphore>,
}

/// The right to one delivery more. A bound on memory: each holds a message, and its answer for a moment.
pub(crate) type Permit = OwnedSemaphorePermit;

/// One of the messages, until it is dropped.
#[derive(Debug)]
pub(crate) struct RunningClaim {
    claimed: Arc<Claimed>,
    id: QueueItemId,
    _permit: Permit,
}

impl Default for Claimed {
    fn default() -> Self {
        Self { ids: Mutex::default(), permits: Arc::new(Semaphore::new(CLAIMED_DELIVERIES)) }
    }
}

impl Claimed {
    /// None while this server delivers as many messages as it may.
    pub(crate) fn permit(&self) -> Option<Permit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    pub(crate) fn begin(self: &Arc<Self>, id: QueueItemId, permit: Permit) -> RunningClaim {
        self.lock().insert(id);
        RunningClaim { claimed: Arc::clone(self), id, _permit: permit }
    }

    pub(crate) fn ids(&self) -> HashSet<QueueItemId> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<QueueItemId>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunningClaim {
    fn drop(&mut self) {
        self.claimed.lock().remove(&self.id);
    }
}

impl Messaging {
    /// Delivers a claimed message and stores how that ended, however long the database is away.
    pub(crate) async fn deliver_claimed(&self, row: QueuedRow) {
        let (id, claim, workspace, began) = (row.id, row.claim, row.workspace_id, Instant::now());
        let outcome = self.deliver_once_more(row).await;
        // Only the outcome is kept while the database is away, not the message.
        self.store_outcome(id, claim, &outcome).await;
        match &outcome {
            // An agent that reported meanwhile may be elsewhere: this try says nothing about it.
            Outcome::Unreached { .. } if self.pending.has_reported_since(workspace, began) => {
                self.drain(workspace, Trigger::Heartbeat);
            }
            Outcome::Unreached { .. } | Outcome::Returned | Outcome::Dropped(_) => {}
            Outcome::Completed | Outcome::Failed(_) | Outcome::Attempted { .. } => {
                self.drain(workspace, Trigger::Due);
            }
        }
    }

    async fn deliver_once_more(&self, row: QueuedRow) -> Outcome {
        let workspace = row.workspace_id;
        let caller = row.caller_id.map_or(Caller::User, Caller::Workspace);
        let deadline = Some(Instant::now() + DELIVERY_TIMEOUT);
        let headers = MessageHeaders::from_stored(row.hops, row.headers.as_deref());
        if let Some(hops) = headers.excess_hops() {
            return Outcome::Failed(DeliveryError::Loop { hops }.in_full());
        }
        let sent = match self.prepare(workspace, row.body.as_bytes(), caller).await {
            Ok(delivery) => {
                let options = SendOptions { deadline, headers, streaming: false };
                self.dispatch(Delivery { origin: Origin::Queue, ..delivery }, options).await
            }
            Err(error) => Err(error.into()),
        };
        let error = match sent {
            Ok(_) => {
                self.pending.reached(workspace);
                return Outcome::Completed;
            }
            // What was cut by the end of this server has no outcome.
            Err(Undelivered::Busy(_)) if self.stopping.is_cut() => return Outcome::Returned,
            Err(Undelivered::Busy(busy)) => {
                let BusyDelivery { entry, reached, .. } = *busy;
                let why = entry.error_detail.as_deref().unwrap_or_default();
                let error = format!("workspace agent busy: {why}");
                if !reached {
                    return self.unreached(&row, error);
                }
                self.log_behind(entry).await;
                return self.attempted(&row, error);
            }
            Err(Undelivered::Failed(error)) => error,
        };
        if error.was_delivered() {
            self.pending.reached(workspace);
            return Outcome::Completed;
        }
        match &error {
            DeliveryError::NotFound => Outcome::Dropped("its workspace was removed".to_owned()),
            error if error.is_final() => Outcome::Failed(error.in_full()),
            error if error.reached_agent() => self.attempted(&row, error.in_full()),
            error => self.unreached(&row, error.in_full()),
        }
    }

    fn attempted(&self, row: &QueuedRow, error: String) -> Outcome {
        self.pending.reached(row.workspace_id);
        let delay = back_off(ATTEMPT_BACK_OFF, u32::try_from(row.attempts).unwrap_or(1));
        self.pending.wake_at(row.workspace_id, Instant::now() + delay);
        Outcome::Attempted { error, max_attempts: MAX_ATTEMPTS, not_before: store::now() + delay }
    }

    fn unreached(&self, row: &QueuedRow, error: String) -> Outcome {
        let id = row.workspace_id;
        let unreached = self.pending.unreached(id).max(u32::try_from(row.unreached).unwrap_or(0)) + 1;
        let delay = back_off(UNREACHED_BACK_OFF, unreached);
        tracing::debug!(workspace = %id, error, unreached, "a queued message did not reach its agent");
        self.pending.back_off(id, unreached, Instant::now() + delay);
        Outcome::Unreached { error, not_before: store::now() + delay }
    }

    /// Stores an outcome, and tries until it is stored.
    async fn store_outcome(&self, id: QueueItemId, claim: i64, outcome: &Outcome) {
        let mut pauses = STORE_OUTCOME_PAUSES.into_iter();
        let mut pause = Duration::ZERO;
        while let Err(error) = self.fleet.store().finish_claim(id, claim, outcome).await {
            unstored(id, &error);
            pause = pauses.next().unwrap_or(pause);
            sleep(pause).await;
        }
    }
}

fn unstored(item: QueueItemId, error: &StoreError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(%item, error, "the outcome of a delivery is kept until it can be stored");
}

/// The pause after the `count`th failure in a row: doubles up to a cap, and differs by a fifth so that many messages
/// don't come back at once.
fn back_off(first: Duration, count: u32) -> Duration {
    let doubled = first.saturating_mul(1 << count.saturating_sub(1).min(16));
    doubled.min(LONGEST_BACK_OFF.to_std().unwrap_or(doubled)).mul_f64(rand::rng().random_range(0.8..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_a_cap_and_varies() {
        for (count, longest) in [(0, 1), (1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (4_000, 300)] {
            let pause = back_off(Duration::from_secs(1), count);
            let longest = Duration::from_secs(longest);
            assert!(pause <= longest && pause >= longest.mul_f64(0.79), "{count}: {pause:?}");
        }
    }
}
