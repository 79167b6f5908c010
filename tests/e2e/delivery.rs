//! Delivery by URL, and the queue of messages to busy agents: a2a.md §§6, 7, 9, 10.

use reqwest::Method;
use serde_json::{Value, json};

use support::{
    Agent, Answer, Components, Database, Reaction, Server, Socket, Start, break_off, on_both_databases,
    success_reply,
};

const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

/// Creates a workspace of a container runtime and registers its agent, because no backend starts one here.
/// Returns id and token.
async fn registered(server: &Server, runtime: &str, url: &str) -> (String, String) {
    let id = server.workspace(json!({ "name": "Agent", "runtime": runtime })).await;
    let body = json!({ "id": id, "url": url, "agent_card": { "name": "Agent" } });
    let answer = server.post("/registry/register", body).await.ok();
    (id, answer["auth_token"].as_str().expect("a token").to_owned())
}

/// A message in the chat format of vLLM-style endpoints.
fn chat(messages: &[(&str, &str)]) -> Value {
    let messages: Vec<Value> =
        messages.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect();
    json!({ "jsonrpc": "2.0", "id": 1, "method": "message/send", "params": { "messages": messages } })
}

fn text_message(text: &str) -> Value {
    let part = json!({ "kind": "text", "text": text });
    json!({
        "jsonrpc": "2.0", "id": "custom-id-123", "method": "message/send",
        "params": { "message": { "role": "user", "messageId": text, "parts": [part] } },
    })
}

async fn send(server: &Server, id: &str, text: &str) -> Answer {
    server.post(&format!("/workspaces/{id}/a2a"), text_message(text)).await
}

async fn heartbeat(server: &Server, id: &str, active_tasks: i32) {
    let body = json!({ "workspace_id": id, "active_tasks": active_tasks });
    server.post("/registry/heartbeat", body).await.ok();
}

async fn item(server: &Server, id: &str, queue_id: &Value) -> Value {
    server.get(&format!("/workspaces/{id}/a2a/queue/{}", queue_id.as_str().unwrap())).await.ok()
}

async fn until_status(server: &Server, id: &str, queue_id: &Value, status: &str) -> Value {
    server.until(status, async |server| item(server, id, queue_id).await["status"] == status).await;
    item(server, id, queue_id).await
}

on_both_databases! {
    async fn messages_go_to_the_url_of_the_agent(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&format!("{}/deep?x=1", agent.url)).await;
        let mut socket = Socket::canvas(&server).await;
        let raw = reqwest::Client::new().post(format!("{}/workspaces/{id}/a2a", server.url));
        let answer = raw.json(&text_message("hello")).send().await.expect("it answers");
        assert_eq!(answer.headers()["content-type"], "application/json");
        let text = answer.text().await.expect("text");
        assert_eq!(text, success_reply(&text_message("hello")), "the body of the agent is passed on unchanged");
        let received = agent.received(1).await.remove(0);
        assert_eq!(received.body, text_message("hello"));
        let (line, headers) = received.head.split_once("\r\n").unwrap();
        assert_eq!(line, "post /deep?x=1 http/1.1");
        let mut names: Vec<&str> = headers.lines().map(|line| line.split_once(':').unwrap().0).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "content-type", "host", "x-isomer-hops"]);
        let row = server.ended_row(&id, 1).await;
        assert_eq!((&row["status"], &row["method"]), (&json!("ok"), &json!("message/send")));
        assert_eq!(row["response_body"], serde_json::from_str::<Value>(&text).unwrap());
        assert!(row["duration_ms"].is_i64());
        let response = socket.message_event().await;
        assert_eq!((&response["event"], &response["payload"]["response_body"]), (&json!("A2A_RESPONSE"), &row["response_body"]));
        assert_eq!(socket.message_event().await["event"], "ACTIVITY_LOGGED");
        // The next message uses the same connection.
        send(&server, &id, "again").await.ok();
        assert_eq!(agent.connections(), 1);
    }

    async fn bad_responses_become_errors_with_the_text_of_the_agent(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let respond = |status, body: &str| Reaction::Respond(status, body.to_owned());
        let write = |text: &str| Reaction::WriteAndClose(text.as_bytes().to_vec());
        let large = "x".repeat(10 * 1024 * 1024 + 1);
        let cut = "failed to read agent response";
        for (number, (reaction, status, text, stored)) in [
            (respond(500, r#"{"error":"tired"}"#), 500, "tired", json!({ "error": "tired" })),
            (respond(404, r#"{"error":{"code":1,"message":"unknown"}}"#), 404, "unknown", json!({ "error": { "code": 1, "message": "unknown" } })),
            (respond(503, "<html>"), 503, "Service Unavailable", json!("<html>")),
            (respond(302, ""), 302, "Found", json!("")),
            (write("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"half\":"), 502, cut, json!(null)),
            (write("HTTP/1.1 500 Oh\r\nContent-Length: 50\r\n\r\n{\"half\":"), 502, cut, json!(null)),
            (respond(200, &large), 502, "agent response too large", json!(null)),
            (write("SSH-2.0-OpenSSH_9.6\r\n"), 502, "failed to reach workspace agent", json!(null)),
        ].into_iter().enumerate() {
            let confirmed = !matches!(&reaction, Reaction::WriteAndClose(bytes) if bytes.starts_with(b"HTTP/1.1 500"));
            agent.react([reaction]);
            let answer = send(&server, &id, "hello").await;
            assert_eq!(answer.error(status), text);
            if let Some(value) = answer.json.get("delivery_confirmed") {
                assert_eq!(*value, json!(confirmed));
            }
            let row = server.ended_row(&id, number + 1).await;
            assert_eq!(row.get("response_body").unwrap_or(&json!(null)), &stored, "{text}");
        }
        // JSON-RPC errors and bodies that are not JSON are passed on.
        for text in [r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"m"}}"#, "plain"] {
            agent.react([respond(200, text)]);
            let answer = send(&server, &id, "hello").await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.json, serde_json::from_str::<Value>(text).unwrap_or(json!(text)));
        }
    }

    async fn unreachable_agents_are_reported(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let secure = server.agent_at("https://localhost:1").await;
        agent.stop().await;
        assert_eq!(send(&server, &id, "hello").await.error(502), "failed to reach workspace agent");
        let row = server.ended_row(&id, 1).await;
        assert_eq!((&row["status"], &row["error_detail"]), (&json!("error"), &json!("it can't be reached")));
        assert_eq!(send(&server, &secure, "hello").await.error(502), "failed to reach workspace agent");
        server.post(&format!("/workspaces/{id}/pause"), json!({})).await.ok();
        assert_eq!(send(&server, &id, "hello").await.error(503), "workspace has no URL");
    }

    async fn loopback_addresses_are_blocked_in_production(database: Database) {
        let key = "0123456789abcdef0123456789abcdef";
        let start = Start::from(database).env("MOLECULE_ENV", "production").env("SECRETS_ENCRYPTION_KEY", key);
        let (server, agent) = (Server::start(start).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        assert_eq!(send(&server, &id, "hello").await.error(502), "workspace URL is not publicly routable");
        assert_eq!(agent.connections(), 0);
    }

    async fn a_message_to_a_busy_agent_is_queued(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        heartbeat(&server, &id, 1).await;
        agent.react([break_off(), break_off()]);
        let first = send(&server, &id, "first").await;
        assert_eq!(first.status, 202);
        assert_eq!((&first.json["queued"], &first.json["queue_depth"]), (&json!(true), &json!(1)));
        let queue_id = &first.json["queue_id"];
        let second = send(&server, &id, "second").await.json;
        assert_eq!(second["queue_depth"], 2);
        let waiting = item(&server, &id, queue_id).await;
        let expected = json!({
            "attempts": 0, "enqueued_at": waiting["enqueued_at"], "priority": 50, "queue_id": queue_id,
            "status": "queued", "workspace_id": id,
        });
        assert_eq!(waiting, expected);

        let server = server.kill_and_restart().await;
        let rows = server.get(&format!("/workspaces/{id}/activity")).await.ok();
        assert_eq!(rows.as_array().unwrap().len(), 2, "activity of messages answered 202 is durable");
        let mut socket = Socket::canvas(&server).await;
        // A heartbeat with capacity sends one queued message.
        heartbeat(&server, &id, 0).await;
        let done = until_status(&server, &id, queue_id, "completed").await;
        assert_eq!(done["attempts"], 1);
        assert!(done["completed_at"].is_string() && done["dispatched_at"].is_string());
        assert_eq!(agent.received(3).await[2].body, text_message("first"));
        loop {
            let event = socket.event().await;
            if event["event"] == "A2A_RESPONSE" {
                assert_eq!(event["payload"]["response_body"]["result"]["parts"][0]["text"], "first");
                break;
            }
        }
        assert_eq!(server.ended_row(&id, 3).await["status"], "ok");
        server.until("the second is sent", async |server| {
            heartbeat(server, &id, 0).await;
            item(server, &id, &second["queue_id"]).await["status"] == "completed"
        }).await;
        assert_eq!(agent.received(4).await[3].body, text_message("second"));
    }

    async fn messages_are_translated_for_their_runtime(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let (id, token) = registered(&server, "hermes", &agent.url).await;
        let path = format!("/workspaces/{id}/a2a");
        let sent = chat(&[("system", "a"), ("system", "b"), ("user", "c")]);
        let translated = chat(&[("system", "a\n\nb"), ("user", "c")]);
        server.post(&path, sent.clone()).await.ok();
        assert_eq!(agent.received(1).await[0].body, translated);
        assert_eq!(server.ended_row(&id, 1).await["request_body"], sent, "activity shows the message as it was sent");
        // Messages from the queue are translated, too.
        agent.react([break_off()]);
        let queued = server.post(&path, sent).await;
        assert_eq!(queued.status, 202);
        server.until("the queued message is sent", async |server| {
            let body = json!({ "workspace_id": id, "active_tasks": 0 });
            server.ask(&token, Method::POST, "/registry/heartbeat", Some(body)).await.ok();
            agent.received(2).await.len() == 3
        }).await;
        assert_eq!(agent.received(3).await[2].body, translated);
    }

    async fn a_failing_translation_sends_the_message_as_it_is(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        server.push("hostile", &Components::get().hostile, true).await.ok();
        let (id, _) = registered(&server, "hostile", &agent.url).await;
        send(&server, &id, "hello").await.ok();
        let received = agent.received(1).await.remove(0).body;
        assert_eq!(received["params"]["message"]["parts"][0]["text"], "translated");
        for (number, text) in ["panic", "loop", "not JSON"].into_iter().enumerate() {
            send(&server, &id, text).await.ok();
            assert_eq!(agent.received(number + 2).await[number + 1].body, text_message(text));
        }
        let refused = send(&server, &id, "refuse").await;
        assert_eq!(refused.error(422), "the runtime's adapter refused the message: refusal requested");
        assert_eq!(agent.received(4).await.len(), 4);
        let row = server.ended_row(&id, 5).await;
        assert_eq!((&row["status"], &row["error_detail"]), (&json!("error"), &json!("refusal requested")));
        // Without an adapter, messages are sent untranslated.
        server.post("/admin/guests/hostile/disable", json!({})).await.ok();
        send(&server, &id, "hello").await.ok();
        assert_eq!(agent.received(5).await[4].body, text_message("hello"));
    }

    async fn a_delivery_that_exceeds_the_timeout_of_its_sender_is_queued(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        agent.react([Reaction::Stall]);
        let path = format!("/workspaces/{id}/a2a");
        let answer = server.with(&[("X-Timeout", "1")], Method::POST, &path, Some(text_message("hello"))).await;
        assert_eq!((answer.status.as_u16(), &answer.json["queued"]), (202, &json!(true)));
        for invalid in ["0", "-1", "soon"] {
            let headers = [("X-Timeout", invalid)];
            server.with(&headers, Method::POST, &path, Some(text_message("hello"))).await.ok();
        }
        // Messages to an agent that keeps a queue of its own are not queued here.
        let metadata = json!({ "capabilities": { "session": true } });
        let body = json!({ "workspace_id": id, "active_tasks": 1, "runtime_metadata": metadata });
        server.post("/registry/heartbeat", body).await.ok();
        agent.react([break_off()]);
        let raw = reqwest::Client::new().post(format!("{}{path}", server.url));
        let answer = raw.json(&text_message("other")).send().await.expect("it answers");
        assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"30".parse().unwrap()));
        let text = "workspace agent busy — adapter handles retry (native_session)";
        let expected = json!({ "busy": true, "error": text, "native_session": true, "retry_after": 30 });
        assert_eq!(answer.json::<Value>().await.unwrap(), expected);
    }

    async fn only_sender_and_receiver_may_read_a_queued_message(database: Database) {
        let start = Start::from(database).env("ADMIN_TOKEN", "admin");
        let (server, agent) = (Server::start(start).await, Agent::start().await);
        let make = async |body| server.ask("admin", Method::POST, "/workspaces", Some(body)).await.ok();
        let token = |made: &Value| made["connection"]["auth_token"].as_str().unwrap().to_owned();
        let sender = make(json!({ "name": "Sender", "external": true })).await;
        let other = make(json!({ "name": "Other", "external": true })).await;
        let target = make(json!({ "name": "Target", "runtime": "external", "url": agent.url })).await;
        let (from, to) = (sender["id"].as_str().unwrap(), target["id"].as_str().unwrap());
        agent.react([break_off()]);
        let sent = server.ask(&token(&sender), Method::POST, &format!("/workspaces/{to}/a2a"), Some(text_message("hello"))).await;
        let item = sent.json["queue_id"].as_str().unwrap();
        let read_item = async |bearer: &str, id: &str, item: &str| {
            server.ask(bearer, Method::GET, &format!("/workspaces/{id}/a2a/queue/{item}"), None).await
        };
        for (bearer, id) in [("admin", to), ("admin", from), (&token(&sender), to), (&token(&sender), from)] {
            assert_eq!(read_item(bearer, id, item).await.ok()["queue_id"], item);
        }
        for (bearer, id, item) in [
            (token(&other).as_str(), to, item), ("unknown", to, item), ("admin", other["id"].as_str().unwrap(), item),
            ("admin", to, UNKNOWN), ("admin", to, "x"), ("admin", "x", item),
        ] {
            assert_eq!(read_item(bearer, id, item).await.error(404), "queue item not found", "{bearer} {id} {item}");
        }
        let path = format!("/workspaces/{to}/a2a/queue/{item}");
        assert_eq!(server.get(&path).await.error(404), "queue item not found");
        let bearer = format!("Bearer {}", token(&sender));
        let as_other = [("X-Workspace-ID", other["id"].as_str().unwrap()), ("Authorization", &bearer)];
        assert_eq!(server.with(&as_other, Method::GET, &path, None).await.status, 404);

        let stale = async |query: &str| server.ask("admin", Method::POST, &format!("/admin/a2a-queue/drop-stale{query}"), None).await;
        for query in ["", "?max_age_minutes=1", "?max_age_minutes=4294967295", "?max_age_minutes=9223372036854775807", &format!("?workspace_id={to}")] {
            assert_eq!(stale(query).await.ok(), json!({ "dropped": 0 }), "{query}");
        }
        for bad in ["0", "-1", "x", "1.5"] {
            let answer = stale(&format!("?max_age_minutes={bad}")).await;
            assert_eq!(answer.error(400), "max_age_minutes must be a positive integer");
        }
        assert_eq!(stale("?workspace_id=x").await.error(400), "workspace_id must be a UUID");
        assert_eq!(server.post("/admin/a2a-queue/drop-stale", json!({})).await.status, 401);
    }
}
