//! Requests are refused by their head: the refusal comes although the body is never sent, and none is asked for.

use crate::transport::program::Program;
use crate::transport::socket_client::{ADMIN, TestServer};
use crate::transport::wire::{Client, Server, request};

const ID: &str = "00000000-0000-4000-8000-000000000001";

/// Sends a head that announces a body and never sends it. `Expect` makes the server ask for the body when it begins to
/// read: the first thing to come has to be the refusal.
async fn refusal(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[&str],
    length: usize,
) -> (u16, String) {
    let mut client = server.connect().await;
    let length = format!("Content-Length: {length}");
    let headers = [headers, &[&length, "Expect: 100-continue"]].concat();
    client.write(&request(method, path, &headers, "")).await;
    let answer = client.answer().await;
    (answer.status(), answer.body)
}

/// Every route with a body behind a credential.
fn guarded() -> Vec<(&'static str, String)> {
    let mut routes = vec![
        ("POST", "/workspaces".to_owned()),
        ("PATCH", format!("/workspaces/{ID}")),
        ("POST", format!("/workspaces/{ID}/activity")),
        ("POST", "/org/tokens".to_owned()),
        ("POST", "/org/import".to_owned()),
        ("POST", "/org/import?mode=reconcile".to_owned()),
        ("PUT", "/admin/guests/mock/settings".to_owned()),
    ];
    for verb in ["releases", "releases?activate=true", "activate", "call"] {
        routes.push(("POST", format!("/admin/guests/mock/{verb}")));
    }
    routes
}

#[tokio::test]
async fn requests_without_a_valid_credential_are_refused_before_their_body_is_sent() {
    let server = Server::start(ADMIN).await;
    for (method, path) in guarded() {
        for credential in [&[][..], &["Authorization: Bearer wrong"], &["Authorization: Basic secret"]] {
            let (status, body) = refusal(&server, method, &path, credential, 500_000).await;
            assert_eq!(status, 401, "{method} {path} {credential:?}: {body}");
        }
        // An archive is the largest body of all.
        let tar = ["Content-Type: application/x-tar"];
        assert_eq!(refusal(&server, method, &path, &tar, 16 << 20).await.0, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn senders_that_prove_nothing_are_refused_before_their_message_is_sent() {
    let test = TestServer::start(ADMIN).await;
    let sender = test.workspace("sender", None).await;
    let target = test.workspace("target", None).await;
    let _token = test.token(sender).await;
    let path = format!("/workspaces/{target}/a2a");
    let named = format!("X-Workspace-ID: {sender}");
    for (headers, expected) in [
        (&[named.as_str()][..], (401, r#"{"error":"missing caller auth token"}"#)),
        (&[&named, "Authorization: Bearer wrong"], (401, r#"{"error":"invalid caller auth token"}"#)),
        (&["X-Workspace-ID: system:x"], (403, r#"{"error":"invalid caller ID"}"#)),
    ] {
        let (status, body) = refusal(&test.server, "POST", &path, headers, 1_000_000).await;
        assert_eq!((status, body.as_str()), expected);
    }
    assert_eq!(refusal(&test.server, "POST", "/workspaces/nope/a2a", &[], 1_000_000).await.0, 404);
}

/// Their workspace stands in the body, but without a live bearer it makes no difference which it is.
#[tokio::test]
async fn agents_without_a_live_bearer_are_refused_before_a_large_body_is_sent() {
    let server = Server::start(ADMIN).await;
    for path in ["/registry/register", "/registry/heartbeat", "/registry/update-card"] {
        for (credential, text) in [
            (&[][..], r#"{"error":"missing workspace auth token"}"#),
            (&["Authorization: Bearer wrong"], r#"{"error":"invalid workspace auth token"}"#),
        ] {
            let (status, body) = refusal(&server, "POST", path, credential, 200_000).await;
            assert_eq!((status, body.as_str()), (401, text), "{path}");
        }
    }
}

/// A client that has sent it would otherwise send its next request on a connection that the server closes.
#[tokio::test]
async fn the_answer_to_a_large_body_that_is_not_read_ends_the_connection() {
    let server = Server::start(ADMIN).await;
    let large = "x".repeat(200_000);
    for (method, path, headers) in [
        ("POST", "/workspaces", &[][..]),
        ("POST", "/registry/check-access", &[]),
        ("POST", "/no/such/route", &[]),
        ("POST", "/admin/guests/mock/enable", &["Authorization: Bearer secret"]),
    ] {
        let mut client = server.connect().await;
        let length = format!("Content-Length: {}", large.len());
        client.write(&request(method, path, &[headers, &[&length]].concat(), "")).await;
        let answer = client.answer().await;
        assert_eq!(answer.header("Connection"), Some("close"), "{path}: {}", answer.status());
    }
    // One that was read, and one that comes with its head, leave the connection as it is.
    let mut client = server.connect().await;
    for (headers, body) in [(&["Authorization: Bearer secret"][..], large.as_str()), (&[], "{}")] {
        let length = format!("Content-Length: {}", body.len());
        client.write(&request("POST", "/workspaces", &[headers, &[&length]].concat(), body)).await;
        assert_eq!(client.answer().await.header("Connection"), None);
    }
    client.write(&request("GET", "/health", &[], "")).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn callers_over_their_rate_are_refused_before_their_body_is_sent() {
    let server = Server::start(&["--rate-limit", "1"]).await;
    assert_eq!(server.get("/health").await.status(), 200);
    for (method, path) in guarded() {
        assert_eq!(refusal(&server, method, &path, &[], 500_000).await.0, 429, "{method} {path}");
    }
}

#[tokio::test]
async fn bodies_over_the_limit_of_their_route_are_refused_before_they_are_sent() {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    let server = Server::start(&["--molecule-env", "dev"]).await;
    for (path, limit) in [
        ("/workspaces", MIB),
        ("/workspaces/00000000-0000-4000-8000-000000000001/a2a", MIB),
        ("/registry/register", 256 * KIB),
        ("/registry/heartbeat", 256 * KIB),
        ("/registry/update-card", 256 * KIB),
        ("/registry/check-access", 4 * KIB),
    ] {
        let (status, body) = refusal(&server, "POST", path, &[], limit + 1).await;
        assert_eq!((status, body.as_str()), (413, r#"{"error":"request body too large"}"#), "{path}");
        // One byte less is asked for.
        let mut client = server.connect().await;
        let length = format!("Content-Length: {limit}");
        client.write(&request("POST", path, &[&length, "Expect: 100-continue"], "")).await;
        assert_eq!(client.answer().await.status(), 100, "{path}");
    }
    // With a live bearer, agents may say more.
    let agents = Server::start(ADMIN).await;
    for path in ["/registry/register", "/registry/heartbeat", "/registry/update-card"] {
        let mut client = agents.connect().await;
        let headers = ["Authorization: Bearer secret", "Content-Length: 1000000", "Expect: 100-continue"];
        client.write(&request("POST", path, &headers, "")).await;
        assert_eq!(client.answer().await.status(), 100, "{path}");
    }
    let tar = ["Content-Type: application/x-tar"];
    assert_eq!(refusal(&server, "POST", "/org/import", &tar, 32 * MIB + 1).await.0, 413);
    assert_eq!(refusal(&server, "POST", "/org/import", &[], 4 * MIB + 1).await.0, 400);
}

#[tokio::test]
async fn large_bodies_beyond_the_memory_for_them_are_refused_and_small_ones_are_not() {
    // Half of it is for admitted callers: two components of 16 MiB.
    let program = Program::start(&[("ADMIN_TOKEN", "secret"), ("REQUEST_BODY_MIB", "72")]);
    let token = "Authorization: Bearer secret";
    let push = async || {
        let mut client = Client::connect(program.address).await;
        let headers = [token, "Content-Length: 16000000", "Expect: 100-continue"];
        client.write(&request("POST", "/admin/guests/mock/releases", &headers, "")).await;
        client
    };
    let mut holders = [push().await, push().await];
    for holder in &mut holders {
        assert_eq!(holder.answer().await.status(), 100, "the body is asked for once there is memory");
    }
    let others = [push().await, push().await, push().await];
    for number in 0..10 {
        let mut client = Client::connect(program.address).await;
        let body = format!(r#"{{"name":"W{number}","runtime":"mock","role":"{}"}}"#, "x".repeat(10_000));
        client.write(&request("POST", "/workspaces", &[token], &body)).await;
        assert_ne!(client.answer().await.status(), 503);
    }
    for mut other in others {
        let answer = other.answer().await;
        assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("5")), "{}", answer.body);
    }
    drop(holders);
    assert_eq!(push().await.answer().await.status(), 100);
}
