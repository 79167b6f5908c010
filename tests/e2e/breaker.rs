//! The breaker: a release that keeps failing is taken out of service.

use serde_json::json;

use support::{Agent, Components, Database, Server, on_both_databases, variant};

/// A workspace of the runtime that the guest answers for, with a working agent. Returns its id.
async fn served(server: &Server, agent: &Agent) -> String {
    let id = server.workspace(json!({ "name": "Served", "runtime": "hostile" })).await;
    let body = json!({ "id": id, "url": agent.url, "agent_card": {} });
    server.post("/registry/register", body).await.ok();
    id
}

/// Sends a message, which the guest translates. The agent gets it in any case.
async fn serve(server: &Server, id: &str, text: &str) {
    let message = json!({ "role": "user", "parts": [{ "kind": "text", "text": text }] });
    let body =
        json!({ "jsonrpc": "2.0", "id": "1", "method": "message/send", "params": { "message": message } });
    server.post(&format!("/workspaces/{id}/a2a"), body).await.ok();
}

on_both_databases! {
    async fn a_failing_release_is_replaced_by_the_last_good_one(database: Database) {
        let server = Server::start(database).await;
        let good = server.push("mine", &Components::get().hostile, true).await.ok();
        let bad = server.push("mine", &variant(&Components::get().hostile, 1), true).await.ok();

        // The breaker counts consecutive failures: a success resets it.
        let agent = Agent::start().await;
        let id = served(&server, &agent).await;
        for text in ["panic", "panic", "panic", "panic", "hello", "panic"] {
            serve(&server, &id, text).await;
        }
        // Trial calls neither count nor reset.
        for _ in 0..6 {
            server.send_text("mine", "panic").await.error(502);
        }
        server.send_text("mine", "hello").await.ok();
        assert_eq!(server.guest("mine").await["release"], bad["digest"]);

        for _ in 0..4 {
            serve(&server, &id, "panic").await;
        }
        server.until("the good release answers", async |server| {
            server.guest("mine").await["release"] == good["digest"]
        }).await;
        let left = server.guest("mine").await["releases"][0].clone();
        assert_eq!(left["state"], "rejected");
        let reason = left["reason"].as_str().unwrap();
        assert!(reason.starts_with("5 failures in a row") && reason.contains("panic requested"), "{reason}");
        server.send_text("mine", "hello").await.ok();

        let server = server.restart().await;
        assert_eq!(server.guest("mine").await["release"], good["digest"]);
    }

    async fn without_a_good_release_host_defaults_answer(database: Database) {
        let server = Server::start(database).await;
        server.push("mine", &Components::get().hostile, true).await.ok();
        let agent = Agent::start().await;
        let id = served(&server, &agent).await;
        for _ in 0..5 {
            serve(&server, &id, "panic").await;
        }
        server.until("the guest is out of service", async |server| {
            server.guest("mine").await["state"] == json!("host_default")
        }).await;
        server.send_text("mine", "hello").await.error(409);
        let tripped = r#"isomer_guest_changes_total{guest="mine",change="tripped"}"#;
        server.until("it is counted", async |server| server.metric(tripped).await == Some(1.0)).await;

        // An operator can activate the rejected release again.
        let release = server.guest("mine").await["releases"][0]["digest"].as_str().unwrap().to_owned();
        server.activate("mine", &release).await.ok();
        server.send_text("mine", "hello").await.ok();
    }
}
