//! Text of agents, guests and templates on its way to a terminal or a log.
//!
//! A terminal obeys control characters, and shows text with directional or invisible characters as another text
//! than it is. Both become visible escapes here; every output of the commands and every line that a guest writes
//! to the log goes through this module.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text on one line.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |char| char == '\n' || char == '\t' || is_deceptive(char),
        |char, to| {
            to.extend(char.escape_default());
        },
    )
}

/// The text with its lines and tabs.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let text = if text.contains("\r\n") { text.replace("\r\n", "\n").into() } else { Cow::Borrowed(text) };
    let kept = escaped(&text, is_deceptive, |char, to| to.extend(char.escape_default()));
    Cow::Owned(kept.into_owned())
}

/// JSON text whose strings have escapes instead: other text, the same JSON.
#[must_use]
pub fn printable_json(text: &str) -> Cow<'_, str> {
    escaped(text, is_deceptive, |char, to| {
        for unit in char.encode_utf16(&mut [0; 2]) {
            // Writing to a `String` can't fail.
            let _ = write!(to, "\\u{unit:04x}");
        }
    })
}

fn escaped<'a>(
    text: &'a str,
    is_escaped: impl Fn(char) -> bool,
    escape: impl Fn(char, &mut String),
) -> Cow<'a, str> {
    let Some(first) = text.find(&is_escaped) else { return Cow::Borrowed(text) };
    let (before, rest) = text.split_at(first);
    let mut escaped = before.to_owned();
    for char in rest.chars() {
        if is_escaped(char) {
            escape(char, &mut escaped);
        } else {
            escaped.push(char);
        }
    }
    Cow::Owned(escaped)
}

/// Characters that a terminal obeys, or that hide or reorder others. Line feed and tab are not among them.
fn is_deceptive(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_control() && !matches!(char, '\n' | '\t');
    }
    char.is_control()
        || matches!(char,
            // Format characters (category Cf), among them all that have to do with direction and joining.
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
            // Separators of lines and paragraphs.
            | '\u{2028}' | '\u{2029}'
            // Without a width, or blank.
            | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn deceptive_characters_become_escapes() {
        for (text, line) in [
            ("plain ünï 🌍 日本", "plain ünï 🌍 日本"),
            ("\u{1b}[2J\u{1b}]0;x\u{7}", "\\u{1b}[2J\\u{1b}]0;x\\u{7}"),
            ("a\u{9b}31m\u{85}\u{7f}", "a\\u{9b}31m\\u{85}\\u{7f}"),
            ("user\u{202e}nimda\u{2066}", "user\\u{202e}nimda\\u{2066}"),
            (
                "ad\u{200b}min\u{200d}\u{feff}\u{ad}\u{e0041}",
                "ad\\u{200b}min\\u{200d}\\u{feff}\\u{ad}\\u{e0041}",
            ),
            ("one\ntwo\r\n\tthree\rfour\u{2028}", "one\\ntwo\\r\\n\\tthree\\rfour\\u{2028}"),
            ("\0\u{8}", "\\u{0}\\u{8}"),
        ] {
            assert_eq!(printable(text), line, "{text:?}");
        }
        let lines = printable_lines("one\r\n\ttwo\n\u{1b}[1A\rthree");
        assert_eq!(lines, "one\n\ttwo\n\\u{1b}[1A\\rthree");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = json!({ "a\u{202e}": ["\u{e0041}\u{7f}\u{1b}\u{9b}", "é\n"] });
        let text = value.to_string();
        let printed = printable_json(&text);
        assert_eq!(printed, "{\"a\\u202e\":[\"\\udb40\\udc41\\u007f\\u001b\\u009b\",\"é\\n\"]}");
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), value);
    }
}
