//! JSON writes characters beyond U+FFFF as two escapes (`"\ud83d\ude80"`), and YAML as one (`"\U0001F680"`).
//! YAML includes JSON, so both are read: the first form is replaced by the second before the parser reads the
//! text. A half of a pair stands for no character and becomes U+FFFD.
//!
//! Only the parser knows what is a double-quoted scalar, the one place where escapes count. So everything of
//! that form is replaced, and put back in scalars of other styles. Columns are those of the file.

use std::borrow::Cow;

use saphyr_parser::{Marker, ScalarStyle, Span};

/// A text that the parser can read.
pub(crate) struct Readable<'a> {
    pub(crate) text: Cow<'a, str>,
    /// In the order of the text.
    pub(crate) replaced: Vec<Replaced>,
}

/// An escape that was replaced.
pub(crate) struct Replaced {
    /// Line from 1 and column from 0 in the readable text, as the parser counts them.
    at: (usize, usize),
    written: String,
    readable: String,
}

/// Bytes of `\ud83d`.
const ESCAPE: usize = 6;

pub(crate) fn readable(text: &str) -> Readable<'_> {
    let mut out = String::new();
    let mut replaced: Vec<Replaced> = Vec::new();
    let (mut line, mut column) = (1, 0);
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        let rest = text.get(at..).unwrap_or_default();
        let Some(high) = unit(rest).filter(|unit| (0xd800..0xe000).contains(unit)) else {
            // The character after a backslash belongs to it, also where that is a second one.
            at += 1 + rest.chars().nth(1).map_or(0, char::len_utf8);
            continue;
        };
        let low = rest.get(ESCAPE..).and_then(unit).filter(|unit| (0xdc00..0xe000).contains(unit));
        let (length, escape) = match low.filter(|_| high < 0xdc00) {
            Some(low) => {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                (2 * ESCAPE, format!("\\U{code:08X}"))
            }
            None => (ESCAPE, "\\ufffd".to_owned()),
        };
        let before = text.get(copied..at).unwrap_or_default();
        out.push_str(before);
        (line, column) = behind(before, line, column);
        replaced.push(Replaced {
            at: (line, column),
            written: rest.get(..length).unwrap_or_default().to_owned(),
            readable: escape.clone(),
        });
        column += escape.len();
        out.push_str(&escape);
        at += length;
        copied = at;
    }
    if replaced.is_empty() {
        return Readable { text: Cow::Borrowed(text), replaced };
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Readable { text: Cow::Owned(out), replaced }
}

/// The number of an escape `\uXXXX` at the beginning of a text.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
    u32::from_str_radix(digits, 16).ok()
}

/// Line and column behind a text that begins at these.
fn behind(text: &str, mut line: usize, mut column: usize) -> (usize, usize) {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let breaks = c == '\n' || c == '\r' && chars.peek() != Some(&'\n');
        (line, column) = if breaks { (line + 1, 0) } else { (line, column + 1) };
    }
    (line, column)
}

/// The column of the file, for a place of the readable text.
pub(crate) fn column(replaced: &[Replaced], marker: Marker) -> usize {
    let before = |limit: (usize, usize)| replaced.partition_point(|it| it.at < limit);
    let same_line = replaced.get(before((marker.line(), 0))..before((marker.line(), marker.col())));
    let shorter = |it: &Replaced| it.written.len() - it.readable.len();
    marker.col() + same_line.unwrap_or_default().iter().map(shorter).sum::<usize>()
}

/// The text of a scalar, with what its style doesn't read as an escape as it is written.
pub(crate) fn restored<'a>(
    replaced: &[Replaced],
    text: Cow<'a, str>,
    style: ScalarStyle,
    span: Span,
) -> Cow<'a, str> {
    if replaced.is_empty() || style == ScalarStyle::DoubleQuoted {
        return text;
    }
    let before = |marker: Marker| replaced.partition_point(|it| it.at < (marker.line(), marker.col()));
    let within = replaced.get(before(span.start)..before(span.end)).unwrap_or_default();
    let mut rest = &*text;
    let mut whole = String::new();
    for it in within {
        if let Some((before, after)) = rest.split_once(&*it.readable) {
            whole.extend([before, &it.written]);
            rest = after;
        }
    }
    if whole.is_empty() { text } else { Cow::Owned(whole + rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_one_escape_and_halves_a_replacement_character() {
        for (written, expected) in [
            (r#""\ud83d\ude80""#, r#""\U0001F680""#),
            (r#""\uD83D\uDE80\ud83d""#, r#""\U0001F680\ufffd""#),
            (r#""\ude80\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83dx\ude80""#, r#""\ufffdx\ufffd""#),
            (r#""\\ud83d\\ude80""#, r#""\\ud83d\\ude80""#),
            (r#""\\\ud83d\ude80""#, r#""\\\U0001F680""#),
            (r#""\u00e9 \ud8""#, r#""\u00e9 \ud8""#),
            ("\\", "\\"),
            ("\\ü\\ud83", "\\ü\\ud83"),
        ] {
            assert_eq!(readable(written).text, expected, "{written}");
        }
    }
}
