//! More connections than there is room for: an administrator gets in all the same.

use std::time::Duration;

use futures::future::join_all;
use support::{Database, Server, Start};
use tokio::time::timeout;

use crate::{confinement::open_files, raw::Raw};

const ADMIN: &str = "attack-admin-token-0123456789";

/// How long the administrator may wait for an answer on a loaded machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The usual limit of open files. Both limits: the server raises the soft one.
const FILES: &str = "ulimit -n 1024";

/// Connections that an administrator opens until one is answered.
const TRIES: usize = 5;

/// More than the server can open.
const CROWD: usize = 1_100;

async fn start() -> Server {
    assert!(open_files() > 2 * CROWD as u64, "this test needs more open files: ulimit -Hn");
    let start = Start::from(Database::sqlite()).env("MOLECULE_ENV", "staging").env("ADMIN_TOKEN", ADMIN);
    Server::start(start.env("RATE_LIMIT", "100000").confined_by(FILES)).await
}

/// Each request has a connection of its own, as of a new client. One that finds itself closed at once, because it was the
/// last to come into a crowd, is tried again, as clients do.
async fn administrator(server: &Server) {
    let host = server.address();
    for path in ["/health", "/workspaces", "/admin/guests"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ADMIN}\r\n\r\n");
        let mut status = None;
        for _ in 0..TRIES {
            let mut connection = Raw::connect(host).await;
            connection.write(request.as_bytes()).await;
            status = connection.answer().await.map(|answer| answer.status);
            if status.is_some() {
                break;
            }
        }
        assert_eq!(status, Some(200), "{path}");
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
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(5);
    withstand(&request).await;
}
