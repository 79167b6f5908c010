//! Settings of a guest row: JSON, parsed into the guest's own type.

use serde::{Deserialize, de::DeserializeOwned};
use serde_path_to_error::Segment;

use crate::Problem;

/// Settings of a guest without settings. Any field is refused, so that a misplaced one is noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// Parses settings.
///
/// # Errors
/// A problem whose `at` is the JSON pointer of the field, or of what should hold a missing field.
pub fn parse_settings<T: DeserializeOwned>(json: &str) -> Result<T, Problem> {
    // serde would read a list as the fields in order.
    if !json.trim_start().starts_with('{') {
        return Err(Problem::at("", "settings are a JSON object"));
    }
    let mut parser = serde_json::Deserializer::from_str(json);
    let parsed = serde_path_to_error::deserialize(&mut parser).map_err(|error| Problem {
        at: Some(pointer(error.path())),
        message: without_place(&error.inner().to_string()),
    })?;
    parser.end().map_err(|error| Problem::at("", error.to_string()))?;
    Ok(parsed)
}

/// Stored settings. The host checked them before it stored them, so invalid ones are a fault of the host: the
/// call ends with a trap, and the host uses its default.
#[allow(clippy::panic, reason = "functions without a result can fail only by a trap")]
pub(crate) fn stored<T: DeserializeOwned>(json: &str) -> T {
    match parse_settings(json) {
        Ok(settings) => settings,
        Err(problem) => panic!("settings{}: {}", problem.at.unwrap_or_default(), problem.message),
    }
}

/// RFC 6901: empty for the whole document, else such as `/a/0`.
fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

/// Line and column mean nothing to a user who filled in a form.
fn without_place(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(message, _)| message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Sample {
        name: String,
        #[serde(default)]
        ports: Vec<u16>,
    }

    #[test]
    fn problems_name_the_field() {
        for (json, at, fragment) in [
            (r#"{"name": 1}"#, "/name", "expected a string"),
            (r#"{"name": "a", "ports": [1, "x"]}"#, "/ports/1", "expected u16"),
            (r#"{"name": "a", "ports": [70000]}"#, "/ports/0", "70000"),
            (r#"{"name": "a", "prots": []}"#, "/prots", "unknown field `prots`"),
            (r#"{}"#, "", "missing field `name`"),
            (r#"["a", []]"#, "", "a JSON object"),
            (r#"{"name": "a"} x"#, "", "trailing"),
            ("", "", "a JSON object"),
            ("{", "", "EOF"),
        ] {
            let problem = parse_settings::<Sample>(json).unwrap_err();
            assert_eq!(problem.at.as_deref(), Some(at), "{json}: {}", problem.message);
            assert!(problem.message.contains(fragment), "{json}: {}", problem.message);
        }
        parse_settings::<Sample>(r#"{"name": "a", "ports": [1]}"#).unwrap();
    }

    #[test]
    fn no_settings_takes_an_empty_object_only() {
        parse_settings::<NoSettings>("{}").unwrap();
        assert_eq!(parse_settings::<NoSettings>(r#"{"a/b": 1}"#).unwrap_err().at.as_deref(), Some("/a~1b"));
    }
}
