//! `GET /admin/liveness`. Supervision is tested in `host/tasks`.

use std::future::pending;
use std::time::Duration;

use api::app::App;
use axum::Router;
use serde_json::Value;
use tasks::BackgroundTask;
use tokio::sync::mpsc::UnboundedSender;

use crate::transport::wire::Server;

/// The routes of the product with two tasks: one reports progress once, one never does.
fn routes(app: &App, reported: UnboundedSender<()>, interval: Duration) -> Router<App> {
    app.tasks.spawn(BackgroundTask::new("beats", interval, move |progress| {
        progress.report();
        reported.send(()).expect("the test receives");
        pending()
    }));
    app.tasks.spawn(BackgroundTask::new("silent", interval, |_| pending()));
    api::routes(app)
}

async fn server(flags: &[&str], interval: Duration) -> Server {
    let (sender, mut reported) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::with_routes(flags, |app| routes(app, sender, interval)).await;
    reported.recv().await.expect("the task reports progress");
    server
}

#[tokio::test]
async fn background_tasks_are_listed_from_their_first_progress() {
    let server = server(&[], Duration::from_secs(3_600)).await;
    let answer = server.get("/admin/liveness").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    let subsystems = body["subsystems"].as_object().expect("an object");
    assert_eq!(subsystems.keys().collect::<Vec<_>>(), ["beats"]);
    let beats = subsystems["beats"].as_object().expect("an object");
    assert_eq!(beats.keys().collect::<Vec<_>>(), ["last_tick_at", "restarts", "seconds_ago", "stale"]);
    assert!(beats["seconds_ago"].is_u64());
    assert_eq!((&beats["stale"], &beats["restarts"]), (&false.into(), &0.into()));
    // 2026-05-09T10:00:00.123456Z
    let time = beats["last_tick_at"].as_str().expect("text");
    assert_eq!((time.len(), time.find('T'), time.find('.')), (27, Some(10), Some(19)), "{time}");
    assert!(time.ends_with('Z'), "{time}");
}

#[tokio::test]
async fn a_task_without_progress_for_two_intervals_is_stale() {
    let server = server(&[], Duration::ZERO).await;
    let answer = server.get("/admin/liveness").await;
    assert!(answer.body.contains(r#""stale":true"#), "{}", answer.body);
}

#[tokio::test]
async fn without_background_tasks_the_list_is_an_empty_object() {
    let server = Server::start(&[]).await;
    assert_eq!(server.get("/admin/liveness").await.body, r#"{"subsystems":{}}"#);
}

#[tokio::test]
async fn liveness_needs_admin_access() {
    let server = Server::start(&["--admin-token", "right"]).await;
    assert_eq!(server.get("/admin/liveness").await.status(), 401);
    let answer = server.ask("GET", "/admin/liveness", &["Authorization: Bearer right"]).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.body.contains(r#""subsystems""#));
}
