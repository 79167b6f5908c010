//! Prints answers of the server as text.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};

use comfy_table::{Table, presets::NOTHING};
use serde_json::Value;
use types::{printable, printable_json, printable_lines};

use super::output::write;

/// Writes one line. `false`: the output can't be written any more, see [`super::finish_output`].
pub fn line(text: impl AsRef<str>) -> bool {
    write(&printable(text.as_ref()))
}

/// Writes text with the lines that it has to standard error, whose reader may be gone.
pub(super) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", printable_lines(text.as_ref()));
}

/// Writes text with the lines that it has.
pub(super) fn lines(text: &str) -> bool {
    write(&printable_lines(text))
}

/// Writes JSON on several lines.
pub fn json(value: &Value) {
    write(&printable_json(&serde_json::to_string_pretty(value).unwrap_or_default()));
}

/// Writes JSON on one line.
pub(super) fn json_line(value: &Value) -> bool {
    write(&printable_json(&value.to_string()))
}

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("-")
}

pub(super) fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// Rows in columns.
pub(super) struct Columns(Table);

pub(super) fn table(header: &[&str]) -> Columns {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    Columns(table)
}

impl Columns {
    /// Each text is on one line.
    pub(super) fn add_row<const N: usize>(&mut self, row: [String; N]) {
        self.0.add_row(row.map(|text| printable(&text).into_owned()));
    }

    pub(super) fn print(&self) {
        write(&self.0.trim_fmt());
    }
}

/// A line of a tree.
pub(super) struct Branch {
    /// The key by which children name it.
    pub(super) key: String,
    /// Key of the parent. A missing one makes it a root.
    pub(super) parent: Option<String>,
    pub(super) label: String,
}

/// Draws a tree, with siblings in the order given.
pub(super) fn tree(branches: &[Branch]) {
    let keys: HashSet<&str> = branches.iter().map(|branch| branch.key.as_str()).collect();
    let mut below: HashMap<Option<&str>, Vec<&Branch>> = HashMap::new();
    for branch in branches {
        let parent = branch.parent.as_deref().filter(|parent| keys.contains(parent));
        below.entry(parent).or_default().push(branch);
    }
    for root in below.get(&None).into_iter().flatten() {
        line(&root.label);
        grow(&below, &root.key, "");
    }
}

fn grow(below: &HashMap<Option<&str>, Vec<&Branch>>, parent: &str, indent: &str) {
    let children = below.get(&Some(parent)).map(Vec::as_slice).unwrap_or_default();
    for (at, child) in children.iter().enumerate() {
        let (corner, deeper) =
            if at + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        line(format!("{indent}{corner}{}", child.label));
        grow(below, &child.key, &format!("{indent}{deeper}"));
    }
}

/// `1 workspace`, `2 workspaces`.
pub(super) fn workspaces(count: u64) -> String {
    format!("{count} {}", if count == 1 { "workspace" } else { "workspaces" })
}

/// A duration in one unit: `12 s`, `4 min`, `3 h`, `2 d`.
pub(super) fn span(seconds: i64) -> String {
    match seconds.abs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_in_one_unit() {
        for (seconds, text) in
            [(0, "0 s"), (119, "119 s"), (-5, "5 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
