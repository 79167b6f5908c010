//! JSON in and out of calls by name, for `isomer guest call`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;
use wire_json::RawJson;

use crate::{FunctionError, Outcome, Problem, Settings, World};

/// Reads a function's input.
pub(crate) fn input<T: DeserializeOwned>(function: &str, input: Value) -> Result<T, FunctionError> {
    serde_json::from_value(input)
        .map_err(|error| FunctionError::Input { name: function.to_owned(), why: error.to_string() })
}

/// Settings to validate: those given, else the row's own.
pub(crate) fn settings(function: &str, own: &Settings, given: &Value) -> Result<Settings, FunctionError> {
    if given.is_null() {
        return Ok(own.clone());
    }
    Settings::new(given, usize::MAX)
        .map_err(|error| FunctionError::Input { name: function.to_owned(), why: error.to_string() })
}

/// An answer as JSON: text, because a tree of values takes ten times its memory and more.
pub(crate) fn outcome<T: Serialize>(outcome: Outcome<T>) -> Outcome<RawJson> {
    // Plain types of this crate always have a JSON form: keys are strings, numbers finite.
    outcome.map(|answer| serde_json::value::to_raw_value(&answer).map(RawJson::from).unwrap_or_default())
}

/// An answer as JSON that may be a problem: `{"problem": {…}}` then.
pub(crate) fn answer<T: Serialize>(outcome: Outcome<Result<T, Problem>>) -> Outcome<RawJson> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Answer<T> {
        Given(T),
        Refused { problem: Problem },
    }
    self::outcome(outcome.map(|answer| match answer {
        Ok(answer) => Answer::Given(answer),
        Err(problem) => Answer::Refused { problem },
    }))
}

/// The error for a function that the world doesn't have.
pub(crate) fn unknown(world: World, function: &str) -> FunctionError {
    FunctionError::Unknown { world, name: function.to_owned(), known: world.functions() }
}

/// Bytes as text where they are UTF-8, else as `{"base64": "…"}`.
pub(crate) mod text {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Text {
        Plain(String),
        Encoded { base64: String },
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => text.serialize(to),
            Err(_) => Text::Encoded { base64: BASE64_STANDARD.encode(bytes) }.serialize(to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        match Text::deserialize(from)? {
            Text::Plain(text) => Ok(text.into_bytes()),
            Text::Encoded { base64 } => BASE64_STANDARD.decode(base64).map_err(serde::de::Error::custom),
        }
    }
}

/// The same for bytes that may be absent.
pub(crate) mod optional_text {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super::text")] Vec<u8>);

    pub(crate) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        bytes.clone().map(Wrapped).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(from)?.map(|wrapped| wrapped.0))
    }
}
