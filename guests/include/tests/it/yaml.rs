//! YAML features, and those that templates may not use.

use crate::support::{refused, resolved};

#[test]
fn scalars_keep_what_was_written() {
    for (text, shown) in [
        ("1.10", "1.10"),
        ("0o17", "0o17"),
        ("'a''b'", "\"a'b\""),
        ("\"a\\tb\"", "\"a\\tb\""),
        (">\n  a\n  b\n", "\"a b\\n\""),
        ("a\n  b", "a b"),
        ("!!str 1", "\"1\""),
        ("! 1", "\"1\""),
        ("!!int 1", "!!int 1"),
        ("!custom {a: 1}", "!custom {a: 1}"),
        ("!!map {a: 1}", "{a: 1}"),
        ("!<!custom> x", "!custom x"),
        ("", ""),
    ] {
        assert_eq!(resolved(&[("org.yaml", &format!("k: {text}"))]), format!("{{k: {shown}}}"), "{text:?}");
    }
    let handle = "%TAG !e! tag:example.org,2000:\n---\nk: !e!x v\n";
    assert_eq!(resolved(&[("org.yaml", handle)]), "{k: tag:example.org,2000:x v}");
}

#[test]
fn aliases_are_copied() {
    assert_eq!(
        resolved(&[("org.yaml", "a: &x [1, {b: 2}]\nc: *x\nd: [*x, *x]")]),
        "{a: [1, {b: 2}], c: [1, {b: 2}], d: [[1, {b: 2}], [1, {b: 2}]]}"
    );
    assert_eq!(resolved(&[("org.yaml", "a: &x 1\nb: &x 2\nc: *x")]), "{a: 1, b: 2, c: 2}");
    assert_eq!(resolved(&[("org.yaml", "a: &x k\n*x : 1")]), "{a: k, k: 1}");
    refused(&[("org.yaml", "a: *nothing")], "org.yaml:1:4", "unknown anchor");
    refused(&[("org.yaml", "a: &x [1, *x]")], "org.yaml:1:11", "would never end");
    refused(&[("org.yaml", "&x a: {b: &y {c: *y}}")], "org.yaml:1:18", "would never end");
    refused(&[("org.yaml", "&x\na: 1\nb: *x")], "org.yaml:3:4", "would never end");
}

#[test]
fn an_anchor_is_known_only_in_its_file() {
    refused(
        &[("org.yaml", "a: &x 1\nb: !include b.yaml"), ("b.yaml", "*x")],
        "b.yaml:1:1",
        "`!include b.yaml` (org.yaml:2:4)",
    );
}

#[test]
fn merge_keys() {
    for (text, shown) in [
        ("{a: 1, <<: {a: 2, b: 2}}", "{a: 1, b: 2}"),
        ("{<<: {a: 2, b: 2}, a: 1}", "{b: 2, a: 1}"),
        ("{<<: [{a: 1}, {a: 2, b: 2}]}", "{a: 1, b: 2}"),
        ("{<<: {<<: {a: 1, b: 1}, b: 2}, c: 3}", "{a: 1, b: 2, c: 3}"),
        ("{<<: {}}", "{}"),
        ("{<<: []}", "{}"),
        ("{'<<': {a: 1}}", "{\"<<\": {a: 1}}"),
        ("{!!merge <<: {a: 1}}", "{a: 1}"),
        ("{m: &m {a: 1, <<: {b: 2}}, <<: *m}", "{m: {a: 1, b: 2}, a: 1, b: 2}"),
        ("{<<: &m {a: 1}, n: *m}", "{a: 1, n: {a: 1}}"),
    ] {
        assert_eq!(resolved(&[("org.yaml", text)]), shown, "{text}");
    }
    refused(&[("org.yaml", "<<: 1")], "org.yaml:1:5", "`<<` takes a mapping");
    refused(&[("org.yaml", "<<: [{a: 1}, [b]]")], "org.yaml:1:14", "`<<` takes a mapping");
    refused(
        &[("org.yaml", "<<: !external {repo: a, ref: b, path: c}")],
        "org.yaml:1:5",
        "`<<` takes a mapping",
    );
    refused(&[("org.yaml", "<<: !include l.yaml"), ("l.yaml", "text")], "l.yaml:1:1", "`<<` takes a mapping");
}

#[test]
fn keys_are_distinct_texts() {
    refused(
        &[("org.yaml", "a: 1\nb: 2\na: 3")],
        "org.yaml:3:1",
        "the key `a` is there twice, first in line 1",
    );
    refused(&[("org.yaml", "a: 1\n\"a\": 2")], "org.yaml:2:1", "twice");
    refused(&[("org.yaml", "<<: {a: 1}\n<<: {b: 1}")], "org.yaml:2:1", "twice");
    refused(&[("org.yaml", "? [a]\n: 1")], "org.yaml:1:3", "a mapping's key");
    refused(&[("org.yaml", "? {a: 1}\n: 1")], "org.yaml:1:3", "a mapping's key");
    assert_eq!(resolved(&[("org.yaml", "? a\n: 1\n? b\n")]), "{a: 1, b: }");
}

#[test]
fn the_first_document_of_a_file_counts() {
    for text in [
        "a: 1\n---\n",
        "---\na: 1\n...\n",
        "%YAML 1.2\n---\na: 1\n",
        "a: 1\n---\n# nothing\n---\n",
        "a: 1\n---\nb: 2\n",
        "a: 1\n...\n---\n- b\n",
        "a: 1\n---\n{{ not: yaml: ]\n",
        "a: 1\n---\nb: !include none.yaml\n",
    ] {
        assert_eq!(resolved(&[("org.yaml", text)]), "{a: 1}", "{text:?}");
    }
    refused(&[("org.yaml", "---\n---\na: 1\n")], "org.yaml:1:1", "empty document");
}

#[test]
fn escapes_of_json_are_read() {
    let json = r#"{"a": "\ud83d\ude80 \ud83d", "b\ud83d\ude80": 'x \ud83d\ude80', "c": "\/\u00e9"}"#;
    assert_eq!(resolved(&[("org.yaml", json)]), r#"{"a": "🚀 �", "b🚀": "x \\ud83d\\ude80", "c": "/é"}"#);
    // Only double-quoted scalars have escapes.
    let block =
        "a: |\n  {\"x\": \"\\ud83d\\ude80\"} \\ud83d\nb: \\ud83d\\ude80 # \\ud83d\nc: \"\\ud83d\\ude80\"\n";
    assert_eq!(
        resolved(&[("org.yaml", block)]),
        r#"{a: "{\"x\": \"\\ud83d\\ude80\"} \\ud83d\n", b: \ud83d\ude80, c: "🚀"}"#
    );
    // Columns are those of the file.
    let at = r#"{"a": "\ud83d\ude80\ud83d\ude80", "b": !include c.yaml}"#;
    refused(&[("org.yaml", at)], "org.yaml:1:40", "missing file");
}

#[test]
fn syntax_errors_are_refused_with_their_place() {
    refused(&[("org.yaml", "a: [1, 2\nb: 3")], "org.yaml:2:2", "not YAML");
    refused(&[("org.yaml", "a: \"b")], "org.yaml:1:4", "not YAML");
    refused(&[("org.yaml", "a: 1\n\tb: 2")], "org.yaml:1:4", "not YAML");
    refused(
        &[("org.yaml", "x: !include b.yaml"), ("b.yaml", "a: b: c")],
        "b.yaml:1:5",
        "`!include b.yaml` (org.yaml:1:4): not YAML",
    );
    refused(&[("org.yaml", "a: 1\nb: \0\n")], "org.yaml:2:4", "NUL");
}
