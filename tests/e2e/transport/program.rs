//! The program as an operator runs it: variables, welcome text, signals, file descriptors.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use support::{Database, Signal, compiled_guests, on_both_databases, program_file};

use crate::transport::wire::{Client, WAIT_TIMEOUT, request};

/// A running `isomer serve` in a directory of its own.
pub(super) struct Program {
    child: Child,
    /// The first line of its output, which ends with the address.
    welcome: String,
    pub(super) address: SocketAddr,
    /// Lines of its log. They are read all the time, because a program blocks on a full pipe.
    pub(super) log: Receiver<String>,
    _data: tempfile::TempDir,
}

impl Program {
    pub(super) fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_through("exec \"$0\" serve", variables)
    }

    /// Starts a shell command that gets the program as `$0`.
    fn start_through(line: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_logging_to(Stdio::piped(), line, variables)
    }

    /// The same with another standard error. Without a pipe the log is empty.
    pub(super) fn start_logging_to(log: Stdio, line: &str, variables: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let mut child = Command::new("sh")
            .args(["-c", line])
            .arg(program_file())
            .env_clear()
            .env("DATA_DIR", data.path().join("made/by/it"))
            .env("GUEST_CACHE_DIR", compiled_guests())
            .env("BIND_ADDR", "127.0.0.1")
            .env("PORT", "0")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("started");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut welcome = String::new();
        output.read_line(&mut welcome).expect("a line");
        let address = welcome.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.expect(&welcome).parse().expect(&welcome);
        let (sender, log) = mpsc::channel();
        if let Some(log) = child.stderr.take() {
            let lines = BufReader::new(log).lines().map_while(Result::ok);
            std::thread::spawn(move || lines.for_each(|line| drop(sender.send(line))));
        }
        Self { child, welcome, address, log, _data: data }
    }

    pub(super) fn signal(&self, name: Signal) {
        support::signal(&self.child, name);
    }

    /// Waits for the end. Returns the exit code and the log.
    pub(super) fn ended(&mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("ended").code();
        (code, self.log.iter().collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) async fn health(address: SocketAddr) -> u16 {
    let mut client = Client::connect(address).await;
    client.write(&request("GET", "/health", &[], "")).await;
    client.answer().await.status()
}

#[tokio::test]
async fn the_program_prints_its_address_and_stops_on_sigterm() {
    let mut program = Program::start(&[]);
    assert!(program.welcome.starts_with("Isomer is listening on http://127.0.0.1:"));
    assert!(program._data.path().join("made/by/it").is_dir());
    assert_eq!(health(program.address).await, 200);
    program.signal(Signal::TERM);
    let (code, log) = program.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");
    assert!(log.contains("ADMIN_TOKEN is not set"), "{log}");
}

#[tokio::test]
async fn a_second_signal_stops_the_program_at_once() {
    let mut program = Program::start(&[]);
    let mut open = Client::connect(program.address).await;
    open.write("GET /health HTTP/1.1\r\n").await;
    // The incomplete request delays the shutdown. An answer on a later connection proves that it was accepted.
    assert_eq!(health(program.address).await, 200);
    program.signal(Signal::INT);
    // The listener closes on the first signal. Without this wait, the kernel may merge both signals.
    while TcpStream::connect(program.address).is_ok() {
        tokio::task::yield_now().await;
    }
    program.signal(Signal::INT);
    let (code, log) = program.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopping at once"), "{log}");
}

#[tokio::test]
async fn blank_variables_count_as_unset() {
    let blank = [
        "CORS_ORIGINS",
        "CANVAS_PROXY_URL",
        "LOG_FORMAT",
        "MOLECULE_ORG_ID",
        "RATE_LIMIT",
        "TRUSTED_PROXIES",
    ];
    let blank = blank.map(|name| (name, " "));
    let program = Program::start(&[&blank[..], &[("ADMIN_TOKEN", "")]].concat());
    let mut client = Client::connect(program.address).await;
    client.write(&request("GET", "/nothing", &["Origin: http://localhost:3000"], "")).await;
    let answer = client.answer().await;
    assert_eq!(answer.body, "404 page not found", "{answer:?}");
}

#[test]
fn bad_settings_are_explained_instead_of_ignored() {
    for (variable, value, reason) in [
        ("RATE_LIMIT", "0", "must be a whole number from 1"),
        ("RATE_LIMIT", "ten", "must be a whole number from 1"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, lan", "`lan` is neither an address"),
        ("CORS_ORIGINS", "https://*.example", "`https://*.example` is not an origin"),
        ("CORS_ORIGINS", "https://a.example,b.example", "`b.example` is not an origin"),
        ("PLATFORM_URL", "isomer:8080", "must be a URL such as"),
        ("EXTERNAL_PLATFORM_URL", "/base", "must be a URL such as"),
        ("CANVAS_PROXY_URL", "localhost:3000", "must be a URL such as"),
        ("CANVAS_PROXY_URL", "http://localhost:8080", "CANVAS_PROXY_URL is this server's own address"),
        ("PLATFORM_URL", "http://a.example:99999", "must have a port from 1 to 65535"),
        ("CORS_ORIGINS", ",,", "names no origin"),
    ] {
        let mut program = Command::new(program_file());
        let output = program.arg("serve").env_clear().env(variable, value).output().expect("ran");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{errors}");
        assert!(errors.contains(reason), "{errors}");
    }
}

#[test]
fn settings_without_effect_are_named_at_the_start() {
    let variables = [
        ("MOLECULE_ENV", "developement"),
        ("CONFIGS_DIR", "/no/such/directory"),
        ("REDIS_URL", "redis://u:hunter2@localhost"),
        ("RUST_LOG", "info,isomer=loud"),
    ];
    let mut program = Program::start(&variables);
    program.signal(Signal::TERM);
    let (code, log) = program.ended();
    assert_eq!(code, Some(0), "{log}");
    for text in [
        "MOLECULE_ENV=developement has no effect",
        "CONFIGS_DIR is not a directory that can be read: /no/such/directory",
        "without effect in this version of Isomer: REDIS_URL",
        "a part of RUST_LOG",
        "isomer=loud",
    ] {
        assert!(log.contains(text), "{text} in {log}");
    }
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn in_development_mode_only_names_of_this_machine_are_answered() {
    let variables = [("MOLECULE_ENV", "dev"), ("EXTERNAL_PLATFORM_URL", "https://isomer.example")];
    let open = Program::start(&variables);
    let production = Program::start(&[]);
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:8080", 200),
        ("host.docker.internal:8080", 200),
        ("isomer.example", 200),
        ("rebound.evil.example:8080", 421),
    ] {
        for (program, expected) in [(&open, status), (&production, 200)] {
            let mut client = Client::connect(program.address).await;
            let origin = format!("Origin: http://{host}");
            let text = format!("GET /workspaces HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n\r\n");
            client.write(&text).await;
            let answer = client.answer().await;
            assert_eq!(answer.status(), expected, "{host}: {answer:?}");
            if expected == 421 {
                assert!(answer.body.contains("EXTERNAL_PLATFORM_URL"), "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_log_names_the_exhausted_budget_without_the_token() {
    let variables = [
        ("ADMIN_TOKEN", "hunter2"),
        ("RATE_LIMIT", "1"),
        ("TRUSTED_PROXIES", "127.0.0.0/8"),
        ("RUST_LOG", "debug"),
    ];
    let mut program = Program::start(&variables);
    for expected in [200, 429] {
        let mut client = Client::connect(program.address).await;
        let headers = ["Authorization: Bearer hunter2", "X-Forwarded-For: 203.0.113.7"];
        client.write(&request("GET", "/health", &headers, "")).await;
        assert_eq!(client.answer().await.status(), expected);
    }
    program.signal(Signal::TERM);
    let (_, log) = program.ended();
    let line = log.lines().find(|line| line.contains("refused by rate limit")).expect(&log);
    for part in ["limiter=\"global\"", "by=\"token\"", "client=203.0.113.7"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!log.contains("hunter2"), "{log}");
}

/// Every background task reports progress when it starts.
#[tokio::test]
async fn all_background_tasks_report_progress() {
    let guests = tempfile::tempdir().expect("a directory");
    let path = guests.path().to_str().expect("UTF-8");
    let program = Program::start(&[("MOLECULE_ENV", "dev"), ("GUESTS_DIR", path)]);
    let expected = [
        "a2a-lease",
        "a2a-queue",
        "activity-retention",
        "broadcaster",
        "event-retention",
        "guest-audit",
        "guest-component-sweep",
        "guest-counters",
        "guest-replication",
        "guests-folder",
        "live-events",
        "metrics-upkeep",
        "rate-limit-sweep",
        "reconciler",
    ];
    let all_started = async {
        loop {
            let mut client = Client::connect(program.address).await;
            client.write(&request("GET", "/admin/liveness", &[], "")).await;
            let body: serde_json::Value = serde_json::from_str(&client.answer().await.body).expect("JSON");
            let subsystems = body["subsystems"].as_object().expect("an object");
            if subsystems.keys().eq(expected) {
                assert!(subsystems.values().all(|one| one["stale"] == false && one["restarts"] == 0));
                return;
            }
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, all_started).await.expect("all tasks start");
}

#[tokio::test]
async fn the_program_survives_running_out_of_file_descriptors() {
    // More connections than descriptors, which the log warns of.
    let variables = [("MAX_CONNECTIONS", "1000")];
    let program = Program::start_through("ulimit -n 40; exec \"$0\" serve", &variables);
    assert!(program.log.iter().any(|line| line.contains("MAX_CONNECTIONS=1000 is more than 40")));
    let crowd: Vec<TcpStream> =
        (0..80).map(|_| TcpStream::connect(program.address).expect("queued by the kernel")).collect();
    assert!(program.log.iter().any(|line| line.contains("cannot accept connections")));
    drop(crowd);
    assert_eq!(health(program.address).await, 200);
}

on_both_databases! {
    /// An attack that took the whole server at the usual limit: connections that send one byte and wait. A database in
    /// another process takes descriptors, too.
    async fn more_idle_connections_than_descriptors_lock_out_nobody_and_no_database(database: Database) {
        let mut variables = vec![("ADMIN_TOKEN", "secret")];
        let url = database.postgres_url();
        variables.extend(url.as_deref().map(|url| ("DATABASE_URL", url)));
        let program = Program::start_through("ulimit -n 1024; exec \"$0\" serve", &variables);
        assert!(program.log.iter().any(|line| line.contains("at most 384 connections")));
        let mut crowd = Vec::new();
        for _ in 0..1_100 {
            let mut stranger = Client::connect(program.address).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stranger.0, b"G").await;
            crowd.push(stranger);
        }
        let token = "Authorization: Bearer secret";
        for number in 0..20 {
            let mut client = Client::connect(program.address).await;
            let body = format!(r#"{{"name":"W{number}","runtime":"mock"}}"#);
            client.write(&request("POST", "/workspaces", &[token], &body)).await;
            assert_eq!(client.answer().await.status(), 201);
            crowd.push(client);
        }
        let log: Vec<String> = program.log.try_iter().collect();
        assert!(!log.iter().any(|line| line.contains("cannot accept")), "{log:?}");
    }
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let program = Program::start_through("ulimit -Sn 100; ulimit -Hn 900; exec \"$0\" serve", &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.child.id())).expect("Linux");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let numbers: Vec<&str> = files.split_whitespace().filter(|word| word.parse::<u32>().is_ok()).collect();
    assert_eq!(numbers, ["900", "900"]);
}

#[tokio::test]
async fn the_log_names_routes_and_no_secrets() {
    let mut program = Program::start(&[("ADMIN_TOKEN", "hunter2"), ("RUST_LOG", "debug")]);
    let mut client = Client::connect(program.address).await;
    let headers = ["Authorization: Bearer hunter2", "Cookie: session=hunter2"];
    client.write(&request("GET", "/health?token=hunter2", &headers, "")).await;
    let answer = client.answer().await;
    drop(client);
    program.signal(Signal::TERM);
    let (_, log) = program.ended();
    let line = log.lines().find(|line| line.contains("answered")).expect(&log);
    let id = answer.header("x-request-id").expect("an id");
    for part in [id, "method=GET", "route=\"/health\"", "status=200", "latency_us="] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn with_json_logs_every_line_is_json() {
    let data = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(program_file())
        .args(["serve", "--bind-addr", "127.0.0.1", "--port", "0", "--log-format", "json"])
        .env_clear()
        .env("DATA_DIR", data.path())
        .env("GUEST_CACHE_DIR", compiled_guests())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let log = child.stderr.take().expect("piped");
    let mut events = BufReader::new(log).lines().map(|line| {
        let line = line.expect("a line");
        serde_json::from_str::<serde_json::Value>(&line).expect(&line)
    });
    let event = events.find(|event| event["message"] == "listening").expect("the address is logged");
    child.kill().expect("killed");
    let output = child.wait_with_output().expect("ended");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(event["mode"], "production");
    assert!(event["address"].as_str().is_some_and(|a| a.starts_with("127.0.0.1:")));
}

#[test]
fn a_port_in_use_is_explained() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let data = tempfile::tempdir().expect("a directory");
    let output = Command::new(program_file())
        .args(["serve", "--bind-addr", "127.0.0.1", "--port", &port])
        .env_clear()
        .env("DATA_DIR", data.path())
        .env("GUEST_CACHE_DIR", compiled_guests())
        .output()
        .expect("ran");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains(&format!("cannot listen on 127.0.0.1 port {port}")), "{errors}");
    assert!(errors.contains("in use"), "{errors}");
}

#[test]
fn the_help_lists_every_setting_and_no_secrets() {
    let output = Command::new(program_file())
        .args(["serve", "--help"])
        .env("ADMIN_TOKEN", "hunter2")
        .env("DATABASE_URL", "postgres://u:hunter2@h/d")
        .output()
        .expect("ran");
    let help = String::from_utf8_lossy(&output.stdout);
    for name in [
        "BIND_ADDR",
        "PORT",
        "ADMIN_TOKEN",
        "MOLECULE_ENV",
        "DATA_DIR",
        "DATABASE_URL",
        "GUESTS_DIR",
        "MOLECULE_ORG_ID",
        "CORS_ORIGINS",
        "CANVAS_PROXY_URL",
        "PLATFORM_URL",
        "LOG_FORMAT",
        "RATE_LIMIT",
        "TRUSTED_PROXIES",
        "RUST_LOG",
    ] {
        assert!(help.contains(name), "{name} in\n{help}");
    }
    assert!(!help.contains("hunter2"), "{help}");
}
