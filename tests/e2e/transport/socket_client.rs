//! The client side of `/ws`, and a server for its tests.

use std::net::SocketAddr;
use std::sync::Arc;

use api::app::App;
use api::events::Limits;
use events::definitions::Task;
use events::{Envelope, Event};
use futures::StreamExt;
use http::{HeaderName, HeaderValue, Request};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use types::{EventId, EventSeq, WorkspaceId};

use crate::transport::wire::{Answer, PATIENT, Server, WAIT_TIMEOUT};

pub(crate) const ADMIN: &[&str] = &["--admin-token", "secret"];
pub(crate) const DEV: &[&str] = &["--molecule-env", "dev"];

pub(crate) const HANDSHAKE: [&str; 4] = [
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
        sockets_of_admin: 0,
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
        self.app.fleet.credentials().issue_for_org(None, None, "test", false).await.expect("a token").text
    }

    /// The answer to a handshake.
    pub(crate) async fn handshake(&self, headers: &[&str]) -> Answer {
        self.server.ask("GET", "/ws", &[&HANDSHAKE, headers].concat()).await
    }

    pub(crate) async fn socket(&self, headers: &[&str]) -> Socket {
        self.socket_at("/ws", headers).await
    }

    pub(crate) async fn socket_at(&self, target: &str, headers: &[&str]) -> Socket {
        let stream = TcpStream::connect(self.server.address).await.expect("connected");
        Socket::over(stream, target, headers).await
    }

    /// Opens the socket of an agent with a new token.
    pub(crate) async fn agent(&self, workspace: WorkspaceId) -> Socket {
        let token = self.token(workspace).await;
        self.socket(&[&format!("X-Workspace-ID: {workspace}"), &format!("Authorization: Bearer {token}")])
            .await
    }

    pub(crate) fn publish(&self, about: WorkspaceId, task: &str) {
        let task = Task { active_tasks: 1, current_task: task.to_owned() };
        self.app.fleet.state().publish_ephemeral(about, &Event::TaskUpdated(task));
    }

    /// Publishes a durable event that is not stored.
    pub(crate) fn record(&self, seq: i64, payload: String) {
        let (id, name) = (WorkspaceId::random(), "WORKSPACE_OFFLINE".to_owned());
        let envelope =
            Envelope::stored(EventId::random(), EventSeq(seq), name, Some(id), store::now(), payload);
        self.app.fleet.hub().publish(Arc::new(envelope));
    }

    /// Waits until a handshake with these headers has this status.
    pub(crate) async fn until(&self, headers: &[&str], status: u16) {
        let asked = async { while self.handshake(headers).await.status() != status {} };
        timeout(WAIT_TIMEOUT, asked).await.expect("the status changes");
    }
}

/// The client side of a WebSocket.
pub(crate) struct Socket(pub(crate) WebSocketStream<TcpStream>);

impl Socket {
    pub(crate) async fn over(stream: TcpStream, target: &str, headers: &[&str]) -> Self {
        let mut request = Request::builder()
            .uri(format!("ws://own.localhost{target}"))
            .header("Host", "own.localhost")
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
    pub(crate) async fn message(&mut self) -> Message {
        loop {
            let next = timeout(WAIT_TIMEOUT, self.0.next()).await.expect("in time");
            match next.expect("more").expect("no failure") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.message().await {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("JSON")
    }

    /// The current task of the next event, a `TASK_UPDATED`.
    pub(crate) async fn task(&mut self) -> String {
        self.json().await["payload"]["current_task"].as_str().expect("a task").to_owned()
    }

    /// Reads up to the close frame and returns its code. Fails unless the connection then ends cleanly.
    pub(crate) async fn close_code(&mut self) -> CloseCode {
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

/// Status and body.
pub(crate) fn seen(answer: &Answer) -> (u16, &str) {
    (answer.status(), answer.body.as_str())
}
