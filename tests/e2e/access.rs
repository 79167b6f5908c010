//! Class `admin` on the guests' routes, and the shape of their errors.

use reqwest::StatusCode;
use serde_json::json;

use support::{Database, Server, Start};

#[tokio::test]
async fn guest_routes_need_admin_access() {
    let start = Start::from(Database::sqlite()).env("ADMIN_TOKEN", "secret").env("MOLECULE_ENV", "staging");
    let server = Server::start(start).await;
    for (method, path) in [
        ("GET", "/admin/guests"),
        ("GET", "/admin/guests/mock"),
        ("POST", "/admin/guests/mock/releases"),
        ("DELETE", "/admin/guests/mock/releases/00"),
        ("POST", "/admin/guests/mock/activate"),
        ("POST", "/admin/guests/mock/rollback"),
        ("POST", "/admin/guests/mock/enable"),
        ("POST", "/admin/guests/mock/disable"),
        ("POST", "/admin/guests/mock/trust"),
        ("POST", "/admin/guests/mock/untrust"),
        ("POST", "/admin/guests/mock/pooled"),
        ("POST", "/admin/guests/mock/per-call"),
        ("PUT", "/admin/guests/mock/settings"),
        ("POST", "/admin/guests/mock/call"),
    ] {
        let request = |token: Option<&str>| {
            let request =
                reqwest::Client::new().request(method.parse().unwrap(), format!("{}{path}", server.url));
            match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            }
        };
        for (token, text) in [(None, "admin auth required"), (Some("wrong"), "invalid admin auth token")] {
            let response = request(token).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(response.text().await.unwrap(), format!(r#"{{"error":"{text}"}}"#));
        }
        let allowed = request(Some("secret")).send().await.unwrap();
        assert_ne!(allowed.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
    }
}

#[tokio::test]
async fn bad_input_gets_a_clear_error() {
    let server = Server::start(Database::sqlite()).await;
    let unknown = server.call("mock", "describes", json!({})).await;
    assert!(unknown.error(400).contains("it has validate-settings, describe, plan"), "{}", unknown.json);
    let input = server.call("mock", "plan", json!({ "runtime": 1 })).await;
    assert!(input.error(400).starts_with("the input of `plan` doesn't fit: "), "{}", input.json);
    server.post("/admin/guests/mock/activate", json!({})).await.error(400);
    server.activate("mock", "").await.error(404);
    server.activate("mock", "zz").await.error(404);
}
