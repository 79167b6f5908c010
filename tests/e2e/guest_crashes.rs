//! Guests after a SIGKILL, without a database, and with a second server on the same data directory.

use std::{fs, process::Stdio};

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use support::{
    Components, Database, Server, Start, compiled_guests, files, on_both_databases, program, select_number,
    variant,
};

/// Asserts what must hold after any crash: one release is active, every release has its bytes, no partial file
/// is left, and the guest answers.
async fn assert_consistent(server: &Server) {
    let guest = server.guest("mock").await;
    let releases = guest["releases"].as_array().unwrap();
    let active: Vec<&Value> = releases.iter().filter(|release| release["state"] == "active").collect();
    assert_eq!(active.len(), 1, "{guest}");
    assert_eq!(active[0]["digest"], guest["release"]);
    let database = server.connect().await;
    for release in releases {
        let digest = release["digest"].as_str().unwrap();
        let sql = format!("SELECT COUNT(*) FROM guest_components WHERE digest = '{digest}'");
        assert_eq!(select_number(&database, &sql).await, 1, "{release}");
    }
    database.close().await.unwrap();
    let cached = files(&server.components());
    assert!(!cached.iter().any(|name| name.starts_with('.')), "{cached:?}");
    server.reply("mock").await;
}

/// Makes a change and drops the request: in early rounds while it is in flight, in later ones when it is done.
async fn interrupted_change(server: &Server, round: u32, component: &[u8]) {
    let change = async {
        match round % 4 {
            0 => drop(server.push("mock", component, true).await),
            1 => drop(server.push("mock", component, false).await),
            2 => drop(server.post("/admin/guests/mock/rollback", json!({})).await),
            _ => drop(server.settings("mock", json!({ "replies": [format!("{round}")] })).await),
        }
    };
    // Each round gives the server time for one more request.
    let meanwhile = async {
        for _ in 0..round {
            server.get("/admin/guests/mock").await;
        }
    };
    tokio::select! {
        () = change => {}
        () = meanwhile => {}
    }
}

on_both_databases! {
    async fn a_kill_leaves_no_partial_release(database: Database) {
        let mut server = Server::start(database).await;
        for round in 0..8_u32 {
            let component = variant(&Components::get().mock, round);
            interrupted_change(&server, round, &component).await;
            server = server.kill_and_restart().await;
            assert_consistent(&server).await;
        }
    }

    async fn answered_changes_survive_a_kill(database: Database) {
        let server = Server::start(database).await;
        server.push("mock", &Components::get().second_mock, true).await.ok();
        let server = server.kill_and_restart().await;
        assert_eq!(server.reply("mock").await, "second");
        server.post("/admin/guests/mock/rollback", json!({})).await.ok();
        let server = server.kill_and_restart().await;
        assert_ne!(server.reply("mock").await, "second");
        server.settings("mock", json!({ "replies": ["kept"] })).await.ok();
        let server = server.kill_and_restart().await;
        assert_eq!(server.reply("mock").await, "kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn left_over_files_are_removed_at_startup() {
    let server = Server::start(Database::sqlite()).await;
    // The server opens its directories after it listens.
    server.reply("mock").await;
    let half = server.components().join(".unfinished-1");
    fs::write(&half, b"half").unwrap();
    let server = server.kill_and_restart().await;
    server.reply("mock").await;
    assert!(!half.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_directory_of_components_is_refilled_from_the_database() {
    let server = Server::start(Start::from(Database::sqlite()).own_cache()).await;
    let pushed = server.push("mock", &variant(&Components::get().second_mock, 78), true).await.ok();
    let file = format!("{}.wasm", pushed["digest"].as_str().unwrap());
    let damaged = server.push("mine", &Components::get().hostile, true).await.ok();
    let damaged = format!("{}.wasm", damaged["digest"].as_str().unwrap());
    fs::remove_file(server.components().join(&file)).unwrap();
    fs::write(server.components().join(&damaged), b"damaged").unwrap();
    fs::remove_dir_all(server.data.path().join("compiled")).unwrap();

    let server = server.restart().await;

    assert_eq!(server.reply("mock").await, "second");
    assert_eq!(server.guest("mock").await["release"], pushed["digest"]);
    server.send_text("mine", "hello").await.ok();
    assert!(server.components().join(&file).exists(), "the cache is filled again");
    assert_ne!(fs::read(server.components().join(&damaged)).unwrap(), b"damaged");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_release_answers_while_the_active_one_has_lost_its_bytes() {
    let server = Server::start(Database::sqlite()).await;
    let original = server.guest("mock").await["release"].clone();
    let pushed = server.push("mock", &variant(&Components::get().second_mock, 77), true).await.ok();
    let digest = pushed["digest"].as_str().unwrap().to_owned();
    let digest = digest.as_str();
    fs::remove_file(server.components().join(format!("{digest}.wasm"))).unwrap();
    fs::remove_file(compiled_guests().join(format!("{digest}.aot"))).unwrap();
    let database = server.connect().await;
    database.execute_unprepared("DELETE FROM guest_components").await.unwrap();
    database.close().await.unwrap();

    let server = server.restart().await;

    assert_eq!(server.send_text("mock", "hello").await.ok()["release"], original);
    let lost = server.guest("mock").await["releases"][0].clone();
    assert_eq!((&lost["state"], &lost["digest"]), (&json!("active"), &json!(digest)));
    assert_eq!(lost["reason"], Value::Null, "a start blames no release");
    let refused = server.activate("mock", digest).await;
    assert_eq!(refused.error(409), "the stored component is missing or damaged; push it again");
    server.push("mock", &variant(&Components::get().second_mock, 77), true).await.ok();
    assert_eq!(server.reply("mock").await, "second");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_DATABASE_URL"]
async fn guests_answer_while_the_database_is_gone() {
    let database = Database::postgres().await;
    let server = Server::start(database).await;
    let staged = server.push("mock", &Components::get().second_mock, false).await.ok();
    let staged = staged["digest"].as_str().unwrap();
    let before = server.reply("mock").await;

    server.database().lock().await;
    let failed = server.activate("mock", staged).await;
    assert_eq!((failed.status.as_u16(), &failed.json["code"]), (503, &json!("platform_unavailable")));
    assert_eq!(failed.error(503), "platform datastore unavailable — retry shortly");
    assert_eq!(server.reply("mock").await, before, "the active release still answers");

    server.database().unlock().await;
    server
        .until("the database is back", async |server| {
            server.activate("mock", staged).await.status.is_success()
        })
        .await;
    assert_eq!(server.reply("mock").await, "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_data_directory_is_refused() {
    let server = Server::start(Database::sqlite()).await;
    let second = program()
        .arg("serve")
        .env("DATA_DIR", server.data.path())
        .env("PORT", "0")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    assert!(!second.status.success());
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert!(
        stderr
            .contains("is in use by another isomer server. Stop that one, or give this one another DATA_DIR"),
        "{stderr}"
    );
    server.reply("mock").await;
}
