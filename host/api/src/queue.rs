//! Messages that wait for agents that are busy: what became of one, and an end to old ones.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use chrono::{DateTime, Duration, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::queue::{QueueStatus, QueuedRow};
use uuid::Uuid;

use crate::access::{Caller, Credentials, admin};
use crate::app::App;
use crate::errors::fleet_error;
use httpd::error::ApiError;
use httpd::headers::{WORKSPACE_ID, text};
use httpd::json::Json;
use httpd::parameters::Query;
use httpd::router_ext::RouterExt;

/// Minutes after which waiting messages are stale, when nobody says otherwise.
const STALE_MINUTES: i64 = 60;

/// `/workspaces/:id/a2a/queue/:queue_id`, which judges its callers itself: only some may know that there
/// is such a message. And `/admin/a2a-queue/drop-stale`.
pub fn routes(app: &App) -> Router<App> {
    Router::new()
        .endpoint("/workspaces/{id}/a2a/queue/{queue_id}", get(show))
        .endpoint("/admin/a2a-queue/drop-stale", admin(&app.access, post(drop_stale)))
}

type Answer<T> = Result<Json<T>, ApiError>;

/// A message as those may read it whom it concerns. Fields in alphabetical order.
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
    queue_id: Uuid,
    status: QueueStatus,
    workspace_id: Uuid,
}

async fn show(
    State(app): State<App>,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    headers: HeaderMap,
) -> Answer<View> {
    let nothing = || ApiError::not_found("queue item not found");
    let Path((named, item)) = path.map_err(|_| nothing())?;
    let (Ok(named), Ok(item)) = (Uuid::parse_str(&named), Uuid::parse_str(&item)) else {
        return Err(nothing());
    };
    let found = app.fleet.store().queued(item).await;
    let row = found.map_err(|error| fleet_error(error.into(), "lookup failed"))?.ok_or_else(nothing)?;
    if !concerns(&row, named) || !may_read(&app, &row, named, &headers) {
        return Err(nothing());
    }
    Ok(Json(View {
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
    }))
}

/// Is it from or for this workspace?
fn concerns(row: &QueuedRow, workspace: Uuid) -> bool {
    row.workspace_id == workspace || row.caller_id == Some(workspace)
}

/// Both ends may, each with its own token, and who rules over both.
fn may_read(app: &App, row: &QueuedRow, named: Uuid, headers: &HeaderMap) -> bool {
    let credentials = Credentials::of(headers);
    let bearer = credentials.bearer().and_then(|bearer| app.fleet.authenticate(bearer));
    match bearer.and_then(|token| token.row.workspace_id) {
        Some(own) => {
            let says = text(headers, WORKSPACE_ID).filter(|id| !id.is_empty());
            let agrees = says.is_none_or(|id| Uuid::parse_str(id) == Ok(own));
            agrees && concerns(row, own)
        }
        None => {
            let admitted = app.access.workspace(&named.to_string(), &credentials);
            matches!(admitted, Ok(Caller::AdminToken | Caller::OrgToken { .. } | Caller::DevMode))
        }
    }
}

#[derive(Deserialize)]
struct StaleQuery {
    max_age_minutes: Option<String>,
    workspace_id: Option<String>,
}

async fn drop_stale(State(app): State<App>, Query(query): Query<StaleQuery>) -> Answer<Value> {
    let bad = ApiError::bad_request;
    let given = |parameter: Option<String>| parameter.filter(|text| !text.is_empty());
    let minutes = given(query.max_age_minutes).map_or(Ok(STALE_MINUTES), |text| text.parse());
    let minutes = minutes.ok().filter(|minutes| *minutes >= 1);
    let minutes = minutes.ok_or_else(|| bad("max_age_minutes must be a positive integer"))?;
    let workspace = given(query.workspace_id).map(|id| Uuid::parse_str(&id)).transpose();
    let workspace = workspace.map_err(|_| bad("workspace_id must be a UUID"))?;
    // Older than time itself is nothing.
    let before = Duration::try_minutes(minutes).and_then(|age| store::now().checked_sub_signed(age));
    let dropped = match before {
        Some(before) => app.fleet.store().drop_stale_queued(before, workspace).await,
        None => Ok(0),
    };
    let dropped = dropped.map_err(|error| fleet_error(error.into(), "failed to drop stale items"))?;
    Ok(Json(json!({ "dropped": dropped })))
}
