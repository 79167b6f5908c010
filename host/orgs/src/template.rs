//! The data of an org template as its author wrote it, before defaults are merged in.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use types::{InitialMemory, PluginSpec, SharedText};

use crate::fields::{Marks, Place};

/// A whole template.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Org {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) defaults: Defaults,
    /// The root workspaces.
    pub(crate) workspaces: Vec<Node>,
    /// Memories with scope `GLOBAL`.
    pub(crate) global_memories: Vec<InitialMemory>,
    pub(crate) required_env: Vec<Placed<Requirement>>,
    pub(crate) recommended_env: Vec<Placed<Requirement>>,
    /// What its author should look at.
    pub(crate) warnings: Vec<String>,
}

impl Org {
    /// Runtimes that its workspaces name, and those that stand in where one names none.
    pub(crate) fn runtimes(&self) -> BTreeSet<&str> {
        let mut runtimes = BTreeSet::from([types::defaults::RUNTIME]);
        runtimes.insert(self.defaults.runtime.trim());
        let mut nodes: Vec<&Node> = self.workspaces.iter().collect();
        while let Some(node) = nodes.pop() {
            runtimes.insert(node.runtime.trim());
            nodes.extend(&node.children);
        }
        runtimes.remove("");
        runtimes
    }
}

/// A value and where it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed<T> {
    pub(crate) at: Option<Place>,
    pub(crate) value: T,
}

/// Values for workspaces that have none of their own.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Defaults {
    pub(crate) runtime: String,
    /// 0: the platform's default.
    pub(crate) tier: i64,
    pub(crate) model: String,
    pub(crate) plugins: Vec<PluginSpec>,
    pub(crate) prompts: Prompts,
    pub(crate) category_routing: Routing,
    pub(crate) initial_memories: Vec<InitialMemory>,
    pub(crate) marks: Marks,
}

/// A workspace of a template.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) runtime: String,
    /// 0: the default.
    pub(crate) tier: i64,
    /// Directory of a runtime template.
    pub(crate) template: String,
    /// Directory of the org template that becomes the workspace's configuration.
    pub(crate) files_dir: String,
    /// `false`: neither the node nor anything below it is created.
    pub(crate) spawning: Option<bool>,
    pub(crate) system_prompt: SharedText,
    pub(crate) model: String,
    /// Absolute directory of the host; may have `${VAR}`.
    pub(crate) workspace_dir: String,
    pub(crate) workspace_access: String,
    /// `!name` removes a plugin of the defaults.
    pub(crate) plugins: Vec<PluginSpec>,
    pub(crate) prompts: Prompts,
    pub(crate) category_routing: Routing,
    pub(crate) initial_memories: Vec<InitialMemory>,
    /// Below 1 counts as 1.
    pub(crate) max_concurrent_tasks: i64,
    pub(crate) schedules: Vec<Schedule>,
    pub(crate) channels: Vec<Channel>,
    /// The agent is run by its operator, not by the platform.
    pub(crate) external: bool,
    /// URL of an external agent.
    pub(crate) url: String,
    /// Position of a root node on the canvas.
    pub(crate) canvas: (f64, f64),
    pub(crate) required_env: Vec<Placed<Requirement>>,
    pub(crate) recommended_env: Vec<Placed<Requirement>>,
    pub(crate) children: Vec<Node>,
    pub(crate) marks: Marks,
}

impl Node {
    /// Whether the node and those below it are created.
    #[must_use]
    pub(crate) fn spawns(&self) -> bool {
        self.spawning != Some(false)
    }
}

/// A setting, or a group of settings of which one is enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Requirement {
    /// A single setting.
    One(String),
    /// A group, in the author's order.
    Any {
        /// Names of the settings.
        any_of: Vec<String>,
    },
}

impl Requirement {
    /// Names of the settings.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Any { any_of } => any_of,
        }
    }
}

/// Names by category of work.
pub(crate) type Routing = BTreeMap<String, Vec<String>>;

/// Prompts of an agent, each inline or in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prompts {
    pub(crate) initial: Prompt,
    /// Sent when the agent has been idle for `idle_interval_seconds`.
    pub(crate) idle: Prompt,
    /// 0: the default.
    pub(crate) idle_interval_seconds: i64,
}

/// A text, or the file that has it. A text wins over a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prompt {
    pub(crate) text: SharedText,
    /// Relative to the node's `files_dir`.
    pub(crate) file: String,
}

/// A prompt that is sent at times.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) name: String,
    /// Five fields.
    pub(crate) cron_expr: String,
    pub(crate) timezone: String,
    pub(crate) prompt: SharedText,
    /// Relative to the node's `files_dir`; read into `prompt` where that is empty.
    pub(crate) prompt_file: String,
    pub(crate) enabled: bool,
    pub(crate) marks: Marks,
}

/// A chat channel of an agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Channel {
    pub(crate) kind: String,
    /// May have `${VAR}` and credentials.
    pub(crate) config: BTreeMap<String, String>,
    /// Empty: every user.
    pub(crate) allowed_users: Vec<String>,
    pub(crate) enabled: bool,
}
