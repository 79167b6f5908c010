//! Activity of a workspace: read by users and by agents that poll for messages; agents add to it by reports.

use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, SecondsFormat, Utc};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use messaging::{ActivityList, ActivityQuery, NextRows, Report};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::activity::ActivityRow;
use types::{ActivityId, WorkspaceId};
use wire_json::{RawJson, Text};

use crate::access::{Caller, WorkspaceAuth};
use crate::app::App;
use crate::errors::{activity_error, report_error};
use crate::extract::{ValidJson, Validate, given, given_text};
use crate::next_page::{Page, link};
use httpd::error::ApiError;
use httpd::json::Json;
use httpd::parameters::Query;
use httpd::router_ext::RouterExt;

/// `/workspaces/:id/activity`.
pub fn routes(_: &App) -> Router<App> {
    Router::new().endpoint("/workspaces/{id}/activity", get(list).post(report))
}

type Answer<T> = Result<Json<T>, ApiError>;

async fn list(
    State(app): State<App>,
    Wanted { query, caller }: Wanted,
    uri: Uri,
) -> Result<Response, ApiError> {
    let page = Page::begin().await?;
    let ActivityList { rows, next } = app.messaging.activity(query).await.map_err(activity_error)?;
    let rows: Vec<View> = rows.into_iter().map(View::from).collect();
    let text = wire_json::to_vec(&rows).map_err(|error| ApiError::internal(&error))?;
    drop(rows);
    Ok((next.and_then(|next| next_page(&uri, next)), page.end(&caller, text.into()).await?).into_response())
}

/// Where the rows go on that did not fit.
fn next_page(uri: &Uri, next: NextRows) -> Option<[(HeaderName, HeaderValue); 1]> {
    match next {
        NextRows::After(id) => link(uri, "since_id", &id.to_string()),
        NextRows::Before(at) => link(uri, "before_ts", &at.to_rfc3339_opts(SecondsFormat::Micros, true)),
    }
}

async fn report(
    State(app): State<App>,
    auth: WorkspaceAuth,
    ValidJson(report): ValidJson<Report>,
) -> Answer<Value> {
    app.messaging.report(auth.id, report).await.map_err(report_error)?;
    Ok(Json(json!({ "status": "logged" })))
}

// === Reading ===

/// The rows that the query of the address asks for, of the workspace that the path names.
struct Wanted {
    query: ActivityQuery,
    caller: Caller,
}

/// Empty parameters count as not given.
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

impl FromRequestParts<App> for Wanted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let auth = WorkspaceAuth::from_request_parts(parts, app).await?;
        let Query(query) = Query::from_request_parts(parts, app).await?;
        Ok(Self { query: wanted(&auth, query)?, caller: auth.caller })
    }
}

fn wanted(auth: &WorkspaceAuth, query: ListQuery) -> Result<ActivityQuery, ApiError> {
    let bad = ApiError::bad_request;
    let peer = given(query.peer_id).map(|text| WorkspaceId::parse(&text)).transpose();
    let before = given(query.before_ts).map(|text| DateTime::parse_from_rfc3339(&text)).transpose();
    let peer = peer.map_err(|_| bad("peer_id must be a UUID"))?;
    let before = before
        .map_err(|_| bad("before_ts must be an RFC3339 timestamp (e.g. 2026-05-01T00:00:00Z)"))?
        .map(|at| at.to_utc().min(store::LATEST));
    let since_secs = match given(query.since_secs).map(|text| text.parse::<i64>()) {
        None => None,
        Some(Ok(seconds)) if seconds > 0 => Some(seconds),
        Some(_) => return Err(bad("since_secs must be a positive integer")),
    };
    let limit = query.limit.and_then(|text| text.parse::<i64>().ok()).and_then(|n| u64::try_from(n).ok());
    Ok(ActivityQuery {
        workspace: auth.id,
        by_own_agent: matches!(auth.caller, Caller::Workspace { .. }),
        activity_type: given(query.r#type),
        source: given(query.source),
        peer,
        before,
        since_secs,
        after: given(query.since_id),
        limit: limit.filter(|limit| *limit > 0),
    })
}

/// A row as clients read it. Fields in alphabetical order.
#[derive(Serialize)]
struct View {
    activity_type: String,
    created_at: DateTime<Utc>,
    duration_ms: Option<i64>,
    error_detail: Option<String>,
    id: ActivityId,
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<RawJson>,
    source_id: Option<WorkspaceId>,
    status: String,
    summary: Option<String>,
    target_id: Option<WorkspaceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_trace: Option<RawJson>,
    workspace_id: WorkspaceId,
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
            request_body: row.request_body.as_deref().map(json_of),
            response_body: row.response_body.as_deref().map(json_of),
            source_id: row.source_id,
            status: row.status,
            summary: row.summary,
            target_id: row.target_id,
            tool_trace: row.tool_trace.as_deref().map(json_of),
            workspace_id: row.workspace_id,
        }
    }
}

/// Stored as JSON text; a row of an older version as text is a string.
fn json_of(text: &str) -> RawJson {
    RawJson::trusted(text.to_owned()).unwrap_or_else(|_| RawJson::render(text))
}

// === Reports ===

/// The JSON form of a report.
#[derive(Deserialize)]
pub(crate) struct ReportBody {
    activity_type: Option<Text>,
    method: Option<Text>,
    summary: Option<Text>,
    target_id: Option<String>,
    source_id: Option<String>,
    status: Option<Text>,
    error_detail: Option<Text>,
    duration_ms: Option<i64>,
    request_body: Option<RawJson>,
    response_body: Option<RawJson>,
    metadata: Option<RawJson>,
}

impl Validate for Report {
    type Wire = ReportBody;

    fn validate(body: ReportBody) -> Result<Self, ApiError> {
        let Some(activity_type) = given_text(body.activity_type) else {
            let detail = json!({ "detail": "ActivityType is required", "error": "invalid request body" });
            return Err(ApiError::with_body(StatusCode::BAD_REQUEST, detail));
        };
        Ok(Self {
            activity_type,
            source_id: given(body.source_id),
            target_id: given(body.target_id),
            method: given_text(body.method),
            summary: given_text(body.summary),
            request_body: body.request_body.or(body.metadata),
            response_body: body.response_body,
            duration_ms: body.duration_ms,
            status: given_text(body.status),
            error_detail: given_text(body.error_detail),
        })
    }
}
