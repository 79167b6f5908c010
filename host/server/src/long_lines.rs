//! Long log lines are cut: what a line repeats of a request may have megabytes. The places that log cut what they know to
//! be long; this is what all lines have in common.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

/// Bytes of a line at most.
const LINE_BYTES: usize = 16 << 10;

/// Bytes of a text in a line of JSON that had to be cut.
const TEXT_BYTES: usize = 2 << 10;

/// A line as it is written, with its line end.
pub(crate) fn cut(line: &[u8]) -> Cow<'_, [u8]> {
    if line.len() <= LINE_BYTES {
        return Cow::Borrowed(line);
    }
    let cut = match serde_json::from_slice::<Map<String, Value>>(line) {
        Ok(fields) => cut_json(fields, line.len()),
        Err(_) => {
            let text = String::from_utf8_lossy(line.get(..LINE_BYTES).unwrap_or(line));
            format!("{text}… ({} bytes)", line.len())
        }
    };
    Cow::Owned(format!("{cut}\n").into_bytes())
}

/// A line that is JSON stays JSON.
fn cut_json(mut fields: Map<String, Value>, bytes: usize) -> String {
    fields.values_mut().for_each(cut_value);
    fields.insert("cut_from_bytes".to_owned(), json!(bytes));
    let text = Value::Object(fields.clone()).to_string();
    if text.len() <= LINE_BYTES {
        return text;
    }
    // It has many fields, or deep ones.
    fields.retain(|key, _| {
        ["timestamp", "level", "target", "message", "cut_from_bytes"].contains(&key.as_str())
    });
    Value::Object(fields).to_string()
}

fn cut_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = types::clip(std::mem::take(text), TEXT_BYTES),
        Value::Array(items) => items.iter_mut().for_each(cut_value),
        Value::Object(fields) => fields.values_mut().for_each(cut_value),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_text(line: &str) -> String {
        String::from_utf8(cut(line.as_bytes()).into_owned()).expect("UTF-8")
    }

    #[test]
    fn usual_lines_are_written_as_they_are() {
        for line in [" INFO isomer: listening\n", "{\"level\":\"INFO\"}\n", ""] {
            assert_eq!(cut_text(line), line);
        }
    }

    #[test]
    fn long_lines_are_cut_and_end_as_lines() {
        for text in ["x", "é", "🦀"] {
            let line = cut_text(&format!(" WARN isomer: {}\n", text.repeat(30 << 20 >> 2)));
            assert!(line.len() < LINE_BYTES + 100 && line.starts_with(" WARN isomer: "), "{}", line.len());
            assert!(line.ends_with(" bytes)\n"), "{}", line.len());
        }
    }

    #[test]
    fn long_lines_of_json_stay_json() {
        let long = "x".repeat(30 << 20);
        let one = json!({ "level": "WARN", "message": "refused", "path": long, "span": { "name": long } });
        let fields: Map<String, Value> =
            (0..10_000).map(|key| (format!("f{key}"), json!("xxxxxxxx"))).collect();
        let mut many = Value::Object(fields);
        many["level"] = json!("WARN");
        many["message"] = json!("refused");
        for event in [one, many] {
            let line = cut_text(&format!("{event}\n"));
            assert!(line.len() < LINE_BYTES && line.ends_with("}\n"), "{}", line.len());
            let event: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!((&event["level"], &event["message"]), (&json!("WARN"), &json!("refused")));
        }
    }
}
