//! Bearer tokens: of a workspace, of the organisation, and for tests.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::routing::{delete, get};
use chrono::{DateTime, Utc};
use fleet::tokens::LiveToken;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access::{Caller, Credentials, WorkspaceId, admin, workspace};
use crate::app::App;
use crate::errors::fleet_error;
use httpd::error::ApiError;
use httpd::json::{Body, Json};
use httpd::parameters::{PathParam, Query};
use httpd::rate_limit::limited;
use httpd::router_ext::RouterExt;

/// Tokens of a workspace that are listed when nobody says how many, and at most.
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;

/// Tokens of the organisation that are listed at most.
const ORG_PAGE: usize = 500;

/// Bytes of a token's name at most.
const NAME_BYTES: usize = 100;

/// `/workspaces/:id/tokens`, `/org/tokens` and the token for tests.
pub fn routes(app: &App) -> Router<App> {
    let access = &app.access;
    let mint = limited(&app.limits.mint, axum::routing::post(mint_org));
    Router::new()
        .endpoint("/workspaces/{id}/tokens", workspace(access, get(list).post(mint_own)))
        .endpoint("/workspaces/{id}/tokens/{token}", workspace(access, delete(revoke)))
        .endpoint("/org/tokens", admin(access, get(list_org).merge(mint)))
        .endpoint("/org/tokens/{token}", admin(access, delete(revoke_org)))
        .endpoint("/admin/workspaces/{id}/test-token", get(test_token))
}

type Answer<T = Json<Value>> = Result<T, ApiError>;

// === Of a workspace ===

#[derive(Deserialize)]
struct Page {
    limit: Option<String>,
    offset: Option<String>,
}

#[derive(Serialize)]
struct OwnView {
    created_at: DateTime<Utc>,
    id: Uuid,
    last_used_at: Option<DateTime<Utc>>,
    prefix: String,
}

async fn list(
    State(app): State<App>,
    Extension(WorkspaceId(id)): Extension<WorkspaceId>,
    Query(page): Query<Page>,
) -> Answer {
    there(&app, id)?;
    let number = |text: Option<String>| text.and_then(|text| text.parse::<usize>().ok());
    let limit = number(page.limit).filter(|limit| (1..=LARGEST_PAGE).contains(limit)).unwrap_or(PAGE);
    let tokens = app.fleet.tokens_of(Some(id));
    let page = tokens.iter().skip(number(page.offset).unwrap_or_default()).take(limit);
    let views: Vec<OwnView> = page.map(own_view).collect();
    Ok(Json(json!({ "count": views.len(), "tokens": views })))
}

fn own_view(token: &Arc<LiveToken>) -> OwnView {
    OwnView {
        created_at: token.row.created_at,
        id: token.row.id,
        last_used_at: token.last_used_at(),
        prefix: token.row.prefix.clone(),
    }
}

async fn mint_own(
    State(app): State<App>,
    Extension(WorkspaceId(id)): Extension<WorkspaceId>,
    Extension(caller): Extension<Caller>,
) -> Answer<(StatusCode, Json<Value>)> {
    let minted = app.fleet.mint(id, &caller.to_string(), true).await;
    let minted = minted.map_err(|error| fleet_error(error, "failed to create token"))?;
    let body = json!({
        "auth_token": minted.text,
        "message": "Save this token now — it cannot be retrieved again.",
        "workspace_id": id,
    });
    Ok((StatusCode::CREATED, Json(body)))
}

async fn revoke(
    State(app): State<App>,
    Extension(WorkspaceId(id)): Extension<WorkspaceId>,
    Path((_, token)): Path<(String, String)>,
) -> Answer {
    there(&app, id)?;
    let token = parse(&token)?;
    let revoked = app.fleet.revoke(Some(id), token).await;
    revoked.map_err(|error| fleet_error(error, "failed to revoke token"))?;
    Ok(Json(json!({ "status": "revoked" })))
}

fn there(app: &App, id: Uuid) -> Result<(), ApiError> {
    let there = app.fleet.directory().get(id).is_some();
    if there { Ok(()) } else { Err(ApiError::not_found("workspace not found")) }
}

// === Of the organisation ===

#[derive(Serialize)]
struct OrgView {
    created_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org_id: Option<Uuid>,
    prefix: String,
}

async fn list_org(State(app): State<App>) -> Json<Value> {
    let tokens = app.fleet.tokens_of(None);
    let view = |token: &Arc<LiveToken>| OrgView {
        created_at: token.row.created_at,
        created_by: token.row.created_by.clone(),
        id: token.row.id,
        last_used_at: token.last_used_at(),
        name: token.row.name.clone(),
        org_id: token.row.org_id,
        prefix: token.row.prefix.clone(),
    };
    let views: Vec<OrgView> = tokens.iter().take(ORG_PAGE).map(view).collect();
    Json(json!({ "count": views.len(), "tokens": views }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MintBody {
    name: Option<String>,
    org_id: Value,
}

async fn mint_org(State(app): State<App>, Extension(caller): Extension<Caller>, Body(body): Body) -> Answer {
    let body: MintBody = serde_json::from_slice(&body).unwrap_or_default();
    let name = body.name.filter(|name| !name.is_empty());
    if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES) {
        return Err(ApiError::bad_request("name too long (max 100 chars)"));
    }
    let org_id = match &caller {
        Caller::OrgToken { org_id: Some(bound), .. } => Some(*bound),
        _ if body.org_id.is_null() => None,
        _ => {
            let id = body.org_id.as_str().and_then(|id| Uuid::parse_str(id).ok());
            let id = id.filter(|id| app.fleet.directory().get(*id).is_some());
            Some(id.ok_or_else(|| ApiError::bad_request("org_id is not a workspace"))?)
        }
    };
    let minted = app.fleet.mint_org(name.clone(), org_id, &caller.to_string()).await;
    let minted = minted.map_err(|error| fleet_error(error, "failed to mint token"))?;
    let mut body = json!({
        "auth_token": minted.text,
        "id": minted.row.id,
        "prefix": minted.row.prefix,
        "warning": "copy this token now; it will not be shown again",
    });
    if let (Some(name), Some(fields)) = (name, body.as_object_mut()) {
        fields.insert("name".to_owned(), json!(name));
    }
    Ok(Json(body))
}

async fn revoke_org(State(app): State<App>, PathParam(token): PathParam) -> Answer {
    let id = parse(&token)?;
    app.fleet.revoke(None, id).await.map_err(|error| fleet_error(error, "failed to revoke"))?;
    Ok(Json(json!({ "revoked": id })))
}

// === For tests ===

/// Scripts bootstrap with it. Judges its callers itself: only the admin token counts, where there is one.
async fn test_token(State(app): State<App>, PathParam(id): PathParam, headers: HeaderMap) -> Answer {
    if !app.test_tokens {
        return Err(ApiError::not_found("not found"));
    }
    let bearer = Credentials::of(&headers).bearer();
    if app.access.has_admin_token() && !bearer.is_some_and(|bearer| app.access.is_admin_token(bearer)) {
        return Err(ApiError::unauthorized("admin auth required"));
    }
    let id = Uuid::parse_str(&id).map_err(|_| ApiError::not_found("workspace not found"))?;
    let minted = app.fleet.mint(id, "test-token", false).await;
    let minted = minted.map_err(|error| fleet_error(error, "token issue failed"))?;
    Ok(Json(json!({ "auth_token": minted.text, "workspace_id": id })))
}

fn parse(token: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(token).map_err(|_| ApiError::not_found("token not found or already revoked"))
}
