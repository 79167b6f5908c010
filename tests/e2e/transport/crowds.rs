//! More connections than the server has room for.

use std::sync::Arc;
use std::time::Duration;

use api::app::App;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures::StreamExt as _;
use httpd::connection::Deadlines;
use httpd::router_ext::RouterExt;
use httpd::serve::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::transport::wire::{Client, PATIENT, Server, WAIT_TIMEOUT, request};

/// A server with room for this many connections. It has `/wait`, which notifies `begun` and answers after `go`, and
/// `/echo`, and `/count`, which says how many bytes of its bodies were read.
struct Crowded {
    server: Server,
    begun: Arc<Notify>,
    go: Arc<Notify>,
    counted: watch::Receiver<usize>,
}

impl Crowded {
    async fn start(connections: u32, flags: &[&str]) -> Self {
        Self::with_limits(Limits { max_connections: connections, ..PATIENT }, flags).await
    }

    async fn with_limits(limits: Limits, flags: &[&str]) -> Self {
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes) = (Arc::clone(&begun), Arc::clone(&go));
        let (count, counted) = watch::channel(0);
        let routes = move |app: &App| -> Router<App> {
            let wait = async move || {
                begins.notify_one();
                goes.notified().await;
                "done"
            };
            let echo = axum::routing::post(async |body: Bytes| body);
            let counting = axum::routing::post(async move |body: Body| {
                let mut chunks = body.into_data_stream();
                while let Some(Ok(chunk)) = chunks.next().await {
                    count.send_modify(|count| *count += chunk.len());
                }
                "done"
            });
            let routes = api::routes(app).endpoint("/wait", get(wait));
            routes.endpoint("/echo", echo).endpoint("/count", counting)
        };
        Self { server: Server::with_limits(flags, limits, routes).await, begun, go, counted }
    }

    /// A client whose request is in progress.
    async fn busy(&self, headers: &[&str]) -> Client {
        let mut client = self.server.connect().await;
        client.write(&request("GET", "/wait", headers, "")).await;
        timeout(WAIT_TIMEOUT, self.begun.notified()).await.expect("begun");
        client
    }

    /// A client that has got one answer.
    async fn idle(&self) -> Client {
        let mut client = self.server.connect().await;
        client.write(&request("GET", "/health", &[], "")).await;
        assert_eq!(client.answer().await.status(), 200);
        client
    }
}

/// Fails unless the server has closed the connection without an answer. A reset is as good as an end.
async fn is_closed(client: &mut Client) {
    let mut rest = Vec::new();
    let read = timeout(WAIT_TIMEOUT, client.0.read_to_end(&mut rest)).await.expect("closed in time");
    assert!(rest.is_empty(), "{read:?} {}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn idle_and_silent_connections_make_room_and_requests_in_progress_are_finished() {
    let crowd = Crowded::start(4, &[]).await;
    let mut busy = crowd.busy(&[]).await;
    let mut silent = crowd.server.connect().await;
    let mut idle = crowd.idle().await;
    let mut dripping = crowd.server.connect().await;
    dripping.write("GET /health HTTP/1.1\r\nHo").await;
    // Each newcomer takes the place of one that waits. Which one comes first depends on the time since it was opened.
    let mut newcomers = Vec::new();
    for _ in 0..3 {
        newcomers.push(crowd.busy(&[]).await);
    }
    for waiting in [&mut silent, &mut idle, &mut dripping] {
        is_closed(waiting).await;
    }
    crowd.go.notify_waiters();
    for finished in newcomers.iter_mut().chain([&mut busy]) {
        assert_eq!(finished.answer().await.body, "done");
    }
}

#[tokio::test]
async fn a_crowd_of_dripping_heads_keeps_no_newcomer_out() {
    let crowd = Crowded::start(8, &[]).await;
    let mut strangers = Vec::new();
    for _ in 0..40 {
        let mut stranger = crowd.server.connect().await;
        let _ = stranger.0.write_all(b"G").await;
        strangers.push(stranger);
    }
    for _ in 0..4 {
        assert_eq!(crowd.server.get("/health").await.status(), 200);
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_makes_room_too() {
    let crowd = Crowded::start(2, &[]).await;
    let _busy = crowd.busy(&[]).await;
    let mut slow = crowd.server.connect().await;
    slow.write(&request("POST", "/echo", &["Content-Length: 10"], "")).await;
    slow.write("12345").await;
    assert_eq!(crowd.server.get("/health").await.status(), 200);
    is_closed(&mut slow).await;
}

/// Limits with the minimum rate of the product.
const RATED: Limits =
    Limits { max_connections: 8, deadlines: Deadlines { body_rate: 1024, ..PATIENT.deadlines }, ..PATIENT };

/// Clients whose bodies have stopped.
async fn stopped(crowd: &Crowded, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = crowd.server.connect().await;
        client.write(&request("POST", "/echo", &["Content-Length: 5000"], "")).await;
        client.write("12").await;
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn a_body_that_comes_slowly_outlives_a_crowd_of_bodies_that_have_stopped() {
    let mut crowd = Crowded::with_limits(RATED, &[]).await;
    let mut others = stopped(&crowd, 7).await;
    let mut slow = crowd.server.connect().await;
    let (part, parts) = ("x".repeat(10_000), 4);
    slow.write(&request("POST", "/count", &["Content-Length: 40000"], "")).await;
    for part_number in 1..=parts {
        slow.write(&part).await;
        let received = crowd.counted.wait_for(|count| *count == part.len() * part_number);
        timeout(WAIT_TIMEOUT, received).await.expect("received").expect("a server");
        // Newcomers need the room of others, which takes a moment.
        for _ in 0..2 {
            others.push(crowd.idle().await);
        }
    }
    assert_eq!(slow.answer().await.body, "done");
}

#[tokio::test]
async fn a_body_below_the_minimum_rate_makes_room_although_it_comes() {
    let crowd = Crowded::with_limits(Limits { max_connections: 2, ..RATED }, &[]).await;
    let _busy = crowd.busy(&[]).await;
    let mut dripping = crowd.server.connect().await;
    dripping.write(&request("POST", "/echo", &["Content-Length: 5000"], "")).await;
    let drip = async {
        while timeout(Duration::from_millis(100), dripping.0.readable()).await.is_err() {
            let _ = dripping.0.write_all(b"x").await;
        }
    };
    let (health, ()) = futures::future::join(crowd.server.get("/health"), drip).await;
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn bodies_of_admitted_callers_make_room_last() {
    let crowd = Crowded::with_limits(RATED, &["--admin-token", "secret"]).await;
    let mut administrator = crowd.server.connect().await;
    let body = format!("{:5000}", r#"{"name":"Slow","runtime":"mock"}"#);
    let headers = ["Authorization: Bearer secret", "Content-Length: 5000"];
    administrator.write(&request("POST", "/workspaces", &headers, "")).await;
    administrator.write(&body[..100]).await;
    // It has stopped before all of the others.
    let (mut strangers, mut newcomers) = (stopped(&crowd, 7).await, Vec::new());
    for _ in &strangers {
        newcomers.push(crowd.busy(&[]).await);
    }
    for stranger in &mut strangers {
        is_closed(stranger).await;
    }
    crowd.go.notify_waiters();
    administrator.write(&body[100..]).await;
    assert_eq!(administrator.answer().await.status(), 201);
}

#[tokio::test]
async fn where_all_are_busy_a_newcomer_waits_for_the_first_that_ends() {
    let crowd = Crowded::start(1, &[]).await;
    let mut busy = crowd.busy(&[]).await;
    let mut newcomer = crowd.server.connect().await;
    newcomer.write(&request("GET", "/health", &[], "")).await;
    let answered = timeout(PATIENT.deadlines.linger / 4, newcomer.answer()).await;
    assert!(answered.is_err(), "answered above the limit");
    crowd.go.notify_one();
    assert_eq!(busy.answer().await.body, "done");
    assert_eq!(newcomer.answer().await.status(), 200);
}

#[tokio::test]
async fn one_client_behind_a_trusted_proxy_has_a_limit_of_requests_in_progress() {
    let limits = Limits { connections_per_address: 2, ..PATIENT };
    let proxied = ["--trusted-proxies", "127.0.0.1"];
    let crowd = Crowded::with_limits(limits, &proxied).await;
    for (client, another) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1")] {
        let client = format!("X-Forwarded-For: {client}");
        let mut busy = vec![crowd.busy(&[&client]).await, crowd.busy(&[&client]).await];
        let refused = crowd.server.ask("GET", "/health", &[&client]).await;
        assert_eq!((refused.status(), refused.header("retry-after")), (429, Some("1")), "{client}");
        assert_eq!(refused.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(refused.body, r#"{"error":"too many requests in progress from this address"}"#);
        let another = format!("X-Forwarded-For: {another}");
        assert_eq!(crowd.server.ask("GET", "/health", &[&another]).await.status(), 200);
        assert_eq!(crowd.server.get("/health").await.status(), 200, "the proxy itself is no client");
        crowd.go.notify_waiters();
        for busy in &mut busy {
            assert_eq!(busy.answer().await.body, "done");
        }
        assert_eq!(crowd.server.ask("GET", "/health", &[&client]).await.status(), 200);
    }
}
