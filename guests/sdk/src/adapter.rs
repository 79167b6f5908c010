//! The world `runtime-adapter`, with defaults for what most runtimes share.

use serde::de::DeserializeOwned;

pub use crate::bindings::adapter::exports::isomer::adapter::adapter::{
    Capabilities, Content as FileContent, Description, EnvCopy, EnvSet, File, Hosting, Message, Phase,
    PlanRequest, Reload, Surfaces, Volume, WorkspacePlan as Plan,
};
use crate::{
    Problem, Tree, bindings::adapter::exports::isomer::adapter::adapter::Guest, parse_settings,
    provider_hint, runtime_in_config, settings::stored,
};

/// The adapter of a runtime. Only [`describe`](Adapter::describe) has no default; many runtimes need nothing
/// else.
pub trait Adapter {
    /// Settings of a guest row. Put `#[serde(deny_unknown_fields)]` on the type.
    type Settings: DeserializeOwned;

    /// Checks settings beyond the types of their fields.
    ///
    /// # Errors
    /// What is wrong, with the JSON pointer of the field as `at`.
    fn check(_settings: &Self::Settings) -> Result<(), Problem> {
        Ok(())
    }

    /// The properties of the runtime. Begin with [`Description::container`].
    fn describe(settings: &Self::Settings) -> Description;

    /// What a workspace needs before it starts: the default is [`default_plan`].
    ///
    /// # Errors
    /// Why the workspace can't start; provisioning fails with this problem.
    fn plan(_settings: &Self::Settings, request: &PlanRequest) -> Result<Plan, Problem> {
        Ok(default_plan(request))
    }

    /// Runtime named in a configuration file, by default under the top-level key `runtime`.
    fn runtime_in_config(_settings: &Self::Settings, config: &[u8]) -> Option<String> {
        runtime_in_config(config)
    }

    /// What a change to these files asks for: by default a restart.
    fn on_files_changed(_settings: &Self::Settings, paths: &[String]) -> Reload {
        if paths.is_empty() { Reload::None } else { Reload::Restart }
    }

    /// The agent's reply, for runtimes that answer in the adapter ([`Hosting::Synthetic`]).
    ///
    /// # Errors
    /// Why there is no reply.
    fn synthetic_reply(_settings: &Self::Settings, _message: &Message) -> Result<Vec<String>, Problem> {
        Err(Problem::new("this runtime does not answer by itself"))
    }

    /// A message's body in the form that this runtime takes: by default unchanged.
    ///
    /// # Errors
    /// Why the message can't be translated; then it is not delivered.
    fn to_agent(_settings: &Self::Settings, body: String) -> Result<String, Problem> {
        Ok(body)
    }
}

/// A plan that fits any runtime: the workspace's model in `MODEL`, and the provider that its name hints at.
/// For a workspace without a model nothing is set, so that the agent's configuration file decides.
#[must_use]
pub fn default_plan(request: &PlanRequest) -> Plan {
    let model = request.model.as_deref().filter(|model| !model.is_empty());
    Plan {
        env: model.map(|model| EnvSet::new("MODEL", model)).into_iter().collect(),
        provider: model.and_then(provider_hint).map(str::to_owned),
        ..Plan::empty()
    }
}

impl Description {
    /// A runtime in a container with the usual properties: the image `workspace-template-<name>`,
    /// configuration below `/configs`, port 8000.
    #[must_use]
    pub fn container(name: &str, display_name: &str) -> Self {
        Self {
            name: name.to_owned(),
            aliases: Vec::new(),
            display_name: display_name.to_owned(),
            hosting: Hosting::Container,
            image_base: Some(format!("workspace-template-{name}")),
            default_model: Some("anthropic:claude-opus-4-7".to_owned()),
            port: 8000,
            config_dir: "/configs".to_owned(),
            remote_config_dir: "/configs".to_owned(),
            template_dirs: vec![format!("{name}-default"), name.to_owned()],
            memory_file: Some("CLAUDE.md".to_owned()),
            volumes: Vec::new(),
            provision_timeout_seconds: None,
            reply_pause_ms: 0,
            transcripts: false,
            translates_messages: false,
            capabilities: Capabilities::empty(),
            surfaces: Surfaces::FILES | Surfaces::TERMINAL | Surfaces::CONFIG_FORM,
        }
    }

    /// A runtime without a container of the platform.
    #[must_use]
    pub fn without_container(name: &str, display_name: &str, hosting: Hosting) -> Self {
        Self {
            hosting,
            image_base: None,
            template_dirs: Vec::new(),
            memory_file: None,
            surfaces: Surfaces::empty(),
            ..Self::container(name, display_name)
        }
    }
}

impl Plan {
    /// A plan that asks for nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            env: Vec::new(),
            env_copies: Vec::new(),
            files: Vec::new(),
            provider: None,
            required_env: Vec::new(),
            reset_groups: Vec::new(),
        }
    }
}

impl PlanRequest {
    /// Value of one of the variables that adapters see.
    #[must_use]
    pub fn visible(&self, name: &str) -> Option<&str> {
        self.visible_env.iter().find(|set| set.name == name).map(|set| set.value.as_str())
    }

    /// Whether the session is to be emptied, by the request or by the variable `WORKSPACE_RESET_SESSION`.
    #[must_use]
    pub fn wants_fresh_session(&self) -> bool {
        let variable = self.visible("WORKSPACE_RESET_SESSION").unwrap_or_default();
        self.reset_session || matches!(variable, "1" | "t" | "T" | "true" | "True" | "TRUE")
    }

    /// A request for tests: creates a workspace of tier 1 without model, role and secrets.
    #[must_use]
    pub fn sample(runtime: &str) -> Self {
        Self {
            phase: Phase::Create,
            reset_session: false,
            runtime: runtime.to_owned(),
            workspace_name: "sample".to_owned(),
            role: None,
            tier: 1,
            model: None,
            secret_keys: Vec::new(),
            visible_env: Vec::new(),
            template_config: None,
            extras: "{}".to_owned(),
        }
    }
}

impl EnvSet {
    /// Sets the variable `name` to `value`.
    #[must_use]
    pub fn new(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), value: value.to_owned() }
    }
}

impl File {
    /// `path` is relative to the configuration directory.
    #[must_use]
    pub fn new(path: &str, content: impl Into<FileContent>) -> Self {
        Self { path: path.to_owned(), content: content.into() }
    }
}

impl From<Tree> for FileContent {
    fn from(tree: Tree) -> Self {
        Self::Yaml(tree.into())
    }
}

impl From<String> for FileContent {
    fn from(text: String) -> Self {
        Self::Bytes(text.into_bytes())
    }
}

impl From<&str> for FileContent {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

impl<T: Adapter> Guest for T {
    fn validate_settings(settings: String) -> Result<(), Problem> {
        T::check(&parse_settings(&settings)?)
    }

    fn describe(settings: String) -> Description {
        <T as Adapter>::describe(&stored(&settings))
    }

    fn plan(settings: String, request: PlanRequest) -> Result<Plan, Problem> {
        <T as Adapter>::plan(&stored(&settings), &request)
    }

    fn runtime_in_config(settings: String, config: Vec<u8>) -> Option<String> {
        <T as Adapter>::runtime_in_config(&stored(&settings), &config)
    }

    fn on_files_changed(settings: String, paths: Vec<String>) -> Reload {
        <T as Adapter>::on_files_changed(&stored(&settings), &paths)
    }

    fn synthetic_reply(settings: String, message: Message) -> Result<Vec<String>, Problem> {
        <T as Adapter>::synthetic_reply(&stored(&settings), &message)
    }

    fn to_agent(settings: String, body: String) -> Result<String, Problem> {
        <T as Adapter>::to_agent(&stored(&settings), body)
    }
}

/// Exports the named type, an [`Adapter`] in the same module, as this component's interface.
#[macro_export]
macro_rules! export_adapter {
    ($type:ident) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code)]
        mod bindings {
            use super::$type as Component;
            $crate::bindings::adapter::export!(Component with_types_in $crate::bindings::adapter);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_given_model_is_planned() {
        let mut request = PlanRequest::sample("x");
        assert_eq!(default_plan(&request), Plan::empty());
        request.model = Some(String::new());
        assert_eq!(default_plan(&request), Plan::empty());
        request.model = Some("openai/gpt-4o".into());
        let plan = default_plan(&request);
        assert_eq!(plan.env, vec![EnvSet::new("MODEL", "openai/gpt-4o")]);
        assert_eq!(plan.provider.as_deref(), Some("openrouter"));
    }

    #[test]
    fn request_and_variable_ask_for_a_fresh_session() {
        let mut request = PlanRequest::sample("x");
        assert!(!request.wants_fresh_session());
        for (value, fresh) in
            [("true", true), ("1", true), ("TRUE", true), ("yes", false), ("0", false), ("", false)]
        {
            request.visible_env = vec![EnvSet::new("WORKSPACE_RESET_SESSION", value)];
            assert_eq!(request.wants_fresh_session(), fresh, "{value}");
        }
        request.reset_session = true;
        assert!(request.wants_fresh_session());
    }
}
