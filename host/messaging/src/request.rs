//! A message in the one form that agents know: JSON-RPC 2.0, with the parts of A2A 0.3.
//!
//! Older and barer forms are brought into it; what has that form already is left as it came.

use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A message, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// A JSON-RPC request.
    pub body: Value,
}

/// What isn't a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is no JSON object.
    #[error("invalid JSON")]
    NotAnObject,
    /// Its content is neither text nor a list of parts.
    #[error("invalid params.message.content type")]
    Content,
    /// It says nothing.
    #[error("params.message must contain either 'parts' (v0.3) or 'content' (v0.2 compat)")]
    Empty,
}

impl Malformed {
    /// What to do about it, where that isn't plain.
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
    /// Reads a message and brings it into the one form.
    ///
    /// # Errors
    /// If it isn't one.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let Ok(Value::Object(mut body)) = serde_json::from_slice(bytes) else {
            return Err(Malformed::NotAnObject);
        };
        if !body.contains_key("jsonrpc") {
            body = envelope(body);
        }
        if let Some(Value::Object(message)) = body.get_mut("params").and_then(|it| it.get_mut("message")) {
            complete(message)?;
        }
        Ok(Self { body: Value::Object(body) })
    }

    /// The method; empty if there is none.
    #[must_use]
    pub fn method(&self) -> &str {
        self.body.get("method").and_then(Value::as_str).unwrap_or_default()
    }

    /// The id of the request, if it has one.
    #[must_use]
    pub fn id(&self) -> Option<&Value> {
        self.body.get("id").filter(|id| !id.is_null())
    }

    /// What it says: its parts of text, one below the other.
    #[must_use]
    pub fn text(&self) -> String {
        let parts = self.body.pointer("/params/message/parts").and_then(Value::as_array);
        let texts = parts.into_iter().flatten().filter_map(|part| part.get("text")?.as_str());
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// A JSON-RPC request of what somebody sent without one.
fn envelope(mut bare: Map<String, Value>) -> Map<String, Value> {
    let mut take = |key: &str| bare.remove(key).unwrap_or(Value::Null);
    let (method, params) = (take("method"), take("params"));
    [("jsonrpc", json!("2.0")), ("id", json!(Uuid::new_v4())), ("method", method), ("params", params)]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

fn complete(message: &mut Map<String, Value>) -> Result<(), Malformed> {
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
    fn messages_by_table() {
        let text = |text: &str| json!([{ "kind": "text", "text": text }]);
        for (message, expected) in [
            // In the form of 0.3: as it came.
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
            // In the form of 0.2.
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
    fn envelopes_by_table() {
        // Complete ones are left alone, whatever their id.
        for whole in [
            json!({ "jsonrpc": "2.0", "id": 7, "method": "message/stream", "params": { "x": 1 }, "more": true }),
            json!({ "jsonrpc": "2.0", "method": "initialize" }),
            json!({ "jsonrpc": 1, "id": { "odd": [] } }),
            json!({ "jsonrpc": "2.0", "id": "1", "params": { "message": "text" } }),
            json!({ "jsonrpc": "2.0", "id": "1", "params": [1] }),
        ] {
            assert_eq!(read(&whole).unwrap(), whole);
        }
        // Of bare ones, method and params are taken.
        let mut body = read(&json!({ "id": "dropped", "params": { "a": 1 }, "other": 2 })).unwrap();
        assert!(is_uuid(&body.as_object_mut().unwrap().remove("id").unwrap()));
        assert_eq!(body, json!({ "jsonrpc": "2.0", "method": null, "params": { "a": 1 } }));
        assert_eq!(read(&json!({})).unwrap()["params"], json!(null));
    }

    #[test]
    fn what_is_no_message_is_refused() {
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
    fn parts_are_read_by_table() {
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
