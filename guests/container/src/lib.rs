//! Runtimes described by settings alone: one component, and a guest row for each runtime.
#![deny(unsafe_code)]

mod settings;

use isomer_sdk::{Adapter, Description, EnvSet, Plan, PlanRequest, Problem, default_plan};

pub use settings::Settings;

/// The guest.
pub struct Container;

isomer_sdk::export_adapter!(Container);

impl Adapter for Container {
    type Settings = Settings;

    fn check(settings: &Settings) -> Result<(), Problem> {
        settings.check()
    }

    fn describe(settings: &Settings) -> Description {
        settings.describe()
    }

    fn plan(settings: &Settings, request: &PlanRequest) -> Result<Plan, Problem> {
        let mut plan = default_plan(request);
        let model = plan.env.iter().find(|set| set.name == "MODEL").map(|set| set.value.clone());
        if let Some(model) = model {
            plan.env.extend(settings.model_env.iter().map(|name| EnvSet::new(name, &model)));
        }
        Ok(plan)
    }
}
