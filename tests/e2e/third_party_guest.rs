//! A third-party guest: made, built and pushed outside of this tree with the program alone.

use std::{fs, process::Command};

use support::{Database, Server, program, scratch, workspace};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_outside_the_tree_is_built_checked_pushed_and_called() {
    let server = Server::start(Database::sqlite()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let new =
        |name: &str| program().args(["guest", "new", name]).current_dir(elsewhere.path()).output().unwrap();
    let made = new("crew-pilot");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let next = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(
        next.contains("isomer guest push crew-pilot target/wasm32-wasip2/release/crew_pilot.wasm"),
        "{next}"
    );
    let directory = elsewhere.path().join("crew-pilot");
    for (name, text) in [("crew-pilot", "exists already"), ("Crew_Pilot", "can't be the name of a guest")] {
        let refused = new(name);
        let text_of = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text_of.contains(text), "{text_of}");
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);

    // The locked versions of this workspace, so that cargo needs no network.
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
    let file = scratch().join("author/wasm32-wasip2/release/crew_pilot.wasm");
    let file = file.to_str().unwrap();

    for arguments in [&["check", file][..], &["push", "crew-pilot", file, "--activate"]] {
        let done = program().arg("guest").args(arguments).env("ISOMER_URL", &server.url).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let guest = server.guest("crew-pilot").await;
    assert_eq!(guest["state"], "active");
    assert_eq!(guest["description"]["name"], "crew-pilot");
    assert_eq!(guest["description"]["display_name"], "Crew pilot");
    let described = server.call("crew-pilot", "describe", serde_json::Value::Null).await.ok();
    assert_eq!(described["answer"], guest["description"]);
}
