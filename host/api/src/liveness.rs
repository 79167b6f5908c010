//! Progress of the background tasks, for operators and their monitors. Class `admin`.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use crate::access::AdminAuth;
use crate::app::App;
use httpd::json::Json;
use httpd::router_ext::RouterExt;

/// `GET /admin/liveness`.
pub fn routes() -> Router<App> {
    Router::new().endpoint("/admin/liveness", get(liveness))
}

async fn liveness(State(app): State<App>, _: AdminAuth) -> Json<Value> {
    Json(json!({ "subsystems": app.tasks.liveness() }))
}
