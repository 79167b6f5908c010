//! Reads typed values out of a tree of YAML nodes. An error names the file, line and column.

use wasm::template::{Node, Tree, Value};

/// A value that its field does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}{message}", if path.is_empty() { "" } else { ": " })]
pub struct InvalidValue {
    /// `file:line:column`; none for an inline template.
    pub at: Option<String>,
    /// The field, such as `workspaces[2].tier`.
    pub path: String,
    /// What is wrong, and what the field takes.
    pub message: String,
}

impl InvalidValue {
    /// The error with its path seen from `parent`.
    fn under(mut self, parent: &str) -> Self {
        self.path = match self.path.chars().next() {
            None => parent.to_owned(),
            Some('[') => format!("{parent}{}", self.path),
            Some(_) => format!("{parent}.{}", self.path),
        };
        self
    }
}

/// A node of a tree, with the names of the tree's files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeRef<'a> {
    files: &'a [String],
    node: &'a Node,
}

/// The fields of a mapping. Fields that are not read are ignored.
pub(crate) struct Fields<'a>(Vec<(&'a str, NodeRef<'a>)>);

impl<'a> NodeRef<'a> {
    pub(crate) fn root(tree: &'a Tree) -> Self {
        Self { files: &tree.files, node: &tree.root }
    }

    pub(crate) fn tag(self) -> Option<&'a str> {
        self.node.tag.as_deref()
    }

    /// `file:line:column`; none for an inline template.
    pub(crate) fn at(self) -> Option<String> {
        let mark = self.node.mark;
        let file = self.files.get(mark.file as usize)?;
        Some(format!("{file}:{}:{}", mark.line, mark.column))
    }

    pub(crate) fn invalid(self, message: impl Into<String>) -> InvalidValue {
        InvalidValue { at: self.at(), path: String::new(), message: message.into() }
    }

    fn is_null(self) -> bool {
        matches!(&self.node.value, Value::Scalar { text, quoted: false }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    fn with_node(self, node: &'a Node) -> Self {
        Self { node, ..self }
    }

    /// As a mapping; null is an empty one.
    pub(crate) fn fields(self) -> Result<Fields<'a>, InvalidValue> {
        match &self.node.value {
            Value::Mapping(entries) => {
                let named = |(key, value): &'a (Node, Node)| match &key.value {
                    Value::Scalar { text, .. } => Some((text.as_str(), self.with_node(value))),
                    _ => None,
                };
                Ok(Fields(entries.iter().filter_map(named).collect()))
            }
            _ if self.is_null() => Ok(Fields(Vec::new())),
            _ => Err(self.invalid("needs a mapping of fields")),
        }
    }

    /// As a list; null is an empty one.
    pub(crate) fn items<T>(
        self,
        read: impl Fn(NodeRef<'a>) -> Result<T, InvalidValue>,
    ) -> Result<Vec<T>, InvalidValue> {
        match &self.node.value {
            Value::Sequence(items) => {
                let numbered = items.iter().enumerate();
                let item = |(number, item): (usize, &'a Node)| {
                    read(self.with_node(item)).map_err(|error| error.under(&format!("[{number}]")))
                };
                numbered.map(item).collect()
            }
            _ if self.is_null() => Ok(Vec::new()),
            _ => Err(self.invalid("needs a list")),
        }
    }

    /// As a name or key: any scalar, as it is written, without NUL.
    pub(crate) fn text(self) -> Result<String, InvalidValue> {
        match &self.node.value {
            _ if self.is_null() => Ok(String::new()),
            Value::Scalar { text, .. } if text.contains('\0') => {
                Err(self.invalid("needs a text without NUL"))
            }
            Value::Scalar { text, .. } => Ok(text.clone()),
            _ => Err(self.invalid("needs a text")),
        }
    }

    /// As free text: any scalar, as it is written. The databases can't store NUL, so it is replaced.
    pub(crate) fn free_text(self) -> Result<String, InvalidValue> {
        match &self.node.value {
            Value::Scalar { text, .. } if text.contains('\0') => Ok(without_nul(text)),
            _ => self.text(),
        }
    }

    fn integer(self) -> Result<i64, InvalidValue> {
        match &self.node.value {
            Value::Scalar { text, quoted: false } => integer(text),
            _ => None,
        }
        .ok_or_else(|| self.invalid("needs a whole number, without quotes"))
    }

    fn number(self) -> Result<f64, InvalidValue> {
        match &self.node.value {
            Value::Scalar { text, quoted: false } => {
                text.parse().ok().filter(|number: &f64| number.is_finite())
            }
            _ => None,
        }
        .ok_or_else(|| self.invalid("needs a number, without quotes"))
    }

    fn flag(self) -> Result<bool, InvalidValue> {
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
    pub(crate) fn children(self) -> impl Iterator<Item = NodeRef<'a>> {
        let (items, entries) = match &self.node.value {
            Value::Scalar { .. } => (&[][..], &[][..]),
            Value::Sequence(items) => (items.as_slice(), &[][..]),
            Value::Mapping(entries) => (&[][..], entries.as_slice()),
        };
        items.iter().chain(entries.iter().map(|(_, value)| value)).map(move |node| self.with_node(node))
    }

    /// Levels of lists and mappings.
    pub(crate) fn levels(self) -> usize {
        match &self.node.value {
            Value::Scalar { .. } => 0,
            Value::Sequence(_) | Value::Mapping(_) => {
                1 + self.children().map(NodeRef::levels).max().unwrap_or_default()
            }
        }
    }

    /// Applies `check` to each item or field.
    pub(crate) fn check_children(
        self,
        check: impl Fn(NodeRef<'a>) -> Result<(), InvalidValue>,
    ) -> Result<(), InvalidValue> {
        match &self.node.value {
            Value::Scalar { .. } => Ok(()),
            Value::Sequence(_) => self.items(check).map(drop),
            Value::Mapping(_) => {
                let fields = self.fields()?;
                fields.iter().try_for_each(|(key, value)| check(value).map_err(|error| error.under(key)))
            }
        }
    }

    /// As free JSON.
    pub(crate) fn json(self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.node.value {
            _ if self.is_null() => Json::Null,
            Value::Scalar { text, quoted: true } => Json::from(without_nul(text)),
            Value::Scalar { text, .. } => integer(text)
                .map(Json::from)
                .or_else(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(Json::from))
                .or_else(|| self.flag().ok().map(Json::from))
                .unwrap_or_else(|| Json::from(text.as_str())),
            Value::Sequence(items) => items.iter().map(|item| self.with_node(item).json()).collect(),
            Value::Mapping(_) => {
                let fields = self.fields().map(|fields| fields.0).unwrap_or_default();
                Json::Object(
                    fields.into_iter().map(|(key, value)| (without_nul(key), value.json())).collect(),
                )
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// A field, unless it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<NodeRef<'a>> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| *value).filter(|value| !value.is_null())
    }

    /// Every field.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, NodeRef<'a>)> {
        self.0.iter().copied()
    }

    /// A field read by `read`; the default if it is absent or null.
    pub(crate) fn read<T: Default>(
        &self,
        key: &str,
        read: impl FnOnce(NodeRef<'a>) -> Result<T, InvalidValue>,
    ) -> Result<T, InvalidValue> {
        self.get(key).map_or_else(|| Ok(T::default()), |value| read(value).map_err(|error| error.under(key)))
    }

    /// See [`NodeRef::text`].
    pub(crate) fn text(&self, key: &str) -> Result<String, InvalidValue> {
        self.read(key, NodeRef::text)
    }

    /// See [`NodeRef::free_text`].
    pub(crate) fn free_text(&self, key: &str) -> Result<String, InvalidValue> {
        self.read(key, NodeRef::free_text)
    }

    pub(crate) fn integer(&self, key: &str) -> Result<i64, InvalidValue> {
        self.read(key, NodeRef::integer)
    }

    pub(crate) fn number(&self, key: &str) -> Result<f64, InvalidValue> {
        self.read(key, NodeRef::number)
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, InvalidValue> {
        self.read(key, |value| value.flag().map(Some))
    }

    pub(crate) fn list<T>(
        &self,
        key: &str,
        read: impl Fn(NodeRef<'a>) -> Result<T, InvalidValue>,
    ) -> Result<Vec<T>, InvalidValue> {
        self.read(key, |value| value.items(read))
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, InvalidValue> {
        self.list(key, NodeRef::text)
    }
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A whole number as YAML writes it. A fraction of zero (`3.0`) is allowed.
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
    fn whole_numbers_are_parsed() {
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
