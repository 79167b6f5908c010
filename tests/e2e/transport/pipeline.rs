//! Middleware of all routes: headers, unknown routes, HEAD, trailing slashes, panics.

use api::access::AdminAuth;
use axum::Router;
use axum::extract::Path;
use axum::routing::{delete, get, post};
use httpd::router_ext::RouterExt;

use crate::transport::wire::{Answer, Server};

const SECURITY: [(&str, &str); 6] = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
    ("Content-Security-Policy", "default-src 'self'"),
];

fn assert_not_found(answer: &Answer) {
    assert_eq!(answer.status(), 404, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("allow"), None);
}

#[tokio::test]
async fn health_and_build_info() {
    let server = Server::start(&[]).await;
    let health = server.get("/health").await;
    assert_eq!((health.status(), health.body.as_str()), (200, r#"{"status":"ok"}"#));
    assert_eq!(health.header("content-type"), Some("application/json; charset=utf-8"));
    let build = server.get("/buildinfo").await;
    assert_eq!(build.status(), 200);
    let expected = option_env!("GIT_SHA").filter(|sha| !sha.is_empty()).unwrap_or("dev");
    assert_eq!(build.body, format!(r#"{{"git_sha":"{expected}"}}"#));
}

#[tokio::test]
async fn header_names_are_in_title_case() {
    let server = Server::start(&[]).await;
    let answer = server.get("/health").await;
    for name in ["Content-Type", "Content-Length", "X-Frame-Options", "X-Request-Id", "Date"] {
        assert!(answer.head.contains(&format!("\r\n{name}: ")), "{name} in {}", answer.head);
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let server = Server::with_routes(&["--molecule-org-id", "org"], |_| {
        Router::new()
            .probe("/health", get(async || "ok"))
            .endpoint("/cp/panic", get(async || -> &'static str { panic!("on purpose") }))
            .endpoint("/cp/admin", get(async |_: AdminAuth| "ok"))
    })
    .await;
    let foreign = ["Origin: https://evil.example"];
    let allowed = ["Origin: http://localhost:3000"];
    for (status, answer) in [
        (200, server.get("/health").await),
        (404, server.get("/cp/none").await),
        (404, server.get("/hidden-by-the-tenant-guard").await),
        (403, server.ask("GET", "/health", &foreign).await),
        (204, server.ask("OPTIONS", "/health", &allowed).await),
        (301, server.get("/cp/admin/").await),
        (500, server.get("/cp/panic").await),
    ] {
        assert_eq!(answer.status(), status, "{answer:?}");
        for (name, value) in SECURITY {
            assert_eq!(answer.headers(name), [value], "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_handler_may_set_its_own_security_header() {
    let server = Server::with_routes(&[], |_| {
        let page = async || [("content-security-policy", "default-src 'none'")];
        Router::new().endpoint("/page", get(page))
    })
    .await;
    let answer = server.get("/page").await;
    assert_eq!(answer.headers("content-security-policy"), ["default-src 'none'"]);
}

#[tokio::test]
async fn unknown_routes_and_wrong_methods_are_the_same_404() {
    let server = Server::with_routes(&["--admin-token", "t"], |_| {
        Router::new()
            .probe("/health", get(async || "ok"))
            .endpoint("/things/{id}", delete(async |_: AdminAuth| "ok"))
    })
    .await;
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/nothing/here?x=1"),
        ("GET", "/health/x"),
        ("POST", "/health"),
        ("BREW", "/health"),
        // Not 401: the method is matched before access is checked.
        ("GET", "/things/1"),
        // Without `Origin` this is not CORS.
        ("OPTIONS", "/health"),
    ] {
        let answer = server.ask(method, target, &[]).await;
        assert_not_found(&answer);
        assert_eq!(answer.body, "404 page not found", "{method} {target}");
    }
    assert_eq!(server.ask("DELETE", "/things/1", &[]).await.status(), 401);
}

#[tokio::test]
async fn head_is_answered_on_health_routes() {
    let server =
        Server::with_routes(&[], |app| api::routes(app).endpoint("/things", get(async || "ok"))).await;
    for target in ["/health", "/healthz", "/buildinfo", "/metrics"] {
        assert_eq!(server.ask("HEAD", target, &[]).await.status(), 200, "{target}");
    }
    let length = server.get("/health").await.body.len().to_string();
    assert_eq!(server.get("/healthz").await.body, server.get("/health").await.body);
    let head = server.ask("HEAD", "/health", &[]).await;
    assert_eq!(head.header("content-length"), Some(length.as_str()));
    for target in ["/things", "/nothing"] {
        assert_not_found(&server.ask("HEAD", target, &[]).await);
    }
}

#[tokio::test]
async fn a_trailing_slash_redirects_after_the_guards() {
    let server = Server::with_routes(&["--molecule-org-id", "org"], |_| {
        Router::new().endpoint("/things/{id}", get(async || "ok").merge(post(async || "ok")))
    })
    .await;
    let tenant = ["X-Molecule-Org-Id: org", "X-Forwarded-Prefix: //evil.example"];
    let answer = server.ask("GET", "/things/1/?a=b", &tenant).await;
    assert_eq!(answer.status(), 301);
    assert_eq!(answer.header("location"), Some("/things/1?a=b"));
    let answer = server.ask("POST", "/things/1/", &tenant).await;
    assert_eq!(answer.status(), 307);
    assert_eq!(answer.header("location"), Some("/things/1"));
    let answer = server.ask("GET", "/nothing/", &tenant).await;
    assert_eq!((answer.status(), answer.header("location")), (404, None));
    let answer = server.ask("GET", "/things/1/", &[]).await;
    assert_eq!((answer.status(), answer.header("location")), (404, None));
}

#[tokio::test]
async fn a_catch_all_keeps_its_slash() {
    let server = Server::with_routes(&[], |_| {
        let rest = async |Path(rest): Path<String>| rest;
        Router::new().endpoint("/files/{*rest}", get(rest))
    })
    .await;
    assert_eq!(server.get("/files/a/b/").await.body, "a/b/");
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_connection_lives_on() {
    let server = Server::with_routes(&[], |app| {
        let explode = async || -> &'static str { panic!("secret detail") };
        api::routes(app).endpoint("/explode", get(explode))
    })
    .await;
    let mut client = server.connect().await;
    client.write(&crate::transport::wire::request("GET", "/explode", &[], "")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.body.as_str()), (500, r#"{"error":"internal error"}"#));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert!(answer.header("x-request-id").is_some());
    client.write(&crate::transport::wire::request("GET", "/health", &[], "")).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn request_ids_come_from_the_server_and_are_unique() {
    let server = Server::start(&[]).await;
    let own = ["X-Request-Id: mine"];
    let first = server.ask("GET", "/health", &own).await;
    let second = server.ask("GET", "/health", &own).await;
    let (first, second) = (first.header("x-request-id"), second.header("x-request-id"));
    assert!(first.is_some_and(|id| id.len() == 36), "{first:?}");
    assert_ne!(first, second);
}
