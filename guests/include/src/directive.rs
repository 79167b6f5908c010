//! Tags: which are directives, which say what a scalar is, which are left for others.

use saphyr_parser::Tag;

pub(crate) const INCLUDE: &str = "!include";
pub(crate) const EXTERNAL: &str = "!external";

/// Longest piece of a template that a message repeats, in characters.
const SHOWN: usize = 120;

/// A tag as the author wrote it.
pub(crate) fn written(tag: &Tag) -> String {
    if tag.is_yaml_core_schema() {
        format!("!!{}", tag.suffix)
    } else {
        format!("{}{}", tag.handle, tag.suffix)
    }
}

/// An include as messages name it.
pub(crate) fn include(path: &str) -> String {
    format!("`{INCLUDE} {}`", shown(path))
}

/// Text of a template, short enough for a message and on one line.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
