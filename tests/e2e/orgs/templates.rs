//! Templates in directories: listing and includes.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

use serde_json::json;
use support::{Database, Server};

use super::{import, inline, template, templates_at, workspaces, write};

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let drawn = "  - name: B\n    spawning: false\n    children: [{name: C, required_env: [DEEP_KEY]}]\n";
    write(
        dir.path(),
        &[
            (
                "good/org.yaml",
                &format!(
                    "name: Good\ndescription: D\nrecommended_env: [X, {{any_of: [Y, Z]}}]\nworkspaces:\n  - name: A\n{drawn}"
                ),
            ),
            ("good/org.yml", "name: Not this one\n"),
            ("also/org.yml", "name: Also\n"),
            ("cycle/org.yaml", "name: C\nworkspaces: [!include org.yaml]\n"),
            ("typed/org.yaml", "name: C\nworkspaces: 3\n"),
            ("nothing/readme.md", "x"),
            ("half/.git/HEAD", "x"),
            ("file", "x"),
        ],
    );
    symlink("good", dir.path().join("link")).unwrap();
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    let listed = server.get("/org/templates").await.ok();
    assert_eq!(
        listed,
        json!([
            { "description": "", "dir": "also", "name": "Also", "recommended_env": [], "required_env": [], "workspaces": 0 },
            { "description": "D", "dir": "good", "name": "Good", "recommended_env": ["X", { "any_of": ["Y", "Z"] }],
              "required_env": ["DEEP_KEY"], "workspaces": 3 },
        ])
    );
    let all = server.get("/org/templates?include_broken=true").await.ok();
    let broken: BTreeMap<&str, (&str, &str)> = all
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| Some((it["dir"].as_str()?, (it["reason"].as_str()?, it["error"].as_str()?))))
        .collect();
    assert_eq!(broken.keys().copied().collect::<Vec<_>>(), ["cycle", "half", "typed"]);
    assert_eq!(broken["half"].0, "half_checkout");
    assert!(
        broken["cycle"].0 == "include_expansion_failed" && broken["cycle"].1.contains("org.yaml:2:14"),
        "{broken:?}"
    );
    assert!(broken["typed"].0 == "yaml_invalid" && broken["typed"].1.contains("needs a list"), "{broken:?}");
    drop(dir);
    assert_eq!(server.get("/org/templates").await.ok(), json!([]), "a missing directory is an empty list");
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_and_inline_templates_give_the_same_result() {
    let yaml = "name: T\nworkspaces:\n  - {name: 12, role: yes, spawning: on, tier: 2, max_concurrent_tasks: 0x3, runtime: MOCK, unknown: [1]}\n";
    let dir = template(&[("org.yml", yaml)]);
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    import(&server, json!({ "dir": "t" })).await.ok();
    let from_yaml = workspaces(&server).await.remove(0);
    server.delete(&format!("/workspaces/{}", from_yaml["id"].as_str().unwrap())).await.ok();
    let node = json!({ "name": 12, "role": "yes", "spawning": true, "tier": 2, "max_concurrent_tasks": 3, "runtime": "MOCK" });
    inline(&server, json!({ "name": "T", "workspaces": [node] })).await.ok();
    let from_json = workspaces(&server).await.remove(0);
    for field in ["name", "role", "tier", "max_concurrent_tasks", "runtime", "status"] {
        assert_eq!(from_yaml[field], from_json[field], "{field}");
    }
    assert_eq!((&from_json["name"], &from_json["runtime"]), (&json!("12"), &json!("mock")));
}

/// Name, `org.yaml`, further files, the position that the refusal names, and a part of its text.
type Case<'a> = (&'a str, String, Vec<(String, String)>, &'a str, &'a str);

/// Each template is refused with file, line and column.
#[tokio::test(flavor = "multi_thread")]
async fn includes_can_not_leave_the_template() {
    let chain = |length: usize| -> Vec<(String, String)> {
        let file = |n: usize| {
            (format!("f{n}.yaml"), format!("name: F{n}\nchildren:\n  - !include f{}.yaml\n", n + 1))
        };
        let mut files: Vec<_> = (1..length).map(file).collect();
        files.push((format!("f{length}.yaml"), "name: Last\n".to_owned()));
        files
    };
    let nested = format!("name: T\ndefaults: {}{}\n", "[".repeat(193), "]".repeat(193));
    let huge = format!("name: {}\n", "x".repeat(10_000_000));
    let bomb = "name: T\na: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n\
                c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n\
                e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]\n";
    let of = |include: &str| format!("name: T\nworkspaces:\n  - !include {include}\n");
    let cases: Vec<Case<'_>> = vec![
        ("up", of("../outside.yaml"), vec![], "org.yaml:3:5", "escapes root"),
        ("far up", of("../../etc/passwd"), vec![], "org.yaml:3:5", "escapes root"),
        ("absolute", of("/etc/passwd"), vec![], "org.yaml:3:5", "escapes root"),
        ("link", of("link.yaml"), vec![], "org.yaml:3:5", "link leads out"),
        (
            "credentials",
            of(".auth_token"),
            vec![(".auth_token".into(), "x".into())],
            "org.yaml:3:5",
            "credentials",
        ),
        ("variables", of(".env"), vec![(".env".into(), "A=1".into())], "org.yaml:3:5", "credentials"),
        ("missing", of("none.yaml"), vec![], "org.yaml:3:5", "none.yaml"),
        ("empty path", of("\"\""), vec![], "org.yaml:3:5", "empty path"),
        ("not a path", of("[a, b]"), vec![], "org.yaml:3:5", "!include"),
        (
            "cycle",
            of("a.yaml"),
            vec![("a.yaml".into(), "name: A\nchildren:\n  - !include a.yaml\n".into())],
            "a.yaml:3:5",
            "cycle",
        ),
        ("depth", of("f1.yaml"), chain(17), "f16.yaml:3:5", "max depth"),
        ("nesting", nested, vec![], "org.yaml:2:", "deep"),
        ("huge", of("huge.yaml"), vec![("huge.yaml".into(), huge)], "org.yaml:3:5", "1 MiB"),
        ("bomb", bomb.to_owned(), vec![], "org.yaml:", "nodes"),
        ("syntax", "name: T\nworkspaces: [\n".to_owned(), vec![], "org.yaml:", ""),
    ];
    let dir = tempfile::tempdir().unwrap();
    let templates = dir.path().join("templates");
    fs::write(dir.path().join("outside.yaml"), "name: Outside\n").unwrap();
    for (name, org, files, ..) in &cases {
        let root = templates.join(name);
        write(&root, &[("org.yaml", org)]);
        files.iter().for_each(|(path, text)| write(&root, &[(path, text)]));
        symlink("../../outside.yaml", root.join("link.yaml")).unwrap();
    }
    let server = Server::start(templates_at(Database::sqlite(), &templates)).await;
    for (name, _, _, at, fragment) in &cases {
        let answer = import(&server, json!({ "dir": name })).await;
        let text = if *name == "nesting" { "invalid org template" } else { "org template expansion failed" };
        assert_eq!(answer.error(400), text, "{name}");
        let detail = answer.json["detail"].as_str().unwrap();
        assert!(detail.starts_with(at) && detail.contains(fragment), "{name}: {detail}");
        assert!(!detail.contains(dir.path().to_str().unwrap()), "{name}: {detail}");
    }
    assert!(workspaces(&server).await.is_empty());
    // Includes may be nested sixteen deep and follow a link to a sibling template.
    write(&templates.join("fine"), &[("org.yaml", &of("f1.yaml"))]);
    chain(16).iter().for_each(|(path, text)| write(&templates.join("fine"), &[(path, text)]));
    write(&templates.join("linked"), &[("org.yaml", &of("lead/f16.yaml"))]);
    symlink("../fine", templates.join("linked/lead")).unwrap();
    assert_eq!(import(&server, json!({ "dir": "fine" })).await.ok()["count"], 16);
    assert_eq!(import(&server, json!({ "dir": "linked" })).await.ok()["count"], 1);
}

const EXTERNAL: &str = "name: Half\nworkspaces:\n  - name: A\n  - !external\n    repo: acme/team\n    ref: main\n    path: team.yaml\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_needs_another_repository_is_refused_as_a_whole() {
    let dir = template(&[("org.yaml", EXTERNAL)]);
    let defaults = "name: Half\ndefaults: !include d.yaml\nworkspaces: [{name: A}]\n";
    write(
        &dir.path().join("defaults"),
        &[("org.yaml", defaults), ("d.yaml", "!external {repo: a/b, ref: v1, path: d.yaml}\n")],
    );
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    for (name, at) in [("t", "org.yaml:4:5: `!external acme/team`"), ("defaults", "d.yaml:1:")] {
        let answer = import(&server, json!({ "dir": name })).await;
        assert_eq!(answer.error(400), "org template expansion failed");
        let detail = answer.json["detail"].as_str().unwrap();
        assert!(detail.starts_with(at) && detail.contains("is not fetched"), "{detail}");
    }
    assert!(workspaces(&server).await.is_empty());
    assert_eq!(server.get("/org/templates").await.ok(), json!([]));
    let all = server.get("/org/templates?include_broken=true").await.ok();
    let reasons: Vec<&str> =
        all.as_array().unwrap().iter().map(|it| it["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["include_expansion_failed"; 2]);
    assert_eq!(all[1]["workspaces"], 0);
}

/// The same 64 levels in both forms, and the same text for one more.
#[tokio::test(flavor = "multi_thread")]
async fn nesting_is_counted_in_workspaces() {
    let yaml = |levels: usize| {
        let level = |level: usize| {
            let (outer, inner) =
                ("    ".repeat(level), if level + 1 < levels { "children:" } else { "role: last" });
            format!("{outer}  - name: N{level}\n{outer}    runtime: mock\n{outer}    {inner}\n")
        };
        format!("name: T\nworkspaces:\n{}", (0..levels).map(level).collect::<String>())
    };
    let json = |levels: usize| {
        let node = |level: usize| json!({ "name": format!("N{level}"), "runtime": "mock" });
        let nested = (0..levels - 1).rev().fold(node(levels - 1), |below, level| {
            let mut node = node(level);
            node["children"] = json!([below]);
            node
        });
        json!({ "name": "T", "workspaces": [nested] })
    };
    let dir = template(&[("org.yaml", &yaml(64))]);
    for levels in [65, 80, 120] {
        write(&dir.path().join(levels.to_string()), &[("org.yaml", &yaml(levels))]);
    }
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    let made = import(&server, json!({ "dir": "t" })).await;
    assert_eq!((made.status.as_u16(), &made.json["count"]), (201, &json!(64)));
    let again = inline(&server, json(64)).await.ok();
    assert!(again["workspaces"].as_array().unwrap().iter().all(|it| it["skipped"] == true));
    let text = "workspaces may be nested 64 deep";
    for levels in [65, 80, 120] {
        for answer in
            [import(&server, json!({ "dir": levels.to_string() })).await, inline(&server, json(levels)).await]
        {
            assert_eq!(answer.error(400), "invalid org template", "{levels}");
            assert!(answer.json["detail"].as_str().unwrap().contains(text), "{}", answer.json);
        }
    }
    let deep = format!(r#"{{"template":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(server.post_raw("/org/import", deep).await.0, 400);
    server.get("/health").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_workspaces_with_unknown_keys_are_imported() {
    let unknown: String = (0..25).map(|key| format!("    x-{key}: 1\n")).collect();
    let nodes: String =
        (0..2_000).map(|number| format!("  - name: N{number}\n    rol: x\n{unknown}")).collect();
    let dir =
        template(&[("org.yaml", &format!("name: T\ndefaults: {{runtime: mock}}\nworkspaces:\n{nodes}"))]);
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    let made = import(&server, json!({ "dir": "t" })).await;
    assert_eq!(
        (made.status.as_u16(), &made.json["count"]),
        (201, &json!(2_000)),
        "{:?}",
        made.json["detail"]
    );
    assert_eq!(
        made.json["warnings"],
        json!([
            "org.yaml:5:5: a workspace has no field `rol`, which is ignored; did you mean `role`? (and in 1999 more places)",
        ])
    );
    assert_eq!(workspaces(&server).await.len(), 2_000);
}
