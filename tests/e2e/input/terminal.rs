//! What commands print of agents, guests and templates: a terminal obeys none of it.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};
use support::{Agent, Database, Reaction, Server, program};

/// Clears the screen, sets the title, reverses the direction, hides a blank, and starts another line.
const HOSTILE: &str = "x\u{1b}[2J\u{9b}31m\u{202e}txt\u{200b}\u{7}\ry";

fn isomer(server: &Server, arguments: &[&str]) -> Output {
    program().args(arguments).env("ISOMER_URL", &server.url).output().expect("it runs")
}

/// Asserts that the output obeys the rule, and returns it.
#[track_caller]
fn harmless(output: &Output) -> String {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let bad = |char: char| char.is_control() && char != '\n' || ['\u{202e}', '\u{200b}'].contains(&char);
    assert!(!text.contains(bad), "{text:?}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_and_replies_are_printed_as_escapes() {
    let (server, agent) = (Server::start(Database::sqlite()).await, Agent::start().await);
    let name = HOSTILE.replace('\r', "").replace("[2J", "2J");
    let body = json!({ "name": name, "role": name, "runtime": "external", "url": agent.url });
    let id = server.workspace(body).await;
    server.workspace(json!({ "name": "Child", "runtime": "mock", "parent_id": id })).await;
    let beat =
        json!({ "workspace_id": id, "current_task": HOSTILE, "sample_error": HOSTILE, "error_rate": 0.9 });
    server.post("/registry/heartbeat", beat).await.ok();
    let settings = json!({ "replies": [HOSTILE], HOSTILE: HOSTILE });
    server.settings("mock", settings).await;

    let escaped = "\\u{202e}txt\\u{200b}";
    for (arguments, shown) in [
        (&["ws", "list"][..], true),
        (&["ws", "list", "--tree"], true),
        (&["ws", "show", &id], true),
        (&["ws", "explain", &id], true),
        (&["events"], true),
        (&["ws", "delete", &id], true),
        (&["guest", "show", "mock"], false),
        (&["guest", "list"], false),
        (&["ws", "pause", &id], true),
    ] {
        let text = harmless(&isomer(&server, arguments));
        assert!(!shown || text.contains(escaped), "{arguments:?}: {text}");
    }
    server.post(&format!("/workspaces/{id}/resume"), json!({})).await;

    let reply = json!({ "result": { "parts": [{ "text": format!("first line\r\nsecond {HOSTILE}") }] } });
    let error = json!({ "error": { "message": format!("{HOSTILE}\nisomer: all is well") } });
    let refusal = json!({ "error": format!("{HOSTILE}\nisomer: all is well") });
    let id = server.workspace(json!({ "name": "Agent", "runtime": "external", "url": agent.url })).await;
    agent.react([
        Reaction::Respond(200, reply.to_string()),
        Reaction::Respond(200, error.to_string()),
        Reaction::Respond(500, refusal.to_string()),
        Reaction::Respond(200, reply.to_string()),
    ]);
    let text = harmless(&isomer(&server, &["send", &id, "hello"]));
    assert!(text.starts_with("first line\nsecond x\\u{1b}[2J"), "the lines of a reply stay: {text}");
    for _ in 0..2 {
        let text = harmless(&isomer(&server, &["send", &id, "hello"]));
        assert_eq!(text.lines().count(), 1, "an error is one line: {text}");
    }
    let json = harmless(&isomer(&server, &["send", &id, "hello", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON"), reply, "JSON stays the same JSON");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_templates_are_printed_as_escapes() {
    let server = Server::start(Database::sqlite()).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("org.json");
    let hostile = HOSTILE.replace('\r', "").replace("[2J", "2J");
    for template in [
        json!({ "name": hostile, "workspaces": [{ "name": hostile, "runtime": "mock" }] }),
        json!({ "name": hostile, "workspaces": [{ "name": HOSTILE, "runtime": HOSTILE }], "required_env": [1] }),
    ] {
        fs::write(&file, template.to_string()).expect("writable");
        for arguments in [
            &["org", "import", "--dry-run"][..],
            &["org", "import"],
            &["org", "delete"],
            &["org", "delete", "--confirm"],
        ] {
            harmless(&isomer(&server, &[arguments, &[file.to_str().expect("UTF-8")]].concat()));
        }
    }
}
