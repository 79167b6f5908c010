//! Which background loops are alive, for operators and their monitors. Class `admin`.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use crate::access::admin;
use crate::app::App;
use httpd::json::Json;
use httpd::router_ext::RouterExt;

/// `GET /admin/liveness`.
pub fn routes(app: &App) -> Router<App> {
    Router::new().endpoint("/admin/liveness", admin(&app.access, get(liveness)))
}

async fn liveness(State(app): State<App>) -> Json<Value> {
    Json(json!({ "subsystems": app.tasks.liveness() }))
}
