//! Many callers at once of what costs memory, while an administrator goes on to get answers.

use std::{fmt::Write as _, future::Future, pin::pin, time::Duration};

use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use support::{Database, Server, Start, bombs};
use tokio::time::timeout;

use crate::{confinement::Memory, raw::Raw};

const CALLERS: usize = 64;

/// What a server has in total.
const MEMORY: u64 = 512 << 20;

/// How long the administrator may wait for an answer on a loaded machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an attack may take.
const ATTACK_TIMEOUT: Duration = Duration::from_secs(120);

/// A server within [`MEMORY`].
struct Confined {
    // Dropped before its cgroup.
    server: Server,
    memory: Memory,
}

impl Confined {
    async fn start(start: Start) -> Self {
        let memory = Memory::of(MEMORY);
        let server = Server::start(start.confined_by(memory.commands())).await;
        Self { server, memory }
    }

    /// Runs an attack to its end, with the administrator beside it.
    async fn bear<T>(&mut self, attack: impl Future<Output = T>) -> T {
        let mut attack = pin!(timeout(ATTACK_TIMEOUT, attack));
        let result = loop {
            tokio::select! {
                result = &mut attack => break result.expect("the attack ends"),
                () = administrator(&self.server) => {}
            }
        };
        administrator(&self.server).await;
        self.memory.check(&mut self.server);
        result
    }
}

async fn administrator(server: &Server) {
    for path in ["/health", "/admin/liveness"] {
        let answer = timeout(ANSWER_TIMEOUT, server.get(path)).await;
        answer.unwrap_or_else(|_| panic!("no answer in time from {path}")).ok();
    }
}

/// Sends a request and reads its answer without keeping it. Returns the status and the size of the body.
async fn drain(
    client: &Client,
    method: Method,
    url: &str,
    body: Option<(&str, Vec<u8>)>,
) -> (StatusCode, usize) {
    let mut request = client.request(method, url);
    if let Some((media, body)) = body {
        request = request.header("Content-Type", media).body(body);
    }
    // A server that refuses may close before it has read the body.
    let Ok(mut response) = request.send().await else { return (StatusCode::PAYLOAD_TOO_LARGE, 0) };
    let (status, mut size) = (response.status(), 0);
    while let Ok(Some(chunk)) = response.chunk().await {
        size += chunk.len();
    }
    (status, size)
}

/// The same request by every caller at once.
async fn by_all(method: Method, url: String, body: Option<(&str, Vec<u8>)>) -> Vec<(StatusCode, usize)> {
    let client = Client::new();
    let (client, url, body) = (&client, &url, &body);
    join_all((0..CALLERS).map(|_| drain(client, method.clone(), url, body.clone()))).await
}

fn assert_none_failed(answers: &[(StatusCode, usize)]) {
    for (status, _) in answers {
        let allowed = *status == StatusCode::SERVICE_UNAVAILABLE || !status.is_server_error();
        assert!(allowed, "{answers:?}");
    }
}

async fn mock(server: &Server, name: &str) -> String {
    server.workspace(json!({ "name": name, "runtime": "mock" })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_activity() {
    let mut confined = Confined::start(Start::from(Database::sqlite())).await;
    let id = mock(&confined.server, "Busy").await;
    for _ in 0..20 {
        let body =
            json!({ "activity_type": "agent_log", "summary": "s", "request_body": "x".repeat(1_000_000) });
        confined.server.post(&format!("/workspaces/{id}/activity"), body).await.ok();
    }
    let url = format!("{}/workspaces/{id}/activity?limit=500", confined.server.url);
    let answers = confined.bear(by_all(Method::GET, url, None)).await;
    assert_none_failed(&answers);
    assert!(answers.iter().any(|(status, size)| status.is_success() && *size > 1_000_000), "{answers:?}");
}

/// Clients that ask, and read the head of the answer only. Returns them with the status of each.
async fn unread(server: &Server, path: &str) -> Vec<(Raw, u16)> {
    let (address, request) = (server.address(), format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    join_all((0..CALLERS).map(async |_| {
        let mut connection = Raw::connect(address).await;
        connection.write(request.as_bytes()).await;
        let head = connection.head().await;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (connection, status)
    }))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_not_read() {
    let mut confined = Confined::start(Start::from(Database::sqlite())).await;
    let id = mock(&confined.server, "Busy").await;
    for _ in 0..8 {
        let body =
            json!({ "activity_type": "agent_log", "summary": "s", "request_body": "x".repeat(1_000_000) });
        confined.server.post(&format!("/workspaces/{id}/activity"), body).await.ok();
    }
    for path in [format!("/workspaces/{id}/activity?limit=500"), "/workspaces".to_owned()] {
        let held = timeout(ATTACK_TIMEOUT, unread(&confined.server, &path)).await.expect("answered in time");
        let answered = held.iter().filter(|(_, status)| *status == 200).count();
        assert!(answered > 0 && held.iter().all(|(_, status)| [200, 503].contains(status)), "{path}");
        assert!(!path.ends_with("500") || answered < CALLERS, "{answered} pages of 8 MiB are held");
        administrator(&confined.server).await;
        confined.memory.check(&mut confined.server);
        let grown = confined.server.peak_memory();
        assert!(grown < MEMORY * 3 / 4, "{path}: {grown}");
        drop(held);
        let url = format!("{}{path}", confined.server.url);
        confined
            .server
            .until("there is room again", async |_| {
                drain(&Client::new(), Method::GET, &url, None).await.0 == StatusCode::OK
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_the_list_that_are_not_read() {
    let mut confined = Confined::start(Start::from(Database::sqlite())).await;
    let mut ids = Vec::new();
    for number in 0..100 {
        let id = mock(&confined.server, &format!("Workspace {number}")).await;
        let body = json!({ "workspace_id": id, "agent_card": { "text": "x".repeat(60_000) } });
        confined.server.post("/registry/update-card", body).await.ok();
        ids.push(id);
    }
    let (address, mut held) = (confined.server.address(), Vec::new());
    let attack = async {
        for number in 0..CALLERS {
            let body = json!({ "workspace_id": ids[0], "agent_card": { "number": number } });
            confined.server.post("/registry/update-card", body).await.ok();
            let mut connection = Raw::connect(address).await;
            connection.write(b"GET /workspaces HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            held.push(connection);
        }
        let mut statuses = Vec::new();
        for connection in &mut held {
            statuses.push(connection.head().await.contains(" 200 "));
        }
        statuses
    };
    let answered = timeout(ATTACK_TIMEOUT, attack).await.expect("answered in time");
    assert!(answered.contains(&true), "{answered:?}");
    administrator(&confined.server).await;
    confined.memory.check(&mut confined.server);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_events() {
    let mut confined = Confined::start(Start::from(Database::sqlite())).await;
    let id = mock(&confined.server, "Busy").await;
    for number in 0..150 {
        let card = json!({ "number": number, "text": "x".repeat(60_000) });
        let body = json!({ "workspace_id": id, "agent_card": card });
        confined.server.post("/registry/update-card", body).await.ok();
    }
    let url = format!("{}/events?limit=500", confined.server.url);
    let answers = confined.bear(by_all(Method::GET, url, None)).await;
    assert_none_failed(&answers);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_workspaces() {
    let mut confined = Confined::start(Start::from(Database::sqlite())).await;
    for number in 0..100 {
        let id = mock(&confined.server, &format!("Workspace {number}")).await;
        let body = json!({ "workspace_id": id, "agent_card": { "text": "x".repeat(60_000) } });
        confined.server.post("/registry/update-card", body).await.ok();
    }
    let url = format!("{}/workspaces", confined.server.url);
    let answers = confined.bear(by_all(Method::GET, url, None)).await;
    assert_none_failed(&answers);
    assert!(answers.iter().any(|(status, size)| status.is_success() && *size > 1_000_000), "{answers:?}");
}

/// What a template says once, each of its workspaces has.
fn amplified(workspaces: usize, bytes: usize) -> Value {
    let nodes: Vec<Value> = (0..workspaces).map(|number| json!({ "name": format!("W{number}") })).collect();
    let text = "x".repeat(bytes);
    json!({
        "name": "Amplified",
        "defaults": {
            "runtime": "mock", "initial_prompt": text, "system_prompt": text, "role": text,
            "initial_memories": [{ "content": text, "scope": "LOCAL" }],
        },
        "workspaces": nodes,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_whose_defaults_multiply() {
    let mut confined = Confined::start(Start::from(Database::sqlite())).await;
    for (workspaces, bytes) in [(1_900, 60_000), (200, 900_000)] {
        let body = json!({ "template": amplified(workspaces, bytes), "dry_run": true }).to_string();
        let url = format!("{}/org/import", confined.server.url);
        let body = Some(("application/json", body.into_bytes()));
        let answers = confined.bear(by_all(Method::POST, url, body)).await;
        assert_none_failed(&answers);
    }
    // Not only planned.
    let body = json!({ "template": amplified(300, 60_000) }).to_string();
    let url = format!("{}/org/import", confined.server.url);
    let answers =
        confined.bear(by_all(Method::POST, url, Some(("application/json", body.into_bytes())))).await;
    assert_none_failed(&answers);
}

/// An archive of one file, whose bytes are all the same.
fn archive(name: &str, bytes: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, vec![b'x'; bytes].as_slice()).expect("written");
    archive.into_inner().expect("written")
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_of_large_archives() {
    let mut confined = Confined::start(Start::from(Database::sqlite())).await;
    for (name, bytes) in [("files/large", 31 << 20), ("org.yaml", 900_000)] {
        let url = format!("{}/org/import?dry_run=true", confined.server.url);
        let body = Some(("application/x-tar", archive(name, bytes)));
        let answers = confined.bear(by_all(Method::POST, url, body)).await;
        assert_none_failed(&answers);
        assert!(answers.iter().all(|(_, size)| *size < 64 << 10), "{name}: {answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_of_the_largest_components() {
    let mut confined = Confined::start(Start::from(Database::sqlite())).await;
    let url = format!("{}/admin/guests/bomb/releases?activate=true", confined.server.url);
    let body = Some(("application/wasm", bombs::custom((32 << 20) - 1_000)));
    let answers = confined.bear(by_all(Method::POST, url, body)).await;
    assert_none_failed(&answers);
    assert!(answers.iter().all(|(status, _)| !status.is_success()), "{answers:?}");
}

/// Bodies of which the last byte is missing. `path` takes up to this many bytes.
async fn withheld(server: &Server, path: &str, bytes: usize, headers: &str) -> Vec<Raw> {
    let mut request = String::new();
    let _ = write!(
        request,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {bytes}\r\n\r\n"
    );
    let (request, body) = (&request, &vec![b' '; bytes - 1]);
    let address = server.address();
    join_all((0..CALLERS).map(async |_| {
        let mut connection = Raw::connect(address).await;
        connection.write(request.as_bytes()).await;
        connection.write(body).await;
        connection
    }))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_end() {
    let mut confined = Confined::start(Start::from(Database::sqlite())).await;
    for (path, bytes) in
        [("/admin/guests/bomb/releases", 32 << 20), ("/org/import", 4 << 20), ("/registry/register", 1 << 20)]
    {
        let server = &confined.server;
        let held =
            timeout(ATTACK_TIMEOUT, withheld(server, path, bytes, "")).await.expect("written or refused");
        administrator(server).await;
        confined.memory.check(&mut confined.server);
        drop(held);
    }
}

/// Large ones, and small ones, which have a part of their own.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_one_token_leave_memory_to_other_credentials() {
    const ADMIN: &str = "attack-admin-token-0123456789";
    let start = Start::from(Database::sqlite()).env("MOLECULE_ENV", "staging").env("ADMIN_TOKEN", ADMIN);
    let server = Server::start(start.env("REQUEST_BODY_MIB", "72").env("RATE_LIMIT", "100000")).await;
    let make = async |path: &str, field: &str, body| {
        let made = server.ask(ADMIN, Method::POST, path, Some(body)).await.ok();
        made[field].as_str().expect(field).to_owned()
    };
    let id = make("/workspaces", "id", json!({ "name": "Busy", "runtime": "mock" })).await;
    let token = make(&format!("/workspaces/{id}/tokens"), "auth_token", json!({})).await;
    let headers = format!("Authorization: Bearer {token}\r\n");
    let path = format!("/workspaces/{id}/a2a");
    for bytes in [1 << 20, 64 << 10] {
        let mut held = Vec::new();
        // As many as take all that admitted callers have.
        for _ in 0..(48 << 20) / bytes / CALLERS + 1 {
            held.extend(withheld(&server, &path, bytes, &headers).await);
        }
        let mut answers: FuturesUnordered<_> =
            held.iter_mut().map(|connection| async { connection.answer().await }).collect();
        let refused = timeout(ATTACK_TIMEOUT, answers.next()).await.expect("in time");
        let refused = refused.flatten().expect("an answer");
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(!refused.error().contains("large"), "{refused:?}");
        for length in [200_000, 20_000] {
            let body =
                json!({ "activity_type": "agent_log", "summary": "s", "request_body": "x".repeat(length) });
            server.ask(ADMIN, Method::POST, &format!("/workspaces/{id}/activity"), Some(body)).await.ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_bodies_are_not_read() {
    let start = Start::from(Database::sqlite()).env("MOLECULE_ENV", "staging").env("ADMIN_TOKEN", "secret");
    let mut confined = Confined::start(start).await;
    let before = confined.server.peak_memory();
    for (path, bytes) in [("/admin/guests/bomb/releases", 32 << 20), ("/org/import", 32 << 20)] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n\r\n");
        let address = confined.server.address();
        // Refused before a byte of the body is there.
        let answers = join_all((0..CALLERS).map(async |_| {
            let mut connection = Raw::connect(address).await;
            connection.write(request.as_bytes()).await;
            connection.answer().await
        }));
        for answer in timeout(ATTACK_TIMEOUT, answers).await.expect("refused in time") {
            assert_eq!(answer.expect("an answer").status, 401, "{path}");
        }
    }
    let grown = confined.server.peak_memory() - before;
    assert!(grown < 64 << 20, "the peak of resident memory grew by {grown} bytes");
    confined.server.get("/health").await.ok();
    confined.memory.check(&mut confined.server);
}
