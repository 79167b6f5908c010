//! Requests whose head two readers could understand in two ways.

use crate::transport::socket_client::{ADMIN, DEV};
use crate::transport::wire::{Answer, Server, request};

async fn answer(server: &Server, head: &str) -> Answer {
    let mut client = server.connect().await;
    client.write(&format!("{}\r\n\r\n", head.replace('\n', "\r\n"))).await;
    client.answer().await
}

#[tokio::test]
async fn a_length_beside_chunks_is_400_and_the_end_of_the_connection() {
    let server = Server::start(&["--molecule-env", "dev"]).await;
    let (chunks, length) = ("Transfer-Encoding: chunked", "content-length: 2");
    for headers in [[chunks, length], [length, chunks]] {
        let head = request("POST", "/workspaces", &headers, "");
        for cut in [0, head.len() - 10] {
            let mut client = server.connect().await;
            // The second request of a connection is looked at as the first.
            client.write(&request("GET", "/health", &[], "")).await;
            assert_eq!(client.answer().await.status(), 200);
            client.write(&head[..cut]).await;
            client.write(&head[cut..]).await;
            client.write("2\r\n{}\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: own.localhost\r\n\r\n").await;
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.header("connection")), (400, Some("close")), "{headers:?}");
            let text = r#"{"error":"the headers Transfer-Encoding and Content-Length exclude each other"}"#;
            assert_eq!(answer.body, text);
            assert_eq!(client.rest().await, "");
        }
    }
    // Each alone is fine, one after the other.
    let (mut client, body) = (server.connect().await, r#"{"name":"A","runtime":"mock"}"#);
    for _ in 0..2 {
        client.write(&request("POST", "/workspaces", &[chunks], "")).await;
        client.write(&format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).await;
        assert_eq!(client.answer().await.status(), 201);
        client.write(&request("POST", "/workspaces", &[], body)).await;
        assert_eq!(client.answer().await.status(), 201);
    }
}

#[tokio::test]
async fn absurd_lengths_are_413_or_400() {
    let server = Server::start(&["--molecule-env", "dev"]).await;
    for (length, status) in [
        ("1073741825", 413),
        ("18446744073709551613", 413),
        ("18446744073709551614", 413),
        ("18446744073709551615", 413),
        ("18446744073709551616", 400),
        ("99999999999999999999999", 400),
    ] {
        let answer = server.ask("POST", "/workspaces", &[&format!("Content-Length: {length}")]).await;
        assert_eq!((answer.status(), answer.header("connection")), (status, Some("close")), "{length}");
    }
}

#[tokio::test]
async fn repeated_headers_that_decide_something_are_refused() {
    let server = Server::start(ADMIN).await;
    for (name, one, other) in [
        ("Authorization", "Bearer secret", "Bearer secret"),
        ("Authorization", "Bearer secret", "Bearer wrong"),
        ("Authorization", "Bearer wrong", "Bearer secret"),
        ("Authorization", "Basic x", "Bearer secret"),
        ("Origin", "http://localhost:3000", "http://evil.example"),
        ("Content-Type", "application/json", "application/x-tar"),
        ("X-Workspace-ID", "a", "b"),
        ("X-Molecule-Org-Id", "a", "b"),
        ("Fly-Replay-Src", "state=a", "state=b"),
        ("Idempotency-Key", "a", "b"),
        ("Last-Event-ID", "1", "2"),
        ("Host", "localhost", "localhost"),
        ("Host", "localhost", "evil.example"),
    ] {
        let host = if name == "Host" { "" } else { "\nHost: localhost" };
        // Case and order make no difference, and other headers may stand between.
        let lower = name.to_lowercase();
        for head in [
            format!("GET /workspaces HTTP/1.1{host}\n{name}: {one}\n{name}: {other}"),
            format!("GET /health HTTP/1.1\n{name}: {one}{host}\nX-A: b\n{lower}: {other}"),
            format!("POST /nowhere HTTP/1.0\n{name}: {one}\n{name}: {other}"),
        ] {
            let answer = answer(&server, &head).await;
            let text = format!(r#"{{"error":"the header {lower} is repeated"}}"#);
            assert_eq!((answer.status(), answer.body), (400, text), "{head}");
        }
    }
    // Lists and headers of proxies may be continued on another line.
    let lists = "GET /health HTTP/1.1\nHost: localhost\nX-Forwarded-For: a\nX-Forwarded-For: b\nAccept: a\nAccept: b\n\
                 Cookie: a=b\nCookie: c=d\nVia: 1.1 a\nVia: 1.1 b";
    assert_eq!(answer(&server, lists).await.status(), 200);
}

#[tokio::test]
async fn requests_name_one_host() {
    for flags in [ADMIN, DEV] {
        let server = Server::start(flags).await;
        for (head, status) in [
            ("GET /health HTTP/1.1\nHost: localhost", 200),
            ("GET /health HTTP/1.0", 200),
            ("GET /health HTTP/1.0\nHost: localhost", 200),
            ("GET http://localhost/health HTTP/1.1\nHost: LocalHost", 200),
            ("GET http://[::1]:80/health HTTP/1.1\nHost: [::1]:80", 200),
            ("GET /health HTTP/1.1", 400),
            ("GET /health HTTP/1.1\nX-Host: localhost", 400),
            ("GET /health HTTP/1.1\nHost: localhost, evil.example", 400),
            ("GET /health HTTP/1.1\nHost: localhost/evil.example", 400),
            ("GET /health HTTP/1.1\nHost: evil.example@localhost", 400),
            ("GET /health HTTP/1.1\nHost: local\u{e4}", 400),
            // The target counts for some readers, the header for others.
            ("GET http://evil.example/health HTTP/1.1\nHost: localhost", 400),
            ("GET http://localhost/health HTTP/1.1\nHost: evil.example", 400),
            ("GET http://localhost:81/health HTTP/1.1\nHost: localhost", 400),
            ("GET http://evil.example@localhost/health HTTP/1.1\nHost: localhost", 400),
            ("GET http://evil.example/health HTTP/1.1", 400),
            ("GET http://evil.example/health HTTP/1.0", 400),
        ] {
            let answer = answer(&server, head).await;
            assert_eq!(answer.status(), status, "{head}: {}", answer.body);
        }
        // Development mode answers under its own names only, in whatever form they come.
        let elsewhere = if flags == DEV { 421 } else { 200 };
        for head in [
            "GET /health HTTP/1.1\nHost: evil.example",
            "GET http://evil.example/health HTTP/1.1\nHost: evil.example",
        ] {
            assert_eq!(answer(&server, head).await.status(), elsewhere, "{head}");
        }
    }
}

#[tokio::test]
async fn absurd_lengths_are_refused_at_once() {
    let server = Server::start(DEV).await;
    for (length, status) in [
        ("18446744073709551616", 400),
        ("-1", 400),
        ("1, 2", 400),
        ("18446744073709551613", 413),
        ("1073741825", 413),
    ] {
        for line in ["POST /workspaces", "GET /health", "POST /nowhere", "POST /workspaces/x/pause"] {
            let head =
                format!("{line} HTTP/1.1\nHost: localhost\nContent-Length: {length}\nExpect: 100-continue");
            assert_eq!(answer(&server, &head).await.status(), status, "{line} {length}");
        }
    }
}
