//! Requests of agents to the registry: workspaces.md §§10–12, 15.

use reqwest::Method;
use serde_json::{Value, json};

use support::{Answer, Database, Server, Socket, Start, on_both_databases};

const AGENT: &str = "11111111-1111-4111-8111-111111111111";

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

async fn heartbeat(server: &Server, bearer: &str, body: Value) -> Answer {
    server.ask(bearer, Method::POST, "/registry/heartbeat", Some(body)).await
}

async fn row(server: &Server, id: &str) -> Value {
    server.get(&format!("/workspaces/{id}")).await.ok()
}

/// Types and payloads of a workspace's events, oldest first.
async fn events_of(server: &Server, id: &str) -> Vec<(String, Value)> {
    let events = server.get(&format!("/events/{id}")).await.ok();
    let oldest_first = events.as_array().unwrap().iter().rev();
    oldest_first
        .map(|event| (event["event_type"].as_str().unwrap().to_owned(), event["payload"].clone()))
        .collect()
}

on_both_databases! {
    async fn an_unknown_agent_registers_itself(database: Database) {
        let server = Server::start(database).await;
        let answer = server.post("/registry/register", body(AGENT, &json!({}))).await.ok();
        assert_eq!((&answer["status"], &answer["delivery_mode"]), (&json!("registered"), &json!("poll")));
        let token = answer["auth_token"].as_str().unwrap();
        let secret = answer["platform_inbound_secret"].as_str().unwrap();
        assert_eq!((token.len(), secret.len()), (43, 43));
        let made = row(&server, AGENT).await;
        assert_eq!((&made["name"], &made["runtime"], &made["status"]), (&json!(AGENT), &json!("external"), &json!("online")));
        assert_eq!(made["agent_card"], card());
        // A repeated registration issues no new token, returns the same secret, and is announced too.
        let again = register(&server, token, body(AGENT, &json!({}))).await.ok();
        assert!(again.get("auth_token").is_none());
        assert_eq!(again["platform_inbound_secret"], secret);
        let online = json!({ "agent_card": card(), "delivery_mode": "poll", "url": "" });
        let online = ("WORKSPACE_ONLINE".to_owned(), online);
        assert_eq!(events_of(&server, AGENT).await, [online.clone(), online]);
        for (bearer, text) in [(None, "missing workspace auth token"), (Some("x"), "invalid workspace auth token")] {
            let answer = match bearer {
                None => server.post("/registry/register", body(AGENT, &json!({}))).await,
                Some(bearer) => register(&server, bearer, body(AGENT, &json!({}))).await,
            };
            assert_eq!(answer.error(401), text);
        }
        // The token of a removed workspace is invalid.
        server.delete(&format!("/workspaces/{AGENT}")).await.ok();
        assert_eq!(register(&server, token, body(AGENT, &json!({}))).await.error(401), "invalid workspace auth token");
        assert_eq!(heartbeat(&server, token, json!({ "workspace_id": AGENT })).await.error(401), "invalid workspace auth token");
    }

    async fn malformed_requests_are_refused(database: Database) {
        let server = Server::start(database).await;
        let push = |url: &str| body(AGENT, &json!({ "delivery_mode": "push", "url": url }));
        for (body, text) in [
            (json!({}), "invalid request body"),
            (json!({ "id": AGENT }), "invalid request body"),
            (body("x", &json!({})), "invalid request body"),
            (body(AGENT, &json!({ "agent_card": "text" })), "invalid request body"),
            (body(AGENT, &json!({ "agent_card": { "name": "x".repeat(65 * 1024) } })), "invalid request body"),
            (body(AGENT, &json!({ "delivery_mode": "webhook" })), "delivery_mode must be 'push' or 'poll'"),
            (push(""), "url is required for push-mode workspaces"),
            (push("http://169.254.169.254"), "url targets a blocked address: link-local address (cloud metadata endpoint)"),
            (push("gopher://a"), "url scheme must be http or https, got \"gopher\""),
        ] {
            assert_eq!(server.post("/registry/register", body).await.error(400), text);
        }
        assert_eq!(server.get("/workspaces").await.ok(), json!([]));
        let beat = json!({ "workspace_id": AGENT });
        assert_eq!(server.post("/registry/heartbeat", beat).await.error(404), "workspace not found");
        assert_eq!(server.post("/registry/heartbeat", json!({})).await.error(400), "invalid request body");
        // Poll mode needs no URL, and an agent with a URL of another scheme is put into poll mode.
        let far = body(AGENT, &json!({ "delivery_mode": "push", "url": "remote://laptop" }));
        assert_eq!(server.post("/registry/register", far).await.ok()["delivery_mode"], "poll");
    }

    async fn an_external_workspace_is_online_while_its_agent_calls(database: Database) {
        let start = Start::from(database).env("REMOTE_LIVENESS_STALE_AFTER", "2");
        let server = Server::start(start).await;
        let made = server.post("/workspaces", json!({ "name": "E", "external": true })).await.ok();
        let (id, token) = (made["id"].as_str().unwrap(), made["connection"]["auth_token"].as_str().unwrap());
        let body = json!({ "id": id, "agent_card": card(), "url": "" });
        let answer = register(&server, token, body.clone()).await.ok();
        assert_eq!(answer["delivery_mode"], "poll", "registration keeps the delivery mode of the workspace");
        assert!(answer.get("auth_token").is_none());
        assert_eq!(row(&server, id).await["status"], "online");
        // After a timeout, a registration or a heartbeat makes it online again.
        server.until("it waits for its agent", async |server| row(server, id).await["status"] == "awaiting_agent").await;
        register(&server, token, body).await.ok();
        assert_eq!(row(&server, id).await["status"], "online");
        server.until("it waits for its agent", async |server| row(server, id).await["status"] == "awaiting_agent").await;
        heartbeat(&server, token, json!({ "workspace_id": id })).await.ok();
        assert_eq!(row(&server, id).await["status"], "online");
        let names: Vec<String> = events_of(&server, id).await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [
            "WORKSPACE_PROVISIONING", "WORKSPACE_AWAITING_AGENT", "WORKSPACE_ONLINE",
            "WORKSPACE_OFFLINE", "WORKSPACE_AWAITING_AGENT", "WORKSPACE_ONLINE",
            "WORKSPACE_OFFLINE", "WORKSPACE_AWAITING_AGENT", "WORKSPACE_ONLINE",
        ]);
        let last = events_of(&server, id).await.pop().unwrap().1;
        assert_eq!(last, json!({ "recovered_from": "awaiting_agent" }));
    }

    async fn reported_state_is_readable_at_once_and_after_a_restart(database: Database) {
        let mut server = Server::start(database).await;
        let answer = server.post("/registry/register", body(AGENT, &json!({}))).await.ok();
        let token = answer["auth_token"].as_str().unwrap();
        let full = json!({
            "workspace_id": AGENT, "error_rate": 0.1, "sample_error": "oops", "active_tasks": 2,
            "current_task": "Running tests", "uptime_seconds": 120, "monthly_spend": 99,
            "runtime_metadata": { "capabilities": {} },
        });
        let mut canvas = Socket::canvas(&server).await;
        let answer = heartbeat(&server, token, full.clone()).await.ok();
        assert_eq!((&answer["status"], answer["platform_inbound_secret"].as_str().unwrap().len()), (&json!("ok"), 43));
        let seen = row(&server, AGENT).await;
        let fields = ["active_tasks", "current_task", "last_error_rate", "last_sample_error", "uptime_seconds", "monthly_spend"];
        let values = [json!(2), json!("Running tests"), json!(0.1), json!("oops"), json!(120), json!(99)];
        for (field, value) in fields.iter().zip(&values) {
            assert_eq!(seen[field], *value, "{field}");
        }
        assert!(seen["last_heartbeat_at"].is_string());
        // Ephemeral events: one per changed task, and one per heartbeat.
        let event = canvas.event().await;
        assert_eq!((&event["event"], &event["payload"]), (&json!("TASK_UPDATED"), &json!({ "active_tasks": 2, "current_task": "Running tests" })));
        assert!(event.get("seq").is_none());
        let event = canvas.event().await;
        assert_eq!((&event["event"], &event["payload"]), (&json!("WORKSPACE_HEARTBEAT"), &json!({ "active_tasks": 2, "uptime_seconds": 120 })));
        heartbeat(&server, token, full).await.ok();
        assert_eq!(canvas.event().await["event"], "WORKSPACE_HEARTBEAT", "an unchanged task has no event");
        // A heartbeat replaces the uptime and the spend only if its values are above zero.
        heartbeat(&server, token, json!({ "workspace_id": AGENT, "current_task": "x", "uptime_seconds": 0 })).await.ok();
        let seen = row(&server, AGENT).await;
        assert_eq!((&seen["uptime_seconds"], &seen["monthly_spend"], &seen["active_tasks"]), (&json!(120), &json!(99), &json!(0)));
        heartbeat(&server, token, json!({ "workspace_id": AGENT, "current_task": "x", "monthly_spend": -1 })).await.ok();
        assert_eq!(row(&server, AGENT).await["monthly_spend"], 99);
        server = server.restart().await;
        let kept = row(&server, AGENT).await;
        assert_eq!((&kept["current_task"], &kept["monthly_spend"]), (&json!("x"), &json!(99)));
        assert_eq!(events_of(&server, AGENT).await.len(), 1);
    }

    async fn health_follows_reports(database: Database) {
        let server = Server::start(database).await;
        let token = server.post("/registry/register", body(AGENT, &json!({}))).await.ok();
        let token = token["auth_token"].as_str().unwrap();
        let report = |more: Value| {
            let mut body = json!({ "workspace_id": AGENT });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let self_reporting = json!({ "capabilities": { "status_mgmt": true } });
        for (body, status) in [
            (json!({ "error_rate": 0.4 }), "online"),
            (json!({ "error_rate": 0.8, "sample_error": "e" }), "degraded"),
            (json!({ "error_rate": 0.8, "sample_error": "e" }), "degraded"),
            (json!({ "error_rate": 0.3 }), "degraded"),
            (json!({ "error_rate": 0.0 }), "online"),
            (json!({ "runtime_state": "wedged", "error_rate": 0.9, "sample_error": "w" }), "degraded"),
            (json!({ "runtime_state": "wedged" }), "degraded"),
            // A heartbeat without `runtime_state` does not end the wedged state.
            (json!({}), "degraded"),
            (json!({ "runtime_state": "" }), "online"),
            // A runtime that reports its own health is not judged by its error rate.
            (json!({ "error_rate": 0.9, "runtime_metadata": self_reporting }), "online"),
            (json!({ "error_rate": 0.9 }), "online"),
            (json!({ "runtime_state": "wedged" }), "degraded"),
            (json!({ "error_rate": 0.0 }), "degraded"),
        ] {
            heartbeat(&server, token, report(body.clone())).await.ok();
            assert_eq!(row(&server, AGENT).await["status"], status, "after {body}");
        }
        let events: Vec<(String, Value)> = events_of(&server, AGENT).await.split_off(1);
        let payloads: Vec<&Value> = events.iter().map(|(_, payload)| payload).collect();
        assert_eq!(payloads, [
            &json!({ "error_rate": 0.8, "sample_error": "e" }),
            &json!({}),
            &json!({ "error_rate": 0.9, "runtime_state": "wedged", "sample_error": "w" }),
            &json!({}),
            &json!({ "error_rate": 0, "runtime_state": "wedged", "sample_error": "" }),
        ]);
        // A registration ends the wedged state for good.
        register(&server, token, body(AGENT, &json!({}))).await.ok();
        heartbeat(&server, token, report(json!({}))).await.ok();
        assert_eq!(row(&server, AGENT).await["status"], "online");
        // Reports do not resume a paused workspace.
        server.post(&format!("/workspaces/{AGENT}/pause"), json!({})).await.ok();
        heartbeat(&server, token, report(json!({}))).await.ok();
        let card = json!({ "name": "Other" });
        let body = json!({ "id": AGENT, "agent_card": card, "delivery_mode": "poll" });
        assert_eq!(register(&server, token, body).await.ok()["status"], "registered");
        let paused = row(&server, AGENT).await;
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
        assert_eq!(seen["last_sample_error"], "", "registration clears the error");
        let updated = json!({ "workspace_id": id, "agent_card": { "name": "New" } });
        assert_eq!(server.post("/registry/update-card", updated).await.ok(), json!({ "status": "updated" }));
        assert_eq!(events_of(&server, &id).await.pop().unwrap(), ("AGENT_CARD_UPDATED".to_owned(), json!({ "agent_card": { "name": "New" } })));
    }

    async fn an_address_that_fails_the_check_is_not_stored(database: Database) {
        let server = Server::start(database).await;
        let own = json!({ "url": "http://10.0.0.1:5432" });
        let answer = server.post("/registry/register", body(AGENT, &own)).await.ok();
        let token = answer["auth_token"].as_str().unwrap();
        assert_eq!(row(&server, AGENT).await["url"], "");
        let push = json!({ "delivery_mode": "push", "url": "http://10.0.0.1:5432" });
        let refused = register(&server, token, body(AGENT, &push)).await;
        assert_eq!(refused.error(400), "url targets a blocked address: RFC-1918 private address");
    }

    async fn a_purged_workspace_may_register_again(database: Database) {
        let server = Server::start(database).await;
        let first = server.post("/registry/register", body(AGENT, &json!({}))).await.ok();
        server.delete(&format!("/workspaces/{AGENT}?purge=true")).await.ok();
        let again = server.post("/registry/register", body(AGENT, &json!({}))).await.ok();
        let token = again["auth_token"].as_str().unwrap();
        assert_ne!(again["platform_inbound_secret"], first["platform_inbound_secret"]);
        let answer = heartbeat(&server, token, json!({ "workspace_id": AGENT })).await.ok();
        assert_eq!(answer["platform_inbound_secret"], again["platform_inbound_secret"]);
        assert_eq!(server.get("/workspaces").await.ok()[0]["id"], AGENT);
    }

    async fn after_a_revocation_an_agent_needs_a_credential(database: Database) {
        // In development mode the web canvas edits cards without a credential.
        let mut server = Server::start(Start::from(database).env("MOLECULE_ENV", "staging")).await;
        let made = server.post("/registry/register", body(AGENT, &json!({}))).await.ok();
        let token = made["auth_token"].as_str().unwrap();
        let org = server.ask(token, Method::POST, "/org/tokens", Some(json!({}))).await.ok();
        let org = org["auth_token"].as_str().unwrap();
        let listed = server.ask(token, Method::GET, &format!("/workspaces/{AGENT}/tokens"), None).await.ok();
        let path = format!("/workspaces/{AGENT}/tokens/{}", listed["tokens"][0]["id"].as_str().unwrap());
        server.ask(org, Method::DELETE, &path, None).await.ok();
        let before = row(&server, AGENT).await;
        // After a restart too, when the index is loaded from the rows.
        for restart in [false, true] {
            if restart {
                server = server.restart().await;
            }
            for (route, sent) in [
                ("register", body(AGENT, &json!({ "agent_card": { "name": "Other" } }))),
                ("heartbeat", json!({ "workspace_id": AGENT, "current_task": "x" })),
                ("update-card", json!({ "workspace_id": AGENT, "agent_card": { "name": "Other" } })),
            ] {
                let path = format!("/registry/{route}");
                for (bearer, text) in [(None, "missing workspace auth token"), (Some(token), "invalid workspace auth token")] {
                    let answer = match bearer {
                        None => server.post(&path, sent.clone()).await,
                        Some(bearer) => server.ask(bearer, Method::POST, &path, Some(sent.clone())).await,
                    };
                    assert_eq!(answer.error(401), text, "{route}");
                    let hint = answer.json["hint"].as_str().unwrap();
                    assert!(hint.contains(&format!("POST /workspaces/{AGENT}/tokens")), "{hint}");
                }
            }
            let after = row(&server, AGENT).await;
            assert_eq!((&after["agent_card"], &after["status"]), (&before["agent_card"], &json!("online")));
        }
        // With a credential it gets a token of its own again.
        let again = register(&server, org, body(AGENT, &json!({}))).await.ok();
        let fresh = again["auth_token"].as_str().unwrap();
        heartbeat(&server, fresh, json!({ "workspace_id": AGENT })).await.ok();
    }

    async fn where_an_admin_token_is_set_agents_always_show_a_credential(database: Database) {
        let server = Server::start(Start::from(database).env("MOLECULE_ENV", "staging").env("ADMIN_TOKEN", "t")).await;
        let make = async |body: Value| server.ask("t", Method::POST, "/workspaces", Some(body)).await.ok();
        // No token was ever made for it: its agent is reached by this URL.
        let known = make(json!({ "name": "A", "external": true, "url": "http://localhost:9/a" })).await;
        let known = known["id"].as_str().unwrap();
        let other = make(json!({ "name": "B", "external": true })).await;
        let others = other["connection"]["auth_token"].as_str().unwrap();
        let see = async || server.ask("t", Method::GET, &format!("/workspaces/{known}"), None).await.ok();
        let events = async || server.ask("t", Method::GET, "/events", None).await.ok();
        let before = (see().await, events().await);
        let thief = json!({ "url": "http://localhost:9/thief", "delivery_mode": "push" });
        let unknown = "22222222-2222-4222-8222-222222222222";
        for id in [known.to_owned(), known.to_uppercase(), format!("{{{known}}}"), format!("urn:uuid:{known}"), known.replace('-', ""), unknown.to_owned()] {
            for (route, sent) in [
                ("register", body(&id, &thief)),
                ("heartbeat", json!({ "workspace_id": id, "current_task": "x", "error_rate": 1.0 })),
                ("heartbeat", json!({ "id": id })),
                ("update-card", json!({ "workspace_id": id, "agent_card": { "name": "Thief" } })),
            ] {
                let path = format!("/registry/{route}");
                let mut answers = vec![("missing", server.post(&path, sent.clone()).await)];
                for bearer in [others, "wrong"] {
                    answers.push(("invalid", server.ask(bearer, Method::POST, &path, Some(sent.clone())).await));
                }
                // Not in a query, and not by a scheme in other letters.
                answers.push(("missing", server.post(&format!("{path}?token=t&access_token=t"), sent.clone()).await));
                answers.push(("missing", server.with(&[("Authorization", "bearer t")], Method::POST, &path, Some(sent)).await));
                for (what, answer) in answers {
                    assert_eq!(answer.error(401), format!("{what} workspace auth token"), "{route} {id}");
                    // The same for every workspace, known or not.
                    let hint = answer.json["hint"].as_str().unwrap();
                    assert!(hint.starts_with("Agents of this server need a token of their workspace. "), "{hint}");
                    assert_eq!(answer.json.as_object().unwrap().len(), 2, "{}", answer.json);
                }
            }
        }
        assert_eq!((see().await, events().await), before, "nothing changed");
        // With a credential for it, an agent gets its token and the secret.
        let registered = register(&server, "t", body(&known.to_uppercase(), &json!({}))).await.ok();
        let own = registered["auth_token"].as_str().unwrap();
        assert!(registered["platform_inbound_secret"].is_string());
        heartbeat(&server, &format!("  {own} "), json!({ "workspace_id": format!("urn:uuid:{known}") })).await.ok();
        // Unknown workspaces are made for an organization's bearer, but not for another workspace's.
        let org = server.ask("t", Method::POST, "/org/tokens", Some(json!({}))).await.ok();
        let made = register(&server, org["auth_token"].as_str().unwrap(), body(unknown, &json!({}))).await.ok();
        assert!(made["auth_token"].is_string());
        assert_eq!(server.ask("t", Method::GET, "/workspaces", None).await.ok().as_array().unwrap().len(), 3);
    }

    async fn a_workspace_without_an_agent_of_its_own_never_registers(database: Database) {
        let server = Server::start(database).await;
        let id = server.workspace(json!({ "name": "M", "runtime": "mock" })).await;
        let before = (row(&server, &id).await, events_of(&server, &id).await);
        for more in [json!({}), json!({ "delivery_mode": "push", "url": "http://localhost:9" }), json!({ "delivery_mode": "push", "url": "" })] {
            let refused = server.post("/registry/register", body(&id, &more)).await;
            assert_eq!(refused.error(409), "runtime mock has no agent that could register: its workspaces are answered for by its adapter");
        }
        assert_eq!((row(&server, &id).await, events_of(&server, &id).await), before);
    }

    async fn the_agent_of_a_container_does_not_choose_how_it_is_reached(database: Database) {
        let server = Server::start(database).await;
        let id = server.workspace(json!({ "name": "Box" })).await;
        let push = json!({ "url": "http://localhost:9/a", "delivery_mode": "push" });
        let first = server.post("/registry/register", body(&id, &push)).await.ok();
        let token = first["auth_token"].as_str().unwrap();
        let poll = json!({ "url": "http://localhost:9/a", "delivery_mode": "poll" });
        let second = register(&server, token, body(&id, &poll)).await.ok();
        assert_eq!(second["delivery_mode"], "push", "the answer says what it is");
        let seen = row(&server, &id).await;
        assert_eq!((&seen["delivery_mode"], &seen["url"]), (&json!("push"), &json!("http://localhost:9/a")));
        // Nor by a URL that would make it poll.
        let refused = register(&server, token, body(&id, &json!({ "url": "remote://a" }))).await;
        assert_eq!(refused.error(400), "url scheme must be http or https, got \"remote\"");
    }

    async fn urls_with_a_user_name_or_password_are_refused(database: Database) {
        let server = Server::start(database).await;
        let text = "url must not contain a user name or password: whoever may see the workspace may see them";
        for url in ["http://me:hunter2@localhost:9", "http://me@localhost:9", "http://:hunter2@localhost:9", "HTTP://me:hunter2@LOCALHOST:9/a?b"] {
            let push = json!({ "url": url, "delivery_mode": "push" });
            assert_eq!(server.post("/registry/register", body(AGENT, &push)).await.error(400), text);
            let made = server.post("/workspaces", json!({ "name": "A", "external": true, "url": url })).await;
            assert_eq!(made.error(400), text);
            for card in [json!({ "name": "A", "url": url }), json!({ "name": "A", "additionalInterfaces": [{ "url": url }] })] {
                let refused = server.post("/registry/register", body(AGENT, &json!({ "agent_card": card }))).await;
                assert_eq!(refused.error(400), "agent_card must not contain a url with a user name or password");
                let refused = server.post("/registry/update-card", json!({ "workspace_id": AGENT, "agent_card": card })).await;
                assert_eq!(refused.error(400), "agent_card must not contain a url with a user name or password");
            }
            let yaml = json!({ "template": { "name": "T", "workspaces": [{ "name": "A", "runtime": "external", "external": true, "url": url }] } });
            let imported = server.post("/org/import", yaml).await;
            assert!(imported.json.to_string().contains("must not contain a user name or password"), "{}", imported.json);
            assert_eq!(server.get("/workspaces").await.ok(), json!([]));
        }
    }

    async fn concurrent_registrations_create_one_workspace(database: Database) {
        let server = Server::start(database).await;
        let register_without_token = async || server.post("/registry/register", body(AGENT, &json!({}))).await;
        let answers = futures::future::join_all((0..8).map(|_| register_without_token())).await;
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
async fn not_even_an_admin_acts_as_the_agent_of_a_removed_workspace() {
    let start = Start::from(Database::sqlite()).env("MOLECULE_ENV", "staging").env("ADMIN_TOKEN", "t");
    let server = Server::start(start).await;
    let made = register(&server, "t", body(AGENT, &json!({}))).await.ok();
    let token = made["auth_token"].as_str().unwrap();
    // Not even an admin can act as the agent of a removed workspace.
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
    // Only an admin or the agent itself may report.
    for bearer in ["t", token] {
        heartbeat(&server, bearer, json!({ "workspace_id": AGENT })).await.ok();
    }
    let card = json!({ "workspace_id": AGENT, "agent_card": card() });
    let update = server.ask("x", Method::POST, "/registry/update-card", Some(card.clone())).await;
    assert_eq!(update.error(401), "invalid workspace auth token");
    server.ask("t", Method::POST, "/registry/update-card", Some(card)).await.ok();
}
