//! The HTTP server without any route: connection loop, middleware, rate limiter, JSON in and out,
//! WebSocket plumbing, drain. It knows no type of the domain.
//!
//! [`middleware`] is the one place that fixes the order of the layers.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use tower::ServiceBuilder;

pub mod client;
pub mod connection;
pub mod cors;
pub mod error;
pub mod finish;
pub mod headers;
pub mod json;
pub mod metrics;
pub mod origin;
pub mod panics;
pub mod parameters;
pub mod public_url;
pub mod rate_limit;
pub mod request_log;
pub mod routes;
pub mod security_headers;
pub mod serve;
pub mod settings;
pub mod shutdown;
pub mod tenant;
pub mod websocket;

/// Largest JSON body a route accepts, in bytes, unless it says otherwise with its own
/// [`DefaultBodyLimit`].
pub const JSON_BODY_LIMIT: usize = 1024 * 1024;

/// Wraps routes in the layers of the whole server, outermost first.
///
/// The panic guard stands twice: inside, so that a handler's panic is logged, counted and dressed
/// like any other answer; outside, for a panic in one of the layers.
pub fn middleware<S>(
    routes: Router<S>,
    settings: &settings::HttpSettings,
    cors: &Arc<cors::Cors>,
    metrics: &Arc<metrics::Metrics>,
    limits: &Arc<rate_limit::RateLimits>,
) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let proxies = settings.trusted_proxies.clone();
    let tenant = Arc::new(tenant::TenantGuard::new(settings));
    routes.fallback(routes::not_found).layer(
        ServiceBuilder::new()
            .layer(panics::guard())
            .map_request(move |request| proxies.identify(request))
            .layer(from_fn(request_log::record))
            .layer(from_fn(security_headers::add))
            .layer(from_fn_with_state(Arc::clone(metrics), metrics::count))
            .layer(from_fn_with_state(Arc::clone(cors), cors::answer))
            .layer(from_fn_with_state(tenant, tenant::guard))
            .layer(from_fn_with_state(Arc::clone(limits), rate_limit::limit))
            .layer(panics::guard())
            .layer(DefaultBodyLimit::max(JSON_BODY_LIMIT)),
    )
}
