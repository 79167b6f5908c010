//! Events to a thousand sockets: from the answer to the change until the last socket has the event.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use reqwest::Client;
use serde_json::json;

use crate::{
    median,
    rows::{resident, seed, sqlite},
    server::Server,
};

const SOCKETS: usize = 1_000;
const EVENTS: usize = 50;

pub async fn sockets() {
    let data = tempfile::tempdir().expect("a directory");
    let ids = seed(&sqlite(data.path()), 1).await;
    let server = Server::start(data.path());
    let before = resident(server.pid());
    let url = format!("ws://{}/ws", server.address);
    let mut sockets = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS {
        sockets.push(tokio_tungstenite::connect_async(&url).await.expect("it listens").0);
    }
    let each = resident(server.pid()).saturating_sub(before) / SOCKETS;
    let http = Client::new();
    let path = format!("http://{}/workspaces/{}", server.address, ids[0]);
    let mut times: Vec<Duration> = Vec::with_capacity(EVENTS);
    let cpu = server.cpu();
    for number in 0..EVENTS {
        let edited = http.patch(&path).json(&json!({ "role": format!("Role {number}") })).send();
        assert!(edited.await.expect("it answers").status().is_success());
        let started = Instant::now();
        let received = sockets.iter_mut().map(|socket| async {
            loop {
                let frame = socket.next().await.expect("it is open").expect("it works");
                if frame.is_text() {
                    assert!(frame.to_text().expect("text").contains("WORKSPACE_UPDATED"));
                    return;
                }
            }
        });
        futures::future::join_all(received).await;
        times.push(started.elapsed());
    }
    let cpu = (server.cpu() - cpu) / u32::try_from(EVENTS * SOCKETS).expect("few");
    let half = median(&mut times);
    println!("events to {SOCKETS} sockets: the last has it {half:.2?} after the answer (median of {EVENTS})");
    println!("  {cpu:.1?} CPU for each event and socket, {} KiB of memory for each socket", each >> 10);
}
