//! The watched directory.

use std::{fs, io::Write as _, os::unix::fs::symlink, path::Path, time::SystemTime};

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

    async fn links_are_followed_to_what_they_lead_to(database: Database) {
        let (server, folder) = watching(database).await;
        let elsewhere = tempfile::tempdir().unwrap();
        let release = |name: &str, component: &[u8]| {
            let directory = elsewhere.path().join(name);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("mock.wasm"), component).unwrap();
            directory
        };
        let one = release("one", &Components::get().second_mock);
        let two = release("two", &Components::get().mock);
        // As Kubernetes mounts a ConfigMap: the file is a link through a link to a directory, and only that one is
        // replaced.
        let (data, next) = (elsewhere.path().join("..data"), elsewhere.path().join("..next"));
        symlink(&one, &data).unwrap();
        symlink(data.join("mock.wasm"), folder.path().join("mock.wasm")).unwrap();
        server.until("the first answers", async |server| server.reply("mock").await == "second").await;
        symlink(&two, &next).unwrap();
        fs::rename(&next, &data).unwrap();
        server.until("the next answers", async |server| server.reply("mock").await != "second").await;
        // And back: bytes that were active before are what the link leads to now.
        symlink(&one, &next).unwrap();
        fs::rename(&next, &data).unwrap();
        server.until("the first answers again", async |server| server.reply("mock").await == "second").await;
        // A target that is replaced where it is.
        fs::write(one.join("next"), &Components::get().mock).unwrap();
        fs::rename(one.join("next"), one.join("mock.wasm")).unwrap();
        server.until("the new target answers", async |server| server.reply("mock").await != "second").await;
    }

    async fn a_directory_that_is_made_again_is_watched_and_one_that_is_gone_is_reported(database: Database) {
        let (server, folder) = watching(database).await;
        fs::write(folder.path().join("mock.wasm"), &Components::get().second_mock).unwrap();
        server.until("the file answers", async |server| server.reply("mock").await == "second").await;
        fs::remove_dir_all(folder.path()).unwrap();
        let problem = async |server: &Server| {
            let liveness = server.get("/admin/liveness").await.ok();
            liveness["subsystems"]["guests-folder"]["problem"].clone()
        };
        server.until("liveness says so", async |server| {
            problem(server).await == "GUESTS_DIR does not exist, or can't be watched"
        }).await;
        fs::create_dir(folder.path()).unwrap();
        server.until("liveness says so", async |server| problem(server).await.is_null()).await;
        let replace = |directory: &Path, component: &[u8]| {
            fs::write(directory.join("next"), component).unwrap();
            fs::rename(directory.join("next"), directory.join("mock.wasm")).unwrap();
        };
        replace(folder.path(), &Components::get().mock);
        server.until("the file answers", async |server| server.reply("mock").await != "second").await;
        // Replaced in one step by a directory with another file.
        let other = folder.path().with_extension("other");
        fs::create_dir(&other).unwrap();
        replace(&other, &Components::get().second_mock);
        fs::remove_dir_all(folder.path()).unwrap();
        fs::rename(&other, folder.path()).unwrap();
        server.until("the other file answers", async |server| server.reply("mock").await == "second").await;
        replace(folder.path(), &Components::get().mock);
        server.until("it is watched, too", async |server| server.reply("mock").await != "second").await;
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
