//! The commands of `isomer org`.

use std::{fs, process::Output};

use support::{Database, Server, Start, program};

fn isomer(server: &Server, arguments: &[&str]) -> Output {
    program().arg("org").args(arguments).env("ISOMER_URL", &server.url).output().expect("it runs")
}

#[track_caller]
fn says(output: &Output, succeeds: bool, texts: &[&str]) -> String {
    let all =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), succeeds, "{all}");
    for text in texts {
        assert!(all.contains(text), "no `{text}` in:\n{all}");
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_is_imported_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("team");
    fs::create_dir_all(here.join("roles")).unwrap();
    fs::write(here.join("org.yaml"), "name: Team\ndefaults: {runtime: mock}\nworkspaces:\n  - name: Lead\n    children:\n      - !include roles/a.yaml\n      - name: B\n").unwrap();
    fs::write(here.join("roles/a.yaml"), "name: A\n").unwrap();
    let templates = dir.path().to_str().unwrap();
    let server = Server::start(Start::from(Database::sqlite()).env("ORG_TEMPLATES_DIR", templates)).await;
    let org = |arguments: &[&str]| isomer(&server, arguments);
    let here = here.to_str().unwrap();

    says(&org(&["templates"]), true, &["DIR", "team", "Team", "3"]);
    let rehearsed = says(&org(&["import", here, "--dry-run"]), true, &["2 files", "Nothing was changed"]);
    assert!(
        rehearsed.contains("+ Lead\n├─ + A\n└─ + B\nTeam: 3 would be created (+), 0 kept (=), 0 removed (-)"),
        "{rehearsed}"
    );
    let made = says(&org(&["import", here]), true, &["Team: 3 created (+), 0 kept (=)"]);
    assert!(
        made.contains("+ Lead  (mock, online)\n├─ + A  (mock, online)\n└─ + B  (mock, online)"),
        "{made}"
    );
    // The server has the same template, under its own name.
    says(
        &org(&["import", "team"]),
        true,
        &["an org template of the server", "= A", "0 created (+), 3 kept (=)"],
    );
    says(&org(&["import", "team", "--mode", "reconcile"]), true, &["3 kept (=), 0 removed"]);

    says(
        &org(&["delete", "team"]),
        false,
        &["Team was not removed: this removes Lead and all workspaces below. Remove them with --confirm"],
    );
    says(&org(&["delete", here, "--confirm"]), true, &["Lead is removed, with 2 workspaces below it"]);
    says(&org(&["delete", "team", "--confirm"]), false, &["Team has no workspaces to remove"]);

    let one = dir.path().join("one.yaml");
    fs::write(&one, "name: One\nworkspaces: [{name: Alone, runtime: mock}]\n").unwrap();
    says(&org(&["import", one.to_str().unwrap()]), true, &["1 file", "+ Alone  (mock, online)"]);
    let json = dir.path().join("two.json");
    fs::write(&json, r#"{"name": "Two", "workspaces": [{"name": "Twin", "runtime": "mock", "tier": 1}]}"#)
        .unwrap();
    let answer = says(&org(&["import", json.to_str().unwrap(), "--json"]), true, &["\"count\": 1"]);
    assert!(answer.starts_with('{'), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn template_errors_name_their_position() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let server = Server::start(Database::sqlite()).await;
    let org = |arguments: &[&str]| isomer(&server, arguments);
    says(&org(&["templates"]), true, &["The server has no org templates"]);
    says(&org(&["import", "nowhere"]), false, &["org template not found"]);
    says(&org(&["import", "./nowhere"]), false, &["./nowhere"]);
    let file = write("a.yaml", "name: T\nworkspaces:\n  - !include b.yaml\n");
    says(&org(&["import", &file]), false, &["org template expansion failed: org.yaml:3:5: "]);
    let file = write("a.yaml", "name: T\nrequired_env: [A_KEY]\n");
    says(
        &org(&["import", &file]),
        false,
        &["missing required environment variables\n  A_KEY\n", "POST /settings/secrets"],
    );
    says(&org(&["import", &file, "--dry-run"]), true, &["before these global secrets are set: A_KEY"]);
    let file = write("a.yaml", "name: T\nworkspaces: [{name: A, runtime: mock}, {name: B, tier: 9}]\n");
    says(
        &org(&["import", &file]),
        false,
        &["+ A", "workspace B: tier must be 1, 2, 3 or 4, not 9. The workspaces after it were not created"],
    );
}
