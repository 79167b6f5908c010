//! The CORS table of the contract.

use crate::transport::wire::{Answer, Server};

const ALLOWED: &str = "Origin: http://localhost:3000";

fn has_cors_headers(answer: &Answer) -> bool {
    answer.head.to_lowercase().contains("access-control-")
}

#[tokio::test]
async fn without_an_origin_there_are_no_cors_headers() {
    let server = Server::start(&[]).await;
    let answer = server.get("/health").await;
    assert_eq!(answer.status(), 200);
    assert!(!has_cors_headers(&answer));
}

#[tokio::test]
async fn the_same_origin_gets_no_cors_headers() {
    let server = Server::start(&[]).await;
    for origin in ["Origin: http://own.localhost", "Origin: https://own.localhost"] {
        for (method, status) in [("GET", 200), ("OPTIONS", 204)] {
            let answer = server.ask(method, "/health", &[origin]).await;
            assert_eq!(answer.status(), status, "{method} {origin}");
            assert!(!has_cors_headers(&answer));
        }
    }
}

#[tokio::test]
async fn foreign_origins_are_refused_with_any_method() {
    let server = Server::start(&[]).await;
    for method in ["GET", "POST", "OPTIONS", "HEAD"] {
        let answer = server.ask(method, "/health", &["Origin: https://evil.example"]).await;
        assert_eq!((answer.status(), answer.body.as_str()), (403, ""), "{method}");
        assert!(!has_cors_headers(&answer));
    }
}

#[tokio::test]
async fn preflights_of_allowed_origins() {
    let server = Server::start(&[]).await;
    for target in ["/health", "/nothing"] {
        let answer = server.ask("OPTIONS", target, &[ALLOWED]).await;
        assert_eq!((answer.status(), answer.body.as_str()), (204, ""));
        for (name, value) in [
            ("Access-Control-Allow-Origin", "http://localhost:3000"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,OPTIONS"),
            (
                "Access-Control-Allow-Headers",
                "Origin,Content-Type,X-Workspace-Id,Authorization,X-Molecule-Org-Slug,\
                 X-Molecule-Org-Id,Idempotency-Key,X-Timeout",
            ),
            ("Access-Control-Max-Age", "600"),
        ] {
            assert_eq!(answer.headers(name), [value], "{answer:?}");
        }
        let vary = ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"];
        assert_eq!(answer.headers("Vary"), vary);
    }
}

#[tokio::test]
async fn answers_to_allowed_origins() {
    let server = Server::start(&[]).await;
    for (target, status) in [("/health", 200), ("/nothing", 404)] {
        let answer = server.ask("GET", target, &[ALLOWED]).await;
        assert_eq!(answer.status(), status);
        for (name, value) in [
            ("Access-Control-Allow-Origin", "http://localhost:3000"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Vary", "Origin"),
            (
                "Access-Control-Expose-Headers",
                "Retry-After,X-RateLimit-Limit,X-RateLimit-Remaining,X-RateLimit-Reset",
            ),
        ] {
            assert_eq!(answer.headers(name), [value], "{answer:?}");
        }
        assert_eq!(answer.header("Access-Control-Allow-Methods"), None);
    }
}

#[tokio::test]
async fn a_wildcard_allows_every_origin_without_credentials() {
    let server = Server::start(&["--cors-origins", "*, https://a.example"]).await;
    let unlisted = server.ask("GET", "/health", &["Origin: https://b.example"]).await;
    assert_eq!(unlisted.headers("Access-Control-Allow-Origin"), ["*"]);
    assert_eq!(unlisted.header("Access-Control-Allow-Credentials"), None);
    let listed = server.ask("GET", "/health", &["Origin: https://a.example"]).await;
    assert_eq!(listed.headers("Access-Control-Allow-Origin"), ["https://a.example"]);
    assert_eq!(listed.headers("Access-Control-Allow-Credentials"), ["true"]);
}

#[tokio::test]
async fn agents_may_send_the_platforms_own_origin() {
    let flags = ["--cors-origins", "https://a.example", "--platform-url", "http://isomer:8080/"];
    let server = Server::start(&flags).await;
    let answer = server.ask("GET", "/health", &["Origin: http://isomer:8080"]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers("Access-Control-Allow-Origin"), ["http://isomer:8080"]);
    let default = server.ask("GET", "/health", &["Origin: http://localhost:3000"]).await;
    assert_eq!(default.status(), 403, "CORS_ORIGINS replaces the defaults");
}
