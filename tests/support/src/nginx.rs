//! An nginx of a test, as a reverse proxy.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{free_port, until_listening};

/// Where Debian installs it.
const PROGRAM: &str = "/usr/sbin/nginx";

/// A running nginx. Dropping the value stops it.
pub struct Nginx {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Nginx {
    /// Starts it with these `location` blocks.
    ///
    /// # Panics
    /// Where it isn't installed. Tests that need it are in modules named `own_nginx`, which the runner leaves out
    /// there.
    #[must_use]
    pub fn start(port: u16, locations: &str) -> Self {
        assert!(Path::new(PROGRAM).exists(), "nginx is installed as {PROGRAM}");
        let directory = tempfile::Builder::new().prefix("nginx-").tempdir().expect("a directory");
        let path = directory.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
            .concat();
        // One process, so that its end is the end of nginx.
        let text = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port}; {locations} }} }}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, text).expect("written");
        let mut command = Command::new(PROGRAM);
        command
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(directory.path())
            .arg("-e")
            .arg(directory.path().join("log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("it starts");
        let mut nginx = Self { child, port, _directory: directory };
        let log = nginx._directory.path().join("log");
        until_listening(&mut nginx.child, port, || fs::read_to_string(&log).unwrap_or_default());
        nginx
    }

    /// In front of a server, with plain `proxy_pass`: nginx rewrites `Host` then.
    #[must_use]
    pub fn plain(server: &str) -> Self {
        Self::start(free_port(), &format!("location / {{ proxy_pass {server}; }}"))
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
