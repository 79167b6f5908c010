//! Organizations from templates (org-import.md, template-resolving.md).

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use serde_json::{Value, json};
use tempfile::TempDir;

use support::{Answer, Database, Server, Start, on_both_databases};

/// The directory with the templates of this repository.
fn fixtures() -> PathBuf {
    support::workspace().join("tests/fixtures/orgs")
}

async fn with_fixtures(database: Database) -> Server {
    Server::start(templates_at(database, &fixtures())).await
}

fn templates_at(database: Database, directory: &Path) -> Start {
    Start::from(database).env("ORG_TEMPLATES_DIR", directory.to_str().unwrap())
}

async fn import(server: &Server, body: Value) -> Answer {
    server.post("/org/import", body).await
}

async fn inline(server: &Server, template: Value) -> Answer {
    import(server, json!({ "template": template })).await
}

async fn workspaces(server: &Server) -> Vec<Value> {
    server.get("/workspaces").await.ok().as_array().unwrap().clone()
}

/// Paths of all workspaces: names from the root down.
async fn paths(server: &Server) -> Vec<String> {
    let all = workspaces(server).await;
    let by_id: HashMap<&str, &Value> = all.iter().map(|it| (it["id"].as_str().unwrap(), it)).collect();
    let path = |it: &Value| {
        let mut path = it["name"].as_str().unwrap().to_owned();
        let mut at = it;
        while let Some(above) = at["parent_id"].as_str() {
            at = by_id[above];
            path = format!("{}/{path}", at["name"].as_str().unwrap());
        }
        path
    };
    let mut paths: Vec<String> = all.iter().map(path).collect();
    paths.sort();
    paths
}

fn field<'a>(rows: &'a [Value], name: &str) -> &'a Value {
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// All events, oldest first.
async fn events(server: &Server) -> Vec<Value> {
    let mut events = server.get("/events?limit=500").await.ok().as_array().unwrap().clone();
    events.reverse();
    events
}

/// Events of imports.
async fn import_events(server: &Server) -> Vec<(String, Value)> {
    let events = events(server).await;
    let of_imports = events.iter().filter_map(|event| {
        let name = event["event_type"].as_str().unwrap().strip_prefix("org.import.")?;
        Some((name.to_owned(), event["payload"].clone()))
    });
    of_imports.collect()
}

async fn connect(server: &Server) -> DatabaseConnection {
    let file = || format!("sqlite:{}", server.data.path().join("isomer.db").display());
    let url = server.database().postgres_url().unwrap_or_else(file);
    sea_orm::Database::connect(url).await.expect("the database accepts connections")
}

/// A directory of templates with one template `t` of these files.
fn template(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("t"), files);
    dir
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

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
            { "reason": "unknown adapter", "type": "pigeon", "workspace": "Lead & Docs" },
        ]));
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
        assert!(warnings.iter().any(|warning| warning.starts_with("org.yaml:41:5: !external molecule-ai/")), "{warnings:?}");

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

        // Unused fields are stored in the workspace's spec, sealed where they may hold secrets.
        let sql = "SELECT spec FROM workspaces WHERE name = 'Lead & Docs'";
        let row = connection.query_one_raw(Statement::from_string(connection.get_database_backend(), sql)).await;
        let spec: Value = row.unwrap().unwrap().try_get_by_index(0).unwrap();
        let kept = &spec["org"];
        assert_eq!(kept["initial_prompt"], "Ask who is on call.\n\nThen begin.");
        assert_eq!((&kept["idle_prompt"], &kept["idle_interval_seconds"]), (&json!("Tidy up."), &json!(600)));
        let notes = json!({ "source": "github://acme/notes", "config": { "depth": 3 } });
        assert_eq!(kept["plugins"], json!([notes, { "source": "planner" }]));
        assert_eq!(kept["schedules"][0]["prompt"], "Write the weekly report.\n");
        assert_eq!(kept["category_routing"], json!({ "bugs": ["Lead"], "ideas": ["Lead", "Scout"] }));
        assert!(kept["channels"]["sealed"].is_string() && !spec.to_string().contains("SLACK_TOKEN"));
        assert_eq!(spec["initial_memories"], json!([{ "content": "We ship on Thursdays.", "scope": "GLOBAL" }]));
        assert_eq!((&kept["name"], &kept["dir"]), (&json!("Mixed"), &json!("mixed")));
        connection.close().await.unwrap();
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

    async fn concurrent_imports_create_one_organization(database: Database) {
        let server = with_fixtures(database).await;
        let all = (0..4).map(|_| import(&server, json!({ "dir": "acme" })));
        let all = futures::future::join_all(all).await;
        let mut made = 0;
        let ids = |answer: &Answer| -> Vec<Value> {
            answer.json["workspaces"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect()
        };
        for answer in &all {
            assert_eq!(answer.status, 201);
            assert_eq!(ids(answer), ids(&all[0]), "all imports name the same workspaces");
            made += answer.json["workspaces"].as_array().unwrap().iter().filter(|it| it.get("skipped").is_none()).count();
        }
        assert_eq!((made, workspaces(&server).await.len()), (200, 200));
        let events = import_events(&server).await;
        let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["started", "completed"].repeat(4));
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
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_DATABASE_URL"]
async fn concurrent_imports_on_two_servers_create_one_organization() {
    let database = Database::postgres().await;
    let servers = [with_fixtures(database.clone()).await, with_fixtures(database).await];
    let both = servers.iter().map(|server| import(server, json!({ "dir": "acme", "mode": "reconcile" })));
    let both = futures::future::join_all(both).await;
    let made: usize = both
        .iter()
        .map(|answer| {
            assert_eq!((answer.status.as_u16(), &answer.json["reconcile_removed_count"]), (201, &json!(0)));
            let entries = answer.json["workspaces"].as_array().unwrap();
            entries.iter().filter(|it| it.get("skipped").is_none()).count()
        })
        .sum();
    assert_eq!(made, 200);
    for server in &servers {
        server
            .until("each server lists all workspaces", async |server| workspaces(server).await.len() == 200)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_import_requests_are_explained() {
    let server = with_fixtures(Database::sqlite()).await;
    for (body, status, text) in [
        (json!({}), 400, "provide 'dir' or 'template'"),
        (json!({ "dir": "" }), 400, "provide 'dir' or 'template'"),
        (json!({ "template": {} }), 400, "provide 'dir' or 'template'"),
        (json!({ "template": { "workspaces": [] } }), 400, "provide 'dir' or 'template'"),
        (json!({ "template": [] }), 400, "invalid request body"),
        (json!({ "dir": 1 }), 400, "invalid request body"),
        (json!({ "dir": "../orgs/acme" }), 400, "invalid org directory"),
        (json!({ "dir": "/etc" }), 400, "invalid org directory"),
        (json!({ "dir": "." }), 400, "invalid org directory"),
        (json!({ "dir": "a/../../x" }), 400, "invalid org directory"),
        (json!({ "dir": "nowhere" }), 404, "org template not found"),
        (json!({ "dir": "acme/sales" }), 404, "org template not found"),
        (json!({ "dir": "broken/cycle" }), 400, "org template expansion failed"),
        (json!({ "dir": "broken/syntax" }), 400, "org template expansion failed"),
        (json!({ "dir": "broken/type" }), 400, "invalid org template"),
        (
            json!({ "template": { "name": "T", "workspaces": [{ "name": "A", "tier": "3" }] } }),
            400,
            "invalid org template",
        ),
        (json!({ "template": { "name": "T", "workspaces": {} } }), 400, "invalid org template"),
        (
            json!({ "template": { "name": "T", "required_env": [{ "any_of": [] }] } }),
            400,
            "invalid org template",
        ),
    ] {
        let answer = import(&server, body.clone()).await;
        assert_eq!(answer.error(status), text, "{body}");
        assert!(!answer.json.to_string().contains("nowhere"), "the error does not repeat the requested name");
    }
    let type_error = import(&server, json!({ "dir": "broken/type" })).await;
    let detail = type_error.json["detail"].as_str().unwrap();
    assert_eq!(detail, "org.yaml:4:11: workspaces[0].tier: needs a whole number, without quotes");
    let at =
        json!({ "name": "T", "workspaces": [{ "name": "A", "children": [{ "canvas": { "x": "1" } }] }] });
    let detail = inline(&server, at).await.json["detail"].clone();
    assert_eq!(detail, "workspaces[0].children[0].canvas.x: needs a number, without quotes");

    let many: Vec<Value> = (0..2_001).map(|number| json!({ "name": format!("N{number}") })).collect();
    let answer = inline(&server, json!({ "name": "T", "workspaces": many })).await;
    assert_eq!(answer.error(400), "invalid org template");
    assert!(answer.json["detail"].as_str().unwrap().contains("2001 workspaces are too many: 2000"));
    let large = json!({ "template": { "name": "T", "description": "x".repeat(4 << 20) } });
    assert_eq!(import(&server, large).await.error(400), "invalid request body");
    assert_eq!(import_events(&server).await, [], "a refused import has no events");
    assert!(workspaces(&server).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_and_inline_templates_give_the_same_result() {
    let yaml = "name: T\nworkspaces:\n  - {name: 12, role: yes, spawning: on, tier: 2, max_concurrent_tasks: 0x3, runtime: MOCK, unknown: [1]}\n";
    let dir = template(&[("org.yml", yaml)]);
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    import(&server, json!({ "dir": "t" })).await.ok();
    let from_yaml = workspaces(&server).await.remove(0);
    server.delete(&format!("/workspaces/{}", from_yaml["id"].as_str().unwrap())).await.ok();
    let node = json!({ "name": 12, "role": "yes", "spawning": true, "tier": 2, "max_concurrent_tasks": 3, "runtime": "MOCK" });
    inline(&server, json!({ "name": "T", "workspaces": [node] })).await.ok();
    let from_json = workspaces(&server).await.remove(0);
    for field in ["name", "role", "tier", "max_concurrent_tasks", "runtime", "status"] {
        assert_eq!(from_yaml[field], from_json[field], "{field}");
    }
    assert_eq!((&from_json["name"], &from_json["runtime"]), (&json!("12"), &json!("mock")));
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let drawn = "  - name: B\n    spawning: false\n    children: [{name: C, required_env: [DEEP_KEY]}]\n";
    write(
        dir.path(),
        &[
            (
                "good/org.yaml",
                &format!(
                    "name: Good\ndescription: D\nrecommended_env: [X, {{any_of: [Y, Z]}}]\nworkspaces:\n  - name: A\n{drawn}"
                ),
            ),
            ("good/org.yml", "name: Not this one\n"),
            ("also/org.yml", "name: Also\n"),
            ("cycle/org.yaml", "name: C\nworkspaces: [!include org.yaml]\n"),
            ("typed/org.yaml", "name: C\nworkspaces: 3\n"),
            ("nothing/readme.md", "x"),
            ("half/.git/HEAD", "x"),
            ("file", "x"),
        ],
    );
    symlink("good", dir.path().join("link")).unwrap();
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    let listed = server.get("/org/templates").await.ok();
    assert_eq!(
        listed,
        json!([
            { "description": "", "dir": "also", "name": "Also", "recommended_env": [], "required_env": [], "workspaces": 0 },
            { "description": "D", "dir": "good", "name": "Good", "recommended_env": ["X", { "any_of": ["Y", "Z"] }],
              "required_env": ["DEEP_KEY"], "workspaces": 3 },
        ])
    );
    let all = server.get("/org/templates?include_broken=true").await.ok();
    let broken: BTreeMap<&str, (&str, &str)> = all
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| Some((it["dir"].as_str()?, (it["reason"].as_str()?, it["error"].as_str()?))))
        .collect();
    assert_eq!(broken.keys().copied().collect::<Vec<_>>(), ["cycle", "half", "typed"]);
    assert_eq!(broken["half"].0, "half_checkout");
    assert!(
        broken["cycle"].0 == "include_expansion_failed" && broken["cycle"].1.contains("org.yaml:2:14"),
        "{broken:?}"
    );
    assert!(broken["typed"].0 == "yaml_invalid" && broken["typed"].1.contains("needs a list"), "{broken:?}");
    drop(dir);
    assert_eq!(server.get("/org/templates").await.ok(), json!([]), "a missing directory is an empty list");
}

/// Name, `org.yaml`, further files, the position that the refusal names, and a part of its text.
type Case<'a> = (&'a str, String, Vec<(String, String)>, &'a str, &'a str);

/// Each template is refused with file, line and column.
#[tokio::test(flavor = "multi_thread")]
async fn includes_can_not_leave_the_template() {
    let chain = |length: usize| -> Vec<(String, String)> {
        let file = |n: usize| {
            (format!("f{n}.yaml"), format!("name: F{n}\nchildren:\n  - !include f{}.yaml\n", n + 1))
        };
        let mut files: Vec<_> = (1..length).map(file).collect();
        files.push((format!("f{length}.yaml"), "name: Last\n".to_owned()));
        files
    };
    let nested = format!("name: T\ndefaults: {}{}\n", "[".repeat(193), "]".repeat(193));
    let huge = format!("name: {}\n", "x".repeat(10_000_000));
    let bomb = "name: T\na: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n\
                c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n\
                e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]\n";
    let of = |include: &str| format!("name: T\nworkspaces:\n  - !include {include}\n");
    let cases: Vec<Case<'_>> = vec![
        ("up", of("../outside.yaml"), vec![], "org.yaml:3:5", "escapes root"),
        ("far up", of("../../etc/passwd"), vec![], "org.yaml:3:5", "escapes root"),
        ("absolute", of("/etc/passwd"), vec![], "org.yaml:3:5", "escapes root"),
        ("link", of("link.yaml"), vec![], "org.yaml:3:5", "link leads out"),
        (
            "credentials",
            of(".auth_token"),
            vec![(".auth_token".into(), "x".into())],
            "org.yaml:3:5",
            "credentials",
        ),
        ("variables", of(".env"), vec![(".env".into(), "A=1".into())], "org.yaml:3:5", "credentials"),
        ("missing", of("none.yaml"), vec![], "org.yaml:3:5", "none.yaml"),
        ("empty path", of("\"\""), vec![], "org.yaml:3:5", "empty path"),
        ("not a path", of("[a, b]"), vec![], "org.yaml:3:5", "!include"),
        (
            "cycle",
            of("a.yaml"),
            vec![("a.yaml".into(), "name: A\nchildren:\n  - !include a.yaml\n".into())],
            "a.yaml:3:5",
            "cycle",
        ),
        ("depth", of("f1.yaml"), chain(17), "f16.yaml:3:5", "max depth"),
        ("nesting", nested, vec![], "org.yaml:2:", "deep"),
        ("huge", of("huge.yaml"), vec![("huge.yaml".into(), huge)], "org.yaml:3:5", "1 MiB"),
        ("bomb", bomb.to_owned(), vec![], "org.yaml:", "nodes"),
        ("syntax", "name: T\nworkspaces: [\n".to_owned(), vec![], "org.yaml:", ""),
    ];
    let dir = tempfile::tempdir().unwrap();
    let templates = dir.path().join("templates");
    fs::write(dir.path().join("outside.yaml"), "name: Outside\n").unwrap();
    for (name, org, files, ..) in &cases {
        let root = templates.join(name);
        write(&root, &[("org.yaml", org)]);
        files.iter().for_each(|(path, text)| write(&root, &[(path, text)]));
        symlink("../../outside.yaml", root.join("link.yaml")).unwrap();
    }
    let server = Server::start(templates_at(Database::sqlite(), &templates)).await;
    for (name, _, _, at, fragment) in &cases {
        let answer = import(&server, json!({ "dir": name })).await;
        assert_eq!(answer.error(400), "org template expansion failed", "{name}");
        let detail = answer.json["detail"].as_str().unwrap();
        assert!(detail.starts_with(at) && detail.contains(fragment), "{name}: {detail}");
        assert!(!detail.contains(dir.path().to_str().unwrap()), "{name}: {detail}");
    }
    assert!(workspaces(&server).await.is_empty());
    // Includes may be nested sixteen deep and follow a link to a sibling template.
    write(&templates.join("fine"), &[("org.yaml", &of("f1.yaml"))]);
    chain(16).iter().for_each(|(path, text)| write(&templates.join("fine"), &[(path, text)]));
    write(&templates.join("linked"), &[("org.yaml", &of("lead/f16.yaml"))]);
    symlink("../fine", templates.join("linked/lead")).unwrap();
    assert_eq!(import(&server, json!({ "dir": "fine" })).await.ok()["count"], 16);
    assert_eq!(import(&server, json!({ "dir": "linked" })).await.ok()["count"], 1);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_template_can_be_uploaded_as_an_archive() {
    let server = Server::start(Database::sqlite()).await;
    let send = async |query: &str, archive: Vec<u8>| {
        let url = format!("{}/org/import{query}", server.url);
        let request =
            reqwest::Client::new().post(url).header("Content-Type", "application/x-tar").body(archive);
        Answer::read(request.send().await.expect("the server answers")).await
    };
    let archive = |files: &[(&str, &[u8])]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, *content).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let org: &[u8] = b"name: Sent\ndefaults: {runtime: mock}\nworkspaces: [!include roles/a.yaml]\n";
    let whole = archive(&[("org.yaml", org), ("roles/a.yaml", b"name: A\nrole: From afar\n")]);
    let dry_run = send("?dry_run=true", whole.clone()).await;
    assert_eq!((dry_run.status.as_u16(), workspaces(&server).await.len()), (200, 0));
    let made = send("", whole.clone()).await;
    assert_eq!((made.status.as_u16(), &made.json["count"]), (201, &json!(1)));
    assert_eq!(workspaces(&server).await[0]["role"], "From afar");
    let again = send("?mode=reconcile", whole).await.ok();
    assert_eq!((&again["workspaces"][0]["skipped"], &again["mode"]), (&json!(true), &json!("reconcile")));

    let missing = send("", archive(&[("org.yaml", org)])).await;
    assert_eq!(missing.error(400), "org template expansion failed");
    assert!(missing.json["detail"].as_str().unwrap().starts_with("org.yaml:3:14"), "{}", missing.json);
    for (bytes, detail) in
        [(b"nonsense".to_vec(), "can't be read"), (archive(&[("readme.md", b"x")]), "no org.yaml")]
    {
        let refused = send("", bytes).await;
        assert_eq!(refused.error(400), "invalid org archive");
        assert!(refused.json["detail"].as_str().unwrap().contains(detail), "{}", refused.json);
    }
    let refused = send("", vec![0; (32 << 20) + 1]).await;
    assert_eq!(refused.error(413), "request body too large");
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_and_dry_run_are_read_from_query_and_body() {
    let server = Server::start(Database::sqlite()).await;
    let template = json!({ "name": "T", "workspaces": [{ "name": "A", "runtime": "mock" }] });
    let send = async |query: &str, options: Value| {
        let mut body = json!({ "template": template });
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        server.post(&format!("/org/import{query}"), body).await
    };
    for (query, options) in [
        ("?dry_run=true&mode=reconcile", json!({})),
        ("", json!({ "dry_run": true, "mode": "reconcile" })),
        ("?dry_run=true", json!({ "dry_run": true, "mode": "reconcile" })),
    ] {
        let planned = send(query, options).await.ok();
        assert_eq!((&planned["dry_run"], &planned["mode"]), (&json!(true), &json!("reconcile")), "{query}");
    }
    for (query, options, text) in [
        ("?mode=replace", json!({}), "mode must be 'merge' or 'reconcile'"),
        ("", json!({ "mode": "replace" }), "mode must be 'merge' or 'reconcile'"),
        ("?mode=merge", json!({ "mode": "reconcile" }), "mode differs between query and body"),
        ("?dry_run=yes", json!({}), "dry_run must be 'true' or 'false'"),
        ("?dry_run=false", json!({ "dry_run": true }), "dry_run differs between query and body"),
        ("", json!({ "dry_run": "yes" }), "invalid request body"),
    ] {
        assert_eq!(send(query, options).await.error(400), text, "{query}");
    }
    assert!(workspaces(&server).await.is_empty() && import_events(&server).await.is_empty());
    send("?mode=merge", json!({})).await;
    assert_eq!(import_events(&server).await[0].1["mode"], "merge");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_tag_is_refused_with_its_place() {
    let dir = template(&[("org.yaml", "name: T\nworkspaces:\n  - !inlcude a.yaml\n")]);
    let server = Server::start(templates_at(Database::sqlite(), dir.path())).await;
    let answer = import(&server, json!({ "dir": "t" })).await;
    assert_eq!(answer.error(400), "invalid org template");
    let detail = answer.json["detail"].as_str().unwrap();
    assert!(detail.starts_with("org.yaml:3:5: workspaces[0]: unknown tag `!inlcude`"), "{detail}");
    assert_eq!(server.get("/org/templates").await.ok(), json!([]));
}

on_both_databases! {
    async fn nul_in_free_text_is_replaced_and_stored(database: Database) {
        let server = Server::start(database).await;
        let node = json!({ "name": "A", "runtime": "mock", "initial_memories": [{ "content": "a\u{0}b" }] });
        let answer = inline(&server, json!({ "name": "T", "workspaces": [node] })).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
        let connection = connect(&server).await;
        let sql = "SELECT spec FROM workspaces WHERE name = 'A'";
        let row = connection.query_one_raw(Statement::from_string(connection.get_database_backend(), sql)).await;
        let spec: Value = row.unwrap().unwrap().try_get_by_index(0).unwrap();
        assert_eq!(spec["initial_memories"][0]["content"], "a\u{fffd}b");
        connection.close().await.unwrap();
    }
}
