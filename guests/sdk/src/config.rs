//! The one field of an agent's `config.yaml` that the platform reads: the runtime.

/// Value of the top-level key `runtime` of a YAML file, if it is written as a plain or simply
/// quoted scalar in a block mapping. That is how such files are written; a whole YAML parser would
/// be most of an adapter's size.
#[must_use]
pub fn runtime_in_config(config: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(config).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut inside = false;
    for line in text.lines() {
        // Only the first document counts.
        if line == "..." || inside && (line == "---" || line.starts_with("--- ")) {
            return None;
        }
        if let Some(value) = value_of(line, "runtime") {
            return scalar(value);
        }
        inside |= !line.trim_start().is_empty() && !line.starts_with(['#', '%', '-']);
    }
    None
}

/// The value behind `key:` at the beginning of a line.
fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = ['"', '\'']
        .iter()
        .find_map(|quote| line.strip_prefix(*quote)?.strip_prefix(key)?.strip_prefix(*quote))
        .or_else(|| line.strip_prefix(key))?;
    let value = rest.trim_start_matches([' ', '\t']).strip_prefix(':')?;
    (value.is_empty() || value.starts_with([' ', '\t'])).then(|| value.trim())
}

fn scalar(value: &str) -> Option<String> {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            let (text, after) = rest.split_once(quote)?;
            let after = after.trim();
            // Escapes and doubled quotes don't occur in a runtime's name.
            let simple = !text.contains('\\') && (after.is_empty() || after.starts_with('#'));
            return (simple && !text.is_empty()).then(|| text.to_owned());
        }
    }
    let plain =
        if value.starts_with('#') { "" } else { value.split_once(" #").map_or(value, |(text, _)| text) };
    let plain = plain.trim();
    // Anchors, aliases, tags, block scalars and collections are beyond this reader.
    let supported = !plain.starts_with(['&', '*', '!', '|', '>', '{', '[', '%', '@', '`']);
    (supported && !matches!(plain, "" | "~" | "null")).then(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes() {
        for (config, runtime) in [
            ("runtime: hermes\n", Some("hermes")),
            ("name: a\nruntime:   langgraph   # default\n", Some("langgraph")),
            ("\u{feff}# c\r\nruntime: codex\r\nmodel: x\r\n", Some("codex")),
            ("runtime: \"claude-code\"", Some("claude-code")),
            ("runtime: 'claude-code' # c", Some("claude-code")),
            ("\"runtime\" : mock", Some("mock")),
            ("---\nruntime: mock\n", Some("mock")),
            ("runtime: a#b", Some("a#b")),
            ("", None),
            ("name: x\n", None),
            ("runtime_config:\n  runtime: nested\n", None),
            ("a: |\n  runtime: text\n", None),
            ("runtime:\n", None),
            ("runtime: # none\n", None),
            ("runtime: null\n", None),
            ("runtime: \"\"\n", None),
            ("runtime: \"a\\n\"\n", None),
            ("runtime: *alias\n", None),
            ("runtime: [a]\n", None),
            ("runtime:x\n", None),
            ("name: a\n---\nruntime: other-document\n", None),
            ("name: a\n...\nruntime: after-the-end\n", None),
        ] {
            assert_eq!(runtime_in_config(config.as_bytes()).as_deref(), runtime, "{config:?}");
        }
        assert_eq!(runtime_in_config(b"runtime: \xff\n"), None);
    }
}
