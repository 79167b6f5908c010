//! Bearer tokens: of a workspace, of the organization, and for tests.

use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::routing::{delete, get};
use chrono::{DateTime, Utc};
use credentials::Maker;
use fleet::LiveToken;
use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use types::{OrgId, Owner, TokenId, WorkspaceId};

use crate::access::{AdminAuth, Caller, Credentials, LiveWorkspace, WorkspaceAuth};
use crate::app::App;
use crate::errors::Refuse as _;
use crate::extract::{TokenPath, given, path_param};
use httpd::error::ApiError;
use httpd::json::{Body, Json};
use httpd::parameters::Query;
use httpd::router_ext::RouterExt;

/// Tokens of a workspace in one answer.
const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 200;

/// Tokens of the organization in one answer.
const MAX_ORG_PAGE: usize = 500;

/// Bytes of a token's name at most.
const NAME_BYTES: usize = 100;

/// `/workspaces/:id/tokens`, `/org/tokens` and the token for tests.
pub fn routes(_: &App) -> Router<App> {
    Router::new()
        .endpoint("/workspaces/{id}/tokens", get(list).post(mint_own))
        .endpoint("/workspaces/{id}/tokens/{token}", delete(revoke))
        .endpoint("/org/tokens", get(list_org).post(mint_org))
        .endpoint("/org/tokens/{token}", delete(revoke_org))
        .endpoint("/admin/workspaces/{id}/test-token", get(test_token))
}

type Answer<T = Json<Value>> = Result<T, ApiError>;

// === Of a workspace ===

async fn list(
    State(app): State<App>,
    LiveWorkspace(auth): LiveWorkspace,
    Query(page): Query<Page>,
) -> Json<Value> {
    let (offset, limit) = page.range();
    let tokens = app.fleet.credentials().tokens_of(Owner::Workspace(auth.id));
    let views: Vec<OwnView> =
        tokens.iter().skip(offset).take(limit).map(|token| OwnView::of(token)).collect();
    Json(json!({ "count": views.len(), "tokens": views }))
}

async fn mint_own(State(app): State<App>, auth: WorkspaceAuth) -> Answer<(StatusCode, Json<Value>)> {
    let minted = app.fleet.credentials().issue(auth.id, auth.caller.maker(), true).await;
    let body = json!({
        "auth_token": minted.or_refuse("failed to create token")?.text,
        "message": "Save this token now — it cannot be retrieved again.",
        "workspace_id": auth.id,
    });
    Ok((StatusCode::CREATED, Json(body)))
}

async fn revoke(
    State(app): State<App>,
    LiveWorkspace(auth): LiveWorkspace,
    TokenPath(token): TokenPath,
) -> Answer {
    app.fleet
        .credentials()
        .revoke(Owner::Workspace(auth.id), token)
        .await
        .or_refuse("failed to revoke token")?;
    Ok(Json(json!({ "status": "revoked" })))
}

#[derive(Deserialize)]
struct Page {
    limit: Option<String>,
    offset: Option<String>,
}

impl Page {
    /// Offset and limit. Values that make no sense count as not given.
    fn range(self) -> (usize, usize) {
        let number = |text: Option<String>| text.and_then(|text| text.parse::<usize>().ok());
        let limit = number(self.limit).filter(|limit| (1..=MAX_PAGE).contains(limit));
        (number(self.offset).unwrap_or_default(), limit.unwrap_or(DEFAULT_PAGE))
    }
}

#[derive(Serialize)]
struct OwnView {
    created_at: DateTime<Utc>,
    id: TokenId,
    last_used_at: Option<DateTime<Utc>>,
    prefix: String,
}

impl OwnView {
    fn of(token: &LiveToken) -> Self {
        Self {
            created_at: token.row.created_at,
            id: token.row.id,
            last_used_at: token.last_used_at(),
            prefix: token.row.prefix.clone(),
        }
    }
}

// === Of the organization ===

async fn list_org(State(app): State<App>, _: AdminAuth) -> Json<Value> {
    let tokens = app.fleet.credentials().tokens_of(Owner::Organization);
    let views: Vec<OrgView> = tokens.iter().take(MAX_ORG_PAGE).map(|token| OrgView::of(token)).collect();
    Json(json!({ "count": views.len(), "tokens": views }))
}

async fn mint_org(State(app): State<App>, new: NewOrgToken) -> Answer {
    let limited = !app.access.dev_mode();
    let minted = app.fleet.credentials().issue_for_org(new.name.clone(), new.org_id, new.by, limited).await;
    let minted = minted.or_refuse("failed to mint token")?;
    let mut body = json!({
        "auth_token": minted.text,
        "id": minted.row.id,
        "prefix": minted.row.prefix,
        "warning": "copy this token now; it will not be shown again",
    });
    if let (Some(name), Some(fields)) = (new.name, body.as_object_mut()) {
        fields.insert("name".to_owned(), json!(name));
    }
    Ok(Json(body))
}

async fn revoke_org(State(app): State<App>, _: AdminAuth, TokenPath(token): TokenPath) -> Answer {
    app.fleet.credentials().revoke(Owner::Organization, token).await.or_refuse("failed to revoke")?;
    Ok(Json(json!({ "revoked": token })))
}

/// A token of the organization that the caller may make.
struct NewOrgToken {
    name: Option<String>,
    org_id: Option<OrgId>,
    by: Maker,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MintBody {
    name: Option<String>,
    org_id: Value,
}

impl FromRequest<App> for NewOrgToken {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let AdminAuth(caller) = AdminAuth::from_request_parts(&mut parts, app).await?;
        let Body(body) = Body::from_request(Request::from_parts(parts, body), app).await?;
        // A body that is not JSON counts as an empty one.
        let body: MintBody = wire_json::from_slice(&body).unwrap_or_default();
        let name = given(body.name);
        if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES) {
            return Err(ApiError::bad_request("name too long (max 100 chars)"));
        }
        if name.as_ref().is_some_and(|name| name.contains('\0')) {
            return Err(ApiError::bad_request("name contains invalid characters"));
        }
        let org_id = match &caller {
            // A token that is bound to an organization makes tokens of that organization only.
            Caller::OrgToken { org_id: Some(bound), .. } => Some(*bound),
            _ if body.org_id.is_null() => None,
            _ => {
                let id = body.org_id.as_str().and_then(|id| WorkspaceId::parse(id).ok());
                let id = id.filter(|id| app.fleet.workspaces().get(*id).is_some());
                Some(id.ok_or_else(|| ApiError::bad_request("org_id is not a workspace"))?.into())
            }
        };
        Ok(Self { name, org_id, by: caller.maker() })
    }
}

#[derive(Serialize)]
struct OrgView {
    created_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    id: TokenId,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org_id: Option<OrgId>,
    prefix: String,
}

impl OrgView {
    fn of(token: &LiveToken) -> Self {
        Self {
            created_at: token.row.created_at,
            created_by: token.row.created_by.clone(),
            id: token.row.id,
            last_used_at: token.last_used_at(),
            name: token.row.name.clone(),
            org_id: token.row.org_id,
            prefix: token.row.prefix.clone(),
        }
    }
}

// === For tests ===

/// Scripts get their first token here.
async fn test_token(State(app): State<App>, TestTokenAuth(id): TestTokenAuth) -> Answer {
    let minted =
        app.fleet.credentials().issue(id, "test-token", false).await.or_refuse("token issue failed")?;
    Ok(Json(json!({ "auth_token": minted.text, "workspace_id": id })))
}

/// The workspace that a path names, for a caller that may get a token for tests.
struct TestTokenAuth(WorkspaceId);

impl FromRequestParts<App> for TestTokenAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if !app.test_tokens {
            return Err(ApiError::not_found("not found"));
        }
        app.access.test_tokens(&Credentials::of(&parts.headers))?;
        let id = WorkspaceId::parse(&path_param(parts, "id").await);
        id.map(Self).map_err(|_| ApiError::not_found("workspace not found"))
    }
}
