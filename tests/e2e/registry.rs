//! Agents that call in: workspaces.md §§10–12, 15.

use reqwest::Method;
use serde_json::{Value, json};

use support::{Answer, Database, Server, Socket, Start, on_both_databases};

const SOMEBODY: &str = "11111111-1111-4111-8111-111111111111";

fn card() -> Value {
    json!({ "name": "Agent", "skills": [] })
}

fn body(id: &str, more: &Value) -> Value {
    let mut body = json!({ "id": id, "agent_card": card(), "delivery_mode": "poll" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn register(server: &Server, bearer: &str, body: Value) -> Answer {
    server.ask(bearer, Method::POST, "/registry/register", Some(body)).await
}

async fn beat(server: &Server, bearer: &str, body: Value) -> Answer {
    server.ask(bearer, Method::POST, "/registry/heartbeat", Some(body)).await
}

async fn row(server: &Server, id: &str) -> Value {
    server.get(&format!("/workspaces/{id}")).await.ok()
}

/// Types and payloads of a workspace's events, oldest first.
async fn told(server: &Server, id: &str) -> Vec<(String, Value)> {
    let events = server.get(&format!("/events/{id}")).await.ok();
    let told = events.as_array().unwrap().iter().rev();
    told.map(|event| (event["event_type"].as_str().unwrap().to_owned(), event["payload"].clone())).collect()
}

on_both_databases! {
    async fn an_unknown_agent_registers_itself(database: Database) {
        let server = Server::start(database).await;
        let answer = server.post("/registry/register", body(SOMEBODY, &json!({}))).await.ok();
        assert_eq!((&answer["status"], &answer["delivery_mode"]), (&json!("registered"), &json!("poll")));
        let token = answer["auth_token"].as_str().unwrap();
        let secret = answer["platform_inbound_secret"].as_str().unwrap();
        assert_eq!((token.len(), secret.len()), (43, 43));
        let made = row(&server, SOMEBODY).await;
        assert_eq!((&made["name"], &made["runtime"], &made["status"]), (&json!(SOMEBODY), &json!("external"), &json!("online")));
        assert_eq!(made["agent_card"], card());
        // Again, with its token: no new one, the same secret; nothing is told, because nothing changed.
        let again = register(&server, token, body(SOMEBODY, &json!({}))).await.ok();
        assert!(again.get("auth_token").is_none());
        assert_eq!(again["platform_inbound_secret"], secret);
        let online = json!({ "agent_card": card(), "delivery_mode": "poll", "url": "" });
        assert_eq!(told(&server, SOMEBODY).await, [("WORKSPACE_ONLINE".to_owned(), online)]);
        for (bearer, text) in [(None, "missing workspace auth token"), (Some("x"), "invalid workspace auth token")] {
            let answer = match bearer {
                None => server.post("/registry/register", body(SOMEBODY, &json!({}))).await,
                Some(bearer) => register(&server, bearer, body(SOMEBODY, &json!({}))).await,
            };
            assert_eq!(answer.error(401), text);
        }
        // Removed: the agent is told that it is over.
        server.delete(&format!("/workspaces/{SOMEBODY}")).await.ok();
        assert_eq!(register(&server, token, body(SOMEBODY, &json!({}))).await.error(401), "invalid workspace auth token");
        assert_eq!(beat(&server, token, json!({ "workspace_id": SOMEBODY })).await.error(401), "invalid workspace auth token");
    }

    async fn malformed_requests_are_refused(database: Database) {
        let server = Server::start(database).await;
        let push = |url: &str| body(SOMEBODY, &json!({ "delivery_mode": "push", "url": url }));
        for (body, text) in [
            (json!({}), "invalid request body"),
            (json!({ "id": SOMEBODY }), "invalid request body"),
            (body("x", &json!({})), "invalid request body"),
            (body(SOMEBODY, &json!({ "agent_card": "text" })), "invalid request body"),
            (body(SOMEBODY, &json!({ "agent_card": { "name": "x".repeat(65 * 1024) } })), "invalid request body"),
            (body(SOMEBODY, &json!({ "delivery_mode": "webhook" })), "delivery_mode must be 'push' or 'poll'"),
            (push(""), "url is required for push-mode workspaces"),
            (push("http://127.0.0.1:1"), "url targets a blocked address: loopback address"),
            (push("gopher://a"), "url scheme must be http or https, got \"gopher\""),
        ] {
            assert_eq!(server.post("/registry/register", body).await.error(400), text);
        }
        assert_eq!(server.get("/workspaces").await.ok(), json!([]));
        let beat = json!({ "workspace_id": SOMEBODY });
        assert_eq!(server.post("/registry/heartbeat", beat).await.error(404), "workspace not found");
        assert_eq!(server.post("/registry/heartbeat", json!({})).await.error(400), "invalid request body");
        // Fetching agents need no address, and one that can't be called fetches.
        let far = body(SOMEBODY, &json!({ "delivery_mode": "push", "url": "remote://laptop" }));
        assert_eq!(server.post("/registry/register", far).await.ok()["delivery_mode"], "poll");
    }

    async fn an_external_workspace_is_online_while_its_agent_calls(database: Database) {
        let start = Start::from(database).env("REMOTE_LIVENESS_STALE_AFTER", "2");
        let server = Server::start(start).await;
        let made = server.post("/workspaces", json!({ "name": "E", "external": true })).await.ok();
        let (id, token) = (made["id"].as_str().unwrap(), made["connection"]["auth_token"].as_str().unwrap());
        let body = json!({ "id": id, "agent_card": card(), "url": "" });
        let answer = register(&server, token, body.clone()).await.ok();
        assert_eq!(answer["delivery_mode"], "poll", "as it was made");
        assert!(answer.get("auth_token").is_none());
        assert_eq!(row(&server, id).await["status"], "online");
        // It falls silent; it calls again, either way.
        server.until("it counts as away", async |server| row(server, id).await["status"] == "awaiting_agent").await;
        register(&server, token, body).await.ok();
        assert_eq!(row(&server, id).await["status"], "online");
        server.until("it counts as away", async |server| row(server, id).await["status"] == "awaiting_agent").await;
        beat(&server, token, json!({ "workspace_id": id })).await.ok();
        assert_eq!(row(&server, id).await["status"], "online");
        let names: Vec<String> = told(&server, id).await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [
            "WORKSPACE_PROVISIONING", "WORKSPACE_AWAITING_AGENT", "WORKSPACE_ONLINE",
            "WORKSPACE_OFFLINE", "WORKSPACE_AWAITING_AGENT", "WORKSPACE_ONLINE",
            "WORKSPACE_OFFLINE", "WORKSPACE_AWAITING_AGENT", "WORKSPACE_ONLINE",
        ]);
        let last = told(&server, id).await.pop().unwrap().1;
        assert_eq!(last, json!({ "recovered_from": "awaiting_agent" }));
    }

    async fn reported_state_is_readable_at_once_and_after_a_restart(database: Database) {
        let mut server = Server::start(database).await;
        let answer = server.post("/registry/register", body(SOMEBODY, &json!({}))).await.ok();
        let token = answer["auth_token"].as_str().unwrap();
        let full = json!({
            "workspace_id": SOMEBODY, "error_rate": 0.1, "sample_error": "oops", "active_tasks": 2,
            "current_task": "Running tests", "uptime_seconds": 120, "monthly_spend": 99,
            "runtime_metadata": { "capabilities": {} },
        });
        let mut canvas = Socket::canvas(&server).await;
        let answer = beat(&server, token, full.clone()).await.ok();
        assert_eq!((&answer["status"], answer["platform_inbound_secret"].as_str().unwrap().len()), (&json!("ok"), 43));
        let seen = row(&server, SOMEBODY).await;
        let fields = ["active_tasks", "current_task", "last_error_rate", "last_sample_error", "uptime_seconds", "monthly_spend"];
        let values = [json!(2), json!("Running tests"), json!(0.1), json!("oops"), json!(120), json!(99)];
        for (field, value) in fields.iter().zip(&values) {
            assert_eq!(seen[field], *value, "{field}");
        }
        assert!(seen["last_heartbeat_at"].is_string());
        // Told while it happens, not stored: a task that changed, and every sign of life.
        let event = canvas.event().await;
        assert_eq!((&event["event"], &event["payload"]), (&json!("TASK_UPDATED"), &json!({ "active_tasks": 2, "current_task": "Running tests" })));
        assert!(event.get("seq").is_none());
        let event = canvas.event().await;
        assert_eq!((&event["event"], &event["payload"]), (&json!("WORKSPACE_HEARTBEAT"), &json!({ "active_tasks": 2, "uptime_seconds": 120 })));
        beat(&server, token, full).await.ok();
        assert_eq!(canvas.event().await["event"], "WORKSPACE_HEARTBEAT", "the task is the same");
        // A report that knows nothing but the task leaves the uptime alone; 0 spent says nothing.
        beat(&server, token, json!({ "workspace_id": SOMEBODY, "current_task": "x", "uptime_seconds": 0 })).await.ok();
        let seen = row(&server, SOMEBODY).await;
        assert_eq!((&seen["uptime_seconds"], &seen["monthly_spend"], &seen["active_tasks"]), (&json!(120), &json!(99), &json!(0)));
        beat(&server, token, json!({ "workspace_id": SOMEBODY, "current_task": "x", "monthly_spend": -1 })).await.ok();
        assert_eq!(row(&server, SOMEBODY).await["monthly_spend"], 99);
        server = server.restart().await;
        let kept = row(&server, SOMEBODY).await;
        assert_eq!((&kept["current_task"], &kept["monthly_spend"]), (&json!("x"), &json!(99)));
        assert_eq!(told(&server, SOMEBODY).await.len(), 1);
    }

    async fn health_follows_reports(database: Database) {
        let server = Server::start(database).await;
        let token = server.post("/registry/register", body(SOMEBODY, &json!({}))).await.ok();
        let token = token["auth_token"].as_str().unwrap();
        let report = |more: Value| {
            let mut body = json!({ "workspace_id": SOMEBODY });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let judging = json!({ "capabilities": { "status_mgmt": true } });
        for (body, status) in [
            (json!({ "error_rate": 0.4 }), "online"),
            (json!({ "error_rate": 0.8, "sample_error": "e" }), "degraded"),
            (json!({ "error_rate": 0.8, "sample_error": "e" }), "degraded"),
            (json!({ "error_rate": 0.3 }), "degraded"),
            (json!({ "error_rate": 0.0 }), "online"),
            (json!({ "runtime_state": "wedged", "error_rate": 0.9, "sample_error": "w" }), "degraded"),
            (json!({ "runtime_state": "wedged" }), "degraded"),
            // A report that says nothing of it doesn't end it.
            (json!({}), "degraded"),
            (json!({ "runtime_state": "" }), "online"),
            // One that judges itself is believed.
            (json!({ "error_rate": 0.9, "runtime_metadata": judging }), "online"),
            (json!({ "error_rate": 0.9 }), "online"),
            (json!({ "runtime_state": "wedged" }), "degraded"),
            (json!({ "error_rate": 0.0 }), "degraded"),
        ] {
            beat(&server, token, report(body.clone())).await.ok();
            assert_eq!(row(&server, SOMEBODY).await["status"], status, "after {body}");
        }
        let events: Vec<(String, Value)> = told(&server, SOMEBODY).await.split_off(1);
        let payloads: Vec<&Value> = events.iter().map(|(_, payload)| payload).collect();
        assert_eq!(payloads, [
            &json!({ "error_rate": 0.8, "sample_error": "e" }),
            &json!({}),
            &json!({ "error_rate": 0.9, "runtime_state": "wedged", "sample_error": "w" }),
            &json!({}),
            &json!({ "error_rate": 0, "runtime_state": "wedged", "sample_error": "" }),
        ]);
        // People's wishes come first.
        server.post(&format!("/workspaces/{SOMEBODY}/pause"), json!({})).await.ok();
        beat(&server, token, report(json!({}))).await.ok();
        let card = json!({ "name": "Other" });
        let body = json!({ "id": SOMEBODY, "agent_card": card, "delivery_mode": "poll" });
        assert_eq!(register(&server, token, body).await.ok()["status"], "registered");
        let paused = row(&server, SOMEBODY).await;
        assert_eq!((&paused["status"], &paused["agent_card"]), (&json!("paused"), &card));
    }

    async fn a_container_that_could_not_be_started_is_online_when_its_agent_calls(database: Database) {
        let server = Server::start(database).await;
        let id = server.workspace(json!({ "name": "Box" })).await;
        assert_eq!(row(&server, &id).await["status"], "failed");
        let body = json!({ "id": id, "agent_card": card(), "url": "http://localhost:8001" });
        let answer = server.post("/registry/register", body).await.ok();
        assert_eq!(answer["auth_token"].as_str().unwrap().len(), 43);
        let seen = row(&server, &id).await;
        assert_eq!((&seen["status"], &seen["url"]), (&json!("online"), &json!("http://localhost:8001")));
        assert_eq!(seen["last_sample_error"], "", "what went wrong is over");
        let updated = json!({ "workspace_id": id, "agent_card": { "name": "New" } });
        assert_eq!(server.post("/registry/update-card", updated).await.ok(), json!({ "status": "updated" }));
        assert_eq!(told(&server, &id).await.pop().unwrap(), ("AGENT_CARD_UPDATED".to_owned(), json!({ "agent_card": { "name": "New" } })));
    }

    async fn an_address_that_fails_the_check_is_not_stored(database: Database) {
        let server = Server::start(database).await;
        let own = json!({ "url": "http://127.0.0.1:5432" });
        let answer = server.post("/registry/register", body(SOMEBODY, &own)).await.ok();
        let token = answer["auth_token"].as_str().unwrap();
        assert_eq!(row(&server, SOMEBODY).await["url"], "");
        let push = json!({ "delivery_mode": "push", "url": "http://127.0.0.1:5432" });
        let refused = register(&server, token, body(SOMEBODY, &push)).await;
        assert_eq!(refused.error(400), "url targets a blocked address: loopback address");
    }

    async fn a_purged_workspace_may_register_again(database: Database) {
        let server = Server::start(database).await;
        let first = server.post("/registry/register", body(SOMEBODY, &json!({}))).await.ok();
        server.delete(&format!("/workspaces/{SOMEBODY}?purge=true")).await.ok();
        let again = server.post("/registry/register", body(SOMEBODY, &json!({}))).await.ok();
        let token = again["auth_token"].as_str().unwrap();
        assert_ne!(again["platform_inbound_secret"], first["platform_inbound_secret"]);
        let answer = beat(&server, token, json!({ "workspace_id": SOMEBODY })).await.ok();
        assert_eq!(answer["platform_inbound_secret"], again["platform_inbound_secret"]);
        assert_eq!(server.get("/workspaces").await.ok()[0]["id"], SOMEBODY);
    }

    async fn concurrent_registrations_create_one_workspace(database: Database) {
        let server = Server::start(database).await;
        let introduce = async || server.post("/registry/register", body(SOMEBODY, &json!({}))).await;
        let answers = futures::future::join_all((0..8).map(|_| introduce())).await;
        let tokens: Vec<&Value> = answers.iter().filter_map(|answer| answer.json.get("auth_token")).collect();
        assert_eq!(tokens.len(), 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.json.get("auth_token").is_none()) {
            assert_eq!(answer.error(401), "missing workspace auth token");
        }
        assert_eq!(server.get("/workspaces").await.ok().as_array().unwrap().len(), 1);
    }

    async fn communication_follows_the_hierarchy(database: Database) {
        let server = Server::start(database).await;
        let under = |name: &str, parent: &str| json!({ "name": name, "runtime": "mock", "parent_id": parent });
        let a = server.workspace(json!({ "name": "A", "runtime": "mock" })).await;
        let b = server.workspace(json!({ "name": "B", "runtime": "mock" })).await;
        let (a1, a2, b1) = (
            server.workspace(under("A1", &a)).await, server.workspace(under("A2", &a)).await, server.workspace(under("B1", &b)).await,
        );
        let a11 = server.workspace(under("A11", &a1)).await;
        let gone = server.workspace(under("Gone", &a)).await;
        server.delete(&format!("/workspaces/{gone}")).await.ok();
        for (caller, target, allowed) in [
            (&a, &a, true), (&a, &b, true), (&a1, &a2, true), (&a, &a1, true), (&a1, &a, true), (&a, &a11, true),
            (&a11, &a, true), (&a1, &b1, false), (&a1, &b, false), (&a11, &a2, false), (&a1, &gone, false),
        ] {
            let body = json!({ "caller_id": caller, "target_id": target });
            let answer = server.post("/registry/check-access", body).await.ok();
            assert_eq!(answer, json!({ "allowed": allowed }), "{caller} {target}");
        }
        let body = json!({ "caller_id": gone, "target_id": gone });
        assert_eq!(server.post("/registry/check-access", body).await.ok(), json!({ "allowed": false }));
        let odd = json!({ "caller_id": "x", "target_id": "x" });
        assert_eq!(server.post("/registry/check-access", odd).await.ok(), json!({ "allowed": false }));
        assert_eq!(server.post("/registry/check-access", json!({})).await.error(400), "invalid request body");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_admin_token_unknown_agents_can_not_register() {
    let start = Start::from(Database::sqlite()).env("MOLECULE_ENV", "staging").env("ADMIN_TOKEN", "t");
    let server = Server::start(start).await;
    let refused = server.post("/registry/register", body(SOMEBODY, &json!({}))).await;
    assert_eq!(refused.error(401), "missing workspace auth token");
    let made = register(&server, "t", body(SOMEBODY, &json!({}))).await.ok();
    let token = made["auth_token"].as_str().unwrap();
    // A workspace that is removed is so for everybody.
    let gone = server
        .ask("t", Method::POST, "/workspaces", Some(json!({ "name": "A", "external": true })))
        .await
        .ok();
    let gone = gone["id"].as_str().unwrap();
    server.ask("t", Method::DELETE, &format!("/workspaces/{gone}"), None).await.ok();
    for (route, body) in [
        ("register", body(gone, &json!({}))),
        ("heartbeat", json!({ "workspace_id": gone })),
        ("update-card", json!({ "workspace_id": gone, "agent_card": card() })),
    ] {
        let answer = server.ask("t", Method::POST, &format!("/registry/{route}"), Some(body)).await;
        assert_eq!(answer.error(401), "invalid workspace auth token", "{route}");
    }
    // With admin rights, or by the agent itself; nobody else.
    for bearer in ["t", token] {
        beat(&server, bearer, json!({ "workspace_id": SOMEBODY })).await.ok();
    }
    let card = json!({ "workspace_id": SOMEBODY, "agent_card": card() });
    let update = server.ask("x", Method::POST, "/registry/update-card", Some(card.clone())).await;
    assert_eq!(update.error(401), "invalid workspace auth token");
    server.ask("t", Method::POST, "/registry/update-card", Some(card)).await.ok();
}
