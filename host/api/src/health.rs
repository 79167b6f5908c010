//! Routes of monitors: health, build, metrics. They need no credential.

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::header;
use serde_json::{Value, json};

use crate::app::App;
use httpd::json::{Json, RenderedJson};
use httpd::router_ext::RouterExt;

/// Commit of the build, from the build's variable `GIT_SHA`.
const GIT_SHA: &str = match option_env!("GIT_SHA") {
    Some(sha) if !sha.is_empty() => sha,
    _ => "dev",
};

/// Path of the route that answers even before the server's state is there.
pub const HEALTH: &str = "/health";

/// The route that needs no state.
pub fn early_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().probe(HEALTH, get(health))
}

/// `GET /health`, `/buildinfo` and `/metrics`.
pub fn routes() -> Router<App> {
    early_routes().probe("/buildinfo", get(build_info)).probe("/metrics", get(metrics))
}

async fn health() -> RenderedJson {
    RenderedJson(Bytes::from_static(br#"{"status":"ok"}"#))
}

async fn build_info() -> Json<Value> {
    Json(json!({ "git_sha": GIT_SHA }))
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    app.catalog.export_pool_use();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], app.metrics.render())
}
