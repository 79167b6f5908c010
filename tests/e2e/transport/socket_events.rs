//! `/ws`: events, their order, and resuming.

use std::sync::Arc;

use api::events::Limits;
use events::definitions::{Empty, Heartbeat, Task};
use events::{Envelope, Event};
use serde_json::Value;

use crate::transport::socket_client::{DEV, HANDSHAKE, Socket, TestServer, patient, seen};

#[tokio::test]
async fn frames_match_the_contract_and_arrive_in_order() {
    let test = TestServer::start(DEV).await;
    let mut canvas = test.socket(&[]).await;
    let id = test.workspace("a", None).await;
    let made = canvas.text().await;
    let at = |text: &str| {
        let frame: Value = serde_json::from_str(text).expect("JSON");
        frame["timestamp"].as_str().expect("a time").to_owned()
    };
    let expected = |name: &str, text: &str, payload: &str, seq: &str| {
        let at = at(text);
        format!(r#"{{"event":"{name}","workspace_id":"{id}","timestamp":"{at}","payload":{payload}{seq}}}"#)
    };
    let payload = r#"{"mock":true,"name":"a","runtime":"mock"}"#;
    let last = test.app.fleet.state().last_published().0;
    let online = if made.contains("WORKSPACE_ONLINE") { made } else { canvas.text().await };
    assert_eq!(online, expected("WORKSPACE_ONLINE", &online, payload, &format!(r#","seq":{last}"#)));
    let time = at(&online);
    assert!(time.ends_with('Z') && time.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{time}");

    let beat = Heartbeat { active_tasks: 2, uptime_seconds: 7 };
    test.app.fleet.state().publish_ephemeral(id, &Event::WorkspaceHeartbeat(beat));
    let beat = canvas.text().await;
    let payload = r#"{"active_tasks":2,"uptime_seconds":7}"#;
    assert_eq!(beat, expected("WORKSPACE_HEARTBEAT", &beat, payload, ""));

    // Internal events are not sent.
    test.app.fleet.state().publish_ephemeral(id, &Event::WorkspaceChanged(Empty {}));
    for number in 0..100 {
        test.publish(id, &number.to_string());
    }
    for number in 0..100 {
        assert_eq!(canvas.task().await, number.to_string());
    }
}

/// Two roots with children and grandchildren.
#[tokio::test]
async fn agents_receive_events_of_workspaces_they_can_communicate_with() {
    let test = TestServer::start(DEV).await;
    let a = test.workspace("a", None).await;
    let b = test.workspace("b", None).await;
    let a1 = test.workspace("a1", Some(a)).await;
    let a2 = test.workspace("a2", Some(a)).await;
    let a21 = test.workspace("a21", Some(a2)).await;
    let b1 = test.workspace("b1", Some(b)).await;
    let b11 = test.workspace("b11", Some(b1)).await;
    let names = [(a, "a"), (b, "b"), (a1, "a1"), (a2, "a2"), (a21, "a21"), (b1, "b1"), (b11, "b11")];
    for (agent, expected) in [
        (a, &["a", "b", "a1", "a2", "a21"][..]),
        (b, &["a", "b", "b1", "b11"]),
        (a1, &["a", "a1", "a2"]),
        (a21, &["a", "a2", "a21"]),
        (b11, &["b", "b1", "b11"]),
    ] {
        let mut socket = test.agent(agent).await;
        for (about, name) in names {
            test.publish(about, name);
        }
        test.publish(agent, "end");
        let mut received = Vec::new();
        loop {
            match socket.task().await {
                end if end == "end" => break,
                name => received.push(name),
            }
        }
        assert_eq!(received, expected, "agent of {agent}");
    }
    // Events without a workspace are not sent to agents.
    let mut agent = test.agent(a).await;
    let of_no_workspace =
        Event::TaskUpdated(Task { active_tasks: 1, current_task: "of no workspace".to_owned() });
    test.app.fleet.hub().publish(Arc::new(Envelope::ephemeral(None, &of_no_workspace, store::now())));
    test.publish(a, "own");
    assert_eq!(agent.task().await, "own");
}

#[tokio::test]
async fn agents_receive_removals_of_related_workspaces() {
    let test = TestServer::start(DEV).await;
    let parent = test.workspace("parent", None).await;
    let [one, other] = [test.workspace("1", Some(parent)).await, test.workspace("2", Some(parent)).await];
    let below = test.workspace("3", Some(other)).await;
    let mut sibling = test.agent(one).await;
    let mut above = test.agent(parent).await;
    let mut stranger = test.agent(below).await;
    let removal = fleet::Removal { confirmed: true, purge: true };
    test.app.fleet.remove(other, removal).await.expect("removed");
    let about = async |socket: &mut Socket| {
        let frame = socket.json().await;
        assert_eq!(frame["event"], "WORKSPACE_REMOVED");
        frame["workspace_id"].as_str().expect("an id").to_owned()
    };
    assert_eq!(about(&mut sibling).await, other.to_string(), "not the child of the sibling");
    assert_eq!(about(&mut above).await, below.to_string());
    assert_eq!(about(&mut above).await, other.to_string());
    assert_eq!(about(&mut stranger).await, below.to_string(), "its own removal");
}

// === Resume ===

#[tokio::test]
async fn a_client_too_far_behind_gets_one_resync_and_continues_live() {
    let test = TestServer::start_with(DEV, Limits { replay: 3, ..patient() }).await;
    let id = test.workspace("a", None).await;
    let last = test.app.fleet.state().last_published().0;
    let resync = async |since: i64, headers: &[&str], workspace: &str| {
        let mut socket = test.socket_at(&format!("/ws?since={since}"), headers).await;
        let text = socket.text().await;
        let start = format!(r#"{{"event":"RESYNC_REQUIRED","workspace_id":"{workspace}","timestamp":""#);
        assert!(text.starts_with(&start) && text.ends_with(r#"Z","payload":{}}"#), "{text}");
        test.publish(id, "live");
        assert_eq!(socket.task().await, "live");
    };
    // A number beyond the last event, as from another database.
    resync(last + 1, &[], "").await;
    resync(i64::MAX, &[], "").await;
    for number in 0..4 {
        let name = format!(r#"{{"name":"a{number}"}}"#);
        let path = format!("/workspaces/{id}");
        assert_eq!(test.server.send("PATCH", &path, &[], &name).await.status(), 200);
    }
    assert_eq!(test.app.fleet.state().last_published().0, last + 4);
    resync(last, &[], "").await;
    resync(0, &[&format!("X-Workspace-ID: {id}")], &id.to_string()).await;
    let mut socket = test.socket_at(&format!("/ws?since={}", last + 1), &[]).await;
    for seq in last + 2..=last + 4 {
        assert_eq!(socket.json().await["seq"], seq);
    }
    // Events that retention deleted cannot be replayed.
    test.app.fleet.state().delete_old_events(chrono::Duration::seconds(-60)).await;
    resync(last + 1, &[], "").await;
    let mut socket = test.socket_at(&format!("/ws?since={}", last + 4), &[]).await;
    test.publish(id, "nothing missed");
    assert_eq!(socket.task().await, "nothing missed");
}

#[tokio::test]
async fn a_since_that_is_not_a_number_is_refused() {
    let test = TestServer::start(DEV).await;
    for since in ["x", "-1", "1.5"] {
        let answer = test.server.ask("GET", &format!("/ws?since={since}"), &HANDSHAKE).await;
        assert_eq!(seen(&answer), (400, r#"{"error":"since must be the number of an event"}"#), "{since}");
    }
}
