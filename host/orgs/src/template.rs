//! What an org template says, once its files are one tree: data, as its author wrote it. Defaults are
//! not merged in yet.

use std::collections::BTreeMap;

use fleet::Memory;
use serde::{Deserialize, Serialize};

use crate::requirements::Requirement;

/// A whole template.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Org {
    /// What the organisation is called.
    pub name: String,
    /// What it is, for people who choose one.
    pub description: String,
    /// What workspaces get that don't say otherwise.
    pub defaults: Defaults,
    /// The workspaces at the top.
    pub workspaces: Vec<Node>,
    /// What everybody remembers from the start.
    pub global_memories: Vec<Memory>,
    /// Settings without which the organisation as a whole can't work.
    pub required_env: Vec<Requirement>,
    /// Settings without which it works less well.
    pub recommended_env: Vec<Requirement>,
    /// `!external` parts that stand where workspaces could: who wrote them where. Nothing fetches them
    /// yet.
    pub externals: Vec<String>,
}

/// What workspaces get that don't say otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Defaults {
    /// What runs in them.
    pub runtime: String,
    /// 0: the platform's choice.
    pub tier: i64,
    /// Their model.
    pub model: String,
    /// Their plugins.
    pub plugins: Vec<Plugin>,
    /// What they do first and what they do when idle.
    pub prompts: Prompts,
    /// Who does what kind of work.
    pub category_routing: Routing,
    /// What they remember from the start.
    pub initial_memories: Vec<Memory>,
}

/// A workspace of a template.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// What people call it.
    pub name: String,
    /// What it is there for.
    pub role: String,
    /// What runs in it.
    pub runtime: String,
    /// 0: the default.
    pub tier: i64,
    /// Directory of templates that it is made from.
    pub template: String,
    /// Directory of the org template that becomes its configuration.
    pub files_dir: String,
    /// `false`: it and everything below it is only drawn.
    pub spawning: Option<bool>,
    /// Its system prompt.
    pub system_prompt: String,
    /// Its model.
    pub model: String,
    /// Directory of the host that it works in, perhaps with `${VAR}`.
    pub workspace_dir: String,
    /// What it may do there.
    pub workspace_access: String,
    /// Its plugins; `!name` takes one of the defaults away.
    pub plugins: Vec<Plugin>,
    /// What it does first and what it does when idle.
    pub prompts: Prompts,
    /// Who does what kind of work.
    pub category_routing: Routing,
    /// What it remembers from the start.
    pub initial_memories: Vec<Memory>,
    /// Tasks that it takes at once; below 1 counts as 1.
    pub max_concurrent_tasks: i64,
    /// What it does at times.
    pub schedules: Vec<Schedule>,
    /// Where people talk to it.
    pub channels: Vec<Channel>,
    /// Somebody else runs its agent.
    pub external: bool,
    /// Where that agent is reached.
    pub url: String,
    /// Its place, for those at the top.
    pub canvas: (f64, f64),
    /// Settings without which it can't work.
    pub required_env: Vec<Requirement>,
    /// Settings without which it works less well.
    pub recommended_env: Vec<Requirement>,
    /// The workspaces below it.
    pub children: Vec<Node>,
}

impl Node {
    /// Is it made, or only drawn?
    #[must_use]
    pub fn spawns(&self) -> bool {
        self.spawning != Some(false)
    }
}

/// Who does what kind of work: names by category.
pub(crate) type Routing = BTreeMap<String, Vec<String>>;

/// Texts that an agent works from, inline or in files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompts {
    /// The first thing that it is told.
    pub initial: Prompt,
    /// What it is told when it has nothing to do.
    pub idle: Prompt,
    /// After how long; 0: the default.
    pub idle_interval_seconds: i64,
}

/// A text, or the file that has it. The text wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The text itself.
    pub text: String,
    /// A file, relative to the node's `files_dir`.
    pub file: String,
}

/// A plugin to be installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name, or where it comes from.
    pub source: String,
    /// What it is told; null for nothing.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub config: serde_json::Value,
}

/// Something to be done at times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// What it is called.
    pub name: String,
    /// When: five fields.
    pub cron_expr: String,
    /// Where that time is.
    pub timezone: String,
    /// What to do.
    pub prompt: String,
    /// The file that says so.
    #[serde(skip)]
    pub prompt_file: String,
    /// Is it done at all?
    pub enabled: bool,
}

/// Somewhere that people talk to an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// What kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// How to reach it, perhaps with `${VAR}`, perhaps with secrets.
    pub config: BTreeMap<String, String>,
    /// Who may talk; nobody named: everybody.
    pub allowed_users: Vec<String>,
    /// Is it used at all?
    pub enabled: bool,
}
