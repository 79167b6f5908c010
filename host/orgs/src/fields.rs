//! Reads typed values out of a tree of YAML nodes, and says where one is that it can't read.

use wasm::template::{Node, Tree, Value};

/// A value that is not what its field needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Invalid {
    /// `file:line:column`, where there are files.
    pub at: Option<String>,
    /// The field, as `workspaces[2].tier`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Invalid {
    /// The same, seen from one level further up.
    fn under(mut self, parent: &str) -> Self {
        self.path = match self.path.chars().next() {
            None => parent.to_owned(),
            Some('[') => format!("{parent}{}", self.path),
            Some(_) => format!("{parent}.{}", self.path),
        };
        self
    }
}

/// A node of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    files: &'a [String],
    node: &'a Node,
}

/// The fields of a mapping. What isn't asked for is ignored.
pub(crate) struct Fields<'a>(Vec<(&'a str, Place<'a>)>);

impl<'a> Place<'a> {
    pub(crate) fn root(tree: &'a Tree) -> Self {
        Self { files: &tree.files, node: &tree.root }
    }

    /// The tag that the resolver left, if any.
    pub(crate) fn tag(self) -> Option<&'a str> {
        self.node.tag.as_deref()
    }

    /// `file:line:column`, where there are files.
    pub(crate) fn at(self) -> Option<String> {
        let mark = self.node.mark;
        let file = self.files.get(mark.file as usize)?;
        Some(format!("{file}:{}:{}", mark.line, mark.column))
    }

    fn invalid(self, message: impl Into<String>) -> Invalid {
        Invalid { at: self.at(), path: String::new(), message: message.into() }
    }

    fn is_null(self) -> bool {
        matches!(&self.node.value, Value::Scalar { text, quoted: false }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    fn here(self, node: &'a Node) -> Self {
        Self { node, ..self }
    }

    /// As a mapping; nothing is an empty one.
    pub(crate) fn fields(self) -> Result<Fields<'a>, Invalid> {
        match &self.node.value {
            Value::Mapping(entries) => {
                let named = |(key, value): &'a (Node, Node)| match &key.value {
                    Value::Scalar { text, .. } => Some((text.as_str(), self.here(value))),
                    _ => None,
                };
                Ok(Fields(entries.iter().filter_map(named).collect()))
            }
            _ if self.is_null() => Ok(Fields(Vec::new())),
            _ => Err(self.invalid("needs a mapping of fields")),
        }
    }

    /// As a list; nothing is an empty one.
    pub(crate) fn items<T>(self, read: impl Fn(Place<'a>) -> Result<T, Invalid>) -> Result<Vec<T>, Invalid> {
        match &self.node.value {
            Value::Sequence(items) => {
                let numbered = items.iter().enumerate();
                let item = |(number, item): (usize, &'a Node)| {
                    read(self.here(item)).map_err(|error| error.under(&format!("[{number}]")))
                };
                numbered.map(item).collect()
            }
            _ if self.is_null() => Ok(Vec::new()),
            _ => Err(self.invalid("needs a list")),
        }
    }

    /// As text: any scalar, as it is written.
    pub(crate) fn text(self) -> Result<String, Invalid> {
        match &self.node.value {
            _ if self.is_null() => Ok(String::new()),
            Value::Scalar { text, .. } if text.contains('\0') => {
                Err(self.invalid("needs a text without NUL"))
            }
            Value::Scalar { text, .. } => Ok(text.clone()),
            _ => Err(self.invalid("needs a text")),
        }
    }

    fn integer(self) -> Result<i64, Invalid> {
        match &self.node.value {
            Value::Scalar { text, quoted: false } => integer(text),
            _ => None,
        }
        .ok_or_else(|| self.invalid("needs a whole number, without quotes"))
    }

    fn number(self) -> Result<f64, Invalid> {
        match &self.node.value {
            Value::Scalar { text, quoted: false } => {
                text.parse().ok().filter(|number: &f64| number.is_finite())
            }
            _ => None,
        }
        .ok_or_else(|| self.invalid("needs a number, without quotes"))
    }

    fn flag(self) -> Result<bool, Invalid> {
        let word = match &self.node.value {
            Value::Scalar { text, quoted: false } => text.to_ascii_lowercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err(self.invalid("needs true or false, without quotes")),
        }
    }

    /// Items of a list, values of a mapping.
    pub(crate) fn children(self) -> impl Iterator<Item = Place<'a>> {
        let (items, entries) = match &self.node.value {
            Value::Scalar { .. } => (&[][..], &[][..]),
            Value::Sequence(items) => (items.as_slice(), &[][..]),
            Value::Mapping(entries) => (&[][..], entries.as_slice()),
        };
        items.iter().chain(entries.iter().map(|(_, value)| value)).map(move |node| self.here(node))
    }

    /// Whatever it is, as JSON.
    pub(crate) fn json(self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.node.value {
            _ if self.is_null() => Json::Null,
            Value::Scalar { text, quoted: true } => Json::from(text.as_str()),
            Value::Scalar { text, .. } => integer(text)
                .map(Json::from)
                .or_else(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(Json::from))
                .or_else(|| self.flag().ok().map(Json::from))
                .unwrap_or_else(|| Json::from(text.as_str())),
            Value::Sequence(items) => items.iter().map(|item| self.here(item).json()).collect(),
            Value::Mapping(_) => {
                let fields = self.fields().map(|fields| fields.0).unwrap_or_default();
                Json::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value.json())).collect())
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// A field, unless it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<Place<'a>> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| *value).filter(|value| !value.is_null())
    }

    /// Every field.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, Place<'a>)> {
        self.0.iter().copied()
    }

    /// What `read` makes of a field; what nothing would be, of one that is absent.
    pub(crate) fn read<T: Default>(
        &self,
        key: &str,
        read: impl FnOnce(Place<'a>) -> Result<T, Invalid>,
    ) -> Result<T, Invalid> {
        self.get(key).map_or_else(|| Ok(T::default()), |value| read(value).map_err(|error| error.under(key)))
    }

    pub(crate) fn text(&self, key: &str) -> Result<String, Invalid> {
        self.read(key, Place::text)
    }

    pub(crate) fn integer(&self, key: &str) -> Result<i64, Invalid> {
        self.read(key, Place::integer)
    }

    pub(crate) fn number(&self, key: &str) -> Result<f64, Invalid> {
        self.read(key, Place::number)
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Invalid> {
        self.read(key, |value| value.flag().map(Some))
    }

    pub(crate) fn list<T>(
        &self,
        key: &str,
        read: impl Fn(Place<'a>) -> Result<T, Invalid>,
    ) -> Result<Vec<T>, Invalid> {
        self.read(key, |value| value.items(read))
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, Invalid> {
        self.list(key, Place::text)
    }
}

/// A whole number as YAML writes it. Fractions of nothing (`3.0`) count.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let radix = |prefix: &str, radix: u32| {
        digits.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok())
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let number = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| digits.replace('_', "").parse().ok());
    number.and_then(|number: i64| number.checked_mul(sign)).or_else(|| {
        let fraction = digits.trim_end_matches('0').strip_suffix('.')?;
        fraction.parse::<i64>().ok()?.checked_mul(sign)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_by_table() {
        for (text, number) in [
            ("3", Some(3)),
            ("-3", Some(-3)),
            ("+3", Some(3)),
            ("0x1f", Some(31)),
            ("0o17", Some(15)),
            ("1_000", Some(1000)),
            ("3.0", Some(3)),
            ("3.5", None),
            ("", None),
            ("x", None),
            ("--3", None),
            ("_1", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(integer(text), number, "{text:?}");
        }
    }
}
