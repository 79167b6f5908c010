//! A third party's story: a guest made outside this tree, from nothing but the program.

use std::{fs, process::Command};

use support::{Database, Server, program, scratch, workspace};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_outside_the_tree_is_built_checked_pushed_and_called() {
    let server = Server::start(Database::sqlite()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let made = program().args(["guest", "new", "my-agent"]).current_dir(elsewhere.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let directory = elsewhere.path().join("my-agent");
    let again = program().args(["guest", "new", "my-agent"]).current_dir(elsewhere.path()).output().unwrap();
    assert!(!again.status.success(), "it overwrites nothing");

    // The versions that this tree is tested with, so that the registry need not be asked.
    let lock = workspace().join("Cargo.lock");
    fs::copy(lock, directory.join("Cargo.lock")).unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target", "wasm32-wasip2", "--offline"])
        .env("CARGO_TARGET_DIR", scratch().join("author"))
        .env_remove("RUSTFLAGS")
        .current_dir(&directory)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let file = scratch().join("author/wasm32-wasip2/release/my_agent.wasm");
    let file = file.to_str().unwrap();

    for arguments in [&["check", file][..], &["push", "my-agent", file, "--activate"]] {
        let done = program().arg("guest").args(arguments).env("ISOMER_URL", &server.url).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let guest = server.guest("my-agent").await;
    assert_eq!(guest["state"], "active");
    assert_eq!(guest["description"]["name"], "my-agent");
    let described = server.call("my-agent", "describe", serde_json::Value::Null).await.ok();
    assert_eq!(described["answer"], guest["description"]);
}
