//! JSON text, out and in.
//!
//! Out, in the form that clients of the contract compare: compact, keys of ad-hoc objects (`json!`) in
//! alphabetical order, whole floats without `.0`. Answers and events share it. In, by [`from_slice`] for JSON
//! with a form, and as [`RawJson`] for JSON that is passed on.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::expect_used))]

pub mod raw;
mod read;
mod repair;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

pub use raw::RawJson;
pub use read::{FreeJson, ReadError, Text, clean, from_slice, from_slice_within};
pub use repair::{MAX_LEVELS, without_nul};

/// The JSON text of a value, as bytes.
///
/// # Errors
/// When the value has no JSON form (a map with keys that are not text, for instance).
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(128);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PlainFloats))?;
    Ok(bytes)
}

/// Compact JSON. Whole floats print as integers, and floats of the usual range without an exponent.
struct PlainFloats;

/// From here up, and below its small counterpart, floats print with an exponent.
const EXPONENT_FROM: f64 = 1e21;
const EXPONENT_BELOW: f64 = 1e-6;

impl Formatter for PlainFloats {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value == 0.0 || (EXPONENT_BELOW..EXPONENT_FROM).contains(&value.abs()) {
            write!(writer, "{value}")
        } else {
            write!(writer, "{value:e}")
        }
    }

    fn write_f32<W: ?Sized + Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        if value == 0.0 || (EXPONENT_BELOW..EXPONENT_FROM).contains(&f64::from(value.abs())) {
            write!(writer, "{value}")
        } else {
            write!(writer, "{value:e}")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text<T: Serialize>(value: T) -> String {
        String::from_utf8(to_vec(&value).expect("has a JSON form")).expect("UTF-8")
    }

    /// Fails as soon as any dependency turns on serde_json's `preserve_order`.
    #[test]
    fn keys_of_ad_hoc_objects_are_alphabetical() {
        let value = json!({"status": "ok", "id": 1, "Name": {"z": [], "a": null}});
        assert_eq!(text(value), r#"{"Name":{"a":null,"z":[]},"id":1,"status":"ok"}"#);
    }

    #[test]
    fn fields_of_structs_keep_their_order() {
        #[derive(Serialize)]
        struct Row {
            name: &'static str,
            id: u8,
        }
        assert_eq!(text(Row { name: "ä", id: 1 }), r#"{"name":"ä","id":1}"#);
    }

    #[test]
    fn floats_have_no_exponent_in_the_usual_range() {
        for (value, printed) in [
            (100.0, "100"),
            (0.0, "0"),
            (-2.0, "-2"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (0.00001, "0.00001"),
            (1e-7, "1e-7"),
            (1e20, "100000000000000000000"),
            (1e21, "1e21"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(text(value), printed);
        }
        assert_eq!(text(json!({"x": 100.0, "y": -0.5})), r#"{"x":100,"y":-0.5}"#);
        assert_eq!(text(2.0_f32), "2");
        assert_eq!(text(0.1_f32), "0.1");
    }
}
