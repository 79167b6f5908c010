//! Activity of workspaces: chat.md §1.

use std::collections::BTreeSet;

use chrono::DateTime;
use reqwest::Method;
use serde_json::{Value, json};

use support::{Database, Server, Socket, Start, on_both_databases};

const OTHER_ID: &str = "11111111-1111-4111-8111-111111111111";

async fn mock(server: &Server, name: &str) -> String {
    server.workspace(json!({ "name": name, "runtime": "mock" })).await
}

async fn list(server: &Server, id: &str, query: &str) -> Vec<Value> {
    let rows = server.get(&format!("/workspaces/{id}/activity{query}")).await.ok();
    rows.as_array().expect("a list").clone()
}

async fn report(server: &Server, id: &str, body: Value) -> Value {
    server.post(&format!("/workspaces/{id}/activity"), body).await.ok()
}

fn summaries(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["summary"].as_str().expect("text")).collect()
}

on_both_databases! {
    async fn agents_report_activity(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server, "Agent").await;
        let path = format!("/workspaces/{id}/activity");
        let mut socket = Socket::canvas(&server).await;
        let logged = json!({ "status": "logged" });
        let whole = json!({
            "activity_type": "a2a_send", "method": "message/send", "summary": "s", "target_id": OTHER_ID,
            "source_id": id.to_uppercase(), "status": "timeout", "error_detail": "late", "duration_ms": 7,
            "request_body": { "task": 1.0 }, "response_body": ["r"], "metadata": "ignored",
        });
        assert_eq!(report(&server, &id, whole).await, logged);
        let event = socket.event().await;
        let row = list(&server, &id, "").await.remove(0);
        let expected = json!({
            "activity_type": "a2a_send", "created_at": row["created_at"], "duration_ms": 7, "error_detail": "late",
            "id": row["id"], "method": "message/send", "request_body": { "task": 1.0 }, "response_body": ["r"],
            "source_id": id, "status": "timeout", "summary": "s", "target_id": OTHER_ID, "workspace_id": id,
        });
        assert_eq!(row, expected);
        assert_eq!((&event["event"], &event["workspace_id"]), (&json!("ACTIVITY_LOGGED"), &json!(id)));
        assert_eq!((&event["payload"]["id"], &event["payload"]["error_detail"]), (&row["id"], &json!("late")));

        let bare = json!({ "activity_type": "agent_log", "target_id": "", "source_id": "", "metadata": { "a": 1 } });
        assert_eq!(report(&server, &id, bare).await, logged);
        let row = list(&server, &id, "").await.remove(0);
        for (field, value) in [
            ("status", json!("ok")), ("source_id", json!(id)), ("target_id", json!(null)), ("method", json!(null)),
            ("summary", json!(null)), ("duration_ms", json!(null)), ("request_body", json!({ "a": 1 })),
        ] {
            assert_eq!(row[field], value, "{field}");
        }
        assert!(row.get("response_body").is_none() && row.get("tool_trace").is_none());

        for (body, status, text) in [
            (json!([]), 400, "invalid request body"),
            (json!({ "activity_type": 1 }), 400, "invalid request body"),
            (
                json!({ "activity_type": "delegation" }), 400,
                "invalid activity_type, must be one of: a2a_send, a2a_receive, task_update, agent_log, skill_promotion, memory_write, error",
            ),
            (json!({ "activity_type": "error", "source_id": OTHER_ID }), 403, "source_id must match authenticated workspace"),
            (json!({ "activity_type": "error", "source_id": "x" }), 403, "source_id must match authenticated workspace"),
            (json!({ "activity_type": "error", "target_id": "x" }), 400, "target_id must be a UUID"),
        ] {
            assert_eq!(server.post(&path, body.clone()).await.error(status), text, "{body}");
        }
        let missing = server.post(&path, json!({ "method": "m" })).await;
        assert_eq!(missing.json, json!({ "detail": "ActivityType is required", "error": "invalid request body" }));
        assert_eq!(list(&server, &id, "").await.len(), 2, "refused reports leave no rows");
        let unknown = server.post(&format!("/workspaces/{OTHER_ID}/activity"), json!({ "activity_type": "error" })).await;
        assert_eq!(unknown.error(404), "workspace not found");
    }

    async fn rows_are_found_by_every_filter(database: Database) {
        let server = Server::start(database).await;
        let [id, other] = [mock(&server, "Agent").await, mock(&server, "Other").await];
        server.settings("mock", json!({ "pause_ms": 0 })).await.ok();
        for number in 1..=3 {
            let kind = if number == 2 { "error" } else { "task_update" };
            let target = if number == 3 { Some(OTHER_ID) } else { None };
            report(&server, &id, json!({ "activity_type": kind, "summary": number.to_string(), "target_id": target })).await;
        }
        let message = json!({ "method": "4", "params": { "message": { "content": "hello" } } });
        server.post(&format!("/workspaces/{id}/a2a"), message).await.ok();
        server.until("the message is there", async |server| list(server, &id, "").await.len() == 4).await;
        report(&server, &other, json!({ "activity_type": "error", "summary": "other" })).await;

        let all = list(&server, &id, "").await;
        assert_eq!(summaries(&all), ["4 → Agent", "3", "2", "1"]);
        let escaped = |row: &Value| row["created_at"].as_str().unwrap().replace('+', "%2B");
        for (query, expected) in [
            ("?type=task_update".to_owned(), &["3", "1"][..]),
            ("?type=nothing".to_owned(), &[]),
            ("?source=canvas".to_owned(), &["4 → Agent"]),
            ("?source=agent".to_owned(), &["3", "2", "1"]),
            (format!("?peer_id={OTHER_ID}"), &["3"]),
            (format!("?peer_id={id}"), &["4 → Agent", "3", "2", "1"]),
            (format!("?source=agent&type=error&peer_id={id}"), &["2"]),
            (format!("?before_ts={}", escaped(&all[1])), &["2", "1"]),
            ("?limit=1&before_ts=9999-12-31T23:59:59-23:59".to_owned(), &["4 → Agent"]),
            (format!("?since_id={}", all[2]["id"].as_str().unwrap()), &["3", "4 → Agent"]),
            (format!("?since_id={}&limit=1", all[2]["id"].as_str().unwrap()), &["3"]),
            (format!("?since_id={}", all[0]["id"].as_str().unwrap()), &[]),
            ("?since_secs=600".to_owned(), &["4 → Agent", "3", "2", "1"]),
            ("?since_secs=99999999999".to_owned(), &["4 → Agent", "3", "2", "1"]),
            ("?limit=2".to_owned(), &["4 → Agent", "3"]),
            ("?limit=0".to_owned(), &["4 → Agent", "3", "2", "1"]),
            ("?limit=x&source=&type=&peer_id=&before_ts=&since_secs=&since_id=".to_owned(), &["4 → Agent", "3", "2", "1"]),
        ] {
            assert_eq!(summaries(&list(&server, &id, &query).await), expected, "{query}");
        }
        let cursor = "since_id cursor not found (row may have been pruned or belongs to a different workspace); omit since_id to reset";
        let foreign = list(&server, &other, "").await[0]["id"].as_str().unwrap().to_owned();
        for (query, status, text) in [
            ("peer_id=x&before_ts=x".to_owned(), 400, "peer_id must be a UUID"),
            ("before_ts=yesterday&since_secs=0".to_owned(), 400, "before_ts must be an RFC3339 timestamp (e.g. 2026-05-01T00:00:00Z)"),
            ("since_secs=0&since_id=x".to_owned(), 400, "since_secs must be a positive integer"),
            ("since_secs=-5".to_owned(), 400, "since_secs must be a positive integer"),
            ("since_secs=1.5".to_owned(), 400, "since_secs must be a positive integer"),
            ("since_id=x&source=x".to_owned(), 410, cursor),
            (format!("since_id={OTHER_ID}"), 410, cursor),
            (format!("since_id={foreign}"), 410, cursor),
            ("source=both".to_owned(), 400, "source must be 'canvas' or 'agent'"),
        ] {
            let answer = server.get(&format!("/workspaces/{id}/activity?{query}")).await;
            assert_eq!(answer.error(status), text, "{query}");
        }
        assert_eq!(list(&server, OTHER_ID, "").await, [] as [Value; 0]);
    }

    async fn activity_needs_access_to_the_workspace(database: Database) {
        let server = Server::start(Start::from(database).env("ADMIN_TOKEN", "admin")).await;
        let ask = async |bearer: &str, method, path: &str, body| server.ask(bearer, method, path, body).await;
        let create = |name: &str| json!({ "name": name, "external": true });
        let made = ask("admin", Method::POST, "/workspaces", Some(create("A"))).await.ok();
        let other = ask("admin", Method::POST, "/workspaces", Some(create("B"))).await.ok();
        let path = format!("/workspaces/{}/activity", made["id"].as_str().unwrap());
        let own = made["connection"]["auth_token"].as_str().unwrap();
        let foreign = other["connection"]["auth_token"].as_str().unwrap();
        ask(own, Method::POST, &path, Some(json!({ "activity_type": "error" }))).await.ok();
        for good in [own, "admin"] {
            assert_eq!(ask(good, Method::GET, &path, None).await.ok().as_array().unwrap().len(), 1);
        }
        assert_eq!(ask(foreign, Method::GET, &path, None).await.error(401), "invalid workspace auth token");
        assert_eq!(server.get(&path).await.error(401), "missing workspace auth token");
        assert_eq!(ask(foreign, Method::POST, &path, Some(json!({}))).await.error(401), "invalid workspace auth token");
    }

    async fn reading_activity_by_cursor_misses_nothing(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server, "Busy").await;
        server.settings("mock", json!({ "pause_ms": 0 })).await.ok();
        report(&server, &id, json!({ "activity_type": "agent_log", "summary": "first" })).await;
        let mut cursor = list(&server, &id, "").await[0]["id"].as_str().unwrap().to_owned();
        // Write-behind rows (deliveries) mixed with durable ones (reports).
        const EACH: usize = 60;
        let message = json!({ "method": "m", "params": { "message": { "content": "hello" } } });
        let (a2a, activity) = (format!("/workspaces/{id}/a2a"), format!("/workspaces/{id}/activity"));
        let writing = async {
            for _ in 0..EACH {
                let reported = server.post(&activity, json!({ "activity_type": "agent_log" }));
                let sent = futures::future::join(server.post(&a2a, message.clone()), server.post(&a2a, message.clone()));
                let (reported, (one, two)) = futures::future::join(reported, sent).await;
                [reported, one, two].into_iter().for_each(|answer| drop(answer.ok()));
            }
        };
        let mut seen = BTreeSet::new();
        let mut last = DateTime::UNIX_EPOCH.fixed_offset();
        let reading = server.until("every row was seen", async |server| {
            for row in list(server, &id, &format!("?since_id={cursor}&limit=7")).await {
                cursor = row["id"].as_str().unwrap().to_owned();
                assert!(seen.insert(cursor.clone()), "seen twice");
                // Compared as times: the texts omit trailing zeros.
                let at = DateTime::parse_from_rfc3339(row["created_at"].as_str().unwrap()).unwrap();
                assert!(at > last, "{at} after {last}");
                last = at;
            }
            seen.len() == 3 * EACH
        });
        futures::future::join(writing, reading).await;
        assert_eq!(list(&server, &id, "?limit=500").await.len(), 3 * EACH + 1);
    }
}
