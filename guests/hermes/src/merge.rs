//! Merges leading system messages into one: vLLM-style chat endpoints refuse several.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

/// An object whose values stay text, so that numbers keep their digits.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Merges the system messages at the beginning of a body's `messages`, which stand at the top or below
/// `params`. None if there is nothing to merge, so that the body passes through byte for byte.
pub(crate) fn leading_system_messages(body: &str) -> Option<String> {
    let mut body: Fields<'_> = serde_json::from_str(body).ok()?;
    if let Some(merged) = body.get("messages").and_then(|messages| merge(messages)) {
        body.insert("messages".to_owned(), &merged);
        return serde_json::to_string(&body).ok();
    }
    if body.get("messages").is_some_and(|messages| messages.get().starts_with('[')) {
        return None;
    }
    let mut params: Fields<'_> = serde_json::from_str(body.get("params")?.get()).ok()?;
    let merged = merge(params.get("messages")?)?;
    params.insert("messages".to_owned(), &merged);
    let params = to_raw_value(&params).ok()?;
    body.insert("params".to_owned(), &params);
    serde_json::to_string(&body).ok()
}

fn merge(messages: &RawValue) -> Option<Box<RawValue>> {
    let mut messages: Vec<&RawValue> = serde_json::from_str(messages.get()).ok()?;
    let contents: Vec<String> = messages.iter().map_while(|message| system_content(message)).collect();
    if contents.len() < 2 {
        return None;
    }
    let content = to_raw_value(&contents.join("\n\n")).ok()?;
    let role = to_raw_value("system").ok()?;
    let merged = BTreeMap::from([("content", &*content), ("role", &*role)]);
    let merged = to_raw_value(&merged).ok()?;
    messages.splice(..contents.len(), [&*merged]);
    to_raw_value(&messages).ok()
}

/// The content of a system message; none of any other. A content in parts counts as empty, as its parts can't
/// be joined as text.
fn system_content(message: &RawValue) -> Option<String> {
    let message: Fields<'_> = serde_json::from_str(message.get()).ok()?;
    let text = |field: &str| serde_json::from_str::<String>(message.get(field)?.get()).ok();
    (text("role")? == "system").then(|| text("content").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn system(content: impl Into<Value>) -> Value {
        json!({"role": "system", "content": content.into()})
    }

    fn user(content: &str) -> Value {
        json!({"role": "user", "content": content})
    }

    #[test]
    fn runs_of_system_messages_become_one() {
        for (messages, merged) in [
            (vec![], None),
            (vec![user("a")], None),
            (vec![system("a"), user("b")], None),
            (vec![user("a"), system("b"), system("c")], None),
            (vec![system("a"), system("b")], Some(vec![system("a\n\nb")])),
            (
                vec![system("a"), system("b"), user("c"), system("d")],
                Some(vec![system("a\n\nb"), user("c"), system("d")]),
            ),
            (vec![system(json!([{"text": "a"}])), system("b")], Some(vec![system("\n\nb")])),
            (vec![system("a"), json!({"role": "system"})], Some(vec![system("a\n\n")])),
        ] {
            for wrap in [
                |m: &Vec<Value>| json!({"messages": m}),
                |m: &Vec<Value>| json!({"id": 1, "params": {"messages": m}}),
            ] {
                let expected = merged.as_ref().map(wrap);
                let found = leading_system_messages(&wrap(&messages).to_string());
                assert_eq!(
                    found.map(|body| serde_json::from_str::<Value>(&body).unwrap()),
                    expected,
                    "{messages:?}"
                );
            }
        }
    }

    #[test]
    fn other_bodies_are_unchanged() {
        for body in [
            "",
            "[]",
            "7",
            "{\"params\": 1}",
            r#"{"messages": "x"}"#,
            r#"{"params": {"message": {"parts": []}}}"#,
        ] {
            assert_eq!(leading_system_messages(body), None, "{body}");
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let body =
            r#"{"id":12345678901234567890123,"messages":[{"role":"system"},{"role":"system"},{"x":1.0}]}"#;
        let merged =
            r#"{"id":12345678901234567890123,"messages":[{"content":"\n\n","role":"system"},{"x":1.0}]}"#;
        assert_eq!(leading_system_messages(body).as_deref(), Some(merged));
    }
}
