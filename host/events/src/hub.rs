//! Publishes envelopes to the subscribers of this process whose filter accepts them. Publishing never waits.
//!
//! Each subscriber has a bounded queue of its own behind a lock of its own, held for a push or a
//! pop. The list of subscribers is swapped whole, so publishing takes no lock on it.
//!
//! When a queue is full, by its number of events or by their bytes, heartbeats are dropped first: the new one or one that waits. An ephemeral event
//! that still finds no room is dropped and counted. Any other event was stored and must not be missed
//! without notice, so its subscription ends as lagged, and the subscriber reads the store instead.
//!
//! A subscriber receives the events of one publisher in their order. Concurrent publishers have no common
//! order, so stored events need one publisher, which publishes them by `seq`.

mod queue;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use types::WorkspaceId;

use self::queue::{End, Queue};
use crate::Envelope;

/// Where envelopes are published and subscribed to. Cheap to clone. Subscriptions end when the
/// last clone is dropped.
#[derive(Clone, Default)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// A subscriber's end. Dropping it unsubscribes.
pub struct Subscription {
    subscriber: Arc<Subscriber>,
    hub: Weak<Shared>,
}

/// What a subscriber receives.
#[derive(Debug)]
pub enum Received {
    /// The next event.
    Event(Arc<Envelope>),
    /// A stored event found no room, and the queue was discarded with it. Comes once and last.
    Lagged,
    /// The subscription ended.
    Closed,
}

/// Is told of each event of a workspace that clients may see, on the publisher's thread: it returns at once.
pub trait PublishObserver: Send + Sync {
    /// An event of this workspace was published, or would have been if anyone had subscribed.
    fn on_published(&self, workspace: WorkspaceId);
}

#[derive(Default)]
struct Shared {
    subscribers: ArcSwap<Subscribers>,
    observer: OnceLock<Arc<dyn PublishObserver>>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Subscribers {
    closed: bool,
    list: Box<[Arc<Subscriber>]>,
}

struct Subscriber {
    filter: Box<dyn Fn(&Envelope) -> bool + Send + Sync>,
    queue: Mutex<Queue>,
    // One waiter at most, as `next` borrows the subscription mutably; a permit left by
    // `notify_one` is found by the next wait, so no wake-up is lost.
    filled: Notify,
}

// === impl Hub ===

impl Hub {
    /// Publishes to every subscriber whose filter accepts the envelope, whatever its class.
    #[expect(clippy::needless_pass_by_value, reason = "a publisher has no further use of it")]
    pub fn publish(&self, envelope: Arc<Envelope>) {
        if let Some(workspace) = envelope.workspace_id().filter(|_| envelope.is_client_visible()) {
            self.note(workspace);
        }
        let mut dropped = 0;
        for subscriber in &self.shared.subscribers.load().list {
            if (subscriber.filter)(&envelope) {
                dropped += subscriber.offer(&envelope);
            }
        }
        if dropped > 0 {
            self.shared.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
    }

    /// Tells the observer of an event that is not published because it would reach no subscriber.
    pub fn note(&self, workspace: WorkspaceId) {
        if let Some(observer) = self.shared.observer.get() {
            observer.on_published(workspace);
        }
    }

    /// Sets the observer of all events. Only the first one stays.
    pub fn observe(&self, observer: Arc<dyn PublishObserver>) {
        let _ = self.shared.observer.set(observer);
    }

    /// Subscribes to the events that `filter` accepts, from now on. At most `capacity` events wait, and at
    /// least one; large ones may be fewer. `filter` runs on the publisher's thread without any lock held, so it must be
    /// quick. Filters for clients ask [`Envelope::is_client_visible`] first.
    #[must_use]
    pub fn subscribe(
        &self,
        capacity: usize,
        filter: impl Fn(&Envelope) -> bool + Send + Sync + 'static,
    ) -> Subscription {
        let subscriber = Arc::new(Subscriber {
            filter: Box::new(filter),
            queue: Mutex::new(Queue::new(capacity)),
            filled: Notify::new(),
        });
        let before = self.shared.subscribers.rcu(|subscribers| {
            if subscribers.closed {
                return Arc::clone(subscribers);
            }
            let all = subscribers.list.iter().chain([&subscriber]).cloned().collect();
            Arc::new(Subscribers { closed: false, list: all })
        });
        if before.closed {
            subscriber.close();
        }
        Subscription { subscriber, hub: Arc::downgrade(&self.shared) }
    }

    /// Ends all subscriptions, also those still to come. What waits is still delivered.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Number of subscriptions.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.shared.subscribers.load().list.len()
    }

    /// Number of dropped events, counted per subscriber, without those of lagged subscriptions.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

// === impl Shared ===

impl Shared {
    fn close(&self) {
        let before = self.subscribers.swap(Arc::new(Subscribers { closed: true, list: Box::default() }));
        for subscriber in &before.list {
            subscriber.close();
        }
    }

    fn remove(&self, gone: &Arc<Subscriber>) {
        self.subscribers.rcu(|subscribers| Subscribers {
            closed: subscribers.closed,
            list: subscribers.list.iter().filter(|one| !Arc::ptr_eq(one, gone)).cloned().collect(),
        });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl Subscription ===

impl Subscription {
    /// Waits for the next event. Canceling the wait loses no event.
    pub async fn next(&mut self) -> Received {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.subscriber.filled.notified().await;
        }
    }

    /// The next event, if there is one now.
    pub fn try_next(&mut self) -> Option<Received> {
        let mut queue = self.subscriber.queue();
        if let Some(envelope) = queue.pop() {
            return Some(Received::Event(envelope));
        }
        Some(match queue.end()? {
            End::Lagged => Received::Lagged,
            End::Closed => Received::Closed,
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.remove(&self.subscriber);
        }
    }
}

// === impl Subscriber ===

impl Subscriber {
    /// Puts `envelope` into the queue if there is space. Returns how many events were dropped for it.
    fn offer(&self, envelope: &Arc<Envelope>) -> u64 {
        let dropped = self.queue().push(envelope);
        self.filled.notify_one();
        dropped
    }

    fn close(&self) {
        self.queue().close();
        self.filled.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
