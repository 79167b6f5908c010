//! The adapter of the runtime `my-agent`.
//!
//! Every function below is pure: it starts no container and reads no secret. Its answer describes what a
//! workspace needs, and the host acts on that. Delete what you don't need: of the trait's functions only
//! `describe` has no default.

use isomer_sdk::{Adapter, Description, File, Plan, PlanRequest, Problem, default_plan, tree};
use serde::Deserialize;

/// Settings of the guest's row. Refusing unknown fields turns a typing error into a message instead of a
/// setting without effect.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Model of workspaces that have none of their own.
    #[serde(default = "default_model")]
    model: String,
}

fn default_model() -> String {
    "anthropic:claude-opus-4-7".to_owned()
}

/// The adapter. It has no state: each call gets the settings of the guest's row.
pub struct Runtime;

// Exports the functions of `Runtime` from the component.
isomer_sdk::export_adapter!(Runtime);

impl Adapter for Runtime {
    type Settings = Settings;

    /// Checks that go beyond the type of a field. `at` names the field.
    fn check(settings: &Settings) -> Result<(), Problem> {
        if settings.model.trim().is_empty() {
            return Err(Problem::at("/model", "name a model, or leave the field out"));
        }
        Ok(())
    }

    /// The properties of the runtime. Its image is `workspace-template-my-agent` unless you set `image_base`.
    fn describe(settings: &Settings) -> Description {
        Description {
            default_model: Some(settings.model.clone()),
            ..Description::container("my-agent", "My agent")
        }
    }

    /// What a workspace needs before it starts: here one more file in its configuration directory,
    /// beside the model that `default_plan` puts in the environment.
    fn plan(settings: &Settings, request: &PlanRequest) -> Result<Plan, Problem> {
        let model = request.model.as_ref().unwrap_or(&settings.model);
        let about = tree! {
            "workspace" => &request.workspace_name,
            "model" => model,
        };
        Ok(Plan { files: vec![File::new("my-agent.yaml", about)], ..default_plan(request) })
    }
}

#[cfg(test)]
mod tests {
    use isomer_sdk::{EnvSet, parse_settings};

    use super::*;

    #[test]
    fn the_chosen_model_reaches_the_agent() {
        let settings = parse_settings("{}").unwrap();
        let mut request = PlanRequest::sample("my-agent");
        request.model = Some("openai/gpt-4o".to_owned());
        let plan = Runtime::plan(&settings, &request).unwrap();
        assert_eq!(plan.env, [EnvSet::new("MODEL", "openai/gpt-4o")]);
        assert_eq!(plan.files[0].path, "my-agent.yaml");
    }

    #[test]
    fn an_empty_model_is_refused() {
        let settings = parse_settings(r#"{"model": " "}"#).unwrap();
        assert_eq!(Runtime::check(&settings).unwrap_err().at.as_deref(), Some("/model"));
    }
}
