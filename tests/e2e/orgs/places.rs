//! Errors and warnings name the file, line and column.

use serde_json::{Value, json};
use support::{Answer, Database, Server};

use super::{archive, import, template, templates_at, upload, workspaces, write};

async fn sent(server: &Server, files: &[(&str, &str)]) -> Answer {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
    upload(server, "", archive(&files)).await
}

fn warnings(answer: &Answer) -> Vec<&str> {
    answer.json["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_a_template_names_its_place() {
    let server = Server::start(Database::sqlite()).await;
    let node = |fields: &str| format!("name: T\nworkspaces:\n  - name: A\n    {fields}\n");
    // Refused as a whole.
    for (org, detail) in [
        (node("name2: x\n    role: !secret x"), "org.yaml:5:11: workspaces[0].role: unknown tag `!secret`"),
        ("name: !secret x\n".to_owned(), "org.yaml:1:7: name: unknown tag `!secret`"),
        ("!secret name: x\n".to_owned(), "org.yaml:1:1: name: unknown tag `!secret`"),
        (node("unknown: {a: [!env HOME]}"), "org.yaml:4:19: workspaces[0].unknown.a[0]: unknown tag `!env`"),
        (node("tier: !!number 3"), "org.yaml:4:11: workspaces[0].tier: unknown tag `!!number`"),
        (node("role: [x]"), "org.yaml:4:11: workspaces[0].role: needs a text"),
        (node("plugins: [[x]]"), "org.yaml:4:15: workspaces[0].plugins[0]: needs a mapping"),
        (
            node("channels: [{config: {a: {}}}]"),
            "org.yaml:4:29: workspaces[0].channels[0].config.a: needs a text",
        ),
        (node("required_env: [{any_of: []}]"), "org.yaml:4:20: workspaces[0].required_env[0]: needs a name"),
        (format!("name: {}\n", "x".repeat(300)), "org.yaml:1:7: name: 300 bytes are too long"),
    ] {
        let answer = sent(&server, &[("org.yaml", &org)]).await;
        assert_eq!(answer.error(400), "invalid org template", "{org}");
        let found = answer.json["detail"].as_str().unwrap();
        assert!(found.starts_with(detail), "{found}\n{detail}");
    }
    // Imported up to the node.
    for (fields, place, error) in [
        ("tier: 7", "org.yaml:4:11", "workspace A: tier must be 1, 2, 3 or 4, not 7"),
        ("workspace_dir: etc", "org.yaml:4:20", "workspace A: workspace_dir must be an absolute path"),
        (
            "workspace_access: all",
            "org.yaml:4:23",
            "workspace A: workspace_access=\"all\" — must be 'none', 'read_only', or 'read_write'",
        ),
        (
            "external: true\n    url: http://169.254.169.254/",
            "org.yaml:5:10",
            "workspace A: url targets a blocked address: link-local address (cloud metadata endpoint)",
        ),
        ("role: r\n    model: \"a\\nb\"", "org.yaml:5:12", "workspace A: invalid model"),
    ] {
        let answer = sent(&server, &[("org.yaml", &node(fields))]).await;
        assert_eq!((answer.status.as_u16(), &answer.json["error"]), (207, &json!(error)));
        assert_eq!(answer.json["detail"], format!("{place}: {error}"));
    }
    let defaults = "name: T\ndefaults: {tier: 9}\nworkspaces: [!include roles/a.yaml, {name: \"\"}]\n";
    let answer = sent(&server, &[("org.yaml", defaults), ("roles/a.yaml", "name: A\n")]).await;
    assert_eq!(answer.json["detail"], "org.yaml:2:18: workspace A: tier must be 1, 2, 3 or 4, not 9");
    let unnamed = "name: T\nworkspaces:\n  - !include roles/a.yaml\n";
    let answer = sent(&server, &[("org.yaml", unnamed), ("roles/a.yaml", "\nrole: x\nname: ''\n")]).await;
    assert_eq!(answer.json["error"], "workspace : invalid name");
    assert_eq!(answer.json["detail"], "roles/a.yaml:3:7: workspace : invalid name");
    // Settings that are missing.
    let needy = "name: T\nrequired_env: [A_KEY, {any_of: [B_KEY, C_KEY]}]\nworkspaces: [!include a.yaml]\n";
    let own = "name: A\nrequired_env:\n  - A_KEY\n  - D_KEY\n";
    let answer = sent(&server, &[("org.yaml", needy), ("a.yaml", own)]).await;
    assert_eq!(answer.error(412), "missing required environment variables");
    assert_eq!(
        answer.json["detail"],
        "org.yaml:2:16: A_KEY is not set; a.yaml:4:5: D_KEY is not set; org.yaml:2:23: B_KEY or C_KEY is not set"
    );
    assert!(workspaces(&server).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_is_reported_with_its_place() {
    let server = Server::start(Database::sqlite()).await;
    let org = "name: T\nDefaults: {}\nworkspaces:\n  - name: A\n    runtme: mock\n    chidren: [{name: B}]\n    \
               files_dir: Lead\n    initial_prompt_file: Prompt.md\n    schedules:\n      \
               - {name: daily, cron_expr: \"@daily\", prompt: go}\n      \
               - {name: local, cron_expr: 0 9 * * 1, timezone: Local, prompt: go}\n---\nname: U\n";
    let answer = sent(&server, &[("org.yaml", org), ("lead/prompt.md", "p")]).await;
    assert_eq!((answer.status.as_u16(), &answer.json["count"]), (201, &json!(1)));
    let found = warnings(&answer);
    for warning in [
        "org.yaml:2:1: the template has no field `Defaults`, which is ignored; did you mean `defaults`?",
        "org.yaml:5:5: a workspace has no field `runtme`, which is ignored; did you mean `runtime`?",
        "org.yaml:6:5: a workspace has no field `chidren`, which is ignored; did you mean `children`?",
        "org.yaml:7:16: files_dir `Lead` is not used: missing file; `lead` differs only in case or Unicode form",
        "org.yaml:8:26: initial_prompt_file `Lead/Prompt.md` is not used: missing file; `lead/prompt.md` differs",
        "org.yaml:10:34: the schedule `daily` of A is left out: `@daily` is no cron expression: it needs five fields",
        "org.yaml:11:34: the schedule `local` of A is left out: `Local` is no time zone",
        "org.yaml:13:1: a second document begins here",
    ] {
        assert!(found.iter().any(|it| it.starts_with(warning)), "{warning}\n{found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_include_that_differs_only_in_case_or_normal_form_names_the_file() {
    let dir = template(&[
        ("org.yaml", "name: T\nworkspaces:\n  - !include Roles/Lead.yaml\n"),
        ("roles/lead.yaml", "name: A\n"),
    ]);
    write(
        &dir.path().join("u"),
        &[
            ("org.yaml", "name: T\nworkspaces: [!include re\u{301}sume\u{301}.yaml]\n"),
            ("r\u{e9}sum\u{e9}.yaml", "name: A\n"),
        ],
    );
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    for (name, file) in [("t", "roles/lead.yaml"), ("u", "r\u{e9}sum\u{e9}.yaml")] {
        let answer = import(&server, json!({ "dir": name })).await;
        assert_eq!(answer.error(400), "org template expansion failed");
        let detail = answer.json["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("missing file; `{file}` differs only in case")), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_written_as_yaml_is_read() {
    let server = Server::start(Database::sqlite()).await;
    let org = r#"{"name": "T", "workspaces": [{"name": "Rocket \ud83d\ude80", "role": "half \ud83d", "runtime": "mock"}]}"#;
    assert_eq!(sent(&server, &[("org.yaml", org)]).await.status, 201);
    let made = workspaces(&server).await;
    assert_eq!((&made[0]["name"], &made[0]["role"]), (&json!("Rocket 🚀"), &json!("half \u{fffd}")));
}
