//! Routes of monitors: health, build, metrics. They need no credential.

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{any, get};
use axum::{Extension, Router};
use bytes::Bytes;
use http::header;
use serde_json::{Value, json};

use crate::app::App;
use httpd::error::ApiError;
use httpd::json::{Json, RenderedJson};
use httpd::router_ext::{RouterExt, Unmatched, not_found};

/// Commit of the build, from the build's variable `GIT_SHA`.
const GIT_SHA: &str = match option_env!("GIT_SHA") {
    Some(sha) if !sha.is_empty() => sha,
    _ => "dev",
};

const HEALTH: &str = "/health";
/// The same route under the name that Kubernetes users know.
const HEALTHZ: &str = "/healthz";

/// Paths that are answered at once even before the server's state is there.
pub const EARLY: [&str; 2] = [HEALTH, HEALTHZ];

/// The routes of a server without state: health, and 503 for all other paths.
pub fn early_routes() -> Router {
    let early = Router::new().probe(HEALTH, get(healthy)).probe(HEALTHZ, get(healthy));
    early.route("/", any(unavailable)).route("/{*path}", any(unavailable)).fallback(not_found)
}

/// `GET /health`, `/healthz`, `/buildinfo` and `/metrics`.
pub fn routes() -> Router<App> {
    Router::new()
        .probe(HEALTH, get(health))
        .probe(HEALTHZ, get(health))
        .probe("/buildinfo", get(build_info))
        .probe("/metrics", get(metrics))
}

/// For requests that came before the state, and waited for it in vain.
async fn unavailable() -> impl IntoResponse {
    (Extension(Unmatched), ApiError::unavailable())
}

async fn healthy() -> RenderedJson {
    RenderedJson(Bytes::from_static(br#"{"status":"ok"}"#))
}

/// The server serves in any case; `degraded` names what it lacks.
async fn health(State(app): State<App>) -> RenderedJson {
    let state = app.fleet.state();
    let lacks = [("activity", state.is_losing_activity()), ("database", state.is_database_failing())];
    let degraded: Vec<&str> = lacks.into_iter().filter_map(|(name, lacks)| lacks.then_some(name)).collect();
    if degraded.is_empty() {
        return healthy().await;
    }
    RenderedJson(json!({ "degraded": degraded, "status": "ok" }).to_string().into())
}

async fn build_info() -> Json<Value> {
    Json(json!({ "git_sha": GIT_SHA }))
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    app.catalog.export_pool_use();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], app.metrics.render())
}
