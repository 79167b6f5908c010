//! Ephemeral events on their way to other servers, in notifications of limited size.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use events::{Class, Envelope, Event};
use serde::{Deserialize, Serialize};
use store::{EPHEMERAL_BYTES, presence::PresenceRow};
use tokio::sync::mpsc;
use types::{ServerId, WorkspaceId};

use crate::workspace_index::WorkspaceIndex;

/// Events that wait to be sent to other servers; more are not sent. Each takes less than a message.
pub(crate) const QUEUE: usize = 1_024;

/// Bytes for the events of a message; the frame around them, and a comma each, take less than 100.
const MESSAGE_BYTES: usize = EPHEMERAL_BYTES - 100;

/// The receiving end of the events to be sent.
pub(crate) type EphemeralQueue = mpsc::Receiver<Arc<Envelope>>;

#[derive(Debug, Deserialize)]
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

/// Whether an event may fit into a message; what surely doesn't is not queued.
pub(crate) fn may_fit(envelope: &Envelope) -> bool {
    envelope.payload().len() < MESSAGE_BYTES
}

/// The message of a server that has nothing to send: it listens.
pub(crate) fn announcement(from: ServerId) -> String {
    message(from, "")
}

/// Messages that hold these events, each rendered once. An event that exceeds a message by itself is not
/// sent.
pub(crate) fn messages(
    from: ServerId,
    envelopes: &[Arc<Envelope>],
    workspaces: &WorkspaceIndex,
) -> Vec<String> {
    let mut messages = Vec::new();
    let mut events = String::new();
    for envelope in envelopes {
        let Some(event) = render(envelope, workspaces) else {
            metrics::counter!("isomer_live_events_unsent_total").increment(1);
            continue;
        };
        // With a comma.
        if events.len() + event.len() >= MESSAGE_BYTES {
            messages.push(message(from, &events));
            events.clear();
        }
        if !events.is_empty() {
            events.push(',');
        }
        events.push_str(&event);
    }
    if !events.is_empty() {
        messages.push(message(from, &events));
    }
    messages
}

/// The text of a [`Message`] with these rendered events.
fn message(from: ServerId, events: &str) -> String {
    format!(r#"{{"from":"{from}","events":[{events}]}}"#)
}

/// An event as JSON, without presence where it doesn't fit, or `None` if it exceeds a message.
fn render(envelope: &Envelope, workspaces: &WorkspaceIndex) -> Option<String> {
    let mut event = EphemeralEvent {
        name: envelope.name().to_owned(),
        workspace_id: envelope.workspace_id(),
        at: envelope.at(),
        payload: envelope.payload().to_string(),
        presence: presence(envelope, workspaces),
    };
    let fits =
        |event: &EphemeralEvent| serde_json::to_string(event).ok().filter(|text| text.len() < MESSAGE_BYTES);
    fits(&event).or_else(|| {
        event.presence.take()?;
        fits(&event)
    })
}

/// The presence of the agent whose call caused an event: more than clients see, so that other servers
/// know as much as is stored.
fn presence(envelope: &Envelope, workspaces: &WorkspaceIndex) -> Option<PresenceRow> {
    let of_a_call = matches!(envelope.event(), Some(Event::WorkspaceHeartbeat(_) | Event::TaskUpdated(_)));
    let workspace = workspaces.get(envelope.workspace_id().filter(|_| of_a_call)?)?;
    workspace.presence.as_deref().cloned()
}

#[cfg(test)]
mod tests {
    use events::definitions::A2aResponse;
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_split_over_messages_that_can_be_read_back() {
        let (from, workspace) = (ServerId::random(), WorkspaceId::random());
        let event = |size: usize| {
            let response_body = (&json!({ "text": "\"ü".repeat(size) })).into();
            let event =
                Event::A2aResponse(A2aResponse { duration_ms: 1, method: "m".to_owned(), response_body });
            Arc::new(Envelope::ephemeral(Some(workspace), &event, store::now()))
        };
        let sent: Vec<_> = [10, 900, 5, 10_000, 900, 7].map(event).into();
        let messages = messages(from, &sent, &WorkspaceIndex::default());
        assert!(messages.len() > 1 && messages.iter().all(|message| message.len() <= EPHEMERAL_BYTES));
        let messages: Vec<Message> =
            messages.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        assert!(messages.iter().all(|message| message.from == from));
        let received: Vec<String> =
            messages.into_iter().flat_map(|message| message.events).map(|event| event.payload).collect();
        let expected: Vec<String> =
            [0, 1, 2, 4, 5].iter().map(|at: &usize| sent[*at].payload().to_string()).collect();
        assert_eq!(received, expected, "the one that exceeds a message is left out");
    }

    #[test]
    fn an_announcement_is_a_message_without_events() {
        let from = ServerId::random();
        let message: Message = serde_json::from_str(&announcement(from)).unwrap();
        assert!(message.from == from && message.events.is_empty());
    }
}
