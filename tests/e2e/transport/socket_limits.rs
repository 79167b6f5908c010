//! `/ws`: slow and silent clients, and how sockets are closed.

use std::time::Duration;

use api::events::Limits;
use events::Event;
use events::definitions::Heartbeat;
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use types::{Owner, WorkspaceId};

use crate::transport::socket_client::{ADMIN, DEV, Socket, TestServer, large, narrow, patient};
use crate::transport::wire::WAIT_TIMEOUT;

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
    let org = test.app.fleet.credentials().issue_for_org(None, None, "test", false).await.expect("a token");
    let bearing = |token: &str| format!("Authorization: Bearer {token}");
    let mut first = test.socket(&[&agent, &bearing(&revoked.text)]).await;
    let mut canvas = test.socket(&[&bearing(&org.text)]).await;
    let made = test.server.send("POST", "/ws/ticket", &[&bearing(&org.text)], "").await;
    let made: Value = serde_json::from_str(&made.body).expect("JSON");
    let target = format!("/ws?ticket={}", made["ticket"].as_str().expect("a ticket"));
    let mut by_ticket = test.socket_at(&target, &[]).await;
    let mut other = test.agent(id).await;
    let mut admin = test.socket(&[&bearing("secret")]).await;
    test.app.fleet.credentials().revoke(Owner::Workspace(id), revoked.row.id).await.expect("revoked");
    assert_eq!(first.close_code().await, CloseCode::Policy);
    test.app.fleet.credentials().revoke(Owner::Organization, org.row.id).await.expect("revoked");
    assert_eq!(canvas.close_code().await, CloseCode::Policy);
    assert_eq!(by_ticket.close_code().await, CloseCode::Policy);
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
