//! Settings of a guest row.

use std::fmt;

use serde_json::{Map, Value};

/// Settings as every function of a guest takes them: a JSON object, compact, keys in order. Two
/// equal settings are equal text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings(String);

/// Why a value is no settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not an object.
    #[error("settings are a JSON object, as in {{\"pause_ms\": 80}}")]
    NoObject,
    /// Too much.
    #[error("settings have {bytes} bytes; {limit} are allowed")]
    TooLarge {
        /// Size as compact JSON.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
}

impl Settings {
    /// Takes a JSON object.
    ///
    /// # Errors
    /// If the value is something else, or has more than `limit` bytes as compact JSON.
    pub fn new(value: &Value, limit: usize) -> Result<Self, SettingsError> {
        if !value.is_object() {
            return Err(SettingsError::NoObject);
        }
        let text = value.to_string();
        if text.len() > limit {
            return Err(SettingsError::TooLarge { bytes: text.len(), limit });
        }
        Ok(Self(text))
    }

    /// The settings as a value.
    #[must_use]
    pub fn value(&self) -> Value {
        // It was made from a value, so it parses.
        serde_json::from_str(&self.0).unwrap_or_else(|_| Value::Object(Map::new()))
    }

    /// Generated bindings want a `String` here, because `json` is a named type of the WIT.
    pub(crate) fn text(&self) -> &String {
        &self.0
    }
}

impl Default for Settings {
    /// No settings: `{}`.
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
