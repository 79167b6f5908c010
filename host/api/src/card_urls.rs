//! The addresses in agent cards, at whatever depth: where an agent is reached is not for everybody.
//!
//! A field is an address by its name, or by its value: cards name addresses as they like.

use serde::{Serialize, Serializer};
use serde_json::Value;

/// Ends of the names of fields that hold addresses, in lower case and in the singular.
const ADDRESS_NAMES: [&str; 10] =
    ["url", "uri", "href", "link", "endpoint", "webhook", "callback", "address", "hostname", "origin"];

/// Names of fields that hold addresses, and that other words end with.
const WHOLE_ADDRESS_NAMES: [&str; 3] = ["host", "ip", "server"];

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

/// A card, or JSON that holds one, without addresses.
#[derive(Debug)]
pub(crate) struct WithoutUrls<'a>(pub(crate) &'a Value);

impl Serialize for WithoutUrls<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let fields = fields.iter().filter(|(name, value)| !is_address_field(name, value));
                serializer.collect_map(fields.map(|(name, value)| (name, WithoutUrls(value))))
            }
            Value::Array(items) => {
                serializer.collect_seq(items.iter().filter(|item| !is_address(item)).map(WithoutUrls))
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

fn is_address(value: &Value) -> bool {
    value.as_str().is_some_and(net::is_absolute_url)
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
        serde_json::to_value(WithoutUrls(card)).expect("JSON")
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
            "more": ["text", []], "redis": {}, "description": "see http://h/ for more", "ratio": "1:2",
            "urn": "urn:a2a:ext", "path": "/a//b",
        });
        assert_eq!(without(&card), kept);
        assert_eq!(without(&json!("http://h/")), Value::Null);
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
