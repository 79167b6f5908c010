//! JSON text as clients of the contract know it: compact, and whole floats without `.0`.
//!
//! Keys come out in the order they are declared, so payload structs declare their fields
//! alphabetically; a test of the definitions holds them to it. That spares a copy of every payload,
//! some of which carry whole replies of agents.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::IgnoredAny;
use serde::{Serialize, Serializer};

/// The text of an empty payload.
pub(crate) const EMPTY: &str = "{}";

/// The compact text of `value`.
pub(crate) fn text(value: &impl Serialize) -> String {
    // Neither can fail: payloads have no maps with keys other than text, and JSON is UTF-8.
    let text = wire_json::to_vec(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.unwrap_or_else(|| EMPTY.to_owned())
}

/// `text` if it is a JSON object, else the empty one. On one line, because a line break would end
/// a field of an SSE message; outside of strings, where JSON allows it, it means nothing.
pub(crate) fn object_or_empty(text: String) -> String {
    let valid = text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(&text).is_ok();
    match valid {
        false => EMPTY.to_owned(),
        true if text.contains(['\n', '\r']) => text.replace(['\n', '\r'], " "),
        true => text,
    }
}

/// RFC 3339 in UTC with microseconds, which is what stores keep.
pub(crate) fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// For `#[serde(serialize_with)]`.
pub(crate) fn serialize_timestamp<S: Serializer>(
    at: &DateTime<Utc>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*at))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_floats_have_no_fraction() {
        let numbers = json!([100.0, -3.0, 0.5, 1e20, 1e-7, 7, u64::MAX]);
        assert_eq!(text(&numbers), "[100,-3,0.5,100000000000000000000,1e-7,7,18446744073709551615]");
        let large = text(&1e300);
        assert!(large.contains('e'), "{large}");
    }

    #[test]
    fn keys_of_values_are_sorted() {
        // Fails when some crate of the build makes maps of serde_json keep their insertion order.
        assert_eq!(
            text(&json!({"b": 1, "a": {"d": "<&>", "c": null}})),
            r#"{"a":{"c":null,"d":"<&>"},"b":1}"#
        );
    }

    #[test]
    fn only_objects_pass_and_only_on_one_line() {
        for bad in ["", "null", "[]", "\"{}\"", "{", "{}{}", "{\"a\":\u{1}}"] {
            assert_eq!(object_or_empty(bad.to_owned()), "{}", "{bad:?}");
        }
        assert_eq!(object_or_empty(r#"{"b": 1, "a": "x\ny"}"#.to_owned()), r#"{"b": 1, "a": "x\ny"}"#);
        assert_eq!(object_or_empty("{\r\n\"a\":1\n}".to_owned()), "{  \"a\":1 }");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
        assert_eq!(object_or_empty(deep.clone()), deep);
    }
}
