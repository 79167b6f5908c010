//! `GET /workspaces/:id/events/stream`: every byte of it, who may read it, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use api::events::Limits;
use events::definitions::{Empty, Task};
use events::{Envelope, Event};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::transport::sockets::{ADMIN, DEV, House, large, narrow, patient};
use crate::transport::wire::{Answer, Client, WAIT_TIMEOUT, request};

const PING: &str = ": ping\n\n";

/// A stream whose head is read.
struct Stream(Client, Answer);

impl Stream {
    async fn over(stream: TcpStream, workspace: Uuid, headers: &[&str]) -> Self {
        let mut client = Client(stream);
        client.write(&request("GET", &path(workspace), headers, "")).await;
        let head = client.answer().await;
        assert_eq!(head.status(), 200, "{head:?}");
        Self(client, head)
    }

    async fn open(house: &House, workspace: Uuid, headers: &[&str]) -> Self {
        let stream = TcpStream::connect(house.server.address).await.expect("connected");
        Self::over(stream, workspace, headers).await
    }

    /// The next piece; empty at the end.
    async fn piece(&mut self) -> String {
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            size += &self.0.exactly(1).await;
        }
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        let piece = self.0.exactly(size).await;
        assert_eq!(self.0.exactly(2).await, "\r\n");
        piece
    }

    /// The next message that is no ping; empty at the end.
    async fn message(&mut self) -> String {
        loop {
            match self.piece().await {
                ping if ping == PING => {}
                message => return message,
            }
        }
    }
}

fn path(workspace: Uuid) -> String {
    format!("/workspaces/{workspace}/events/stream")
}

async fn refused(house: &House, path: &str, headers: &[&str], status: u16, text: &str) {
    let answer = house.server.ask("GET", path, headers).await;
    let expected = format!(r#"{{"error":"{text}"}}"#);
    assert_eq!((answer.status(), answer.body), (status, expected), "{path} {headers:?}");
}

/// Renames it: something recorded.
async fn rename(house: &House, workspace: Uuid, name: &str) {
    let body = format!(r#"{{"name":"{name}"}}"#);
    let answer = house.server.send("PATCH", &format!("/workspaces/{workspace}"), &[], &body).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
}

fn of(seq: i64) -> String {
    format!("id: {seq}\ndata: {{\"type\":\"WORKSPACE_UPDATED\",\"timestamp\":")
}

// === What comes ===

#[tokio::test]
async fn sse_messages_match_the_contract_byte_for_byte() {
    let house = House::open(DEV).await;
    let (own, other) = (house.workspace("own", None).await, house.workspace("other", None).await);
    let mut stream = Stream::open(&house, own, &[]).await;
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
    assert_eq!(stream.piece().await, PING, "at once");

    let at = "2026-05-09T10:00:00.123456Z".parse().expect("a time");
    let hub = house.app.fleet.hub();
    let task = Event::TaskUpdated(Task { active_tasks: 1, current_task: "x".to_owned() });
    // Others' events and what nobody may see don't come.
    hub.publish(Arc::new(Envelope::ephemeral(Some(other), &task, at)));
    hub.publish(Arc::new(Envelope::ephemeral(None, &task, at)));
    hub.publish(Arc::new(Envelope::ephemeral(Some(own), &Event::WorkspaceChanged(Empty {}), at)));
    hub.publish(Arc::new(Envelope::ephemeral(Some(own), &task, at)));
    assert_eq!(
        stream.piece().await,
        "data: {\"type\":\"TASK_UPDATED\",\"timestamp\":1778320800123,\"data\":{\"active_tasks\":1,\"current_task\":\"x\"}}\n\n"
    );
    let (name, payload) = ("DELEGATION_SENT".to_owned(), r#"{"b": 1,"a":"é"}"#.to_owned());
    hub.publish(Arc::new(Envelope::stored(Uuid::nil(), 4711, name, Some(own), at, payload)));
    assert_eq!(
        stream.piece().await,
        "id: 4711\ndata: {\"type\":\"DELEGATION_SENT\",\"timestamp\":1778320800123,\"data\":{\"b\": 1,\"a\":\"é\"}}\n\n"
    );
}

#[tokio::test]
async fn idle_streams_get_pings() {
    assert_eq!(Limits::default().stream_ping, Duration::from_secs(15));
    let limits = Limits { stream_ping: Duration::from_millis(20), ..patient() };
    let house = House::within(DEV, limits).await;
    let id = house.workspace("a", None).await;
    let mut stream = Stream::open(&house, id, &[]).await;
    for _ in 0..4 {
        assert_eq!(stream.piece().await, PING);
    }
}

#[tokio::test]
async fn a_reconnecting_stream_replays_missed_events() {
    let house = House::within(DEV, Limits { replay: 3, ..patient() }).await;
    let (own, other) = (house.workspace("own", None).await, house.workspace("other", None).await);
    let first = house.app.fleet.state().last_published() + 1;
    for name in ["1", "2", "3", "4"] {
        rename(&house, own, &format!("own{name}")).await;
        rename(&house, other, &format!("other{name}")).await;
    }
    for heard in 1..4 {
        let last = format!("Last-Event-ID: {}", first + 2 * (heard - 1));
        let mut stream = Stream::open(&house, own, &[&last]).await;
        assert_eq!(stream.piece().await, PING);
        for missed in heard..4 {
            let message = stream.message().await;
            assert!(message.starts_with(&of(first + 2 * missed)), "{message}");
        }
        house.tell(own, "live");
        assert!(stream.message().await.contains("live"));
    }
    // Four of its own are too many here.
    for last in [first - 1, first + 100] {
        let mut stream = Stream::open(&house, own, &[&format!("Last-Event-ID: {last}")]).await;
        let message = stream.message().await;
        assert!(message.starts_with(r#"data: {"type":"RESYNC_REQUIRED","timestamp":"#), "{message}");
        assert!(message.ends_with(",\"data\":{}}\n\n"), "{message}");
        house.tell(own, "live");
        assert!(stream.message().await.contains("live"));
    }
    for unknown in ["", "x", "-1"] {
        let mut stream = Stream::open(&house, own, &[&format!("Last-Event-ID: {unknown}")]).await;
        house.tell(own, "live");
        assert!(stream.message().await.contains("live"), "{unknown:?}");
    }
}

// === Who may read it ===

#[tokio::test]
async fn streams_need_access_to_a_live_workspace() {
    let house = House::open(ADMIN).await;
    let (own, other) = (house.workspace("own", None).await, house.workspace("other", None).await);
    let (token, others) = (house.token(own).await, house.token(other).await);
    let bearing = |token: &str| format!("Authorization: Bearer {token}");
    let own_path = path(own);
    for good in [bearing(&token), bearing("secret"), bearing(&house.org_token().await)] {
        Stream::open(&house, own, &[&good]).await;
    }
    refused(&house, &own_path, &[], 401, "missing workspace auth token").await;
    refused(&house, &own_path, &[&bearing(&others)], 401, "invalid workspace auth token").await;
    let admin = bearing("secret");
    refused(&house, "/workspaces/x/events/stream", &[&admin], 400, "invalid workspace ID").await;
    refused(&house, &path(Uuid::new_v4()), &[&admin], 404, "workspace not found").await;
    house.app.fleet.remove(own, fleet::Removal::default()).await.expect("removed");
    refused(&house, &own_path, &[&admin], 404, "workspace not found").await;
    refused(&house, &own_path, &[&bearing(&token)], 401, "invalid workspace auth token").await;
}

#[tokio::test]
async fn a_workspace_has_at_most_ten_streams() {
    let house = House::open(DEV).await;
    let (one, other) = (house.workspace("one", None).await, house.workspace("other", None).await);
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(Stream::open(&house, one, &[]).await);
    }
    refused(&house, &path(one), &[], 429, "too many event streams").await;
    open.push(Stream::open(&house, other, &[]).await);
    open.remove(0);
    let freed = async {
        loop {
            let mut client = house.server.connect().await;
            client.write(&request("GET", &path(one), &[], "")).await;
            if client.answer().await.status() == 200 {
                return;
            }
        }
    };
    timeout(WAIT_TIMEOUT, freed).await.expect("a place");
}

// === How it ends ===

#[tokio::test]
async fn a_stream_ends_when_its_workspace_is_removed() {
    let house = House::open(DEV).await;
    let (own, other) = (house.workspace("own", None).await, house.workspace("other", None).await);
    let mut stream = Stream::open(&house, own, &[]).await;
    for gone in [other, own] {
        house.app.fleet.remove(gone, fleet::Removal::default()).await.expect("removed");
    }
    let seq = house.app.fleet.state().last_published();
    let last = stream.message().await;
    assert!(last.starts_with(&format!("id: {seq}\ndata: {{\"type\":\"WORKSPACE_REMOVED\",")), "{last}");
    assert_eq!(stream.message().await, "");
    // The connection goes on.
    stream.0.write(&request("GET", &path(own), &[], "")).await;
    assert_eq!(stream.0.answer().await.status(), 404);
}

#[tokio::test]
async fn a_stream_ends_at_once_when_the_server_stops() {
    let house = House::open(DEV).await;
    let id = house.workspace("a", None).await;
    let mut stream = Stream::open(&house, id, &[]).await;
    house.server.shutdown.drain();
    assert_eq!(stream.message().await, "");
    drop(stream);
    timeout(WAIT_TIMEOUT, house.server.done).await.expect("ended").expect("no panic");
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked() {
    let limits = Limits { stream_ping: Duration::from_millis(20), ..patient() };
    let house = House::within(ADMIN, limits).await;
    let id = house.workspace("a", None).await;
    let token = house.app.fleet.credentials().issue(id, "test", false).await.expect("a token");
    let bearer = format!("Authorization: Bearer {}", token.text);
    let mut stream = Stream::open(&house, id, &[&bearer]).await;
    house.app.fleet.credentials().revoke(Some(id), token.row.id).await.expect("revoked");
    assert_eq!(stream.message().await, "");
}

#[tokio::test]
async fn a_slow_reader_is_disconnected_for_durable_events_only() {
    let house = House::within(DEV, Limits { stream_queue: 4, ..patient() }).await;
    let id = house.workspace("a", None).await;
    let mut stream = Stream::over(narrow(house.server.address).await, id, &[]).await;
    let payload = large();
    for _ in 0..40 {
        house.tell(id, &payload);
    }
    assert!(house.app.fleet.hub().dropped() > 0);
    let goes_on = async {
        while !stream.message().await.contains(r#""current_task":"on""#) {
            house.tell(id, "on");
        }
    };
    timeout(WAIT_TIMEOUT, goes_on).await.expect("it goes on");
    for seq in 1..=40 {
        let name = "WORKSPACE_OFFLINE".to_owned();
        let event = Envelope::stored(Uuid::nil(), seq, name, Some(id), store::now(), payload.clone());
        house.app.fleet.hub().publish(Arc::new(event));
        // Others get their turn: what is written waits for the reader, not for us.
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
    assert!(next < 40, "it was cut off");
}
