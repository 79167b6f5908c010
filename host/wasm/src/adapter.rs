//! Runtime adapters: what is asked of one and what it answers, in plain types. The newest version
//! of the world decides their form; older ones are converted to it.

mod v0_1;

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use wire_json::RawJson;

use crate::{FunctionError, Outcome, Problem, Settings, World, call::CallContext, json};

pub(crate) use v0_1::Bindings;
#[cfg(fuzzing)]
pub(crate) use v0_1::fuzz_plan;

/// What runs the agent. The host switches on this and never on a runtime's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hosting {
    /// A container that the host starts, watches and stops.
    Container,
    /// Its operator, outside of the platform; the agent registers itself.
    Operator,
    /// There is no agent: the adapter answers every message itself.
    Synthetic,
}

impl fmt::Display for Hosting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Operator => "operator",
            Self::Synthetic => "synthetic",
        })
    }
}

/// What a runtime is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// `[a-z0-9][a-z0-9-]{0,63}`
    pub name: String,
    /// Other names for it; same form.
    pub aliases: Vec<String>,
    /// What people call it.
    pub display_name: String,
    /// What runs the agent.
    pub hosting: Hosting,
    /// Image name without registry and tag; always there when the hosting is a container.
    pub image_base: Option<String>,
    /// Model of a workspace that names none.
    pub default_model: Option<String>,
    /// TCP port on which the agent listens inside its container.
    pub port: u16,
    /// Configuration directory inside the container.
    pub config_dir: String,
    /// The same on a remote host.
    pub remote_config_dir: String,
    /// Names of template directories to try, best first.
    pub template_dirs: Vec<String>,
    /// Long-lived memory, relative to `config_dir`.
    pub memory_file: Option<String>,
    /// Directories that outlive the container.
    pub volumes: Vec<Volume>,
    /// Seconds that provisioning may take; `None` = the host's limit.
    pub provision_timeout_seconds: Option<u32>,
    /// Milliseconds before a synthetic reply is sent.
    pub reply_pause_ms: u32,
    /// Whether the runtime has transcripts.
    pub transcripts: bool,
    /// Whether `to_agent` translates each message.
    pub translates_messages: bool,
    /// What it is taken to do by itself until its first heartbeat.
    pub capabilities: Capabilities,
    /// Parts of the user interface that make sense.
    pub surfaces: Surfaces,
}

impl Description {
    /// The name and the aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.name].into_iter().chain(&self.aliases).map(String::as_str)
    }
}

/// A directory that outlives the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// `[a-z0-9-]{1,32}`, unique within the adapter.
    pub name: String,
    /// Where it is mounted.
    pub path: String,
    /// Volumes with the same group are emptied together.
    pub reset_group: Option<String>,
}

/// What a runtime does by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools)] // independent flags of the wire contract
pub struct Capabilities {
    /// Declared, no effect.
    pub heartbeat: bool,
    /// Runs its own schedules.
    pub scheduler: bool,
    /// Queues by itself.
    pub session: bool,
    /// Judges its own health.
    pub status_management: bool,
    /// Declared, no effect.
    pub retry: bool,
    /// Declared, no effect.
    pub activity_decoration: bool,
    /// Declared, no effect.
    pub channel_dispatch: bool,
}

/// Parts of the user interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Surfaces {
    /// File browser.
    pub files: bool,
    /// Terminal.
    pub terminal: bool,
    /// Form for the configuration file.
    pub config_form: bool,
}

/// Why a plan is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// First start.
    Create,
    /// Stop and start.
    Restart,
    /// Start after a pause.
    Resume,
}

/// What a plan is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Why.
    pub phase: Phase,
    /// The operator asked for a fresh session.
    #[serde(default)]
    pub reset_session: bool,
    /// Runtime name as the workspace row has it.
    pub runtime: String,
    /// Name of the workspace.
    pub workspace_name: String,
    /// Its role.
    #[serde(default)]
    pub role: Option<String>,
    /// 1 to 4.
    pub tier: u8,
    /// Model that the workspace names.
    #[serde(default)]
    pub model: Option<String>,
    /// Names of the workspace's secrets, sorted.
    #[serde(default)]
    pub secret_keys: Vec<String>,
    /// The few variables whose values an adapter may see.
    #[serde(default)]
    pub visible_env: Vec<EnvSet>,
    /// `config.yaml` of the template.
    #[serde(default, with = "json::optional_text")]
    pub template_config: Option<Vec<u8>>,
    /// Fields of the org node that the platform doesn't know: an object.
    #[serde(default)]
    pub extras: serde_json::Map<String, Json>,
}

/// A variable and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvSet {
    /// `[A-Za-z_][A-Za-z0-9_]*`
    pub name: String,
    /// No NUL.
    pub value: String,
}

/// A secret that the agent is to get under a second name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvCopy {
    /// The secret's name.
    pub source: String,
    /// The second name.
    pub target: String,
}

/// What a workspace needs before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Variables to set.
    pub env: Vec<EnvSet>,
    /// Secrets to copy.
    pub env_copies: Vec<EnvCopy>,
    /// Files to write.
    pub files: Vec<File>,
    /// Provider that the model's name hints at.
    pub provider: Option<String>,
    /// Of each group the workspace must have at least one.
    pub required_env: Vec<Vec<String>>,
    /// Groups of volumes to empty first.
    pub reset_groups: Vec<String>,
}

/// A file to write, relative to the configuration directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// Relative path.
    pub path: String,
    /// What it holds.
    pub content: Content,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// These bytes.
    #[serde(with = "json::text")]
    Bytes(Vec<u8>),
    /// This value, written as YAML. Mappings keep their order.
    Yaml(Value),
}

/// A value, as a configuration file holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    /// No value.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A finite fraction.
    Decimal(f64),
    /// Text.
    Text(String),
    /// A list.
    Sequence(Vec<Value>),
    /// Keys with values, in order, none twice.
    Mapping(Vec<(String, Value)>),
}

/// What a changed file asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reload {
    /// Nothing.
    None,
    /// A restart of the agent.
    Restart,
}

/// A message to a synthetic agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Id of the workspace.
    pub workspace_id: String,
    /// Id of the request as text; empty if it had none.
    #[serde(default)]
    pub request_id: String,
    /// Text of the message.
    pub text: String,
}

/// A component called as an adapter.
pub struct Adapter<'a> {
    pub(crate) context: &'a CallContext,
    pub(crate) bindings: &'a Bindings,
}

impl Adapter<'_> {
    /// Asks the guest whether these settings are valid.
    pub async fn validate_settings(&self, settings: &Settings) -> Outcome<Result<(), Problem>> {
        self.bindings.validate_settings(self.context, settings).await
    }

    /// What is this runtime?
    pub async fn describe(&self, settings: &Settings) -> Outcome<Description> {
        self.bindings.describe(self.context, settings).await
    }

    /// What does a workspace need before it starts?
    pub async fn plan(&self, settings: &Settings, request: &PlanRequest) -> Outcome<Result<Plan, Problem>> {
        self.bindings.plan(self.context, settings, request).await
    }

    /// Which runtime does a configuration file name?
    pub async fn runtime_in_config(&self, settings: &Settings, config: &[u8]) -> Outcome<Option<String>> {
        self.bindings.runtime_in_config(self.context, settings, config).await
    }

    /// What does a change to these files ask for?
    pub async fn on_files_changed(&self, settings: &Settings, paths: &[String]) -> Outcome<Reload> {
        self.bindings.on_files_changed(self.context, settings, paths).await
    }

    /// What does a synthetic agent answer? One text per part.
    pub async fn synthetic_reply(
        &self,
        settings: &Settings,
        message: &Message,
    ) -> Outcome<Result<Vec<String>, Problem>> {
        self.bindings.synthetic_reply(self.context, settings, message).await
    }

    /// The body of a message as the runtime wants it, as JSON text.
    pub async fn to_agent(&self, settings: &Settings, body: &str) -> Outcome<Result<RawJson, Problem>> {
        self.bindings.to_agent(self.context, settings, body).await
    }

    pub(crate) async fn call_by_name(
        &self,
        function: &str,
        settings: &Settings,
        input: Json,
    ) -> Result<Outcome<RawJson>, FunctionError> {
        /// Input of the functions that take one value.
        fn field<T: DeserializeOwned>(function: &str, name: &str, input: Json) -> Result<T, FunctionError> {
            let mut fields: serde_json::Map<String, Json> = json::input(function, input)?;
            json::input(function, fields.remove(name).unwrap_or_default())
        }
        Ok(match function {
            "validate-settings" => {
                json::answer(self.validate_settings(&json::settings(function, settings, &input)?).await)
            }
            "describe" => json::outcome(self.describe(settings).await),
            "plan" => json::answer(self.plan(settings, &json::input(function, input)?).await),
            "runtime-in-config" => {
                let config: String = field(function, "config", input)?;
                json::outcome(self.runtime_in_config(settings, config.as_bytes()).await)
            }
            "on-files-changed" => {
                let paths: Vec<String> = field(function, "paths", input)?;
                json::outcome(self.on_files_changed(settings, &paths).await)
            }
            "synthetic-reply" => {
                json::answer(self.synthetic_reply(settings, &json::input(function, input)?).await)
            }
            "to-agent" => json::answer(self.to_agent(settings, &input.to_string()).await),
            _ => return Err(json::unknown(World::Adapter, function)),
        })
    }
}
