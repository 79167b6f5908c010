//! Push, activation, rollback, settings and deletion of guests, and what a restart keeps.

use reqwest::Method;
use serde_json::{Value, json};

use support::{Components, Database, Server, on_both_databases, variant};

/// Digest of a release in an answer.
fn digest(answer: &Value) -> String {
    answer["digest"].as_str().expect("a release has a digest").to_owned()
}

fn states(guest: &Value) -> Vec<(String, String)> {
    let releases = guest["releases"].as_array().expect("a guest has releases");
    releases.iter().map(|r| (digest(r)[..12].to_owned(), r["state"].as_str().unwrap().to_owned())).collect()
}

on_both_databases! {
    async fn first_party_guests_are_active_and_answer(database: Database) {
        let server = Server::start(database).await;
        let list = server.get("/admin/guests").await.ok();
        let guests: Vec<(&str, &str, &str)> = list["guests"].as_array().unwrap().iter()
            .map(|g| (g["name"].as_str().unwrap(), g["world"].as_str().unwrap(), g["state"].as_str().unwrap()))
            .collect();
        let adapters = ["autogen", "claude-code", "codex", "crewai", "deepagents", "external", "gemini-cli", "hermes"];
        let mut expected: Vec<_> = adapters.into_iter().chain(["langgraph", "mock", "openclaw"])
            .map(|name| (name, "adapter", "active")).collect();
        expected.push(("include", "template", "active"));
        expected.push(("skill-classifier", "classifier", "active"));
        expected.sort_unstable();
        assert_eq!(guests, expected);
        let runtimes: Vec<&str> = expected.iter().filter(|(_, world, _)| *world == "adapter").map(|(n, ..)| *n).collect();
        assert_eq!(list["runtimes"], json!(runtimes));

        // Seven guests share one component.
        let langgraph = server.guest("langgraph").await;
        assert_eq!(langgraph["description"]["remote_config_dir"], "/opt/configs");
        assert_eq!(langgraph["release"], server.guest("codex").await["release"]);

        let tree = json!({ "entry": "o", "files": [{ "path": "o", "answer": { "bytes": "a: 1.10" } }] });
        let tree = server.call("include", "expand", tree).await.ok();
        assert_eq!(tree["answer"]["done"]["root"]["value"]["mapping"][0][1]["value"]["scalar"]["text"], "1.10");
        let diff = json!({ "runtime": "claude-code", "plugin": "p", "changed": ["skills/a/SKILL.md"] });
        assert_eq!(server.call("skill-classifier", "classify", diff).await.ok()["answer"], "hot");
    }

    async fn a_release_is_swapped_in_and_rolled_back(database: Database) {
        let server = Server::start(database).await;
        let first = server.reply("mock").await;
        let before = server.guest("mock").await["release"].clone();

        let staged = server.push("mock", &Components::get().second_mock, false).await.ok();
        assert_eq!((staged["state"].as_str(), staged["source"].as_str()), (Some("staged"), Some("upload")));
        assert_eq!(server.reply("mock").await, first, "a staged release doesn't answer");

        // A prefix of the digest names the release.
        let active = server.activate("mock", &digest(&staged)[..8]).await.ok();
        assert_eq!(active["state"], "active");
        assert_eq!(server.reply("mock").await, "second");
        let guest = server.guest("mock").await;
        assert_eq!(guest["release"], staged["digest"]);
        assert_eq!(guest["description"]["display_name"], "Second mock");
        assert_eq!(guest["trusted"], true, "trust survives releases");

        let back = server.post("/admin/guests/mock/rollback", json!({})).await.ok();
        assert_eq!(back["digest"], before);
        assert_eq!(server.reply("mock").await, first);
        let left = &server.guest("mock").await["releases"][0];
        assert_eq!((&left["state"], &left["reason"]), (&json!("retired"), &json!("rolled back by dev-mode")));
        server.post("/admin/guests/mock/rollback", json!({})).await.error(409);
    }

    async fn roll_backs_go_back_one_activation_at_a_time(database: Database) {
        let server = Server::start(database).await;
        let original = server.guest("mock").await["release"].clone();
        let one = server.push("mock", &variant(&Components::get().mock, 1), true).await.ok();
        server.push("mock", &variant(&Components::get().mock, 2), true).await.ok();
        for expected in [&one["digest"], &original] {
            let back = server.post("/admin/guests/mock/rollback", json!({})).await.ok();
            assert_eq!(&back["digest"], expected);
        }
        server.post("/admin/guests/mock/rollback", json!({})).await.error(409);
    }

    async fn a_roll_back_never_returns_to_a_release_that_was_rolled_back(database: Database) {
        let server = Server::start(database).await;
        let good = server.guest("mock").await["release"].clone();
        let bad = server.push("mock", &variant(&Components::get().mock, 1), true).await.ok();
        server.post("/admin/guests/mock/rollback", json!({})).await.ok();
        server.push("mock", &variant(&Components::get().mock, 2), true).await.ok();
        let back = server.post("/admin/guests/mock/rollback", json!({})).await.ok();
        assert_eq!(back["digest"], good);
        // An operator can activate it by its digest.
        server.activate("mock", bad["digest"].as_str().unwrap()).await.ok();
        assert_eq!(server.guest("mock").await["release"], bad["digest"]);
    }

    async fn settings_change_what_a_guest_answers(database: Database) {
        let server = Server::start(database).await;
        server.settings("mock", json!({ "replies": ["mine"], "pause_ms": 5 })).await.ok();
        assert_eq!(server.reply("mock").await, "mine");
        assert_eq!(server.guest("mock").await["description"]["reply_pause_ms"], 5);

        for (settings, expected) in [
            (json!({ "pause": 1 }), "/pause"),
            (json!({ "replies": [] }), "/replies"),
            (json!([1]), "settings are a JSON object"),
            (json!({ "replies": ["x".repeat(70_000)] }), "65536 are allowed"),
        ] {
            let refused = server.settings("mock", settings.clone()).await;
            assert!(refused.error(400).contains(expected), "{settings}: {}", refused.json);
        }
        assert_eq!(server.reply("mock").await, "mine", "refused settings change nothing");
        // Settings belong to the guest: another release gets the same ones.
        server.push("mock", &variant(&Components::get().mock, 1), true).await.ok();
        assert_eq!(server.reply("mock").await, "mine");
    }

    async fn a_disabled_guest_does_not_answer(database: Database) {
        let server = Server::start(database).await;
        let guest = server.post("/admin/guests/mock/disable", json!({})).await.ok();
        assert_eq!(guest["state"], "disabled");
        server.send_text("mock", "hello").await.error(409);
        let server = server.restart().await;
        server.send_text("mock", "hello").await.error(409);
        server.post("/admin/guests/mock/enable", json!({})).await.ok();
        server.reply("mock").await;
    }

    async fn a_restart_keeps_everything(database: Database) {
        let server = Server::start(database).await;
        server.push("mock", &variant(&Components::get().mock, 1), true).await.ok();
        server.push("mock", &Components::get().second_mock, false).await.ok();
        server.settings("mock", json!({ "replies": ["kept"] })).await.ok();
        for _ in 0..3 {
            assert_eq!(server.reply("mock").await, "kept");
        }
        let before = server.guest("mock").await;

        let server = server.restart().await;

        let after = server.guest("mock").await;
        assert_eq!(states(&after), states(&before));
        for field in ["release", "settings", "trusted", "created_at", "description"] {
            assert_eq!(after[field], before[field], "{field}");
        }
        assert_eq!(after["counters"], before["counters"], "counters survive");
        assert_eq!(server.reply("mock").await, "kept");
    }

    async fn a_deleted_release_is_gone_with_its_bytes(database: Database) {
        let server = Server::start(database).await;
        let release = digest(&server.push("mock", &Components::get().second_mock, true).await.ok());
        let delete = format!("/admin/guests/mock/releases/{release}");
        let bytes = server.components().join(format!("{release}.wasm"));
        assert!(bytes.exists());
        server.request(Method::DELETE, &delete, None).await.error(409);
        server.post("/admin/guests/mock/rollback", json!({})).await.ok();
        server.request(Method::DELETE, &delete, None).await.ok();
        assert!(!bytes.exists());
        server.request(Method::DELETE, &delete, None).await.error(404);
        server.activate("mock", &release).await.error(404);
    }

    async fn a_new_first_party_release_does_not_replace_the_release_of_the_operator(database: Database) {
        let server = Server::start(database).await;
        server.push("mock", &Components::get().second_mock, true).await.ok();
        let server = server.restart().await;
        assert_eq!(server.reply("mock").await, "second");
    }

    async fn pushing_the_same_bytes_again_changes_nothing(database: Database) {
        let server = Server::start(database).await;
        let first = server.push("mock", &Components::get().second_mock, true).await.ok();
        let again = server.push("mock", &Components::get().second_mock, true).await.ok();
        assert_eq!(first["digest"], again["digest"]);
        assert_eq!(again["state"], "active");
        assert_eq!(server.guest("mock").await["releases"].as_array().unwrap().len(), 2);
    }

    async fn a_new_name_is_a_new_guest(database: Database) {
        let server = Server::start(database).await;
        server.push("mine", &Components::get().hostile, true).await.ok();
        let guest = server.guest("mine").await;
        assert_eq!((&guest["trusted"], &guest["state"]), (&json!(false), &json!("active")));
        let runtimes = server.get("/admin/guests").await.ok()["runtimes"].clone();
        assert!(runtimes.as_array().unwrap().contains(&json!("hostile")));

        for (path, status) in [("/admin/guests/unknown", 404), ("/admin/guests/unknown/rollback", 404)] {
            let method = if status == 404 && path.ends_with("rollback") { Method::POST } else { Method::GET };
            assert_eq!(server.request(method, path, None).await.error(status), "guest not found");
        }
        server.push("Bad_Name", &Components::get().hostile, true).await.error(400);
    }
}
