//! One pass over JSON text that makes it compact and free of what databases and strict parsers refuse.
//!
//! Half surrogate pairs become U+FFFD, as invalid UTF-8 does; so do NULs where the caller asks for it. White
//! space between tokens is left out. All else is copied: numbers keep their digits. The pass does not check
//! the grammar, which the parser after it does: text that is no JSON stays text that is no JSON.

use std::borrow::Cow;

use memchr::memchr2;

/// Levels of arrays and objects in JSON at most, as in serde_json.
pub const MAX_LEVELS: usize = 127;

/// What becomes of NULs in strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nul {
    Keep,
    Replace,
}

/// Arrays and objects are nested deeper than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooDeep;

const REPLACEMENT: &str = "\u{fffd}";

/// Some clients begin every text with it; RFC 8259 lets parsers ignore it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Bytes of `\uXXXX`.
const ESCAPE_BYTES: usize = 6;

/// Compact text with repaired strings, of at most `levels` levels.
pub(crate) fn repair(bytes: &[u8], nul: Nul, levels: usize) -> Result<String, TooDeep> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    let (mut repaired, mut rest, mut level) = (String::with_capacity(text.len()), text, 0_usize);
    while let Some(at) = rest.bytes().position(is_structural) {
        let (before, found) = rest.split_at(at);
        repaired.push_str(before);
        let (token, after) = found.split_at(1); // all of them are ASCII
        rest = after;
        match token {
            "\"" => rest = string(rest, nul, &mut repaired),
            "[" | "{" => {
                level += 1;
                if level > levels {
                    return Err(TooDeep);
                }
                repaired.push_str(token);
            }
            "]" | "}" => {
                level = level.saturating_sub(1);
                repaired.push_str(token);
            }
            _ if needs_space(&repaired, rest) => repaired.push(' '),
            _ => {}
        }
    }
    repaired.push_str(rest);
    Ok(repaired)
}

fn is_structural(byte: u8) -> bool {
    matches!(byte, b'"' | b'[' | b']' | b'{' | b'}' | b' ' | b'\n' | b'\r' | b'\t')
}

/// Without white space between them, two scalars would become one: `1 2` is no JSON, `12` is.
fn needs_space(before: &str, after: &str) -> bool {
    let scalar = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    before.as_bytes().last().is_some_and(scalar) && after.as_bytes().first().is_some_and(scalar)
}

/// Copies a string whose opening quote was read, with both quotes. Returns what follows it.
fn string<'a>(mut rest: &'a str, nul: Nul, repaired: &mut String) -> &'a str {
    repaired.push('"');
    loop {
        let Some(at) = memchr2(b'"', b'\\', rest.as_bytes()) else {
            // Never closed.
            repaired.push_str(rest);
            return "";
        };
        let (before, found) = rest.split_at(at);
        repaired.push_str(before);
        if let Some(after) = found.strip_prefix('"') {
            repaired.push('"');
            return after;
        }
        rest = escape(found, nul, repaired);
    }
}

/// Copies an escape, which is at the beginning of the text. Returns what follows it.
fn escape<'a>(text: &'a str, nul: Nul, repaired: &mut String) -> &'a str {
    let Some(first) = unit(text) else {
        // A short escape, or none. Its second character is copied unseen, so that `\\ud83d` stays as it is.
        let end = text.char_indices().nth(2).map_or(text.len(), |(at, _)| at);
        let (escape, after) = text.split_at(end);
        repaired.push_str(escape);
        return after;
    };
    let after = text.get(ESCAPE_BYTES..).unwrap_or_default();
    let is_pair = is_high(first) && unit(after).is_some_and(is_low);
    let (end, keep) = match first {
        0 => (ESCAPE_BYTES, nul == Nul::Keep),
        _ if is_pair => (2 * ESCAPE_BYTES, true),
        _ => (ESCAPE_BYTES, !is_high(first) && !is_low(first)),
    };
    let (escape, after) = text.split_at(end);
    repaired.push_str(if keep { escape } else { REPLACEMENT });
    after
}

/// The UTF-16 unit of an escape `\uXXXX` at the beginning of the text.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    // `from_str_radix` takes a sign too.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

fn is_high(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}

fn is_low(unit: u16) -> bool {
    (0xdc00..0xe000).contains(&unit)
}

/// The text with U+FFFD in place of NULs: databases take no NUL, and free text is worth more than its refusal.
#[must_use]
pub fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', REPLACEMENT).into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn kept(text: &str) -> String {
        repair(text.as_bytes(), Nul::Keep, MAX_LEVELS).expect("not too deep")
    }

    #[test]
    fn half_pairs_are_replaced_and_everything_else_in_strings_is_kept() {
        for (text, repaired) in [
            (r#""cut \ud83d""#, "\"cut \u{fffd}\""),
            (r#""\ude80 low""#, "\"\u{fffd} low\""),
            (r#""\ud83d\ude80""#, r#""\ud83d\ude80""#),
            (r#""\uD83D\uDE80""#, r#""\uD83D\uDE80""#),
            (r#""\ud83d\ud83d\ude80""#, "\"\u{fffd}\\ud83d\\ude80\""),
            (r#""\ud83d\u0041""#, "\"\u{fffd}\\u0041\""),
            (r#""\ud83dx\ude80""#, "\"\u{fffd}x\u{fffd}\""),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, "\"\\\\\u{fffd}\""),
            (r#""\"\ud83d\"""#, "\"\\\"\u{fffd}\\\"\""),
            (r#"{"k\ud800" : 1}"#, "{\"k\u{fffd}\":1}"),
            (r#""a\u0000b""#, r#""a\u0000b""#),
            (r#""\u+123 \ud83 \u12é""#, r#""\u+123 \ud83 \u12é""#),
            (r#""\é""#, r#""\é""#),
            (r#""open \ud83d"#, "\"open \u{fffd}"),
            (r#""open \"#, r#""open \"#),
        ] {
            assert_eq!(kept(text), repaired, "{text}");
        }
        let replaced = repair(br#"{"\u0000":["a\u0000b","\\u0000"]}"#, Nul::Replace, MAX_LEVELS);
        assert_eq!(replaced.expect("not too deep"), "{\"\u{fffd}\":[\"a\u{fffd}b\",\"\\\\u0000\"]}");
        assert_eq!(repair(b"\"a\xffb\xc3\"", Nul::Keep, 1), Ok("\"a\u{fffd}b\u{fffd}\"".to_owned()));
    }

    #[test]
    fn numbers_and_words_are_copied_without_white_space_between_tokens() {
        let text = "{ \"a b\" : [ 1.0 , 1e2,12345678901234567890123 ],\r\n\t\"c\": [true , null] } ";
        assert_eq!(kept(text), r#"{"a b":[1.0,1e2,12345678901234567890123],"c":[true,null]}"#);
        assert_eq!(kept("\u{feff}{\"a\": \"\u{feff}\"}"), "{\"a\":\"\u{feff}\"}");
        for no_json in ["1 2", "[1 2]", "tr ue", "- 1", "[1 .5]", "{}{}", "\"a\nb\""] {
            assert!(serde_json::from_str::<Value>(&kept(no_json)).is_err(), "{no_json}");
        }
    }

    #[test]
    fn levels_are_counted_outside_of_strings() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(repair(nested(3).as_bytes(), Nul::Keep, 3), Ok(nested(3)));
        assert_eq!(repair(nested(4).as_bytes(), Nul::Keep, 3), Err(TooDeep));
        assert_eq!(kept(r#"["[[[[",{"]":"\"["}]"#), r#"["[[[[",{"]":"\"["}]"#);
        // The limit is serde_json's own.
        assert!(serde_json::from_str::<Value>(&nested(MAX_LEVELS)).is_ok());
        assert!(serde_json::from_str::<Value>(&nested(MAX_LEVELS + 1)).is_err());
    }

    proptest! {
        /// JSON that a parser reads means the same afterwards, and has no white space between its tokens.
        #[test]
        fn valid_json_keeps_its_meaning(text in "[ -~é🌍\\n\"\\\\]{0,40}", number in any::<f64>(), pretty: bool) {
            let value = json!({ (text.as_str()): [text, number, null, { "nested": [[], {}, true] }], "b": i64::MIN });
            let printed = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            prop_assert_eq!(kept(&printed.expect("JSON")), value.to_string());
        }

        /// Whatever the bytes are, what parsers of strict text read before is read after, and nothing panics.
        #[test]
        fn any_bytes_are_repaired(bytes in "[\\[\\]{}\"\\\\udD8cC30 :,\\x00é]{0,60}") {
            let before = serde_json::from_str::<Value>(&bytes);
            if let Ok(repaired) = repair(bytes.as_bytes(), Nul::Keep, MAX_LEVELS)
                && let Ok(before) = before
            {
                prop_assert_eq!(serde_json::from_str::<Value>(&repaired).ok(), Some(before));
            }
        }
    }
}
