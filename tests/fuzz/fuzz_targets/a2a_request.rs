//! The reader of A2A messages on arbitrary bytes: it must not panic, what it reads is JSON that it reads as the same
//! again, and ids and numbers keep their text.

#![no_main]

// From its source alone: its crate brings the whole server.
#[allow(dead_code)]
#[path = "../../../host/messaging/src/request.rs"]
mod request;

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use wire_json::raw::{self, fields};

use crate::request::Request;

/// What messages are made of, so that many inputs are some.
const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\"",
    "\"jsonrpc\":\"2.0\"",
    "\"id\":",
    "\"method\":\"message/send\"",
    "\"params\":{",
    "\"message\":{",
    "\"parts\":[",
    "\"content\":",
    "\"text\":",
    "\"kind\":\"text\"",
    "\"messageId\":\"m\"",
    "\"messageId\":",
    "null",
    "true",
    "1",
    "1.0",
    "-0",
    "1e400",
    "0.10",
    "12345678901234567890123",
    "\"a\"",
    "\"\\ud83d\"",
    "\"\\u0000\"",
    "\"\\udc00\\ud800\"",
    "\"ü🌍\"",
    "\u{0}",
    "\\",
    "\n",
    "\"jsonrpc\":1",
    "\"id\":{\"id\":[1e2]}",
    "\"metadata\":{\"n\":0.10}",
    "}}}",
    "\"x\":",
];

fuzz_target!(|bytes: &[u8]| {
    let (kind, rest) = bytes.split_first().unwrap_or((&0, &[]));
    if kind % 2 == 0 {
        read(rest);
    } else {
        let text: String = rest.iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).collect();
        read(text.as_bytes());
    }
});

fn read(bytes: &[u8]) {
    let request = match Request::read(bytes) {
        Ok(request) => request,
        Err(error) => {
            assert!(error.to_string().len() < 200);
            return;
        }
    };
    let (_text, _method) = (request.text(), request.method());
    let body = request.body.text();
    let top: &RawValue = serde_json::from_str(body).expect("it is JSON");
    assert!(fields(top).is_some(), "an object");
    assert!(!body.contains('\0'));

    let again = Request::read(body.as_bytes()).expect("it reads what it made");
    assert_eq!(again.body.text(), body);
    assert_eq!((again.text(), again.method(), again.id()), (request.text(), request.method(), request.id()));

    let sent = raw::compact(bytes).expect("it was read");
    let sent: &RawValue = serde_json::from_str(&sent).expect("it was read");
    let given = fields(sent).expect("an object");
    if given.contains_key("jsonrpc") {
        let id = given.get("id").map(|id| id.get()).filter(|id| *id != "null");
        assert_eq!(request.id().as_ref().map(|id| id.text()), id, "the id keeps its text");
    }
    for number in numbers(body) {
        assert!(sent.get().contains(number), "{number} was not in what was sent");
    }
}

/// The texts of the numbers in JSON.
fn numbers(json: &str) -> Vec<&str> {
    let (mut found, mut start, mut in_text, mut escaped) = (Vec::new(), None, false, false);
    for (at, byte) in json.bytes().enumerate() {
        let in_number = !in_text && matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.')
            || !in_text && start.is_some() && matches!(byte, b'e' | b'E');
        match (in_number, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push(&json[from..at]);
                start = None;
            }
            _ => {}
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ => {}
        }
    }
    found.extend(start.map(|from| &json[from..]));
    found
}
