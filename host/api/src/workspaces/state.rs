//! `GET /workspaces/:id/state`: agents ask whether to go on working.
//!
//! The agent of a removed workspace learns here that it was deleted, although its token was revoked with it.

use axum::extract::{FromRequestParts, State};
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};
use store::workspaces::Status;
use types::WorkspaceId;

use crate::access::Credentials;
use crate::app::App;
use crate::errors::Refuse as _;
use crate::extract::path_param;
use httpd::error::ApiError;
use httpd::json::Json;

pub(super) async fn show(State(app): State<App>, StateAuth(id): StateAuth) -> Result<Json<Value>, ApiError> {
    let workspace = app.fleet.find(id).await.or_refuse("query failed")?;
    match workspace.map(|workspace| workspace.row.status) {
        None => Err(deleted(id, false)),
        Some(Status::Removed) => Err(deleted(id, true)),
        Some(status) => Ok(Json(json!({
            "deleted": false, "paused": status == Status::Paused, "status": status, "workspace_id": id,
        }))),
    }
}

fn deleted(id: WorkspaceId, was_there: bool) -> ApiError {
    let mut body = json!({ "deleted": true, "workspace_id": id });
    if was_there && let Some(fields) = body.as_object_mut() {
        fields.insert("status".to_owned(), json!(Status::Removed));
    }
    ApiError::with_body(StatusCode::NOT_FOUND, body)
}

/// Class `ws`, with an answer of its own for a token that was revoked by the removal of its workspace.
pub(super) struct StateAuth(WorkspaceId);

impl FromRequestParts<App> for StateAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let text = path_param(parts, "id").await;
        let credentials = Credentials::of(&parts.headers);
        let id = WorkspaceId::parse(&text);
        let Err(refusal) = app.access.workspace(&text, &credentials) else {
            return id.map(Self).map_err(|_| ApiError::bad_request("invalid workspace ID"));
        };
        let (Some(bearer), Ok(id)) = (credentials.bearer(), id) else {
            return Err(refusal);
        };
        let ended =
            app.fleet.credentials().was_revoked_by_removal(bearer, id).await.or_refuse("query failed")?;
        Err(if ended { deleted(id, true) } else { refusal })
    }
}
