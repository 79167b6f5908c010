//! Starts and stops of the program: both end in bounded time, whatever its surroundings do.

use std::io::{Read, Write, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use httpd::serve::{Limits, Routes, serve};
use httpd::shutdown::Shutdown;
use isomer::settings::Settings;
use isomer::wiring;
use sea_orm::{ConnectionTrait, TransactionTrait};
use support::{Database, Signal, free_port, program, signal};

use crate::transport::program::{Program, health};
use crate::transport::wire::{Client, PATIENT, request};

const UNAVAILABLE: &str =
    r#"{"code":"platform_unavailable","error":"platform datastore unavailable — retry shortly"}"#;

// === Stops ===

#[tokio::test]
async fn a_stop_is_quick_and_warns_of_nothing() {
    let mut program = Program::start(&[]);
    assert_eq!(health(program.address).await, 200);
    let begun = Instant::now();
    program.signal(Signal::TERM);
    let (code, log) = program.ended();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}: {log}", begun.elapsed());
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("in time"), "{log}");
}

#[tokio::test]
async fn a_log_reader_that_stalls_does_not_hold_up_the_stop() {
    let (reader, mut filler) = pipe().expect("a pipe");
    let log = filler.try_clone().expect("a file descriptor");
    // Keeps the pipe full until its reader is gone.
    std::thread::spawn(move || while filler.write_all(&[b'\n'; 4096]).is_ok() {});
    let mut program = Program::start_logging_to(log.into(), "exec \"$0\" serve", &[]);
    assert_eq!(health(program.address).await, 200);
    let begun = Instant::now();
    program.signal(Signal::TERM);
    assert_eq!(program.ended().0, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    drop(reader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_second_signal_ends_the_wait_for_a_database_that_stalls() {
    let database = Database::postgres().await;
    let mut program = Program::start(&[("DATABASE_URL", &database.url())]);
    let connection = database.raw().await;
    let lock = connection.begin().await.expect("a transaction");
    lock.execute_unprepared("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    program.signal(Signal::TERM);
    assert!(program.log.iter().any(|line| line.contains("a second signal stops at once")));
    let begun = Instant::now();
    program.signal(Signal::TERM);
    let (code, log) = program.ended();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {log}", begun.elapsed());
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopping at once"), "{log}");
    lock.rollback().await.expect("unlocked");
}

// === Starts ===

/// A server that waits for its database: a socket that takes connections, and answers nothing until told.
struct Starting {
    child: Child,
    address: SocketAddr,
    fail: Sender<()>,
    _data: tempfile::TempDir,
}

impl Starting {
    async fn new() -> Self {
        let database = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("postgres://u@{}/d", database.local_addr().expect("an address"));
        let (fail, failed) = mpsc::channel();
        let (connected, waits) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let (mut socket, _) = database.accept().expect("the program connects");
            connected.send(()).expect("the test waits");
            if failed.recv().is_ok() {
                // No answer of the Postgres protocol.
                socket.write_all(b"?").expect("the program reads");
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let data = tempfile::tempdir().expect("a directory");
        let child = program()
            .arg("serve")
            .args(["--bind-addr", "127.0.0.1", "--port", &address.port().to_string()])
            .env("DATABASE_URL", url)
            .env("DATA_DIR", data.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        waits.await.expect("it connects");
        Self { child, address, fail, _data: data }
    }

    /// A connection whose request waits for the routes.
    async fn waiting(&self) -> Client {
        let mut client = Client::connect(self.address).await;
        // The first answer proves that the server reads this connection.
        let requests = ["/health", "/workspaces"].map(|path| request("GET", path, &[], ""));
        client.write(&requests.concat()).await;
        assert_eq!(client.answer().await.status(), 200);
        client
    }

    /// Exit code, output, and log.
    fn ended(&mut self) -> (Option<i32>, String, String) {
        let (mut output, mut log) = (String::new(), String::new());
        self.child.stdout.take().expect("piped").read_to_string(&mut output).expect("UTF-8");
        self.child.stderr.take().expect("piped").read_to_string(&mut log).expect("UTF-8");
        (self.child.wait().expect("ended").code(), output, log)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_the_start_stops_the_program() {
    let mut starting = Starting::new().await;
    let mut client = starting.waiting().await;
    signal(&starting.child, Signal::TERM);
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.body.as_str()), (503, UNAVAILABLE));
    drop(client);
    let (code, output, log) = starting.ended();
    assert_eq!((code, output.as_str()), (Some(0), ""), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_start_that_fails_get_503() {
    let mut starting = Starting::new().await;
    let mut client = starting.waiting().await;
    starting.fail.send(()).expect("the database waits");
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.body.as_str()), (503, UNAVAILABLE));
    drop(client);
    let (code, output, log) = starting.ended();
    assert_eq!((code, output.as_str()), (Some(1), ""), "{log}");
    assert!(log.contains("isomer: cannot open the database"), "{log}");
    assert!(TcpStream::connect(starting.address).is_err());
}

#[tokio::test]
async fn a_request_waits_for_the_routes_for_a_bounded_time() {
    let settings = Settings::from_flags(["--molecule-org-id", "org"]).expect("valid flags");
    let http = wiring::http_parts(&settings).expect("the only recorder");
    let routes = Routes::starting(&api::health::EARLY, wiring::early_router(&settings, &http));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let limits = Limits { start: Duration::from_millis(50), ..PATIENT };
    tokio::spawn(serve(listener, routes, limits, Default::default(), Shutdown::default()));
    for (path, status) in [("/health", 200), ("/healthz", 200), ("/", 503), ("/workspaces", 503)] {
        let mut client = Client::connect(address).await;
        client.write(&request("GET", path, &["X-Molecule-Org-Id: org"], "")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.header("x-request-id").is_some(), "{path}");
        if status == 503 {
            assert_eq!(answer.body, UNAVAILABLE);
        }
    }
}

#[test]
fn settings_are_checked_before_the_program_listens() {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join("file");
    std::fs::write(&file, "").expect("written");
    let file = file.to_str().expect("UTF-8");
    for (variables, reason) in [
        (vec![("MOLECULE_ENV", "production")], "SECRETS_ENCRYPTION_KEY is not set"),
        (vec![("GUESTS_DIR", file)], "can't be watched"),
    ] {
        let output = program()
            .args(["serve", "--bind-addr", "127.0.0.1", "--port", "0"])
            .env("DATA_DIR", data.path().join("data"))
            .envs(variables)
            .output()
            .expect("ran");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]), "{errors}");
        assert!(errors.contains(reason), "{errors}");
    }
}
