//! `isomer doctor`: what a deployment has open.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::Output,
};

use reqwest::Method;
use serde_json::{Value, json};
use support::{Components, Database, Server, Start, assert_output, program};

const TOKEN: &str = "9f86d081884c7d659a2feaa0c55ad015";
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The command with the settings of a closed deployment, and these.
fn doctor(server: &Server, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = program();
    command.arg("doctor").args(arguments);
    command.env("ISOMER_URL", &server.url).env("DATA_DIR", server.data.path()).env("BIND_ADDR", "127.0.0.1");
    command.env("MOLECULE_ENV", "production").env("ADMIN_TOKEN", TOKEN).env("SECRETS_ENCRYPTION_KEY", KEY);
    command.envs(variables.iter().copied()).output().expect("it runs")
}

async fn closed() -> Server {
    let start = Start::from(Database::sqlite()).env("ADMIN_TOKEN", TOKEN).env("SECRETS_ENCRYPTION_KEY", KEY);
    let server = Server::start(start.env("MOLECULE_ENV", "production")).await;
    chmod(&server, 0o700);
    server
}

fn chmod(server: &Server, mode: u32) {
    fs::set_permissions(server.data.path(), Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_deployment_has_nothing_open() {
    let server = closed().await;
    let all = assert_output(
        &doctor(&server, &[], &[]),
        true,
        &["ok    mode", "ok    ADMIN_TOKEN", "ok    DATA_DIR", "ok    guests", "ok    tokens", "ok    tiers"],
    );
    assert!(!all.contains(TOKEN) && !all.contains("open "), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_named_with_what_closes_it() {
    let server = closed().await;
    chmod(&server, 0o755);
    let component = server.data.path().join("mine.wasm");
    fs::write(&component, &Components::get().classifier).unwrap();
    let mut push = program();
    push.args(["guest", "push", "mine"]).arg(&component).arg("--activate");
    assert_output(
        &push.env("ISOMER_URL", &server.url).env("ADMIN_TOKEN", TOKEN).output().unwrap(),
        true,
        &[],
    );
    let post = |path: &'static str, body: Value| server.ask(TOKEN, Method::POST, path, Some(body));
    post("/org/tokens", json!({ "name": "for \u{1b}[31mCI" })).await.ok();
    post("/workspaces", json!({ "name": "Root", "runtime": "claude-code", "tier": 4 })).await.ok();
    let all = assert_output(
        &doctor(&server, &[("EXTERNAL_PLATFORM_URL", "http://isomer.example")], &[]),
        false,
        &[
            "open  EXTERNAL_PLATFORM_URL",
            "chmod 700",
            "read their messages: mine",
            "administrator's rights: for \\u{1b}[31mCI",
            "root's rights on their machine: Root",
            "2 things are open",
        ],
    );
    assert!(!all.contains('\u{1b}'), "{all}");

    let output = doctor(&server, &[("ADMIN_TOKEN", "secret")], &["--json"]);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = |subject: &str| {
        let findings = printed["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["subject"] == subject).unwrap().clone()
    };
    assert_eq!(found("ADMIN_TOKEN")["level"], "open");
    let refused = found("server");
    let text = refused["text"].as_str().unwrap();
    assert!(refused["level"] == "open" && text.contains("does not accept this ADMIN_TOKEN"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_runs_with_other_settings_is_found_out() {
    let server = Server::start(Database::sqlite()).await;
    assert_output(
        &doctor(&server, &[], &[]),
        false,
        &["open  server", "runs with other settings than these"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_rest_is_looked_at() {
    let data = tempfile::tempdir().unwrap();
    let mut command = program();
    command.arg("doctor").env("DATA_DIR", data.path()).env("ISOMER_URL", "http://127.0.0.1:1");
    let output = command.output().unwrap();
    assert_output(&output, false, &["open  mode", "note  server", "was not asked", "SECRETS_ENCRYPTION_KEY"]);
}
