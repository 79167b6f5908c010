//! The queue under random events. The invariant: every accepted message is answered once, or waits, or is given up after
//! as many attempts as allowed; and none is sent more often than it has attempts.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use support::{Agent, Answer, Database, Reaction, Server, Start, break_off, on_both_databases};

const STEPS: u32 = 60;

/// xorshift64: a run is repeated by its seed, ISOMER_TEST_SEED.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let given = std::env::var("ISOMER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos();
        let seed = given.unwrap_or(u64::try_from(now).unwrap_or(1)) | 1;
        println!("ISOMER_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("small")
    }
}

fn message(text: &str) -> Value {
    let part = json!({ "kind": "text", "text": text });
    json!({ "method": "message/send", "params": { "message": { "messageId": text, "parts": [part] } } })
}

/// An agent that comes and goes at one address.
struct Visitor {
    url: String,
    agent: Option<Agent>,
    /// How often each message arrived at those that are gone.
    arrived: BTreeMap<String, i64>,
}

impl Visitor {
    async fn new() -> Self {
        let agent = Agent::start().await;
        Self { url: agent.url.clone(), agent: Some(agent), arrived: BTreeMap::new() }
    }

    async fn count(&mut self, agent: &Agent) {
        for received in agent.received(0).await {
            let text =
                received.body["params"]["message"]["messageId"].as_str().unwrap_or_default().to_owned();
            *self.arrived.entry(text).or_default() += 1;
        }
    }

    async fn leave(&mut self) {
        if let Some(agent) = self.agent.take() {
            self.count(&agent).await;
            agent.stop().await;
        }
    }

    async fn come(&mut self) {
        if self.agent.is_none() {
            self.agent = Some(Agent::start_again(&self.url).await);
        }
    }
}

async fn post(server: &Server, path: &str, body: &Value) -> Option<Answer> {
    let request = reqwest::Client::new().post(format!("{}{path}", server.url)).json(body);
    Some(Answer::read(request.timeout(Duration::from_secs(15)).send().await.ok()?).await)
}

async fn heartbeat(server: &Server, id: &str) {
    post(server, "/registry/heartbeat", &json!({ "workspace_id": id, "active_tasks": 0 })).await;
}

on_both_databases! {
    async fn every_accepted_message_is_answered_or_waits(database: Database) {
        let mut random = Random::seeded();
        let several = database.postgres_url().is_some();
        let start = || Start::from(database.clone()).env("SERVER_LEASE_SECONDS", "1");
        let mut servers = vec![Server::start(start()).await];
        if several {
            servers.push(Server::start(start()).await);
        }
        let mut visitor = Visitor::new().await;
        let body = json!({ "name": "Agent", "runtime": "external", "url": visitor.url, "max_concurrent_tasks": 2 });
        let id = servers[0].workspace(body).await;
        let path = format!("/workspaces/{id}/a2a");
        for server in &servers {
            server.until("it is known", async |server| server.get(&format!("/workspaces/{id}")).await.status == 200).await;
        }
        let mut queued = BTreeMap::new();
        let mut answered = Vec::new();
        let mut outages = 0;
        for step in 0..STEPS {
            let at = random.below(servers.len());
            match random.below(12) {
                0..=4 => {
                    if let Some(agent) = &visitor.agent && random.below(3) > 0 {
                        agent.react([break_off()]);
                    }
                    let text = format!("m{step}");
                    match post(&servers[at], &path, &message(&text)).await {
                        Some(answer) if answer.status == 202 => {
                            queued.insert(text, answer.json["queue_id"].as_str().unwrap().to_owned());
                        }
                        Some(answer) if answer.status == 200 => answered.push(text),
                        _ => {}
                    }
                }
                5..=7 => heartbeat(&servers[at], &id).await,
                8 => visitor.leave().await,
                9 => visitor.come().await,
                10 => {
                    if let Some(agent) = &visitor.agent {
                        agent.react([Reaction::WriteAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec())]);
                    }
                    let server = servers.remove(at);
                    heartbeat(&server, &id).await;
                    servers.push(server.kill_and_restart().await);
                }
                _ if several && outages < 2 => {
                    outages += 1;
                    heartbeat(&servers[at], &id).await;
                    database.lock().await;
                    database.unlock().await;
                }
                _ => {}
            }
        }
        // All is well again: nothing may be left.
        visitor.leave().await;
        visitor.come().await;
        let mut limits: Vec<(&String, i64)> = answered.iter().map(|text| (text, 2)).collect();
        for (text, item) in &queued {
            let path = format!("{path}/queue/{item}");
            let mut found = json!(null);
            servers[0].until("no message waits", async |server| {
                heartbeat(server, &id).await;
                found = server.get(&path).await.json;
                found["status"] == "completed" || found["status"] == "failed"
            }).await;
            let attempts = found["attempts"].as_i64().unwrap();
            assert!(found["status"] == "completed" || attempts == 5, "{text}: {found}");
            assert!((1..=5).contains(&attempts), "{text}: {found}");
            // A connection that ends before an answer may be tried twice.
            limits.push((text, 2 * (attempts + 1)));
        }
        visitor.leave().await;
        for (text, most) in limits {
            let arrived = visitor.arrived.get(text).copied().unwrap_or(0);
            assert!((1..=most).contains(&arrived), "{text} arrived {arrived} times, not 1 to {most} times");
        }
        println!("{} messages answered, {} queued", answered.len(), queued.len());
    }
}
