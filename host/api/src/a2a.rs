//! Messages to agents, from people and from other agents. The route judges its callers itself: nobody has
//! to be anybody to speak as a person, and who speaks as an agent has to be it.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use messaging::{Caller, DeliveryError, Reply, SendRequest};
use tokio::time::Instant;
use uuid::Uuid;

use crate::access::Credentials;
use crate::app::App;
use crate::errors::delivery_error;
use httpd::error::ApiError;
use httpd::headers::{WORKSPACE_ID, text};
use httpd::parameters::PathParam;
use httpd::router_ext::RouterExt;
use httpd::run_to_completion::run_to_completion;

/// How names of callers begin that are inside of the platform; nobody outside has one.
const INSIDE: [&str; 4] = ["webhook:", "system:", "test:", "channel:"];

/// `/workspaces/:id/a2a`.
pub fn routes(_: &App) -> Router<App> {
    Router::new().endpoint("/workspaces/{id}/a2a", post(send))
}

/// How long the caller waits, seconds.
const X_TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

async fn send(
    State(app): State<App>,
    PathParam(id): PathParam,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let deadline = deadline(&headers);
    let body = body.map_err(|error| unreadable(&error))?;
    let target = Uuid::parse_str(&id).map_err(|_| delivery_error(DeliveryError::NotFound))?;
    let caller = caller(&app, target, &headers)?;
    let messaging = app.messaging.clone();
    let reply = run_to_completion(async move {
        messaging.deliver(SendRequest { target, body, caller, deadline }).await.map_err(delivery_error)
    })
    .await?;
    Ok(answer(reply))
}

/// Until when the caller waits, if it says so in a way that makes sense.
fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let seconds = text(headers, X_TIMEOUT)?.trim().parse().ok().filter(|seconds| *seconds > 0)?;
    Instant::now().checked_add(Duration::from_secs(seconds))
}

/// The agent's answer as it came.
fn answer(reply: Reply) -> Response {
    (reply.status, [(header::CONTENT_TYPE, "application/json")], reply.body).into_response()
}

fn unreadable(rejection: &BytesRejection) -> ApiError {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            ApiError::body_too_large()
        }
        _ => ApiError::bad_request("failed to read request body"),
    }
}

/// Who sends: whom the header names and the bearer proves, else whose token the bearer is, else a person.
fn caller(app: &App, target: Uuid, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let bearer = Credentials::of(headers).bearer();
    let proved = || app.fleet.authenticate(bearer?)?.row.workspace_id;
    let named = text(headers, WORKSPACE_ID).unwrap_or_default();
    if named.is_empty() {
        return Ok(proved().map_or(Caller::User, Caller::Workspace));
    }
    if INSIDE.iter().any(|prefix| named.starts_with(prefix)) {
        tracing::warn!(caller = named, %target, "somebody outside gave the name of a caller inside");
        return Err(ApiError::forbidden("invalid caller ID"));
    }
    // Nobody's id is nobody's neighbour.
    let named = Uuid::parse_str(named).map_err(|_| delivery_error(DeliveryError::AccessDenied))?;
    // An agent that is just starting speaks to itself before it has a token.
    if named != target && app.fleet.tokens().has_any(named) {
        match bearer {
            None => return Err(ApiError::unauthorized("missing caller auth token")),
            Some(_) if proved() == Some(named) => {}
            Some(_) => return Err(ApiError::unauthorized("invalid caller auth token")),
        }
    }
    Ok(Caller::Workspace(named))
}
