//! The commands of `isomer ws` and `isomer events`.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use support::{Database, Server, Start, free_port, program};

fn isomer(server: &Server, arguments: &[&str]) -> Output {
    program().args(arguments).env("ISOMER_URL", &server.url).env("MY_KEY", "hush").output().expect("it runs")
}

#[track_caller]
fn says(output: &Output, succeeds: bool, texts: &[&str]) -> String {
    let all =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), succeeds, "{all}");
    for text in texts {
        assert!(all.contains(text), "no `{text}` in:\n{all}");
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_organization() {
    let server = Server::start(Database::sqlite()).await;
    let ws = |arguments: &[&str]| isomer(&server, &[&["ws"], arguments].concat());
    says(
        &ws(&["list"]),
        true,
        &["There are no workspaces. Create one: isomer ws create hello --runtime mock"],
    );
    says(
        &ws(&["create", "CEO", "--runtime", "mock", "--role", "Leads", "--tier", "1"]),
        true,
        &["CEO is online"],
    );
    says(&ws(&["create", "CTO", "--runtime", "mock", "--parent", "CEO"]), true, &["CTO is online"]);
    let made = says(
        &ws(&["create", "Poller", "--external", "--parent", "CTO"]),
        true,
        &["Poller is awaiting_agent", "Save the token now"],
    );
    let token = made.split("token of its agent  ").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(token.len(), 43);
    let kept = says(
        &ws(&["create", "Keeper", "--runtime", "mock", "--secret", "MY_KEY", "--secret", "B=c"]),
        true,
        &[],
    );
    assert!(!kept.contains("hush"));
    says(
        &ws(&["create", "No", "--secret", "UNSET_KEY"]),
        false,
        &["the environment variable UNSET_KEY isn't set"],
    );
    says(&ws(&["list"]), true, &["NAME", "STATUS", "PARENT", "CTO", "CEO", "awaiting_agent"]);
    let tree = says(&ws(&["list", "--tree"]), true, &[]);
    assert_eq!(
        tree.lines().collect::<Vec<_>>(),
        [
            "CEO  (mock, online)",
            "└─ CTO  (mock, online)",
            "   └─ Poller  (external, awaiting_agent)",
            "Keeper  (mock, online)",
        ]
    );
    says(&ws(&["show", "CEO"]), true, &["role                 Leads", "tier                 1"]);
    says(
        &ws(&["update", "CTO", "--name", "Chief", "--x", "-1", "--y", "2", "--collapsed", "true"]),
        true,
        &["CTO is updated"],
    );
    says(
        &ws(&["update", "Chief", "--workspace-dir", "/srv"]),
        true,
        &["Chief is updated. Its agent sees the change after a restart: isomer ws restart \"Chief\""],
    );
    says(&ws(&["update", "CEO", "--parent", "Poller"]), false, &["parent_id would create a cycle"]);
    says(&ws(&["update", "CEO", "--tier", "9"]), false, &["invalid workspace fields"]);
    says(&ws(&["pause", "Chief"]), true, &["Chief is paused, with 1 workspace below it"]);
    says(&ws(&["restart", "Poller"]), false, &["parent workspace \"Chief\" is paused"]);
    says(&ws(&["resume", "Chief"]), true, &["Chief is resumed, with 1 workspace below it"]);
    says(&ws(&["restart", "Chief"]), true, &["Chief was not restarted: mock workspaces have no container"]);
    says(&ws(&["hibernate", "Chief", "--force"]), false, &["no container to hibernate"]);
    says(
        &ws(&["explain", "Poller"]),
        true,
        &[
            "Poller is awaiting_agent since",
            "its agent runs elsewhere",
            "waits for   its agent to call POST",
            "until       no deadline",
            "then        it is online",
        ],
    );
    says(&ws(&["explain", "CEO"]), true, &["CEO waits for nothing"]);
    says(
        &ws(&["delete", "CEO"]),
        false,
        &["CEO was not removed: it has workspaces below it (Chief). Remove them all with --confirm"],
    );
    says(&ws(&["delete", "CEO", "--confirm"]), true, &["CEO is removed, with 2 workspaces below it"]);
    says(&ws(&["show", "CEO"]), false, &["no workspace is called CEO. `isomer ws list` shows all"]);
    // Twins are told apart by who they are below, and by their ids.
    says(&ws(&["create", "Keeper", "--runtime", "mock", "--parent", "Keeper"]), true, &[]);
    let twins = says(
        &ws(&["show", "Keeper"]),
        false,
        &["several workspaces are called Keeper", "below Keeper", "at the top"],
    );
    let id =
        twins.lines().find(|line| line.contains("below Keeper")).unwrap().trim().split(' ').next().unwrap();
    says(&ws(&["delete", &id[..8], "--purge"]), true, &["Keeper is purged"]);
    let listed: Value = serde_json::from_slice(&ws(&["list", "--json"]).stdout).expect("JSON");
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

/// A command that goes on, and what it writes.
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
    // The client that follows comes back to the same address.
    let start = Start::from(Database::sqlite()).env("PORT", free_port().to_string());
    let mut server = Server::start(start).await;
    server.workspace(json!({ "name": "First", "runtime": "mock" })).await;
    let listed =
        says(&isomer(&server, &["events"]), true, &["WORKSPACE_PROVISIONING", "First", "\"tier\":3"]);
    assert!(listed.lines().next().unwrap().contains("WORKSPACE_PROVISIONING"), "oldest first: {listed}");
    let typed = says(&isomer(&server, &["events", "--type", "WORKSPACE_ONLINE", "--json"]), true, &[]);
    let event: Value = serde_json::from_str(typed.trim()).expect("one line of JSON");
    assert_eq!(event["event_type"], "WORKSPACE_ONLINE");
    says(&isomer(&server, &["events", "--workspace", "Unknown"]), false, &["no workspace is called Unknown"]);

    let following = Following::start(&server, &["--since", "0"]);
    for _ in 0..2 {
        assert!(following.line().contains("First"));
    }
    server.workspace(json!({ "name": "Second", "runtime": "mock" })).await;
    let line = following.line();
    assert!(line.contains("WORKSPACE_PROVISIONING") && line.contains("Second"), "{line}");
    assert!(following.line().contains("WORKSPACE_ONLINE"));
    // The server goes and comes; what happened first thereafter is not missed.
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
        says(&isomer(&server, arguments), false, &["Give the server's ADMIN_TOKEN with --token"]);
    }
    says(
        &isomer(&server, &["ws", "create", "A", "--runtime", "mock", "--token", "t"]),
        true,
        &["A is online"],
    );
}
