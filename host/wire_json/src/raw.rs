//! JSON that is passed on: messages and their answers. It stays text, so that numbers keep their digits and
//! large bodies cost neither a tree nor its printing.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::read::ReadError;
use crate::repair::{MAX_LEVELS, Nul, repair};

/// Compact JSON text without half surrogate pairs and NULs. Cheap to clone.
#[derive(Clone)]
pub struct RawJson(Arc<RawValue>);

/// The fields of an object; of several with one name, the last.
pub type Fields<'a> = BTreeMap<Key<'a>, &'a RawValue>;

/// The name of a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> From<&'a str> for Key<'a> {
    fn from(name: &'a str) -> Self {
        Self(Cow::Borrowed(name))
    }
}

impl Borrow<str> for Key<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The text of JSON as [`RawJson::read`] makes it, for a parser that finds out whether it is JSON at all.
///
/// # Errors
/// If it is nested too deeply.
pub fn compact(bytes: &[u8]) -> Result<String, ReadError> {
    repair(bytes, Nul::Replace, MAX_LEVELS).map_err(|_| ReadError::TooDeep { levels: MAX_LEVELS })
}

impl RawJson {
    /// Reads JSON: white space goes, half surrogate pairs, bytes that are no UTF-8 and NULs become U+FFFD, all
    /// else stays as it came.
    ///
    /// # Errors
    /// If the bytes are no JSON, or are nested too deeply.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        RawValue::from_string(compact(bytes)?).map(Self::from).map_err(ReadError::Malformed)
    }

    /// JSON text that was made here or read before, as it is.
    ///
    /// # Errors
    /// If it is no JSON after all.
    pub fn trusted(text: String) -> serde_json::Result<Self> {
        RawValue::from_string(text).map(Self::from)
    }

    /// The JSON text of a value, in the form of [`to_vec`](crate::to_vec). What has no JSON form is null.
    #[must_use]
    pub fn render<T: Serialize + ?Sized>(value: &T) -> Self {
        crate::to_vec(value).ok().and_then(|text| Self::read(&text).ok()).unwrap_or_default()
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The part that these keys lead to, one object after the other.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&RawValue> {
        path.iter().try_fold(&*self.0, |raw, key| fields(raw)?.remove(*key))
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }
}

/// The fields of an object; none of what is no object.
#[must_use]
pub fn fields(raw: &RawValue) -> Option<Fields<'_>> {
    serde_json::from_str(raw.get()).ok()
}

/// The items of an array; none of what is no array.
#[must_use]
pub fn items(raw: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// The text of a string; none of what is no string.
#[must_use]
pub fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

impl Default for RawJson {
    /// `null`.
    fn default() -> Self {
        Self::from(RawValue::NULL)
    }
}

impl From<&RawValue> for RawJson {
    /// A part of JSON that was read.
    fn from(part: &RawValue) -> Self {
        Self::from(part.to_owned())
    }
}

impl From<Box<RawValue>> for RawJson {
    /// JSON that was put together from parts that were read.
    fn from(raw: Box<RawValue>) -> Self {
        Self(raw.into())
    }
}

impl From<&Value> for RawJson {
    fn from(value: &Value) -> Self {
        Self::render(value)
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Display for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// Only from text, not from a [`Value`]: a value has lost the digits of its numbers already.
impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        Self::read(raw.get().as_bytes()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_compact_repaired_and_otherwise_as_it_came() {
        let raw = RawJson::read(b" {\"b\": 1.0, \"a\": [\"\\u0000\", \"\\ud83d\", 1e2] } ").expect("JSON");
        assert_eq!(raw.text(), "{\"b\":1.0,\"a\":[\"\u{fffd}\",\"\u{fffd}\",1e2]}");
        assert_eq!(crate::to_vec(&json!(1)).expect("JSON"), b"1");
        let row = BTreeMap::from([("body", raw.clone())]);
        assert_eq!(crate::to_vec(&row).expect("JSON"), format!(r#"{{"body":{raw}}}"#).into_bytes());
        assert_eq!(raw.at(&["b"]).map(RawValue::get), Some("1.0"));
        assert_eq!(items(raw.at(&["a"]).expect("there")).len(), 3);
        assert!(raw.at(&["b", "c"]).is_none() && raw.at(&["c"]).is_none());
        for malformed in ["", "{", "{\"a\":01}", "nul", "1 2", "\"\n\"", "[1,]"] {
            let error = RawJson::read(malformed.as_bytes()).expect_err(malformed);
            assert!(matches!(error, ReadError::Malformed(_)), "{malformed}");
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(RawJson::read(deep.as_bytes()), Err(ReadError::TooDeep { .. })));
    }

    #[test]
    fn values_are_rendered_in_the_form_of_answers() {
        assert_eq!(RawJson::from(&json!({ "b": 2.0, "a": null })).text(), r#"{"a":null,"b":2}"#);
        assert!(RawJson::default().is_null());
        let parsed: RawJson = serde_json::from_str("[1.0, \"\\udc00\"]").expect("JSON");
        assert_eq!(parsed.text(), "[1.0,\"\u{fffd}\"]");
    }
}
