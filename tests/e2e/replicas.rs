//! Three servers that share one Postgres.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use reqwest::Method;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};

use support::{Components, Database, Server, Socket, Start, variant};

async fn start_three(database: &Database, env: &[(&'static str, &str)]) -> Vec<Server> {
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

/// The number that a query returns.
async fn select_number(database: &Database, sql: &str) -> i64 {
    let connection = database.raw().await;
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let count = connection.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap();
    connection.close().await.unwrap();
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn changes_of_one_server_are_visible_on_the_others() {
    let database = Database::postgres().await;
    let servers = start_three(&database, &[("MOLECULE_ENV", "staging"), ("ADMIN_TOKEN", "t")]).await;
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
    // Name and layout are replicated.
    ask(b, Method::PATCH, &path, json!({ "name": "Other", "x": 7, "y": 8 })).await.ok();
    a.until("the edit is seen", async |a| {
        let row = a.ask("t", Method::GET, &path, None).await.ok();
        row["name"] == "Other" && row["x"] == 7
    })
    .await;
    // A token made on one server is valid on another; revoked there, it is invalid on both.
    let token = ask(a, Method::POST, &format!("{path}/tokens"), json!({})).await.ok();
    let token = token["auth_token"].as_str().unwrap();
    let state = format!("{path}/state");
    b.until("the token is valid", async |b| b.ask(token, Method::GET, &state, None).await.status == 200)
        .await;
    let list = ask(b, Method::GET, &format!("{path}/tokens"), json!({})).await.ok();
    let id = list["tokens"][0]["id"].as_str().unwrap();
    ask(b, Method::DELETE, &format!("{path}/tokens/{id}"), json!({})).await.ok();
    assert_eq!(
        b.ask(token, Method::GET, &state, None).await.status,
        401,
        "invalid at once on the server that revoked it"
    );
    a.until("the token is invalid", async |a| a.ask(token, Method::GET, &state, None).await.status == 401)
        .await;
    // A workspace that another server has just removed cannot become a parent.
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
    let servers = start_three(&database, &[]).await;
    // All servers create the same names: each is used once, the others get a number.
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
        server.until("each server lists all workspaces", async |server| ids(server).await == all).await;
    }
    let gaps = "SELECT (SELECT seq FROM event_head) - COUNT(*) FROM events";
    assert_eq!(select_number(&database, gaps).await, 0, "numbers of events have no gaps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_dead_leader_is_replaced() {
    let database = Database::postgres().await;
    let mut servers = start_three(&database, &[("REMOTE_LIVENESS_STALE_AFTER", "2")]).await;
    let acts = async |server: &Server| server.metric("isomer_reconciles").await == Some(1.0);
    let mut leader = None;
    while leader.is_none() {
        for (at, server) in servers.iter().enumerate() {
            if acts(server).await {
                assert!(leader.replace(at).is_none(), "two servers act at once");
            }
        }
    }
    let body = json!({ "name": "A", "external": true, "url": "http://localhost:9" });
    let id = servers[0].workspace(body).await;
    servers.remove(leader.unwrap()).kill();
    // The leader died without releasing its lease. One other server takes over and handles each deadline once.
    let [one, other] = servers.as_slice() else { panic!("two are left") };
    let path = format!("/workspaces/{id}");
    for server in [one, other] {
        server
            .until("the heartbeat timeout is handled", async |server| {
                server.get(&path).await.ok()["status"] == "awaiting_agent"
            })
            .await;
    }
    assert!(acts(one).await ^ acts(other).await, "one server acts");
    let query = format!(
        "SELECT COUNT(*) FROM events WHERE workspace_id = '{id}' AND event_type = 'WORKSPACE_OFFLINE'"
    );
    assert_eq!(select_number(&database, &query).await, 1, "one event for one transition");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn guests_are_swapped_on_every_server_under_load() {
    let database = Database::postgres().await;
    let servers = start_three(&database, &[]).await;
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
                    server.send_text("mock", "hello").await.ok()["release"] == release
                })
                .await;
        }
    };

    let over = AtomicBool::new(false);
    let load = async |server: &Server| {
        let mut calls = 0_u64;
        while !over.load(Ordering::Relaxed) {
            let called = server.send_text("mock", "hello").await.ok();
            let expected = if called["release"] == second { "second" } else { "first" };
            assert_eq!(called["answer"][0], expected, "{called}");
            calls += 1;
        }
        calls
    };
    let swaps = async {
        // The servers swap in turn. The others follow, also those that never had the bytes.
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

    // Settings, the pool and enabling are replicated.
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

    // New guests and deleted releases are replicated.
    let mine = a.push("mine", &variant(&Components::get().hostile, 3), true).await.ok();
    for server in [b, c] {
        server
            .until("the new guest answers", async |server| {
                server.send_text("mine", "hello").await.status.is_success()
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
    assert_eq!(select_number(&database, &bytes).await, 0, "the component goes with its last release");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_ticket_of_one_server_opens_one_socket_at_any() {
    let database = Database::postgres().await;
    let servers = start_three(&database, &[("MOLECULE_ENV", "staging"), ("ADMIN_TOKEN", "t")]).await;
    for round in 0..5 {
        let made = servers[round % 3].ask("t", Method::POST, "/ws/ticket", None).await.ok();
        let query = format!("?ticket={}", made["ticket"].as_str().unwrap());
        let opened = servers.iter().chain(&servers).map(|server| Socket::open(server, &query, &[]));
        let opened = futures::future::join_all(opened).await;
        let statuses: Vec<u16> = opened.iter().filter_map(|it| it.as_ref().err().map(|it| it.0)).collect();
        assert_eq!(statuses, [401; 5], "round {round}");
    }
}
