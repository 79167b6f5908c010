//! `.env` files: one variable per line.

use std::collections::BTreeMap;

use types::is_env_name;

/// Reads the variables of a file. Comments, lines without `=`, invalid names and empty values are skipped:
/// an empty value never overrides. There are no escapes, no comments behind values and no references.
pub(crate) fn parse(text: &str) -> BTreeMap<String, String> {
    text.split('\n').filter_map(line).collect()
}

fn line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let (key, value) = (key.trim(), unquoted(value.trim()));
    (is_env_name(key) && !value.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}

/// The value without one pair of matching quotes.
fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed() {
        for (text, expected) in [
            ("A=1", Some(("A", "1"))),
            ("  A = 1 \r", Some(("A", "1"))),
            ("export A=1", Some(("A", "1"))),
            ("A=b=c", Some(("A", "b=c"))),
            ("A=\"x y\"", Some(("A", "x y"))),
            ("A='x'", Some(("A", "x"))),
            ("A=\"x'", Some(("A", "\"x'"))),
            ("A=\"", Some(("A", "\""))),
            ("A=x # y", Some(("A", "x # y"))),
            ("A=${B}", Some(("A", "${B}"))),
            ("A=\\n", Some(("A", "\\n"))),
            ("_a1=1", Some(("_a1", "1"))),
            ("# A=1", None),
            ("A", None),
            ("A=", None),
            ("A=''", None),
            ("=1", None),
            ("1A=1", None),
            ("A-B=1", None),
        ] {
            let expected: BTreeMap<String, String> =
                expected.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_empty_value_never_overrides() {
        let read = parse("A=1\nA=\nB=1\nB=2");
        assert_eq!((read["A"].as_str(), read["B"].as_str()), ("1", "2"));
    }
}
