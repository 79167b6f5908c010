//! Publishes envelopes to the subscribers of this process whose filter accepts them. Publishing never waits.
//!
//! Each subscriber has a bounded queue of its own behind a lock of its own, held for a push or a
//! pop. The list of subscribers is swapped whole, so publishing takes no lock on it.
//!
//! When a queue is full, heartbeats are dropped first: the new one or one that waits. An ephemeral event
//! that still finds no room is dropped and counted. Any other event was stored and must not be missed
//! without notice, so its subscription ends as lagged, and the subscriber reads the store instead.
//!
//! A subscriber receives the events of one publisher in their order. Concurrent publishers have no common
//! order, so stored events need one publisher, which publishes them by `seq`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use types::WorkspaceId;

use crate::{Class, Envelope};

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
    capacity: usize,
    filter: Box<dyn Fn(&Envelope) -> bool + Send + Sync>,
    queue: Mutex<Queue>,
    // One waiter at most, as `next` borrows the subscription mutably; a permit left by
    // `notify_one` is found by the next wait, so no wake-up is lost.
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Envelope>>,
    end: Option<End>,
}

/// Why the queue takes no more events.
enum End {
    Lagged,
    Closed,
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
    /// least one. `filter` runs on the publisher's thread without any lock held, so it must be
    /// quick. Filters for clients ask [`Envelope::is_client_visible`] first.
    #[must_use]
    pub fn subscribe(
        &self,
        capacity: usize,
        filter: impl Fn(&Envelope) -> bool + Send + Sync + 'static,
    ) -> Subscription {
        let subscriber = Arc::new(Subscriber {
            capacity: capacity.max(1),
            filter: Box::new(filter),
            queue: Mutex::default(),
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
        if let Some(envelope) = queue.waiting.pop_front() {
            return Some(Received::Event(envelope));
        }
        match queue.end {
            None => None,
            Some(End::Lagged) => {
                queue.end = Some(End::Closed);
                Some(Received::Lagged)
            }
            Some(End::Closed) => Some(Received::Closed),
        }
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
        let dropped = self.queue().push(envelope, self.capacity);
        self.filled.notify_one();
        dropped
    }

    fn close(&self) {
        self.queue().end.get_or_insert(End::Closed);
        self.filled.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, envelope: &Arc<Envelope>, capacity: usize) -> u64 {
        if self.end.is_some() {
            return 0;
        }
        if self.waiting.len() < capacity {
            self.waiting.push_back(Arc::clone(envelope));
            return 0;
        }
        if envelope.is_heartbeat() {
            return 1;
        }
        if let Some(heartbeat) = self.waiting.iter().position(|waiting| waiting.is_heartbeat()) {
            self.waiting.remove(heartbeat);
            self.waiting.push_back(Arc::clone(envelope));
            return 1;
        }
        if envelope.class() == Class::Ephemeral {
            return 1;
        }
        self.waiting.clear();
        self.end = Some(End::Lagged);
        0
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::thread;

    use chrono::Utc;
    use types::{EventId, EventSeq};

    use super::*;
    use crate::Event;
    use crate::definitions::{Heartbeat, Task};

    fn recorded(seq: i64) -> Arc<Envelope> {
        let (name, payload) = ("WORKSPACE_OFFLINE".to_owned(), "{}".to_owned());
        Arc::new(Envelope::stored(EventId::default(), EventSeq(seq), name, None, Utc::now(), payload))
    }

    fn internal(seq: i64) -> Arc<Envelope> {
        let (name, payload) = ("isomer.token.changed".to_owned(), "{}".to_owned());
        Arc::new(Envelope::stored(EventId::default(), EventSeq(seq), name, None, Utc::now(), payload))
    }

    fn ephemeral(number: usize) -> Arc<Envelope> {
        let event = Event::TaskUpdated(Task { active_tasks: 1, current_task: number.to_string() });
        Arc::new(Envelope::ephemeral(None, &event, Utc::now()))
    }

    fn heartbeat() -> Arc<Envelope> {
        let event = Event::WorkspaceHeartbeat(Heartbeat { active_tasks: 0, uptime_seconds: 1 });
        Arc::new(Envelope::ephemeral(None, &event, Utc::now()))
    }

    /// What is in the queue, in short.
    fn drain(subscription: &mut Subscription) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(next) = subscription.try_next() {
            match next {
                Received::Event(envelope) => found.push(match (envelope.seq(), envelope.event()) {
                    (Some(seq), _) => seq.to_string(),
                    (None, Some(Event::TaskUpdated(task))) => format!("live {}", task.current_task),
                    _ => "heartbeat".to_owned(),
                }),
                Received::Lagged => found.push("overflowed".to_owned()),
                Received::Closed => {
                    found.push("closed".to_owned());
                    break;
                }
            }
        }
        found
    }

    #[test]
    fn subscribers_receive_events_that_pass_their_filter_in_order() {
        let hub = Hub::default();
        let mut all = hub.subscribe(8, |_| true);
        let mut wire = hub.subscribe(8, Envelope::is_client_visible);
        for envelope in [recorded(1), internal(2), ephemeral(3), recorded(4)] {
            hub.publish(envelope);
        }
        assert_eq!(drain(&mut all), ["1", "2", "live 3", "4"]);
        assert_eq!(drain(&mut wire), ["1", "live 3", "4"]);
        assert_eq!(hub.dropped(), 0);
    }

    #[test]
    fn subscribers_share_one_envelope() {
        let hub = Hub::default();
        let mut subscription = hub.subscribe(1, |_| true);
        let published = recorded(1);
        hub.publish(Arc::clone(&published));
        let Some(Received::Event(received)) = subscription.try_next() else { panic!("nothing came") };
        assert!(Arc::ptr_eq(&published, &received));
    }

    #[test]
    fn heartbeats_are_dropped_first() {
        let hub = Hub::default();
        let mut subscription = hub.subscribe(3, |_| true);
        for envelope in [recorded(1), heartbeat(), heartbeat(), heartbeat()] {
            hub.publish(envelope); // The third heartbeat finds no room.
        }
        assert_eq!(hub.dropped(), 1);
        hub.publish(ephemeral(2)); // Takes the place of the first.
        hub.publish(recorded(3)); // Takes the place of the second.
        assert_eq!(hub.dropped(), 3);
        hub.publish(heartbeat());
        assert_eq!(hub.dropped(), 4);
        assert_eq!(drain(&mut subscription), ["1", "live 2", "3"]);
    }

    #[test]
    fn a_live_event_without_room_is_dropped_and_the_subscription_goes_on() {
        let hub = Hub::default();
        let mut full = hub.subscribe(2, |_| true);
        let mut roomy = hub.subscribe(8, |_| true);
        for number in 0..4 {
            hub.publish(ephemeral(number));
        }
        assert_eq!(hub.dropped(), 2);
        assert_eq!(drain(&mut full), ["live 0", "live 1"]);
        hub.publish(recorded(9));
        assert_eq!(drain(&mut full), ["9"]);
        assert_eq!(drain(&mut roomy), ["live 0", "live 1", "live 2", "live 3", "9"]);
    }

    #[test]
    fn a_stored_event_without_room_cuts_its_subscriber_off() {
        for (first, overflowing) in [(ephemeral(1), recorded(2)), (recorded(1), internal(2))] {
            let hub = Hub::default();
            let mut full = hub.subscribe(1, |_| true);
            let mut roomy = hub.subscribe(8, |_| true);
            for envelope in [first, overflowing, recorded(3), ephemeral(4)] {
                hub.publish(envelope);
            }
            hub.close();
            assert_eq!(drain(&mut full), ["overflowed", "closed"]);
            assert_eq!(drain(&mut roomy).len(), 5);
            assert_eq!(hub.dropped(), 0);
        }
    }

    #[test]
    fn there_is_room_for_one_at_least() {
        let hub = Hub::default();
        let mut subscription = hub.subscribe(0, |_| true);
        hub.publish(recorded(1));
        assert_eq!(drain(&mut subscription), ["1"]);
    }

    #[tokio::test]
    async fn closing_delivers_what_waits_and_ends_all() {
        let hub = Hub::default();
        let mut early = hub.subscribe(8, |_| true);
        hub.publish(recorded(1));
        hub.close();
        hub.publish(recorded(2));
        let mut late = hub.subscribe(8, |_| true);
        hub.publish(recorded(3));
        assert_eq!(hub.subscribers(), 0);
        assert!(matches!(early.next().await, Received::Event(one) if one.seq() == Some(EventSeq(1))));
        assert!(matches!(early.next().await, Received::Closed));
        assert!(matches!(early.next().await, Received::Closed));
        assert!(matches!(late.next().await, Received::Closed));
    }

    #[tokio::test]
    async fn the_last_hub_ends_its_subscriptions() {
        let hub = Hub::default();
        let mut subscription = hub.subscribe(8, |_| true);
        drop(hub.clone());
        hub.publish(recorded(1));
        drop(hub);
        assert!(matches!(subscription.next().await, Received::Event(_)));
        assert!(matches!(subscription.next().await, Received::Closed));
    }

    #[test]
    fn dropping_a_subscription_removes_it() {
        let hub = Hub::default();
        let (first, mut second) = (hub.subscribe(1, |_| true), hub.subscribe(1, |_| true));
        let held = Arc::downgrade(&first.subscriber);
        drop(first);
        assert_eq!(hub.subscribers(), 1);
        assert!(held.upgrade().is_none());
        hub.publish(recorded(1));
        assert_eq!(drain(&mut second), ["1"]);
    }

    #[tokio::test]
    async fn a_waiting_subscriber_is_woken() {
        let hub = Hub::default();
        let mut subscription = hub.subscribe(8, |_| true);
        let waiting = tokio::spawn(async move {
            let first = subscription.next().await;
            (first, subscription.next().await)
        });
        tokio::task::yield_now().await;
        hub.publish(recorded(1));
        tokio::task::yield_now().await;
        hub.close();
        let (first, second) = waiting.await.unwrap();
        assert!(matches!(first, Received::Event(one) if one.seq() == Some(EventSeq(1))));
        assert!(matches!(second, Received::Closed));
    }

    #[test]
    fn cancelling_a_wait_loses_nothing() {
        let hub = Hub::default();
        let mut subscription = hub.subscribe(8, |_| true);
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut next = pin!(subscription.next());
            assert!(next.as_mut().poll(&mut context).is_pending());
            hub.publish(recorded(1)); // Woken, then dropped without being polled again.
        }
        let next = pin!(subscription.next()).poll(&mut context);
        assert!(matches!(next, Poll::Ready(Received::Event(one)) if one.seq() == Some(EventSeq(1))));
        // The permit that is left over from the first wait is no event.
        assert!(pin!(subscription.next()).poll(&mut context).is_pending());
    }

    #[test]
    fn many_publishers_keep_their_own_order_with_every_subscriber() {
        const PUBLISHERS: i64 = 8;
        const EVENTS: i64 = 200;
        let hub = Hub::default();
        let mut subscriptions: Vec<_> =
            (0..64).map(|_| hub.subscribe((PUBLISHERS * EVENTS) as usize, |_| true)).collect();
        thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                let hub = &hub;
                scope.spawn(move || {
                    for number in 0..EVENTS {
                        hub.publish(recorded(publisher * EVENTS + number));
                    }
                });
            }
            // Subscribers that come and go meanwhile do not affect the others.
            for _ in 0..100 {
                drop(hub.subscribe(1, |_| true));
            }
        });
        for subscription in &mut subscriptions {
            let mut next = [0; PUBLISHERS as usize];
            while let Some(Received::Event(envelope)) = subscription.try_next() {
                let seq = envelope.seq().unwrap().0;
                let (publisher, number) = ((seq / EVENTS) as usize, seq % EVENTS);
                assert_eq!(number, next[publisher]);
                next[publisher] += 1;
            }
            assert_eq!(next, [EVENTS; PUBLISHERS as usize]);
        }
    }
}
