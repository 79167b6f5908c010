//! More connections than there is room for: an administrator gets in all the same, and what is being answered is
//! answered.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures::{
    StreamExt as _,
    future::{join, join_all},
    stream::FuturesUnordered,
};
use serde_json::json;
use support::{Agent, Database, Reaction, Server, Start};
use tokio::{io::AsyncReadExt as _, net::TcpSocket, time::interval, time::timeout};

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

/// Each request has a connection of its own, as of a new client. One that finds itself closed at once, because it was
/// the last to come into a crowd, is tried again, as clients do.
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

/// Sockets and streams that are open to everybody in development, of which there are more than the server has files.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_streams_of_strangers_where_files_are_few() {
    assert!(open_files() > 2 * CROWD as u64, "this test needs more open files: ulimit -Hn");
    let server = Server::start(Start::from(Database::sqlite()).confined_by("ulimit -n 256")).await;
    let id = server.workspace(json!({ "name": "Watched", "runtime": "mock" })).await;
    let socket = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let stream = format!("GET /workspaces/{id}/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (address, kinds) = (server.address(), [socket.as_bytes(), stream.as_bytes(), b""]);
    let crowd = join_all((0..1_000).map(async |number: usize| {
        let mut connection = Raw::connect(address).await;
        connection.write(kinds[number % kinds.len()]).await;
        connection
    }));
    let administrators = async {
        for _ in 0..3 {
            administrator(&server).await;
        }
    };
    // While they come, and when they are there.
    let (crowd, ()) = timeout(ANSWER_TIMEOUT * 6, join(crowd, administrators)).await.expect("in time");
    administrator(&server).await;
    drop(crowd);
    administrator(&server).await;
}

// === Requests in progress ===

/// Opens connections as fast as the server closes them for newer ones.
async fn press(address: SocketAddr, waiting: usize) {
    let mut crowd = VecDeque::new();
    loop {
        crowd.push_back(Raw::connect(address).await);
        if crowd.len() > waiting
            && let Some(mut oldest) = crowd.pop_front()
        {
            oldest.end().await;
        }
    }
}

/// A client takes 100 KB/s of a page of several megabytes for longer than an answer may stall.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_read_slowly_is_whole() {
    const SLOWLY: Duration = Duration::from_secs(14);
    let server = Server::start(Start::from(Database::sqlite()).env("MAX_CONNECTIONS", "16")).await;
    let id = server.workspace(json!({ "name": "Busy", "runtime": "mock" })).await;
    for _ in 0..7 {
        let body =
            json!({ "activity_type": "agent_log", "summary": "s", "request_body": "x".repeat(1_000_000) });
        server.post(&format!("/workspaces/{id}/activity"), body).await.ok();
    }
    let address = server.address();
    let slow = async {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(64 * 1024).expect("a size");
        let socket = socket.connect(address).await.expect("it listens");
        let mut slow = Raw::from(socket);
        slow.write(format!("GET /workspaces/{id}/activity HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
            .await;
        let head = slow.head().await;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        assert!(length > 7_000_000, "{length}");
        let (mut left, mut part) = (length - slow.buffered(), vec![0; 10_000]);
        let mut pace = interval(Duration::from_millis(100));
        let begun = pace.tick().await;
        while left > 0 {
            let most = part.len().min(left);
            let read = timeout(ANSWER_TIMEOUT, slow.socket.read(&mut part[..most])).await.expect("in time");
            let read = read.expect("not reset");
            assert_ne!(read, 0, "{left} of {length} bytes are missing");
            left -= read;
            if begun.elapsed() < SLOWLY {
                pace.tick().await;
            }
        }
    };
    tokio::select! {
        () = slow => {}
        () = press(address, 32) => {}
    }
}

/// Messages of strangers to an agent that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_hang_leave_connections_to_others() {
    open_files();
    let start = Start::from(Database::sqlite()).env("MOLECULE_ENV", "development").env("ADMIN_TOKEN", ADMIN);
    let (server, agent) = (Server::start(start.confined_by("ulimit -n 300")).await, Agent::start().await);
    let body = json!({ "name": "Agent", "runtime": "external", "url": agent.url });
    let made = server.ask(ADMIN, reqwest::Method::POST, "/workspaces", Some(body)).await.ok();
    let path = format!("/workspaces/{}/a2a", made["id"].as_str().expect("an id"));
    let message = json!({
        "jsonrpc": "2.0", "id": 1, "method": "message/send",
        "params": { "message": { "role": "user", "parts": [{ "kind": "text", "text": "hello" }] } },
    });
    agent.react(vec![Reaction::Stall; 25]);
    let message = message.to_string();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", message.len());
    let address = server.address();
    let crowd = join_all((0..25).map(async |_| {
        let mut connection = Raw::connect(address).await;
        connection.write(format!("{request}{message}").as_bytes()).await;
        connection
    }));
    let mut crowd = crowd.await;
    administrator(&server).await;
    // 22 connections, 11 calls, 5 of them for strangers.
    agent.received(5).await;
    let answers: FuturesUnordered<_> = crowd
        .iter_mut()
        .map(|connection| async move { connection.answer().await.map(|answer| answer.status) })
        .collect();
    let refused: Vec<_> = answers.take(20).collect().await;
    assert_eq!(refused, [Some(503); 20]);
    assert_eq!(agent.received(5).await.len(), 5);
    administrator(&server).await;
}
