//! Three servers on one Postgres are one.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use reqwest::Method;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};

use support::{Components, Database, Server, Start, variant};

async fn three(database: &Database, env: &[(&'static str, &str)]) -> Vec<Server> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        let start =
            env.iter().fold(Start::from(database.clone()), |start, (name, value)| start.env(name, *value));
        servers.push(Server::start(start).await);
    }
    servers
}

async fn ids(server: &Server) -> BTreeSet<String> {
    let list = server.get("/workspaces").await.ok();
    list.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

/// Events of these names, from the database itself.
async fn stored(database: &Database, sql: &str) -> i64 {
    let inside = database.raw().await;
    let statement = Statement::from_string(inside.get_database_backend(), sql);
    let count = inside.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap();
    inside.close().await.unwrap();
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn changes_of_one_server_are_visible_on_the_others() {
    let database = Database::postgres().await;
    let servers = three(&database, &[("MOLECULE_ENV", "staging"), ("ADMIN_TOKEN", "t")]).await;
    let [a, b, c] = servers.as_slice() else { panic!("three") };
    let ask = async |server: &Server, method: Method, path: &str, body: Value| {
        server.ask("t", method, path, Some(body)).await
    };
    let root = ask(a, Method::POST, "/workspaces", json!({ "name": "Root", "runtime": "mock" })).await.ok();
    let root = root["id"].as_str().unwrap();
    let path = format!("/workspaces/{root}");
    for other in [b, c] {
        other
            .until("the others list it", async |other| {
                other.ask("t", Method::GET, "/workspaces", None).await.ok().to_string().contains(root)
            })
            .await;
    }
    // Where it lies on the canvas, too, and its name.
    ask(b, Method::PATCH, &path, json!({ "name": "Other", "x": 7, "y": 8 })).await.ok();
    a.until("the edit is seen", async |a| {
        let row = a.ask("t", Method::GET, &path, None).await.ok();
        row["name"] == "Other" && row["x"] == 7
    })
    .await;
    // A token made here is good there, and ended there is good nowhere.
    let token = ask(a, Method::POST, &format!("{path}/tokens"), json!({})).await.ok();
    let token = token["auth_token"].as_str().unwrap();
    let state = format!("{path}/state");
    b.until("the token is good", async |b| b.ask(token, Method::GET, &state, None).await.status == 200).await;
    let list = ask(b, Method::GET, &format!("{path}/tokens"), json!({})).await.ok();
    let id = list["tokens"][0]["id"].as_str().unwrap();
    ask(b, Method::DELETE, &format!("{path}/tokens/{id}"), json!({})).await.ok();
    assert_eq!(b.ask(token, Method::GET, &state, None).await.status, 401, "at once where it was ended");
    a.until("the token is ended", async |a| a.ask(token, Method::GET, &state, None).await.status == 401)
        .await;
    // Nothing is made below what another server just removed.
    ask(c, Method::DELETE, &path, json!({})).await.ok();
    let child = json!({ "name": "Child", "runtime": "mock", "parent_id": root });
    for server in [a, b, c] {
        let refused = ask(server, Method::POST, "/workspaces", child.clone()).await;
        assert_eq!(refused.error(400), "parent workspace not found");
        let edited = ask(server, Method::PATCH, &path, json!({ "name": "Late" })).await;
        assert_eq!(edited.error(404), "workspace not found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn concurrent_servers_never_create_the_same_name() {
    let database = Database::postgres().await;
    let servers = three(&database, &[]).await;
    // The same names everywhere: each is given once.
    let write = async |writer: usize| {
        let server = &servers[writer % 3];
        let mut made = Vec::new();
        for number in 0..4 {
            let body = json!({ "name": format!("Name {number}"), "runtime": "mock" });
            made.push(server.post("/workspaces", body).await.ok());
        }
        made
    };
    let made = futures::future::join_all((0..20).map(write)).await;
    let made: Vec<Value> = made.into_iter().flatten().collect();
    let names: BTreeSet<&str> = made.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 80, "a name was given twice");
    let all: BTreeSet<String> = made.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    for server in &servers {
        server.until("everybody knows everything", async |server| ids(server).await == all).await;
    }
    let gaps = "SELECT (SELECT seq FROM event_head) - COUNT(*) FROM events";
    assert_eq!(stored(&database, gaps).await, 0, "numbers of events have no gaps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_dead_leader_is_replaced() {
    let database = Database::postgres().await;
    let mut servers = three(&database, &[("REMOTE_LIVENESS_STALE_AFTER", "2")]).await;
    let acts = async |server: &Server| server.metric("isomer_reconciles").await == Some(1.0);
    let mut leader = None;
    while leader.is_none() {
        for (at, server) in servers.iter().enumerate() {
            if acts(server).await {
                assert!(leader.replace(at).is_none(), "two act at once");
            }
        }
    }
    let body = json!({ "name": "A", "external": true, "url": "http://localhost:9" });
    let id = servers[0].workspace(body).await;
    servers.remove(leader.unwrap()).kill();
    // Nobody has said goodbye. One of the others takes over, and does what is due, once.
    let [one, other] = servers.as_slice() else { panic!("two are left") };
    let path = format!("/workspaces/{id}");
    for server in [one, other] {
        server
            .until("its silence is noticed", async |server| {
                server.get(&path).await.ok()["status"] == "awaiting_agent"
            })
            .await;
    }
    assert!(acts(one).await ^ acts(other).await, "one acts");
    let told = format!(
        "SELECT COUNT(*) FROM events WHERE workspace_id = '{id}' AND event_type = 'WORKSPACE_OFFLINE'"
    );
    assert_eq!(stored(&database, &told).await, 1, "and it was told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn guests_are_swapped_on_every_server_under_load() {
    let database = Database::postgres().await;
    let servers = three(&database, &[]).await;
    let [a, b, c] = servers.as_slice() else { panic!("three") };
    a.settings("mock", json!({ "replies": ["first"] })).await.ok();
    for server in &servers {
        server.until("the settings are followed", async |server| server.reply("mock").await == "first").await;
    }
    let first = a.guest("mock").await["release"].as_str().unwrap().to_owned();
    let second = a.push("mock", &Components::get().second_mock, false).await.ok();
    let second = second["digest"].as_str().unwrap().to_owned();
    let answers = async |release: &str| {
        for server in &servers {
            server
                .until("the activated release answers", async |server| {
                    server.say("mock", "hello").await.ok()["release"] == release
                })
                .await;
        }
    };

    let over = AtomicBool::new(false);
    let load = async |server: &Server| {
        let mut calls = 0_u64;
        while !over.load(Ordering::Relaxed) {
            let called = server.say("mock", "hello").await.ok();
            let expected = if called["release"] == second { "second" } else { "first" };
            assert_eq!(called["answer"][0], expected, "{called}");
            calls += 1;
        }
        calls
    };
    let swaps = async {
        // Each server in turn swaps; the others follow, also those that never had the bytes.
        for (server, release) in [(a, &second), (b, &first), (c, &second), (a, &first), (b, &second)] {
            server.activate("mock", release).await.ok();
            answers(release).await;
        }
        c.post("/admin/guests/mock/rollback", json!({})).await.ok();
        answers(&first).await;
        over.store(true, Ordering::Relaxed);
    };
    let (on_a, on_b, on_c, ()) = tokio::join!(load(a), load(b), load(c), swaps);
    assert!(on_a > 0 && on_b > 0 && on_c > 0, "calls: {on_a}, {on_b}, {on_c}");

    // Settings, trust, the pool, enabling: the row is one on all.
    b.settings("mock", json!({ "replies": ["new"] })).await.ok();
    for (path, field, value) in [
        ("per-call", "pooled", json!(false)),
        ("pooled", "pooled", json!(true)),
        ("disable", "state", json!("disabled")),
        ("enable", "state", json!("active")),
    ] {
        a.post(&format!("/admin/guests/mock/{path}"), json!({})).await.ok();
        for server in [b, c] {
            server
                .until("the row is followed", async |server| server.guest("mock").await[field] == value)
                .await;
        }
    }
    c.until("the settings are followed", async |c| c.reply("mock").await == "new").await;

    // A guest that is new to them; and a release that is deleted.
    let mine = a.push("mine", &variant(&Components::get().hostile, 3), true).await.ok();
    for server in [b, c] {
        server
            .until("the new guest answers", async |server| {
                server.say("mine", "hello").await.status.is_success()
            })
            .await;
        assert_eq!(server.guest("mine").await["release"], mine["digest"]);
    }
    b.request(Method::DELETE, &format!("/admin/guests/mock/releases/{second}"), None).await.ok();
    c.until("the deletion is followed", async |c| {
        c.guest("mock").await["releases"].as_array().unwrap().len() == 1
    })
    .await;
    let bytes = format!("SELECT COUNT(*) FROM guest_components WHERE digest = '{second}'");
    assert_eq!(stored(&database, &bytes).await, 0, "the component goes with its last release");
}
