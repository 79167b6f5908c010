//! Over HTTP: many connections, each asking again as soon as it was answered.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    median,
    rows::{resident, seed, sqlite},
    server::Server,
};

const CONNECTIONS: usize = 64;
const LONG: Duration = Duration::from_secs(3);

pub async fn reads() {
    let data = tempfile::tempdir().expect("a directory");
    let ids = seed(&sqlite(data.path()), 200).await;
    let server = Server::start(data.path());
    println!("the server with 200 workspaces, {CONNECTIONS} connections, {LONG:?} each");
    for (name, path, aim) in [
        ("GET /health", "/health".to_owned(), ""),
        ("GET /workspaces/:id", format!("/workspaces/{}", ids[17]), " (aim 50 µs)"),
        ("GET /workspaces", "/workspaces".to_owned(), " (aim 400 µs)"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
        load(&server, name, &request, CONNECTIONS, aim).await;
    }
    println!("  resident memory after that: {:.1} MB", resident(server.pid()) as f64 / 1e6);
}

/// Sends a request by so many connections for a while, and prints what it cost.
pub async fn load(server: &Server, name: &str, request: &str, connections: usize, aim: &str) {
    let (cpu, started) = (server.cpu(), Instant::now());
    let clients =
        (0..connections).map(|_| tokio::spawn(ask(server.address.clone(), request.to_owned(), started)));
    let mut times = Vec::new();
    for client in futures::future::join_all(clients).await {
        times.extend(client.expect("every answer is a success"));
    }
    let (cpu, took) = (server.cpu() - cpu, started.elapsed());
    let each = cpu / u32::try_from(times.len()).expect("few");
    let rate = times.len() as f64 / took.as_secs_f64();
    let half = median(&mut times);
    let late = times[times.len() * 99 / 100];
    println!("  {name:<20} {each:>9.1?} CPU{aim}, {rate:>7.0} a second, p50 {half:.2?}, p99 {late:.2?}");
}

/// Sends a request again and again. Fails on any answer that isn't a success.
async fn ask(address: String, request: String, started: Instant) -> Vec<Duration> {
    let mut socket = TcpStream::connect(&address).await.expect("it listens");
    socket.set_nodelay(true).expect("it is a socket");
    let mut buffer = Vec::with_capacity(256 * 1024);
    let mut times = Vec::new();
    while started.elapsed() < LONG {
        let asked = Instant::now();
        socket.write_all(request.as_bytes()).await.expect("it reads");
        buffer.clear();
        while !complete(&buffer) {
            assert_ne!(socket.read_buf(&mut buffer).await.expect("it answers"), 0, "it hung up");
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
        times.push(asked.elapsed());
    }
    times
}

/// Is the answer whole?
fn complete(buffer: &[u8]) -> bool {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
    let length = head.split("content-length: ").nth(1).expect("a length");
    let length: usize = length.lines().next().and_then(|number| number.parse().ok()).expect("a number");
    buffer.len() >= end + 4 + length
}
