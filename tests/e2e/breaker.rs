//! The breaker: a release that keeps failing is taken out of service.

use serde_json::json;

use support::{Agent, Components, Database, Server, on_both_databases, variant};

/// Workspaces of the runtime that the guest answers for, with a working agent. Returns their ids.
async fn served_ones(server: &Server, agent: &Agent) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(served(server, agent).await);
    }
    ids
}

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
        let ids = served_ones(&server, &agent).await;
        for (id, text) in ids[..4].iter().zip(["panic"; 4]).chain([(&ids[4], "hello"), (&ids[4], "panic")]) {
            serve(&server, id, text).await;
        }
        // Trial calls neither count nor reset.
        for _ in 0..6 {
            server.send_text("mine", "panic").await.error(502);
        }
        server.send_text("mine", "hello").await.ok();
        assert_eq!(server.guest("mine").await["release"], bad["digest"]);

        for id in &ids[..4] {
            serve(&server, id, "panic").await;
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

    async fn one_workspace_takes_the_runtime_from_no_other(database: Database) {
        let server = Server::start(database).await;
        let release = server.push("mine", &Components::get().hostile, true).await.ok();
        let agent = Agent::start().await;
        let (bad, good) = (served(&server, &agent).await, served(&server, &agent).await);
        for number in 0..12 {
            // Whatever it sends.
            serve(&server, &bad, if number % 2 == 0 { "panic" } else { "loop" }).await;
        }
        assert_eq!(server.metric(r#"isomer_guest_changes_total{guest="mine",change="tripped"}"#).await, None);
        assert_eq!(server.guest("mine").await["release"], release["digest"]);
        serve(&server, &good, "hello").await;
        let received = agent.received(13).await.remove(12).body;
        assert_eq!(received["params"]["message"]["parts"][0]["text"], "translated");
    }

    async fn without_a_good_release_nothing_answers_and_the_name_stays(database: Database) {
        let server = Server::start(database).await;
        server.push("mine", &Components::get().hostile, true).await.ok();
        let agent = Agent::start().await;
        for id in served_ones(&server, &agent).await {
            serve(&server, &id, "panic").await;
        }
        server.until("the guest is out of service", async |server| {
            server.guest("mine").await["state"] == json!("host_default")
        }).await;
        server.send_text("mine", "hello").await.error(409);
        assert_eq!(server.guest("mine").await["description"]["name"], "hostile");
        let id = server.workspace(json!({ "name": "Later", "runtime": "hostile" })).await;
        assert_eq!(server.get(&format!("/workspaces/{id}")).await.ok()["runtime"], "hostile");
        let tripped = r#"isomer_guest_changes_total{guest="mine",change="tripped"}"#;
        server.until("it is counted", async |server| server.metric(tripped).await == Some(1.0)).await;

        // An operator can activate the rejected release again.
        let release = server.guest("mine").await["releases"][0]["digest"].as_str().unwrap().to_owned();
        server.activate("mine", &release).await.ok();
        server.send_text("mine", "hello").await.ok();
    }
}
