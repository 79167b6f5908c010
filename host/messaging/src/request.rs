//! Normalizes messages to JSON-RPC 2.0 with the parts of A2A 0.3.
//!
//! Messages in the form of A2A 0.2 and bare ones without an envelope are converted; others are left as they
//! came.

use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A normalized message.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The whole JSON-RPC request.
    pub body: Value,
}

/// Why a body is no message. The texts are for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The body is no JSON object.
    #[error("invalid JSON")]
    NotAnObject,
    /// The content is neither text nor a list of parts.
    #[error("invalid params.message.content type")]
    Content,
    /// The message has neither parts nor content.
    #[error("params.message must contain either 'parts' (v0.3) or 'content' (v0.2 compat)")]
    Empty,
}

impl Malformed {
    /// What to do about it, where the text doesn't say so.
    #[must_use]
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::NotAnObject => None,
            Self::Content => Some("content must be a string or a list of parts; better send parts"),
            Self::Empty => Some(r#"for instance "parts":[{"kind":"text","text":"hello"}]"#),
        }
    }
}

impl Request {
    /// Reads and normalizes a message.
    ///
    /// # Errors
    /// If the body is no message.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let Ok(Value::Object(mut body)) = serde_json::from_slice(bytes) else {
            return Err(Malformed::NotAnObject);
        };
        if !body.contains_key("jsonrpc") {
            body = envelope(body);
        }
        if let Some(Value::Object(message)) = body.get_mut("params").and_then(|it| it.get_mut("message")) {
            normalize_message(message)?;
        }
        Ok(Self { body: Value::Object(body) })
    }

    /// JSON-RPC method; empty if there is none.
    #[must_use]
    pub fn method(&self) -> &str {
        self.body.get("method").and_then(Value::as_str).unwrap_or_default()
    }

    /// JSON-RPC id; null counts as none.
    #[must_use]
    pub fn id(&self) -> Option<&Value> {
        self.body.get("id").filter(|id| !id.is_null())
    }

    /// The text parts, joined by line feeds.
    #[must_use]
    pub fn text(&self) -> String {
        let parts = self.body.pointer("/params/message/parts").and_then(Value::as_array);
        let texts = parts.into_iter().flatten().filter_map(|part| part.get("text")?.as_str());
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// Wraps method and params of a body without `jsonrpc`; its other keys are dropped.
fn envelope(mut bare: Map<String, Value>) -> Map<String, Value> {
    let mut take = |key: &str| bare.remove(key).unwrap_or(Value::Null);
    let (method, params) = (take("method"), take("params"));
    [("jsonrpc", json!("2.0")), ("id", json!(Uuid::new_v4())), ("method", method), ("params", params)]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

fn normalize_message(message: &mut Map<String, Value>) -> Result<(), Malformed> {
    if !message.contains_key("messageId") {
        message.insert("messageId".to_owned(), json!(Uuid::new_v4()));
    }
    if message.contains_key("parts") {
        return Ok(());
    }
    let parts = match message.remove("content") {
        None => return Err(Malformed::Empty),
        Some(Value::String(text)) => json!([{ "kind": "text", "text": text }]),
        Some(Value::Array(parts)) => Value::Array(parts),
        Some(_) => return Err(Malformed::Content),
    };
    message.insert("parts".to_owned(), parts);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<Value, Malformed> {
        Request::read(body.to_string().as_bytes()).map(|request| request.body)
    }

    fn is_uuid(value: &Value) -> bool {
        value.as_str().is_some_and(|text| Uuid::parse_str(text).is_ok())
    }

    #[test]
    fn messages_are_normalized_to_parts() {
        let text = |text: &str| json!([{ "kind": "text", "text": text }]);
        for (message, expected) in [
            // A2A 0.3: left as it came.
            (json!({ "parts": text("a") }), json!({ "parts": text("a") })),
            (
                json!({ "role": "user", "parts": [{ "type": "text", "text": "a" }], "contextId": "c" }),
                json!({ "role": "user", "parts": [{ "type": "text", "text": "a" }], "contextId": "c" }),
            ),
            (json!({ "parts": text("a"), "content": 5 }), json!({ "parts": text("a"), "content": 5 })),
            (json!({ "parts": [] }), json!({ "parts": [] })),
            (
                json!({ "parts": [{ "kind": "file", "file": { "uri": "workspace:/x", "name": "x" } }] }),
                json!({ "parts": [{ "kind": "file", "file": { "uri": "workspace:/x", "name": "x" } }] }),
            ),
            // A2A 0.2.
            (json!({ "content": "Grüße 🌍" }), json!({ "parts": text("Grüße 🌍") })),
            (json!({ "content": "" }), json!({ "parts": text("") })),
            (json!({ "content": text("a") }), json!({ "parts": text("a") })),
        ] {
            let sent = json!({ "method": "message/send", "params": { "message": message } });
            let mut body = read(&sent).unwrap();
            let completed = body["params"]["message"].as_object_mut().unwrap();
            assert!(is_uuid(&completed.remove("messageId").unwrap()));
            assert_eq!(body["params"]["message"], expected);
            assert_eq!((&body["jsonrpc"], &body["method"]), (&json!("2.0"), &json!("message/send")));
            assert!(is_uuid(&body["id"]));
        }
        let named =
            read(&json!({ "params": { "message": { "messageId": "m-1", "content": "a" } } })).unwrap();
        assert_eq!(named["params"]["message"], json!({ "messageId": "m-1", "parts": text("a") }));
    }

    #[test]
    fn bare_bodies_get_an_envelope_and_complete_ones_are_left_alone() {
        // Complete ones are left alone, with ids of any type.
        for whole in [
            json!({ "jsonrpc": "2.0", "id": 7, "method": "message/stream", "params": { "x": 1 }, "more": true }),
            json!({ "jsonrpc": "2.0", "method": "initialize" }),
            json!({ "jsonrpc": 1, "id": { "odd": [] } }),
            json!({ "jsonrpc": "2.0", "id": "1", "params": { "message": "text" } }),
            json!({ "jsonrpc": "2.0", "id": "1", "params": [1] }),
        ] {
            assert_eq!(read(&whole).unwrap(), whole);
        }
        // Of bare ones, only method and params are kept.
        let mut body = read(&json!({ "id": "dropped", "params": { "a": 1 }, "other": 2 })).unwrap();
        assert!(is_uuid(&body.as_object_mut().unwrap().remove("id").unwrap()));
        assert_eq!(body, json!({ "jsonrpc": "2.0", "method": null, "params": { "a": 1 } }));
        assert_eq!(read(&json!({})).unwrap()["params"], json!(null));
    }

    #[test]
    fn bodies_that_are_no_message_are_refused() {
        for text in ["", "x", "[]", "null", "1", "\"a\"", "{", "{}{}", "[{}]"] {
            assert_eq!(Request::read(text.as_bytes()), Err(Malformed::NotAnObject), "{text}");
        }
        for (message, refusal) in [
            (json!({}), Malformed::Empty),
            (json!({ "role": "user" }), Malformed::Empty),
            (json!({ "content": true }), Malformed::Content),
            (json!({ "content": 7 }), Malformed::Content),
            (json!({ "content": null }), Malformed::Content),
            (json!({ "content": { "text": "a" } }), Malformed::Content),
        ] {
            for sent in [
                json!({ "params": { "message": message } }),
                json!({ "jsonrpc": "2.0", "id": 1, "params": { "message": message } }),
            ] {
                assert_eq!(read(&sent), Err(refusal), "{sent}");
            }
        }
    }

    #[test]
    fn text_method_and_id_are_read() {
        let request = |body: Value| Request::read(body.to_string().as_bytes()).unwrap();
        let said = request(json!({
            "jsonrpc": "2.0", "id": 3, "method": 4,
            "params": { "message": { "parts": [
                { "kind": "text", "text": "one" }, { "kind": "file" }, { "type": "text", "text": "two" },
            ] } },
        }));
        assert_eq!((said.text().as_str(), said.method(), said.id()), ("one\ntwo", "", Some(&json!(3))));
        let bare = request(json!({ "jsonrpc": "2.0", "id": null, "method": "initialize" }));
        assert_eq!((bare.text().as_str(), bare.method(), bare.id()), ("", "initialize", None));
    }
}
