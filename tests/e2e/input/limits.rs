//! Answers and reports of bounded size, parameters with few values, and small compatibility.

use reqwest::Method;
use serde_json::{Value, json};
use support::{Agent, Database, Reaction, Server, Socket, Start, on_both_databases};

use super::mock;

/// A page of activity, and the query of the next one.
async fn page(server: &Server, id: &str, query: &str) -> (Vec<Value>, Option<String>) {
    page_of(&format!("{}/workspaces/{id}/activity{query}", server.url)).await
}

async fn page_of(url: &str) -> (Vec<Value>, Option<String>) {
    let answer = reqwest::get(url).await.expect("it answers");
    assert_eq!(answer.status(), 200);
    let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
    let next =
        link.map(|link| link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned());
    (answer.json().await.expect("rows"), next)
}

fn summaries(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| row["summary"].as_str().unwrap().to_owned()).collect()
}

async fn report(server: &Server, id: &str, summary: &str, bytes: usize) {
    let body = json!({ "activity_type": "agent_log", "summary": summary, "request_body": "x".repeat(bytes) });
    server.post(&format!("/workspaces/{id}/activity"), body).await.ok();
}

on_both_databases! {
    async fn a_page_of_activity_ends_at_its_bytes_and_says_where_the_next_begins(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server).await;
        for number in 0..20 {
            report(&server, &id, &number.to_string(), 900_000).await;
        }
        let newest_first: Vec<String> = (0..20).rev().map(|number: u32| number.to_string()).collect();
        let (rows, mut next) = page(&server, &id, "?type=agent_log&limit=500").await;
        assert_eq!(rows.len(), 9, "as many as fit 8 MiB");
        let mut all = summaries(&rows);
        while let Some(query) = next.take() {
            assert!(query.contains("type=agent_log&limit=500"), "{query}");
            let (rows, further) = page(&server, &id, &query).await;
            all.extend(summaries(&rows));
            next = further;
        }
        assert_eq!(all, newest_first);

        // By cursor, as clients do that know no links.
        let (first, _) = page(&server, &id, "?limit=1&before_ts=2100-01-01T00:00:00Z").await;
        assert_eq!(summaries(&first), ["19"]);
        let mut cursor = all_of(&server, &id).await.last().unwrap()["id"].as_str().unwrap().to_owned();
        let mut seen = vec!["0".to_owned()];
        loop {
            let (rows, next) = page(&server, &id, &format!("?since_id={cursor}&limit=500")).await;
            let Some(last) = rows.last() else { break };
            cursor = last["id"].as_str().unwrap().to_owned();
            assert!(next.is_none_or(|query| query == format!("?limit=500&since_id={cursor}")));
            seen.extend(summaries(&rows));
        }
        seen.reverse();
        assert_eq!(seen, newest_first);
    }

    async fn a_page_of_events_ends_at_its_bytes_too(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server).await;
        for number in 0..150 {
            let card = json!({ "number": number, "text": "x".repeat(60_000) });
            let body = json!({ "workspace_id": id, "agent_card": card });
            server.post("/registry/update-card", body).await.ok();
        }
        let (mut seen, mut pages, mut next) = (Vec::new(), 0, Some("?type=AGENT_CARD_UPDATED&limit=500".to_owned()));
        while let Some(query) = next.take() {
            let (events, further) = page_of(&format!("{}/events{query}", server.url)).await;
            seen.extend(events.iter().map(|event| event["payload"]["agent_card"]["number"].as_u64().unwrap()));
            (next, pages) = (further, pages + 1);
        }
        assert_eq!((seen, pages), ((0..150).rev().collect::<Vec<u64>>(), 2));
    }

    async fn a_row_that_exceeds_the_bytes_by_itself_is_listed_alone(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.workspace(json!({ "name": "Agent", "runtime": "external", "url": agent.url })).await;
        let large = json!({ "result": { "text": "x".repeat(9 * 1024 * 1024) } }).to_string();
        agent.react([Reaction::Respond(200, large.clone()), Reaction::Respond(200, large)]);
        for _ in 0..2 {
            let message = json!({ "method": "m", "params": {} });
            server.post(&format!("/workspaces/{id}/a2a"), message).await.ok();
        }
        server.until("both rows are there", async |server| page(server, &id, "").await.1.is_some()).await;
        let (rows, next) = page(&server, &id, "?limit=10").await;
        assert_eq!(rows.len(), 1);
        let (rows, next) = page(&server, &id, &next.expect("another row")).await;
        assert_eq!((rows.len(), next), (1, None));
    }

    async fn an_agent_that_polls_begins_with_the_oldest_of_the_newest_hundred(database: Database) {
        let server = Server::start(database).await;
        let made = server.post("/workspaces", json!({ "name": "Poller", "external": true })).await.ok();
        let (id, token) = (made["id"].as_str().unwrap(), made["connection"]["auth_token"].as_str().unwrap());
        for number in 0..102 {
            let message = json!({ "method": number.to_string(), "params": {} });
            server.post(&format!("/workspaces/{id}/a2a"), message).await.ok();
        }
        let read = async |bearer: Option<&str>, query: &str| {
            let path = format!("/workspaces/{id}/activity?{query}");
            let rows = match bearer {
                Some(bearer) => server.ask(bearer, Method::GET, &path, None).await.ok(),
                None => server.get(&path).await.ok(),
            };
            let rows = rows.as_array().unwrap();
            let method = |row: Option<&Value>| row.map_or(0, |row| row["method"].as_str().unwrap().parse::<u32>().unwrap());
            (rows.len(), method(rows.first()), method(rows.last()))
        };
        let own = Some(token);
        assert_eq!(read(own, "type=a2a_receive&limit=100").await, (100, 2, 101));
        assert_eq!(read(own, "type=a2a_receive&limit=100&since_secs=600").await, (100, 2, 101));
        for query in [
            "type=a2a_receive", "type=a2a_receive&limit=99", "limit=100", "type=a2a_receive&limit=100&source=canvas",
            &format!("type=a2a_receive&limit=100&peer_id={id}"), "type=a2a_receive&limit=100&before_ts=2100-01-01T00:00:00Z",
        ] {
            let (_, first, last) = read(own, query).await;
            assert!(first == 101 && last < 101, "{query}");
        }
        assert_eq!(read(None, "type=a2a_receive&limit=100").await, (100, 101, 2), "others read the newest first");
    }

    async fn long_texts_of_agents_are_cut_and_cost_no_heartbeat(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server).await;
        let long = "é".repeat(100_000);
        // The workspace has no token, so the body is limited to 256 KiB.
        let half = "é".repeat(50_000);
        let beat = json!({ "id": id, "current_task": half, "sample_error": half });
        server.post("/registry/heartbeat", beat).await.ok();
        let found = server.get(&format!("/workspaces/{id}")).await.ok();
        for field in ["current_task", "last_sample_error"] {
            let text = found[field].as_str().unwrap();
            assert!(text.len() <= 1024 && text.len() > 1000 && text.ends_with("é…"), "{field}: {}", text.len());
        }
        let report = json!({ "activity_type": "error", "summary": long, "error_detail": long, "method": long, "status": long });
        server.post(&format!("/workspaces/{id}/activity"), report).await.ok();
        let row = &all_of(&server, &id).await[0];
        for field in ["summary", "error_detail", "method", "status"] {
            let text = row[field].as_str().unwrap();
            assert!(text.len() <= 4096 && text.ends_with('…'), "{field}: {}", text.len());
        }
    }

    async fn a_flag_that_is_neither_true_nor_false_is_refused(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server).await;
        let template = json!({ "template": { "name": "O", "workspaces": [{ "name": "W", "runtime": "mock" }] } });
        for value in ["yes", "1", "", "TRUE", "true%20"] {
            for (method, path, field, body) in [
                (Method::DELETE, format!("/workspaces/{id}?confirm={value}"), "confirm", None),
                (Method::DELETE, format!("/workspaces/{id}?purge={value}"), "purge", None),
                (Method::POST, format!("/workspaces/{id}/hibernate?force={value}"), "force", None),
                (Method::POST, format!("/admin/guests/x/releases?activate={value}"), "activate", None),
                (Method::GET, format!("/org/templates?include_broken={value}"), "include_broken", None),
                (Method::POST, format!("/org/import?dry_run={value}"), "dry_run", Some(template.clone())),
            ] {
                let answer = server.request(method, &path, body).await;
                assert_eq!(answer.error(400), format!("{field} must be 'true' or 'false'"), "{path}");
            }
        }
        for value in ["both", "Merge"] {
            let answer = server.post(&format!("/org/import?mode={value}"), template.clone()).await;
            assert_eq!(answer.error(400), "mode must be 'merge' or 'reconcile'");
            let (status, _) = server.raw(Method::POST, &format!("/org/import?mode={value}"), "application/x-tar", vec![0; 1024]).await;
            assert_eq!(status, 400);
        }
        let (status, text) = server.raw(Method::POST, "/org/import?dry_run=yes", "application/x-tar", vec![0; 1024]).await;
        assert_eq!((status, text.as_str()), (400, r#"{"error":"dry_run must be 'true' or 'false'"}"#));
        for flag in [json!("yes"), json!(1), json!("true")] {
            let mut body = template.clone();
            body["dry_run"] = flag;
            assert_eq!(server.post("/org/import", body).await.error(400), "invalid request body");
        }
        assert_eq!(server.get("/workspaces").await.ok().as_array().unwrap().len(), 1, "nothing was imported or removed");
    }

    async fn a_wrong_bearer_is_refused_by_the_registry_in_development_mode_too(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server).await;
        let card = json!({ "name": "n" });
        let requests = [
            ("register", json!({ "id": id, "url": "http://localhost:1", "agent_card": card })),
            ("register", json!({ "id": "00000000-0000-4000-8000-000000000001", "url": "http://localhost:1", "agent_card": card })),
            ("heartbeat", json!({ "workspace_id": id })),
            ("update-card", json!({ "workspace_id": id, "agent_card": card })),
            ("check-access", json!({ "caller_id": id, "target_id": id })),
        ];
        for (route, body) in &requests {
            let answer = server.ask("wrong", Method::POST, &format!("/registry/{route}"), Some(body.clone())).await;
            assert_eq!(answer.error(401), "invalid workspace auth token", "{route}");
        }
        let update = server.post("/registry/update-card", requests[3].1.clone()).await;
        assert_eq!(update.ok(), json!({ "status": "updated" }), "without a bearer, the web canvas edits cards");
    }

    async fn tokens_name_the_credential_that_made_them(database: Database) {
        let server = Server::start(database).await;
        let made = server.post("/org/tokens", json!({ "name": "first" })).await.ok();
        let first = made["auth_token"].as_str().unwrap();
        server.ask(first, Method::POST, "/org/tokens", Some(json!({ "name": "second" }))).await.ok();
        let list = server.get("/org/tokens").await.ok();
        assert_eq!(list["tokens"][0]["created_by"], format!("org-token:{}", &first[..8]));
        assert_eq!(list["tokens"][1]["created_by"], "dev-mode");
    }
}

async fn all_of(server: &Server, id: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut next = Some("?limit=500".to_owned());
    while let Some(query) = next {
        let (more, further) = page(server, id, &query).await;
        rows.extend(more);
        next = further;
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_without_a_number_begins_with_new_events() {
    let server = Server::start(Database::sqlite()).await;
    let mut socket = Socket::open(&server, "?since=", &[]).await.expect("it is open");
    let id = mock(&server).await;
    assert_eq!(socket.event().await["workspace_id"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_without_a_route_are_logged_without_their_query() {
    let server = Server::start(Start::from(Database::sqlite()).env("RUST_LOG", "info")).await;
    let long = "y".repeat(1000);
    for path in ["/apii/workspaces?token=hush", "/a%1b[31mb", &format!("/{long}")] {
        assert_eq!(server.get(path).await.status, 404);
    }
    server.until_logged("path=\"/apii/workspaces\"").await;
    server.until_logged("/a%1b").await;
    server.until_logged(&"y".repeat(199)).await;
    let log = server.log();
    assert!(!log.contains("hush") && !log.contains(&"y".repeat(201)) && !log.contains('\u{1b}'), "{log}");
}
