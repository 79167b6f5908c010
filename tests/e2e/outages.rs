//! A database that is killed, frozen or out of space: reads from memory continue, no answered write is lost, and
//! the server recovers with the database.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::timeout;

use support::{Cluster, Database, Server, Start};

/// How long a server may try to write to a database that does not answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

fn on(cluster: &Cluster) -> Start {
    Start::from(Database::External(cluster.url()))
}

fn named(name: &str) -> Value {
    json!({ "name": name, "runtime": "mock" })
}

async fn names(server: &Server) -> BTreeSet<String> {
    let list = server.get("/workspaces").await.ok();
    list.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a workspace can be created.
async fn until_writable(server: &Server, name: &str) {
    server
        .until("workspaces can be made again", async |server| {
            server.post("/workspaces", named(name)).await.status == 201
        })
        .await;
}

/// Tests that start a Postgres server of their own; the runner leaves them out where none is installed.
mod own_postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs an installed Postgres"]
    async fn answered_writes_survive_a_kill_of_postgres() {
        let cluster = Cluster::start();
        let server = Server::start(on(&cluster)).await;
        server.workspace(named("Before")).await;
        // Eight tasks write as fast as they can while the database is killed.
        let write = async |writer: usize| {
            let mut answered = BTreeSet::new();
            for number in 0.. {
                let name = format!("W{writer}-{number}");
                let answer = server.post("/workspaces", named(&name)).await;
                if answer.status != 201 {
                    assert_eq!(answer.error(500), "failed to create workspace");
                    break;
                }
                answered.insert(name);
            }
            answered
        };
        let killing = async {
            server.until("they write", async |server| names(server).await.len() > 40).await;
            cluster.kill();
        };
        let (answered, ()) =
            futures::future::join(futures::future::join_all((0..8).map(write)), killing).await;
        // Without a database, reads are answered and writes are refused.
        let seen = names(&server).await;
        assert!(answered.iter().flatten().all(|name| seen.contains(name)));
        assert_eq!(server.get("/health").await.status, 200);
        assert_eq!(server.post("/workspaces", named("Never")).await.error(500), "failed to create workspace");
        cluster.up();
        until_writable(&server, "After").await;
        let server = server.kill_and_restart().await;
        let kept = names(&server).await;
        assert!(answered.iter().flatten().all(|name| kept.contains(name)), "an answered write was lost");
        assert!(kept.contains("Before") && kept.contains("After") && !kept.contains("Never"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs an installed Postgres"]
    async fn reads_are_answered_while_postgres_is_frozen() {
        let cluster = Cluster::start();
        let server = Server::start(on(&cluster)).await;
        server.workspace(named("Before")).await;
        cluster.freeze();
        let groups = "isomer_commit_group_changes_count";
        let earlier = server.metric(groups).await;
        let mut writing = Box::pin(server.post("/workspaces", named("Perhaps")));
        let reading = async {
            server.until("the write has begun", async |server| server.metric(groups).await != earlier).await;
            for _ in 0..20 {
                assert_eq!(server.get("/workspaces").await.ok().as_array().unwrap().len(), 1);
            }
        };
        tokio::select! {
            _ = &mut writing => panic!("reads waited for the write"),
            () = reading => {}
        }
        let answer = timeout(WRITE_TIMEOUT, writing).await.expect("the write is given up in time");
        assert_eq!(answer.error(500), "failed to create workspace");
        cluster.thaw();
        until_writable(&server, "After").await;
        // The commit of the timed-out write may have succeeded. Index and database must agree.
        let seen = names(&server).await;
        let server = server.restart().await;
        assert_eq!(names(&server).await, seen);
    }
}

/// A file system of a few megabytes.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path) -> Self {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(path).status();
        assert!(mounted.is_ok_and(|status| status.success()), "mounting a file system needs root");
        Self { path: path.to_owned() }
    }

    /// Fills the file system to the last byte.
    fn fill(&self) {
        let mut size = 1 << 20;
        let mut bytes = Vec::new();
        while size > 0 {
            bytes.resize(bytes.len() + size, 0);
            if fs::write(self.path.join("filler"), &bytes).is_err() {
                bytes.truncate(bytes.len() - size);
                size /= 2;
            }
        }
        let _ = fs::write(self.path.join("filler"), &bytes);
    }

    fn clear(&self) {
        fs::remove_file(self.path.join("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Tests that mount a file system; the runner leaves them out where they run without root.
mod as_root {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs root"]
    async fn answered_writes_survive_a_full_disk() {
        let directory = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(directory.path());
        let data = directory.path().join("data");
        let start = Start::from(Database::sqlite()).env("DATA_DIR", data.to_str().unwrap());
        let server = Server::start(start).await;
        server.workspace(named("Before")).await;
        disk.fill();
        let mut answered = BTreeSet::new();
        // The last blocks of the write-ahead log may have free space, so a few writes can succeed first.
        let refused = loop {
            let name = format!("Full {}", answered.len());
            let answer = server.post("/workspaces", named(&name)).await;
            if answer.status != 201 {
                break answer;
            }
            answered.insert(name);
            assert!(answered.len() < 10_000, "the disk isn't full");
        };
        assert_eq!(refused.error(500), "failed to create workspace");
        let seen = names(&server).await;
        assert!(answered.iter().all(|name| seen.contains(name)));
        assert_eq!(seen.len(), answered.len() + 1, "a refused write is not listed");
        disk.clear();
        until_writable(&server, "After").await;
        let server = server.kill_and_restart().await;
        let kept = names(&server).await;
        assert!(kept.contains("After") && answered.iter().all(|name| kept.contains(name)));
    }
}
