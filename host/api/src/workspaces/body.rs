//! Bodies about workspaces. Null counts as not given, except where null clears a field.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, FromRequestParts, Request};
use fleet::{Edit, NewWorkspace};
use serde::{Deserialize, Deserializer};
use types::{InitialMemory, WorkspaceId};
use wire_json::Text;

use crate::access::{Credentials, WorkspaceAuth};
use crate::app::App;
use crate::extract::{ValidJson, Validate};
use httpd::error::ApiError;

/// A new workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct CreateBody {
    name: String,
    role: Option<String>,
    template: Option<String>,
    tier: Option<i64>,
    model: Option<String>,
    runtime: Option<String>,
    external: Option<bool>,
    url: Option<String>,
    delivery_mode: Option<String>,
    workspace_dir: Option<String>,
    workspace_access: Option<String>,
    parent_id: Option<String>,
    budget_limit: Option<f64>,
    secrets: Option<BTreeMap<String, String>>,
    max_concurrent_tasks: Option<i64>,
    canvas: Option<Place>,
    initial_memories: Option<Vec<MemoryBody>>,
}

#[derive(Debug, Deserialize)]
struct MemoryBody {
    content: Text,
    #[serde(default)]
    scope: Text,
}

#[derive(Debug, Deserialize)]
struct Place {
    #[serde(default)]
    x: f64,
    #[serde(default)]
    y: f64,
}

impl Validate for NewWorkspace {
    type Wire = CreateBody;

    fn malformed() -> ApiError {
        ApiError::bad_request("invalid workspace payload")
    }

    fn validate(body: CreateBody) -> Result<Self, ApiError> {
        if body.name.is_empty() {
            return Err(Self::malformed());
        }
        Ok(Self {
            name: body.name,
            role: body.role,
            template: body.template,
            tier: body.tier.unwrap_or_default(),
            model: body.model,
            runtime: body.runtime,
            external: body.external.unwrap_or_default(),
            url: body.url,
            delivery_mode: body.delivery_mode,
            workspace_dir: body.workspace_dir,
            workspace_access: body.workspace_access,
            parent_id: body.parent_id,
            // Whole cents; the conversion saturates at the range of the type.
            budget_limit: body.budget_limit.map(|cents| cents.floor() as i64),
            secrets: body.secrets.unwrap_or_default(),
            max_concurrent_tasks: body.max_concurrent_tasks.unwrap_or(1),
            position: body.canvas.map(|place| (place.x, place.y)),
            initial_memories: body.initial_memories.into_iter().flatten().map(InitialMemory::from).collect(),
        })
    }
}

impl From<MemoryBody> for InitialMemory {
    fn from(body: MemoryBody) -> Self {
        Self { content: body.content.into_string().into(), scope: body.scope.into() }
    }
}

/// An edit: missing fields stay as they are.
#[derive(Debug, Deserialize)]
pub(crate) struct EditBody {
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    role: Option<Option<String>>,
    tier: Option<i64>,
    runtime: Option<String>,
    #[serde(default, deserialize_with = "given")]
    parent_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    workspace_dir: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    hibernation_idle_minutes: Option<Option<i64>>,
    collapsed: Option<bool>,
    x: Option<f64>,
    y: Option<f64>,
}

impl Validate for Edit {
    type Wire = EditBody;

    fn validate(body: EditBody) -> Result<Self, ApiError> {
        Ok(Self {
            name: body.name,
            role: body.role,
            tier: body.tier,
            runtime: body.runtime,
            parent_id: body.parent_id,
            workspace_dir: body.workspace_dir,
            hibernation_idle_minutes: body.hibernation_idle_minutes,
            collapsed: body.collapsed,
            position: body.x.zip(body.y),
        })
    }
}

/// For fields where null differs from not given.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Class `ws`, and an edit whose fields the caller may set: some take admin rights.
pub(super) struct EditRequest {
    pub(super) id: WorkspaceId,
    pub(super) edit: Edit,
}

impl FromRequest<App> for EditRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let auth = WorkspaceAuth::from_request_parts(&mut parts, app).await?;
        let is_admin = app.access.admin(&Credentials::of(&parts.headers)).is_ok();
        let ValidJson(edit) = ValidJson::<Edit>::from_request(Request::from_parts(parts, body), app).await?;
        match edit.admin_key() {
            Some(key) if !is_admin => {
                Err(ApiError::forbidden(&format!("admin auth required for field: {key}")))
            }
            _ => Ok(Self { id: auth.id, edit }),
        }
    }
}
