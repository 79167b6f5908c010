//! Streams from agents to senders (decisions.md, Messages).

use reqwest::Response;
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;

use support::{Agent, Database, Reaction, Server, Signal, Start, feed, on_both_databases};

const METHODS: [&str; 4] = ["message/stream", "tasks/resubscribe", "SendStreamingMessage", "SubscribeToTask"];

async fn send(server: &Server, id: &str, method: &str) -> Response {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "id": "task" } });
    let request = reqwest::Client::new().post(format!("{}/workspaces/{id}/a2a", server.url));
    request.json(&body).send().await.expect("it answers")
}

/// A stream whose head is sent at once.
fn stream() -> (UnboundedSender<Vec<u8>>, Reaction) {
    let (sender, reaction) = feed();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
    sender.send(head.into()).expect("it is not closed");
    (sender, reaction)
}

fn write(sender: &UnboundedSender<Vec<u8>>, text: &str) {
    sender.send(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()).expect("the agent writes");
}

fn finish(sender: &UnboundedSender<Vec<u8>>) {
    sender.send(b"0\r\n\r\n".to_vec()).expect("the agent writes");
}

async fn next(response: &mut Response) -> Option<String> {
    let chunk = response.chunk().await.expect("the stream goes on");
    chunk.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text"))
}

on_both_databases! {
    async fn events_are_passed_on_as_they_come(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        for (number, method) in METHODS.into_iter().enumerate() {
            let (events, reaction) = stream();
            agent.react([reaction]);
            let mut response = send(&server, &id, method).await;
            assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
            for text in ["data: {\"one\":1}\n\n", ": comment\n\ndata: two\n\n"] {
                write(&events, text);
                assert_eq!(next(&mut response).await.as_deref(), Some(text));
            }
            finish(&events);
            assert_eq!(next(&mut response).await, None);
            let row = server.ended_row(&id, number + 1).await;
            assert_eq!((&row["status"], &row["method"]), (&json!("ok"), &json!(method)));
            assert_eq!(row["response_body"], "data: {\"one\":1}\n\n: comment\n\ndata: two\n\n");
        }
    }

    async fn other_answers_are_as_without_streams(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        agent.react([Reaction::Respond(200, "{\"a\": 1}".to_owned())]);
        let response = send(&server, &id, "message/stream").await;
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.text().await.unwrap(), "{\"a\": 1}");
        // A stream for which the sender did not ask is a whole answer.
        let (events, reaction) = stream();
        agent.react([reaction]);
        write(&events, "data: x\n\n");
        finish(&events);
        let response = send(&server, &id, "message/send").await;
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.text().await.unwrap(), "data: x\n\n");
        drop(events);
        agent.react([Reaction::Respond(500, "{\"error\":\"tired\"}".to_owned())]);
        let response = send(&server, &id, "message/stream").await;
        assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (500, "{\"error\":\"tired\"}".to_owned()));
    }

    async fn a_stream_is_recorded_though_its_reader_left(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let (events, reaction) = stream();
        agent.react([reaction]);
        let mut response = send(&server, &id, "message/stream").await;
        write(&events, "data: 1\n\n");
        assert!(next(&mut response).await.is_some());
        drop(response);
        for _ in 0..100 {
            write(&events, "data: 2\n\n");
        }
        finish(&events);
        let row = server.ended_row(&id, 1).await;
        assert_eq!((&row["status"], row["response_body"].as_str().unwrap().len()), (&json!("ok"), 909));
    }

    async fn a_broken_or_silent_stream_breaks_for_its_reader(database: Database) {
        let server = Server::start(Start::from(database).env("A2A_IDLE_TIMEOUT_SECONDS", "1")).await;
        let agent = Agent::start().await;
        let id = server.agent_at(&agent.url).await;
        for (number, (breaks_off, detail)) in [
            (true, "the answer broke off"),
            (false, "the answer was not finished: nothing was heard of the agent for too long"),
        ].into_iter().enumerate() {
            let (events, reaction) = stream();
            agent.react([reaction]);
            let mut response = send(&server, &id, "message/stream").await;
            write(&events, "data: 1\n\n");
            assert!(next(&mut response).await.is_some());
            let events = (!breaks_off).then_some(events);
            assert!(response.chunk().await.is_err(), "its end is no orderly one");
            let row = server.ended_row(&id, number + 1).await;
            assert_eq!((&row["status"], &row["error_detail"]), (&json!("ok"), &json!(detail)));
            assert_eq!(row["response_body"], "data: 1\n\n");
            drop(events);
        }
    }

    async fn a_stopping_server_ends_its_streams(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let (events, reaction) = stream();
        agent.react([reaction]);
        let mut response = send(&server, &id, "message/stream").await;
        write(&events, "data: 1\n\n");
        assert!(next(&mut response).await.is_some());
        server.signal(Signal::TERM);
        assert!(response.chunk().await.is_err(), "its end does not look like the agent's");
    }
}
