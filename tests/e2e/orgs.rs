//! Organizations from templates (org-import.md, template-resolving.md).

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement};
use serde_json::{Value, json};
use tempfile::TempDir;

use support::{Answer, Database, Server, Start};

mod concurrency;
mod files;
mod importing;
mod order;
mod pausing;
mod places;
mod requests;
mod resolver;
mod setups;
mod templates;

/// The directory with the templates of this repository.
fn fixtures() -> PathBuf {
    support::workspace().join("tests/fixtures/orgs")
}

async fn with_fixtures(database: Database) -> Server {
    Server::start(templates_at(database, &fixtures())).await
}

fn templates_at(database: Database, directory: &Path) -> Start {
    Start::from(database).env("ORG_TEMPLATES_DIR", directory.to_str().unwrap())
}

async fn import(server: &Server, body: Value) -> Answer {
    server.post("/org/import", body).await
}

async fn inline(server: &Server, template: Value) -> Answer {
    import(server, json!({ "template": template })).await
}

async fn workspaces(server: &Server) -> Vec<Value> {
    server.get("/workspaces").await.ok().as_array().unwrap().clone()
}

/// Paths of all workspaces: names from the root down.
async fn paths(server: &Server) -> Vec<String> {
    let all = workspaces(server).await;
    let by_id: HashMap<&str, &Value> = all.iter().map(|it| (it["id"].as_str().unwrap(), it)).collect();
    let path = |it: &Value| {
        let mut path = it["name"].as_str().unwrap().to_owned();
        let mut at = it;
        while let Some(above) = at["parent_id"].as_str() {
            at = by_id[above];
            path = format!("{}/{path}", at["name"].as_str().unwrap());
        }
        path
    };
    let mut paths: Vec<String> = all.iter().map(path).collect();
    paths.sort();
    paths
}

fn field<'a>(rows: &'a [Value], name: &str) -> &'a Value {
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// All events, oldest first.
async fn events(server: &Server) -> Vec<Value> {
    let mut events = server.get("/events?limit=500").await.ok().as_array().unwrap().clone();
    events.reverse();
    events
}

/// Events of imports.
async fn import_events(server: &Server) -> Vec<(String, Value)> {
    let events = events(server).await;
    let of_imports = events.iter().filter_map(|event| {
        let name = event["event_type"].as_str().unwrap().strip_prefix("org.import.")?;
        Some((name.to_owned(), event["payload"].clone()))
    });
    of_imports.collect()
}

async fn connect(server: &Server) -> DatabaseConnection {
    let file = || format!("sqlite:{}", server.data.path().join("isomer.db").display());
    let url = server.database().postgres_url().unwrap_or_else(file);
    sea_orm::Database::connect(url).await.expect("the database accepts connections")
}

/// A directory of templates with one template `t` of these files.
fn template(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("t"), files);
    dir
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A number that a query answers.
async fn count(server: &Server, sql: &str) -> i64 {
    let connection = connect(server).await;
    let row = connection.query_one_raw(Statement::from_string(connection.get_database_backend(), sql)).await;
    let count = row.unwrap().unwrap().try_get_by_index(0).unwrap();
    connection.close().await.unwrap();
    count
}

/// The document of a workspace's setup.
async fn setup(server: &Server, name: &str) -> Value {
    let connection = connect(server).await;
    let sql = format!(
        "SELECT s.document FROM workspace_setups s JOIN workspaces w ON w.id = s.workspace_id WHERE w.name = '{name}'"
    );
    let row = connection.query_one_raw(Statement::from_string(connection.get_database_backend(), sql)).await;
    let document: String = row.unwrap().unwrap().try_get_by_index(0).unwrap();
    connection.close().await.unwrap();
    serde_json::from_str(&document).unwrap()
}

/// Sends an archive of these files.
async fn upload(server: &Server, query: &str, archive: Vec<u8>) -> Answer {
    let url = format!("{}/org/import{query}", server.url);
    let request = reqwest::Client::new().post(url).header("Content-Type", "application/x-tar").body(archive);
    Answer::read(request.send().await.expect("the server answers")).await
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}
