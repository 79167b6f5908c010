//! The commands of `isomer guest`.

use std::{fs, process::Output};

use support::{Components, Database, Server, Start, assert_output, program};

fn isomer(server: Option<&Server>, arguments: &[&str]) -> Output {
    let mut program = program();
    program.arg("guest").args(arguments);
    if let Some(server) = server {
        program.env("ISOMER_URL", &server.url);
    }
    program.output().expect("the program runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_are_managed_by_the_cli() {
    let server = Server::start(Database::sqlite()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("second.wasm");
    fs::write(&file, &Components::get().second_mock).unwrap();
    let file = file.to_str().unwrap();
    let run = |arguments: &[&str]| isomer(Some(&server), arguments);

    assert_output(&run(&["list"]), true, &["NAME", "mock", "skill-classifier", "active", "embedded"]);
    assert_output(
        &run(&["check", file, "--trusted"]),
        true,
        &["world adapter@0.1.0", "describe", "imports  wasi:io/streams"],
    );
    assert_output(&run(&["push", "mock", file, "--activate"]), true, &["is active"]);
    let input = r#"{"workspace_id": "w", "text": "hello"}"#;
    assert_output(&run(&["call", "mock", "synthetic-reply", input]), true, &["second", " µs"]);
    assert_output(&run(&["show", "mock"]), true, &["active", "retired", "settings"]);
    assert_output(&run(&["rollback", "mock"]), true, &["is active"]);
    assert_output(&run(&["settings", "mock", r#"{"pause_ms": "soon"}"#]), false, &["/pause_ms"]);
    assert_output(&run(&["settings", "mock", "{pause"]), false, &["not JSON"]);
    assert_output(&run(&["show", "unknown"]), false, &["isomer: guest not found"]);
    assert_output(&run(&["push", "mine", file]), true, &["is staged"]);
    assert_output(&run(&["delete", "mine"]), true, &["mine"]);
    assert_output(&run(&["delete", "mine"]), false, &["isomer: guest not found"]);
    assert_output(&run(&["delete", "mock"]), false, &["isomer guest disable mock"]);
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
    assert_output(&check("fine", hostile, &[]), true, &["ok       describe", "stays well within its limits"]);
    assert_output(
        &check("panics", hostile, &["--settings", r#"{"describe": "panic"}"#]),
        false,
        &[
            "FAILED   describe: the guest trapped",
            "panic requested",
            "at hostile",
            "the component can't be activated",
        ],
    );
    assert_output(&check("text", b"hello", &[]), false, &["not a WebAssembly file"]);
    assert_output(
        &check("untrusted", &Components::get().second_mock, &[]),
        false,
        &["isomer guest trust NAME"],
    );
    assert_output(&isomer(None, &["check", "/nowhere.wasm"]), false, &["/nowhere.wasm"]);
}

#[test]
fn without_a_server_the_error_names_the_address() {
    let output = program().args(["guest", "list", "--server", "http://127.0.0.1:9"]).output().unwrap();
    assert_output(&output, false, &["the server at http://127.0.0.1:9 does not answer", "--server"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn precompile_fills_the_cache_that_a_server_starts_from() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("compiled");
    let cache = cache.to_str().unwrap();
    assert_output(
        &isomer(None, &["precompile", "--cache-dir", cache]),
        true,
        &["mock", "guests are compiled in"],
    );
    let compiled = fs::read_dir(cache).unwrap().count();
    assert!(compiled >= 6, "{compiled} components");
    let server = Server::start(Start::from(Database::sqlite()).env("GUEST_CACHE_DIR", cache)).await;
    server.reply("mock").await;
    assert_eq!(fs::read_dir(cache).unwrap().count(), compiled, "the server compiled none");
}
