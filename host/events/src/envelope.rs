//! An event with what is known about its happening, made once and shared by all who get it.
//!
//! What goes over a socket is the same for every client, so the frame is built by the first that
//! asks and kept. Silent and internal events have no such text: a filter that lets one through by
//! mistake sends nothing.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use types::{EventId, EventSeq, WorkspaceId};

use crate::definitions::ApprovalDecided;
use crate::{Class, Event, class_of, json};

/// Dropped before other events, since the next one follows soon.
const HEARTBEAT: &str = "WORKSPACE_HEARTBEAT";

/// Not in the definitions: it happens to one client, not in the fleet.
const RESYNC_REQUIRED: &str = "RESYNC_REQUIRED";

/// Runtimes that wait for it read the payload's fields beside the payload.
const APPROVAL_DECIDED: &str = "APPROVAL_DECIDED";

/// An event with its metadata.
#[derive(Debug)]
pub struct Envelope {
    id: EventId,
    seq: Option<EventSeq>,
    name: Cow<'static, str>,
    class: Class,
    workspace_id: Option<WorkspaceId>,
    at: DateTime<Utc>,
    payload: Arc<str>,
    frame: OnceLock<Bytes>,
    /// The event for clients who may not see all of it, once one asked. None: they may.
    restricted: OnceLock<Option<Arc<Self>>>,
}

impl Envelope {
    /// An event that is published only.
    #[must_use]
    pub fn ephemeral(workspace_id: Option<WorkspaceId>, event: &Event, at: DateTime<Utc>) -> Self {
        Self {
            id: EventId::random(),
            seq: None,
            name: Cow::Borrowed(event.name()),
            class: event.class(),
            workspace_id,
            at,
            payload: event.payload().into(),
            frame: OnceLock::new(),
            restricted: OnceLock::new(),
        }
    }

    /// Asks one client, or those of one workspace, to read everything again: it missed more events than can
    /// be replayed.
    #[must_use]
    pub fn resync(workspace_id: Option<WorkspaceId>, at: DateTime<Utc>) -> Self {
        Self {
            id: EventId::random(),
            seq: None,
            name: Cow::Borrowed(RESYNC_REQUIRED),
            class: Class::Ephemeral,
            workspace_id,
            at,
            payload: json::EMPTY.into(),
            frame: OnceLock::new(),
            restricted: OnceLock::new(),
        }
    }

    /// An event that is about to be stored as number `seq`; its row is made of this.
    #[must_use]
    pub fn sequenced(
        seq: EventSeq,
        workspace_id: Option<WorkspaceId>,
        event: &Event,
        at: DateTime<Utc>,
    ) -> Self {
        let class = class_of_stored(event.class());
        Self { seq: Some(seq), class, ..Self::ephemeral(workspace_id, event, at) }
    }

    /// An event as its row has it. The payload's bytes are kept; what isn't a JSON object becomes
    /// the empty one, so that the texts made here are JSON whatever the row holds.
    #[must_use]
    pub fn stored(
        id: EventId,
        seq: EventSeq,
        name: String,
        workspace_id: Option<WorkspaceId>,
        at: DateTime<Utc>,
        payload: String,
    ) -> Self {
        let class = class_of_stored(class_of(&name));
        Self {
            id,
            seq: Some(seq),
            name: Cow::Owned(name),
            class,
            workspace_id,
            at,
            payload: json::object_or_empty(payload).into(),
            frame: OnceLock::new(),
            restricted: OnceLock::new(),
        }
    }

    /// The event's own id, which clients use to tell copies apart.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Its number among stored events; ephemeral ones have none.
    #[must_use]
    pub fn seq(&self) -> Option<EventSeq> {
        self.seq
    }

    /// The same event with another payload, for clients who may not see all of it.
    #[must_use]
    pub fn with_payload(&self, payload: String) -> Self {
        Self {
            id: self.id,
            seq: self.seq,
            name: self.name.clone(),
            class: self.class,
            workspace_id: self.workspace_id,
            at: self.at,
            payload: json::object_or_empty(payload).into(),
            frame: OnceLock::new(),
            restricted: OnceLock::new(),
        }
    }

    /// The event for clients who may not see all of it: made by the first that asks, and shared by all. `restrict`
    /// returns none where they may see all.
    #[must_use]
    pub fn restricted(self: &Arc<Self>, restrict: impl FnOnce(&Self) -> Option<Self>) -> Arc<Self> {
        let restricted = self.restricted.get_or_init(|| restrict(self).map(Arc::new));
        Arc::clone(restricted.as_ref().unwrap_or(self))
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// See [`Class`].
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The workspace that it is about.
    #[must_use]
    pub fn workspace_id(&self) -> Option<WorkspaceId> {
        self.workspace_id
    }

    /// When it happened.
    #[must_use]
    pub fn at(&self) -> DateTime<Utc> {
        self.at
    }

    /// The text of its payload, a JSON object.
    #[must_use]
    pub fn payload(&self) -> &Arc<str> {
        &self.payload
    }

    /// The event itself, if this version knows it.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        Event::parse(&self.name, &self.payload)
    }

    /// May clients see it? Every filter of a socket or stream checks this first.
    #[must_use]
    pub fn is_client_visible(&self) -> bool {
        matches!(self.class, Class::Durable | Class::Ephemeral)
    }

    pub(crate) fn is_heartbeat(&self) -> bool {
        self.class == Class::Ephemeral && self.name == HEARTBEAT
    }

    /// The text of its WebSocket message; empty for what clients may not see.
    pub fn frame(&self) -> &str {
        // It was made of a `String`.
        std::str::from_utf8(self.built_frame()).unwrap_or_default()
    }

    /// The bytes of [`Envelope::frame`], shared by all who ask.
    #[must_use]
    pub fn frame_bytes(&self) -> Bytes {
        self.built_frame().clone()
    }

    /// The text of its SSE message with the blank line that ends it; empty for what clients may
    /// not see.
    #[must_use]
    pub fn sse(&self) -> String {
        if !self.is_client_visible() {
            return String::new();
        }
        let id = self.seq.map(|seq| format!("id: {seq}\n")).unwrap_or_default();
        let name = json::text(&self.name);
        let (at, payload) = (self.at.timestamp_millis(), &self.payload);
        format!("{id}data: {{\"type\":{name},\"timestamp\":{at},\"data\":{payload}}}\n\n")
    }

    fn built_frame(&self) -> &Bytes {
        self.frame
            .get_or_init(|| if self.is_client_visible() { self.build_frame().into() } else { Bytes::new() })
    }

    fn build_frame(&self) -> String {
        let workspace_id = self.workspace_id.map(|id| id.to_string()).unwrap_or_default();
        let (name, at, payload) = (json::text(&self.name), json::timestamp(self.at), &self.payload);
        let mut text = String::with_capacity(payload.len() + 192);
        // Writing to a `String` can't fail.
        let _ = write!(
            text,
            r#"{{"event":{name},"workspace_id":"{workspace_id}","timestamp":"{at}","payload":{payload}"#
        );
        if self.name == APPROVAL_DECIDED {
            self.repeat_decision(&mut text);
        }
        if let Some(seq) = self.seq {
            let _ = write!(text, r#","seq":{seq}"#);
        }
        text.push('}');
        text
    }

    fn repeat_decision(&self, text: &mut String) {
        let Ok(decided) = serde_json::from_str::<ApprovalDecided>(&self.payload) else { return };
        let fields = json::text(&decided);
        if let Some(fields) = fields.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            text.push(',');
            text.push_str(fields);
        }
    }
}

/// An event that was stored is durable, whatever the present version says of its name.
fn class_of_stored(class: Class) -> Class {
    match class {
        Class::Ephemeral => Class::Durable,
        Class::Durable | Class::StoredOnly | Class::Internal => class,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use uuid::Uuid;

    use super::*;
    use crate::definitions::tests::samples;
    use crate::definitions::{Online, RecoveredFrom, Task, TokenChanged};

    const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(0x6f1c7a52_0b7e_4a1e_9a53_0d1f6f0f2f11));

    fn at() -> DateTime<Utc> {
        "2026-05-09T10:00:00.123456789Z".parse().unwrap()
    }

    fn stored(seq: i64, name: &str, workspace_id: Option<WorkspaceId>, payload: &str) -> Envelope {
        Envelope::stored(
            EventId::default(),
            EventSeq(seq),
            name.to_owned(),
            workspace_id,
            at(),
            payload.to_owned(),
        )
    }

    #[test]
    fn frames_are_the_sheets_byte_for_byte() {
        let event = Event::WorkspaceOnline(Online::Recovered { recovered_from: RecoveredFrom::Provisioning });
        assert_eq!(
            stored(7, event.name(), Some(WORKSPACE), &event.payload()).frame(),
            r#"{"event":"WORKSPACE_ONLINE","workspace_id":"6f1c7a52-0b7e-4a1e-9a53-0d1f6f0f2f11","timestamp":"2026-05-09T10:00:00.123456Z","payload":{"recovered_from":"provisioning"},"seq":7}"#
        );
        let task = Event::TaskUpdated(Task { active_tasks: 1, current_task: "x".into() });
        assert_eq!(
            Envelope::ephemeral(None, &task, "2026-05-09T10:00:00Z".parse().unwrap()).frame(),
            r#"{"event":"TASK_UPDATED","workspace_id":"","timestamp":"2026-05-09T10:00:00.000000Z","payload":{"active_tasks":1,"current_task":"x"}}"#
        );
    }

    #[test]
    fn sse_messages_are_the_sheets_byte_for_byte() {
        let at = DateTime::from_timestamp_millis(1_778_320_800_123).unwrap();
        let task = Event::TaskUpdated(Task { active_tasks: 1, current_task: "x".into() });
        assert_eq!(
            Envelope::ephemeral(Some(WORKSPACE), &task, at).sse(),
            "data: {\"type\":\"TASK_UPDATED\",\"timestamp\":1778320800123,\"data\":{\"active_tasks\":1,\"current_task\":\"x\"}}\n\n"
        );
        let stored = Envelope::stored(
            EventId::default(),
            EventSeq(42),
            "WORKSPACE_OFFLINE".to_owned(),
            Some(WORKSPACE),
            at,
            "{}".to_owned(),
        );
        assert_eq!(
            stored.sse(),
            "id: 42\ndata: {\"type\":\"WORKSPACE_OFFLINE\",\"timestamp\":1778320800123,\"data\":{}}\n\n"
        );
    }

    #[test]
    fn every_client_gets_the_same_bytes() {
        let envelope = stored(1, "WORKSPACE_OFFLINE", None, "{}");
        let (one, other) = (envelope.frame_bytes(), envelope.frame_bytes());
        assert_eq!((one.as_ptr(), &one[..]), (other.as_ptr(), envelope.frame().as_bytes()));
    }

    #[test]
    fn the_event_for_clients_who_may_not_see_all_of_it_is_made_once() {
        let envelope = Arc::new(stored(1, "WORKSPACE_ONLINE", None, r#"{"url":"http://a"}"#));
        let restricted = envelope.restricted(|event| Some(event.with_payload("{}".to_owned())));
        assert_eq!(&**restricted.payload(), "{}");
        let again = envelope.restricted(|_| panic!("it is there"));
        assert_eq!(again.frame_bytes().as_ptr(), restricted.frame_bytes().as_ptr());
        assert_ne!(envelope.frame(), restricted.frame());
        let open = Arc::new(stored(2, "WORKSPACE_OFFLINE", None, "{}"));
        assert!(Arc::ptr_eq(&open, &open.restricted(|_| None)));
    }

    #[test]
    fn a_resync_frame_has_the_shape_of_events() {
        let resync = Envelope::resync(Some(WORKSPACE), at());
        assert_eq!(
            resync.frame(),
            r#"{"event":"RESYNC_REQUIRED","workspace_id":"6f1c7a52-0b7e-4a1e-9a53-0d1f6f0f2f11","timestamp":"2026-05-09T10:00:00.123456Z","payload":{}}"#
        );
        assert!(resync.sse().starts_with(r#"data: {"type":"RESYNC_REQUIRED","#));
    }

    #[test]
    fn a_decision_is_repeated_at_the_top_level() {
        let payload = format!(r#"{{"approval_id":"{WORKSPACE}","decided_by":"a \"b\"","status":"denied"}}"#);
        let frame: Value =
            serde_json::from_str(stored(3, "APPROVAL_DECIDED", Some(WORKSPACE), &payload).frame()).unwrap();
        for key in ["approval_id", "decided_by", "status"] {
            assert_eq!(frame[key], frame["payload"][key]);
        }
        assert_eq!((&frame["decided_by"], &frame["status"]), (&json!("a \"b\""), &json!("denied")));
        assert_eq!(frame["seq"], 3);
        // A payload that lacks them still makes a frame.
        let bare: Value = serde_json::from_str(stored(3, "APPROVAL_DECIDED", None, "{}").frame()).unwrap();
        assert_eq!(bare["payload"], json!({}));
    }

    #[test]
    fn frames_of_odd_rows_are_json() {
        let name = "a\"b\\c\n\u{1}é</x>";
        for payload in ["", "null", "[1]", "{", "{}}", r#"{"a":1},"event":"x""#] {
            let envelope = stored(1, name, None, payload);
            let frame: Value = serde_json::from_str(envelope.frame()).unwrap();
            assert_eq!(frame["event"], name);
            assert_eq!(frame["payload"], json!({}));
            let sse = envelope.sse();
            let data = sse.strip_prefix("id: 1\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
            assert!(!data.contains('\n'));
            assert_eq!(serde_json::from_str::<Value>(data).unwrap()["type"], name);
        }
    }

    #[test]
    fn only_client_visible_events_have_texts() {
        for event in samples() {
            let wire = matches!(event.class(), Class::Durable | Class::Ephemeral);
            let stored = stored(1, event.name(), None, &event.payload());
            for envelope in [Envelope::ephemeral(None, &event, at()), stored] {
                assert_eq!(envelope.is_client_visible(), wire);
                assert_eq!(envelope.frame().is_empty(), !wire);
                assert_eq!(envelope.sse().is_empty(), !wire);
                assert_eq!(envelope.event().as_ref(), Some(&event));
            }
        }
    }

    #[test]
    fn a_sequenced_event_equals_the_one_read_from_its_row() {
        for event in samples() {
            let sequenced = Envelope::sequenced(EventSeq(5), Some(WORKSPACE), &event, at());
            let stored = stored(5, sequenced.name(), Some(WORKSPACE), sequenced.payload());
            assert_eq!((sequenced.frame(), sequenced.sse()), (stored.frame(), stored.sse()));
            assert_eq!((sequenced.seq(), sequenced.class()), (stored.seq(), stored.class()));
        }
    }

    #[test]
    fn a_stored_event_is_never_ephemeral() {
        let envelope = stored(1, HEARTBEAT, None, "{}");
        assert_eq!(envelope.class(), Class::Durable);
        assert!(!envelope.is_heartbeat());
        let token = Event::TokenChanged(TokenChanged { token_id: types::TokenId(WORKSPACE.0) });
        assert_eq!(stored(1, token.name(), None, &token.payload()).class(), Class::Internal);
    }
}
