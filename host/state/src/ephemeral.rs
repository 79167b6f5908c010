//! Ephemeral events on their way to other servers, in notifications of limited size.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use events::{Class, Envelope, Event};
use serde::{Deserialize, Serialize};
use store::{EPHEMERAL_BYTES, presence::PresenceRow};
use tokio::sync::mpsc;
use types::{ServerId, WorkspaceId};

use crate::workspace_index::WorkspaceIndex;

/// Events that wait to be sent to other servers; more are not sent.
pub(crate) const QUEUE: usize = 1_024;

/// Bytes for the events of a message; the frame around them, and a comma each, take less than 100.
const MESSAGE_BYTES: usize = EPHEMERAL_BYTES - 100;

/// The receiving end of the events to be sent.
pub(crate) type EphemeralQueue = mpsc::Receiver<Arc<Envelope>>;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Message {
    /// The server that sent it, which ignores it.
    pub(crate) from: ServerId,
    events: Vec<EphemeralEvent>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EphemeralEvent {
    name: String,
    workspace_id: Option<WorkspaceId>,
    at: DateTime<Utc>,
    payload: String,
    /// The presence of the agent, where its call caused the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    presence: Option<PresenceRow>,
}

impl Message {
    /// Takes over what the events say of presence, then hands each event on.
    pub(crate) fn receive(self, workspaces: &WorkspaceIndex, mut publish: impl FnMut(Arc<Envelope>)) {
        for received in self.events {
            if let Some(presence) = received.presence {
                workspaces.put_newer_presence(presence);
            }
            let event = Event::parse(&received.name, &received.payload);
            if let Some(event) = event.filter(|event| event.class() == Class::Ephemeral) {
                publish(Arc::new(Envelope::ephemeral(received.workspace_id, &event, received.at)));
            }
        }
    }
}

/// Messages that hold these events. An event that exceeds a message by itself is not sent.
pub(crate) fn messages(
    from: ServerId,
    envelopes: &[Arc<Envelope>],
    workspaces: &WorkspaceIndex,
) -> Vec<String> {
    let mut messages = Vec::new();
    let mut message = Message { from, events: Vec::new() };
    let mut bytes = 0;
    for envelope in envelopes {
        let mut event = EphemeralEvent {
            name: envelope.name().to_owned(),
            workspace_id: envelope.workspace_id(),
            at: envelope.at(),
            payload: envelope.payload().to_string(),
            presence: presence(envelope, workspaces),
        };
        let size_of =
            |event: &EphemeralEvent| serde_json::to_string(event).map_or(usize::MAX, |text| text.len() + 1);
        let mut size = size_of(&event);
        if size > MESSAGE_BYTES && event.presence.take().is_some() {
            size = size_of(&event);
        }
        if size > MESSAGE_BYTES {
            metrics::counter!("isomer_live_events_unsent_total").increment(1);
            continue;
        }
        if bytes + size > MESSAGE_BYTES {
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

/// The presence of the agent whose call caused an event: more than clients see, so that other servers
/// know as much as is stored.
fn presence(envelope: &Envelope, workspaces: &WorkspaceIndex) -> Option<PresenceRow> {
    let of_a_call = matches!(envelope.event(), Some(Event::WorkspaceHeartbeat(_) | Event::TaskUpdated(_)));
    let workspace = workspaces.get(envelope.workspace_id().filter(|_| of_a_call)?)?;
    workspace.presence.as_deref().cloned()
}
