//! Guests, for operators: list, push, swap, roll back, configure, try. Class `admin` throughout.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::routing::{delete, get, post, put};
use bytes::Bytes;
use catalog::{Called, Catalog, GuestView, ReleaseView, Source};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::access::{Caller, admin};
use crate::http::error::ApiError;
use crate::http::json::{Body, Json};
use crate::http::routes::Register;

/// Everything below `/admin/guests`.
pub fn routes(app: &App) -> Router<App> {
    let access = &app.access;
    // One byte more than a component may have: the catalog says what is allowed, not the transport.
    let upload = DefaultBodyLimit::max(app.catalog.limits().component_bytes + 1);
    Router::new()
        .endpoint("/admin/guests", admin(access, get(list)))
        .endpoint("/admin/guests/{name}", admin(access, get(show)))
        .endpoint("/admin/guests/{name}/releases", admin(access, post(push).layer(upload)))
        .endpoint("/admin/guests/{name}/releases/{digest}", admin(access, delete(remove)))
        .endpoint("/admin/guests/{name}/activate", admin(access, post(activate)))
        .endpoint("/admin/guests/{name}/rollback", admin(access, post(rollback)))
        .endpoint("/admin/guests/{name}/enable", admin(access, post(enable)))
        .endpoint("/admin/guests/{name}/disable", admin(access, post(disable)))
        .endpoint("/admin/guests/{name}/trust", admin(access, post(trust)))
        .endpoint("/admin/guests/{name}/distrust", admin(access, post(distrust)))
        .endpoint("/admin/guests/{name}/settings", admin(access, put(configure)))
        .endpoint("/admin/guests/{name}/call", admin(access, post(call)))
}

type Answer<T> = Result<Json<T>, ApiError>;

async fn list(State(app): State<App>) -> Json<Value> {
    Json(json!({ "guests": app.catalog.list(), "runtimes": app.catalog.known_runtimes() }))
}

async fn show(State(app): State<App>, Path(name): Path<String>) -> Answer<GuestView> {
    Ok(Json(app.catalog.show(&name)?))
}

#[derive(Deserialize)]
struct PushQuery {
    #[serde(default)]
    activate: bool,
}

async fn push(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<PushQuery>,
    Extension(caller): Extension<Caller>,
    Body(component): Body,
) -> Answer<ReleaseView> {
    let by = caller.to_string();
    Ok(Json(app.catalog.push(&name, Bytes::into(component), Source::Upload, &by, query.activate).await?))
}

async fn remove(State(app): State<App>, Path((name, digest)): Path<(String, String)>) -> Answer<Value> {
    app.catalog.delete(&name, &digest).await?;
    Ok(Json(json!({ "deleted": digest })))
}

#[derive(Deserialize)]
struct ActivateBody {
    release: String,
}

async fn activate(
    State(app): State<App>,
    Path(name): Path<String>,
    Json(body): Json<ActivateBody>,
) -> Answer<ReleaseView> {
    Ok(Json(app.catalog.activate(&name, &body.release).await?))
}

async fn rollback(
    State(app): State<App>,
    Path(name): Path<String>,
    Extension(caller): Extension<Caller>,
) -> Answer<ReleaseView> {
    Ok(Json(app.catalog.rollback(&name, &caller.to_string()).await?))
}

async fn enable(State(app): State<App>, Path(name): Path<String>) -> Answer<GuestView> {
    app.catalog.set_enabled(&name, true).await?;
    view(&app.catalog, &name)
}

async fn disable(State(app): State<App>, Path(name): Path<String>) -> Answer<GuestView> {
    app.catalog.set_enabled(&name, false).await?;
    view(&app.catalog, &name)
}

async fn trust(State(app): State<App>, Path(name): Path<String>) -> Answer<GuestView> {
    app.catalog.set_trusted(&name, true).await?;
    view(&app.catalog, &name)
}

async fn distrust(State(app): State<App>, Path(name): Path<String>) -> Answer<GuestView> {
    app.catalog.set_trusted(&name, false).await?;
    view(&app.catalog, &name)
}

async fn configure(
    State(app): State<App>,
    Path(name): Path<String>,
    Json(settings): Json<Value>,
) -> Answer<GuestView> {
    app.catalog.configure(&name, &settings).await?;
    view(&app.catalog, &name)
}

fn view(catalog: &Catalog, name: &str) -> Answer<GuestView> {
    Ok(Json(catalog.show(name)?))
}

#[derive(Deserialize)]
struct CallBody {
    function: String,
    #[serde(default)]
    input: Value,
}

async fn call(
    State(app): State<App>,
    Path(name): Path<String>,
    Json(body): Json<CallBody>,
) -> Answer<Called> {
    Ok(Json(app.catalog.call(&name, &body.function, body.input).await?))
}
