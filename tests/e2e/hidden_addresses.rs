//! Callers without a credential don't learn where agents are reached: neither from cards and events, nor from errors.

use reqwest::Method;
use serde_json::{Value, json};

use support::{Agent, Answer, Database, Server, Socket, Start, head, on_both_databases};

const ADMIN: &str = "the-admin-token";
const PAGE: &str = "https://canvas.example";
const SECRET: &str = "internal.corp";
const WITHHELD: &str = "callers with a credential are told why";

fn guarded(database: Database, mode: &str) -> Start {
    Start::from(database)
        .env("MOLECULE_ENV", mode)
        .env("ADMIN_TOKEN", ADMIN)
        .env("WS_ALLOW_ORIGINS", PAGE)
        .env("CORS_ORIGINS", PAGE)
}

/// Addresses under all kinds of names, and what is left of them.
fn card() -> Value {
    json!({
        "name": "A", "endpoint": format!("{SECRET}:80"), "more": { "base": format!("http://{SECRET}/a") },
        "supported_interfaces": [{ "uri": format!("grpc://{SECRET}:1"), "transport": "GRPC" }],
        "iconUrl": format!("//{SECRET}/icon"), "list": [format!("//{SECRET}/a"), "b"],
        "about": "https is spoken", "description": format!("ask at {SECRET}:80"), "url1": SECRET,
        "skills": [{ "id": "s", "remote": SECRET, "tags": [format!("<http://{SECRET}>"), "b"] }],
    })
}

fn shown_card() -> Value {
    json!({ "name": "A", "skills": [{ "id": "s", "tags": ["b"] }] })
}

async fn admin(server: &Server, method: Method, path: &str, body: Option<Value>) -> Answer {
    server.ask(ADMIN, method, path, body).await
}

async fn agent_at(server: &Server, url: &str) -> String {
    let body = json!({ "name": "Agent", "runtime": "external", "url": url });
    let made = admin(server, Method::POST, "/workspaces", Some(body)).await.ok();
    made["id"].as_str().unwrap().to_owned()
}

fn message() -> Value {
    json!({ "method": "message/send", "params": { "message": { "parts": [{ "kind": "text", "text": "hello" }] } } })
}

/// The answers to a sender without a credential, to one with a wrong bearer, and to the administrator.
async fn send(server: &Server, id: &str) -> (Answer, Answer, Answer) {
    let path = format!("/workspaces/{id}/a2a");
    (
        server.post(&path, message()).await,
        server.ask("wrong", Method::POST, &path, Some(message())).await,
        admin(server, Method::POST, &path, Some(message())).await,
    )
}

on_both_databases! {
    async fn addresses_in_cards_are_shown_with_a_credential_only(database: Database) {
        let server = Server::start(guarded(database, "staging")).await;
        let id = agent_at(&server, "http://8.8.8.8:9").await;
        let register = json!({ "id": id, "url": "http://8.8.8.8:9", "agent_card": card(), "delivery_mode": "push" });
        admin(&server, Method::POST, "/registry/register", Some(register)).await.ok();
        let update = json!({ "workspace_id": id, "agent_card": card() });
        admin(&server, Method::POST, "/registry/update-card", Some(update)).await.ok();
        let path = format!("/workspaces/{id}");
        let anonymous = server.get(&path).await.ok();
        assert_eq!((&anonymous["agent_card"], &anonymous["url"]), (&shown_card(), &json!("")));
        let known = admin(&server, Method::GET, &path, None).await.ok();
        assert_eq!((&known["agent_card"], &known["url"]), (&card(), &json!("http://8.8.8.8:9")));
        // The events of both calls, as a page without a credential sees them.
        let mut socket = Socket::open(&server, "?since=0", &[("Origin", PAGE)]).await.unwrap();
        let mut cards = 0;
        while cards < 2 {
            let event = socket.event().await;
            let payload = &event["payload"];
            assert!(!payload.to_string().contains(SECRET), "{event}");
            if payload.get("agent_card").is_some() {
                assert_eq!(payload["agent_card"], shown_card());
                cards += 1;
            }
        }
    }

    async fn addresses_in_cards_are_hidden_before_the_first_credential_exists(database: Database) {
        let server = Server::start(Start::from(database).env("MOLECULE_ENV", "staging")).await;
        let id = server.workspace(json!({ "name": "A", "runtime": "external", "delivery_mode": "poll" })).await;
        let update = json!({ "workspace_id": id, "agent_card": card() });
        // The token of the new workspace is a credential: the workspace is read without it.
        server.post("/registry/update-card", update).await;
        let shown = server.get(&format!("/workspaces/{id}")).await.ok();
        assert!(!shown.to_string().contains(SECRET), "{shown}");
    }

    async fn user_names_in_any_address_of_a_card_are_refused(database: Database) {
        let server = Server::start(database).await;
        let id = server.workspace(json!({ "name": "A", "runtime": "external", "delivery_mode": "poll" })).await;
        for card in [
            json!({ "name": "A", "iconUrl": "http://me:hunter2@8.8.8.8/" }),
            json!({ "name": "A", "a": "//me:hunter2@8.8.8.8/" }),
            json!({ "name": "A", "skills": [{ "more": ["redis://:hunter2@8.8.8.8:1"] }] }),
            json!({ "name": "A", "http://me@8.8.8.8/": true }),
            json!({ "name": "A", "a": " http://me@8.8.8.8:99999/" }),
        ] {
            let text = "agent_card must not contain a url with a user name or password";
            let register = json!({ "id": id, "agent_card": card, "delivery_mode": "poll" });
            assert_eq!(server.post("/registry/register", register).await.error(400), text, "{card}");
            let update = json!({ "workspace_id": id, "agent_card": card });
            assert_eq!(server.post("/registry/update-card", update).await.error(400), text, "{card}");
        }
        let mail = json!({ "name": "A", "contact": "me@example.org", "link": "mailto:me@example.org" });
        server.post("/registry/update-card", json!({ "workspace_id": id, "agent_card": mail })).await.ok();
    }

    async fn errors_name_addresses_to_senders_with_a_credential_only(database: Database) {
        let server = Server::start(guarded(database, "development")).await;
        let mut socket = Socket::open(&server, "", &[("Origin", PAGE)]).await.unwrap();
        let (agent, elsewhere) = (Agent::start().await, format!("http://{SECRET}/a2a"));
        let id = agent_at(&server, &agent.url).await;
        let redirect = || head(302, &[&format!("Location: {elsewhere}")]);
        agent.react([redirect(), redirect(), redirect()]);
        let (anonymous, wrong, known) = send(&server, &id).await;
        for hidden in [anonymous, wrong] {
            let text = "the agent's URL redirects, and redirects are not followed";
            assert_eq!((hidden.status.as_u16(), &hidden.json["detail"]), (302, &json!(text)));
            assert!(!hidden.json.to_string().contains(SECRET), "{}", hidden.json);
        }
        assert!(known.json["detail"].as_str().unwrap().contains(&elsewhere), "{}", known.json);

        // A certificate for another name, by an authority that is not known.
        let (agent, _) = Agent::start_with_tls(SECRET).await;
        let id = agent_at(&server, &agent.url).await;
        let (anonymous, wrong, known) = send(&server, &id).await;
        for hidden in [anonymous, wrong] {
            assert_eq!(hidden.error(502), "failed to reach workspace agent");
            assert_eq!(hidden.json["detail"], WITHHELD);
        }
        assert!(known.json["detail"].as_str().unwrap().contains("UnknownIssuer"), "{}", known.json);

        // Nor do pages learn it from the activity that says how these messages ended.
        let mut failures = 0;
        while failures < 6 {
            let event = socket.message_event().await;
            assert!(!event.to_string().contains(SECRET) && !event.to_string().contains("certificate"), "{event}");
            failures += usize::from(event["payload"]["status"] == "error");
        }
    }

    async fn what_a_name_resolves_to_is_told_with_a_credential_only(database: Database) {
        let server = Server::start(guarded(database, "staging")).await;
        let id = agent_at(&server, "http://localhost:9").await;
        let (anonymous, wrong, known) = send(&server, &id).await;
        for hidden in [anonymous, wrong] {
            assert_eq!(hidden.error(502), "workspace URL is not publicly routable");
            assert_eq!((&hidden.json["detail"], hidden.json.get("hint")), (&json!(WITHHELD), None));
        }
        assert!(known.json["detail"].as_str().unwrap().contains("\"localhost\""), "{}", known.json);
    }
}
