//! Activity of a workspace: read by people and by agents that fetch their messages, and added to by
//! agents that report.

use axum::Router;
use axum::extract::{Extension, State};
use axum::routing::get;
use chrono::{DateTime, Duration, Utc};
use http::StatusCode;
use messaging::Entry;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::activity::{ActivityFilter, ActivityRow};
use uuid::Uuid;

use crate::access::{WorkspaceId, workspace};
use crate::app::App;
use crate::errors::fleet_error;
use httpd::error::ApiError;
use httpd::json::{Body, Json};
use httpd::parameters::Query;
use httpd::router_ext::RouterExt;

/// Rows in one answer, when nobody says how many, and at most.
const ROWS: u64 = 100;
const MOST_ROWS: u64 = 500;

/// Seconds that can be looked back by: thirty days.
const LONGEST_AGO: i64 = 2_592_000;

/// What agents may report.
const REPORTED: [&str; 7] =
    ["a2a_send", "a2a_receive", "task_update", "agent_log", "skill_promotion", "memory_write", "error"];

/// `/workspaces/:id/activity`.
pub fn routes(app: &App) -> Router<App> {
    Router::new().endpoint("/workspaces/{id}/activity", workspace(&app.access, get(list).post(report)))
}

type Answer<T> = Result<Json<T>, ApiError>;

// === Reading ===

#[derive(Deserialize)]
struct ListQuery {
    r#type: Option<String>,
    source: Option<String>,
    peer_id: Option<String>,
    before_ts: Option<String>,
    since_secs: Option<String>,
    since_id: Option<String>,
    limit: Option<String>,
}

/// A row as clients read it. Fields in alphabetical order.
#[derive(Serialize)]
struct View {
    activity_type: String,
    created_at: DateTime<Utc>,
    duration_ms: Option<i64>,
    error_detail: Option<String>,
    id: Uuid,
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<Value>,
    source_id: Option<Uuid>,
    status: String,
    summary: Option<String>,
    target_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_trace: Option<Value>,
    workspace_id: Uuid,
}

async fn list(
    State(app): State<App>,
    Extension(WorkspaceId(id)): Extension<WorkspaceId>,
    Query(query): Query<ListQuery>,
) -> Answer<Vec<View>> {
    let filter = filter(&app, id, query).await?;
    let rows = app.fleet.store().activity(&filter).await;
    let rows = rows.map_err(|error| fleet_error(error.into(), "query failed"))?;
    Ok(Json(rows.into_iter().map(View::from).collect()))
}

/// What is asked for. Parameters that are empty are not given.
async fn filter(app: &App, workspace: Uuid, query: ListQuery) -> Result<ActivityFilter, ApiError> {
    let given = |parameter: Option<String>| parameter.filter(|text| !text.is_empty());
    let bad = ApiError::bad_request;
    let peer = given(query.peer_id).map(|text| Uuid::parse_str(&text)).transpose();
    let before = given(query.before_ts).map(|text| DateTime::parse_from_rfc3339(&text)).transpose();
    let peer = peer.map_err(|_| bad("peer_id must be a UUID"))?;
    let before = before
        .map_err(|_| bad("before_ts must be an RFC3339 timestamp (e.g. 2026-05-01T00:00:00Z)"))?
        .map(|at| at.to_utc());
    let since = match given(query.since_secs).map(|text| text.parse::<i64>()) {
        None => None,
        Some(Ok(seconds)) if seconds > 0 => Some(store::now() - Duration::seconds(seconds.min(LONGEST_AGO))),
        Some(_) => return Err(bad("since_secs must be a positive integer")),
    };
    let after = match given(query.since_id) {
        None => None,
        Some(cursor) => Some(place(app, workspace, &cursor).await?),
    };
    let by_agents = match given(query.source).as_deref() {
        None => None,
        Some("canvas") => Some(false),
        Some("agent") => Some(true),
        Some(_) => return Err(bad("source must be 'canvas' or 'agent'")),
    };
    let limit = query.limit.and_then(|text| text.parse::<i64>().ok()).and_then(|n| u64::try_from(n).ok());
    Ok(ActivityFilter {
        workspace,
        activity_type: given(query.r#type),
        by_agents,
        peer,
        before,
        since,
        after,
        limit: limit.filter(|limit| *limit > 0).unwrap_or(ROWS).min(MOST_ROWS),
    })
}

/// Where a reader stopped. One that doesn't know any more begins anew, which pollers do on this answer
/// only.
async fn place(app: &App, workspace: Uuid, cursor: &str) -> Result<store::activity::Place, ApiError> {
    let gone = || {
        ApiError::new(
            StatusCode::GONE,
            "since_id cursor not found (row may have been pruned or belongs to a different workspace); \
             omit since_id to reset",
        )
    };
    let cursor = Uuid::parse_str(cursor).map_err(|_| gone())?;
    let found = app.fleet.store().activity_place(workspace, cursor).await;
    found.map_err(|error| fleet_error(error.into(), "cursor lookup failed"))?.ok_or_else(gone)
}

impl From<ActivityRow> for View {
    fn from(row: ActivityRow) -> Self {
        Self {
            activity_type: row.activity_type,
            created_at: row.created_at,
            duration_ms: row.duration_ms,
            error_detail: row.error_detail,
            id: row.id,
            method: row.method,
            request_body: row.request_body.map(json_of),
            response_body: row.response_body.map(json_of),
            source_id: row.source_id,
            status: row.status,
            summary: row.summary,
            target_id: row.target_id,
            tool_trace: row.tool_trace.map(json_of),
            workspace_id: row.workspace_id,
        }
    }
}

fn json_of(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

// === Reports ===

#[derive(Deserialize)]
struct ReportBody {
    activity_type: Option<String>,
    method: Option<String>,
    summary: Option<String>,
    target_id: Option<String>,
    source_id: Option<String>,
    status: Option<String>,
    error_detail: Option<String>,
    duration_ms: Option<i64>,
    request_body: Option<Value>,
    response_body: Option<Value>,
    metadata: Option<Value>,
}

async fn report(
    State(app): State<App>,
    Extension(WorkspaceId(id)): Extension<WorkspaceId>,
    Body(body): Body,
) -> Answer<Value> {
    let entry = entry(id, &body)?;
    let logged = app.messaging.log(entry).await;
    logged.map_err(|error| fleet_error(error, "failed to log activity"))?;
    Ok(Json(json!({ "status": "logged" })))
}

fn entry(workspace: Uuid, body: &[u8]) -> Result<Entry, ApiError> {
    let body: ReportBody = serde_json::from_slice(body).map_err(|error| {
        tracing::debug!(%error, "not a report");
        ApiError::invalid_body()
    })?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let Some(activity_type) = given(body.activity_type) else {
        let detail = json!({ "detail": "ActivityType is required", "error": "invalid request body" });
        return Err(ApiError::with_body(StatusCode::BAD_REQUEST, detail));
    };
    if !REPORTED.contains(&activity_type.as_str()) {
        let text = format!("invalid activity_type, must be one of: {}", REPORTED.join(", "));
        return Err(ApiError::bad_request(&text));
    }
    let ours = |source: &String| Uuid::parse_str(source) == Ok(workspace);
    if !given(body.source_id).as_ref().is_none_or(ours) {
        return Err(ApiError::forbidden("source_id must match authenticated workspace"));
    }
    let target_id = given(body.target_id).map(|target| Uuid::parse_str(&target)).transpose();
    Ok(Entry {
        workspace_id: workspace,
        activity_type,
        source_id: Some(workspace),
        target_id: target_id.map_err(|_| ApiError::bad_request("target_id must be a UUID"))?,
        method: given(body.method),
        summary: given(body.summary),
        request_body: body.request_body.or(body.metadata),
        response_body: body.response_body,
        tool_trace: None,
        duration_ms: body.duration_ms,
        status: given(body.status).unwrap_or_else(|| "ok".to_owned()),
        error_detail: given(body.error_detail),
    })
}
