//! The addresses in agent cards, at every depth: callers without a credential don't see where an agent is reached.
//!
//! Cards name addresses as they like, so callers without a credential see the fields that A2A defines and that hold
//! none, and no text that has an address in it. In the rest of an event, a field is an address by its name or its
//! value.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Serialize, Serializer};
use serde_json::Value;

/// Ends of the names of fields that hold addresses, in lower case and in the singular.
const ADDRESS_NAMES: [&str; 10] =
    ["url", "uri", "href", "link", "endpoint", "webhook", "callback", "address", "hostname", "origin"];

/// Names of fields that hold addresses, and that other words end with.
const WHOLE_ADDRESS_NAMES: [&str; 3] = ["host", "ip", "server"];

/// Fields of a card that callers without a credential see, at every depth.
const PUBLIC: [&str; 21] = [
    "name",
    "description",
    "version",
    "protocolVersion",
    "preferredTransport",
    "additionalInterfaces",
    "transport",
    "provider",
    "organization",
    "capabilities",
    "streaming",
    "pushNotifications",
    "stateTransitionHistory",
    "defaultInputModes",
    "defaultOutputModes",
    "skills",
    "id",
    "tags",
    "examples",
    "inputModes",
    "outputModes",
];

/// The field of events that holds a card.
const CARD: &str = "agent_card";

/// Whether a card names a user or a password in any address.
pub(crate) fn has_user_info(card: &Value) -> bool {
    match card {
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| net::has_user_info(name) || has_user_info(value))
        }
        Value::Array(items) => items.iter().any(has_user_info),
        Value::String(text) => net::has_user_info(text),
        _ => false,
    }
}

/// JSON as callers without a credential see it: a card, or an event that holds one.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    value: &'a Value,
    is_card: bool,
}

impl<'a> Shown<'a> {
    /// Of an agent card.
    pub(crate) fn card(value: &'a Value) -> Self {
        Self { value, is_card: true }
    }

    /// Of what an event says.
    pub(crate) fn event(value: &'a Value) -> Self {
        Self { value, is_card: false }
    }

    fn shows(&self, name: &str, value: &Value) -> bool {
        match self.is_card {
            true => PUBLIC.contains(&name) && !is_address(value),
            false => !is_address_field(name, value),
        }
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Object(fields) => {
                let fields = fields.iter().filter(|(name, value)| self.shows(name, value));
                serializer.collect_map(
                    fields
                        .map(|(name, value)| (name, Shown { value, is_card: self.is_card || name == CARD })),
                )
            }
            Value::Array(items) => {
                let items = items.iter().filter(|item| !is_address(item));
                serializer.collect_seq(items.map(|value| Shown { value, ..*self }))
            }
            // At the top: others are left out by what holds them.
            address if is_address(address) => serializer.serialize_none(),
            other => other.serialize(serializer),
        }
    }
}

fn is_address_field(name: &str, value: &Value) -> bool {
    is_address_name(name) || net::is_absolute_url(name) || is_address(value)
}

/// Whether a text is an address, or has one in it: a URL, an IP address, or a host with a port.
fn is_address(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let is_apart =
        |c: char| c.is_whitespace() || c.is_control() || !c.is_ascii() || "<>()[]{}\"'`,;|=".contains(c);
    text.contains("://")
        || text.to_ascii_lowercase().contains("%3a%2f%2f")
        || net::is_absolute_url(text)
        || text.split(is_apart).any(is_bare_address)
}

/// `10.0.0.1`, `::1`, `10.0.0.1:80`, `grpc:10.0.0.1:80/x`, `host.example:80`.
fn is_bare_address(word: &str) -> bool {
    if net::is_absolute_url(word) || word.parse::<IpAddr>().is_ok() {
        return true;
    }
    let authority = word.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let mut parts = authority.rsplit(':');
    let last = parts.next().unwrap_or_default();
    let is_ip = |text: &str| text.parse::<Ipv4Addr>().is_ok();
    let is_port = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    is_ip(last) || parts.next().is_some_and(|host| is_port && (host.contains('.') || host == "localhost"))
}

/// `iconUrl`, `base_urls` and `ip-address` are such names.
fn is_address_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let forms = ["", "s", "es"].into_iter().filter_map(|plural| name.strip_suffix(plural));
    forms.into_iter().any(|name| {
        ADDRESS_NAMES.iter().any(|end| name.ends_with(end)) || WHOLE_ADDRESS_NAMES.contains(&name)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn without(card: &Value) -> Value {
        serde_json::to_value(Shown::event(card)).expect("JSON")
    }

    #[test]
    fn addresses_are_left_out_by_name_at_every_depth() {
        let card = json!({
            "url": "a", "name": "n", "URL": 1, "skills": [{ "url": "b", "id": "url" }], "provider": { "Url": "c" },
            "iconUrl": "icon.png", "documentationURL": "d", "base_urls": ["10.0.0.1:80"], "ip": "10.0.0.1",
            "endpoints": { "main": "10.0.0.1:80" }, "ip-address": "10.0.0.1", "HOSTS": ["h"], "addresses": ["h"], "relation": "peer",
        });
        let kept = json!({ "name": "n", "skills": [{ "id": "url" }], "provider": {}, "relation": "peer" });
        assert_eq!(without(&card), kept);
    }

    #[test]
    fn addresses_are_left_out_by_value_whatever_holds_them() {
        let card = json!({
            "reach": "http://10.0.0.1/x", "more": ["ws://h:1", "//h/x", "text", [" https://h"]],
            "other": "HTTP:10.0.0.1", "redis": { "cache": "redis://h:1/0" }, "http://h/": "by name",
            "description": "see http://h/ for more", "ratio": "1:2", "urn": "urn:a2a:ext", "path": "/a//b",
        });
        let kept = json!({
            "more": ["text", []], "redis": {}, "ratio": "1:2", "urn": "urn:a2a:ext", "path": "/a//b",
        });
        assert_eq!(without(&card), kept);
        assert_eq!(without(&json!("http://h/")), Value::Null);
    }

    #[test]
    fn a_card_shows_what_a2a_defines_and_no_address_in_it() {
        let card = json!({
            "name": "n", "url": "a", "url1": "h", "agentHost": "h", "supportedInterfaces": [{ "transport": "GRPC" }],
            "capabilities": { "streaming": true, "extensions": [{ "uri": "urn:x" }] }, "version": "1.0.0",
            "skills": [{ "id": "s", "name": "S", "tags": ["a", "10.0.0.1"], "endpoint": "h", "description": "1:2, v1.2" }],
            "provider": { "organization": "O", "url": "https://o" }, "description": "see http://h/ for more",
        });
        let shown = json!({
            "name": "n", "capabilities": { "streaming": true }, "version": "1.0.0",
            "skills": [{ "id": "s", "name": "S", "tags": ["a"], "description": "1:2, v1.2" }],
            "provider": { "organization": "O" },
        });
        assert_eq!(serde_json::to_value(Shown::card(&card)).expect("JSON"), shown);
        let event = json!({ "agent_card": card, "status": "online", "url": "http://h" });
        assert_eq!(without(&event), json!({ "agent_card": shown, "status": "online" }));
    }

    #[test]
    fn texts_with_an_address_in_them_are_addresses() {
        for text in [
            "10.9.9.7:8080",
            "grpc:10.9.9.9:80",
            "tcp:10.9.9.16:9",
            "<http://h>",
            "\"http://h\"",
            "\u{feff}http://h",
            "\u{200b}//h/x",
            "{\"url\":\"http://h\"}",
            "http%3A%2F%2Fh",
            "call (10.0.0.1) now",
            "at ::1, or not",
            "agent.corp:80/x",
            "localhost:9",
            "2001:db8::1",
        ] {
            assert!(is_address(&json!(text)), "{text:?}");
        }
        for text in ["ratio 1:2", "10:30", "v1.2.3", "a: b", "text/plain", "a/b:c", "1.0", "and/or", "C++::x"]
        {
            assert!(!is_address(&json!(text)), "{text:?}");
        }
    }

    #[test]
    fn user_info_is_found_in_every_text() {
        for card in [
            json!({ "a": "http://u:p@h/" }),
            json!({ "url": "//u:p@h/" }),
            json!([["redis://:p@h:1"]]),
            json!({ "http://u@h/": 1 }),
        ] {
            assert!(has_user_info(&card), "{card}");
        }
        for card in [json!({ "url": "http://h/u:p@h" }), json!({ "mail": "mailto:u@h", "m": "u@h" })] {
            assert!(!has_user_info(&card), "{card}");
        }
    }
}
