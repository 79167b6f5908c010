//! What is kept of refused releases.

use std::{fs, path::Path, time::SystemTime};

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use support::{Components, Database, Server, Start, on_both_databases, variant};

/// More than are kept of a guest.
const MANY: u32 = 12;

async fn push_rubbish(server: &Server, guest: &str) {
    for number in 0..MANY {
        server.push(guest, format!("rubbish {number}").as_bytes(), false).await.error(422);
    }
}

async fn release(server: &Server, guest: &str, digest: &Value) -> Value {
    let guest = server.guest(guest).await;
    let releases = guest["releases"].as_array().unwrap();
    releases.iter().find(|release| release["digest"] == *digest).cloned().unwrap_or_default()
}

/// A file that no event tells of, and that is old enough to be read at once.
fn place(directory: &Path, name: &str, component: &[u8]) {
    fs::write(directory.join("next"), component).unwrap();
    let file = fs::File::options().write(true).open(directory.join("next")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    drop(file);
    fs::rename(directory.join("next"), directory.join(name)).unwrap();
}

/// Starts again and waits until the files of the directory are handled.
async fn start_again(server: Server, directory: &Path, mark: u32) -> Server {
    let server = server.restart().await;
    // Files are taken in turn: when this one is, those that were there are.
    let name = format!("last{mark}");
    let other = variant(&Components::get().hostile, 900 + mark);
    fs::write(directory.join(format!("{name}.wasm")), other).unwrap();
    server
        .until("the last file is taken", async |server| {
            server.get(&format!("/admin/guests/{name}")).await.status.is_success()
        })
        .await;
    server
}

on_both_databases! {
    async fn refused_releases_of_earlier_versions_are_pruned_at_the_next_refusal(database: Database) {
        let server = Server::start(database).await;
        server.push("mine", &Components::get().hostile, true).await.ok();
        let rows: Vec<String> = (0..250)
            .map(|number| {
                format!(
                    "('mine', '{number:064x}', 7, 'upload', 'me', '2026-01-01 00:00:00+00:00', 'rejected', 'no', \
                     0, 0, 0, 0, 0, 0, 0)"
                )
            })
            .collect();
        let connection = server.connect().await;
        let insert = format!(
            "INSERT INTO guest_releases (guest, digest, size_bytes, source, pushed_by, pushed_at, state, reason, calls, \
             traps, timeouts, memory_errors, refused_answers, busy, peak_memory_bytes) VALUES {}",
            rows.join(",")
        );
        connection.execute_unprepared(&insert).await.unwrap();
        connection.close().await.unwrap();
        let server = server.restart().await;
        server.send_text("mine", "hello").await.ok();
        assert!(server.guest("mine").await["releases"].as_array().unwrap().len() > 250, "a start prunes nothing");
        push_rubbish(&server, "mine").await;
        server.until("they are pruned", async |server| {
            server.guest("mine").await["releases"].as_array().unwrap().len() <= 11
        }).await;
        server.send_text("mine", "hello").await.ok();
    }

    async fn a_staged_release_that_is_refused_late_is_kept_with_its_reason(database: Database) {
        let server = Server::start(database).await;
        server.push("mine", &Components::get().hostile, true).await.ok();
        let staged = server.push("mine", &variant(&Components::get().second_mock, 81), false).await.ok();
        push_rubbish(&server, "mine").await;
        let digest = staged["digest"].as_str().unwrap();
        for _ in 0..2 {
            server.activate("mine", digest).await.error(422);
            let refused = release(&server, "mine", &staged["digest"]).await;
            assert_eq!(refused["state"], "rejected");
            assert!(refused["reason"].as_str().unwrap().contains("trusted"), "{refused}");
            // Nor do later ones that never were components crowd it out.
            push_rubbish(&server, "mine").await;
        }
    }

    async fn a_refused_file_does_not_replace_a_later_release_at_a_start(database: Database) {
        let folder = tempfile::tempdir().unwrap();
        let start = Start::from(database).env("GUESTS_DIR", folder.path().to_str().unwrap());
        let server = Server::start(start).await;
        let hostile = |mark| variant(&Components::get().hostile, mark);
        server.push("mine", &hostile(82), false).await.ok();
        server.settings("mine", json!({ "refuse": true })).await.ok();
        place(folder.path(), "mine.wasm", &hostile(83));
        server.until("the file is refused", async |server| {
            server.guest("mine").await["releases"][0]["state"] == "rejected"
        }).await;
        let file = server.guest("mine").await["releases"][0].clone();
        server.settings("mine", json!({ "refuse": false })).await.ok();
        let active = server.push("mine", &hostile(84), true).await.ok();
        push_rubbish(&server, "mine").await;
        let server = start_again(server, folder.path(), 1).await;
        assert_eq!(server.guest("mine").await["release"], active["digest"]);
        assert_eq!(release(&server, "mine", &file["digest"]).await["state"], "rejected");
    }

    async fn a_file_with_the_bytes_of_a_refused_upload_does_not_either(database: Database) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("guests");
        fs::create_dir(&directory).unwrap();
        let start = Start::from(database).env("GUESTS_DIR", directory.to_str().unwrap());
        let server = Server::start(start).await;
        let hostile = |mark| variant(&Components::get().hostile, mark);
        server.push("mine", &hostile(85), false).await.ok();
        server.settings("mine", json!({ "refuse": true })).await.ok();
        server.push("mine", &hostile(86), true).await.error(422);
        let refused = server.guest("mine").await["releases"][0].clone();
        assert_eq!((&refused["state"], &refused["source"]), (&json!("rejected"), &json!("upload")));
        server.settings("mine", json!({ "refuse": false })).await.ok();
        let active = server.push("mine", &hostile(87), true).await.ok();
        // The directory comes back with a file that was refused when it was uploaded.
        let away = folder.path().join("away");
        fs::rename(&directory, &away).unwrap();
        server.until("the directory is gone", async |server| {
            !server.get("/admin/liveness").await.ok()["subsystems"]["guests-folder"]["problem"].is_null()
        }).await;
        place(&away, "mine.wasm", &hostile(86));
        fs::rename(&away, &directory).unwrap();
        server.until("the file is seen", async |server| {
            release(server, "mine", &refused["digest"]).await["source"] == "folder"
        }).await;
        push_rubbish(&server, "mine").await;
        let server = start_again(server, &directory, 2).await;
        assert_eq!(server.guest("mine").await["release"], active["digest"]);
        assert_eq!(release(&server, "mine", &refused["digest"]).await["state"], "rejected");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_DATABASE_URL"]
async fn notes_of_what_the_compiler_died_of_outlive_the_pruning_by_another_server() {
    let database = Database::postgres().await;
    let a = Server::start(Start::from(database.clone()).own_cache()).await;
    let b = Server::start(Start::from(database).own_cache()).await;
    a.push("mine", &Components::get().hostile, true).await.ok();
    a.push("mine", b"the compiler died of it", false).await.error(422);
    let digest = a.guest("mine").await["releases"][0]["digest"].clone();
    b.until("the other server knows it", async |b| {
        b.get("/admin/guests/mine").await.status.is_success() && !release(b, "mine", &digest).await.is_null()
    })
    .await;
    let note = |server: &Server| {
        server.data.path().join("compiled").join(format!("{}.failed", digest.as_str().unwrap()))
    };
    for server in [&a, &b] {
        fs::write(note(server), "note").unwrap();
    }
    push_rubbish(&a, "mine").await;
    b.until("it is pruned", async |b| release(b, "mine", &digest).await.is_null()).await;
    // The next change is followed when the files of the one before are gone.
    let last = a.push("mine", &variant(&Components::get().hostile, 88), true).await.ok();
    b.until("the next change is seen", async |b| b.guest("mine").await["release"] == last["digest"]).await;
    assert!(note(&a).exists() && note(&b).exists());
}
