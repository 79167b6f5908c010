//! Requests for an import: JSON and archives, their options, and what is refused.

use serde_json::{Value, json};
use support::{Answer, Database, Server};

use super::{
    archive, import, import_events, inline, template, templates_at, upload, with_fixtures, workspaces, write,
};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_import_requests_are_explained() {
    let server = with_fixtures(Database::sqlite()).await;
    for (body, status, text) in [
        (json!({}), 400, "provide 'dir' or 'template'"),
        (json!({ "dir": "" }), 400, "provide 'dir' or 'template'"),
        (json!({ "template": {} }), 400, "provide 'dir' or 'template'"),
        (json!({ "template": { "workspaces": [] } }), 400, "provide 'dir' or 'template'"),
        (json!({ "template": [] }), 400, "invalid request body"),
        (json!({ "dir": 1 }), 400, "invalid request body"),
        (json!({ "dir": "../orgs/acme" }), 400, "invalid org directory"),
        (json!({ "dir": "/etc" }), 400, "invalid org directory"),
        (json!({ "dir": "." }), 400, "invalid org directory"),
        (json!({ "dir": "a/../../x" }), 400, "invalid org directory"),
        (json!({ "dir": "nowhere" }), 404, "org template not found"),
        (json!({ "dir": "acme/sales" }), 404, "org template not found"),
        (json!({ "dir": "broken/cycle" }), 400, "org template expansion failed"),
        (json!({ "dir": "broken/syntax" }), 400, "org template expansion failed"),
        (json!({ "dir": "broken/type" }), 400, "invalid org template"),
        (
            json!({ "template": { "name": "T", "workspaces": [{ "name": "A", "tier": "3" }] } }),
            400,
            "invalid org template",
        ),
        (json!({ "template": { "name": "T", "workspaces": {} } }), 400, "invalid org template"),
        (
            json!({ "template": { "name": "T", "required_env": [{ "any_of": [] }] } }),
            400,
            "invalid org template",
        ),
    ] {
        let answer = import(&server, body.clone()).await;
        assert_eq!(answer.error(status), text, "{body}");
        assert!(!answer.json.to_string().contains("nowhere"), "the error does not repeat the requested name");
    }
    let type_error = import(&server, json!({ "dir": "broken/type" })).await;
    let detail = type_error.json["detail"].as_str().unwrap();
    assert_eq!(detail, "org.yaml:4:11: workspaces[0].tier: needs a whole number, without quotes");
    let at =
        json!({ "name": "T", "workspaces": [{ "name": "A", "children": [{ "canvas": { "x": "1" } }] }] });
    let detail = inline(&server, at).await.json["detail"].clone();
    assert_eq!(detail, "workspaces[0].children[0].canvas.x: needs a number, without quotes");

    let many: Vec<Value> = (0..2_001).map(|number| json!({ "name": format!("N{number}") })).collect();
    let answer = inline(&server, json!({ "name": "T", "workspaces": many })).await;
    assert_eq!(answer.error(400), "invalid org template");
    assert!(answer.json["detail"].as_str().unwrap().contains("2001 workspaces are too many: 2000"));
    let large = json!({ "template": { "name": "T", "description": "x".repeat(4 << 20) } });
    assert_eq!(import(&server, large).await.error(400), "invalid request body");
    assert_eq!(import_events(&server).await, [], "a refused import has no events");
    assert!(workspaces(&server).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_and_dry_run_are_read_from_query_and_body() {
    let server = Server::start(Database::sqlite()).await;
    let template = json!({ "name": "T", "workspaces": [{ "name": "A", "runtime": "mock" }] });
    let send = async |query: &str, options: Value| {
        let mut body = json!({ "template": template });
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        server.post(&format!("/org/import{query}"), body).await
    };
    for (query, options) in [
        ("?dry_run=true&mode=reconcile", json!({})),
        ("", json!({ "dry_run": true, "mode": "reconcile" })),
        ("?dry_run=true", json!({ "dry_run": true, "mode": "reconcile" })),
    ] {
        let planned = send(query, options).await.ok();
        assert_eq!((&planned["dry_run"], &planned["mode"]), (&json!(true), &json!("reconcile")), "{query}");
    }
    for (query, options, text) in [
        ("?mode=replace", json!({}), "mode must be 'merge' or 'reconcile'"),
        ("", json!({ "mode": "replace" }), "mode must be 'merge' or 'reconcile'"),
        ("?mode=merge", json!({ "mode": "reconcile" }), "mode differs between query and body"),
        ("?dry_run=yes", json!({}), "dry_run must be 'true' or 'false'"),
        ("?dry_run=false", json!({ "dry_run": true }), "dry_run differs between query and body"),
        ("", json!({ "dry_run": "yes" }), "invalid request body"),
    ] {
        assert_eq!(send(query, options).await.error(400), text, "{query}");
    }
    assert!(workspaces(&server).await.is_empty() && import_events(&server).await.is_empty());
    send("?mode=merge", json!({})).await;
    assert_eq!(import_events(&server).await[0].1["mode"], "merge");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_about_long_names_are_short() {
    let long = "x".repeat(300_000);
    let agent = format!("  - name: A\n    initial_prompt_file: {long}.md\n    files_dir: {long}\n");
    let dir =
        template(&[("org.yaml", &format!("name: T\ndefaults: {{runtime: mock}}\nworkspaces:\n{agent}"))]);
    write(&dir.path().join("renamed"), &[("ORG.yml", "name: T\n")]);
    write(&dir.path().join("plain"), &[("readme.md", "")]);
    let key = format!("name: T\ndefaults:\n  category_routing:\n    {}: {{}}\n", "x".repeat(1_000));
    write(&dir.path().join("key"), &[("org.yaml", &key)]);
    write(
        &dir.path().join("include"),
        &[("org.yaml", &format!("name: T\nworkspaces: !include {long}.yaml\n"))],
    );
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    let detail = |answer: &Answer| {
        let detail = answer.json["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.len() < 5_000, "{} bytes", detail.len());
        detail
    };
    let renamed = import(&server, json!({ "dir": "renamed" })).await;
    assert_eq!(renamed.error(404), "org template not found");
    assert_eq!(detail(&renamed), "there is no org.yaml; `ORG.yml` has to be renamed");
    assert_eq!(
        import(&server, json!({ "dir": "plain" })).await.json,
        json!({ "error": "org template not found" })
    );
    let key = import(&server, json!({ "dir": "key" })).await;
    assert_eq!(key.error(400), "invalid org template");
    assert!(
        detail(&key).starts_with("org.yaml:4:") && detail(&key).contains("defaults.category_routing.xxx"),
        "{}",
        key.json
    );
    detail(&import(&server, json!({ "dir": "include" })).await);
    let deep = (0..60)
        .fold(json!({ "name": "N", "tier": "3" }), |below, _| json!({ "name": "N", "children": [below] }));
    let deep = inline(&server, json!({ "name": "T", "workspaces": [deep] })).await;
    assert!(
        detail(&deep).starts_with("workspaces[0].children[0]") && detail(&deep).contains("…"),
        "{}",
        deep.json
    );
    assert!(detail(&deep).contains(".children[0].tier: "), "{}", deep.json);
    let made = import(&server, json!({ "dir": "t" })).await;
    assert!(made.json["warnings"].to_string().len() < 5_000, "{}", made.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_files_with_further_documents_some_are_named() {
    let name = |number: usize| format!("{}/{number}.yaml", "d".repeat(90));
    let includes: String = (0..60).map(|number| format!("  - !include {}\n", name(number))).collect();
    let org = format!("name: T\ndefaults: {{runtime: mock}}\nworkspaces:\n{includes}");
    let paths: Vec<String> = (0..60).map(name).collect();
    let contents: Vec<String> = (0..60).map(|number| format!("name: N{number}\n---\nname: X\n")).collect();
    let mut files = vec![("org.yaml", org.as_bytes())];
    files.extend(paths.iter().map(String::as_str).zip(contents.iter().map(String::as_bytes)));
    let server = Server::start(Database::sqlite()).await;
    let made = upload(&server, "", archive(&files)).await.ok();
    let warnings = made["warnings"].as_array().unwrap();
    let further = warnings.iter().filter(|it| it.as_str().unwrap().contains("a second document begins here"));
    assert_eq!(further.count(), 50);
    assert!(warnings.contains(&json!("and 10 more remarks of this kind")), "{warnings:?}");
    // A file may have any name, also one that sounds like another error.
    let org = b"name: T\nworkspaces: !include 'workspaces may be nested 64 deep'\n";
    let named = upload(&server, "", archive(&[("org.yaml", org)])).await;
    assert_eq!(named.error(400), "org template expansion failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_can_be_uploaded_as_an_archive() {
    let server = Server::start(Database::sqlite()).await;
    let send = async |query: &str, archive| upload(&server, query, archive).await;
    let org: &[u8] = b"name: Sent\ndefaults: {runtime: mock}\nworkspaces: [!include roles/a.yaml]\n";
    let whole = archive(&[("org.yaml", org), ("roles/a.yaml", b"name: A\nrole: From afar\n")]);
    let dry_run = send("?dry_run=true", whole.clone()).await;
    assert_eq!((dry_run.status.as_u16(), workspaces(&server).await.len()), (200, 0));
    let made = send("", whole.clone()).await;
    assert_eq!((made.status.as_u16(), &made.json["count"]), (201, &json!(1)));
    assert_eq!(workspaces(&server).await[0]["role"], "From afar");
    let again = send("?mode=reconcile", whole).await.ok();
    assert_eq!((&again["workspaces"][0]["skipped"], &again["mode"]), (&json!(true), &json!("reconcile")));

    let missing = send("", archive(&[("org.yaml", org)])).await;
    assert_eq!(missing.error(400), "org template expansion failed");
    assert!(missing.json["detail"].as_str().unwrap().starts_with("org.yaml:3:14"), "{}", missing.json);
    for (bytes, detail) in [
        (b"nonsense".to_vec(), "can't be read"),
        (archive(&[("readme.md", b"x")]), "no org.yaml at the top of the archive"),
        (archive(&[("acme/a.md", b"x"), ("acme/Org.YAML", org)]), "archive; `Org.YAML` has to be renamed"),
    ] {
        let refused = send("", bytes).await;
        assert_eq!(refused.error(400), "invalid org archive");
        assert!(refused.json["detail"].as_str().unwrap().contains(detail), "{}", refused.json);
    }
    let refused = send("", vec![0; (32 << 20) + 1]).await;
    assert_eq!(refused.error(413), "request body too large");
}
