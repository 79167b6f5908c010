//! Activity: the row that is kept of something, and the event that tells of it, made as a pair.

use events::{Event, catalogue};
use fleet::FleetError;
use serde_json::Value;
use store::activity::ActivityRow;
use uuid::Uuid;

use crate::deliver::Messaging;

/// Kind of activity: a message came in.
pub(crate) const RECEIVED: &str = "a2a_receive";

/// It went well.
pub(crate) const OK: &str = "ok";

/// It didn't.
pub(crate) const ERROR: &str = "error";

/// Something that happened, to be written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Whose activity it is.
    pub workspace_id: Uuid,
    /// Kind of activity.
    pub activity_type: String,
    /// Who did it; none for people.
    pub source_id: Option<Uuid>,
    /// To whom.
    pub target_id: Option<Uuid>,
    /// Its method.
    pub method: Option<String>,
    /// In one line.
    pub summary: Option<String>,
    /// The request.
    pub request_body: Option<Value>,
    /// The response.
    pub response_body: Option<Value>,
    /// Tools that were used.
    pub tool_trace: Option<Value>,
    /// How long it took, milliseconds.
    pub duration_ms: Option<i64>,
    /// How it went.
    pub status: String,
    /// What went wrong.
    pub error_detail: Option<String>,
}

impl Entry {
    fn row_and_event(self) -> (ActivityRow, Event) {
        let (id, created_at) = (Uuid::new_v4(), store::now());
        let text = |body: &Option<Value>| body.as_ref().map(Value::to_string);
        let row = ActivityRow {
            id,
            workspace_id: self.workspace_id,
            activity_type: self.activity_type.clone(),
            source_id: self.source_id,
            target_id: self.target_id,
            method: self.method.clone(),
            summary: self.summary.clone(),
            request_body: text(&self.request_body),
            response_body: text(&self.response_body),
            tool_trace: text(&self.tool_trace),
            duration_ms: self.duration_ms,
            status: self.status.clone(),
            error_detail: self.error_detail.clone(),
            created_at,
        };
        let event = catalogue::Activity {
            activity_type: self.activity_type,
            created_at,
            duration_ms: self.duration_ms,
            error_detail: self.error_detail,
            id,
            method: self.method,
            request_body: self.request_body,
            response_body: self.response_body,
            source_id: self.source_id,
            status: Some(self.status),
            summary: self.summary,
            target_id: self.target_id,
            tool_trace: self.tool_trace,
        };
        (row, Event::ActivityLogged(Box::new(event)))
    }
}

impl Messaging {
    /// Writes something down for good and tells of it. When this returns, it is readable.
    ///
    /// # Errors
    /// If its workspace isn't there, or it can't be stored.
    pub async fn log(&self, entry: Entry) -> Result<(), FleetError> {
        let (row, event) = entry.row_and_event();
        self.fleet.log(row, event).await
    }

    /// Tells of something at once, and writes it down a moment later.
    pub(crate) async fn log_behind(&self, entry: Entry) {
        let workspace = entry.workspace_id;
        let (row, event) = entry.row_and_event();
        self.fleet.log_behind(row).await;
        self.fleet.state().publish_ephemeral(workspace, &event);
    }
}
