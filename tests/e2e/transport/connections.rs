//! Connections: deadlines, limits, upgrades and drain.

use std::sync::Arc;
use std::time::Duration;

use api::app::App;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use httpd::connection::Deadlines;
use httpd::router_ext::RouterExt;
use httpd::serve::Limits;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::transport::wire::{Client, PATIENT, Server, WAIT_TIMEOUT, request};

const SOON: Duration = Duration::from_millis(150);

fn with_deadlines(header: Duration, idle: Duration) -> Limits {
    let deadlines = Deadlines { header, idle, ..PATIENT.deadlines };
    Limits { deadlines, ..PATIENT }
}

fn product(app: &App) -> Router<App> {
    api::routes(app)
}

fn health() -> String {
    request("GET", "/health", &[], "")
}

/// Adds `/wait`, which notifies `begun` and answers after `notify`.
fn waiting(notify: &Arc<Notify>, begun: &Arc<Notify>) -> impl FnOnce(&App) -> Router<App> {
    let (notify, begun) = (Arc::clone(notify), Arc::clone(begun));
    move |app| {
        let wait = async move || {
            begun.notify_one();
            notify.notified().await;
            "done"
        };
        api::routes(app).endpoint("/wait", get(wait))
    }
}

// === Deadlines ===

#[tokio::test]
async fn a_missing_head_ends_the_connection() {
    let server = Server::with_limits(&[], with_deadlines(SOON, WAIT_TIMEOUT), product).await;
    assert_eq!(server.connect().await.rest().await, "");
}

#[tokio::test]
async fn a_slowly_sent_head_ends_the_connection() {
    let server = Server::with_limits(&[], with_deadlines(SOON, WAIT_TIMEOUT), product).await;
    let mut client = server.connect().await;
    client.write("GET /health HTTP/1.1\r\nHost: own").await;
    let answer = client.rest().await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn a_head_that_drips_in_has_one_deadline_from_the_connect() {
    let limits = with_deadlines(4 * SOON, WAIT_TIMEOUT);
    for start in ["G", ""] {
        let server = Server::with_limits(&[], limits, product).await;
        let mut client = server.connect().await;
        let connected = Instant::now();
        client.write(start).await;
        let mut answer = [0; 64];
        // Each byte comes in time for a deadline that would count from the byte before.
        let ended = loop {
            match timeout(SOON, client.0.read(&mut answer)).await {
                Err(_) => drop(client.0.write_all(b"a").await),
                Ok(read) => break read,
            }
        };
        assert!(matches!(ended, Ok(0) | Err(_)) || answer.starts_with(b"HTTP/1.1 400"), "{ended:?}");
        assert!(connected.elapsed() < WAIT_TIMEOUT / 2, "{:?}", connected.elapsed());
    }
}

#[tokio::test]
async fn a_later_head_has_the_same_deadline() {
    let server = Server::with_limits(&[], with_deadlines(SOON, WAIT_TIMEOUT), product).await;
    let mut client = server.connect().await;
    client.write(&health()).await;
    assert_eq!(client.answer().await.status(), 200);
    client.write("GET /health HT").await;
    assert!(!client.rest().await.contains("200"));
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_deadline_but_not_the_idle_one() {
    let idle = 4 * SOON;
    let server = Server::with_limits(&[], with_deadlines(SOON, idle), product).await;
    let mut client = server.connect().await;
    client.write(&health()).await;
    assert_eq!(client.answer().await.status(), 200);
    let answered = Instant::now();
    assert_eq!(client.rest().await, "");
    assert!(answered.elapsed() >= idle - SOON / 2, "{:?}", answered.elapsed());
}

#[tokio::test]
async fn a_handler_may_run_longer_than_any_deadline() {
    let (notify, begun) = (Arc::default(), Arc::default());
    let limits = with_deadlines(SOON, SOON);
    let server = Server::with_limits(&[], limits, waiting(&notify, &begun)).await;
    let mut waiting = server.connect().await;
    waiting.write(&request("GET", "/wait", &[], "")).await;
    begun.notified().await;
    // A later connection that is closed for idling proves that the deadline has passed.
    for _ in 0..2 {
        assert_eq!(server.connect().await.rest().await, "");
    }
    notify.notify_one();
    assert_eq!(waiting.answer().await.body, "done");
}

#[tokio::test]
async fn a_stalled_body_ends_the_request() {
    let server = Server::with_limits(DEV, with_deadlines(WAIT_TIMEOUT, SOON), product).await;
    for route in ["/workspaces", "/registry/heartbeat", A2A, "/org/import"] {
        let mut client = server.connect().await;
        client.write(&request("POST", route, &["Content-Length: 10"], "")).await;
        client.write("12345").await;
        too_slow(&mut client).await;
    }
}

const DEV: &[&str] = &["--molecule-env", "dev"];
const A2A: &str = "/workspaces/00000000-0000-4000-8000-000000000001/a2a";

async fn too_slow(client: &mut Client) {
    let answer = client.answer().await;
    assert_eq!(answer.status(), 408);
    assert_eq!(answer.body, r#"{"error":"the request body did not arrive in time"}"#);
    assert_eq!(client.rest().await, "", "the connection is closed");
}

/// Sends bytes of a chunked body one by one until there is an answer.
async fn drip(client: &mut Client) {
    client.write(&request("POST", "/workspaces", &["Transfer-Encoding: chunked"], "")).await;
    while timeout(SOON / 4, client.0.readable()).await.is_err() {
        client.write("1\r\n \r\n").await;
    }
}

#[tokio::test]
async fn a_body_below_the_minimum_rate_ends_the_request() {
    let deadlines = Deadlines { body_grace: SOON, body_rate: 1024, ..PATIENT.deadlines };
    let server = Server::with_limits(DEV, Limits { deadlines, ..PATIENT }, product).await;
    let mut client = server.connect().await;
    drip(&mut client).await;
    too_slow(&mut client).await;
}

#[tokio::test]
async fn a_body_has_a_total_time() {
    let deadlines = Deadlines { body: SOON, ..PATIENT.deadlines };
    let server = Server::with_limits(DEV, Limits { deadlines, ..PATIENT }, product).await;
    let mut client = server.connect().await;
    drip(&mut client).await;
    too_slow(&mut client).await;
}

#[tokio::test]
async fn a_slow_body_above_the_minimum_rate_is_read() {
    let deadlines = Deadlines { body_grace: Duration::ZERO, body_rate: 1, ..PATIENT.deadlines };
    let server = Server::with_limits(DEV, Limits { deadlines, ..PATIENT }, product).await;
    let mut client = server.connect().await;
    let body = format!("{:100}", r#"{"name":"Slow","runtime":"mock"}"#);
    client.write(&request("POST", "/workspaces", &["Content-Length: 100"], "")).await;
    for piece in body.as_bytes().chunks(20) {
        client.write(std::str::from_utf8(piece).expect("ASCII")).await;
        // The pieces arrive apart.
        let _ = timeout(SOON / 4, client.0.readable()).await;
    }
    assert_eq!(client.answer().await.status(), 201);
    assert_eq!(Deadlines::default().body_rate, 1024);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let gone = Arc::new(Notify::new());
    let dropped = Arc::clone(&gone);
    let server = Server::with_limits(&[], with_deadlines(WAIT_TIMEOUT, SOON), move |_| {
        let flood = async move || Response::new(Body::new(Flood(dropped)));
        Router::new().endpoint("/flood", get(flood))
    })
    .await;
    let mut client = server.connect().await;
    client.write(&request("GET", "/flood", &[], "")).await;
    timeout(WAIT_TIMEOUT, gone.notified()).await.expect("the body was dropped");
}

/// An endless body that notifies when it is dropped.
struct Flood(Arc<Notify>);

impl http_body::Body for Flood {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let block = Bytes::from_static(&[b'x'; 16 * 1024]);
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(block))))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

// === Limits ===

#[tokio::test]
async fn a_head_over_64_kib_gets_a_readable_431() {
    let server = Server::start(&[]).await;
    let filler = |bytes| format!("X-Filler: {}", "x".repeat(bytes));
    let fits = server.ask("GET", "/health", &[&filler(60 * 1024)]).await;
    assert_eq!(fits.status(), 200);
    let mut client = server.connect().await;
    client.write(&request("GET", "/health", &[&filler(70 * 1024)], "")).await;
    assert_eq!(client.answer().await.status(), 431);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_connection_serves_many_requests_even_pipelined() {
    let server = Server::start(&[]).await;
    let mut client = server.connect().await;
    client.write(&health().repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(client.answer().await.status(), 200);
    }
}

// === Upgrades ===

#[tokio::test]
async fn an_upgraded_connection_has_no_http_deadlines() {
    let server =
        Server::with_limits(&[], with_deadlines(SOON, SOON), |_| Router::new().endpoint("/echo", get(echo)))
            .await;
    let mut client = server.connect().await;
    let headers = ["Connection: upgrade", "Upgrade: echo"];
    client.write(&request("GET", "/echo", &headers, "")).await;
    assert_eq!(client.answer().await.status(), 101);
    for _ in 0..2 {
        assert_eq!(server.connect().await.rest().await, "");
    }
    client.write("hello").await;
    assert_eq!(client.rest().await, "hello");
}

/// Echoes five bytes in a protocol of its own.
async fn echo(request: Request) -> Response {
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.expect("upgraded"));
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.expect("read");
        stream.write_all(&bytes).await.expect("written");
        stream.shutdown().await.expect("closed");
    });
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Body::empty())
        .expect("a response")
}

// === Shutdown ===

#[tokio::test]
async fn draining_closes_idle_connections_at_once_and_finishes_open_requests() {
    let (notify, begun) = (Arc::default(), Arc::default());
    let server = Server::with_routes(&[], waiting(&notify, &begun)).await;
    let mut open = server.connect().await;
    open.write(&request("GET", "/wait", &[], "")).await;
    begun.notified().await;
    let mut idle = server.connect().await;
    idle.write(&health()).await;
    assert_eq!(idle.answer().await.status(), 200);

    server.shutdown.drain();
    assert_eq!(idle.rest().await, "");
    notify.notify_one();
    let answer = open.answer().await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, "done"));
    assert_eq!(open.rest().await, "");
    drop((idle, open));
    timeout(WAIT_TIMEOUT, server.done).await.expect("ended").expect("no panic");
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_silent_connection_does_not_delay_shutdown() {
    let server = Server::start(&[]).await;
    let mut silent = server.connect().await;
    // Connections are accepted in order: after this answer, the silent one has been accepted.
    assert_eq!(server.get("/health").await.status(), 200);
    server.shutdown.drain();
    assert_eq!(silent.rest().await, "");
}

#[tokio::test]
async fn draining_ends_at_its_deadline() {
    let (notify, begun) = (Arc::default(), Arc::default());
    let limits = Limits { drain: SOON, ..PATIENT };
    let server = Server::with_limits(&[], limits, waiting(&notify, &begun)).await;
    let mut open = server.connect().await;
    open.write(&request("GET", "/wait", &[], "")).await;
    begun.notified().await;
    server.shutdown.drain();
    timeout(WAIT_TIMEOUT, server.done).await.expect("ended").expect("no panic");
    assert_eq!(open.rest().await, "");
}

#[tokio::test]
async fn a_forced_stop_waits_for_no_request() {
    let (notify, begun) = (Arc::default(), Arc::default());
    let server = Server::with_routes(&[], waiting(&notify, &begun)).await;
    let mut open: Client = server.connect().await;
    open.write(&request("GET", "/wait", &[], "")).await;
    begun.notified().await;
    server.shutdown.drain();
    server.shutdown.end();
    timeout(WAIT_TIMEOUT, server.done).await.expect("ended").expect("no panic");
    assert_eq!(open.rest().await, "");
}
