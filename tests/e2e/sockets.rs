//! Events as a list, over WebSockets and as SSE (events.md §§3–5).

use std::collections::BTreeSet;

use futures::StreamExt as _;
use reqwest::Method;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use support::{Database, Server, Socket, Start, on_both_databases, select_number};

const ADMIN: &str = "the-admin-token";

fn guarded(database: Database) -> Start {
    Start::from(database).env("MOLECULE_ENV", "staging").env("ADMIN_TOKEN", ADMIN)
}

fn mock(name: &str) -> Value {
    json!({ "name": name, "runtime": "mock" })
}

async fn refused(server: &Server, headers: &[(&'static str, &str)]) -> (u16, String) {
    Socket::open(server, "", headers).await.err().expect("the handshake is refused")
}

fn seqs(events: &[Value]) -> Vec<i64> {
    events.iter().map(|event| event["seq"].as_i64().expect("stored events have numbers")).collect()
}

on_both_databases! {
    async fn the_list_is_newest_first(database: Database) {
        let server = Server::start(database).await;
        assert_eq!(server.get("/events").await.ok(), json!([]));
        let a = server.workspace(mock("A")).await;
        let b = server.workspace(json!({ "name": "B", "external": true })).await;
        let all = server.get("/events").await.ok();
        let listed: Vec<(&str, &str)> = all.as_array().unwrap().iter()
            .map(|event| (event["event_type"].as_str().unwrap(), event["workspace_id"].as_str().unwrap()))
            .collect();
        assert_eq!(listed, [
            ("WORKSPACE_AWAITING_AGENT", b.as_str()), ("WORKSPACE_PROVISIONING", &b),
            ("WORKSPACE_ONLINE", &a), ("WORKSPACE_PROVISIONING", &a),
        ]);
        assert_eq!(all[2]["payload"], json!({ "mock": true, "name": "A", "runtime": "mock" }));
        assert_eq!(all[3]["payload"], json!({ "name": "A", "runtime": "mock", "tier": 3 }));
        assert_eq!(all[0]["payload"], json!({ "external": true, "name": "B" }));
        let keys: Vec<&String> = all[0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["created_at", "event_type", "id", "payload", "seq", "workspace_id"]);
        // Times are unique: clients use them as keys.
        let times: BTreeSet<&str> = all.as_array().unwrap().iter().map(|it| it["created_at"].as_str().unwrap()).collect();
        assert_eq!(times.len(), 4);
        let of_a = server.get(&format!("/events/{a}")).await.ok();
        assert_eq!(of_a.as_array().unwrap().len(), 2);
        let typed = server.get("/events?type=WORKSPACE_ONLINE&limit=1").await.ok();
        assert_eq!(typed[0]["id"], all[2]["id"]);
        let before = server.get(&format!("/events?before={}&limit=1", all[1]["id"].as_str().unwrap())).await.ok();
        assert_eq!(before, json!([all[2]]));
        for nothing in ["/events/x", "/events/00000000-0000-4000-8000-000000000000", "/events?before=x"] {
            assert_eq!(server.get(nothing).await.ok(), json!([]), "{nothing}");
        }
        // Events outlive a removal of the workspace, but not a purge.
        server.delete(&format!("/workspaces/{a}")).await.ok();
        assert_eq!(server.get(&format!("/events/{a}")).await.ok()[0]["event_type"], "WORKSPACE_REMOVED");
        server.delete(&format!("/workspaces/{a}?purge=true")).await.ok();
        assert_eq!(server.get(&format!("/events/{a}")).await.ok(), json!([]));
    }

    async fn each_change_is_published_in_order(database: Database) {
        let server = Server::start(database).await;
        let mut canvas = Socket::canvas(&server).await;
        let id = server.workspace(mock("A")).await;
        let frame = canvas.text().await;
        let event: Value = serde_json::from_str(&frame).unwrap();
        let (at, seq) = (event["timestamp"].as_str().unwrap(), event["seq"].as_i64().unwrap());
        assert_eq!(frame, format!(
            r#"{{"event":"WORKSPACE_PROVISIONING","workspace_id":"{id}","timestamp":"{at}","payload":{{"name":"A","runtime":"mock","tier":3}},"seq":{seq}}}"#
        ));
        assert_eq!(canvas.event().await["event"], "WORKSPACE_ONLINE");
        let path = format!("/workspaces/{id}");
        server.patch(&path, json!({ "x": 1, "y": 2, "role": "r" })).await.ok();
        assert_eq!(canvas.event().await["payload"], json!({ "changed": ["role", "x", "y"] }));
        server.post(&format!("{path}/pause"), json!({})).await.ok();
        assert_eq!(canvas.event().await["event"], "WORKSPACE_PAUSED");
        server.post(&format!("{path}/resume"), json!({})).await.ok();
        assert_eq!(canvas.event().await["event"], "WORKSPACE_ONLINE");
        // Refused requests and new tokens publish no event.
        server.patch(&path, json!({ "name": "" })).await.error(400);
        server.post(&format!("{path}/tokens"), json!({})).await.ok();
        let child = server.workspace(json!({ "name": "C", "runtime": "mock", "parent_id": id })).await;
        server.delete(&format!("{path}?confirm=true")).await.ok();
        let rest: Vec<Value> = futures::stream::unfold(&mut canvas, async |canvas| Some((canvas.event().await, canvas)))
            .take(4).collect().await;
        let published: Vec<(&str, &str)> = rest.iter()
            .map(|event| (event["event"].as_str().unwrap(), event["workspace_id"].as_str().unwrap()))
            .collect();
        assert_eq!(published, [
            ("WORKSPACE_PROVISIONING", child.as_str()), ("WORKSPACE_ONLINE", &child),
            ("WORKSPACE_REMOVED", &child), ("WORKSPACE_REMOVED", &id),
        ]);
        assert_eq!((&rest[2]["payload"], &rest[3]["payload"]), (&json!({}), &json!({ "cascade_deleted": 1 })));
    }

    async fn resuming_anywhere_misses_nothing_and_repeats_nothing(database: Database) {
        let server = Server::start(database).await;
        // Every `since` below is the number of an existing event.
        for first in 0..11 {
            server.workspace(mock(&format!("First{first}"))).await;
        }
        // 64 tasks write while eight clients connect, each from another number.
        let writing = futures::future::join_all((0..64).map(async |writer| {
            let id = server.workspace(mock(&format!("W{writer}"))).await;
            server.patch(&format!("/workspaces/{id}"), json!({ "role": "r" })).await.ok();
        }));
        let last = "THE LAST";
        let reading = futures::future::join_all((0..8).map(async |reader: i64| {
            let mut socket = Socket::open(&server, &format!("?since={}", reader * 3), &[]).await.expect("it is open");
            let mut received = Vec::new();
            loop {
                let event = socket.event().await;
                let over = event["payload"]["name"] == last && event["event"] == "WORKSPACE_ONLINE";
                received.push(event);
                if over {
                    return (reader * 3, seqs(&received));
                }
            }
        }));
        let all = async {
            writing.await;
            server.workspace(mock(last)).await;
        };
        let (received, ()) = futures::future::join(reading, all).await;
        let stored = server.get("/events?limit=500").await.ok();
        let mut stored = seqs(stored.as_array().unwrap());
        stored.reverse();
        for (since, received) in received {
            let expected: Vec<i64> = stored.iter().copied().filter(|seq| *seq > since).collect();
            assert_eq!(received, expected, "since {since}");
        }
    }

    async fn a_client_too_far_behind_gets_resync_required(database: Database) {
        let server = Server::start(database).await;
        let id = server.workspace(mock("A")).await;
        for burst in 0..10 {
            let edits = (0..101).map(async |number| {
                server.patch(&format!("/workspaces/{id}"), json!({ "role": format!("{burst} {number}") })).await.ok()
            });
            futures::future::join_all(edits).await;
        }
        let mut socket = Socket::open(&server, "?since=0", &[]).await.expect("it is open");
        let event = socket.event().await;
        assert_eq!(event["event"], "RESYNC_REQUIRED");
        assert_eq!((&event["workspace_id"], &event["payload"]), (&json!(""), &json!({})));
        // The socket continues with live events.
        server.delete(&format!("/workspaces/{id}")).await.ok();
        assert_eq!(socket.event().await["event"], "WORKSPACE_REMOVED");
    }

    async fn a_sequence_number_beyond_the_last_asks_for_a_resync(database: Database) {
        let server = Server::start(database).await;
        let id = server.workspace(mock("A")).await;
        let mut socket = Socket::open(&server, "?since=1000", &[]).await.expect("it is open");
        let frame = socket.text().await;
        assert!(frame.starts_with(r#"{"event":"RESYNC_REQUIRED","workspace_id":"","timestamp":""#), "{frame}");
        let mut stream = server.stream(&format!("/workspaces/{id}/events/stream"), Some(1000)).await;
        assert_eq!(stream.message().await, ": ping");
        let message = stream.message().await;
        assert!(message.starts_with(r#"data: {"type":"RESYNC_REQUIRED","#), "{message}");
        // Later events are sent although their numbers are below that one.
        server.patch(&format!("/workspaces/{id}"), json!({ "role": "r" })).await.ok();
        assert_eq!(socket.event().await["event"], "WORKSPACE_UPDATED");
        assert!(stream.message().await.contains("WORKSPACE_UPDATED"));
    }

    async fn a_stream_replays_its_own_events_however_many_others_there_are(database: Database) {
        let server = Server::start(database).await;
        let [own, other] = [server.workspace(mock("Own")).await, server.workspace(mock("Other")).await];
        let last = server.get("/events?limit=1").await.ok()[0]["seq"].as_i64().unwrap();
        server.patch(&format!("/workspaces/{own}"), json!({ "role": "r" })).await.ok();
        // Events of the server itself may have numbers in between.
        let edit = server.get(&format!("/events/{own}?limit=1")).await.ok()[0]["seq"].as_i64().unwrap();
        for burst in 0..10 {
            let edits = (0..101).map(async |number| {
                server.patch(&format!("/workspaces/{other}"), json!({ "role": format!("{burst} {number}") })).await.ok()
            });
            futures::future::join_all(edits).await;
        }
        let mut stream = server.stream(&format!("/workspaces/{own}/events/stream"), Some(last)).await;
        assert_eq!(stream.message().await, ": ping");
        let message = stream.message().await;
        assert!(message.starts_with(&format!("id: {edit}\n")), "{edit}: {message}");
    }

    async fn a_workspace_with_a_token_requires_it(database: Database) {
        let mut server = Server::start(database).await;
        let [never, had] = [server.workspace(mock("Never")).await, server.workspace(mock("Had")).await];
        let tokens = format!("/workspaces/{had}/tokens");
        server.post(&tokens, json!({})).await.ok();
        let token = server.get(&tokens).await.ok()["tokens"][0]["id"].as_str().unwrap().to_owned();
        server.delete(&format!("{tokens}/{token}")).await.ok();
        for _ in 0..2 {
            Socket::open(&server, "", &[("X-Workspace-ID", &never)]).await.expect("a workspace that never had a token needs none");
            let refusal = refused(&server, &[("X-Workspace-ID", &had)]).await;
            assert_eq!(refusal, (401, json!({ "error": "missing workspace auth token" }).to_string()));
            server = server.restart().await;
        }
    }

    async fn callers_who_proved_nothing_do_not_see_where_agents_are_reached(database: Database) {
        // No credential exists yet: lists and sockets are open.
        let server = Server::start(Start::from(database).env("MOLECULE_ENV", "staging")).await;
        let mut canvas = Socket::canvas(&server).await;
        let url = "http://localhost:9/secret?key=hunter2";
        let id = server.workspace(json!({ "name": "A", "external": true, "url": url })).await;
        let org = async || server.post("/org/tokens", json!({})).await.ok()["auth_token"].as_str().unwrap().to_owned();
        // Its agent says more of itself. Only registering gives it a token, which would close the lists.
        let card = json!({ "name": "C", "url": url, "skills": [{ "id": "s", "url": url }] });
        server.post("/registry/update-card", json!({ "workspace_id": id, "agent_card": card })).await.ok();
        let hidden = |answer: &Value| assert!(!answer.to_string().contains("hunter2"), "{answer}");
        let listed = server.get("/workspaces").await.ok();
        hidden(&listed);
        let bare = json!({ "name": "C", "skills": [{ "id": "s" }] });
        assert_eq!((&listed[0]["url"], &listed[0]["agent_card"]), (&json!(""), &bare));
        hidden(&server.get(&format!("/workspaces/{id}")).await.ok());
        for path in ["/events".to_owned(), format!("/events/{id}")] {
            hidden(&server.get(&path).await.ok());
        }
        let mut events = vec![canvas.event().await, canvas.event().await, canvas.event().await];
        let mut again = Socket::open(&server, "?since=0", &[]).await.expect("it is open");
        events.extend([again.event().await, again.event().await, again.event().await]);
        let org = org().await;
        let registered = json!({ "id": id, "url": url, "agent_card": card });
        let token = server.ask(&org, Method::POST, "/registry/register", Some(registered)).await.ok();
        events.push(canvas.event().await);
        assert_eq!(events[6]["event"], "WORKSPACE_ONLINE");
        assert_eq!(events[6]["payload"], json!({ "agent_card": bare, "delivery_mode": "push" }));
        events.iter().for_each(hidden);
        // Callers with a credential see it.
        let token = token["auth_token"].as_str().unwrap();
        for path in ["/workspaces".to_owned(), "/events".to_owned(), format!("/workspaces/{id}")] {
            let known = server.ask(token, Method::GET, &path, None).await.ok();
            assert!(known.to_string().contains("hunter2"), "{known}");
        }
        let authorization = format!("Bearer {org}");
        let mut known = Socket::open(&server, "?since=0", &[("Authorization", &authorization)]).await.expect("it is open");
        let mut seen = String::new();
        for _ in 0..4 {
            seen.push_str(&known.text().await);
        }
        assert_eq!(seen.matches("hunter2").count(), 2 + 3, "{seen}");
    }

    async fn a_ticket_opens_one_socket(database: Database) {
        let server = Server::start(guarded(database).env("RUST_LOG", "debug")).await;
        let made = async |bearer: &str| server.ask(bearer, Method::POST, "/ws/ticket", None).await;
        let ticket = async |bearer: &str| {
            let made = made(bearer).await.ok();
            assert_eq!(made["expires_in"], 30);
            made["ticket"].as_str().unwrap().to_owned()
        };
        let refused = async |query: &str, headers: &[(&'static str, &str)]| {
            let (status, body) = Socket::open(&server, query, headers).await.err().expect("the handshake is refused");
            (status, serde_json::from_str::<Value>(&body).unwrap()["error"].as_str().unwrap().to_owned())
        };
        let invalid = (401, "invalid WebSocket ticket".to_owned());
        let first = ticket(ADMIN).await;
        let mut canvas = Socket::open(&server, &format!("?ticket={first}"), &[("Origin", "http://localhost:3000")]).await.expect("it is open");
        let id = server.ask(ADMIN, Method::POST, "/workspaces", Some(mock("A"))).await.ok();
        let id = id["id"].as_str().unwrap();
        assert_eq!(canvas.event().await["workspace_id"], id);
        // Once only, whether the socket is still open or not; and none that was never made.
        drop(canvas);
        for used in [first.as_str(), "", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", ADMIN] {
            assert_eq!(refused(&format!("?ticket={used}"), &[]).await, invalid, "{used}");
        }
        // Of many that use it at once, one gets in.
        let second = ticket(ADMIN).await;
        let raced = (0..8).map(|_| Socket::open(&server, "?since=0", &[]));
        assert_eq!(futures::future::join_all(raced).await.iter().filter(|opened| opened.is_ok()).count(), 0);
        let query = format!("?since=0&ticket={second}");
        let raced = futures::future::join_all((0..8).map(|_| Socket::open(&server, &query, &[]))).await;
        assert_eq!(raced.iter().filter(|opened| opened.is_ok()).count(), 1);
        // It is not for agents, not beside another credential, and for nothing that is refused; none of it uses it up.
        let third = ticket(ADMIN).await;
        let query = format!("?ticket={third}");
        let both = (401, "invalid WebSocket credential".to_owned());
        let (bearer, hex) = (format!("Bearer {ADMIN}"), format!("molecule-auth.{}", hex::encode(ADMIN)));
        for headers in [("X-Workspace-ID", id), ("Authorization", &bearer), ("Sec-WebSocket-Protocol", &hex)] {
            assert_eq!(refused(&query, &[headers]).await, both, "{headers:?}");
        }
        for since in ["x", "-1"] {
            let bad = refused(&format!("{query}&since={since}"), &[]).await;
            assert_eq!(bad, (400, "since must be the number of an event".to_owned()));
        }
        Socket::open(&server, &query, &[]).await.expect("it was not used");
        // Who may not read all events makes none.
        let own = server.ask(ADMIN, Method::POST, &format!("/workspaces/{id}/tokens"), None).await.ok();
        assert_eq!(server.request(Method::POST, "/ws/ticket", None).await.error(401), "admin auth required");
        for bearer in [own["auth_token"].as_str().unwrap(), "x"] {
            assert_eq!(made(bearer).await.error(401), "invalid admin auth token");
        }
        // That of a credential which was revoked meanwhile opens nothing.
        let org = server.ask(ADMIN, Method::POST, "/org/tokens", Some(json!({}))).await.ok();
        let late = ticket(org["auth_token"].as_str().unwrap()).await;
        server.ask(ADMIN, Method::DELETE, &format!("/org/tokens/{}", org["id"].as_str().unwrap()), None).await.ok();
        assert_eq!(refused(&format!("?ticket={late}"), &[]).await, invalid);
        // It outlives a restart, but not its time by the database's clock, in either direction.
        let [kept, old, early] = [ticket(ADMIN).await, ticket(ADMIN).await, ticket(ADMIN).await];
        let log = server.log();
        let server = server.restart().await;
        Socket::open(&server, &format!("?ticket={kept}"), &[]).await.expect("it is good for thirty seconds");
        let database = server.connect().await;
        for (ticket, change) in [(&old, "made_ms - 31000"), (&early, "made_ms + 60000")] {
            database.execute_unprepared(&format!("UPDATE socket_tickets SET made_ms = {change}")).await.unwrap();
            let refusal = Socket::open(&server, &format!("?ticket={ticket}"), &[]).await.err().expect("it is refused");
            assert_eq!(refusal.0, 401, "{change}");
        }
        // Unused ones are bounded, and make room when they are too old.
        let make = async || server.ask(ADMIN, Method::POST, "/ws/ticket", None).await;
        for _ in 0..100 {
            make().await.ok();
        }
        assert_eq!(make().await.error(429), "too many unused tickets — retry in 30 seconds");
        database.execute_unprepared("UPDATE socket_tickets SET made_ms = made_ms - 31000").await.unwrap();
        make().await.ok();
        assert_eq!(select_number(&database, "SELECT COUNT(*) FROM socket_tickets").await, 1);
        for ticket in [first, second, third, kept, old, early, late] {
            assert!(!log.contains(&ticket) && !server.log().contains(&ticket), "a ticket is in the log");
        }
    }

    async fn a_stream_carries_events_of_one_workspace(database: Database) {
        let mut server = Server::start(database).await;
        let id = server.workspace(mock("A")).await;
        server.workspace(mock("B")).await;
        let url = format!("/workspaces/{id}/events/stream");
        let mut stream = server.stream(&url, None).await;
        assert_eq!(stream.header("content-type"), "text/event-stream");
        assert_eq!(stream.header("cache-control"), "no-cache");
        assert_eq!(stream.header("x-accel-buffering"), "no");
        assert_eq!(stream.header("x-content-type-options"), "nosniff");
        assert_eq!(stream.message().await, ": ping");
        server.workspace(mock("C")).await;
        server.patch(&format!("/workspaces/{id}"), json!({ "role": "r" })).await.ok();
        let event = server.get(&format!("/events/{id}?limit=1")).await.ok()[0].clone();
        let at = chrono::DateTime::parse_from_rfc3339(event["created_at"].as_str().unwrap()).unwrap();
        let mut first = stream.message().await;
        // What happened a moment before may still be on its way.
        while first.contains("WORKSPACE_PROVISIONING") || first.contains("WORKSPACE_ONLINE") {
            first = stream.message().await;
        }
        assert_eq!(first, format!(
            "id: {}\ndata: {{\"type\":\"WORKSPACE_UPDATED\",\"timestamp\":{},\"data\":{{\"changed\":[\"role\"]}}}}",
            event["seq"], at.timestamp_millis()
        ));
        // After a crash, the stream resumes after the last event.
        drop(stream);
        server.patch(&format!("/workspaces/{id}"), json!({ "role": "s" })).await.ok();
        let missed = server.get(&format!("/events/{id}?limit=1")).await.ok()[0]["seq"].clone();
        server = server.kill_and_restart().await;
        let last = event["seq"].as_i64().unwrap();
        let mut stream = server.stream(&url, Some(last)).await;
        assert_eq!(stream.message().await, ": ping");
        assert!(stream.message().await.starts_with(&format!("id: {missed}\n")));
        // The stream ends with the removal of the workspace.
        server.delete(&format!("/workspaces/{id}")).await.ok();
        assert!(stream.message().await.contains("WORKSPACE_REMOVED"));
        assert_eq!(stream.rest().await, "");
        assert_eq!(server.get(&url).await.error(404), "workspace not found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_sockets_need_access() {
    let server = Server::start(guarded(Database::sqlite())).await;
    let make = async |body: Value| {
        let made = server.ask(ADMIN, Method::POST, "/workspaces", Some(body)).await.ok();
        made["id"].as_str().unwrap().to_owned()
    };
    let a = make(mock("A")).await;
    let b = make(mock("B")).await;
    let token = server.ask(ADMIN, Method::POST, &format!("/workspaces/{a}/tokens"), None).await.ok();
    let token = token["auth_token"].as_str().unwrap();
    let bearer = |token: &str| format!("Bearer {token}");
    let protocol = |token: &str| format!("molecule-auth.{}", hex::encode(token));
    let error = |text: &str| json!({ "error": text }).to_string();
    // The canvas.
    assert_eq!(refused(&server, &[]).await, (401, error("canvas auth required")));
    let foreign = refused(&server, &[("Origin", "http://evil.example")]).await;
    assert_eq!(foreign.0, 403);
    for origin in ["http://localhost:3000", &server.url.clone()] {
        let forged = Socket::open(&server, "?since=0", &[("Origin", origin)]).await.err();
        assert_eq!(forged, Some((401, error("canvas auth required"))), "{origin}");
    }
    for (name, value) in [("Authorization", bearer(ADMIN)), ("Sec-WebSocket-Protocol", protocol(ADMIN))] {
        // Browsers close a socket whose offered subprotocol is not selected.
        let opened = server.upgrade(&[(name, &value)]).await;
        assert!(opened.starts_with("HTTP/1.1 101"), "{opened}");
        let selected =
            opened.to_lowercase().contains(&format!("sec-websocket-protocol: {}", protocol(ADMIN)));
        assert_eq!(selected, name == "Sec-WebSocket-Protocol", "{opened}");
    }
    for wrong in [bearer("x"), bearer(token)] {
        let answer = refused(&server, &[("Authorization", &wrong)]).await;
        assert_eq!(answer, (401, error("invalid canvas auth token")));
    }
    for protocols in ["molecule-auth.xyz", "molecule-auth.", "molecule-auth.61, molecule-auth.62"] {
        let opened = server.upgrade(&[("Sec-WebSocket-Protocol", protocols)]).await;
        assert!(
            opened.starts_with("HTTP/1.1 401") && opened.contains("invalid WebSocket credential"),
            "{opened}"
        );
    }
    // An agent.
    let agent = |id: &str, authorization: Option<String>| {
        let mut headers = vec![("X-Workspace-ID", id.to_owned())];
        headers.extend(authorization.map(|value| ("Authorization", value)));
        headers
    };
    for (headers, expected) in [
        (agent(&a, Some(bearer(token))), None),
        (agent(&b, Some(bearer(ADMIN))), None),
        (agent(&a, None), Some("missing workspace auth token")),
        (agent(&b, Some(bearer(token))), Some("invalid workspace auth token")),
        (agent("x", Some(bearer(token))), Some("invalid workspace auth token")),
        (
            agent("00000000-0000-4000-8000-000000000000", Some(bearer(ADMIN))),
            Some("invalid workspace auth token"),
        ),
    ] {
        let headers: Vec<(&'static str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let opened = Socket::open(&server, "", &headers).await.err();
        assert_eq!(opened, expected.map(|text| (401, error(text))), "{headers:?}");
    }
    assert_eq!(server.ask(ADMIN, Method::GET, "/ws", None).await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_dev_mode_access_is_open_until_a_token_exists() {
    for env in ["development", "staging"] {
        let server = Server::start(Start::from(Database::sqlite()).env("MOLECULE_ENV", env)).await;
        let id = server.workspace(mock("A")).await;
        let headers = [("X-Workspace-ID", id.as_str())];
        Socket::open(&server, "", &[]).await.expect("a canvas needs no token");
        Socket::open(&server, "", &headers).await.expect("the workspace never had a token");
        server.get(&format!("/admin/workspaces/{id}/test-token")).await.ok();
        Socket::open(&server, "", &[]).await.expect("a canvas still needs no token");
        let refusal = Socket::open(&server, "", &headers).await.err().expect("the workspace has a token now");
        assert_eq!(refusal.0, 401, "{env}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_receive_events_of_workspaces_they_can_communicate_with() {
    let server = Server::start(Database::sqlite()).await;
    let under = |name: &str, parent: &str| json!({ "name": name, "runtime": "mock", "parent_id": parent });
    let root = server.workspace(mock("Root")).await;
    let other = server.workspace(mock("Other")).await;
    let agent = server.workspace(under("Agent", &root)).await;
    let sibling = server.workspace(under("Sibling", &root)).await;
    let stranger = server.workspace(under("Stranger", &other)).await;
    let mut socket = Socket::open(&server, "", &[("X-Workspace-ID", &agent)]).await.expect("it is open");
    for id in [&stranger, &other, &sibling, &root, &agent] {
        server.patch(&format!("/workspaces/{id}"), json!({ "role": "r" })).await.ok();
    }
    for id in [&sibling, &root, &agent] {
        assert_eq!(socket.event().await["workspace_id"], **id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_close_with_a_reason() {
    let server = Server::start(Database::sqlite()).await;
    let id = server.workspace(mock("A")).await;
    let mut talker = Socket::canvas(&server).await;
    talker.send("x".repeat(4 * 1024)).await;
    talker.send("x".repeat(4 * 1024 + 1)).await;
    assert_eq!(talker.closed().await, 1009);
    // A workspace may have ten sockets. Closing one permits another.
    let headers = [("X-Workspace-ID", id.as_str())];
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(Socket::open(&server, "", &headers).await.expect("below the limit"));
    }
    assert_eq!(Socket::open(&server, "", &headers).await.err().map(|refusal| refusal.0), Some(503));
    open.pop();
    server
        .until("a closed socket is no longer counted", async |server| {
            Socket::open(server, "", &headers).await.is_ok()
        })
        .await;
    assert!(server.metric("molecule_websocket_connections_active").await >= Some(9.0));
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(server.stream(&format!("/workspaces/{id}/events/stream"), None).await);
    }
    assert_eq!(server.get(&format!("/workspaces/{id}/events/stream")).await.status, 429);
    // A server that stops closes its sockets and streams at once.
    let mut last = open.pop().expect("nine sockets are open");
    let stopping = tokio::spawn(server.restart());
    assert_eq!(last.closed().await, 1001);
    assert!(streams[0].message().await == ": ping");
    assert_eq!(streams[0].rest().await, "");
    stopping.await.expect("it restarts");
}
