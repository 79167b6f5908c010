//! One span and one log line per request, tied together by an id that the client gets too; and the request
//! metrics, which need the same clock, route and status.
//!
//! Requests are named by their route pattern. Query strings and headers are not logged: they can carry tokens
//! and other people's data. Paths are logged where no route matched, because operators look for what a proxy or
//! a misspelled client asked for.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use tracing::Span;
use tracing::field::Empty;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::client_ip::ClientIp;
use super::metrics::{CLIENT_LEFT, Metrics, method_label};
use super::router_ext::Unmatched;

/// Target of the line per request, so that operators can filter it by name.
const TARGET: &str = "isomer::access";
/// Characters of a path without a route that are logged.
const PATH_CHARACTERS: usize = 200;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request from its head to the head of its answer. Dropped without an answer, it is counted as one
/// whose client left.
#[derive(Debug)]
pub(crate) struct Exchange {
    metrics: Arc<Metrics>,
    span: Span,
    id: Uuid,
    started: Instant,
    method: &'static str,
    route: Option<MatchedPath>,
    /// The path of a request without a route.
    path: Option<String>,
    answered: bool,
}

impl Exchange {
    /// Begins with the head of a request. The server makes the id, because clients may send any.
    pub(crate) fn begin(request: &Request, metrics: &Arc<Metrics>) -> Self {
        let started = Instant::now();
        let id = Uuid::new_v4();
        let extensions = request.extensions();
        let route = extensions.get::<MatchedPath>();
        let client = extensions.get::<ClientIp>();
        let span = tracing::info_span!(
            "request",
            %id,
            method = %request.method(),
            route = route.map_or("unmatched", MatchedPath::as_str),
            client = client.map(|ClientIp(address)| tracing::field::display(address)),
            caller = Empty,
        );
        let (method, route) = (method_label(request.method()), route.cloned());
        let path = route.is_none().then(|| printable(request.uri().path()));
        Self { metrics: Arc::clone(metrics), span, id, started, method, route, path, answered: false }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Ends with the head of the answer, which gets the request's id. A stream that stays open for hours
    /// is not an answer that took hours.
    pub(crate) fn end(mut self, response: &mut Response) {
        self.answered = true;
        let (took, status) = (self.started.elapsed(), response.status().as_u16());
        let unmatched = response.extensions().get::<Unmatched>().is_some();
        let route = self.route.as_ref().filter(|_| !unmatched).map(MatchedPath::as_str);
        self.metrics.requests.add(route, (self.method, status), took);
        let latency_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let path = self.path.as_deref();
        self.span.in_scope(|| tracing::info!(target: TARGET, status, latency_us, path, "answered"));
        let mut text = [0; Hyphenated::LENGTH];
        if let Ok(id) = HeaderValue::from_str(self.id.hyphenated().encode_lower(&mut text)) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
    }
}

/// The beginning of a path in printable ASCII.
fn printable(path: &str) -> String {
    path.chars().take(PATH_CHARACTERS).flat_map(char::escape_default).collect()
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.span.in_scope(|| tracing::info!(target: TARGET, "the client left before the answer"));
        let route = self.route.as_ref().map(MatchedPath::as_str);
        self.metrics.requests.add(route, (self.method, CLIENT_LEFT), self.started.elapsed());
    }
}
