//! JSON of inline templates, which may be nested deeper than other JSON.

use serde::de::DeserializeOwned;
use wire_json::{ReadError, from_slice_within};

/// Levels of a JSON text. 64 workspaces nested in each other, each in a list, are 131 levels of a request.
const MAX_NESTING: usize = 192;

/// Why a text is not read.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is nested deeper than any template.
    #[error("nested more than {MAX_NESTING} deep; workspaces may be nested 64 deep")]
    TooDeep,
    /// It is no JSON, or not of the expected type.
    #[error(transparent)]
    Invalid(serde_json::Error),
}

/// Reads JSON. Half surrogate pairs become U+FFFD.
///
/// # Errors
/// See [`JsonError`].
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    from_slice_within(bytes, MAX_NESTING).map_err(|error| match error {
        ReadError::TooDeep { .. } => JsonError::TooDeep,
        ReadError::Malformed(error) => JsonError::Invalid(error),
    })
}
