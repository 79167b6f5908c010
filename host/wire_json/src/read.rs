//! JSON as clients and agents send it. What they send in good faith is read: text that was cut within a
//! character, and bytes that are no UTF-8, cost one character and not the request.

use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::repair::{MAX_LEVELS, Nul, TooDeep, repair, without_nul};

/// Why bytes are not the JSON that is wanted.
#[derive(Debug)]
pub enum ReadError {
    /// Arrays and objects are nested deeper than the levels that are read.
    TooDeep {
        /// Levels at most.
        levels: usize,
    },
    /// They are no JSON, or JSON of another form.
    Malformed(serde_json::Error),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooDeep { levels } => write!(f, "nested too deeply: at most {levels} levels"),
            Self::Malformed(_) => f.write_str("malformed JSON"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooDeep { .. } => None,
            Self::Malformed(error) => Some(error),
        }
    }
}

/// Reads JSON. Half surrogate pairs and bytes that are no UTF-8 become U+FFFD, in keys and in values.
///
/// NULs are kept: fields of free text are of the type [`Text`], those of free JSON are [`FreeJson`], and the
/// rules of names refuse them.
///
/// # Errors
/// If the bytes are no JSON, are nested too deeply, or have another form.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ReadError> {
    // Nearly all bodies need no repair, and it takes a pass and a copy.
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match repair(bytes, Nul::Keep, MAX_LEVELS) {
        Err(TooDeep) => Err(ReadError::TooDeep { levels: MAX_LEVELS }),
        Ok(repaired) if repaired.as_bytes() == bytes => Err(ReadError::Malformed(error)),
        Ok(repaired) => serde_json::from_str(&repaired).map_err(ReadError::Malformed),
    }
}

/// Reads JSON that may be nested deeper than other JSON, as org templates are. The levels bound the stack that
/// this and every walk over the value takes.
///
/// # Errors
/// As [`from_slice`].
pub fn from_slice_within<T: DeserializeOwned>(bytes: &[u8], levels: usize) -> Result<T, ReadError> {
    let text = repair(bytes, Nul::Keep, levels).map_err(|_| ReadError::TooDeep { levels })?;
    let mut text = serde_json::Deserializer::from_str(&text);
    text.disable_recursion_limit();
    let value = T::deserialize(&mut text).map_err(ReadError::Malformed)?;
    text.end().map(|()| value).map_err(ReadError::Malformed)
}

/// Free text from outside: NULs become U+FFFD, because no database takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Text(String);

impl Text {
    /// The text as it is stored.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        if text.contains('\0') { Self(without_nul(&text).into_owned()) } else { Self(text) }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::from)
    }
}

/// Free JSON from outside: NULs in its keys and strings become U+FFFD.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FreeJson(Value);

impl FreeJson {
    /// The JSON as it is stored.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.0
    }
}

impl From<Value> for FreeJson {
    fn from(mut value: Value) -> Self {
        clean(&mut value);
        Self(value)
    }
}

impl<'de> Deserialize<'de> for FreeJson {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Value::deserialize(from).map(Self::from)
    }
}

/// Replaces the NULs in all keys and strings. Values have few levels: they were read.
pub fn clean(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = without_nul(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(fields) => {
            if fields.keys().any(|key| key.contains('\0')) {
                let renamed = std::mem::take(fields).into_iter();
                fields.extend(renamed.map(|(key, value)| (without_nul(&key).into_owned(), value)));
            }
            fields.values_mut().for_each(clean);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies_are_repaired_where_reading_fails() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Body {
            name: String,
            free: FreeJson,
            text: Text,
        }
        let bytes = br#"{"name":"a\u0000\ud83d","free":{"\ud800":["\u0000",1.5]},"text":"b\u0000"}"#;
        let read: Body = from_slice(bytes).expect("JSON");
        let free = FreeJson(json!({ "\u{fffd}": ["\u{fffd}", 1.5] }));
        let text = Text("b\u{fffd}".to_owned());
        assert_eq!(read, Body { name: "a\0\u{fffd}".to_owned(), free, text });
        assert_eq!(from_slice::<Value>(b"[\"\xff\"]").expect("JSON"), json!(["\u{fffd}"]));
        for malformed in ["", "{", "[\"\\ud83d\"", "{\"a\"}", "\"\0\""] {
            let error = from_slice::<Value>(malformed.as_bytes()).expect_err(malformed);
            assert!(matches!(error, ReadError::Malformed(_)), "{malformed}: {error:?}");
        }
        let deep = "[".repeat(128) + &"]".repeat(128);
        let error = from_slice::<Value>(deep.as_bytes()).expect_err("deep");
        assert_eq!(error.to_string(), "nested too deeply: at most 127 levels");
        assert!(from_slice_within::<Value>(deep.as_bytes(), 128).is_ok());
        for (levels, text) in [(127, deep.as_str()), (128, "[1]]"), (128, "{} x")] {
            assert!(from_slice_within::<Value>(text.as_bytes(), levels).is_err(), "{text}");
        }
    }
}
