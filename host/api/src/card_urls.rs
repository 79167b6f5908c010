//! The URLs of agent cards, at whatever depth: where an agent is reached is not for everybody.

use serde::{Serialize, Serializer};
use serde_json::Value;

/// The text of every field `url` of a card.
pub(crate) fn urls(card: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match card {
        Value::Object(fields) => Box::new(fields.iter().flat_map(|(name, card)| {
            let own = card.as_str().filter(|_| is_url(name));
            own.into_iter().chain(urls(card))
        })),
        Value::Array(items) => Box::new(items.iter().flat_map(urls)),
        _ => Box::new(std::iter::empty()),
    }
}

/// A card, or JSON that holds one, without any `url`.
#[derive(Debug)]
pub(crate) struct WithoutUrls<'a>(pub(crate) &'a Value);

impl Serialize for WithoutUrls<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let fields = fields.iter().filter(|(name, _)| !is_url(name));
                serializer.collect_map(fields.map(|(name, card)| (name, WithoutUrls(card))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(WithoutUrls)),
            other => other.serialize(serializer),
        }
    }
}

fn is_url(name: &str) -> bool {
    name.eq_ignore_ascii_case("url")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_are_found_and_left_out_at_every_depth() {
        let card = json!({
            "url": "a", "name": "n", "URL": 1, "skills": [{ "url": "b", "id": "url" }], "provider": { "Url": "c" },
        });
        let mut found: Vec<&str> = urls(&card).collect();
        found.sort_unstable();
        assert_eq!(found, ["a", "b", "c"]);
        let without = serde_json::to_value(WithoutUrls(&card)).expect("JSON");
        assert_eq!(without, json!({ "name": "n", "skills": [{ "id": "url" }], "provider": {} }));
    }
}
