//! More connections than there is room for: an administrator gets in all the same.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use support::{Database, Server, Start};
use tokio::time::timeout;

use crate::{confinement::open_files, raw::Raw};

const ADMIN: &str = "attack-admin-token-0123456789";

/// How long the administrator may wait for an answer on a loaded machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The usual limit of open files. Both limits: the server raises the soft one.
const FILES: &str = "ulimit -n 1024";

/// More than the server can open.
const CROWD: usize = 1_100;

async fn start() -> Server {
    assert!(open_files() > 2 * CROWD as u64, "this test needs more open files: ulimit -Hn");
    let start = Start::from(Database::sqlite()).env("MOLECULE_ENV", "staging").env("ADMIN_TOKEN", ADMIN);
    Server::start(start.env("RATE_LIMIT", "100000").confined_by(FILES)).await
}

async fn administrator(server: &Server) {
    for path in ["/health", "/workspaces", "/admin/guests"] {
        let answer = timeout(ANSWER_TIMEOUT, server.ask(ADMIN, Method::GET, path, None)).await;
        answer.unwrap_or_else(|_| panic!("no answer in time from {path}")).ok();
    }
}

/// Connections that have written this and go on to do nothing.
async fn crowd(server: &Server, bytes: &[u8]) -> Vec<Raw> {
    let address = server.address();
    join_all((0..CROWD).map(async |_| {
        let mut connection = Raw::connect(address).await;
        connection.write(bytes).await;
        connection
    }))
    .await
}

/// The administrator gets in during the crowd, and the server has what it needs for a database and agents.
async fn withstand(bytes: &[u8]) {
    let server = start().await;
    let crowd = timeout(ANSWER_TIMEOUT * 2, crowd(&server, bytes)).await.expect("connected or refused");
    for _ in 0..3 {
        administrator(&server).await;
    }
    drop(crowd);
    administrator(&server).await;
    assert!(!server.log().contains("cannot accept connections"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_send_nothing() {
    withstand(b"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_drip() {
    withstand(b"GET /health HTTP/1.1\r\nHost: loc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_stay_open_after_an_answer() {
    withstand(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_drip() {
    let request = b"POST /registry/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{";
    withstand(request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_whose_bodies_drip() {
    let request =
        b"POST /workspaces/00000000-0000-4000-8000-000000000001/a2a HTTP/1.1\r\nHost: localhost\r\n\
        Transfer-Encoding: chunked\r\n\r\n3e8\r\n{";
    withstand(request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_read() {
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    withstand(&request).await;
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Where no admin token is set, sockets need no credential.
#[tokio::test(flavor = "multi_thread")]
async fn anonymous_sockets_leave_room_for_an_authenticated_one() {
    assert!(open_files() > 2 * CROWD as u64, "this test needs more open files: ulimit -Hn");
    let start = Start::from(Database::sqlite()).env("MOLECULE_ENV", "staging").env("RATE_LIMIT", "100000");
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let start = start.env("SECRETS_ENCRYPTION_KEY", key).confined_by("ulimit -n 4096");
    let server = Server::start(start).await;
    let made = server.post("/workspaces", serde_json::json!({ "name": "A", "external": true })).await.ok();
    let token = made["connection"]["auth_token"].as_str().unwrap().to_owned();
    let handshake = |bearer: &str| format!("GET /ws HTTP/1.1\r\nHost: localhost\r\n{bearer}{UPGRADE}\r\n");
    let crowd = timeout(ANSWER_TIMEOUT * 2, crowd(&server, handshake("").as_bytes())).await.expect("written");
    let mut own = Raw::connect(server.address()).await;
    own.write(handshake(&format!("Authorization: Bearer {token}\r\n")).as_bytes()).await;
    let answer = own.answer().await.expect("an answer");
    assert_eq!(answer.status, 101, "{answer:?}");
    let listed = timeout(ANSWER_TIMEOUT, server.ask(&token, Method::GET, "/workspaces", None)).await;
    listed.expect("in time").ok();
    drop(crowd);
}
