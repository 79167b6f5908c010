//! Messages to agents (a2a.md §§2–5, 11–13).

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use support::{Answer, Database, Server, Socket, on_both_databases, program};

const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

/// A server with mock agents that answer without a pause.
async fn start_without_pause(database: Database) -> Server {
    let server = Server::start(database).await;
    pause(&server, 0).await;
    server
}

async fn pause(server: &Server, milliseconds: u32) {
    server.settings("mock", json!({ "pause_ms": milliseconds })).await.ok();
}

async fn mock(server: &Server, name: &str, parent: Option<&str>) -> String {
    server.workspace(json!({ "name": name, "runtime": "mock", "parent_id": parent })).await
}

/// Creates a workspace in poll mode. Returns its id and token.
async fn poller(server: &Server, name: &str, parent: Option<&str>) -> (String, String) {
    let body = json!({ "name": name, "external": true, "parent_id": parent });
    let made = server.post("/workspaces", body).await.ok();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&made["id"]), text(&made["connection"]["auth_token"]))
}

fn hello() -> Value {
    text_message("hello")
}

fn text_message(text: &str) -> Value {
    json!({ "method": "message/send", "params": { "message": { "role": "user", "parts": [{ "kind": "text", "text": text }] } } })
}

async fn send(server: &Server, id: &str, headers: &[(&str, &str)], body: Value) -> Answer {
    server.with(headers, Method::POST, &format!("/workspaces/{id}/a2a"), Some(body)).await
}

async fn activity(server: &Server, id: &str, query: &str) -> Vec<Value> {
    let rows = server.get(&format!("/workspaces/{id}/activity{query}")).await.ok();
    rows.as_array().expect("a list").clone()
}

/// Waits for this many activity rows and returns them, newest first.
async fn rows(server: &Server, id: &str, count: usize) -> Vec<Value> {
    server.until("the rows are there", async |server| activity(server, id, "").await.len() >= count).await;
    activity(server, id, "").await
}

on_both_databases! {
    async fn every_form_of_a_message_is_normalized(database: Database) {
        let server = start_without_pause(database).await;
        let id = mock(&server, "Echo", None).await;
        let part = |text: &str| json!({ "kind": "text", "text": text });
        let long = "x".repeat(100_000);
        for (message, parts) in [
            (json!({ "parts": [part("a"), part("b")], "contextId": "c" }), json!([part("a"), part("b")])),
            (json!({ "parts": [{ "type": "text", "text": "a" }] }), json!([{ "type": "text", "text": "a" }])),
            (json!({ "content": "Grüße 🌍" }), json!([part("Grüße 🌍")])),
            (json!({ "content": [part("a")], "messageId": "m" }), json!([part("a")])),
            (json!({ "content": long }), json!([part(&long)])),
        ] {
            let body = json!({ "method": "message/stream", "params": { "message": message } });
            let before = activity(&server, &id, "").await.len();
            let answer = send(&server, &id, &[], body).await.ok();
            assert_eq!(answer["result"]["parts"][0]["kind"], "text");
            let row = rows(&server, &id, before + 1).await.remove(0);
            assert_eq!(row["method"], "message/stream");
            let stored = &row["request_body"];
            assert_eq!((&stored["jsonrpc"], &stored["id"]), (&json!("2.0"), &answer["id"]));
            assert_eq!(stored["params"]["message"]["parts"], parts);
            assert!(stored["params"]["message"]["messageId"].is_string());
            assert!(stored["params"]["message"].get("content").is_none());
        }
        send(&server, &id, &[], json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize" })).await.ok();
        for (body, text) in [
            (json!([]), "invalid JSON"),
            (json!("hello"), "invalid JSON"),
            (json!({ "params": { "message": {} } }), "params.message must contain either 'parts' (v0.3) or 'content' (v0.2 compat)"),
            (json!({ "params": { "message": { "content": true } } }), "invalid params.message.content type"),
            (json!({ "params": { "message": { "content": 7 } } }), "invalid params.message.content type"),
        ] {
            let answer = send(&server, &id, &[], body).await;
            assert_eq!(answer.error(400), text);
            assert_eq!(answer.json.get("hint").is_some(), text != "invalid JSON");
        }
        let large = json!({ "content": "x".repeat(1024 * 1024) });
        assert_eq!(send(&server, &id, &[], large).await.error(413), "request body too large");
        assert_eq!(rows(&server, &id, 6).await.len(), 6, "refused messages leave no activity");
    }

    async fn messages_to_missing_workspaces_are_refused(database: Database) {
        let server = start_without_pause(database).await;
        let id = mock(&server, "Gone", None).await;
        server.delete(&format!("/workspaces/{id}")).await.ok();
        for target in [UNKNOWN, "not-an-id", &id] {
            assert_eq!(send(&server, target, &[], hello()).await.error(404), "workspace not found");
        }
        assert_eq!(activity(&server, UNKNOWN, "").await, [] as [Value; 0]);
    }

    async fn a_caller_is_authenticated_by_its_token(database: Database) {
        let server = start_without_pause(database).await;
        let id = mock(&server, "Target", None).await;
        let (sibling, token) = poller(&server, "Sibling", None).await;
        let (child, child_token) = poller(&server, "Child", Some(&sibling)).await;
        let bare = mock(&server, "No token yet", None).await;
        let bearer = |token: &str| format!("Bearer {token}");
        let (own, other) = (bearer(&token), bearer(&child_token));
        const NAME: &str = "X-Workspace-ID";
        const BEARER: &str = "Authorization";
        let upper = sibling.to_uppercase();
        for (headers, source) in [
            (vec![], None),
            (vec![(NAME, sibling.as_str()), (BEARER, own.as_str())], Some(&sibling)),
            (vec![(NAME, upper.as_str()), (BEARER, own.as_str())], Some(&sibling)),
            (vec![(BEARER, own.as_str())], Some(&sibling)),
            (vec![(BEARER, "Bearer unknown")], None),
            (vec![(NAME, bare.as_str())], Some(&bare)),
            (vec![(NAME, id.as_str())], Some(&id)),
        ] {
            let before = activity(&server, &id, "").await.len();
            send(&server, &id, &headers, hello()).await.ok();
            let row = rows(&server, &id, before + 1).await.remove(0);
            assert_eq!(row["source_id"], json!(source), "{headers:?}");
        }
        let denied = "access denied: workspaces cannot communicate per hierarchy rules";
        for (headers, status, text) in [
            (vec![(NAME, sibling.as_str())], 401, "missing caller auth token"),
            (vec![(NAME, sibling.as_str()), (BEARER, other.as_str())], 401, "invalid caller auth token"),
            (vec![(NAME, sibling.as_str()), (BEARER, "Bearer x")], 401, "invalid caller auth token"),
            (vec![(NAME, child.as_str()), (BEARER, other.as_str())], 403, denied),
            (vec![(BEARER, other.as_str())], 403, denied),
            (vec![(NAME, UNKNOWN)], 403, denied),
            (vec![(NAME, "not-an-id")], 403, denied),
            (vec![(NAME, "webhook:github")], 403, "invalid caller ID"),
            (vec![(NAME, "system:restart-context")], 403, "invalid caller ID"),
            (vec![(NAME, "test:x"), (BEARER, own.as_str())], 403, "invalid caller ID"),
            (vec![(NAME, "channel:slack")], 403, "invalid caller ID"),
        ] {
            assert_eq!(send(&server, &id, &headers, hello()).await.error(status), text, "{headers:?}");
        }
        // Parent and child may communicate, and the sender's last message has a time.
        send(&server, &child, &[(BEARER, &own)], hello()).await.ok();
        let sender = server.get(&format!("/workspaces/{sibling}")).await.ok();
        assert!(sender["last_outbound_at"].is_string());
        let silent = server.get(&format!("/workspaces/{child}")).await.ok();
        assert_eq!(silent["last_outbound_at"], json!(null));
    }

    async fn a_workspace_over_its_budget_is_refused_messages(database: Database) {
        let server = start_without_pause(database).await;
        let id = server.workspace(json!({ "name": "Thrifty", "runtime": "mock", "budget_limit": 100 })).await;
        send(&server, &id, &[], hello()).await.ok();
        let spent = |cents: u32| json!({ "workspace_id": id, "monthly_spend": cents });
        server.post("/registry/heartbeat", spent(99)).await.ok();
        send(&server, &id, &[], hello()).await.ok();
        server.post("/registry/heartbeat", spent(100)).await.ok();
        assert_eq!(send(&server, &id, &[], hello()).await.error(402), "workspace budget limit exceeded");
    }

    async fn mock_replies_are_deterministic(database: Database) {
        let server = start_without_pause(database).await;
        let [one, other] = [mock(&server, "One", None).await, mock(&server, "Other", None).await];
        for id in [json!("custom-id-123"), json!(7), json!("7"), json!(""), json!(true)] {
            let mut body = hello();
            body.as_object_mut().unwrap().extend([("jsonrpc".to_owned(), json!("2.0")), ("id".to_owned(), id.clone())]);
            for workspace in [&one, &other] {
                let first = send(&server, workspace, &[], body.clone()).await.ok();
                assert_eq!(first, send(&server, workspace, &[], body.clone()).await.ok());
                let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
                let input = json!({ "workspace_id": workspace, "request_id": text, "text": "hello" });
                let called = server.call("mock", "synthetic-reply", input).await.ok();
                let expected = json!({
                    "id": id, "jsonrpc": "2.0",
                    "result": { "parts": [{ "kind": "text", "text": called["answer"][0] }] },
                });
                assert_eq!(first, expected);
            }
        }
        let row = rows(&server, &one, 10).await.remove(0);
        for (field, value) in [
            ("activity_type", json!("a2a_receive")), ("status", json!("ok")), ("duration_ms", json!(0)),
            ("summary", json!("message/send → One")), ("target_id", json!(one)), ("workspace_id", json!(one)),
            ("source_id", json!(null)), ("error_detail", json!(null)),
        ] {
            assert_eq!(row[field], value, "{field}");
        }
        assert_eq!(row["response_body"]["id"], true);
    }

    async fn a_reply_waits_for_the_pause_of_the_guest(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server, "Slow", None).await;
        pause(&server, 600).await;
        let asked = Instant::now();
        send(&server, &id, &[], hello()).await.ok();
        assert!(asked.elapsed() >= Duration::from_millis(600));
        // A client that disconnects meanwhile does not end the delivery.
        let path = format!("{}/workspaces/{id}/a2a", server.url);
        let impatient = reqwest::Client::new().post(path).json(&text_message("bye")).timeout(Duration::from_millis(300));
        assert!(impatient.send().await.expect_err("too slow").is_timeout());
        let rows = rows(&server, &id, 2).await;
        assert_eq!(rows[0]["request_body"]["params"]["message"]["parts"][0]["text"], "bye");
        assert_eq!(rows[0]["status"], "ok");
    }

    async fn a_paused_workspace_does_not_answer(database: Database) {
        let server = start_without_pause(database).await;
        let id = mock(&server, "Sleeper", None).await;
        server.post(&format!("/workspaces/{id}/pause"), json!({})).await.ok();
        let answer = send(&server, &id, &[], hello()).await;
        assert_eq!(answer.error(503), "workspace has no URL");
        assert_eq!(answer.json["status"], "paused");
        server.post(&format!("/workspaces/{id}/resume"), json!({})).await.ok();
        send(&server, &id, &[], hello()).await.ok();
        // A failed workspace has no URL either.
        let boxed = server.workspace(json!({ "name": "Box" })).await;
        let answer = send(&server, &boxed, &[], hello()).await;
        assert_eq!((answer.error(503), &answer.json["status"]), ("workspace has no URL", &json!("failed")));
    }

    async fn a_disabled_adapter_makes_its_agents_unreachable(database: Database) {
        let server = start_without_pause(database).await;
        let id = mock(&server, "Echo", None).await;
        server.post("/admin/guests/mock/disable", json!({})).await.ok();
        assert_eq!(send(&server, &id, &[], hello()).await.error(502), "failed to reach workspace agent");
        let row = rows(&server, &id, 1).await.remove(0);
        assert_eq!(row["status"], "error");
        let why = "guest mock is disabled: isomer guest enable mock";
        assert_eq!(row["summary"], format!("A2A request to Echo failed: {why}"));
        assert_eq!(row["error_detail"], why);
        assert!(row.get("response_body").is_none());
        server.post("/admin/guests/mock/enable", json!({})).await.ok();
        send(&server, &id, &[], hello()).await.ok();
    }

    async fn polled_messages_survive_a_crash(database: Database) {
        let server = start_without_pause(database).await;
        let (id, _) = poller(&server, "Poller", None).await;
        let mut body = hello();
        body["params"]["message"]["parts"] = json!([{ "type": "text", "text": "one\u{0}two" }]);
        body["method"] = json!("message/\u{0}send");
        assert_eq!(
            send(&server, &id, &[], body.clone()).await.ok(),
            json!({ "delivery_mode": "poll", "method": "message/\u{fffd}send", "status": "queued" })
        );
        body["method"] = json!("message/send");
        send(&server, &id, &[], body).await.ok();
        let server = server.kill_and_restart().await;
        let rows = activity(&server, &id, "?type=a2a_receive&since_secs=600").await;
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["summary"], "message/send → Poller (queued for poll)");
        assert_eq!(rows[1]["method"], "message/\u{fffd}send");
        for row in &rows {
            assert_eq!((&row["status"], &row["duration_ms"]), (&json!("ok"), &json!(null)));
            assert_eq!(row["request_body"]["params"]["message"]["parts"], json!([{ "type": "text", "text": "one\u{fffd}two" }]));
            assert!(row.get("response_body").is_none());
        }
        // A purge deletes the activity.
        server.delete(&format!("/workspaces/{id}?purge=true")).await.ok();
        assert_eq!(activity(&server, &id, "").await, [] as [Value; 0]);
    }

    async fn deliveries_are_published_to_sockets(database: Database) {
        let server = start_without_pause(database).await;
        let id = mock(&server, "Echo", None).await;
        let (sibling, token) = poller(&server, "Sibling", None).await;
        let mut socket = Socket::canvas(&server).await;
        let answer = send(&server, &id, &[], hello()).await.ok();
        let response = socket.message_event().await;
        assert_eq!((&response["event"], &response["workspace_id"]), (&json!("A2A_RESPONSE"), &json!(id)));
        assert_eq!(response["payload"], json!({ "duration_ms": 0, "method": "message/send", "response_body": answer }));
        let logged = socket.message_event().await;
        assert_eq!((&logged["event"], &logged["workspace_id"]), (&json!("ACTIVITY_LOGGED"), &json!(id)));
        // The row is readable when its event is published.
        let row = activity(&server, &id, "").await.remove(0);
        let mut expected = row.clone();
        expected.as_object_mut().unwrap().remove("workspace_id");
        expected.as_object_mut().unwrap().remove("error_detail");
        for (field, value) in expected.as_object().unwrap() {
            if field != "created_at" {
                assert_eq!(logged["payload"][field], *value, "{field}");
            }
        }
        // Responses between agents are published as activity, not as A2A_RESPONSE.
        send(&server, &id, &[("Authorization", &format!("Bearer {token}"))], hello()).await.ok();
        let first = socket.message_event().await;
        send(&server, &sibling, &[], hello()).await.ok();
        let second = socket.message_event().await;
        assert_eq!((&first["event"], &first["payload"]["source_id"]), (&json!("ACTIVITY_LOGGED"), &json!(sibling)));
        assert_eq!((&second["event"], &second["workspace_id"]), (&json!("ACTIVITY_LOGGED"), &json!(sibling)));
        assert_eq!(second["payload"]["summary"], "message/send → Sibling (queued for poll)");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_sent_by_the_cli() {
    let server = start_without_pause(Database::sqlite()).await;
    let id = mock(&server, "CEO", None).await;
    let (poller, token) = poller(&server, "Poller", None).await;
    server.settings("mock", json!({ "pause_ms": 0, "replies": ["Aye."] })).await.ok();
    let isomer = |arguments: &[&str]| {
        let output =
            program().arg("send").args(arguments).env("ISOMER_URL", &server.url).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    assert_eq!(isomer(&["CEO", "hello"]), (true, "Aye.\n".to_owned()));
    assert_eq!(isomer(&[&id[..8], "hello"]), (true, "Aye.\n".to_owned()));
    assert_eq!(
        isomer(&["Poller", "hello"]),
        (true, "Poller polls for messages: this one is stored until its agent fetches it\n".to_owned())
    );
    let (succeeded, json) = isomer(&["CEO", "hello", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert!(succeeded && json["result"]["parts"][0]["text"] == "Aye.", "{json}");
    // The token of an agent makes that agent the sender.
    assert_eq!(isomer(&[&id, "hello", "--token", &token]), (true, "Aye.\n".to_owned()));
    assert_eq!(rows(&server, &id, 4).await[0]["source_id"], json!(poller));
    for (arguments, text) in [
        (&["Unknown", "hello"][..], "isomer: no workspace is called Unknown"),
        (&[UNKNOWN, "hello"], "isomer: workspace not found"),
    ] {
        let (succeeded, output) = isomer(arguments);
        assert!(!succeeded && output.contains(text), "{output}");
    }
    server.post(&format!("/workspaces/{id}/pause"), json!({})).await.ok();
    let (succeeded, output) = isomer(&["CEO", "hello"]);
    assert!(!succeeded && output.contains("isomer: workspace has no URL"), "{output}");
}
