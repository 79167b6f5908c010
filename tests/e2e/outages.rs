//! A database that is killed, frozen or out of space: reads from memory continue, no answered write is lost, and
//! the server recovers with the database.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use support::{Answer, Cluster, Database, Server, Start};

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

/// A change that was not made, or of which the database did not say whether it made it.
fn assert_is_unavailable(answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), &answer.json["code"]),
        (503, &json!("platform_unavailable")),
        "{}",
        answer.json
    );
}

/// How long an answer may take that does not need the database.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// A heartbeat of an agent that works on this many tasks.
async fn beat(server: &Server, (id, token): (&str, &str), active_tasks: usize) {
    let body = Some(json!({ "workspace_id": id, "active_tasks": active_tasks }));
    let beat = server.ask(token, Method::POST, "/registry/heartbeat", body);
    let answer = timeout(ANSWER_TIMEOUT, beat).await;
    assert_eq!(answer.expect("a heartbeat waits for no database").ok()["status"], "ok");
}

/// Sends a message to a mock workspace.
async fn send(server: &Server, id: &str, text: &str) {
    let message = json!({ "messageId": text, "role": "user", "parts": [{ "kind": "text", "text": text }] });
    let body =
        json!({ "jsonrpc": "2.0", "id": "1", "method": "message/send", "params": { "message": message } });
    let path = format!("/workspaces/{id}/a2a");
    let sent = server.post(&path, body);
    timeout(ANSWER_TIMEOUT, sent).await.expect("a message waits for no database").ok();
}

/// The texts of the messages that a workspace received, oldest first.
async fn received(server: &Server, id: &str) -> Vec<String> {
    let rows = server.get(&format!("/workspaces/{id}/activity?type=a2a_receive&limit=500")).await.ok();
    let text = |row: &Value| row["request_body"]["params"]["message"]["parts"][0]["text"].clone();
    let newest_first: Vec<Value> = rows.as_array().unwrap().iter().map(text).collect();
    newest_first.iter().rev().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What `/health` says that the server lacks. Its status is 200 whatever that is.
async fn lacks(server: &Server) -> Value {
    let health = server.get("/health").await;
    assert_eq!((health.status.as_u16(), &health.json["status"]), (200, &json!("ok")));
    health.json["degraded"].clone()
}

/// Heartbeats and messages while the database can't be written; then it can, and has them in their order.
async fn works_on_without(database: impl Outage, server: Server) {
    let mock = server.workspace(named("Mock")).await;
    let made = server.post("/workspaces", json!({ "name": "Agent", "external": true })).await.ok();
    let (agent, token) = (made["id"].as_str().unwrap(), made["connection"]["auth_token"].as_str().unwrap());
    let online =
        async |server: &Server| server.get(&format!("/workspaces/{agent}")).await.ok()["status"] == "online";
    assert_eq!(lacks(&server).await, Value::Null);
    database.begin();
    futures::future::join_all((1..=1_500).map(|tasks| beat(&server, (agent, token), tasks))).await;
    let texts: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let (early, late) = texts.split_at(100);
    for text in early {
        send(&server, &mock, text).await;
    }
    // A full disk may have room for a few more writes.
    let mut created = 0;
    let refused = loop {
        let answer = timeout(WRITE_TIMEOUT, server.post("/workspaces", named(&created.to_string()))).await;
        match answer.expect("a change has a deadline") {
            answer if answer.status == 201 => created += 1,
            answer => break answer,
        }
    };
    assert_is_unavailable(&refused);
    server.until("health says so", async |server| lacks(server).await == json!(["database"])).await;
    for text in late {
        send(&server, &mock, text).await;
    }
    beat(&server, (agent, token), 7).await;
    assert_eq!(server.get(&format!("/workspaces/{agent}")).await.ok()["active_tasks"], 7);
    database.end();
    server.until("health says so", async |server| lacks(server).await == Value::Null).await;
    beat(&server, (agent, token), 7).await;
    assert!(online(&server).await);
    server.until("the rows are stored", async |server| received(server, &mock).await == texts).await;
    let server = server.restart().await;
    assert_eq!(received(&server, &mock).await, texts);
    let kept = server.get(&format!("/workspaces/{agent}")).await.ok();
    assert_eq!((&kept["active_tasks"], &kept["status"]), (&json!(7), &json!("online")));
    assert_eq!(names(&server).await.len(), created + 2, "a refused workspace is not made later");
}

/// A database that a test makes unusable for a while.
trait Outage {
    fn begin(&self);
    fn end(&self);
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
                    assert_is_unavailable(&answer);
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
        assert_is_unavailable(&server.post("/workspaces", named("Never")).await);
        cluster.up();
        until_writable(&server, "After").await;
        let server = server.kill_and_restart().await;
        let kept = names(&server).await;
        assert!(answered.iter().flatten().all(|name| kept.contains(name)), "an answered write was lost");
        assert!(kept.contains("Before") && kept.contains("After") && !kept.contains("Never"));
    }

    struct Frozen(Cluster);

    impl Outage for Frozen {
        fn begin(&self) {
            self.0.freeze();
        }

        fn end(&self) {
            self.0.thaw();
        }
    }

    struct Killed(Cluster);

    impl Outage for Killed {
        fn begin(&self) {
            self.0.kill();
        }

        fn end(&self) {
            self.0.up();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs an installed Postgres"]
    async fn heartbeats_and_messages_do_not_wait_for_a_frozen_postgres() {
        let cluster = Cluster::start();
        let server = Server::start(on(&cluster)).await;
        works_on_without(Frozen(cluster), server).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs an installed Postgres"]
    async fn heartbeats_and_messages_do_not_wait_for_a_killed_postgres() {
        let cluster = Cluster::start();
        let server = Server::start(on(&cluster)).await;
        works_on_without(Killed(cluster), server).await;
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
        assert_is_unavailable(&answer);
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

    struct Full(SmallDisk);

    impl Outage for Full {
        fn begin(&self) {
            self.0.fill();
        }

        fn end(&self) {
            self.0.clear();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs root"]
    async fn heartbeats_and_messages_do_not_wait_for_a_full_disk() {
        let directory = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(directory.path());
        let data = directory.path().join("data");
        let start = Start::from(Database::sqlite()).env("DATA_DIR", data.to_str().unwrap());
        let server = Server::start(start).await;
        works_on_without(Full(disk), server).await;
    }

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
        assert_is_unavailable(&refused);
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
