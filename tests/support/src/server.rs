//! The program in a process of its own, with helpers for its HTTP routes.

use std::{
    fs::{self, DirBuilder},
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Database, Signal, compiled_guests, program_file, signal, stop};

/// How long a test waits for something that must happen.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause between two polls, where the server has no event to wait for.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// How to start a server.
#[derive(Clone)]
pub struct Start {
    pub database: Database,
    /// Variables in addition to those of every test server.
    pub env: Vec<(&'static str, String)>,
    pub cache: Cache,
    /// Commands of a shell that then becomes the program, such as `ulimit`. Empty: no shell.
    pub confined_by: String,
}

/// The cache of compiled guests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// That of all tests.
    Shared,
    /// The server's own, which begins as a copy of the shared one.
    Own,
    /// The server's own, which begins empty: the first-party guests take seconds.
    Empty,
}

/// A running server. Dropping the value kills it.
pub struct Server {
    pub url: String,
    pub data: Arc<TempDir>,
    start: Start,
    child: Child,
    log: Arc<Mutex<String>>,
    http: reqwest::Client,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<String>,
    pub json: Value,
}

impl From<Database> for Start {
    fn from(database: Database) -> Self {
        Self { database, env: Vec::new(), cache: Cache::Shared, confined_by: String::new() }
    }
}

impl Start {
    pub fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    pub fn own_cache(mut self) -> Self {
        self.cache = Cache::Own;
        self
    }

    pub fn empty_cache(mut self) -> Self {
        self.cache = Cache::Empty;
        self
    }

    /// Commands of a shell that run in the server's process before it.
    pub fn confined_by(mut self, commands: impl Into<String>) -> Self {
        self.confined_by = commands.into();
        self
    }
}

/// The program, without the environment of this process except `PATH`.
pub fn program() -> Command {
    isolated(Command::new(program_file()))
}

/// The program as what a shell becomes after these commands.
fn confined(commands: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{commands} && exec \"$0\" \"$@\"")).arg(program_file());
    isolated(shell)
}

fn isolated(mut program: Command) -> Command {
    program.env_clear();
    // The runner finds left-over processes by this variable, which no server reads.
    for name in ["PATH", "TMPDIR", "ISOMER_TEST_RUN"] {
        if let Some(value) = std::env::var_os(name) {
            program.env(name, value);
        }
    }
    program
}

/// Fills a cache with what other servers have compiled so far.
fn copy_compiled_guests(cache: &Path) {
    DirBuilder::new().mode(0o700).create(cache).expect("a new directory");
    let compiled =
        fs::read_dir(compiled_guests()).into_iter().flatten().map(|entry| entry.expect("readable").path());
    for file in compiled.filter(|file| file.extension().is_some_and(|end| end == "aot")) {
        // Tests delete guests, and their files with them.
        let _ = fs::copy(&file, cache.join(file.file_name().expect("it has a name")));
    }
}

impl Server {
    pub async fn start(start: impl Into<Start>) -> Self {
        let start = start.into();
        let data = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        if start.cache == Cache::Own {
            copy_compiled_guests(&data.path().join("compiled"));
        }
        Self::start_on(start, data).await
    }

    async fn start_on(start: Start, data: Arc<TempDir>) -> Self {
        crate::use_ring();
        let mut program = if start.confined_by.is_empty() { program() } else { confined(&start.confined_by) };
        program.arg("serve").env("PORT", "0").env("BIND_ADDR", "127.0.0.1").env("DATA_DIR", data.path());
        // The default of the tests; `start.env` overrides it.
        program.env("MOLECULE_ENV", "development");
        if start.cache == Cache::Shared {
            program.env("GUEST_CACHE_DIR", compiled_guests());
        }
        if let Some(url) = start.database.postgres_url() {
            program.env("DATABASE_URL", url);
        }
        program.envs(start.env.iter().map(|(name, value)| (name, value)));
        let mut child =
            program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");

        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().expect("piped"), Arc::clone(&log));
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the program prints its address");
        let url = line.trim().strip_prefix("Isomer is listening on ").map(str::to_owned);
        let url = url.unwrap_or_else(|| {
            let _ = child.wait();
            panic!("no server: {line}{}", log.lock().expect("not poisoned"))
        });
        collect(stdout, Arc::clone(&log));
        Self { url, data, start, child, log, http: reqwest::Client::new() }
    }

    /// Stops the server by SIGTERM and starts it again on the same data.
    pub async fn restart(mut self) -> Self {
        let status = stop(&mut self.child);
        assert!(status.success(), "the server ended with {status}: {}", self.log());
        self.start_again().await
    }

    /// Waits for the end of a server that a signal stops, and starts it again on the same data. Returns the log of
    /// the stopped server, too.
    pub async fn wait_and_restart(mut self) -> (Self, String) {
        // Senders and agents of the test go on meanwhile.
        let status = tokio::task::block_in_place(|| self.child.wait().expect("the process ends"));
        assert!(status.success(), "the server ended with {status}: {}", self.log());
        let log = self.log();
        (self.start_again().await, log)
    }

    /// Kills the server and starts it again on the same data.
    pub async fn kill_and_restart(mut self) -> Self {
        self.kill();
        self.start_again().await
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process ends");
    }

    /// Starts an ended server again on the same data.
    pub async fn start_again(self) -> Self {
        Self::start_on(self.start.clone(), Arc::clone(&self.data)).await
    }

    pub fn signal(&self, name: Signal) {
        signal(&self.child, name);
    }

    /// The peak of resident memory so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Resident memory now, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("Linux reports it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// The processes that the server has started and that run.
    pub fn children(&self) -> Vec<u32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        children
            .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .map(|id| id.parse().expect("a process id"))
            .collect()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs. Reaps it, if it has ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_none()
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").parse().expect("an address")
    }

    pub fn database(&self) -> &Database {
        &self.start.database
    }

    /// Standard error and output so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Waits until the log contains this text. An HTTP answer may arrive before the log line of its request.
    pub async fn until_logged(&self, text: &str) {
        self.until(text, async |server| server.log().contains(text)).await;
    }

    /// The server's directory of component bytes.
    pub fn components(&self) -> PathBuf {
        self.data.path().join("components")
    }

    // === Requests ===

    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::read(request.send().await.expect("the server answers")).await
    }

    /// A request with a bearer token.
    pub async fn ask(&self, bearer: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(bearer);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::read(request.send().await.expect("the server answers")).await
    }

    /// A request with additional headers.
    pub async fn with(
        &self,
        headers: &[(&str, &str)],
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::read(request.send().await.expect("the server answers")).await
    }

    /// A request whose body is exactly this. Returns status and body of the answer.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: impl Into<Vec<u8>>,
    ) -> (u16, String) {
        let request = self.http.request(method, format!("{}{path}", self.url)).header("Content-Type", media);
        let answer = request.body(body.into()).send().await.expect("the server answers");
        let status = answer.status().as_u16();
        let body = answer.bytes().await.expect("the answer has a body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Posts a body that is exactly this as JSON.
    pub async fn post_raw(&self, path: &str, body: impl Into<Vec<u8>>) -> (u16, String) {
        self.raw(Method::POST, path, "application/json", body).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.request(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, None).await
    }

    /// Creates a workspace and returns its id.
    pub async fn workspace(&self, body: Value) -> String {
        let made = self.post("/workspaces", body).await.ok();
        made["id"].as_str().expect("it has an id").to_owned()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.request(Method::POST, path, Some(body)).await
    }

    /// Opens an event stream that begins after the event with this number.
    pub async fn stream(&self, path: &str, last: Option<i64>) -> Stream {
        let mut request = self.http.get(format!("{}{path}", self.url));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.expect("the server answers");
        assert_eq!(response.status(), 200);
        Stream { response, text: String::new() }
    }

    /// The raw answer to a WebSocket handshake.
    pub async fn upgrade(&self, headers: &[(&str, &str)]) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let address = self.url.trim_start_matches("http://");
        let mut socket = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let mut request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        socket.write_all(format!("{request}\r\n").as_bytes()).await.expect("it reads");
        let mut answer = vec![0; 4096];
        let size = socket.read(&mut answer).await.expect("it answers");
        String::from_utf8_lossy(&answer[..size]).into_owned()
    }

    pub async fn guest(&self, name: &str) -> Value {
        self.get(&format!("/admin/guests/{name}")).await.ok()
    }

    pub async fn push(&self, name: &str, component: &[u8], activate: bool) -> Answer {
        let url = format!("{}/admin/guests/{name}/releases?activate={activate}", self.url);
        Answer::read(self.http.post(url).body(component.to_vec()).send().await.expect("the server answers"))
            .await
    }

    pub async fn activate(&self, name: &str, digest: &str) -> Answer {
        self.post(&format!("/admin/guests/{name}/activate"), json!({ "release": digest })).await
    }

    pub async fn settings(&self, name: &str, settings: Value) -> Answer {
        self.request(Method::PUT, &format!("/admin/guests/{name}/settings"), Some(settings)).await
    }

    pub async fn call(&self, name: &str, function: &str, input: Value) -> Answer {
        self.post(&format!("/admin/guests/{name}/call"), json!({ "function": function, "input": input }))
            .await
    }

    /// Calls `synthetic-reply` with this text.
    pub async fn send_text(&self, name: &str, text: &str) -> Answer {
        let input = json!({ "workspace_id": "w", "request_id": "1", "text": text });
        self.call(name, "synthetic-reply", input).await
    }

    /// The reply to `hello`. Fails unless the guest answers.
    pub async fn reply(&self, name: &str) -> String {
        let called = self.send_text(name, "hello").await.ok();
        called["answer"][0].as_str().expect("a reply is text").to_owned()
    }

    pub async fn metrics(&self) -> String {
        let response =
            self.http.get(format!("{}/metrics", self.url)).send().await.expect("the server answers");
        response.text().await.expect("metrics are text")
    }

    /// The value of a series. Labels are part of its name.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.metrics().await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?.to_owned();
        line.parse().ok()
    }

    /// Creates a workspace whose agent has this URL.
    pub async fn agent_at(&self, url: &str) -> String {
        self.workspace(json!({ "name": "Agent", "runtime": "external", "url": url })).await
    }

    /// Activity of a workspace, newest first.
    pub async fn activity(&self, id: &str) -> Vec<Value> {
        self.get(&format!("/workspaces/{id}/activity")).await.ok().as_array().expect("a list").clone()
    }

    /// Waits until this many deliveries have ended, and returns the row of the last of them. There may be more by
    /// then.
    pub async fn ended_row(&self, id: &str, count: usize) -> Value {
        let mut found = None;
        self.until("the row is there", async |server| {
            let mut rows = server.activity(id).await;
            rows.retain(|row| row["status"] != "pending");
            found = rows.len().checked_sub(count).map(|at| rows.swap_remove(at));
            found.is_some()
        })
        .await;
        found.expect("it was found")
    }

    /// A connection to the database beside those of the server.
    pub async fn connect(&self) -> DatabaseConnection {
        let file = || format!("sqlite:{}", self.data.path().join("isomer.db").display());
        let url = self.database().postgres_url().unwrap_or_else(file);
        sea_orm::Database::connect(url).await.expect("the database accepts connections")
    }

    /// Polls until `satisfied`. Fails with `what` and the log after a minute.
    pub async fn until(&self, what: &str, mut satisfied: impl AsyncFnMut(&Self) -> bool) {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while !satisfied(self).await {
            assert!(Instant::now() < deadline, "never happened: {what}\n{}", self.log());
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number that a query returns.
pub async fn select_number(database: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let row = database.query_one_raw(statement).await.expect("it can be read").expect("a row");
    row.try_get_by_index(0).expect("a number")
}

/// An open event stream.
pub struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    pub fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The next message, without the blank line that ends it.
    pub async fn message(&mut self) -> String {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let message = message.to_owned();
                self.text = rest.to_owned();
                return message;
            }
            assert!(self.more().await, "the stream ended: {}", self.text);
        }
    }

    /// Reads the stream to its end.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        std::mem::take(&mut self.text)
    }

    async fn more(&mut self) -> bool {
        let chunk = tokio::time::timeout(WAIT_TIMEOUT, self.response.chunk())
            .await
            .expect("the next chunk arrives in time");
        let Some(bytes) = chunk.expect("the stream works") else { return false };
        self.text.push_str(&String::from_utf8_lossy(&bytes));
        true
    }
}

impl Answer {
    pub async fn read(response: reqwest::Response) -> Self {
        let status = response.status();
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let body = response.bytes().await.expect("the answer has a body");
        let json = serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)));
        Self { status, retry_after, json }
    }

    /// The JSON of an answer that must be a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, self.json);
        self.json
    }

    /// The error text of an answer that must have this status.
    #[track_caller]
    pub fn error(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.json);
        self.json["error"].as_str().expect("an error has a text")
    }
}

/// Collects the output of a process on a thread.
fn collect(stream: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut log = into.lock().expect("not poisoned");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// Files in a directory, by name.
pub fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("the directory exists")
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
