//! One span and one log line per request, tied together by an id that the client gets too.
//!
//! Requests are named by their route pattern. Paths, query strings and headers are not logged:
//! they can carry tokens and other people's data.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use tracing::Instrument;
use tracing::field::Empty;
use uuid::Uuid;

use super::client::ClientIp;

/// Target of the line per request, so that operators can filter it by name.
const TARGET: &str = "isomer::access";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Layer: the request's span, its log line, and the `X-Request-Id` header of the answer.
///
/// The id is always ours: a client's could not be relied on.
pub async fn record(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = Uuid::new_v4();
    let span = span_of(&request, id);
    async {
        let mut response = next.run(request).await;
        let status = response.status().as_u16();
        let latency_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(target: TARGET, status, latency_us, "answered");
        if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }
    .instrument(span)
    .await
}

fn span_of(request: &Request, id: Uuid) -> tracing::Span {
    let extensions = request.extensions();
    let route = extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    let client = extensions.get::<ClientIp>();
    tracing::info_span!(
        "request",
        %id,
        method = %request.method(),
        route = route.unwrap_or("unmatched"),
        client = client.map(|ClientIp(address)| tracing::field::display(address)),
        caller = Empty,
    )
}
