//! What monitors ask: is it alive, which build is it, what does it count. All open to anybody.

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;
use serde_json::{Value, json};

use crate::app::App;
use httpd::json::Json;
use httpd::routes::Register;

/// The commit this was built from, given as the variable `GIT_SHA` of the build.
const GIT_SHA: &str = match option_env!("GIT_SHA") {
    Some(sha) if !sha.is_empty() => sha,
    _ => "dev",
};

/// `GET /health`, `/buildinfo` and `/metrics`.
pub fn routes() -> Router<App> {
    Router::new()
        .probe("/health", get(health))
        .probe("/buildinfo", get(build_info))
        .probe("/metrics", get(metrics))
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn build_info() -> Json<Value> {
    Json(json!({ "git_sha": GIT_SHA }))
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    app.catalog.export_pool_use();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], app.metrics.render())
}
