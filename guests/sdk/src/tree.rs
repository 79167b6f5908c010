//! Value trees for generated YAML files.

pub use crate::bindings::adapter::exports::isomer::adapter::adapter::Tree as YamlTree;
use crate::bindings::adapter::exports::isomer::adapter::adapter::Value;

/// A value of a YAML file that an adapter generates. Build it with [`tree!`](crate::tree), hand it
/// out with [`FileContent::from`](crate::FileContent).
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Tree {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number. One that is not finite is written as null.
    Decimal(f64),
    /// A string. The host quotes it where YAML would read another type.
    Text(String),
    /// A list.
    Sequence(Vec<Tree>),
    /// Keys and values in the order in which they are written. Of two equal keys the host refuses
    /// the second.
    Mapping(Vec<(String, Tree)>),
}

/// A mapping: `tree! { "name" => name, "a2a" => tree! { "port" => 8000 } }`. Values are anything
/// that a [`Tree`] can be made from.
#[macro_export]
macro_rules! tree {
    ($($key:expr => $value:expr),* $(,)?) => {
        $crate::Tree::Mapping(vec![$((::std::string::String::from($key), $crate::Tree::from($value))),*])
    };
}

macro_rules! from {
    ($($type:ty => |$value:ident| $tree:expr;)*) => {
        $(impl From<$type> for Tree {
            fn from($value: $type) -> Self {
                $tree
            }
        })*
    };
}

from! {
    bool => |value| Self::Boolean(value);
    i64 => |value| Self::Integer(value);
    i32 => |value| Self::Integer(value.into());
    u32 => |value| Self::Integer(value.into());
    u16 => |value| Self::Integer(value.into());
    u8 => |value| Self::Integer(value.into());
    f64 => |value| Self::Decimal(value);
    String => |value| Self::Text(value);
    &String => |value| Self::Text(value.clone());
    &str => |value| Self::Text(value.to_owned());
}

impl<T: Into<Tree>> From<Option<T>> for Tree {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Tree>> From<Vec<T>> for Tree {
    fn from(values: Vec<T>) -> Self {
        Self::Sequence(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Tree>, const N: usize> From<[T; N]> for Tree {
    fn from(values: [T; N]) -> Self {
        Self::Sequence(values.into_iter().map(Into::into).collect())
    }
}

impl From<serde_json::Value> for Tree {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Boolean(value),
            Json::Number(number) => number
                .as_i64()
                .map(Self::Integer)
                .or_else(|| number.as_f64().map(Self::Decimal))
                .unwrap_or_default(),
            Json::String(text) => Self::Text(text),
            Json::Array(items) => items.into(),
            Json::Object(pairs) => {
                Self::Mapping(pairs.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
        }
    }
}

impl From<Tree> for YamlTree {
    /// Lays the tree out as an arena. Children get the next free indices when their parent is
    /// written, so an index is always greater than its parent's, and nothing recurses.
    fn from(root: Tree) -> Self {
        let mut queue = std::collections::VecDeque::from([root]);
        let mut nodes = Vec::new();
        let mut next = 1_u32;
        let mut next_index = || {
            next += 1;
            next - 1
        };
        while let Some(tree) = queue.pop_front() {
            nodes.push(match tree {
                Tree::Null => Value::Null,
                Tree::Boolean(value) => Value::Boolean(value),
                Tree::Integer(value) => Value::Integer(value),
                Tree::Decimal(value) if value.is_finite() => Value::Decimal(value),
                Tree::Decimal(_) => Value::Null,
                Tree::Text(text) => Value::Text(text),
                Tree::Sequence(items) => {
                    let ids = items.iter().map(|_| next_index()).collect();
                    queue.extend(items);
                    Value::Sequence(ids)
                }
                Tree::Mapping(pairs) => {
                    let mut entries = Vec::with_capacity(pairs.len());
                    for (key, value) in pairs {
                        entries.push((key, next_index()));
                        queue.push_back(value);
                    }
                    Value::Mapping(entries)
                }
            });
        }
        Self { nodes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_lists_parents_before_their_children() {
        let tree = tree! {
            "name" => "dev",
            "port" => 8000,
            "tools" => ["a", "b"],
            "a2a" => tree! { "streaming" => true, "note" => None::<String> },
        };
        let arena = YamlTree::from(tree);
        let text = |text: &str| Value::Text(text.into());
        assert_eq!(
            arena.nodes,
            vec![
                Value::Mapping(vec![
                    ("name".into(), 1),
                    ("port".into(), 2),
                    ("tools".into(), 3),
                    ("a2a".into(), 4)
                ]),
                text("dev"),
                Value::Integer(8000),
                Value::Sequence(vec![5, 6]),
                Value::Mapping(vec![("streaming".into(), 7), ("note".into(), 8)]),
                text("a"),
                text("b"),
                Value::Boolean(true),
                Value::Null,
            ]
        );
    }

    #[test]
    fn json_becomes_a_tree() {
        let json = serde_json::json!({"a": [1, 1.5, "x", null, true, 18_446_744_073_709_551_615_u64]});
        let Tree::Mapping(pairs) = Tree::from(json) else { panic!("no mapping") };
        assert_eq!(
            pairs,
            vec![(
                "a".to_owned(),
                Tree::Sequence(vec![
                    1.into(),
                    1.5.into(),
                    "x".into(),
                    Tree::Null,
                    true.into(),
                    Tree::Decimal(1.8446744073709552e19),
                ])
            )]
        );
    }

    #[test]
    fn numbers_that_are_not_finite_are_null() {
        assert_eq!(YamlTree::from(Tree::from(f64::NAN)).nodes, vec![Value::Null]);
    }
}
