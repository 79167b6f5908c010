//! The auth classes of the contract as arguments of handlers.
//!
//! [`Access`] holds the rules. Handlers name the class they need by an extractor ([`AdminAuth`],
//! [`WorkspaceAuth`], [`AgentAuth`]), which applies the rule before the handler runs, and records the admitted
//! caller in the request's span.

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use types::WorkspaceId;

use crate::access_rules::unproved;
pub use crate::access_rules::{Access, AgentProof, Caller, Credentials, RegistrationRights};
use crate::app::App;
use crate::extract::{Validate, path_param};
use httpd::JSON_BODY_LIMIT;
use httpd::body;
use httpd::error::ApiError;
use httpd::json;

/// Class `admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAuth(pub Caller);

impl FromRequestParts<App> for AdminAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = app.access.admin(&Credentials::of(&parts.headers))?;
        record(&caller);
        parts.extensions.insert(caller.admitted());
        Ok(Self(caller))
    }
}

/// Class `ws`: the path's parameter `id` names the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkspaceAuth {
    /// The workspace that the path names. It need not exist.
    pub id: WorkspaceId,
    /// The admitted caller.
    pub caller: Caller,
}

impl FromRequestParts<App> for WorkspaceAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let id = path_param(parts, "id").await;
        let caller = app.access.workspace(&id, &Credentials::of(&parts.headers))?;
        let id = WorkspaceId::parse(&id).map_err(|_| ApiError::bad_request("invalid workspace ID"))?;
        record(&caller);
        parts.extensions.insert(caller.admitted());
        Ok(Self { id, caller })
    }
}

/// Class `ws`, for a workspace that exists: 404 for an unknown one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveWorkspace(pub WorkspaceAuth);

impl FromRequestParts<App> for LiveWorkspace {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let auth = WorkspaceAuth::from_request_parts(parts, app).await?;
        match app.fleet.workspaces().get(auth.id) {
            Some(_) => Ok(Self(auth)),
            None => Err(ApiError::not_found("workspace not found")),
        }
    }
}

/// Bytes of a body of the registry without a live bearer: it is read before it is known whether its caller needs one.
/// A card has 64 KiB at most.
const STRANGER_BODY_BYTES: usize = 256 * 1024;

/// Counts a body among those of admitted callers if the request has a live bearer. Returns whether it has. Bodies that
/// are not counted at all spare the look at the bearer.
pub(crate) fn mark_admitted(app: &App, request: &mut Request) -> bool {
    if body::is_free(request.headers()) {
        return false;
    }
    let Ok(Some(caller)) = app.access.bearer_of(&Credentials::of(request.headers())) else { return false };
    request.extensions_mut().insert(caller.admitted());
    true
}

/// A body of the registry, which names the workspace that it is about.
pub(crate) trait AgentBody: Validate {
    /// What the rule grants.
    type Rights: Send;

    /// The workspace that the body names.
    fn workspace(&self) -> WorkspaceId;

    /// Applies the rule of the route.
    fn authorize(
        access: &Access,
        workspace: WorkspaceId,
        credentials: &Credentials<'_>,
    ) -> impl Future<Output = Result<Self::Rights, ApiError>> + Send;
}

/// A body of the registry, authenticated for the workspace that it names.
#[derive(Debug)]
pub(crate) struct AgentAuth<T: AgentBody> {
    /// What the rule granted.
    pub rights: T::Rights,
    /// The body.
    pub body: T,
}

impl<T: AgentBody + Send> FromRequest<App> for AgentAuth<T> {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, app: &App) -> Result<Self, ApiError> {
        let headers = request.headers().clone();
        let is_free = body::is_free(&headers);
        let limit = match mark_admitted(app, &mut request) {
            true => JSON_BODY_LIMIT,
            // The body would change nothing about the refusal.
            false if !is_free && app.access.has_admin_token() => {
                return Err(ApiError::unauthorized(unproved(&Credentials::of(&headers))));
            }
            false => STRANGER_BODY_BYTES,
        };
        let body = body::read(request, limit).await?;
        let body = T::validate(json::read(&body, T::malformed)?)?;
        let rights = T::authorize(&app.access, body.workspace(), &Credentials::of(&headers)).await?;
        Ok(Self { rights, body })
    }
}

/// Any caller, but none with a bearer that is no live token: an agent would take the answer for its proof.
#[derive(Debug, Clone, Copy)]
pub struct NoWrongBearer;

impl FromRequestParts<App> for NoWrongBearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        app.access.bearer_of(&Credentials::of(&parts.headers)).map(|_| Self)
    }
}

fn record(caller: &Caller) {
    tracing::Span::current().record("caller", tracing::field::display(caller));
}
