//! The world `template-resolver`.

use serde::de::DeserializeOwned;

pub use crate::bindings::template::exports::isomer::template::resolver::{
    Answer, Expansion, KnownFile, Node, Progress, Scalar, Tree, Value,
};
use crate::{
    Problem, bindings::template::exports::isomer::template::resolver::Guest, parse_settings, settings::stored,
};

/// Turns the files of an org template into one tree.
pub trait Resolver {
    /// Settings of a guest row. Refuse fields you don't know: `#[serde(deny_unknown_fields)]`.
    type Settings: DeserializeOwned;

    /// What parsing alone can't find wrong with settings.
    ///
    /// # Errors
    /// What is wrong, with the JSON pointer of the field as `at`.
    fn check(_settings: &Self::Settings) -> Result<(), Problem> {
        Ok(())
    }

    /// One step. Called again with more files until it is done or failed.
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

/// Makes the named type, a [`Resolver`] in the same module, what this component answers with.
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
