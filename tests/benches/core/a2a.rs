//! Messages to mock agents over HTTP: each connection sends the next as soon as it was answered. The
//! adapter runs for every one, and every one is written down.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    http::complete,
    median,
    rows::{seed, sqlite},
    server::Server,
};

const LONG: Duration = Duration::from_secs(3);

pub async fn messages() {
    let data = tempfile::tempdir().expect("a directory");
    let ids = seed(&sqlite(data.path()), 200).await;
    let server = Server::start(data.path());
    let mut socket = connect(&server.address).await;
    let settings = json!({ "pause_ms": 0 }).to_string();
    let path = "/admin/guests/mock/settings";
    exchange(&mut socket, &request("PUT", path, &server.address, &settings)).await;
    println!("messages to 200 mock agents that answer at once, {LONG:?} each");
    for connections in [2, 64] {
        let (cpu, started) = (server.cpu(), Instant::now());
        let clients = (0..connections).map(|number| {
            let path = format!("/workspaces/{}/a2a", ids[number]);
            tokio::spawn(ask(server.address.clone(), path, started))
        });
        let mut times = Vec::new();
        for client in futures::future::join_all(clients).await {
            times.extend(client.expect("every answer is a success"));
        }
        let (cpu, took) = (server.cpu() - cpu, started.elapsed());
        let each = cpu / u32::try_from(times.len()).expect("few");
        let rate = times.len() as f64 / took.as_secs_f64();
        let half = median(&mut times);
        let late = times[times.len() * 99 / 100];
        println!(
            "  {connections:>2} connections {each:>9.1?} CPU (aim 200 µs), {rate:>7.0} a second, \
             p50 {half:.2?}, p99 {late:.2?}"
        );
    }
}

async fn connect(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).await.expect("it listens");
    socket.set_nodelay(true).expect("it is a socket");
    socket
}

fn request(method: &str, path: &str, address: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Sends a request and reads the answer. Fails on any that isn't a success.
async fn exchange(socket: &mut TcpStream, request: &str) {
    let mut buffer = Vec::with_capacity(4 * 1024);
    socket.write_all(request.as_bytes()).await.expect("it reads");
    while !complete(&buffer) {
        assert_ne!(socket.read_buf(&mut buffer).await.expect("it answers"), 0, "it hung up");
    }
    assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
}

async fn ask(address: String, path: String, started: Instant) -> Vec<Duration> {
    let mut socket = connect(&address).await;
    let parts = json!([{ "kind": "text", "text": "How far are you?" }]);
    let message = json!({ "messageId": "m", "parts": parts, "role": "user" });
    let body = json!({ "method": "message/send", "params": { "message": message } }).to_string();
    let request = request("POST", &path, &address, &body);
    let mut times = Vec::new();
    while started.elapsed() < LONG {
        let asked = Instant::now();
        exchange(&mut socket, &request).await;
        times.push(asked.elapsed());
    }
    times
}
