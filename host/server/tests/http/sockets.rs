//! When the server ends a WebSocket: silence, a token that ends, a client that doesn't keep up.

use std::sync::Arc;
use std::time::Duration;

use events::{Envelope, Event, catalogue::Updated};
use fleet::NewWorkspace;
use futures::StreamExt;
use isomer::api::events::Timing;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

use crate::wire::{PATIENCE, PATIENT, Server};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const ADMIN: &str = "t";

async fn server(timing: Timing) -> Server {
    let flags = ["--admin-token", ADMIN];
    Server::tuned(&flags, PATIENT, |app| app.timing = timing, isomer::api::routes).await
}

/// Nothing ends by itself.
const CALM: Timing = Timing { ping: PATIENCE, silence: PATIENCE, write: PATIENCE };

async fn open(server: &Server, bearer: &str, headers: &[(&'static str, String)]) -> Socket {
    let mut request = format!("ws://{}/ws", server.address).into_client_request().expect("a URL");
    let bearer = HeaderValue::from_str(&format!("Bearer {bearer}")).expect("a header");
    request.headers_mut().insert("Authorization", bearer);
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a header"));
    }
    connect_async(request).await.expect("it is let in").0
}

/// Reads on until the server closes; the code, and how much text came before.
async fn closed(socket: &mut Socket) -> (u16, usize) {
    let mut texts = 0;
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("in time").expect("open").expect("works");
        match message {
            Message::Close(close) => return (close.expect("with a reason").code.into(), texts),
            Message::Text(_) => texts += 1,
            _ => {}
        }
    }
}

fn updated(seq: i64, bytes: usize) -> Arc<Envelope> {
    let event = Event::WorkspaceUpdated(Updated { changed: vec!["x".repeat(bytes)] });
    Arc::new(Envelope::stamped(seq, Some(Uuid::nil()), &event, store::now()))
}

#[tokio::test]
async fn who_answers_pings_stays_and_who_is_silent_is_let_go() {
    let quick =
        Timing { ping: Duration::from_millis(20), silence: Duration::from_millis(200), write: PATIENCE };
    let server = server(quick).await;
    // The library answers pings while it is read.
    let mut alive = open(&server, ADMIN, &[]).await;
    let mut pings = 0;
    while pings < 20 {
        if let Message::Ping(_) =
            timeout(PATIENCE, alive.next()).await.expect("in time").expect("open").expect("works")
        {
            pings += 1;
        }
    }
    // Another one isn't read, and so doesn't answer, until the server has had enough.
    let _silent = open(&server, ADMIN, &[]).await;
    let gone = || metric(&server, "molecule_websocket_connections_active 1");
    timeout(PATIENCE, async {
        while !gone().await {
            // Keeps answering, so that it isn't the one that goes.
            let _ = timeout(Duration::from_millis(20), alive.next()).await;
        }
    })
    .await
    .expect("the silent one is let go");
}

async fn metric(server: &Server, line: &str) -> bool {
    let answer = server.ask("GET", "/metrics", &[]).await;
    answer.body.lines().any(|found| found == line)
}

#[tokio::test]
async fn a_socket_ends_with_the_token_that_opened_it() {
    let server = server(Timing { ping: Duration::from_millis(20), ..CALM }).await;
    let new = NewWorkspace { name: "A".into(), runtime: Some("mock".into()), ..NewWorkspace::default() };
    let id = server.fleet.create(new, "a test").await.expect("it is made").row.id;
    let token = server.fleet.mint(id, "a test", true).await.expect("it is made");
    let mut agent = open(&server, &token.text, &[("X-Workspace-ID", id.to_string())]).await;
    let org = server.fleet.mint_org(None, None, "a test").await.expect("it is made");
    let mut canvas = open(&server, &org.text, &[]).await;
    server.fleet.revoke(Some(id), token.row.id).await.expect("it is live");
    assert_eq!(closed(&mut agent).await.0, 1008);
    server.fleet.revoke(None, org.row.id).await.expect("it is live");
    assert_eq!(closed(&mut canvas).await.0, 1008);
}

#[tokio::test]
async fn who_does_not_keep_up_is_cut_off_and_nobody_else_waits() {
    let server = server(CALM).await;
    let mut slow = open(&server, ADMIN, &[]).await;
    let mut quick = open(&server, ADMIN, &[]).await;
    // More than the sockets' buffers and the queue of 256 hold, while one of the two isn't read.
    for seq in 1..=1_000 {
        server.fleet.hub().publish(updated(seq, 32 * 1024));
        let message = timeout(PATIENCE, quick.next()).await.expect("in time").expect("open").expect("works");
        assert!(message.to_text().expect("text").ends_with(&format!("\"seq\":{seq}}}")));
    }
    let (code, heard) = closed(&mut slow).await;
    assert_eq!(code, 1013);
    assert!(heard < 1_000, "it missed some, and knows it");
}
