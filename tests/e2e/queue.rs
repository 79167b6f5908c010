//! The queue of messages to busy agents when agents, servers and databases come and go: a2a.md §10.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use support::{
    Agent, Answer, Database, Reaction, Server, Signal, Start, break_off, on_both_databases, select_number,
};

/// A server that notices soon that another one is gone, and that stops soon.
fn quick(database: &Database) -> Start {
    Start::from(database.clone()).env("SERVER_LEASE_SECONDS", "1").env("DRAIN_SECONDS", "4")
}

async fn workspace(server: &Server, url: &str, max: i32) -> String {
    let body = json!({ "name": "Agent", "runtime": "external", "url": url, "max_concurrent_tasks": max });
    server.workspace(body).await
}

fn message(text: &str) -> Value {
    let part = json!({ "kind": "text", "text": text });
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "message/send",
        "params": { "message": { "role": "user", "messageId": text, "parts": [part] } },
    })
}

async fn send(server: &Server, id: &str, text: &str) -> Answer {
    server.post(&format!("/workspaces/{id}/a2a"), message(text)).await
}

/// Sends a message that the agent does not answer. Returns the id of the queued message.
async fn queue(server: &Server, agent: &Agent, id: &str, text: &str) -> String {
    agent.react([break_off()]);
    let answer = send(server, id, text).await;
    assert_eq!(answer.status, 202, "{}", answer.json);
    answer.json["queue_id"].as_str().unwrap().to_owned()
}

async fn heartbeat(server: &Server, id: &str) {
    server.post("/registry/heartbeat", json!({ "workspace_id": id, "active_tasks": 0 })).await.ok();
}

async fn item(server: &Server, id: &str, queue_id: &str) -> Value {
    server.get(&format!("/workspaces/{id}/a2a/queue/{queue_id}")).await.json
}

async fn until_status(server: &Server, id: &str, queue_id: &str, status: &str) -> Value {
    server.until(status, async |server| item(server, id, queue_id).await["status"] == status).await;
    item(server, id, queue_id).await
}

async fn until_number(
    server: &Server,
    database: &DatabaseConnection,
    sql: &str,
    enough: impl Fn(i64) -> bool,
) {
    server.until(sql, async |_| enough(select_number(database, sql).await)).await;
}

fn held() -> (Arc<Semaphore>, Reaction) {
    let permits = Arc::new(Semaphore::new(0));
    (Arc::clone(&permits), Reaction::Hold(permits))
}

const CLAIMS: &str = "SELECT CAST(SUM(claim) AS BIGINT) FROM a2a_queue";
const DISPATCHED: &str = "SELECT COUNT(*) FROM a2a_queue WHERE status = 'dispatched'";

on_both_databases! {
    async fn a_full_queue_is_503_and_strangers_fill_a_quarter_of_it(database: Database) {
        let start = Start::from(database)
            .env("ADMIN_TOKEN", "secret")
            .env("A2A_MAX_CALLS_PER_WORKSPACE", "1")
            .env("A2A_QUEUE_MESSAGES", "8")
            .env("A2A_QUEUE_MIB", "2");
        let (server, agent) = (Server::start(start).await, Agent::start().await);
        let body = json!({ "name": "Agent", "runtime": "external", "url": agent.url });
        let made = server.ask("secret", Method::POST, "/workspaces", Some(body)).await.ok();
        let id = made["id"].as_str().unwrap().to_owned();
        let path = format!("/workspaces/{id}/a2a");
        let permits = Arc::new(Semaphore::new(0));
        agent.react((0..12).map(|_| Reaction::Hold(Arc::clone(&permits))));
        let (http, url) = (reqwest::Client::new(), format!("{}{path}", server.url));
        tokio::spawn(http.post(url).bearer_auth("secret").json(&message("first")).send());
        agent.received(1).await;
        let named = |number: u32| message(&format!("11111111-1111-4111-8111-{number:012}"));
        let mut ids = Vec::new();
        for number in 0..2 {
            let queued = server.post(&path, named(number)).await;
            assert_eq!(queued.status, 202, "{}", queued.json);
            ids.push(queued.json["queue_id"].clone());
        }
        let full = server.post(&path, named(2)).await;
        let text = "workspace agent busy, and its queue is full: for this sender, at most 2 messages may wait for it — retry later";
        assert_eq!((full.error(503), &full.json["retry_after"]), (text, &json!(30)));
        // The same message is the one that waits.
        assert_eq!(server.post(&path, named(1)).await.ok()["queue_id"], ids[1]);
        let known = async |server: &Server, number| server.ask("secret", Method::POST, &path, Some(named(number))).await;
        for number in 2..8 {
            assert_eq!(known(&server, number).await.status, 202);
        }
        assert!(known(&server, 8).await.error(503).contains("at most 8 messages"));
        // What waits is counted in the database, not by the server.
        let server = server.kill_and_restart().await;
        let headers = [("X-Timeout", "1"), ("Authorization", "Bearer secret")];
        let full = server.with(&headers, Method::POST, &path, Some(named(9))).await;
        assert!(full.error(503).contains("at most 8 messages"), "{}", full.json);
        // By bytes, and for a workspace of its own.
        let agent = Agent::start().await;
        let body = json!({ "name": "Other", "runtime": "external", "url": agent.url });
        let other = server.ask("secret", Method::POST, "/workspaces", Some(body)).await.ok();
        let path = format!("/workspaces/{}/a2a", other["id"].as_str().unwrap());
        agent.react((0..3).map(|_| break_off()));
        let large = |letter: &str| message(&letter.repeat(200_000));
        assert_eq!(server.post(&path, large("a")).await.status, 202);
        let full = server.post(&path, large("b")).await;
        assert!(full.error(503).contains("at most 524288 bytes of messages may wait for it"), "{}", full.json);
        assert_eq!(server.ask("secret", Method::POST, &path, Some(large("c"))).await.status, 202);
    }

    async fn a_message_outlives_an_agent_that_is_away(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let queued = queue(&server, &agent, &id, "hello").await;
        let url = agent.url.clone();
        drop(agent);
        let rows = server.connect().await;
        // Its host still reports, so that it is tried each time.
        server.until("it was tried more often than attempts are allowed", async |server| {
            heartbeat(server, &id).await;
            select_number(&rows, CLAIMS).await > 7
        }).await;
        let mut waiting = json!(null);
        server.until("it is not on its way", async |server| {
            waiting = item(server, &id, &queued).await;
            waiting["status"] == "queued"
        }).await;
        assert_eq!((&waiting["attempts"], &waiting["last_error"]), (&json!(0), &json!("failed to reach workspace agent")));
        rows.close().await.unwrap();
        // Neither does a restart of the server end it, nor does it need another report.
        let server = server.restart().await;
        let agent = Agent::start_again(&url).await;
        let done = until_status(&server, &id, &queued, "completed").await;
        assert_eq!(done["attempts"], 1);
        assert_eq!(agent.received(1).await.len(), 1);
        server.until("the delivery is listed", async |server| server.activity(&id).await.len() >= 2).await;
        let statuses: Vec<_> = server.activity(&id).await.iter().map(|row| row["status"].clone()).collect();
        assert_eq!(statuses, ["ok", "error"], "tries that reached nothing are no activity");
    }

    async fn an_expired_message_is_dropped_while_its_agent_is_away(database: Database) {
        let (server, agent) = (Server::start(quick(&database)).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        agent.react([break_off()]);
        let mut body = message("hello");
        body["params"]["expires_in_seconds"] = json!(2);
        let queued = server.post(&format!("/workspaces/{id}/a2a"), body).await.ok();
        drop(agent);
        let dropped = until_status(&server, &id, queued["queue_id"].as_str().unwrap(), "dropped").await;
        assert_eq!((&dropped["last_error"], &dropped["attempts"]), (&json!("expired"), &json!(0)));
    }

    async fn a_message_fails_after_five_attempts(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let queued = queue(&server, &agent, &id, "hello").await;
        agent.react((0..5).map(|_| break_off()));
        let (rows, path) = (server.connect().await, format!("/workspaces/{id}/a2a/queue/{queued}"));
        server.until("it failed", async |server| {
            // The pauses between attempts take longer than a test may. The database may be busy.
            let _ = rows.execute_unprepared("UPDATE a2a_queue SET not_before = NULL WHERE status = 'queued'").await;
            heartbeat(server, &id).await;
            server.get(&path).await.ok()["status"] == "failed"
        }).await;
        let failed = server.get(&path).await.ok();
        assert_eq!((&failed["attempts"], &failed["last_error"]), (&json!(5), &json!("workspace agent busy: no answer came")));
        assert_eq!(agent.received(6).await.len(), 6);
    }

    async fn a_queued_message_keeps_its_hops_and_headers(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let sent = [
            ("A2A-Version", "1.0"), ("A2A-Extensions", "https://a.example/x"), ("A2A-Extensions", "https://a.example/y"),
            ("traceparent", trace), ("tracestate", "a=b"), ("X-Isomer-Hops", "32"), ("Cookie", "kept"),
        ];
        agent.react([break_off()]);
        let path = format!("/workspaces/{id}/a2a");
        let answer = server.with(&sent, Method::POST, &path, Some(message("hello"))).await;
        assert_eq!(answer.status, 202, "{}", answer.json);
        let server = server.kill_and_restart().await;
        heartbeat(&server, &id).await;
        until_status(&server, &id, answer.json["queue_id"].as_str().unwrap(), "completed").await;
        let received = agent.received(2).await;
        for head in [&received[0].head, &received[1].head] {
            for (name, value) in &sent[..5] {
                assert!(head.contains(&format!("{}: {value}", name.to_lowercase())), "{name} {head}");
            }
            assert!(head.contains("x-isomer-hops: 33") && !head.contains("cookie"), "{head}");
        }
    }

    async fn a_queued_message_that_goes_in_a_circle_fails_at_once(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        // The agent passed it on, and was refused.
        let passed_on = queue(&server, &agent, &id, "one").await;
        let text = "the message went through 33 servers and agents: they pass it on in a circle";
        agent.react([Reaction::Respond(508, json!({ "error": text }).to_string())]);
        heartbeat(&server, &id).await;
        let failed = until_status(&server, &id, &passed_on, "failed").await;
        assert_eq!((&failed["attempts"], &failed["last_error"]), (&json!(1), &json!(text)));
        // It went through too many before it was queued, by a server with another limit.
        server.post("/registry/heartbeat", json!({ "workspace_id": id, "active_tasks": 9 })).await.ok();
        let too_many = queue(&server, &agent, &id, "two").await;
        let rows = server.connect().await;
        rows.execute_unprepared("UPDATE a2a_queue SET hops = 33 WHERE status = 'queued'").await.unwrap();
        rows.close().await.unwrap();
        heartbeat(&server, &id).await;
        let failed = until_status(&server, &id, &too_many, "failed").await;
        assert_eq!(failed["last_error"], text);
        assert_eq!(agent.received(3).await.len(), 3);
    }

    async fn a_waiting_message_says_what_was_wrong_as_fully_as_a_direct_answer(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let bad = |text: &str| Reaction::WriteAndClose(text.as_bytes().to_vec());
        for (number, (reaction, error)) in [
            (
                support::head(302, &["Location: http://elsewhere.example/a2a"]),
                "Found: the agent's URL redirects, and redirects are not followed: register \"http://elsewhere.example/a2a\"",
            ),
            (bad("hello\r\n\r\n"), "failed to reach workspace agent: its answer is no HTTP"),
            (bad("HTTP/1.1 103 X\r\n\r\n"), "failed to reach workspace agent: it answered with nothing but statuses below 200"),
            (bad("HTTP/1.1 700 X\r\nContent-Length: 0\r\n\r\n"), "failed to reach workspace agent: it answered with status 700, which HTTP doesn't have"),
            (break_off(), "workspace agent busy: no answer came"),
        ].into_iter().enumerate() {
            let queued = queue(&server, &agent, &id, &number.to_string()).await;
            agent.react([reaction]);
            heartbeat(&server, &id).await;
            let mut waiting = json!(null);
            server.until("it was tried", async |server| {
                waiting = item(server, &id, &queued).await;
                waiting["last_error"].is_string()
            }).await;
            assert_eq!((&waiting["last_error"], &waiting["attempts"]), (&json!(error), &json!(1)));
            until_status(&server, &id, &queued, "completed").await;
        }
    }

    async fn one_heartbeat_is_one_attempt_for_each_message(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 3).await;
        let mut items = Vec::new();
        for number in 0..4 {
            items.push(queue(&server, &agent, &id, &number.to_string()).await);
        }
        agent.react((0..4).map(|_| Reaction::Respond(503, "{}".to_owned())));
        heartbeat(&server, &id).await;
        // The next attempts, after the back-off, succeed.
        for queued in &items {
            assert_eq!(until_status(&server, &id, queued, "completed").await["attempts"], 2);
        }
        assert_eq!(agent.received(12).await.len(), 12);
    }

    async fn a_message_whose_item_was_given_up_is_delivered_when_it_is_sent_again(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let mut body = message("hello");
        body["params"]["message"]["messageId"] = json!("0b6cf0a4-4f0e-4d6e-9d43-2c8f6a7f0e11");
        body["params"]["expires_in_seconds"] = json!(1);
        let path = format!("/workspaces/{id}/a2a");
        agent.react([break_off()]);
        let queued = server.post(&path, body.clone()).await;
        assert_eq!(queued.status, 202, "{}", queued.json);
        until_status(&server, &id, queued.json["queue_id"].as_str().unwrap(), "dropped").await;
        assert_eq!(server.post(&path, body).await.status, 200);
    }

    async fn a_registration_ends_the_back_off(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let queued = queue(&server, &agent, &id, "hello").await;
        drop(agent);
        let rows = server.connect().await;
        heartbeat(&server, &id).await;
        until_number(&server, &rows, CLAIMS, |claims| claims >= 1).await;
        until_number(&server, &rows, DISPATCHED, |dispatched| dispatched == 0).await;
        rows.execute_unprepared("UPDATE a2a_queue SET not_before = '2999-01-01 00:00:00+00:00', unreached = 60").await.unwrap();
        let server = server.restart().await;
        let moved = Agent::start().await;
        let body = json!({ "id": id, "url": moved.url, "agent_card": { "name": "Agent" } });
        server.post("/registry/register", body).await.ok();
        until_status(&server, &id, &queued, "completed").await;
        assert_eq!(moved.received(1).await[0].body, message("hello"));
    }

    async fn a_message_whose_answer_breaks_off_is_delivered_once(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let large = "x".repeat(10 * 1024 * 1024 + 1);
        let broken = Reaction::WriteAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"half\":".to_vec());
        let unframed = Reaction::WriteAndClose(b"HTTP/1.1 204 No\r\n\r\n".to_vec());
        for (number, reaction) in [broken, Reaction::Respond(200, large), unframed].into_iter().enumerate() {
            let queued = queue(&server, &agent, &id, &number.to_string()).await;
            agent.react([reaction]);
            heartbeat(&server, &id).await;
            let done = until_status(&server, &id, &queued, "completed").await;
            assert_eq!(done["attempts"], 1);
            assert_eq!(agent.received(2 * number + 2).await.len(), 2 * number + 2);
        }
        server.until("all are listed", async |server| server.activity(&id).await.len() >= 6).await;
        let ok = server.activity(&id).await.iter().filter(|row| row["status"] == "ok").count();
        assert_eq!(ok, 3);
    }

    async fn an_outcome_is_kept_until_the_database_can_store_it(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let queued = queue(&server, &agent, &id, "hello").await;
        let (permits, hold) = held();
        agent.react([hold]);
        heartbeat(&server, &id).await;
        assert_eq!(agent.received(2).await.len(), 2);
        let outage = Outage::begin(&server).await;
        permits.add_permits(1);
        server.until_logged("the outcome of a delivery is kept until it can be stored").await;
        outage.end(&server).await;
        let done = until_status(&server, &id, &queued, "completed").await;
        assert_eq!(done["attempts"], 1);
        for _ in 0..3 {
            heartbeat(&server, &id).await;
        }
        assert_eq!(agent.received(2).await.len(), 2, "it was not sent again");
    }

    async fn an_agent_gets_as_many_messages_at_once_as_it_takes(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 3).await;
        let mut items = Vec::new();
        for number in 0..7 {
            items.push(queue(&server, &agent, &id, &number.to_string()).await);
        }
        let (permits, hold) = held();
        agent.react((0..7).map(|_| hold.clone()));
        heartbeat(&server, &id).await;
        assert_eq!(agent.received(7 + 3).await.len(), 7 + 3);
        let rows = server.connect().await;
        heartbeat(&server, &id).await;
        assert_eq!(select_number(&rows, DISPATCHED).await, 3);
        // Each that ends makes room for another, without a heartbeat.
        permits.add_permits(2);
        assert_eq!(agent.received(7 + 5).await.len(), 7 + 5);
        assert_eq!(select_number(&rows, DISPATCHED).await, 3);
        permits.add_permits(5);
        for queued in &items {
            assert_eq!(until_status(&server, &id, queued, "completed").await["attempts"], 1);
        }
        let mut texts: Vec<_> = agent.received(14).await[7..].iter()
            .map(|received| received.body["params"]["message"]["messageId"].as_str().unwrap().to_owned()).collect();
        // The oldest first, as many at once as there is room for.
        for group in [0..3, 3..5, 5..7] {
            texts[group].sort();
        }
        assert_eq!(texts, ["0", "1", "2", "3", "4", "5", "6"]);
    }

    async fn a_message_under_way_at_a_stop_is_queued_again(database: Database) {
        let (server, agent) = (Server::start(quick(&database)).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let other = server.workspace(json!({ "name": "Other", "runtime": "external", "url": agent.url })).await;
        let queued = queue(&server, &agent, &id, "from the queue").await;
        agent.react([Reaction::Stall, Reaction::Stall]);
        heartbeat(&server, &id).await;
        assert_eq!(agent.received(2).await.len(), 2);
        let sender = reqwest::Client::new().post(format!("{}/workspaces/{other}/a2a", server.url));
        let sender = tokio::spawn(sender.json(&message("from a sender")).send());
        assert_eq!(agent.received(3).await.len(), 3);
        let begun = Instant::now();
        server.signal(Signal::TERM);
        let (server, log) = server.wait_and_restart().await;
        assert!(begun.elapsed() < Duration::from_secs(20), "the limit is 4 s: {:?}", begun.elapsed());
        assert!(log.contains("deliveries under way are queued for later"), "{log}");
        assert!(!log.contains("in time"), "nothing was lost: {log}");
        let answer = Answer::read(sender.await.unwrap().expect("the sender is answered")).await;
        assert_eq!(answer.status, 202, "{}", answer.json);
        for (id, item) in [(&id, queued.as_str()), (&other, answer.json["queue_id"].as_str().unwrap())] {
            heartbeat(&server, id).await;
            let done = until_status(&server, id, item, "completed").await;
            assert_eq!(done["attempts"], 1, "a stop of the server is no failure of the agent");
        }
        assert_eq!(agent.received(5).await.len(), 5);
    }

    async fn a_stop_waits_for_the_end_of_deliveries(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let queued = queue(&server, &agent, &id, "hello").await;
        let (permits, hold) = held();
        agent.react([hold]);
        heartbeat(&server, &id).await;
        assert_eq!(agent.received(2).await.len(), 2);
        let begun = Instant::now();
        server.signal(Signal::TERM);
        server.until_logged("a second signal stops at once").await;
        permits.add_permits(1);
        let (server, log) = server.wait_and_restart().await;
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(!log.contains("in time"), "{log}");
        assert_eq!(item(&server, &id, &queued).await["status"], "completed");
    }

    async fn a_message_under_way_at_a_kill_is_sent_again(database: Database) {
        let (server, agent) = (Server::start(quick(&database)).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let queued = queue(&server, &agent, &id, "hello").await;
        agent.react([Reaction::Stall]);
        heartbeat(&server, &id).await;
        assert_eq!(agent.received(2).await.len(), 2);
        let server = server.kill_and_restart().await;
        let done = until_status(&server, &id, &queued, "completed").await;
        assert_eq!(done["attempts"], 2);
        assert_eq!(agent.received(3).await.len(), 3);
    }

    async fn a_message_that_expires_after_the_calendar_is_delivered(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let mut body = message("hello");
        body["params"]["expires_in_seconds"] = json!(1_000_000_000_000_i64);
        agent.react([break_off()]);
        let queued = server.post(&format!("/workspaces/{id}/a2a"), body).await;
        assert_eq!(queued.status, 202, "{}", queued.json);
        heartbeat(&server, &id).await;
        until_status(&server, &id, queued.json["queue_id"].as_str().unwrap(), "completed").await;
    }

    async fn messages_with_long_ids_and_methods_are_queued(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        for (message_id, method, header) in [("é", "m", "k"), ("m", "é", "k"), ("m", "m", "k")] {
            let mut body = message("hello");
            let long = |text: &str, times: usize| if text == "é" { text.repeat(times) } else { text.to_owned() };
            body["params"]["message"]["messageId"] = json!(long(message_id, 6_000));
            body["method"] = json!(long(method, 20_000));
            agent.react([break_off()]);
            let headers = [("Idempotency-Key", &*header.repeat(6_000))];
            let answer = server.with(&headers, Method::POST, &format!("/workspaces/{id}/a2a"), Some(body)).await;
            assert_eq!(answer.status, 202, "{}", answer.json);
            heartbeat(&server, &id).await;
            until_status(&server, &id, answer.json["queue_id"].as_str().unwrap(), "completed").await;
        }
    }

    async fn messages_of_a_removed_workspace_are_dropped_with_the_reason(database: Database) {
        let start = quick(&database).env("ADMIN_TOKEN", "admin");
        let (server, agent) = (Server::start(start).await, Agent::start().await);
        let ask = async |method, path: &str, body| server.ask("admin", method, path, body).await;
        let body = json!({ "name": "Agent", "runtime": "external", "url": agent.url });
        let id = ask(Method::POST, "/workspaces", Some(body)).await.ok()["id"].as_str().unwrap().to_owned();
        agent.react([break_off()]);
        let queued = ask(Method::POST, &format!("/workspaces/{id}/a2a"), Some(message("hello"))).await.ok();
        ask(Method::DELETE, &format!("/workspaces/{id}?confirm=true"), None).await.ok();
        let path = format!("/workspaces/{id}/a2a/queue/{}", queued["queue_id"].as_str().unwrap());
        server.until("it is dropped", async |server| {
            server.ask("admin", Method::GET, &path, None).await.ok()["status"] == "dropped"
        }).await;
        let dropped = ask(Method::GET, &path, None).await.ok();
        assert_eq!(dropped["last_error"], "its workspace was removed");
    }

    async fn nothing_is_sent_to_a_paused_workspace(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = workspace(&server, &agent.url, 1).await;
        let queued = queue(&server, &agent, &id, "hello").await;
        server.post(&format!("/workspaces/{id}/pause"), json!({})).await.ok();
        for _ in 0..3 {
            heartbeat(&server, &id).await;
        }
        // What another workspace of the agent gets meanwhile.
        let other = server.agent_at(&agent.url).await;
        let sent = queue(&server, &agent, &other, "other").await;
        heartbeat(&server, &other).await;
        until_status(&server, &other, &sent, "completed").await;
        let waiting = item(&server, &id, &queued).await;
        assert_eq!((&waiting["status"], &waiting["attempts"]), (&json!("queued"), &json!(0)));
        assert_eq!(agent.received(3).await.len(), 3);
    }
}

/// A database that takes no writes.
enum Outage {
    Postgres,
    /// A transaction of another process, which holds the file's lock on writes.
    Sqlite(DatabaseConnection),
}

impl Outage {
    async fn begin(server: &Server) -> Self {
        if server.database().postgres_url().is_some() {
            server.database().lock().await;
            return Self::Postgres;
        }
        let file = server.data.path().join("isomer.db");
        let mut options = sea_orm::ConnectOptions::new(format!("sqlite:{}", file.display()));
        options.max_connections(1);
        let other = sea_orm::Database::connect(options).await.expect("it is there");
        other.execute_unprepared("BEGIN IMMEDIATE").await.expect("the lock is free");
        Self::Sqlite(other)
    }

    async fn end(self, server: &Server) {
        match self {
            Self::Postgres => server.database().unlock().await,
            Self::Sqlite(other) => {
                other.execute_unprepared("ROLLBACK").await.expect("it is open");
                other.close().await.expect("closed");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn two_servers_together_send_no_more_than_one() {
    let database = Database::postgres().await;
    let agent = Agent::start().await;
    let servers = [Server::start(quick(&database)).await, Server::start(quick(&database)).await];
    let [one, other] = &servers;
    let id = workspace(one, &agent.url, 2).await;
    other
        .until("it is known", async |other| other.get(&format!("/workspaces/{id}")).await.status == 200)
        .await;
    for number in 0..8 {
        queue(&servers[number % 2], &agent, &id, &number.to_string()).await;
    }
    let (permits, hold) = held();
    agent.react((0..8).map(|_| hold.clone()));
    let rows = one.connect().await;
    for sent in 2..=8 {
        tokio::join!(heartbeat(one, &id), heartbeat(other, &id), heartbeat(one, &id), heartbeat(other, &id));
        assert_eq!(agent.received(8 + sent).await.len(), 8 + sent);
        assert_eq!(select_number(&rows, DISPATCHED).await, 2);
        permits.add_permits(1);
    }
    permits.add_permits(1);
    until_number(one, &rows, "SELECT COUNT(*) FROM a2a_queue WHERE status = 'completed'", |done| done == 8)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_server_takes_over_what_a_killed_one_was_delivering() {
    let database = Database::postgres().await;
    let agent = Agent::start().await;
    let mut one = Server::start(quick(&database)).await;
    let other = Server::start(quick(&database)).await;
    let id = workspace(&one, &agent.url, 1).await;
    let queued = queue(&one, &agent, &id, "hello").await;
    agent.react([Reaction::Stall]);
    heartbeat(&one, &id).await;
    assert_eq!(agent.received(2).await.len(), 2);
    one.kill();
    let done = until_status(&other, &id, &queued, "completed").await;
    assert_eq!(done["attempts"], 2);
}
