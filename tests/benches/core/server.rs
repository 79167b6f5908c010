//! The program under load, with its CPU time.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

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

    /// With settings of its own.
    pub fn start_with(data: &Path, env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(support::program_file())
            .arg("serve")
            .env_clear()
            .env("DATA_DIR", data)
            .env("PORT", "0")
            .env("MOLECULE_ENV", "development")
            .env("RUST_LOG", "warn")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it speaks");
        let address = line.trim().rsplit_once("http://").expect("it says where it listens").1.to_owned();
        Self { address, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time so far, user and system.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        let ticks: f64 = [11, 12].map(|at: usize| fields[at].parse::<f64>().expect("a number")).iter().sum();
        Duration::from_secs_f64(ticks / TICKS)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
