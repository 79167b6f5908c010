//! The runtime `hermes`.
#![deny(unsafe_code)]

mod merge;

use isomer_sdk::{Adapter, Description, EnvSet, NoSettings, Plan, PlanRequest, Problem, default_plan};

/// The guest.
pub struct Hermes;

isomer_sdk::export_adapter!(Hermes);

impl Adapter for Hermes {
    type Settings = NoSettings;

    fn describe(_: &NoSettings) -> Description {
        Description {
            remote_config_dir: "/home/ubuntu/.hermes".to_owned(),
            provision_timeout_seconds: Some(30 * 60),
            translates_messages: true,
            ..Description::container("hermes", "Hermes")
        }
    }

    fn plan(_: &NoSettings, request: &PlanRequest) -> Result<Plan, Problem> {
        let mut plan = default_plan(request);
        // The launcher of Hermes reads the model from its own variable.
        let model = plan.env.iter().find(|set| set.name == "MODEL").map(|set| set.value.clone());
        plan.env.extend(model.map(|model| EnvSet::new("HERMES_DEFAULT_MODEL", &model)));
        Ok(plan)
    }

    fn to_agent(_: &NoSettings, body: String) -> Result<String, Problem> {
        Ok(merge::leading_system_messages(&body).unwrap_or(body))
    }
}

#[cfg(test)]
mod tests {
    use isomer_sdk::Reload;

    use super::*;

    const NONE: NoSettings = NoSettings {};

    #[test]
    fn described_as_the_contract_says() {
        let about = Hermes::describe(&NONE);
        assert_eq!(about.image_base.as_deref(), Some("workspace-template-hermes"));
        assert_eq!(about.default_model.as_deref(), Some("anthropic:claude-opus-4-7"));
        assert_eq!(
            (about.config_dir.as_str(), about.remote_config_dir.as_str()),
            ("/configs", "/home/ubuntu/.hermes")
        );
        assert_eq!(about.provision_timeout_seconds, Some(1_800));
        assert!(about.translates_messages && !about.transcripts);
        assert!(about.volumes.is_empty());
    }

    #[test]
    fn the_model_is_set_in_both_variables() {
        let mut request = PlanRequest::sample("hermes");
        assert!(Hermes::plan(&NONE, &request).unwrap().env.is_empty());
        request.model = Some("qwen/qwen3".into());
        let plan = Hermes::plan(&NONE, &request).unwrap();
        assert_eq!(
            plan.env,
            [EnvSet::new("MODEL", "qwen/qwen3"), EnvSet::new("HERMES_DEFAULT_MODEL", "qwen/qwen3")]
        );
        assert_eq!(plan.provider.as_deref(), Some("alibaba"));
    }

    #[test]
    fn any_changed_file_asks_for_a_restart() {
        assert_eq!(Hermes::on_files_changed(&NONE, &[]), Reload::None);
        assert_eq!(Hermes::on_files_changed(&NONE, &["config.yaml".into()]), Reload::Restart);
    }
}
