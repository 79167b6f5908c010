//! Workspaces: created, read, edited, removed; and the verbs of their lifecycle.

mod body;
mod state;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fleet::{Connection, Created, Explanation, NewWorkspace, Removal, Restarted};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use store::workspaces::{Hosting, Status};

use self::body::EditRequest;
use crate::access::{AdminAuth, Credentials, WorkspaceAuth};
use crate::app::App;
use crate::errors::Refuse as _;
use crate::extract::{ValidJson, WorkspacePath, flag};
pub use crate::workspace_list::ListCache;
use crate::workspace_view::{View, gone};
use httpd::error::ApiError;
use httpd::json::{Json, RenderedJson};
use httpd::parameters::Query;
use httpd::public_url::public_url;
use httpd::router_ext::RouterExt;
use httpd::run_to_completion::run_to_completion;

/// `/workspaces`, `/workspaces/:id`, its state and its verbs.
pub fn routes(_: &App) -> Router<App> {
    Router::new()
        .endpoint("/workspaces", get(list).post(create))
        .endpoint("/workspaces/{id}", get(show).patch(edit).delete(remove))
        .endpoint("/workspaces/{id}/state", get(state::show))
        .endpoint("/workspaces/{id}/explain", get(explain))
        .endpoint("/workspaces/{id}/restart", post(restart))
        .endpoint("/workspaces/{id}/pause", post(pause))
        .endpoint("/workspaces/{id}/resume", post(resume))
        .endpoint("/workspaces/{id}/hibernate", post(hibernate))
}

type Answer<T = Json<Value>> = Result<T, ApiError>;

// === Reading ===

async fn list(State(app): State<App>, AdminAuth(caller): AdminAuth) -> Answer<RenderedJson> {
    app.list.render(&app.fleet, caller.is_proved()).await.map(RenderedJson)
}

#[derive(Deserialize)]
struct ShowQuery {
    include_removed: Option<String>,
}

async fn show(
    State(app): State<App>,
    WorkspacePath(id): WorkspacePath,
    Query(query): Query<ShowQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    // Other values than this count as not given: so the contract has it.
    let include_removed = query.include_removed.as_deref() == Some("true");
    let found = app.fleet.find(id).await.or_refuse("query failed")?;
    let workspace = found.ok_or_else(|| ApiError::not_found("workspace not found"))?;
    if workspace.row.is_removed() && !include_removed {
        return Err(gone(&workspace.row));
    }
    let private = app.access.can_see_private(id, &Credentials::of(&headers));
    Ok(Json(View::single(&workspace, &app.fleet, private)).into_response())
}

async fn explain(State(app): State<App>, auth: WorkspaceAuth) -> Answer<Json<Explanation>> {
    app.fleet.explain(auth.id).await.or_refuse("query failed").map(Json)
}

// === Changing ===

async fn create(
    State(app): State<App>,
    AdminAuth(caller): AdminAuth,
    headers: HeaderMap,
    ValidJson(new): ValidJson<NewWorkspace>,
) -> Answer<Response> {
    let (fleet, by) = (app.fleet.clone(), caller.maker());
    let failed = "failed to create workspace";
    let made = run_to_completion(async move { fleet.create(new, by).await.or_refuse(failed) }).await?;
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
        // The container starts later; events say whether it did.
        (hosting, _) => json!({
            "awareness_namespace": format!("workspace:{}", row.id),
            "id": row.id,
            "name": row.name,
            "status": if hosting == Hosting::Container && row.status != Status::Paused {
                Status::Provisioning
            } else {
                row.status
            },
            "workspace_access": row.workspace_access,
        }),
    }
}

async fn edit(State(app): State<App>, EditRequest { id, edit }: EditRequest) -> Answer {
    let edited = app.fleet.edit(id, edit).await.or_refuse("failed to update workspace")?;
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
    _: AdminAuth,
    WorkspacePath(id): WorkspacePath,
    Query(query): Query<RemoveQuery>,
) -> Answer {
    let confirmed = flag("confirm", query.confirm.as_deref())?;
    let removal = Removal { confirmed, purge: flag("purge", query.purge.as_deref())? };
    let failed = "internal error processing delete request";
    let fleet = app.fleet.clone();
    let descendants =
        run_to_completion(async move { fleet.remove(id, removal).await.or_refuse(failed) }).await?;
    let status = if removal.purge { "purged" } else { "removed" };
    Ok(Json(json!({ "cascade_deleted": descendants, "status": status })))
}

async fn restart(State(app): State<App>, auth: WorkspaceAuth) -> Answer {
    Ok(Json(match app.fleet.restart(auth.id).await.or_refuse("lookup failed")? {
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

async fn pause(State(app): State<App>, auth: WorkspaceAuth) -> Answer {
    let count = app.fleet.pause(auth.id).await.or_refuse("lookup failed")?;
    Ok(Json(json!({ "paused_count": count, "status": Status::Paused })))
}

async fn resume(State(app): State<App>, auth: WorkspaceAuth) -> Answer {
    let count = app.fleet.resume(auth.id).await.or_refuse("lookup failed")?;
    Ok(Json(json!({ "resumed_count": count, "status": Status::Provisioning })))
}

#[derive(Deserialize)]
struct HibernateQuery {
    force: Option<String>,
}

async fn hibernate(
    State(app): State<App>,
    auth: WorkspaceAuth,
    Query(query): Query<HibernateQuery>,
) -> Answer {
    let force = flag("force", query.force.as_deref())?;
    app.fleet.hibernate(auth.id, force).await.or_refuse("lookup failed")?;
    Ok(Json(json!({ "status": Status::Hibernated })))
}
