//! The world `template-resolver`.

use serde::de::DeserializeOwned;

pub use crate::bindings::template::exports::isomer::template::resolver::{
    Answer, Expansion, KnownFile, Node, Progress, Scalar, Tree, Value,
};
use crate::{
    Problem, bindings::template::exports::isomer::template::resolver::Guest, parse_settings, settings::stored,
};

/// Expands the files of an org template to one tree.
pub trait Resolver {
    /// Settings of a guest row. Put `#[serde(deny_unknown_fields)]` on the type.
    type Settings: DeserializeOwned;

    /// Checks settings beyond the types of their fields.
    ///
    /// # Errors
    /// What is wrong, with the JSON pointer of the field as `at`.
    fn check(_settings: &Self::Settings) -> Result<(), Problem> {
        Ok(())
    }

    /// One round. Called again with more files until it is done or has failed.
    fn expand(settings: &Self::Settings, request: &Expansion) -> Progress;
}

impl<T: Resolver> Guest for T {
    fn validate_settings(settings: String) -> Result<(), Problem> {
        T::check(&parse_settings(&settings)?)
    }

    fn expand(settings: String, request: Expansion) -> Progress {
        <T as Resolver>::expand(&stored(&settings), &request)
    }
}

/// Exports the named type, a [`Resolver`] in the same module, as this component's interface.
#[macro_export]
macro_rules! export_resolver {
    ($type:ident) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code)]
        mod bindings {
            use super::$type as Component;
            $crate::bindings::template::export!(Component with_types_in $crate::bindings::template);
        }
    };
}
