//! Text that was cut within a character, deep nesting, and numbers that no float holds.

use serde_json::{Value, json};
use support::{Agent, Database, Reaction, Server, Socket, on_both_databases};

use super::{activity, mock};

/// A number of a JSON-RPC id, and one of a message, in forms that a float loses.
const ID: &str = "12345678901234567890123";
const NUMBERS: &str = "[0.1e1,1.0,98765432109876543210,-0]";

on_both_databases! {
    async fn half_a_character_costs_that_character_only(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server).await;
        let escaped = br#"{"name":"Cut \ud83d","runtime":"mock","role":"\\ud83d \ud83d\ude80"}"#.to_vec();
        let invalid = b"{\"name\":\"Bytes \xf0\x9f\",\"runtime\":\"mock\"}".to_vec();
        for (body, name, role) in
            [(escaped, "Cut \u{fffd}", json!("\\ud83d \u{1f680}")), (invalid, "Bytes \u{fffd}", json!(null))]
        {
            let (status, text) = server.post_raw("/workspaces", body).await;
            assert_eq!(status, 201, "{text}");
            let made: Value = serde_json::from_str(&text).unwrap();
            let found = server.get(&format!("/workspaces/{}", made["id"].as_str().unwrap())).await.ok();
            assert_eq!((&found["name"], &found["role"]), (&json!(name), &role));
        }

        let beat = format!(r#"{{"workspace_id":"{id}","current_task":"cut \ud83d","unknown \ud83d":["\udc00"]}}"#);
        assert_eq!(server.post_raw("/registry/heartbeat", beat).await.0, 200);
        let card = format!(r#"{{"workspace_id":"{id}","agent_card":{{"key \udc00":["\ud83d", 1]}}}}"#);
        assert_eq!(server.post_raw("/registry/update-card", card).await.0, 200);
        let found = server.get(&format!("/workspaces/{id}")).await.ok();
        assert_eq!(found["current_task"], "cut \u{fffd}");
        assert_eq!(found["agent_card"], json!({ "key \u{fffd}": ["\u{fffd}", 1] }));

        let report = r#"{"activity_type":"agent_log","summary":"a \ud83d","request_body":{"\ud83d":"\ude80"}}"#;
        assert_eq!(server.post_raw(&format!("/workspaces/{id}/activity"), report).await.0, 200);
        let message = r#"{"method":"m","params":{"message":{"content":"b \ud83d","\udc00":1}}}"#;
        assert_eq!(server.post_raw(&format!("/workspaces/{id}/a2a"), message).await.0, 200);
        server.until("both rows are there", async |server| activity(server, &id, "").await.contains("b \u{fffd}")).await;
        let rows = activity(&server, &id, "").await;
        for part in [r#""summary":"a �""#, r#"{"�":"�"}"#, r#""text":"b �""#, r#""�":1"#] {
            assert!(rows.contains(part), "no {part} in {rows}");
        }
        let import = r#"{"template":{"name":"O \ud83d","workspaces":[{"name":"W \udc00","runtime":"mock"}]}}"#;
        let (status, text) = server.post_raw("/org/import", import).await;
        assert_eq!(status, 201, "{text}");
        assert!(text.contains("O \u{fffd}") && text.contains("W \u{fffd}"), "{text}");
    }

    async fn an_answer_with_half_a_character_reaches_its_sender_and_the_log(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.workspace(json!({ "name": "Agent", "runtime": "external", "url": agent.url })).await;
        let mut socket = Socket::canvas(&server).await;
        let reply = format!(r#"{{"jsonrpc":"2.0","id":{ID},"result":{{"parts":[{{"text":"cut \ud83d \u0000"}}], "n":{NUMBERS}}}}}"#);
        agent.react([Reaction::Respond(200, reply.clone())]);
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":{ID},"method":"message/send","params":{{"n": {NUMBERS},"message":{{"content":"x"}}}}}}"#
        );
        let answer = server.post_raw(&format!("/workspaces/{id}/a2a"), message).await;
        assert_eq!(answer, (200, reply), "the answer is passed on as it came");
        let received = agent.received(1).await.remove(0).text;
        for part in [format!(r#""id":{ID}"#), format!(r#""n":{NUMBERS}"#)] {
            assert!(received.contains(&part), "no {part} in {received}");
        }
        let stored = format!(r#""result":{{"parts":[{{"text":"cut {0} {0}"}}],"n":{NUMBERS}}}"#, '\u{fffd}');
        server.until("the row is there", async |server| activity(server, &id, "").await.contains(&stored)).await;
        let rows = activity(&server, &id, "").await;
        assert!(rows.contains(r#""params":{"message":"#) && rows.contains(&format!(r#""n":{NUMBERS}"#)), "{rows}");
        for name in ["ACTIVITY_LOGGED", "A2A_RESPONSE"] {
            let frame = socket.text().await;
            assert!(frame.contains(name) && frame.contains(&stored), "{frame}");
        }
    }

    async fn ids_and_numbers_keep_their_text(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server).await;
        for request_id in [ID, "1e2", "1.0", "-0", r#""text""#] {
            let message = format!(r#"{{"jsonrpc":"2.0","id":{request_id},"method":"m","params":{{"n":{NUMBERS}}}}}"#);
            let (status, answer) = server.post_raw(&format!("/workspaces/{id}/a2a"), message).await;
            assert_eq!(status, 200, "{answer}");
            assert!(answer.starts_with(&format!(r#"{{"id":{request_id},"jsonrpc":"2.0""#)), "{answer}");
        }
        let report = format!(r#"{{"activity_type":"agent_log","summary":"numbers","response_body":{{ "n" : {NUMBERS} }}}}"#);
        assert_eq!(server.post_raw(&format!("/workspaces/{id}/activity"), report).await.0, 200);
        let row = activity(&server, &id, "?type=agent_log").await;
        assert!(row.contains(&format!(r#""response_body":{{"n":{NUMBERS}}}"#)), "{row}");
    }

    async fn queued_numbers_keep_their_text(database: Database) {
        let (server, agent) = (Server::start(database).await, Agent::start().await);
        let id = server.workspace(json!({ "name": "Agent", "runtime": "external", "url": agent.url })).await;
        agent.react([support::hang_up()]);
        let message = format!(r#"{{"jsonrpc":"2.0","id":{ID},"method":"m","params":{{"n":{NUMBERS},"cut":"\ud83d"}}}}"#);
        let (status, answer) = server.post_raw(&format!("/workspaces/{id}/a2a"), message).await;
        assert_eq!(status, 202, "{answer}");
        server.post("/registry/heartbeat", json!({ "workspace_id": id, "active_tasks": 0 })).await.ok();
        let sent = agent.received(2).await.remove(1).text;
        assert_eq!(sent, format!(r#"{{"jsonrpc":"2.0","id":{ID},"method":"m","params":{{"n":{NUMBERS},"cut":"{}"}}}}"#, '\u{fffd}'));
    }

    async fn nesting_over_the_limit_is_named(database: Database) {
        let server = Server::start(database).await;
        let id = mock(&server).await;
        let text = "nested too deeply: at most 127 levels";
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (path, body) in [
            (format!("/workspaces/{id}/a2a"), format!(r#"{{"params":{deep}}}"#)),
            (format!("/workspaces/{id}/activity"), format!(r#"{{"activity_type":"error","metadata":{deep}}}"#)),
            ("/registry/update-card".to_owned(), format!(r#"{{"workspace_id":"{id}","agent_card":{{"a":{deep}}}}}"#)),
            ("/workspaces".to_owned(), format!(r#"{{"name":"x","unknown":{deep}, "role":{deep}}}"#)),
            ("/admin/guests/mock/call".to_owned(), format!(r#"{{"function":"describe","input":{deep}}}"#)),
        ] {
            let (status, answer) = server.post_raw(&path, body).await;
            assert_eq!((status, answer), (400, json!({ "error": text }).to_string()), "{path}");
        }
        // Malformed JSON of any depth is malformed.
        let (status, answer) = server.post_raw(&format!("/workspaces/{id}/a2a"), "[[[").await;
        assert_eq!((status, answer.as_str()), (400, r#"{"error":"invalid JSON"}"#));
        // An answer that is nested as deeply is passed on, and stored as text.
        let agent = Agent::start().await;
        let id = server.workspace(json!({ "name": "Agent", "runtime": "external", "url": agent.url })).await;
        agent.react([Reaction::Respond(200, deep.clone())]);
        let message = json!({ "method": "m", "params": {} }).to_string();
        assert_eq!(server.post_raw(&format!("/workspaces/{id}/a2a"), message).await, (200, deep.clone()));
        let stored = format!(r#""response_body":"{deep}""#);
        server.until("the row is there", async |server| activity(server, &id, "").await.contains(&stored)).await;
    }

    async fn workspaces_of_a_template_are_nested_as_deeply_in_json_as_in_yaml(database: Database) {
        let server = Server::start(database).await;
        let template = |levels: u32| {
            let node = |below: Option<Value>, level: u32| {
                json!({ "name": format!("W{level}"), "runtime": "mock", "children": below.into_iter().collect::<Vec<_>>() })
            };
            let root = (1..=levels).rev().fold(None, |below, level| Some(node(below, level)));
            json!({ "template": { "name": "Deep", "workspaces": [root] } })
        };
        let made = server.post("/org/import", template(64)).await;
        assert_eq!((made.status.as_u16(), &made.json["count"]), (201, &json!(64)));
        for levels in [65, 90] {
            let refused = server.post("/org/import", template(levels)).await;
            assert_eq!(refused.error(400), "invalid org template");
            let detail = refused.json["detail"].as_str().unwrap();
            assert!(detail.contains("workspaces may be nested 64 deep"), "{detail}");
        }
        let refused = server.post("/org/import", template(200)).await;
        assert_eq!(refused.error(400), "invalid org template");
        assert!(refused.json["detail"].as_str().unwrap().contains("workspaces may be nested 64 deep"));
        // What is stored as free JSON can be read again.
        let config = |levels: u32| {
            let config = (1..levels).fold(json!({}), |below, _| json!({ "a": below }));
            let plugins = [json!({ "source": "p", "config": config })];
            json!({ "template": { "name": "Free", "workspaces": [{ "name": "Free", "runtime": "mock", "plugins": plugins }] } })
        };
        assert_eq!(server.post("/org/import", config(65)).await.error(400), "invalid org template");
        assert_eq!(server.post("/org/import", config(64)).await.status, 201);
        let card = (0..125).fold(json!({}), |below, _| json!({ "a": below }));
        let id = server.get("/workspaces").await.ok()[0]["id"].clone();
        let update = server.post("/registry/update-card", json!({ "workspace_id": id, "agent_card": card })).await;
        assert_eq!(update.status, 200);
        let server = server.restart().await;
        let (status, list) = server.raw(reqwest::Method::GET, "/workspaces", "text/plain", "").await;
        assert!(status == 200 && list.contains("\"Free\"") && list.contains(&"{\"a\":".repeat(125)), "{list}");
        let listed = support::program().args(["ws", "list"]).env("ISOMER_URL", &server.url).output().expect("it runs");
        support::assert_output(&listed, true, &["Free", "W64"]);
        let events = support::program().args(["events"]).env("ISOMER_URL", &server.url).output().expect("it runs");
        support::assert_output(&events, true, &["AGENT_CARD_UPDATED"]);
    }
}
