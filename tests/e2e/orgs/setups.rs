//! What workspaces are set up with: shared texts are stored once, and the sum is limited.

use serde_json::{Value, json};
use support::{Database, Server, on_both_databases};

use super::{count, import, import_events, inline, setup, template, templates_at, workspaces};

fn agents(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({ "name": format!("N{number}") })).collect()
}

on_both_databases! {
    async fn a_prompt_of_all_workspaces_is_stored_once_and_held_by_no_index(database: Database) {
        let server = Server::start(database).await;
        inline(&server, json!({ "name": "Small", "workspaces": agents(1) })).await.ok();
        let before = server.peak_memory();
        let prompt = "Read this. ".repeat((3 << 20) / 11);
        let memories = json!([{ "content": "m".repeat(80_000) }]);
        let defaults = json!({ "initial_prompt": prompt, "initial_memories": memories });
        let root = json!({ "name": "Root", "runtime": "mock", "children": agents(100) });
        let org = json!({ "name": "Large", "defaults": defaults, "workspaces": [root] });
        let made = inline(&server, org).await;
        assert_eq!((made.status.as_u16(), &made.json["count"]), (201, &json!(101)), "{}", made.json["detail"]);
        let grown = server.peak_memory().saturating_sub(before);
        assert!(grown < 200 << 20, "the import took {} MiB", grown >> 20);
        assert_eq!(count(&server, "SELECT count(*) FROM setup_texts").await, 2);
        assert_eq!(count(&server, "SELECT count(*) FROM setup_text_uses").await, 201);
        assert!(setup(&server, "N7").await.to_string().len() < 1_000);

        // Rows are read again at a start, without the texts.
        let server = server.restart().await;
        assert_eq!(workspaces(&server).await.len(), 102);
        assert!(server.peak_memory() < before + (100 << 20));

        // The last workspace that has a text takes it along.
        let root = made.json["workspaces"][0]["id"].as_str().unwrap().to_owned();
        let one = made.json["workspaces"][1]["id"].as_str().unwrap().to_owned();
        server.delete(&format!("/workspaces/{one}?confirm=true&purge=true")).await.ok();
        assert_eq!(count(&server, "SELECT count(*) FROM setup_texts").await, 2);
        server.delete(&format!("/workspaces/{root}?confirm=true")).await.ok();
        assert_eq!(count(&server, "SELECT count(*) FROM setup_texts").await, 0);
        assert_eq!(count(&server, "SELECT count(*) FROM workspace_setups").await, 0);
    }

    async fn an_import_of_too_much_text_is_refused_with_the_largest_workspaces(database: Database) {
        let mut files = vec![("org.yaml".to_owned(), "name: T\nworkspaces:\n".to_owned())];
        for number in 0..40 {
            files[0].1.push_str(&format!("  - name: N{number}\n    initial_prompt_file: p{number}.md\n"));
            files.push((format!("p{number}.md"), format!("{number}{}", "x".repeat(1_000_000))));
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let dir = template(&files);
        let server = Server::start(templates_at(database, dir.path())).await;
        let answer = import(&server, json!({ "dir": "t" })).await;
        assert_eq!(answer.error(400), "invalid org template");
        let detail = answer.json["detail"].as_str().unwrap();
        assert!(detail.starts_with("org.yaml:69:11: workspaces: "), "{detail}");
        for part in ["up to N33 have 32.4 MiB together", "32 MiB are allowed", "976."] {
            assert!(detail.contains(part), "{part}: {detail}");
        }
        assert!(workspaces(&server).await.is_empty() && import_events(&server).await.is_empty());
        let dry_run = import(&server, json!({ "dir": "t", "dry_run": true })).await;
        assert_eq!(dry_run.json["detail"], detail);
    }

    async fn memories_of_a_created_workspace_are_part_of_its_setup(database: Database) {
        let server = Server::start(database).await;
        let memories = json!([{ "content": "short\u{0}" }, { "content": "l".repeat(1_000), "scope": "TEAM" }]);
        let body = json!({ "name": "A", "runtime": "mock", "initial_memories": memories });
        let id = server.workspace(body).await;
        let kept = setup(&server, "A").await;
        assert_eq!(kept["initial_memories"][0], json!({ "content": "short\u{fffd}", "scope": "" }));
        assert_eq!(kept["initial_memories"][1], json!({ "content": "", "scope": "TEAM" }));
        assert_eq!(count(&server, "SELECT count(*) FROM setup_texts WHERE length(content) = 1000").await, 1);
        server.delete(&format!("/workspaces/{id}")).await.ok();
        assert_eq!(count(&server, "SELECT count(*) FROM setup_texts").await, 0);
    }
}
