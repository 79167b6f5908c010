//! The workspace resource: create, read, edit, remove (workspaces.md §§2–6).

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use support::{Database, Server, Start, on_both_databases};

const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

async fn one(server: &Server, id: &str) -> Value {
    server.get(&format!("/workspaces/{id}")).await.ok()
}

async fn status(server: &Server, id: &str) -> String {
    one(server, id).await["status"].as_str().expect("a status").to_owned()
}

on_both_databases! {
    async fn directories_of_the_system_and_the_server_are_refused_by_any_name(database: Database) {
        let server = Server::start(database).await;
        let data = server.components().parent().unwrap().to_owned();
        let outside = tempfile::tempdir().unwrap();
        let link = outside.path().join("link");
        std::os::unix::fs::symlink(&data, &link).unwrap();
        let run = std::fs::canonicalize("/var/run").unwrap();
        let id = server.workspace(json!({ "name": "W", "runtime": "mock" })).await;
        for dir in [data.clone(), data.join("components"), data.parent().unwrap().to_owned(), link, run.join("docker.sock")] {
            let body = json!({ "name": "A", "runtime": "mock", "workspace_dir": dir });
            assert_eq!(server.post("/workspaces", body).await.error(400), "invalid workspace directory", "{dir:?}");
            let edited = server.patch(&format!("/workspaces/{id}"), json!({ "workspace_dir": dir })).await;
            assert_eq!(edited.error(400), "invalid workspace directory", "{dir:?}");
            let node = json!({ "name": "A", "runtime": "mock", "workspace_dir": dir, "workspace_access": "read_write" });
            let import = json!({ "template": { "name": "T", "workspaces": [node] } });
            let imported = server.post("/org/import", import).await;
            assert!(imported.json["error"].as_str().unwrap().contains("workspace_dir must not"), "{}", imported.json);
        }
        let body = json!({ "name": "A", "runtime": "mock", "workspace_dir": outside.path().join("work") });
        server.post("/workspaces", body).await.ok();
    }

    async fn synthetic_workspaces_are_online_at_once(database: Database) {
        let server = Server::start(database).await;
        let made = server.post("/workspaces", json!({ "name": "Echo", "runtime": "mock" })).await;
        assert_eq!(made.status, 201);
        let made = made.json;
        assert_eq!(keys(&made), ["awareness_namespace", "id", "name", "status", "workspace_access"]);
        assert_eq!(made["status"], "online");
        assert_eq!(made["workspace_access"], "none");
        assert_eq!(made["awareness_namespace"], format!("workspace:{}", made["id"].as_str().unwrap()));
        let list = server.get("/workspaces").await.ok();
        let listed = &list[0];
        let expected = json!({
            "active_tasks": 0, "agent_card": null, "budget_limit": null, "collapsed": false,
            "created_at": listed["created_at"], "current_task": "", "delivery_mode": "push",
            "id": made["id"], "last_error_rate": 0, "last_heartbeat_at": null, "last_sample_error": "",
            "max_concurrent_tasks": 1, "monthly_spend": 0, "name": "Echo", "parent_id": null,
            "role": null, "runtime": "mock", "status": "online", "tier": 3, "uptime_seconds": 0,
            "url": "", "workspace_dir": null, "x": 0, "y": 0,
        });
        assert_eq!(*listed, expected);
    }

    async fn a_container_without_a_backend_is_accepted_and_fails(database: Database) {
        let server = Server::start(database).await;
        let made = server.post("/workspaces", json!({ "name": "Box" })).await;
        assert_eq!((made.status.as_u16(), &made.json["status"]), (201, &json!("provisioning")));
        let id = made.json["id"].as_str().unwrap();
        let row = one(&server, id).await;
        assert_eq!(row["status"], "failed");
        assert_eq!(row["runtime"], "langgraph");
        let error = row["last_sample_error"].as_str().unwrap();
        assert!(error.starts_with("no provisioning backend available — workspace requires either"), "{error}");
        for verb in ["restart", "pause"] {
            let answer = server.post(&format!("/workspaces/{id}/{verb}"), json!({})).await;
            match verb {
                "restart" => assert_eq!(answer.error(503), "provisioner not available"),
                _ => assert_eq!(answer.ok(), json!({ "paused_count": 1, "status": "paused" })),
            }
        }
        let resumed = server.post(&format!("/workspaces/{id}/resume"), json!({})).await;
        assert_eq!(resumed.error(503), "provisioner not available");
    }

    async fn external_agents_are_awaited_or_online(database: Database) {
        let server = Server::start(database).await;
        let made = server.post("/workspaces", json!({ "name": "Poll", "external": true })).await;
        assert_eq!(made.status, 201);
        assert_eq!(keys(&made.json), ["connection", "external", "id", "name", "status"]);
        assert_eq!(made.json["status"], "awaiting_agent");
        let connection = &made.json["connection"];
        assert_eq!(connection["auth_token"].as_str().unwrap().len(), 43);
        assert_eq!(connection["platform_url"], server.url);
        assert_eq!(connection["workspace_id"], made.json["id"]);
        let id = made.json["id"].as_str().unwrap();
        let row = one(&server, id).await;
        assert_eq!((&row["runtime"], &row["delivery_mode"]), (&json!("external"), &json!("poll")));
        assert_eq!(row["status"], "awaiting_agent");

        let body = json!({ "name": "Push", "runtime": "external", "url": "http://localhost:9/a" });
        let made = server.post("/workspaces", body).await;
        assert_eq!(keys(&made.json), ["external", "id", "name", "status"]);
        assert_eq!(made.json["status"], "online");
        let row = one(&server, made.json["id"].as_str().unwrap()).await;
        assert_eq!((&row["url"], &row["delivery_mode"]), (&json!("http://localhost:9/a"), &json!("push")));

        for (url, text) in [
            ("ftp://a.example", "url scheme must be http or https, got \"ftp\""),
            ("http://169.254.169.254/", "url targets a blocked address: link-local address (cloud metadata endpoint)"),
            ("http://10.0.0.1/", "url targets a blocked address: RFC-1918 private address"),
        ] {
            let body = json!({ "name": "Bad", "external": true, "url": url });
            assert_eq!(server.post("/workspaces", body).await.error(400), text);
        }
        assert_eq!(server.get("/workspaces").await.ok().as_array().unwrap().len(), 2);
    }

    async fn siblings_never_share_a_name(database: Database) {
        let server = Server::start(database).await;
        let made = async |body: Value| server.post("/workspaces", body).await.ok()["name"].clone();
        assert_eq!(made(json!({ "name": "A", "runtime": "mock" })).await, "A");
        assert_eq!(made(json!({ "name": "A", "runtime": "mock" })).await, "A (2)");
        assert_eq!(made(json!({ "name": "A", "runtime": "mock" })).await, "A (3)");
        let parent = server.workspace(json!({ "name": "Parent", "runtime": "mock" })).await;
        assert_eq!(made(json!({ "name": "A", "runtime": "mock", "parent_id": parent })).await, "A");
        let other = server.workspace(json!({ "name": "B", "runtime": "mock" })).await;
        let taken = server.patch(&format!("/workspaces/{other}"), json!({ "name": "A" })).await;
        assert_eq!(taken.error(409), "workspace name already taken");
        assert_eq!(taken.json["code"], "name_conflict");
        assert_eq!(one(&server, &other).await["name"], "B");
        // Ten concurrent requests get ten names.
        let body = json!({ "name": "Many", "runtime": "mock" });
        let all = futures::future::join_all((0..10).map(|_| made(body.clone()))).await;
        let names: std::collections::BTreeSet<String> = all.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        assert_eq!(names.len(), 10, "{names:?}");
        // A removal frees the name.
        server.delete(&format!("/workspaces/{other}")).await.ok();
        assert_eq!(made(json!({ "name": "B", "runtime": "mock" })).await, "B");
    }

    async fn invalid_workspaces_are_refused_without_a_row(database: Database) {
        let server = Server::start(database).await;
        let mock = |fields: Value| {
            let mut body = json!({ "name": "N", "runtime": "mock" });
            body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            body
        };
        let fields = "invalid workspace fields";
        let payload = "invalid workspace payload";
        for (body, text) in [
            (json!({}), payload),
            (json!({ "name": "" }), payload),
            (json!({ "name": 1 }), payload),
            (json!([]), payload),
            (mock(json!({ "tier": "1" })), payload),
            (mock(json!({ "secrets": { "A": 1 } })), payload),
            (mock(json!({ "name": "a\nb" })), fields),
            (mock(json!({ "name": "a{b" })), fields),
            (mock(json!({ "name": "x".repeat(256) })), fields),
            (mock(json!({ "role": "x".repeat(1001) })), fields),
            (mock(json!({ "model": "a\rb" })), fields),
            (mock(json!({ "runtime": "x".repeat(101) })), fields),
            (mock(json!({ "tier": 5 })), fields),
            (mock(json!({ "tier": -1 })), fields),
            (mock(json!({ "template": "../x" })), "invalid template"),
            (mock(json!({ "template": "/etc" })), "invalid template"),
            (mock(json!({ "workspace_dir": "relative" })), "invalid workspace directory"),
            (mock(json!({ "workspace_dir": "/etc/x" })), "invalid workspace directory"),
            (mock(json!({ "workspace_access": "read_only" })), "invalid workspace access"),
            (mock(json!({ "workspace_access": "all" })), "invalid workspace access"),
            (mock(json!({ "delivery_mode": "webhook" })), "delivery_mode must be 'push' or 'poll'"),
            (mock(json!({ "parent_id": UNKNOWN })), "parent workspace not found"),
            (mock(json!({ "parent_id": "x" })), "parent workspace not found"),
            (mock(json!({ "secrets": { "1A": "x" } })), "invalid secret key"),
            (mock(json!({ "secrets": { "PATH": "x" } })), "reserved key"),
            (mock(json!({ "secrets": { "LD_AUDIT": "x" } })), "reserved key"),
            (mock(json!({ "secrets": { "GIT_SSH_COMMAND": "x" } })), "reserved key"),
        ] {
            let answer = server.post("/workspaces", body.clone()).await;
            assert_eq!(answer.error(400), text, "{body}");
        }
        assert_eq!(server.get("/workspaces").await.ok(), json!([]));
    }

    async fn fields_are_stored_as_the_contract_says(database: Database) {
        let server = Server::start(database).await;
        let id = server.workspace(json!({
            "name": "N", "runtime": "mock", "role": "", "tier": 2, "budget_limit": 99.9, "max_concurrent_tasks": -3,
            "canvas": { "x": 1.5, "y": -2 }, "workspace_dir": "/srv/x", "workspace_access": "read_write",
            "id": UNKNOWN, "unknown": true,
        })).await;
        assert_ne!(id, UNKNOWN);
        let row = one(&server, &id).await;
        for (field, value) in [
            ("role", json!(null)), ("tier", json!(2)), ("budget_limit", json!(99)), ("max_concurrent_tasks", json!(1)),
            ("x", json!(1.5)), ("y", json!(-2)), ("workspace_dir", json!("/srv/x")),
        ] {
            assert_eq!(row[field], value, "{field}");
        }
        let unknown = server.workspace(json!({ "name": "U", "runtime": "unknown-runtime" })).await;
        assert_eq!(one(&server, &unknown).await["runtime"], "claude-code");
    }

    async fn an_edit_is_atomic(database: Database) {
        let server = Server::start(database).await;
        let root = server.workspace(json!({ "name": "Root", "runtime": "mock" })).await;
        let child = server.workspace(json!({ "name": "Child", "runtime": "mock", "parent_id": root })).await;
        let path = format!("/workspaces/{child}");
        let ok = json!({ "status": "updated" });
        assert_eq!(server.patch(&path, json!({ "name": "C", "role": "r", "tier": 1, "x": 5, "y": 6 })).await.ok(), ok);
        assert_eq!(server.patch(&path, json!({ "collapsed": true })).await.ok(), ok);
        assert_eq!(server.patch(&path, json!({ "x": 9 })).await.ok(), ok);
        assert_eq!(server.patch(&path, json!({ "status": "failed", "budget_limit": 1, "model": "m" })).await.ok(), ok);
        let row = one(&server, &child).await;
        assert_eq!(row["name"], "C");
        assert_eq!((&row["role"], &row["tier"]), (&json!("r"), &json!(1)));
        assert_eq!((&row["x"], &row["y"], &row["collapsed"]), (&json!(5), &json!(6), &json!(true)));
        assert_eq!((&row["status"], &row["budget_limit"]), (&json!("online"), &json!(null)));
        let restart = json!({ "needs_restart": true, "status": "updated" });
        assert_eq!(server.patch(&path, json!({ "workspace_dir": "/srv" })).await.ok(), restart);
        assert_eq!(server.patch(&path, json!({ "workspace_dir": null, "role": null })).await.ok(), restart);
        let row = one(&server, &child).await;
        assert_eq!((&row["workspace_dir"], &row["role"]), (&json!(null), &json!(null)));

        for (body, status, text) in [
            (json!({ "name": "new", "tier": 9 }), 400, "invalid workspace fields"),
            (json!({ "tier": 0 }), 400, "invalid workspace fields"),
            (json!({ "tier": "1" }), 400, "invalid request body"),
            (json!([]), 400, "invalid request body"),
            (json!({ "name": "" }), 400, "name must not be empty"),
            (json!({ "name": "a\nb" }), 400, "name must not contain newline characters"),
            (json!({ "role": "a|b" }), 400, "role contains invalid characters"),
            (json!({ "runtime": "x".repeat(101) }), 400, "runtime must be at most 100 characters"),
            (json!({ "workspace_dir": "/var/run" }), 400, "invalid workspace directory"),
            (json!({ "hibernation_idle_minutes": 4 }), 400, "invalid workspace fields"),
            (json!({ "parent_id": UNKNOWN }), 400, "parent workspace not found"),
            (json!({ "parent_id": child }), 409, "parent_id would create a cycle"),
        ] {
            assert_eq!(server.patch(&path, body.clone()).await.error(status), text, "{body}");
        }
        assert_eq!(one(&server, &child).await["name"], "C");
        let up = server.patch(&format!("/workspaces/{root}"), json!({ "parent_id": child })).await;
        assert_eq!(up.error(409), "parent_id would create a cycle");
        let other = server.patch(&path, json!({ "runtime": "langgraph" })).await;
        assert!(other.error(409).contains("can't change from synthetic to container hosting"));
        assert_eq!(server.patch(&path, json!({ "parent_id": null, "hibernation_idle_minutes": 5 })).await.ok(), ok);
        assert_eq!(one(&server, &child).await["parent_id"], json!(null));

        assert_eq!(server.patch(&format!("/workspaces/{UNKNOWN}"), json!({})).await.error(404), "workspace not found");
        assert_eq!(server.patch("/workspaces/x", json!({})).await.error(400), "invalid workspace ID");
        server.delete(&path).await.ok();
        assert_eq!(server.patch(&path, json!({ "name": "x" })).await.error(404), "workspace not found");
    }

    async fn removal_includes_all_descendants(database: Database) {
        let server = Server::start(database).await;
        let root = server.workspace(json!({ "name": "Root", "runtime": "mock" })).await;
        let child = server.workspace(json!({ "name": "Child", "runtime": "mock", "parent_id": root })).await;
        let grandchild = server.workspace(json!({ "name": "Grand", "runtime": "mock", "parent_id": child })).await;
        let other = server.workspace(json!({ "name": "Other", "runtime": "mock" })).await;
        let asked = server.delete(&format!("/workspaces/{root}")).await;
        assert_eq!(asked.status, 409);
        assert_eq!(asked.json, json!({
            "children": [{ "id": child, "name": "Child" }], "children_count": 1,
            "message": "This workspace has sub-workspaces. Delete with ?confirm=true to cascade delete.",
            "status": "confirmation_required",
        }));
        assert_eq!(server.get("/workspaces").await.ok().as_array().unwrap().len(), 4);
        let removed = json!({ "cascade_deleted": 2, "status": "removed" });
        assert_eq!(server.delete(&format!("/workspaces/{root}?confirm=true")).await.ok(), removed);
        assert_eq!(server.delete(&format!("/workspaces/{root}?confirm=true")).await.ok(), removed);
        let left = server.get("/workspaces").await.ok();
        assert_eq!(left.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect::<Vec<_>>(), [&other]);
        for id in [&root, &child, &grandchild] {
            let gone = server.get(&format!("/workspaces/{id}")).await;
            assert_eq!(gone.error(410), "workspace removed");
            assert_eq!(gone.json["hint"], "Regenerate workspace + token from the canvas → Tokens tab");
            assert_eq!(gone.json["id"], **id);
            assert!(gone.json["removed_at"].is_string());
            let row = server.get(&format!("/workspaces/{id}?include_removed=true")).await.ok();
            assert_eq!(row["status"], "removed");
            let almost = server.get(&format!("/workspaces/{id}?include_removed=1")).await;
            assert_eq!(almost.status, 410);
        }
        // A purge deletes the rows, also those of descendants that were removed before.
        let purged = server.delete(&format!("/workspaces/{root}?purge=true")).await.ok();
        assert_eq!(purged, json!({ "cascade_deleted": 2, "status": "purged" }));
        for id in [&root, &child, &grandchild] {
            assert_eq!(server.get(&format!("/workspaces/{id}")).await.error(404), "workspace not found");
            assert_eq!(server.delete(&format!("/workspaces/{id}")).await.error(404), "workspace not found");
        }
        assert_eq!(server.delete("/workspaces/x").await.error(400), "invalid workspace ID");
        assert_eq!(server.get("/workspaces/%ff").await.error(400), "invalid workspace ID");
        assert_eq!(server.patch("/workspaces/%ff", json!({})).await.error(400), "invalid workspace ID");
        assert_eq!(server.get("/events?limit=1&limit=2").await.error(400), "invalid query");
        // Descendants that were removed before are not counted again.
        let parent = server.workspace(json!({ "name": "P", "runtime": "mock" })).await;
        let child = server.workspace(json!({ "name": "C", "runtime": "mock", "parent_id": parent })).await;
        server.delete(&format!("/workspaces/{child}")).await.ok();
        assert_eq!(server.delete(&format!("/workspaces/{parent}")).await.ok()["cascade_deleted"], 0);
        assert_eq!(server.get("/workspaces/x").await.error(400), "invalid workspace ID");
    }

    async fn pause_and_resume(database: Database) {
        let server = Server::start(database).await;
        let root = server.workspace(json!({ "name": "Root", "runtime": "mock" })).await;
        let below = json!({ "name": "Agent", "external": true, "parent_id": root, "url": "http://localhost:9" });
        let child = server.workspace(below).await;
        let waits = server.workspace(json!({ "name": "Waits", "external": true, "parent_id": child })).await;
        let verb = async |id: &str, verb: &str| server.post(&format!("/workspaces/{id}/{verb}"), json!({})).await;
        assert_eq!(verb(&waits, "pause").await.ok(), json!({ "paused_count": 1, "status": "paused" }));
        assert_eq!(verb(&root, "pause").await.ok(), json!({ "paused_count": 2, "status": "paused" }));
        assert_eq!(verb(&root, "pause").await.error(404), "workspace not found or already paused");
        let state = server.get(&format!("/workspaces/{root}/state")).await.ok();
        assert_eq!(state, json!({ "deleted": false, "paused": true, "status": "paused", "workspace_id": root }));
        let text = "parent workspace \"Agent\" is paused — resume it first";
        assert_eq!(verb(&waits, "resume").await.error(409), text);
        assert_eq!(verb(&waits, "restart").await.error(409), text);
        assert_eq!(verb(&root, "resume").await.ok(), json!({ "resumed_count": 3, "status": "provisioning" }));
        assert_eq!(verb(&root, "resume").await.error(404), "workspace not found or not paused");
        assert_eq!(status(&server, &root).await, "online");
        assert_eq!(status(&server, &child).await, "online");
        assert_eq!(status(&server, &waits).await, "awaiting_agent");
        assert_eq!(verb(&root, "restart").await.ok(), json!({
            "message": "mock workspaces have no container — restart is a no-op", "runtime": "mock", "status": "noop",
        }));
        assert_eq!(verb(&child, "restart").await.ok(), json!({
            "message": "external workspaces are operator-driven — restart your local poller; platform has nothing to restart",
            "runtime": "external", "status": "noop",
        }));
        verb(&root, "hibernate").await.error(409);
        let text = "workspace not found or not in a hibernatable state (must be online or degraded)";
        assert_eq!(verb(UNKNOWN, "hibernate").await.error(404), text);
        for (name, text) in [
            ("restart", "workspace not found"),
            ("pause", "workspace not found or already paused"),
            ("resume", "workspace not found or not paused"),
        ] {
            assert_eq!(verb(UNKNOWN, name).await.error(404), text);
            assert_eq!(verb("x", name).await.error(400), "invalid workspace ID");
        }
    }

    async fn explain_says_what_a_workspace_waits_for(database: Database) {
        let start = Start::from(database).env("REMOTE_LIVENESS_STALE_AFTER", "1");
        let server = Server::start(start).await;
        let id = server.workspace(json!({ "name": "A", "external": true, "url": "http://localhost:9" })).await;
        // Without a heartbeat, the workspace waits for its agent after a second.
        server.until("it waits for its agent", async |server| status(server, &id).await == "awaiting_agent").await;
        let explained = server.get(&format!("/workspaces/{id}/explain")).await.ok();
        assert_eq!(explained["hosting"], "operator");
        assert_eq!((&explained["wanted"], &explained["agrees"]), (&json!("running"), &json!(true)));
        assert_eq!(explained["awaiting"]["what"], "its agent to call POST /registry/register or /registry/heartbeat");
        assert_eq!(explained["awaiting"]["then"], "the workspace is online");
        assert_eq!(explained["generation"], explained["observed_generation"]);
        assert_eq!(explained["configuration_error"], Value::Null);
        let mut bearer = String::new();
        for (card, reason) in [
            (json!({ "configuration_status": "not_configured", "configuration_error": "no API key" }), json!("no API key")),
            (json!({ "configuration_status": "not_configured" }), json!("its card gives no reason")),
            (json!({ "configuration_status": "ready", "configuration_error": "old" }), Value::Null),
        ] {
            let body = json!({ "id": id, "agent_card": card, "delivery_mode": "poll" });
            let registered = server.ask(&bearer, Method::POST, "/registry/register", Some(body)).await.ok();
            if let Some(token) = registered["auth_token"].as_str() {
                bearer = token.to_owned();
            }
            let explained = server.get(&format!("/workspaces/{id}/explain")).await.ok();
            assert_eq!(explained["configuration_error"], reason, "{card}");
        }
        assert_eq!(server.get(&format!("/workspaces/{UNKNOWN}/explain")).await.error(404), "workspace not found");
    }

    async fn workspaces_survive_a_restart(database: Database) {
        let mut server = Server::start(database).await;
        let root = server.workspace(json!({ "name": "Root", "runtime": "mock", "canvas": { "x": 1, "y": 2 } })).await;
        // The server is killed right after each answer: answered changes are durable.
        server = server.kill_and_restart().await;
        let child = server.workspace(json!({ "name": "Child", "external": true, "parent_id": root })).await;
        server = server.kill_and_restart().await;
        server.patch(&format!("/workspaces/{root}"), json!({ "name": "Renamed", "x": 3, "y": 4 })).await.ok();
        server = server.kill_and_restart().await;
        server.post(&format!("/workspaces/{root}/pause"), json!({})).await.ok();
        server = server.kill_and_restart().await;
        let token = server.post(&format!("/workspaces/{root}/tokens"), json!({})).await.ok();
        let token = token["auth_token"].as_str().unwrap();
        server = server.kill_and_restart().await;
        let row = one(&server, &root).await;
        assert_eq!((&row["name"], &row["status"]), (&json!("Renamed"), &json!("paused")));
        assert_eq!((&row["x"], &row["y"]), (&json!(3), &json!(4)));
        assert_eq!(status(&server, &child).await, "paused");
        let state = server.ask(token, Method::GET, &format!("/workspaces/{root}/state"), None).await;
        assert_eq!(state.ok()["paused"], true);
        server.post(&format!("/workspaces/{root}/resume"), json!({})).await.ok();
        server = server.kill_and_restart().await;
        assert_eq!(status(&server, &child).await, "awaiting_agent");
        server.delete(&format!("/workspaces/{root}?confirm=true")).await.ok();
        server = server.kill_and_restart().await;
        assert_eq!(server.get("/workspaces").await.ok(), json!([]));
        assert_eq!(server.get(&format!("/workspaces/{child}")).await.status, 410);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_accepted_in_every_uuid_form() {
    let server = Server::start(Database::sqlite()).await;
    let id = server.workspace(json!({ "name": "A", "runtime": "mock" })).await;
    let uuid = Uuid::parse_str(&id).unwrap();
    for form in [id.to_uppercase(), uuid.simple().to_string(), uuid.urn().to_string()] {
        assert_eq!(one(&server, &form).await["id"], *id, "{form}");
        assert_eq!(server.get(&format!("/workspaces/{form}/state")).await.ok()["status"], "online");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_give_defaults() {
    let configs = tempfile::tempdir().unwrap();
    let template = configs.path().join("clerk");
    std::fs::create_dir(&template).unwrap();
    let config = "runtime: mock\nmodel: openai/gpt-4o\nruntime_config: {provision_timeout_seconds: 7}\n";
    std::fs::write(template.join("config.yaml"), config).unwrap();
    let start = Start::from(Database::sqlite()).env("CONFIGS_DIR", configs.path().to_str().unwrap());
    let server = Server::start(start).await;
    let id = server.workspace(json!({ "name": "A", "template": "clerk" })).await;
    let row = one(&server, &id).await;
    assert_eq!((&row["runtime"], &row["status"]), (&json!("mock"), &json!("online")));
    assert_eq!(row["provision_timeout_ms"], 7_000);
}
