//! The commands of `isomer org`.

use std::{fs, process::Output};

use support::{Database, Server, Start, assert_output, program};

fn isomer(server: &Server, arguments: &[&str]) -> Output {
    program().arg("org").args(arguments).env("ISOMER_URL", &server.url).output().expect("it runs")
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

    assert_output(&org(&["templates"]), true, &["DIR", "team", "Team", "3"]);
    let dry_run =
        assert_output(&org(&["import", here, "--dry-run"]), true, &["2 files", "Nothing was changed"]);
    assert!(
        dry_run.contains("+ Lead\n├─ + A\n└─ + B\nTeam: 3 would be created (+), 0 kept (=), 0 removed (-)"),
        "{dry_run}"
    );
    let made = assert_output(&org(&["import", here]), true, &["Team: 3 created (+), 0 kept (=)"]);
    assert!(
        made.contains("+ Lead  (mock, online)\n├─ + A  (mock, online)\n└─ + B  (mock, online)"),
        "{made}"
    );
    // The server has the same template in ORG_TEMPLATES_DIR.
    assert_output(
        &org(&["import", "team"]),
        true,
        &["an org template of the server", "= A", "0 created (+), 3 kept (=)"],
    );
    assert_output(&org(&["import", "team", "--mode", "reconcile"]), true, &["3 kept (=), 0 removed"]);

    assert_output(
        &org(&["delete", "team"]),
        false,
        &["Team was not removed: this removes Lead and all workspaces below. Remove them with --confirm"],
    );
    assert_output(
        &org(&["delete", here, "--confirm"]),
        true,
        &["Lead is removed, with 2 workspaces below it"],
    );
    assert_output(&org(&["delete", "team", "--confirm"]), false, &["Team has no workspaces to remove"]);

    let one = dir.path().join("one.yaml");
    fs::write(&one, "name: One\nworkspaces: [{name: Alone, runtime: mock}]\n").unwrap();
    assert_output(&org(&["import", one.to_str().unwrap()]), true, &["1 file", "+ Alone  (mock, online)"]);
    let json = dir.path().join("two.json");
    fs::write(&json, r#"{"name": "Two", "workspaces": [{"name": "Twin", "runtime": "mock", "tier": 1}]}"#)
        .unwrap();
    let answer = assert_output(&org(&["import", json.to_str().unwrap(), "--json"]), true, &["\"count\": 1"]);
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
    assert_output(&org(&["templates"]), true, &["The server has no org templates"]);
    assert_output(&org(&["import", "nowhere"]), false, &["org template not found"]);
    assert_output(&org(&["import", "./nowhere"]), false, &["./nowhere"]);
    let file = write("a.yaml", "name: T\nworkspaces:\n  - !include b.yaml\n");
    assert_output(&org(&["import", &file]), false, &["org template expansion failed: org.yaml:3:5: "]);
    let file = write("a.yaml", "name: T\nrequired_env: [A_KEY]\n");
    assert_output(
        &org(&["import", &file]),
        false,
        &[
            "missing required environment variables: org.yaml:2:16: A_KEY is not set\n  A_KEY\n",
            "POST /settings/secrets",
        ],
    );
    assert_output(
        &org(&["import", &file, "--dry-run"]),
        true,
        &["before these global secrets are set: A_KEY"],
    );
    let file = write("a.yaml", "name: T\nworkspaces: [{name: A, runtime: mock}, {name: B, tier: 9}]\n");
    assert_output(
        &org(&["import", &file]),
        false,
        &[
            "+ A",
            "org.yaml:2:56: workspace B: tier must be 1, 2, 3 or 4, not 9. The workspaces after it were not created",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_part_of_a_template_is_skipped_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("node_modules/left-pad")).unwrap();
    fs::write(at("node_modules/left-pad/index.js"), "x").unwrap();
    fs::write(at("org.yaml"), "name: T\nworkspaces: [{name: A, runtime: mock, Tier: 1}]\n").unwrap();
    std::os::unix::fs::symlink("me@host.1:2", at(".#org.yaml")).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), mode).unwrap();
    let server = Server::start(Database::sqlite()).await;
    let output = isomer(&server, &["import", dir.path().to_str().unwrap()]);
    let shown = assert_output(&output, true, &["1 created (+)", "did you mean `tier`?"]);
    for part in ["1 file\n", ".#org.yaml is a link to a file that doesn't exist", "pipe is a FIFO"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let file = at("big.json");
    fs::write(&file, vec![b' '; 5 << 20]).unwrap();
    assert_output(&isomer(&server, &["import", file.to_str().unwrap()]), false, &["5 MiB", "4 MiB"]);
    let output = isomer(&server, &["import", at("pipe").to_str().unwrap()]);
    assert_output(&output, false, &["it is a FIFO"]);
}
