//! Refusals of extractors are JSON errors of the contract: invalid ids, escapes, queries and bodies.

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::transport::wire::{Answer, Server, request};

const ID: &str = "00000000-0000-4000-8000-000000000001";

async fn server() -> Server {
    Server::start(&["--molecule-env", "dev"]).await
}

#[track_caller]
fn is_json_refusal(answer: &Answer, request: &str) {
    assert!((400..500).contains(&answer.status()), "{request}: {}", answer.head);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"), "{request}");
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert!(body.is_object(), "{request}: {body}");
}

#[tokio::test]
async fn bad_ids_and_escapes_in_paths_are_refused_with_json() {
    let server = server().await;
    for bad in ["%ff", "nope", "%2e%2e", "%00"] {
        for (method, path) in [
            ("GET", "/workspaces/BAD"),
            ("PATCH", "/workspaces/BAD"),
            ("DELETE", "/workspaces/BAD"),
            ("GET", "/workspaces/BAD/state"),
            ("GET", "/workspaces/BAD/explain"),
            ("POST", "/workspaces/BAD/restart"),
            ("POST", "/workspaces/BAD/pause"),
            ("POST", "/workspaces/BAD/resume"),
            ("POST", "/workspaces/BAD/hibernate"),
            ("POST", "/workspaces/BAD/a2a"),
            ("GET", "/workspaces/BAD/activity"),
            ("POST", "/workspaces/BAD/activity"),
            ("GET", "/workspaces/BAD/events/stream"),
            ("GET", "/workspaces/BAD/tokens"),
            ("POST", "/workspaces/BAD/tokens"),
            ("DELETE", "/workspaces/BAD/tokens/BAD"),
            ("DELETE", "/workspaces/00000000-0000-4000-8000-000000000001/tokens/BAD"),
            ("GET", "/workspaces/BAD/a2a/queue/BAD"),
            ("GET", "/workspaces/00000000-0000-4000-8000-000000000001/a2a/queue/BAD"),
            ("DELETE", "/org/tokens/BAD"),
            ("GET", "/admin/workspaces/BAD/test-token"),
            ("GET", "/admin/guests/BAD"),
            ("POST", "/admin/guests/BAD/rollback"),
            ("POST", "/admin/guests/BAD/enable"),
            ("DELETE", "/admin/guests/BAD/releases/BAD"),
        ] {
            let path = path.replace("BAD", bad);
            is_json_refusal(&server.ask(method, &path, &[]).await, &format!("{method} {path}"));
        }
        let events = server.get(&format!("/events/{bad}")).await;
        assert_eq!(
            (events.status(), events.body.as_str()),
            (200, "[]"),
            "an unknown workspace has no events"
        );
    }
}

#[tokio::test]
async fn bad_queries_are_refused_with_json() {
    let server = server().await;
    for (method, target) in [
        ("GET", format!("/workspaces/{ID}?include_removed=a&include_removed=b")),
        ("GET", "/events?limit=1&limit=2".to_owned()),
        ("GET", format!("/workspaces/{ID}/activity?limit=1&limit=2")),
        ("GET", "/org/templates?include_broken=a&include_broken=b".to_owned()),
        ("POST", format!("/workspaces/{ID}/hibernate?force=1&force=2")),
        ("POST", "/admin/guests/mock/releases?activate=maybe".to_owned()),
        ("POST", "/admin/a2a-queue/drop-stale?workspace_id=nope".to_owned()),
        ("GET", "/ws?since=a&since=b".to_owned()),
    ] {
        is_json_refusal(&server.ask(method, &target, &[]).await, &format!("{method} {target}"));
    }
}

/// Routes that take JSON.
fn routes() -> [(&'static str, String); 9] {
    [
        ("POST", "/workspaces".to_owned()),
        ("PATCH", format!("/workspaces/{ID}")),
        ("POST", format!("/workspaces/{ID}/activity")),
        ("POST", "/registry/register".to_owned()),
        ("POST", "/registry/heartbeat".to_owned()),
        ("POST", "/registry/update-card".to_owned()),
        ("POST", "/registry/check-access".to_owned()),
        ("POST", "/admin/guests/mock/activate".to_owned()),
        ("POST", "/org/import".to_owned()),
    ]
}

#[tokio::test]
async fn malformed_bodies_are_refused_with_json() {
    let server = server().await;
    for (method, path) in routes() {
        for (content_type, body) in [
            ("Content-Type: text/html", "<p>"),
            ("Content-Type: application/json", "{"),
            ("Content-Type: application/json", "[]"),
            ("Content-Type: application/x-www-form-urlencoded", "a=b"),
        ] {
            let answer = server.send(method, &path, &[content_type], body).await;
            is_json_refusal(&answer, &format!("{method} {path} {body}"));
        }
        let mut client = server.connect().await;
        // In a string, such a byte is replaced.
        let head = request(method, &path, &["Content-Length: 11"], "");
        let body = b"{\"name\":\xff1}".as_slice();
        client.0.write_all(&[head.as_bytes(), body].concat()).await.expect("written");
        is_json_refusal(&client.answer().await, &format!("{method} {path} with bad UTF-8"));
    }
}

#[tokio::test]
async fn oversized_bodies_are_refused_with_json() {
    let server = server().await;
    let body = format!("{{\"name\":\"{}\"}}", "x".repeat(1024 * 1024));
    for (method, path) in routes().into_iter().chain([("POST", format!("/workspaces/{ID}/a2a"))]) {
        let answer = server.send(method, &path, &[], &body).await;
        is_json_refusal(&answer, &format!("{method} {path}"));
        if path != "/org/import" {
            assert_eq!(
                (answer.status(), answer.body.as_str()),
                (413, r#"{"error":"request body too large"}"#)
            );
        }
    }
}
