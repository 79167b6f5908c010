//! Calls to agents over sockets that stall, break and close: a2a.md §9 and the rules of decisions.md.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use support::{
    Agent, Answer, Database, Reaction, Server, Start, Unanswering, break_off, hang_up, head,
    on_both_databases,
};

fn message(text: &str) -> Value {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "message/send",
        "params": { "message": { "role": "user", "messageId": text, "parts": [{ "kind": "text", "text": text }] } },
    })
}

async fn send(server: &Server, id: &str, headers: &[(&str, &str)]) -> Answer {
    server.with(headers, Method::POST, &format!("/workspaces/{id}/a2a"), Some(message("hello"))).await
}

async fn raw(server: &Server, id: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = reqwest::Client::new().post(format!("{}/workspaces/{id}/a2a", server.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.json(&message("hello")).send().await.expect("it answers")
}

async fn heartbeat(server: &Server, id: &str, metadata: Value) {
    let body = json!({ "workspace_id": id, "active_tasks": 1, "runtime_metadata": metadata });
    server.post("/registry/heartbeat", body).await.ok();
}

/// The beginning of an answer whose rest never comes.
fn half_an_answer(status: u16) -> Reaction {
    Reaction::WriteAndStall(
        format!("HTTP/1.1 {status} X\r\nContent-Length: 50\r\n\r\n{{\"half\":").into_bytes(),
    )
}

on_both_databases! {
    async fn a_silent_agent_is_given_up_before_and_after_its_headers(database: Database) {
        let server = Server::start(Start::from(database).env("A2A_IDLE_TIMEOUT_SECONDS", "1")).await;
        let agent = Agent::start().await;
        let id = server.agent_at(&agent.url).await;
        agent.react([Reaction::Stall, half_an_answer(200), half_an_answer(500)]);
        let answer = send(&server, &id, &[]).await;
        assert_eq!((answer.status.as_u16(), &answer.json["queued"]), (202, &json!(true)));
        let silent = "no answer came: nothing was heard of the agent for too long";
        assert_eq!(server.ended_row(&id, 1).await["error_detail"], silent);
        for (number, (delivered, status)) in [(true, "ok"), (false, "error")].into_iter().enumerate() {
            let answer = send(&server, &id, &[]).await;
            assert_eq!(answer.error(502), "failed to read agent response");
            assert_eq!(answer.json["delivery_confirmed"], delivered);
            assert_eq!(server.ended_row(&id, number + 2).await["status"], status);
        }
    }

    async fn calls_under_way_are_limited_for_a_workspace_and_in_all(database: Database) {
        let start = Start::from(database).env("A2A_MAX_CALLS", "3").env("A2A_MAX_CALLS_PER_WORKSPACE", "2");
        let (server, agent) = (Server::start(start).await, Agent::start().await);
        let [one, other] = [server.agent_at(&agent.url).await, server.agent_at(&agent.url).await];
        let answers: Vec<_> = (0..3).map(|_| support::feed()).collect();
        let (to_agent, reactions): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        agent.react(reactions);
        let sent = |id: String| {
            let url = format!("{}/workspaces/{id}/a2a", server.url);
            tokio::spawn(async move { reqwest::Client::new().post(url).json(&message("hello")).send().await.unwrap().status() })
        };
        let mut under_way = vec![sent(one.clone()), sent(one.clone())];
        agent.received(2).await;
        // What is too much for one agent waits in its queue.
        let queued = send(&server, &one, &[]).await;
        assert_eq!((queued.status.as_u16(), &queued.json["queued"]), (202, &json!(true)));
        let item = format!("/workspaces/{one}/a2a/queue/{}", queued.json["queue_id"].as_str().unwrap());
        under_way.push(sent(other.clone()));
        agent.received(3).await;
        // What is too much for the server is refused, and nothing of it is recorded.
        let refused = raw(&server, &other, &[]).await;
        assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
        let text = refused.text().await.unwrap();
        assert!(text.contains("this server waits for as many agents as it may"), "{text}");
        assert_eq!(agent.received(3).await.len(), 3);
        // Each ends with its connection, which is not used again.
        for answer in to_agent {
            answer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()).expect("it waits");
        }
        for status in under_way {
            assert_eq!(status.await.unwrap(), 200);
        }
        heartbeat(&server, &one, json!({})).await;
        server.until("the queued message is delivered", async |server| {
            server.post("/registry/heartbeat", json!({ "workspace_id": one })).await.ok();
            server.get(&item).await.ok()["status"] == "completed"
        }).await;
        send(&server, &other, &[]).await.ok();
    }

    async fn senders_without_a_credential_have_half_of_the_calls(database: Database) {
        let start = Start::from(database).env("A2A_MAX_CALLS", "4").env("ADMIN_TOKEN", "admin");
        let (server, agent) = (Server::start(start).await, Agent::start().await);
        let body = json!({ "name": "Agent", "runtime": "external", "url": agent.url });
        let made = server.ask("admin", Method::POST, "/workspaces", Some(body)).await.ok();
        let path = format!("/workspaces/{}/a2a", made["id"].as_str().unwrap());
        let answers: Vec<_> = (0..2).map(|_| support::feed()).collect();
        let (to_agent, reactions): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        agent.react(reactions);
        let under_way: Vec<_> = (0..2)
            .map(|_| {
                let request = reqwest::Client::new().post(format!("{}{path}", server.url)).json(&message("hello"));
                tokio::spawn(async move { request.send().await.unwrap().status() })
            })
            .collect();
        agent.received(2).await;
        // A bearer that is no good is none.
        for headers in [&[][..], &[("Authorization", "Bearer wrong")]] {
            let refused = raw(&server, made["id"].as_str().unwrap(), headers).await;
            let status = refused.status().as_u16();
            assert_eq!((status, refused.headers().contains_key("retry-after")), (503, true), "{headers:?}");
        }
        server.ask("admin", Method::POST, &path, Some(message("hello"))).await.ok();
        assert_eq!(agent.received(3).await.len(), 3, "what was refused was not sent");
        for answer in to_agent {
            answer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()).expect("it waits");
        }
        for status in under_way {
            assert_eq!(status.await.unwrap(), 200);
        }
        send(&server, made["id"].as_str().unwrap(), &[]).await.ok();
    }

    async fn events_of_the_workspace_keep_a_delivery_alive(database: Database) {
        let server = Server::start(Start::from(database).env("A2A_IDLE_TIMEOUT_SECONDS", "1")).await;
        let agent = Agent::start().await;
        let id = server.agent_at(&agent.url).await;
        let (answer, reaction) = support::feed();
        agent.react([reaction]);
        let sent = send(&server, &id, &[]);
        let working = async {
            agent.received(1).await;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(3) {
                heartbeat(&server, &id, json!({})).await;
            }
            answer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()).expect("it waits");
        };
        let (answer, ()) = futures::future::join(sent, working).await;
        assert_eq!(answer.ok(), json!({}));
    }

    async fn an_agent_chooses_how_long_it_may_be_silent(database: Database) {
        let server = Server::start(Start::from(database).env("A2A_IDLE_TIMEOUT_SECONDS", "1")).await;
        let agent = Agent::start().await;
        let (patient, other) = (server.agent_at(&agent.url).await, server.agent_at(&agent.url).await);
        heartbeat(&server, &patient, json!({ "idle_timeout_seconds": 600 })).await;
        agent.react([Reaction::Stall, Reaction::Stall]);
        send(&server, &patient, &[("X-Timeout", "3")]).await.ok();
        assert_eq!(server.ended_row(&patient, 1).await["error_detail"], "no answer came: the deadline passed");
        send(&server, &other, &[("X-Timeout", "30")]).await.ok();
        let silent = "no answer came: nothing was heard of the agent for too long";
        assert_eq!(server.ended_row(&other, 1).await["error_detail"], silent);
    }

    async fn headers_and_the_whole_answer_have_limits_of_their_own(database: Database) {
        let start = Start::from(database).env("A2A_PROXY_RESPONSE_HEADER_TIMEOUT", "1");
        let (server, agent) = (Server::start(start).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        agent.react([Reaction::Stall, half_an_answer(200)]);
        assert_eq!(send(&server, &id, &[]).await.json["queued"], true);
        assert_eq!(server.ended_row(&id, 1).await["error_detail"], "no answer came: no response headers in time");
        let answer = send(&server, &id, &[("X-Timeout", "2")]).await;
        assert_eq!(answer.error(502), "failed to read agent response");
    }

    async fn a_connection_that_does_not_open_in_time_is_unreachable(database: Database) {
        let server = Server::start(database).await;
        let nowhere = Unanswering::start();
        let id = server.agent_at(&nowhere.url).await;
        let secure = server.agent_at(&nowhere.url.replace("http://", "https://")).await;
        for id in [id, secure] {
            let answer = send(&server, &id, &[("X-Timeout", "1")]).await;
            assert_eq!(answer.error(502), "failed to reach workspace agent");
            assert_eq!(server.ended_row(&id, 1).await["error_detail"], "it can't be reached: the deadline passed");
        }
    }

    async fn a_message_that_met_a_closing_connection_is_sent_once_more(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        for (number, reaction) in [hang_up(), Reaction::Reset].into_iter().enumerate() {
            send(&server, &id, &[]).await.ok();
            let connections = agent.connections();
            agent.react([reaction]);
            send(&server, &id, &[]).await.ok();
            assert_eq!((agent.received(0).await.len(), agent.connections()), (3 * (number + 1), connections + 1));
        }
        // Only once, only on a connection that was used before, and only before the first byte.
        for reactions in [vec![hang_up(), hang_up()], vec![hang_up()], vec![Reaction::Reset], vec![break_off()]] {
            if reactions.len() == 2 || matches!(&reactions[0], Reaction::WriteAndClose(bytes) if !bytes.is_empty()) {
                send(&server, &id, &[]).await.ok();
            }
            let before = agent.received(0).await.len();
            let count = reactions.len();
            agent.react(reactions);
            assert_eq!(send(&server, &id, &[]).await.json["queued"], true);
            assert_eq!(agent.received(0).await.len(), before + count);
        }
    }

    async fn idle_connections_are_closed_before_agents_close_them(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        send(&server, &id, &[]).await.ok();
        send(&server, &id, &[]).await.ok();
        assert_eq!(agent.connections(), 1);
        agent.closed(1).await;
        send(&server, &id, &[]).await.ok();
        assert_eq!(agent.connections(), 2);
    }

    async fn a_redirect_is_a_failure_that_names_the_url(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let with = "the agent's URL redirects, and redirects are not followed: register \"http://elsewhere.example/a2a\"";
        let without = "the agent's URL redirects without saying where to: register the URL that answers";
        let mut rows = 0;
        for (status, location, detail) in [
            (301, Some("Location: http://elsewhere.example/a2a"), with),
            (302, Some("Location: http://elsewhere.example/a2a"), with),
            (307, Some("location: http://elsewhere.example/a2a"), with),
            (308, None, without),
        ] {
            agent.react([head(status, location.as_slice())]);
            let answer = send(&server, &id, &[]).await;
            assert_eq!((answer.status.as_u16(), &answer.json["detail"]), (status, &json!(detail)));
            rows += 1;
            let row = server.ended_row(&id, rows).await;
            assert_eq!((&row["status"], &row["error_detail"]), (&json!("error"), &json!(detail)));
        }
        // A message from the queue that meets a redirect is not delivered either.
        agent.react([Reaction::Stall, head(302, &["Location: http://elsewhere.example/a2a"])]);
        let queued = send(&server, &id, &[("X-Timeout", "1")]).await.ok();
        server.post("/registry/heartbeat", json!({ "workspace_id": id, "active_tasks": 0 })).await.ok();
        let row = server.ended_row(&id, rows + 2).await;
        assert_eq!((&row["status"], &row["error_detail"]), (&json!("error"), &json!(with)));
        let path = format!("/workspaces/{id}/a2a/queue/{}", queued["queue_id"].as_str().unwrap());
        server.until("it is delivered", async |server| server.get(&path).await.ok()["status"] == "completed").await;
        assert_eq!(server.get(&path).await.ok()["attempts"], 2, "the redirect was one");
    }

    async fn statuses_that_http_does_not_have_are_bad_gateways(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        for (number, status) in ["099", "101", "600", "999", "000"].into_iter().enumerate() {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n{{}}");
            agent.react([Reaction::WriteAndClose(text.into_bytes())]);
            assert_eq!(send(&server, &id, &[]).await.error(502), "failed to reach workspace agent", "{status}");
            assert_eq!(server.ended_row(&id, number + 1).await["status"], "error");
        }
        agent.react([Reaction::Respond(599, "{}".to_owned())]);
        assert_eq!(send(&server, &id, &[]).await.error(599), "the agent refused");
    }

    async fn answers_that_are_none_are_bad_gateways(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let none = "it answered with nothing but statuses below 200";
        let no_http = "its answer is no HTTP";
        let write = |text: String| Reaction::WriteAndClose(text.into_bytes());
        let many_headers: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
        for (number, (reaction, detail)) in [
            (write("HTTP/1.1 100 Continue\r\n\r\n".to_owned()), none),
            (write("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 20".to_owned()), none),
            (Reaction::WriteAndStall("HTTP/1.1 102 Processing\r\n\r\n".repeat(5_000).into_bytes()), none),
            (
                write("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned()),
                "it answered with status 101, which HTTP doesn't have",
            ),
            (write("SSH-2.0-OpenSSH_9.2\r\n".to_owned()), no_http),
            (Reaction::WriteAndClose(vec![0x15, 3, 1, 0, 2, 2, 70]), no_http),
            (write("HTTP/2.0 200 OK\r\n\r\n".to_owned()), no_http),
            (write(format!("HTTP/1.1 200 OK\r\n{many_headers}\r\n")), no_http),
            (write(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(2 * 1024 * 1024))), no_http),
        ].into_iter().enumerate() {
            agent.react([reaction]);
            let answer = send(&server, &id, &[]).await;
            assert_eq!(answer.error(502), "failed to reach workspace agent", "{number}");
            assert_eq!(answer.json["detail"], detail, "{number}");
            assert_eq!(server.ended_row(&id, number + 1).await["error_detail"], detail);
        }
        // An announcement is no answer, and takes no patience from it.
        agent.react([Reaction::Write(b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec())]);
        assert_eq!(send(&server, &id, &[]).await.ok(), json!({}));
        // An agent that hangs up without a word on a new connection may work on it; one that is no TLS was never told.
        agent.closed(9).await;
        let fresh = Agent::start().await;
        let id = server.agent_at(&fresh.url).await;
        fresh.react([hang_up()]);
        assert_eq!(send(&server, &id, &[]).await.json["queued"], true);
        let secure = server.agent_at(&fresh.url.replace("http://", "https://")).await;
        assert_eq!(send(&server, &secure, &[]).await.error(502), "failed to reach workspace agent");
        assert_eq!(server.ended_row(&secure, 1).await["error_detail"], "it can't be reached");
    }

    async fn retry_after_is_passed_on(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        for (status, value) in [(429, "7"), (503, "Wed, 21 Oct 2099 07:28:00 GMT"), (200, "3")] {
            agent.react([head(status, &[&format!("Retry-After: {value}")])]);
            let answer = raw(&server, &id, &[]).await;
            assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (status, &value.parse().unwrap()));
        }
    }

    async fn protocol_headers_reach_the_agent(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.agent_at(&agent.url).await;
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let sent = [
            ("A2A-Version", "1.0"), ("A2A-Extensions", "https://a.example/x"), ("traceparent", trace),
            ("tracestate", "a=b"), ("X-Other", "kept"), ("Cookie", "kept"),
        ];
        send(&server, &id, &sent).await.ok();
        let head = agent.received(1).await.remove(0).head;
        for (name, value) in &sent[..4] {
            assert!(head.contains(&format!("{}: {value}", name.to_lowercase())), "{head}");
        }
        assert!(!head.contains("kept"), "{head}");
    }
}
