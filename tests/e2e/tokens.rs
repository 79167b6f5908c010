//! Access by token, and the life of tokens (access.md §§3–5, 10).

use chrono::{Duration, Utc};
use reqwest::Method;
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};

use support::{Answer, Database, Server, Start, on_both_databases, program, select_number};

/// A server outside of dev mode.
fn staging(database: Database) -> Start {
    Start::from(database).env("MOLECULE_ENV", "staging")
}

const ADMIN: &str = "the-admin-token";

fn guarded(database: Database) -> Start {
    staging(database).env("ADMIN_TOKEN", ADMIN)
}

async fn make(server: &Server, bearer: &str, body: Value) -> String {
    let made = server.ask(bearer, Method::POST, "/workspaces", Some(body)).await.ok();
    made["id"].as_str().unwrap().to_owned()
}

async fn mint(server: &Server, bearer: &str, id: &str) -> String {
    let minted = server.ask(bearer, Method::POST, &format!("/workspaces/{id}/tokens"), None).await;
    assert_eq!(minted.status, 201);
    assert_eq!(minted.json["message"], "Save this token now — it cannot be retrieved again.");
    minted.json["auth_token"].as_str().unwrap().to_owned()
}

async fn get(server: &Server, bearer: &str, path: &str) -> Answer {
    server.ask(bearer, Method::GET, path, None).await
}

on_both_databases! {
    async fn a_fresh_install_is_open_until_the_first_token(database: Database) {
        let server = Server::start(staging(database)).await;
        let id = server.workspace(json!({ "name": "A", "runtime": "mock" })).await;
        assert_eq!(get(&server, "garbage", "/workspaces").await.status, 200);
        // Routes of class `ws` are not open on a fresh install.
        let state = format!("/workspaces/{id}/state");
        assert_eq!(server.get(&state).await.error(401), "missing workspace auth token");
        // The route for scripts that need a first token.
        let token = server.get(&format!("/admin/workspaces/{id}/test-token")).await.ok();
        let token = token["auth_token"].as_str().unwrap();
        assert_eq!(server.get("/workspaces").await.error(401), "admin auth required");
        assert_eq!(get(&server, "garbage", "/workspaces").await.error(401), "invalid admin auth token");
        assert_eq!(get(&server, token, "/workspaces").await.status, 200);
        assert_eq!(get(&server, token, &state).await.ok()["status"], "online");
        // Anonymous callers do not see private fields, not even on a fresh install.
        let stripped = server.get(&format!("/workspaces/{id}")).await.ok();
        let known = get(&server, token, &format!("/workspaces/{id}")).await.ok();
        for field in ["budget_limit", "monthly_spend", "current_task", "last_sample_error", "workspace_dir", "created_at", "delivery_mode", "last_heartbeat_at"] {
            assert!(stripped.get(field).is_none(), "{field}");
            assert!(known.get(field).is_some(), "{field}");
        }
        assert!(stripped.get("last_outbound_at").is_some());
        // Nor where an agent is reached, by the row or by its card.
        let agent = json!({ "name": "P", "runtime": "external", "url": "http://localhost:9/a" });
        let agent = make(&server, token, agent).await;
        let card = json!({ "name": "P", "url": "http://localhost:9/a", "additionalInterfaces": [{ "transport": "GRPC", "url": "http://localhost:9/b" }] });
        let update = json!({ "workspace_id": agent, "agent_card": card });
        // No token was ever made for this workspace, so its agent needs none.
        server.post("/registry/update-card", update).await.ok();
        let path = format!("/workspaces/{agent}");
        let known = get(&server, token, &path).await.ok();
        assert_eq!((&known["url"], &known["agent_card"]), (&json!("http://localhost:9/a"), &card));
        let stripped = server.get(&path).await.ok();
        let bare = json!({ "name": "P", "additionalInterfaces": [{ "transport": "GRPC" }] });
        assert_eq!((&stripped["url"], &stripped["agent_card"]), (&json!(""), &bare));
        assert!(!stripped.to_string().contains("localhost"), "{stripped}");
        server.ask(token, Method::DELETE, &path, None).await.ok();
        // The removal of the last workspace revokes the last token, which opens the install again.
        server.ask(token, Method::DELETE, &format!("/workspaces/{id}"), None).await.ok();
        assert_eq!(server.get("/workspaces").await.ok(), json!([]));
    }

    async fn with_an_admin_token_only_it_and_organization_tokens_are_accepted(database: Database) {
        let server = Server::start(guarded(database)).await;
        assert_eq!(server.get("/workspaces").await.error(401), "admin auth required");
        let a = make(&server, ADMIN, json!({ "name": "A", "runtime": "mock" })).await;
        let b = make(&server, ADMIN, json!({ "name": "B", "runtime": "mock" })).await;
        let of_a = mint(&server, ADMIN, &a).await;
        assert_eq!(get(&server, &of_a, "/workspaces").await.error(401), "invalid admin auth token");
        assert_eq!(get(&server, &of_a, &format!("/workspaces/{a}/state")).await.status, 200);
        let other = get(&server, &of_a, &format!("/workspaces/{b}/state")).await;
        assert_eq!(other.error(401), "invalid workspace auth token");
        assert_eq!(get(&server, ADMIN, &format!("/workspaces/{b}/state")).await.status, 200);
        let org = server.ask(ADMIN, Method::POST, "/org/tokens", Some(json!({ "name": "ci" }))).await.ok();
        let org = org["auth_token"].as_str().unwrap();
        assert_eq!(get(&server, org, "/workspaces").await.status, 200);
        assert_eq!(get(&server, org, &format!("/workspaces/{b}/state")).await.status, 200);
        assert_eq!(get(&server, ADMIN, "/workspaces/x/state").await.error(400), "invalid workspace ID");
        // A workspace token permits a rename, but not these fields.
        let edit = async |bearer: &str, body: Value| {
            server.ask(bearer, Method::PATCH, &format!("/workspaces/{a}"), Some(body)).await
        };
        edit(&of_a, json!({ "name": "A2", "role": "r", "x": 1, "y": 1, "collapsed": true })).await.ok();
        for (field, value) in [("tier", json!(1)), ("parent_id", json!(b)), ("runtime", json!("mock")), ("workspace_dir", json!("/srv"))] {
            let refused = edit(&of_a, json!({ field: value })).await;
            assert_eq!(refused.error(403), format!("admin auth required for field: {field}"));
        }
        edit(org, json!({ "tier": 1 })).await.ok();
        // A workspace token shows private fields of its own workspace only.
        let own = get(&server, &of_a, &format!("/workspaces/{a}")).await.ok();
        let foreign = get(&server, &of_a, &format!("/workspaces/{b}")).await.ok();
        assert!(own.get("workspace_dir").is_some() && foreign.get("workspace_dir").is_none());
    }

    async fn another_spelling_opens_nothing_more_and_nothing_less(database: Database) {
        let server = Server::start(guarded(database)).await;
        let a = make(&server, ADMIN, json!({ "name": "A", "runtime": "mock" })).await;
        let b = make(&server, ADMIN, json!({ "name": "B", "runtime": "mock" })).await;
        let (of_a, of_b) = (mint(&server, ADMIN, &a).await, mint(&server, ADMIN, &b).await);
        let spelled = |id: &str| [id.to_uppercase(), id.replace('-', ""), format!("%7B{id}%7D"), format!("urn:uuid:{id}"), format!("urn%3Auuid%3A{}", id.to_uppercase())];
        for id in spelled(&a) {
            for path in [format!("/workspaces/{id}/state"), format!("/workspaces/{id}/tokens"), format!("/workspaces/{id}/activity")] {
                get(&server, &of_a, &path).await.ok();
                assert_eq!(get(&server, &of_b, &path).await.error(401), "invalid workspace auth token", "{path}");
                assert_eq!(server.get(&path).await.error(401), "missing workspace auth token", "{path}");
            }
            // Private fields are those of the workspace, however it is named.
            let path = format!("/workspaces/{id}");
            assert!(get(&server, &of_a, &path).await.ok().get("workspace_dir").is_some(), "{path}");
            assert!(get(&server, &of_b, &path).await.ok().get("workspace_dir").is_none(), "{path}");
        }
        // The sender that a message names.
        let text = json!({ "method": "message/send", "params": { "message": { "content": "hello" } } });
        for id in [b.to_uppercase(), b.replace('-', ""), format!("{{{b}}}"), format!("urn:uuid:{b}")] {
            let send = async |bearer: Option<&str>| {
                let bearer = bearer.map(|bearer| format!("Bearer {bearer}"));
                let mut headers = vec![("X-Workspace-ID", id.as_str())];
                headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
                server.with(&headers, Method::POST, &format!("/workspaces/{a}/a2a"), Some(text.clone())).await
            };
            send(Some(&of_b)).await.ok();
            assert_eq!(send(Some(&of_a)).await.error(401), "invalid caller auth token", "{id}");
            assert_eq!(send(None).await.error(401), "missing caller auth token", "{id}");
        }
        // Blanks around a bearer are dropped; it has one spelling otherwise, and so has its scheme.
        let state = format!("/workspaces/{a}/state");
        for (authorization, status) in [
            (format!("Bearer   {of_a}  "), 200),
            (format!("Bearer \t{of_a}\t"), 200),
            (format!("bearer {of_a}"), 401),
            (format!("BEARER {of_a}"), 401),
            (format!("Bearer\t{of_a}"), 401),
            (format!("Token {of_a}"), 401),
            (format!("Bearer {of_a},{of_b}"), 401),
            (format!("Bearer \"{of_a}\""), 401),
            (format!("Bearer {}", of_a.to_uppercase()), 401),
            (format!("Bearer {of_a}="), 401),
            (of_a.clone(), 401),
        ] {
            let answer = server.with(&[("Authorization", &authorization)], Method::GET, &state, None).await;
            assert_eq!(answer.status, status, "{authorization:?}");
        }
    }

    async fn tokens_are_listed_limited_and_revoked(database: Database) {
        let mut server = Server::start(guarded(database)).await;
        let id = make(&server, ADMIN, json!({ "name": "A", "runtime": "mock" })).await;
        let other = make(&server, ADMIN, json!({ "name": "B", "runtime": "mock" })).await;
        let path = format!("/workspaces/{id}/tokens");
        let first = mint(&server, ADMIN, &id).await;
        let second = mint(&server, ADMIN, &id).await;
        let list = get(&server, ADMIN, &path).await.ok();
        assert_eq!(list["count"], 2);
        let prefixes: Vec<&str> = list["tokens"].as_array().unwrap().iter().map(|it| it["prefix"].as_str().unwrap()).collect();
        assert_eq!(prefixes, [&second[..8], &first[..8]], "newest first");
        assert!(!list.to_string().contains(&first));
        let page = get(&server, ADMIN, &format!("{path}?limit=1&offset=1")).await.ok();
        assert_eq!(page["tokens"][0]["prefix"], first[..8]);
        assert_eq!(get(&server, ADMIN, &format!("{path}?limit=999")).await.ok()["count"], 2);
        // A revoked token is refused at once and after a restart.
        let token_id = page["tokens"][0]["id"].as_str().unwrap();
        let elsewhere = server.ask(ADMIN, Method::DELETE, &format!("/workspaces/{other}/tokens/{token_id}"), None).await;
        assert_eq!(elsewhere.error(404), "token not found or already revoked");
        let state = format!("/workspaces/{id}/state");
        assert_eq!(get(&server, &first, &state).await.status, 200);
        let revoked = server.ask(ADMIN, Method::DELETE, &format!("{path}/{token_id}"), None).await;
        assert_eq!(revoked.ok(), json!({ "status": "revoked" }));
        assert_eq!(get(&server, &first, &state).await.error(401), "invalid workspace auth token");
        let again = server.ask(ADMIN, Method::DELETE, &format!("{path}/{token_id}"), None).await;
        assert_eq!(again.error(404), "token not found or already revoked");
        server = server.kill_and_restart().await;
        assert_eq!(get(&server, &first, &state).await.status, 401);
        assert_eq!(get(&server, &second, &state).await.status, 200);
        // A workspace has at most 50 live tokens.
        for _ in 1..50 {
            mint(&server, ADMIN, &id).await;
        }
        let more = server.ask(ADMIN, Method::POST, &path, None).await;
        assert_eq!(more.error(429), "maximum 50 active tokens per workspace");
        // The last use is written behind.
        server.until("the last use is listed", async |server| {
            let list = get(server, ADMIN, &format!("{path}?limit=200")).await.ok();
            list["tokens"].as_array().unwrap().iter().any(|it| it["last_used_at"].is_string())
        }).await;
        // Removal revokes the tokens of a workspace. Only `/state` of that workspace reports it to its agent.
        server.ask(ADMIN, Method::DELETE, &format!("/workspaces/{id}"), None).await.ok();
        let reported = get(&server, &second, &state).await;
        assert_eq!((reported.status.as_u16(), &reported.json), (404, &json!({ "deleted": true, "status": "removed", "workspace_id": id })));
        assert_eq!(get(&server, &first, &state).await.status, 401, "this token was revoked before the removal");
        assert_eq!(get(&server, &second, &path).await.error(401), "invalid workspace auth token");
        assert_eq!(get(&server, &second, &format!("/workspaces/{other}/state")).await.status, 401);
        for id in [id.as_str(), "00000000-0000-4000-8000-000000000000"] {
            let path = format!("/workspaces/{id}/tokens");
            assert_eq!(get(&server, ADMIN, &path).await.error(404), "workspace not found");
            assert_eq!(server.ask(ADMIN, Method::POST, &path, None).await.error(404), "workspace not found");
        }
    }

    async fn organization_tokens_are_bound_listed_revoked_and_limited(database: Database) {
        let server = Server::start(guarded(database)).await;
        let ask = async |bearer: &str, method: Method, path: &str, body: Value| {
            server.ask(bearer, method, path, Some(body)).await
        };
        assert_eq!(get(&server, ADMIN, "/org/tokens").await.ok(), json!({ "count": 0, "tokens": [] }));
        let root = make(&server, ADMIN, json!({ "name": "Org", "runtime": "mock" })).await;
        let made = ask(ADMIN, Method::POST, "/org/tokens", json!({ "name": "ci", "org_id": root })).await;
        assert_eq!(made.status, 200);
        let made = made.json;
        assert_eq!(made["warning"], "copy this token now; it will not be shown again");
        let bearer = made["auth_token"].as_str().unwrap();
        assert_eq!((bearer.len(), &made["prefix"]), (43, &json!(bearer[..8])));
        // A token made with a bound token is bound to the same organization and names its maker.
        let child = ask(bearer, Method::POST, "/org/tokens", json!({})).await.ok();
        assert!(child.get("name").is_none());
        let list = get(&server, ADMIN, "/org/tokens").await.ok();
        assert_eq!(list["count"], 2);
        assert_eq!(list["tokens"][0]["org_id"], root.as_str());
        assert_eq!(list["tokens"][0]["created_by"], format!("org-token:{}", &bearer[..8]));
        assert_eq!(list["tokens"][1]["created_by"], "admin-token");
        assert!(list["tokens"][0].get("name").is_none());
        let long = ask(ADMIN, Method::POST, "/org/tokens", json!({ "name": "x".repeat(101) })).await;
        assert_eq!(long.error(400), "name too long (max 100 chars)");
        let nul = ask(ADMIN, Method::POST, "/org/tokens", json!({ "name": "a\0b" })).await;
        assert_eq!(nul.error(400), "name contains invalid characters");
        for unknown in [json!("x"), json!(""), json!(1), json!("00000000-0000-4000-8000-000000000000")] {
            let refused = ask(ADMIN, Method::POST, "/org/tokens", json!({ "org_id": unknown })).await;
            assert_eq!(refused.error(400), "org_id is not a workspace");
        }
        let id = made["id"].as_str().unwrap();
        let revoked = server.ask(ADMIN, Method::DELETE, &format!("/org/tokens/{id}"), None).await;
        assert_eq!(revoked.ok(), json!({ "revoked": id }));
        assert_eq!(get(&server, bearer, "/workspaces").await.error(401), "invalid admin auth token");
        for id in [id, "x"] {
            let gone = server.ask(ADMIN, Method::DELETE, &format!("/org/tokens/{id}"), None).await;
            assert_eq!(gone.error(404), "token not found or already revoked");
        }
        // Each caller may make ten tokens an hour. What was refused does not count.
        for _ in 0..9 {
            ask(ADMIN, Method::POST, "/org/tokens", json!({})).await.ok();
        }
        let eleventh = ask(ADMIN, Method::POST, "/org/tokens", json!({})).await;
        assert_eq!(eleventh.error(429), "rate limit exceeded");
        let seconds = eleventh.json["retry_after"].as_u64().unwrap();
        assert!((1..=3_600).contains(&seconds) && eleventh.retry_after == Some(seconds.to_string()), "{}", eleventh.json);
    }

    async fn tokens_that_a_token_makes_for_itself_share_its_budget(database: Database) {
        // In tenant mode too, where they are one organization's.
        for org in [None, Some("org-1")] {
            let start = org.iter().fold(guarded(database.clone()), |start, org| start.env("MOLECULE_ORG_ID", *org));
            let server = Server::start(start).await;
            let member = ("X-Molecule-Org-Id", "org-1");
            let mint = async |server: &Server, bearer: &str| {
                let bearer = format!("Bearer {bearer}");
                server.with(&[("Authorization", &bearer), member], Method::POST, "/org/tokens", Some(json!({}))).await
            };
            let made = async |server: &Server, bearer: &str| mint(server, bearer).await.ok()["auth_token"].as_str().unwrap().to_owned();
            let [first, other] = [made(&server, ADMIN).await, made(&server, ADMIN).await];
            // Each made by the one before. The hour does not end with the server.
            let mut last = made(&server, &first).await;
            last = made(&server, &last).await;
            let server = server.restart().await;
            for _ in 0..8 {
                last = made(&server, &last).await;
            }
            for spent in [&last, &first] {
                assert_eq!(mint(&server, spent).await.error(429), "rate limit exceeded");
            }
            made(&server, &other).await;
            made(&server, ADMIN).await;
        }
    }

    async fn the_hour_of_mints_ends_and_a_clock_that_was_set_back_does_not_prolong_it(database: Database) {
        let server = Server::start(guarded(database)).await;
        let mint = async || server.ask(ADMIN, Method::POST, "/org/tokens", Some(json!({}))).await;
        let rows = server.connect().await;
        for hours in [-1, 3] {
            futures::future::join_all((0..12).map(|_| mint())).await;
            assert_eq!(mint().await.error(429), "rate limit exceeded");
            let time = Utc::now() + Duration::hours(hours);
            let sql = "UPDATE tokens SET created_at = $1";
            let statement = Statement::from_sql_and_values(rows.get_database_backend(), sql, [time.into()]);
            rows.execute_raw(statement).await.unwrap();
            mint().await.ok();
        }
        let made = select_number(&rows, "SELECT COUNT(*) FROM tokens WHERE kind = 'org'").await;
        assert_eq!(made, 10 + 10 + 1, "of each burst only ten, and one more after each hour");
    }

    async fn tokens_are_minted_without_limit_in_development(database: Database) {
        let server = Server::start(database).await;
        for _ in 0..11 {
            server.post("/org/tokens", json!({})).await.ok();
        }
    }

    async fn strangers_do_not_use_up_the_budget_of_the_organization(database: Database) {
        let start = guarded(database).env("MOLECULE_ORG_ID", "org-1").env("RATE_LIMIT", "5");
        let server = Server::start(start).await;
        let member = ("X-Molecule-Org-Id", "org-1");
        let ask = async |authorization: Option<&str>| {
            let mut headers = vec![member];
            headers.extend(authorization.map(|value| ("Authorization", value)));
            server.with(&headers, Method::GET, "/workspaces", None).await.status.as_u16()
        };
        // Without a credential by address; with an invented one by that.
        assert_eq!([ask(None).await, ask(None).await, ask(None).await, ask(None).await, ask(None).await, ask(None).await], [401, 401, 401, 401, 401, 429]);
        for invented in 0..6 {
            assert_eq!(ask(Some(&format!("Bearer {invented}"))).await, 401);
        }
        // Its own requests share one budget, by whatever credential and spelling.
        let admin = format!("Bearer {ADMIN}");
        let made = server.with(&[member, ("Authorization", &admin)], Method::POST, "/org/tokens", Some(json!({}))).await.ok();
        let org = format!("Bearer {}", made["auth_token"].as_str().unwrap());
        assert_eq!([ask(Some(&admin)).await, ask(Some(&org)).await, ask(Some(&admin)).await, ask(Some(&org)).await], [200; 4]);
        assert_eq!([ask(Some(&admin)).await, ask(Some(&org)).await], [429, 429]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_tokens_are_disabled_in_production() {
    let server = Server::start(guarded(Database::sqlite()).env("MOLECULE_ENV", "staging")).await;
    let id = make(&server, ADMIN, json!({ "name": "A", "runtime": "mock" })).await;
    let path = format!("/admin/workspaces/{id}/test-token");
    assert_eq!(server.get(&path).await.error(401), "admin auth required");
    let minted = get(&server, ADMIN, &path).await.ok();
    assert_eq!(minted["workspace_id"], id.as_str());
    let unknown = get(&server, ADMIN, "/admin/workspaces/x/test-token").await;
    assert_eq!(unknown.error(404), "workspace not found");
    let key = "0123456789abcdef0123456789abcdef";
    for (name, force, there) in [("Production", "", false), ("prod", "", false), ("production", "1", true)] {
        let start = guarded(Database::sqlite()).env("MOLECULE_ENV", name).env("SECRETS_ENCRYPTION_KEY", key);
        let server = Server::start(start.env("MOLECULE_ENABLE_TEST_TOKENS", force)).await;
        let id = make(&server, ADMIN, json!({ "name": "A", "runtime": "mock" })).await;
        let answer = get(&server, ADMIN, &format!("/admin/workspaces/{id}/test-token")).await;
        match there {
            true => assert_eq!(answer.status, 200, "{name}"),
            false => assert_eq!(answer.error(404), "not found", "{name}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_sealed_on_the_disk() {
    let key = "0123456789abcdef0123456789abcdef";
    let start = Start::from(Database::sqlite()).env("SECRETS_ENCRYPTION_KEY", key);
    let server = Server::start(start).await;
    let secret = "hunter2-and-more-so-that-it-is-found";
    let body = json!({ "name": "A", "runtime": "mock", "secrets": { "API_KEY": secret } });
    let made = server.post("/workspaces", body).await.ok();
    let token =
        server.get(&format!("/admin/workspaces/{}/test-token", made["id"].as_str().unwrap())).await.ok();
    let token = token["auth_token"].as_str().unwrap().to_owned();
    let server = server.restart().await;
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(server.data.path()).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("isomer.db") {
            bytes.extend(std::fs::read(file.path()).unwrap());
        }
    }
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("API_KEY"), "the secret was stored");
    assert!(!holds(secret), "the secret is sealed");
    assert!(!holds(&token), "tokens are stored as hashes");
    assert!(!server.log().contains(secret) && !server.log().contains(&token));
}

#[test]
fn production_requires_an_encryption_key() {
    let data = tempfile::tempdir().unwrap();
    let mut serve = program();
    serve.arg("serve").env("PORT", "0").env("DATA_DIR", data.path()).env("MOLECULE_ENV", "production");
    let ended = serve.output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success());
    assert!(stderr.contains("SECRETS_ENCRYPTION_KEY"), "{stderr}");
}
