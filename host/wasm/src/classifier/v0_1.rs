//! World `isomer:classifier/reload-classifier@0.1.0`.

use wasmtime::{Store, component::InstancePre};

use super::{Diff, Verdict};
use crate::{
    Outcome, Problem, Settings,
    call::{self, CallContext},
    limits,
    state::State,
    validate,
};

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, unused_qualifications)]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../../wit/types/0.1.0", "../../wit/classifier/0.1.0"],
        world: "isomer:classifier/reload-classifier@0.1.0",
        exports: { default: async },
    });
}

use bindings::{ReloadClassifier, ReloadClassifierPre, exports::isomer::classifier::classifier as wit};

/// The typed functions that this world's component exports.
pub(crate) struct Bindings(ReloadClassifierPre<State>);

impl Bindings {
    pub(crate) fn new(pre: InstancePre<State>) -> wasmtime::Result<Self> {
        ReloadClassifierPre::new(pre).map(Self)
    }

    pub(crate) async fn validate_settings(
        &self,
        on: &CallContext,
        settings: &Settings,
    ) -> Outcome<Result<(), Problem>> {
        call::run(
            on,
            limits::SMALL_ANSWER,
            async |store: &mut Store<State>| self.0.instantiate_async(store).await,
            async |store: &mut Store<State>, instance: &ReloadClassifier| {
                instance.isomer_classifier_classifier().call_validate_settings(store, settings.text()).await
            },
            |answer| Ok(answer.map_err(problem)),
        )
        .await
    }

    pub(crate) async fn classify(
        &self,
        on: &CallContext,
        settings: &Settings,
        diff: &Diff,
    ) -> Outcome<Verdict> {
        let diff = wit::Diff {
            runtime: diff.runtime.clone(),
            plugin: diff.plugin.clone(),
            added: diff.added.clone(),
            removed: diff.removed.clone(),
            changed: diff.changed.clone(),
        };
        call::run(
            on,
            limits::SMALL_ANSWER,
            async |store: &mut Store<State>| self.0.instantiate_async(store).await,
            async |store: &mut Store<State>, instance: &ReloadClassifier| {
                instance.isomer_classifier_classifier().call_classify(store, settings.text(), &diff).await
            },
            |answer| {
                Ok(match answer {
                    wit::Verdict::Hot => Verdict::Hot,
                    wit::Verdict::Cold(reason) => Verdict::Cold(validate::message(reason)),
                })
            },
        )
        .await
    }
}

fn problem(problem: wit::Problem) -> Problem {
    validate::problem(problem.at, problem.message)
}
