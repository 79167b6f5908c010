//! Events from a number on: first those that are stored, then those that come, with no gap and none
//! twice. Whoever wants this subscribes first and reads the store then; what comes twice is known by its
//! number.

use std::collections::VecDeque;
use std::sync::Arc;

use events::{Envelope, Next, Subscription};
use fleet::Fleet;
use store::StoreError;

/// Stored events that are read at once.
const BATCH: u64 = 1_000;

/// What somebody who stays is told next.
pub(super) enum Told {
    /// An event.
    Event(Arc<Envelope>),
    /// More happened since than is replayed.
    Resync,
    /// A stored event found no room: the listener is too slow.
    TooSlow,
    /// The server tells nothing any more.
    Over,
}

/// Somebody's place in what happens.
pub(super) struct Place {
    subscription: Subscription,
    replayed: VecDeque<Arc<Envelope>>,
    resync: bool,
    last: i64,
}

impl Place {
    /// From now on, or from after a number, as long as no more than `most` came since. `wants` must be
    /// the filter of the subscription.
    pub(super) async fn after(
        fleet: &Fleet,
        subscription: Subscription,
        since: Option<i64>,
        most: u64,
        wants: impl Fn(&Envelope) -> bool,
    ) -> Result<Self, StoreError> {
        let mut place = Self { subscription, replayed: VecDeque::new(), resync: false, last: 0 };
        let (Some(since), mut read) = (since, 0) else {
            return Ok(place);
        };
        place.last = since;
        let mut next = since;
        loop {
            let stored = fleet.store().events_after(next, BATCH).await?;
            read += stored.len() as u64;
            let Some(last) = stored.last().and_then(|event| event.seq()) else {
                return Ok(place);
            };
            if read > most {
                place.resync = true;
                place.replayed.clear();
                return Ok(place);
            }
            next = last;
            place.replayed.extend(stored.into_iter().filter(|event| wants(event)));
        }
    }

    /// The next thing to tell. Can be dropped and asked again.
    pub(super) async fn next(&mut self) -> Told {
        if std::mem::take(&mut self.resync) {
            return Told::Resync;
        }
        loop {
            let event = match self.replayed.pop_front() {
                Some(event) => event,
                None => match self.subscription.next().await {
                    Next::Event(event) => event,
                    Next::Overflowed => return Told::TooSlow,
                    Next::Closed => return Told::Over,
                },
            };
            match event.seq() {
                Some(seq) if seq <= self.last => {}
                Some(seq) => {
                    self.last = seq;
                    return Told::Event(event);
                }
                None => return Told::Event(event),
            }
        }
    }
}
