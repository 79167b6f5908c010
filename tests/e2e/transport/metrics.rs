//! `/metrics`.

use api::app::App;
use axum::Router;
use axum::routing::get;
use httpd::router_ext::RouterExt;

use crate::transport::wire::{Server, WAIT_TIMEOUT, request};

fn routes(app: &App) -> Router<App> {
    api::routes(app)
        .endpoint("/things/{id}", get(async || "ok"))
        .endpoint("/explode", get(async || -> &'static str { panic!("on purpose") }))
}

async fn requests_total(server: &Server, method: &str, path: &str, status: u16) -> u64 {
    let labels = format!(r#"{{method="{method}",path="{path}",status="{status}"}} "#);
    let start = format!("molecule_http_requests_total{labels}");
    let text = server.get("/metrics").await.body;
    let count = text.lines().find_map(|line| line.strip_prefix(&start));
    count.map_or(0, |count| count.parse().expect("a count"))
}

#[tokio::test]
async fn the_content_type_is_that_of_the_text_format() {
    let server = Server::start(&[]).await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for name in [
        "molecule_websocket_connections_active",
        "molecule_phantom_busy_resets_total",
        "molecule_pending_uploads_swept_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(answer.body.contains(&format!("# TYPE {name} ")), "{name}");
    }
    assert!(!answer.body.contains("go_"));
}

#[tokio::test]
async fn answers_are_counted_by_pattern() {
    let server = Server::with_routes(&[], routes).await;
    for id in 0..3 {
        server.get(&format!("/things/{id}")).await;
    }
    server.ask("POST", "/things/1", &[]).await;
    server.get("/nothing").await;
    server.get("/explode").await;
    server.ask("GET", "/health", &["Origin: https://evil.example"]).await;
    assert_eq!(requests_total(&server, "GET", "/things/:id", 200).await, 3);
    assert_eq!(requests_total(&server, "POST", "unmatched", 404).await, 1);
    assert_eq!(requests_total(&server, "GET", "unmatched", 404).await, 1);
    assert_eq!(requests_total(&server, "GET", "/explode", 500).await, 1);
    assert_eq!(requests_total(&server, "GET", "/health", 403).await, 1);
}

#[tokio::test]
async fn durations_come_with_the_same_labels() {
    let server = Server::with_routes(&[], routes).await;
    server.get("/things/1").await;
    let text = server.get("/metrics").await.body;
    let start = "molecule_http_request_duration_seconds_total\
                 {method=\"GET\",path=\"/things/:id\",status=\"200\"} ";
    let seconds = text.lines().find_map(|line| line.strip_prefix(start)).expect(&text);
    let seconds: f64 = seconds.parse().expect("a number");
    assert!(seconds > 0.0 && seconds < 20.0, "{seconds}");
}

#[tokio::test]
async fn a_request_of_a_disconnected_client_is_counted() {
    // The test polls the metrics.
    let server = Server::with_routes(&["--rate-limit", "1000000"], |app| {
        api::routes(app).endpoint("/forever", get(std::future::pending::<()>))
    })
    .await;
    let mut client = server.connect().await;
    client.write(&request("GET", "/forever", &[], "")).await;
    drop(client);
    let counted = async { while requests_total(&server, "GET", "/forever", 499).await == 0 {} };
    tokio::time::timeout(WAIT_TIMEOUT, counted).await.expect("counted");
}
