//! Which URLs agents may have: never the platform's own, loopback on a developer's machine only.

use reqwest::Method;
use serde_json::{Value, json};

use support::{Agent, Answer, Database, Server, Start, assert_output, on_both_databases, program};

const AGENT: &str = "11111111-1111-4111-8111-111111111111";
const OWN: &str = "url is an address of the platform itself, not of an agent";

fn message() -> Value {
    json!({ "method": "message/send", "params": { "message": { "parts": [{ "kind": "text", "text": "hello" }] } } })
}

async fn create(server: &Server, url: &str) -> Answer {
    server.post("/workspaces", json!({ "name": "Agent", "external": true, "url": url })).await
}

async fn register(server: &Server, id: &str, url: &str) -> Answer {
    let body = json!({ "id": id, "url": url, "agent_card": { "name": "A" }, "delivery_mode": "push" });
    server.post("/registry/register", body).await
}

on_both_databases! {
    async fn an_agent_at_the_platforms_own_address_is_refused(database: Database) {
        let start = Start::from(database)
            .env("PLATFORM_URL", "https://platform.example")
            .env("EXTERNAL_PLATFORM_URL", "https://proxy.example:8443/isomer/");
        let server = Server::start(start).await;
        let port = server.url.rsplit(':').next().unwrap().to_owned();
        for url in [
            format!("{}/workspaces/{AGENT}/a2a", server.url),
            format!("http://localhost:{port}"),
            format!("http://LocalHost:{port}/x"),
            format!("http://0x7f000001:{port}"),
            "https://platform.example/workspaces/x/a2a".to_owned(),
            "http://PLATFORM.example".to_owned(),
            "https://proxy.example:8443/isomer/workspaces/x/a2a".to_owned(),
        ] {
            for refused in [create(&server, &url).await, register(&server, AGENT, &url).await] {
                assert_eq!(refused.error(400), OWN, "{url}");
                assert!(refused.json["hint"].as_str().unwrap().contains("the agent itself listens"));
            }
            let node = json!({ "name": "Node", "external": true, "url": url });
            let template = json!({ "name": "Org", "workspaces": [node] });
            let imported = server.post("/org/import", json!({ "template": template })).await;
            assert!(imported.json.to_string().contains(OWN), "{}", imported.json);
        }
        assert_eq!(server.get("/workspaces").await.ok(), json!([]));
    }

    async fn a_message_that_goes_in_a_circle_ends(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let made = create(&server, &agent.url).await.ok();
        let id = made["id"].as_str().unwrap();
        let path = format!("/workspaces/{id}/a2a");
        // An agent that passes each message on, with the header it came with.
        let mut hops = None::<String>;
        for count in 1..=33 {
            let headers: Vec<(&str, &str)> = hops.as_deref().map(|hops| ("X-Isomer-Hops", hops)).into_iter().collect();
            server.with(&headers, Method::POST, &path, Some(message())).await.ok();
            let head = agent.received(count).await[count - 1].head.clone();
            let line = head.lines().find_map(|line| line.strip_prefix("x-isomer-hops: ")).unwrap();
            assert_eq!(line, count.to_string());
            hops = Some(line.to_owned());
        }
        let refused = server.with(&[("X-Isomer-Hops", &hops.unwrap())], Method::POST, &path, Some(message())).await;
        assert_eq!(refused.error(508), "the message went through 33 servers and agents: they pass it on in a circle");
        assert_eq!(refused.json["hops"], 33);
        // Every kind of workspace ends a circle.
        let mock = server.workspace(json!({ "name": "Mock", "runtime": "mock" })).await;
        let headers = [("X-Isomer-Hops", "99999999999999999999")];
        let path = format!("/workspaces/{mock}/a2a");
        refused_with(508, &server.with(&headers, Method::POST, &path, Some(message())).await);
        assert_eq!(agent.received(0).await.len(), 33);
    }

    async fn loopback_agents_are_created_and_called_in_development(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let url = agent.url.replace("localhost", "127.0.0.1");
        let made = create(&server, &url).await.ok();
        server.post(&format!("/workspaces/{}/a2a", made["id"].as_str().unwrap()), message()).await.ok();
        let answer = register(&server, AGENT, &url).await.ok();
        assert!(answer.get("warning").is_none());
        server.post(&format!("/workspaces/{AGENT}/a2a"), message()).await.ok();
        assert_eq!(create(&server, "http://[::1]:9").await.status, 201);
        for url in ["http://10.0.0.1", "http://169.254.169.254", "http://0.0.0.0"] {
            refused_with(400, &create(&server, url).await);
        }
    }

    async fn production_says_why_an_agent_can_not_be_called(database: Database) {
        let key = "0123456789abcdef0123456789abcdef";
        let start = Start::from(database).env("MOLECULE_ENV", "production").env("SECRETS_ENCRYPTION_KEY", key).env("ADMIN_TOKEN", "admin");
        let server = Server::start(start).await;
        let ask = async |method, path: &str, body| server.ask("admin", method, path, Some(body)).await;
        let body = json!({ "id": AGENT, "url": "http://localhost:9", "agent_card": { "name": "A" }, "delivery_mode": "push" });
        let registered = ask(Method::POST, "/registry/register", body).await.ok();
        let warning = "messages to this agent will not be delivered: url targets a blocked address: loopback address";
        assert_eq!(registered["warning"], warning);
        assert!(registered["hint"].as_str().unwrap().contains("MOLECULE_ENV=development"));
        let sent = ask(Method::POST, &format!("/workspaces/{AGENT}/a2a"), message()).await;
        assert_eq!(sent.error(502), "workspace URL is not publicly routable");
        assert!(sent.json["hint"].as_str().unwrap().contains("MOLECULE_ENV=development"), "{}", sent.json);
        let explained = server.ask("admin", Method::GET, &format!("/workspaces/{AGENT}/explain"), None).await.ok();
        assert_eq!(explained["delivery_problem"]["error"], "hostname \"localhost\" resolves to forbidden address: loopback address");
        assert!(explained["delivery_problem"]["hint"].as_str().unwrap().contains("MOLECULE_ENV=development"));
        for (arguments, succeeds, texts) in [
            (&["ws", "explain", AGENT][..], true, &["messages    do not reach its agent: since", "loopback address", "to do       in production"][..]),
            (&["send", AGENT, "hello"], false, &["not publicly routable", "MOLECULE_ENV=development"]),
        ] {
            let mut command = program();
            command.args(arguments).env("ISOMER_URL", &server.url).env("ADMIN_TOKEN", "admin");
            assert_output(&command.output().unwrap(), succeeds, texts);
        }
        let private = json!({ "id": AGENT, "url": "http://192.168.0.1", "agent_card": { "name": "A" }, "delivery_mode": "push" });
        let token = registered["auth_token"].as_str().unwrap();
        let refused = server.ask(token, Method::POST, "/registry/register", Some(private)).await;
        assert_eq!(refused.error(400), "url targets a blocked address: RFC-1918 private address");
        assert!(refused.json["hint"].as_str().unwrap().contains("MOLECULE_DEPLOY_MODE=saas"));
    }
}

#[track_caller]
fn refused_with(status: u16, answer: &Answer) {
    assert_eq!(answer.status, status, "{}", answer.json);
}
