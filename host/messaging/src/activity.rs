//! Activity: a stored row and the event that publishes it, made as a pair.

use events::{Event, definitions};
use store::{
    Change, CommitError,
    activity::{ActivityRow, InsertActivity},
    workspaces::WorkspaceIsLive,
};
use types::{ActivityId, WorkspaceId, clip};
use uuid::Uuid;
use wire_json::RawJson;

use crate::{Messaging, error::LogError, limits::ACTIVITY_TEXT_BYTES};

/// Statuses of a row.
pub(crate) const OK: &str = "ok";
pub(crate) const ERROR: &str = "error";

/// Activity of a workspace, to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Workspace in whose activity the row is listed.
    pub workspace_id: WorkspaceId,
    /// Type of activity, as clients filter by it.
    pub activity_type: String,
    /// Acting workspace; `None` for users.
    pub source_id: Option<WorkspaceId>,
    /// Workspace acted upon.
    pub target_id: Option<WorkspaceId>,
    /// JSON-RPC method.
    pub method: Option<String>,
    /// One line for people.
    pub summary: Option<String>,
    /// The request, as JSON.
    pub request_body: Option<RawJson>,
    /// The response, as JSON.
    pub response_body: Option<RawJson>,
    /// Tools used, as the agent reports them.
    pub tool_trace: Option<RawJson>,
    /// Milliseconds.
    pub duration_ms: Option<i64>,
    /// `ok` or `error`.
    pub status: String,
    /// Cause of an error.
    pub error_detail: Option<String>,
}

impl Entry {
    /// With texts of bounded size: those of agents may be as large as their answers.
    fn clipped(self) -> Self {
        let clipped = |text: Option<String>| text.map(|text| clip(text, ACTIVITY_TEXT_BYTES));
        Self {
            activity_type: clip(self.activity_type, ACTIVITY_TEXT_BYTES),
            method: clipped(self.method),
            summary: clipped(self.summary),
            status: clip(self.status, ACTIVITY_TEXT_BYTES),
            error_detail: clipped(self.error_detail),
            ..self
        }
    }

    pub(crate) fn into_row_and_event(self) -> (ActivityRow, Event) {
        self.clipped().into_parts()
    }

    fn into_parts(self) -> (ActivityRow, Event) {
        // Ids that grow with time: a random one would change another page of the index with each row.
        let (id, created_at) = (ActivityId(Uuid::now_v7()), store::now());
        let text = |body: &Option<RawJson>| body.as_ref().map(RawJson::to_string);
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
        let event = definitions::Activity {
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
    /// Records activity and publishes it. When this returns, the row is durable.
    ///
    /// # Errors
    /// If there is no such workspace, or the row can't be stored.
    pub async fn log(&self, entry: Entry) -> Result<(), LogError> {
        let (row, event) = entry.into_row_and_event();
        let id = row.workspace_id;
        let change = Change::of(InsertActivity(vec![row])).require(WorkspaceIsLive(id));
        match self.fleet.state().commit(change.with_event(id, event)).await {
            Ok(_) => Ok(()),
            Err(CommitError::PreconditionFailed(_)) => Err(LogError::NotFound),
            Err(error) => Err(LogError::Commit(error)),
        }
    }

    /// Writes a row behind; it is lost if its workspace is gone by then, or if too many rows wait: an
    /// agent's answer is worth more than its row.
    pub(crate) async fn write_behind(&self, row: ActivityRow) {
        self.fleet.state().write_behind(row).await;
    }

    /// Deletes activity that is older than this.
    pub(crate) async fn delete_old_activity(&self, age: chrono::Duration) {
        match self.fleet.store().delete_activity_before(store::now() - age).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old activity deleted"),
            Err(error) => tracing::warn!(%error, "old activity could not be deleted"),
        }
    }

    /// Publishes activity at once, and writes its row behind.
    pub(crate) async fn log_behind(&self, entry: Entry) {
        let workspace = entry.workspace_id;
        let (row, event) = entry.into_row_and_event();
        self.write_behind(row).await;
        self.fleet.state().publish_ephemeral(workspace, &event);
    }
}
