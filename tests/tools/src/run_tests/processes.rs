//! Processes of a run, found in `/proc`: those with the run's name in their environment, and those that work in
//! its directory (Postgres overwrites its environment with its title).

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::run::VARIABLE;

/// How long Postgres may take to end and to release its shared memory.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Kills the programs that cargo built as tests, and leaves cargo to start the next one.
pub(crate) fn kill_test_programs(run: &str) {
    for pid in all() {
        let program = fs::read_link(proc(pid, "exe")).unwrap_or_default();
        if has_name(pid, run) && program.parent().is_some_and(|parent| parent.ends_with("deps")) {
            send(pid, Signal::KILL);
        }
    }
}

/// Ends every process of a run.
pub(crate) fn end_all(run: &str, directory: &Path) {
    for pid in all().filter(|pid| has_name(*pid, run)) {
        send(pid, Signal::KILL);
    }
    let works_there =
        |pid: &Pid| fs::read_link(proc(*pid, "cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    for pid in all().filter(works_there) {
        send(pid, Signal::CONT);
        // Postgres' immediate shutdown.
        send(pid, Signal::QUIT);
    }
    let started = Instant::now();
    while all().any(|pid| works_there(&pid)) && started.elapsed() < STOP_TIMEOUT {
        thread::sleep(Duration::from_millis(20));
    }
    for pid in all().filter(works_there) {
        send(pid, Signal::KILL);
    }
}

fn has_name(pid: Pid, run: &str) -> bool {
    let environment = fs::read(proc(pid, "environ")).unwrap_or_default();
    let wanted = format!("{VARIABLE}={run}");
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

fn send(pid: Pid, signal: Signal) {
    // The process may have ended since it was listed.
    let _ = kill_process(pid, signal);
}

fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

fn proc(pid: Pid, file: &str) -> String {
    format!("/proc/{}/{file}", pid.as_raw_nonzero())
}
