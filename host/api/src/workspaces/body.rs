//! What clients send about workspaces. Anything may be null, which counts as not given, except where
//! null clears.

use std::collections::BTreeMap;

use fleet::{Edit, Memory, NewWorkspace};
use serde::{Deserialize, Deserializer};

use httpd::error::ApiError;

/// A workspace to be made.
#[derive(Debug, Deserialize)]
pub(super) struct CreateBody {
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
    initial_memories: Option<Vec<Memory>>,
}

#[derive(Debug, Deserialize)]
struct Place {
    #[serde(default)]
    x: f64,
    #[serde(default)]
    y: f64,
}

impl CreateBody {
    pub(super) fn parse(bytes: &[u8]) -> Result<NewWorkspace, ApiError> {
        let refused = |error: &dyn std::fmt::Display| {
            tracing::debug!(%error, "not a workspace");
            ApiError::bad_request("invalid workspace payload")
        };
        let body: Self = serde_json::from_slice(bytes).map_err(|error| refused(&error))?;
        if body.name.is_empty() {
            return Err(refused(&"name is empty"));
        }
        Ok(NewWorkspace {
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
            // Whole cents; the conversion keeps to the range of the type.
            budget_limit: body.budget_limit.map(|cents| cents.floor() as i64),
            secrets: body.secrets.unwrap_or_default(),
            max_concurrent_tasks: body.max_concurrent_tasks.unwrap_or(1),
            position: body.canvas.map(|place| (place.x, place.y)),
            initial_memories: body.initial_memories.unwrap_or_default(),
        })
    }
}

/// An edit: what isn't there stays as it is.
#[derive(Debug, Deserialize)]
pub(super) struct EditBody {
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

impl EditBody {
    pub(super) fn parse(bytes: &[u8]) -> Result<Edit, ApiError> {
        let body: Self = serde_json::from_slice(bytes).map_err(|error| {
            tracing::debug!(%error, "not an edit of a workspace");
            ApiError::invalid_body()
        })?;
        Ok(Edit {
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

/// Tells null from not given.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}
