//! Activity: a stored row and the event that publishes it, made as a pair.

use chrono::{DateTime, Utc};
use events::{Event, definitions};
use store::{
    Change, CommitError, StoreError,
    activity::{ActivityRow, EndAbandonedActivity, InsertActivity, LoggedActivity},
    message_keys::FirstAnswer,
    workspaces::WorkspaceIsLive,
};
use types::{ActivityId, WorkspaceId, clip};
use uuid::Uuid;
use wire_json::RawJson;

use crate::{
    Messaging,
    error::LogError,
    limits::{ABANDONED_ROWS, ACTIVITY_TEXT_BYTES},
};

/// Statuses of a row.
pub(crate) const OK: &str = "ok";
pub(crate) const ERROR: &str = "error";
/// Of a delivery that has not ended.
pub(crate) const PENDING: &str = "pending";

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
    /// Digest by which the message is recognized when it is sent again, if it was delivered.
    pub key: Option<String>,
    /// The answer that is given to the same message again, where the response alone does not say it.
    pub answer: Option<FirstAnswer>,
    /// Id and time of the row, where they were chosen at the begin of what it is about.
    pub begun: Option<Begun>,
}

/// Id and time of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    id: ActivityId,
    at: DateTime<Utc>,
}

impl Begun {
    /// A row that begins now.
    pub(crate) fn now() -> Self {
        // Ids that grow with time: a random one would change another page of the index with each row.
        Self { id: ActivityId(Uuid::now_v7()), at: store::now() }
    }
}

impl Entry {
    /// The row alone.
    pub(crate) fn into_row(self) -> ActivityRow {
        self.into_row_and_event().0
    }

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
        let Begun { id, at: created_at } = self.begun.unwrap_or_else(Begun::now);
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
            key: self.key,
            answer: self.answer.map(Box::new),
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

/// The end of a row whose server ended before an answer came, and the event that publishes it.
fn abandoned(row: ActivityRow, name: &str) -> (ActivityRow, Event) {
    let error = "the server stopped before an answer came";
    let row = ActivityRow {
        summary: Some(format!("A2A request to {name} failed: {error}")),
        status: ERROR.to_owned(),
        error_detail: Some(error.to_owned()),
        ..row
    };
    let event = definitions::Activity {
        activity_type: row.activity_type.clone(),
        created_at: row.created_at,
        duration_ms: row.duration_ms,
        error_detail: row.error_detail.clone(),
        id: row.id,
        method: row.method.clone(),
        request_body: row.request_body.as_deref().and_then(|text| RawJson::read(text.as_bytes()).ok()),
        response_body: None,
        source_id: row.source_id,
        status: Some(row.status.clone()),
        summary: row.summary.clone(),
        target_id: row.target_id,
        tool_trace: None,
    };
    (row, Event::ActivityLogged(Box::new(event)))
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

    /// Deletes activity that is older than this.
    pub(crate) async fn delete_old_activity(&self, age: chrono::Duration) {
        match self.fleet.store().delete_activity_before(store::time_ago(age)).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old activity deleted"),
            Err(error) => tracing::warn!(%error, "old activity could not be deleted"),
        }
    }

    /// Writes a row behind, and publishes it when it is readable. It is lost if its workspace is gone by then, or if
    /// too many rows wait: an agent's answer is worth more than its row. Returns whether it waits.
    pub(crate) async fn log_behind(&self, entry: Entry) -> bool {
        let state = self.fleet.state();
        let (row, event) = entry.into_row_and_event();
        let event = state.has_subscribers().then_some(event);
        if event.is_none() {
            state.hub().note(row.workspace_id);
        }
        state.write_behind(LoggedActivity { row, event }).await
    }

    /// Ends the rows of deliveries whose server ended before they did.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn end_abandoned(&self) -> Result<(), StoreError> {
        let state = self.fleet.state();
        let rows = state.store().abandoned_activity(state.server(), ABANDONED_ROWS).await?;
        for row in rows {
            let id = row.workspace_id;
            let name =
                self.fleet.workspaces().get(id).map_or_else(|| id.to_string(), |it| it.row.name.clone());
            let (row, event) = abandoned(row, &name);
            match state.commit(Change::of(EndAbandonedActivity(row)).with_event(id, event)).await {
                // Another server was earlier, or its own server lives and ended it.
                Ok(_) | Err(CommitError::Conflict) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(workspace = %id, error, "activity of a server that ended could not be ended");
                }
            }
        }
        Ok(())
    }
}
