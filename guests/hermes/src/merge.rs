//! Merges leading system messages into one: vLLM-style chat endpoints refuse several.

use serde_json::{Value, json};

/// Merges the system messages at the beginning of a body's `messages`, which stand at the top or below
/// `params`. None if there is nothing to merge, so that the body passes through byte for byte.
pub(crate) fn leading_system_messages(body: &str) -> Option<String> {
    let mut body: Value = serde_json::from_str(body).ok()?;
    let at_top = body.get("messages").is_some_and(Value::is_array);
    let holder = if at_top { &mut body } else { body.get_mut("params")? };
    merge(holder.get_mut("messages")?.as_array_mut()?)?;
    Some(body.to_string())
}

fn merge(messages: &mut Vec<Value>) -> Option<()> {
    let is_system = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("system");
    let run = messages.iter().take_while(is_system).count();
    if run < 2 {
        return None;
    }
    let text = messages.iter().take(run).map(text_of).collect::<Vec<_>>().join("\n\n");
    messages.splice(..run, [json!({"role": "system", "content": text})]);
    Some(())
}

/// A content in parts counts as empty, as its parts can't be joined as text.
fn text_of(message: &Value) -> &str {
    message.get("content").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
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
}
