//! `/ws`: access, events and their order, resume, limits, close.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::app::App;
use api::events::Limits;
use events::definitions::{Empty, Heartbeat, Task};
use events::{Envelope, Event};
use futures::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, Request};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use types::{EventId, EventSeq, Owner, WorkspaceId};

use crate::transport::wire::{Answer, PATIENT, Server, WAIT_TIMEOUT};

pub(crate) const ADMIN: &[&str] = &["--admin-token", "secret"];
pub(crate) const DEV: &[&str] = &["--molecule-env", "dev"];

const HANDSHAKE: [&str; 4] = [
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// Limits that no test reaches by accident.
pub(crate) fn patient() -> Limits {
    Limits {
        ping: WAIT_TIMEOUT,
        silence: 4 * WAIT_TIMEOUT,
        write: WAIT_TIMEOUT,
        stream_ping: WAIT_TIMEOUT,
        ..Limits::default()
    }
}

/// A server with shortcuts for workspaces, tokens and sockets, and access to its state.
pub(crate) struct TestServer {
    pub(crate) server: Server,
    pub(crate) app: App,
}

impl TestServer {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, patient()).await
    }

    pub(crate) async fn start_with(flags: &[&str], limits: Limits) -> Self {
        let mut state = None;
        let tune = |app: &mut App| {
            app.event_limits = limits;
            state = Some(app.clone());
        };
        let server = Server::tuned(flags, PATIENT, tune, api::routes).await;
        Self { server, app: state.expect("the app is made at once") }
    }

    /// Creates a workspace without a token.
    pub(crate) async fn workspace(&self, name: &str, parent: Option<WorkspaceId>) -> WorkspaceId {
        let body = json!({ "name": name, "runtime": "mock", "parent_id": parent }).to_string();
        let headers = ["Authorization: Bearer secret"];
        let answer = self.server.send("POST", "/workspaces", &headers, &body).await;
        assert_eq!(answer.status(), 201, "{answer:?}");
        let made: Value = serde_json::from_str(&answer.body).expect("JSON");
        made["id"].as_str().expect("an id").parse().expect("an id")
    }

    pub(crate) async fn token(&self, workspace: WorkspaceId) -> String {
        self.app.fleet.credentials().issue(workspace, "test", false).await.expect("a token").text
    }

    pub(crate) async fn org_token(&self) -> String {
        self.app.fleet.credentials().issue_for_org(None, None, "test").await.expect("a token").text
    }

    /// The answer to a handshake.
    async fn handshake(&self, headers: &[&str]) -> Answer {
        self.server.ask("GET", "/ws", &[&HANDSHAKE, headers].concat()).await
    }

    async fn socket(&self, headers: &[&str]) -> Socket {
        self.socket_at("/ws", headers).await
    }

    async fn socket_at(&self, target: &str, headers: &[&str]) -> Socket {
        let stream = TcpStream::connect(self.server.address).await.expect("connected");
        Socket::over(stream, target, headers).await
    }

    /// Opens the socket of an agent with a new token.
    async fn agent(&self, workspace: WorkspaceId) -> Socket {
        let token = self.token(workspace).await;
        self.socket(&[&format!("X-Workspace-ID: {workspace}"), &format!("Authorization: Bearer {token}")])
            .await
    }

    pub(crate) fn publish(&self, about: WorkspaceId, task: &str) {
        let task = Task { active_tasks: 1, current_task: task.to_owned() };
        self.app.fleet.state().publish_ephemeral(about, &Event::TaskUpdated(task));
    }

    /// Publishes a durable event that is not stored.
    fn record(&self, seq: i64, payload: String) {
        let (id, name) = (WorkspaceId::random(), "WORKSPACE_OFFLINE".to_owned());
        let envelope =
            Envelope::stored(EventId::random(), EventSeq(seq), name, Some(id), store::now(), payload);
        self.app.fleet.hub().publish(Arc::new(envelope));
    }

    /// Waits until a handshake with these headers has this status.
    async fn until(&self, headers: &[&str], status: u16) {
        let asked = async { while self.handshake(headers).await.status() != status {} };
        timeout(WAIT_TIMEOUT, asked).await.expect("the status changes");
    }
}

/// The client side of a WebSocket.
struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn over(stream: TcpStream, target: &str, headers: &[&str]) -> Self {
        let mut request = Request::builder()
            .uri(format!("ws://own.example{target}"))
            .header("Host", "own.example")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key())
            .body(())
            .expect("a request");
        for header in headers {
            let (name, value) = header.split_once(": ").expect("a header");
            let name = HeaderName::try_from(name).expect("a name");
            request.headers_mut().append(name, HeaderValue::try_from(value).expect("a value"));
        }
        let opened = timeout(WAIT_TIMEOUT, client_async(request, stream)).await.expect("in time");
        Self(opened.expect("the handshake succeeds").0)
    }

    /// The next message that is no ping or pong.
    async fn message(&mut self) -> Message {
        loop {
            let next = timeout(WAIT_TIMEOUT, self.0.next()).await.expect("in time");
            match next.expect("more").expect("no failure") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    async fn text(&mut self) -> String {
        match self.message().await {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("JSON")
    }

    /// The current task of the next event, a `TASK_UPDATED`.
    async fn task(&mut self) -> String {
        self.json().await["payload"]["current_task"].as_str().expect("a task").to_owned()
    }

    /// Reads up to the close frame and returns its code. Fails unless the connection then ends cleanly.
    async fn close_code(&mut self) -> CloseCode {
        let code = loop {
            match self.message().await {
                Message::Close(frame) => break frame.expect("a reason").code,
                Message::Text(_) => {}
                other => panic!("{other:?}"),
            }
        };
        let end = timeout(WAIT_TIMEOUT, self.0.next()).await.expect("in time");
        assert!(matches!(end, None | Some(Err(Error::ConnectionClosed))), "{end:?}");
        code
    }
}

fn seen(answer: &Answer) -> (u16, &str) {
    (answer.status(), answer.body.as_str())
}

// === The handshake ===

#[tokio::test]
async fn malformed_handshakes_are_refused_before_authentication() {
    let test = TestServer::start(ADMIN).await;
    let without = |left_out: &str| HANDSHAKE.into_iter().filter(|line| !line.starts_with(left_out)).collect();
    let mut wrong: Vec<Vec<&str>> =
        ["Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Key"].map(without).to_vec();
    wrong.push([without("Sec-WebSocket-Version"), vec!["Sec-WebSocket-Version: 8"]].concat());
    wrong.push([without("Upgrade"), vec!["Upgrade: h2c"]].concat());
    wrong.push(Vec::new());
    for headers in wrong {
        let answer = test.server.ask("GET", "/ws", &headers).await;
        assert_eq!(seen(&answer), (400, r#"{"error":"not a WebSocket handshake"}"#), "{headers:?}");
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    }
    assert_eq!(test.server.ask("POST", "/ws", &HANDSHAKE).await.status(), 404);
}

#[tokio::test]
async fn the_handshake_follows_the_rfc_and_selects_no_subprotocol() {
    let test = TestServer::start(DEV).await;
    for offered in ["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat, molecule-auth.61"] {
        let answer = test.handshake(&[offered, "Sec-WebSocket-Extensions: permessage-deflate"]).await;
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.header("connection"), Some("Upgrade"));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(answer.header("sec-websocket-protocol"), None);
        assert_eq!(answer.header("sec-websocket-extensions"), None);
    }
}

fn offering(bearer: &str) -> String {
    let hex: String = bearer.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("Sec-WebSocket-Protocol: molecule-auth.{hex}")
}

#[tokio::test]
async fn canvas_sockets_by_mode_and_token() {
    let open = (101, "");
    let foreign = (403, "");
    let required = (401, r#"{"error":"canvas auth required"}"#);
    let wrong = (401, r#"{"error":"invalid canvas auth token"}"#);
    let invalid = (401, r#"{"error":"invalid WebSocket credential"}"#);
    let with_any: &[&str] = &["--cors-origins", "*"];
    let (admin_any, fresh): (&[&str], &[&str]) = (&[ADMIN, with_any].concat(), &[]);
    let named = "Origin: http://localhost:3000";
    let (own, other) = ("Origin: https://own.example", "Origin: http://evil.example");
    let (good, bad) = ("Authorization: Bearer secret", "Authorization: Bearer wrong");
    let (good_offer, bad_offer) = (offering("secret"), offering("wrong"));
    let (good_offer, bad_offer) = (good_offer.as_str(), bad_offer.as_str());
    let no_hex = "Sec-WebSocket-Protocol: molecule-auth.7";
    for (flags, headers, expected) in [
        // Without an admin token, no credential is required.
        (DEV, &[][..], open),
        (fresh, &[], open),
        (DEV, &[named], open),
        (DEV, &[own], open),
        (DEV, &[other], foreign),
        (DEV, &["Origin: null"], foreign),
        (with_any, &[other], open),
        (DEV, &[bad], open),
        (DEV, &[bad_offer], open),
        (DEV, &[no_hex], invalid),
        (DEV, &[bad, good_offer], invalid),
        // With an admin token, only allowed origins need no credential.
        (ADMIN, &[], required),
        (ADMIN, &[named], open),
        (ADMIN, &[own], open),
        (ADMIN, &[other], foreign),
        (admin_any, &[other], required),
        (admin_any, &[other, good], open),
        (ADMIN, &["Authorization: Basic secret"], required),
        // A credential must be valid, in the header and in the subprotocol.
        (ADMIN, &[good], open),
        (ADMIN, &[bad], wrong),
        (ADMIN, &[bad, named], wrong),
        (ADMIN, &[good_offer], open),
        (ADMIN, &[bad_offer], wrong),
        (ADMIN, &[bad_offer, named], wrong),
        (ADMIN, &[good, good_offer], open),
        (ADMIN, &[good, bad_offer], invalid),
        (ADMIN, &[good_offer, bad_offer], invalid),
        (ADMIN, &[good, no_hex], invalid),
        (ADMIN, &[no_hex, named], invalid),
        // An empty workspace id counts as none.
        (ADMIN, &["X-Workspace-ID: ", named], open),
    ] {
        let test = TestServer::start(flags).await;
        assert_eq!(seen(&test.handshake(headers).await), expected, "{flags:?} {headers:?}");
    }
}

#[tokio::test]
async fn canvases_may_use_organization_tokens_and_workspace_tokens_without_an_admin_token() {
    for (flags, by_workspace) in [(ADMIN, 401), (&[], 101)] {
        let test = TestServer::start(flags).await;
        let workspace = test.workspace("a", None).await;
        let (own, org) = (test.token(workspace).await, test.org_token().await);
        for (bearer, expected) in [(&own, by_workspace), (&org, 101), (&"wrong".to_owned(), 401)] {
            let by_header = test.handshake(&[&format!("Authorization: Bearer {bearer}")]).await;
            assert_eq!(by_header.status(), expected, "{flags:?}");
            assert_eq!(test.handshake(&[&offering(bearer)]).await.status(), expected, "{flags:?}");
        }
    }
}

#[tokio::test]
async fn agent_sockets_by_mode_and_token() {
    const MISSING: (u16, &str) = (401, r#"{"error":"missing workspace auth token"}"#);
    const INVALID: (u16, &str) = (401, r#"{"error":"invalid workspace auth token"}"#);
    const OPEN: (u16, &str) = (101, "");
    // After the first token of any workspace, the server is no fresh install.
    for (flags, without) in [(DEV, OPEN), (&[][..], MISSING), (ADMIN, MISSING)] {
        let test = TestServer::start(flags).await;
        let [never, own, other, revoked, removed] = [
            test.workspace("never", None).await,
            test.workspace("own", None).await,
            test.workspace("other", None).await,
            test.workspace("revoked", None).await,
            test.workspace("removed", None).await,
        ];
        let token = test.token(own).await;
        let (others, org, late) =
            (test.token(other).await, test.org_token().await, test.token(removed).await);
        let ended = test.app.fleet.credentials().issue(revoked, "test", false).await.expect("a token");
        test.app.fleet.credentials().revoke(Owner::Workspace(revoked), ended.row.id).await.expect("revoked");
        test.app.fleet.remove(removed, fleet::Removal::default()).await.expect("removed");

        let unknown = WorkspaceId::random();
        let admin = if flags == ADMIN { OPEN } else { INVALID };
        let text = |id: WorkspaceId| id.to_string();
        let plain = own.0.simple().to_string().to_uppercase();
        for (id, bearer, expected) in [
            (text(own), Some(token.as_str()), OPEN),
            (plain, Some(&token), OPEN),
            (text(own), None, MISSING),
            (text(own), Some("wrong"), INVALID),
            (text(own), Some(&others), INVALID),
            (text(own), Some(&org), OPEN),
            (text(own), Some("secret"), admin),
            (text(never), None, without),
            (text(never), Some("wrong"), if without == OPEN { OPEN } else { INVALID }),
            (text(revoked), None, MISSING),
            (text(revoked), Some(&ended.text), INVALID),
            (text(removed), None, MISSING),
            (text(removed), Some(&late), INVALID),
            (text(removed), Some(&org), INVALID),
            (text(unknown), None, MISSING),
            (text(unknown), Some(&org), INVALID),
            ("x".to_owned(), None, MISSING),
            ("x".to_owned(), Some(&token), INVALID),
            ("é".to_owned(), Some(&token), INVALID),
        ] {
            let mut headers = vec![format!("X-Workspace-ID: {id}")];
            headers.extend(bearer.map(|bearer| format!("Authorization: Bearer {bearer}")));
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            assert_eq!(seen(&test.handshake(&headers).await), expected, "{flags:?} {headers:?}");
        }
        // An agent's bearer must be in the header, and an allowed origin does not replace it.
        let agent = format!("X-Workspace-ID: {own}");
        assert_eq!(seen(&test.handshake(&[&agent, &offering(&token)]).await), MISSING);
        assert_eq!(seen(&test.handshake(&[&agent, "Origin: http://localhost:3000"]).await), MISSING);
    }
}

#[tokio::test]
async fn on_a_fresh_install_agents_need_no_token() {
    let test = TestServer::start(&[]).await;
    let agent = format!("X-Workspace-ID: {}", test.workspace("a", None).await);
    assert_eq!(test.handshake(&[&agent]).await.status(), 101);
    assert_eq!(test.handshake(&["X-Workspace-ID: x"]).await.status(), 401);
}

#[tokio::test]
async fn a_workspace_has_at_most_ten_sockets() {
    let test = TestServer::start(DEV).await;
    let (one, other) = (test.workspace("one", None).await, test.workspace("other", None).await);
    let [one, other] = [one, other].map(|id| format!("X-Workspace-ID: {id}"));
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(test.socket(&[&one]).await);
    }
    let refused = test.handshake(&[&one]).await;
    assert_eq!(seen(&refused), (503, r#"{"error":"too many WebSocket connections"}"#));
    assert_eq!(test.handshake(&[&other]).await.status(), 101);
    assert_eq!(test.handshake(&[]).await.status(), 101);
    open.pop();
    test.until(&[&one], 101).await;
}

#[tokio::test]
async fn a_process_has_a_limit_of_sockets() {
    assert_eq!((Limits::default().sockets, Limits::default().sockets_each), (1_000, 10));
    let test = TestServer::start_with(DEV, Limits { sockets: 2, ..patient() }).await;
    let _first = test.socket(&[]).await;
    let second = test.socket(&[]).await;
    assert_eq!(test.handshake(&[]).await.status(), 503);
    drop(second);
    test.until(&[], 101).await;
}

// === Events ===

#[tokio::test]
async fn frames_match_the_contract_and_arrive_in_order() {
    let test = TestServer::start(DEV).await;
    let mut canvas = test.socket(&[]).await;
    let id = test.workspace("a", None).await;
    let made = canvas.text().await;
    let at = |text: &str| {
        let frame: Value = serde_json::from_str(text).expect("JSON");
        frame["timestamp"].as_str().expect("a time").to_owned()
    };
    let expected = |name: &str, text: &str, payload: &str, seq: &str| {
        let at = at(text);
        format!(r#"{{"event":"{name}","workspace_id":"{id}","timestamp":"{at}","payload":{payload}{seq}}}"#)
    };
    let payload = r#"{"mock":true,"name":"a","runtime":"mock"}"#;
    let last = test.app.fleet.state().last_published().0;
    let online = if made.contains("WORKSPACE_ONLINE") { made } else { canvas.text().await };
    assert_eq!(online, expected("WORKSPACE_ONLINE", &online, payload, &format!(r#","seq":{last}"#)));
    let time = at(&online);
    assert!(time.ends_with('Z') && time.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{time}");

    let beat = Heartbeat { active_tasks: 2, uptime_seconds: 7 };
    test.app.fleet.state().publish_ephemeral(id, &Event::WorkspaceHeartbeat(beat));
    let beat = canvas.text().await;
    let payload = r#"{"active_tasks":2,"uptime_seconds":7}"#;
    assert_eq!(beat, expected("WORKSPACE_HEARTBEAT", &beat, payload, ""));

    // Internal events are not sent.
    test.app.fleet.state().publish_ephemeral(id, &Event::WorkspaceChanged(Empty {}));
    for number in 0..100 {
        test.publish(id, &number.to_string());
    }
    for number in 0..100 {
        assert_eq!(canvas.task().await, number.to_string());
    }
}

/// Two roots with children and grandchildren.
#[tokio::test]
async fn agents_receive_events_of_workspaces_they_can_communicate_with() {
    let test = TestServer::start(DEV).await;
    let a = test.workspace("a", None).await;
    let b = test.workspace("b", None).await;
    let a1 = test.workspace("a1", Some(a)).await;
    let a2 = test.workspace("a2", Some(a)).await;
    let a21 = test.workspace("a21", Some(a2)).await;
    let b1 = test.workspace("b1", Some(b)).await;
    let b11 = test.workspace("b11", Some(b1)).await;
    let names = [(a, "a"), (b, "b"), (a1, "a1"), (a2, "a2"), (a21, "a21"), (b1, "b1"), (b11, "b11")];
    for (agent, expected) in [
        (a, &["a", "b", "a1", "a2", "a21"][..]),
        (b, &["a", "b", "b1", "b11"]),
        (a1, &["a", "a1", "a2"]),
        (a21, &["a", "a2", "a21"]),
        (b11, &["b", "b1", "b11"]),
    ] {
        let mut socket = test.agent(agent).await;
        for (about, name) in names {
            test.publish(about, name);
        }
        test.publish(agent, "end");
        let mut received = Vec::new();
        loop {
            match socket.task().await {
                end if end == "end" => break,
                name => received.push(name),
            }
        }
        assert_eq!(received, expected, "agent of {agent}");
    }
    // Events without a workspace are not sent to agents.
    let mut agent = test.agent(a).await;
    let of_no_workspace =
        Event::TaskUpdated(Task { active_tasks: 1, current_task: "of no workspace".to_owned() });
    test.app.fleet.hub().publish(Arc::new(Envelope::ephemeral(None, &of_no_workspace, store::now())));
    test.publish(a, "own");
    assert_eq!(agent.task().await, "own");
}

#[tokio::test]
async fn agents_receive_removals_of_related_workspaces() {
    let test = TestServer::start(DEV).await;
    let parent = test.workspace("parent", None).await;
    let [one, other] = [test.workspace("1", Some(parent)).await, test.workspace("2", Some(parent)).await];
    let below = test.workspace("3", Some(other)).await;
    let mut sibling = test.agent(one).await;
    let mut above = test.agent(parent).await;
    let mut stranger = test.agent(below).await;
    let removal = fleet::Removal { confirmed: true, purge: true };
    test.app.fleet.remove(other, removal).await.expect("removed");
    let about = async |socket: &mut Socket| {
        let frame = socket.json().await;
        assert_eq!(frame["event"], "WORKSPACE_REMOVED");
        frame["workspace_id"].as_str().expect("an id").to_owned()
    };
    assert_eq!(about(&mut sibling).await, other.to_string(), "not the child of the sibling");
    assert_eq!(about(&mut above).await, below.to_string());
    assert_eq!(about(&mut above).await, other.to_string());
    assert_eq!(about(&mut stranger).await, below.to_string(), "its own removal");
}

// === Resume ===

#[tokio::test]
async fn a_client_too_far_behind_gets_one_resync_and_continues_live() {
    let test = TestServer::start_with(DEV, Limits { replay: 3, ..patient() }).await;
    let id = test.workspace("a", None).await;
    let last = test.app.fleet.state().last_published().0;
    let resync = async |since: i64, headers: &[&str], workspace: &str| {
        let mut socket = test.socket_at(&format!("/ws?since={since}"), headers).await;
        let text = socket.text().await;
        let start = format!(r#"{{"event":"RESYNC_REQUIRED","workspace_id":"{workspace}","timestamp":""#);
        assert!(text.starts_with(&start) && text.ends_with(r#"Z","payload":{}}"#), "{text}");
        test.publish(id, "live");
        assert_eq!(socket.task().await, "live");
    };
    // A number beyond the last event, as from another database.
    resync(last + 1, &[], "").await;
    resync(i64::MAX, &[], "").await;
    for number in 0..4 {
        let name = format!(r#"{{"name":"a{number}"}}"#);
        let path = format!("/workspaces/{id}");
        assert_eq!(test.server.send("PATCH", &path, &[], &name).await.status(), 200);
    }
    assert_eq!(test.app.fleet.state().last_published().0, last + 4);
    resync(last, &[], "").await;
    resync(0, &[&format!("X-Workspace-ID: {id}")], &id.to_string()).await;
    let mut socket = test.socket_at(&format!("/ws?since={}", last + 1), &[]).await;
    for seq in last + 2..=last + 4 {
        assert_eq!(socket.json().await["seq"], seq);
    }
    // Events that retention deleted cannot be replayed.
    test.app.fleet.state().delete_old_events(chrono::Duration::seconds(-60)).await;
    resync(last + 1, &[], "").await;
    let mut socket = test.socket_at(&format!("/ws?since={}", last + 4), &[]).await;
    test.publish(id, "nothing missed");
    assert_eq!(socket.task().await, "nothing missed");
}

#[tokio::test]
async fn a_since_that_is_not_a_number_is_refused() {
    let test = TestServer::start(DEV).await;
    for since in ["x", "-1", "1.5", ""] {
        let answer = test.server.ask("GET", &format!("/ws?since={since}"), &HANDSHAKE).await;
        assert_eq!(seen(&answer), (400, r#"{"error":"since must be the number of an event"}"#), "{since}");
    }
}

// === Limits and close ===

/// A client with a small receive buffer, so that few bytes are in flight.
pub(crate) async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("set");
    socket.connect(address).await.expect("connected")
}

/// A payload of one mebibyte.
pub(crate) fn large() -> String {
    format!(r#"{{"filler":"{}"}}"#, "x".repeat(1 << 20))
}

#[tokio::test]
async fn a_slow_client_is_disconnected_and_delays_no_other() {
    const EVENTS: i64 = 40;
    let test = TestServer::start_with(DEV, Limits { socket_queue: 4, ..patient() }).await;
    let mut slow = Socket::over(narrow(test.server.address).await, "/ws", &[]).await;
    let mut quick = test.socket(&[]).await;
    let payload = large();
    for seq in 1..=EVENTS {
        test.record(seq, payload.clone());
        assert_eq!(quick.json().await["seq"], seq, "the quick client gets each event");
    }
    let mut next = 1;
    let code = loop {
        match slow.message().await {
            Message::Text(text) => {
                let frame: Value = serde_json::from_str(text.as_str()).expect("JSON");
                assert_eq!(frame["seq"], next, "no gap before the end");
                next += 1;
            }
            Message::Close(frame) => break frame.expect("a reason").code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, CloseCode::Again);
    assert!(next < EVENTS, "the slow client was disconnected");
    test.publish(WorkspaceId::random(), "on");
    assert_eq!(quick.task().await, "on");
}

#[tokio::test]
async fn a_slow_client_loses_heartbeats_and_stays() {
    let test = TestServer::start_with(DEV, Limits { socket_queue: 4, ..patient() }).await;
    let mut slow = Socket::over(narrow(test.server.address).await, "/ws", &[]).await;
    let payload = large();
    let id = WorkspaceId::random();
    let beat = || {
        let beat = Heartbeat { active_tasks: 0, uptime_seconds: 1 };
        test.app.fleet.state().publish_ephemeral(id, &Event::WorkspaceHeartbeat(beat));
    };
    // Ephemeral events fill the queue and the buffers, and are dropped then. None of them closes the socket.
    let dropped = test.app.fleet.hub().dropped();
    let filled = async {
        while test.app.fleet.hub().dropped() < dropped + 8 {
            test.publish(id, &payload);
            beat();
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT_TIMEOUT, filled).await.expect("events are dropped");
    let read = async {
        loop {
            test.publish(id, "last");
            for _ in 0..4 {
                if slow.text().await.contains(r#""current_task":"last""#) {
                    return;
                }
            }
        }
    };
    timeout(WAIT_TIMEOUT, read).await.expect("the socket continues");
}

#[tokio::test]
async fn a_socket_that_does_not_read_is_closed() {
    let limits = Limits { sockets: 1, write: Duration::from_millis(150), ..patient() };
    let test = TestServer::start_with(DEV, limits).await;
    let slow = Socket::over(narrow(test.server.address).await, "/ws", &[]).await;
    assert_eq!(test.handshake(&[]).await.status(), 503);
    let payload = large();
    for seq in 1..=40 {
        test.record(seq, payload.clone());
    }
    // Its permit is released although the client holds the connection.
    test.until(&[], 101).await;
    drop(slow);
}

#[tokio::test]
async fn client_messages_up_to_four_kib_are_ignored() {
    let test = TestServer::start(DEV).await;
    let mut socket = test.socket(&[]).await;
    for message in [Message::text("x".repeat(4096)), Message::binary(vec![255; 4096]), Message::text("")] {
        socket.0.send(message).await.expect("sent");
    }
    socket.0.send(Message::Ping("hello".into())).await.expect("sent");
    let pong = timeout(WAIT_TIMEOUT, socket.0.next()).await.expect("in time");
    assert!(matches!(pong, Some(Ok(Message::Pong(said))) if &said[..] == b"hello"));
    test.publish(WorkspaceId::random(), "still there");
    assert_eq!(socket.task().await, "still there");

    // Bytes of the large message that are still in flight must not destroy the close frame.
    for size in [4097, 1 << 20] {
        let mut socket = test.socket(&[]).await;
        let (mut send, receive) = socket.0.split();
        let sending = async {
            // Fails when the server closes before all is sent.
            let _ = send.send(Message::text("x".repeat(size))).await;
            send
        };
        let (send, receive) = timeout(WAIT_TIMEOUT, async { tokio::join!(sending, first_close(receive)) })
            .await
            .expect("in time");
        assert_eq!(receive.1, Some(CloseCode::Size), "{size}");
        socket = Socket(send.reunite(receive.0).expect("both halves of one socket"));
        drop(socket);
    }
}

type Receiver = futures::stream::SplitStream<WebSocketStream<TcpStream>>;

async fn first_close(mut receiver: Receiver) -> (Receiver, Option<CloseCode>) {
    while let Some(message) = receiver.next().await {
        match message {
            Ok(Message::Close(frame)) => return (receiver, frame.map(|frame| frame.code)),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
    (receiver, None)
}

#[tokio::test]
async fn sockets_are_closed_at_once_when_the_server_stops() {
    let test = TestServer::start(DEV).await;
    let mut canvas = test.socket(&[]).await;
    let mut agent = test.agent(test.workspace("a", None).await).await;
    // A client that does not read does not delay the shutdown.
    let stuck = Socket::over(narrow(test.server.address).await, "/ws", &[]).await;
    let payload = large();
    for seq in 1_000..1_040 {
        test.record(seq, payload.clone());
        while canvas.json().await["seq"] != seq {}
    }
    test.server.shutdown.drain();
    assert_eq!(canvas.close_code().await, CloseCode::Away);
    assert_eq!(agent.close_code().await, CloseCode::Away);
    timeout(WAIT_TIMEOUT, test.server.done).await.expect("ended").expect("no panic");
    drop(stuck);
}

#[tokio::test]
async fn a_revoked_token_closes_its_own_sockets_only() {
    assert!(Limits::default().ping <= Duration::from_secs(60));
    let test = TestServer::start_with(ADMIN, Limits { ping: Duration::from_millis(50), ..patient() }).await;
    let id = test.workspace("a", None).await;
    let agent = format!("X-Workspace-ID: {id}");
    let revoked = test.app.fleet.credentials().issue(id, "test", false).await.expect("a token");
    let org = test.app.fleet.credentials().issue_for_org(None, None, "test").await.expect("a token");
    let bearing = |token: &str| format!("Authorization: Bearer {token}");
    let mut first = test.socket(&[&agent, &bearing(&revoked.text)]).await;
    let mut canvas = test.socket(&[&bearing(&org.text)]).await;
    let mut other = test.agent(id).await;
    let mut admin = test.socket(&[&bearing("secret")]).await;
    test.app.fleet.credentials().revoke(Owner::Workspace(id), revoked.row.id).await.expect("revoked");
    assert_eq!(first.close_code().await, CloseCode::Policy);
    test.app.fleet.credentials().revoke(Owner::Organization, org.row.id).await.expect("revoked");
    assert_eq!(canvas.close_code().await, CloseCode::Policy);
    for socket in [&mut other, &mut admin] {
        test.publish(id, "still there");
        while socket.json().await["event"] != "TASK_UPDATED" {}
    }
    // Removal revokes all tokens of the workspace.
    test.app.fleet.remove(id, fleet::Removal::default()).await.expect("removed");
    assert_eq!(other.close_code().await, CloseCode::Policy);
}

#[tokio::test]
async fn a_socket_that_answers_no_ping_is_closed() {
    let (ping, silence) = (Duration::from_millis(50), Duration::from_millis(1_500));
    let test = TestServer::start_with(DEV, Limits { sockets: 2, ping, silence, ..patient() }).await;
    let mut silent = test.socket(&[]).await;
    let mut polite = test.socket(&[]).await;
    let ended = async {
        let freed = test.until(&[], 101);
        tokio::pin!(freed);
        loop {
            tokio::select! {
                () = &mut freed => return,
                // Reading answers the pings.
                message = polite.0.next() => assert!(matches!(message, Some(Ok(Message::Ping(_)))), "{message:?}"),
            }
        }
    };
    timeout(WAIT_TIMEOUT, ended).await.expect("in time");
    // Read from the raw stream: the WebSocket client would answer the pings, and writes fail by now.
    let mut rest = Vec::new();
    let read = timeout(WAIT_TIMEOUT, silent.0.get_mut().read_to_end(&mut rest)).await;
    read.expect("in time").expect("an orderly end");
    let close = u16::from(CloseCode::Away).to_be_bytes();
    assert!(rest.starts_with(&[0x89, 0]) && rest.windows(2).any(|two| two == close), "{rest:?}");
    test.publish(WorkspaceId::random(), "still there");
    assert_eq!(polite.task().await, "still there");
    let limits = Limits::default();
    assert_eq!((limits.ping.as_secs(), limits.silence.as_secs(), limits.write.as_secs()), (30, 75, 10));
}

#[tokio::test]
async fn a_close_frame_is_answered() {
    let test = TestServer::start(DEV).await;
    let mut socket = test.socket(&[]).await;
    socket.0.close(None).await.expect("sent");
    let answer = timeout(WAIT_TIMEOUT, socket.0.next()).await.expect("in time");
    assert!(matches!(answer, Some(Ok(Message::Close(_)))), "{answer:?}");
    assert!(timeout(WAIT_TIMEOUT, socket.0.next()).await.expect("in time").is_none());
}
