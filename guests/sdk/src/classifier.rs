//! The world `reload-classifier`.

use serde::de::DeserializeOwned;

pub use crate::bindings::classifier::exports::isomer::classifier::classifier::{Diff, Verdict};
use crate::{
    Problem, bindings::classifier::exports::isomer::classifier::classifier::Guest, parse_settings,
    settings::stored,
};

/// Tells whether a changed agent plugin needs its agent to restart.
pub trait Classifier {
    /// Settings of a guest row. Refuse fields you don't know: `#[serde(deny_unknown_fields)]`.
    type Settings: DeserializeOwned;

    /// What parsing alone can't find wrong with settings.
    ///
    /// # Errors
    /// What is wrong, with the JSON pointer of the field as `at`.
    fn check(_settings: &Self::Settings) -> Result<(), Problem> {
        Ok(())
    }

    /// Hot or cold. Asked only where the host didn't say cold by itself.
    fn classify(settings: &Self::Settings, diff: &Diff) -> Verdict;
}

impl<T: Classifier> Guest for T {
    fn validate_settings(settings: String) -> Result<(), Problem> {
        T::check(&parse_settings(&settings)?)
    }

    fn classify(settings: String, diff: Diff) -> Verdict {
        <T as Classifier>::classify(&stored(&settings), &diff)
    }
}

/// Makes the named type, a [`Classifier`] in the same module, what this component answers with.
#[macro_export]
macro_rules! export_classifier {
    ($type:ident) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code)]
        mod bindings {
            use super::$type as Component;
            $crate::bindings::classifier::export!(Component with_types_in $crate::bindings::classifier);
        }
    };
}
