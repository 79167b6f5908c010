//! The commands of `isomer ws` and `isomer events`.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use support::{Database, Server, Start, assert_output, free_port, program};

fn isomer(server: &Server, arguments: &[&str]) -> Output {
    program().args(arguments).env("ISOMER_URL", &server.url).env("MY_KEY", "hush").output().expect("it runs")
}

async fn poller_id(server: &Server) -> String {
    let all = server.get("/workspaces").await.ok();
    let poller = all.as_array().unwrap().iter().find(|row| row["name"] == "Poller");
    poller.unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_are_managed_by_the_cli() {
    let server = Server::start(Database::sqlite()).await;
    let ws = |arguments: &[&str]| isomer(&server, &[&["ws"], arguments].concat());
    assert_output(
        &ws(&["list"]),
        true,
        &["There are no workspaces. Create one: isomer ws create hello --runtime mock"],
    );
    assert_output(
        &ws(&["create", "CEO", "--runtime", "mock", "--role", "Leads", "--tier", "1"]),
        true,
        &["CEO is online"],
    );
    assert_output(&ws(&["create", "CTO", "--runtime", "mock", "--parent", "CEO"]), true, &["CTO is online"]);
    let made = assert_output(
        &ws(&["create", "Poller", "--external", "--parent", "CTO"]),
        true,
        &["Poller is awaiting_agent", "Save the token now"],
    );
    let token = made.split("token of its agent  ").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(token.len(), 43);
    let kept = assert_output(
        &ws(&["create", "Keeper", "--runtime", "mock", "--secret", "MY_KEY", "--secret", "B=c"]),
        true,
        &[],
    );
    assert!(!kept.contains("hush"));
    assert_output(
        &ws(&["create", "No", "--secret", "UNSET_KEY"]),
        false,
        &["the environment variable UNSET_KEY isn't set"],
    );
    assert_output(&ws(&["list"]), true, &["NAME", "STATUS", "PARENT", "CTO", "CEO", "awaiting_agent"]);
    let tree = assert_output(&ws(&["list", "--tree"]), true, &[]);
    assert_eq!(
        tree.lines().collect::<Vec<_>>(),
        [
            "CEO  (mock, online)",
            "└─ CTO  (mock, online)",
            "   └─ Poller  (external, awaiting_agent)",
            "Keeper  (mock, online)",
        ]
    );
    assert_output(&ws(&["show", "CEO"]), true, &["role                 Leads", "tier                 1"]);
    assert_output(
        &ws(&["update", "CTO", "--name", "Chief", "--x", "-1", "--y", "2", "--collapsed", "true"]),
        true,
        &["CTO is updated"],
    );
    assert_output(
        &ws(&["update", "Chief", "--workspace-dir", "/srv"]),
        true,
        &["Chief is updated. Its agent sees the change after a restart: isomer ws restart \"Chief\""],
    );
    assert_output(&ws(&["update", "CEO", "--parent", "Poller"]), false, &["parent_id would create a cycle"]);
    assert_output(&ws(&["update", "CEO", "--tier", "9"]), false, &["invalid workspace fields"]);
    assert_output(&ws(&["pause", "Chief"]), true, &["Chief is paused, with 1 workspace below it"]);
    assert_output(&ws(&["restart", "Poller"]), false, &["parent workspace \"Chief\" is paused"]);
    assert_output(&ws(&["resume", "Chief"]), true, &["Chief is resumed, with 1 workspace below it"]);
    assert_output(
        &ws(&["restart", "Chief"]),
        true,
        &["Chief was not restarted: mock workspaces have no container"],
    );
    assert_output(&ws(&["hibernate", "Chief", "--force"]), false, &["no container to hibernate"]);
    assert_output(
        &ws(&["explain", "Poller"]),
        true,
        &[
            "Poller is awaiting_agent since",
            "its agent runs elsewhere",
            "waits for   its agent to call POST",
            "until       no deadline",
            "then        the workspace is online",
        ],
    );
    let card = json!({ "name": "Poller", "configuration_status": "not_configured", "configuration_error": "no API key" });
    let body = json!({ "id": poller_id(&server).await, "agent_card": card });
    server.ask(token, Method::POST, "/registry/register", Some(body)).await.ok();
    assert_output(&ws(&["explain", "Poller"]), true, &["agent       is not configured: no API key"]);
    assert_output(
        &isomer(&server, &["send", "Poller", "hello"]),
        true,
        &["The agent of Poller is not configured: no API key", "Poller polls for messages"],
    );
    assert_output(&ws(&["explain", "CEO"]), true, &["CEO waits for nothing"]);
    assert_output(
        &ws(&["delete", "CEO"]),
        false,
        &["CEO was not removed: it has workspaces below it (Chief). Remove them all with --confirm"],
    );
    assert_output(
        &ws(&["delete", "CEO", "--confirm"]),
        true,
        &["CEO is removed, with 2 workspaces below it"],
    );
    assert_output(&ws(&["show", "CEO"]), false, &["no workspace is called CEO. `isomer ws list` shows all"]);
    // Workspaces with one name are distinguished by their parents and ids.
    assert_output(&ws(&["create", "Keeper", "--runtime", "mock", "--parent", "Keeper"]), true, &[]);
    let ambiguous = assert_output(
        &ws(&["show", "Keeper"]),
        false,
        &["several workspaces are called Keeper", "below Keeper", "at the top"],
    );
    let id = ambiguous
        .lines()
        .find(|line| line.contains("below Keeper"))
        .unwrap()
        .trim()
        .split(' ')
        .next()
        .unwrap();
    assert_output(&ws(&["delete", &id[..8], "--purge"]), true, &["Keeper is purged"]);
    let listed: Value = serde_json::from_slice(&ws(&["list", "--json"]).stdout).expect("JSON");
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

/// A running `isomer events --follow` and the lines that it writes.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let mut program = program();
        program.args(["events", "--follow"]).args(arguments).env("ISOMER_URL", &server.url);
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(60)).expect("it writes in time")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_and_followed() {
    // The following client reconnects to the same address.
    let start = Start::from(Database::sqlite()).env("PORT", free_port().to_string());
    let mut server = Server::start(start).await;
    server.workspace(json!({ "name": "First", "runtime": "mock" })).await;
    let listed = assert_output(
        &isomer(&server, &["events"]),
        true,
        &["WORKSPACE_PROVISIONING", "First", "\"tier\":3"],
    );
    assert!(listed.lines().next().unwrap().contains("WORKSPACE_PROVISIONING"), "oldest first: {listed}");
    let typed =
        assert_output(&isomer(&server, &["events", "--type", "WORKSPACE_ONLINE", "--json"]), true, &[]);
    let event: Value = serde_json::from_str(typed.trim()).expect("one line of JSON");
    assert_eq!(event["event_type"], "WORKSPACE_ONLINE");
    assert_output(
        &isomer(&server, &["events", "--workspace", "Unknown"]),
        false,
        &["no workspace is called Unknown"],
    );

    let following = Following::start(&server, &["--since", "0"]);
    for _ in 0..2 {
        assert!(following.line().contains("First"));
    }
    server.workspace(json!({ "name": "Second", "runtime": "mock" })).await;
    let line = following.line();
    assert!(line.contains("WORKSPACE_PROVISIONING") && line.contains("Second"), "{line}");
    assert!(following.line().contains("WORKSPACE_ONLINE"));
    // The client reconnects after a crash and misses no event.
    server = server.kill_and_restart().await;
    server.workspace(json!({ "name": "Third", "runtime": "mock" })).await;
    let line = following.line();
    assert!(line.contains("WORKSPACE_PROVISIONING") && line.contains("Third"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_an_admin_token_requires_it() {
    let start = Start::from(Database::sqlite()).env("ADMIN_TOKEN", "t");
    let server = Server::start(start).await;
    for arguments in [&["ws", "list"][..], &["events"], &["events", "--follow"]] {
        assert_output(&isomer(&server, arguments), false, &["Give the server's ADMIN_TOKEN with --token"]);
    }
    assert_output(
        &isomer(&server, &["ws", "create", "A", "--runtime", "mock", "--token", "t"]),
        true,
        &["A is online"],
    );
}
