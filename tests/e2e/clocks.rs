//! The clock of the machine is set while the server runs: that alone changes no status, and ends no waiting.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use support::{Database, Server, Start, on_both_databases};

/// Seconds without a heartbeat after which an agent counts as away.
const SILENCE: u64 = 6;

/// A clock that a test sets. The monotonic clock stays as it is.
struct Clock(TempDir);

impl Clock {
    fn set(&self, offset: &str) {
        let next = self.0.path().join("next");
        fs::write(&next, offset).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("clock")
    }
}

fn library() -> PathBuf {
    let places = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
    let library = |place| Path::new("/usr/lib").join(place).join("faketime/libfaketimeMT.so.1");
    places.map(library).into_iter().find(|path| path.exists()).expect("the package faketime is installed")
}

struct Agent {
    id: String,
    token: String,
}

async fn agent(server: &Server, name: &str) -> Agent {
    let made = server.post("/workspaces", json!({ "name": name, "external": true })).await.ok();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let agent = Agent { id: text(&made["id"]), token: text(&made["connection"]["auth_token"]) };
    agent.beat(server, 0).await;
    agent
}

impl Agent {
    async fn beat(&self, server: &Server, active_tasks: i32) {
        let body = json!({ "workspace_id": self.id, "active_tasks": active_tasks });
        server.ask(&self.token, Method::POST, "/registry/heartbeat", Some(body)).await.ok();
    }

    async fn row(&self, server: &Server) -> Value {
        server.get(&format!("/workspaces/{}", self.id)).await.ok()
    }
}

/// Tests that need the library `faketime`; the runner leaves them out where it is not installed.
mod faketime {
    use super::*;

    on_both_databases! {
        async fn a_clock_that_is_set_by_an_hour_changes_no_status(database: Database) {
            let clock = Clock(tempfile::tempdir().unwrap());
            clock.set("+0");
            let start = Start::from(database)
                .env("LD_PRELOAD", library().to_str().unwrap())
                .env("FAKETIME_TIMESTAMP_FILE", clock.file().to_str().unwrap())
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1")
                .env("REMOTE_LIVENESS_STALE_AFTER", SILENCE.to_string());
            let server = Server::start(start).await;
            let (live, silent) = (agent(&server, "Live").await, agent(&server, "Silent").await);
            for (number, offset) in (1..).zip(["+3600s", "-3600s", "+0"]) {
                silent.beat(&server, number).await;
                let called = Instant::now();
                clock.set(offset);
                // The silent one is away after its time, not earlier and not an hour later; the other stays.
                server.until("the silent agent is away", async |server| {
                    live.beat(server, number).await;
                    assert_eq!(live.row(server).await["status"], "online", "{offset}");
                    silent.row(server).await["status"] == "awaiting_agent"
                }).await;
                assert!(called.elapsed() >= Duration::from_secs(SILENCE - 1), "{offset}");
            }
            // What was said last is what is stored, although it was said at an earlier time.
            clock.set("-3600s");
            live.beat(&server, 42).await;
            let server = server.restart().await;
            assert_eq!(live.row(&server).await["active_tasks"], 42);
        }
    }
}
