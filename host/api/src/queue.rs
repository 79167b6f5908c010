//! Messages that wait for busy agents: what became of one, and the removal of stale ones.

use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use http::request::Parts;
use messaging::Reader;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::queue::{QueueStatus, QueuedRow};
use types::{QueueItemId, WorkspaceId};

use crate::access::{AdminAuth, Caller, Credentials};
use crate::app::App;
use crate::errors::Refuse as _;
use crate::extract::{given, path_param};
use httpd::error::ApiError;
use httpd::headers::{WORKSPACE_ID, text};
use httpd::json::Json;
use httpd::parameters::Query;
use httpd::router_ext::RouterExt;

/// Minutes after which waiting messages are stale, unless the request says otherwise.
const STALE_MINUTES: i64 = 60;

/// `/workspaces/:id/a2a/queue/:queue_id` and `/admin/a2a-queue/drop-stale`.
pub fn routes(_: &App) -> Router<App> {
    Router::new()
        .endpoint("/workspaces/{id}/a2a/queue/{queue_id}", get(show))
        .endpoint("/admin/a2a-queue/drop-stale", post(drop_stale))
}

type Answer<T> = Result<Json<T>, ApiError>;

async fn show(State(app): State<App>, auth: QueuedMessageAuth) -> Answer<View> {
    let found = app.messaging.queued_message(auth.message, auth.workspace, auth.reader).await;
    let row = found.or_refuse("lookup failed")?.ok_or_else(not_found)?;
    Ok(Json(View::from(row)))
}

async fn drop_stale(State(app): State<App>, _: AdminAuth, Query(query): Query<StaleQuery>) -> Answer<Value> {
    let (minutes, workspace) = query.validate()?;
    let dropped = app.messaging.drop_stale(minutes, workspace).await;
    Ok(Json(json!({ "dropped": dropped.or_refuse("failed to drop stale items")? })))
}

/// The answer for an unknown message, and for one that the caller may not know of.
fn not_found() -> ApiError {
    ApiError::not_found("queue item not found")
}

/// The message that a path names, and the identity under which it is read.
struct QueuedMessageAuth {
    workspace: WorkspaceId,
    message: QueueItemId,
    reader: Reader,
}

impl FromRequestParts<App> for QueuedMessageAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let workspace = WorkspaceId::parse(&path_param(parts, "id").await).map_err(|_| not_found())?;
        let message = QueueItemId::parse(&path_param(parts, "queue_id").await).map_err(|_| not_found())?;
        let reader = reader(app, workspace, parts).ok_or_else(not_found)?;
        Ok(Self { workspace, message, reader })
    }
}

/// An agent with its own token, whatever workspace the path names; else an operator.
fn reader(app: &App, workspace: WorkspaceId, parts: &Parts) -> Option<Reader> {
    let credentials = Credentials::of(&parts.headers);
    if let Some(own) = app.access.workspace_of(&credentials) {
        let named = text(&parts.headers, WORKSPACE_ID).filter(|id| !id.is_empty());
        return named.is_none_or(|id| WorkspaceId::parse(id) == Ok(own)).then_some(Reader::Workspace(own));
    }
    let admitted = app.access.workspace(&workspace.to_string(), &credentials);
    let is_operator = matches!(admitted, Ok(Caller::AdminToken | Caller::OrgToken { .. } | Caller::DevMode));
    is_operator.then_some(Reader::Operator)
}

/// Fields in alphabetical order.
#[derive(Serialize)]
struct View {
    attempts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dispatched_at: Option<DateTime<Utc>>,
    enqueued_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    priority: i32,
    queue_id: QueueItemId,
    status: QueueStatus,
    workspace_id: WorkspaceId,
}

impl From<QueuedRow> for View {
    fn from(row: QueuedRow) -> Self {
        Self {
            attempts: row.attempts,
            completed_at: row.completed_at,
            dispatched_at: row.dispatched_at,
            enqueued_at: row.enqueued_at,
            expires_at: row.expires_at,
            last_error: row.last_error,
            priority: row.priority,
            queue_id: row.id,
            status: row.status,
            workspace_id: row.workspace_id,
        }
    }
}

#[derive(Deserialize)]
struct StaleQuery {
    max_age_minutes: Option<String>,
    workspace_id: Option<String>,
}

impl StaleQuery {
    fn validate(self) -> Result<(i64, Option<WorkspaceId>), ApiError> {
        let bad = ApiError::bad_request;
        let minutes = given(self.max_age_minutes).map_or(Ok(STALE_MINUTES), |text| text.parse());
        let minutes = minutes.ok().filter(|minutes| *minutes >= 1);
        let minutes = minutes.ok_or_else(|| bad("max_age_minutes must be a positive integer"))?;
        let workspace = given(self.workspace_id).map(|id| WorkspaceId::parse(&id)).transpose();
        Ok((minutes, workspace.map_err(|_| bad("workspace_id must be a UUID"))?))
    }
}
