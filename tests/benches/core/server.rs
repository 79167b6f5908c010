//! The program under load, with its CPU time.

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::bare;

/// Ticks of `/proc/PID/stat` a second, on every Linux there is.
const TICKS: f64 = 100.0;

pub struct Server {
    pub address: String,
    child: Child,
}

impl Server {
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// With settings of its own. Its log goes to a file in `data`.
    pub fn start_with(data: &Path, env: &[(&str, &str)]) -> Self {
        let log = File::create(data.join("server.log")).expect("a file");
        let mut program = Command::new(support::program_file());
        program
            .arg("serve")
            .env_clear()
            .env("DATA_DIR", data)
            .env("PORT", "0")
            .env("MOLECULE_ENV", "development")
            .env("RUST_LOG", "warn")
            .envs(env.iter().copied())
            .stderr(log);
        Self::spawn(&mut program)
    }

    /// A service of nothing but hyper.
    pub fn bare() -> Self {
        let this = env::current_exe().expect("a process knows its file");
        Self::spawn(Command::new(this).arg(bare::ARGUMENT).stderr(Stdio::inherit()))
    }

    fn spawn(program: &mut Command) -> Self {
        let mut child = program.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim().rsplit_once("http://").expect("an address").1.to_owned();
        Self { address, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time so far, user and system.
    pub fn cpu(&self) -> Duration {
        cpu_of(&self.pid().to_string()).expect("it runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time so far of all Postgres processes on this machine, which must run no other Postgres under load.
pub fn postgres_cpu() -> Duration {
    let processes = fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let is_postgres = |pid: &String| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
    };
    pids.filter(is_postgres).filter_map(|pid| cpu_of(&pid)).sum()
}

fn cpu_of(pid: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|at: &usize| fields.get(*at)?.parse::<f64>().ok()).sum();
    Some(Duration::from_secs_f64(ticks / TICKS))
}
