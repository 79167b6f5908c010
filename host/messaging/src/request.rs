//! Normalizes messages to JSON-RPC 2.0 with the parts of A2A 0.3.
//!
//! Messages in the form of A2A 0.2 and bare ones without an envelope are converted; others are left as they
//! came. What is converted is put together from the texts of its parts, so that ids and numbers keep theirs.

use serde_json::value::RawValue;
use uuid::Uuid;
use wire_json::{
    RawJson, ReadError,
    raw::{self, Fields, fields},
};

/// A normalized message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The whole JSON-RPC request.
    pub body: RawJson,
    method: String,
    /// The parts of its message, so that a large body is not parsed again for them.
    parts: Option<RawJson>,
    /// The id that its sender gave its message, if it is a text.
    message_id: Option<String>,
}

/// Why a body is no message. The texts are for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The body is no JSON object.
    #[error("invalid JSON")]
    NotAnObject,
    /// The body is nested deeper than agents and databases read it.
    #[error("{}", ReadError::TooDeep { levels: wire_json::MAX_LEVELS })]
    TooDeep,
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
            Self::NotAnObject | Self::TooDeep => None,
            Self::Content => Some("content must be a string or a list of parts; better send parts"),
            Self::Empty => Some(r#"for instance "parts":[{"kind":"text","text":"hello"}]"#),
        }
    }
}

impl From<ReadError> for Malformed {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooDeep { .. } => Self::TooDeep,
            ReadError::Malformed(_) => Self::NotAnObject,
        }
    }
}

impl Request {
    /// Reads and normalizes a message.
    ///
    /// # Errors
    /// If the body is no message.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let text = raw::compact(bytes)?;
        let mut top: Fields<'_> = serde_json::from_str(&text).map_err(|_| Malformed::NotAnObject)?;
        let method = top.get("method").and_then(|method| raw::string(method)).unwrap_or_default();
        let bare = !top.contains_key("jsonrpc");
        let Normalized { params, parts, message_id } =
            top.get("params").map_or_else(|| Ok(Normalized::default()), |params| normalized(params))?;
        if !bare && params.is_none() {
            let body = RawJson::trusted(text).map_err(|_| Malformed::NotAnObject)?;
            return Ok(Self { body, method, parts, message_id });
        }
        let (version, id) = (text_json("2.0"), text_json(&Uuid::new_v4().to_string()));
        if bare {
            // Of a bare body, only method and params are kept.
            let mut kept = |key: &str| top.remove(key).unwrap_or(RawValue::NULL);
            let (method, params) = (kept("method"), kept("params"));
            top = [("id", &*id), ("jsonrpc", &*version), ("method", method), ("params", params)]
                .map(|(key, value)| (key.into(), value))
                .into();
        }
        if let Some(params) = &params {
            top.insert("params".into(), params);
        }
        Ok(Self { body: RawJson::from(object(&top)), method, parts, message_id })
    }

    /// JSON-RPC method; empty if there is none.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// JSON-RPC id; null counts as none.
    #[must_use]
    pub fn id(&self) -> Option<RawJson> {
        self.body.at(&["id"]).map(RawJson::from).filter(|id| !id.is_null())
    }

    /// The `messageId` that the sender gave, if it is a text.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// The text parts, joined by line feeds.
    #[must_use]
    pub fn text(&self) -> String {
        let parts = self.parts.as_ref().and_then(|parts| parts.at(&[])).map(raw::items);
        let texts = parts.into_iter().flatten().filter_map(|part| raw::string(fields(part)?.get("text")?));
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// Params whose message is normalized.
#[derive(Debug, Default)]
struct Normalized {
    /// None if they stay as they are.
    params: Option<Box<RawValue>>,
    /// The parts of the message, if there is one.
    parts: Option<RawJson>,
    /// The id of the message, as far as its sender gave one.
    message_id: Option<String>,
}

fn normalized(params: &RawValue) -> Result<Normalized, Malformed> {
    let Some(mut params) = fields(params) else { return Ok(Normalized::default()) };
    let Some(mut message) = params.get("message").and_then(|message| fields(message)) else {
        return Ok(Normalized::default());
    };
    let id = text_json(&Uuid::new_v4().to_string());
    let named = message.contains_key("messageId");
    let message_id = message.get("messageId").and_then(|id| raw::string(id));
    if !named {
        message.insert("messageId".into(), &id);
    }
    let made = if message.contains_key("parts") { None } else { Some(made_parts(&mut message)?) };
    if let Some(made) = &made {
        message.insert("parts".into(), made);
    }
    let parts = message.get("parts").map(|parts| RawJson::from(*parts));
    if named && made.is_none() {
        return Ok(Normalized { params: None, parts, message_id });
    }
    let message = object(&message);
    params.insert("message".into(), &message);
    Ok(Normalized { params: Some(object(&params)), parts, message_id })
}

/// The parts of a message in the form of A2A 0.2, whose content is taken out.
fn made_parts(message: &mut Fields<'_>) -> Result<Box<RawValue>, Malformed> {
    let content = message.remove("content").ok_or(Malformed::Empty)?;
    match content.get().as_bytes().first() {
        Some(b'[') => Ok(content.to_owned()),
        Some(b'"') => raw_json(format!(r#"[{{"kind":"text","text":{content}}}]"#)).ok_or(Malformed::Content),
        _ => Err(Malformed::Content),
    }
}

fn object(fields: &Fields<'_>) -> Box<RawValue> {
    // Texts of JSON under text keys: nothing that can fail.
    serde_json::value::to_raw_value(fields).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn text_json(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn raw_json(text: String) -> Option<Box<RawValue>> {
    RawValue::from_string(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &Value) -> Result<Value, Malformed> {
        let read = Request::read(body.to_string().as_bytes());
        read.map(|request| serde_json::from_str(request.body.text()).unwrap())
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
        let id = Some(RawJson::from(&json!(3)));
        assert_eq!((said.text().as_str(), said.method(), said.id()), ("one\ntwo", "", id));
        let bare = request(json!({ "jsonrpc": "2.0", "id": null, "method": "initialize" }));
        assert_eq!((bare.text().as_str(), bare.method(), bare.id()), ("", "initialize", None));
    }

    #[test]
    fn ids_and_numbers_keep_their_text() {
        let whole =
            r#"{"jsonrpc":"2.0","id":12345678901234567890123,"method":"m","params":{"x":1.0,"y":[1e2]}}"#;
        let spaced = whole.replace(',', " , ");
        assert_eq!(Request::read(spaced.as_bytes()).unwrap().body.text(), whole);
        let converted = Request::read(
            br#"{"jsonrpc":"2.0","id":1e2,"params":{"message":{"content":"a","messageId":"m","n":0.10}},"z":-0}"#,
        );
        let message = r#"{"messageId":"m","n":0.10,"parts":[{"kind":"text","text":"a"}]}"#;
        let expected = format!(r#"{{"id":1e2,"jsonrpc":"2.0","params":{{"message":{message}}},"z":-0}}"#);
        assert_eq!(converted.unwrap().body.text(), expected);
    }

    #[test]
    fn cut_text_is_repaired_and_deep_nesting_is_named() {
        let cut =
            br#"{"jsonrpc":"2.0","params":{"message":{"parts":[{"text":"cut \ud83d"},{"text":"\u0000"}]}}}"#;
        assert_eq!(Request::read(cut).unwrap().text(), "cut \u{fffd}\n\u{fffd}");
        let deep = format!(r#"{{"params":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        let refused = Request::read(deep.as_bytes()).unwrap_err();
        assert_eq!(refused.to_string(), "nested too deeply: at most 127 levels");
    }
}
