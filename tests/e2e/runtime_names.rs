//! A runtime's name belongs to its guest, in service or not: no workspace gets another runtime because a guest was
//! away.

use std::fs;

use reqwest::Method;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use support::{Components, Database, Server, Start, files, on_both_databases};

/// The runtime that a new workspace is stored with.
async fn stored(server: &Server, runtime: &str) -> Value {
    let id = server.workspace(json!({ "name": "New", "runtime": runtime })).await;
    server.get(&format!("/workspaces/{id}")).await.ok()["runtime"].clone()
}

async fn execute(server: &Server, sql: &str) {
    let connection = server.connect().await;
    connection.execute_unprepared(sql).await.unwrap();
    connection.close().await.unwrap();
}

/// The component `hostile` for the runtime `hostage`.
fn renamed(component: &[u8]) -> Vec<u8> {
    let (from, to) = (b"hostile", b"hostage");
    let mut bytes = component.to_vec();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

/// What of the components is on the server's own disk.
fn remove_components(server: &Server) {
    for directory in [server.components(), server.data.path().join("compiled")] {
        for file in files(&directory) {
            fs::remove_file(directory.join(file)).unwrap();
        }
    }
}

on_both_databases! {
    async fn workspaces_made_while_a_guest_is_disabled_have_its_runtime(database: Database) {
        let server = Server::start(database).await;
        server.push("mine", &Components::get().hostile, true).await.ok();
        for guest in ["hermes", "mine"] {
            server.post(&format!("/admin/guests/{guest}/disable"), json!({})).await.ok();
        }
        let expected = [("hermes", "hermes"), (" hostile ", "hostile"), ("mine", "claude-code"), ("who", "claude-code")];
        let check = async |server: &Server| {
            for (asked, runtime) in expected {
                assert_eq!(stored(server, asked).await, runtime, "{asked}");
            }
            let id = server.workspace(json!({ "name": "Edited", "runtime": "mock" })).await;
            // Hosting is known too: this one has another.
            let path = format!("/workspaces/{id}");
            server.request(Method::PATCH, &path, Some(json!({ "runtime": "hermes" }))).await.error(409);
            let guest = server.guest("hermes").await;
            assert_eq!((&guest["state"], &guest["description"]["name"]), (&json!("disabled"), &json!("hermes")));
            let org = json!({ "template": { "name": "Org", "workspaces": [{ "name": "Lead", "runtime": "hostile" }] } });
            let imported = server.post("/org/import", org).await.ok();
            let id = imported["workspaces"][0]["id"].as_str().unwrap().to_owned();
            assert_eq!(server.get(&format!("/workspaces/{id}")).await.ok()["runtime"], "hostile");
        };
        check(&server).await;
        let server = server.restart().await;
        check(&server).await;
    }

    async fn a_server_that_can_not_load_a_guest_knows_its_names(database: Database) {
        let server = Server::start(Start::from(database).own_cache()).await;
        server.push("mine", &Components::get().hostile, true).await.ok();
        execute(&server, "DELETE FROM guest_components WHERE digest IN (SELECT digest FROM guest_releases WHERE guest = 'mine')").await;
        remove_components(&server);
        let server = server.restart().await;
        assert_eq!(stored(&server, "hostile").await, "hostile");
        assert_eq!(server.guest("mine").await["state"], "host_default");
        assert_eq!(stored(&server, "who").await, "claude-code");

        // A database of an earlier version has no names: what may be a name of the guest is not replaced.
        execute(&server, "UPDATE guests SET description = NULL").await;
        remove_components(&server);
        let server = server.restart().await;
        for asked in ["hostile", "who"] {
            let refused = server.post("/workspaces", json!({ "name": "New", "runtime": asked })).await;
            assert!(refused.error(503).contains("guest mine is not in service"), "{}", refused.json);
            assert!(refused.error(503).contains("isomer guest delete mine"), "{}", refused.json);
            let org = json!({ "template": { "name": "Org", "workspaces": [{ "name": "Lead", "runtime": asked }] } });
            assert!(server.post("/org/import", org).await.error(503).contains("guest mine"), "{asked}");
        }
        assert_eq!(stored(&server, "hermes").await, "hermes");
        server.push("mine", &Components::get().hostile, false).await.ok();
        server.until("it answers again", async |server| server.guest("mine").await["state"] == "active").await;
        assert_eq!(stored(&server, "who").await, "claude-code");
    }

    async fn an_earlier_release_for_another_runtime_neither_answers_meanwhile_nor_renames_the_guest(database: Database) {
        let server = Server::start(Start::from(database).own_cache()).await;
        server.push("mine", &Components::get().hostile, true).await.ok();
        let active = server.push("mine", &renamed(&Components::get().hostile), true).await.ok();
        let digest = active["digest"].as_str().unwrap();
        assert_eq!(server.guest("mine").await["description"]["name"], "hostage");
        execute(&server, &format!("DELETE FROM guest_components WHERE digest = '{digest}'")).await;
        remove_components(&server);
        let server = server.restart().await;
        server.until_logged("an earlier release answers for other runtimes").await;
        let check = async |server: &Server| {
            assert_eq!(stored(server, "hostage").await, "hostage");
            assert_eq!(stored(server, "hostile").await, "claude-code");
            assert_eq!(server.guest("mine").await["state"], "host_default");
        };
        check(&server).await;
        check(&server.restart().await).await;
    }

    async fn names_of_disabled_guests_of_an_earlier_version_are_learned(database: Database) {
        let server = Server::start(database).await;
        server.push("mine", &Components::get().hostile, true).await.ok();
        server.post("/admin/guests/mine/disable", json!({})).await.ok();
        execute(&server, "UPDATE guests SET description = NULL").await;
        let server = server.restart().await;
        server.until("the names are known", async |server| {
            server.guest("mine").await["description"]["name"] == "hostile"
        }).await;
        assert_eq!(stored(&server, "hostile").await, "hostile");
        assert_eq!(server.guest("mine").await["state"], "disabled");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn another_server_knows_the_names_of_a_guest_that_is_out_of_service() {
    let database = Database::postgres().await;
    let first = Server::start(Start::from(database.clone())).await;
    let second = Server::start(Start::from(database.clone())).await;
    first.push("mine", &Components::get().hostile, true).await.ok();
    first.post("/admin/guests/mine/disable", json!({})).await.ok();
    second
        .until("it is followed", async |it| it.get("/admin/guests/mine").await.json["state"] == "disabled")
        .await;
    let third = Server::start(Start::from(database)).await;
    for server in [&first, &second, &third] {
        assert_eq!(stored(server, "hostile").await, "hostile");
    }
}
