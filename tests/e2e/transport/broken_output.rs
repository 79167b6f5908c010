//! Standard output and error that can't be written: full devices, pipes without a reader, pipes whose reader
//! stalls. No request, stop or command depends on them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _, pipe};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Signal, compiled_guests, free_port, program, signal, until_listening};
use tokio::time::timeout;

use crate::transport::wire::{Client, WAIT_TIMEOUT, request};

/// How long a stop may take, with the time that a flush waits for a reader that stalls.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// A server with these outputs.
struct Program {
    child: Child,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Program {
    fn start(output: Stdio, log: Stdio, variables: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = program()
            .args(["serve", "--bind-addr", "127.0.0.1", "--port", &address.port().to_string()])
            .env("DATA_DIR", data.path())
            .env("GUEST_CACHE_DIR", compiled_guests())
            .env("MOLECULE_ENV", "dev")
            .envs(variables.iter().copied())
            .stdout(output)
            .stderr(log)
            .spawn()
            .expect("started");
        let mut program = Self { child, address, _data: data };
        until_listening(&mut program.child, address.port(), String::new);
        program
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let mut client = Client::connect(self.address).await;
        client.write(&request("GET", path, &[], "")).await;
        let answer = client.answer().await;
        (answer.status(), answer.body)
    }

    async fn dropped(&self) -> u64 {
        let (_, metrics) = self.get("/metrics").await;
        let value = metrics.lines().find_map(|line| line.strip_prefix("isomer_log_lines_dropped_total "));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Sends requests until log lines are dropped.
    async fn until_lines_are_dropped(&self) {
        let dropping = async { while self.dropped().await == 0 {} };
        timeout(WAIT_TIMEOUT, dropping).await.expect("lines are dropped and counted");
    }

    fn stops_in_order(mut self) {
        let begun = Instant::now();
        signal(&self.child, Signal::TERM);
        let status = self.child.wait().expect("ended");
        assert!(status.success(), "{status}");
        assert!(begun.elapsed() < STOP_LIMIT, "{:?}", begun.elapsed());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn full_device() -> Stdio {
    File::create("/dev/full").expect("Linux has it").into()
}

fn pipe_without_reader() -> Stdio {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// A pipe that stays full until its reader is dropped.
fn stalled_pipe() -> (PipeReader, Stdio) {
    let (reader, mut filler) = pipe().expect("a pipe");
    let writer = filler.try_clone().expect("a file descriptor");
    std::thread::spawn(move || while filler.write_all(&[b'\n'; 4096]).is_ok() {});
    (reader, writer.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_stops_work_when_the_output_fails() {
    for (name, output, log) in [
        ("full device", full_device(), full_device()),
        ("no reader", pipe_without_reader(), pipe_without_reader()),
        ("closed", Stdio::null(), pipe_without_reader()),
    ] {
        let program = Program::start(output, log, &[("RUST_LOG", "!!,debug")]);
        for (path, status) in [("/health", 200), ("/workspaces", 200), ("/nothing", 404)] {
            assert_eq!(program.get(path).await.0, status, "{name}: {path}");
        }
        program.until_lines_are_dropped().await;
        program.stops_in_order();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_stops_work_when_the_readers_of_the_output_stall() {
    let (output_reader, output) = stalled_pipe();
    let (log_reader, log) = stalled_pipe();
    let program = Program::start(output, log, &[]);
    for _ in 0..3 {
        assert_eq!(program.get("/workspaces").await.0, 200);
    }
    program.stops_in_order();
    drop((output_reader, log_reader));
}

/// A log collector that restarts: the pipe has no reader for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_were_lost_are_reported_to_the_next_reader_of_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    assert!(Command::new("mkfifo").arg(&path).status().expect("ran").success());
    // Linux opens both ends without waiting for another process.
    let reader = OpenOptions::new().read(true).write(true).open(&path).expect("opened");
    let log = OpenOptions::new().write(true).open(&path).expect("opened");
    let program = Program::start(Stdio::null(), log.into(), &[]);
    drop(reader);
    program.until_lines_are_dropped().await;
    let mut lines = BufReader::new(File::open(&path).expect("opened")).lines().map_while(Result::ok);
    let reported =
        move || lines.any(|line| line.contains("log lines were dropped") && line.contains("dropped="));
    let mut reported = tokio::task::spawn_blocking(reported);
    let requests = async {
        loop {
            assert_eq!(program.get("/health").await.0, 200);
        }
    };
    tokio::select! {
        reported = timeout(WAIT_TIMEOUT, &mut reported) => {
            assert!(reported.expect("the loss is reported").expect("no panic"));
        }
        () = requests => {}
    }
    program.stops_in_order();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_end_quietly_without_a_reader_of_their_output() {
    let server = Program::start(Stdio::null(), Stdio::null(), &[]);
    let url = format!("http://{}", server.address);
    for arguments in [&["ws", "list"][..], &["ws", "list", "--json"], &["guest", "list"], &["events"]] {
        let mut command = program()
            .args(arguments)
            .env("ISOMER_URL", &url)
            .stdout(pipe_without_reader())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut errors = String::new();
        command.stderr.take().expect("piped").read_to_string(&mut errors).expect("UTF-8");
        let status = command.wait().expect("ended");
        assert_eq!((status.code(), errors.as_str()), (Some(0), ""), "{arguments:?}");
    }
    let silent = program()
        .args(["ws", "show", "nobody"])
        .env("ISOMER_URL", &url)
        .stdout(pipe_without_reader())
        .stderr(pipe_without_reader())
        .status();
    assert_eq!(silent.expect("ran").code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_whose_output_is_not_written_fail() {
    let server = Program::start(Stdio::null(), Stdio::null(), &[]);
    let url = format!("http://{}", server.address);
    let cache = compiled_guests().display().to_string();
    let unwritable = || Stdio::from(File::open("/dev/null").expect("opened"));
    for arguments in [
        &["ws", "create", "A", "--runtime", "mock"][..],
        &["ws", "list"],
        &["ws", "list", "--json"],
        &["ws", "list", "--tree"],
        &["ws", "explain", "A"],
        &["send", "A", "hello"],
        &["guest", "list"],
        &["guest", "show", "mock"],
        &["guest", "precompile", "--cache-dir", &cache],
        &["org", "templates"],
        &["events"],
        &["events", "--follow", "--since", "0"],
        &["events", "--follow", "--since", "0", "--json"],
        &["--help"],
        &["help", "serve"],
        &["ws", "create", "--help"],
        &["--version"],
    ] {
        let run = |output: Stdio| {
            let command = program()
                .args(arguments)
                .env("ISOMER_URL", &url)
                .stdout(output)
                .stderr(Stdio::piped())
                .spawn();
            let done = command.expect("started").wait_with_output().expect("ended");
            (done.status.code(), String::from_utf8(done.stderr).expect("UTF-8"))
        };
        let (code, errors) = run(full_device());
        assert_eq!(code, Some(1), "{arguments:?}: {errors}");
        let reason = "isomer: the output can't be written, so it is not complete: No space left on device";
        assert!(errors.starts_with(reason), "{arguments:?}: {errors}");
        // clap prints by `io::stdout`, which takes this output for a written one.
        let is_help = arguments.iter().any(|argument| argument.ends_with("help") || *argument == "--version");
        if !is_help {
            let (code, errors) = run(unwritable());
            assert!(code == Some(1) && errors.contains("Bad file descriptor"), "{arguments:?}: {errors}");
        }
        let (code, errors) = run(pipe_without_reader());
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{arguments:?}");
    }
}
