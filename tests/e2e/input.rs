//! Input that clients and agents send in good faith, and input of those that don't: it never costs more than
//! itself, and both databases treat it the same.

mod limits;
mod nul;
mod terminal;
mod text;

use serde_json::json;
use support::Server;

/// Creates a workspace whose runtime is the mock, which answers without a pause.
async fn mock(server: &Server) -> String {
    server.settings("mock", json!({ "pause_ms": 0 })).await.ok();
    server.workspace(json!({ "name": "Mock", "runtime": "mock" })).await
}

/// Activity of a workspace as the server sends it.
async fn activity(server: &Server, id: &str, query: &str) -> String {
    let (status, text) = server
        .raw(reqwest::Method::GET, &format!("/workspaces/{id}/activity{query}"), "text/plain", "")
        .await;
    assert_eq!(status, 200, "{text}");
    text
}
