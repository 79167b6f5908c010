//! A message that is sent twice is delivered once, and its second answer is the first one's (decisions, Messages).

use std::sync::Arc;

use futures::StreamExt as _;
use reqwest::Method;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use support::{Agent, Answer, Database, Reaction, Server, Start, break_off, on_both_databases};

const FIRST: &str = "6f1c3b52-77a9-4d0e-9f7b-0d6c0a3e1b11";
const SECOND: &str = "6F1C3B52-77A9-4D0E-9F7B-0D6C0A3E1B22";

fn message(id: &str, text: &str) -> Value {
    let part = json!({ "kind": "text", "text": text });
    json!({
        "jsonrpc": "2.0", "id": "1", "method": "message/send",
        "params": { "message": { "role": "user", "messageId": id, "parts": [part] } },
    })
}

async fn send(server: &Server, id: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
    server.with(headers, Method::POST, &format!("/workspaces/{id}/a2a"), Some(body.clone())).await
}

async fn push_workspace(server: &Server, name: &str, agent: &Agent) -> String {
    server.workspace(json!({ "name": name, "runtime": "external", "url": agent.url })).await
}

async fn rows(server: &Server, id: &str) -> usize {
    server.get(&format!("/workspaces/{id}/activity")).await.ok().as_array().unwrap().len()
}

/// Waits until all rows are stored, and returns how many there are.
async fn settled_rows(server: &Server, id: &str, expected: usize) -> usize {
    server.until("the rows are stored", async |server| rows(server, id).await >= expected).await;
    rows(server, id).await
}

on_both_databases! {
    async fn a_message_for_a_polling_agent_is_stored_once(database: Database) {
        let server = Server::start(database).await;
        let poller = server.workspace(json!({ "name": "Poller", "runtime": "external", "delivery_mode": "poll" })).await;
        let other = server.workspace(json!({ "name": "Other", "runtime": "external", "delivery_mode": "poll" })).await;
        let first = send(&server, &poller, &message(FIRST, "hello"), &[]).await.ok();
        assert_eq!(send(&server, &poller, &message(FIRST, "hello"), &[]).await.ok(), first);
        assert_eq!(rows(&server, &poller).await, 1);
        let server = server.kill_and_restart().await;
        assert_eq!(send(&server, &poller, &message(FIRST, "hello"), &[]).await.ok(), first);
        assert_eq!(rows(&server, &poller).await, 1);
        // Another body, receiver or name is another message; and ids that are no UUIDs say nothing.
        send(&server, &poller, &message(FIRST, "other"), &[]).await.ok();
        send(&server, &other, &message(FIRST, "hello"), &[]).await.ok();
        send(&server, &poller, &message(SECOND, "hello"), &[]).await.ok();
        for _ in 0..2 {
            send(&server, &poller, &message("msg-1", "hello"), &[]).await.ok();
        }
        assert_eq!((rows(&server, &poller).await, rows(&server, &other).await), (5, 1));
        // A header names a message as well.
        for key in ["k", "k", "l"] {
            send(&server, &poller, &message("msg-1", "hello"), &[("Idempotency-Key", key)]).await.ok();
        }
        let anonymous = json!({ "method": "message/send", "params": { "message": { "content": "hello" } } });
        for _ in 0..2 {
            send(&server, &poller, &anonymous, &[("Idempotency-Key", "k")]).await.ok();
            send(&server, &poller, &anonymous, &[]).await.ok();
        }
        assert_eq!(rows(&server, &poller).await, 5 + 2 + 1 + 2);
    }

    async fn each_credential_is_a_sender_of_its_own(database: Database) {
        let server = Server::start(Start::from(database).env("MOLECULE_ENV", "staging").env("ADMIN_TOKEN", "t").env("TRUSTED_PROXIES", "127.0.0.1")).await;
        let ask = async |method: Method, path: &str, body: Value| server.ask("t", method, path, Some(body)).await.ok();
        let make = async |name: &str| {
            let made = ask(Method::POST, "/workspaces", json!({ "name": name, "runtime": "external", "delivery_mode": "poll" })).await;
            made["id"].as_str().unwrap().to_owned()
        };
        let [poller, sender] = [make("Poller").await, make("Sender").await];
        let token = async |path: &str| {
            let made = ask(Method::POST, path, json!({})).await;
            format!("Bearer {}", made["auth_token"].as_str().unwrap())
        };
        let orgs = [token("/org/tokens").await, token("/org/tokens").await];
        let own = [token(&format!("/workspaces/{sender}/tokens")).await, token(&format!("/workspaces/{sender}/tokens")).await];
        let rows = async || ask(Method::GET, &format!("/workspaces/{poller}/activity"), json!({})).await.as_array().unwrap().len();
        let at = |address: &'static str| vec![("X-Forwarded-For", address)];
        let with = |bearer: &'static str| vec![("Authorization", bearer)];
        let [org, other_org]: [&'static str; 2] = orgs.map(|it| &*it.leak());
        let [agent, again]: [&'static str; 2] = own.map(|it| &*it.leak());
        // One sender each: an agent by whichever of its tokens; who shows nothing, or nothing good, by the network.
        let senders = [
            vec![with("Bearer t"), with("Bearer  t ")],
            vec![with(org)],
            vec![with(other_org)],
            vec![with(agent), with(again)],
            vec![at("192.0.2.1"), [at("192.0.2.1"), with("Bearer x")].concat(), [at("192.0.2.1"), with("bearer t")].concat()],
            vec![at("192.0.2.2")],
            vec![at("2001:db8::1"), at("2001:db8::2")],
            // It says that it is the receiver, whose agent it need not be.
            vec![[at("192.0.2.2"), vec![("X-Workspace-ID", &*poller.clone().leak())]].concat()],
        ];
        // By the header, and by an id that is unique.
        for (round, (id, key)) in [("msg-1", "k"), (FIRST, "k")].into_iter().enumerate() {
            for (number, sender) in senders.iter().enumerate() {
                for headers in sender.iter().chain(sender) {
                    let headers = [headers.as_slice(), &[("Idempotency-Key", key)]].concat();
                    send(&server, &poller, &message(id, "hello"), &headers).await.ok();
                    assert_eq!(rows().await, round * senders.len() + number + 1, "{headers:?}");
                }
            }
        }
    }

    async fn another_senders_message_is_queued_beside_the_first(database: Database) {
        let (server, agent) = (Server::start(Start::from(database).env("TRUSTED_PROXIES", "127.0.0.1")).await, Agent::start().await);
        let id = push_workspace(&server, "Agent", &agent).await;
        agent.react([Reaction::Stall, Reaction::Stall]);
        let body = message(FIRST, "hello");
        let mut items = Vec::new();
        for address in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"] {
            let queued = send(&server, &id, &body, &[("X-Timeout", "1"), ("X-Forwarded-For", address)]).await;
            assert_eq!(queued.status, 202);
            items.push(queued.json["queue_id"].clone());
        }
        assert_eq!(items[..2], items[2..]);
        assert_ne!(items[0], items[1]);
    }

    async fn an_agent_gets_a_message_once(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = push_workspace(&server, "Agent", &agent).await;
        // The second arrives while the first is under way.
        let permits = Arc::new(Semaphore::new(0));
        agent.react([Reaction::Hold(Arc::clone(&permits))]);
        let body = message(FIRST, "hello");
        let both = async { tokio::join!(send(&server, &id, &body, &[]), send(&server, &id, &body, &[])) };
        let release = async {
            agent.received(1).await;
            permits.add_permits(2);
        };
        let ((first, second), ()) = tokio::join!(both, release);
        let first = first.ok();
        assert_eq!(second.ok(), first);
        assert_eq!(settled_rows(&server, &id, 1).await, 1);
        let server = server.restart().await;
        assert_eq!(send(&server, &id, &body, &[]).await.ok(), first);
        assert_eq!(agent.received(1).await.len(), 1);
        // A delivery that failed does not count, whether the agent was reached or not.
        let body = message(SECOND, "hello");
        agent.react([Reaction::Respond(500, "{}".to_owned())]);
        assert_eq!(send(&server, &id, &body, &[]).await.status, 500);
        let url = agent.url.clone();
        drop(agent);
        server.until("it is gone", async |server| send(server, &id, &body, &[]).await.status == 502).await;
        let agent = Agent::start_again(&url).await;
        server.until("it is there", async |server| send(server, &id, &body, &[]).await.status == 200).await;
        send(&server, &id, &body, &[]).await.ok();
        assert_eq!(agent.received(1).await.len(), 1);
    }

    async fn a_message_that_waits_is_queued_once(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = push_workspace(&server, "Agent", &agent).await;
        let body = message(FIRST, "hello");
        agent.react([break_off()]);
        let first = send(&server, &id, &body, &[]).await;
        assert_eq!(first.status, 202);
        let server = server.restart().await;
        let second = send(&server, &id, &body, &[]).await;
        assert_eq!((second.status.as_u16(), &second.json["queue_id"]), (202, &first.json["queue_id"]));
        let path = format!("/workspaces/{id}/a2a/queue/{}", first.json["queue_id"].as_str().unwrap());
        server.until("it is delivered", async |server| server.get(&path).await.ok()["status"] == "completed").await;
        let third = send(&server, &id, &body, &[]).await;
        assert_eq!((third.status.as_u16(), &third.json["queue_id"]), (202, &first.json["queue_id"]));
        assert_eq!(agent.received(2).await.len(), 2);
    }

    async fn a_synthetic_workspace_records_a_message_once(database: Database) {
        let server = Server::start(database).await;
        let id = server.workspace(json!({ "name": "Mock", "runtime": "mock" })).await;
        let body = message(FIRST, "hello");
        let first = send(&server, &id, &body, &[]).await.ok();
        assert_eq!(send(&server, &id, &body, &[]).await.ok(), first);
        assert_eq!(settled_rows(&server, &id, 1).await, 1);
        let server = server.restart().await;
        assert_eq!(send(&server, &id, &body, &[]).await.ok(), first);
        send(&server, &id, &message(SECOND, "hello"), &[]).await.ok();
        assert_eq!(settled_rows(&server, &id, 2).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn two_servers_deliver_a_message_once() {
    let database = Database::postgres().await;
    let agent = Agent::start().await;
    let [one, other] =
        [Server::start(Start::from(database.clone())).await, Server::start(Start::from(database)).await];
    let id = push_workspace(&one, "Agent", &agent).await;
    other
        .until("it is known", async |other| other.get(&format!("/workspaces/{id}")).await.status == 200)
        .await;
    let permits = Arc::new(Semaphore::new(0));
    agent.react([Reaction::Hold(Arc::clone(&permits))]);
    let body = message(FIRST, "hello");
    let both = async { tokio::join!(send(&one, &id, &body, &[]), send(&other, &id, &body, &[])) };
    let release = async {
        agent.received(1).await;
        permits.add_permits(2);
    };
    let ((first, second), ()) = tokio::join!(both, release);
    assert_eq!(first.ok(), second.ok());
    assert_eq!(agent.received(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_circle_over_two_servers_ends_by_its_hops() {
    let database = Database::postgres().await;
    let agent = Agent::start().await;
    let servers =
        [Server::start(Start::from(database.clone())).await, Server::start(Start::from(database)).await];
    let id = push_workspace(&servers[0], "Agent", &agent).await;
    servers[1]
        .until("it is known", async |other| other.get(&format!("/workspaces/{id}")).await.status == 200)
        .await;
    // An agent that passes each message on to the next server, and answers when it has an answer itself.
    let permits = Arc::new(Semaphore::new(0));
    agent.react((0..=32).map(|_| Reaction::Hold(Arc::clone(&permits))));
    let body = message(FIRST, "hello");
    let passed_on = |hops: usize| {
        let (server, body, id) = (&servers[hops % 2], &body, &id);
        async move { send(server, id, body, &[("X-Isomer-Hops", &hops.to_string())]).await }
    };
    let mut under_way = futures::stream::FuturesUnordered::new();
    for hops in 0..=32 {
        under_way.push(passed_on(hops));
        let arrived = agent.received(hops + 1);
        let answer = async { under_way.next().await };
        tokio::select! {
            arrived = arrived => assert_eq!(arrived.len(), hops + 1),
            answer = answer => panic!("it was not delivered: {answer:?}"),
        }
    }
    let refused = passed_on(33).await;
    assert_eq!(
        refused.error(508),
        "the message went through 33 servers and agents: they pass it on in a circle"
    );
    permits.add_permits(33);
    while let Some(answer) = under_way.next().await {
        answer.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_DATABASE_URL"]
async fn a_server_whose_lease_lapsed_in_an_outage_is_not_taken_for_an_ended_one() {
    let database = Database::postgres().await;
    let agent = Agent::start().await;
    let [one, other] =
        [Server::start(Start::from(database.clone())).await, Server::start(Start::from(database)).await];
    let id = push_workspace(&one, "Agent", &agent).await;
    other
        .until("it is known", async |other| other.get(&format!("/workspaces/{id}")).await.status == 200)
        .await;
    let permits = Arc::new(Semaphore::new(0));
    agent.react([Reaction::Hold(Arc::clone(&permits))]);
    let body = message(FIRST, "hello");
    let delivered = send(&one, &id, &body, &[]);
    let asked = async {
        agent.received(1).await;
        // As after an outage of the database that is longer than the lease: no server could renew its own.
        let rows = one.connect().await;
        rows.execute_unprepared("UPDATE leases SET expires_ms = 0").await.unwrap();
        rows.close().await.unwrap();
        let refused = send(&other, &id, &body, &[("X-Timeout", "1")]).await;
        assert_eq!(refused.error(503), "the same message is still being delivered — retry later");
        permits.add_permits(1);
    };
    let (delivered, ()) = tokio::join!(delivered, asked);
    let answer = delivered.ok();
    assert_eq!(send(&other, &id, &body, &[]).await.ok(), answer);
    assert_eq!(agent.received(1).await.len(), 1);
}
