//! `GET /workspaces/:id/events/stream`: format, access, resume, limits, close.

use std::sync::Arc;
use std::time::Duration;

use api::events::Limits;
use events::definitions::{Empty, Task};
use events::{Envelope, Event};
use tokio::net::TcpStream;
use tokio::time::timeout;
use types::{EventId, EventSeq, Owner, WorkspaceId};

use crate::transport::socket_client::{ADMIN, DEV, TestServer, large, narrow, patient};
use crate::transport::wire::{Answer, Client, WAIT_TIMEOUT, request};

const PING: &str = ": ping\n\n";

/// A stream after its head.
struct Stream(Client, Answer);

impl Stream {
    async fn over(stream: TcpStream, workspace: WorkspaceId, headers: &[&str]) -> Self {
        let mut client = Client(stream);
        client.write(&request("GET", &path(workspace), headers, "")).await;
        let head = client.answer().await;
        assert_eq!(head.status(), 200, "{head:?}");
        Self(client, head)
    }

    async fn open(test: &TestServer, workspace: WorkspaceId, headers: &[&str]) -> Self {
        let stream = TcpStream::connect(test.server.address).await.expect("connected");
        Self::over(stream, workspace, headers).await
    }

    /// The next chunk; empty at the end.
    async fn chunk(&mut self) -> String {
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            size += &self.0.exactly(1).await;
        }
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        let chunk = self.0.exactly(size).await;
        assert_eq!(self.0.exactly(2).await, "\r\n");
        chunk
    }

    /// The next message that is no ping; empty at the end.
    async fn message(&mut self) -> String {
        loop {
            match self.chunk().await {
                ping if ping == PING => {}
                message => return message,
            }
        }
    }
}

fn path(workspace: WorkspaceId) -> String {
    format!("/workspaces/{workspace}/events/stream")
}

async fn refused(test: &TestServer, path: &str, headers: &[&str], status: u16, text: &str) {
    let answer = test.server.ask("GET", path, headers).await;
    let expected = format!(r#"{{"error":"{text}"}}"#);
    assert_eq!((answer.status(), answer.body), (status, expected), "{path} {headers:?}");
}

/// Renames a workspace, which is a durable event.
async fn rename(test: &TestServer, workspace: WorkspaceId, name: &str) {
    let body = format!(r#"{{"name":"{name}"}}"#);
    let answer = test.server.send("PATCH", &format!("/workspaces/{workspace}"), &[], &body).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
}

fn update(seq: i64) -> String {
    format!("id: {seq}\ndata: {{\"type\":\"WORKSPACE_UPDATED\",\"timestamp\":")
}

// === Events ===

#[tokio::test]
async fn sse_messages_match_the_contract_byte_for_byte() {
    let test = TestServer::start(DEV).await;
    let (own, other) = (test.workspace("own", None).await, test.workspace("other", None).await);
    let mut stream = Stream::open(&test, own, &[]).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("connection", "keep-alive"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'self'"),
    ] {
        assert_eq!(stream.1.headers(name), [value], "{name}");
    }
    assert_eq!(stream.chunk().await, PING, "at once");

    let at = "2026-05-09T10:00:00.123456Z".parse().expect("a time");
    let hub = test.app.fleet.hub();
    let task = Event::TaskUpdated(Task { active_tasks: 1, current_task: "x".to_owned() });
    // Events of other workspaces, of none, and internal events are not sent.
    hub.publish(Arc::new(Envelope::ephemeral(Some(other), &task, at)));
    hub.publish(Arc::new(Envelope::ephemeral(None, &task, at)));
    hub.publish(Arc::new(Envelope::ephemeral(Some(own), &Event::WorkspaceChanged(Empty {}), at)));
    hub.publish(Arc::new(Envelope::ephemeral(Some(own), &task, at)));
    assert_eq!(
        stream.chunk().await,
        "data: {\"type\":\"TASK_UPDATED\",\"timestamp\":1778320800123,\"data\":{\"active_tasks\":1,\"current_task\":\"x\"}}\n\n"
    );
    let (name, payload) = ("DELEGATION_SENT".to_owned(), r#"{"b": 1,"a":"é"}"#.to_owned());
    hub.publish(Arc::new(Envelope::stored(EventId::default(), EventSeq(4711), name, Some(own), at, payload)));
    assert_eq!(
        stream.chunk().await,
        "id: 4711\ndata: {\"type\":\"DELEGATION_SENT\",\"timestamp\":1778320800123,\"data\":{\"b\": 1,\"a\":\"é\"}}\n\n"
    );
}

#[tokio::test]
async fn idle_streams_get_pings() {
    assert_eq!(Limits::default().stream_ping, Duration::from_secs(15));
    let limits = Limits { stream_ping: Duration::from_millis(20), ..patient() };
    let test = TestServer::start_with(DEV, limits).await;
    let id = test.workspace("a", None).await;
    let mut stream = Stream::open(&test, id, &[]).await;
    for _ in 0..4 {
        assert_eq!(stream.chunk().await, PING);
    }
}

#[tokio::test]
async fn a_reconnecting_stream_replays_missed_events() {
    let test = TestServer::start_with(DEV, Limits { replay: 3, ..patient() }).await;
    let (own, other) = (test.workspace("own", None).await, test.workspace("other", None).await);
    let first = test.app.fleet.state().last_published().0 + 1;
    for name in ["1", "2", "3", "4"] {
        rename(&test, own, &format!("own{name}")).await;
        rename(&test, other, &format!("other{name}")).await;
    }
    for received in 1..4 {
        let last = format!("Last-Event-ID: {}", first + 2 * (received - 1));
        let mut stream = Stream::open(&test, own, &[&last]).await;
        assert_eq!(stream.chunk().await, PING);
        for missed in received..4 {
            let message = stream.message().await;
            assert!(message.starts_with(&update(first + 2 * missed)), "{message}");
        }
        test.publish(own, "live");
        assert!(stream.message().await.contains("live"));
    }
    // Four missed events exceed the replay limit.
    for last in [first - 1, first + 100] {
        let mut stream = Stream::open(&test, own, &[&format!("Last-Event-ID: {last}")]).await;
        let message = stream.message().await;
        assert!(message.starts_with(r#"data: {"type":"RESYNC_REQUIRED","timestamp":"#), "{message}");
        assert!(message.ends_with(",\"data\":{}}\n\n"), "{message}");
        test.publish(own, "live");
        assert!(stream.message().await.contains("live"));
    }
    for unknown in ["", "x", "-1"] {
        let mut stream = Stream::open(&test, own, &[&format!("Last-Event-ID: {unknown}")]).await;
        test.publish(own, "live");
        assert!(stream.message().await.contains("live"), "{unknown:?}");
    }
}

// === Access ===

#[tokio::test]
async fn streams_need_access_to_a_live_workspace() {
    let test = TestServer::start(ADMIN).await;
    let (own, other) = (test.workspace("own", None).await, test.workspace("other", None).await);
    let (token, others) = (test.token(own).await, test.token(other).await);
    let bearing = |token: &str| format!("Authorization: Bearer {token}");
    let own_path = path(own);
    for good in [bearing(&token), bearing("secret"), bearing(&test.org_token().await)] {
        Stream::open(&test, own, &[&good]).await;
    }
    refused(&test, &own_path, &[], 401, "missing workspace auth token").await;
    refused(&test, &own_path, &[&bearing(&others)], 401, "invalid workspace auth token").await;
    let admin = bearing("secret");
    refused(&test, "/workspaces/x/events/stream", &[&admin], 400, "invalid workspace ID").await;
    refused(&test, &path(WorkspaceId::random()), &[&admin], 404, "workspace not found").await;
    test.app.fleet.remove(own, fleet::Removal::default()).await.expect("removed");
    refused(&test, &own_path, &[&admin], 404, "workspace not found").await;
    refused(&test, &own_path, &[&bearing(&token)], 401, "invalid workspace auth token").await;
}

#[tokio::test]
async fn a_workspace_has_at_most_ten_streams() {
    let test = TestServer::start(DEV).await;
    let (one, other) = (test.workspace("one", None).await, test.workspace("other", None).await);
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(Stream::open(&test, one, &[]).await);
    }
    refused(&test, &path(one), &[], 429, "too many event streams").await;
    open.push(Stream::open(&test, other, &[]).await);
    open.remove(0);
    let freed = async {
        loop {
            let mut client = test.server.connect().await;
            client.write(&request("GET", &path(one), &[], "")).await;
            if client.answer().await.status() == 200 {
                return;
            }
        }
    };
    timeout(WAIT_TIMEOUT, freed).await.expect("a closed stream is no longer counted");
}

// === Close ===

#[tokio::test]
async fn a_stream_ends_when_its_workspace_is_removed() {
    let test = TestServer::start(DEV).await;
    let (own, other) = (test.workspace("own", None).await, test.workspace("other", None).await);
    let mut stream = Stream::open(&test, own, &[]).await;
    for gone in [other, own] {
        test.app.fleet.remove(gone, fleet::Removal::default()).await.expect("removed");
    }
    let seq = test.app.fleet.state().last_published().0;
    let last = stream.message().await;
    assert!(last.starts_with(&format!("id: {seq}\ndata: {{\"type\":\"WORKSPACE_REMOVED\",")), "{last}");
    assert_eq!(stream.message().await, "");
    // The connection stays open.
    stream.0.write(&request("GET", &path(own), &[], "")).await;
    assert_eq!(stream.0.answer().await.status(), 404);
}

#[tokio::test]
async fn a_stream_ends_at_once_when_the_server_stops() {
    let test = TestServer::start(DEV).await;
    let id = test.workspace("a", None).await;
    let mut stream = Stream::open(&test, id, &[]).await;
    test.server.shutdown.drain();
    assert_eq!(stream.message().await, "");
    drop(stream);
    timeout(WAIT_TIMEOUT, test.server.done).await.expect("ended").expect("no panic");
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked() {
    let limits = Limits { stream_ping: Duration::from_millis(20), ..patient() };
    let test = TestServer::start_with(ADMIN, limits).await;
    let id = test.workspace("a", None).await;
    let token = test.app.fleet.credentials().issue(id, "test", false).await.expect("a token");
    let bearer = format!("Authorization: Bearer {}", token.text);
    let mut stream = Stream::open(&test, id, &[&bearer]).await;
    test.app.fleet.credentials().revoke(Owner::Workspace(id), token.row.id).await.expect("revoked");
    assert_eq!(stream.message().await, "");
}

#[tokio::test]
async fn a_slow_reader_is_disconnected_for_durable_events_only() {
    let test = TestServer::start_with(DEV, Limits { stream_queue: 4, ..patient() }).await;
    let id = test.workspace("a", None).await;
    let mut stream = Stream::over(narrow(test.server.address).await, id, &[]).await;
    let payload = large();
    for _ in 0..40 {
        test.publish(id, &payload);
    }
    assert!(test.app.fleet.hub().dropped() > 0);
    let continues = async {
        while !stream.message().await.contains(r#""current_task":"on""#) {
            test.publish(id, "on");
        }
    };
    timeout(WAIT_TIMEOUT, continues).await.expect("the stream continues");
    for seq in 1..=40 {
        let name = "WORKSPACE_OFFLINE".to_owned();
        let event = Envelope::stored(
            EventId::default(),
            EventSeq(seq),
            name,
            Some(id),
            store::now(),
            payload.clone(),
        );
        test.app.fleet.hub().publish(Arc::new(event));
        // Lets the server write, so that only the reader is slow.
        tokio::task::yield_now().await;
    }
    let mut next = 1;
    loop {
        match stream.message().await {
            end if end.is_empty() => break,
            message if message.contains(r#""current_task":"on""#) => {}
            message => {
                assert!(message.starts_with(&format!("id: {next}\n")), "no gap before the end");
                next += 1;
            }
        }
    }
    assert!(next < 40, "the slow reader was disconnected");
}
