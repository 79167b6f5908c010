//! Events for clients who may not know where agents are reached.

use std::collections::BTreeMap;

use events::Envelope;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::card_urls::Shown;

/// Events whose payload describes a workspace's agent.
const DESCRIBING: [&str; 2] = ["WORKSPACE_ONLINE", "AGENT_CARD_UPDATED"];

/// The event whose payload says why an agent was not reached.
const ACTIVITY: &str = "ACTIVITY_LOGGED";

/// The event without the addresses of its workspace and of its agent card, and without why an agent was not reached;
/// none where it has no such thing.
pub(super) fn without_urls(event: &Envelope) -> Option<Envelope> {
    // A payload that can't be read is left out: an empty one says nothing.
    if event.name() == ACTIVITY {
        return without_detail(event.payload()).map(|payload| event.with_payload(payload));
    }
    if !DESCRIBING.contains(&event.name()) {
        return None;
    }
    let payload = serde_json::from_str::<Value>(event.payload()).unwrap_or_default();
    Some(event.with_payload(serde_json::to_string(&Shown::event(&payload)).unwrap_or_default()))
}

/// Activity without `error_detail`. What it repeats of messages stays the text it was.
fn without_detail(payload: &str) -> Option<String> {
    // Most activity has none, and messages are large: they are not parsed for each socket.
    if !payload.contains(r#""error_detail":""#) {
        return None;
    }
    let mut fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(payload).unwrap_or_default();
    fields.remove("error_detail");
    Some(serde_json::to_string(&fields).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_keeps_all_but_the_detail_of_its_error() {
        let payload = r#"{"activity_type":"a2a_receive","error_detail":"register \"http://h\"","request_body":{"n":1.0,"a":1e400}}"#;
        let without = r#"{"activity_type":"a2a_receive","request_body":{"n":1.0,"a":1e400}}"#;
        assert_eq!(without_detail(payload).as_deref(), Some(without));
        assert_eq!(without_detail(without), None);
    }
}
