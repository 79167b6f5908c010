//! Limits, and that templates which exceed them are refused at little cost.

use isomer_sdk::Answer;

use crate::support::{Host, expect, refused, resolved, shown};

fn bytes(text: impl Into<Vec<u8>>) -> Answer {
    Answer::Bytes(text.into())
}

#[test]
fn large_files_and_other_encodings_are_refused() {
    let large = |length: usize| {
        Host::with(&[("org.yaml", "!include l.yaml")]).and("l.yaml", bytes("x".repeat(length)))
    };
    large(1 << 20).resolve().unwrap();
    expect(
        large((1 << 20) + 1).resolve(),
        "l.yaml:1:1",
        "`!include l.yaml` (org.yaml:1:1): the file is larger than 1 MiB",
    );
    let mut host =
        Host::with(&[("org.yaml", "- !include b.yaml")]).and("b.yaml", bytes(*b"a: 1\n\xc3\xbc: \xff"));
    expect(host.resolve(), "b.yaml:2:4", "not UTF-8");
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |depth: usize| format!("{}x{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    let too_deep = "nested more than 192 deep; workspaces may be nested 64 deep";
    resolved(&[("org.yaml", &nested(192))]);
    refused(&[("org.yaml", &nested(194))], "org.yaml:1:193", too_deep);
    refused(&[("org.yaml", &nested(193))], "org.yaml:1:192", too_deep);
    // 96 levels here and 96 there.
    let outer = |inner: &str| format!("{}!include a.yaml{}", "[".repeat(96), inner);
    let host =
        |depth: usize| Host::with(&[("org.yaml", &outer(&"]".repeat(96))), ("a.yaml", &nested(depth))]);
    host(96).resolve().unwrap();
    expect(host(97).resolve(), "a.yaml:1:96", too_deep);
    refused(&[("org.yaml", &"[".repeat(100_000))], "org.yaml:1:256", "not YAML");
    refused(&[("org.yaml", &"- ".repeat(100_000))], "org.yaml:1:385", too_deep);
    // Flow mappings on one line are read ahead; the parser's own limit ends that.
    refused(&[("org.yaml", &"{a: ".repeat(10_000))], "org.yaml:1:1021", "not YAML");
}

#[test]
fn many_indicators_are_refused() {
    resolved(&[("org.yaml", &format!("a: '{}'", ",".repeat(159_999)))]);
    refused(&[("org.yaml", &format!("a: [{}", ",".repeat(159_999)))], "org.yaml:1:1", "more than 160000");
}

#[test]
fn many_nodes_are_refused() {
    let list = |items: usize| "- x\n".repeat(items);
    resolved(&[("org.yaml", &list(199_999))]);
    refused(&[("org.yaml", &list(200_001))], "org.yaml:200001:3", "more than 200000 nodes");
    let twice = |items: usize| {
        Host::with(&[("org.yaml", "[!include a.yaml, !include a.yaml]")]).and("a.yaml", bytes(list(items)))
    };
    twice(99_998).resolve().unwrap();
    expect(twice(99_999).resolve(), "a.yaml:1:1", "expands to more than 200000 nodes");
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let problem = Host::with(&[("org.yaml", &bomb)]).resolve().unwrap_err();
    assert!(problem.message.contains("more than 200000 nodes"), "{problem:?}");

    let text = format!("a: &a {}\nb: [{}]", "x".repeat(1_000_000), ["*a"; 9].join(", "));
    let problem = Host::with(&[("org.yaml", &text)]).resolve().unwrap_err();
    assert!(problem.message.contains("more than 8 MiB of text"), "{problem:?}");

    let keys: Vec<String> = (0..20_000).map(|key| format!("k{key}: 1")).collect();
    let text = format!("a: &a {{{}}}\nb: {{<<: [{}]}}", keys.join(", "), vec!["*a"; 100_000].join(","));
    let problem = Host::with(&[("org.yaml", &text)]).resolve().unwrap_err();
    assert!(problem.message.contains("bring in too much"), "{problem:?}");
}

#[test]
fn include_bombs_are_refused() {
    // 4^16 expansions of seventeen files.
    let mut host = Host::with(&[("org.yaml", "[!include f1, !include f1, !include f1, !include f1]")]);
    for file in 1..=16 {
        let below = format!("!include f{}", file + 1);
        let text = if file == 16 { "x".to_owned() } else { format!("[{}]", [below.as_str(); 4].join(", ")) };
        host = host.and(&format!("f{file}"), bytes(text));
    }
    let problem = host.resolve().unwrap_err();
    assert!(problem.message.contains("more than 4096 includes"), "{problem:?}");
}

#[test]
fn many_expansions_are_refused() {
    let many =
        |count: usize| Host::with(&[("org.yaml", &"- !include a.yaml\n".repeat(count)), ("a.yaml", "x")]);
    many(4_096).resolve().unwrap();
    expect(many(4_097).resolve(), "org.yaml:4097:3", "more than 4096 includes");
    let different = |count: usize| {
        let list: String = (0..count).map(|file| format!("- !include {file}.yaml\n")).collect();
        let mut host = Host::with(&[("org.yaml", &list)]);
        for file in 0..count {
            host = host.and(&format!("{file}.yaml"), bytes("x"));
        }
        host
    };
    let mut host = different(500);
    assert_eq!(shown(&host.resolve().unwrap()).matches('x').count(), 500);
    assert_eq!(host.rounds, 2);
}
