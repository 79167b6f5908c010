//! A `PgBouncer` in front of a Postgres server.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{Cluster, cluster::postgres_user, free_port, signal, until_listening};

/// Where Debian installs it.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A running `PgBouncer`. Dropping the value stops it.
pub struct PgBouncer {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl PgBouncer {
    /// Starts it with these lines of configuration.
    ///
    /// # Panics
    /// Where it isn't installed. Tests that need it are in modules named `own_pgbouncer`, which the runner leaves
    /// out there.
    #[must_use]
    pub fn start(cluster: &Cluster, lines: &str) -> Self {
        assert!(Path::new(PROGRAM).exists(), "PgBouncer is installed as {PROGRAM}");
        let directory = tempfile::Builder::new().prefix("pgbouncer-").tempdir().expect("a directory");
        let port = free_port();
        let file = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\n{lines}\n",
            cluster.port()
        );
        fs::write(&file, text).expect("written");
        let mut command = Command::new(PROGRAM);
        command.arg("--quiet").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It refuses to run as root.
        if fs::metadata("/proc/self").expect("Linux has /proc").uid() == 0 {
            let (uid, gid) = postgres_user();
            for path in [directory.path(), &file] {
                chown(path, Some(uid), Some(gid)).expect("root may change owners");
            }
            command.uid(uid).gid(gid);
        }
        let child = command.current_dir(directory.path()).spawn().expect("it starts");
        let mut pgbouncer = Self { child, port, _directory: directory };
        until_listening(&mut pgbouncer.child, port, String::new);
        pgbouncer
    }

    /// Address of the cluster's database, through it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        signal(&self.child, crate::Signal::KILL);
        let _ = self.child.wait();
    }
}
