//! Guests whose runtimes no workspace has are deleted, and their world is bound by the first activation.

use reqwest::Method;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use support::{Components, Database, Server, Start, files, on_both_databases, variant};

async fn delete(server: &Server, name: &str) -> support::Answer {
    server.request(Method::DELETE, &format!("/admin/guests/{name}"), None).await
}

/// Digest of a release that was pushed.
fn digest(pushed: &Value) -> &str {
    pushed["digest"].as_str().unwrap()
}

/// Whether the server has files of a release: its component, and the compiled form.
fn cached(server: &Server, digest: &str) -> (bool, bool) {
    let has = |directory, kind| files(directory).contains(&format!("{digest}.{kind}"));
    (has(&server.components(), "wasm"), has(&server.data.path().join("compiled"), "aot"))
}

on_both_databases! {
    async fn a_guest_that_serves_nobody_is_deleted(database: Database) {
        let server = Server::start(Start::from(database).own_cache()).await;
        let first = server.push("mine", &variant(&Components::get().hostile, 71), true).await.ok();
        let second = server.push("mine", &variant(&Components::get().hostile, 72), true).await.ok();
        server.settings("mine", json!({ "describe": "fine" })).await.ok();
        // Another guest has a release with the same component.
        server.push("other", &variant(&Components::get().hostile, 72), false).await.ok();
        assert_eq!(cached(&server, digest(&first)), (true, true));

        assert_eq!(delete(&server, "mine").await.ok(), json!({ "deleted": "mine" }));

        let gone = async |server: &Server| {
            server.get("/admin/guests/mine").await.error(404);
            assert_eq!(delete(server, "mine").await.error(404), "guest not found");
            server.send_text("mine", "hello").await.error(404);
            server.activate("mine", digest(&first)).await.error(404);
            let listed = server.get("/admin/guests").await.ok();
            assert!(!listed["runtimes"].to_string().contains("hostile"), "{listed}");
            assert!(!listed["guests"].to_string().contains("\"mine\""), "{listed}");
            assert_eq!(cached(server, digest(&first)), (false, false));
            assert_eq!(cached(server, digest(&second)), (true, true));
        };
        gone(&server).await;
        let server = server.restart().await;
        gone(&server).await;

        // The other guest's component is there, and the name is free: nothing of the old guest is left.
        server.activate("other", digest(&second)).await.ok();
        delete(&server, "other").await.ok();
        server.push("mine", &Components::get().classifier, true).await.ok();
        let mine = server.guest("mine").await;
        assert_eq!((&mine["world"], &mine["settings"]), (&json!("classifier"), &json!({})));
        assert_eq!(mine["releases"].as_array().unwrap().len(), 1);
        delete(&server, "mine").await.ok();
    }

    async fn a_guest_that_is_needed_is_not_deleted(database: Database) {
        let server = Server::start(database).await;
        for name in ["mock", "claude-code", "include", "skill-classifier"] {
            let refused = delete(&server, name).await;
            let expected = format!("isomer guest disable {name}");
            assert!(refused.error(409).contains(&expected), "{}", refused.json);
            server.reply("mock").await;
            assert_eq!(server.guest(name).await["state"], "active");
        }
        delete(&server, "unknown").await.error(404);
        delete(&server, "Not%20a%20name").await.error(404);

        let release = server.push("mine", &Components::get().hostile, true).await.ok();
        let id = server.workspace(json!({ "name": "Needs it", "runtime": "hostile" })).await;
        let refused = "the guest answers for the runtime `hostile`, which the workspace `Needs it` has";
        assert_eq!(delete(&server, "mine").await.error(409), refused);
        // It would answer again once it is enabled.
        server.post("/admin/guests/mine/disable", json!({})).await.ok();
        assert_eq!(delete(&server, "mine").await.error(409), refused);
        let server = server.restart().await;
        assert_eq!(delete(&server, "mine").await.error(409), refused);
        server.post("/admin/guests/mine/enable", json!({})).await.ok();
        assert_eq!(server.guest("mine").await["release"], release["digest"]);

        server.delete(&format!("/workspaces/{id}?confirm=true")).await.ok();
        delete(&server, "mine").await.ok();
    }

    async fn the_names_of_a_disabled_guest_stay_its_own(database: Database) {
        let server = Server::start(database).await;
        server.workspace(json!({ "name": "Mocked", "runtime": "mock" })).await;
        server.push("mine", &Components::get().second_mock, false).await.ok();
        server.post("/admin/guests/mine/trust", json!({})).await.ok();
        let release = server.guest("mine").await["releases"][0]["digest"].as_str().unwrap().to_owned();
        server.post("/admin/guests/mock/disable", json!({})).await.ok();
        let server = server.restart().await;
        let refused = server.activate("mine", &release).await;
        assert!(refused.error(409).contains("`mock` belongs to guest mock"), "{}", refused.json);
        // As a release of that guest it answers.
        server.push("mock", &Components::get().second_mock, true).await.ok();
        server.post("/admin/guests/mock/enable", json!({})).await.ok();
        assert_eq!(server.reply("mock").await, "second");
        delete(&server, "mine").await.ok();
    }

    async fn the_first_activation_binds_the_world(database: Database) {
        let server = Server::start(database).await;
        let components = Components::get();
        let staged = server.push("mine", &components.classifier, false).await.ok();
        assert_eq!(server.guest("mine").await["world"], "classifier");
        server.push("mine", &components.include, false).await.ok();
        assert_eq!(server.guest("mine").await["world"], "template");
        let adapter = server.push("mine", &components.hostile, false).await.ok();
        assert_eq!(server.guest("mine").await["world"], "adapter");
        let server = server.restart().await;

        // Not the one that was pushed last.
        server.activate("mine", digest(&staged)).await.ok();
        let bound = async |server: &Server| {
            let text = "mine is a guest of world classifier, the component is of world adapter: \
                        a guest keeps the world of its first activation; push the component under another name";
            assert_eq!(server.activate("mine", digest(&adapter)).await.error(409), text);
            assert_eq!(server.push("mine", &variant(&components.hostile, 5), true).await.error(409), text);
            server.push("mine", &components.hostile_resolver, false).await.error(409);
            let mine = server.guest("mine").await;
            assert_eq!((&mine["world"], &mine["release"]), (&json!("classifier"), &staged["digest"]));
        };
        bound(&server).await;
        let server = server.restart().await;
        bound(&server).await;

        // A deleted guest's name is bound to nothing.
        delete(&server, "mine").await.ok();
        server.push("mine", &components.hostile, true).await.ok();
        server.send_text("mine", "hello").await.ok();
    }
}

async fn execute(database: &Database, sql: &str) {
    let connection = database.raw().await;
    connection.execute_unprepared(sql).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_deletion_reaches_every_server() {
    let database = Database::postgres().await;
    let start = || Start::from(database.clone()).own_cache();
    let (a, b) = tokio::join!(Server::start(start()), Server::start(start()));
    let pushed = a.push("mine", &variant(&Components::get().hostile, 73), true).await.ok();
    let answers = async |server: &Server| server.send_text("mine", "hello").await.status.is_success();
    b.until("the new guest answers", answers).await;

    // A workspace of the other server counts.
    let id = b.workspace(json!({ "name": "Elsewhere", "runtime": "hostile" })).await;
    assert!(delete(&a, "mine").await.error(409).contains("`Elsewhere`"));
    b.delete(&format!("/workspaces/{id}?confirm=true")).await.ok();

    delete(&a, "mine").await.ok();
    let is_gone = async |server: &Server| server.get("/admin/guests/mine").await.status == 404;
    b.until("the deletion is followed", is_gone).await;
    b.until("its files are deleted", async |b| cached(b, digest(&pushed)) == (false, false)).await;

    // Another guest of the same name and revision, of another world.
    a.push("mine", &Components::get().classifier, true).await.ok();
    b.until("the new guest is followed", async |b| {
        b.get("/admin/guests/mine").await.json["world"] == "classifier"
    })
    .await;

    // A server that is not running meanwhile.
    let mut b = b;
    b.kill();
    delete(&a, "mine").await.ok();
    let again = a.push("mine", &variant(&Components::get().hostile, 74), true).await.ok();
    let b = b.start_again().await;
    b.until("the guest of the name answers", answers).await;
    assert_eq!(b.guest("mine").await["release"], again["digest"]);
    delete(&b, "mine").await.ok();
    a.until("the deletion is followed", is_gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_server_that_missed_a_deletion_finds_it() {
    let database = Database::postgres().await;
    let server = Server::start(database.clone()).await;
    for name in ["asked", "left-alone"] {
        server.push(name, &Components::get().classifier, true).await.ok();
    }
    server.push("again", &Components::get().hostile, true).await.ok();

    // No event tells of these.
    execute(&database, "DELETE FROM guests WHERE name IN ('asked', 'left-alone')").await;
    execute(&database, "UPDATE guests SET created_at = now(), enabled = false WHERE name = 'again'").await;

    // A change that is planned on the deleted row ends.
    assert_eq!(server.settings("asked", json!({})).await.error(404), "guest not found");
    server
        .until("the poll finds the deletion", async |server| {
            server.get("/admin/guests/left-alone").await.status == 404
        })
        .await;
    server
        .until("the poll finds the other guest of the same name and revision", async |server| {
            server.guest("again").await["state"] == "disabled"
        })
        .await;
    server.reply("mock").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn servers_with_empty_directories_start_on_one_new_database_and_reject_nothing() {
    let database = Database::empty_postgres().await;
    let start = || Start::from(database.clone()).empty_cache();
    let (a, b) = tokio::join!(Server::start(start()), Server::start(start()));
    let pushed = a.push("mock", &variant(&Components::get().second_mock, 75), true).await.ok();
    a.push("mine", &variant(&Components::get().hostile, 76), true).await.ok();
    // One that starts while they run, and one that lost its directories.
    for directory in ["components", "compiled"] {
        std::fs::remove_dir_all(b.data.path().join(directory)).unwrap();
    }
    let (b, c) = tokio::join!(b.kill_and_restart(), Server::start(start()));
    for server in [&a, &b, &c] {
        server
            .until("the pushed guests answer", async |server| {
                let hello = server.send_text("mine", "hello").await;
                hello.status.is_success() && server.reply("mock").await == "second"
            })
            .await;
        assert_eq!(server.guest("mock").await["release"], pushed["digest"]);
        let guests = server.get("/admin/guests").await.ok();
        for guest in guests["guests"].as_array().unwrap() {
            assert_eq!(guest["state"], "active", "{guest}");
            let name = guest["name"].as_str().unwrap();
            let releases = server.guest(name).await["releases"].clone();
            let is_rejected =
                |release: &Value| release["state"] == "rejected" || !release["reason"].is_null();
            assert!(!releases.as_array().unwrap().iter().any(is_rejected), "{name}: {releases}");
        }
    }
}
