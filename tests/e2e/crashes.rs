//! A SIGKILL before a commit leaves no part of the change, a SIGKILL after it leaves all of it.

use reqwest::Method;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::{Value, json};

use support::{Database, Server, Start, on_both_databases, select_number};

/// A request that changes the database. `ROOT` and `LEAF` in the path are replaced by ids.
struct Operation {
    name: &'static str,
    method: Method,
    path: &'static str,
    body: Value,
}

fn operations() -> Vec<Operation> {
    let operation = |name, method, path, body| Operation { name, method, path, body };
    vec![
        operation(
            "create",
            Method::POST,
            "/workspaces",
            json!({ "name": "New", "runtime": "mock", "secrets": { "A": "b" } }),
        ),
        operation(
            "create an external one",
            Method::POST,
            "/workspaces",
            json!({ "name": "New", "external": true }),
        ),
        operation("create one that fails", Method::POST, "/workspaces", json!({ "name": "New" })),
        operation("edit", Method::PATCH, "/workspaces/ROOT", json!({ "name": "Other", "x": 7, "y": 8 })),
        operation("move", Method::PATCH, "/workspaces/LEAF", json!({ "parent_id": null })),
        operation(
            "import an organization",
            Method::POST,
            "/org/import",
            json!({ "mode": "reconcile", "template": {
                "name": "Org",
                "workspaces": [
                    { "name": "Head", "runtime": "mock", "children": [{ "name": "Middle" }, { "name": "Hand" }] },
                ],
            }}),
        ),
        operation("pause a tree", Method::POST, "/workspaces/ROOT/pause", json!({})),
        operation("make a token", Method::POST, "/workspaces/ROOT/tokens", json!({})),
        operation("remove a tree", Method::DELETE, "/workspaces/ROOT?confirm=true", json!({})),
    ]
}

/// The state that operations change, without ids and times, which differ from run to run.
async fn snapshot(server: &Server) -> Value {
    let database = server.connect().await;
    let list = server.get("/workspaces").await.ok();
    let mut rows: Vec<Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let parent = list.as_array().unwrap().iter().find(|other| other["id"] == row["parent_id"]);
            json!([
                row["name"],
                row["status"],
                row["x"],
                row["y"],
                parent.map(|parent| parent["name"].clone())
            ])
        })
        .collect();
    rows.sort_by_key(ToString::to_string);
    let snapshot = json!({
        "rows": rows,
        "tokens": select_number(&database, "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL").await,
        "secrets": select_number(&database, "SELECT COUNT(*) FROM workspace_secrets").await,
        "layouts": select_number(&database, "SELECT COUNT(*) FROM layouts").await,
        "events": select_number(&database, "SELECT COUNT(*) FROM events WHERE event_type NOT LIKE 'isomer.%'").await,
    });
    // Event numbers have no gaps.
    assert_eq!(
        select_number(&database, "SELECT COUNT(*) FROM events").await,
        select_number(&database, "SELECT seq FROM event_head").await
    );
    database.close().await.unwrap();
    snapshot
}

async fn start_with_tree(database: Database) -> (Server, String, String) {
    let server = Server::start(Start::from(database)).await;
    // The first start stores what adapters say of themselves: changes that no operation made.
    server
        .until("the adapters' descriptions are stored", async |server| {
            let database = server.connect().await;
            let missing = "SELECT COUNT(*) FROM guests WHERE world = 'adapter' AND description IS NULL";
            let missing = select_number(&database, missing).await;
            database.close().await.unwrap();
            missing == 0
        })
        .await;
    let root = server.workspace(json!({ "name": "Root", "runtime": "mock" })).await;
    let middle = server.workspace(json!({ "name": "Middle", "runtime": "mock", "parent_id": root })).await;
    let leaf = server.workspace(json!({ "name": "Leaf", "runtime": "mock", "parent_id": middle })).await;
    (server, root, leaf)
}

/// Sends an operation without waiting for the answer, which may never come.
fn begin(server: &Server, operation: &Operation, root: &str, leaf: &str) -> tokio::task::JoinHandle<()> {
    let url = format!("{}{}", server.url, operation.path.replace("ROOT", root).replace("LEAF", leaf));
    let request = reqwest::Client::new().request(operation.method.clone(), url).json(&operation.body);
    tokio::spawn(async move {
        let _ = request.send().await;
    })
}

on_both_databases! {
    async fn a_kill_before_the_commit_leaves_no_change(database: Database) {
        let (mut server, root, leaf) = start_with_tree(database).await;
        let before = snapshot(&server).await;
        for operation in operations() {
            // Another transaction holds the row `event_head`, so the operation waits before its first write.
            let database = server.connect().await;
            let held = database.begin().await.unwrap();
            held.execute_unprepared("UPDATE event_head SET seq = seq").await.unwrap();
            let groups = "isomer_commit_group_changes_count";
            let earlier = server.metric(groups).await;
            let answer = begin(&server, &operation, &root, &leaf);
            server.until("the operation reached the writer", async |server| server.metric(groups).await != earlier).await;
            server.kill();
            held.rollback().await.unwrap();
            database.close().await.unwrap();
            answer.await.unwrap();
            server = server.start_again().await;
            assert_eq!(snapshot(&server).await, before, "{}", operation.name);
        }
    }

    async fn a_kill_after_the_commit_leaves_the_whole_change(database: Database) {
        let (mut server, root, leaf) = start_with_tree(database).await;
        for operation in operations() {
            let before = snapshot(&server).await;
            let database = server.connect().await;
            let seq = select_number(&database, "SELECT seq FROM event_head").await;
            let tokens = select_number(&database, "SELECT COUNT(*) FROM tokens").await;
            let answer = begin(&server, &operation, &root, &leaf);
            // The process is killed as soon as the commit is visible to other connections.
            while select_number(&database, "SELECT seq FROM event_head").await == seq
                && select_number(&database, "SELECT COUNT(*) FROM tokens").await == tokens {}
            server.kill();
            database.close().await.unwrap();
            answer.await.unwrap();
            server = server.start_again().await;
            let after = snapshot(&server).await;
            assert_ne!(after, before, "{}", operation.name);
            match operation.name {
                "create" => assert_eq!(after["rows"].as_array().unwrap().len(), 4),
                "make a token" => assert_eq!(after["tokens"], before["tokens"].as_i64().unwrap() + 1),
                "remove a tree" => assert!(!after["rows"].to_string().contains("Other")),
                _ => {}
            }
        }
    }
}
