//! A Postgres of a test's own, to be killed, frozen and started again.

use std::{
    env, fs,
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// Root can't run Postgres; it runs it as this user then.
const POSTGRES: &str = "postgres";

/// A running cluster. Ends with the value.
pub struct Cluster {
    directory: TempDir,
    binaries: PathBuf,
    port: u16,
    /// User and group to run it as, where we are root.
    user: Option<(u32, u32)>,
}

impl Cluster {
    /// A new cluster with one empty database. None where Postgres isn't installed, which only a
    /// developer's machine may do.
    pub fn start() -> Option<Self> {
        let Some(binaries) = binaries() else {
            assert!(env::var_os("CI").is_none(), "Postgres must be installed in CI");
            eprintln!("not run: Postgres isn't installed");
            return None;
        };
        let directory =
            tempfile::Builder::new().prefix("isomer-pg-").tempdir_in("/tmp").expect("a directory");
        let user = (effective_user() == 0).then(postgres_user);
        if let Some((uid, gid)) = user {
            chown(directory.path(), Some(uid), Some(gid)).expect("root may");
        }
        let port = free_port();
        let cluster = Self { directory, binaries, port, user };
        cluster.run("initdb", &["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]);
        cluster.up();
        Some(cluster)
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it, after it ended.
    pub fn up(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off",
            self.port,
            self.data().display()
        );
        self.run("pg_ctl", &["start", "--wait", "--silent", "--options", &options]);
    }

    /// Every process of it dies at once, as by kill -9 of them all.
    pub fn kill(&self) {
        self.signal("KILL");
    }

    /// Every process of it stops where it is.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// And goes on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn signal(&self, name: &str) {
        for pid in self.processes() {
            let _ = Command::new("kill").args(["-s", name, &pid]).stderr(Stdio::null()).status();
        }
    }

    /// The postmaster, which its own file names, then its children.
    fn processes(&self) -> Vec<String> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let Some(postmaster) = file.lines().next() else {
            return Vec::new();
        };
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
        let children = children.unwrap_or_default();
        std::iter::once(postmaster.to_owned()).chain(children.split_whitespace().map(str::to_owned)).collect()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.binaries.join(program));
        command.arg("--pgdata").arg(self.data()).args(arguments).current_dir(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if program == "pg_ctl" {
            command.arg("--log").arg(self.directory.path().join("log"));
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        assert!(command.status().expect("it is installed").success(), "{program} failed");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.thaw();
        self.kill();
    }
}

fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    found.sort();
    found.into_iter().rev().find(|bin| bin.join("initdb").exists())
}

fn effective_user() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").expect("we are a process").uid()
}

fn postgres_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("users are listed");
    let line =
        users.lines().find(|line| line.starts_with(&format!("{POSTGRES}:"))).expect("Postgres has a user");
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().expect("a number"), fields[3].parse().expect("a number"))
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}
