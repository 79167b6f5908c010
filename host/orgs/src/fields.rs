//! Reads typed values out of a tree of YAML nodes. Errors and warnings name the file, line and column, and the
//! path of the value within the template.

use std::{cell::RefCell, fmt, path::Path, sync::Arc};

use types::SharedText;
use wasm::template::{Node, Tree, Value};
use wire_json::without_nul;

use crate::{
    findings::Findings,
    private_names::{is_private, refusal},
    shown::shown,
};

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

/// Where something is written: `file:line:column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    file: Arc<str>,
    line: u32,
    column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", shown(&self.file), self.line, self.column)
    }
}

/// A text after its place, if it has one.
pub(crate) fn with_place(at: Option<&impl fmt::Display>, text: &str) -> String {
    at.map_or_else(|| text.to_owned(), |at| format!("{at}: {text}"))
}

/// Where a mapping and its fields are written. Nowhere, for an inline template.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Marks {
    own: Option<Place>,
    fields: Vec<(&'static str, Place)>,
}

impl Marks {
    /// The place of a field; that of the mapping, if it lacks the field.
    pub(crate) fn of(&self, key: &str) -> Option<&Place> {
        let field = self.fields.iter().find(|(name, _)| *name == key).map(|(_, place)| place);
        field.or(self.own.as_ref())
    }
}

/// A tree while it is read: where the reading stands, and what it found.
pub(crate) struct Reader<'a> {
    files: Vec<Arc<str>>,
    root: &'a Node,
    path: RefCell<Vec<Step<'a>>>,
    findings: RefCell<Findings>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

impl<'a> Reader<'a> {
    pub(crate) fn of(tree: &'a Tree) -> Self {
        let files = tree.files.iter().map(|file| Arc::from(file.as_str())).collect();
        Self { files, root: &tree.root, path: RefCell::default(), findings: RefCell::default() }
    }

    pub(crate) fn root(&'a self) -> NodeRef<'a> {
        NodeRef { reader: self, node: self.root }
    }

    /// What was found, as sentences.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.findings.borrow().warnings()
    }

    /// Reads something one step further down.
    fn below<T>(&self, step: Step<'a>, read: impl FnOnce() -> T) -> T {
        self.path.borrow_mut().push(step);
        let read = read();
        self.path.borrow_mut().pop();
        read
    }

    /// The path of what is being read, such as `workspaces[2].tier`, as messages show it.
    fn path(&self) -> String {
        let mut path = String::new();
        for step in self.path.borrow().iter() {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(&shown(key)),
                Step::Key(key) => path.extend([".", &shown(key)]),
                Step::Item(number) => path.push_str(&format!("[{number}]")),
            }
        }
        shown(&path)
    }
}

/// A node of a tree.
#[derive(Clone, Copy)]
pub(crate) struct NodeRef<'a> {
    reader: &'a Reader<'a>,
    node: &'a Node,
}

/// The fields of a mapping.
pub(crate) struct Fields<'a> {
    of: NodeRef<'a>,
    entries: Vec<(&'a Node, &'a str, NodeRef<'a>)>,
    /// Keys that were read.
    known: RefCell<Vec<&'static str>>,
}

impl<'a> NodeRef<'a> {
    pub(crate) fn tag(self) -> Option<&'a str> {
        self.node.tag.as_deref()
    }

    /// None for an inline template.
    pub(crate) fn place(self) -> Option<Place> {
        let mark = self.node.mark;
        let file = Arc::clone(self.reader.files.get(mark.file as usize)?);
        Some(Place { file, line: mark.line, column: mark.column })
    }

    pub(crate) fn invalid(self, message: impl Into<String>) -> InvalidValue {
        let at = self.place().map(|place| place.to_string());
        InvalidValue { at, path: self.reader.path(), message: message.into() }
    }

    pub(crate) fn is_scalar(self) -> bool {
        matches!(self.node.value, Value::Scalar { .. })
    }

    pub(crate) fn is_sequence(self) -> bool {
        matches!(self.node.value, Value::Sequence(_))
    }

    fn is_null(self) -> bool {
        matches!(&self.node.value, Value::Scalar { text, quoted: false }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    fn with_node(self, node: &'a Node) -> Self {
        Self { node, ..self }
    }

    /// Text that may be a number or a truth value: it is not quoted, or its tag says so.
    fn plain(self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, quoted } if !quoted || self.tag().is_some() => Some(text),
            _ => None,
        }
    }

    /// As a mapping with a fixed set of fields; null is an empty one. Keys that `read` doesn't ask for are
    /// ignored, and reported where one nearly matches a known one. `kind` names the mapping in that report.
    pub(crate) fn record<T>(
        self,
        kind: &'static str,
        read: impl FnOnce(&Fields<'a>) -> Result<T, InvalidValue>,
    ) -> Result<T, InvalidValue> {
        let fields = self.fields()?;
        let value = read(&fields)?;
        fields.report_unknown(kind);
        Ok(value)
    }

    /// As a mapping with any keys; null is an empty one.
    pub(crate) fn fields(self) -> Result<Fields<'a>, InvalidValue> {
        let entries = match &self.node.value {
            Value::Mapping(entries) => {
                let named = |(key, value): &'a (Node, Node)| match &key.value {
                    Value::Scalar { text, .. } => Some((key, text.as_str(), self.with_node(value))),
                    _ => None,
                };
                entries.iter().filter_map(named).collect()
            }
            _ if self.is_null() => Vec::new(),
            _ => return Err(self.invalid("needs a mapping of fields")),
        };
        Ok(Fields { of: self, entries, known: RefCell::default() })
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
                    self.reader.below(Step::Item(number), || read(self.with_node(item)))
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
            Value::Scalar { text, .. } if text.contains('\0') => Ok(without_nul(text).into_owned()),
            _ => self.text(),
        }
    }

    fn integer(self) -> Result<i64, InvalidValue> {
        self.plain().and_then(integer).ok_or_else(|| self.invalid("needs a whole number, without quotes"))
    }

    fn number(self) -> Result<f64, InvalidValue> {
        let number = self.plain().and_then(|text| text.parse().ok());
        number
            .filter(|number: &f64| number.is_finite())
            .ok_or_else(|| self.invalid("needs a number, without quotes"))
    }

    fn flag(self) -> Result<bool, InvalidValue> {
        match self.plain().unwrap_or_default().to_ascii_lowercase().as_str() {
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

    /// Applies `check` to each item, or to each key and its value.
    pub(crate) fn check_children(
        self,
        check: impl Fn(NodeRef<'a>) -> Result<(), InvalidValue>,
    ) -> Result<(), InvalidValue> {
        match &self.node.value {
            Value::Scalar { .. } => Ok(()),
            Value::Sequence(_) => self.items(check).map(drop),
            Value::Mapping(_) => self.fields()?.entries.iter().try_for_each(|(key, text, value)| {
                self.reader.below(Step::Key(text), || {
                    check(self.with_node(key))?;
                    check(*value)
                })
            }),
        }
    }

    /// As free JSON.
    pub(crate) fn json(self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.node.value {
            _ if self.is_null() => Json::Null,
            Value::Scalar { text, quoted: true } => Json::from(&*without_nul(text)),
            Value::Scalar { text, .. } => integer(text)
                .map(Json::from)
                .or_else(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(Json::from))
                .or_else(|| self.flag().ok().map(Json::from))
                .unwrap_or_else(|| Json::from(text.as_str())),
            Value::Sequence(items) => items.iter().map(|item| self.with_node(item).json()).collect(),
            Value::Mapping(_) => {
                let fields = self.fields().map(|fields| fields.entries).unwrap_or_default();
                Json::Object(
                    fields
                        .into_iter()
                        .map(|(_, key, value)| (without_nul(key).into_owned(), value.json()))
                        .collect(),
                )
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// A field, unless it is absent or null.
    fn get(&self, key: &'static str) -> Option<NodeRef<'a>> {
        self.known.borrow_mut().push(key);
        let found = self.entries.iter().find(|(_, name, _)| *name == key).map(|(_, _, value)| *value);
        found.filter(|value| !value.is_null())
    }

    /// Every key with its value.
    pub(crate) fn map<T>(
        &self,
        read: impl Fn(NodeRef<'a>) -> Result<T, InvalidValue>,
    ) -> Result<Vec<(String, T)>, InvalidValue> {
        let entry = |(_, key, value): &(&Node, &'a str, NodeRef<'a>)| {
            let value = self.of.reader.below(Step::Key(key), || read(*value))?;
            Ok((without_nul(key).into_owned(), value))
        };
        self.entries.iter().map(entry).collect()
    }

    /// Where the mapping and the fields read so far are written.
    pub(crate) fn marks(&self) -> Marks {
        let known = self.known.borrow();
        let field = |key: &&'static str| {
            let (_, _, value) = self.entries.iter().find(|(_, name, _)| name == key)?;
            Some((*key, value.place()?))
        };
        Marks { own: self.of.place(), fields: known.iter().filter_map(field).collect() }
    }

    fn report_unknown(&self, kind: &'static str) {
        let known = self.known.borrow();
        for (node, key, _) in self.entries.iter().filter(|(_, key, _)| !known.contains(key)) {
            let place = || {
                let at = self.of.with_node(node).place();
                let path = self.of.reader.path();
                match (at, path.is_empty()) {
                    (Some(at), _) => at.to_string(),
                    (None, true) => "template".to_owned(),
                    (None, false) => path,
                }
            };
            self.of.reader.findings.borrow_mut().unknown_key(kind, key, &known, place);
        }
    }

    /// A field read by `read`; the default if it is absent or null.
    pub(crate) fn read<T: Default>(
        &self,
        key: &'static str,
        read: impl FnOnce(NodeRef<'a>) -> Result<T, InvalidValue>,
    ) -> Result<T, InvalidValue> {
        let Some(value) = self.get(key) else { return Ok(T::default()) };
        self.of.reader.below(Step::Key(key), || read(value))
    }

    /// See [`NodeRef::text`].
    pub(crate) fn text(&self, key: &'static str) -> Result<String, InvalidValue> {
        self.read(key, NodeRef::text)
    }

    /// A text of at most `bytes` bytes.
    pub(crate) fn short_text(&self, key: &'static str, bytes: usize) -> Result<String, InvalidValue> {
        self.read(key, |value| {
            let text = value.text()?;
            if text.len() <= bytes {
                return Ok(text);
            }
            Err(value.invalid(format!("{} bytes are too long: at most {bytes} are allowed", text.len())))
        })
    }

    /// A path of the template.
    pub(crate) fn path(&self, key: &'static str) -> Result<String, InvalidValue> {
        self.read(key, |value| {
            let path = value.text()?;
            if is_private(Path::new(&path)) {
                return Err(value.invalid(format!(
                    "`{}` is refused: {}",
                    shown(&path),
                    refusal(Path::new(&path))
                )));
            }
            Ok(path)
        })
    }

    /// See [`NodeRef::free_text`].
    pub(crate) fn free_text(&self, key: &'static str) -> Result<String, InvalidValue> {
        self.read(key, NodeRef::free_text)
    }

    /// Free text that workspaces share.
    pub(crate) fn shared_text(&self, key: &'static str) -> Result<SharedText, InvalidValue> {
        self.free_text(key).map(SharedText::from)
    }

    pub(crate) fn integer(&self, key: &'static str) -> Result<i64, InvalidValue> {
        self.read(key, NodeRef::integer)
    }

    pub(crate) fn number(&self, key: &'static str) -> Result<f64, InvalidValue> {
        self.read(key, NodeRef::number)
    }

    pub(crate) fn flag(&self, key: &'static str) -> Result<Option<bool>, InvalidValue> {
        self.read(key, |value| value.flag().map(Some))
    }

    pub(crate) fn list<T>(
        &self,
        key: &'static str,
        read: impl Fn(NodeRef<'a>) -> Result<T, InvalidValue>,
    ) -> Result<Vec<T>, InvalidValue> {
        self.read(key, |value| value.items(read))
    }

    pub(crate) fn texts(&self, key: &'static str) -> Result<Vec<String>, InvalidValue> {
        self.list(key, NodeRef::text)
    }
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
