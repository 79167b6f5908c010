//! Workspaces: made, read, edited, removed; and the verbs of their life.

mod body;
mod listing;
mod view;

use axum::Router;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fleet::rules::INVALID_FIELDS;
use fleet::{Connection, Created, Explanation, FleetError, Removal, Restarted};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use store::workspaces::{Hosting, Status};
use uuid::Uuid;

use self::body::{CreateBody, EditBody};
pub use self::listing::ListCache;
use self::view::View;
use crate::access::{Caller, Credentials, WorkspaceId, admin, workspace};
use crate::app::App;
use crate::errors::fleet_error;
use httpd::error::ApiError;
use httpd::json::{Body, Json, RenderedJson};
use httpd::parameters::{PathParam, Query};
use httpd::public_url::public_url;
use httpd::router_ext::RouterExt;
use httpd::run_to_completion::run_to_completion;

/// `/workspaces`, `/workspaces/:id`, its state and its verbs.
pub fn routes(app: &App) -> Router<App> {
    let access = &app.access;
    let one = get(show)
        .merge(admin(access, axum::routing::delete(remove)))
        .merge(workspace(access, axum::routing::patch(edit)));
    Router::new()
        .endpoint("/workspaces", admin(access, get(list).post(create)))
        .endpoint("/workspaces/{id}", one)
        // Judges its callers itself: one whose workspace was removed is told so, not refused.
        .endpoint("/workspaces/{id}/state", get(state))
        .endpoint("/workspaces/{id}/explain", workspace(access, get(explain)))
        .endpoint("/workspaces/{id}/restart", workspace(access, post(restart)))
        .endpoint("/workspaces/{id}/pause", workspace(access, post(pause)))
        .endpoint("/workspaces/{id}/resume", workspace(access, post(resume)))
        .endpoint("/workspaces/{id}/hibernate", workspace(access, post(hibernate)))
}

type Answer<T = Json<Value>> = Result<T, ApiError>;

// === Reading ===

async fn list(State(app): State<App>) -> Response {
    match app.list.render(&app.fleet) {
        Ok(body) => RenderedJson(body).into_response(),
        Err(error) => ApiError::internal(&error).into_response(),
    }
}

#[derive(Deserialize)]
struct ShowQuery {
    include_removed: Option<String>,
}

async fn show(
    State(app): State<App>,
    PathParam(id): PathParam,
    Query(query): Query<ShowQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let id = parse(&id)?;
    let found = app.fleet.find(id).await.map_err(|error| fleet_error(error.into(), "query failed"))?;
    let workspace = found.ok_or_else(|| ApiError::not_found("workspace not found"))?;
    if workspace.row.is_removed() && query.include_removed.as_deref() != Some("true") {
        return Err(view::gone(&workspace.row));
    }
    let known = app.access.knows(id, &Credentials::of(&headers));
    Ok(Json(View::single(&workspace, &app.fleet, known)).into_response())
}

async fn state(State(app): State<App>, PathParam(id): PathParam, headers: HeaderMap) -> Answer {
    let credentials = Credentials::of(&headers);
    let admitted = app.access.workspace(&id, &credentials);
    let failed = |error| fleet_error(error, "query failed");
    if let Err(error) = admitted {
        // The token went with the workspace: the agent that bears it is told to stop.
        let (Some(bearer), Ok(named)) = (credentials.bearer(), Uuid::parse_str(&id)) else {
            return Err(error);
        };
        let ended = app.fleet.ended_with(bearer, named).await.map_err(failed)?;
        return Err(if ended { deleted(named, true) } else { error });
    }
    let id = parse(&id)?;
    let workspace = app.fleet.find(id).await.map_err(|error| failed(error.into()))?;
    match workspace.map(|workspace| workspace.row.status) {
        None => Err(deleted(id, false)),
        Some(Status::Removed) => Err(deleted(id, true)),
        Some(status) => Ok(Json(json!({
            "deleted": false, "paused": status == Status::Paused, "status": status, "workspace_id": id,
        }))),
    }
}

fn deleted(id: Uuid, was_there: bool) -> ApiError {
    let mut body = json!({ "deleted": true, "workspace_id": id });
    if was_there && let Some(fields) = body.as_object_mut() {
        fields.insert("status".to_owned(), json!(Status::Removed));
    }
    ApiError::with_body(StatusCode::NOT_FOUND, body)
}

async fn explain(
    State(app): State<App>,
    Extension(WorkspaceId(id)): Extension<WorkspaceId>,
) -> Answer<Json<Explanation>> {
    app.fleet.explain(id).await.map(Json).map_err(|error| fleet_error(error, "query failed"))
}

// === Changing ===

async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer<Response> {
    let new = CreateBody::parse(&body)?;
    let failed = |error| match error {
        // Here clients know one text for all fields.
        FleetError::Field(_) => ApiError::bad_request(INVALID_FIELDS),
        error => fleet_error(error, "failed to create workspace"),
    };
    let fleet = app.fleet.clone();
    let by = caller.to_string();
    let made = run_to_completion(async move { fleet.create(new, &by).await.map_err(failed) }).await?;
    let url = public_url(app.external_url.as_ref(), &headers);
    Ok((StatusCode::CREATED, Json(created(&made, &url))).into_response())
}

fn created(made: &Created, platform_url: &str) -> Value {
    let row = &made.row;
    match (row.hosting, &made.token) {
        (Hosting::Operator, Some(token)) => json!({
            "connection": Connection::new(platform_url, row.id, &token.text),
            "external": true, "id": row.id, "name": row.name, "status": row.status,
        }),
        (Hosting::Operator, None) => {
            json!({ "external": true, "id": row.id, "name": row.name, "status": row.status })
        }
        // A container that can't be started is told by its events; here it was only ordered.
        (hosting, _) => json!({
            "awareness_namespace": format!("workspace:{}", row.id),
            "id": row.id,
            "name": row.name,
            "status": if hosting == Hosting::Container { Status::Provisioning } else { row.status },
            "workspace_access": row.workspace_access,
        }),
    }
}

async fn edit(
    State(app): State<App>,
    Extension(WorkspaceId(id)): Extension<WorkspaceId>,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer {
    let edit = EditBody::parse(&body)?;
    if let Some(key) = edit.admin_key()
        && app.access.admin(&Credentials::of(&headers)).is_err()
    {
        return Err(ApiError::forbidden(&format!("admin auth required for field: {key}")));
    }
    let edited =
        app.fleet.edit(id, edit).await.map_err(|error| fleet_error(error, "failed to update workspace"))?;
    Ok(Json(if edited.needs_restart {
        json!({ "needs_restart": true, "status": "updated" })
    } else {
        json!({ "status": "updated" })
    }))
}

#[derive(Deserialize)]
struct RemoveQuery {
    confirm: Option<String>,
    purge: Option<String>,
}

async fn remove(
    State(app): State<App>,
    PathParam(id): PathParam,
    Query(query): Query<RemoveQuery>,
) -> Answer {
    let id = parse(&id)?;
    let is_true = |text: Option<String>| text.as_deref() == Some("true");
    let removal = Removal { confirmed: is_true(query.confirm), purge: is_true(query.purge) };
    let failed = |error| fleet_error(error, "internal error processing delete request");
    let fleet = app.fleet.clone();
    let descendants =
        run_to_completion(async move { fleet.remove(id, removal).await.map_err(failed) }).await?;
    let status = if removal.purge { "purged" } else { "removed" };
    Ok(Json(json!({ "cascade_deleted": descendants, "status": status })))
}

async fn restart(State(app): State<App>, Extension(WorkspaceId(id)): Extension<WorkspaceId>) -> Answer {
    let restarted = app.fleet.restart(id).await.map_err(|error| fleet_error(error, "lookup failed"))?;
    Ok(Json(match restarted {
        Restarted::Begun => json!({
            "config_dir": "existing-volume", "reset_session": false, "status": Status::Provisioning,
        }),
        Restarted::NothingToDo { runtime, hosting } => {
            json!({ "message": nothing_to_restart(&runtime, hosting), "runtime": runtime, "status": "noop" })
        }
    }))
}

fn nothing_to_restart(runtime: &str, hosting: Hosting) -> String {
    match hosting {
        Hosting::Operator => format!(
            "{runtime} workspaces are operator-driven — restart your local poller; platform has nothing to restart"
        ),
        _ => format!("{runtime} workspaces have no container — restart is a no-op"),
    }
}

async fn pause(State(app): State<App>, Extension(WorkspaceId(id)): Extension<WorkspaceId>) -> Answer {
    let count = app.fleet.pause(id).await.map_err(|error| fleet_error(error, "lookup failed"))?;
    Ok(Json(json!({ "paused_count": count, "status": Status::Paused })))
}

async fn resume(State(app): State<App>, Extension(WorkspaceId(id)): Extension<WorkspaceId>) -> Answer {
    let count = app.fleet.resume(id).await.map_err(|error| fleet_error(error, "lookup failed"))?;
    Ok(Json(json!({ "resumed_count": count, "status": Status::Provisioning })))
}

#[derive(Deserialize)]
struct HibernateQuery {
    force: Option<String>,
}

async fn hibernate(
    State(app): State<App>,
    Extension(WorkspaceId(id)): Extension<WorkspaceId>,
    Query(query): Query<HibernateQuery>,
) -> Answer {
    let force = query.force.as_deref() == Some("true");
    let failed = |error: FleetError| fleet_error(error, "lookup failed");
    app.fleet.hibernate(id, force).await.map_err(failed)?;
    Ok(Json(json!({ "status": Status::Hibernated })))
}

fn parse(id: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(id).map_err(|_| ApiError::bad_request("invalid workspace ID"))
}
