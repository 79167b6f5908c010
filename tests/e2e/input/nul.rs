//! A NUL in every field of every route: SQLite would store it, Postgres fails the statement. Free text and free
//! JSON have U+FFFD instead; names, roles, models, runtimes and keys are refused; no request is a server error,
//! and both databases answer with the same status.

use reqwest::Method;
use serde_json::{Value, json};
use support::{Database, Server, on_both_databases};

use super::{activity, mock};

const NUL: &str = "a\u{0}b";

/// A server, and the ids that stand for placeholders in paths and bodies.
struct Side {
    server: Server,
    ids: [(&'static str, String); 2],
}

impl Side {
    async fn start(database: Database) -> Self {
        let server = Server::start(database).await;
        let mock = mock(&server).await;
        let poller = server.workspace(json!({ "name": "Poller", "external": true })).await;
        Self { server, ids: [("MOCK", mock), ("POLLER", poller)] }
    }

    async fn status(&self, method: &Method, path: &str, body: Option<&Value>) -> (u16, String) {
        let known =
            |text: &str| self.ids.iter().fold(text.to_owned(), |text, (name, id)| text.replace(name, id));
        let body = body.map(|body| known(&body.to_string())).unwrap_or_default();
        self.server.raw(method.clone(), &known(path), "application/json", body).await
    }
}

/// Every route that takes text, with a request that has each of its fields.
fn requests() -> Vec<(Method, &'static str, Option<Value>)> {
    let (get, post, put, patch, delete) =
        (Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE);
    let part = json!({ "kind": "text", "text": "t", "metadata": { "a": "b" } });
    let message = json!({ "role": "user", "messageId": "m", "contextId": "c", "parts": [part] });
    let create = json!({
        "name": "New", "role": "r", "template": "", "model": "m", "runtime": "mock", "url": "", "delivery_mode": "",
        "workspace_dir": "", "workspace_access": "", "parent_id": "MOCK", "secrets": { "KEY": "value" },
        "initial_memories": [{ "content": "c", "scope": "s" }],
    });
    let node = json!({
        "name": "Node", "role": "r", "runtime": "mock", "model": "m", "system_prompt": "p", "template": "",
        "files_dir": "", "workspace_dir": "", "workspace_access": "", "initial_prompt": "i", "idle_prompt": "i",
        "plugins": [{ "source": "p", "config": { "a": "b" } }], "category_routing": { "c": ["r"] },
        "initial_memories": [{ "content": "c", "scope": "s" }], "url": "", "required_env": [], "unknown": { "a": "b" },
        "schedules": [{ "name": "s", "cron_expr": "0 * * * *", "timezone": "UTC", "prompt": "p" }],
        "channels": [{ "type": "telegram", "config": { "chat_id": "1" }, "allowed_users": ["u"] }],
    });
    let template = json!({
        "name": "Org", "description": "d", "defaults": { "model": "m", "runtime": "mock", "initial_prompt": "p" },
        "workspaces": [node], "global_memories": [{ "content": "c", "scope": "s" }],
    });
    vec![
        (post.clone(), "/workspaces", Some(create)),
        (get.clone(), "/workspaces/MOCK?include_removed=true", None),
        (
            patch,
            "/workspaces/MOCK",
            Some(
                json!({ "name": "Mock", "role": "r", "runtime": "mock", "parent_id": null, "workspace_dir": null }),
            ),
        ),
        (get.clone(), "/workspaces/MOCK/state", None),
        (get.clone(), "/workspaces/MOCK/explain", None),
        (post.clone(), "/workspaces/MOCK/hibernate?force=true", None),
        (post.clone(), "/workspaces/MOCK/restart", None),
        (
            post.clone(),
            "/registry/register",
            Some(
                json!({ "id": "MOCK", "url": "http://localhost:1/a", "delivery_mode": "push", "agent_card": { "name": "n", "skills": ["s"] } }),
            ),
        ),
        (
            post.clone(),
            "/registry/heartbeat",
            Some(json!({
                "workspace_id": "MOCK", "id": "MOCK", "sample_error": "e", "current_task": "t", "runtime_state": "wedged",
                "error_rate": 0.9, "runtime_metadata": { "capabilities": { "session": true } },
            })),
        ),
        (
            post.clone(),
            "/registry/update-card",
            Some(json!({ "workspace_id": "MOCK", "agent_card": { "name": "n", "url": "u" } })),
        ),
        (post.clone(), "/registry/check-access", Some(json!({ "caller_id": "MOCK", "target_id": "POLLER" }))),
        (
            post.clone(),
            "/workspaces/MOCK/a2a",
            Some(json!({ "jsonrpc": "2.0", "id": "1", "method": "m", "params": { "message": message } })),
        ),
        (
            post.clone(),
            "/workspaces/POLLER/a2a",
            Some(json!({ "method": "m", "params": { "message": message, "metadata": { "a": "b" } } })),
        ),
        (
            get.clone(),
            "/workspaces/MOCK/activity?type=t&source=agent&peer_id=MOCK&since_secs=600&since_id=MOCK&limit=5",
            None,
        ),
        (get.clone(), "/workspaces/MOCK/activity?before_ts=2026-05-01T00:00:00Z", None),
        (
            post.clone(),
            "/workspaces/MOCK/activity",
            Some(json!({
                "activity_type": "agent_log", "method": "m", "summary": "s", "target_id": "MOCK", "source_id": "MOCK",
                "status": "ok", "error_detail": "e", "request_body": { "a": ["b"] }, "response_body": "r", "metadata": { "a": "b" },
            })),
        ),
        (get.clone(), "/workspaces/MOCK/a2a/queue/MOCK", None),
        (post.clone(), "/admin/a2a-queue/drop-stale?max_age_minutes=5&workspace_id=MOCK", None),
        (get.clone(), "/workspaces/MOCK/tokens?limit=5&offset=0", None),
        (delete.clone(), "/workspaces/MOCK/tokens/MOCK", None),
        (post.clone(), "/org/tokens", Some(json!({ "name": "ci", "org_id": "MOCK" }))),
        (delete.clone(), "/org/tokens/MOCK", None),
        (get.clone(), "/admin/workspaces/MOCK/test-token", None),
        (get.clone(), "/events?type=WORKSPACE_ONLINE&limit=5&before=MOCK", None),
        (get.clone(), "/events/MOCK?type=WORKSPACE_ONLINE", None),
        (get.clone(), "/org/templates?include_broken=true", None),
        (post.clone(), "/org/import?mode=merge&dry_run=false", Some(json!({ "template": template }))),
        (post.clone(), "/org/import", Some(json!({ "dir": "acme", "mode": "merge" }))),
        (get.clone(), "/admin/guests/mock", None),
        (
            put,
            "/admin/guests/mock/settings",
            Some(json!({ "pause_ms": 0, "replies": ["Aye."], "unknown": "u" })),
        ),
        (post.clone(), "/admin/guests/mock/releases?activate=false", Some(json!("no component"))),
        (post.clone(), "/admin/guests/mock/activate", Some(json!({ "release": "00" }))),
        (
            post.clone(),
            "/admin/guests/mock/call",
            Some(
                json!({ "function": "synthetic-reply", "input": { "workspace_id": "w", "request_id": "1", "text": "t" } }),
            ),
        ),
        (delete.clone(), "/admin/guests/mock/releases/00", None),
        (delete, "/workspaces/POLLER?confirm=true&purge=true", None),
    ]
}

/// The body with a NUL in one place after the other.
fn with_nul(body: &Value) -> Vec<Value> {
    match body {
        Value::String(_) => vec![json!(NUL)],
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(at, item)| {
                with_nul(item).into_iter().map(move |changed| {
                    let mut items = items.clone();
                    items[at] = changed;
                    Value::Array(items)
                })
            })
            .collect(),
        Value::Object(fields) => {
            let mut bodies: Vec<Value> = fields
                .iter()
                .flat_map(|(key, value)| {
                    with_nul(value).into_iter().map(move |changed| {
                        let mut fields = fields.clone();
                        fields.insert(key.clone(), changed);
                        Value::Object(fields)
                    })
                })
                .collect();
            let mut fields = fields.clone();
            fields.insert(NUL.to_owned(), json!(NUL));
            bodies.push(Value::Object(fields));
            bodies
        }
        _ => vec![json!(NUL)],
    }
}

/// The path with a NUL in one segment or parameter after the other.
fn paths_with_nul(path: &str) -> Vec<String> {
    let (segments, query) = path.split_once('?').unwrap_or((path, ""));
    let pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    let mut paths: Vec<String> = (0..pairs.len())
        .map(|at| {
            let changed = pairs.iter().enumerate().map(|(other, pair)| {
                let name = pair.split('=').next().unwrap();
                if other == at { format!("{name}=a%00b") } else { (*pair).to_owned() }
            });
            format!("{segments}?{}", changed.collect::<Vec<_>>().join("&"))
        })
        .collect();
    for word in ["MOCK", "POLLER", "mock", "00"] {
        if segments.split('/').any(|segment| segment == word) {
            paths.push(path.replacen(word, "a%00b", 1));
        }
    }
    paths
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_DATABASE_URL"]
async fn both_databases_answer_a_nul_anywhere_with_the_same_status() {
    let sides = [Side::start(Database::sqlite()).await, Side::start(Database::postgres().await).await];
    let mut requests_sent = 0;
    for (method, path, body) in requests() {
        let mut cases: Vec<(String, Option<Value>)> =
            paths_with_nul(path).into_iter().map(|path| (path, body.clone())).collect();
        cases.extend(body.iter().flat_map(with_nul).map(|body| (path.to_owned(), Some(body))));
        for (path, body) in cases {
            let [sqlite, postgres] = &sides;
            let one = sqlite.status(&method, &path, body.as_ref()).await;
            let other = postgres.status(&method, &path, body.as_ref()).await;
            let shown = body.map(|body| body.to_string()).unwrap_or_default();
            assert_eq!(one.0, other.0, "{method} {path} {shown}: {} and {}", one.1, other.1);
            assert!(one.0 < 500 && one.0 != 207, "{method} {path} {shown}: {one:?}");
            requests_sent += 1;
        }
    }
    assert!(requests_sent >= 200, "{requests_sent}");
    for side in &sides {
        for path in [
            "/workspaces",
            "/events?limit=500",
            "/org/tokens",
            "/admin/guests",
            "/workspaces/MOCK/activity?limit=500",
        ] {
            let (status, text) = side.status(&Method::GET, path, None).await;
            assert_eq!(status, 200, "{path}: {text}");
            assert!(!text.contains("\\u0000"), "{path}: {text}");
        }
    }
}

on_both_databases! {
    async fn a_nul_is_replaced_in_free_text_and_refused_in_names(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server).await;
        for body in [
            json!({ "name": NUL }), json!({ "name": "x", "role": NUL }), json!({ "name": "x", "model": NUL }),
            json!({ "name": "x", "runtime": NUL }),
        ] {
            assert_eq!(server.post("/workspaces", body.clone()).await.error(400), "invalid workspace fields", "{body}");
        }
        for (field, text) in [
            ("name", "name contains invalid characters"), ("role", "role contains invalid characters"),
            ("runtime", "runtime contains invalid characters"),
        ] {
            assert_eq!(server.patch(&format!("/workspaces/{id}"), json!({ field: NUL })).await.error(400), text);
        }
        let secret = json!({ "name": "x", "runtime": "mock", "secrets": { NUL: "v" } });
        assert_eq!(server.post("/workspaces", secret).await.error(400), "invalid secret key");
        assert_eq!(server.post("/org/tokens", json!({ "name": NUL })).await.error(400), "name contains invalid characters");
        let node = |field: &str| json!({ "template": { "name": "O", "workspaces": [{ "name": "W", "runtime": "mock", field: NUL }] } });
        for field in ["name", "role", "model", "runtime"] {
            assert_eq!(server.post("/org/import", node(field)).await.error(400), "invalid org template", "{field}");
        }
        assert_eq!(server.post("/org/import", node("system_prompt")).await.status, 201);

        let beat = json!({ "workspace_id": id, "current_task": NUL, "sample_error": NUL });
        server.post("/registry/heartbeat", beat).await.ok();
        let card = json!({ "workspace_id": id, "agent_card": { NUL: [NUL] } });
        server.post("/registry/update-card", card).await.ok();
        let report = json!({ "activity_type": "agent_log", "summary": NUL, "metadata": { NUL: NUL } });
        server.post(&format!("/workspaces/{id}/activity"), report).await.ok();
        // The index of the server that took them, and the database.
        let before = server.get(&format!("/workspaces/{id}")).await.ok();
        let server = server.restart().await;
        let found = server.get(&format!("/workspaces/{id}")).await.ok();
        for field in ["current_task", "last_sample_error", "agent_card"] {
            assert_eq!(before[field], found[field], "{field}");
        }
        assert_eq!((&found["current_task"], &found["agent_card"]), (&json!("a\u{fffd}b"), &json!({ "a\u{fffd}b": ["a\u{fffd}b"] })));
        let rows = activity(&server, &id, "?type=agent_log").await;
        assert!(rows.contains(r#"{"a�b":"a�b"}"#) && rows.contains(r#""summary":"a�b""#), "{rows}");
        assert_eq!(activity(&server, &id, "?type=a%00b").await, "[]");
        assert_eq!(server.get("/events?type=a%00b").await.ok(), json!([]));
        assert_eq!(server.get(&format!("/workspaces/{id}/activity?source=%00")).await.error(400), "source must be 'canvas' or 'agent'");
    }
}
