//! Messages to agents, from users and from other agents.
//!
//! A request without credentials speaks as a user. A request that names a workspace as its sender has to
//! show that workspace's token.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use messaging::{
    AgentStream, Answer, Caller, Credential, DeliveryError, MessageHeaders, Reply, SendRequest, StreamBroken,
};
use tokio::time::Instant;
use types::WorkspaceId;

use crate::access::{self, Credentials};
use crate::app::App;
use crate::errors::{delivery_error, delivery_error_without_addresses};
use crate::extract::path_param;
use httpd::JSON_BODY_LIMIT;
use httpd::body::{self, BodyError};
use httpd::client_ip::ClientIp;
use httpd::error::ApiError;
use httpd::headers::{WORKSPACE_ID, text};
use httpd::router_ext::RouterExt;
use httpd::run_to_completion::run_to_completion;
use httpd::shutdown::Shutdown;

/// How names of callers inside the platform begin. Requests from outside may not use them.
const RESERVED_PREFIXES: [&str; 4] = ["webhook:", "system:", "test:", "channel:"];

/// Seconds that the sender waits for an answer.
const X_TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

/// The sender's name for a message, which makes the same message safe to send again.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// `/workspaces/:id/a2a`.
pub fn routes(_: &App) -> Router<App> {
    Router::new().endpoint("/workspaces/{id}/a2a", post(send))
}

async fn send(State(app): State<App>, Message { message, refusal }: Message) -> Result<Response, ApiError> {
    let messaging = app.messaging.clone();
    let answer = run_to_completion(async move { messaging.deliver(message).await.map_err(refusal) }).await?;
    Ok(match answer {
        Answer::Whole(reply) => whole(reply),
        Answer::Stream(stream) => streamed(stream, app.shutdown.for_one()),
    })
}

/// The agent's answer as it came.
fn whole(reply: Reply) -> Response {
    let Reply { status, body, retry_after } = reply;
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(retry_after) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, retry_after);
    }
    response
}

/// The agent's stream, piece by piece. It breaks off when the server drains: an orderly end would look like the
/// agent's.
fn streamed(stream: AgentStream, shutdown: Shutdown) -> Response {
    let (status, content_type) = (stream.status, stream.content_type.clone());
    let chunks = futures::stream::unfold((stream, shutdown), |(mut stream, shutdown)| async move {
        let chunk = tokio::select! {
            chunk = stream.chunk() => chunk.transpose()?,
            () = shutdown.draining() => Err(StreamBroken),
        };
        if chunk.is_err() {
            // The connection is closed at once: what was written before is to be sent first.
            tokio::task::yield_now().await;
        }
        Some((chunk, (stream, shutdown)))
    });
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Proxies such as nginx collect a response before they pass it on, unless this says not to.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (status, headers, Body::from_stream(chunks)).into_response()
}

/// A message whose sender is authenticated.
struct Message {
    message: SendRequest,
    /// How the sender is told that it was not delivered.
    refusal: fn(DeliveryError) -> ApiError,
}

impl FromRequest<App> for Message {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let deadline = deadline(&parts.headers);
        let id = path_param(&mut parts, "id").await;
        let target = WorkspaceId::parse(&id).map_err(|_| delivery_error(DeliveryError::NotFound))?;
        let headers = parts.headers.clone();
        let client = parts.extensions.get::<ClientIp>();
        let network = client.map_or(Ipv4Addr::UNSPECIFIED.into(), |client| client.network());
        // A bearer that is no good counts as none here.
        let shown = app.access.bearer_of(&Credentials::of(&headers)).ok().flatten();
        let (caller, credential) = sender(app, target, &headers, network, shown.as_ref())?;
        if let Some(shown) = &shown {
            parts.extensions.insert(shown.admitted());
        }
        let body = body::read(Request::from_parts(parts, body), JSON_BODY_LIMIT).await.map_err(unreadable)?;
        let idempotency_key =
            headers.get(IDEMPOTENCY_KEY).map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
        let idempotency_key = idempotency_key.filter(|key| !key.is_empty());
        let headers = MessageHeaders::of_request(&headers);
        let message = SendRequest { target, body, caller, credential, deadline, headers, idempotency_key };
        let refusal = match app.access.knows_addresses(shown.as_ref()) {
            true => delivery_error,
            false => delivery_error_without_addresses,
        };
        Ok(Self { message, refusal })
    }
}

/// None where the header is missing or is no positive whole number.
fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let seconds = text(headers, X_TIMEOUT)?.trim().parse().ok().filter(|seconds| *seconds > 0)?;
    Instant::now().checked_add(Duration::from_secs(seconds))
}

fn unreadable(error: BodyError) -> ApiError {
    match error {
        BodyError::Broken(_) => ApiError::bad_request("failed to read request body"),
        error => error.into(),
    }
}

/// The workspace that the header names and the bearer proves, else the workspace of the bearer, else a user; and what
/// that sender showed.
fn sender(
    app: &App,
    target: WorkspaceId,
    headers: &HeaderMap,
    network: IpAddr,
    shown: Option<&access::Caller>,
) -> Result<(Caller, Credential), ApiError> {
    let credentials = Credentials::of(headers);
    let proved = match shown {
        Some(access::Caller::Workspace { id, .. }) => Some(*id),
        _ => None,
    };
    let credential = match shown {
        Some(access::Caller::AdminToken) => Credential::AdminToken,
        Some(caller) => caller.token().map_or(Credential::None(network), Credential::Token),
        None => Credential::None(network),
    };
    let named = text(headers, WORKSPACE_ID).unwrap_or_default();
    if named.is_empty() {
        return Ok(match proved {
            Some(own) => (Caller::Workspace(own), Credential::Own),
            None => (Caller::User, credential),
        });
    }
    if RESERVED_PREFIXES.iter().any(|prefix| named.starts_with(prefix)) {
        tracing::warn!(caller = named, %target, "a request from outside uses a reserved caller name");
        return Err(ApiError::forbidden("invalid caller ID"));
    }
    // An id that does not parse cannot be a permitted caller.
    let named = WorkspaceId::parse(named).map_err(|_| delivery_error(DeliveryError::AccessDenied))?;
    // A starting agent sends to itself before it has a token.
    if named != target && app.fleet.state().tokens().has_any(named) {
        match credentials.bearer() {
            None => return Err(ApiError::unauthorized("missing caller auth token")),
            Some(_) if proved == Some(named) => {}
            Some(_) => return Err(ApiError::unauthorized("invalid caller auth token")),
        }
    }
    Ok((Caller::Workspace(named), if proved == Some(named) { Credential::Own } else { credential }))
}
