//! Keeps this server's image of the fleet in step with the database, and tells everybody who listens.
//!
//! Own changes come from the writer, in order, as soon as they are committed. Changes of other servers
//! come as events with numbers that are missing here: their rows are read again first, then they are
//! told. Either way the image is never behind what a client was told, and every client hears recorded
//! events in the order of their numbers.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use events::{Class, Envelope, Event, Hub};
use serde::{Deserialize, Serialize};
use store::{Change, EPHEMERAL_BYTES, Notification, Observer, Store, StoreError, presence::PresenceRow};
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use uuid::Uuid;

use crate::{directory::Directory, tokens::Tokens};

/// How often other servers' events are looked for where no notification came.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Events read at once.
const BATCH: u64 = 500;

/// Live events that wait to be sent to other servers; more are not sent.
const LIVE_QUEUE: usize = 1_024;

/// The image, and who keeps it.
pub struct Mirror {
    pub(crate) directory: Directory,
    pub(crate) tokens: Tokens,
    pub(crate) hub: Hub,
    /// Number of the last event that was told.
    told: Mutex<i64>,
    /// There are events in the database that were not told.
    behind: Notify,
    live: mpsc::Sender<Arc<Envelope>>,
    /// This server, so that it doesn't listen to itself.
    server: Uuid,
}

/// The receiving end of what is to be sent to other servers.
pub(crate) type LiveQueue = mpsc::Receiver<Arc<Envelope>>;

/// Live events on their way to other servers.
#[derive(Debug, Serialize, Deserialize)]
struct LiveMessage {
    from: Uuid,
    events: Vec<LiveEvent>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LiveEvent {
    name: String,
    workspace_id: Option<Uuid>,
    at: chrono::DateTime<chrono::Utc>,
    payload: String,
    /// What is known of the agent that called, where the event tells of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    presence: Option<PresenceRow>,
}

impl Mirror {
    /// Reads everything that is live.
    pub(crate) async fn open(
        store: &Store,
        hub: Hub,
        server: Uuid,
    ) -> Result<(Arc<Self>, LiveQueue), StoreError> {
        // The number first: what happens while we read is then read again.
        let told = store.last_event().await?;
        let directory = Directory::default();
        directory.load(store.live_workspaces().await?);
        let tokens = Tokens::default();
        tokens.load(store.live_tokens().await?);
        let (live, queue) = mpsc::channel(LIVE_QUEUE);
        let told = Mutex::new(told);
        let mirror = Self { directory, tokens, hub, told, behind: Notify::new(), live, server };
        Ok((Arc::new(mirror), queue))
    }

    /// Number of the last event that was told.
    pub fn told(&self) -> i64 {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what isn't stored, here and to other servers.
    pub fn tell_live(&self, envelope: Arc<Envelope>) {
        self.hub.publish(Arc::clone(&envelope));
        if self.live.try_send(envelope).is_err() {
            metrics::counter!("isomer_live_events_unsent_total").increment(1);
        }
    }

    /// Follows other servers. Never ends by itself.
    pub(crate) async fn follow(&self, store: &Store, beat: impl Fn()) -> Result<(), StoreError> {
        let mut listener = store.listen().await?;
        // What happened while nobody listened, perhaps because the database was away.
        self.catch_up(store).await?;
        loop {
            beat();
            let heard = tokio::select! {
                heard = timeout(LOOK_EVERY, listener.recv()) => heard.unwrap_or(Notification::Interrupted),
                () = self.behind.notified() => Notification::Committed,
            };
            match heard {
                Notification::Ephemeral(message) => self.hear_live(&message),
                // Where nobody else writes there is nothing to look for.
                Notification::Interrupted if store.is_single_process() => {}
                Notification::Committed | Notification::Interrupted => self.catch_up(store).await?,
            }
        }
    }

    /// Reads and tells the events that were not told yet.
    pub(crate) async fn catch_up(&self, store: &Store) -> Result<(), StoreError> {
        loop {
            let events = store.events_after(self.told(), BATCH).await?;
            if events.is_empty() {
                return Ok(());
            }
            self.read_again(store, &events).await?;
            for event in events {
                self.tell_next(event);
            }
        }
    }

    /// Brings the image up to what these events are about.
    async fn read_again(&self, store: &Store, events: &[Arc<Envelope>]) -> Result<(), StoreError> {
        let mut workspaces = BTreeSet::new();
        for event in events {
            match event.event() {
                Some(Event::TokenChanged(changed)) => {
                    self.tokens.refresh(changed.token_id, store.token(changed.token_id).await?);
                }
                Some(Event::WorkspaceRemoved(_)) => {
                    self.tokens.drop_of(event.workspace_id().as_slice());
                    workspaces.extend(event.workspace_id());
                }
                _ => workspaces.extend(event.workspace_id()),
            }
        }
        let workspaces: Vec<Uuid> = workspaces.into_iter().collect();
        let rows = store.workspaces(&workspaces).await?;
        // Who was purged may have been so before its removal was heard of.
        let found: BTreeSet<Uuid> = rows.iter().map(|loaded| loaded.row.id).collect();
        let purged: Vec<Uuid> = workspaces.iter().filter(|id| !found.contains(id)).copied().collect();
        self.tokens.drop_of(&purged);
        self.directory.refresh(&workspaces, rows);
        Ok(())
    }

    /// Tells a stored event, unless it was told before.
    fn tell_next(&self, event: Arc<Envelope>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seq) = event.seq().filter(|seq| *seq > *told) {
            *told = seq;
            self.hub.publish(event);
        }
    }

    // === Live events between servers ===

    fn hear_live(&self, message: &str) {
        let Ok(message) = serde_json::from_str::<LiveMessage>(message) else {
            tracing::warn!("another server told something that can't be understood");
            return;
        };
        if message.from == self.server {
            return;
        }
        for live in message.events {
            // Before anybody is told who may look at it.
            if let Some(presence) = live.presence {
                self.directory.put_newer_presence(presence);
            }
            if let Some(event) =
                Event::parse(&live.name, &live.payload).filter(|event| event.class() == Class::Live)
            {
                self.hub.publish(Arc::new(Envelope::live(live.workspace_id, &event, live.at)));
            }
        }
    }

    /// Sends live events to other servers, as many at once as fit. Ends with the queue.
    pub(crate) async fn send_live(&self, store: &Store, queue: &mut LiveQueue, beat: impl Fn()) {
        let mut waiting = Vec::new();
        loop {
            beat();
            match timeout(LOOK_EVERY, queue.recv_many(&mut waiting, LIVE_QUEUE)).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) => continue,
            }
            if store.is_single_process() {
                waiting.clear();
                continue;
            }
            for message in self.messages(&waiting) {
                if let Err(error) = store.notify_ephemeral(&message).await {
                    tracing::debug!(%error, "live events could not be sent to other servers");
                }
            }
            waiting.clear();
        }
    }

    /// What is known of the agent whose call an event tells of: more than clients are told, so that what
    /// other servers know of it is as whole as what is stored.
    fn presence_told_by(&self, envelope: &Envelope) -> Option<PresenceRow> {
        let of_a_call =
            matches!(envelope.event(), Some(Event::WorkspaceHeartbeat(_) | Event::TaskUpdated(_)));
        let workspace = self.directory.get(envelope.workspace_id().filter(|_| of_a_call)?)?;
        workspace.presence.as_deref().cloned()
    }

    /// Messages that hold these events. One that doesn't fit into a message by itself isn't sent: live
    /// events are best effort.
    fn messages(&self, envelopes: &[Arc<Envelope>]) -> Vec<String> {
        let mut messages = Vec::new();
        let mut message = LiveMessage { from: self.server, events: Vec::new() };
        let mut bytes = 0;
        for envelope in envelopes {
            let mut event = LiveEvent {
                name: envelope.name().to_owned(),
                workspace_id: envelope.workspace_id(),
                at: envelope.at(),
                payload: envelope.payload().to_string(),
                presence: self.presence_told_by(envelope),
            };
            // The frame around the events, and a comma, are less than 100 bytes.
            let size_of =
                |event: &LiveEvent| serde_json::to_string(event).map_or(usize::MAX, |text| text.len() + 1);
            let mut size = size_of(&event);
            if size > EPHEMERAL_BYTES - 100 && event.presence.take().is_some() {
                size = size_of(&event);
            }
            if size > EPHEMERAL_BYTES - 100 {
                metrics::counter!("isomer_live_events_unsent_total").increment(1);
                continue;
            }
            if bytes + size > EPHEMERAL_BYTES - 100 {
                messages.extend(serde_json::to_string(&message));
                message.events.clear();
                bytes = 0;
            }
            bytes += size;
            message.events.push(event);
        }
        if !message.events.is_empty() {
            messages.extend(serde_json::to_string(&message));
        }
        messages
    }
}

impl Observer for Mirror {
    fn committed(&self, change: &Change, events: &[Arc<Envelope>]) {
        self.directory.apply(change);
        self.tokens.apply(change);
        let stored = || events.iter().filter(|event| event.seq().is_some());
        if let Some(first) = stored().find_map(|event| event.seq()) {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if first == *told + 1 {
                *told += stored().count() as i64;
                stored().for_each(|event| self.hub.publish(Arc::clone(event)));
            } else {
                // Others were first: theirs are told before ours.
                self.behind.notify_one();
            }
        }
        events
            .iter()
            .filter(|event| event.seq().is_none())
            .for_each(|event| self.tell_live(Arc::clone(event)));
    }

    fn outcome_unknown(&self) {
        self.behind.notify_one();
    }
}
