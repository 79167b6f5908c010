//! A Postgres server that belongs to one test, which may kill, freeze and restart it.

use std::{
    fs,
    fs::Permissions,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Certificate, free_port};

/// The user that runs Postgres where the tests run as root, which Postgres refuses.
const POSTGRES: &str = "postgres";

/// How often a start is tried, each time on another port, because another process may take a port between its
/// choice and its use.
const ATTEMPTS: u32 = 5;

/// A running Postgres server with one empty database. Dropping the value stops it.
pub struct Cluster {
    directory: TempDir,
    binaries: PathBuf,
    port: u16,
    /// User and group to run it as, where the tests run as root.
    user: Option<(u32, u32)>,
    /// Arguments of the server besides the usual ones.
    options: String,
}

impl Cluster {
    /// # Panics
    /// Where Postgres isn't installed. Tests that need it are in modules named `own_postgres`, which the
    /// runner leaves out there.
    #[must_use]
    pub fn start() -> Self {
        let mut cluster = Self::new();
        cluster.choose_port();
        cluster
    }

    /// A server that takes connections by TLS only: as `postgres` without a password.
    #[must_use]
    pub fn with_tls(certificate: &Certificate) -> Self {
        let mut cluster = Self::new();
        let rules = "hostssl all postgres all trust\nhostssl all all all scram-sha-256\n";
        for (name, text) in [
            ("server.crt", certificate.chain.as_str()),
            ("server.key", certificate.key.as_str()),
            ("pg_hba.conf", rules),
        ] {
            cluster.write(name, text);
        }
        cluster.options = " -c ssl=on".to_owned();
        cluster.choose_port();
        cluster
    }

    /// Writes a file into the data directory, as the server's user.
    fn write(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        fs::write(&path, text).expect("written");
        // Postgres refuses a key that others may read.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("changed");
        if let Some((uid, gid)) = self.user {
            chown(&path, Some(uid), Some(gid)).expect("root may change owners");
        }
    }

    fn new() -> Self {
        let binaries = binaries().expect("Postgres is installed below /usr/lib/postgresql");
        let directory = tempfile::Builder::new().prefix("postgres-").tempdir().expect("a directory");
        let root = fs::metadata("/proc/self").expect("Linux has /proc").uid() == 0;
        let user = root.then(postgres_user);
        if let Some((uid, gid)) = user {
            chown(directory.path(), Some(uid), Some(gid)).expect("root may change owners");
        }
        let cluster = Self { directory, binaries, port: 0, user, options: String::new() };
        cluster
            .run("initdb", &["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"])
            .expect("initdb succeeds");
        cluster
    }

    fn choose_port(&mut self) {
        for attempt in 1.. {
            self.port = free_port();
            match self.try_up() {
                Ok(()) => break,
                Err(error) => assert!(attempt < ATTEMPTS, "Postgres does not start: {error}"),
            }
        }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts the server again on the same port.
    pub fn up(&self) {
        self.try_up().expect("Postgres starts on its port again");
    }

    fn try_up(&self) -> Result<(), String> {
        // Shared memory in files of the data directory: System V segments would outlive a kill.
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c dynamic_shared_memory_type=mmap{}",
            self.port,
            self.data().display(),
            self.options
        );
        self.run("pg_ctl", &["start", "--wait", "--silent", "--options", &options])
    }

    /// Kills every process of the server (SIGKILL).
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops every process of the server (SIGSTOP).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues frozen processes (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            // A child may have ended since it was listed.
            let _ = kill_process(pid, signal);
        }
    }

    /// The postmaster, named by `postmaster.pid`, then its children.
    fn processes(&self) -> Vec<Pid> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let Some(postmaster) = file.lines().next() else {
            return Vec::new();
        };
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
        let children = children.unwrap_or_default();
        std::iter::once(postmaster)
            .chain(children.split_whitespace())
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        let log = self.directory.path().join("log");
        let mut command = Command::new(self.binaries.join(program));
        command.arg("--pgdata").arg(self.data()).args(arguments).current_dir(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if program == "pg_ctl" {
            command.arg("--log").arg(&log);
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let status = command.status().map_err(|error| error.to_string())?;
        if status.success() {
            return Ok(());
        }
        Err(format!("{program}: {status}\n{}", fs::read_to_string(log).unwrap_or_default()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.thaw();
        // Unlike a kill, an immediate shutdown releases the shared memory.
        if self.run("pg_ctl", &["stop", "--wait", "--silent", "--mode=immediate"]).is_err() {
            self.kill();
        }
    }
}

fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    found.sort();
    found.into_iter().rev().find(|bin| bin.join("initdb").exists())
}

pub(crate) fn postgres_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("users are listed");
    let line =
        users.lines().find(|line| line.starts_with(&format!("{POSTGRES}:"))).expect("Postgres has a user");
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().expect("a number"), fields[3].parse().expect("a number"))
}
