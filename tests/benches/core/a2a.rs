//! Messages to agents that nobody runs: the whole way, the adapter's guest call and the row of activity
//! included, without the pause that such agents make.

use serde_json::{Value, json};

use crate::{http::load, server::Server};

pub async fn messages() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let at = |path: &str| format!("http://{}{path}", server.address);
    let client = reqwest::Client::new();
    let no_pause = client.put(at("/admin/guests/mock/settings")).json(&json!({ "pause_ms": 0 }));
    assert_eq!(no_pause.send().await.expect("it answers").status(), 200);
    let new = client.post(at("/workspaces")).json(&json!({ "name": "Echo", "runtime": "mock" }));
    let made: Value = new.send().await.expect("it answers").json().await.expect("JSON");
    let id = made["id"].as_str().expect("an id");

    let parts = json!([{ "kind": "text", "text": "How is it going?" }]);
    let message = json!({ "role": "user", "messageId": "m-1", "parts": parts });
    let body =
        json!({ "jsonrpc": "2.0", "id": "1", "method": "message/send", "params": { "message": message } });
    let body = body.to_string();
    let request = format!(
        "POST /workspaces/{id}/a2a HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        server.address,
        body.len()
    );
    println!("messages to one agent that nobody runs, each with a row of activity (SQLite)");
    for connections in [2, 64] {
        let name = format!("{connections} connections");
        load(&server, &name, &request, connections, " (aim 200 µs)").await;
    }
}
