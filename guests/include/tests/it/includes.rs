//! The contract's cases I1 to I19.

use isomer_sdk::Answer;

use crate::support::{Host, expect, refused, resolved, shown};

#[test]
fn i1_an_include_as_list_item() {
    let tree = resolved(&[("org.yaml", "workspaces:\n  - !include a.yaml\n"), ("a.yaml", "name: a\n")]);
    assert_eq!(tree, "{workspaces: [{name: a}]}");
}

#[test]
fn i2_includes_of_sibling_directories() {
    let tree = resolved(&[
        ("org.yaml", "workspaces: [!include team/t.yaml]"),
        ("team/t.yaml", "name: t\nchildren: [!include ../role/x.yaml]"),
        ("role/x.yaml", "name: x\nchildren: [!include ./y.yaml]"),
        ("role/y.yaml", "name: y"),
    ]);
    assert_eq!(tree, "{workspaces: [{name: t, children: [{name: x, children: [{name: y}]}]}]}");
}

#[test]
fn i3_paths_out_of_the_root_are_refused() {
    for path in ["../outside.yaml", "../../etc/passwd", "/etc/passwd"] {
        refused(&[("org.yaml", &format!("a:\n  - !include {path}"))], "org.yaml:2:5", "escapes root");
        refused(
            &[("org.yaml", &format!("a:\n  - !include {path}"))],
            "org.yaml:2:5",
            &format!("`!include {path}`"),
        );
    }
    refused(
        &[("org.yaml", "!include a/b.yaml"), ("a/b.yaml", "x: !include ../../c.yaml")],
        "a/b.yaml:1:4",
        "escapes root",
    );
}

#[test]
fn i4_i5_cycles_are_refused() {
    refused(
        &[
            ("org.yaml", "- !include a.yaml"),
            ("a.yaml", "- !include b.yaml"),
            ("b.yaml", "- !include a.yaml"),
        ],
        "b.yaml:1:3",
        "cycle: a.yaml -> b.yaml -> a.yaml",
    );
    refused(&[("org.yaml", "- !include a.yaml"), ("a.yaml", "- !include org.yaml")], "a.yaml:1:3", "cycle");
    refused(&[("org.yaml", "- !include ./org.yaml")], "org.yaml:1:3", "`!include ./org.yaml`: cycle");
}

#[test]
fn i6_a_file_may_be_included_twice() {
    let tree = resolved(&[
        ("org.yaml", "- {name: a, children: [!include x.yaml]}\n- {name: b, children: [!include x.yaml]}"),
        ("x.yaml", "name: x"),
    ]);
    assert_eq!(tree, "[{name: a, children: [{name: x}]}, {name: b, children: [{name: x}]}]");
}

/// `org.yaml` and a chain of files below it, each one include deeper.
fn chain(length: usize) -> Host {
    let mut host = Host::with(&[("org.yaml", "- !include f1.yaml")]);
    for file in 1..=length {
        let text = if file == length { "end".to_owned() } else { format!("- !include f{}.yaml", file + 1) };
        host = host.and(&format!("f{file}.yaml"), Answer::Bytes(text.into_bytes()));
    }
    host
}

#[test]
fn i7_sixteen_nested_includes_are_allowed() {
    let mut host = chain(16);
    let tree = shown(&host.resolve().unwrap());
    assert_eq!(tree, format!("{}end{}", "[".repeat(16), "]".repeat(16)));
    assert_eq!(host.rounds, 17);
    expect(chain(17).resolve(), "f16.yaml:1:3", "`!include f17.yaml`: max depth");
}

#[test]
fn i7_the_depth_of_a_known_file_counts() {
    // f2 to f16 are known from their first use; from g they are one level too deep.
    let mut host = chain(16).and("g.yaml", Answer::Bytes(b"- !include f1.yaml".to_vec()));
    assert!(host.resolve().is_ok());
    let mut host = Host::with(&[
        ("org.yaml", "- !include f1.yaml\n- !include g.yaml"),
        ("g.yaml", "- !include f1.yaml"),
    ]);
    for file in 1..=16 {
        let text = if file == 16 { "end".to_owned() } else { format!("- !include f{}.yaml", file + 1) };
        host = host.and(&format!("f{file}.yaml"), Answer::Bytes(text.into_bytes()));
    }
    expect(host.resolve(), "g.yaml:1:3", "max depth");
}

#[test]
fn i8_an_empty_path_is_refused() {
    for path in ["\"\"", "''", ""] {
        refused(&[("org.yaml", &format!("a: !include {path}"))], "org.yaml:1:4", "empty path");
    }
}

#[test]
fn i9_a_missing_file_is_refused() {
    refused(
        &[("org.yaml", "defaults:\n  x: 1\nworkspaces:\n  - !include teams/x.yaml")],
        "org.yaml:4:5",
        "`!include teams/x.yaml`: missing file",
    );
    expect(Host::default().resolve(), "org.yaml:1:1", "missing");
}

#[test]
fn i10_directives_without_a_directory_are_refused() {
    for directive in ["!include a.yaml", "!external {repo: o/r, ref: v1, path: a.yaml}"] {
        let mut host = Host::with(&[("org.yaml", &format!("- {directive}")), ("a.yaml", "a")]);
        host.has_directory = false;
        expect(host.resolve(), "org.yaml:1:3", "dir-based");
    }
    let mut host = Host::with(&[("org.yaml", "a: 1")]);
    host.has_directory = false;
    assert_eq!(shown(&host.resolve().unwrap()), "{a: 1}");
}

#[test]
fn i11_i12_includes_of_lists_and_defaults() {
    let tree = resolved(&[
        ("org.yaml", "defaults: !include d.yaml\nworkspaces: !include list.yaml\n"),
        ("list.yaml", "- name: a\n- name: b\n"),
        ("d.yaml", "tier: 2\n"),
    ]);
    assert_eq!(tree, "{defaults: {tier: 2}, workspaces: [{name: a}, {name: b}]}");
    assert_eq!(resolved(&[("org.yaml", "!include a.yaml"), ("a.yaml", "text")]), "text");
}

#[test]
fn i13_empty_files_are_refused() {
    for text in ["", "\n", "# only a comment\n", "---\n", "---\n...\n", "\u{feff}"] {
        refused(
            &[("org.yaml", "a: !include e.yaml"), ("e.yaml", text)],
            "e.yaml:1:1",
            "`!include e.yaml` (org.yaml:1:4): empty document",
        );
        refused(&[("org.yaml", text)], "org.yaml:1:1", "empty document");
    }
}

#[test]
fn i14_a_template_without_directives_is_unchanged() {
    let text = "name: o\nversion: 1.10\nquoted: \"1.10\"\nlist: [yes, null, ~]\nblock: |\n  a\n  b\n";
    assert_eq!(
        resolved(&[("org.yaml", text)]),
        "{name: o, version: 1.10, quoted: \"1.10\", list: [yes, null, ~], block: \"a\\nb\\n\"}"
    );
}

#[test]
fn i15_paths_through_a_link_stay_as_written() {
    // The host follows the link; nested paths stay as they are written through it.
    let tree = resolved(&[
        ("org.yaml", "- !include dev-lead/workspace.yaml"),
        ("dev-lead/workspace.yaml", "name: lead\nchildren: [!include ./team/a.yaml]"),
        ("dev-lead/team/a.yaml", "name: a"),
    ]);
    assert_eq!(tree, "[{name: lead, children: [{name: a}]}]");
}

#[test]
fn i16_a_refused_link_is_an_error() {
    let mut host = Host::with(&[("org.yaml", "- !include link.yaml")])
        .and("link.yaml", Answer::Refused("the link leads out of the templates directory".into()));
    expect(
        host.resolve(),
        "org.yaml:1:3",
        "`!include link.yaml`: the link leads out of the templates directory",
    );
}

#[test]
fn i17_anchors_and_merge_keys_around_includes() {
    let files = [
        (
            "org.yaml",
            "base: &base {tier: 1, model: m}\nrole: &role !include r.yaml\nworkspaces:\n  - <<: *base\n    tier: 2\n    role: *role\n  - {<<: !include r.yaml, name: b}\n",
        ),
        ("r.yaml", "name: r\nby: org\n"),
    ];
    assert_eq!(
        resolved(&files),
        "{base: {tier: 1, model: m}, role: {name: r, by: org}, workspaces: \
         [{model: m, tier: 2, role: {name: r, by: org}}, {by: org, name: b}]}"
    );
}

#[test]
fn i18_directives_on_other_nodes_are_refused() {
    refused(&[("org.yaml", "x: !include [a, b]")], "org.yaml:1:4", "`!include` takes the path of one file");
    refused(&[("org.yaml", "x: !include {a: b}")], "org.yaml:1:4", "`!include` takes the path of one file");
    refused(&[("org.yaml", "x: !external text")], "org.yaml:1:4", "`!external` takes a mapping");
    refused(&[("org.yaml", "x: !external [a]")], "org.yaml:1:4", "`!external` takes a mapping");
    refused(&[("org.yaml", "!include a.yaml : x")], "org.yaml:1:1", "a mapping's key");
}

#[test]
fn i19_crlf_byte_order_marks_and_comments() {
    let tree = resolved(&[
        (
            "org.yaml",
            "\u{feff}# top\r\nworkspaces:\r\n     # odd\r\n  - !include a.yaml\r\n # odder\r\n  - name: b # c\r\n",
        ),
        ("a.yaml", "\u{feff}---\r\nname: a\r\n...\r\n"),
    ]);
    assert_eq!(tree, "{workspaces: [{name: a}, {name: b}]}");
}

#[test]
fn missing_files_are_requested_in_one_round() {
    let mut host = Host::with(&[
        ("org.yaml", "[!include a.yaml, !include b.yaml, !include a.yaml]"),
        ("a.yaml", "[!include c.yaml]"),
        ("b.yaml", "[!include c.yaml, !include d.yaml]"),
        ("c.yaml", "c"),
        ("d.yaml", "d"),
    ]);
    assert_eq!(shown(&host.resolve().unwrap()), "[[c], [c, d], [c]]");
    assert_eq!(host.rounds, 3);
}

#[test]
fn marks_name_the_file_that_a_node_comes_from() {
    let mut host = Host::with(&[("org.yaml", "ü: !include a.yaml"), ("a.yaml", "\n  k: \"v\"")]);
    let tree = host.resolve().unwrap();
    assert_eq!(tree.files, ["org.yaml", "a.yaml"]);
    let marks: Vec<_> =
        tree.nodes.iter().map(|node| (node.mark.file, node.mark.line, node.mark.column)).collect();
    // Root, its key, the grafted mapping, its key and value.
    assert_eq!(marks, [(0, 1, 1), (0, 1, 1), (1, 2, 3), (1, 2, 3), (1, 2, 6)]);
}

#[test]
fn external_tags_are_checked_and_kept() {
    let external = "!external {repo: o/r, ref: v1.0, path: a.yaml}";
    assert_eq!(resolved(&[("org.yaml", &format!("- {external}"))]), format!("[{external}]"));
    for (fields, missing) in [
        ("ref: v1, path: a", "repo"),
        ("repo: o/r, path: a", "ref"),
        ("repo: o/r, ref: v1", "path"),
        ("repo: o/r, ref: v1, path: ~", "path"),
        ("repo: '', url: h", "repo, ref, path"),
    ] {
        let text = format!("x:\n- !external {{{fields}}}");
        refused(&[("org.yaml", &text)], "org.yaml:2:3", &format!("are required; missing: {missing}"));
    }
    refused(
        &[("org.yaml", "!external {repo: [a], ref: v1, path: a}")],
        "org.yaml:1:18",
        "`repo` must be a text",
    );
    refused(
        &[("org.yaml", "!external {repo: a, ref: v1, path: a, url: {}}")],
        "org.yaml:1:44",
        "`url` must be a text",
    );
    let merged = resolved(&[("org.yaml", "- &d {ref: v1, path: p}\n- !external {<<: *d, repo: o/r}")]);
    assert_eq!(merged, "[{ref: v1, path: p}, !external {ref: v1, path: p, repo: o/r}]");
}
