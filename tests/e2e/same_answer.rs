//! The answer to a message that is sent twice is the first one's, status and bytes, whether a server remembers it or reads
//! it from the database (decisions, Messages).

use reqwest::Response;
use serde_json::{Value, json};

use support::{Agent, Database, Reaction, Server, Start, feed, on_both_databases, select_number};

fn message(number: usize, method: &str) -> Value {
    let id = format!("6f1c3b52-77a9-4d0e-9f7b-0d6c0a3e{number:04}");
    json!({
        "jsonrpc": "2.0", "id": "1", "method": method,
        "params": { "message": { "role": "user", "messageId": id, "parts": [{ "kind": "text", "text": "hello" }] } },
    })
}

async fn ask(server: &Server, id: &str, body: &Value) -> Response {
    let request = reqwest::Client::new().post(format!("{}/workspaces/{id}/a2a", server.url));
    request.json(body).send().await.expect("it answers")
}

/// What a client sees of an answer: status, `Retry-After`, content type, and body as far as it came, with whether it
/// broke off.
type Seen = (u16, Option<String>, String, Vec<u8>, bool);

async fn read(mut response: Response) -> Seen {
    let header = |name: &str| Some(response.headers().get(name)?.to_str().expect("text").to_owned());
    let (status, retry_after) = (response.status().as_u16(), header("retry-after"));
    let content_type = header("content-type").unwrap_or_default();
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return (status, retry_after, content_type, body, false),
            Err(_) => return (status, retry_after, content_type, body, true),
        }
    }
}

async fn send(server: &Server, id: &str, body: &Value) -> Seen {
    read(ask(server, id, body).await).await
}

fn whole(status: u16, headers: &str, body: &[u8]) -> Reaction {
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    Reaction::Write([head.as_bytes(), body].concat())
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n";

fn stream(body: &[u8]) -> Reaction {
    let head = format!("{STREAM}Content-Length: {}\r\n\r\n", body.len());
    Reaction::Write([head.as_bytes(), body].concat())
}

fn broken_stream(body: &[u8]) -> Reaction {
    let head = format!("{STREAM}Content-Length: {}\r\n\r\n", body.len() + 10);
    Reaction::WriteAndClose([head.as_bytes(), body].concat())
}

on_both_databases! {
    async fn an_answer_is_the_same_by_memory_and_from_the_database(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let large = vec![b'x'; 10 * 1024 * 1024 + 1];
        let reactions = [
            whole(200, "", br#"{"a": 1.0, "b":"\u0000"}"#),
            whole(200, "", b"plain \"text\""),
            whole(200, "", b"\xff\0 no text"),
            whole(201, "Retry-After: 7\r\n", b"{}"),
            whole(202, "", br#"{"taken":true}"#),
            whole(204, "", b""),
            Reaction::WriteAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"half\":".to_vec()),
            whole(200, "", &large),
        ];
        let messages: Vec<Value> = (0..reactions.len()).map(|number| message(number, "message/send")).collect();
        let mut first = Vec::new();
        for (reaction, message) in reactions.into_iter().zip(&messages) {
            agent.react([reaction]);
            first.push(send(&server, &id, message).await);
        }
        let statuses: Vec<u16> = first.iter().map(|seen| seen.0).collect();
        assert_eq!(statuses, [200, 200, 200, 201, 202, 204, 502, 502]);
        for (message, first) in messages.iter().zip(&first) {
            assert_eq!(&send(&server, &id, message).await, first, "{message}");
        }
        let server = server.restart().await;
        for (message, first) in messages.iter().zip(&first) {
            assert_eq!(&send(&server, &id, message).await, first, "{message}");
        }
        assert_eq!(agent.received(0).await.len(), messages.len());
    }

    async fn a_queued_message_and_a_polled_one_are_answered_as_at_first(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.workspace(json!({ "name": "Busy", "runtime": "external", "url": agent.url })).await;
        server.post("/registry/heartbeat", json!({ "workspace_id": id, "active_tasks": 9 })).await.ok();
        let poller = server.workspace(json!({ "name": "Poller", "runtime": "external", "delivery_mode": "poll" })).await;
        agent.react([support::break_off(), support::break_off()]);
        let messages = [message(1, "message/send"), message(2, "message/stream")];
        let mut first = Vec::new();
        for message in &messages {
            first.push((send(&server, &id, message).await, send(&server, &poller, message).await));
        }
        let server = server.restart().await;
        for (message, (queued, polled)) in messages.iter().zip(&first) {
            assert_eq!(&send(&server, &id, message).await, queued, "queue_depth too");
            assert_eq!(&send(&server, &poller, message).await, polled);
        }
        assert_eq!(agent.received(0).await.len(), 2);
    }

    async fn a_stream_is_replayed_when_it_has_ended(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let large = vec![b'x'; 10 * 1024 * 1024 + 1];
        let reactions = [
            stream(b"data: {\"a\": 1}\n\n: comment\n\n"),
            stream(b"data: \xff\n\n"),
            broken_stream(b"data: half"),
            stream(&large),
        ];
        let methods = ["message/stream", "SendStreamingMessage", "message/stream", "message/stream"];
        let messages: Vec<Value> = methods.iter().enumerate().map(|(number, method)| message(number, method)).collect();
        let mut first = Vec::new();
        for (reaction, message) in reactions.into_iter().zip(&messages) {
            agent.react([reaction]);
            let seen = send(&server, &id, message).await;
            assert_eq!((seen.0, seen.2.as_str()), (200, "text/event-stream; charset=utf-8"));
            first.push(seen);
        }
        assert_eq!(first.iter().map(|seen| seen.4).collect::<Vec<_>>(), [false, false, true, false]);
        let rows = server.connect().await;
        server.until("the rows are stored", async |_| select_number(&rows, "SELECT COUNT(*) FROM message_claims").await == 0).await;
        rows.close().await.unwrap();
        let check = async |server: &Server| {
            for (message, first) in messages.iter().zip(&first).take(3) {
                assert_eq!(&send(server, &id, message).await, first, "{message}");
            }
            let refused = send(server, &id, &messages[3]).await;
            let body: Value = serde_json::from_slice(&refused.3).unwrap();
            assert_eq!((refused.0, &body), (502, &json!({ "delivery_confirmed": true, "error": "agent response too large" })));
        };
        check(&server).await;
        check(&server.restart().await).await;
        assert_eq!(agent.received(0).await.len(), messages.len());
    }

    async fn a_stream_under_way_is_not_begun_again(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let (events, reaction) = feed();
        events.send(format!("{STREAM}Content-Length: 20\r\n\r\ndata: 1\n\n").into_bytes()).unwrap();
        agent.react([reaction]);
        let body = message(1, "message/stream");
        let mut first = ask(&server, &id, &body).await;
        assert_eq!(first.chunk().await.unwrap().unwrap(), "data: 1\n\n");
        let second = send(&server, &id, &body).await;
        let text: Value = serde_json::from_slice(&second.3).unwrap();
        assert_eq!((second.0, text["error"].as_str().unwrap()), (503, "the same message is still being delivered — retry later"));
        // One that comes back from its agent is not refused: it ends by its hops.
        agent.react([stream(b"data: again\n\n")]);
        let request = reqwest::Client::new().post(format!("{}/workspaces/{id}/a2a", server.url)).json(&body);
        let back = request.header("X-Isomer-Hops", "1").send().await.unwrap();
        assert_eq!(read(back).await.3, b"data: again\n\n");
        // Its sender leaves: it is read to its end all the same.
        drop(first);
        events.send(b"data: last\n".to_vec()).unwrap();
        server.until("it has ended", async |server| send(server, &id, &body).await.0 == 200).await;
        assert_eq!(send(&server, &id, &body).await.3, b"data: 1\n\ndata: last\n");
        assert_eq!(agent.received(0).await.len(), 2);
        drop(events);
        // Who asks for the events of a task again gets those to come; and a stream that was refused may be begun again.
        for method in ["tasks/resubscribe", "SubscribeToTask"] {
            for _ in 0..2 {
                agent.react([stream(b"data: x\n\n")]);
                assert_eq!(send(&server, &id, &message(2, method)).await.0, 200);
            }
        }
        agent.react([Reaction::Respond(500, "{}".to_owned()), stream(b"data: y\n\n")]);
        for status in [500, 200, 200] {
            assert_eq!(send(&server, &id, &message(3, "message/stream")).await.0, status);
        }
        assert_eq!(agent.received(0).await.len(), 2 + 4 + 2);
    }

    async fn a_message_that_a_killed_server_was_delivering_is_not_delivered_again(database: Database) {
        // The next server finds out soon that it ended.
        let start = Start::from(database).env("SERVER_LEASE_SECONDS", "1");
        let (server, agent) = (Server::start(start).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let lost = [message(1, "message/send"), message(2, "message/stream")];
        agent.react([Reaction::Stall, Reaction::Stall]);
        let sent = lost.clone().map(|body| {
            let request = reqwest::Client::new().post(format!("{}/workspaces/{id}/a2a", server.url)).json(&body);
            tokio::spawn(async move { request.send().await.is_err() })
        });
        agent.received(2).await;
        // One that failed may be sent again, and one that was answered is answered.
        let (failed, answered) = (message(3, "message/send"), message(4, "message/send"));
        agent.react([Reaction::Respond(500, "{}".to_owned())]);
        assert_eq!(send(&server, &id, &failed).await.0, 500);
        let first = send(&server, &id, &answered).await;
        let rows = server.connect().await;
        server.until("the rows are stored", async |_| select_number(&rows, "SELECT COUNT(*) FROM message_claims").await == 2).await;
        rows.close().await.unwrap();
        let server = server.kill_and_restart().await;
        for sent in sent {
            assert!(sent.await.unwrap(), "its sender saw no answer");
        }
        for body in &lost {
            let refused = send(&server, &id, body).await;
            let text: Value = serde_json::from_slice(&refused.3).unwrap();
            assert!(text["error"].as_str().unwrap().starts_with("this message was sent before, and what became of it is unknown"), "{text}");
            assert_eq!(refused.0, 409);
        }
        let server = server.restart().await;
        assert_eq!(send(&server, &id, &lost[0]).await.0, 409);
        assert_eq!(send(&server, &id, &failed).await.0, 200);
        assert_eq!(send(&server, &id, &answered).await, first);
        assert_eq!(agent.received(0).await.len(), 2 + 1 + 1 + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn another_server_replays_a_stream_and_refuses_it_while_it_goes_on() {
    let database = Database::postgres().await;
    let agent = Agent::start().await;
    let [one, other] =
        [Server::start(Start::from(database.clone())).await, Server::start(Start::from(database)).await];
    let id = one.agent_at(&agent.url).await;
    other
        .until("it is known", async |other| other.get(&format!("/workspaces/{id}")).await.status == 200)
        .await;
    let (events, reaction) = feed();
    events.send(format!("{STREAM}Content-Length: 18\r\n\r\ndata: 1\n\n").into_bytes()).unwrap();
    agent.react([reaction]);
    let body = message(1, "message/stream");
    let first = ask(&one, &id, &body).await;
    assert_eq!(send(&other, &id, &body).await.0, 503);
    events.send(b"data: 2\n\n".to_vec()).unwrap();
    let first = read(first).await;
    other.until("it has ended", async |other| send(other, &id, &body).await == first).await;
    assert_eq!(agent.received(0).await.len(), 1);
}
