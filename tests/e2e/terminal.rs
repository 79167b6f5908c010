//! The commands of `isomer guest`.

use std::{fs, process::Output};

use support::{Components, Database, Server, Start, program};

fn isomer(server: Option<&Server>, arguments: &[&str]) -> Output {
    let mut program = program();
    program.arg("guest").args(arguments);
    if let Some(server) = server {
        program.env("ISOMER_URL", &server.url);
    }
    program.output().expect("the program runs")
}

#[track_caller]
fn says(output: &Output, succeeds: bool, texts: &[&str]) {
    let all =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), succeeds, "{all}");
    for text in texts {
        assert!(all.contains(text), "no `{text}` in:\n{all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_are_managed_by_the_cli() {
    let server = Server::start(Database::sqlite()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("second.wasm");
    fs::write(&file, &Components::get().second_mock).unwrap();
    let file = file.to_str().unwrap();
    let run = |arguments: &[&str]| isomer(Some(&server), arguments);

    says(&run(&["list"]), true, &["NAME", "mock", "skill-classifier", "active", "embedded"]);
    says(
        &run(&["check", file, "--trusted"]),
        true,
        &["world adapter@0.1.0", "describe", "imports  wasi:io/streams"],
    );
    says(&run(&["push", "mock", file, "--activate"]), true, &["is active"]);
    let input = r#"{"workspace_id": "w", "text": "hello"}"#;
    says(&run(&["call", "mock", "synthetic-reply", input]), true, &["second", " µs"]);
    says(&run(&["show", "mock"]), true, &["active", "retired", "settings"]);
    says(&run(&["rollback", "mock"]), true, &["is active"]);
    says(&run(&["settings", "mock", r#"{"pause_ms": "soon"}"#]), false, &["/pause_ms"]);
    says(&run(&["settings", "mock", "{pause"]), false, &["not JSON"]);
    says(&run(&["show", "unknown"]), false, &["isomer: guest not found"]);
    let json = run(&["list", "--json"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&json.stdout).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_check_explains_each_failure() {
    let directory = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], more: &[&str]| {
        let file = directory.path().join(name);
        fs::write(&file, bytes).unwrap();
        let file = file.to_str().unwrap().to_owned();
        isomer(None, &[&["check", file.as_str()], more].concat())
    };
    let hostile = &Components::get().hostile;
    says(&check("fine", hostile, &[]), true, &["ok       describe", "stays well within its limits"]);
    says(
        &check("panics", hostile, &["--settings", r#"{"describe": "panic"}"#]),
        false,
        &[
            "FAILED   describe: the guest trapped",
            "told to panic",
            "at hostile",
            "the component can't be activated",
        ],
    );
    says(&check("text", b"hello", &[]), false, &["not a WebAssembly file"]);
    says(&check("untrusted", &Components::get().second_mock, &[]), false, &["isomer guest trust NAME"]);
    says(&isomer(None, &["check", "/nowhere.wasm"]), false, &["/nowhere.wasm"]);
}

#[test]
fn without_a_server_the_error_names_the_address() {
    let output = program().args(["guest", "list", "--server", "http://127.0.0.1:9"]).output().unwrap();
    says(&output, false, &["the server at http://127.0.0.1:9 does not answer", "--server"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn precompile_fills_the_cache_that_a_server_starts_from() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("compiled");
    let cache = cache.to_str().unwrap();
    says(&isomer(None, &["precompile", "--cache-dir", cache]), true, &["mock", "guests are compiled in"]);
    let compiled = fs::read_dir(cache).unwrap().count();
    assert!(compiled >= 6, "{compiled} components");
    let server = Server::start(Start::from(Database::sqlite()).env("GUEST_CACHE_DIR", cache)).await;
    server.reply("mock").await;
    assert_eq!(fs::read_dir(cache).unwrap().count(), compiled, "the server compiled none");
}
