//! Reload classifiers: may a changed agent plugin be put in place while its agent goes on?

mod v0_1;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wire_json::RawJson;

use crate::{FunctionError, Outcome, Problem, Settings, World, call::CallContext, json};

pub(crate) use v0_1::Bindings;

/// How two trees of a plugin differ. Paths are relative to the plugin's root and sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diff {
    /// Runtime of the workspace.
    pub runtime: String,
    /// Name of the plugin.
    pub plugin: String,
    /// Files that only the new tree has.
    #[serde(default)]
    pub added: Vec<String>,
    /// Files that only the old tree has.
    #[serde(default)]
    pub removed: Vec<String>,
    /// Files that differ.
    #[serde(default)]
    pub changed: Vec<String>,
}

/// What a change asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing: the agent picks it up.
    Hot,
    /// A restart, for this reason.
    Cold(String),
}

/// A component called as a classifier.
pub struct Classifier<'a> {
    pub(crate) context: &'a CallContext,
    pub(crate) bindings: &'a Bindings,
}

impl Classifier<'_> {
    /// Asks the guest whether these settings are valid.
    pub async fn validate_settings(&self, settings: &Settings) -> Outcome<Result<(), Problem>> {
        self.bindings.validate_settings(self.context, settings).await
    }

    /// Hot or cold?
    pub async fn classify(&self, settings: &Settings, diff: &Diff) -> Outcome<Verdict> {
        self.bindings.classify(self.context, settings, diff).await
    }

    pub(crate) async fn call_by_name(
        &self,
        function: &str,
        settings: &Settings,
        input: Json,
    ) -> Result<Outcome<RawJson>, FunctionError> {
        Ok(match function {
            "validate-settings" => {
                json::answer(self.validate_settings(&json::settings(function, settings, &input)?).await)
            }
            "classify" => json::outcome(self.classify(settings, &json::input(function, input)?).await),
            _ => return Err(json::unknown(World::Classifier, function)),
        })
    }
}
