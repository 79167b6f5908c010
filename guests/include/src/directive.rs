//! Tags of directives, and how messages show pieces of a template.

use saphyr_parser::Tag;

pub(crate) const INCLUDE: &str = "!include";
pub(crate) const EXTERNAL: &str = "!external";

/// Characters of a template that a message repeats.
const MAX_SHOWN: usize = 120;

/// A tag as the author wrote it.
pub(crate) fn written(tag: &Tag) -> String {
    if tag.is_yaml_core_schema() {
        format!("!!{}", tag.suffix)
    } else {
        format!("{}{}", tag.handle, tag.suffix)
    }
}

/// An include as messages show it.
pub(crate) fn include(path: &str) -> String {
    format!("`{INCLUDE} {}`", shown(path))
}

/// Text of a template, short enough for a message and on one line.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
