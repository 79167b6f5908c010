//! `make test`: runs `cargo test` over the workspace, and adds to libtest:
//!
//! - Tests that need Postgres are marked `#[ignore]` and run where `TEST_DATABASE_URL` is set, so that without
//!   it they count as ignored, not as passed. With it, tests for both databases must have run on both.
//! - A test that runs longer than [`watchdog::LIMIT`] is ended with its name.
//! - Several tests run at once on each core, unless `RUST_TEST_THREADS` says how many.
//! - Everything that tests leave is in one directory or has the run's name, and is removed at the end. The next
//!   run removes what a killed one left (see [`run`]).
//!
//! Arguments are passed to `cargo test`. This is libtest with a supervisor, not another harness: `cargo test -p
//! CRATE NAME` works as usual, nothing has to be installed, and unit tests are supervised, too.

#![forbid(unsafe_code)]

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Write as _},
    num::NonZeroUsize,
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

mod processes;
mod report;
mod run;
mod watchdog;

use report::Report;
use run::Run;

/// The server where tests may create databases.
const DATABASE: &str = "TEST_DATABASE_URL";

/// How many tests libtest runs at once.
const THREADS: &str = "RUST_TEST_THREADS";

/// By default, per core: an end-to-end test waits for its server for three quarters of its time.
const TESTS_PER_CORE: usize = 3;

/// Where Debian installs programs that some tests start.
const PGBOUNCER: &str = "/usr/sbin/pgbouncer";
const NGINX: &str = "/usr/sbin/nginx";

fn main() -> ExitCode {
    match test() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("run-tests: {error}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> io::Result<bool> {
    let started = Instant::now();
    let postgres = is_set(DATABASE);
    let mut skipped = Vec::new();
    if !has_postgres_programs() {
        skipped.push(("own_postgres::", "an installed Postgres"));
    }
    for (module, need, program) in
        [("own_pgbouncer::", "PgBouncer", PGBOUNCER), ("own_nginx::", "nginx", NGINX)]
    {
        if !Path::new(program).exists() {
            skipped.push((module, need));
        }
    }
    if !rustix::process::geteuid().is_root() {
        skipped.push(("as_root::", "root"));
    }
    if !has_faketime() {
        skipped.push(("faketime::", "the library faketime"));
    }
    if is_set("CI") {
        let mut missing: Vec<&str> = skipped.iter().map(|(_, need)| *need).collect();
        if !postgres {
            missing.push(DATABASE);
        }
        if !missing.is_empty() {
            return Err(io::Error::other(format!("CI must run every test; missing: {}", missing.join(", "))));
        }
    }

    let run = Run::begin()?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.args(["test", "--workspace", "--no-fail-fast"]).args(env::args_os().skip(1)).arg("--");
    if postgres {
        cargo.arg("--include-ignored");
        cargo.args(skipped.iter().flat_map(|(module, _)| ["--skip", module]));
    }
    cargo.env("TMPDIR", run.directory()).env(run::VARIABLE, run.name());
    if env::var_os(THREADS).is_none() {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        cargo.env(THREADS, (cores * TESTS_PER_CORE).to_string());
    }
    let mut child = cargo.stdout(Stdio::piped()).spawn()?;

    let report = Arc::new(Mutex::new(Report::default()));
    let watchdog = watchdog::start(Arc::clone(&report), run.name().to_owned());
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            report.lock().unwrap_or_else(PoisonError::into_inner).read(&line);
            // Output may be a closed pipe. The tests continue, because the exit code still counts.
            let _ = writeln!(io::stdout(), "{line}");
        }
    }
    let succeeded = child.wait()?.success();
    watchdog.stop();
    run.end();

    let report = report.lock().unwrap_or_else(PoisonError::into_inner);
    let complete = !postgres || report.databases_agree();
    let skipped = if postgres { skipped.as_slice() } else { &[] };
    report.print(started.elapsed(), postgres, skipped);
    Ok(succeeded && complete && !report.any_hung())
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn has_faketime() -> bool {
    let libraries = Path::new("/usr/lib").read_dir();
    libraries.is_ok_and(|mut libraries| {
        libraries
            .any(|library| library.is_ok_and(|it| it.path().join("faketime/libfaketimeMT.so.1").exists()))
    })
}

fn has_postgres_programs() -> bool {
    let versions = Path::new("/usr/lib/postgresql").read_dir();
    versions.is_ok_and(|mut versions| {
        versions.any(|version| version.is_ok_and(|version| version.path().join("bin/initdb").exists()))
    })
}
