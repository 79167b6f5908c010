//! The program as a whole: time from its start to the first answer, and idle memory.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::median;

pub fn start_and_idle() {
    let data = tempfile::tempdir().expect("a directory");
    let cold = {
        let (mut child, time) = start(data.path());
        end(&mut child);
        time
    };
    let mut warm = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..11 {
        let (mut child, time) = start(data.path());
        warm.push(time);
        idle.push(resident(&child));
        end(&mut child);
    }
    idle.sort_unstable();
    println!(
        "start to first /health: cold cache {cold:.0?}, warm cache {:.1?} (median of 11)",
        median(&mut warm)
    );
    println!("idle resident memory: {:.1} MB (median of 11)", idle[idle.len() / 2] as f64 / 1e6);
}

fn start(data: &Path) -> (Child, Duration) {
    let port = support::free_port();
    let started = Instant::now();
    let mut child = Command::new(support::program_file())
        .arg("serve")
        .env_clear()
        .env("DATA_DIR", data)
        .env("PORT", port.to_string())
        .env("BIND_ADDR", "127.0.0.1")
        .env("MOLECULE_ENV", "development")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    // It prints its address only when all routes are ready.
    let mut socket = support::until_listening(&mut child, port, String::new);
    socket
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    (child, started.elapsed())
}

fn resident(child: &Child) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux reports it");
    let kib: usize = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kib << 10
}

fn end(child: &mut Child) {
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}
