//! The runtime `external`: its operator runs the agent, which registers and sends heartbeats. The platform
//! starts, inspects and restarts nothing.
#![deny(unsafe_code)]

use isomer_sdk::{Adapter, Description, Hosting, NoSettings, Plan, PlanRequest, Problem, Reload};

/// The guest.
pub struct External;

isomer_sdk::export_adapter!(External);

impl Adapter for External {
    type Settings = NoSettings;

    fn describe(_: &NoSettings) -> Description {
        Description {
            remote_config_dir: "/opt/configs".to_owned(),
            ..Description::without_container("external", "External", Hosting::Operator)
        }
    }

    /// The operator sets the environment.
    fn plan(_: &NoSettings, _: &PlanRequest) -> Result<Plan, Problem> {
        Ok(Plan::empty())
    }

    fn on_files_changed(_: &NoSettings, _: &[String]) -> Reload {
        Reload::None
    }
}

#[cfg(test)]
mod tests {
    use isomer_sdk::Surfaces;

    use super::*;

    const NONE: NoSettings = NoSettings {};

    #[test]
    fn described_as_the_contract_says() {
        let about = External::describe(&NONE);
        assert_eq!((about.name.as_str(), about.hosting), ("external", Hosting::Operator));
        assert_eq!((about.image_base, about.surfaces), (None, Surfaces::empty()));
        assert_eq!(about.remote_config_dir, "/opt/configs");
        assert!(about.template_dirs.is_empty() && about.volumes.is_empty());
    }

    #[test]
    fn nothing_is_planned_and_no_change_asks_for_a_restart() {
        let mut request = PlanRequest::sample("external");
        request.model = Some("openai/gpt-4o".into());
        assert_eq!(External::plan(&NONE, &request).unwrap(), Plan::empty());
        assert_eq!(External::on_files_changed(&NONE, &["config.yaml".into()]), Reload::None);
    }
}
