//! What a stream hears: first what it missed, then what happens.
//!
//! It subscribes before it reads what was missed, so nothing falls between; what it reads and is then told
//! again is recognised by its number.

use std::sync::Arc;

use events::{Envelope, Next, Subscription};
use fleet::Fleet;
use store::StoreError;
use uuid::Uuid;

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    /// A canvas: hears everything.
    Canvas,
    /// The agent of a workspace: hears of those it may talk to.
    Agent(Uuid),
    /// Somebody who watches one workspace.
    Watcher(Uuid),
}

impl Listener {
    /// The workspace whose stream it is.
    pub(super) fn workspace(self) -> Option<Uuid> {
        match self {
            Self::Canvas => None,
            Self::Agent(id) | Self::Watcher(id) => Some(id),
        }
    }

    fn hears(self, event: &Envelope, fleet: &Fleet) -> bool {
        event.is_wire()
            && match self {
                Self::Canvas => true,
                Self::Agent(id) => {
                    event.workspace_id().is_some_and(|about| fleet.directory().may_hear(id, about))
                }
                Self::Watcher(id) => event.workspace_id() == Some(id),
            }
    }
}

/// Events for one listener, in order.
pub(super) struct Source {
    missed: std::vec::IntoIter<Arc<Envelope>>,
    /// Recorded events up to this one were told, or weren't for this listener.
    told: i64,
    subscription: Subscription,
}

impl Source {
    /// What happens from now on; `queue` events wait at most.
    pub(super) fn live(fleet: &Fleet, listener: Listener, queue: usize) -> Self {
        let about = fleet.clone();
        let subscription = fleet.hub().subscribe(queue, move |event| listener.hears(event, &about));
        Self { missed: Vec::new().into_iter(), told: i64::MIN, subscription }
    }

    /// Puts what was recorded after `since` before it.
    pub(super) async fn catch_up(
        &mut self,
        fleet: &Fleet,
        listener: Listener,
        since: i64,
        most: u64,
    ) -> Result<(), StoreError> {
        let store = fleet.store();
        let only = match listener {
            Listener::Watcher(id) => Some(id),
            Listener::Canvas | Listener::Agent(_) => None,
        };
        let mut events = store.client_events_after(since, only, most.saturating_add(1)).await?;
        let head = store.last_event().await?;
        // Older ones were deleted; or the number comes from another database.
        let first = store.first_event().await?.unwrap_or(head + 1);
        let lost = since > head || (since + 1 < first && since < head);
        if lost || events.len() as u64 > most {
            let resync = Envelope::resync(listener.workspace(), store::now());
            self.missed = vec![Arc::new(resync)].into_iter();
            return Ok(());
        }
        self.told = events.last().and_then(|event| event.seq()).unwrap_or(since);
        events.retain(|event| listener.hears(event, fleet));
        self.missed = events.into_iter();
        Ok(())
    }

    /// What comes next. Cancelling the wait loses nothing.
    pub(super) async fn next(&mut self) -> Next {
        if let Some(event) = self.missed.next() {
            return Next::Event(event);
        }
        loop {
            match self.subscription.next().await {
                Next::Event(event) if event.seq().is_some_and(|seq| seq <= self.told) => {}
                next => return next,
            }
        }
    }
}
