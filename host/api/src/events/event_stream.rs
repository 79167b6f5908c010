//! The events for one client: first those that it missed, then new ones.
//!
//! The subscription begins before missed events are read, so that none falls between; events that come both
//! ways are recognized by their number.

use std::sync::Arc;

use chrono::Utc;
use events::{Envelope, Received, Subscription};
use fleet::{Fleet, MissedEvents};
use store::StoreError;
use types::{EventSeq, WorkspaceId};

use super::without_urls::without_urls;

/// Whose view of the events a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// A canvas sees all events.
    Canvas,
    /// The agent of a workspace sees events of the workspaces that it may observe.
    Agent(WorkspaceId),
    /// A stream of one workspace.
    Workspace(WorkspaceId),
}

impl Audience {
    /// The workspace whose stream it is.
    pub(super) fn workspace(self) -> Option<WorkspaceId> {
        match self {
            Self::Canvas => None,
            Self::Agent(id) | Self::Workspace(id) => Some(id),
        }
    }

    fn can_see(self, event: &Envelope, fleet: &Fleet) -> bool {
        event.is_client_visible()
            && match self {
                Self::Canvas => true,
                Self::Agent(id) => {
                    event.workspace_id().is_some_and(|about| fleet.workspaces().can_observe(id, about))
                }
                Self::Workspace(id) => event.workspace_id() == Some(id),
            }
    }
}

/// Events for one client, in order.
pub(super) struct EventStream {
    missed: std::vec::IntoIter<Arc<Envelope>>,
    /// The last of the missed events that were read.
    last_seq: EventSeq,
    subscription: Subscription,
    /// Whether the client may know where agents are reached.
    with_urls: bool,
}

impl EventStream {
    /// New events from now on; `queue` of them are held for a slow client. `proved`: the client showed a credential,
    /// or needs none.
    pub(super) fn live(fleet: &Fleet, audience: Audience, proved: bool, queue: usize) -> Self {
        let about = fleet.clone();
        let subscription = fleet.hub().subscribe(queue, move |event| audience.can_see(event, &about));
        Self { missed: Vec::new().into_iter(), last_seq: EventSeq::START, subscription, with_urls: proved }
    }

    /// Puts the events after number `since` before the new ones, or one that says that they can't be replayed.
    pub(super) async fn replay(
        &mut self,
        fleet: &Fleet,
        audience: Audience,
        since: EventSeq,
        limit: u64,
    ) -> Result<(), StoreError> {
        let only = match audience {
            Audience::Workspace(id) => Some(id),
            Audience::Canvas | Audience::Agent(_) => None,
        };
        match fleet.missed_events(since, only, limit).await? {
            MissedEvents::Unavailable => {
                let resync = Envelope::resync(audience.workspace(), Utc::now());
                self.missed = vec![Arc::new(resync)].into_iter();
            }
            MissedEvents::Events(mut events) => {
                self.last_seq = events.last().and_then(|event| event.seq()).unwrap_or(since);
                events.retain(|event| audience.can_see(event, fleet));
                self.missed = events.into_iter();
            }
        }
        Ok(())
    }

    /// The next event. Cancel safe.
    pub(super) async fn next(&mut self) -> Received {
        match self.next_whole().await {
            Received::Event(event) if !self.with_urls => Received::Event(event.restricted(without_urls)),
            next => next,
        }
    }

    async fn next_whole(&mut self) -> Received {
        if let Some(event) = self.missed.next() {
            return Received::Event(event);
        }
        loop {
            match self.subscription.next().await {
                Received::Event(event) if event.seq().is_some_and(|seq| seq <= self.last_seq) => {}
                next => return next,
            }
        }
    }
}
