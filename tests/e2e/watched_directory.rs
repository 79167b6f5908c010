//! The watched directory.

use std::{fs, io::Write as _, time::SystemTime};

use serde_json::json;
use tempfile::TempDir;

use support::{Components, Database, Server, Start, on_both_databases, variant};

async fn watching(database: Database) -> (Server, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let start = Start::from(database).env("GUESTS_DIR", folder.path().to_str().unwrap());
    let server = Server::start(start).await;
    // The server listens first. Once it answers about guests, the watch has begun: a file that was there
    // before it is read after a fixed time, whole or not.
    server.get("/admin/guests/mock").await.ok();
    (server, folder)
}

on_both_databases! {
    async fn dropping_and_replacing_a_file_swaps_the_guest(database: Database) {
        let (server, folder) = watching(database).await;
        let file = folder.path().join("mock.wasm");
        fs::write(&file, &Components::get().second_mock).unwrap();
        server.until("the dropped file answers", async |server| server.reply("mock").await == "second").await;
        let release = server.guest("mock").await["releases"][0].clone();
        assert_eq!((&release["source"], &release["pushed_by"]), (&json!("folder"), &json!("folder")));

        // Atomic replacement by rename.
        fs::write(folder.path().join("next"), &Components::get().mock).unwrap();
        fs::rename(folder.path().join("next"), &file).unwrap();
        server.until("the replaced file answers", async |server| server.reply("mock").await != "second").await;
    }

    async fn a_restart_does_not_undo_a_roll_back(database: Database) {
        let (server, folder) = watching(database).await;
        fs::write(folder.path().join("mock.wasm"), &Components::get().second_mock).unwrap();
        server.until("the dropped file answers", async |server| server.reply("mock").await == "second").await;
        server.post("/admin/guests/mock/rollback", json!({})).await.ok();
        // The delay at the start counts from the modification, so a file this old is read at once.
        let file = fs::File::options().write(true).open(folder.path().join("mock.wasm")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        drop(file);
        let server = server.restart().await;
        // The watcher takes files in turn: when the new file answers, the old one has been handled.
        fs::write(folder.path().join("other.wasm"), &Components::get().hostile).unwrap();
        server.until("the new file is taken", async |server| {
            server.get("/admin/guests/other").await.status.is_success()
        }).await;
        assert_ne!(server.reply("mock").await, "second");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_once_it_is_completely_written() {
    let (server, folder) = watching(Database::sqlite()).await;
    let component = &Components::get().second_mock;
    let (half, rest) = component.split_at(component.len() / 2);
    let mut file = fs::File::create(folder.path().join("mock.wasm")).unwrap();
    file.write_all(half).unwrap();
    file.flush().unwrap();
    // A later complete file is read, which proves that the partial one was seen and skipped.
    fs::write(folder.path().join("other.wasm"), &Components::get().hostile).unwrap();
    server
        .until("the later file is taken", async |server| {
            server.get("/admin/guests/other").await.status.is_success()
        })
        .await;
    assert_eq!(server.guest("mock").await["releases"].as_array().unwrap().len(), 1);

    file.write_all(rest).unwrap();
    drop(file);
    server.until("the whole file answers", async |server| server.reply("mock").await == "second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_never_trusted() {
    let (server, folder) = watching(Database::sqlite()).await;
    fs::write(folder.path().join("sneaky.wasm"), &Components::get().second_mock).unwrap();
    server
        .until("the file is looked at", async |server| {
            server.get("/admin/guests/sneaky").await.status.is_success()
        })
        .await;
    server
        .until("it is rejected", async |server| {
            server.guest("sneaky").await["releases"][0]["state"] == "rejected"
        })
        .await;
    let guest = server.guest("sneaky").await;
    assert_eq!((&guest["trusted"], &guest["state"]), (&json!(false), &json!("host_default")));
    let reason = guest["releases"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("allowed only for trusted guests"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_leaves_the_active_release() {
    let (server, folder) = watching(Database::sqlite()).await;
    let before = server.guest("mock").await["release"].clone();
    fs::write(folder.path().join("mock.wasm"), variant(&Components::get().classifier, 1)).unwrap();
    server
        .until("it is rejected", async |server| {
            server.guest("mock").await["releases"][0]["state"] == "rejected"
        })
        .await;
    assert_eq!(server.guest("mock").await["release"], before);
    server.reply("mock").await;
}
