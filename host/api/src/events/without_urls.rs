//! Events for clients who may not know where agents are reached.

use events::Envelope;
use serde_json::Value;

use crate::card_urls::WithoutUrls;

/// Events whose payload describes a workspace's agent.
const DESCRIBING: [&str; 2] = ["WORKSPACE_ONLINE", "AGENT_CARD_UPDATED"];

/// The event without the URLs of its workspace and of its agent card; none where it has no such URL.
pub(super) fn without_urls(event: &Envelope) -> Option<Envelope> {
    if !DESCRIBING.contains(&event.name()) {
        return None;
    }
    // A payload that can't be read is left out: an empty one says nothing.
    let payload = serde_json::from_str::<Value>(event.payload()).unwrap_or_default();
    Some(event.with_payload(serde_json::to_string(&WithoutUrls(&payload)).unwrap_or_default()))
}
