//! Guests, for operators: list, push, swap, roll back, configure, try, delete. Class `admin` throughout.

use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get, post, put};
use catalog::{CallResult, Catalog, GuestUpdate, GuestView, ReleaseView, Source};
use serde::Deserialize;
use serde_json::{Value, json};
use wire_json::FreeJson;

use crate::access::AdminAuth;
use crate::app::App;
use crate::errors::catalog_error;
use crate::extract::{GuestName, ReleaseDigest, flag};
use httpd::body::BodyLimit;
use httpd::error::ApiError;
use httpd::json::{Body, Json};
use httpd::parameters::Query;
use httpd::router_ext::RouterExt;
use httpd::run_to_completion::run_to_completion;

/// Everything below `/admin/guests`.
pub fn routes(app: &App) -> Router<App> {
    // One byte more than a component may have: the catalog says what is allowed, not the transport.
    let upload = BodyLimit::layer(app.catalog.limits().component_bytes + 1);
    Router::new()
        .endpoint("/admin/guests", get(list))
        .endpoint("/admin/guests/{name}", get(show).delete(remove_guest))
        .endpoint("/admin/guests/{name}/releases", post(push).layer(upload))
        .endpoint("/admin/guests/{name}/releases/{digest}", delete(remove))
        .endpoint("/admin/guests/{name}/activate", post(activate))
        .endpoint("/admin/guests/{name}/rollback", post(rollback))
        .endpoint("/admin/guests/{name}/enable", post(enable))
        .endpoint("/admin/guests/{name}/disable", post(disable))
        .endpoint("/admin/guests/{name}/trust", post(trust))
        .endpoint("/admin/guests/{name}/untrust", post(untrust))
        .endpoint("/admin/guests/{name}/pooled", post(pooled))
        .endpoint("/admin/guests/{name}/per-call", post(per_call))
        .endpoint("/admin/guests/{name}/settings", put(configure))
        .endpoint("/admin/guests/{name}/call", post(call))
}

type Answer<T> = Result<Json<T>, ApiError>;

async fn list(State(app): State<App>, _: AdminAuth) -> Json<Value> {
    Json(json!({ "guests": app.catalog.list().await, "runtimes": app.catalog.known_runtimes().await }))
}

async fn show(State(app): State<App>, _: AdminAuth, GuestName(name): GuestName) -> Answer<GuestView> {
    view(&app.catalog, &name).await
}

async fn view(catalog: &Catalog, name: &str) -> Answer<GuestView> {
    Ok(Json(catalog.show(name).await.map_err(catalog_error)?))
}

async fn remove_guest(
    State(app): State<App>,
    AdminAuth(caller): AdminAuth,
    GuestName(name): GuestName,
) -> Answer<Value> {
    let (catalog, by, guest) = (app.catalog.clone(), caller.to_string(), name.clone());
    run_to_completion(async move { catalog.delete_guest(&guest, &by).await.map_err(catalog_error) }).await?;
    Ok(Json(json!({ "deleted": name })))
}

#[derive(Deserialize)]
struct PushQuery {
    activate: Option<String>,
}

async fn push(
    State(app): State<App>,
    AdminAuth(caller): AdminAuth,
    GuestName(name): GuestName,
    Query(query): Query<PushQuery>,
    Body(component): Body,
) -> Answer<ReleaseView> {
    let by = caller.to_string();
    let activate = flag("activate", query.activate.as_deref())?;
    let pushed = app.catalog.push(&name, component, Source::Upload, &by, activate).await;
    pushed.map(Json).map_err(catalog_error)
}

async fn remove(
    State(app): State<App>,
    AdminAuth(caller): AdminAuth,
    GuestName(name): GuestName,
    ReleaseDigest(release): ReleaseDigest,
) -> Answer<Value> {
    let (catalog, by, digest) = (app.catalog.clone(), caller.to_string(), release.clone());
    run_to_completion(async move { catalog.delete(&name, &digest, &by).await.map_err(catalog_error) })
        .await?;
    Ok(Json(json!({ "deleted": release })))
}

#[derive(Deserialize)]
struct ActivateBody {
    release: String,
}

async fn activate(
    State(app): State<App>,
    AdminAuth(caller): AdminAuth,
    GuestName(name): GuestName,
    Json(body): Json<ActivateBody>,
) -> Answer<ReleaseView> {
    let (catalog, by) = (app.catalog.clone(), caller.to_string());
    run_to_completion(async move { catalog.activate(&name, &body.release, &by).await.map_err(catalog_error) })
        .await
        .map(Json)
}

async fn rollback(
    State(app): State<App>,
    AdminAuth(caller): AdminAuth,
    GuestName(name): GuestName,
) -> Answer<ReleaseView> {
    let (catalog, by) = (app.catalog.clone(), caller.to_string());
    run_to_completion(async move { catalog.rollback(&name, &by).await.map_err(catalog_error) })
        .await
        .map(Json)
}

async fn configure(
    app: State<App>,
    caller: AdminAuth,
    name: GuestName,
    Json(settings): Json<FreeJson>,
) -> Answer<GuestView> {
    update(app, caller, name, GuestUpdate::Settings(settings.into_value())).await
}

async fn enable(app: State<App>, caller: AdminAuth, name: GuestName) -> Answer<GuestView> {
    update(app, caller, name, GuestUpdate::Enabled(true)).await
}

async fn disable(app: State<App>, caller: AdminAuth, name: GuestName) -> Answer<GuestView> {
    update(app, caller, name, GuestUpdate::Enabled(false)).await
}

async fn trust(app: State<App>, caller: AdminAuth, name: GuestName) -> Answer<GuestView> {
    update(app, caller, name, GuestUpdate::Trusted(true)).await
}

async fn untrust(app: State<App>, caller: AdminAuth, name: GuestName) -> Answer<GuestView> {
    update(app, caller, name, GuestUpdate::Trusted(false)).await
}

async fn pooled(app: State<App>, caller: AdminAuth, name: GuestName) -> Answer<GuestView> {
    update(app, caller, name, GuestUpdate::Pooled(true)).await
}

async fn per_call(app: State<App>, caller: AdminAuth, name: GuestName) -> Answer<GuestView> {
    update(app, caller, name, GuestUpdate::Pooled(false)).await
}

/// Changes a guest's row; the answer is the guest after the change.
async fn update(
    State(app): State<App>,
    AdminAuth(caller): AdminAuth,
    GuestName(name): GuestName,
    update: GuestUpdate,
) -> Answer<GuestView> {
    let (catalog, guest, by) = (app.catalog.clone(), name.clone(), caller.to_string());
    run_to_completion(async move { catalog.update(&guest, &update, &by).await.map_err(catalog_error) })
        .await?;
    view(&app.catalog, &name).await
}

#[derive(Deserialize)]
struct CallBody {
    function: String,
    #[serde(default)]
    input: Value,
}

async fn call(
    State(app): State<App>,
    _: AdminAuth,
    GuestName(name): GuestName,
    Json(body): Json<CallBody>,
) -> Answer<CallResult> {
    Ok(Json(app.catalog.call(&name, &body.function, body.input).await.map_err(catalog_error)?))
}
