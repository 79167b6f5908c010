//! The server killed without warning around each commit: before it, nothing happened; after it,
//! everything did. Never half.

use reqwest::Method;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};
use serde_json::{Value, json};

use support::{Database, Server, Start, on_both_databases};

/// What a person does, and how it shows.
struct Deed {
    name: &'static str,
    method: Method,
    path: &'static str,
    body: Value,
}

fn deeds() -> Vec<Deed> {
    let deed = |name, method, path, body| Deed { name, method, path, body };
    vec![
        deed(
            "create",
            Method::POST,
            "/workspaces",
            json!({ "name": "New", "runtime": "mock", "secrets": { "A": "b" } }),
        ),
        deed(
            "create one that is awaited",
            Method::POST,
            "/workspaces",
            json!({ "name": "New", "external": true }),
        ),
        deed("create one that fails", Method::POST, "/workspaces", json!({ "name": "New" })),
        deed("edit", Method::PATCH, "/workspaces/ROOT", json!({ "name": "Other", "x": 7, "y": 8 })),
        deed("move", Method::PATCH, "/workspaces/LEAF", json!({ "parent_id": null })),
        deed(
            "import an organisation",
            Method::POST,
            "/org/import",
            json!({ "mode": "reconcile", "template": {
                "name": "Org",
                "workspaces": [
                    { "name": "Head", "runtime": "mock", "children": [{ "name": "Middle" }, { "name": "Hand" }] },
                ],
            }}),
        ),
        deed("pause a tree", Method::POST, "/workspaces/ROOT/pause", json!({})),
        deed("make a token", Method::POST, "/workspaces/ROOT/tokens", json!({})),
        deed("remove a tree", Method::DELETE, "/workspaces/ROOT?confirm=true", json!({})),
    ]
}

/// The database as somebody else on the machine sees it.
async fn look_inside(server: &Server) -> DatabaseConnection {
    let file = || format!("sqlite:{}", server.data.path().join("isomer.db").display());
    let url = server.database().postgres_url().unwrap_or_else(file);
    sea_orm::Database::connect(url).await.expect("the database is there")
}

async fn number(database: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let row = database.query_one_raw(statement).await.expect("it can be read").expect("a row");
    row.try_get_by_index(0).expect("a number")
}

/// Everything that deeds change, as far as it doesn't differ from run to run.
async fn picture(server: &Server) -> Value {
    let inside = look_inside(server).await;
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
    let picture = json!({
        "rows": rows,
        "tokens": number(&inside, "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL").await,
        "secrets": number(&inside, "SELECT COUNT(*) FROM workspace_secrets").await,
        "layouts": number(&inside, "SELECT COUNT(*) FROM layouts").await,
        "events": number(&inside, "SELECT COUNT(*) FROM events WHERE event_type NOT LIKE 'isomer.%'").await,
    });
    // Numbers of events have no gaps, whatever happened.
    assert_eq!(
        number(&inside, "SELECT COUNT(*) FROM events").await,
        number(&inside, "SELECT seq FROM event_head").await
    );
    inside.close().await.unwrap();
    picture
}

async fn scene(database: Database) -> (Server, String, String) {
    let server = Server::start(Start::from(database)).await;
    let root = server.workspace(json!({ "name": "Root", "runtime": "mock" })).await;
    let middle = server.workspace(json!({ "name": "Middle", "runtime": "mock", "parent_id": root })).await;
    let leaf = server.workspace(json!({ "name": "Leaf", "runtime": "mock", "parent_id": middle })).await;
    (server, root, leaf)
}

/// Sends a deed and doesn't wait for the answer: there may be none.
fn begin(server: &Server, deed: &Deed, root: &str, leaf: &str) -> tokio::task::JoinHandle<()> {
    let url = format!("{}{}", server.url, deed.path.replace("ROOT", root).replace("LEAF", leaf));
    let request = reqwest::Client::new().request(deed.method.clone(), url).json(&deed.body);
    tokio::spawn(async move {
        let _ = request.send().await;
    })
}

on_both_databases! {
    async fn a_kill_before_the_commit_leaves_no_change(database: Database) {
        let (mut server, root, leaf) = scene(database).await;
        let before = picture(&server).await;
        for deed in deeds() {
            // Somebody else writes, so the deed has to wait right before its first row.
            let inside = look_inside(&server).await;
            let held = inside.begin().await.unwrap();
            held.execute_unprepared("UPDATE event_head SET seq = seq").await.unwrap();
            let groups = "isomer_commit_group_changes_count";
            let earlier = server.metric(groups).await;
            let answer = begin(&server, &deed, &root, &leaf);
            server.until("the deed has arrived", async |server| server.metric(groups).await != earlier).await;
            server.kill();
            held.rollback().await.unwrap();
            inside.close().await.unwrap();
            answer.await.unwrap();
            server = server.again().await;
            assert_eq!(picture(&server).await, before, "{}", deed.name);
        }
    }

    async fn a_kill_after_the_commit_leaves_the_whole_change(database: Database) {
        let (mut server, root, leaf) = scene(database).await;
        for deed in deeds() {
            let before = picture(&server).await;
            let inside = look_inside(&server).await;
            let seq = number(&inside, "SELECT seq FROM event_head").await;
            let tokens = number(&inside, "SELECT COUNT(*) FROM tokens").await;
            let answer = begin(&server, &deed, &root, &leaf);
            // The moment that others can see it, the process dies.
            while number(&inside, "SELECT seq FROM event_head").await == seq
                && number(&inside, "SELECT COUNT(*) FROM tokens").await == tokens {}
            server.kill();
            inside.close().await.unwrap();
            answer.await.unwrap();
            server = server.again().await;
            let after = picture(&server).await;
            assert_ne!(after, before, "{}", deed.name);
            // Whole: doing the same by hand on a server that lives gives the same picture.
            match deed.name {
                "create" => assert_eq!(after["rows"].as_array().unwrap().len(), 4),
                "make a token" => assert_eq!(after["tokens"], before["tokens"].as_i64().unwrap() + 1),
                "remove a tree" => assert!(!after["rows"].to_string().contains("Other")),
                _ => {}
            }
        }
    }
}
