//! Keeps the indexes of this server in step with the database, and publishes events in their order.
//!
//! Changes of this server come from the writer, in order, right after their commit. Changes of other
//! servers come as events whose numbers are missing here: their rows are read again, then the events are
//! published. Either way an index is never behind a published event, and every subscriber receives stored
//! events in the order of their numbers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use events::{Envelope, Event, Hub};
use store::{Change, Notification, Observer, Store, StoreError};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, timeout},
};
use types::{EventSeq, ServerId, WorkspaceId};

use crate::{
    ephemeral::{self, EphemeralQueue, Message},
    index::Index,
    peers::{ANNOUNCE_EVERY, Peers},
    token_index::TokenIndex,
    workspace_index::WorkspaceIndex,
};

/// How often events of other servers are polled for where no notification arrives.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Events read at once.
const BATCH: u64 = 500;

/// The indexes, the hub, and the number of the last published event.
pub(crate) struct Replication {
    pub(crate) workspaces: Arc<WorkspaceIndex>,
    pub(crate) tokens: Arc<TokenIndex>,
    pub(crate) hub: Hub,
    indexes: RwLock<Vec<Arc<dyn Index>>>,
    published: Mutex<Published>,
    /// The database has events that were not published.
    behind: Notify,
    ephemeral: mpsc::Sender<Arc<Envelope>>,
    server: ServerId,
    /// `None` where the database belongs to this process alone.
    peers: Option<Peers>,
}

/// How far events were published.
struct Published {
    seq: EventSeq,
    /// Ephemeral events of changes whose stored ones were not published yet, with the number of the last
    /// of those, in the order of the changes.
    deferred: VecDeque<(EventSeq, Arc<Envelope>)>,
}

impl Replication {
    /// Loads everything that is live.
    pub(crate) async fn open(
        store: &Store,
        hub: Hub,
        server: ServerId,
    ) -> Result<(Arc<Self>, EphemeralQueue), StoreError> {
        // The number first: what is committed during the load is then read again.
        let seq = store.last_event().await?;
        let published = Mutex::new(Published { seq, deferred: VecDeque::new() });
        let (workspaces, tokens) = (Arc::<WorkspaceIndex>::default(), Arc::<TokenIndex>::default());
        workspaces.load(store.live_workspaces().await?);
        tokens.load(store.live_tokens().await?, store.workspaces_with_tokens().await?);
        let indexes: Vec<Arc<dyn Index>> = vec![Arc::clone(&workspaces) as _, Arc::clone(&tokens) as _];
        let indexes = RwLock::new(indexes);
        let (ephemeral, queue) = mpsc::channel(ephemeral::QUEUE);
        let behind = Notify::new();
        let peers = (!store.is_single_process()).then(Peers::new);
        let replication =
            Self { workspaces, tokens, hub, indexes, published, behind, ephemeral, server, peers };
        Ok((Arc::new(replication), queue))
    }

    pub(crate) fn register(&self, index: Arc<dyn Index>) {
        self.indexes.write().unwrap_or_else(PoisonError::into_inner).push(index);
    }

    fn indexes(&self) -> Vec<Arc<dyn Index>> {
        self.indexes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn last_published(&self) -> EventSeq {
        self.published().seq
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an ephemeral event could reach a subscriber, on this server or another.
    pub(crate) fn has_subscribers(&self) -> bool {
        self.has_peers() || self.hub.subscribers() > 0
    }

    fn has_peers(&self) -> bool {
        self.peers.as_ref().is_some_and(Peers::are_present)
    }

    /// Publishes here, and enqueues for other servers.
    pub(crate) fn publish_ephemeral(&self, envelope: Arc<Envelope>) {
        self.hub.publish(Arc::clone(&envelope));
        if !self.has_peers() {
            return;
        }
        if !ephemeral::may_fit(&envelope) || self.ephemeral.try_send(envelope).is_err() {
            metrics::counter!("isomer_live_events_unsent_total").increment(1);
        }
    }

    /// Follows other servers. Never ends by itself.
    pub(crate) async fn follow(&self, store: &Store, progress: impl Fn()) -> Result<(), StoreError> {
        let mut listener = store.listen().await?;
        // Events from before the listener was there, perhaps because the database was away.
        self.catch_up(store).await?;
        let mut announced = None::<Instant>;
        loop {
            progress();
            if announced.is_none_or(|at| at.elapsed() >= ANNOUNCE_EVERY) {
                self.announce(store).await;
                announced = Some(Instant::now());
            }
            let notification = tokio::select! {
                received = timeout(POLL_EVERY, listener.recv()) => received.unwrap_or(Notification::Interrupted),
                () = self.behind.notified() => Notification::Committed,
                () = store.committed_beside_writer() => Notification::Committed,
            };
            match notification {
                Notification::Ephemeral(message) => {
                    if self.receive_ephemeral(&message) {
                        announced = None;
                    }
                }
                // No other server can have written.
                Notification::Interrupted if store.is_single_process() => {}
                Notification::Committed | Notification::Interrupted => self.catch_up(store).await?,
            }
        }
    }

    /// Reads and publishes the events that were not published yet.
    pub(crate) async fn catch_up(&self, store: &Store) -> Result<(), StoreError> {
        loop {
            let events = store.events_after(self.last_published(), BATCH).await?;
            if events.is_empty() {
                return Ok(());
            }
            for index in self.indexes() {
                index.refresh(store, &events).await?;
            }
            for event in events {
                self.publish_next(event);
            }
        }
    }

    /// Publishes a stored event, unless it was published before.
    fn publish_next(&self, event: Arc<Envelope>) {
        let mut published = self.published();
        if let Some(seq) = event.seq().filter(|seq| *seq > published.seq) {
            published.seq = seq;
            self.hub.publish(event);
            while let Some((_, event)) = published.deferred.pop_front_if(|(after, _)| *after <= seq) {
                self.publish_ephemeral(event);
            }
        }
    }

    /// Returns whether the message came from a server that was not known to be there.
    fn receive_ephemeral(&self, message: &str) -> bool {
        let Ok(message) = serde_json::from_str::<Message>(message) else {
            tracing::warn!("another server sent ephemeral events that this version can't parse");
            return false;
        };
        if message.from == self.server {
            return false;
        }
        message.receive(&self.workspaces, |event| self.hub.publish(event));
        self.peers.as_ref().is_some_and(Peers::record_message)
    }

    /// Lets other servers know that this one listens.
    async fn announce(&self, store: &Store) {
        if self.peers.is_some()
            && let Err(error) = store.notify_ephemeral(&ephemeral::announcement(self.server)).await
        {
            tracing::debug!(%error, "this server could not announce itself to others");
        }
    }

    /// Sends ephemeral events to other servers, as many in a message as fit. Ends with the queue.
    pub(crate) async fn send_ephemeral(
        &self,
        store: &Store,
        queue: &mut EphemeralQueue,
        progress: impl Fn(),
    ) {
        let mut waiting = Vec::new();
        loop {
            progress();
            match timeout(POLL_EVERY, queue.recv_many(&mut waiting, ephemeral::QUEUE)).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) => continue,
            }
            for message in ephemeral::messages(self.server, &waiting, &self.workspaces) {
                if let Err(error) = store.notify_ephemeral(&message).await {
                    tracing::debug!(%error, "ephemeral events could not be sent to other servers");
                }
            }
            waiting.clear();
        }
    }
}

impl Observer for Replication {
    fn committed(&self, change: &Change, events: &[Arc<Envelope>]) {
        for index in self.indexes.read().unwrap_or_else(PoisonError::into_inner).iter() {
            index.apply(change);
        }
        let (stored, ephemeral): (Vec<_>, Vec<_>) =
            events.iter().cloned().partition(|event| event.seq().is_some());
        let (first, last) = (stored.first().and_then(|it| it.seq()), stored.last().and_then(|it| it.seq()));
        let mut published = self.published();
        if let Some(last) = last {
            if first == Some(published.seq.next()) {
                published.seq = last;
                stored.into_iter().for_each(|event| self.hub.publish(event));
            } else {
                // Events that this observer was not given come first.
                self.behind.notify_one();
                published.deferred.extend(ephemeral.into_iter().map(|event| (last, event)));
                return;
            }
        }
        match published.deferred.back().map(|(after, _)| *after) {
            Some(after) => published.deferred.extend(ephemeral.into_iter().map(|event| (after, event))),
            None => ephemeral.into_iter().for_each(|event| self.publish_ephemeral(event)),
        }
    }

    fn stored(&self, events: Vec<(WorkspaceId, Event)>) {
        for (workspace, event) in events {
            let envelope = Envelope::ephemeral(Some(workspace), &event, store::next_event_time());
            self.publish_ephemeral(Arc::new(envelope));
        }
    }

    fn outcome_unknown(&self) {
        self.behind.notify_one();
    }
}
