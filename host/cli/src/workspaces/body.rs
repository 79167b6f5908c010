//! Arguments of `create` and `update`, and the bodies made of them.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::CliError;

/// Create a workspace.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Name of the workspace; a number is added where a sibling has the name
    name: String,
    /// Runtime, such as claude-code or mock [default: the template's, else langgraph]
    #[arg(long)]
    runtime: Option<String>,
    /// Role of the workspace
    #[arg(long)]
    role: Option<String>,
    /// Tier of host access, 1 to 4 [default: 3]
    #[arg(long)]
    tier: Option<u8>,
    /// Model of the agent
    #[arg(long)]
    model: Option<String>,
    /// Runtime template to create it from
    #[arg(long)]
    template: Option<String>,
    /// Parent workspace
    #[arg(long, value_name = "NAME|ID")]
    pub(super) parent: Option<String>,
    /// The agent runs elsewhere and registers itself
    #[arg(long)]
    external: bool,
    /// URL of the agent
    #[arg(long)]
    url: Option<String>,
    /// How the agent gets messages: pushed to its URL, or polled by the agent
    #[arg(long, value_parser = ["push", "poll"])]
    delivery_mode: Option<String>,
    /// Directory of the host to work in
    #[arg(long, value_name = "DIR")]
    workspace_dir: Option<String>,
    /// Access to that directory
    #[arg(long, value_parser = ["none", "read_only", "read_write"])]
    workspace_access: Option<String>,
    /// Secret of the workspace; without a value, the value of the environment variable KEY
    #[arg(long = "secret", value_name = "KEY[=VALUE]")]
    secrets: Vec<String>,
    /// Monthly budget in cents
    #[arg(long, value_name = "CENTS")]
    budget: Option<u64>,
    /// Tasks that the agent works on at once [default: 1]
    #[arg(long, value_name = "N")]
    max_concurrent_tasks: Option<u32>,
}

impl CreateArgs {
    pub(super) fn body(&self, parent: Option<&str>) -> Result<Value, CliError> {
        let mut secrets = Map::new();
        for secret in &self.secrets {
            let (key, value) = match secret.split_once('=') {
                Some((key, value)) => (key, value.to_owned()),
                None => (secret.as_str(), from_environment(secret)?),
            };
            secrets.insert(key.to_owned(), value.into());
        }
        Ok(given([
            ("name", json!(self.name)),
            ("runtime", json!(self.runtime)),
            ("role", json!(self.role)),
            ("tier", json!(self.tier)),
            ("model", json!(self.model)),
            ("template", json!(self.template)),
            ("parent_id", json!(parent)),
            ("external", json!(self.external)),
            ("url", json!(self.url)),
            ("delivery_mode", json!(self.delivery_mode)),
            ("workspace_dir", json!(self.workspace_dir)),
            ("workspace_access", json!(self.workspace_access)),
            ("secrets", Value::Object(secrets)),
            ("budget_limit", json!(self.budget)),
            ("max_concurrent_tasks", json!(self.max_concurrent_tasks)),
        ]))
    }
}

fn from_environment(key: &str) -> Result<String, CliError> {
    std::env::var(key).map_err(|_| {
        CliError::refused(format!(
            "the environment variable {key} isn't set. Set it, or give the secret as {key}=VALUE"
        ))
    })
}

/// Change a workspace. What is not given stays as it is.
#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// Name of the workspace, its id, or the beginning of its id
    #[arg(value_name = "NAME|ID")]
    pub(super) workspace: String,
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// New role
    #[arg(long, conflicts_with = "no_role")]
    role: Option<String>,
    /// Remove the workspace's role
    #[arg(long)]
    no_role: bool,
    /// New tier of host access, 1 to 4
    #[arg(long)]
    tier: Option<u8>,
    /// New runtime
    #[arg(long)]
    runtime: Option<String>,
    /// New parent workspace
    #[arg(long, value_name = "NAME|ID", conflicts_with = "no_parent")]
    pub(super) parent: Option<String>,
    /// Make it a root workspace, without a parent
    #[arg(long)]
    no_parent: bool,
    /// New directory of the host to work in
    #[arg(long, value_name = "DIR", conflicts_with = "no_workspace_dir")]
    workspace_dir: Option<String>,
    /// Work in no directory of the host
    #[arg(long)]
    no_workspace_dir: bool,
    /// Minutes without work until it hibernates, 5 to 10080; 0 for never
    #[arg(long, value_name = "MINUTES")]
    hibernate_after: Option<u32>,
    /// Horizontal position on the canvas
    #[arg(long, requires = "y", allow_negative_numbers = true)]
    x: Option<f64>,
    /// Vertical position on the canvas
    #[arg(long, requires = "x", allow_negative_numbers = true)]
    y: Option<f64>,
    /// Hide its children on the canvas
    #[arg(long, value_name = "true|false")]
    collapsed: Option<bool>,
}

impl UpdateArgs {
    pub(super) fn body(&self, parent: Option<&str>) -> Value {
        let mut body = given([
            ("name", json!(self.name)),
            ("role", json!(self.role)),
            ("tier", json!(self.tier)),
            ("runtime", json!(self.runtime)),
            ("parent_id", json!(parent)),
            ("workspace_dir", json!(self.workspace_dir)),
            ("hibernation_idle_minutes", json!(self.hibernate_after)),
            ("x", json!(self.x)),
            ("y", json!(self.y)),
            ("collapsed", json!(self.collapsed)),
        ]);
        let cleared =
            [("role", self.no_role), ("parent_id", self.no_parent), ("workspace_dir", self.no_workspace_dir)];
        if let Some(fields) = body.as_object_mut() {
            fields.extend(
                cleared.iter().filter(|(_, is)| *is).map(|(key, _)| ((*key).to_owned(), Value::Null)),
            );
        }
        body
    }
}

/// Leaves out fields without a value.
fn given<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(key, value)| (key.to_owned(), value)).collect())
}
