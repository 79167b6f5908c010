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
fn large_events_are_bounded_by_their_bytes() {
    let large = |seq| {
        let (name, payload) =
            ("WORKSPACE_OFFLINE".to_owned(), format!(r#"{{"a":"{}"}}"#, "x".repeat(3 << 20)));
        Arc::new(Envelope::stored(EventId::default(), EventSeq(seq), name, None, Utc::now(), payload))
    };
    let hub = Hub::default();
    let mut subscription = hub.subscribe(64, |_| true);
    for envelope in [large(1), large(2), heartbeat(), ephemeral(3)] {
        hub.publish(envelope);
    }
    assert_eq!(drain(&mut subscription), ["1", "2", "heartbeat", "live 3"], "8 MiB hold two of them");
    for envelope in [large(4), heartbeat(), large(5), large(6)] {
        hub.publish(envelope);
    }
    assert_eq!(hub.dropped(), 1, "a heartbeat is dropped first");
    assert_eq!(drain(&mut subscription), ["overflowed", "closed"]);
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
