//! Over HTTP: many connections, each sending a request as soon as the last was answered. Results are ratios to a
//! bare hyper service of the same run. The access log is on.
//!
//! CPU is that of the server's process, and of Postgres where it is the database. The load comes from this
//! process, whose CPU is not counted. Every answer has to be a 200.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use databases::Database;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use types::WorkspaceId;

use crate::{
    median,
    rows::{resident, seed, sqlite},
    server::{Server, postgres_cpu},
};

const CONNECTIONS: usize = 64;
const WORKSPACES: usize = 200;
const LONG: Duration = Duration::from_secs(3);

pub async fn requests() {
    let bare = Server::bare();
    let request = get(&bare.address, "/");
    println!("over HTTP, {CONNECTIONS} connections, {LONG:?} each, access log on");
    let least = load(&bare, &[request]).await;
    println!("  {:<28} {}", "bare hyper service", least.line());
    drop(bare);
    let data = tempfile::tempdir().expect("a directory");
    server("SQLite", data.path(), &sqlite(data.path()), &[], &least).await;
    if std::env::var_os(databases::VARIABLE).is_some() {
        let (database, data) = (Database::postgres().await, tempfile::tempdir().expect("a directory"));
        let url = database.url();
        server("Postgres", data.path(), &url, &[("DATABASE_URL", &url)], &least).await;
    } else {
        println!("  Postgres: not measured, {} is not set", databases::VARIABLE);
    }
}

async fn server(name: &str, data: &Path, url: &str, env: &[(&str, &str)], least: &Load) {
    let ids = seed(url, WORKSPACES).await;
    let env: Vec<_> = [("RUST_LOG", "info")].iter().chain(env).copied().collect();
    let server = Server::start_with(data, &env);
    let client = reqwest::Client::new();
    let settings = format!("http://{}/admin/guests/mock/settings", server.address);
    let no_pause = client.put(settings).json(&json!({ "pause_ms": 0 })).send().await.expect("an answer");
    assert_eq!(no_pause.status(), 200);
    println!("  {name}, {WORKSPACES} workspaces");
    let one = format!("/workspaces/{}", ids[17]);
    let agents = ids.iter().take(CONNECTIONS);
    let heartbeats: Vec<_> = agents.clone().map(|id| heartbeat(&server.address, *id)).collect();
    let messages: Vec<_> = agents.map(|id| message(&server.address, *id)).collect();
    for (name, requests, aim) in [
        ("GET /health", vec![get(&server.address, "/health")], 2.0),
        ("GET /workspaces/:id", vec![get(&server.address, &one)], 3.0),
        ("heartbeat", heartbeats, 4.0),
        ("A2A to mock", messages, 9.0),
        ("GET /workspaces", vec![get(&server.address, "/workspaces")], 15.0),
    ] {
        let before = groups(&client, &server).await;
        let load = load(&server, &requests).await;
        let ratio = load.each.as_secs_f64() / least.each.as_secs_f64();
        println!("    {name:<26} {}, {ratio:>5.2} x bare (aim {aim})", load.line());
        for (group, count) in groups(&client, &server).await {
            let (groups, items) = before.get(&group).copied().unwrap_or_default();
            let (groups, items) = (count.0 - groups, count.1 - items);
            if groups > 0.0 {
                println!("      {group}: {groups} groups of {:.1} on average", items / groups);
            }
        }
    }
    println!("    resident memory after that: {:.1} MB", resident(server.pid()) as f64 / 1e6);
}

/// How many groups were written so far and how many items they had, by the name of the histogram.
async fn groups(client: &reqwest::Client, server: &Server) -> BTreeMap<String, (f64, f64)> {
    let answer = client.get(format!("http://{}/metrics", server.address)).send().await.expect("an answer");
    let text = answer.text().await.expect("text");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or(0.0)
    };
    ["isomer_commit_group_changes", "isomer_behind_group_rows", "isomer_behind_queue_rows"]
        .into_iter()
        .map(|name| (name.to_owned(), (value(&format!("{name}_count")), value(&format!("{name}_sum")))))
        .collect()
}

// === Requests ===

fn get(address: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")
}

fn post(address: &str, path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A heartbeat that changes nothing visible, as most do.
fn heartbeat(address: &str, id: WorkspaceId) -> String {
    let body = json!({
        "workspace_id": id, "error_rate": 0, "active_tasks": 0, "current_task": "", "uptime_seconds": 60,
    });
    post(address, "/registry/heartbeat", &body)
}

fn message(address: &str, id: WorkspaceId) -> String {
    let parts = json!([{ "kind": "text", "text": "How is it going?" }]);
    let message = json!({ "role": "user", "messageId": "m-1", "parts": parts });
    let body =
        json!({ "jsonrpc": "2.0", "id": "1", "method": "message/send", "params": { "message": message } });
    post(address, &format!("/workspaces/{id}/a2a"), &body)
}

// === Load ===

/// The cost of requests.
pub struct Load {
    /// CPU of each, server and database.
    each: Duration,
    database: Duration,
    rate: f64,
    half: Duration,
    late: Duration,
}

impl Load {
    fn line(&self) -> String {
        let Self { each, database, rate, half, late } = self;
        let database =
            if database.is_zero() { String::new() } else { format!(" ({database:.1?} of it Postgres)") };
        format!("{each:>8.1?} CPU{database}, {rate:>6.0} a second, p50 {half:.2?}, p99 {late:.2?}")
    }
}

/// Sends requests over all connections for a while; each connection repeats one of `requests`.
async fn load(server: &Server, requests: &[String]) -> Load {
    let (cpu, database, started) = (server.cpu(), postgres_cpu(), Instant::now());
    let clients = (0..CONNECTIONS).map(|number| {
        let request = requests[number % requests.len()].clone();
        tokio::spawn(ask(server.address.clone(), request, started))
    });
    let mut times = Vec::new();
    for client in futures::future::join_all(clients).await {
        times.extend(client.expect("every answer is a success"));
    }
    let took = started.elapsed();
    let count = u32::try_from(times.len()).expect("few");
    // The sum over processes can shrink: a Postgres process that ended is no longer in it.
    let database = (postgres_cpu().saturating_sub(database)) / count;
    let each = (server.cpu() - cpu) / count + database;
    let rate = times.len() as f64 / took.as_secs_f64();
    let half = median(&mut times);
    let late = times[times.len() * 99 / 100];
    Load { each, database, rate, half, late }
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

/// Whether the answer is complete.
fn complete(buffer: &[u8]) -> bool {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
    let length = head.split("content-length: ").nth(1).expect("a length");
    let length: usize = length.lines().next().and_then(|number| number.parse().ok()).expect("a number");
    buffer.len() >= end + 4 + length
}
