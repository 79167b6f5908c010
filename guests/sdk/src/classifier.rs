//! The world `reload-classifier`.

use serde::de::DeserializeOwned;

pub use crate::bindings::classifier::exports::isomer::classifier::classifier::{Diff, Verdict};
use crate::{
    Problem, bindings::classifier::exports::isomer::classifier::classifier::Guest, parse_settings,
    settings::stored,
};

/// Decides whether an agent must restart after its plugin changed.
pub trait Classifier {
    /// Settings of a guest row. Put `#[serde(deny_unknown_fields)]` on the type.
    type Settings: DeserializeOwned;

    /// Checks settings beyond the types of their fields.
    ///
    /// # Errors
    /// What is wrong, with the JSON pointer of the field as `at`.
    fn check(_settings: &Self::Settings) -> Result<(), Problem> {
        Ok(())
    }

    /// Hot or cold. Called only for changes that the host does not call cold itself.
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

/// Exports the named type, a [`Classifier`] in the same module, as this component's interface.
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
