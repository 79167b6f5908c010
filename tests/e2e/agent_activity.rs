//! The activity of deliveries that take long, and of those whose server ends before them.

use reqwest::Method;
use serde_json::{Value, json};

use support::{Agent, Database, Reaction, Server, Socket, Start, feed, on_both_databases};

fn message(text: &str) -> Value {
    let part = json!({ "kind": "text", "text": text });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "message/send", "params": { "message": { "parts": [part] } } })
}

/// Sends without waiting for the answer, which may never come.
fn begin(server: &Server, id: &str, text: &str) -> tokio::task::JoinHandle<()> {
    let request =
        reqwest::Client::new().post(format!("{}/workspaces/{id}/a2a", server.url)).json(&message(text));
    tokio::spawn(async move {
        let _ = request.send().await;
    })
}

/// Another server finds out soon that one ended.
fn quick(database: &Database) -> Start {
    Start::from(database.clone()).env("SERVER_LEASE_SECONDS", "1")
}

async fn until_pending(server: &Server, id: &str) -> Value {
    server.until("the delivery is seen", async |server| server.activity(id).await.len() == 1).await;
    server.activity(id).await.remove(0)
}

on_both_databases! {
    async fn a_long_delivery_is_seen_before_it_ends_and_is_one_row(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let (answer, reaction) = feed();
        agent.react([reaction]);
        let mut socket = Socket::canvas(&server).await;
        let sent = begin(&server, &id, "long");
        let pending = until_pending(&server, &id).await;
        for (field, value) in [
            ("status", json!("pending")), ("activity_type", json!("a2a_receive")), ("duration_ms", json!(null)),
            ("summary", json!("message/send → Agent")), ("error_detail", json!(null)),
        ] {
            assert_eq!(pending[field], value, "{field}");
        }
        assert_eq!(pending["request_body"]["params"]["message"]["parts"][0]["text"], "long");
        answer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}".to_vec()).unwrap();
        sent.await.unwrap();
        assert_eq!(socket.message_event().await["event"], "A2A_RESPONSE");
        let logged = socket.message_event().await;
        assert_eq!((&logged["event"], &logged["payload"]["status"]), (&json!("ACTIVITY_LOGGED"), &json!("ok")));
        let ended = server.activity(&id).await;
        assert_eq!(ended.len(), 1);
        for (field, value) in [
            ("id", &pending["id"]), ("created_at", &pending["created_at"]), ("status", &json!("ok")),
            ("response_body", &json!({ "a": 1 })), ("request_body", &pending["request_body"]),
        ] {
            assert_eq!(&ended[0][field], value, "{field}");
        }
        assert_eq!(logged["payload"]["id"], pending["id"]);
        assert!(ended[0]["duration_ms"].as_i64().unwrap() >= 1_000);
    }

    async fn a_long_delivery_that_is_queued_is_one_row(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        agent.react([Reaction::Stall]);
        let path = format!("/workspaces/{id}/a2a");
        let answer = server.with(&[("X-Timeout", "2")], Method::POST, &path, Some(message("long"))).await.ok();
        assert_eq!(answer["queued"], true);
        let rows = server.activity(&id).await;
        assert_eq!((rows.len(), &rows[0]["status"]), (1, &json!("error")));
        assert_eq!(rows[0]["error_detail"], "no answer came: the deadline passed");
    }

    async fn a_delivery_cut_by_a_kill_is_ended_by_the_next_start(database: Database) {
        let (server, agent) = (Server::start(quick(&database)).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        agent.react([Reaction::Stall]);
        let sent = begin(&server, &id, "cut");
        let pending = until_pending(&server, &id).await;
        let server = server.kill_and_restart().await;
        sent.await.unwrap();
        let ended = server.ended_row(&id, 1).await;
        let error = "the server stopped before an answer came";
        assert_eq!((&ended["id"], &ended["error_detail"]), (&pending["id"], &json!(error)));
        assert_eq!(ended["summary"], format!("A2A request to Agent failed: {error}"));
        assert_eq!(ended["request_body"], pending["request_body"]);
        assert_eq!(server.activity(&id).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_living_server_ends_what_a_killed_one_was_delivering_and_nothing_else() {
    let database = Database::postgres().await;
    let (agent, working) = (Agent::start().await, Agent::start().await);
    let mut killed = Server::start(quick(&database)).await;
    let living = Server::start(quick(&database)).await;
    let (cut, long) = (living.agent_at(&agent.url).await, living.agent_at(&working.url).await);
    let (answer, reaction) = feed();
    agent.react([Reaction::Stall]);
    working.react([reaction]);
    let (left, kept) = (begin(&killed, &cut, "cut"), begin(&living, &long, "long"));
    let (pending, working_on) = (until_pending(&living, &cut).await, until_pending(&living, &long).await);
    let mut socket = Socket::canvas(&living).await;
    killed.kill();
    left.await.unwrap();
    let ended = living.ended_row(&cut, 1).await;
    assert_eq!((&ended["id"], &ended["status"]), (&pending["id"], &json!("error")));
    // A server that starts now has nothing to end.
    let third = Server::start(quick(&database)).await;
    assert_eq!(third.activity(&long).await, [working_on]);
    answer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}".to_vec()).unwrap();
    kept.await.unwrap();
    let done = third.ended_row(&long, 1).await;
    assert_eq!(done["status"], "ok");
    assert_eq!((third.activity(&cut).await.len(), third.activity(&long).await.len()), (1, 1));
    let mut logged = Vec::new();
    while logged.len() < 2 {
        let event = socket.message_event().await;
        if event["event"] == "ACTIVITY_LOGGED" {
            logged.push((event["payload"]["id"].clone(), event["payload"]["status"].clone()));
        }
    }
    let expected = [(pending["id"].clone(), json!("error")), (done["id"].clone(), json!("ok"))];
    assert_eq!(logged, expected, "each is published once");
}
