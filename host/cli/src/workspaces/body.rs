//! What is typed, as the server reads it.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::TerminalError;

/// A workspace to be made.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// What to call it; it gets a number where siblings have that name
    name: String,
    /// What runs in it, such as claude-code or mock [default: what the template says, else langgraph]
    #[arg(long)]
    runtime: Option<String>,
    /// What it is for
    #[arg(long)]
    role: Option<String>,
    /// How much of the host it may touch, 1 to 4 [default: 3]
    #[arg(long)]
    tier: Option<u8>,
    /// Model of its agent
    #[arg(long)]
    model: Option<String>,
    /// Directory of templates to make it from
    #[arg(long)]
    template: Option<String>,
    /// The workspace above it
    #[arg(long, value_name = "NAME|ID")]
    pub(super) parent: Option<String>,
    /// Somebody else runs its agent, which reports in
    #[arg(long)]
    external: bool,
    /// Where that agent is reached
    #[arg(long)]
    url: Option<String>,
    /// Do messages go to it, or does it fetch them?
    #[arg(long, value_parser = ["push", "poll"])]
    delivery_mode: Option<String>,
    /// Directory of the host that it works in
    #[arg(long, value_name = "DIR")]
    workspace_dir: Option<String>,
    /// What it may do there
    #[arg(long, value_parser = ["none", "read_only", "read_write"])]
    workspace_access: Option<String>,
    /// A secret for it; without a value, that of the variable KEY of this terminal
    #[arg(long = "secret", value_name = "KEY[=VALUE]")]
    secrets: Vec<String>,
    /// Cents that it may spend a month
    #[arg(long, value_name = "CENTS")]
    budget: Option<u64>,
    /// Tasks that it takes at once [default: 1]
    #[arg(long, value_name = "N")]
    max_concurrent_tasks: Option<u32>,
}

impl CreateArgs {
    pub(super) fn body(&self, parent: Option<&str>) -> Result<Value, TerminalError> {
        let mut secrets = Map::new();
        for secret in &self.secrets {
            let (key, value) = match secret.split_once('=') {
                Some((key, value)) => (key, value.to_owned()),
                None => (secret.as_str(), of_environment(secret)?),
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

fn of_environment(key: &str) -> Result<String, TerminalError> {
    std::env::var(key).map_err(|_| {
        TerminalError::refused(format!("the variable {key} isn't set; give the secret as {key}=VALUE"))
    })
}

/// What is to be different.
#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// Name of the workspace, its id, or the beginning of its id
    #[arg(value_name = "NAME|ID")]
    pub(super) workspace: String,
    /// What to call it
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long, conflicts_with = "no_role")]
    role: Option<String>,
    /// Nothing in particular
    #[arg(long)]
    no_role: bool,
    /// How much of the host it may touch, 1 to 4
    #[arg(long)]
    tier: Option<u8>,
    /// What runs in it
    #[arg(long)]
    runtime: Option<String>,
    /// The workspace above it
    #[arg(long, value_name = "NAME|ID", conflicts_with = "no_parent")]
    pub(super) parent: Option<String>,
    /// To the top
    #[arg(long)]
    no_parent: bool,
    /// Directory of the host that it works in
    #[arg(long, value_name = "DIR", conflicts_with = "no_workspace_dir")]
    workspace_dir: Option<String>,
    /// In none
    #[arg(long)]
    no_workspace_dir: bool,
    /// Minutes without work until it is hibernated, 5 to 10080; 0: never
    #[arg(long, value_name = "MINUTES")]
    hibernate_after: Option<u32>,
    /// Its place on the canvas
    #[arg(long, requires = "y", allow_negative_numbers = true)]
    x: Option<f64>,
    /// Its place on the canvas
    #[arg(long, requires = "x", allow_negative_numbers = true)]
    y: Option<f64>,
    /// Are its children hidden on the canvas?
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

/// Fields that have a value.
fn given<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(key, value)| (key.to_owned(), value)).collect())
}
