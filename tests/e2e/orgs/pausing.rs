//! Nothing below a paused workspace runs, also what comes there later.

use serde_json::{Value, json};
use support::{Database, Server, on_both_databases};

use super::{events, field, inline, workspaces};

async fn statuses(server: &Server) -> Vec<(String, String)> {
    let all = workspaces(server).await;
    let text = |it: &Value, field: &str| it[field].as_str().unwrap().to_owned();
    all.iter().map(|it| (text(it, "name"), text(it, "status"))).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, status)| ((*name).to_owned(), (*status).to_owned())).collect()
}

on_both_databases! {
    async fn workspaces_imported_below_a_paused_one_are_paused(database: Database) {
        let server = Server::start(database).await;
        let org = |children: Value| {
            let team = json!({ "name": "Team", "runtime": "mock", "children": children });
            json!({ "name": "T", "workspaces": [{ "name": "Lead", "runtime": "mock", "children": [team] }] })
        };
        inline(&server, org(json!([]))).await.ok();
        let all = workspaces(&server).await;
        let lead = field(&all, "Lead")["id"].as_str().unwrap().to_owned();
        server.post(&format!("/workspaces/{lead}/pause"), json!({})).await.ok();
        let children = json!([
            { "name": "Agent", "runtime": "mock", "children": [{ "name": "Below", "runtime": "mock" }] },
            { "name": "Box" },
            { "name": "Away", "external": true },
        ]);
        inline(&server, org(children)).await.ok();
        assert_eq!(
            statuses(&server).await,
            pairs(&[("Lead", "paused"), ("Team", "paused"), ("Agent", "paused"), ("Below", "paused"), ("Box", "paused"), ("Away", "paused")])
        );
        let of_agent: Vec<Value> = events(&server).await.into_iter().filter(|it| it["payload"]["name"] == "Agent").collect();
        let kinds: Vec<&str> = of_agent.iter().map(|it| it["event_type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["WORKSPACE_PROVISIONING", "WORKSPACE_PAUSED"]);
        // Beside them, nothing changes.
        inline(&server, json!({ "name": "O", "workspaces": [{ "name": "Other", "runtime": "mock" }] })).await.ok();
        assert_eq!(statuses(&server).await[6].1, "online");

        // They are resumed with their ancestor, as any other.
        let box_ = field(&workspaces(&server).await, "Box")["id"].as_str().unwrap().to_owned();
        server.delete(&format!("/workspaces/{box_}")).await.ok();
        server.post(&format!("/workspaces/{lead}/resume"), json!({})).await.ok();
        assert_eq!(
            statuses(&server).await,
            pairs(&[("Lead", "online"), ("Team", "online"), ("Agent", "online"), ("Below", "online"), ("Away", "awaiting_agent"), ("Other", "online")])
        );
    }

    async fn workspaces_created_or_moved_below_a_paused_one_are_paused(database: Database) {
        let server = Server::start(database).await;
        let parent = server.workspace(json!({ "name": "P", "runtime": "mock" })).await;
        let child = server.workspace(json!({ "name": "C", "runtime": "mock", "parent_id": parent })).await;
        server.post(&format!("/workspaces/{parent}/pause"), json!({})).await.ok();
        for body in [json!({ "name": "M", "runtime": "mock" }), json!({ "name": "Box" }), json!({ "name": "X", "external": true })] {
            let mut body = body;
            body["parent_id"] = json!(child);
            let made = server.post("/workspaces", body.clone()).await;
            assert_eq!(made.status, 201);
            assert_eq!(made.json["status"], "paused", "{}", made.json);
            // The agent of an external workspace needs its token, now or later.
            assert_eq!(made.json["connection"].is_object(), body["name"] == "X", "{}", made.json);
        }
        // A move is the same: the workspace and all below it.
        let moved = server.workspace(json!({ "name": "Moved", "runtime": "mock" })).await;
        server.workspace(json!({ "name": "Below", "runtime": "mock", "parent_id": moved })).await;
        server.patch(&format!("/workspaces/{moved}"), json!({ "parent_id": child })).await.ok();
        assert!(statuses(&server).await.iter().all(|(_, status)| status == "paused"), "{:?}", statuses(&server).await);
        let paused = events(&server).await;
        let paused: Vec<&str> = paused
            .iter()
            .filter(|it| it["event_type"] == "WORKSPACE_PAUSED")
            .map(|it| it["payload"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(paused, ["P", "C", "M", "Box", "X", "Moved", "Below"]);
        // Moved out again, it stays paused until it is resumed.
        server.patch(&format!("/workspaces/{moved}"), json!({ "parent_id": null })).await.ok();
        let all = workspaces(&server).await;
        assert_eq!(field(&all, "Moved")["status"], "paused");
        server.post(&format!("/workspaces/{moved}/resume"), json!({})).await.ok();
        let all = workspaces(&server).await;
        assert_eq!((&field(&all, "Moved")["status"], &field(&all, "Below")["status"]), (&json!("online"), &json!("online")));
    }
}
