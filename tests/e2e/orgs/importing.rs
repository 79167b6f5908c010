//! What an import creates, keeps, removes and reports.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use support::{Database, Server, on_both_databases};

use super::{
    connect, events, field, fixtures, import, import_events, inline, paths, setup, templates_at,
    with_fixtures, workspaces,
};

on_both_databases! {
    async fn one_request_imports_two_hundred_agents(database: Database) {
        let server = with_fixtures(database).await;
        let answer = import(&server, json!({ "dir": "acme" })).await;
        assert_eq!(answer.status, 201);
        let made = answer.json;
        assert_eq!((&made["org"], &made["count"]), (&json!("Acme"), &json!(200)));
        assert_eq!(made.as_object().unwrap().keys().collect::<Vec<_>>(), ["count", "org", "workspaces"]);
        let first = &made["workspaces"][0];
        assert_eq!(*first, json!({ "id": first["id"], "name": "CEO", "tier": 1 }));

        let all = workspaces(&server).await;
        assert_eq!(all.len(), 200);
        assert!(all.iter().all(|it| it["status"] == "online" && it["runtime"] == "mock"));
        assert_eq!(paths(&server).await.iter().filter(|path| path.matches('/').count() == 3).count(), 168);
        let manager = field(&all, "Payments Manager");
        assert_eq!((&manager["role"], &manager["tier"]), (&json!("Leads the Payments team"), &json!(1)));
        assert_eq!(field(&all, "VP Sales")["tier"], 2);
        // Seven agents in two columns below a manager: the last is alone in its row.
        let of_manager = |name: &str| field(&all, name);
        let (x, y) = (manager["x"].as_f64().unwrap(), manager["y"].as_f64().unwrap());
        let last = of_manager("Payments Test Engineer");
        assert_eq!((last["x"].as_f64().unwrap() - x, last["y"].as_f64().unwrap() - y), (16.0, 562.0));

        // An agent gives the same reply to the same message.
        server.settings("mock", json!({ "pause_ms": 0 })).await.ok();
        let ask = async |id: &str| {
            let parts = json!([{ "kind": "text", "text": "Who are you?" }]);
            let message = json!({ "messageId": "m", "role": "user", "parts": parts });
            let call = json!({ "jsonrpc": "2.0", "id": "1", "method": "message/send", "params": { "message": message } });
            let reply = server.post(&format!("/workspaces/{id}/a2a"), call).await.ok();
            reply["result"]["parts"][0]["text"].as_str().unwrap().to_owned()
        };
        let mut replies = std::collections::HashSet::new();
        for agent in &all {
            let id = agent["id"].as_str().unwrap();
            let reply = ask(id).await;
            assert_eq!(ask(id).await, reply);
            replies.insert(reply);
        }
        assert_eq!(replies.len(), 10, "two hundred agents use all ten replies");

        // Events of parents precede those of their children, between the start and the end of the import.
        let events = events(&server).await;
        assert_eq!(events.len(), 402);
        assert_eq!(events[0]["event_type"], "org.import.started");
        assert_eq!(events[0]["payload"], json!({ "dir": "acme", "mode": "", "name": "Acme" }));
        let done = &events[401];
        assert_eq!(done["event_type"], "org.import.completed");
        let duration = done["payload"]["duration_ms"].clone();
        assert_eq!(done["payload"], json!({
            "create_error": "", "created_count": 200, "dir": "acme", "duration_ms": duration, "mode": "",
            "name": "Acme", "reconcile_errors": 0, "reconcile_removed_count": 0, "skipped_count": 0,
        }));
        let mut created = std::collections::HashSet::new();
        for pair in events[1..401].chunks(2) {
            let (begun, online) = (&pair[0], &pair[1]);
            assert_eq!(begun["event_type"], "WORKSPACE_PROVISIONING");
            assert_eq!(online["event_type"], "WORKSPACE_ONLINE");
            assert_eq!(online["payload"]["mock"], true);
            if let Some(parent) = begun["payload"]["parent_id"].as_str() {
                assert!(created.contains(parent));
            }
            created.insert(begun["workspace_id"].as_str().unwrap().to_owned());
        }
        let test_engineer = events.iter().find(|event| event["payload"]["name"] == "Payments Test Engineer");
        let payload = &test_engineer.unwrap()["payload"];
        assert_eq!((&payload["x"], &payload["y"]), (&json!(16), &json!(562)), "events carry coordinates relative to the parent");

        // A second import creates nothing. Reconcile removes a workspace with a name of the template at another
        // place.
        let again = import(&server, json!({ "dir": "acme" })).await.ok();
        assert_eq!(again["count"], 200);
        assert!(again["workspaces"].as_array().unwrap().iter().all(|it| it["skipped"] == true));
        let stray = server.workspace(json!({ "name": "IT Auditor", "runtime": "mock" })).await;
        server.workspace(json!({ "name": "Below", "runtime": "mock", "parent_id": stray })).await;
        server.workspace(json!({ "name": "Stranger", "runtime": "mock" })).await;
        let tidied = import(&server, json!({ "dir": "acme", "mode": "reconcile" })).await;
        assert_eq!(tidied.status, 201);
        assert_eq!((&tidied.json["mode"], &tidied.json["reconcile_removed_count"]), (&json!("reconcile"), &json!(2)));
        assert!(tidied.json.get("reconcile_errors").is_none());
        assert_eq!(workspaces(&server).await.len(), 201);
        let tidied = import(&server, json!({ "dir": "acme", "mode": "reconcile" })).await.ok();
        assert_eq!(tidied["reconcile_removed_count"], 0);
        let completed = &import_events(&server).await[5];
        assert_eq!((&*completed.0, &completed.1["reconcile_removed_count"]), ("completed", &json!(2)));

        let ceo = first["id"].as_str().unwrap();
        let removed = server.delete(&format!("/workspaces/{ceo}?confirm=true")).await.ok();
        assert_eq!(removed, json!({ "cascade_deleted": 199, "status": "removed" }));
        assert_eq!(paths(&server).await, ["Stranger"]);
        // Removed workspaces do not block their names.
        let anew = import(&server, json!({ "dir": "acme" })).await.ok();
        assert!(anew["workspaces"].as_array().unwrap().iter().all(|it| it.get("skipped").is_none()));
        assert_eq!(workspaces(&server).await.len(), 201);
    }

    async fn every_field_of_a_template_is_imported_or_reported(database: Database) {
        let start = templates_at(database, &fixtures());
        let key = "0123456789abcdef0123456789abcdef";
        let server = Server::start(start.env("SECRETS_ENCRYPTION_KEY", key)).await;
        let made = import(&server, json!({ "dir": "mixed" })).await;
        assert_eq!(made.status, 201);
        assert_eq!(made.json["count"], 4);
        let entries = made.json["workspaces"].as_array().unwrap();
        let lead = &entries[0];
        assert_eq!(lead["channels_skipped"], json!([
            { "reason": "missing env: [${SLACK_TOKEN}]", "type": "slack", "workspace": "Lead & Docs" },
            { "reason": "unknown adapter", "type": "pigeon", "workspace": "Lead & Docs" },
        ]));
        assert_eq!(lead["channels"], json!(["discord"]));
        assert_eq!(paths(&server).await, ["Lead & Docs", "Lead & Docs/Echo", "Lead & Docs/Scout", "Outside"]);

        let all = workspaces(&server).await;
        let lead = field(&all, "Lead & Docs");
        assert_eq!((&lead["x"], &lead["y"], &lead["tier"]), (&json!(100), &json!(40.5), &json!(3)));
        assert_eq!(lead["role"], "Leads the team.\nWrites down what was decided.\n");
        let reason = lead["last_sample_error"].as_str().unwrap();
        assert!(reason.starts_with("no provisioning backend available"), "{reason}");
        let statuses: BTreeMap<&str, &str> =
            all.iter().map(|it| (it["name"].as_str().unwrap(), it["status"].as_str().unwrap())).collect();
        assert_eq!(statuses["Echo"], "online");
        assert_eq!(statuses["Outside"], "awaiting_agent");
        assert_eq!(statuses["Scout"], "failed");
        assert_eq!(field(&all, "Outside")["delivery_mode"], "poll");
        // Nodes without a workspace take no space in the layout: Echo is beside Scout.
        let place = |name: &str| (field(&all, name)["x"].as_f64().unwrap(), field(&all, name)["y"].as_f64().unwrap());
        assert_eq!((place("Scout"), place("Echo")), ((116.0, 170.5), (370.0, 170.5)));

        // Fields that have no effect yet are reported.
        let warnings: Vec<&str> =
            made.json["warnings"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        for part in ["files_dir", "prompts", "plugins", "schedules", "channels", "memories"] {
            assert!(warnings.iter().any(|warning| warning.starts_with(part) || warning.contains(part)), "{part}: {warnings:?}");
        }

        // Variables are sealed, values of the workspace take precedence, and only containers get variables.
        let connection = connect(&server).await;
        let sql = "SELECT w.name, s.key, s.value, s.version FROM workspace_secrets s \
                   JOIN workspaces w ON w.id = s.workspace_id ORDER BY w.name, s.key";
        let rows = connection.query_all_raw(Statement::from_string(connection.get_database_backend(), sql)).await.unwrap();
        let cipher = store::Cipher::new(Some(key), None, true).unwrap();
        let read: Vec<(String, String, String)> = rows
            .iter()
            .map(|row| {
                let sealed: Vec<u8> = row.try_get_by_index(2).unwrap();
                let plain = cipher.open(&sealed, row.try_get_by_index(3).unwrap()).unwrap();
                assert!(!sealed.windows(plain.len()).any(|part| part == plain), "the value is stored unsealed");
                let plain = String::from_utf8(plain).unwrap();
                (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap(), plain)
            })
            .collect();
        let expected = [
            ("Lead & Docs", "GREETING", "hello world"),
            ("Lead & Docs", "REGION", "eu"),
            ("Lead & Docs", "TEAM_TOKEN", "from-the-lead"),
            ("Scout", "GREETING", "hello world"),
            ("Scout", "REGION", "eu"),
            ("Scout", "TEAM_TOKEN", "from-the-org"),
        ];
        let expected: Vec<(String, String, String)> =
            expected.iter().map(|(a, b, c)| ((*a).into(), (*b).into(), (*c).into())).collect();
        assert_eq!(read, expected);

        // Unused fields are stored in the workspace's setup, sealed where they may hold secrets.
        let sql = "SELECT spec FROM workspaces WHERE name = 'Lead & Docs'";
        let row = connection.query_one_raw(Statement::from_string(connection.get_database_backend(), sql)).await;
        let spec: Value = row.unwrap().unwrap().try_get_by_index(0).unwrap();
        connection.close().await.unwrap();
        assert_eq!(spec, json!({ "model": "sonnet", "org": { "dir": "mixed", "name": "Mixed" } }));
        let kept = setup(&server, "Lead & Docs").await;
        assert_eq!(kept["initial_prompt"], "Ask who is on call.\n\nThen begin.");
        assert_eq!((&kept["idle_prompt"], &kept["idle_interval_seconds"]), (&json!("Tidy up."), &json!(600)));
        let notes = json!({ "source": "github://acme/notes", "config": { "depth": 3 } });
        assert_eq!(kept["plugins"], json!([notes, { "source": "planner" }]));
        assert_eq!(kept["schedules"][0]["prompt"], "Write the weekly report.\n");
        assert_eq!(kept["category_routing"], json!({ "bugs": ["Lead"], "ideas": ["Lead", "Scout"] }));
        assert!(kept["channels"]["sealed"].is_string() && !kept.to_string().contains("webhooks"));
        assert_eq!(kept["initial_memories"], json!([{ "content": "We ship on Thursdays.", "scope": "GLOBAL" }]));
    }

    async fn an_invalid_node_ends_the_import_of_its_tree_with_a_reason(database: Database) {
        let server = Server::start(database).await;
        for (number, (node, error)) in [
            (json!({ "workspace_dir": "relative" }), "workspace_dir must be an absolute path"),
            (json!({ "workspace_dir": "/a/../b" }), "workspace_dir must not contain '..'"),
            (json!({ "workspace_dir": "/etc/x" }), "workspace_dir must not be a system path (/etc)"),
            (json!({ "workspace_access": "read_only" }), "workspace_access=\"read_only\" requires workspace_dir to be set"),
            (json!({ "workspace_access": "all" }), "workspace_access=\"all\" — must be 'none', 'read_only', or 'read_write'"),
            (json!({ "tier": 5 }), "tier must be 1, 2, 3 or 4, not 5"),
            (json!({ "model": "a\nb" }), "invalid model"),
            (json!({ "external": true, "url": "http://169.254.169.254/" }), "url targets a blocked address: link-local address (cloud metadata endpoint)"),
        ].into_iter().enumerate() {
            let mut bad = json!({ "name": "Bad", "runtime": "mock" });
            bad.as_object_mut().unwrap().extend(node.as_object().unwrap().clone());
            let good = json!({ "name": format!("Good {number}"), "runtime": "mock", "children": [bad, { "name": "After" }] });
            let answer = inline(&server, json!({ "name": "Half", "workspaces": [good, { "name": "Later" }] })).await;
            assert_eq!(answer.status, 207, "{}", answer.json);
            assert_eq!(answer.json["error"], format!("workspace Bad: {error}"));
            assert_eq!((&answer.json["count"], workspaces(&server).await.len()), (&json!(1), number + 1));
            let (name, last) = import_events(&server).await.pop().unwrap();
            assert_eq!((&*name, &last["create_error"]), ("completed", &answer.json["error"]));
        }
        for name in ["", "a\nb", &"x".repeat(256)] {
            let answer = inline(&server, json!({ "name": "Half", "workspaces": [{ "name": name }] })).await;
            assert_eq!(answer.status, 207);
            assert!(answer.json["error"].as_str().unwrap().ends_with(": invalid name"), "{}", answer.json);
        }
        // An import with an invalid node removes no workspace.
        let body = json!({
            "mode": "reconcile",
            "template": { "name": "Half", "workspaces": [{ "name": "" }, { "name": "Good 0" }] },
        });
        let answer = import(&server, body).await;
        assert_eq!((answer.status.as_u16(), &answer.json["reconcile_removed_count"]), (207, &json!(0)));
        assert_eq!(workspaces(&server).await.len(), 8);
    }

    async fn missing_variables_are_reported_before_the_import(database: Database) {
        let server = Server::start(database).await;
        let template = json!({
            "name": "Needy",
            "required_env": ["OPENAI_API_KEY", { "any_of": ["A_KEY", "B_KEY"] }, "not-a-name"],
            "workspaces": [{ "name": "A", "runtime": "mock", "required_env": ["SECOND_KEY"] }],
        });
        let answer = inline(&server, template.clone()).await;
        assert_eq!(answer.error(412), "missing required environment variables");
        let all = json!(["OPENAI_API_KEY", "SECOND_KEY", { "any_of": ["A_KEY", "B_KEY"] }]);
        assert_eq!((&answer.json["missing_env"], &answer.json["required_env"]), (&all, &all));
        assert_eq!(answer.json["template"], "Needy");
        assert!(answer.json["suggestion"].as_str().unwrap().contains("POST /settings/secrets"));
        let events = import_events(&server).await;
        assert_eq!(events.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["started", "failed"]);
        assert_eq!((&events[1].1["reason"], &events[1].1["missing_count"]), (&json!("missing_env"), &json!(3)));

        let dry_run = import(&server, json!({ "template": template, "dry_run": true })).await.ok();
        assert_eq!(dry_run["missing_env"], all);
        assert_eq!(dry_run["nodes"][0]["action"], "create");

        // Only global secrets that are not empty satisfy a requirement.
        let connection = connect(&server).await;
        let now = "'2026-01-01 00:00:00+00:00'";
        for (key, value) in [("OPENAI_API_KEY", "x"), ("SECOND_KEY", ""), ("B_KEY", "x")] {
            let bytes = match connection.get_database_backend() {
                sea_orm::DbBackend::Postgres => format!("'{value}'::bytea"),
                _ => format!("CAST('{value}' AS BLOB)"),
            };
            let sql = format!(
                "INSERT INTO global_secrets (key, value, version, created_at, updated_at) \
                 VALUES ('{key}', {bytes}, 0, {now}, {now})"
            );
            connection.execute_unprepared(&sql).await.unwrap();
        }
        let answer = inline(&server, template.clone()).await;
        assert_eq!(answer.json["missing_env"], json!(["SECOND_KEY"]));
        connection.execute_unprepared("UPDATE global_secrets SET value = (SELECT value FROM global_secrets WHERE key = 'B_KEY')").await.unwrap();
        connection.close().await.unwrap();
        assert_eq!(inline(&server, template).await.status, 201);
    }

    async fn a_dry_run_writes_nothing(database: Database) {
        let server = Server::start(database).await;
        let template = json!({ "name": "T", "workspaces": [
            { "name": "A", "runtime": "mock", "children": [{ "name": "B" }, { "name": "C" }] },
        ]});
        inline(&server, json!({ "name": "T", "workspaces": [{ "name": "A", "runtime": "mock" }] })).await.ok();
        let stray = server.workspace(json!({ "name": "C", "runtime": "mock" })).await;
        let before = (events(&server).await, workspaces(&server).await);
        let body = json!({ "template": template, "mode": "reconcile", "dry_run": true });
        let answer = import(&server, body).await;
        assert_eq!(answer.status, 200);
        let a = &workspaces(&server).await[0]["id"];
        let node = |action: &str, id: &Value, path: Value, runtime: &str| {
            json!({ "action": action, "id": id, "path": path, "runtime": runtime, "tier": 3 })
        };
        assert_eq!(answer.json["nodes"], json!([
            node("keep", a, json!(["A"]), "mock"),
            node("create", &Value::Null, json!(["A", "B"]), "langgraph"),
            node("create", &Value::Null, json!(["A", "C"]), "langgraph"),
            { "action": "remove", "id": stray, "path": ["C"] },
        ]));
        assert_eq!((events(&server).await, workspaces(&server).await), before);
    }

    async fn nul_in_free_text_is_replaced_and_stored(database: Database) {
        let server = Server::start(database).await;
        let node = json!({ "name": "A", "runtime": "mock", "initial_memories": [{ "content": "a\u{0}b" }] });
        let answer = inline(&server, json!({ "name": "T", "workspaces": [node] })).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
        assert_eq!(setup(&server, "A").await["initial_memories"][0]["content"], "a\u{fffd}b");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_template_removes_no_workspace() {
    let server = Server::start(Database::sqlite()).await;
    server.workspace(json!({ "name": "A", "runtime": "mock" })).await;
    for template in
        [json!({ "name": "T" }), json!({ "name": "T", "workspaces": [{ "name": "A", "spawning": false }] })]
    {
        let answer = import(&server, json!({ "mode": "reconcile", "template": template })).await;
        assert_eq!(answer.status, 201);
        let body = json!({ "count": 0, "mode": "reconcile", "org": "T", "reconcile_removed_count": 0, "workspaces": [] });
        assert_eq!(answer.json, body);
    }
    assert_eq!(paths(&server).await, ["A"]);
    // A template with at least one workspace removes a workspace that is named by a node without one.
    let template = json!({ "name": "T", "workspaces": [
        { "name": "B", "runtime": "mock" }, { "name": "A", "spawning": false },
    ]});
    let answer = import(&server, json!({ "mode": "reconcile", "template": template })).await.ok();
    assert_eq!(answer["reconcile_removed_count"], 1);
    assert_eq!(paths(&server).await, ["B"]);
}
